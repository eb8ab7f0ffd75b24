"""`PayPalGateway`: an order, its approval by the payer, its capture or authorization; then captures, voids, refunds.

Beside the access token it keeps no state between calls, and it never retries but once after a refused token; what to do
about a doubt is the orchestrator's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aegispay.domain.errors import ConfigError
from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import Approved, DeclineCategory, Declined, InDoubt, NotSent, Outcome
from aegispay.gateways.answers import TimeLeft, read
from aegispay.gateways.capabilities import Capabilities, KindEvidence
from aegispay.gateways.credentials import header_of
from aegispay.gateways.gateway import Found, Gateway, GatewayCall, Health, Lookup, LookupFailed
from aegispay.gateways.http import HttpReply, Transport
from aegispay.gateways.paypal import replies, requests
from aegispay.gateways.paypal.certificates import CertificateStore
from aegispay.gateways.paypal.client import PayPalClient
from aegispay.gateways.paypal.lookup import PayPalLookup, Unread
from aegispay.gateways.paypal.webhook import CERT_URL, read_webhook
from aegispay.gateways.paypal.wire_types import ErrorReply, Order, Transaction
from aegispay.gateways.transport import AiohttpTransport
from aegispay.gateways.webhooks import GatewayEvent, WebhookRejected
from aegispay.ports import Clock, SystemClock

ORDER_KEY_TTL_S = 5.5 * 3600.0
"""PayPal keeps the request ids of orders for 6 hours; half an hour is left for clocks that differ."""
PAYMENT_KEY_TTL_S = 44 * 86_400.0
"""Those of captures and refunds for 45 days; a day is left."""
VOID_RESEND_TTL_S = 29 * 86_400.0
"""A void has no request id: sent again it answers `PREVIOUSLY_VOIDED`, for as long as the authorisation would live."""
ORDER_QUIET_S = 900.0
"""Orders are current; what is waited for is a request that is still on its way."""
SEARCH_QUIET_S = 4 * 3600.0
"""The transaction search lags by up to three hours."""
AUTHORIZATION_TTL_S = 29 * 86_400.0
COMPLETES = "-2"
"""Appended to the key of an operation for its second request: PayPal wants a request id per call type."""


_MAY_HAVE_LAPSED = frozenset({"already_captured", "authorization_expired"})
"""How PayPal refuses to void what is not held any more, or was captured."""


def _evidence(search: bool, quiet_s: float | None) -> dict[OperationKind, KindEvidence]:
    """Where the evidence differs from that of an order whose id we hold."""
    first = KindEvidence(lookup=search, lookup_quiet_s=SEARCH_QUIET_S if quiet_s is None else quiet_s)
    payments = KindEvidence(key_ttl_s=PAYMENT_KEY_TTL_S)
    return {
        OperationKind.AUTHORIZE: first,
        OperationKind.CHARGE: first,
        OperationKind.CAPTURE: payments,
        OperationKind.REFUND: payments,
        OperationKind.VOID: KindEvidence(key_ttl_s=VOID_RESEND_TTL_S),
    }


class PayPalGateway(Gateway):
    """One PayPal REST application."""

    def __init__(
        self,
        client_id: str,
        client_secret: str,
        *,
        webhook_ids: Sequence[str] = (),
        webhook_certificates: Mapping[str, str | bytes] | None = None,
        transaction_search: bool = False,
        base_url: str = "https://api-m.paypal.com",
        transport: Transport | None = None,
        lookup_quiet_s: float | None = None,
        name: str = "paypal",
        clock: Clock | None = None,
    ) -> None:
        """Raises `ConfigError` for credentials that cannot be right, without quoting them.

        `webhook_ids`: the ids of every webhook that points here. `webhook_certificates`: PayPal's certificates in PEM
        by their address, for those who pin them; others are fetched by `prepare_webhook`. `transaction_search=True`:
        the application has that permission, so a payment can be found without its id; what acts on a payment is found
        in its order in any case. `lookup_quiet_s` is for a sandbox. A `transport` that is passed in is the caller's.
        """
        self.name = name
        self._own_transport: AiohttpTransport | None = None
        if transport is None:
            transport = self._own_transport = AiohttpTransport()
        if isinstance(webhook_ids, str) or not all(
            isinstance(one, str) and one.isascii() and one.isalnum() for one in webhook_ids
        ):
            raise ConfigError("webhook_ids is a list of the webhooks' ids: letters and digits.")
        self._webhook_ids = tuple(webhook_ids)
        self._clock: Clock = clock or SystemClock()
        self._client = PayPalClient(client_id, client_secret, base_url, transport, self._clock)
        self._certificates = CertificateStore(webhook_certificates or {}, self._client.base_url)
        self._lookup = PayPalLookup(self._client, search=transaction_search)
        self.capabilities = Capabilities(
            multi_capture=True,
            stable_key=True,
            stable_key_ttl_s=ORDER_KEY_TTL_S,
            lookup_by_reference=True,
            lookup_quiet_s=ORDER_QUIET_S if lookup_quiet_s is None else lookup_quiet_s,
            by_kind=_evidence(transaction_search, lookup_quiet_s),
            authorization_ttl_s=AUTHORIZATION_TTL_S,
        )

    def __repr__(self) -> str:
        return f"<PayPalGateway {self.name}>"

    async def start(self) -> None:
        if self._own_transport is not None:
            await self._own_transport.start()

    async def aclose(self) -> None:
        await self._client.tokens.aclose()
        if self._own_transport is not None:
            await self._own_transport.aclose()

    def check(self, call: GatewayCall) -> None:
        requests.check_call(call)

    # --- the first operation ------------------------------------------------------------------------------

    async def authorize(self, call: GatewayCall) -> Outcome:
        return await self._create(call)

    async def charge(self, call: GatewayCall) -> Outcome:
        return await self._create(call)

    async def _create(self, call: GatewayCall) -> Outcome:
        """Makes the order. With a saved method PayPal takes the money in the same request, unless the payer must act.

        An order that the payer has to approve takes nothing by itself: one whose id we never got is never approved,
        so whatever goes wrong with it is proof that nothing was executed.
        """
        self.check(call)
        left = TimeLeft(self._clock, call.timeout_s)
        reply = await self._client.post(
            "/v2/checkout/orders", requests.order_body(call), left, call.gateway_key
        )
        outcome = await self._created(reply, call, left)
        if not requests.is_wallet(call) or not isinstance(outcome, InDoubt):
            return outcome
        if outcome.reason == replies.DUPLICATE_INVOICE:
            return outcome
        return NotSent(reason=outcome.reason, retry_after_s=outcome.retry_after_s)

    async def _created(
        self, reply: HttpReply | NotSent | InDoubt, call: GatewayCall, left: TimeLeft
    ) -> Outcome:
        if not isinstance(reply, HttpReply):
            return reply
        if not 200 <= reply.status < 300:
            return replies.error_outcome(reply)
        order = read(reply, Order)
        if order is None or not order.id:
            return InDoubt(reason="garbage")
        outcome = replies.order_outcome(order, call, call.kind, call.operation_id)
        if outcome is None:
            if requests.is_wallet(call):
                return InDoubt(reason="unexpected_status")
            return await self._complete(order.id, call, call.kind, call.operation_id, left, COMPLETES)
        return outcome

    async def confirm(self, call: GatewayCall) -> Outcome:
        """Captures or authorizes the order that the payer approved. Until then the payer is asked again."""
        self.check(call)
        left = TimeLeft(self._clock, call.timeout_s)
        kind = call.parent_kind or OperationKind.CHARGE
        order_id = call.parent_reference or ""
        return await self._complete(order_id, call, kind, call.parent_operation_id or "", left, "")

    async def _complete(
        self,
        order_id: str,
        call: GatewayCall,
        kind: OperationKind,
        operation_id: str,
        left: TimeLeft,
        suffix: str,
    ) -> Outcome:
        verb = "authorize" if kind is OperationKind.AUTHORIZE else "capture"
        reply = await self._client.post(
            f"/v2/checkout/orders/{order_id}/{verb}", None, left, call.gateway_key + suffix
        )
        if not isinstance(reply, HttpReply):
            return reply
        if 200 <= reply.status < 300:
            order = read(reply, Order)
            if order is None or order.id != order_id:
                return InDoubt(reason="garbage")
            outcome = replies.order_outcome(order, call, kind, operation_id)
            return InDoubt(reason="unexpected_status") if outcome is None else outcome
        issue = replies.issue_of(reply)
        if reply.status == 422 and issue in replies.STATE_ISSUES | replies.PAYER_ISSUES:
            return await self._as_it_stands(order_id, reply, call, kind, operation_id, left)
        return replies.error_outcome(reply)

    async def _as_it_stands(
        self,
        order_id: str,
        refusal: HttpReply,
        call: GatewayCall,
        kind: OperationKind,
        operation_id: str,
        left: TimeLeft,
    ) -> Outcome:
        """What became of an order that PayPal would not complete: captured before, or not approved yet."""
        error = read(refusal, ErrorReply)
        action = replies.payer_action(order_id, error.links if error else [])
        if replies.issue_of(refusal) in replies.PAYER_ISSUES and action is not None:
            return action
        try:
            order = await self._lookup.order(order_id, left)
        except Unread as failure:
            return InDoubt(reason=str(failure))
        outcome = replies.order_outcome(order, call, kind, operation_id)
        return InDoubt(reason="unexpected_status") if outcome is None else outcome

    # --- captures, voids, refunds -------------------------------------------------------------------------

    async def capture(self, call: GatewayCall) -> Outcome:
        self.check(call)
        left = TimeLeft(self._clock, call.timeout_s)
        path = f"/v2/payments/authorizations/{call.parent_reference}/capture"
        reply = await self._client.post(path, requests.capture_body(call), left, call.gateway_key)
        if not isinstance(reply, HttpReply):
            return reply
        if not 200 <= reply.status < 300:
            return await self._read_again(reply, call, left)
        made = read(reply, Transaction)
        if made is None or not made.id or made.invoice_id not in (None, call.operation_id):
            return InDoubt(reason="garbage")
        return replies.made_outcome(made, call, call.kind, None)

    async def refund(self, call: GatewayCall) -> Outcome:
        self.check(call)
        left = TimeLeft(self._clock, call.timeout_s)
        path = f"/v2/payments/captures/{requests.refund_target(call)}/refund"
        reply = await self._client.post(path, requests.refund_body(call), left, call.gateway_key)
        if not isinstance(reply, HttpReply):
            return reply
        if not 200 <= reply.status < 300:
            return await self._read_again(reply, call, left)
        refund = read(reply, Transaction)
        if refund is None or not refund.id or refund.invoice_id not in (None, call.operation_id):
            return InDoubt(reason="garbage")
        return replies.refund_outcome(refund, call)

    async def _read_again(self, reply: HttpReply, call: GatewayCall, left: TimeLeft) -> Outcome:
        """A refusal of a capture or refund that may be about our own earlier send is checked against the order."""
        outcome = replies.error_outcome(reply)
        if reply.status != 422 or replies.issue_of(reply) not in replies.STATE_ISSUES:
            return outcome
        found = await self._lookup.look_up(call, left)
        if isinstance(found, Found):
            return found.outcome
        return InDoubt(reason=found.reason) if isinstance(found, LookupFailed) else outcome

    async def void(self, call: GatewayCall) -> Outcome:
        """Voids an authorization. PayPal takes no request id for it: voided before is voided.

        An order that was never captured or authorized needs none: it takes nothing without a call of ours.
        """
        self.check(call)
        left = TimeLeft(self._clock, call.timeout_s)
        reference = call.parent_reference or ""
        if call.parent_kind is OperationKind.CHARGE:
            return await self._abandon(reference, call, left)
        outcome = await self._void(reference, call, left)
        if isinstance(outcome, Declined) and outcome.code == "not_found":
            return await self._abandon(reference, call, left)
        return outcome

    async def _void(self, authorization_id: str, call: GatewayCall, left: TimeLeft) -> Outcome:
        path = f"/v2/payments/authorizations/{authorization_id}/void"
        reply = await self._client.post(path, None, left, None)
        if not isinstance(reply, HttpReply):
            return reply
        done = Approved(reference=authorization_id, amount_minor=call.amount.amount_minor)
        if reply.status == 204 or replies.issue_of(reply) == "PREVIOUSLY_VOIDED":
            return done
        if reply.status == 200:
            made = read(reply, Transaction)
            voided = made is not None and made.id == authorization_id and made.status == "VOIDED"
            return done if voided else InDoubt(reason="garbage")
        outcome = replies.error_outcome(reply)
        if isinstance(outcome, Declined) and outcome.code in _MAY_HAVE_LAPSED:
            # What nobody captured in time is held no longer, and then PayPal refuses to void it.
            lapsed = await self._has_lapsed(authorization_id, left)
            return InDoubt(reason="unread") if lapsed is None else done if lapsed else outcome
        return outcome

    async def _has_lapsed(self, authorization_id: str, left: TimeLeft) -> bool | None:
        """Whether the authorization is over by its own date, and not captured to its end; None where it cannot be read."""
        reply = await self._client.get(f"/v2/payments/authorizations/{authorization_id}", left)
        made = read(reply, Transaction) if isinstance(reply, HttpReply) and reply.status == 200 else None
        if made is None or made.id != authorization_id:
            return None
        expires_us = replies.time_us(made.expiration_time)
        over = expires_us is not None and expires_us <= self._clock.now_us()
        return over and made.status != "CAPTURED"

    async def _abandon(self, order_id: str, call: GatewayCall, left: TimeLeft) -> Outcome:
        """The void of an order: done where it took nothing, passed on to its authorization where there is one."""
        try:
            order = await self._lookup.order(order_id, left)
        except Unread as failure:
            # Only a read was tried: nothing was voided by this call.
            return NotSent(reason=str(failure))
        authorizations = order.payments().authorizations
        if authorizations:
            return await self._void(authorizations[-1].id, call, left)
        taken = replies.took_money(order)
        if taken is None:
            return NotSent(reason="unexpected_status")
        return (
            _captured_before()
            if taken
            else Approved(reference=order.id, amount_minor=call.amount.amount_minor)
        )

    # --- evidence and the rest ----------------------------------------------------------------------------

    async def look_up(self, call: GatewayCall) -> Lookup:
        self.check(call)
        return await self._lookup.look_up(call, TimeLeft(self._clock, call.timeout_s))

    async def prepare_webhook(self, headers: Mapping[str, str], timeout_s: float = 5.0) -> None:
        """Fetches the certificate that a webhook names, unless it is here. Await it before `parse_webhook`.

        Raises `WebhookRejected` where the address is not one of PayPal's certificates; nothing is then fetched.
        """
        url = header_of(headers, CERT_URL)
        if not url:
            raise WebhookRejected("missing_signature")
        await self._certificates.fetch(url, self._client.transport, timeout_s)

    def parse_webhook(self, headers: Mapping[str, str], body: bytes, now_us: int) -> list[GatewayEvent]:
        return read_webhook(headers, body, now_us, self._webhook_ids, self._certificates)

    async def health(self, timeout_s: float = 5.0) -> Health:
        """Asks for a fresh access token, which also proves that the credentials are in force."""
        begin_s = self._clock.monotonic_s()
        token = await self._client.tokens.fetch(timeout_s)
        latency_ms = (self._clock.monotonic_s() - begin_s) * 1000
        if not isinstance(token, NotSent):
            return Health(ok=True, latency_ms=latency_ms)
        detail = {
            "unauthorized": "PayPal does not know this client id and secret.",
            "rate_limited": "PayPal asks for fewer requests (429).",
        }.get(token.reason, f"PayPal gave no access token: {token.reason}.")
        return Health(ok=False, latency_ms=latency_ms, detail=detail)


def _captured_before() -> Declined:
    return Declined(
        category=DeclineCategory.INVALID,
        code="already_captured",
        message="PayPal: already captured; refund it",
    )
