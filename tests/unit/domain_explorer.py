"""Walks the payment's state machine: every command in every state that can be reached, with the promises checked.

Two payments that differ only in their version, times and the versions noted in them behave alike, because neither
`decide` nor `evolve` reads those. So each is explored once (`canonical`), which covers every sequence that leads to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from aegispay.domain import commands as cmd
from aegispay.domain import events as ev
from aegispay.domain.decide import decide, stranded
from aegispay.domain.errors import InvalidRequest, InvalidState
from aegispay.domain.events import CaptureMode, Event, EventData, OperationKind
from aegispay.domain.evolve import evolve, fold
from aegispay.domain.methods import MethodSnapshot
from aegispay.domain.outcomes import (
    Approved,
    DeclineCategory,
    Declined,
    Evidence,
    InDoubt,
    NextAction,
    NotSent,
    Outcome,
    Pending,
    RequiresAction,
)
from aegispay.domain.payment import (
    Operation,
    OperationStatus,
    Payment,
    decode_payment,
    encode_payment,
    state_of,
)
from aegispay.domain.states import TERMINAL
from aegispay.domain.upcast import read_data

AMOUNT = 100
PART = 40
WORD = "person: looked"
CONTRADICTIONS = (
    "amount_differs",
    "captured_beyond",
    "refunded_beyond",
    "released_during",
    "voided_",
    "reversed_twice",
    "declined_after",
    "undone",
    "dispute_decided_twice",
    "dispute_lost_beyond",
)
"""Reviews after which our books follow a gateway that contradicted itself, so the sums may exceed their limits."""

ACTION = NextAction(url="https://bank.example/1")
OTHER_ACTION = NextAction(url="https://bank.example/2")


class Reached(NamedTuple):
    """A payment and the events that led to it."""

    payment: Payment
    events: tuple[Event, ...]
    flagged: bool
    """Whether a gateway contradicted itself on the way."""


class Step(NamedTuple):
    """One accepted command with what it changed."""

    before: Payment
    command: cmd.Command
    data: tuple[EventData, ...]
    after: Reached


class PromiseBroken(AssertionError):
    """A promise does not hold; the message holds the commands' events."""


def initiate(capture: CaptureMode) -> Reached:
    """A new payment of 100 that may go to gateways a and b."""
    command = cmd.Initiate(
        merchant_id="m",
        amount_minor=AMOUNT,
        currency="USD",
        capture=capture,
        method=MethodSnapshot(token="tok"),
        candidates=("a", "b"),
        request_hash="h",
    )
    return apply(Reached(None, (), False), decide(None, command))  # type: ignore[arg-type]


def apply(
    reached: Reached, data: Iterable[EventData], transitions: set[tuple[str, str, str]] | None = None
) -> Reached:
    """The payment after these events; each transition taken is added to `transitions`."""
    payment, events, flagged = reached
    for one in data:
        event = Event(
            id=f"evt_{len(events)}",
            payment_id="pay_1",
            version=len(events) + 1,
            at_us=1,
            correlation_id="c",
            causation_id="c",
            data=one,
        )
        before = payment
        payment = evolve(payment, event)
        events = (*events, event)
        if before is not None and transitions is not None:
            transitions.add((before.state.value, event.type, payment.state.value))
        if isinstance(one, ev.ReviewRequested) and one.reason.startswith(CONTRADICTIONS):
            flagged = True
    return Reached(payment, events, flagged)


def outcomes_for(operation: Operation) -> Iterator[tuple[Outcome, bool]]:
    """Every kind of outcome with the amounts that matter, and whether the caller would try the next gateway."""
    asked = operation.amount_minor
    amounts = [asked, asked - 1, asked + 1, 0]
    for amount in amounts:
        yield Approved(reference="r", amount_minor=amount), False
    for category in (DeclineCategory.SOFT, DeclineCategory.HARD):
        yield Declined(category=category, code="no"), False
        yield Declined(category=category, code="no"), True
    yield NotSent(reason="refused"), False
    yield NotSent(reason="refused"), True
    yield RequiresAction(reference="r", action=ACTION), False
    yield RequiresAction(reference="r", action=OTHER_ACTION), False
    yield Pending(reference="r"), False
    yield InDoubt(reason="timeout"), False


