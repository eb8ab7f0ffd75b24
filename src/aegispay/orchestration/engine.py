"""The engine: one call to one gateway, the record of its outcome, and the search for evidence.

Used alike by whoever serves a caller and by the recovery worker. It decides nothing about money: `domain.decide` does.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AbstractContextManager
from typing import NamedTuple

from msgspec.structs import replace

from aegispay.domain import commands as cmd
from aegispay.domain.errors import (
    InvalidRequest,
    InvalidState,
    PaymentNotFound,
    StaleFence,
    UnsupportedOperation,
    VersionConflict,
)
from aegispay.domain.events import OperationKind
from aegispay.domain.money import Money
from aegispay.domain.outcomes import (
    Approved,
    DeclineCategory,
    Declined,
    Evidence,
    InDoubt,
    NotSent,
    Outcome,
    Pending,
    RequiresAction,
)
from aegispay.domain.payment import Operation, OperationStatus, Payment, settled_state
from aegispay.domain.record import may_try_next, stranded, unreversed
from aegispay.domain.states import PaymentState
from aegispay.gateways.gateway import Found, Gateway, GatewayCall, Lookup, LookupFailed, NotFound
from aegispay.gateways.permit import sending_while
from aegispay.gateways.registry import GatewayRegistry
from aegispay.orchestration.doubt import Reversal, after_doubt, asks_person
from aegispay.orchestration.journal import Draft, Journal
from aegispay.orchestration.settings import AFTER_DOUBT, DoubtPolicy, Settings
from aegispay.ports import Ports
from aegispay.storage.store import Guard, InFlight, Purpose, Store

logger = logging.getLogger("aegispay")

_RECORD_TRIES_MAX = 100
_FENCE_STEP = 1_000_000
"""Fences of rows opened later in a payment's life lie above any that takeovers can reach."""
_HARD_TIMEOUT_MARGIN_S = 1.0
NEVER_SENT = -1
"""`InFlight.sent_at_us` of an operation of which nothing has left yet: whoever takes it up makes the first send."""
WEAK_EVIDENCE = "not_found"
"""The reason of a `NotSent` that rests on a look-up which found nothing."""


SILENT_S_MAX = 3600.0
"""How long a doubt is left alone at most: a quiet period that a clock ahead of time began may last for days."""
ACTION_EXPIRED = "action_expired"
"""The code of a payment whose payer did not act in time at a gateway that can cancel nothing."""


class NextAttempt(NamedTuple):
    """The attempt that follows if this one had no effect."""

    operation_id: str
    gateway: str
    token: str | None


class Recorded(NamedTuple):
    """A committed outcome."""

    payment: Payment
    row: InFlight | None
    """The in-flight row of the operation after the write, if it still has one."""
    started: tuple[InFlight, ...]
    """Operations that were started in the same commit: the next attempt, or a reversal."""


class Known(NamedTuple):
    outcome: Outcome
    evidence: Evidence


