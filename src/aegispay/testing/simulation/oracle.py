"""The oracle: what the bank's books and the clients' memories say, against the promises I1 to I12 and I15.

It believes neither our tables nor our code: money is what the bank moved, an answer is what a client was told.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import msgspec

from aegispay.domain.errors import AegisPayError, IdempotencyConflict
from aegispay.domain.events import (
    Event,
    OperationApproved,
    OperationKind,
    OperationPending,
    OperationRequiresAction,
    OperationStarted,
    ReviewRequested,
)
from aegispay.domain.evolve import fold
from aegispay.domain.payment import OperationStatus, Payment, decode_payment, encode_payment
from aegispay.domain.states import TERMINAL, PaymentState
from aegispay.orchestration.known import ACTION_EXPIRED
from aegispay.orchestration.requests import DEFAULT_MERCHANT, claim_digest
from aegispay.orchestration.results import Result
from aegispay.orchestration.settings import AFTER_DOUBT, DoubtPolicy
from aegispay.sandbox.audit import ProblemKind, audit
from aegispay.sandbox.bank import Bank, MovementKind
from aegispay.sandbox.wire import WireRequest
from aegispay.testing.simulation.database import Database
from aegispay.testing.simulation.loop import SimulatedLoop
from aegispay.testing.simulation.options import Mode
from aegispay.testing.simulation.trace import Trace

VIOLATIONS_MAX = 20
_ASKED_ABOUT_NEWS = (
    "external_void_unconfirmed",
    "unwanted_attempt",
    "amount_differs",
    "declined_after_approval",
)
"""What a person may be asked about somebody else's doings: a PSP without look-ups tells of a void that nothing confirms;
what nobody wanted was captured, or given back in part; our capture came after another one, of another amount; a
confirmation that a webhook had told of is answered: canceled."""
_ASKED_ABOUT_LATE = (
    "captured_beyond_authorized",
    "failed, and the gateway does not say that it had no effect",
)
"""What a person may be asked where a PSP breaks its promise: what landed late looks like what was asked for since."""
_ENDED_WITHOUT = (OperationStatus.DECLINED, OperationStatus.NOT_SENT)


class Violation(msgspec.Struct, frozen=True, kw_only=True):
    """A promise that was broken."""

    promise: str
    """`I1` to `I15`, `policy` for the merchant's doubt policy, or `crash` for an exception that no caller should see."""
    at_s: float
    detail: str


class WitnessedBank(Bank):
    """The bank, with somebody who sees each line as it is written."""

    oracle: Oracle | None = None

    def _book(self, kind: MovementKind, *values: object) -> None:
        super()._book(kind, *values)
        if self.oracle is not None:
            self.oracle.moved(kind, values)


class _Charge:
    """One charge at one PSP, added up."""

    __slots__ = ("authorized", "captured", "refunded", "released")

    def __init__(self) -> None:
        self.authorized = self.captured = self.released = self.refunded = 0

    def add(self, kind: MovementKind, amount: int) -> None:
        if kind is MovementKind.AUTHORIZATION:
            self.authorized += amount
        elif kind is MovementKind.CAPTURE:
            self.captured += amount
        elif kind is MovementKind.RELEASE:
            self.released += amount
        else:
            self.refunded += amount

    @property
    def live(self) -> bool:
        """Whether the payer's money is taken or held."""
        return self.captured > self.refunded or self.authorized > self.captured + self.released


