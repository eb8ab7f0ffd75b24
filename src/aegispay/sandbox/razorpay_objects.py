"""The shapes of Razorpay's objects and errors, as plain dictionaries. Names that begin with `_` never leave the PSP."""

from __future__ import annotations

from typing import Any

from aegispay.domain.errors import InvalidPaymentMethod, UnknownCurrency
from aegispay.domain.methods import Card
from aegispay.domain.money import exponent_of
from aegispay.sandbox import issuer
from aegispay.sandbox.documents import Document

ORDER, PAYMENT, REFUND, DOWNTIME = "order", "payment", "refund", "payment.downtime"
BAD_REQUEST, GATEWAY, SERVER = "BAD_REQUEST_ERROR", "GATEWAY_ERROR", "SERVER_ERROR"
RECEIPT_LENGTH_MAX = 40
NOTES_MAX = 15
NOTE_LENGTH_MAX = 256
AMOUNT_MAX = 99_999_999_999

TOKENS: dict[str, str] = {
    "token_visa": "4242424242424242",
    "token_mastercard": "5555555555554444",
    "token_declined": "4000000000000002",
    "token_insufficientfunds": "4000000000009995",
    "token_lostcard": "4000000000009987",
    "token_stolencard": "4000000000009979",
    "token_expired": "4000000000000069",
    "token_incorrectcvv": "4000000000000127",
    "token_technicalerror": "4000000000000119",
    "token_fraudulent": "4100000000000019",
    "token_latesuccess": "4242424242424242",
}
"""Saved cards of the test account. With the last one a payment fails first, and the bank's yes comes later."""
LATE_TOKEN = "token_latesuccess"  # noqa: S105 - a test token's name

_DECLINES: dict[str, tuple[str, str, str, str]] = {
    # The issuer's word: code, reason, source, step.
    "generic_decline": (BAD_REQUEST, "card_declined", "issuer_bank", "payment_authorization"),
    "do_not_honor": (BAD_REQUEST, "card_declined", "issuer_bank", "payment_authorization"),
    "insufficient_funds": (BAD_REQUEST, "insufficient_funds", "customer", "payment_authorization"),
    "lost_card": (BAD_REQUEST, "debit_instrument_blocked", "issuer_bank", "payment_authorization"),
    "stolen_card": (BAD_REQUEST, "debit_instrument_blocked", "issuer_bank", "payment_authorization"),
    "expired_card": (BAD_REQUEST, "card_expired", "customer", "payment_authorization"),
    "incorrect_cvc": (BAD_REQUEST, "incorrect_cvv", "customer", "payment_authorization"),
    "incorrect_number": (BAD_REQUEST, "card_number_invalid", "customer", "payment_authorization"),
    "card_velocity_exceeded": (
        BAD_REQUEST,
        "transaction_limit_exceeded",
        "customer",
        "payment_authorization",
    ),
    "fraudulent": (BAD_REQUEST, "payment_risk_check_failed", "gateway", "payment_authorization"),
    "processing_error": (GATEWAY, "gateway_technical_error", "gateway", "payment_authorization"),
    "issuer_not_available": (GATEWAY, "bank_technical_error", "issuer_bank", "payment_authorization"),
    "authentication_failed": (BAD_REQUEST, "authentication_failed", "customer", "payment_authentication"),
    "late": (BAD_REQUEST, "payment_timed_out", "customer", "payment_authentication"),
}


class RazorpayError(Exception):
    """A request that ends in an error answer."""

    def __init__(
        self,
        description: str,
        *,
        status: int = 400,
        code: str = BAD_REQUEST,
        field: str | None = None,
        source: str = "NA",
        step: str = "NA",
        reason: str = "NA",
        metadata: dict[str, str] | None = None,
        **more: Any,
    ):
        super().__init__(description)
        self.status = status
        error: Document = {
            "code": code,
            "description": description,
            "source": source,
            "step": step,
            "reason": reason,
            "metadata": metadata or {},
        }
        if field is not None:
            error["field"] = field
        self.body: Document = {"error": error, **more}


def wrong(description: str, field: str | None = None) -> RazorpayError:
    """A parameter that is not valid, or an object that is in no state for it: nothing began."""
    return RazorpayError(
        description,
        field=field,
        source="business",
        step="payment_initiation",
        reason="input_validation_failed",
    )


def missing() -> RazorpayError:
    return wrong("The id provided does not exist")


def decline(payment: Document) -> RazorpayError:
    """The answer to a request that left the payment failed."""
    return RazorpayError(
        payment["error_description"],
        code=payment["error_code"],
        source=payment["error_source"],
        step=payment["error_step"],
        reason=payment["error_reason"],
        metadata={"payment_id": payment["id"], "order_id": payment["order_id"]},
    )


def set_failed(payment: Document, verdict: str, message: str) -> None:
    code, reason, source, step = _DECLINES[verdict]
    payment.update(
        status="failed",
        error_code=code,
        error_description=message,
        error_source=source,
        error_step=step,
        error_reason=reason,
    )


def clear_error(payment: Document) -> None:
    for name in ("code", "description", "source", "step", "reason"):
        payment[f"error_{name}"] = None


# --- parameters ---------------------------------------------------------------------------------------------


