"""What is told of an operation in a cell: its outcome, the evidence that ended its doubt, and how it ended."""

from __future__ import annotations

from collections.abc import Sequence

from aegispay.domain.events import (
    Event,
    LateSuccessFound,
    OperationApproved,
    OperationDeclined,
    OperationInDoubt,
    OperationKind,
    OperationNotSent,
    OperationPending,
)
from aegispay.domain.outcomes import Evidence, NotSent, Pending
from aegispay.domain.payment import Operation, OperationStatus
from aegispay.domain.states import PaymentState
from aegispay.gateways.gateway import Found
from aegispay.testing.ambiguity.witness import Testimony

DONE, NOT_DONE, DECLINED, REVERSED = "done", "not done", "declined", "reversed"
IN_DOUBT, NOT_SENT, PENDING, PERSON = "in doubt", "not sent", "pending", "person"
SENT_AGAIN, OTHER_PSP = "sent again", "other PSP"
OPEN = ("bank has it", "bank has nothing")
"""How a cell ends in which a person must decide: with the effect at the bank, or without."""
_EVIDENCE = {
    Evidence.RESEND: "resend",
    Evidence.LOOKUP: "look-up",
    Evidence.CANCEL: "cancel",
    Evidence.WEBHOOK: "webhook",
}
FINAL_STATES = {
    OperationKind.CHARGE: (PaymentState.SUCCEEDED, PaymentState.FAILED),
    OperationKind.AUTHORIZE: (PaymentState.AUTHORIZED, PaymentState.FAILED),
    OperationKind.CONFIRM: (PaymentState.SUCCEEDED, PaymentState.EXPIRED),
    OperationKind.CAPTURE: (PaymentState.SUCCEEDED, PaymentState.AUTHORIZED),
    OperationKind.VOID: (PaymentState.CANCELED, PaymentState.AUTHORIZED),
    OperationKind.REFUND: (PaymentState.REFUNDED, PaymentState.SUCCEEDED),
}
"""The payment's state in the end: where the operation is done, and where it is not. See `final_state`."""
_STEPS_S = (
    (60, "1 min"),
    (300, "5 min"),
    (600, "10 min"),
    (1_800, "30 min"),
    (3_600, "1 h"),
    (7_200, "2 h"),
    (21_600, "6 h"),
    (87_000, "1 day"),
)


def final_state(kind: OperationKind, end: str, *, partly: bool) -> PaymentState:
    """The payment's state after such an end. `partly`: not everything that was captured has been refunded."""
    if end in OPEN:
        return PaymentState.NEEDS_REVIEW
    state = FINAL_STATES[kind][0 if end == DONE else 1]
    return PaymentState.PARTIALLY_REFUNDED if state is PaymentState.REFUNDED and partly else state


def within(begin_us: int, end_us: int) -> str:
    """The time in words, rounded up coarsely; empty where it is nothing to speak of."""
    seconds = (end_us - begin_us) / 1_000_000
    if seconds <= 2.0:
        return ""
    return next((f"within {words}" for limit_s, words in _STEPS_S if seconds <= limit_s), "later than a day")


class Story:
    """One operation's events, and what the adapter said of it."""

    def __init__(
        self, operation: Operation, events: Sequence[Event], heard: Sequence[Testimony], *, crashed: bool
    ) -> None:
        self._operation = operation
        self._crashed = crashed
        self._own = [one for one in events if getattr(one.data, "operation_id", None) == operation.id]
        self._heard = [one for one in heard if one.operation_id == operation.id]

    def ended_at_us(self) -> int:
        """When it ended; where it is open, when a person was asked."""
        return max(one.at_us for one in self._own)

    def steps(self, *, failed_over: bool, executed: bool) -> tuple[str, ...]:
        """See `Cell.steps`."""
        steps: list[str] = []
        if self._heard and not self._crashed and isinstance(self._heard[0].answer, NotSent):
            steps.append(NOT_SENT)
        for event in self._own:
            data = event.data
            if isinstance(data, OperationInDoubt) and not self._crashed:
                steps.append(IN_DOUBT)
            elif isinstance(data, OperationPending):
                steps += [*self._how(steps, self._pending_by()), PENDING]
            elif isinstance(data, OperationApproved):
                steps += [*self._how(steps, data.evidence), DONE]
            elif isinstance(data, OperationDeclined):
                end = (DECLINED, OTHER_PSP, DONE) if failed_over else (DECLINED,)
                steps += [*self._how(steps, data.evidence), *end]
            elif isinstance(data, OperationNotSent):
                by = [] if data.evidence is Evidence.REPLY else self._how(steps, data.evidence)
                steps += [*by, *((OTHER_PSP, DONE) if failed_over else (NOT_DONE,))]
            elif isinstance(data, LateSuccessFound):
                steps += self._how(steps, data.evidence)
        if self._operation.status is OperationStatus.REVERSED:
            steps.append(REVERSED)
        elif self._operation.unfinished or self._operation.status is OperationStatus.UNWANTED:
            steps += [PERSON, OPEN[0] if executed else OPEN[1]]
        return tuple(steps)

    def _how(self, steps: list[str], evidence: Evidence) -> list[str]:
        """The evidence, where the first answer was not the last word."""
        if not steps and not self._crashed:
            return []
        return [_EVIDENCE.get(evidence, SENT_AGAIN)]

    def _pending_by(self) -> Evidence:
        """By which answer we learnt that it is pending: events do not say."""
        for number, one in enumerate(self._heard):
            found = one.answer.outcome if isinstance(one.answer, Found) else one.answer
            if isinstance(found, Pending):
                if one.asked == "look_up":
                    return Evidence.LOOKUP
                proven = all(isinstance(before.answer, NotSent) for before in self._heard[:number])
                return Evidence.REPLY if proven and not self._crashed else Evidence.RESEND
        return Evidence.REPLY
