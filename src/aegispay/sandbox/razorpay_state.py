"""What the handlers of the Razorpay face share, and what moves money there: authorisation, capture, lapse.

Time does things at Razorpay: a payment that failed may turn out to have gone through, and one that nobody captures is
given back. Both happen here when the payment is next looked at, at the time at which they were due.
"""

from __future__ import annotations

from aegispay.ports import Clock
from aegispay.sandbox import razorpay_objects as shape
from aegispay.sandbox.bank import Bank
from aegispay.sandbox.documents import Document, Documents, PspIds
from aegispay.sandbox.razorpay_notices import notice
from aegispay.sandbox.razorpay_objects import ORDER, PAYMENT, REFUND
from aegispay.sandbox.webhooks import Notice

MANUAL_EXPIRY_MINUTES = 5 * 24 * 60
"""Where an order says nothing: so long after its creation a payment that nobody captured is given back."""
ACCOUNT_ID = "acc_SandboxRzp0001"
OPERATION_NOTE, PAYMENT_NOTE = "aegispay_operation", "aegispay_payment"
"""By these notes the bank's books name the merchant's operation and payment; without them, by the receipt."""


class RazorpayState:
    def __init__(self, bank: Bank, account: str, clock: Clock, seed: int | None, webhook_secret: str) -> None:
        self.bank = bank
        self.account = account
        self.clock = clock
        self.documents = Documents(bank, account)
        self.ids = PspIds(bank, account, seed)
        self.webhook_secret = webhook_secret
        self.base_url = ""
        self.late_s = 60.0
        """How long after it failed a payment with the late token turns out to have gone through."""
        self.payment_timeout_s = 600.0
        """For so long the payer has time to authenticate; then the payment fails."""
        self.refund_status = "processed"
        """In what status a refund begins: `processed`, or `pending`."""
        self.unsent: list[Notice] = []
        """Notices of what is being done; they go out once it is durable."""

    def now_s(self) -> int:
        return self.clock.now_us() // 1_000_000

    def announce(self, event: str, entities: dict[str, Document]) -> None:
        self.unsent.append(
            notice(
                event,
                entities,
                event_id=self.ids.new("", 14),
                account_id=ACCOUNT_ID,
                secret=self.webhook_secret,
                now_us=self.clock.now_us(),
            )
        )

    # --- reading: time has passed ---------------------------------------------------------------------------

    def order(self, id_: str) -> Document:
        found = self.documents.get(ORDER, id_)
        if found is None:
            raise shape.missing()
        for payment in self.documents.newest(PAYMENT, parent=id_):
            self.advance(payment)
        return self.documents.get(ORDER, id_) or found

    def payment(self, id_: str) -> Document:
        found = self.documents.get(PAYMENT, id_)
        if found is None:
            raise shape.missing()
        return self.advance(found)

    def payments_of(self, order_id: str) -> list[Document]:
        return [self.advance(one) for one in self.documents.newest(PAYMENT, parent=order_id)]

    def advance(self, payment: Document) -> Document:
        """What was due by now has happened."""
        now_us = self.clock.now_us()
        begun_us = payment["created_at"] * 1_000_000
        if payment["status"] == "created" and now_us >= begun_us + self.payment_timeout_s * 1_000_000:
            self.fail(payment, "late", "Payment was not completed on time.")
        late_us = payment.get("_late_at_us")
        if payment["status"] == "failed" and late_us is not None and late_us <= now_us:
            self.authorize(payment)
        expires_us = payment.get("_expires_us")
        if payment["status"] == "authorized" and expires_us is not None and expires_us <= now_us:
            self.give_back(payment)
        return payment

    # --- moving money ---------------------------------------------------------------------------------------

    def decide(self, payment: Document) -> None:
        """The issuer's word, once nothing more is wanted of the payer."""
        code, message = payment["_verdict"]
        if payment["_late"]:
            payment["_late_at_us"] = self.clock.now_us() + int(self.late_s * 1_000_000)
            payment["_late"] = False
            self.fail(payment, "late", "Payment was not completed on time.")
        elif code:
            self.fail(payment, code, message)
        else:
            self.authorize(payment)

    def fail(self, payment: Document, verdict: str, message: str) -> None:
        shape.set_failed(payment, verdict, message)
        self.save(PAYMENT, payment)
        self.announce("payment.failed", {"payment": payment})

    def authorize(self, payment: Document) -> None:
        """Reserves the amount; captures it too where the order says so and it is not too late for that."""
        order = self.documents.get(ORDER, payment["order_id"]) or {}
        now_us = self.clock.now_us()
        payment["_late_at_us"] = None
        self.bank.authorize(
            self.account,
            payment["id"],
            reference=payment["_reference"],
            payment_ref=payment["_payment_ref"],
            amount_minor=payment["amount"],
            currency=payment["currency"],
            at_us=now_us,
        )
        shape.clear_error(payment)
        payment["status"] = "authorized"
        payment["acquirer_data"] = {"auth_code": self.ids.new("", 6).upper()}
        created_us = payment["created_at"] * 1_000_000
        payment["_expires_us"] = created_us + order["_manual_minutes"] * 60_000_000
        self.save(PAYMENT, payment)
        self.announce("payment.authorized", {"payment": payment})
        if order["status"] == "paid":
            self.give_back(payment)
            return
        within = now_us <= created_us + order["_automatic_minutes"] * 60_000_000
        if order["_capture"] == "automatic" and within:
            self.capture(payment)

    def capture(self, payment: Document) -> None:
        now_us = self.clock.now_us()
        self.bank.capture(
            self.account,
            payment["id"],
            self.ids.new("cap_", 14),
            reference=payment["_reference"],
            amount_minor=payment["amount"],
            at_us=now_us,
        )
        fee = -(-payment["amount"] * 2 // 100)
        payment.update(status="captured", captured=True, fee=fee, tax=fee * 18 // 118)
        self.save(PAYMENT, payment)
        order = self.documents.get(ORDER, payment["order_id"]) or {}
        order.update(status="paid", amount_paid=order["amount"], amount_due=0)
        self.save(ORDER, order)
        self.announce("payment.captured", {"payment": payment})
        self.announce("order.paid", {"payment": payment, "order": order})

    def give_back(self, payment: Document) -> None:
        """Razorpay's own refund of a payment that was authorised and never captured: `captured` stays false."""
        now_us = self.clock.now_us()
        refund = shape.new_refund(self.ids.new("rfnd_", 14), payment, payment["amount"], {}, self.now_s())
        self.bank.release(
            self.account,
            payment["id"],
            refund["id"],
            reference="",
            amount_minor=payment["amount"],
            at_us=now_us,
        )
        self.documents.add(REFUND, refund, now_us, parent=payment["id"])
        payment.update(status="refunded", refund_status="full", amount_refunded=payment["amount"])
        self.save(PAYMENT, payment)
        self.announce("refund.created", {"refund": refund, "payment": payment})
        self.announce("refund.processed", {"refund": refund, "payment": payment})

    def save(self, kind: str, document: Document) -> None:
        self.documents.replace(kind, document, self.clock.now_us())