class Engine:
    """Shared by the orchestrator and the recovery worker of one running instance."""

    def __init__(
        self, store: Store, registry: GatewayRegistry, journal: Journal, ports: Ports, settings: Settings
    ):
        self.store = store
        self.registry = registry
        self.journal = journal
        self.ports = ports
        self.settings = settings

    # --- leases -------------------------------------------------------------------------------------------

    def new_row(self, payment: Payment, operation_id: str, gateway: str) -> InFlight:
        """The row of an operation that starts with this version of the payment: our lease on it."""
        now_us = self.ports.clock.now_us()
        return InFlight(
            operation_id=operation_id,
            payment_id=payment.id,
            gateway=gateway,
            purpose=Purpose.CALL,
            due_at_us=now_us + int(self.settings.lease_s * 1_000_000),
            owner=self.ports.instance,
            fence=payment.version * _FENCE_STEP,
            sent_at_us=now_us,
        )

    def leased(self, row: InFlight) -> InFlight:
        """The same row with our lease running from now."""
        due = self.ports.clock.now_us() + int(self.settings.lease_s * 1_000_000)
        return replace(row, due_at_us=due, owner=self.ports.instance)

    async def renew(self, row: InFlight) -> InFlight:
        """Extends our lease; raises `StaleFence` where another worker has taken over."""
        renewed = self.leased(row)
        if not await self.store.renew(row.operation_id, row.fence, renewed.due_at_us):
            raise StaleFence(payment_id=row.payment_id)
        return renewed

    async def with_room(self, row: InFlight) -> InFlight:
        """The row with a lease that covers one more call; else workers would take slow work from each other for ever."""
        call_us = int((self.settings.call_timeout_s + _HARD_TIMEOUT_MARGIN_S) * 1_000_000)
        return row if row.due_at_us - self.ports.clock.now_us() > call_us else await self.renew(row)

    def holds(self, row: InFlight) -> bool:
        """Whether our lease has not run out."""
        return self.ports.clock.now_us() < row.due_at_us

    def covers_call(self, row: InFlight) -> bool:
        """Whether a call that begins now ends within our lease: until then its request may yet leave."""
        return self.ports.clock.now_us() + int(self.settings.call_timeout_s * 1_000_000) <= row.due_at_us

    async def hand_over(self, payment: Payment, row: InFlight, delay_s: float) -> None:
        """Gives the lease back: the worker, here or elsewhere, goes on after the delay."""
        # By the clock that no jump moves, as `lease_due` asks: a clock that runs ahead must not put work off for days.
        due = self.ports.clock.steady_us() + int(delay_s * 1_000_000)
        # With a fence of its own: evidence that was on its way while a caller was served is weighed anew.
        await self._keep(payment, row, replace(row, due_at_us=due, owner="", fence=row.fence + 1))

    async def put_back(self, payment: Payment, row: InFlight, delay_s: float) -> None:
        """Gives back the lease on an operation that was provably not sent: it is sent for the first time later."""
        await self.hand_over(payment, replace(row, sent_at_us=NEVER_SENT), delay_s)

    async def about_to_send(self, payment: Payment, row: InFlight) -> InFlight:
        """Writes down that the first send is on its way, whatever becomes of us; the row with our lease on it."""
        sending = self.leased(replace(row, sent_at_us=self.ports.clock.now_us()))
        await self._keep(payment, row, sending)
        return sending

    async def release(self, payment: Payment, row: InFlight) -> None:
        """Nothing is left to do for this row, unless it is that of an authorisation, which lapses one day."""
        operation = payment.operation(row.operation_id)
        lapses = operation is not None and row.purpose is not Purpose.EXPIRY
        await self._keep(
            payment, row, self._lapsing(payment, operation, row) if operation and lapses else None
        )

    async def _keep(self, payment: Payment, row: InFlight, keep: InFlight | None) -> None:
        for _ in range(_RECORD_TRIES_MAX):
            guard = Guard(operation_id=row.operation_id, fence=row.fence, keep=keep)
            try:
                await self.journal.commit(self.journal.draft(payment), guard=guard)
                return
            except VersionConflict:
                payment = await self.load(payment.id)

    async def load(self, payment_id: str) -> Payment:
        payment = await self.store.load(payment_id)
        if payment is None:
            raise PaymentNotFound(f"there is no payment {payment_id}.", payment_id=payment_id)
        return payment

    # --- calling ------------------------------------------------------------------------------------------

    def call_for(self, payment: Payment, operation: Operation) -> GatewayCall:
        """The call of an operation: the same for the first send, a resend and a look-up."""
        parent = payment.operation(operation.parent_id) if operation.parent_id else None
        capture = payment.operation(operation.capture_id) if operation.capture_id else None
        return GatewayCall(
            kind=operation.kind,
            operation_id=operation.id,
            gateway_key=operation.gateway_key,
            payment_id=payment.id,
            merchant_id=payment.merchant_id,
            amount=Money(operation.amount_minor, payment.currency),
            timeout_s=self.settings.call_timeout_s,
            token=operation.token,
            parent_reference=parent.reference if parent else None,
            parent_operation_id=operation.parent_id,
            parent_kind=parent.kind if parent else None,
            capture_reference=capture.reference if capture else None,
            own_reference=operation.reference,
            final=operation.final,
            reason=operation.reason,
            customer_id=payment.customer_id,
            description=payment.description,
            return_url=payment.return_url,
            metadata=payment.metadata,
            action_data=operation.action_data,
            started_at_us=operation.started_at_us,
        )

    async def send(self, payment: Payment, operation: Operation, row: InFlight) -> Outcome:
        """Sends the operation, if our lease still runs. Whatever is not a clear answer comes back as `InDoubt`."""
        gateway = self.registry.find(operation.gateway)
        if gateway is None:
            return NotSent(reason="gateway_not_registered")
        if not self.covers_call(row):
            # We were stalled for longer than our lease allows: somebody else may be at work on this before the call ends.
            return InDoubt(reason="lease_expired_before_send")
        return await self._perform(gateway, self.call_for(payment, operation))

    def while_leased(self, row: InFlight) -> AbstractContextManager[None]:
        """Within it the transport asks once more, right before a first byte leaves: we may be stalled on the way there."""
        return sending_while(lambda: self.holds(row))

    async def _perform(self, gateway: Gateway, call: GatewayCall, *, again: bool = False) -> Outcome:
        try:
            async with asyncio.timeout(call.timeout_s + _HARD_TIMEOUT_MARGIN_S):
                return await gateway.perform(call)
        except InvalidRequest as error:
            # By contract raised before anything is sent. Of a resend, that says nothing of what was sent before.
            if again:
                return NotSent(reason=error.code)
            return Declined(category=DeclineCategory.INVALID, code=error.code, message=error.message)
        except TimeoutError:
            return InDoubt(reason="timeout")
        except Exception as error:  # noqa: BLE001 - an adapter's mistake is doubt, never a crash of the payment
            # Only the type is logged: the text of a foreign exception may quote a request.
            logger.error("gateway %s raised %s in %s", gateway.name, type(error).__name__, call.kind)
            return InDoubt(reason=f"adapter_error:{type(error).__name__}")

    # --- recording ----------------------------------------------------------------------------------------

    async def record(
        self,
        payment: Payment,
        row: InFlight,
        outcome: Outcome,
        evidence: Evidence,
        next_attempt: NextAttempt | None = None,
        *,
        served: bool = False,
    ) -> Recorded:
        """Commits what was learnt, under our fence; a changed payment is read again and decided anew.

        What the merchant's policy makes follow a success in doubt is in the same commit, unless it is `served`: whoever
        asked for it still waits, and hears of the success.

        Raises `StaleFence` where another worker has taken over: then it decides, with its own evidence.
        """
        learns = cmd.RecordOutcome(
            operation_id=row.operation_id,
            outcome=outcome,
            evidence=evidence,
            will_try_next=next_attempt is not None,
        )
        for _ in range(_RECORD_TRIES_MAX):
            draft, opens, learnt = self._drafted(payment, row, learns, next_attempt, served=served)
            keep = self._row_after(draft.current, row, outcome)
            if not learnt and keep is not None and keep.purpose is row.purpose:
                return Recorded(payment, row, ())
            # A row without a fence stands for an operation that had ended: there is no lease to hold or to keep.
            guard = Guard(operation_id=row.operation_id, fence=row.fence, keep=keep) if row.fence else None
            try:
                return Recorded(await self.journal.commit(draft, guard=guard, opens=opens), keep, opens)
            except VersionConflict:
                payment = await self.load(payment.id)
        raise VersionConflict(payment_id=payment.id)

    def _drafted(
        self,
        payment: Payment,
        row: InFlight,
        learns: cmd.RecordOutcome,
        next_attempt: NextAttempt | None,
        *,
        served: bool,
    ) -> tuple[Draft, tuple[InFlight, ...], bool]:
        """The commit that follows from an outcome, what it puts in flight, and whether anything was learnt."""
        policy = DoubtPolicy.HOLD if served else self.settings.doubt_policy
        follow = after_doubt(policy, payment, learns, self.new_operation_id)
        while True:
            draft = self.journal.draft(payment)
            # A person is asked before the approval, so that it is no answer until they have decided.
            asked = isinstance(follow, cmd.RequestReview) and draft.apply(follow)
            learnt = draft.apply(learns)
            if asked and not learnt:
                follow = None  # It was no success that could be recorded: a person is asked about that.
                continue
            reversal = None if isinstance(follow, cmd.RequestReview) else follow
            try:
                opens = self._followers(draft, row, next_attempt, reversal) if learnt else ()
            except InvalidState:
                if reversal is None:
                    raise
                follow = asks_person()  # It cannot be taken back now; it is recorded all the same.
                continue
            return draft, opens, learnt

    def _followers(
        self,
        draft: Draft,
        row: InFlight,
        next_attempt: NextAttempt | None,
        reversal: Reversal | None,
    ) -> tuple[InFlight, ...]:
        """What begins in the same commit: the next attempt, a reversal, the payer's step once more."""
        operation = draft.current.operation(row.operation_id)
        if operation is None:
            return ()
        opens: list[InFlight] = []
        if (
            next_attempt is not None
            and operation.attempt
            and may_try_next(operation)
            and stranded(draft.current)
        ):
            draft.apply(
                cmd.StartAttempt(
                    operation_id=next_attempt.operation_id,
                    gateway=next_attempt.gateway,
                    token=next_attempt.token,
                )
            )
            opens.append(self.new_row(draft.current, next_attempt.operation_id, next_attempt.gateway))
        tried = {op.parent_id for op in draft.current.operations if op.compensates}
        for unwanted in unreversed(draft.current):
            if unwanted.id in tried:
                continue  # The gateway refused to take it back: a person must.
            reversal_id = self.new_operation_id()
            draft.apply(cmd.StartReversal(operation_id=reversal_id, target_id=unwanted.id))
            opens.append(self.new_row(draft.current, reversal_id, unwanted.gateway))
        if operation.kind is OperationKind.CONFIRM and draft.current.state is PaymentState.REQUIRES_ACTION:
            parent = draft.current.first_operation
            if parent is not None:
                again = self.new_row(draft.current, parent.id, parent.gateway)
                opens.append(self._waiting_for_payer(again))
        approved = operation.status is OperationStatus.APPROVED and draft.current.review is None
        if reversal is not None and approved:
            draft.apply(reversal)
            opens.append(self.new_row(draft.current, reversal.operation_id, operation.gateway))
        no_effect = operation.status in (OperationStatus.DECLINED, OperationStatus.NOT_SENT)
        if operation.reason == AFTER_DOUBT and no_effect and draft.current.review is None:
            # What the policy began had no effect, and nobody waits for its answer.
            reason = f"reversal_refused: {operation.code}"
            draft.apply(cmd.RequestReview(reason=reason, operation_id=operation.id))
        return tuple(opens)

    def _waiting_for_payer(self, row: InFlight) -> InFlight:
        due = self.ports.clock.now_us() + int(self.settings.action_timeout_s * 1_000_000)
        return replace(row, purpose=Purpose.ACTION, due_at_us=due, owner="", tries=0)

    def _row_after(self, payment: Payment, row: InFlight, outcome: Outcome) -> InFlight | None:
        """The in-flight row that the operation has after its outcome, or None."""
        operation = payment.operation(row.operation_id)
        if operation is None:
            return None
        now_us = self.ports.clock.now_us()
        if operation.status is OperationStatus.REQUIRES_ACTION:
            return row if row.purpose is Purpose.ACTION else self._waiting_for_payer(row)
        if operation.unfinished:
            return self.leased(replace(row, purpose=Purpose.CALL))
        lapsing = self._lapsing(payment, operation, row)
        if lapsing is not None:
            return lapsing
        # Captures and refunds are watched too: nothing is reversed then, but our books must follow the gateway's.
        weak = isinstance(outcome, NotSent) and outcome.reason == WEAK_EVIDENCE
        weak = weak or (isinstance(outcome, Declined) and outcome.code == ACTION_EXPIRED)
        if weak and row.purpose is not Purpose.WATCH:
            due = now_us + int(self.settings.watch_after_s * 1_000_000)
            return replace(row, purpose=Purpose.WATCH, due_at_us=due, owner="", tries=0)
        return None

    def _lapsing(self, payment: Payment, operation: Operation, row: InFlight) -> InFlight | None:
        """The row of an approved authorisation until it lapses, or None."""
        # While a person looks, or the bank disputes, the authorisation lapses all the same.
        held = payment.authorized_minor and settled_state(payment) is PaymentState.AUTHORIZED
        if not held or operation.status is not OperationStatus.APPROVED:
            return None
        first = operation.attempt or operation.kind is OperationKind.CONFIRM
        expires_at_us = payment.expires_at_us or self._default_expiry(operation, self.ports.clock.now_us())
        if not first or expires_at_us is None:
            return None
        return replace(row, purpose=Purpose.EXPIRY, due_at_us=expires_at_us, owner="", tries=0)

    def lapsing(self, payment: Payment) -> InFlight | None:
        """The row of an authorisation that is open again, until it lapses; None where none is."""
        winner = payment.winner
        if winner is None:
            return None
        return self._lapsing(payment, winner, self.new_row(payment, winner.id, winner.gateway))

    def _default_expiry(self, operation: Operation, now_us: int) -> int | None:
        gateway = self.registry.find(operation.gateway)
        ttl_s = gateway.capabilities.authorization_ttl_s if gateway else None
        return None if ttl_s is None else now_us + int(ttl_s * 1_000_000)

    def new_operation_id(self) -> str:
        return f"op_{self.ports.ids.new_hex()}"

    # --- evidence -----------------------------------------------------------------------------------------

    async def seek(
        self, payment: Payment, operation: Operation, row: InFlight, tries: int
    ) -> tuple[Known | None, InFlight]:
        """Looks for evidence of what became of an operation, once. Returns it, if any, and the row as it is now.

        A resend under the same key is evidence where the PSP replays; `NotSent` to a resend is none, for it says
        nothing of the first send. A look-up that finds nothing is evidence only after the quiet period since the last
        send.
        """
        gateway = self.registry.find(operation.gateway)
        if gateway is None:
            return None, row
        caps = gateway.capabilities
        if operation.kind is OperationKind.VOID and not caps.void:
            # What this PSP does not have was never sent: the adapter refuses it before anything leaves.
            refused = Declined(category=DeclineCategory.INVALID, code=UnsupportedOperation.code)
            return Known(refused, Evidence.REPLY), row
        now_us = self.ports.clock.now_us()
        call = self.call_for(payment, operation)
        waits = operation.status in (OperationStatus.PENDING, OperationStatus.REQUIRES_ACTION)
        key_ttl_us = int(caps.key_ttl_s(operation.kind) * 1_000_000)
        within_ttl = now_us - operation.started_at_us < key_ttl_us
        resend = (
            key_ttl_us > 0
            and within_ttl
            and (tries < self.settings.resends_max or not caps.looks_up(operation.kind))
        )
        if resend and not waits and self.covers_call(row):
            with self.while_leased(row):
                outcome = await self._perform(gateway, call, again=True)
            row = replace(row, sent_at_us=self.ports.clock.now_us())
            if is_evidence(outcome):
                return Known(outcome, Evidence.RESEND), row
            row = await self.with_room(row)
        return await self.look(gateway, call, row, trusted=not waits), row

    async def ask(self, gateway: Gateway, call: GatewayCall) -> Lookup:
        """One look-up; `LookupFailed` where it did not come through."""
        try:
            async with asyncio.timeout(call.timeout_s + _HARD_TIMEOUT_MARGIN_S):
                return await gateway.look_up(call)
        except Exception as error:  # noqa: BLE001 - a failed look-up teaches nothing
            logger.warning("gateway %s raised %s in look_up", gateway.name, type(error).__name__)
            return LookupFailed(reason=type(error).__name__)

    async def look(
        self, gateway: Gateway, call: GatewayCall, row: InFlight, *, trusted: bool
    ) -> Known | None:
        """One look-up. Nothing found counts only if `trusted` and the PSP's quiet period since the last send has passed."""
        caps = gateway.capabilities
        # The answer is as old as the question: we may have slept through the quiet period between the two.
        asked_us = self.ports.clock.earliest_us()
        found = await self.ask(gateway, call)
        quiet_us = int(caps.quiet_s(call.kind) * 1_000_000)
        quiet = asked_us - max(row.sent_at_us, call.started_at_us) >= quiet_us
        unmoved = isinstance(found, Found) and isinstance(found.outcome, RequiresAction)
        if call.kind is OperationKind.CONFIRM and unmoved and not quiet:
            # The payer's step is open as before: the gateway has not seen the confirmation, which may be on its way.
            return None
        if isinstance(found, Found):
            return Known(found.outcome, Evidence.LOOKUP) if is_evidence(found.outcome) else None
        if not (isinstance(found, NotFound) and trusted and caps.looks_up(call.kind) and quiet):
            return None
        if not caps.cancels(call.kind):
            return Known(NotSent(reason=WEAK_EVIDENCE), Evidence.LOOKUP)
        await self.with_room(row)
        try:
            async with asyncio.timeout(call.timeout_s + _HARD_TIMEOUT_MARGIN_S):
                canceled = await gateway.cancel_by_reference(call)
        except Exception as error:  # noqa: BLE001 - as above
            logger.warning("gateway %s raised %s in cancel_by_reference", gateway.name, type(error).__name__)
            return None
        # Only the PSP's own word that it will refuse the reference counts; NotSent to the cancel itself is no word.
        return (
            Known(NotSent(reason=WEAK_EVIDENCE), Evidence.CANCEL) if isinstance(canceled, Approved) else None
        )

    def quiet_left_s(self, operation: Operation, row: InFlight) -> float:
        """How long until a look-up that finds nothing would be believed; 0 where that is not what we wait for."""
        gateway = self.registry.find(operation.gateway)
        caps = gateway.capabilities if gateway is not None else None
        if caps is None or not caps.looks_up(operation.kind):
            return 0.0
        if self.ports.clock.now_us() - operation.started_at_us < caps.key_ttl_s(operation.kind) * 1_000_000:
            return 0.0  # The PSP still knows the key: a resend will tell.
        since = max(row.sent_at_us, operation.started_at_us)
        end = since + int(caps.quiet_s(operation.kind) * 1_000_000)
        return max(0.0, (end - self.ports.clock.earliest_us()) / 1_000_000)


def is_evidence(outcome: Outcome) -> bool:
    """Whether a gateway's answer says what became of an operation."""
    if isinstance(outcome, Declined):
        return outcome.code != "idempotency_conflict"
    return isinstance(outcome, Approved | RequiresAction | Pending)


def unleased(payment: Payment, operation: Operation) -> InFlight:
    """Stands in for the row of an operation that nobody works on any more; it carries no lease."""
    return InFlight(
        operation_id=operation.id,
        payment_id=payment.id,
        gateway=operation.gateway,
        purpose=Purpose.WATCH,
        due_at_us=0,
        owner="",
        fence=0,
        sent_at_us=operation.started_at_us,
    )