class Oracle:
    """Collects what is seen, checks what can be checked at once, and everything at the end."""

    def __init__(self, loop: SimulatedLoop, bank: Bank, database: Database, mode: Mode, trace: Trace):
        self._loop = loop
        self._bank = bank
        self._database = database
        self._strict = mode is not Mode.LATE
        self._trace = trace
        self.violations: list[Violation] = []
        self.never_lapse: frozenset[str] = frozenset()
        """Gateways at which nobody says when an authorisation lapses."""
        self.policy = DoubtPolicy.HOLD
        """What the merchant wants of a success in doubt whose caller has gone."""
        self._left_in_doubt: set[str] = set()
        self._looked_at: set[str] = set()
        self._settled_by_word: set[str] = set()
        self._elsewhere: set[tuple[MovementKind, str]] = set()
        """What somebody else did to which of our payments."""
        self._not_ours = False
        self._charges: dict[str, dict[tuple[str, str], _Charge]] = defaultdict(dict)
        self._charge_of: dict[tuple[str, str], str] = {}
        self._moved: Counter[tuple[MovementKind, str]] = Counter()
        self._final: dict[str, tuple[str, bytes]] = {}
        self._final_at_s: dict[str, float] = {}
        self._payment_of: dict[str, str] = {}
        self._shapes: dict[str, str] = {}
        self._failed_payments: set[str] = set()
        self._failed_operations: set[str] = set()
        self._requests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self._seen: dict[tuple[str, int], str] = {}

    def violated(self, promise: str, detail: str) -> None:
        """Writes a broken promise down."""
        self._trace.note(self._loop.time(), "ORACLE", f"{promise} BROKEN: {detail}")
        if len(self.violations) < VIOLATIONS_MAX:
            self.violations.append(Violation(promise=promise, at_s=self._loop.time(), detail=detail))

    @contextmanager
    def somebody_else(self) -> Generator[None, None, None]:
        """What the bank writes within it was not asked for through us."""
        self._not_ours = True
        try:
            yield
        finally:
            self._not_ours = False

    # --- the bank's books, line by line -----------------------------------------------------------------------

    def moved(self, kind: MovementKind, values: tuple[Any, ...]) -> None:
        """A line was written: account, charge, movement, reference, payment, amount, currency, time."""
        account, charge_id, _, reference, payment_ref, amount = values[:6]
        payment_ref = self._payment_ref(account, charge_id, payment_ref or reference)
        self._trace.note(
            self._loop.time(), "BANK", f"{kind} {amount} {account} {charge_id} {payment_ref} {reference}"
        )
        charges = self._charges[payment_ref]
        charge = charges.setdefault((account, charge_id), _Charge())
        body = self._database.payment_body(payment_ref) if payment_ref.startswith("pay_") else ""
        payment = decode_payment(body) if body else None
        operation = payment.operation(reference[:35]) if payment else None
        if payment is None or (reference.startswith("op_") and operation is None):
            self.violated(
                "I3", f"{kind} {amount} for {reference} of {payment_ref}, which no committed record names"
            )
        charge.add(kind, amount)
        if self._not_ours:
            self._elsewhere.add((kind, payment_ref))
            return
        if kind is MovementKind.RELEASE or not self._strict:
            return
        self._moved[kind, reference] += 1
        if self._moved[kind, reference] > 1:
            promise = "I9" if kind is MovementKind.REFUND else "I1"
            self.violated(promise, f"{kind} for {reference} of {payment_ref} a second time")
        if operation is not None and operation.code == ACTION_EXPIRED:
            return  # Open at the PSP for ever: who acts late there pays, and must get it back.
        if operation is not None and operation.status in _ENDED_WITHOUT:
            self.violated(
                "I4", f"{kind} for {reference} of {payment_ref}, which is recorded as {operation.status}"
            )
        if reference in self._failed_operations:
            self.violated(
                "I4", f"{kind} for {reference} of {payment_ref}, which a client was told had failed"
            )
        if kind is not MovementKind.REFUND:
            live = [key for key, one in charges.items() if one.live]
            if len(live) > 1:
                self.violated("I2", f"{payment_ref} is charged more than once: {live}")
            if payment_ref in self._failed_payments:
                self.violated("I4", f"{kind} for {payment_ref}, which a client was told had failed")

    def _payment_ref(self, account: str, charge_id: str, told: str) -> str:
        """Our payment that a charge is for. Braintree is told operations only."""
        if told.startswith("pay_"):
            return told
        first = self._charge_of.setdefault((account, charge_id), told)
        return self._database.payment_of(first[:35]) or told

    # --- what leaves -----------------------------------------------------------------------------------------

    def leaves(self, psp: str, key: str, request: WireRequest) -> None:
        """A request is sent: under one key always the same one (I3)."""
        if not key:
            return
        sent = (request.path, request.body)
        before = self._requests.setdefault((psp, key), sent)
        if before[0] == sent[0] and before[1] != sent[1]:
            self.violated("I3", f"{request.path} was sent under {key} with other parameters before")

    # --- what is committed -----------------------------------------------------------------------------------

    def committed(self, payment: Payment, events: tuple[Event, ...]) -> None:
        """An instance was told that these events are committed: from now on they stay."""
        for event in events:
            known = self._seen.setdefault((event.payment_id, event.version), event.id)
            if known != event.id:
                self.violated("I5", f"version {event.version} of {event.payment_id} was acknowledged twice")
        self._check_amounts(payment)

    def _check_amounts(self, payment: Payment) -> None:
        """I9: added up here, operation by operation, for the payment's own sums may be what is wrong."""
        if payment.review is not None or not self._strict:
            return
        sums: Counter[tuple[OperationKind, bool]] = Counter()
        for operation in payment.operations:
            if not operation.compensates and (
                operation.unfinished or operation.status is OperationStatus.APPROVED
            ):
                sums[operation.kind, operation.unfinished] += operation.amount_minor
        captured = sums[OperationKind.CAPTURE, False] + sums[OperationKind.CHARGE, False]
        to_capture = captured + sums[OperationKind.CAPTURE, True]
        to_refund = sums[OperationKind.REFUND, False] + sums[OperationKind.REFUND, True]
        authorized = max(payment.authorized_minor, captured if payment.captured_minor else 0)
        if to_refund > payment.captured_minor or (
            to_capture > authorized and not sums[OperationKind.CHARGE, True]
        ):
            self.violated(
                "I9",
                f"{payment.id}: {to_refund} refunded or to refund of {payment.captured_minor},"
                f" {to_capture} captured or to capture of {authorized}",
            )

    # --- what clients are told -------------------------------------------------------------------------------

    def answered(
        self, scope: str, key: str, shape: str, answer: Result | AegisPayError | str, asked_at_s: float
    ) -> None:
        """A client was told something, in answer to a request made at `asked_at_s`."""
        if isinstance(answer, str):
            return
        first_shape = self._shapes.setdefault(key, shape)
        if isinstance(answer, AegisPayError):
            if isinstance(answer, IdempotencyConflict) and first_shape == shape:
                self.violated("I8", f"{key} was refused as a different request, and is the same")
            return
        if first_shape != shape:
            self.violated("I8", f"{key}: another request was answered {answer!r}")
            return
        payment_id = answer.payment_id
        if scope == "payment" and self._payment_of.setdefault(key, payment_id) != payment_id:
            self.violated("I8", f"{key} stands for {self._payment_of[key]} and {payment_id}")
        if answer.is_pending() and answer.error is not None and answer.error.code == "in_doubt":
            self._leaves_in_doubt(answer.payment)
        if answer.is_pending() or answer.requires_action():
            # Whoever waited too long for a slow instance may be told to ask again; so may one who had asked before.
            waited = answer.error is not None and answer.error.code == "in_progress"
            if key in self._final and self._final_at_s[key] < asked_at_s and not waited:
                self.violated("I8", f"{key} was answered for good, and now {answer!r}")
            return
        told = (type(answer).__name__, answer.to_json())
        before = self._final.setdefault(key, told)
        self._final_at_s.setdefault(key, self._loop.time())
        if before != told:
            self.violated("I8", f"{key} was answered {before} and then {told}")
        elif before is told:
            self._check_answer(scope, answer)

    def _leaves_in_doubt(self, payment: Payment) -> None:
        """A client was told of a doubt on which nobody works for a caller any more: from now on the policy is about it."""
        given_back = {row[1] for row in self._database.in_flight() if row[2] == "call" and not row[4]}
        # As it is now: evidence may have come while the answer was on its way to the client, who was served until then.
        now = next(one for one in self.payments() if one.id == payment.id)
        self._left_in_doubt.update(
            op.id
            for op in now.operations
            if (op.attempt or op.kind is OperationKind.CONFIRM)
            and op.status is OperationStatus.IN_DOUBT
            and op.id in given_back
        )

    def _check_answer(self, scope: str, answer: Result) -> None:
        """A first final answer: money where it says so, none where it says not."""
        payment, operation = answer.payment, answer.operation
        charges = self._charges.get(payment.id, {}).values()
        if scope in ("payment", "confirm"):
            if answer.is_success():
                captured = sum(one.captured for one in charges)
                authorized = sum(one.authorized for one in charges)
                if captured < payment.captured_minor or authorized < payment.authorized_minor:
                    self.violated("I10", f"{answer!r} was told, and the bank has {authorized}/{captured}")
            elif self._strict and not (payment.failure and payment.failure.code == ACTION_EXPIRED):
                self._failed_payments.add(payment.id)
                if any(one.live for one in charges):
                    self.violated("I4", f"{answer!r} was told, and money is taken or held")
            return
        if operation is None:
            return
        kind = {"capture": MovementKind.CAPTURE, "refund": MovementKind.REFUND}.get(scope)
        if kind is None or not self._strict:
            return
        # A PSP that takes no reference with a capture books it under the authorisation's.
        moved = self._moved[kind, operation.id] or self._moved[kind, operation.parent_id or ""]
        # Where a PSP says of our capture that it has one already, our books count that one: it may be somebody else's.
        taken_over = not moved and (kind, payment.id) in self._elsewhere
        if answer.is_success() and moved != 1 and not taken_over:
            self.violated(
                "I10", f"{scope} {operation.id} was told as done, and the bank moved it {moved} times"
            )
        if not answer.is_success():
            self._failed_operations.add(operation.id)
            if self._moved[kind, operation.id]:
                self.violated("I4", f"{scope} {operation.id} was told as failed, and the bank moved it")

    def repeated(self, scope: str, key: str, answer: Result | AegisPayError | str) -> None:
        """The same request once more, when all has ended: what was accepted once has an answer now (I8, I15)."""
        if isinstance(answer, str):
            self.violated("I15", f"{key} gets no answer although nothing fails any more")
        elif isinstance(answer, AegisPayError):
            if key in self._final or self._database.has_claim(claim_digest(DEFAULT_MERCHANT, scope, key)):
                self.violated("I8", f"{key} was accepted, and now {answer!r}")
        elif answer.is_pending():
            now = decode_payment(self._database.payment_body(answer.payment_id))
            if now.state is not PaymentState.NEEDS_REVIEW:
                self.violated("I15", f"{key} is still {answer!r}")

    # --- at the end ------------------------------------------------------------------------------------------

    def open_work(self) -> list[str]:
        """What still waits for evidence or for a worker, though nothing goes wrong any more."""
        bodies = {payment.id: payment for payment in self.payments()}
        left: list[str] = []
        for payment_id, operation_id, purpose, due_us, owner in self._database.in_flight():
            payment = bodies[payment_id]
            if purpose == "call" and payment.state is not PaymentState.NEEDS_REVIEW:
                left.append(
                    f"{operation_id} of {payment_id} ({payment.state}), due {due_us}, owner {owner!r}"
                )
        return left

    def unsettled(self) -> list[str]:
        """Payments that are in no final state. Where no PSP says when an authorisation lapses, it may stay one."""
        done = TERMINAL | {PaymentState.NEEDS_REVIEW}
        return [
            f"{one.id} {one.state}"
            for one in self.payments()
            if one.state not in done
            and not (one.state is PaymentState.AUTHORIZED and one.gateway in self.never_lapse)
        ]

    def in_review(self) -> set[str]:
        """The payments that a person was asked about."""
        return {one.id for one in self.payments() if one.review is not None}

    def payments(self) -> list[Payment]:
        return [decode_payment(body) for body in self._database.bodies()]

    def check_stream(self, payment: Payment, events: list[Event]) -> None:
        """I5, I6 and I12 for one payment: its events are the acknowledged ones, and fold to its projection."""
        again = fold(events)
        if encode_payment(again) != encode_payment(payment):
            self.violated("I6", f"{payment.id}: the projection is not the fold of its events")
        for event in events:
            if self._seen.get((event.payment_id, event.version), event.id) != event.id:
                self.violated(
                    "I5", f"version {event.version} of {payment.id} is not the one that was acknowledged"
                )
        if (payment.id, len(events) + 1) in self._seen:
            self.violated("I5", f"{payment.id} has lost acknowledged events")

    def check_policy(self, payment: Payment, events: list[Event]) -> None:
        """A success that was in doubt and whose caller has gone was given back, or a person was asked, if so wanted."""
        if self.policy is DoubtPolicy.HOLD or not self._strict:
            return
        data = [event.data for event in events]
        asked = any(isinstance(one, ReviewRequested) and not one.until_evidence for one in data)
        if asked or any(isinstance(one, OperationStarted) and one.reason == AFTER_DOUBT for one in data):
            return
        # Where the gateway said that it takes its time, or that the payer must act, the doubt had ended before.
        known = {
            one.operation_id for one in data if isinstance(one, OperationPending | OperationRequiresAction)
        }
        for one in data:
            if isinstance(one, OperationApproved) and one.operation_id in self._left_in_doubt - known:
                self.violated(
                    "policy", f"{payment.id}: {one.operation_id} was left in doubt, and its success stands"
                )

    def check_notices(self, payments: list[Payment]) -> None:
        """I11: each webhook was about a payment of ours, so none is left over."""
        asked = self._asked_about_news(payments)
        for gateway, notice_id, state, body in self._database.notices():
            if self.told_of(gateway, body) not in asked:
                self.violated("I11", f"{notice_id} of {gateway} is {state}: {body}")

    def _asked_about_news(self, payments: list[Payment]) -> set[str]:
        """Payments of which a person was asked what somebody else did: our books are not to be trusted until they say."""
        if not self._elsewhere:
            return set()
        # What was told of while a doubt lasted for more than a day may have been left to a person by itself.
        listed = {self.told_of(one[0], one[3]) for one in self._database.notices() if one[2] == "unmatched"}
        asked = {one.id for one in payments if self._about_news(one)}
        return asked | self._looked_at | (listed & self._settled_by_word)

    def _about_news(self, payment: Payment) -> bool:
        """Whether a person was asked since somebody else acted: of what they did, or of ours that looks like theirs."""
        review = payment.review or ""
        acted_on = any(ref == payment.id for _, ref in self._elsewhere)
        return acted_on and review.startswith(("in doubt for", *_ASKED_ABOUT_NEWS))

    def settled_by_word(self, payment: Payment) -> None:
        """A person says what became of an operation that was in doubt until then."""
        self._settled_by_word.add(payment.id)

    def looked_at(self, payment: Payment) -> None:
        """A person closes the review of this payment: what they were asked about is theirs to put right."""
        if self._about_news(payment):
            self._looked_at.add(payment.id)

    def told_of(self, gateway: str, body: str) -> str:
        """Our payment that a notice is about, by the bank's books."""
        told = msgspec.json.decode(body, type=dict[str, Any])
        names = {told.get("reference"), told.get("payment_reference")}
        for one in self._bank.movements():
            if one.account == gateway and names & {one.movement_id, one.charge_id}:
                return self._payment_ref(one.account, one.charge_id, one.payment_ref)
        return ""

    def check_reviews(self, payments: list[Payment]) -> None:
        """Nobody is asked to look at what evidence could have settled: here every PSP keeps what it promises."""
        for payment in payments:
            review = payment.review or ""
            policy = review in ("", "succeeded_after_doubt") or review.startswith("reversal_refused")
            if self._strict and not policy and not self._about_news(payment):
                self.violated("I15", f"{payment.id} was handed to a person: {payment.review}")

    def check_books(self, payments: list[Payment]) -> None:
        """I10: our books against the bank's."""
        report = audit(self._bank, payments)
        refused = {one.id for one in payments if one.review == "reversal_refused: unsupported_operation"}
        asked = self._asked_about_news(payments)
        if not self._strict:
            asked |= {one.id for one in payments if (one.review or "").startswith(_ASKED_ABOUT_LATE)}
        for problem in report.problems:
            if problem.payment_id in asked:
                continue
            if problem.kind is ProblemKind.HELD_UNRECORDED and problem.payment_id in refused:
                continue  # Recorded as unwanted, and a person was asked: this PSP has no void, and lets it lapse.
            self.violated("I10", f"{problem.kind}: {problem.payment_id}: {problem.detail}")
        unequal = [currency for currency, sums in report.totals.items() if not sums.equal]
        in_review = any(payment.review is not None for payment in payments)
        if not report.problems and (unequal or (report.in_doubt_left and not in_review)):
            self.violated("I10", f"in doubt: {report.in_doubt_left}, totals differ in {unequal}")
        claimed = Counter(
            payment_id for _, scope, payment_id in self._database.claims() if scope == "payment"
        )
        for payment in payments:
            if claimed[payment.id] != 1:
                self.violated("I8", f"{payment.id} has {claimed[payment.id]} claims")
