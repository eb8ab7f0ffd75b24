"""Stripe's wire protocol over the bank: who asks, under which idempotency key, for which endpoint.

A synchronous function from request to reply. It listens on nothing and breaks nothing: see `server.py` and `faults.py`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

import msgspec

from aegispay.domain.money import Money
from aegispay.ports import Clock, SystemClock
from aegispay.sandbox import stripe_notices, three_ds
from aegispay.sandbox import stripe_objects as shape
from aegispay.sandbox.bank import Bank
from aegispay.sandbox.documents import Document, SavedKey
from aegispay.sandbox.forms import BadForm, decode_form
from aegispay.sandbox.stripe_call import Call, StripeState
from aegispay.sandbox.stripe_intents import Intents
from aegispay.sandbox.stripe_money import to_iso_minor
from aegispay.sandbox.stripe_objects import CHARGE, CUSTOMER, METHOD, PAYMENT_INTENT, REFUND, StripeError
from aegispay.sandbox.stripe_reads import Reads
from aegispay.sandbox.stripe_refunds import Refunds
from aegispay.sandbox.webhooks import Outbox
from aegispay.sandbox.wire import FREE, Ticket, WireReply, WireRequest, html_reply, json_reply

API_KEY = "sk_test_sandbox"
WEBHOOK_SECRET = "whsec_sandbox"  # noqa: S105 - a test account's
KEY_LENGTH_MAX = 255
DISPUTE = "dispute"
_encode = msgspec.json.Encoder().encode

Handler = Callable[[Call, str], Document]


class StripePsp:
    """One Stripe test account.

    `search_lag_s`: how far the search is behind. `key_ttl_s`: how long an idempotency key is kept; after that the same key
    executes again, as at Stripe. A `seed` makes the ids repeatable.
    """

    idempotent = True

    def __init__(
        self,
        bank: Bank,
        *,
        api_key: str = API_KEY,
        webhook_secret: str = WEBHOOK_SECRET,
        account: str = "stripe",
        clock: Clock | None = None,
        seed: int | None = None,
        search_lag_s: float = 0.0,
        key_ttl_s: float = 86_400.0,
    ) -> None:
        self.account = account
        self.api_key = api_key
        self.webhook_secret = webhook_secret
        self.key_ttl_s = key_ttl_s
        self._bank = bank
        self._clock = clock or SystemClock()
        self.outbox = Outbox()
        self._state = StripeState(bank, account, self._clock, seed, webhook_secret)
        self._keys_in_use: set[str] = set()
        self._intents = Intents(self._state)
        self._reads = Reads(self._state, search_lag_s)
        self._refunds = Refunds(self._state)
        self._routes = self._table()

    @property
    def base_url(self) -> str:
        """Where this face listens, for the 3DS page's address."""
        return self._state.base_url

    @base_url.setter
    def base_url(self, url: str) -> None:
        self._state.base_url = url

    @property
    def search_lag_s(self) -> float:
        return self._reads.search_lag_s

    @search_lag_s.setter
    def search_lag_s(self, lag_s: float) -> None:
        self._reads.search_lag_s = lag_s

    # --- one request ----------------------------------------------------------------------------------------

    def admit(self, request: WireRequest) -> Ticket | WireReply:
        request_id = self._state.ids.new("req_", 14)
        if request.path.startswith(three_ds.PATH):
            with self._bank.transaction():
                page = self._three_ds(request)
            self._send()
            return page
        if request.headers.get("authorization") != f"Bearer {self.api_key}":
            return self._error(StripeError(401, "Invalid API Key provided.", kept=False), request_id)
        key = request.headers.get("idempotency-key", FREE) if request.method == "POST" else FREE
        if len(key) > KEY_LENGTH_MAX:
            return self._error(
                shape.wrong(f"Idempotency keys have up to {KEY_LENGTH_MAX} characters."), request_id
            )
        if key:
            replay = self._replay(request, key, request_id)
            if replay is not None:
                return replay
            self._keys_in_use.add(key)
        return Ticket(request=request, request_id=request_id, key=key)

    def execute(self, ticket: Ticket, fail: str | None = None) -> WireReply:
        self._keys_in_use.discard(ticket.key)
        # What an earlier request drafted and did not finish never happened.
        self._state.unsent.clear()
        with self._bank.transaction():
            reply, kept = self._run(ticket, fail)
            if ticket.key and kept:
                self._state.documents.save_key(
                    ticket.key,
                    SavedKey(
                        fingerprint=_fingerprint(ticket.request),
                        status=reply.status,
                        body=reply.body,
                        request_id=ticket.request_id,
                        created_us=self._clock.now_us(),
                    ),
                )
        self._send()
        return reply

    def drop(self, ticket: Ticket) -> None:
        self._keys_in_use.discard(ticket.key)

    def front_error(self, status: int, request_id: str) -> WireReply:
        if status == 429:
            error = StripeError(429, "Too many requests.", code="rate_limit", kept=False)
            return self._error(error, request_id, {"stripe-should-retry": "true"})
        return self._error(
            StripeError(status, "Something went wrong on the way.", type_="api_error"), request_id
        )

    def _replay(self, request: WireRequest, key: str, request_id: str) -> WireReply | None:
        if key in self._keys_in_use:
            error = StripeError(
                409,
                "A request with this idempotency key is under way.",
                code="idempotency_key_in_use",
                kept=False,
            )
            return self._error(error, request_id, {"stripe-should-retry": "true"})
        oldest_us = self._clock.now_us() - int(self.key_ttl_s * 1_000_000)
        saved = self._state.documents.find_key(key, oldest_us)
        if saved is None:
            return None
        if saved.fingerprint != _fingerprint(request):
            error = StripeError(
                400,
                "Keys for idempotent requests can only be used with the parameters they were first used with.",
                type_="idempotency_error",
                kept=False,
            )
            return self._error(error, request_id)
        return WireReply(
            status=saved.status,
            body=saved.body,
            headers={
                "request-id": request_id,
                "original-request": saved.request_id,
                "idempotent-replayed": "true",
                "idempotency-key": key,
            },
        )

    def _run(self, ticket: Ticket, fail: str | None) -> tuple[WireReply, bool]:
        """The reply, and whether it is kept under the key."""
        broken = StripeError(500, "Something went wrong on our end.", type_="api_error")
        if fail == "before":
            return self._error(broken, ticket.request_id), True
        headers = {"request-id": ticket.request_id}
        if ticket.key:
            headers["idempotency-key"] = ticket.key
        try:
            handler, id_, call = self._route(ticket)
            body = self._reads.show(handler(call, id_), call)
            reply, kept = json_reply(200, body, headers), True
        except StripeError as error:
            reply, kept = self._error(error, ticket.request_id, headers), error.kept
        if fail == "after":
            return self._error(broken, ticket.request_id), True
        return reply, kept

    def _error(self, error: StripeError, request_id: str, headers: dict[str, str] | None = None) -> WireReply:
        return json_reply(error.status, error.body(request_id), {"request-id": request_id, **(headers or {})})

    def _send(self) -> None:
        """What was done is durable: its notices may go out."""
        for one in self._state.unsent:
            self.outbox.add(one)
        self._state.unsent.clear()

    def _route(self, ticket: Ticket) -> tuple[Handler, str, Call]:
        request = ticket.request
        try:
            raw = request.query if request.method in ("GET", "DELETE") else request.body.decode()
            form = decode_form(raw)
        except (BadForm, UnicodeDecodeError) as error:
            raise shape.wrong(f"The request cannot be read: {error}") from None
        for method, pattern, handler in self._routes:
            match = pattern.fullmatch(request.path) if method == request.method else None
            if match is not None:
                id_ = match[1] if pattern.groups else ""
                return handler, id_, Call(form=form, key=ticket.key, now_us=self._clock.now_us())
        raise StripeError(
            404, f"Unrecognized request URL ({request.method}: {request.path[:80]}).", kept=False
        )

    # --- endpoints ------------------------------------------------------------------------------------------

    def _table(self) -> list[tuple[str, re.Pattern[str], Handler]]:
        intents, reads = self._intents, self._reads
        rows: list[tuple[str, str, Handler]] = [
            ("POST", "/v1/payment_intents", lambda call, _: intents.create(call)),
            ("GET", "/v1/payment_intents/search", lambda call, _: reads.search(call)),
            ("POST", "/v1/payment_intents/{}/confirm", lambda call, id_: intents.confirm(id_, call)),
            ("POST", "/v1/payment_intents/{}/capture", lambda call, id_: intents.capture(id_, call)),
            ("POST", "/v1/payment_intents/{}/cancel", lambda call, id_: intents.cancel(id_, call)),
            ("POST", "/v1/payment_intents/{}", lambda call, id_: intents.update(id_, call)),
            ("POST", "/v1/refunds", lambda call, _: self._refunds.create(call)),
            ("POST", "/v1/payment_methods", lambda call, _: self._create_method(call)),
            ("POST", "/v1/customers", lambda call, _: self._create_customer(call)),
            ("GET", "/v1/balance", lambda call, _: reads.balance()),
        ]
        rows.extend(self._reading(kind) for kind in (PAYMENT_INTENT, REFUND, CHARGE, METHOD, CUSTOMER))
        rows.extend(self._listing(kind) for kind in (PAYMENT_INTENT, REFUND, CHARGE, CUSTOMER))
        return [
            (method, re.compile(path.replace("{}", "([A-Za-z0-9_]+)")), handler)
            for method, path, handler in rows
        ]

    def _reading(self, kind: str) -> tuple[str, str, Handler]:
        return "GET", f"/v1/{kind}s/{{}}", lambda call, id_: self._reads.one(kind, id_, call)

    def _listing(self, kind: str) -> tuple[str, str, Handler]:
        return "GET", f"/v1/{kind}s", lambda call, _: self._reads.listed(kind, f"/v1/{kind}s", call)

    def _create_method(self, call: Call) -> Document:
        call.check(frozenset(["type", "card", "billing_details", "metadata", "customer", "expand"]))
        method = shape.card_method(call.form, self._state.ids.new("pm_"), call.now_s)
        self._state.documents.add(METHOD, method, call.now_us)
        return method

    def _create_customer(self, call: Call) -> Document:
        names: dict[str, Any] = {
            name: call.form.get(name) for name in ("email", "name", "phone", "description")
        }
        customer: Document = {
            "id": self._state.ids.new("cus_", 14),
            "object": CUSTOMER,
            "created": call.now_s,
            "livemode": False,
            "metadata": call.metadata(),
            **names,
        }
        self._state.documents.add(CUSTOMER, customer, call.now_us)
        return customer

    # --- what a test or a demo makes happen -----------------------------------------------------------------

    @property
    def settles_later(self) -> bool:
        """Whether payments stay `processing`, and refunds `pending`, until `finish_payment` and `finish_refund`."""
        return self._state.settles_later

    @settles_later.setter
    def settles_later(self, later: bool) -> None:
        self._state.settles_later = later

    def finish_payment(self, id_: str, *, paid: bool = True) -> Document:
        """The final word on a PaymentIntent that is processing."""
        with self._bank.transaction():
            intent = self._intents.finish(id_, paid)
        self._send()
        return shape.public(intent)

    def finish_refund(self, id_: str, *, paid: bool = True) -> Document:
        """The final word on a refund that is pending."""
        with self._bank.transaction():
            refund = self._refunds.finish(id_, paid)
        self._send()
        return shape.public(refund)

    def dispute(self, intent_id: str, reason: str = "fraudulent") -> str:
        """The payer disputes the whole payment; returns the dispute's id. The books of the bank know no disputes."""
        with self._bank.transaction():
            intent = self._state.intent(intent_id)
            charge = self._state.documents.get(CHARGE, intent["latest_charge"] or "")
            if charge is None or not charge["captured"]:
                raise shape.unexpected_state(intent, "disputed")
            now_us = self._clock.now_us()
            id_ = self._state.ids.new("dp_")
            opened = stripe_notices.dispute(id_, charge, reason, "needs_response", now_us // 1_000_000)
            self._state.documents.add(DISPUTE, opened, now_us, parent=intent_id)
            charge["disputed"] = True
            self._state.documents.replace(CHARGE, charge, now_us)
            self._state.announce("charge.dispute.created", opened)
        self._send()
        return id_

    def close_dispute(self, id_: str, *, won: bool) -> None:
        """The dispute is decided."""
        with self._bank.transaction():
            found = self._state.documents.get(DISPUTE, id_)
            if found is None:
                raise shape.missing(DISPUTE, id_, "dispute")
            closed = {**found, "status": "won" if won else "lost"}
            self._state.documents.replace(DISPUTE, closed, self._clock.now_us())
            self._state.announce("charge.dispute.closed", closed)
        self._send()

    # --- the payer's browser --------------------------------------------------------------------------------

    def _three_ds(self, request: WireRequest) -> WireReply:
        """The page that the payer's browser is sent to."""
        intent = self._state.documents.get(PAYMENT_INTENT, request.path[len(three_ds.PATH) :])
        if intent is None:
            return html_reply(404, three_ds.page("Not found", "", done="There is no such payment."))
        if request.method == "POST":
            passed = three_ds.wants(request.body)
            if passed is None:
                return html_reply(
                    400, three_ds.page("Sandbox bank", "", done="The form says neither yes nor no.")
                )
            intent = self._intents.authenticate(intent["id"], passed)
            back = intent["_return_url"]
            if back is not None:
                state = "failed" if not passed else "succeeded"
                url = three_ds.back_to(
                    back,
                    {
                        "payment_intent": intent["id"],
                        "payment_intent_client_secret": intent["client_secret"],
                        "redirect_status": state,
                    },
                )
                return WireReply(status=303, headers={"location": url}, content_type="text/plain")
        code = intent["currency"].upper()
        amount = Money(to_iso_minor(intent["amount"], code), code).format()
        done = None if intent["status"] == "requires_action" else f"This payment is {intent['status']}."
        return html_reply(200, three_ds.page("Sandbox bank", amount, done=done))


def _fingerprint(request: WireRequest) -> bytes:
    """The same endpoint with the same parameters, in any order, has the same one."""
    fields = sorted(request.body.split(b"&"))
    return hashlib.sha256(_encode([request.method, request.path, fields])).digest()[:16]
