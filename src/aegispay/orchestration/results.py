"""What a caller gets: a success, a failure, an action for the payer, or pending. Doubt is pending, never a failure."""

from __future__ import annotations

from typing import Any

import msgspec

from aegispay.domain.errors import AegisPayError
from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import DeclineCategory, NextAction
from aegispay.domain.payer_messages import payer_message
from aegispay.domain.payment import Operation, OperationStatus, Payment
from aegispay.domain.states import PAID, PaymentState
from aegispay.orchestration.settings import AFTER_DOUBT

_encode = msgspec.json.Encoder(order="deterministic").encode
_GOOD = PAID | {PaymentState.AUTHORIZED, PaymentState.DISPUTED}
_BAD = frozenset({PaymentState.FAILED, PaymentState.CANCELED, PaymentState.EXPIRED})


class ResultError(msgspec.Struct, frozen=True, kw_only=True):
    """Why there is no success (yet)."""

    code: str
    """Our unified code: `insufficient_funds`, `gateway_unavailable`, `in_doubt`, `in_progress`, ..."""
    message: str
    """For the merchant, not for the payer."""
    category: DeclineCategory | None = None
    retryable: bool = False
    """Whether the same request under a new idempotency key may be worth trying."""

    @property
    def payer_message(self) -> str:
        """A sentence that may be shown to the payer. No part of `to_dict`: its wording may change with a release."""
        return payer_message(self.code, self.category)


class Result:
    """The answer to one request. `match` on its subclass, or ask `is_success()` and its kin."""

    __slots__ = ("operation", "payment")

    status = "pending"

    def __init__(self, payment: Payment, operation: Operation | None = None):
        self.payment = payment
        self.operation = operation

    def is_success(self) -> bool:
        return isinstance(self, Success)

    def is_failure(self) -> bool:
        return isinstance(self, Failed)

    def is_pending(self) -> bool:
        """Not known yet: accepted, under way, or in doubt. Ask again with the same key, or `get`."""
        return isinstance(self, Pending)

    def requires_action(self) -> bool:
        return isinstance(self, ActionRequired)

    @property
    def value(self) -> Payment:
        return self.payment

    @property
    def payment_id(self) -> str:
        return self.payment.id

    @property
    def error(self) -> ResultError | None:
        return None

    @property
    def next_action(self) -> NextAction | None:
        return None

    def to_dict(self) -> dict[str, Any]:
        """The answer as plain data. A replay under the same idempotency key gives the same."""
        payment = self.payment
        found: dict[str, Any] = {
            "status": self.status,
            "payment_id": payment.id,
            "state": payment.state,
            "version": payment.version,
            "amount_minor": payment.amount_minor,
            "currency": payment.currency,
            "authorized_minor": payment.authorized_minor,
            "captured_minor": payment.captured_minor,
            "refunded_minor": payment.refunded_minor,
            "released_minor": payment.released_minor,
            "lost_minor": payment.lost_minor,
            "gateway": payment.gateway,
            "gateway_reference": payment.gateway_reference,
            "attempts": sum(1 for op in payment.operations if op.attempt),
        }
        if self.operation is not None:
            found["operation_id"] = self.operation.id
            found["operation"] = self.operation.kind
            found["operation_amount_minor"] = self.operation.amount_minor
        if self.error is not None:
            found["error"] = msgspec.to_builtins(self.error)
        action = self.next_action
        if action is not None:
            # Field by field: a stored event leaves the usual values out, but who reads an answer asks for each.
            found["next_action"] = {"type": action.type, "url": action.url, "data": dict(action.data)}
        return found

    def to_json(self) -> bytes:
        return _encode(self.to_dict())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Result) and type(other) is type(self) and other.to_json() == self.to_json()

    def __hash__(self) -> int:
        return hash((self.payment.id, self.payment.version, self.status))

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.payment.id} {self.payment.state} {self.payment.amount.format()}>"
        )


class Success(Result):
    """What was asked for is done at the gateway and recorded."""

    __slots__ = ()
    status = "success"


class Failed(Result):
    """A definitive no: nothing was taken."""

    __slots__ = ("_error",)
    status = "failure"

    def __init__(self, payment: Payment, operation: Operation | None, error: ResultError):
        super().__init__(payment, operation)
        self._error = error

    @property
    def error(self) -> ResultError:
        return self._error