def commands_for(payment: Payment) -> Iterator[cmd.Command]:
    """The whole alphabet: what may be asked of this payment, sensible or not.

    A stranded payment stands in the middle of a commit, so that only its second half may follow.
    """
    new_id = f"op_{len(payment.operations)}"
    for gateway in ("a", "b"):
        yield cmd.StartAttempt(operation_id=new_id, gateway=gateway)
    if stranded(payment):
        for operation in payment.operations:
            yield cmd.StartReversal(operation_id=new_id, target_id=operation.id)
        return
    for operation in payment.operations:
        for outcome, again in outcomes_for(operation):
            yield cmd.RecordOutcome(operation_id=operation.id, outcome=outcome, will_try_next=again)
        yield cmd.StartReversal(operation_id=new_id, target_id=operation.id)
        yield cmd.RecordReversed(operation_id=new_id, target_id=operation.id)
        yield cmd.RequestReview(reason="slow", operation_id=operation.id)
        yield cmd.CloseReview(reason="seen", operation_id=operation.id)
        yield from words_of(operation)
        yield cmd.RecordUndone(operation_id=operation.id, code="failed_after_all")
    yield cmd.StartConfirm(operation_id=new_id)
    for amount in (None, PART, AMOUNT - PART, AMOUNT + 1):
        yield cmd.StartCapture(operation_id=new_id, amount_minor=amount, final=amount is None)
    yield cmd.StartCapture(operation_id=new_id, amount_minor=PART, final=True)
    yield cmd.StartVoid(operation_id=new_id)
    yield cmd.StartVoid(operation_id=new_id, reason="expired")
    for amount in (None, PART, AMOUNT + 1):
        yield cmd.StartRefund(operation_id=new_id, amount_minor=amount)
    yield cmd.RequestReview(reason="person")
    yield cmd.CloseReview(reason="seen")
    for operation in payment.operations:
        if operation.attempt:
            yield from told_of(payment, operation, new_id)
    yield cmd.RecordExternalRefund(
        operation_id=new_id, attempt_id=None, amount_minor=PART, reference="of whom"
    )
    yield cmd.OpenDispute(attempt_id=None, reference="of whom", amount_minor=AMOUNT)


def words_of(operation: Operation) -> Iterator[cmd.Command]:
    """What a person may say became of it; in the words of a gateway, so that the payment is no other than by those."""
    outcomes: tuple[Outcome, ...] = (
        Approved(reference="r", amount_minor=operation.amount_minor),
        NotSent(reason="refused"),
    )
    for outcome in outcomes:
        yield cmd.RecordOutcome(
            operation_id=operation.id, outcome=outcome, evidence=Evidence.PERSON, word=WORD
        )


def told_of(payment: Payment, attempt: Operation, new_id: str) -> Iterator[cmd.Command]:
    """What may be heard of this attempt that was not done through us."""
    more: Any = {"operation_id": new_id, "attempt_id": attempt.id}
    for amount in (0, PART, AMOUNT, AMOUNT + 1):
        yield cmd.RecordExternalRefund(**more, amount_minor=amount, reference=f"outside {amount}")
    for amount in (PART, AMOUNT + 1):
        yield cmd.RecordExternalCapture(**more, amount_minor=amount, reference=f"outside {amount}")
    yield cmd.RecordExternalVoid(**more, reference="outside void")
    yield cmd.OpenDispute(attempt_id=attempt.id, reference="d", amount_minor=AMOUNT)
    yield cmd.CloseDispute(**more, reference="d", won=True)
    for amount in (PART, AMOUNT):
        yield cmd.CloseDispute(**more, reference="d", won=False, amount_minor=amount)
    if payment.disputes_open:
        yield cmd.OpenDispute(attempt_id=attempt.id, reference="e", amount_minor=AMOUNT)
        yield cmd.CloseDispute(**more, reference="e", won=False)
        yield cmd.CloseDispute(**more, reference="e", won=None)


def canonical(reached: Reached) -> bytes:
    """The payment without what neither `decide` nor `evolve` looks at."""
    payment = reached.payment
    operations = tuple(replace(op, concluded_version=0) for op in payment.operations)
    plain = replace(
        payment, version=1, operations=operations, answered_version=min(1, payment.answered_version)
    )
    return encode_payment(plain) + (b"!" if reached.flagged else b"")


# --- the promises -------------------------------------------------------------------------------------------


def check(step: Step) -> None:
    """Every promise that one step can break."""
    _check_books(step.after)
    _check_attempts(step)
    _check_history(step)
    _check_not_stranded(step)
    _check_word(step)


