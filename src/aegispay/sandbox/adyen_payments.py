"""Payments at the Adyen face: `/payments`, the 3DS page that a payer is sent to, and `/payments/details`."""

from __future__ import annotations

from typing import Any

from aegispay.domain.errors import InvalidPaymentMethod
from aegispay.domain.methods import Card
from aegispay.domain.money import Money
from aegispay.sandbox import three_ds
from aegispay.sandbox.adyen_state import (
    PAYMENT,
    REFERENCE_LENGTH_MAX,
    AdyenError,
    AdyenState,
    Body,
    amount,
    text,
)
from aegispay.sandbox.adyen_tables import NOT_AUTHENTICATED, STORED_METHODS, Refusal, judge
from aegispay.sandbox.documents import Document
from aegispay.sandbox.stripe_objects import merchant_names
from aegispay.sandbox.wire import WireReply, WireRequest, html_reply

ACTION, AUTHORISED, REFUSED = "action", "authorised", "refused"
_BRANDS = {"4": "visa", "5": "mc", "3": "amex", "6": "discover"}


class Payments:
    """Authorisations, with or without the payer."""

    def __init__(self, state: AdyenState) -> None:
        self._state = state

    def pay(self, body: Body) -> tuple[int, Body]:
        state = self._state
        reference = text(body, "reference", length_max=REFERENCE_LENGTH_MAX)
        if not reference:
            raise AdyenError(422, "130", "Reference Missing")
        value, currency, iso_minor = amount(body)
        method = body.get("paymentMethod")
        if not isinstance(method, dict) or not method.get("type"):
            raise AdyenError(422, "14_004", "Missing payment method details")
        if not text(body, "returnUrl"):
            raise AdyenError(422, "14_030", "Return URL is missing.")
        number = _number(method, body)
        extra: dict[str, Any] = body.get("additionalData") or {}
        holder = str(method.get("holderName") or "")
        requested = str(extra.get("RequestedTestAcquirerResponseCode") or "")
        refusal, authenticate = judge(number, holder, requested, iso_minor)
        metadata: dict[str, str] = body.get("metadata") or {}
        payment: Document = {
            "id": state.psp_reference(),
            "reference": reference,
            "status": REFUSED,
            "value": value,
            "iso_minor": iso_minor,
            "currency": currency,
            "captured": 0,
            "released": 0,
            "refunded": 0,
            "manual": self._manual(body),
            "holder": holder,
            "brand": _BRANDS.get(number[0], "visa"),
            "last4": number[-4:],
            "metadata": metadata,
            "order": text(body, "merchantOrderReference"),
            "return_url": body["returnUrl"],
            "token": "",
            "passed": None,
            "refusal": None if refusal is None else [refusal.code, refusal.reason, refusal.result],
        }
        if authenticate:
            payment["status"] = ACTION
            payment["token"] = state.ids.new("X6", 40)
        else:
            self._decide(payment)
        labels = {"reference": reference}
        if payment["token"]:
            labels["token"] = payment["token"]
        state.documents.add(PAYMENT, payment, state.clock.now_us(), labels=labels)
        return 200, self._answer(payment)

    def _manual(self, body: Body) -> bool:
        """Whether the payment waits for a capture; its own word goes before the account's."""
        said = (body.get("additionalData") or {}).get("manualCapture")
        if said in ("true", "false"):
            return bool(said == "true")
        if body.get("captureDelayHours") is not None:
            return bool(body["captureDelayHours"])
        return self._state.manual_capture

    def _decide(self, payment: Document) -> None:
        """The issuer's word, once nothing more is wanted of the payer."""
        state = self._state
        extra = {f"metadata.{name}": value for name, value in payment["metadata"].items()}
        if payment["order"]:
            extra["merchantOrderReference"] = payment["order"]
        if payment["refusal"] is not None:
            payment["status"] = REFUSED
            state.tell("AUTHORISATION", payment, success=False, reason=payment["refusal"][1], extra=extra)
            return
        payment["status"] = AUTHORISED
        operation, payment_ref = merchant_names(payment["metadata"])
        now_us = state.clock.now_us()
        reference = operation or payment["reference"]
        state.bank.authorize(
            state.account,
            payment["id"],
            reference=reference,
            payment_ref=payment_ref,
            amount_minor=payment["iso_minor"],
            currency=payment["currency"],
            at_us=now_us,
        )
        state.tell("AUTHORISATION", payment, reason=f"044925:{payment['last4']}:03/2030", extra=extra)
        if not payment["manual"]:
            # An automatic capture has no webhook of its own.
            payment["captured"] = payment["value"]
            state.bank.capture(
                state.account,
                payment["id"],
                state.psp_reference(),
                reference=reference,
                amount_minor=payment["iso_minor"],
                at_us=now_us,
            )

    def _answer(self, payment: Document) -> Body:
        body: Body = {
            "pspReference": payment["id"],
            "merchantReference": payment["reference"],
            "paymentMethod": {"type": "scheme", "brand": payment["brand"]},
        }
        if payment["status"] == ACTION:
            action = {
                "type": "redirect",
                "method": "GET",
                "paymentMethodType": "scheme",
                "url": f"{self._state.base_url}{three_ds.PATH}{payment['id']}",
            }
            return {**body, "resultCode": "RedirectShopper", "action": action}
        if payment["refusal"] is not None:
            code, reason, result = payment["refusal"]
            return {**body, "resultCode": result, "refusalReason": reason, "refusalReasonCode": code}
        return {
            **body,
            "resultCode": "Authorised",
            "amount": {"currency": payment["currency"], "value": payment["value"]},
            "additionalData": {"authCode": "044925", "cardSummary": payment["last4"]},
        }

    # --- with the payer -------------------------------------------------------------------------------------

    def details(self, body: Body) -> tuple[int, Body]:
        given = body.get("details")
        token = given.get("redirectResult") if isinstance(given, dict) else None
        found = self._state.documents.labelled(PAYMENT, "token", str(token)) if token else []
        if not found:
            raise AdyenError(422, "14_018", "Invalid payload provided")
        payment = found[0]
        if payment["status"] == ACTION:
            if payment["passed"] is not True:
                self._refuse(payment, NOT_AUTHENTICATED)
            self._decide(payment)
            self._state.save(payment)
        return 200, self._answer(payment)

    def _refuse(self, payment: Document, refusal: Refusal) -> None:
        payment["refusal"] = [refusal.code, refusal.reason, refusal.result]

    def page(self, request: WireRequest) -> WireReply:
        """The page that the payer's browser is sent to; the payment is decided by `/payments/details` only."""
        payment = self._state.documents.get(PAYMENT, request.path[len(three_ds.PATH) :])
        if payment is None or not payment["token"]:
            return html_reply(404, three_ds.page("Not found", "", done="There is no such payment."))
        if request.method == "POST":
            passed = three_ds.wants(request.body)
            if passed is None:
                return html_reply(
                    400, three_ds.page("Adyen sandbox", "", done="The form says neither yes nor no.")
                )
            if payment["status"] == ACTION and payment["passed"] is None:
                payment["passed"] = passed
                self._state.save(payment)
            url = three_ds.back_to(payment["return_url"], {"redirectResult": payment["token"]})
            return WireReply(status=303, headers={"location": url}, content_type="text/plain")
        done = None if payment["status"] == ACTION else f"This payment is {payment['status']}."
        money = Money(payment["iso_minor"], payment["currency"]).format()
        return html_reply(200, three_ds.page("Adyen sandbox", money, done=done))


def _number(method: Body, body: Body) -> str:
    """The card behind a stored payment method, a card in the clear, or one in the test environment's `test_...` form."""
    if method["type"] not in ("scheme", "card"):
        raise AdyenError(422, "14_006", "Unsupported payment method")
    stored = method.get("storedPaymentMethodId") or method.get("recurringDetailReference")
    if stored is not None:
        if not text(body, "shopperReference"):
            raise AdyenError(422, "14_007", "Invalid payment method data")
        number = STORED_METHODS.get(str(stored))
        if number is None:
            raise AdyenError(422, "803", "PaymentDetail not found")
        return number
    raw = {
        name: str(method.get(name) or method.get(f"encrypted{name[0].upper()}{name[1:]}") or "").removeprefix(
            "test_"
        )
        for name in ("expiryMonth", "expiryYear")
    }
    number = str(method.get("number") or method.get("encryptedCardNumber") or "").removeprefix("test_")
    try:
        return Card(number, raw["expiryMonth"], raw["expiryYear"]).reveal_number()
    except InvalidPaymentMethod:
        raise AdyenError(422, "101", "Invalid card number") from None