class ActionRequired(Result):
    """The payer must act: send them to `next_action.url`, then call `complete_action`."""

    __slots__ = ()
    status = "requires_action"

    @property
    def next_action(self) -> NextAction | None:
        return self.payment.next_action


class Pending(Result):
    """Not known yet. Never treat this as a failure: the payer may have been charged."""

    __slots__ = ("_error",)
    status = "pending"

    def __init__(self, payment: Payment, operation: Operation | None, error: ResultError):
        super().__init__(payment, operation)
        self._error = error

    @property
    def error(self) -> ResultError:
        """Why it is pending: `in_progress`, `in_doubt`, `processing` or `needs_review`."""
        return self._error


_PENDING_MESSAGES = {
    "in_doubt": "The gateway gave no clear answer; it is being found out. Nobody else was asked.",
    "processing": "The gateway accepted it and will answer later.",
    "needs_review": "A person must look at this payment.",
    "in_progress": "The request is still under way.",
}


def pending(payment: Payment, operation: Operation | None, code: str) -> Pending:
    return Pending(payment, operation, ResultError(code=code, message=_PENDING_MESSAGES[code]))


def given_back(payment: Payment) -> Operation | None:
    """The refund or void that the merchant's policy started for a success that had been in doubt."""
    for operation in payment.operations:
        if operation.reason == AFTER_DOUBT:
            return operation
    return None


def payment_result(payment: Payment, operation: Operation | None = None) -> Result:
    """The answer to a charge, authorize or completed action, from the payment's state."""
    state = payment.state
    shown = operation or payment.winner or payment.first_operation
    back = given_back(payment)
    if back is not None:
        # Nobody may ship on a success whose money goes back.
        if back.status is OperationStatus.APPROVED:
            message = "It succeeded after its outcome had been in doubt, and was given back."
            return Failed(payment, shown, ResultError(code="reversed_after_doubt", message=message))
        return pending(payment, shown, "needs_review" if state is PaymentState.NEEDS_REVIEW else "in_doubt")
    if state in _GOOD:
        return Success(payment, shown)
    if state in _BAD:
        failure = payment.failure
        if failure is None:
            return Failed(payment, shown, ResultError(code=str(state), message=f"The payment is {state}."))
        soft = failure.category is DeclineCategory.SOFT
        error = ResultError(
            code=failure.code, message=failure.message, category=failure.category, retryable=soft
        )
        return Failed(payment, shown, error)
    if state is PaymentState.REQUIRES_ACTION:
        return ActionRequired(payment, shown)
    if state is PaymentState.NEEDS_REVIEW:
        return pending(payment, shown, "needs_review")
    if state is PaymentState.IN_DOUBT:
        return pending(payment, shown, "in_doubt")
    waiting = shown is not None and shown.status is OperationStatus.PENDING
    return pending(payment, shown, "processing" if waiting else "in_progress")


def operation_result(payment: Payment, operation: Operation) -> Result:
    """The answer to a capture, void, refund or completed action."""
    if operation.kind is OperationKind.CONFIRM:
        return payment_result(payment, operation)
    status = operation.status
    if status is OperationStatus.APPROVED:
        return Success(payment, operation)
    if status in (OperationStatus.DECLINED, OperationStatus.NOT_SENT):
        not_sent = status is OperationStatus.NOT_SENT
        error = ResultError(
            code="gateway_unavailable" if not_sent else operation.code or "declined",
            message=operation.message
            or (f"not sent: {operation.code}" if not_sent else "The gateway refused it."),
            category=operation.category,
            retryable=not_sent or operation.category is DeclineCategory.SOFT,
        )
        return Failed(payment, operation, error)
    if payment.state is PaymentState.NEEDS_REVIEW:
        return pending(payment, operation, "needs_review")
    code = {OperationStatus.IN_DOUBT: "in_doubt", OperationStatus.PENDING: "processing"}.get(
        status, "in_progress"
    )
    return pending(payment, operation, code)


class InProgress(AegisPayError):
    """The request is still under way; ask again with the same idempotency key."""

    code = "in_progress"
    retryable = True
    effect = "unknown"
