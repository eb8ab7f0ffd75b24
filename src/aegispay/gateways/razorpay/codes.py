"""What each Razorpay error reason means to us: one table, read top to bottom. No logic beyond the look-up.

Razorpay asks to branch on `reason`. A reason that is not listed is a hard decline when it stands on a failed payment,
for Razorpay may still hear from the bank that it went through, and an invalid request otherwise.

`failed` is not final at Razorpay: while it does not know the bank's answer it goes on asking for days, and the payment
may become authorized. Reasons that mean "we do not know what the bank did" (source LATE) are therefore hard: nobody
else is asked, although the card itself may be good.
"""

from __future__ import annotations

from typing import NamedTuple

from aegispay.domain.outcomes import DeclineCategory

SOFT = DeclineCategory.SOFT
HARD = DeclineCategory.HARD
FRAUD = DeclineCategory.FRAUD
AUTH = DeclineCategory.AUTHENTICATION_REQUIRED
INVALID = DeclineCategory.INVALID

CARDS = "errors/payments/cards"
UPI = "errors/payments/upi"
LIST = "errors/payments/list"
ERRORS = "errors"
LATE = "payments/late-authorisation"
"""Razorpay's documentation pages."""


class Row(NamedTuple):
    razorpay: str
    code: str
    category: DeclineCategory
    source: str


TABLE: tuple[Row, ...] = (
    # Soft: the bank said no; another gateway, or another moment, may get a yes
    Row("card_declined", "card_declined", SOFT, CARDS),
    Row("payment_failed", "card_declined", SOFT, CARDS),
    Row("payment_declined", "card_declined", SOFT, UPI),
    Row("insufficient_funds", "insufficient_funds", SOFT, CARDS),
    Row("transaction_limit_exceeded", "limit_exceeded", SOFT, CARDS),
    Row("transaction_daily_limit_exceeded", "limit_exceeded", SOFT, LIST),
    Row("authorisation_declined_by_psp", "card_declined", SOFT, LIST),
    Row("bank_not_available", "issuer_unavailable", SOFT, LIST),
    Row("bank_cutoff_in_progress", "issuer_unavailable", SOFT, LIST),
    Row("bank_not_enabled", "not_supported", SOFT, LIST),
    Row("card_network_not_enabled", "card_not_supported", SOFT, LIST),
    Row("card_type_not_enabled", "card_not_supported", SOFT, LIST),
    Row("international_transaction_not_allowed", "card_not_supported", SOFT, LIST),
    # Hard because the bank's answer is not known: it may still be a yes
    Row("payment_timed_out", "timed_out", HARD, LATE),
    Row("payment_cancelled", "canceled_by_payer", HARD, LATE),
    Row("payment_collect_request_expired", "timed_out", HARD, LATE),
    Row("payment_session_expired", "timed_out", HARD, LATE),
    Row("gateway_technical_error", "processing_error", HARD, LATE),
    Row("bank_technical_error", "processing_error", HARD, LATE),
    Row("credit_failed", "processing_error", HARD, LATE),
    Row("server_error", "processing_error", HARD, LATE),
    Row("payment_pending", "processing_error", HARD, LATE),
    # Hard: the card or the account will not do, whoever asks
    Row("card_expired", "expired_card", HARD, CARDS),
    Row("card_number_invalid", "incorrect_number", HARD, LIST),
    Row("incorrect_card_number", "incorrect_number", HARD, LIST),
    Row("incorrect_card_details", "incorrect_number", HARD, LIST),
    Row("incorrect_card_expiry_date", "invalid_expiry", HARD, LIST),
    Row("incorrect_cvv", "incorrect_cvc", HARD, CARDS),
    Row("incorrect_pin", "incorrect_pin", HARD, LIST),
    Row("incorrect_otp", "authentication_failed", HARD, LIST),
    Row("invalid_otp", "authentication_failed", HARD, ERRORS),
    Row("otp_attempts_exceeded", "authentication_failed", HARD, LIST),
    Row("otp_expired", "authentication_failed", HARD, LIST),
    Row("authentication_failed", "authentication_failed", HARD, CARDS),
    Row("card_disabled_for_online_payments", "not_permitted", HARD, CARDS),
    Row("card_not_enrolled", "not_permitted", HARD, CARDS),
    Row("debit_instrument_blocked", "restricted_card", HARD, CARDS),
    Row("debit_instrument_inactive", "restricted_card", HARD, CARDS),
    Row("bank_account_invalid", "invalid_account", HARD, LIST),
    Row("bank_account_validation_failed", "invalid_account", HARD, LIST),
    Row("invalid_vpa", "invalid_account", HARD, UPI),
    Row("vpa_resolution_failed", "invalid_account", HARD, UPI),
    Row("payment_risk_check_failed", "fraud_suspected", FRAUD, CARDS),
    # The payer must act first
    Row("customer_action_required", "authentication_required", AUTH, LIST),
    # A mistake of the merchant's, of the account's, or of ours
    Row("amount_less_than_minimum_amount", "invalid_amount", INVALID, LIST),
    Row("input_validation_failed", "invalid_request", INVALID, LIST),
    Row("invalid_amount", "invalid_amount", INVALID, LIST),
    Row("invalid_currency", "currency_not_supported", INVALID, LIST),
    Row("live_mode_not_enabled", "livemode_mismatch", INVALID, LIST),
    Row("recurring_payment_not_enabled", "not_supported", INVALID, LIST),
    Row("duplicate_request", "duplicate_transaction", INVALID, LIST),
)

_BY_REASON = {row.razorpay: row for row in TABLE}


def row_of(reason: str | None) -> Row | None:
    """The row for a reason, or None where it is not listed."""
    return _BY_REASON.get(reason or "")
