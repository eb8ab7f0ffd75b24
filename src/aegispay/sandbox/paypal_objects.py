"""The shapes of PayPal's objects, amounts and errors. Names that begin with `_` never leave the PSP."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from aegispay.domain.errors import InvalidPaymentMethod
from aegispay.domain.methods import Card
from aegispay.domain.money import exponent_of
from aegispay.sandbox import issuer
from aegispay.sandbox.documents import Document

ORDER, AUTHORIZATION, CAPTURE, REFUND = "order", "authorization", "capture", "refund"
CURRENCIES = frozenset(
    "AUD BRL CAD CNY CZK DKK EUR HKD HUF ILS JPY MYR MXN TWD NZD NOK PHP PLN RUB GBP SGD SEK CHF THB USD".split()  # noqa: SIM905
)
WHOLE_UNITS = frozenset({"HUF", "JPY", "TWD"})
"""No decimals on the wire, whatever ISO 4217 says."""

VAULT: dict[str, str] = {
    "visa": "4242424242424242",
    "mastercard": "5555555555554444",
    "declined": "4000000000000002",
    "insufficientfunds": "4000000000009995",
    "lostcard": "4000000000009987",
    "stolencard": "4000000000009979",
    "expired": "4000000000000069",
    "incorrectcvv": "4000000000000127",
    "processingerror": "4000000000000119",
    "fraudulent": "4100000000000019",
    "threeds": "4000002760003184",
    "threedsdeclined": "4000008400001629",
}
"""What the test account's vault holds. A wallet's payer may choose from it too."""

_RESPONSE_CODES = {
    "generic_decline": "5100",
    "do_not_honor": "0500",
    "insufficient_funds": "5120",
    "lost_card": "9520",
    "stolen_card": "9520",
    "expired_card": "5400",
    "incorrect_cvc": "00N7",
    "incorrect_number": "1330",
    "card_velocity_exceeded": "0500",
    "processing_error": "9100",
    "issuer_not_available": "9100",
    "fraudulent": "9500",
}
"""The issuer's word as the card processor's code."""
_NAMES = {
    "CCREJECT-REFUSED": "0500",
    "CCREJECT-SF": "9500",
    "CCREJECT-EC": "5400",
    "CCREJECT-IRC": "5180",
    "CCREJECT-IF": "5120",
    "CCREJECT-LS": "9520",
    "CCREJECT-IA": "1330",
    "CCREJECT-BANK_ERROR": "5100",
    "CCREJECT-CVV_F": "00N7",
}
"""Cardholder names that decide."""

_ERRORS: dict[int, tuple[str, str]] = {
    400: (
        "INVALID_REQUEST",
        "Request is not well-formed, syntactically incorrect, or violates schema.",
    ),
    401: (
        "AUTHENTICATION_FAILURE",
        "Authentication failed due to missing authorization header, or invalid authentication credentials.",
    ),
    403: ("NOT_AUTHORIZED", "Authorization failed due to insufficient permissions."),
    404: ("RESOURCE_NOT_FOUND", "The specified resource does not exist."),
    409: (
        "RESOURCE_CONFLICT",
        "The server has detected a conflict while processing this request.",
    ),
    422: (
        "UNPROCESSABLE_ENTITY",
        "The requested action could not be performed, semantically incorrect, or failed business validation.",
    ),
    429: ("RATE_LIMIT_REACHED", "Too many requests. Blocked due to rate limiting."),
    500: ("INTERNAL_SERVER_ERROR", "An internal server error occurred."),
    503: ("SERVICE_UNAVAILABLE", "Service Unavailable."),
}
"""The names and messages that the wire protocol fixes for each status."""
_STATUS_OF = {
    "INVALID_ACCOUNT_STATUS": 401,
    "PERMISSION_DENIED": 403,
    "INVALID_RESOURCE_ID": 404,
    "PREVIOUS_REQUEST_IN_PROGRESS": 409,
    "INTERNAL_SERVER_ERROR": 500,
    "INVALID_PARAMETER_SYNTAX": 400,
    "INVALID_PARAMETER_VALUE": 400,
    "INVALID_STRING_LENGTH": 400,
    "INVALID_ARRAY_MAX_ITEMS": 400,
    "INVALID_ARRAY_MIN_ITEMS": 400,
    "MISSING_REQUIRED_PARAMETER": 400,
    "MALFORMED_REQUEST_JSON": 400,
    "PAYPAL_REQUEST_ID_REQUIRED": 400,
    "NOT_SUPPORTED": 400,
}
"""Issues that do not come with a 422."""


class PayPalError(Exception):
    """A request that ends in an error answer. An issue alone decides its status."""

    def __init__(self, issue: str = "", *, status: int = 0, field: str = ""):
        super().__init__(issue or str(status))
        self.status = status or _STATUS_OF.get(issue, 422)
        self.issue = issue
        self.field = field

    def body(self, debug_id: str) -> Document:
        name, message = _ERRORS.get(self.status, _ERRORS[500])
        body: Document = {"name": name, "message": message, "debug_id": debug_id}
        if self.issue and self.status != 500:
            detail = {"issue": self.issue}
            if self.field:
                detail |= {"field": self.field, "location": "body"}
            body["details"] = [detail]
        return body


# --- amounts ------------------------------------------------------------------------------------------------


def minor_of(money: Any, field: str = "/amount", *, payments: bool = False) -> tuple[int, str]:
    """PayPal's decimal text in ISO 4217 minor units, and its currency."""
    if not isinstance(money, dict) or "value" not in money or "currency_code" not in money:
        raise PayPalError("MISSING_REQUIRED_PARAMETER", field=field)
    value, currency = money["value"], str(money["currency_code"])
    if currency not in CURRENCIES:
        raise PayPalError("INVALID_CURRENCY_CODE", field=f"{field}/currency_code")
    if not isinstance(value, str) or not re.fullmatch(r"-?\d{0,15}(\.\d+)?", value) or not value.strip("-."):
        raise PayPalError("INVALID_PARAMETER_SYNTAX", field=f"{field}/value")
    amount = Decimal(value)
    if amount <= 0:
        raise PayPalError("CANNOT_BE_ZERO_OR_NEGATIVE", field=f"{field}/value")
    decimals = len(value.partition(".")[2])
    if currency in WHOLE_UNITS and decimals and amount != int(amount):
        raise PayPalError(
            "DECIMALS_NOT_SUPPORTED" if payments else "DECIMAL_PRECISION", field=f"{field}/value"
        )
    if decimals > 2:
        raise PayPalError("DECIMAL_PRECISION", field=f"{field}/value")
    return int(amount * 10 ** exponent_of(currency)), currency


