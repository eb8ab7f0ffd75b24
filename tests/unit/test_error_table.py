"""Every error's code, whether to try again, and what is known of the effect: callers branch on these."""

from __future__ import annotations

import pytest

from aegispay.domain import errors

TOLD: dict[str, tuple[str, bool, str, str]] = {
    "AegisPayError": ("error", False, "none", "Exception"),
    "InvalidRequest": ("invalid_request", False, "none", "AegisPayError"),
    "InvalidAmount": ("invalid_amount", False, "none", "InvalidRequest"),
    "UnknownCurrency": ("unknown_currency", False, "none", "InvalidRequest"),
    "CurrencyMismatch": ("currency_mismatch", False, "none", "InvalidRequest"),
    "InvalidPaymentMethod": ("invalid_payment_method", False, "none", "InvalidRequest"),
    "InvalidIdempotencyKey": ("invalid_idempotency_key", False, "none", "InvalidRequest"),
    "UnknownGateway": ("unknown_gateway", False, "none", "InvalidRequest"),
    "UnsupportedOperation": ("unsupported_operation", False, "none", "InvalidRequest"),
    "IdempotencyConflict": ("idempotency_conflict", False, "none", "AegisPayError"),
    "PaymentNotFound": ("payment_not_found", False, "none", "AegisPayError"),
    "InvalidState": ("invalid_state", False, "none", "AegisPayError"),
    "OperationInDoubt": ("operation_in_doubt", True, "none", "InvalidState"),
    "AmountTooLarge": ("amount_too_large", False, "none", "InvalidState"),
    "IllegalTransition": ("illegal_transition", False, "none", "AegisPayError"),
    "RefusedByHook": ("refused_by_hook", False, "none", "AegisPayError"),
    "StoreError": ("store_error", True, "unknown", "AegisPayError"),
    "VersionConflict": ("version_conflict", True, "none", "StoreError"),
    "StaleFence": ("stale_fence", True, "none", "StoreError"),
    "StoreUnavailable": ("store_unavailable", True, "unknown", "StoreError"),
    "StoreFull": ("store_full", True, "unknown", "StoreError"),
    "SchemaTooNew": ("schema_too_new", False, "unknown", "StoreError"),
    "CorruptEvent": ("corrupt_event", False, "unknown", "StoreError"),
    "ConfigError": ("config_error", False, "none", "AegisPayError"),
    "NotRunning": ("not_running", False, "none", "AegisPayError"),
    "Overloaded": ("overloaded", True, "none", "AegisPayError"),
    "GatewayUnreachable": ("gateway_unreachable", True, "none", "AegisPayError"),
}
"""Name: code, retryable, effect, and what it is a kind of."""


def test_each_error_is_listed() -> None:
    kinds = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.AegisPayError)
    }
    assert kinds == set(TOLD)


@pytest.mark.parametrize("name", TOLD)
def test_what_an_error_tells_stays(name: str) -> None:
    kind: type[errors.AegisPayError] = getattr(errors, name)
    told = (kind.code, kind.retryable, kind.effect, (kind.__base__ or object).__name__)
    assert told == TOLD[name]
    assert kind("because.", hint="Mend it.").to_dict() == {
        "code": told[0],
        "message": "because.",
        "retryable": told[1],
        "effect": told[2],
        "hint": "Mend it.",
    }
    assert str(kind())
