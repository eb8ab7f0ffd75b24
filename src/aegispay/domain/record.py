"""What an outcome, or later evidence, says of an operation: which facts follow from it. Pure.

An attempt and its confirmation are one thing at the PSP, so news of either concludes both. News that contradicts
what is recorded is recorded too, but a person is asked first.
"""

from __future__ import annotations

from aegispay.domain import commands as cmd
from aegispay.domain import events as ev
from aegispay.domain.errors import InvalidState
from aegispay.domain.events import EventData, OperationKind
from aegispay.domain.money import AMOUNT_MINOR_MAX
from aegispay.domain.outcomes import (
    Approved,
    DeclineCategory,
    Declined,
    Evidence,
    InDoubt,
    NotSent,
    Pending,
    RequiresAction,
)
from aegispay.domain.payment import FIRST_KINDS, Operation, OperationStatus, Payment
from aegispay.domain.states import UNSETTLED

TIME_MAX_US = 253_402_300_799_000_000
"""The end of the year 9999."""
OPERATIONS_MAX = 250
"""No payment has more operations than this, but for reversals and the last voids (`VOIDS_KEPT`, and of what lapsed)."""
ATTEMPTS_MAX = 10
REVERSAL_REFUSED = "reversal_refused"
"""What the review's reason begins with where the gateway keeps what nobody wanted."""

Events = tuple[EventData, ...]
_NO_EFFECT = frozenset({OperationStatus.DECLINED, OperationStatus.NOT_SENT})


def may_try_next(operation: Operation) -> bool:
    """Whether an ended attempt lets another gateway be tried: it had no effect, and the no was a soft one."""
    if operation.status is OperationStatus.NOT_SENT:
        return True
    return operation.status is OperationStatus.DECLINED and operation.category is DeclineCategory.SOFT


def next_may_start(payment: Payment, ending_id: str | None = None) -> bool:
    """Whether another attempt may start once the operation `ending_id` has ended without effect."""
    return (
        payment.review is None
        and not any(op.unfinished and op.id != ending_id for op in payment.operations)
        and sum(1 for op in payment.operations if op.attempt) < ATTEMPTS_MAX
        and len(payment.operations) < OPERATIONS_MAX
    )


def stranded(payment: Payment) -> bool:
    """Whether the payment waits for something that nobody is doing. Such a payment must never be committed."""
    if payment.review is not None:
        return False
    if payment.state in UNSETTLED and not any(
        op.unfinished and not op.compensates for op in payment.operations
    ):
        return True
    return bool(unreversed(payment))


def unreversed(payment: Payment) -> list[Operation]:
    """Unwanted successes that no operation under way takes back."""
    unwanted = [op for op in payment.operations if op.status is OperationStatus.UNWANTED]
    if not unwanted:
        return unwanted
    reversing = {op.parent_id for op in payment.operations if op.unfinished and op.compensates}
    return [op for op in unwanted if op.id not in reversing]


def record(payment: Payment, command: cmd.RecordOutcome) -> Events:
    """The events that follow; an empty tuple where nothing new was learnt."""
    operation = addressed(payment, command)
    outcome = command.outcome
    events: list[EventData]
    if not operation.unfinished:
        events = _record_late(payment, operation, command)
    elif isinstance(outcome, Approved):
        events = _approve(payment, operation, outcome, command.evidence)
    elif operation.status is OperationStatus.CONFIRMING and not isinstance(outcome, Declined):
        # The payer has acted since, and the confirmation's own outcome counts.
        return ()
    elif isinstance(outcome, Declined | NotSent):
        events = _without_effect(payment, operation, outcome, command)
    elif isinstance(outcome, RequiresAction):
        events = _action_required(operation, outcome)
    elif isinstance(outcome, InDoubt):
        return _now_in_doubt(operation, outcome.reason)
    else:
        return _still_pending(operation, outcome)
    if events and _clears_review(payment, operation, events):
        events.append(ev.ReviewClosed(reason=command.word or f"evidence: {command.evidence}"))
    return tuple(events)


