"""The shapes of Stripe's objects and errors, as plain dictionaries. Names that begin with `_` never leave the PSP."""

from __future__ import annotations

from typing import Any

from aegispay.domain.errors import InvalidPaymentMethod
from aegispay.domain.methods import Card
from aegispay.sandbox import issuer
from aegispay.sandbox.documents import Document

PAYMENT_INTENT, CHARGE, REFUND, METHOD, CUSTOMER = (
    "payment_intent",
    "charge",
    "refund",
    "payment_method",
    "customer",
)


class StripeError(Exception):
    """A request that ends in an error answer."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type_: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        kept: bool = True,
        **more: Any,
    ):
        super().__init__(message)
        self.status = status
        self.kept = kept
        """Whether the answer is kept under the key: not where the parameters were wrong and nothing began."""
        self.error: Document = {"type": type_, "message": message}
        for name, value in (("code", code), ("param", param), *more.items()):
            if value is not None:
                self.error[name] = value

    def body(self, request_id: str) -> Document:
        return {
            "error": {**self.error, "request_log_url": f"https://dashboard.stripe.com/test/logs/{request_id}"}
        }


def wrong(message: str, param: str | None = None, code: str | None = None) -> StripeError:
    """A parameter that is not valid: nothing began, nothing is kept."""
    return StripeError(400, message, code=code, param=param, kept=False)


def missing(kind: str, id_: str, param: str = "intent") -> StripeError:
    return StripeError(404, f"No such {kind}: '{id_[:80]}'", code="resource_missing", param=param, kept=False)


def unexpected_state(intent: Document, verb: str) -> StripeError:
    return StripeError(
        400,
        f"This PaymentIntent's status is {intent['status']}, so it cannot be {verb}.",
        code="payment_intent_unexpected_state",
        payment_intent=public(intent),
    )


def public(document: Document) -> Document:
    return {name: value for name, value in document.items() if not name.startswith("_")}


def builtin_method(token: str, created_s: int) -> Document | None:
    """The payment method behind a test token; it is always there, so it is not stored."""
    number = issuer.STRIPE_TOKENS.get(token)
    if number is None:
        return None
    return method_document(token, number, 12, 2040, created_s)


def method_document(id_: str, number: str, month: int, year: int, created_s: int) -> Document:
    """A card payment method. Of the number only the last four digits and the issuer's verdict are kept.

    Raises `InvalidPaymentMethod` for a number that is none.
    """
    card = Card(number, month, year)
    verdict = issuer.CARDS.get(number, issuer.APPROVED)
    return {
        "id": id_,
        "object": METHOD,
        "billing_details": {"address": None, "email": None, "name": None, "phone": None},
        "card": {
            "brand": card.brand,
            "checks": {"cvc_check": "pass"},
            "country": "US",
            "exp_month": month,
            "exp_year": year,
            "fingerprint": f"fp{hash_text(number)}",
            "funding": "credit",
            "last4": card.last4,
            "networks": {"available": [card.brand], "preferred": None},
            "three_d_secure_usage": {"supported": True},
        },
        "created": created_s,
        "customer": None,
        "livemode": False,
        "metadata": {},
        "type": "card",
        "_code": verdict.code,
        "_message": verdict.message,
        "_authenticate": verdict.authenticate,
    }


def hash_text(text: str) -> str:
    import hashlib

    return hashlib.sha256(b"sandbox" + text.encode()).hexdigest()[:14]


def verdict_of(method: Document, amount_minor: int) -> issuer.Verdict:
    """What the issuer says to this amount on this method."""
    card = issuer.Verdict(
        code=method["_code"], message=method["_message"], authenticate=method["_authenticate"]
    )
    return issuer.AMOUNTS.get(amount_minor, card) if card == issuer.APPROVED else card


def new_charge(id_: str, intent: Document, method: Document, created_s: int) -> Document:
    return {
        "id": id_,
        "object": CHARGE,
        "amount": intent["amount"],
        "amount_captured": 0,
        "amount_refunded": 0,
        "balance_transaction": None,
        "billing_details": method["billing_details"],
        "captured": False,
        "created": created_s,
        "currency": intent["currency"],
        "customer": intent["customer"],
        "description": intent["description"],
        "disputed": False,
        "failure_code": None,
        "failure_message": None,
        "livemode": False,
        "metadata": intent["metadata"],
        "outcome": None,
        "paid": False,
        "payment_intent": intent["id"],
        "payment_method": method["id"],
        "payment_method_details": {
            "type": "card",
            "card": {
                **{
                    name: method["card"][name]
                    for name in ("brand", "last4", "exp_month", "exp_year", "funding")
                },
                "multicapture": {"status": "available" if intent["_multicapture"] else "unavailable"},
                "capture_before": created_s + 7 * 86400 if intent["capture_method"] == "manual" else None,
            },
        },
        "receipt_url": None,
        "refunded": False,
        "status": "pending",
    }


def decline_error(verdict: issuer.Verdict) -> Document:
    """The error that a decline shows, in an answer and as `last_payment_error`."""
    error: Document = {"type": "card_error", "code": "card_declined", "message": verdict.message}
    if verdict.code in ("expired_card", "incorrect_cvc", "processing_error", "incorrect_number"):
        error["code"] = verdict.code
    elif verdict.code == "authentication_required":
        error["code"] = verdict.code
        error["decline_code"] = verdict.code
    else:
        error["decline_code"] = verdict.code
    return error


def card_method(form: Document, id_: str, created_s: int) -> Document:
    """A payment method from `type=card` and `card[number]`, ... Raises `StripeError`."""
    if form.get("type") != "card":
        raise wrong("Only payment methods of type card are known here.", "type")
    card = form.get("card")
    if not isinstance(card, dict) or "number" not in card:
        raise wrong("Missing required param: card[number].", "card[number]", "parameter_missing")
    number = str(card["number"]).replace(" ", "")
    try:
        month, year = int(card.get("exp_month", "")), int(card.get("exp_year", ""))
    except ValueError:
        raise wrong("The card's expiry is not a number.", "exp_month", "invalid_expiry_month") from None
    try:
        return method_document(id_, number, month, year + 2000 if year < 100 else year, created_s)
    except InvalidPaymentMethod:
        raise StripeError(
            402,
            "Your card number is incorrect.",
            type_="card_error",
            code="incorrect_number",
            param="number",
            kept=False,
        ) from None


def merchant_names(metadata: dict[str, str]) -> tuple[str, str]:
    """What the merchant calls the operation and the payment, as its metadata says; empty where it does not.

    Found by a name that ends in `operation` or `payment`, with or without `_id`.
    """
    operation = payment = ""
    for name, value in metadata.items():
        if name.endswith(("operation", "operation_id")):
            operation = value
        elif name.endswith(("payment", "payment_id")):
            payment = value
    return operation, payment
