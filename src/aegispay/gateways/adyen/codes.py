"""What each Adyen code means to us: one table, read top to bottom. No logic beyond the look-up.

`refusal` rows are `refusalReasonCode`s of an answer under HTTP 200, `error` rows are `errorCode`s of an answer that is
not 2xx. An unknown refusal is a soft decline, an unknown error an invalid request.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from aegispay.domain.outcomes import DeclineCategory

SOFT = DeclineCategory.SOFT
HARD = DeclineCategory.HARD
FRAUD = DeclineCategory.FRAUD
AUTH = DeclineCategory.AUTHENTICATION_REQUIRED
INVALID = DeclineCategory.INVALID

REASONS = "development-resources/refusal-reasons"
"""Adyen's page of refusal reasons."""
ERRORS = "development-resources/error-codes"
"""Adyen's page of error codes."""
IDEMPOTENCY = "development-resources/api-idempotency"


class Row(NamedTuple):
    kind: Literal["refusal", "error"]
    adyen: str
    text: str
    """Adyen's own words; webhooks carry these instead of the code."""
    code: str
    category: DeclineCategory
    source: str


TABLE: tuple[Row, ...] = (
    # The payer must authenticate
    Row("refusal", "38", "Authentication required", "authentication_required", AUTH, REASONS),
    # Soft: another gateway, or another moment, may say yes
    Row("refusal", "2", "Refused", "card_declined", SOFT, REASONS),
    Row("refusal", "3", "Referral", "card_declined", SOFT, REASONS),
    Row("refusal", "4", "Acquirer Error", "processing_error", SOFT, REASONS),
    Row("refusal", "9", "Issuer Unavailable", "issuer_unavailable", SOFT, REASONS),
    Row("refusal", "10", "Not supported", "not_permitted", SOFT, REASONS),
    Row("refusal", "12", "Not enough balance", "insufficient_funds", SOFT, REASONS),
    Row("refusal", "19", "Pin validation not possible", "processing_error", SOFT, REASONS),
    Row("refusal", "21", "Not Submitted", "processing_error", SOFT, REASONS),
    Row("refusal", "23", "Transaction Not Permitted", "not_permitted", SOFT, REASONS),
    Row("refusal", "27", "Declined Non Generic", "card_declined", SOFT, REASONS),
    Row("refusal", "28", "Withdrawal amount exceeded", "limit_exceeded", SOFT, REASONS),
    Row("refusal", "29", "Withdrawal count exceeded", "limit_exceeded", SOFT, REASONS),
    Row("refusal", "34", "No checking account available on Card", "invalid_account", SOFT, REASONS),
    Row("refusal", "35", "No savings account available on Card", "invalid_account", SOFT, REASONS),
    Row("refusal", "37", "Contactless fallback", "try_again", SOFT, REASONS),
    Row("refusal", "39", "RReq not received from DS", "processing_error", SOFT, REASONS),
    Row("refusal", "40", "Current AID is in Penalty Box.", "processing_error", SOFT, REASONS),
    Row("refusal", "41", "CVM Required Restart Payment", "try_again", SOFT, REASONS),
    Row("refusal", "44", "Try another interface", "try_again", SOFT, REASONS),
    Row("refusal", "45", "Chip downgrade mode", "try_again", SOFT, REASONS),
    # Hard: the card or the account will not do, whoever asks
    Row("refusal", "5", "Blocked Card", "restricted_card", HARD, REASONS),
    Row("refusal", "6", "Expired Card", "expired_card", HARD, REASONS),
    Row("refusal", "8", "Invalid Card Number", "incorrect_number", HARD, REASONS),
    Row("refusal", "11", "3D Not Authenticated", "authentication_failed", HARD, REASONS),
    Row("refusal", "15", "Cancelled", "canceled", HARD, REASONS),
    Row("refusal", "16", "Shopper Cancelled", "canceled", HARD, REASONS),
    Row("refusal", "17", "Invalid Pin", "incorrect_pin", HARD, REASONS),
    Row("refusal", "18", "Pin tries exceeded", "incorrect_pin", HARD, REASONS),
    Row("refusal", "24", "CVC Declined", "incorrect_cvc", HARD, REASONS),
    Row("refusal", "25", "Restricted Card", "restricted_card", HARD, REASONS),
    Row("refusal", "26", "Revocation Of Auth", "card_declined", HARD, REASONS),
    Row("refusal", "32", "AVS Declined", "incorrect_address", HARD, REASONS),
    Row("refusal", "33", "Card requires online pin", "incorrect_pin", HARD, REASONS),
    Row("refusal", "36", "Mobile pin required", "incorrect_pin", HARD, REASONS),
    Row("refusal", "42", "3DS Authentication Error", "authentication_failed", HARD, REASONS),
    Row("refusal", "43", "Online PIN required", "incorrect_pin", HARD, REASONS),
    Row(
        "refusal",
        "46",
        "Transaction blocked by Adyen to prevent excessive retry fees",
        "card_declined",
        HARD,
        REASONS,
    ),
    Row("refusal", "50", "Token Revoked", "invalid_payment_method", HARD, REASONS),
    # Fraud: nobody else is asked
    Row("refusal", "14", "Acquirer Fraud", "fraud_suspected", FRAUD, REASONS),
    Row("refusal", "20", "FRAUD", "fraud_suspected", FRAUD, REASONS),
    Row("refusal", "22", "FRAUD-CANCELLED", "fraud_suspected", FRAUD, REASONS),
    Row("refusal", "31", "Issuer Suspected Fraud", "fraud_suspected", FRAUD, REASONS),
    # A mistake of the merchant's, of the account's, or of ours
    Row("refusal", "7", "Invalid Amount", "invalid_amount", INVALID, REASONS),
    Row("error", "000", "Unknown", "invalid_request", INVALID, ERRORS),
    Row("error", "010", "Not allowed", "account_invalid", INVALID, ERRORS),
    Row("error", "100", "Required object 'amount' is not provided", "invalid_amount", INVALID, ERRORS),
    Row("error", "101", "Invalid card number", "incorrect_number", HARD, ERRORS),
    Row("error", "102", "Unable to determine variant", "incorrect_number", HARD, ERRORS),
    Row("error", "103", "CVC is not the right length", "incorrect_cvc", HARD, ERRORS),
    Row("error", "104", "Billing address problem", "incorrect_address", INVALID, ERRORS),
    Row("error", "129", "Expiry Date Invalid", "invalid_expiry", HARD, ERRORS),
    Row("error", "130", "Reference Missing", "invalid_request", INVALID, ERRORS),
    Row("error", "137", "Invalid amount specified", "invalid_amount", INVALID, ERRORS),
    Row("error", "153", "Invalid CVC", "incorrect_cvc", HARD, ERRORS),
    Row("error", "167", "Original pspReference required for this operation", "not_found", INVALID, ERRORS),
    Row(
        "error",
        "172",
        "Encrypted data used outside of valid time period",
        "invalid_payment_method",
        INVALID,
        ERRORS,
    ),
    Row("error", "177", "Metadata size exceeds limit", "invalid_request", INVALID, ERRORS),
    Row("error", "702", "Unable to parse the message", "invalid_request", INVALID, ERRORS),
    Row("error", "803", "PaymentDetail not found", "invalid_payment_method", INVALID, ERRORS),
    Row("error", "901", "Invalid Merchant Account", "account_invalid", INVALID, ERRORS),
    Row(
        "error",
        "906",
        "Original pspReference is invalid for this environment",
        "livemode_mismatch",
        INVALID,
        ERRORS,
    ),
    Row("error", "907", "Payment details are not supported", "card_not_supported", INVALID, ERRORS),
)

IN_FLIGHT = "704"
"""The first request under this key is still running, or has been processed (page `IDEMPOTENCY`)."""
KEY_STORE_DOWN = "703"
"""Adyen could not look the key up."""

_BY_CODE = {(row.kind, row.adyen): row for row in TABLE}
_BY_TEXT = {row.text.lower(): row for row in TABLE if row.kind == "refusal"}


def refusal_row(code: str | None) -> Row | None:
    return _BY_CODE.get(("refusal", code or ""))


def error_row(code: str | None) -> Row | None:
    return _BY_CODE.get(("error", code or ""))


def row_of_text(reason: str | None) -> Row | None:
    """The row of a webhook's `reason`, which holds Adyen's words instead of the code."""
    return _BY_TEXT.get((reason or "").strip().lower())