def addressed(payment: Payment, command: cmd.RecordOutcome) -> Operation:
    """The operation that the outcome concludes: an attempt's own, or its confirmation's, whichever is open."""
    operation = payment.operation(command.operation_id)
    if operation is None:
        raise InvalidState(f"{payment.id} has no operation {command.operation_id}.")
    if operation.kind is OperationKind.CONFIRM and operation.status in _NO_EFFECT:
        if not isinstance(command.outcome, Approved):
            return operation
        operation = payment.operation(operation.parent_id or "") or operation
    if operation.status is OperationStatus.CONFIRMING and isinstance(command.outcome, Approved | Declined):
        for other in payment.operations:
            if other.unfinished and other.kind is OperationKind.CONFIRM and other.parent_id == operation.id:
                return other
    return operation


def _clears_review(payment: Payment, operation: Operation, events: list[EventData]) -> bool:
    """Whether these events end the doubt that a person was asked about."""
    if any(isinstance(one, ev.ReviewRequested | ev.LateSuccessFound | ev.OperationInDoubt) for one in events):
        return False
    reverses = operation.compensates and isinstance(events[0], ev.OperationApproved)
    return doubt_ends(payment, (operation.id, operation.parent_id), operation.parent_id if reverses else None)


def doubt_ends(payment: Payment, concluded: tuple[str | None, ...], reversed_id: str | None) -> bool:
    """Whether nothing is left that a review waits for, once these operations are concluded and that one is reversed."""
    if payment.review is None or not payment.review_until_evidence:
        return False
    if any(op.unfinished and op.id not in concluded for op in payment.operations):
        return False
    return not any(
        op.status is OperationStatus.UNWANTED and op.id != reversed_id for op in payment.operations
    )


def ask_person(
    payment: Payment, reason: str, operation_id: str | None, until_evidence: bool
) -> list[EventData]:
    """Asks a person, unless somebody was asked already. What evidence cannot clear overrides what it can."""
    if payment.review is not None and (until_evidence or not payment.review_until_evidence):
        return []
    return [ev.ReviewRequested(reason=reason, operation_id=operation_id, until_evidence=until_evidence)]


# --- approved -----------------------------------------------------------------------------------------------


def _approve(
    payment: Payment, operation: Operation, outcome: Approved, evidence: Evidence
) -> list[EventData]:
    amount = outcome.amount_minor
    if not _usable(payment, operation, amount):
        if operation.kind is not OperationKind.VOID:
            return ask_person(payment, "approved_without_amount", operation.id, operation.unfinished)
        amount = operation.amount_minor
    reason = _contradiction(payment, operation, amount)
    # The review comes first: nobody who follows the events sees a wrong amount as settled. It is asked for even
    # where another one is open, for that one's reason does not tell of this; it ends the operation, so only once.
    return [
        *((ev.ReviewRequested(reason=reason, operation_id=operation.id),) if reason else ()),
        ev.OperationApproved(
            operation_id=operation.id,
            amount_minor=amount,
            reference=outcome.reference,
            expires_at_us=_expiry(operation, outcome.expires_at_us),
            evidence=evidence,
        ),
    ]


def _expiry(operation: Operation, at_us: object) -> int | None:
    """When the authorisation lapses, if what the gateway says can be: not before it began, and within the calendar."""
    return at_us if type(at_us) is int and operation.started_at_us < at_us <= TIME_MAX_US else None


def _usable(payment: Payment, operation: Operation, amount: object) -> bool:
    """Whether an amount can stand in the books: a positive integer that leaves the sums within the limit."""
    before = {
        OperationKind.CAPTURE: payment.captured_minor,
        OperationKind.REFUND: payment.refunded_minor,
    }.get(operation.kind, 0)
    return type(amount) is int and 0 < amount <= AMOUNT_MINOR_MAX - before


