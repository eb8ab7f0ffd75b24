"""PayPal's wire protocol over the bank: tokens that expire, request ids that are kept for a while, and endpoints.

A synchronous function from request to reply. A request id belongs to one kind of call; sent again in time, it answers
with what its first use made, as that stands now. An answer that was an error is not kept.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from aegispay.domain.money import Money
from aegispay.ports import Clock, SystemClock
from aegispay.sandbox import paypal_objects as shape
from aegispay.sandbox import three_ds
from aegispay.sandbox.bank import Bank
from aegispay.sandbox.documents import Document, SavedKey
from aegispay.sandbox.paypal_notices import ALGORITHM, CERTIFICATE_PATH, signed_text
from aegispay.sandbox.paypal_objects import PayPalError
from aegispay.sandbox.paypal_orders import Orders
from aegispay.sandbox.paypal_payments import Payments
from aegispay.sandbox.paypal_reports import PATH as REPORTS_PATH
from aegispay.sandbox.paypal_reports import Reports
from aegispay.sandbox.paypal_state import PayPalState
from aegispay.sandbox.webhooks import Outbox
from aegispay.sandbox.wire import FREE, Ticket, WireReply, WireRequest, html_reply, json_reply

CLIENT_ID = "paypal-sandbox-client"
CLIENT_SECRET = "paypal-sandbox-secret"  # noqa: S105 - a test account's
WEBHOOK_ID = "WHSANDBOX0001"
TOKEN = "token"  # noqa: S105 - a kind of document
TOKEN_PATH = "/v1/oauth2/token"  # noqa: S105 - an address
VERIFY_PATH = "/v1/notifications/verify-webhook-signature"
ORDER_KEY_TTL_S = 6 * 3_600.0
PAYMENT_KEY_TTL_S = 45 * 86_400.0
KEY_LENGTH_MAX = 108
_ID = "([A-Z0-9]{1,36})"

Handler = Callable[[str, Document, str], Document]


class _Verify(msgspec.Struct, frozen=True, kw_only=True):
    auth_algo: str
    cert_url: str
    transmission_id: str
    transmission_sig: str
    transmission_time: str
    webhook_id: str
    webhook_event: msgspec.Raw
    """As it came: its checksum is part of what was signed."""


class PayPalPsp:
    """One PayPal test account. `state.unique_invoices` makes it refuse an invoice id that comes twice."""

    idempotent = True

    def __init__(
        self,
        bank: Bank,
        *,
        client_id: str = CLIENT_ID,
        client_secret: str = CLIENT_SECRET,
        webhook_id: str = WEBHOOK_ID,
        account: str = "paypal",
        clock: Clock | None = None,
        seed: int | None = None,
        token_ttl_s: float = 32_400.0,
        order_key_ttl_s: float = ORDER_KEY_TTL_S,
        payment_key_ttl_s: float = PAYMENT_KEY_TTL_S,
    ) -> None:
        self.account = account
        self.client_id = client_id
        self.client_secret = client_secret
        self.webhook_id = webhook_id
        self.token_ttl_s = token_ttl_s
        self.order_key_ttl_s = order_key_ttl_s
        self.payment_key_ttl_s = payment_key_ttl_s
        self.outbox = Outbox()
        self._bank = bank
        self.state = PayPalState(bank, account, clock or SystemClock(), seed, webhook_id)
        self._orders = Orders(self.state)
        self._payments = Payments(self.state)
        self.reports = Reports(self.state)
        self._keys_in_use: set[str] = set()
        rows: list[tuple[str, str, Handler]] = [
            ("orders", "/v2/checkout/orders", self._orders.create),
            ("order-capture", "/v2/checkout/orders/{}/capture", self._orders.capture),
            ("order-authorize", "/v2/checkout/orders/{}/authorize", self._orders.authorize),
            ("capture", "/v2/payments/authorizations/{}/capture", self._payments.capture),
            ("void", "/v2/payments/authorizations/{}/void", self._payments.void),
            ("reauthorize", "/v2/payments/authorizations/{}/reauthorize", self._payments.reauthorize),
            ("refund", "/v2/payments/captures/{}/refund", self._payments.refund),
        ]
        self._calls = [(call, re.compile(path.replace("{}", _ID)), handler) for call, path, handler in rows]

    @property
    def base_url(self) -> str:
        """Where this face listens, for links, the approval page and the certificate."""
        return self.state.base_url

    @base_url.setter
    def base_url(self, url: str) -> None:
        self.state.base_url = url

    # --- one request ----------------------------------------------------------------------------------------

    def admit(self, request: WireRequest) -> Ticket | WireReply:
        debug_id = self.state.ids.new("", 13).lower()
        if request.path.startswith(three_ds.PATH):
            with self._bank.transaction():
                reply = self._page(request)
            self._send()
            return reply
        if request.path.startswith(CERTIFICATE_PATH) and request.method == "GET":
            return WireReply(
                status=200, body=self.state.signer.certificate(), content_type="application/x-pem-file"
            )
        if request.path == TOKEN_PATH and request.method == "POST":
            return self._token(request)
        if not self._known(request):
            return self._error(PayPalError(status=401), debug_id)
        call, id_, _ = self._call(request)
        key = request.headers.get("paypal-request-id", FREE) if call and call != "void" else FREE
        if len(key) > KEY_LENGTH_MAX:
            return self._error(PayPalError("INVALID_STRING_LENGTH"), debug_id)
        # Void takes no request id: there the authorisation itself is what can be under way.
        in_use = f"void:{id_}" if call == "void" else f"{call}:{key}" if key else FREE
        if in_use in self._keys_in_use:
            return self._error(PayPalError("PREVIOUS_REQUEST_IN_PROGRESS"), debug_id)
        if key:
            with self._bank.transaction():
                replay = self._replay(request, call, in_use)
            self._send()
            if replay is not None:
                return replay
        if in_use:
            self._keys_in_use.add(in_use)
        return Ticket(request=request, request_id=debug_id, key=in_use)

    def execute(self, ticket: Ticket, fail: str | None = None) -> WireReply:
        """Where PayPal itself breaks after its effect, the request id still answers with what was made."""
        self._keys_in_use.discard(ticket.key)
        broken = self._error(PayPalError(status=500), ticket.request_id)
        if fail == "before":
            return broken
        with self._bank.transaction():
            try:
                reply = self._run(ticket)
            except PayPalError as error:
                reply = self._error(error, ticket.request_id)
        self._send()
        return broken if fail == "after" else reply

    def drop(self, ticket: Ticket) -> None:
        self._keys_in_use.discard(ticket.key)

    def front_error(self, status: int, request_id: str) -> WireReply:
        return self._error(PayPalError(status=status), request_id)

    def _run(self, ticket: Ticket) -> WireReply:
        request = ticket.request
        if request.method == "GET":
            is_report = request.path == REPORTS_PATH
            found = self.reports.search(request.query) if is_report else self._read(request.path)
            return self._reply(request, 200, found)
        if request.path == VERIFY_PATH and request.method == "POST":
            return self._verify(request)
        call, id_, handler = self._call(request)
        if handler is None:
            raise PayPalError(status=404)
        mocked = _mocked(request)
        if mocked:
            raise PayPalError(mocked)
        key = request.headers.get("paypal-request-id", FREE)
        made = handler(id_, _body(request), key)
        if call == "void":
            whole = "representation" in request.headers.get("prefer", "")
            return self._reply(request, 200, made) if whole else WireReply(status=204)
        if ticket.key:
            self.state.documents.save_key(
                ticket.key,
                SavedKey(
                    fingerprint=b"",
                    status=201,
                    body=msgspec.json.encode(made["id"]),
                    request_id=ticket.request_id,
                    created_us=self.state.now_us(),
                ),
            )
        return self._reply(request, 201, made)

    def _call(self, request: WireRequest) -> tuple[str, str, Handler | None]:
        """Which kind of call a POST is, and the id in its path."""
        for call, pattern, handler in self._calls:
            match = pattern.fullmatch(request.path) if request.method == "POST" else None
            if match is not None:
                return call, match[1] if pattern.groups else "", handler
        return "", "", None

    def _replay(self, request: WireRequest, call: str, in_use: str) -> WireReply | None:
        is_order = call.startswith("order")
        ttl_s = self.order_key_ttl_s if is_order else self.payment_key_ttl_s
        saved = self.state.documents.find_key(in_use, self.state.now_us() - int(ttl_s * 1_000_000))
        if saved is None:
            return None
        id_ = msgspec.json.decode(saved.body, type=str)
        if is_order:
            return self._reply(request, 200, self._orders.show(id_))
        # The specification knows no other status for these than that of the first answer.
        return self._reply(
            request, 201, self._payments.one("captures" if call == "capture" else "refunds", id_)
        )

    def _read(self, path: str) -> Document:
        match = re.fullmatch(rf"/v2/checkout/orders/{_ID}", path)
        if match:
            return self._orders.show(match[1])
        match = re.fullmatch(rf"/v2/payments/(authorizations|captures|refunds)/{_ID}", path)
        if match is None:
            raise PayPalError("INVALID_RESOURCE_ID")
        return self._payments.one(match[1], match[2])

    def _reply(self, request: WireRequest, status: int, document: Document) -> WireReply:
        wants_all = "representation" in request.headers.get("prefer", "")
        minimal = request.method == "POST" and not wants_all
        return json_reply(status, shape.shown(document, minimal=minimal))

    def _error(self, error: PayPalError, debug_id: str) -> WireReply:
        return json_reply(error.status, error.body(debug_id), {"paypal-debug-id": debug_id})

    def _send(self) -> None:
        """What was done is durable: its notices may go out."""
        for one in self.state.unsent:
            self.outbox.add(one)
        self.state.unsent.clear()

    # --- who asks -------------------------------------------------------------------------------------------

    def _token(self, request: WireRequest) -> WireReply:
        expected = base64.b64encode(f"{self.client_id}:{self.client_secret}".encode()).decode()
        if request.headers.get("authorization") != f"Basic {expected}":
            return json_reply(
                401, {"error": "invalid_client", "error_description": "Client Authentication failed"}
            )
        if dict(parse_qsl(request.body.decode("utf-8", "replace"))).get("grant_type") != "client_credentials":
            return json_reply(
                400, {"error": "unsupported_grant_type", "error_description": "Grant Type is NULL"}
            )
        now_us = self.state.now_us()
        token = {
            "id": self.state.ids.new("A21AA", 60),
            "until_us": now_us + int(self.token_ttl_s * 1_000_000),
        }
        with self._bank.transaction():
            self.state.documents.add(TOKEN, token, now_us)
        return json_reply(
            200,
            {
                "scope": "https://uri.paypal.com/services/payments/payment",
                "access_token": token["id"],
                "token_type": "Bearer",
                "app_id": "APP-SANDBOX",
                "expires_in": int(self.token_ttl_s),
                "nonce": "sandbox",
            },
        )

    def _known(self, request: WireRequest) -> bool:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        found = self.state.documents.get(TOKEN, token) if scheme == "Bearer" else None
        return found is not None and found["until_us"] > self.state.now_us()

    def _verify(self, request: WireRequest) -> WireReply:
        try:
            asked = msgspec.json.decode(request.body, type=_Verify)
        except msgspec.MsgspecError:
            raise PayPalError("MALFORMED_REQUEST_JSON") from None
        text = signed_text(
            asked.transmission_id, asked.transmission_time, asked.webhook_id, bytes(asked.webhook_event)
        )
        genuine = (
            asked.auth_algo == ALGORITHM
            and asked.webhook_id == self.webhook_id
            and asked.cert_url.startswith(f"{self.base_url}{CERTIFICATE_PATH}")
            and self.state.signer.signed(text, asked.transmission_sig)
        )
        return json_reply(200, {"verification_status": "SUCCESS" if genuine else "FAILURE"})

    # --- the payer's browser --------------------------------------------------------------------------------

    def approve(self, order_id: str, funding: str = "visa") -> str | None:
        """The payer approves the order with one of `paypal_objects.VAULT`; returns where the browser is sent."""
        with self._bank.transaction():
            url = self._orders.decide(order_id, True, funding)
        self._send()
        return url

    def _page(self, request: WireRequest) -> WireReply:
        """The approval page of a wallet, or the authentication of a card."""
        id_ = request.path.removeprefix(three_ds.PATH)
        try:
            order = self.state.order(id_)
        except PayPalError:
            return html_reply(404, three_ds.page("PayPal sandbox", "", done="There is no such order."))
        amount = Money(order["_minor"], order["_currency"]).format()
        if order["status"] not in ("CREATED", "PAYER_ACTION_REQUIRED"):
            text = f"It is {order['status'].lower()}."
            return html_reply(200, three_ds.page("PayPal sandbox", amount, done=text))
        if request.method != "POST":
            return html_reply(200, three_ds.page("PayPal sandbox", amount))
        passed = three_ds.wants(request.body)
        funding = dict(parse_qsl(request.body.decode("utf-8", "replace"))).get("funding", "visa")
        if passed is None or funding not in shape.VAULT:
            return html_reply(
                400, three_ds.page("PayPal sandbox", amount, done="The form says neither yes nor no.")
            )
        url = self._orders.decide(id_, passed, funding)
        if url:
            return WireReply(status=303, headers={"location": url}, content_type="text/plain")
        done = "Approved." if passed else "Canceled."
        return html_reply(200, three_ds.page("PayPal sandbox", amount, done=done))


def _mocked(request: WireRequest) -> str:
    """The issue that the test header asks for."""
    raw = request.headers.get("paypal-mock-response", "")
    if not raw:
        return ""
    try:
        wanted = msgspec.json.decode(raw, type=dict[str, Any]).get("mock_application_codes", "")
    except msgspec.MsgspecError:
        raise PayPalError("MALFORMED_REQUEST_JSON") from None
    return str(wanted[0] if isinstance(wanted, list) and wanted else wanted)


def _body(request: WireRequest) -> Document:
    if not request.body:
        return {}
    try:
        return msgspec.json.decode(request.body, type=dict[str, Any])
    except msgspec.MsgspecError:
        raise PayPalError("MALFORMED_REQUEST_JSON") from None
