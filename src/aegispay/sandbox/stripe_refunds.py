"""Refunds at the Stripe face."""

from __future__ import annotations

from aegispay.sandbox import stripe_objects as shape
from aegispay.sandbox.documents import Document
from aegispay.sandbox.stripe_call import Call, StripeState
from aegispay.sandbox.stripe_money import amount_rule_broken, to_iso_minor
from aegispay.sandbox.stripe_objects import CHARGE, PAYMENT_INTENT, REFUND, StripeError

REFUND_PARAMS = frozenset(
    ["payment_intent", "charge", "amount", "reason", "metadata", "expand", "currency", "instructions_email"]
)
_REASONS = ("duplicate", "fraudulent", "requested_by_customer")


class Refunds:
    """Money paid back on a PaymentIntent's charge."""

    def __init__(self, state: StripeState) -> None:
        self._state = state
        self._documents = state.documents

    def create(self, call: Call) -> Document:
        call.check(REFUND_PARAMS)
        asked = call.integer("amount")
        metadata = call.metadata()
        reason = call.form.get("reason")
        if reason is not None and reason not in _REASONS:
            raise shape.wrong(f"Invalid reason: must be one of {', '.join(_REASONS)}", "reason")
        if asked is not None and asked < 1:
            raise shape.wrong(
                "This value must be greater than or equal to 1.", "amount", "parameter_invalid_integer"
            )
        intent = self._target(call)
        charge = self._documents.get(CHARGE, intent["latest_charge"] or "")
        if charge is None or not intent["amount_received"]:
            raise StripeError(
                400,
                "This PaymentIntent has no successful charge to refund.",
                code="charge_not_captured",
                param="payment_intent",
            )
        room = charge["amount_captured"] - charge["amount_refunded"]
        if room == 0:
            raise StripeError(
                400, f"Charge {charge['id']} was refunded already.", code="charge_already_refunded"
            )
        amount = room if asked is None else asked
        if amount > room:
            raise StripeError(
                400, f"A refund of {amount} is more than the {room} that is left.", param="amount"
            )
        currency = intent["currency"].upper()
        broken = amount_rule_broken(amount, currency)
        if broken:
            raise shape.wrong(f"Invalid amount: {broken}.", "amount", "parameter_invalid_integer")
        refund = self._new(call, intent, charge, amount, metadata, reason)
        refund["_reference"] = shape.merchant_names(metadata)[0] or call.key
        if self._state.settles_later:
            refund["status"] = "pending"
        else:
            self._pay_back(refund, call.now_us)
        charge["amount_refunded"] += amount
        charge["refunded"] = (
            charge["amount_refunded"] == charge["amount_captured"] and not intent["amount_capturable"]
        )
        self._documents.replace(CHARGE, charge, call.now_us)
        self._documents.add(REFUND, refund, call.now_us, parent=intent["id"])
        self._state.announce("refund.created", refund, call.key)
        return refund

    def finish(self, id_: str, paid: bool) -> Document:
        """The final word on a refund that is pending: the payer's bank took it, or sent it back."""
        refund = self._documents.get(REFUND, id_)
        if refund is None:
            raise shape.missing("refund", id_, "id")
        if refund["status"] != "pending":
            return refund
        now_us = self._state.clock.now_us()
        if paid:
            refund["status"] = "succeeded"
            self._pay_back(refund, now_us)
        else:
            refund.update(status="failed", failure_reason="declined")
            charge = self._documents.get(CHARGE, refund["charge"]) or {}
            charge["amount_refunded"] -= refund["amount"]
            charge["refunded"] = False
            self._documents.replace(CHARGE, charge, now_us)
        self._documents.replace(REFUND, refund, now_us)
        self._state.announce("refund.updated", refund)
        if not paid:
            self._state.announce("refund.failed", refund)
        return refund

    def _pay_back(self, refund: Document, now_us: int) -> None:
        self._state.bank.refund(
            self._state.account,
            refund["payment_intent"],
            refund["id"],
            reference=refund["_reference"],
            amount_minor=to_iso_minor(refund["amount"], refund["currency"].upper()),
            at_us=now_us,
        )

    def _target(self, call: Call) -> Document:
        id_, charge_id = call.form.get("payment_intent"), call.form.get("charge")
        if charge_id is not None:
            charge = self._documents.get(CHARGE, str(charge_id))
            if charge is None:
                raise shape.missing("charge", str(charge_id), "charge")
            id_ = charge["payment_intent"]
        if id_ is None:
            raise shape.wrong(
                "One of payment_intent and charge is needed.", "payment_intent", "parameter_missing"
            )
        found = self._documents.get(PAYMENT_INTENT, str(id_))
        if found is None:
            raise shape.missing("payment_intent", str(id_), "payment_intent")
        return found

    def _new(
        self,
        call: Call,
        intent: Document,
        charge: Document,
        amount: int,
        metadata: dict[str, str],
        reason: str | None,
    ) -> Document:
        return {
            "id": self._state.ids.new("re_"),
            "object": REFUND,
            "amount": amount,
            "balance_transaction": self._state.ids.new("txn_"),
            "charge": charge["id"],
            "created": call.now_s,
            "currency": intent["currency"],
            "destination_details": {
                "type": "card",
                "card": {"type": "refund", "reference_status": "pending"},
            },
            "metadata": metadata,
            "payment_intent": intent["id"],
            "reason": reason,
            "receipt_number": None,
            "status": "succeeded",
        }