def amount_of(body: Document, currency: str | None = None) -> int:
    """The amount, in the minor units that ISO 4217 gives the currency, as Razorpay counts too."""
    amount = body.get("amount")
    if amount is None:
        raise wrong("The amount field is required.", "amount")
    if isinstance(amount, str) and amount.isdigit():
        amount = int(amount)
    if type(amount) is not int:
        raise wrong("The amount must be an integer.", "amount")
    if amount > AMOUNT_MAX:
        raise wrong("Amount exceeds maximum amount allowed.", "amount")
    if currency == "INR" and amount < 100:
        raise wrong("The amount must be at least INR 1.00", "amount")
    if amount < 1:
        raise wrong("The amount must be at least 1.", "amount")
    if currency is not None and exponent_of(currency) == 3 and amount % 10:
        raise wrong("The last digit of an amount in a currency with three decimals is 0.", "amount")
    return amount


def currency_of(body: Document) -> str:
    code = body.get("currency")
    if code is None:
        raise wrong("The currency field is required.", "currency")
    try:
        exponent_of(str(code))
    except UnknownCurrency:
        raise wrong("The selected currency is invalid.", "currency") from None
    return str(code)


def notes_of(body: Document) -> Any:
    """Up to 15 names and values. Razorpay shows no notes as an empty list."""
    notes = body.get("notes") or {}
    if not isinstance(notes, dict) or len(notes) > NOTES_MAX:
        raise wrong("Notes are up to 15 names and values.", "notes")
    for name, value in notes.items():
        if len(name) > NOTE_LENGTH_MAX or len(str(value)) > NOTE_LENGTH_MAX:
            raise wrong("Notes have up to 256 characters.", "notes")
    return dict(notes) or []


def receipt_of(body: Document) -> str | None:
    receipt = body.get("receipt")
    if receipt is not None and (not isinstance(receipt, str) or len(receipt) > RECEIPT_LENGTH_MAX):
        raise wrong("The receipt may not be greater than 40 characters.", "receipt")
    return receipt


def card_of(body: Document) -> tuple[str, Document]:
    """The card's number and what is shown of it: a saved card's, or that which stands in the request."""
    token = body.get("token")
    if token is not None:
        number = TOKENS.get(str(token))
        if number is None:
            raise wrong("The token id provided does not exist", "token")
        return number, _shown_card(number)
    raw = body.get("card")
    if not isinstance(raw, dict):
        raise wrong("The card field is required when method is card.", "card")
    try:
        year = str(raw.get("expiry_year"))
        card = Card(
            str(raw.get("number")),
            str(raw.get("expiry_month")).zfill(2),
            year if len(year) == 4 else f"20{year}",
        )
    except InvalidPaymentMethod:
        raise wrong("The card number or its expiry date is not valid.", "card") from None
    return card.reveal_number(), _shown_card(card.reveal_number(), str(raw.get("name", "")))


def verdict_of(number: str, amount: int) -> list[str]:
    """The issuer's word and its message; empty where it approves."""
    found = issuer.verdict(number, amount)
    return [found.code, found.message]


def _shown_card(number: str, name: str = "") -> Document:
    network = {"4": "Visa", "5": "MasterCard", "3": "American Express", "6": "RuPay"}.get(
        number[0], "Unknown"
    )
    return {
        "entity": "card",
        "name": name,
        "last4": number[-4:],
        "network": network,
        "type": "credit",
        "issuer": None,
        "international": False,
        "emi": False,
        "sub_type": "consumer",
        "token_iin": None,
        "_iin": number[:6],
    }


# --- objects ------------------------------------------------------------------------------------------------


def new_order(id_: str, body: Document, now_s: int) -> Document:
    currency = currency_of(body)
    amount = amount_of(body, currency)
    return {
        "id": id_,
        "entity": ORDER,
        "amount": amount,
        "amount_paid": 0,
        "amount_due": amount,
        "currency": currency,
        "receipt": receipt_of(body),
        "offer_id": None,
        "status": "created",
        "attempts": 0,
        "notes": notes_of(body),
        "created_at": now_s,
    }


def new_payment(id_: str, order: Document, body: Document, now_s: int) -> Document:
    """A payment of which nothing is decided yet."""
    return {
        "id": id_,
        "entity": PAYMENT,
        "amount": order["amount"],
        "currency": order["currency"],
        "status": "created",
        "order_id": order["id"],
        "invoice_id": None,
        "international": order["currency"] != "INR",
        "method": "card",
        "amount_refunded": 0,
        "refund_status": None,
        "captured": False,
        "description": body.get("description"),
        "card_id": None,
        "bank": None,
        "wallet": None,
        "vpa": None,
        "email": body.get("email"),
        "contact": body.get("contact"),
        "notes": notes_of(body),
        "fee": None,
        "tax": None,
        "error_code": None,
        "error_description": None,
        "error_source": None,
        "error_step": None,
        "error_reason": None,
        "acquirer_data": {"auth_code": None},
        "created_at": now_s,
    }


def new_refund(id_: str, payment: Document, amount: int, body: Document, now_s: int) -> Document:
    return {
        "id": id_,
        "entity": REFUND,
        "amount": amount,
        "currency": payment["currency"],
        "payment_id": payment["id"],
        "notes": notes_of(body),
        "receipt": receipt_of(body),
        "acquirer_data": {"arn": None},
        "created_at": now_s,
        "batch_id": None,
        "status": "processed",
        "speed_processed": "normal",
        "speed_requested": body.get("speed") or "normal",
    }


def shown(document: Document) -> Document:
    """What of an object leaves the PSP."""
    return {name: value for name, value in document.items() if not name.startswith("_")}


def collection(items: list[Document]) -> Document:
    return {"entity": "collection", "count": len(items), "items": [shown(item) for item in items]}
