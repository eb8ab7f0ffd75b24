"""What every start of an operation shares: its key, its place among the others, the capture that a refund names. Pure."""

from __future__ import annotations

from aegispay.domain.errors import InvalidState
from aegispay.domain.events import OperationKind
from aegispay.domain.payment import OperationStatus, Payment
from aegispay.domain.record import OPERATIONS_MAX


def gateway_key(operation_id: str) -> str:
    """The idempotency key that an operation is sent under: a function of its id, so stable for ever.

    35 characters of `[a-z0-9_]`, within every PSP's limits (Adyen takes 64, Razorpay receipts 40).
    """
    return operation_id


def room(payment: Payment, operation_id: str, kept: int = 0) -> None:
    """Raises `InvalidState` where the payment has no room for one more operation; `kept` more than others may have."""
    fresh(payment, operation_id)
    most = OPERATIONS_MAX + kept
    if len(payment.operations) >= most:
        raise InvalidState(f"{payment.id} has {most} operations, the most that a payment may have.")


def fresh(payment: Payment, operation_id: str) -> None:
    if payment.operation(operation_id) is not None:
        raise InvalidState(f"{payment.id} has an operation {operation_id} already.")


def capture_to_refund(payment: Payment, amount_minor: int) -> str | None:
    """The oldest capture with so much left to give back; None where the payment was charged in one, or none alone covers it.

    Chosen here and recorded, so that a resend after a crash names the same capture.
    """
    given_back: dict[str | None, int] = {}
    for op in payment.operations:
        if op.kind is OperationKind.REFUND and (op.unfinished or op.status is OperationStatus.APPROVED):
            given_back[op.capture_id] = given_back.get(op.capture_id, 0) + op.amount_minor
    for op in payment.operations:
        taken = (
            op.amount_minor
            if op.kind is OperationKind.CAPTURE and op.status is OperationStatus.APPROVED
            else 0
        )
        if taken - given_back.get(op.id, 0) >= amount_minor:
            return op.id
    return None