def _require(holds: bool, promise: str, step: Step | Reached) -> None:
    if not holds:
        reached = step.after if isinstance(step, Step) else step
        history = "\n  ".join(f"{event.type} {event.data}" for event in reached.events)
        last = f"\nlast command: {step.command}" if isinstance(step, Step) else ""
        raise PromiseBroken(f"{promise}\n{reached.payment.state}\n  {history}{last}")


def _check_books(reached: Reached) -> None:
    """I9, and the amounts' own consistency."""
    payment = reached.payment
    captures = payment.reserved(OperationKind.CAPTURE)
    refunds = payment.reserved(OperationKind.REFUND)
    _require(
        payment.captured_minor + payment.released_minor <= payment.authorized_minor,
        "captured <= authorized",
        reached,
    )
    _require(
        min(payment.captured_minor, payment.refunded_minor, payment.released_minor) >= 0,
        "no sum below zero",
        reached,
    )
    if not reached.flagged:
        _require(
            payment.refunded_minor + refunds + payment.lost_minor <= payment.captured_minor,
            "refunds, reserved too, and what disputes took <= captured",
            reached,
        )
        _require(
            payment.captured_minor + captures + payment.released_minor <= payment.authorized_minor,
            "captures, reserved too, and releases <= authorized",
            reached,
        )
        _require(payment.authorized_minor in (0, AMOUNT), "authorized is what was asked for", reached)


def _check_attempts(step: Step) -> None:
    """I1 and I2: one winner, and nothing begins at another gateway while anything is open."""
    payment = step.after.payment
    winners = [op for op in payment.operations if op.attempt and op.status is OperationStatus.APPROVED]
    _require(len(winners) <= 1, "at most one attempt wins", step)
    _require(
        bool(winners) == bool(payment.authorized_minor), "money is authorised just where an attempt won", step
    )
    _require(
        len({op.id for op in payment.operations}) == len(payment.operations), "operation ids are unique", step
    )
    open_attempts = [op for op in payment.operations if op.attempt and op.unfinished]
    _require(len(open_attempts) <= 1, "at most one attempt is open", step)
    _require(not (winners and open_attempts), "no attempt is open beside a winner", step)
    for one in step.data:
        if isinstance(one, ev.OperationStarted) and one.attempt:
            _require(
                not any(op.unfinished for op in step.before.operations),
                "nothing was open when an attempt began",
                step,
            )
            _require(not step.before.authorized_minor, "no attempt begins after a success", step)
    for operation in payment.operations:
        if operation.kind is OperationKind.CONFIRM and operation.unfinished:
            parent = payment.operation(operation.parent_id or "")
            _require(
                parent is not None and parent.status is OperationStatus.CONFIRMING,
                "a confirmation under way belongs to an attempt that waits for it",
                step,
            )


def _check_history(step: Step) -> None:
    """I6 and I12."""
    payment = step.after.payment
    _require(payment.state is state_of(payment), "the state is a function of the rest", step)
    raw = encode_payment(payment)
    _require(
        encode_payment(decode_payment(raw)) == raw and decode_payment(raw) == payment,
        "the projection reads back",
        step,
    )
    _require(payment.version == len(step.after.events), "one version for each event", step)
    _require(payment.answered_version <= payment.version, "the answer was given already", step)
    before = step.before
    if before.state in TERMINAL and payment.state is not before.state:
        allowed = (ev.OperationApproved, ev.DisputeOpened, ev.ReviewRequested)
        _require(
            any(isinstance(one, allowed) for one in step.data),
            "a terminal state is left by a listed edge",
            step,
        )
    if before.answered_version:
        _require(payment.answered_version == before.answered_version, "the first answer does not move", step)


def _check_not_stranded(step: Step) -> None:
    """A payment that waits for nobody can only be in the middle of a commit whose second half is accepted."""
    payment = step.after.payment
    if not stranded(payment):
        return
    _require(not stranded(step.before), "the second half of a commit ends it", step)
    follow_up: cmd.Command
    unwanted = [one.operation_id for one in step.data if isinstance(one, ev.LateSuccessFound)]
    if unwanted:
        follow_up = cmd.StartReversal(operation_id="op_next", target_id=unwanted[0])
    else:
        _require(
            isinstance(step.command, cmd.RecordOutcome) and step.command.will_try_next,
            "only a step that announces the next attempt leaves the payment waiting",
            step,
        )
        follow_up = cmd.StartAttempt(operation_id="op_next", gateway="b")
    try:
        after = apply(step.after, decide(payment, follow_up))
    except (InvalidState, InvalidRequest) as refusal:
        _require(False, f"the follow-up {follow_up} is not refused ({refusal})", step)
        return
    _require(not stranded(after.payment), "after its follow-up somebody works on the payment", step)


