"""`StripeGateway`: each operation as the one request that Stripe documents for it, and its answer as an outcome.

It keeps no state between calls and never retries; what to do about a doubt is the orchestrator's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aegispay.domain.events import OperationKind
from aegispay.domain.methods import Card
from aegispay.domain.outcomes import Approved, DeclineCategory, Declined, InDoubt, NotSent, Outcome
from aegispay.gateways.answers import TimeLeft, read
from aegispay.gateways.capabilities import Capabilities
from aegispay.gateways.gateway import Gateway, GatewayCall, Health, Lookup, Tokenized
from aegispay.gateways.http import HttpReply, Transport
from aegispay.gateways.stripe import replies, requests
from aegispay.gateways.stripe.client import StripeClient
from aegispay.gateways.stripe.lookup import StripeLookup
from aegispay.gateways.stripe.webhooks import StripeWebhooks
from aegispay.gateways.stripe.wire_types import Identified, Intent
from aegispay.gateways.transport import AiohttpTransport
from aegispay.gateways.webhooks import GatewayEvent
from aegispay.ports import Clock, SystemClock

API_VERSION = "2024-06-20"
KEY_TTL_S = 23 * 3600.0
"""Stripe keeps keys for at least 24 hours; an hour is left for clocks that differ and requests that dawdle."""
SEARCH_QUIET_S = 3600.0
"""The search by metadata lags up to an hour in an outage."""
LIST_QUIET_S = 300.0
"""Lists are current; what is waited for is only a request that is still on its way."""
AUTHORIZATION_TTL_S = 7 * 86_400.0
"""Stripe's default; the answer's own time, where it gives one, goes before it."""


class StripeGateway(Gateway):
    """One Stripe account, over its public API."""

    def __init__(
        self,
        api_key: str,
        *,
        base_url: str = "https://api.stripe.com",
        transport: Transport | None = None,
        webhook_secrets: Sequence[str] = (),
        api_version: str = API_VERSION,
        multi_capture: bool = False,
        search: bool = True,
        lookup_quiet_s: float | None = None,
        name: str = "stripe",
        clock: Clock | None = None,
    ) -> None:
        """`api_key` is the secret or a restricted key. Raises `ConfigError` for one that cannot be right.

        `multi_capture`: Stripe has enabled multicapture for the account. `search=False`: the account has no search
        API (India); look-ups then read lists only. `lookup_quiet_s` is for a sandbox whose search does not lag:
        against the real Stripe, a shorter time than the default lets a look-up miss a charge. `webhook_secrets`:
        the signing secrets (whsec_...) of the webhook endpoint, every active one while they are rolled. A
        `transport` that is passed in is the caller's to close.
        """
        self.name = name
        self._own_transport: AiohttpTransport | None = None
        if transport is None:
            transport = self._own_transport = AiohttpTransport()
        client = StripeClient(api_key, base_url, api_version, transport)
        self._client = client
        self._lookup = StripeLookup(client, multi_capture=multi_capture, search=search)
        self._webhooks = StripeWebhooks(webhook_secrets)
        self._multi_capture = multi_capture
        self._clock: Clock = clock or SystemClock()
        self.capabilities = Capabilities(
            multi_capture=multi_capture,
            tokenize=True,
            stable_key=True,
            stable_key_ttl_s=KEY_TTL_S,
            lookup_by_reference=True,
            lookup_quiet_s=lookup_quiet_s or (SEARCH_QUIET_S if search else LIST_QUIET_S),
            authorization_ttl_s=AUTHORIZATION_TTL_S,
        )

    def __repr__(self) -> str:
        return f"<StripeGateway {self.name}>"

    async def start(self) -> None:
        if self._own_transport is not None:
            await self._own_transport.start()

    async def aclose(self) -> None:
        if self._own_transport is not None:
            await self._own_transport.aclose()

    def check(self, call: GatewayCall) -> None:
        requests.check_call(call, multi_capture=self._multi_capture)

    # --- operations ---------------------------------------------------------------------------------------

    async def authorize(self, call: GatewayCall) -> Outcome:
        return await self._create(call)

    async def charge(self, call: GatewayCall) -> Outcome:
        return await self._create(call)

    async def _create(self, call: GatewayCall) -> Outcome:
        self.check(call)
        form = requests.create_form(call, multi_capture=self._multi_capture)
        reply = await self._client.post("/v1/payment_intents", form, call.timeout_s, call.gateway_key)
        return replies.first_outcome(reply, call) if isinstance(reply, HttpReply) else reply

    async def confirm(self, call: GatewayCall) -> Outcome:
        """Reads the payment after the payer acted: Stripe goes on by itself unless it asks for a confirmation.

        Whatever keeps the answer from us is a doubt, never `NotSent`: the payer's own step may have charged.
        """
        self.check(call)
        left = TimeLeft(self._clock, call.timeout_s)
        kind = call.parent_kind or OperationKind.CHARGE
        intent = await self._parent(call, left)
        if isinstance(intent, InDoubt):
            return intent
        if intent.status == "requires_confirmation":
            path = f"/v1/payment_intents/{call.parent_reference}/confirm"
            reply = await self._client.post(path, [], left.seconds(), call.gateway_key)
            if not isinstance(reply, HttpReply):
                return InDoubt(reason=reply.reason)
            return replies.confirm_outcome(reply, call, kind)
        return replies.intent_outcome(intent, call, kind)

    async def capture(self, call: GatewayCall) -> Outcome:
        self.check(call)
        form = requests.capture_form(call, multi_capture=self._multi_capture)
        path = f"/v1/payment_intents/{call.parent_reference}/capture"
        reply = await self._client.post(path, form, call.timeout_s, call.gateway_key)
        if not isinstance(reply, HttpReply):
            return reply
        return replies.capture_outcome(reply, call, multi_capture=self._multi_capture)

    async def void(self, call: GatewayCall) -> Outcome:
        """Cancels; or, where something was captured already, releases the rest by a final capture of nothing."""
        self.check(call)
        left = TimeLeft(self._clock, call.timeout_s)
        path = f"/v1/payment_intents/{call.parent_reference}"
        partly_captured = False
        if self._multi_capture:
            intent = await self._parent(call, left)
            if isinstance(intent, InDoubt):
                # Only a read was tried: nothing was voided by this call.
                return NotSent(reason=intent.reason)
            partly_captured = bool(intent.amount_received)
            if replies.rest_released(intent, call):
                return Approved(reference=intent.id, amount_minor=call.amount.amount_minor)
            if intent.status == "succeeded":
                # The payer's step went through after all, or somebody captured it: that is not a release.
                return Declined(category=DeclineCategory.INVALID, code="already_captured")
        if partly_captured:
            path, form = f"{path}/capture", requests.release_form()
        else:
            path, form = f"{path}/cancel", requests.cancel_form(call)
        reply = await self._client.post(path, form, left.seconds(), call.gateway_key)
        if not isinstance(reply, HttpReply):
            return reply
        return replies.void_outcome(reply, call, released=partly_captured)

    async def refund(self, call: GatewayCall) -> Outcome:
        self.check(call)
        reply = await self._client.post(
            "/v1/refunds", requests.refund_form(call), call.timeout_s, call.gateway_key
        )
        return replies.refund_reply_outcome(reply, call) if isinstance(reply, HttpReply) else reply

    async def _parent(self, call: GatewayCall, left: TimeLeft) -> Intent | InDoubt:
        """The payment that the call acts on, as it stands now."""
        path = f"/v1/payment_intents/{call.parent_reference}"
        reply = await self._client.get(path, [], left.seconds())
        if not isinstance(reply, HttpReply):
            return InDoubt(reason=reply.reason)
        if reply.status != 200:
            outcome = replies.error_outcome(reply)
            return InDoubt(reason=getattr(outcome, "reason", f"http_{reply.status}"))
        intent = replies.parent_intent(reply, call)
        return intent if intent is not None else InDoubt(reason="garbage")

    # --- evidence and the rest ----------------------------------------------------------------------------

    async def look_up(self, call: GatewayCall) -> Lookup:
        self.check(call)
        return await self._lookup.look_up(call, TimeLeft(self._clock, call.timeout_s))

    async def tokenize(self, card: Card, timeout_s: float) -> Tokenized | Declined | NotSent:
        reply = await self._client.post("/v1/payment_methods", requests.card_form(card), timeout_s, None)
        if not isinstance(reply, HttpReply):
            return NotSent(reason=reply.reason, retry_after_s=reply.retry_after_s)
        if 200 <= reply.status < 300:
            made = read(reply, Identified)
            return Tokenized(token=made.id) if made is not None and made.id else NotSent(reason="garbage")
        outcome = replies.error_outcome(reply, card_data=True)
        if isinstance(outcome, Declined | NotSent):
            return outcome
        return NotSent(reason=getattr(outcome, "reason", "failed"))

    def parse_webhook(self, headers: Mapping[str, str], body: bytes, now_us: int) -> list[GatewayEvent]:
        return self._webhooks.parse(headers, body, now_us)

    async def health(self, timeout_s: float = 5.0) -> Health:
        begin_s = self._clock.monotonic_s()
        reply = await self._client.get("/v1/balance", [], timeout_s)
        latency_ms = (self._clock.monotonic_s() - begin_s) * 1000
        if not isinstance(reply, HttpReply):
            return Health(ok=False, latency_ms=latency_ms, detail=f"Stripe was not reached: {reply.reason}.")
        detail = {
            200: "",
            401: "Stripe does not know this API key (401).",
            403: "This API key may not read the balance (403); a restricted key needs that permission.",
            429: "Stripe asks for fewer requests (429).",
        }.get(reply.status, f"Stripe answered {reply.status}.")
        return Health(ok=reply.status == 200, latency_ms=latency_ms, detail=detail)
