"""Orders at PayPal: made, approved by the payer on a page, then captured or authorised.

A decline of a card is no error there: the order is COMPLETED, with a capture that is DECLINED.
"""

from __future__ import annotations

from typing import Any

from aegispay.sandbox import paypal_objects as shape
from aegispay.sandbox.documents import Document
from aegispay.sandbox.paypal_objects import ORDER, PayPalError, link, money_of, time_of
from aegispay.sandbox.paypal_state import PAYEE, PayPalState
from aegispay.sandbox.three_ds import PATH, back_to

TEXT_MAX = {
    "reference_id": 256,
    "description": 127,
    "custom_id": 127,
    "invoice_id": 127,
    "soft_descriptor": 22,
}


class Orders:
    def __init__(self, state: PayPalState) -> None:
        self._state = state

    def create(self, _: str, body: Document, key: str) -> Document:
        """A card, or a wallet that the vault knows, pays at once; a wallet without that waits for its payer."""
        intent = body.get("intent")
        if intent not in ("CAPTURE", "AUTHORIZE"):
            issue = "MISSING_REQUIRED_PARAMETER" if intent is None else "INVALID_PARAMETER_VALUE"
            raise PayPalError(issue, field="/intent")
        unit = _unit(body)
        minor, currency = shape.minor_of(unit.get("amount"), "/purchase_units/@reference_id/amount")
        source = shape.source_of(body.get("payment_source"))
        if source["number"] and not key:
            raise PayPalError("PAYPAL_REQUEST_ID_REQUIRED")
        now_us, id_ = self._state.now_us(), self._state.new_id()
        context = {**(body.get("application_context") or {}), **source["context"]}
        operation, payment = shape.names_of(str(unit.get("custom_id") or unit.get("invoice_id") or key))
        order: Document = {
            "id": id_,
            "intent": intent,
            "status": "PAYER_ACTION_REQUIRED" if body.get("payment_source") else "CREATED",
            "create_time": time_of(now_us),
            "update_time": time_of(now_us),
            "_unit": {name: unit[name] for name in TEXT_MAX if name in unit},
            "_minor": minor,
            "_currency": currency,
            "_source": {**source, "context": {}},
            "_reference": operation,
            "_payment_ref": payment or str(unit.get("reference_id", "")),
            "_invoice": str(unit.get("invoice_id", "")),
            "_urls": [context.get("return_url"), context.get("cancel_url")],
        }
        pays_now = bool(source["number"]) and not shape.wants_payer(source, minor)
        if pays_now:
            self._state.check_invoice(order["_invoice"], id_, "payment")
        self._state.documents.add(ORDER, order, now_us)
        if pays_now:
            self._pay(order)
        return self.view(order)

    def capture(self, id_: str, body: Document, _: str) -> Document:
        return self._complete(id_, body, "CAPTURE", "ORDER_ALREADY_CAPTURED")

    def authorize(self, id_: str, body: Document, _: str) -> Document:
        return self._complete(id_, body, "AUTHORIZE", "ORDER_ALREADY_AUTHORIZED")

    def show(self, id_: str) -> Document:
        return self.view(self._state.order(id_))

    def _complete(self, id_: str, body: Document, intent: str, done: str) -> Document:
        order = self._state.order(id_)
        if order["intent"] != intent:
            raise PayPalError("ACTION_DOES_NOT_MATCH_INTENT")
        if order["status"] == "COMPLETED":
            raise PayPalError(done)
        if body.get("payment_source"):
            source = shape.source_of(body["payment_source"])
            if source["number"]:
                order["_source"], order["status"] = {**source, "context": {}}, "APPROVED"
        if order["status"] != "APPROVED":
            card = order["_source"]["kind"] == "card"
            raise PayPalError("PAYER_ACTION_REQUIRED" if card else "ORDER_NOT_APPROVED")
        self._state.check_invoice(order["_invoice"], id_, "payment")
        self._pay(order)
        return self.view(order)

    def _pay(self, order: Document) -> None:
        refusal = shape.refusal_of(order["_source"], order["_minor"])
        if refusal and order["_source"]["kind"] == "paypal":
            # The wallet has other instruments: PayPal asks the payer to choose again, and nothing was executed.
            order["status"] = "PAYER_ACTION_REQUIRED"
            self._state.save(ORDER, order)
            raise PayPalError("INSTRUMENT_DECLINED")
        if order["intent"] == "AUTHORIZE":
            self._state.authorize(order, refusal)
        else:
            self._state.sell(order, refusal)
        order["status"] = "COMPLETED"
        self._state.save(ORDER, order)

    # --- the payer ------------------------------------------------------------------------------------------

    def decide(self, id_: str, approved: bool, funding: str = "visa") -> str | None:
        """What the payer did on the page; returns the address to go back to. `funding`: one of `paypal_objects.VAULT`."""
        order = self._state.order(id_)
        return_url, cancel_url = order["_urls"]
        if order["status"] not in ("CREATED", "PAYER_ACTION_REQUIRED"):
            return None
        if not approved:
            return back_to(cancel_url, {"token": id_}) if cancel_url else None
        if order["_source"]["kind"] == "paypal":
            order["_source"]["number"] = shape.VAULT[funding]
            order["_source"]["shown"] = shape.wallet_shown()
        order["status"] = "APPROVED"
        self._state.save(ORDER, order)
        self._state.announce("CHECKOUT.ORDER.APPROVED", self.view(order))
        return back_to(return_url, {"token": id_, "PayerID": "PAYERSANDBXX2"}) if return_url else None

    def view(self, order: Document) -> Document:
        """The order as PayPal shows it, with the payments that were made of it."""
        id_, base = order["id"], self._state.base_url
        unit = {"reference_id": "default", **order["_unit"]}
        unit |= {"amount": money_of(order["_minor"], order["_currency"]), "payee": PAYEE}
        payments = self._state.of_order(id_)
        if payments:
            unit["payments"] = payments
        links = [link(base, f"/v2/checkout/orders/{id_}", "self")]
        if order["status"] in ("CREATED", "PAYER_ACTION_REQUIRED"):
            rel = "approve" if order["status"] == "CREATED" else "payer-action"
            links.append(link(base, f"{PATH}{id_}", rel))
        if order["status"] in ("CREATED", "APPROVED"):
            verb = order["intent"].lower()
            links.append(link(base, f"/v2/checkout/orders/{id_}/{verb}", verb, "POST"))
        view: Document = {name: value for name, value in order.items() if name[0] != "_"}
        view |= {"purchase_units": [unit], "links": links}
        source = order["_source"]
        if source["shown"] or order["status"] != "CREATED":
            view["payment_source"] = {source["kind"]: source["shown"]}
        return view


def _unit(body: Document) -> Document:
    units: Any = body.get("purchase_units")
    if not isinstance(units, list) or not units or not isinstance(units[0], dict):
        raise PayPalError("MISSING_REQUIRED_PARAMETER", field="/purchase_units")
    if len(units) > 1:
        # PayPal takes ten; this account, like most shops, takes one.
        raise PayPalError("INVALID_ARRAY_MAX_ITEMS", field="/purchase_units")
    unit: Document = units[0]
    for name, longest in TEXT_MAX.items():
        if name in unit and not 1 <= len(str(unit[name])) <= longest:
            raise PayPalError("INVALID_STRING_LENGTH", field=f"/purchase_units/0/{name}")
    return unit