def _contradiction(payment: Payment, operation: Operation, amount: int) -> str | None:
    """Why a person must look at this approval, if one must."""
    kind = operation.kind
    parent = payment.operation(operation.parent_id) if operation.parent_id else None
    if kind is not OperationKind.VOID and amount != operation.amount_minor:
        return f"amount_differs: asked for {operation.amount_minor}, the gateway took {amount}"
    if operation.compensates:
        return None if parent and parent.status is OperationStatus.UNWANTED else "reversed_twice"
    own = operation.amount_minor if operation.unfinished else 0
    others_reserved = payment.reserved(OperationKind.CAPTURE) - (own if kind is OperationKind.CAPTURE else 0)
    if kind is OperationKind.VOID:
        if payment.captured_minor and payment.capturable_minor + others_reserved <= 0:
            return "voided_after_capture"
        return "voided_during_capture" if others_reserved else None
    if kind is OperationKind.CAPTURE:
        if amount > payment.capturable_minor + own:
            return "captured_beyond_authorized"
        return "released_during_capture" if operation.final and others_reserved else None
    if kind is OperationKind.REFUND and amount > payment.refundable_minor + own:
        return "refunded_beyond_captured"
    return None


# --- everything else ----------------------------------------------------------------------------------------


def _without_effect(
    payment: Payment, operation: Operation, outcome: Declined | NotSent, command: cmd.RecordOutcome
) -> list[EventData]:
    events: list[EventData] = []
    if isinstance(outcome, Declined):
        category, code, message = outcome.category, outcome.code, outcome.message
        events.append(
            ev.OperationDeclined(
                operation_id=operation.id,
                category=category,
                code=code,
                message=message,
                gateway_code=outcome.gateway_code,
                reference=outcome.reference,
                evidence=command.evidence,
            )
        )
    else:
        category, code, message = DeclineCategory.SOFT, "gateway_unavailable", f"not sent: {outcome.reason}"
        events.append(
            ev.OperationNotSent(operation_id=operation.id, reason=outcome.reason, evidence=command.evidence)
        )
    if operation.compensates:
        return [
            *events,
            *ask_person(payment, f"{REVERSAL_REFUSED}: {code}", operation.parent_id, until_evidence=True),
        ]
    confirmed_no = operation.kind is OperationKind.CONFIRM and isinstance(outcome, Declined)
    if not operation.attempt and not confirmed_no:
        return events
    soft = operation.attempt and category is DeclineCategory.SOFT
    if command.will_try_next and soft and next_may_start(payment, operation.id):
        return events
    events.append(ev.PaymentFailed(code=code, category=category, message=message))
    return events


def _now_in_doubt(operation: Operation, reason: str) -> Events:
    if operation.status is not OperationStatus.STARTED:
        return ()
    return (ev.OperationInDoubt(operation_id=operation.id, reason=reason),)


def _action_required(operation: Operation, outcome: RequiresAction) -> list[EventData]:
    if operation.status is OperationStatus.REQUIRES_ACTION and operation.next_action == outcome.action:
        return []
    if operation.kind not in FIRST_KINDS and operation.kind is not OperationKind.CONFIRM:
        return list(_now_in_doubt(operation, "unexpected_action"))
    return [
        ev.OperationRequiresAction(
            operation_id=operation.id, reference=outcome.reference, action=outcome.action
        )
    ]


def _still_pending(operation: Operation, outcome: Pending) -> Events:
    if operation.status is OperationStatus.PENDING and outcome.reference in (None, operation.reference):
        return ()
    return (
        ev.OperationPending(
            operation_id=operation.id,
            reason=outcome.reason,
            reference=outcome.reference or operation.reference,
        ),
    )


