"""What the handlers of the PayPal face share, and what moves money there: authorisation, capture, release, refund."""

from __future__ import annotations

from aegispay.ports import Clock
from aegispay.sandbox.bank import Bank
from aegispay.sandbox.documents import Document, Documents, PspIds
from aegispay.sandbox.paypal_notices import CERTIFICATE_PATH, Signer, notice
from aegispay.sandbox.paypal_objects import (
    AUTHORIZATION,
    CAPTURE,
    ORDER,
    REFUND,
    PayPalError,
    link,
    money_of,
    names_of,
    time_of,
)
from aegispay.sandbox.webhooks import Notice

AUTHORIZATION_DAYS = 29
INVOICE = "invoice"
PAYEE = {"email_address": "shop@example.com", "merchant_id": "SHXPSANDBXX22"}
_PROTECTION = {"status": "ELIGIBLE", "dispute_categories": ["ITEM_NOT_RECEIVED", "UNAUTHORIZED_TRANSACTION"]}


class PayPalState:
    def __init__(self, bank: Bank, account: str, clock: Clock, seed: int | None, webhook_id: str) -> None:
        self.bank = bank
        self.account = account
        self.clock = clock
        self.documents = Documents(bank, account)
        self.ids = PspIds(bank, account, seed)
        self.webhook_id = webhook_id
        self.signer = Signer()
        self.base_url = ""
        self.unique_invoices = False
        """Whether the account refuses a second payment with an invoice id that one was made with."""
        self.unsent: list[Notice] = []
        """Notices of what is being done; they go out once it is durable."""

    def new_id(self, length: int = 17) -> str:
        return self.ids.new("", length).upper()

    def now_us(self) -> int:
        return self.clock.now_us()

    def announce(self, event_type: str, resource: Document) -> None:
        self.unsent.append(
            notice(
                event_type,
                resource,
                event_id=f"WH-{self.new_id()}-{self.new_id()}",
                transmission_id=f"t{self.ids.new('', 31).lower()}",
                webhook_id=self.webhook_id,
                certificate_url=f"{self.base_url}{CERTIFICATE_PATH}CERT-sandbox",
                signer=self.signer,
                now_us=self.now_us(),
            )
        )

    def get(self, kind: str, id_: str) -> Document:
        found = self.documents.get(kind, id_)
        if found is None:
            raise PayPalError("INVALID_RESOURCE_ID")
        return self._lapsed(found) if kind == AUTHORIZATION else found

    def save(self, kind: str, document: Document) -> None:
        document["update_time"] = time_of(self.now_us())
        self.documents.replace(kind, document, self.now_us())

    # --- invoices -------------------------------------------------------------------------------------------

    def check_invoice(self, invoice: str, owner: str, kind: str) -> None:
        """An order and the captures of its authorisation may share their invoice's id; others may not."""
        taken = self.documents.get(INVOICE, f"{kind}:{invoice}") if self.unique_invoices and invoice else None
        if taken is not None and taken["owner"] != owner:
            raise PayPalError("DUPLICATE_INVOICE_ID")

    def take_invoice(self, invoice: str, owner: str, kind: str) -> None:
        id_ = f"{kind}:{invoice}"
        if invoice and self.documents.get(INVOICE, id_) is None:
            self.documents.add(INVOICE, {"id": id_, "owner": owner}, self.now_us())

    # --- moving money ---------------------------------------------------------------------------------------

    def authorize(self, order: Document, refusal: str) -> Document:
        """An authorisation, or one that was denied."""
        id_, now_us = self.new_id(), self.now_us()
        minor, currency = order["_minor"], order["_currency"]
        authorization: Document = {
            **self._common(id_, order, minor, now_us),
            "status": "DENIED" if refusal else "CREATED",
            "expiration_time": time_of(now_us + AUTHORIZATION_DAYS * 86_400_000_000),
            "links": [
                link(self.base_url, f"/v2/payments/authorizations/{id_}", "self"),
                link(self.base_url, f"/v2/payments/authorizations/{id_}/capture", "capture", "POST"),
                link(self.base_url, f"/v2/payments/authorizations/{id_}/void", "void", "POST"),
            ],
            "_minor": minor,
            "_left": 0 if refusal else minor,
            "_currency": currency,
            "_expires_us": now_us + AUTHORIZATION_DAYS * 86_400_000_000,
        }
        if refusal:
            authorization["processor_response"] = {"response_code": refusal}
        else:
            self._reserve(id_, order)
        self.documents.add(AUTHORIZATION, authorization, now_us, parent=order["id"])
        if not refusal:
            self.announce("PAYMENT.AUTHORIZATION.CREATED", authorization)
        return authorization

    def sell(self, order: Document, refusal: str) -> Document:
        """Authorisation and capture in one, of an order with the intent CAPTURE; or a capture that was declined."""
        id_ = self.new_id()
        if not refusal:
            self._reserve(id_, order)
            self.bank.capture(
                self.account,
                id_,
                id_,
                reference=order["_reference"],
                amount_minor=order["_minor"],
                at_us=self.now_us(),
            )
        return self._captured(id_, order, id_, order["_minor"], refusal=refusal, final=True)

    def capture(
        self, authorization: Document, order: Document, minor: int, invoice: str, final: bool
    ) -> Document:
        """Takes some of an authorisation; what is left is given back with the final capture."""
        id_ = self.new_id()
        self.bank.capture(
            self.account,
            authorization["id"],
            id_,
            reference=invoice,
            amount_minor=minor,
            at_us=self.now_us(),
        )
        authorization["_left"] -= minor
        if final:
            self.release(authorization, invoice)
        whole = not authorization["_left"]
        authorization["status"] = "CAPTURED" if whole else "PARTIALLY_CAPTURED"
        self.save(AUTHORIZATION, authorization)
        return self._captured(id_, order, authorization["id"], minor, final=final or whole, invoice=invoice)

    def release(self, authorization: Document, reference: str) -> None:
        if authorization["_left"]:
            self.bank.release(
                self.account,
                authorization["id"],
                self.new_id(),
                reference=reference,
                amount_minor=authorization["_left"],
                at_us=self.now_us(),
            )
            authorization["_left"] = 0

    def refund(self, capture: Document, minor: int, body: Document) -> Document:
        id_, now_us = self.new_id(), self.now_us()
        self.bank.refund(
            self.account,
            capture["_charge"],
            id_,
            reference=names_of(str(body.get("custom_id") or body.get("invoice_id") or ""))[0],
            amount_minor=minor,
            at_us=now_us,
        )
        capture["_refunded"] += minor
        currency = capture["_currency"]
        capture["status"] = "REFUNDED" if capture["_refunded"] == capture["_minor"] else "PARTIALLY_REFUNDED"
        self.save(CAPTURE, capture)
        amount = money_of(minor, currency)
        total = money_of(capture["_refunded"], currency)
        refund: Document = {
            "id": id_,
            "status": "COMPLETED",
            "amount": amount,
            "seller_payable_breakdown": {
                "gross_amount": amount,
                "net_amount": amount,
                "total_refunded_amount": total,
            },
            "create_time": time_of(now_us),
            "update_time": time_of(now_us),
            "links": [
                link(self.base_url, f"/v2/payments/refunds/{id_}", "self"),
                link(self.base_url, f"/v2/payments/captures/{capture['id']}", "up"),
            ],
        }
        refund |= {name: body[name] for name in ("invoice_id", "custom_id", "note_to_payer") if name in body}
        self.documents.add(REFUND, refund, now_us, parent=capture["_order"])
        self.announce("PAYMENT.CAPTURE.REFUNDED", refund)
        return refund

    def _reserve(self, charge_id: str, order: Document) -> None:
        self.bank.authorize(
            self.account,
            charge_id,
            reference=order["_reference"],
            payment_ref=order["_payment_ref"],
            amount_minor=order["_minor"],
            currency=order["_currency"],
            at_us=self.now_us(),
        )
        self.take_invoice(order["_invoice"], order["id"], "payment")

    def _captured(
        self,
        id_: str,
        order: Document,
        charge_id: str,
        minor: int,
        *,
        refusal: str = "",
        final: bool,
        invoice: str = "",
    ) -> Document:
        now_us, currency = self.now_us(), order["_currency"]
        up = f"/v2/checkout/orders/{order['id']}"
        if charge_id != id_:
            up = f"/v2/payments/authorizations/{charge_id}"
        links = [
            link(self.base_url, f"/v2/payments/captures/{id_}", "self"),
            link(self.base_url, f"/v2/payments/captures/{id_}/refund", "refund", "POST"),
            link(self.base_url, up, "up"),
        ]
        capture: Document = {
            **self._common(id_, order, minor, now_us),
            "status": "DECLINED" if refusal else "COMPLETED",
            "final_capture": final,
            "links": links,
            "_minor": minor,
            "_refunded": 0,
            "_currency": currency,
            "_charge": charge_id,
            "_order": order["id"],
        }
        if invoice:
            capture["invoice_id"] = invoice
            self.take_invoice(invoice, order["id"], "payment")
        if refusal:
            capture["processor_response"] = {"response_code": refusal}
        else:
            gross = money_of(minor, currency)
            capture["seller_receivable_breakdown"] = {"gross_amount": gross, "net_amount": gross}
        self.documents.add(CAPTURE, capture, now_us, parent=order["id"])
        self.announce(f"PAYMENT.CAPTURE.{'DENIED' if refusal else 'COMPLETED'}", capture)
        return capture

    def _common(self, id_: str, order: Document, minor: int, now_us: int) -> Document:
        unit = order["_unit"]
        return {
            "id": id_,
            "amount": money_of(minor, order["_currency"]),
            **{name: unit[name] for name in ("invoice_id", "custom_id") if name in unit},
            "seller_protection": _PROTECTION,
            "supplementary_data": {"related_ids": {"order_id": order["id"]}},
            "create_time": time_of(now_us),
            "update_time": time_of(now_us),
        }

    def _lapsed(self, authorization: Document) -> Document:
        """What nobody captured within its time is given back when it is next looked at."""
        if authorization["_left"] and authorization["_expires_us"] <= self.now_us():
            self.release(authorization, "")
            if authorization["status"] == "CREATED":
                authorization["status"] = "VOIDED"
            authorization["_expired"] = True
            self.save(AUTHORIZATION, authorization)
            self.announce("PAYMENT.AUTHORIZATION.VOIDED", authorization)
        return authorization

    def of_order(self, order_id: str) -> Document:
        """An order's payments, as its purchase unit shows them."""
        found: Document = {}
        for kind in (AUTHORIZATION, CAPTURE, REFUND):
            rows = self.documents.newest(kind, parent=order_id)
            if kind == AUTHORIZATION:
                rows = [self._lapsed(row) for row in rows]
            if rows:
                found[f"{kind}s"] = [
                    {name: value for name, value in row.items() if name[0] != "_"} for row in reversed(rows)
                ]
        return found

    def order(self, id_: str) -> Document:
        return self.get(ORDER, id_)
