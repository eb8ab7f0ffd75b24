"""`decide(payment, command) -> events`: which facts follow from a command, or why it is refused. Pure.

The rules that keep money right stand here: no second attempt while one is in doubt (I2), captures within the
authorised amount and refunds within the captured one, those under way included (I9), final states left only by listed edges (I12).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aegispay.domain import commands as cmd
from aegispay.domain import events as ev
from aegispay.domain.errors import (
    AmountTooLarge,
    InvalidAmount,
    InvalidRequest,
    InvalidState,
    OperationInDoubt,
)
from aegispay.domain.events import CaptureMode, EventData, OperationKind
from aegispay.domain.money import AMOUNT_MINOR_MAX, Currency, Money
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
from aegispay.domain.states import PAID, PaymentState

OPERATIONS_MAX = 250
"""No payment has more operations than this."""
ATTEMPTS_MAX = 10

Events = tuple[EventData, ...]
_NO_EFFECT = frozenset({OperationStatus.DECLINED, OperationStatus.NOT_SENT})


def decide(payment: Payment | None, command: cmd.Command) -> Events:
    """The events that follow from the command; an empty tuple where nothing new was learnt.

    Raises a subclass of `InvalidRequest` or `InvalidState` for a command that the payment does not allow.
    """
    if isinstance(command, cmd.Initiate):
        if payment is not None:
            raise InvalidState(f"{payment.id} was initiated before.")
        return _initiate(command)
    if payment is None:
        raise InvalidState("the payment was not initiated.")
    return _DECIDERS[type(command)](payment, command)


def gateway_key(operation_id: str) -> str:
    """The idempotency key that an operation is sent under: a function of its id, so stable for ever.

    35 characters of `[a-z0-9_]`, within every PSP's limits (Adyen takes 64, Razorpay receipts 40).
    """
    return operation_id


def _initiate(command: cmd.Initiate) -> Events:
    currency = Currency.of(command.currency)
    if not 0 < command.amount_minor <= AMOUNT_MINOR_MAX:
        raise InvalidAmount(
            f"a payment's amount is 1 to {AMOUNT_MINOR_MAX} minor units, not {command.amount_minor}."
        )
    if not command.candidates:
        raise InvalidRequest("no gateway can take this payment.")
    return (
        ev.PaymentInitiated(
            merchant_id=command.merchant_id,
            amount_minor=command.amount_minor,
            currency=currency.code,
            capture=command.capture,
            method=command.method,
            candidates=command.candidates,
            request_hash=command.request_hash,
            customer_id=command.customer_id,
            description=command.description,
            return_url=command.return_url,
            metadata=command.metadata,
        ),
    )


def _room(payment: Payment) -> None:
    if len(payment.operations) >= OPERATIONS_MAX:
        raise InvalidState(f"{payment.id} has {OPERATIONS_MAX} operations, the most that a payment may have.")


def _start_attempt(payment: Payment, command: cmd.StartAttempt) -> Events:
    attempts = [op for op in payment.operations if op.attempt]
    for operation in payment.operations:
        if operation.unfinished:
            raise OperationInDoubt(
                f"{operation.kind} {operation.id} at {operation.gateway} is {operation.status}; nothing goes to a second gateway."
            )
    if payment.state not in (PaymentState.INITIATED, PaymentState.PROCESSING):
        raise InvalidState(f"{payment.id} is {payment.state}; no attempt can start.")
    if attempts and not may_try_next(attempts[-1]):
        raise InvalidState(f"the last attempt of {payment.id} ended for good.")
    if len(attempts) >= ATTEMPTS_MAX:
        raise InvalidState(f"{payment.id} has had {ATTEMPTS_MAX} attempts.")
    return (
        ev.OperationStarted(
            operation_id=command.operation_id,
            kind=OperationKind.CHARGE
            if payment.capture is CaptureMode.AUTOMATIC
            else OperationKind.AUTHORIZE,
            gateway=command.gateway,
            amount_minor=payment.amount_minor,
            gateway_key=gateway_key(command.operation_id),
            attempt=len(attempts) + 1,
            token=command.token,
        ),
    )


def may_try_next(operation: Operation) -> bool:
    """Whether an ended attempt lets another gateway be tried: it had no effect, and the no was a soft one."""
    if operation.status is OperationStatus.NOT_SENT:
        return True
    return operation.status is OperationStatus.DECLINED and operation.category is DeclineCategory.SOFT


# --- outcomes -----------------------------------------------------------------------------------------------


def _record(payment: Payment, command: cmd.RecordOutcome) -> Events:
    operation = payment.operation(command.operation_id)
    if operation is None:
        raise InvalidState(f"{payment.id} has no operation {command.operation_id}.")
    if not operation.unfinished:
        return _record_late(payment, operation, command)
    outcome = command.outcome
    events: list[EventData]
    if isinstance(outcome, Approved):
        events = _approve(payment, operation, outcome, command.evidence)
    elif isinstance(outcome, Declined | NotSent):
        events = _without_effect(payment, operation, outcome, command)
    elif isinstance(outcome, InDoubt):
        if operation.status is not OperationStatus.STARTED:
            return ()
        return (ev.OperationInDoubt(operation_id=operation.id, reason=outcome.reason),)
    elif isinstance(outcome, RequiresAction):
        return _action_required(operation, outcome)
    else:
        return _still_pending(operation, outcome)
    if (
        payment.review is not None
        and not any(
            op.unfinished and op.id not in (operation.id, operation.parent_id) for op in payment.operations
        )
        and not any(isinstance(one, ev.ReviewRequested) for one in events)
    ):
        events.append(ev.ReviewClosed(reason=f"evidence: {command.evidence}"))
    return tuple(events)


def _approve(
    payment: Payment, operation: Operation, outcome: Approved, evidence: Evidence
) -> list[EventData]:
    if operation.attempt and payment.winner is not None:
        return [_late(operation, outcome, evidence)]
    if outcome.amount_minor <= 0 and operation.kind is not OperationKind.VOID:
        return (
            [ev.ReviewRequested(reason="approved_without_amount", operation_id=operation.id)]
            if not payment.review
            else []
        )
    events: list[EventData] = [
        ev.OperationApproved(
            operation_id=operation.id,
            amount_minor=outcome.amount_minor,
            reference=outcome.reference,
            expires_at_us=outcome.expires_at_us,
            evidence=evidence,
        )
    ]
    expected = operation.amount_minor
    if (
        operation.kind is not OperationKind.VOID
        and outcome.amount_minor != expected
        and payment.review is None
    ):
        events.append(
            ev.ReviewRequested(
                reason=f"amount_differs: asked for {expected}, the gateway took {outcome.amount_minor}",
                operation_id=operation.id,
            )
        )
    return events


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
        if payment.review is None:
            events.append(
                ev.ReviewRequested(reason=f"reversal_refused: {code}", operation_id=operation.parent_id)
            )
        return events
    confirmed_no = operation.kind is OperationKind.CONFIRM and isinstance(outcome, Declined)
    if not operation.attempt and not confirmed_no:
        return events
    if command.will_try_next and operation.attempt and category is DeclineCategory.SOFT:
        return events
    events.append(ev.PaymentFailed(code=code, category=category, message=message))
    return events


def _action_required(operation: Operation, outcome: RequiresAction) -> Events:
    if operation.status is OperationStatus.REQUIRES_ACTION and operation.next_action == outcome.action:
        return ()
    if operation.kind not in FIRST_KINDS and operation.kind is not OperationKind.CONFIRM:
        return (ev.OperationInDoubt(operation_id=operation.id, reason="unexpected_action"),)
    return (
        ev.OperationRequiresAction(
            operation_id=operation.id, reference=outcome.reference, action=outcome.action
        ),
    )


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


def _late(operation: Operation, outcome: Approved, evidence: Evidence) -> EventData:
    return ev.LateSuccessFound(
        operation_id=operation.id,
        amount_minor=outcome.amount_minor,
        reference=outcome.reference,
        evidence=evidence,
    )


def _record_late(payment: Payment, operation: Operation, command: cmd.RecordOutcome) -> Events:
    """Evidence about an operation that had ended: the same again, a late success, or a contradiction."""
    outcome = command.outcome
    if isinstance(outcome, Approved) and operation.status in _NO_EFFECT:
        if operation.attempt:
            return (_late(operation, outcome, command.evidence),)
        if operation.kind is OperationKind.CONFIRM or operation.compensates:
            return ()
        # A capture, void or refund that did happen: our books follow the gateway's.
        return tuple(_approve(payment, operation, outcome, command.evidence))
    contradicts = isinstance(outcome, Declined) and operation.status is OperationStatus.APPROVED
    if contradicts and payment.review is None:
        return (ev.ReviewRequested(reason="declined_after_approval", operation_id=operation.id),)
    return ()


# --- what the merchant asks for -----------------------------------------------------------------------------


def _start_confirm(payment: Payment, command: cmd.StartConfirm) -> Events:
    _room(payment)
    parent = payment.first_operation
    if payment.state is not PaymentState.REQUIRES_ACTION or parent is None:
        raise InvalidState(f"{payment.id} is {payment.state}; it waits for no action.")
    if any(op.unfinished and op.kind is OperationKind.VOID for op in payment.operations):
        raise OperationInDoubt(f"{payment.id} is being canceled.")
    return (
        ev.ActionCompleted(operation_id=parent.id),
        ev.OperationStarted(
            operation_id=command.operation_id,
            kind=OperationKind.CONFIRM,
            gateway=parent.gateway,
            amount_minor=parent.amount_minor,
            gateway_key=gateway_key(command.operation_id),
            parent_id=parent.id,
            action_data=command.action_data,
        ),
    )


def _winner(payment: Payment, what: str) -> Operation:
    winner = payment.winner
    if winner is None or payment.state in (PaymentState.DISPUTED, PaymentState.NEEDS_REVIEW):
        raise InvalidState(f"{payment.id} is {payment.state}; it cannot be {what}.")
    return winner


def _amount(payment: Payment, wanted: int | None, left: int, reserved: int, what: str) -> int:
    amount = left if wanted is None else wanted
    if type(amount) is not int or (wanted is not None and amount <= 0):
        raise InvalidAmount(f"an amount to {what} is at least 1 minor unit, not {wanted!r}.")
    if amount > left or amount <= 0:
        shown = Money(left, payment.currency).format() if left >= 0 else "nothing"
        held = (
            f" ({Money(reserved, payment.currency).format()} is held by operations under way)"
            if reserved
            else ""
        )
        raise AmountTooLarge(
            f"cannot {what} {Money(amount, payment.currency).format()} of {payment.id}: {shown} is left{held}."
        )
    return amount


def _start_capture(payment: Payment, command: cmd.StartCapture) -> Events:
    _room(payment)
    winner = _winner(payment, "captured")
    if payment.state is not PaymentState.AUTHORIZED:
        raise InvalidState(f"{payment.id} is {payment.state}; it cannot be captured.")
    for op in payment.operations:
        if op.unfinished and (
            op.kind is OperationKind.VOID or (op.kind is OperationKind.CAPTURE and op.final)
        ):
            raise OperationInDoubt(
                f"{op.kind} {op.id} is {op.status}; nothing more can be captured until it ends."
            )
    reserved = payment.reserved(OperationKind.CAPTURE)
    amount = _amount(payment, command.amount_minor, payment.capturable_minor, reserved, "capture")
    if command.final and reserved:
        raise OperationInDoubt(f"a capture of {payment.id} is under way; the final one waits for it.")
    return (
        ev.OperationStarted(
            operation_id=command.operation_id,
            kind=OperationKind.CAPTURE,
            gateway=winner.gateway,
            amount_minor=amount,
            gateway_key=gateway_key(command.operation_id),
            parent_id=winner.id,
            final=command.final or amount == payment.capturable_minor,
        ),
    )


def _start_void(payment: Payment, command: cmd.StartVoid) -> Events:
    _room(payment)
    if payment.state is PaymentState.REQUIRES_ACTION:
        parent = payment.first_operation
    else:
        parent = _winner(payment, "voided")
        if payment.state is not PaymentState.AUTHORIZED:
            hint = "Refund it instead." if payment.state in PAID else None
            raise InvalidState(f"{payment.id} is {payment.state}; it cannot be voided.", hint=hint)
    for op in payment.operations:
        if op.unfinished and op.kind in (OperationKind.VOID, OperationKind.CAPTURE, OperationKind.CONFIRM):
            raise OperationInDoubt(f"{op.kind} {op.id} is {op.status}; a void waits until it ends.")
    if parent is None:
        raise InvalidState(f"{payment.id} has no attempt to void.")
    return (
        ev.OperationStarted(
            operation_id=command.operation_id,
            kind=OperationKind.VOID,
            gateway=parent.gateway,
            amount_minor=payment.capturable_minor or payment.amount_minor,
            gateway_key=gateway_key(command.operation_id),
            parent_id=parent.id,
            reason=command.reason,
        ),
    )


def _start_refund(payment: Payment, command: cmd.StartRefund) -> Events:
    _room(payment)
    winner = _winner(payment, "refunded")
    if not payment.captured_minor:
        raise InvalidState(f"{payment.id} is {payment.state}; nothing was captured.", hint="Void it instead.")
    reserved = payment.reserved(OperationKind.REFUND)
    amount = _amount(payment, command.amount_minor, payment.refundable_minor, reserved, "refund")
    return (
        ev.OperationStarted(
            operation_id=command.operation_id,
            kind=OperationKind.REFUND,
            gateway=winner.gateway,
            amount_minor=amount,
            gateway_key=gateway_key(command.operation_id),
            parent_id=winner.id,
            reason=command.reason,
        ),
    )


def _start_reversal(payment: Payment, command: cmd.StartReversal) -> Events:
    target = payment.operation(command.target_id)
    if target is None or target.status is not OperationStatus.UNWANTED:
        raise InvalidState(f"{command.target_id} of {payment.id} is not an unwanted success.")
    if any(op.unfinished and op.compensates and op.parent_id == target.id for op in payment.operations):
        raise OperationInDoubt(f"{target.id} is being reversed.")
    return (
        ev.OperationStarted(
            operation_id=command.operation_id,
            kind=OperationKind.REFUND if target.kind is OperationKind.CHARGE else OperationKind.VOID,
            gateway=target.gateway,
            amount_minor=target.amount_minor,
            gateway_key=gateway_key(command.operation_id),
            parent_id=target.id,
            reason="late_success",
            compensates=True,
        ),
    )


def _request_review(payment: Payment, command: cmd.RequestReview) -> Events:
    if payment.review is not None:
        return ()
    return (ev.ReviewRequested(reason=command.reason, operation_id=command.operation_id),)


def _close_review(payment: Payment, command: cmd.CloseReview) -> Events:
    if payment.review is None:
        return ()
    return (ev.ReviewClosed(reason=command.reason),)


def _open_dispute(payment: Payment, command: cmd.OpenDispute) -> Events:
    if command.reference in payment.disputes_open:
        return ()
    if not payment.captured_minor:
        raise InvalidState(f"{payment.id} has no captured amount to dispute.")
    return (
        ev.DisputeOpened(
            reference=command.reference, amount_minor=command.amount_minor, reason=command.reason
        ),
    )


def _close_dispute(payment: Payment, command: cmd.CloseDispute) -> Events:
    if command.reference not in payment.disputes_open:
        return ()
    return (ev.DisputeClosed(reference=command.reference, won=command.won),)


_DECIDERS: dict[type, Callable[[Payment, Any], Events]] = {
    cmd.StartAttempt: _start_attempt,
    cmd.RecordOutcome: _record,
    cmd.StartConfirm: _start_confirm,
    cmd.StartCapture: _start_capture,
    cmd.StartVoid: _start_void,
    cmd.StartRefund: _start_refund,
    cmd.StartReversal: _start_reversal,
    cmd.RequestReview: _request_review,
    cmd.CloseReview: _close_review,
    cmd.OpenDispute: _open_dispute,
    cmd.CloseDispute: _close_dispute,
}


def stranded(payment: Payment) -> bool:
    """Whether the payment waits for something that nobody is doing. Such a payment must never be committed."""
    waits = payment.state in (
        PaymentState.INITIATED,
        PaymentState.AUTHENTICATED,
        PaymentState.PROCESSING,
        PaymentState.IN_DOUBT,
        PaymentState.REQUIRES_ACTION,
    )
    if waits:
        return not any(op.unfinished for op in payment.operations)
    return (
        any(op.status is OperationStatus.UNWANTED for op in payment.operations)
        and not any(op.unfinished and op.compensates for op in payment.operations)
        and payment.review is None
    )