def _record_late(payment: Payment, operation: Operation, command: cmd.RecordOutcome) -> list[EventData]:
    """Evidence about an operation that had ended: the same again, a late success, or a contradiction."""
    outcome = command.outcome
    if isinstance(outcome, Declined) and operation.status is OperationStatus.APPROVED:
        if _given_up(payment, operation):
            return []
        return ask_person(payment, "declined_after_approval", operation.id, until_evidence=False)
    if not isinstance(outcome, Approved) or operation.status not in _NO_EFFECT:
        return []
    if operation.attempt:
        if not _usable(payment, operation, outcome.amount_minor):
            return ask_person(payment, "approved_without_amount", operation.id, until_evidence=False)
        return [
            ev.LateSuccessFound(
                operation_id=operation.id,
                amount_minor=outcome.amount_minor,
                reference=outcome.reference,
                evidence=command.evidence,
            )
        ]
    parent = payment.operation(operation.parent_id or "")
    if operation.kind is OperationKind.VOID and parent and parent.status is OperationStatus.CONFIRMING:
        # Void or confirmation, one of the two is wrong: the confirmation's outcome will tell.
        return ask_person(payment, "voided_during_confirmation", operation.id, until_evidence=False)
    if _booked_before(payment, operation, outcome):
        return []
    # A capture, void, refund or reversal that did happen: our books follow the gateway's.
    events = _approve(payment, operation, outcome, command.evidence)
    if _mends(payment, operation, events):
        events.append(ev.ReviewClosed(reason=f"evidence: {command.evidence}"))
    return events


def _mends(payment: Payment, operation: Operation, events: list[EventData]) -> bool:
    """Whether this approval undoes the undoing that a person was asked about, and nothing else of its kind is left."""
    if payment.review != undone_reason(operation.code or ""):
        return False
    return not any(isinstance(one, ev.ReviewRequested) for one in events) and not any(
        (op.undone and op.id != operation.id) or op.status is OperationStatus.UNWANTED
        for op in payment.operations
    )


def undone_reason(code: str) -> str:
    """What a person is told of a capture or refund that failed after it had been approved."""
    return f"undone: {code}"


def undo(payment: Payment, command: cmd.RecordUndone) -> Events:
    """The amount leaves the books, and a person is told: goods may have been sent, or the payer told of a refund."""
    operation = payment.operation(command.operation_id)
    if operation is None:
        raise InvalidState(f"{payment.id} has no operation {command.operation_id}.")
    if operation.status is not OperationStatus.APPROVED:
        return ()
    # First, so that nobody who follows the events sees the payment settled as it now is.
    asked = ev.ReviewRequested(reason=undone_reason(command.code), operation_id=operation.id)
    booked = {
        OperationKind.CAPTURE: payment.captured_minor,
        OperationKind.REFUND: payment.refunded_minor,
    }.get(operation.kind)
    known = sum(
        op.amount_minor
        for op in payment.operations
        if op.kind is operation.kind and op.status is OperationStatus.APPROVED and not op.compensates
    )
    if operation.compensates or known != booked:
        # A reversal, the payment itself, or sums with another amount than asked for in them: what is wrong is not clear.
        return () if payment.review == asked.reason else (asked,)
    return (
        asked,
        ev.OperationUndone(
            operation_id=operation.id,
            amount_minor=operation.amount_minor,
            code=command.code,
            evidence=command.evidence,
        ),
    )


def _given_up(payment: Payment, operation: Operation) -> bool:
    """Whether we released it ourselves, or are about to: the PSP shows it as canceled then, which contradicts nothing."""
    return operation.kind in (*FIRST_KINDS, OperationKind.CONFIRM) and any(
        op.kind is OperationKind.VOID
        and op.status not in _NO_EFFECT
        and op.parent_id in (operation.id, operation.parent_id)
        for op in payment.operations
    )


def _booked_before(payment: Payment, operation: Operation, outcome: Approved) -> bool:
    """Whether another operation has had this very effect: a PSP may know a payment's capture, or its end, only once."""
    if operation.kind not in (OperationKind.CAPTURE, OperationKind.VOID) or operation.compensates:
        return False
    capture = operation.kind is OperationKind.CAPTURE
    if capture and outcome.amount_minor <= payment.capturable_minor:
        return False
    return any(
        op.kind is operation.kind
        and op.parent_id == operation.parent_id
        and op.status is OperationStatus.APPROVED
        and op.reference == outcome.reference
        and (not capture or op.amount_minor == outcome.amount_minor)
        for op in payment.operations
    )
