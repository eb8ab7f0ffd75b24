"""A person's word of what became of an operation: evidence of the last resort, and heard only where a person was asked.

They may be wrong. So it is recorded like all evidence, and what a gateway says later is weighed against it.
"""

from __future__ import annotations

from aegispay.domain import commands as cmd
from aegispay.domain import events as ev
from aegispay.domain.errors import InvalidRequest, InvalidState
from aegispay.domain.events import EventData
from aegispay.domain.outcomes import Approved, Evidence, NotSent
from aegispay.domain.payment import Operation, OperationStatus, Payment
from aegispay.domain.record import REVERSAL_REFUSED, Events, record, unreversed

TELLABLE = frozenset({OperationStatus.STARTED, OperationStatus.IN_DOUBT, OperationStatus.PENDING})
"""What a person may end by their word. What waits for its payer is no doubt, and ends otherwise."""


def record_outcome(payment: Payment, command: cmd.RecordOutcome) -> Events:
    """The events that follow from an outcome, whoever it is known from; an empty tuple where nothing new was learnt."""
    if command.evidence is not Evidence.PERSON:
        return record(payment, command)
    operation = payment.operation(command.operation_id)
    if operation is None:
        raise InvalidState(f"{payment.id} has no operation {command.operation_id}.")
    _check(payment, operation, command)
    events = record(payment, command)
    if not events:
        raise InvalidState(f"{operation.kind} {operation.id} of that amount does not fit into the books.")
    return _ends_the_review(payment, command, events)


def _check(payment: Payment, operation: Operation, command: cmd.RecordOutcome) -> None:
    """Raises where nobody asked, where it is too late, and where the word is not one that a person can give."""
    what = f"{operation.kind} {operation.id}"
    if not command.word:
        raise InvalidRequest("a person's word comes with a reason.")
    if payment.review is None or not payment.review_until_evidence:
        raise InvalidState(f"nobody was asked what became of {what} of {payment.id}.")
    if operation.status not in TELLABLE:
        raise InvalidState(f"{what} is {operation.status}; what became of it is not for a person to say.")
    outcome = command.outcome
    if isinstance(outcome, Approved):
        if outcome.amount_minor != operation.amount_minor:
            raise InvalidRequest(f"a person says of {what} that it went through in full, or that it did not.")
    elif not isinstance(outcome, NotSent):
        raise InvalidRequest(f"a person says of {what} that it went through, or that it had no effect.")
    elif operation.compensates:
        raise InvalidState(
            f"{what} takes back what nobody wanted, so that it must go through.",
            hint="Give it back at the gateway, and close the review as reversed by hand.",
        )


def _ends_the_review(payment: Payment, command: cmd.RecordOutcome, events: Events) -> Events:
    """The review was theirs, so it ends, whatever else is under way; what they could not know is a new question."""
    if any(isinstance(one, ev.ReviewClosed) for one in events):
        return events
    closed = ev.ReviewClosed(reason=command.word)
    if any(isinstance(one, ev.ReviewRequested) for one in events):
        return (closed, *events)
    return (*events, closed, *_still_owed(payment))


def _still_owed(payment: Payment) -> list[EventData]:
    """Asks again about the success that nobody wanted and that the gateway keeps, where there is one."""
    for target in unreversed(payment):
        refused = [op for op in payment.operations if op.compensates and op.parent_id == target.id]
        code = refused[-1].code if refused else "not_tried"
        return [
            ev.ReviewRequested(
                reason=f"{REVERSAL_REFUSED}: {code}", operation_id=target.id, until_evidence=True
            )
        ]
    return []
