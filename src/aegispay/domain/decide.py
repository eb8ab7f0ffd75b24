"""`decide(payment, command) -> events`: which facts follow from a command, or why it is refused. Pure.

The rules that keep money right stand here and in `record.py`: no second attempt while one is in doubt (I2),
captures within the authorised amount and refunds within the captured one, those under way included (I9),
final states left only by listed edges (I12).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from msgspec.structs import replace

from aegispay.domain import commands as cmd
from aegispay.domain import events as ev
from aegispay.domain.disputes import DISPUTES_MAX, close_dispute, open_dispute
from aegispay.domain.errors import (
    AmountTooLarge,
    InvalidAmount,
    InvalidRequest,
    InvalidState,
    OperationInDoubt,
)
from aegispay.domain.events import CaptureMode, OperationKind
from aegispay.domain.external import external_capture, external_refund, external_void
from aegispay.domain.money import AMOUNT_MINOR_MAX, Currency, Money
from aegispay.domain.outcomes import Evidence
from aegispay.domain.payment import Operation, OperationStatus, Payment, state_of
from aegispay.domain.record import (
    ATTEMPTS_MAX,
    OPERATIONS_MAX,
    REVERSAL_REFUSED,
    Events,
    ask_person,
    may_try_next,
    next_may_start,
    stranded,
    undo,
    unreversed,
)
from aegispay.domain.starting import capture_to_refund, fresh, gateway_key, room
from aegispay.domain.states import PAID, PaymentState
from aegispay.domain.word import record_outcome

__all__ = [
    "ATTEMPTS_MAX",
    "DISPUTES_MAX",
    "OPERATIONS_MAX",
    "Events",
    "decide",
    "gateway_key",
    "may_try_next",
    "next_may_start",
    "stranded",
]

VOIDS_KEPT = 20
"""So many voids more may a payment have that has all the operations it may: what is held can always be released."""
BY_HAND = "reversed_by_hand"
"""The reason of a reversal that a person made at the gateway."""
REVERSALS_MAX = 10
"""How often the reversal of one unwanted success is tried; after that a person must do it."""


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


def _initiate(command: cmd.Initiate) -> Events:
    currency = Currency.of(command.currency)
    amount = command.amount_minor
    if type(amount) is not int or not 0 < amount <= AMOUNT_MINOR_MAX:
        raise InvalidAmount(f"a payment's amount is an integer from 1 to {AMOUNT_MINOR_MAX} minor units.")
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


def _start_attempt(payment: Payment, command: cmd.StartAttempt) -> Events:
    room(payment, command.operation_id)
    attempts = [op for op in payment.operations if op.attempt]
    for operation in payment.operations:
        if operation.unfinished:
            raise OperationInDoubt(
                f"{operation.kind} {operation.id} at {operation.gateway} is {operation.status}; "
                "nothing goes to a second gateway."
            )
    if payment.state not in (PaymentState.INITIATED, PaymentState.PROCESSING):
        raise InvalidState(f"{payment.id} is {payment.state}; no attempt can start.")
    if command.gateway not in payment.candidates:
        raise InvalidRequest(f"{command.gateway!r} is not among the gateways chosen for {payment.id}.")
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


# --- what the merchant asks for -----------------------------------------------------------------------------


def _start_confirm(payment: Payment, command: cmd.StartConfirm) -> Events:
    room(payment, command.operation_id)
    parent = payment.first_operation
    if payment.state is not PaymentState.REQUIRES_ACTION or parent is None:
        raise InvalidState(f"{payment.id} is {payment.state}; it waits for no action.")
    if _under_way(payment, OperationKind.VOID):
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


def _under_way(payment: Payment, *kinds: OperationKind) -> Operation | None:
    """An unfinished operation of one of these kinds. Reversals of a late success concern another attempt."""
    for operation in payment.operations:
        if operation.unfinished and operation.kind in kinds and not operation.compensates:
            return operation
    return None


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
        shown = f"{Money(left, payment.currency).format()} is left" if left > 0 else "nothing is left"
        held = f" ({Money(reserved, payment.currency).format()} is held by operations under way)"
        wish = "any more" if wanted is None else Money(amount, payment.currency).format()
        raise AmountTooLarge(f"cannot {what} {wish} of {payment.id}: {shown}{held if reserved else ''}.")
    return amount


def _start_capture(payment: Payment, command: cmd.StartCapture) -> Events:
    room(payment, command.operation_id)
    winner = _winner(payment, "captured")
    if payment.state is not PaymentState.AUTHORIZED:
        raise InvalidState(f"{payment.id} is {payment.state}; it cannot be captured.")
    blocker = _under_way(payment, OperationKind.VOID, OperationKind.CAPTURE)
    if blocker is not None and (blocker.kind is OperationKind.VOID or blocker.final or command.final):
        raise OperationInDoubt(
            f"{blocker.kind} {blocker.id} is {blocker.status}; this capture of {payment.id} waits for it."
        )
    reserved = payment.reserved(OperationKind.CAPTURE)
    amount = _amount(payment, command.amount_minor, payment.capturable_minor, reserved, "capture")
    return (
        ev.OperationStarted(
            operation_id=command.operation_id,
            kind=OperationKind.CAPTURE,
            gateway=winner.gateway,
            amount_minor=amount,
            gateway_key=gateway_key(command.operation_id),
            parent_id=winner.id,
            # While another capture is under way this one is not the last: that one may yet be declined.
            final=command.final or (amount == payment.capturable_minor and not reserved),
        ),
    )


def _start_void(payment: Payment, command: cmd.StartVoid) -> Events:
    if command.reason == "expired":
        fresh(payment, command.operation_id)  # What lapsed is released, whatever was asked before.
    else:
        room(payment, command.operation_id, VOIDS_KEPT)
    if payment.state is PaymentState.REQUIRES_ACTION:
        parent = payment.first_operation
    else:
        parent = _winner(payment, "voided")
        if payment.state is not PaymentState.AUTHORIZED:
            hint = "Refund it instead." if payment.state in PAID else None
            raise InvalidState(f"{payment.id} is {payment.state}; it cannot be voided.", hint=hint)
    blocker = _under_way(payment, OperationKind.VOID, OperationKind.CAPTURE, OperationKind.CONFIRM)
    if blocker is not None:
        raise OperationInDoubt(
            f"{blocker.kind} {blocker.id} is {blocker.status}; a void waits until it ends."
        )
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
    room(payment, command.operation_id)
    winner = _winner(payment, "refunded")
    if not payment.captured_minor:
        raise InvalidState(f"{payment.id} is {payment.state}; nothing was captured.", hint="Void it instead.")
    void = _under_way(payment, OperationKind.VOID)
    if void is not None and winner.kind is OperationKind.CHARGE:
        # The charge went through while it was being canceled: the void may still give the money back.
        raise OperationInDoubt(f"{void.kind} {void.id} is {void.status}; a refund waits until it ends.")
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
            capture_id=capture_to_refund(payment, amount),
        ),
    )


def _start_reversal(payment: Payment, command: cmd.StartReversal) -> Events:
    fresh(payment, command.operation_id)
    target = _unwanted(payment, command.target_id)
    reversals = [op for op in payment.operations if op.compensates and op.parent_id == target.id]
    if any(op.unfinished for op in reversals):
        raise OperationInDoubt(f"{target.id} is being reversed.")
    if len(reversals) >= REVERSALS_MAX:
        raise InvalidState(
            f"{REVERSALS_MAX} reversals of {target.id} were refused; reverse it at the gateway."
        )
    return (_reversal(target, command.operation_id, "late_success"),)


def _unwanted(payment: Payment, target_id: str) -> Operation:
    target = payment.operation(target_id)
    if target is None or target.status is not OperationStatus.UNWANTED:
        raise InvalidState(f"{target_id} of {payment.id} is not an unwanted success.")
    return target


def _reversal(target: Operation, operation_id: str, reason: str) -> ev.OperationStarted:
    return ev.OperationStarted(
        operation_id=operation_id,
        kind=OperationKind.REFUND if target.kind is OperationKind.CHARGE else OperationKind.VOID,
        gateway=target.gateway,
        amount_minor=target.taken_minor,
        gateway_key=gateway_key(operation_id),
        parent_id=target.id,
        reason=reason,
        compensates=True,
    )


def _record_reversed(payment: Payment, command: cmd.RecordReversed) -> Events:
    """The person's word counts for the reversal that is under way, else for one of its own."""
    target = _unwanted(payment, command.target_id)
    if payment.review is None:
        raise InvalidState(f"{payment.id} is in no review; nobody was asked to reverse {target.id}.")
    for reversal in payment.operations:
        if reversal.unfinished and reversal.compensates and reversal.parent_id == target.id:
            return (_reversed_by_hand(reversal.id, target),)
    fresh(payment, command.operation_id)
    return (
        _reversal(target, command.operation_id, BY_HAND),
        _reversed_by_hand(command.operation_id, target),
    )


