"""Authorisations, captures and refunds at PayPal, once an order was paid."""

from __future__ import annotations

from aegispay.sandbox import paypal_objects as shape
from aegispay.sandbox.documents import Document
from aegispay.sandbox.paypal_objects import AUTHORIZATION, CAPTURE, ORDER, REFUND, PayPalError
from aegispay.sandbox.paypal_state import PayPalState


class Payments:
    def __init__(self, state: PayPalState) -> None:
        self._state = state

    def capture(self, id_: str, body: Document, _: str) -> Document:
        """All that is left where no amount is given. `final_capture` is false where it is left out."""
        authorization = self._state.get(AUTHORIZATION, id_)
        if authorization.get("_expired"):
            raise PayPalError("AUTHORIZATION_EXPIRED")
        refused = {
            "VOIDED": "AUTHORIZATION_VOIDED",
            "DENIED": "AUTHORIZATION_DENIED",
            "CAPTURED": "AUTHORIZATION_ALREADY_CAPTURED",
        }.get(authorization["status"])
        if refused:
            raise PayPalError(refused)
        left, currency = authorization["_left"], authorization["_currency"]
        minor = left
        if body.get("amount") is not None:
            minor, asked = shape.minor_of(body["amount"], payments=True)
            if asked != currency:
                raise PayPalError("AUTH_CAPTURE_CURRENCY_MISMATCH")
        if minor > left:
            raise PayPalError("MAX_CAPTURE_AMOUNT_EXCEEDED")
        order_id = authorization["supplementary_data"]["related_ids"]["order_id"]
        invoice = str(body.get("invoice_id", ""))
        self._state.check_invoice(invoice, order_id, "payment")
        order = self._state.get(ORDER, order_id)
        return self._state.capture(
            authorization, order, minor, invoice, final=body.get("final_capture", False) is True
        )

    def void(self, id_: str, _: Document, __: str) -> Document:
        authorization = self._state.get(AUTHORIZATION, id_)
        if authorization["status"] == "VOIDED":
            raise PayPalError("PREVIOUSLY_VOIDED")
        if authorization["status"] != "CREATED" and not authorization["_left"]:
            raise PayPalError("PREVIOUSLY_CAPTURED")
        self._state.release(authorization, "")
        authorization["status"] = "VOIDED"
        self._state.save(AUTHORIZATION, authorization)
        self._state.announce("PAYMENT.AUTHORIZATION.VOIDED", authorization)
        return authorization

    def reauthorize(self, id_: str, _: Document, __: str) -> Document:
        """This account cannot: what is not captured within its time lapses."""
        self._state.get(AUTHORIZATION, id_)
        raise PayPalError("REAUTHORIZATION_NOT_SUPPORTED")

    def refund(self, id_: str, body: Document, _: str) -> Document:
        """All that is left where no amount is given."""
        capture = self._state.get(CAPTURE, id_)
        if capture["status"] == "DECLINED":
            raise PayPalError("REFUND_NOT_ALLOWED")
        left, currency = capture["_minor"] - capture["_refunded"], capture["_currency"]
        if not left:
            raise PayPalError("CAPTURE_FULLY_REFUNDED")
        minor = left
        if body.get("amount") is not None:
            minor, asked = shape.minor_of(body["amount"], payments=True)
            if asked != currency:
                raise PayPalError("REFUND_CAPTURE_CURRENCY_MISMATCH")
        if minor > left:
            raise PayPalError("REFUND_AMOUNT_EXCEEDED")
        invoice = str(body.get("invoice_id", ""))
        self._state.check_invoice(invoice, "", "refund")
        refund = self._state.refund(capture, minor, body)
        self._state.take_invoice(invoice, refund["id"], "refund")
        return refund

    def one(self, kind: str, id_: str) -> Document:
        return self._state.get({"authorizations": AUTHORIZATION, "captures": CAPTURE}.get(kind, REFUND), id_)
