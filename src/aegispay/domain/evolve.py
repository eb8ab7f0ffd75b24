"""`evolve(payment, event) -> payment`: what each fact does to the payment.

The fold of all events is the payment.
Each step is checked against the state table; an edge that the table lacks raises `IllegalTransition`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from msgspec.structs import replace

from aegispay.domain import events as ev
from aegispay.domain.errors import CorruptEvent, IllegalTransition, PaymentNotFound
from aegispay.domain.events import Event, OperationKind
from aegispay.domain.outcomes import DeclineCategory
from aegispay.domain.payment import (
    ACTION_AGAIN,
    FIRST_KINDS,
    Failure,
    Operation,
    OperationStatus,
    Payment,
    state_of,
)
from aegispay.domain.states import UNSETTLED, PaymentState, check_transition

_UNANSWERED = UNSETTLED | {PaymentState.NEEDS_REVIEW}


def evolve(payment: Payment | None, event: Event) -> Payment:
    """The payment after this event.

    Raises `IllegalTransition`, or `CorruptEvent` for a gap in the versions or an operation that never began.
    """
    data = event.data
    if payment is None:
        if not isinstance(data, ev.PaymentInitiated) or event.version != 1:
            raise CorruptEvent(f"the first event of {event.payment_id} is {event.type} {event.version}.")
        return _initiated(event, data)
    if event.version != payment.version + 1 or event.payment_id != payment.id:
        raise CorruptEvent(
            f"event {event.version} of {event.payment_id} follows {payment.version} of {payment.id}."
        )
    handler = _HANDLERS.get(type(data))
    if handler is None:
        raise IllegalTransition(f"{event.type} cannot follow.")
    changed = handler(payment, data, event)
    state = state_of(changed)
    check_transition(payment.state, ev.TYPE_OF[type(data)], state)
    answered = payment.answered_version
    if not answered and state not in _UNANSWERED:
        answered = event.version
    return replace(
        changed, version=event.version, updated_at_us=event.at_us, state=state, answered_version=answered
    )


def fold(events: Iterable[Event], payment: Payment | None = None) -> Payment:
    """The payment that these events give. Raises `PaymentNotFound` where there are none."""
    for event in events:
        payment = evolve(payment, event)
    if payment is None:
        raise PaymentNotFound
    return payment


def _initiated(event: Event, data: ev.PaymentInitiated) -> Payment:
    return Payment(
        id=event.payment_id,
        merchant_id=data.merchant_id,
        version=1,
        state=PaymentState.INITIATED,
        amount_minor=data.amount_minor,
        currency=data.currency,
        capture=data.capture,
        method=data.method,
        created_at_us=event.at_us,
        updated_at_us=event.at_us,
        candidates=data.candidates,
        request_hash=data.request_hash,
        customer_id=data.customer_id,
        description=data.description,
        return_url=data.return_url,
        metadata=data.metadata,
    )


def _with(payment: Payment, operation_id: str, **changes: Any) -> tuple[Operation, ...]:
    operations = payment.operations
    if operations and operations[-1].id == operation_id:
        return (*operations[:-1], replace(operations[-1], **changes))
    return tuple(replace(op, **changes) if op.id == operation_id else op for op in operations)


def _get(payment: Payment, operation_id: str | None) -> Operation:
    operation = payment.operation(operation_id) if operation_id else None
    if operation is None:
        raise CorruptEvent(f"{payment.id} has no operation {operation_id}.")
    return operation


def _started(payment: Payment, data: ev.OperationStarted, event: Event) -> Payment:
    operation = Operation(
        id=data.operation_id,
        kind=data.kind,
        gateway=data.gateway,
        amount_minor=data.amount_minor,
        gateway_key=data.gateway_key,
        status=OperationStatus.STARTED,
        started_at_us=event.at_us,
        attempt=data.attempt,
        parent_id=data.parent_id,
        token=data.token,
        final=data.final,
        reason=data.reason,
        action_data=data.action_data,
        compensates=data.compensates,
        capture_id=data.capture_id,
    )
    return replace(payment, operations=(*payment.operations, operation))


def _approved(payment: Payment, data: ev.OperationApproved, event: Event) -> Payment:
    operation = _get(payment, data.operation_id)
    kind = operation.kind
    operations = _with(
        payment,
        operation.id,
        status=OperationStatus.APPROVED,
        reference=data.reference,
        concluded_version=event.version,
        code=None,
        category=None,
        message=None,
        next_action=None,
        undone=False,
    )
    changed = replace(payment, operations=operations)
    if operation.compensates:
        return replace(
            changed,
            operations=_with(changed, operation.parent_id or "", status=OperationStatus.REVERSED),
        )
    amount = data.amount_minor
    if kind is OperationKind.CONFIRM:
        parent = _get(payment, operation.parent_id)
        operations = _with(
            changed,
            parent.id,
            status=OperationStatus.APPROVED,
            reference=data.reference,
            concluded_version=event.version,
            next_action=None,
        )
        changed = replace(changed, operations=operations)
        kind = parent.kind
    if kind in FIRST_KINDS:
        captured = amount if kind is OperationKind.CHARGE else 0
        return replace(
            changed, authorized_minor=amount, captured_minor=captured, expires_at_us=data.expires_at_us
        )
    if kind is OperationKind.CAPTURE:
        captured = payment.captured_minor + amount
        authorized = max(payment.authorized_minor, captured)
        # A capture found late may eat into what was thought to be released.
        released = (
            authorized - captured if operation.final else min(payment.released_minor, authorized - captured)
        )
        return replace(changed, captured_minor=captured, authorized_minor=authorized, released_minor=released)
    if kind is OperationKind.REFUND:
        return replace(changed, refunded_minor=payment.refunded_minor + amount)
    return _voided(changed, operation, event)


def _voided(payment: Payment, operation: Operation, event: Event) -> Payment:
    ended = "expired" if operation.reason == "expired" else "canceled"
    if payment.authorized_minor:
        left = payment.authorized_minor - payment.captured_minor
        # The first end counts: a void found late does not turn CANCELED into EXPIRED.
        return replace(
            payment, released_minor=left, ended=payment.ended or (None if payment.captured_minor else ended)
        )
    parent = _get(payment, operation.parent_id)
    if not parent.unfinished:
        return payment
    operations = _with(
        payment,
        parent.id,
        status=OperationStatus.DECLINED,
        category=DeclineCategory.HARD,
        code=ended,
        concluded_version=event.version,
        next_action=None,
    )
    return replace(payment, operations=operations, ended=ended)


def _declined(payment: Payment, data: ev.OperationDeclined, event: Event) -> Payment:
    operation = _get(payment, data.operation_id)
    changes: dict[str, Any] = {
        "status": OperationStatus.DECLINED,
        "category": data.category,
        "code": data.code,
        "message": data.message or None,
        "concluded_version": event.version,
        "next_action": None,
    }
    if data.reference:
        changes["reference"] = data.reference
    changed = replace(payment, operations=_with(payment, operation.id, **changes))
    if operation.kind is OperationKind.CONFIRM and operation.parent_id:
        return replace(changed, operations=_with(changed, operation.parent_id, **changes))
    return changed


def _not_sent(payment: Payment, data: ev.OperationNotSent, event: Event) -> Payment:
    operation = _get(payment, data.operation_id)
    operations = _with(
        payment,
        operation.id,
        status=OperationStatus.NOT_SENT,
        code=data.reason,
        concluded_version=event.version,
        next_action=None,
    )
    changed = replace(payment, operations=operations)
    if operation.kind is OperationKind.CONFIRM and operation.parent_id:
        # Nothing was confirmed: the payer's step can be completed again.
        return replace(
            changed, operations=_with(changed, operation.parent_id, status=OperationStatus.REQUIRES_ACTION)
        )
    return changed


def _undone(payment: Payment, data: ev.OperationUndone, event: Event) -> Payment:
    operation = _get(payment, data.operation_id)
    operations = _with(
        payment,
        operation.id,
        status=OperationStatus.DECLINED,
        category=DeclineCategory.INVALID,
        code=data.code,
        undone=True,
        concluded_version=event.version,
    )
    changed = replace(payment, operations=operations)
    if operation.kind is OperationKind.REFUND:
        return replace(changed, refunded_minor=payment.refunded_minor - data.amount_minor)
    # What the capture had released by being the last is reserved again, unless something else released it too.
    ended = any(
        op.status is OperationStatus.APPROVED
        and not op.compensates
        and (op.kind is OperationKind.VOID or (op.kind is OperationKind.CAPTURE and op.final))
        for op in operations
    )
    return replace(
        changed,
        captured_minor=payment.captured_minor - data.amount_minor,
        released_minor=payment.released_minor if ended else 0,
    )


def _in_doubt(payment: Payment, data: ev.OperationInDoubt, event: Event) -> Payment:
    _get(payment, data.operation_id)
    return replace(
        payment,
        operations=_with(payment, data.operation_id, status=OperationStatus.IN_DOUBT, code=data.reason),
    )


def _requires_action(payment: Payment, data: ev.OperationRequiresAction, event: Event) -> Payment:
    operation = _get(payment, data.operation_id)
    changed = payment
    target = operation.id
    if operation.kind is OperationKind.CONFIRM and operation.parent_id:
        target = operation.parent_id
        operations = _with(
            payment,
            operation.id,
            status=OperationStatus.DECLINED,
            category=DeclineCategory.AUTHENTICATION_REQUIRED,
            code=ACTION_AGAIN,
            concluded_version=event.version,
        )
        changed = replace(payment, operations=operations)
    operations = _with(
        changed,
        target,
        status=OperationStatus.REQUIRES_ACTION,
        reference=data.reference,
        next_action=data.action,
        code=None,
    )
    return replace(changed, operations=operations)


def _pending(payment: Payment, data: ev.OperationPending, event: Event) -> Payment:
    operation = _get(payment, data.operation_id)
    changes: dict[str, Any] = {"status": OperationStatus.PENDING, "code": data.reason}
    if data.reference:
        changes["reference"] = data.reference
    return replace(payment, operations=_with(payment, operation.id, **changes))


def _action_completed(payment: Payment, data: ev.ActionCompleted, event: Event) -> Payment:
    return replace(payment, operations=_with(payment, data.operation_id, status=OperationStatus.CONFIRMING))


def _failed(payment: Payment, data: ev.PaymentFailed, event: Event) -> Payment:
    return replace(payment, failure=Failure(code=data.code, category=data.category, message=data.message))


def _review_requested(payment: Payment, data: ev.ReviewRequested, event: Event) -> Payment:
    return replace(payment, review=data.reason, review_until_evidence=data.until_evidence)


def _review_closed(payment: Payment, data: ev.ReviewClosed, event: Event) -> Payment:
    return replace(payment, review=None, review_until_evidence=False)


def _late_success(payment: Payment, data: ev.LateSuccessFound, event: Event) -> Payment:
    _get(payment, data.operation_id)
    operations = _with(
        payment,
        data.operation_id,
        status=OperationStatus.UNWANTED,
        reference=data.reference,
        taken_minor=data.amount_minor,
    )
    return replace(payment, operations=operations)


def _dispute_opened(payment: Payment, data: ev.DisputeOpened, event: Event) -> Payment:
    return replace(payment, disputes_open=(*payment.disputes_open, data.reference))


def _dispute_closed(payment: Payment, data: ev.DisputeClosed, event: Event) -> Payment:
    still_open = tuple(one for one in payment.disputes_open if one != data.reference)
    closed = tuple(one for one in payment.disputes_closed if one != data.reference)
    lost = payment.disputes_lost
    if data.amount_minor is not None:
        lost = {**lost, data.reference: data.amount_minor}
    return replace(
        payment,
        disputes_open=still_open,
        disputes_closed=(*closed, data.reference),
        disputes_lost=lost,
    )


_HANDLERS: dict[type, Callable[[Payment, Any, Event], Payment]] = {
    ev.OperationStarted: _started,
    ev.OperationApproved: _approved,
    ev.OperationDeclined: _declined,
    ev.OperationNotSent: _not_sent,
    ev.OperationUndone: _undone,
    ev.OperationInDoubt: _in_doubt,
    ev.OperationRequiresAction: _requires_action,
    ev.OperationPending: _pending,
    ev.ActionCompleted: _action_completed,
    ev.PaymentFailed: _failed,
    ev.ReviewRequested: _review_requested,
    ev.ReviewClosed: _review_closed,
    ev.LateSuccessFound: _late_success,
    ev.DisputeOpened: _dispute_opened,
    ev.DisputeClosed: _dispute_closed,
}
