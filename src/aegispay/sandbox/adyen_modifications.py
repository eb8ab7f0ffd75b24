"""Modifications at the Adyen face: captures, cancels, refunds and reversals.

Each is answered `received` whatever becomes of it; the outcome is told by webhook only, and there is nothing to ask for it.
"""

from __future__ import annotations

from typing import Any

from aegispay.sandbox.adyen_payments import ACTION, AUTHORISED, REFUSED
from aegispay.sandbox.adyen_state import (
    PAYMENT,
    REFERENCE_LENGTH_MAX,
    AdyenError,
    AdyenState,
    Body,
    amount,
    text,
)
from aegispay.sandbox.adyen_tables import CAPTURE_FAILS, REFUND_FAILS, to_iso_minor
from aegispay.sandbox.documents import Document

NO_BALANCE = "Insufficient balance on payment"
NOT_CAPTURED = "Transaction hasn't been captured, refund not possible"
CAPTURED = "Transaction has already been captured"
NOT_FOUND = "Transaction not found"


class Modifications:
    """What is done to an authorised payment."""

    def __init__(self, state: AdyenState) -> None:
        self._state = state

    def capture(self, id_: str, body: Body) -> tuple[int, Body]:
        payment = self._state.payment(id_)
        value, iso_minor = self._amount(payment, body)
        answer, reference = self._received(payment, body)
        answer["amount"] = body["amount"]
        told: dict[str, Any] = {
            "psp_reference": answer["pspReference"],
            "reference": reference,
            "value": value,
        }
        if payment["status"] != AUTHORISED or value > _held(payment):
            self._state.tell("CAPTURE", payment, success=False, reason=NO_BALANCE, **told)
            return 201, answer
        self._state.tell("CAPTURE", payment, **told)
        if payment["holder"] == CAPTURE_FAILS:
            # As in the official example, it is the event's code that says no: `success` is "true".
            self._state.tell("CAPTURE_FAILED", payment, reason="Capture Failed", **told)
            return 201, answer
        payment["captured"] += value
        self._book("capture", payment, answer["pspReference"], reference, iso_minor)
        if not self._state.multiple_captures:
            self._release(payment, self._state.psp_reference(), reference)
        self._state.save(payment)
        return 201, answer

    def cancel(self, id_: str, body: Body) -> tuple[int, Body]:
        payment = self._state.payment(id_)
        answer, reference = self._received(payment, body)
        self._cancel(payment, "CANCELLATION", answer["pspReference"], reference)
        return 201, answer

    def cancel_by_reference(self, _: str, body: Body) -> tuple[int, Body]:
        """Cancels whatever was authorised under the merchant's reference so far; a later request is not stopped."""
        wanted = text(body, "paymentReference")
        if not wanted:
            raise AdyenError(422, "130", "Reference Missing")
        psp_reference = self._state.psp_reference()
        answer: Body = {
            "merchantAccount": self._state.merchant_account,
            "paymentReference": wanted,
            "pspReference": psp_reference,
            "status": "received",
        }
        reference = text(body, "reference", length_max=REFERENCE_LENGTH_MAX)
        if reference:
            answer["reference"] = reference
        found = self._state.documents.labelled(PAYMENT, "reference", wanted)
        for payment in found:
            # The notice names the payment's own reference, not the cancel's.
            self._cancel(payment, "TECHNICAL_CANCEL", psp_reference, payment["reference"], reference)
        if not found:
            self._state.tell_unknown("TECHNICAL_CANCEL", psp_reference, wanted, NOT_FOUND)
        return 201, answer

    def refund(self, id_: str, body: Body) -> tuple[int, Body]:
        payment = self._state.payment(id_)
        value, iso_minor = self._amount(payment, body)
        answer, reference = self._received(payment, body)
        answer["amount"] = body["amount"]
        for name in ("merchantRefundReason", "capturePspReference"):
            if name in body:
                answer[name] = body[name]
        self._refund(payment, "REFUND", answer["pspReference"], reference, value, iso_minor, {})
        return 201, answer

    def reverse(self, id_: str, body: Body) -> tuple[int, Body]:
        """A cancel where nothing was captured, else a refund in full."""
        payment = self._state.payment(id_)
        answer, reference = self._received(payment, body)
        if payment["captured"]:
            value = payment["captured"] - payment["refunded"]
            iso_minor = self._iso(payment, value)
            extra = {"modification.action": "refund"}
            self._refund(
                payment, "CANCEL_OR_REFUND", answer["pspReference"], reference, value, iso_minor, extra
            )
        else:
            self._cancel(payment, "CANCEL_OR_REFUND", answer["pspReference"], reference)
        return 201, answer

    def expire(self, id_: str) -> None:
        """The authorisation runs out: what is still reserved is given back, and EXPIRE is told."""
        payment = self._state.payment(id_)
        self._release(payment, self._state.psp_reference(), "")
        self._state.save(payment)
        self._state.tell("EXPIRE", payment)

    # --- what they share ------------------------------------------------------------------------------------

    def _received(self, payment: Document, body: Body) -> tuple[Body, str]:
        reference = text(body, "reference", length_max=REFERENCE_LENGTH_MAX)
        answer: Body = {
            "merchantAccount": self._state.merchant_account,
            "paymentPspReference": payment["id"],
            "pspReference": self._state.psp_reference(),
            "status": "received",
        }
        if reference:
            answer["reference"] = reference
        return answer, reference

    def _amount(self, payment: Document, body: Body) -> tuple[int, int]:
        value, currency, iso_minor = amount(body)
        if currency != payment["currency"]:
            raise AdyenError(422, "138", "Unsupported currency specified")
        return value, iso_minor

    def _iso(self, payment: Document, value: int) -> int:
        found = to_iso_minor(value, payment["currency"])
        if found is None:
            raise RuntimeError(f"{value} {payment['currency']} was booked and is no amount")
        return found

    def _cancel(
        self, payment: Document, code: str, psp_reference: str, reference: str, bank_name: str = ""
    ) -> None:
        extra = {"modification.action": "cancel"} if code == "CANCEL_OR_REFUND" else None
        told: dict[str, Any] = {"psp_reference": psp_reference, "reference": reference, "extra": extra}
        held = _held(payment)
        if payment["status"] == ACTION:
            payment["status"] = REFUSED
            payment["refusal"] = ["15", "Cancelled", "Cancelled"]
        elif not held:
            reason = CAPTURED if payment["captured"] else NO_BALANCE
            self._state.tell(code, payment, success=False, reason=reason, **told)
            return
        else:
            self._release(payment, psp_reference, bank_name or reference)
        self._state.save(payment)
        self._state.tell(code, payment, **told)

    def _refund(
        self,
        payment: Document,
        code: str,
        psp_reference: str,
        reference: str,
        value: int,
        iso_minor: int,
        extra: dict[str, str],
    ) -> None:
        told: dict[str, Any] = {
            "psp_reference": psp_reference,
            "reference": reference,
            "value": value,
            "extra": extra,
        }
        if not 0 < value <= payment["captured"] - payment["refunded"]:
            reason = NO_BALANCE if payment["captured"] else NOT_CAPTURED
            self._state.tell(code, payment, success=False, reason=reason, **told)
            return
        self._state.tell(code, payment, **told)
        if payment["holder"] == REFUND_FAILS:
            self._state.tell("REFUND_FAILED", payment, reason="Refund Failed", **told)
            return
        payment["refunded"] += value
        self._book("refund", payment, psp_reference, reference, iso_minor)
        self._state.save(payment)

    def _release(self, payment: Document, psp_reference: str, reference: str) -> None:
        held = _held(payment)
        if held:
            payment["released"] += held
            self._book("release", payment, psp_reference, reference, self._iso(payment, held))

    def _book(self, kind: str, payment: Document, id_: str, reference: str, iso_minor: int) -> None:
        bank = self._state.bank
        move = {"capture": bank.capture, "release": bank.release, "refund": bank.refund}[kind]
        move(
            self._state.account,
            payment["id"],
            id_,
            reference=reference,
            amount_minor=iso_minor,
            at_us=self._state.clock.now_us(),
        )


def _held(payment: Document) -> int:
    """What is still reserved, as Adyen counts it."""
    if payment["status"] != AUTHORISED:
        return 0
    return int(payment["value"] - payment["captured"] - payment["released"])
