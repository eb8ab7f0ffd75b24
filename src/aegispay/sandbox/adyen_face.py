"""Adyen's Checkout API over the bank: who asks, under which idempotency key, for which endpoint.

A synchronous function from request to reply. It has no way to ask what became of a payment, as Adyen has none: the
answers are kept under their keys, and webhooks tell the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from aegispay.ports import Clock, SystemClock
from aegispay.sandbox import three_ds
from aegispay.sandbox.adyen_modifications import Modifications
from aegispay.sandbox.adyen_payments import Payments
from aegispay.sandbox.adyen_state import AdyenError, AdyenState, Body
from aegispay.sandbox.bank import Bank
from aegispay.sandbox.documents import SavedKey
from aegispay.sandbox.webhooks import Outbox
from aegispay.sandbox.wire import FREE, Ticket, WireReply, WireRequest, json_reply

API_KEY = "AQE_sandbox_test_key"
MERCHANT_ACCOUNT = "SandboxECOM"
HMAC_KEY = "5A" * 32
KEY_LENGTH_MAX = 64
KEY_TTL_S = 7 * 86_400.0

Handler = Callable[[str, Body], tuple[int, Body]]


class AdyenPsp:
    """One Adyen test account in one region. `key_ttl_s`: after that the same idempotency key executes again."""

    idempotent = True

    def __init__(
        self,
        bank: Bank,
        *,
        api_key: str = API_KEY,
        merchant_account: str = MERCHANT_ACCOUNT,
        hmac_key: str = HMAC_KEY,
        account: str = "adyen",
        clock: Clock | None = None,
        seed: int | None = None,
        key_ttl_s: float = KEY_TTL_S,
        manual_capture: bool = True,
        multiple_captures: bool = False,
        in_flight_status: int = 409,
    ) -> None:
        self.account = account
        self.api_key = api_key
        self.merchant_account = merchant_account
        self.hmac_key = hmac_key
        self.key_ttl_s = key_ttl_s
        self.in_flight_status = in_flight_status
        """409 or 422: Adyen answers either to a key that is in use."""
        self.key_store_up = True
        """False: requests with a key are refused with 503 and errorCode 703, and nothing is done."""
        self._bank = bank
        self._clock = clock or SystemClock()
        self._state = AdyenState(
            bank,
            account,
            merchant_account,
            hmac_key,
            self._clock,
            seed,
            manual_capture=manual_capture,
            multiple_captures=multiple_captures,
        )
        self._keys_in_use: set[str] = set()
        self._payments = Payments(self._state)
        self._modifications = Modifications(self._state)
        self._routes = self._table()

    @property
    def base_url(self) -> str:
        """Where this face listens, for the redirect page's address."""
        return self._state.base_url

    @base_url.setter
    def base_url(self, url: str) -> None:
        self._state.base_url = url

    @property
    def outbox(self) -> Outbox:
        return self._state.outbox

    # --- one request ----------------------------------------------------------------------------------------

    def admit(self, request: WireRequest) -> Ticket | WireReply:
        request_id = self._state.psp_reference()
        if request.path.startswith(three_ds.PATH):
            with self._bank.transaction():
                return self._payments.page(request)
        if request.headers.get("x-api-key") != self.api_key:
            unknown = AdyenError(401, "000", "HTTP Status Response - Unauthorized", "security")
            return self._error(unknown, "")
        key = request.headers.get("idempotency-key", FREE) if request.method == "POST" else FREE
        if len(key) > KEY_LENGTH_MAX:
            return self._error(AdyenError(422, "702", "The idempotency key is too long"), request_id)
        if key:
            known = self._known(key, request_id)
            if known is not None:
                return known
            self._keys_in_use.add(key)
        return Ticket(request=request, request_id=request_id, key=key)

    def execute(self, ticket: Ticket, fail: str | None = None) -> WireReply:
        self._keys_in_use.discard(ticket.key)
        headers = {"pspreference": ticket.request_id}
        if ticket.key:
            headers["idempotency-key"] = ticket.key
        self._state.forget_drafts()
        with self._bank.transaction():
            reply, kept = self._run(ticket, headers, fail)
            if ticket.key and kept:
                saved = SavedKey(
                    fingerprint=b"",
                    status=reply.status,
                    body=reply.body,
                    request_id=ticket.request_id,
                    created_us=self._clock.now_us(),
                )
                self._state.documents.save_key(ticket.key, saved)
        self._state.send_drafts()
        return reply

    def drop(self, ticket: Ticket) -> None:
        self._keys_in_use.discard(ticket.key)

    def front_error(self, status: int, request_id: str) -> WireReply:
        message = "Too many requests" if status == 429 else "Service unavailable"
        return self._error(AdyenError(status, "000", message, "internal"), "", {"transient-error": "true"})

    def _known(self, key: str, request_id: str) -> WireReply | None:
        """The answer to a key that is in use or was answered before. Adyen does not compare what was sent under it."""
        transient = {"transient-error": "true"}
        if not self.key_store_up:
            down = AdyenError(503, "703", "Required resource temporarily unavailable", "internal")
            return self._error(down, request_id, transient)
        if key in self._keys_in_use:
            busy = AdyenError(self.in_flight_status, "704", "request already processed or in progress")
            return self._error(busy, request_id, transient)
        saved = self._state.documents.find_key(key, self._clock.now_us() - int(self.key_ttl_s * 1_000_000))
        if saved is None:
            return None
        headers = {"pspreference": saved.request_id, "idempotency-key": key}
        return WireReply(status=saved.status, body=saved.body, headers=headers)

    def _run(self, ticket: Ticket, headers: dict[str, str], fail: str | None) -> tuple[WireReply, bool]:
        """The reply, and whether it is kept under the key."""
        broken = AdyenError(500, "905", "Something went wrong", "internal")
        if fail == "before":
            return self._error(broken, ticket.request_id, headers), True
        kept = True
        try:
            status, body = self._route(ticket.request)
            reply = json_reply(status, body, headers)
        except AdyenError as error:
            reply = self._error(error, ticket.request_id, headers)
            kept = error.status == 422
        if fail == "after":
            return self._error(broken, ticket.request_id, headers), True
        return reply, kept

    def _error(
        self, error: AdyenError, psp_reference: str, headers: dict[str, str] | None = None
    ) -> WireReply:
        return json_reply(error.status, error.body(psp_reference), headers)

    # --- endpoints ------------------------------------------------------------------------------------------

    def _table(self) -> list[tuple[re.Pattern[str], Handler]]:
        payments, changes = self._payments, self._modifications
        rows: list[tuple[str, Handler]] = [
            ("/payments", lambda _, body: payments.pay(body)),
            ("/payments/details", lambda _, body: payments.details(body)),
            ("/paymentMethods", lambda _, __: (200, _METHODS)),
            ("/cancels", changes.cancel_by_reference),
            ("/payments/{}/captures", changes.capture),
            ("/payments/{}/cancels", changes.cancel),
            ("/payments/{}/refunds", changes.refund),
            ("/payments/{}/reversals", changes.reverse),
        ]
        return [
            (re.compile(r"(?:/checkout)?/v\d\d" + path.replace("{}", "([A-Za-z0-9]{1,64})")), handler)
            for path, handler in rows
        ]

    def _route(self, request: WireRequest) -> tuple[int, Body]:
        for pattern, handler in self._routes:
            match = pattern.fullmatch(request.path) if request.method == "POST" else None
            if match is not None:
                body = self._body(request)
                return handler(match[1] if pattern.groups else "", body)
        raise AdyenError(404, "000", "HTTP Status Response - Not Found", "configuration")

    def _body(self, request: WireRequest) -> Body:
        try:
            body = msgspec.json.decode(request.body, type=dict[str, Any])
        except msgspec.MsgspecError:
            raise AdyenError(400, "702", 'Unexpected input: ", expected: }') from None
        # `/payments/details` names no merchant account: what the payer brought back names the payment.
        if not request.path.endswith("/details") and body.get("merchantAccount") != self.merchant_account:
            raise AdyenError(403, "901", "Invalid Merchant Account", "security")
        return body

    # --- what happens without a request ---------------------------------------------------------------------

    def expire(self, psp_reference: str) -> None:
        """An authorisation runs out."""
        with self._bank.transaction():
            self._modifications.expire(psp_reference)
        self._state.send_drafts()

    def dashboard_refund(self, psp_reference: str, value: int) -> None:
        """Somebody refunds in Adyen's own pages, under no reference of ours; `value` as Adyen counts it."""
        payment = self._state.payment(psp_reference)
        body: Body = {"amount": {"currency": payment["currency"], "value": value}}
        with self._bank.transaction():
            self._modifications.refund(psp_reference, body)
        self._state.send_drafts()

    def chargeback(self, psp_reference: str) -> None:
        """The payer disputes: CHARGEBACK is told, for the whole amount."""
        payment = self._state.payment(psp_reference)
        self._state.tell(
            "CHARGEBACK", payment, psp_reference=self._state.psp_reference(), reason="Other Fraud"
        )
        self._state.send_drafts()


_METHODS: Body = {"paymentMethods": [{"name": "Cards", "type": "scheme", "brands": ["visa", "mc", "amex"]}]}
