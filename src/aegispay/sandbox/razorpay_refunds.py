"""Refunds at Razorpay: of a captured payment, whole or in parts."""

from __future__ import annotations

from aegispay.sandbox import razorpay_objects as shape
from aegispay.sandbox.documents import Document
from aegispay.sandbox.razorpay_objects import PAYMENT, REFUND
from aegispay.sandbox.razorpay_state import OPERATION_NOTE, RazorpayState


class Refunds:
    def __init__(self, state: RazorpayState) -> None:
        self._state = state

    def create(self, payment_id: str, body: Document) -> Document:
        payment = self._state.payment(payment_id)
        left = payment["amount"] - payment["amount_refunded"]
        if not left:
            raise shape.wrong("The payment has been fully refunded already")
        if not payment["captured"]:
            raise shape.wrong("The payment status should be captured for action to be taken")
        amount = shape.amount_of(body, payment["currency"]) if body.get("amount") is not None else left
        if body.get("speed", "normal") not in ("normal", "optimum"):
            raise shape.wrong("The speed is normal or optimum.", "speed")
        if amount > left:
            raise shape.wrong("The total refund amount is greater than the refund payment amount", "amount")
        state = self._state
        refund = shape.new_refund(state.ids.new("rfnd_", 14), payment, amount, body, state.now_s())
        refund["status"] = state.refund_status
        notes = refund["notes"] or {}
        state.bank.refund(
            state.account,
            payment_id,
            refund["id"],
            reference=str(notes.get(OPERATION_NOTE) or refund["receipt"] or ""),
            amount_minor=amount,
            at_us=state.clock.now_us(),
        )
        state.documents.add(REFUND, refund, state.clock.now_us(), parent=payment_id)
        payment["amount_refunded"] += amount
        full = payment["amount_refunded"] == payment["amount"]
        payment["refund_status"] = "full" if full else "partial"
        if full:
            payment["status"] = "refunded"
        state.save(PAYMENT, payment)
        state.announce("refund.created", {"refund": refund, "payment": payment})
        if refund["status"] == "processed":
            state.announce("refund.processed", {"refund": refund, "payment": payment})
        return refund

    def finish(self, id_: str) -> Document:
        """A pending refund has reached the payer."""
        refund = self.one(id_)
        if refund["status"] == "pending":
            refund["status"] = "processed"
            self._state.save(REFUND, refund)
            payment = self._state.payment(refund["payment_id"])
            self._state.announce("refund.processed", {"refund": refund, "payment": payment})
        return refund

    def one(self, id_: str) -> Document:
        found = self._state.documents.get(REFUND, id_)
        if found is None:
            raise shape.missing()
        return found

    def of_payment(self, payment_id: str) -> Document:
        self._state.payment(payment_id)
        return shape.collection(self._state.documents.newest(REFUND, parent=payment_id))

    def of_payment_one(self, payment_id: str, id_: str) -> Document:
        refund = self.one(id_)
        if refund["payment_id"] != payment_id:
            raise shape.missing()
        return refund