def _check_word(step: Step) -> None:
    """A person is heard where they were asked, on what is in doubt; that ends the doubt, and the review as theirs."""
    command, before = step.command, step.before
    if not isinstance(command, cmd.RecordOutcome) or command.evidence is not Evidence.PERSON:
        return
    doubtful = (OperationStatus.STARTED, OperationStatus.IN_DOUBT, OperationStatus.PENDING)
    was, now = (one.operation(command.operation_id) for one in (before, step.after.payment))
    _require(before.review_until_evidence, "a person speaks where they were asked", step)
    _require(was is not None and was.status in doubtful, "a person speaks of what is in doubt", step)
    _require(now is not None and not now.unfinished, "a person's word ends the doubt", step)
    closed = [one for one in step.data if isinstance(one, ev.ReviewClosed)]
    _require(closed == [ev.ReviewClosed(reason=WORD)], "a person's word ends their review once", step)


def check_stream(reached: Reached) -> None:
    """I6 over bytes: the stored events, read back, give the same projection."""
    stored = [(event, ev.encode_data(event.data)) for event in reached.events]
    read = [
        msgspec.structs.replace(event, data=read_data(raw, event.schema_version)) for event, raw in stored
    ]
    _require(tuple(read) == reached.events, "events read back", reached)
    _require(
        encode_payment(fold(read)) == encode_payment(reached.payment),
        "the fold of the events is the payment",
        reached,
    )


# --- the walk -----------------------------------------------------------------------------------------------


class Walk:
    """What an exploration has seen."""

    def __init__(self) -> None:
        self.transitions: set[tuple[str, str, str]] = set()
        self.accepted = 0
        self.refused = 0
        self.sequences = 0
        """Sequences of effective commands that were covered, shorter ones included."""
        self._following: dict[bytes, list[bytes]] = {}

    @property
    def payments(self) -> int:
        """How many different payments were asked everything."""
        return len(self._following)

    def step(self, reached: Reached, command: cmd.Command) -> Reached | None:
        """The payment after the command, checked; None where the command was refused or taught nothing new."""
        try:
            data = decide(reached.payment, command)
        except (InvalidState, InvalidRequest):
            self.refused += 1
            return None
        self.accepted += 1
        if not data:
            return None
        after = apply(reached, data, self.transitions)
        check(Step(reached.payment, command, data, after))
        return after

    def explore(self, root: Reached, depth: int) -> None:
        """Every sequence of up to `depth` commands from here. A payment reached twice is asked once: the first
        time it is met, the most commands are still to come."""
        frontier = {canonical(root): root}
        ways = {canonical(root): 1}
        for _ in range(depth):
            unasked: dict[bytes, Reached] = {}
            for key, reached in frontier.items():
                self._following[key] = self._ask_everything(reached, unasked)
            frontier = {key: reached for key, reached in unasked.items() if key not in self._following}
            ways_on: dict[bytes, int] = {}
            for key, count in ways.items():
                for following in self._following[key]:
                    ways_on[following] = ways_on.get(following, 0) + count
            self.sequences += sum(ways_on.values())
            ways = ways_on

    def _ask_everything(self, reached: Reached, unasked: dict[bytes, Reached]) -> list[bytes]:
        found: list[bytes] = []
        for command in commands_for(reached.payment):
            after = self.step(reached, command)
            if after is None:
                continue
            key = canonical(after)
            found.append(key)
            if key not in self._following and key not in unasked:
                check_stream(after)
                unasked[key] = after
        return found


def play(root: Reached, commands: Sequence[cmd.Command], walk: Walk | None = None) -> Reached:
    """The payment after a script of commands, each of which must be accepted and checked."""
    walk = walk or Walk()
    for command in commands:
        after = walk.step(root, command)
        if after is None:
            raise AssertionError(f"{command} is refused or teaches nothing in {root.payment.state}")
        root = after
    return root
