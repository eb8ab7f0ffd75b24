"""What each Stripe code means to us: one table, read top to bottom. No logic beyond the look-up.

`decline_code` (the issuer's reason) is looked up first, then `code`. A code that is not listed is a soft decline when
Stripe called it a card error, and an invalid request otherwise.
"""

from __future__ import annotations

from typing import NamedTuple

from aegispay.domain.outcomes import DeclineCategory

SOFT = DeclineCategory.SOFT
HARD = DeclineCategory.HARD
FRAUD = DeclineCategory.FRAUD
AUTH = DeclineCategory.AUTHENTICATION_REQUIRED
INVALID = DeclineCategory.INVALID

ISSUER = "declines/codes"
"""Stripe's page of decline codes."""
ERRORS = "error-codes"
"""Stripe's page of error codes."""


class Row(NamedTuple):
    stripe: str
    code: str
    category: DeclineCategory
    source: str


TABLE: tuple[Row, ...] = (
    # The payer must authenticate
    Row("authentication_required", "authentication_required", AUTH, ISSUER),
    Row("offline_pin_required", "authentication_required", AUTH, ISSUER),
    Row("online_or_offline_pin_required", "authentication_required", AUTH, ISSUER),
    Row("authentication_not_handled", "authentication_required", AUTH, ISSUER),
    Row("mobile_device_authentication_required", "authentication_required", AUTH, ISSUER),
    # Soft: another gateway, or another moment, may say yes
    Row("approve_with_id", "try_again", SOFT, ISSUER),
    Row("call_issuer", "card_declined", SOFT, ISSUER),
    Row("card_declined", "card_declined", SOFT, ERRORS),
    Row("card_not_supported", "card_not_supported", SOFT, ISSUER),
    Row("card_velocity_exceeded", "limit_exceeded", SOFT, ISSUER),
    Row("card_decline_rate_limit_exceeded", "limit_exceeded", SOFT, ERRORS),
    Row("currency_not_supported", "currency_not_supported", SOFT, ISSUER),
    Row("do_not_honor", "do_not_honor", SOFT, ISSUER),
    Row("generic_decline", "card_declined", SOFT, ISSUER),
    Row("insufficient_funds", "insufficient_funds", SOFT, ISSUER),
    Row("issuer_not_available", "issuer_unavailable", SOFT, ISSUER),
    Row("no_action_taken", "card_declined", SOFT, ISSUER),
    Row("processing_error", "processing_error", SOFT, ISSUER),
    Row("reenter_transaction", "try_again", SOFT, ISSUER),
    Row("service_not_allowed", "card_declined", SOFT, ISSUER),
    Row("try_again_later", "try_again", SOFT, ISSUER),
    Row("withdrawal_count_limit_exceeded", "limit_exceeded", SOFT, ISSUER),
    Row("payment_intent_payment_attempt_failed", "card_declined", SOFT, ERRORS),
    Row("payment_method_provider_decline", "card_declined", SOFT, ERRORS),
    Row("payment_method_provider_timeout", "issuer_unavailable", SOFT, ERRORS),
    # Hard: the card or the account will not do, whoever asks
    Row("do_not_try_again", "card_declined", HARD, ISSUER),
    Row("duplicate_transaction", "duplicate_transaction", HARD, ISSUER),
    Row("expired_card", "expired_card", HARD, ISSUER),
    Row("incorrect_address", "incorrect_address", HARD, ERRORS),
    Row("incorrect_cvc", "incorrect_cvc", HARD, ISSUER),
    Row("incorrect_number", "incorrect_number", HARD, ISSUER),
    Row("incorrect_pin", "incorrect_pin", HARD, ISSUER),
    Row("incorrect_zip", "incorrect_address", HARD, ISSUER),
    Row("invalid_account", "invalid_account", HARD, ISSUER),
    Row("invalid_card_type", "card_not_supported", HARD, ERRORS),
    Row("invalid_cvc", "incorrect_cvc", HARD, ISSUER),
    Row("invalid_expiry_month", "invalid_expiry", HARD, ISSUER),
    Row("invalid_expiry_year", "invalid_expiry", HARD, ISSUER),
    Row("invalid_number", "incorrect_number", HARD, ISSUER),
    Row("invalid_pin", "incorrect_pin", HARD, ISSUER),
    Row("lost_card", "lost_card", HARD, ISSUER),
    Row("new_account_information_available", "invalid_account", HARD, ISSUER),
    Row("not_permitted", "not_permitted", HARD, ISSUER),
    Row("payment_intent_authentication_failure", "authentication_failed", HARD, ERRORS),
    Row("pickup_card", "pickup_card", HARD, ISSUER),
    Row("pin_try_exceeded", "incorrect_pin", HARD, ISSUER),
    Row("restricted_card", "restricted_card", HARD, ISSUER),
    Row("revocation_of_all_authorizations", "card_declined", HARD, ISSUER),
    Row("revocation_of_authorization", "card_declined", HARD, ISSUER),
    Row("security_violation", "card_declined", HARD, ISSUER),
    Row("setup_intent_authentication_failure", "authentication_failed", HARD, ERRORS),
    Row("stolen_card", "stolen_card", HARD, ISSUER),
    Row("stop_payment_order", "card_declined", HARD, ISSUER),
    Row("transaction_not_allowed", "not_permitted", HARD, ISSUER),
    # Fraud: nobody else is asked
    Row("fraudulent", "fraud_suspected", FRAUD, ISSUER),
    Row("merchant_blacklist", "fraud_suspected", FRAUD, ISSUER),
    # A mistake of the merchant's, of the account's, or of ours
    Row("account_invalid", "account_invalid", INVALID, ERRORS),
    Row("amount_too_large", "invalid_amount", INVALID, ERRORS),
    Row("amount_too_small", "invalid_amount", INVALID, ERRORS),
    Row("balance_insufficient", "balance_insufficient", INVALID, ERRORS),
    Row("capture_charge_authorization_expired", "authorization_expired", INVALID, ERRORS),
    Row("capture_unauthorized_payment", "invalid_state", INVALID, ERRORS),
    Row("charge_already_captured", "already_captured", INVALID, ERRORS),
    Row("charge_already_refunded", "already_refunded", INVALID, ERRORS),
    Row("charge_disputed", "disputed", INVALID, ERRORS),
    Row("charge_exceeds_source_limit", "limit_exceeded", INVALID, ERRORS),
    Row("charge_exceeds_transaction_limit", "limit_exceeded", INVALID, ERRORS),
    Row("charge_expired_for_capture", "authorization_expired", INVALID, ERRORS),
    Row("charge_invalid_parameter", "invalid_request", INVALID, ERRORS),
    Row("charge_not_refundable", "not_refundable", INVALID, ERRORS),
    Row("country_unsupported", "not_supported", INVALID, ERRORS),
    Row("currency_unsupported", "currency_not_supported", INVALID, ERRORS),
    Row("email_invalid", "invalid_request", INVALID, ERRORS),
    Row("invalid_amount", "invalid_amount", INVALID, ISSUER),
    Row("invalid_characters", "invalid_request", INVALID, ERRORS),
    Row("invalid_charge_amount", "invalid_amount", INVALID, ERRORS),
    Row("invalid_source_usage", "invalid_request", INVALID, ERRORS),
    Row("livemode_mismatch", "livemode_mismatch", INVALID, ERRORS),
    Row("live_mode_test_card", "livemode_mismatch", INVALID, ISSUER),
    Row("missing", "invalid_request", INVALID, ERRORS),
    Row("parameter_invalid_empty", "invalid_request", INVALID, ERRORS),
    Row("parameter_invalid_integer", "invalid_request", INVALID, ERRORS),
    Row("parameter_invalid_string_blank", "invalid_request", INVALID, ERRORS),
    Row("parameter_invalid_string_empty", "invalid_request", INVALID, ERRORS),
    Row("parameter_missing", "invalid_request", INVALID, ERRORS),
    Row("parameter_unknown", "invalid_request", INVALID, ERRORS),
    Row("parameters_exclusive", "invalid_request", INVALID, ERRORS),
    Row("payment_intent_action_required", "authentication_required", AUTH, ERRORS),
    Row("payment_intent_incompatible_payment_method", "invalid_payment_method", INVALID, ERRORS),
    Row("payment_intent_invalid_parameter", "invalid_request", INVALID, ERRORS),
    Row("payment_intent_unexpected_state", "invalid_state", INVALID, ERRORS),
    Row("payment_method_customer_decline", "invalid_payment_method", INVALID, ERRORS),
    Row("payment_method_invalid_parameter", "invalid_payment_method", INVALID, ERRORS),
    Row("payment_method_not_available", "invalid_payment_method", INVALID, ERRORS),
    Row("payment_method_unactivated", "not_supported", INVALID, ERRORS),
    Row("payment_method_unexpected_state", "invalid_payment_method", INVALID, ERRORS),
    Row("payment_method_unsupported_type", "not_supported", INVALID, ERRORS),
    Row("postal_code_invalid", "incorrect_address", INVALID, ERRORS),
    Row("refund_disputed_payment", "disputed", INVALID, ERRORS),
    Row("resource_already_exists", "invalid_request", INVALID, ERRORS),
    Row("resource_missing", "not_found", INVALID, ERRORS),
    Row("return_intent_already_processed", "invalid_state", INVALID, ERRORS),
    Row("testmode_charges_only", "livemode_mismatch", INVALID, ERRORS),
    Row("testmode_decline", "livemode_mismatch", INVALID, ISSUER),
    Row("token_already_used", "invalid_payment_method", INVALID, ERRORS),
    Row("token_card_network_invalid", "invalid_payment_method", INVALID, ERRORS),
    Row("url_invalid", "invalid_request", INVALID, ERRORS),
)

_BY_CODE = {row.stripe: row for row in TABLE}


def row_of(decline_code: str | None, code: str | None) -> Row | None:
    """The row for the issuer's reason, else for the error code; None where neither is listed."""
    return _BY_CODE.get(decline_code or "") or _BY_CODE.get(code or "")
