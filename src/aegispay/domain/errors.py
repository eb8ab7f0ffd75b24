"""Every error that AegisPay raises, with a stable `code`.

The docstring is the default message. `retryable` says whether the same request, sent again under the same
idempotency key, may succeed; `effect` says what is known of the gateway when the error is raised.
"""

from __future__ import annotations

from typing import ClassVar, Literal

Effect = Literal["none", "unknown", "done"]


class AegisPayError(Exception):
    """Something went wrong in AegisPay."""

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False
    effect: ClassVar[Effect] = "none"

    def __init__(self, message: str | None = None, *, payment_id: str | None = None, hint: str | None = None):
        self.message = message or (type(self).__doc__ or "error").strip().splitlines()[0]
        self.payment_id = payment_id
        self.hint = hint
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message

    def to_dict(self) -> dict[str, object]:
        """The error as plain data for an API answer or `--json`."""
        found: dict[str, object] = {
            "code": self.code,
            "message": self.message,
            "retryable": self.retryable,
            "effect": self.effect,
        }
        if self.hint:
            found["hint"] = self.hint
        if self.payment_id:
            found["payment_id"] = self.payment_id
        return found


# --- the request is wrong -----------------------------------------------------------------------------------


class InvalidRequest(AegisPayError):
    """The request is not valid."""

    code = "invalid_request"


class InvalidAmount(InvalidRequest):
    """The amount is not valid."""

    code = "invalid_amount"


class UnknownCurrency(InvalidRequest):
    """The currency is not in ISO 4217."""

    code = "unknown_currency"


class CurrencyMismatch(InvalidRequest):
    """Amounts in different currencies cannot be combined."""

    code = "currency_mismatch"


class InvalidPaymentMethod(InvalidRequest):
    """The payment method is not valid."""

    code = "invalid_payment_method"


class InvalidIdempotencyKey(InvalidRequest):
    """The idempotency key is not valid."""

    code = "invalid_idempotency_key"


class UnknownGateway(InvalidRequest):
    """No gateway of that name is registered."""

    code = "unknown_gateway"


class UnsupportedOperation(InvalidRequest):
    """The gateway cannot do this operation."""

    code = "unsupported_operation"


class IdempotencyConflict(AegisPayError):
    """The idempotency key was used before with a different request."""

    code = "idempotency_conflict"


class PaymentNotFound(AegisPayError):
    """There is no payment with that id."""

    code = "payment_not_found"


# --- the payment does not allow it --------------------------------------------------------------------------


class InvalidState(AegisPayError):
    """The payment's state does not allow this operation."""

    code = "invalid_state"


class OperationInDoubt(InvalidState):
    """An earlier operation on this payment is still in doubt."""

    code = "operation_in_doubt"
    retryable: ClassVar[bool] = True


class AmountTooLarge(InvalidState):
    """The amount exceeds what is left on the payment."""

    code = "amount_too_large"


class IllegalTransition(AegisPayError):
    """The state machine has no such edge."""

    code = "illegal_transition"


class RefusedByHook(AegisPayError):
    """A hook refused the payment before anything was sent."""

    code = "refused_by_hook"


# --- the store ----------------------------------------------------------------------------------------------


class StoreError(AegisPayError):
    """The store could not do what was asked."""

    code = "store_error"
    retryable: ClassVar[bool] = True
    effect: ClassVar[Effect] = "unknown"


class VersionConflict(StoreError):
    """The payment was changed by somebody else in the meantime."""

    code = "version_conflict"
    effect: ClassVar[Effect] = "none"


class StaleFence(StoreError):
    """The lease on this operation was taken over by another worker."""

    code = "stale_fence"
    effect: ClassVar[Effect] = "none"


class StoreUnavailable(StoreError):
    """The database cannot be reached."""

    code = "store_unavailable"


class StoreFull(StoreError):
    """The database's disk is full."""

    code = "store_full"


class SchemaTooNew(StoreError):
    """The database was migrated by a newer version of AegisPay."""

    code = "schema_too_new"
    retryable: ClassVar[bool] = False


class CorruptEvent(StoreError):
    """An event cannot be read."""

    code = "corrupt_event"
    retryable: ClassVar[bool] = False


# --- configuration and life cycle ---------------------------------------------------------------------------


class ConfigError(AegisPayError):
    """The configuration is not valid."""

    code = "config_error"


class NotRunning(AegisPayError):
    """AegisPay is not running."""

    code = "not_running"


class Overloaded(AegisPayError):
    """Too many payments are waiting; nothing was started for this one."""

    code = "overloaded"
    retryable: ClassVar[bool] = True


class GatewayUnreachable(AegisPayError):
    """The gateway cannot be reached."""

    code = "gateway_unreachable"
    retryable: ClassVar[bool] = True