def _reversed_by_hand(operation_id: str, target: Operation) -> ev.OperationApproved:
    return ev.OperationApproved(
        operation_id=operation_id, amount_minor=target.taken_minor, reference="", evidence=Evidence.PERSON
    )


def _request_review(payment: Payment, command: cmd.RequestReview) -> Events:
    operation = payment.operation(command.operation_id) if command.operation_id else None
    if command.operation_id and operation is None:
        raise InvalidState(f"{payment.id} has no operation {command.operation_id}.")
    if payment.state is PaymentState.INITIATED:
        raise InvalidState(f"{payment.id} is {payment.state}; nothing was started that could be reviewed.")
    until_evidence = operation is not None and operation.unfinished
    return tuple(ask_person(payment, command.reason, command.operation_id, until_evidence))


def _close_review(payment: Payment, command: cmd.CloseReview) -> Events:
    if payment.review is None:
        return ()
    owed = unreversed(payment)
    if owed:
        raise InvalidState(
            f"an unwanted success of {payment.id} must be reversed first: {_listed(payment, owed)}.",
            hint="Give it back at the gateway, and close the review as reversed by hand.",
        )
    if payment.review_until_evidence and not payment.review.startswith(REVERSAL_REFUSED):
        _check_known(payment, command.operation_id)
    reopened = replace(payment, review=None)
    if stranded(replace(reopened, state=state_of(reopened))):
        raise InvalidState(f"{payment.id} would wait for something that nobody does.")
    return (ev.ReviewClosed(reason=command.reason),)


