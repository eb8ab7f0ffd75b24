"""Razorpay's wire protocol over the bank: who asks, for which endpoint, and under which key a refund.

A synchronous function from request to reply. Only refunds are idempotent; a payment or an order that is asked for
twice is made twice. There is no void: what is not captured in time is given back.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from html import escape
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from aegispay.domain.money import Money
from aegispay.ports import Clock, SystemClock
from aegispay.sandbox import razorpay_objects as shape
from aegispay.sandbox import three_ds
from aegispay.sandbox.bank import Bank
from aegispay.sandbox.documents import Document, SavedKey
from aegispay.sandbox.razorpay_objects import DOWNTIME, ORDER, PAYMENT, REFUND, SERVER, RazorpayError
from aegispay.sandbox.razorpay_payments import Payments
from aegispay.sandbox.razorpay_refunds import Refunds
from aegispay.sandbox.razorpay_state import MANUAL_EXPIRY_MINUTES, RazorpayState
from aegispay.sandbox.webhooks import Outbox
from aegispay.sandbox.wire import FREE, Ticket, WireReply, WireRequest, html_reply, json_reply

KEY_ID = "rzp_test_sandbox"
KEY_SECRET = "razorpay_sandbox_secret"  # noqa: S105 - a test account's
WEBHOOK_SECRET = "razorpay_sandbox_webhook_secret"  # noqa: S105 - a test account's
REFUND_KEY = re.compile(r"[A-Za-z0-9_-]{10,}")
_ID = "([A-Za-z0-9_]{1,60})"
_PUBLIC = re.compile(rf"/v1/payments/{_ID}/(otp_generate|otp/submit|otp/resend)")
"""What the payer's browser may ask for, with the key's id alone."""

Handler = Callable[[str, str, Document], Document]
"""Of the ids in the path (empty where there are fewer than two) and what was sent."""


class RazorpayPsp:
    """One Razorpay test account.

    `lookup_lag_s`: how far the list of orders is behind. See `RazorpayState` for what else can be set.
    """

    idempotent = False

    def __init__(
        self,
        bank: Bank,
        *,
        key_id: str = KEY_ID,
        key_secret: str = KEY_SECRET,
        webhook_secret: str = WEBHOOK_SECRET,
        account: str = "razorpay",
        clock: Clock | None = None,
        seed: int | None = None,
        lookup_lag_s: float = 0.0,
    ) -> None:
        self.account = account
        self.key_id = key_id
        self.key_secret = key_secret
        self.webhook_secret = webhook_secret
        self.lookup_lag_s = lookup_lag_s
        self.outbox = Outbox()
        self._bank = bank
        self.state = RazorpayState(bank, account, clock or SystemClock(), seed, webhook_secret)
        self._payments = Payments(self.state, key_id, key_secret)
        self._refunds = Refunds(self.state)
        self._keys_in_use: set[str] = set()
        self._routes = self._table()

    @property
    def base_url(self) -> str:
        """Where this face listens, for the addresses that it sends payers to."""
        return self.state.base_url

    @base_url.setter
    def base_url(self, url: str) -> None:
        self.state.base_url = url

    @property
    def payer_timeout_s(self) -> float:
        """For so long the payer has time to authenticate; then the payment fails."""
        return self.state.payment_timeout_s

    @payer_timeout_s.setter
    def payer_timeout_s(self, timeout_s: float) -> None:
        self.state.payment_timeout_s = timeout_s

    # --- one request ----------------------------------------------------------------------------------------

    def admit(self, request: WireRequest) -> Ticket | WireReply:
        request_id = self.state.ids.new("", 14)
        if request.path.startswith(three_ds.PATH):
            with self._bank.transaction():
                reply = self._page(request)
            self._send()
            return reply
        if not self._known(request):
            return _error(RazorpayError("The api key provided is invalid", status=401), request_id)
        key = FREE
        if request.method == "POST" and request.path.endswith("/refund"):
            key = request.headers.get("x-refund-idempotency", FREE)
        if key:
            replay = self._replay(request, key, request_id)
            if replay is not None:
                return replay
            self._keys_in_use.add(key)
        return Ticket(request=request, request_id=request_id, key=key)

    def execute(self, ticket: Ticket, fail: str | None = None) -> WireReply:
        """Razorpay keeps only what went well under a refund's key: after an error of its own the same key executes."""
        self._keys_in_use.discard(ticket.key)
        broken = self.front_error(500, ticket.request_id)
        if fail == "before":
            return broken
        with self._bank.transaction():
            try:
                reply = json_reply(
                    200, shape.shown(self._route(ticket.request)), {"request-id": ticket.request_id}
                )
            except RazorpayError as error:
                reply = _error(error, ticket.request_id)
            if ticket.key and reply.status == 200:
                self.state.documents.save_key(
                    ticket.key,
                    SavedKey(
                        fingerprint=_fingerprint(ticket.request),
                        status=reply.status,
                        body=reply.body,
                        request_id=ticket.request_id,
                        created_us=self.state.clock.now_us(),
                    ),
                )
        self._send()
        return broken if fail == "after" else reply

    def drop(self, ticket: Ticket) -> None:
        self._keys_in_use.discard(ticket.key)

    def front_error(self, status: int, request_id: str) -> WireReply:
        if status == 429:
            return _error(RazorpayError("Request failed. Please try after sometime.", status=429), request_id)
        text = "We are facing some trouble completing your request at the moment. Please try again shortly."
        return _error(RazorpayError(text, status=status, code=SERVER), request_id)

    def _known(self, request: WireRequest) -> bool:
        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        given = ""
        if scheme.lower() == "basic":
            try:
                given = base64.b64decode(encoded, validate=True).decode()
            except ValueError:
                return False
        if given == f"{self.key_id}:{self.key_secret}":
            return True
        public = given == f"{self.key_id}:" or dict(parse_qsl(request.query)).get("key_id") == self.key_id
        return public and _PUBLIC.fullmatch(request.path) is not None

    def _replay(self, request: WireRequest, key: str, request_id: str) -> WireReply | None:
        if not REFUND_KEY.fullmatch(key):
            error = shape.wrong(
                "The idempotency key has at least 10 letters, digits, hyphens or underscores."
            )
            return _error(error, request_id)
        if key in self._keys_in_use:
            return _error(
                RazorpayError("A request with this idempotency key is under way.", status=409), request_id
            )
        saved = self.state.documents.find_key(key, 0)
        if saved is None:
            return None
        if saved.fingerprint != _fingerprint(request):
            text = "Different request with the same idempotency key has already been processed."
            return _error(RazorpayError(text), request_id)
        return WireReply(status=saved.status, body=saved.body, headers={"request-id": request_id})

    def _route(self, request: WireRequest) -> Document:
        for method, pattern, handler in self._routes:
            match = pattern.fullmatch(request.path) if method == request.method else None
            if match is not None:
                sent = dict(parse_qsl(request.query)) if method == "GET" else _body(request)
                first, second = (*match.groups(), "", "")[:2]
                return handler(first, second, sent)
        raise RazorpayError("The requested URL was not found on the server.", status=404)

    def _send(self) -> None:
        """What was done is durable: its notices may go out."""
        for one in self.state.unsent:
            self.outbox.add(one)
        self.state.unsent.clear()

    # --- endpoints ------------------------------------------------------------------------------------------

    def _table(self) -> list[tuple[str, re.Pattern[str], Handler]]:
        payments, refunds = self._payments, self._refunds
        rows: list[tuple[str, str, Handler]] = [
            ("POST", "/orders", lambda _, __, body: self._create_order(body)),
            ("GET", "/orders", lambda _, __, query: self._list_orders(query)),
            ("GET", "/orders/{}", lambda id_, _, __: self.state.order(id_)),
            ("GET", "/orders/{}/payments", lambda id_, _, __: self._order_payments(id_)),
            ("POST", "/payments/create/json", lambda _, __, body: payments.create(body)),
            ("POST", "/payments/create/recurring", lambda _, __, body: payments.create_recurring(body)),
            ("GET", "/payments/downtimes", lambda _, __, ___: self._downtimes()),
            ("GET", "/payments/downtimes/{}", lambda id_, _, __: self._downtime(id_)),
            ("GET", "/payments", lambda _, __, query: self._listed(PAYMENT, query)),
            ("GET", "/payments/{}", lambda id_, _, __: self.state.payment(id_)),
            ("GET", "/payments/{}/card", lambda id_, _, __: self._card(id_)),
            ("POST", "/payments/{}/capture", lambda id_, _, body: payments.capture(id_, body)),
            ("POST", "/payments/{}/refund", lambda id_, _, body: refunds.create(id_, body)),
            ("GET", "/payments/{}/refunds", lambda id_, _, __: refunds.of_payment(id_)),
            ("GET", "/payments/{}/refunds/{}", lambda one, two, _: refunds.of_payment_one(one, two)),
            ("POST", "/payments/{}/otp_generate", lambda id_, _, __: payments.otp_generate(id_)),
            ("POST", "/payments/{}/otp/submit", lambda id_, _, body: payments.otp_submit(id_, body)),
            ("POST", "/payments/{}/otp/resend", lambda id_, _, __: payments.otp_generate(id_)),
            ("GET", "/refunds", lambda _, __, query: self._listed(REFUND, query)),
            ("GET", "/refunds/{}", lambda id_, _, __: refunds.one(id_)),
        ]
        return [
            (method, re.compile("/v1" + path.replace("{}", _ID)), handler) for method, path, handler in rows
        ]

    def _create_order(self, body: Document) -> Document:
        order = shape.new_order(self.state.ids.new("order_", 14), body, self.state.now_s())
        settings = body.get("payment") or {}
        options = settings.get("capture_options") or {}
        order["_capture"] = settings.get("capture", "manual")
        order["_automatic_minutes"] = options.get("automatic_expiry_period", MANUAL_EXPIRY_MINUTES)
        order["_manual_minutes"] = options.get("manual_expiry_period", MANUAL_EXPIRY_MINUTES)
        if order["_capture"] not in ("automatic", "manual"):
            raise shape.wrong("The capture is automatic or manual.", "payment.capture")
        for name in ("_automatic_minutes", "_manual_minutes"):
            if type(order[name]) is not int or not 12 <= order[name] <= MANUAL_EXPIRY_MINUTES:
                raise shape.wrong("An expiry period is 12 to 7200 minutes.", "payment.capture_options")
        self.state.documents.add(ORDER, order, self.state.clock.now_us(), parent=order["receipt"] or "")
        return order

    def _list_orders(self, query: dict[str, str]) -> Document:
        found = self._listed(ORDER, query, parent=query.get("receipt", ""))
        if query.get("expand[]") == "payments":
            for item in found["items"]:
                item["payments"] = self._order_payments(item["id"])
        return found

    def _card(self, payment_id: str) -> Document:
        card: Document = self.state.payment(payment_id)["_card"]
        return card

    def _order_payments(self, id_: str) -> Document:
        self.state.order(id_)
        return shape.collection(self.state.payments_of(id_))

    def _listed(self, kind: str, query: dict[str, str], parent: str = "") -> Document:
        try:
            count, skip = int(query.get("count", "10")), int(query.get("skip", "0"))
            from_us = int(query.get("from", "0")) * 1_000_000
            to_us = (int(query.get("to", "99999999999")) + 1) * 1_000_000
        except ValueError:
            raise shape.wrong("The from, to, count and skip are integers.") from None
        if not 1 <= count <= 100 or skip < 0:
            raise shape.wrong("The count must be between 1 and 100", "count")
        newest_us = self.state.clock.now_us() - int(self.lookup_lag_s * 1_000_000) + 1
        found = self.state.documents.newest(
            kind, parent=parent, from_us=from_us, before_us=min(to_us, newest_us), limit=skip + count
        )[skip:]
        current = {ORDER: self.state.order, PAYMENT: self.state.payment}.get(kind)
        return shape.collection([current(one["id"]) for one in found] if current else found)

    # --- what a test or a demo makes happen -----------------------------------------------------------------

    def pay_order(self, order_id: str, token: str = "token_visa") -> Document:  # noqa: S107 - a test token's name
        """The payer pays this order in Checkout with one of `razorpay_objects.TOKENS`; returns the payment."""
        with self._bank.transaction():
            payment = self._payments.pay_order(order_id, token)
        self._send()
        return shape.shown(payment)

    def late_success(self, payment_id: str) -> Document:
        """The bank's yes arrives after the payment had failed: it becomes authorized, or captured."""
        with self._bank.transaction():
            payment = self.state.payment(payment_id)
            if payment["status"] == "failed":
                self.state.authorize(payment)
        self._send()
        return shape.shown(payment)

    def finish_refund(self, refund_id: str) -> Document:
        """A refund that was pending (see `state.refund_status`) is processed."""
        with self._bank.transaction():
            refund = self._refunds.finish(refund_id)
        self._send()
        return refund

    def let_time_pass(self) -> None:
        """What is due by the clock happens at once, without anybody asking."""
        with self._bank.transaction():
            for payment in self.state.documents.newest(PAYMENT, limit=10_000):
                self.state.advance(payment)
        self._send()

    def start_downtime(
        self, method: str = "card", *, severity: str = "high", instrument: dict[str, str] | None = None
    ) -> str:
        now_us = self.state.clock.now_us()
        downtime: Document = {
            "id": self.state.ids.new("down_", 14),
            "entity": DOWNTIME,
            "method": method,
            "begin": now_us // 1_000_000,
            "end": None,
            "status": "started",
            "scheduled": False,
            "severity": severity,
            "instrument": instrument or {"network": "VISA"},
            "created_at": now_us // 1_000_000,
            "updated_at": now_us // 1_000_000,
        }
        with self._bank.transaction():
            self.state.documents.add(DOWNTIME, downtime, now_us)
            self.state.announce("payment.downtime.started", {"payment.downtime": downtime})
        self._send()
        return str(downtime["id"])

    def end_downtime(self, id_: str) -> None:
        with self._bank.transaction():
            now_s = self.state.now_s()
            downtime = {**self._downtime(id_), "status": "resolved", "end": now_s, "updated_at": now_s}
            self.state.save(DOWNTIME, downtime)
            self.state.announce("payment.downtime.resolved", {"payment.downtime": downtime})
        self._send()

    def _downtimes(self) -> Document:
        found = self.state.documents.newest(DOWNTIME)
        return shape.collection([one for one in found if one["status"] != "resolved"])

    def _downtime(self, id_: str) -> Document:
        found = self.state.documents.get(DOWNTIME, id_)
        if found is None:
            raise shape.missing()
        return found

    # --- the payer's browser --------------------------------------------------------------------------------

    def _page(self, request: WireRequest) -> WireReply:
        """Authentication of a payment at its bank; or, for an order's id, what stands in for Razorpay's Checkout."""
        id_ = request.path.removeprefix(three_ds.PATH)
        is_order = id_.startswith("order_")
        try:
            subject = self.state.order(id_) if is_order else self.state.payment(id_)
        except RazorpayError:
            return html_reply(404, three_ds.page("Razorpay sandbox", "", done="There is no such payment."))
        is_open = subject["status"] != "paid" if is_order else subject["status"] == "created"
        amount = Money(subject["amount"], subject["currency"]).format()
        if not is_open:
            return html_reply(
                200, three_ds.page("Razorpay sandbox", amount, done=f"It is {subject['status']}.")
            )
        if request.method != "POST":
            return html_reply(200, three_ds.page("Razorpay sandbox", amount))
        passed = three_ds.wants(request.body)
        if passed is None:
            return html_reply(
                400, three_ds.page("Razorpay sandbox", amount, done="The form says neither yes nor no.")
            )
        if is_order:
            form = dict(parse_qsl(request.body.decode("utf-8", "replace")))
            token = form.get("token", "token_visa") if passed else "token_declined"
            try:
                subject = self._payments.pay_order(id_, token)
            except RazorpayError as error:
                return html_reply(400, three_ds.page("Razorpay sandbox", amount, done=str(error)))
        else:
            self._payments.authenticate(subject, passed)
        return html_reply(200, _back(subject.get("_callback_url"), self._payments.callback(subject)))


def _back(url: str | None, fields: dict[str, str]) -> str:
    """The page that posts the outcome to the merchant's callback URL, as Razorpay does."""
    inputs = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in fields.items()
    )
    target = f' action="{escape(url)}"' if url else ""
    script = "<script>document.forms[0].submit()</script>" if url else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Razorpay sandbox</title></head>'
        f'<body><form method="post"{target}>{inputs}<button>Back to the shop</button></form>{script}</body></html>'
    )


def _body(request: WireRequest) -> dict[str, Any]:
    if not request.body:
        return {}
    try:
        return msgspec.json.decode(request.body, type=dict[str, Any])
    except msgspec.MsgspecError:
        raise shape.wrong("The request body is not valid JSON.") from None


def _error(error: RazorpayError, request_id: str) -> WireReply:
    return json_reply(error.status, error.body, {"request-id": request_id})


def _fingerprint(request: WireRequest) -> bytes:
    """Two requests are the same where they mean the same, whatever the order of their fields."""
    try:
        meaning = msgspec.json.encode(msgspec.json.decode(request.body or b"{}"), order="deterministic")
    except msgspec.MsgspecError:
        meaning = request.body
    return hashlib.sha256(request.path.encode() + b"\0" + meaning).digest()