def money_of(minor: int, currency: str) -> Document:
    amount = Decimal(minor).scaleb(-exponent_of(currency))
    value = f"{amount:.0f}" if currency in WHOLE_UNITS else f"{amount:.2f}"
    return {"currency_code": currency, "value": value}


def names_of(custom_id: str) -> tuple[str, str]:
    """The merchant's operation and payment, for the bank's books: a custom id may name both, with a slash between."""
    operation, _, payment = custom_id.partition("/")
    return operation, payment


def time_of(us: int) -> str:
    return datetime.fromtimestamp(us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- what pays ----------------------------------------------------------------------------------------------


def source_of(source: Any) -> Document:
    """What pays: `kind` (`card`, `paypal`), `shown`, the card's number where it is known, and what its name decides."""
    if not isinstance(source, dict) or not source:
        return {"kind": "paypal", "number": "", "code": "", "shown": {}, "sca": "", "context": {}}
    kind = next((name for name in ("card", "paypal") if name in source), "")
    if not kind:
        raise PayPalError("NOT_SUPPORTED", field="/payment_source")
    given = source[kind] if isinstance(source[kind], dict) else {}
    vault_id = given.get("vault_id")
    if vault_id is not None and str(vault_id) not in VAULT:
        raise PayPalError("PAYMENT_SOURCE_INFO_CANNOT_BE_VERIFIED", field=f"/payment_source/{kind}/vault_id")
    number = VAULT[str(vault_id)] if vault_id is not None else ""
    if kind == "card" and not number:
        number = _number(given)
    verification = (given.get("attributes") or {}).get("verification") or {}
    return {
        "kind": kind,
        "number": number,
        "code": _NAMES.get(str(given.get("name", "")), ""),
        "shown": _card_shown(number) if kind == "card" else (wallet_shown() if number else {}),
        "sca": str(verification.get("method", "")),
        "context": given.get("experience_context") or {},
    }


def _number(card: Document) -> str:
    for name in ("number", "expiry"):
        if not card.get(name):
            raise PayPalError("MISSING_REQUIRED_PARAMETER", field=f"/payment_source/card/{name}")
    year, _, month = str(card["expiry"]).partition("-")
    try:
        return Card(str(card["number"]), month, year).reveal_number()
    except InvalidPaymentMethod:
        raise PayPalError("INVALID_PARAMETER_VALUE", field="/payment_source/card/number") from None


def _card_shown(number: str) -> Document:
    brand = {"4": "VISA", "5": "MASTERCARD", "3": "AMEX", "6": "DISCOVER"}.get(number[0], "VISA")
    return {"last_digits": number[-4:], "brand": brand, "type": "CREDIT"}


def wallet_shown() -> Document:
    return {
        "email_address": "payer@example.com",
        "account_id": "PAYERSANDBXX2",
        "account_status": "VERIFIED",
        "name": {"given_name": "Pat", "surname": "Payer"},
    }


def refusal_of(source: Document, minor: int) -> str:
    """The card processor's code, or empty where the issuer approves."""
    if source["code"]:
        return str(source["code"])
    verdict = issuer.verdict(source["number"] or VAULT["visa"], minor)
    return "" if verdict.approved else _RESPONSE_CODES[verdict.code]


def wants_payer(source: Document, minor: int) -> bool:
    """Whether the card's issuer wants the payer to authenticate first."""
    if source["kind"] != "card" or not source["sca"]:
        return False
    return source["sca"] == "SCA_ALWAYS" or issuer.verdict(source["number"], minor).authenticate


# --- objects ------------------------------------------------------------------------------------------------


def link(base_url: str, path: str, rel: str, method: str = "GET") -> Document:
    return {"href": f"{base_url}{path}", "rel": rel, "method": method}


def shown(document: Document, *, minimal: bool = False) -> Document:
    """What of an object leaves the PSP: all of it, or its id, status and links."""
    names = ("id", "status", "links") if minimal else tuple(document)
    return {name: document[name] for name in names if name in document and not name.startswith("_")}