def _check_known(payment: Payment, about: str | None) -> None:
    """Raises `OperationInDoubt` while it is not known what became of the operation that the review is about."""
    named = payment.operation(about) if about else None
    waiting = payment.unfinished
    if not waiting or (named is not None and not named.unfinished):
        return
    by_hand = any(op.compensates for op in waiting)
    raise OperationInDoubt(
        f"{payment.id} is in review until it is known what became of it: {_listed(payment, waiting)}.",
        hint="It is still tried; or give it back at the gateway, and close the review as reversed by hand."
        if by_hand
        else "What the gateway says closes the review by itself; `sync` asks it now. Whoever has seen there what "
        "became of it says so: close the review with no effect, or as gone through under the gateway's reference.",
    )


def _listed(payment: Payment, operations: Iterable[Operation]) -> str:
    """What a person must know of each: `refund op_1 of 5.00 USD at stripe is in_doubt`."""
    return ", ".join(
        f"{op.kind} {op.id} of {Money(op.taken_minor or op.amount_minor, payment.currency).format()}"
        f" at {op.gateway} is {op.status}"
        for op in operations
    )


_DECIDERS: dict[type, Callable[[Payment, Any], Events]] = {
    cmd.StartAttempt: _start_attempt,
    cmd.RecordOutcome: record_outcome,
    cmd.StartConfirm: _start_confirm,
    cmd.StartCapture: _start_capture,
    cmd.StartVoid: _start_void,
    cmd.StartRefund: _start_refund,
    cmd.StartReversal: _start_reversal,
    cmd.RecordExternalRefund: external_refund,
    cmd.RecordExternalVoid: external_void,
    cmd.RecordExternalCapture: external_capture,
    cmd.RecordUndone: undo,
    cmd.RequestReview: _request_review,
    cmd.RecordReversed: _record_reversed,
    cmd.CloseReview: _close_review,
    cmd.OpenDispute: open_dispute,
    cmd.CloseDispute: close_dispute,
}
