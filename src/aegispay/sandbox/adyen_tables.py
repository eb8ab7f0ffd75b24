"""What Adyen's test environment says to a card or a cardholder's name, and how Adyen counts amounts: tables only.

Written down apart from the adapter, so that each checks the other.
"""

from __future__ import annotations

import msgspec

from aegispay.domain.errors import UnknownCurrency
from aegispay.domain.money import exponent_of
from aegispay.sandbox import issuer


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """How a payment ends that is not authorised."""

    code: str
    """`refusalReasonCode`."""
    reason: str
    result: str = "Refused"
    """`resultCode`."""


def _row(code: int, reason: str, result: str = "Refused") -> Refusal:
    return Refusal(code=str(code), reason=reason, result=result)


HOLDER_NAMES: dict[str, Refusal] = {
    "UNKNOWN": _row(0, "Unknown", "Error"),
    "DECLINED": _row(2, "Refused"),
    "REFERRAL": _row(3, "Referral"),
    "ERROR": _row(4, "Acquirer Error", "Error"),
    "BLOCK_CARD": _row(5, "Blocked Card"),
    "CARD_EXPIRED": _row(6, "Expired Card"),
    "INVALID_AMOUNT": _row(7, "Invalid Amount"),
    "INVALID_CARD": _row(8, "Invalid Card Number"),
    "ISSUER_UNAVAILABLE": _row(9, "Issuer Unavailable"),
    "NOT_SUPPORTED": _row(10, "Not supported"),
    "NOT_3D_AUTHENTICATED": _row(11, "3D Not Authenticated"),
    "NOT_ENOUGH_BALANCE": _row(12, "Not enough balance"),
    "ACQUIRER_FRAUD": _row(14, "Acquirer Fraud"),
    "CANCELLED": _row(15, "Cancelled", "Cancelled"),
    "SHOPPER_CANCELLED": _row(16, "Shopper Cancelled", "Cancelled"),
    "FRAUD": _row(20, "FRAUD"),
    "TRANSACTION_NOT_PERMITTED": _row(23, "Transaction Not Permitted"),
    "CVC_DECLINED": _row(24, "CVC Declined"),
    "RESTRICTED_CARD": _row(25, "Restricted Card"),
    "REVOCATION_OF_AUTH": _row(26, "Revocation Of Auth"),
    "DECLINED_NON_GENERIC": _row(27, "Declined Non Generic"),
    "WITHDRAWAL_AMOUNT_EXCEEDED": _row(28, "Withdrawal amount exceeded"),
    "WITHDRAWAL_COUNT_EXCEEDED": _row(29, "Withdrawal count exceeded"),
    "ISSUER_SUSPECTED_FRAUD": _row(31, "Issuer Suspected Fraud"),
    "AVS_DECLINED": _row(32, "AVS Declined"),
    "AUTHENTICATION_REQUIRED": _row(38, "Authentication required"),
}
"""`holderName` to outcome; the same codes work as `additionalData.RequestedTestAcquirerResponseCode`."""

_BY_CODE = {row.code: row for row in HOLDER_NAMES.values()}

NOT_AUTHENTICATED = HOLDER_NAMES["NOT_3D_AUTHENTICATED"]

_ISSUER = {
    "generic_decline": "DECLINED",
    "do_not_honor": "DECLINED",
    "insufficient_funds": "NOT_ENOUGH_BALANCE",
    "lost_card": "BLOCK_CARD",
    "stolen_card": "BLOCK_CARD",
    "expired_card": "CARD_EXPIRED",
    "incorrect_cvc": "CVC_DECLINED",
    "processing_error": "ERROR",
    "issuer_not_available": "ISSUER_UNAVAILABLE",
    "card_velocity_exceeded": "WITHDRAWAL_COUNT_EXCEEDED",
    "fraudulent": "FRAUD",
    "incorrect_number": "INVALID_CARD",
}
"""The one issuer's reasons in Adyen's words."""

CAPTURE_FAILS, REFUND_FAILS = "capture failed", "refund failed"
"""Cardholders whose captures or refunds are taken, and fail afterwards."""

THREE_DS_CARDS = frozenset({"4212345678901237", "4917610000000000"})
"""Adyen's own test cards that must authenticate, beside the issuer's."""

STORED_METHODS: dict[str, str] = {
    "stored_visa": "4242424242424242",
    "stored_mastercard": "5555555555554444",
    "stored_declined": "4000000000000002",
    "stored_insufficient_funds": "4000000000009995",
    "stored_lost_card": "4000000000009987",
    "stored_stolen_card": "4000000000009979",
    "stored_expired_card": "4000000000000069",
    "stored_incorrect_cvc": "4000000000000127",
    "stored_processing_error": "4000000000000119",
    "stored_fraudulent": "4100000000000019",
    "stored_3ds": "4000002760003184",
    "stored_3ds_declined": "4000008400001629",
}
"""`storedPaymentMethodId` to card: the sandbox's own."""


def judge(number: str, holder: str, requested: str, iso_minor: int) -> tuple[Refusal | None, bool]:
    """What becomes of a payment, and whether the payer must authenticate first."""
    named = HOLDER_NAMES.get(holder.split(":")[0].strip()) or _BY_CODE.get(requested)
    found = issuer.verdict(number, iso_minor)
    authenticate = found.authenticate or number in THREE_DS_CARDS
    if named is not None:
        return named, authenticate
    return (HOLDER_NAMES[_ISSUER[found.code]] if found.code else None), authenticate


OWN_EXPONENTS = {"CLP": 2, "CVE": 0, "IDR": 0, "ISK": 2}
"""Where Adyen's minor units are not those of ISO 4217."""


def to_iso_minor(value: int, currency: str) -> int | None:
    """Adyen's amount in ISO 4217 minor units; None where it is not a whole number of them."""
    iso = exponent_of(currency)
    difference = iso - OWN_EXPONENTS.get(currency, iso)
    if difference >= 0:
        return int(value * 10**difference)
    whole, rest = divmod(value, 10**-difference)
    return None if rest else whole


def known_currency(code: object) -> bool:
    """Whether this is a currency's code, in capitals."""
    if not isinstance(code, str) or len(code) != 3 or not code.isupper():
        return False
    try:
        exponent_of(code)
    except UnknownCurrency:
        return False
    return True
