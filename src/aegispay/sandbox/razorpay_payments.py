"""Payments at Razorpay: made against an order, authenticated by the payer on a page or by OTP, captured whole."""

from __future__ import annotations

from aegispay.sandbox import razorpay_objects as shape
from aegispay.sandbox.documents import Document
from aegispay.sandbox.razorpay_notices import signed_callback
from aegispay.sandbox.razorpay_objects import ORDER, PAYMENT, RazorpayError
from aegispay.sandbox.razorpay_state import OPERATION_NOTE, PAYMENT_NOTE, RazorpayState
from aegispay.sandbox.three_ds import PATH

OTP_LENGTHS = range(4, 11)
"""In test mode an OTP of so many digits is right, whatever it says."""


class Payments:
    def __init__(self, state: RazorpayState, key_id: str, key_secret: str) -> None:
        self._state = state
        self._key_id = key_id
        self._key_secret = key_secret

    def create(self, body: Document) -> Document:
        """`/payments/create/json`: the payer must authenticate, always."""
        payment = self._new(body)
        id_ = payment["id"]
        query = f"key_id={self._key_id}"
        otp = f"{self._state.base_url}/v1/payments/{id_}/otp_generate?track_id={id_[4:]}&{query}"
        return {
            "razorpay_payment_id": id_,
            "next": [
                {"action": "redirect", "url": f"{self._state.base_url}{PATH}{id_}"},
                {"action": "otp_generate", "url": otp},
            ],
        }

    def create_recurring(self, body: Document) -> dict[str, str]:
        """`/payments/create/recurring`: a mandate is charged, and the answer is the payment's."""
        if body.get("recurring") not in (True, "1", 1, "preferred"):
            raise shape.wrong("The recurring field is required.", "recurring")
        for name in ("customer_id", "token"):
            if not body.get(name):
                raise shape.wrong(f"The {name} field is required.", name)
        payment = self._new(body)
        self._state.decide(payment)
        if payment["status"] == "failed":
            raise shape.decline(payment)
        return self._callback(payment)

    def pay_order(self, order_id: str, token: str = "token_visa") -> Document:  # noqa: S107 - a test token's name
        """What the payer does in Razorpay's Checkout: pays the order with this saved card, and authenticates."""
        order = self._state.order(order_id)
        body: Document = {
            "amount": order["amount"],
            "currency": order["currency"],
            "order_id": order_id,
            "email": "payer@example.com",
            "contact": "+919999999999",
            "method": "card",
            "token": token,
            "notes": order["notes"] or {},
        }
        payment = self._new(body)
        self._state.decide(payment)
        return payment

    def _new(self, body: Document) -> Document:
        for name in ("email", "contact", "order_id"):
            if not body.get(name):
                raise shape.wrong(f"The {name.replace('_', ' ')} field is required.", name)
        if body.get("method", "card") != "card":
            raise shape.wrong("The method is not enabled for this account.", "method")
        order = self._state.order(str(body["order_id"]))
        if order["status"] == "paid":
            raise shape.wrong("The order is already paid.", "order_id")
        currency = shape.currency_of(body)
        if (shape.amount_of(body, currency), currency) != (order["amount"], order["currency"]):
            raise shape.wrong("Your payment amount is different from your order amount.", "amount")
        number, card = shape.card_of(body)
        now_us = self._state.clock.now_us()
        payment = shape.new_payment(self._state.ids.new("pay_", 14), order, body, self._state.now_s())
        card["id"] = payment["card_id"] = self._state.ids.new("card_", 14)
        if body.get("token"):
            payment["token_id"] = body["token"]
        if body.get("customer_id"):
            payment["customer_id"] = body["customer_id"]
        notes = payment["notes"] or order["notes"] or {}
        payment.update(
            _card=card,
            _verdict=shape.verdict_of(number, order["amount"]),
            _late=body.get("token") == shape.LATE_TOKEN,
            _callback_url=body.get("callback_url"),
            _reference=str(notes.get(OPERATION_NOTE) or order["receipt"] or ""),
            _payment_ref=str(notes.get(PAYMENT_NOTE, "")),
        )
        self._state.documents.add(PAYMENT, payment, now_us, parent=order["id"])
        order["attempts"] += 1
        order["status"] = "attempted"
        self._state.save(ORDER, order)
        return payment

    # --- the payer authenticates ----------------------------------------------------------------------------

    def authenticate(self, payment: Document, passed: bool) -> None:
        if payment["status"] != "created":
            return
        if passed:
            self._state.decide(payment)
        else:
            self._state.fail(payment, "authentication_failed", "The payer could not be authenticated.")

    def callback(self, payment: Document) -> dict[str, str]:
        """The form that the payer's browser posts to the merchant."""
        if payment["status"] != "failed":
            return self._callback(payment)
        error = shape.decline(payment).body["error"]
        names = ("code", "description", "source", "step", "reason")
        fields = {f"error[{name}]": str(error[name]) for name in names}
        metadata = '{"payment_id":"%s","order_id":"%s"}' % (payment["id"], payment["order_id"])  # noqa: UP031
        return {**fields, "error[metadata]": metadata}

    def otp_generate(self, id_: str) -> Document:
        payment = self._unauthenticated(id_)
        base, query = f"{self._state.base_url}/v1/payments/{id_}", f"key_id={self._key_id}"
        card = payment["_card"]
        return {
            "razorpay_payment_id": id_,
            "next": [
                {"action": "otp_submit", "url": f"{base}/otp/submit?{query}"},
                {"action": "otp_resend", "url": f"{base}/otp/resend?{query}"},
            ],
            "metadata": {
                "issuer": card["issuer"],
                "network": card["network"],
                "last4": card["last4"],
                "iin": card["_iin"],
            },
        }

    def otp_submit(self, id_: str, body: Document) -> dict[str, str]:
        payment = self._unauthenticated(id_)
        otp = str(body.get("otp", ""))
        if not otp.isdigit() or len(otp) not in OTP_LENGTHS:
            raise RazorpayError(
                "payment processing failed because of incorrect otp",
                source="customer",
                step="payment_authentication",
                reason="incorrect_otp",
                metadata={"payment_id": id_, "order_id": payment["order_id"]},
                next=["otp_submit", "otp_resend"],
            )
        self._state.decide(payment)
        if payment["status"] == "failed":
            raise shape.decline(payment)
        return self._callback(payment)

    def _unauthenticated(self, id_: str) -> Document:
        payment = self._state.payment(id_)
        if payment["status"] != "created":
            raise shape.wrong("The payment has already been processed.")
        return payment

    def _callback(self, payment: Document) -> dict[str, str]:
        return signed_callback(payment["order_id"], payment["id"], self._key_secret)

    # --- capture --------------------------------------------------------------------------------------------

    def capture(self, id_: str, body: Document) -> Document:
        payment = self._state.payment(id_)
        currency = shape.currency_of(body) if "currency" in body else payment["currency"]
        amount = shape.amount_of(body)
        if payment["captured"]:
            raise shape.wrong("This payment has already been captured")
        if payment["status"] == "refunded":
            raise shape.wrong("The payment has been fully refunded already")
        if payment["status"] != "authorized":
            raise shape.wrong("Only payments which have been authorized and not yet captured can be captured")
        if (amount, currency) != (payment["amount"], payment["currency"]):
            raise shape.wrong("Capture amount must be equal to the amount authorized", "amount")
        if self._state.order(payment["order_id"])["status"] == "paid":
            raise shape.wrong("The order is already paid.")
        self._state.capture(payment)
        return payment
