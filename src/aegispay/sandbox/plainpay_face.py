"""PlainPay: a second, simple PSP with a JSON API and another kind of evidence than Stripe's.

It has no idempotency keys and does not refuse a reference that comes twice: a request sent twice charges twice. What
it offers instead is an authoritative look-up by the merchant's reference, and a cancel by reference that also refuses
a request which lands later.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from aegispay.domain.errors import InvalidPaymentMethod
from aegispay.domain.methods import Card
from aegispay.domain.money import AMOUNT_MINOR_MAX, Money
from aegispay.ports import Clock, SystemClock
from aegispay.sandbox import issuer, three_ds
from aegispay.sandbox.bank import Bank
from aegispay.sandbox.documents import Document, Documents, PspIds
from aegispay.sandbox.stripe_money import known_currency
from aegispay.sandbox.wire import Ticket, WireReply, WireRequest, html_reply, json_reply

PAYMENT, OPERATION, TOKEN, TOMBSTONE = "payment", "operation", "token", "tombstone"
AUTHORIZATION_TTL_S = 7 * 86_400

Handler = Callable[[str, dict[str, Any]], tuple[int, Document]]


class PlainError(Exception):
    """A request that ends in an error answer, with nothing done."""

    def __init__(self, status: int, code: str, message: str):
        super().__init__(message)
        self.status = status
        self.body: Document = {"error": {"code": code, "message": message}}


class PlainPayPsp:
    """One PlainPay test account. `lookup_lag_s`: how far the look-up by reference is behind."""

    idempotent = False

    def __init__(
        self,
        bank: Bank,
        *,
        api_key: str = "plain_test_sandbox",
        account: str = "plainpay",
        clock: Clock | None = None,
        seed: int | None = None,
        lookup_lag_s: float = 0.0,
    ) -> None:
        self.account = account
        self.api_key = api_key
        self.lookup_lag_s = lookup_lag_s
        self.base_url = ""
        self._bank = bank
        self._clock = clock or SystemClock()
        self._documents = Documents(bank, account)
        self._ids = PspIds(bank, account, seed)
        self._routes: list[tuple[str, re.Pattern[str], Handler]] = [
            (method, re.compile(path.replace("{}", "([A-Za-z0-9_.-]{1,64})")), handler)
            for method, path, handler in (
                ("POST", "/payments", self._pay),
                ("GET", "/payments/{}", self._show),
                ("POST", "/payments/{}/captures", self._capture),
                ("POST", "/payments/{}/void", self._void),
                ("POST", "/payments/{}/refunds", self._refund),
                ("GET", "/payments", self._find_payments),
                ("GET", "/operations", self._find_operations),
                ("POST", "/references/{}/cancel", self._cancel_reference),
                ("POST", "/tokens", self._tokenize),
                ("GET", "/status", self._status),
            )
        ]

    # --- one request ----------------------------------------------------------------------------------------

    def admit(self, request: WireRequest) -> Ticket | WireReply:
        request_id = self._ids.new("rq_", 14)
        if request.path.startswith(three_ds.PATH):
            with self._bank.transaction():
                return self._three_ds(request)
        if request.headers.get("x-api-key") != self.api_key:
            return json_reply(401, PlainError(401, "unauthorized", "The API key is not known.").body)
        return Ticket(request=request, request_id=request_id)

    def execute(self, ticket: Ticket, fail: str | None = None) -> WireReply:
        broken = json_reply(500, PlainError(500, "internal", "Something broke at PlainPay.").body)
        if fail == "before":
            return broken
        with self._bank.transaction():
            try:
                status, body = self._route(ticket.request)
            except PlainError as error:
                status, body = error.status, error.body
        shown = {name: value for name, value in body.items() if not name.startswith("_")}
        return broken if fail == "after" else json_reply(status, shown, {"x-request-id": ticket.request_id})

    def drop(self, ticket: Ticket) -> None:
        """Nothing is kept of a request before it is executed."""

    def front_error(self, status: int, request_id: str) -> WireReply:
        code = "rate_limited" if status == 429 else "unavailable"
        return json_reply(
            status, PlainError(status, code, "Try again later.").body, {"x-request-id": request_id}
        )

    def _route(self, request: WireRequest) -> tuple[int, Document]:
        for method, pattern, handler in self._routes:
            match = pattern.fullmatch(request.path) if method == request.method else None
            if match is not None:
                return handler(match[1] if pattern.groups else request.query, _body(request))
        raise PlainError(404, "not_found", "There is nothing here.")

    # --- payments -------------------------------------------------------------------------------------------

    def _pay(self, _: str, body: dict[str, Any]) -> tuple[int, Document]:
        reference = self._reference(body)
        amount = _amount(body)
        currency = known_currency(str(body.get("currency")))
        if currency is None:
            raise PlainError(422, "invalid_currency", "currency is an ISO 4217 code.")
        code, message, authenticate = self._card(body)
        metadata = body.get("metadata") or {}
        now_us = self._clock.now_us()
        payment: Document = {
            "id": self._ids.new("pp_", 20),
            "reference": reference,
            "status": "declined",
            "capture": body.get("capture", True) is True,
            "amount_minor": amount,
            "captured_minor": 0,
            "released_minor": 0,
            "refunded_minor": 0,
            "currency": currency,
            "created_at_us": now_us,
            "expires_at_us": None,
            "decline": None,
            "action": None,
            "metadata": metadata,
            "_verdict": [code, message],
            "_payment_ref": str(metadata.get("payment_id", "")),
            "_return_url": body.get("return_url"),
        }
        if authenticate:
            payment["status"] = "requires_action"
            payment["action"] = {"url": f"{self.base_url}{three_ds.PATH}{payment['id']}"}
        else:
            self._decide(payment, now_us)
        self._documents.add(PAYMENT, payment, now_us, parent=reference)
        return 201, payment

    def _decide(self, payment: Document, now_us: int) -> None:
        """The issuer's word, once nothing more is wanted of the payer."""
        code, message = payment["_verdict"]
        payment["action"] = None
        if code:
            payment["status"] = "declined"
            payment["decline"] = {"code": code, "message": message}
            return
        self._bank.authorize(
            self.account,
            payment["id"],
            reference=payment["reference"],
            payment_ref=payment["_payment_ref"],
            amount_minor=payment["amount_minor"],
            currency=payment["currency"],
            at_us=now_us,
        )
        payment["status"] = "authorized"
        payment["expires_at_us"] = now_us + AUTHORIZATION_TTL_S * 1_000_000
        if payment["capture"]:
            self._bank.capture(
                self.account,
                payment["id"],
                self._ids.new("pc_", 20),
                reference=payment["reference"],
                amount_minor=payment["amount_minor"],
                at_us=now_us,
            )
            payment["captured_minor"] = payment["amount_minor"]
            payment["status"] = "captured"

    def _show(self, id_: str, _: dict[str, Any]) -> tuple[int, Document]:
        return 200, self._payment(id_)

    def _capture(self, id_: str, body: dict[str, Any]) -> tuple[int, Document]:
        payment, reference, amount = self._payment(id_), self._reference(body), _amount(body)
        if payment["status"] != "authorized":
            raise PlainError(409, "not_capturable", f"The payment is {payment['status']}.")
        room = payment["amount_minor"] - payment["captured_minor"] - payment["released_minor"]
        if amount > room:
            raise PlainError(422, "amount_too_large", f"At most {room} is left to capture.")
        payment["captured_minor"] += amount
        final = body.get("final", True) is True
        operation = self._operate("capture", payment, reference, amount)
        if final and room > amount:
            self._release(payment, reference, room - amount)
        if final or room == amount:
            payment["status"] = "captured"
        self._documents.replace(PAYMENT, payment, self._clock.now_us())
        return 201, operation

    def _void(self, id_: str, body: dict[str, Any]) -> tuple[int, Document]:
        payment, reference = self._payment(id_), self._reference(body)
        return 201, self._void_payment(payment, reference)

    def _void_payment(self, payment: Document, reference: str) -> Document:
        if payment["status"] not in ("authorized", "requires_action"):
            raise PlainError(409, "not_voidable", f"The payment is {payment['status']}.")
        amount = 0
        if payment["status"] == "authorized":
            amount = payment["amount_minor"] - payment["captured_minor"] - payment["released_minor"]
            self._release(payment, reference, amount)
        payment["status"] = "captured" if payment["captured_minor"] else "voided"
        payment["action"] = None
        self._documents.replace(PAYMENT, payment, self._clock.now_us())
        return self._operate("void", payment, reference, amount)

    def _refund(self, id_: str, body: dict[str, Any]) -> tuple[int, Document]:
        payment, reference, amount = self._payment(id_), self._reference(body), _amount(body)
        room = payment["captured_minor"] - payment["refunded_minor"]
        if amount > room:
            raise PlainError(422, "amount_too_large", f"At most {room} is left to refund.")
        payment["refunded_minor"] += amount
        self._documents.replace(PAYMENT, payment, self._clock.now_us())
        return 201, self._operate("refund", payment, reference, amount)

    def _release(self, payment: Document, reference: str, amount: int) -> None:
        payment["released_minor"] += amount
        self._bank.release(
            self.account,
            payment["id"],
            self._ids.new("pr_", 20),
            reference=reference,
            amount_minor=amount,
            at_us=self._clock.now_us(),
        )

    def _operate(self, kind: str, payment: Document, reference: str, amount: int) -> Document:
        now_us = self._clock.now_us()
        operation: Document = {
            "id": self._ids.new({"capture": "pc_", "void": "pv_", "refund": "pf_"}[kind], 20),
            "kind": kind,
            "reference": reference,
            "payment_id": payment["id"],
            "status": "done",
            "amount_minor": amount,
            "currency": payment["currency"],
            "created_at_us": now_us,
        }
        move = {"capture": self._bank.capture, "refund": self._bank.refund}.get(kind)
        if move is not None:
            move(
                self.account,
                payment["id"],
                operation["id"],
                reference=reference,
                amount_minor=amount,
                at_us=now_us,
            )
        self._documents.add(OPERATION, operation, now_us, parent=reference)
        return operation

    # --- evidence -------------------------------------------------------------------------------------------

    def _find_payments(self, query: str, _: dict[str, Any]) -> tuple[int, Document]:
        return 200, {"payments": [_shown(one) for one in self._visible(PAYMENT, query)]}

    def _find_operations(self, query: str, _: dict[str, Any]) -> tuple[int, Document]:
        return 200, {"operations": self._visible(OPERATION, query)}

    def _visible(self, kind: str, query: str) -> list[Document]:
        match = re.fullmatch(r"reference=([A-Za-z0-9_.-]{1,64})", query)
        if match is None:
            raise PlainError(422, "invalid_reference", "reference is needed.")
        before_us = self._clock.now_us() - int(self.lookup_lag_s * 1_000_000) + 1
        return self._documents.newest(kind, parent=match[1], before_us=before_us)

    def _cancel_reference(self, reference: str, _: dict[str, Any]) -> tuple[int, Document]:
        """Whatever was or will be sent under this reference has no effect, unless money was taken already."""
        if self._documents.get(TOMBSTONE, reference) is None:
            if self._documents.newest(OPERATION, parent=reference):
                raise PlainError(409, "executed", "The operation was carried out; it cannot be canceled.")
            for payment in self._documents.newest(PAYMENT, parent=reference):
                if payment["captured_minor"]:
                    raise PlainError(409, "executed", "The payment was captured; it cannot be canceled.")
                if payment["status"] in ("authorized", "requires_action"):
                    self._void_payment(payment, f"{reference}.cancel"[:64])
            self._documents.add(TOMBSTONE, {"id": reference}, self._clock.now_us())
        return 200, {"reference": reference, "status": "canceled"}

    # --- the rest -------------------------------------------------------------------------------------------

    def _tokenize(self, _: str, body: dict[str, Any]) -> tuple[int, Document]:
        try:
            card = Card(str(body.get("number")), str(body.get("expiry_month")), str(body.get("expiry_year")))
        except InvalidPaymentMethod:
            raise PlainError(422, "invalid_card", "The card's number or expiry is not valid.") from None
        verdict = issuer.CARDS.get(card.reveal_number(), issuer.APPROVED)
        token: Document = {
            "id": self._ids.new("tok_", 20),
            "brand": card.brand,
            "last4": card.last4,
            "_verdict": [verdict.code, verdict.message, verdict.authenticate],
        }
        self._documents.add(TOKEN, token, self._clock.now_us())
        return 201, {"token": token["id"], "brand": card.brand, "last4": card.last4}

    def _status(self, _: str, __: dict[str, Any]) -> tuple[int, Document]:
        return 200, {"status": "ok"}

    def _payment(self, id_: str) -> Document:
        found = self._documents.get(PAYMENT, id_)
        if found is None:
            raise PlainError(404, "not_found", "There is no such payment.")
        return found

    def _reference(self, body: dict[str, Any]) -> str:
        reference = body.get("reference")
        if not isinstance(reference, str) or not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", reference):
            raise PlainError(
                422, "invalid_reference", "reference is 1 to 64 of A-Z, a-z, 0-9, '_', '.' and '-'."
            )
        if self._documents.get(TOMBSTONE, reference) is not None:
            raise PlainError(409, "reference_canceled", "The reference was canceled before this came in.")
        return reference

    def _card(self, body: dict[str, Any]) -> tuple[str, str, bool]:
        """The issuer's verdict on the token: code, message, and whether the payer must authenticate."""
        token = str(body.get("token"))
        number = issuer.PLAINPAY_TOKENS.get(token)
        if number is not None:
            found = issuer.verdict(number, int(body["amount_minor"]))
            return found.code, found.message, found.authenticate
        stored = self._documents.get(TOKEN, token)
        if stored is None:
            raise PlainError(422, "invalid_token", "The token is not known.")
        code, message, authenticate = stored["_verdict"]
        magic = issuer.AMOUNTS.get(body["amount_minor"])
        if magic is not None and not code and not authenticate:
            return magic.code, magic.message, magic.authenticate
        return code, message, authenticate

    def _three_ds(self, request: WireRequest) -> WireReply:
        payment = self._documents.get(PAYMENT, request.path[len(three_ds.PATH) :])
        if payment is None:
            return html_reply(404, three_ds.page("Not found", "", done="There is no such payment."))
        if request.method == "POST":
            passed = three_ds.wants(request.body)
            if passed is None:
                return html_reply(
                    400, three_ds.page("PlainPay sandbox", "", done="The form says neither yes nor no.")
                )
            if payment["status"] == "requires_action":
                if not passed:
                    payment["_verdict"] = ["authentication_failed", "The payer could not be authenticated."]
                self._decide(payment, self._clock.now_us())
                self._documents.replace(PAYMENT, payment, self._clock.now_us())
            if payment["_return_url"]:
                url = three_ds.back_to(payment["_return_url"], {"payment": payment["id"]})
                return WireReply(status=303, headers={"location": url}, content_type="text/plain")
        done = None if payment["status"] == "requires_action" else f"This payment is {payment['status']}."
        amount = Money(payment["amount_minor"], payment["currency"]).format()
        return html_reply(200, three_ds.page("PlainPay sandbox", amount, done=done))


def _body(request: WireRequest) -> dict[str, Any]:
    if request.method != "POST" or not request.body:
        return {}
    try:
        return msgspec.json.decode(request.body, type=dict[str, Any])
    except msgspec.MsgspecError:
        raise PlainError(422, "invalid_json", "The body is not a JSON object.") from None


def _amount(body: dict[str, Any]) -> int:
    amount = body.get("amount_minor")
    if type(amount) is not int or not 0 < amount <= AMOUNT_MINOR_MAX:
        raise PlainError(422, "invalid_amount", "amount_minor is a positive integer.")
    return amount


def _shown(payment: Document) -> Document:
    return {name: value for name, value in payment.items() if not name.startswith("_")}
