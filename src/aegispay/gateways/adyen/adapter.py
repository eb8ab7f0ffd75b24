"""`AdyenGateway`: each operation as the one request that Adyen documents for it, and its answer as an outcome.

It keeps no state between calls and never retries. Captures, voids and refunds are only received: their outcome comes
by webhook, and Adyen has no call that would tell it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aegispay.domain.errors import UnsupportedOperation
from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import Outcome
from aegispay.gateways.adyen import replies, requests
from aegispay.gateways.adyen.client import TEST_URL, AdyenClient, check_merchant_account
from aegispay.gateways.adyen.webhooks import AdyenWebhooks
from aegispay.gateways.capabilities import Capabilities
from aegispay.gateways.gateway import Gateway, GatewayCall, Health
from aegispay.gateways.http import HttpReply, Transport
from aegispay.gateways.transport import AiohttpTransport
from aegispay.gateways.webhooks import GatewayEvent
from aegispay.ports import Clock, SystemClock

KEY_TTL_S = 7 * 86_400.0 - 3600.0
"""Adyen keeps keys for at least 7 days (31 on older pages); an hour is left for clocks that differ."""


class AdyenGateway(Gateway):
    """One Adyen merchant account, over its Checkout API, in one region."""

    def __init__(
        self,
        api_key: str,
        merchant_account: str,
        *,
        base_url: str = TEST_URL,
        webhook_keys: Sequence[str] = (),
        return_url: str | None = None,
        shopper_reference: str | None = None,
        multi_capture: bool = False,
        transport: Transport | None = None,
        name: str = "adyen",
        clock: Clock | None = None,
    ) -> None:
        """Raises `ConfigError` for a key, account or address that cannot be right.

        `base_url`: `live_url(prefix)` for the live account. `webhook_keys`: the HMAC keys in hex, every active one
        while they are rotated. `return_url` and `shopper_reference` serve payments that bring none of their own.
        `multi_capture`: Adyen has enabled multiple partial captures for the account. A `transport` that is passed in
        is the caller's to close.
        """
        self.name = name
        self._own_transport: AiohttpTransport | None = None
        if transport is None:
            transport = self._own_transport = AiohttpTransport()
        self._client = AdyenClient(api_key, base_url, transport)
        self._defaults = requests.Defaults(
            merchant_account=check_merchant_account(merchant_account),
            return_url=return_url,
            shopper_reference=shopper_reference,
        )
        self._webhooks = AdyenWebhooks(webhook_keys)
        self._multi_capture = multi_capture
        self._clock: Clock = clock or SystemClock()
        self.capabilities = Capabilities(
            multi_capture=multi_capture, stable_key=True, stable_key_ttl_s=KEY_TTL_S
        )

    def __repr__(self) -> str:
        return f"<AdyenGateway {self.name}>"

    async def start(self) -> None:
        if self._own_transport is not None:
            await self._own_transport.start()

    async def aclose(self) -> None:
        if self._own_transport is not None:
            await self._own_transport.aclose()

    def check(self, call: GatewayCall) -> None:
        requests.check_call(call, self._defaults, multi_capture=self._multi_capture)

    # --- operations ---------------------------------------------------------------------------------------

    async def authorize(self, call: GatewayCall) -> Outcome:
        return await self._pay(call)

    async def charge(self, call: GatewayCall) -> Outcome:
        return await self._pay(call)

    async def _pay(self, call: GatewayCall) -> Outcome:
        self.check(call)
        body = requests.payment(call, self._defaults)
        reply = await self._client.post("/payments", body, call.timeout_s, call.gateway_key)
        return replies.payment_outcome(reply, call) if isinstance(reply, HttpReply) else reply

    async def confirm(self, call: GatewayCall) -> Outcome:
        """Sends what the payer brought back. A card is not charged before that, so a failure to send is `NotSent`."""
        self.check(call)
        reply = await self._client.post(
            "/payments/details", requests.details(call), call.timeout_s, call.gateway_key
        )
        return replies.payment_outcome(reply, call) if isinstance(reply, HttpReply) else reply

    async def capture(self, call: GatewayCall) -> Outcome:
        self.check(call)
        path = f"/payments/{call.parent_reference}/captures"
        return await self._modify(call, path, requests.capture(call, self._defaults.merchant_account))

    async def void(self, call: GatewayCall) -> Outcome:
        """Cancels an authorisation; gives a charge back in whichever way is due."""
        self.check(call)
        path, body = requests.void(call, self._defaults.merchant_account)
        return await self._modify(call, path, body)

    async def refund(self, call: GatewayCall) -> Outcome:
        self.check(call)
        path = f"/payments/{call.parent_reference}/refunds"
        return await self._modify(call, path, requests.refund(call, self._defaults.merchant_account))

    async def _modify(self, call: GatewayCall, path: str, body: requests.Body) -> Outcome:
        reply = await self._client.post(path, body, call.timeout_s, call.gateway_key)
        if not isinstance(reply, HttpReply):
            return reply
        return replies.modification_outcome(
            reply, call, key=call.gateway_key, reference=call.operation_id, payment=call.parent_reference
        )

    # --- evidence and the rest ----------------------------------------------------------------------------

    async def cancel_by_reference(self, call: GatewayCall) -> Outcome:
        """Asks Adyen to cancel a payment of which only our reference is known.

        Adyen says `received` and tells by webhook (TECHNICAL_CANCEL) whether there was one, so this is never more
        than `Pending`; and since a payment that lands later is not refused, it is no declared capability.
        """
        if call.kind not in (OperationKind.AUTHORIZE, OperationKind.CHARGE):
            raise UnsupportedOperation("Adyen cancels payments by our reference, nothing else.")
        self.check(call)
        key = requests.cancel_key(call)
        body = requests.cancel_by_reference(call, self._defaults.merchant_account)
        reply = await self._client.post("/cancels", body, call.timeout_s, key)
        if not isinstance(reply, HttpReply):
            return reply
        return replies.modification_outcome(
            reply, call, key=key, reference=body["reference"], payment=call.operation_id
        )

    def parse_webhook(self, headers: Mapping[str, str], body: bytes, now_us: int) -> list[GatewayEvent]:
        return self._webhooks.parse(body)

    async def health(self, timeout_s: float = 5.0) -> Health:
        begin_s = self._clock.monotonic_s()
        body: requests.Body = {"merchantAccount": self._defaults.merchant_account}
        reply = await self._client.post("/paymentMethods", body, timeout_s, None)
        latency_ms = (self._clock.monotonic_s() - begin_s) * 1000
        if not isinstance(reply, HttpReply):
            return Health(ok=False, latency_ms=latency_ms, detail=f"Adyen was not reached: {reply.reason}.")
        detail = {
            200: "",
            401: "Adyen does not know this API key (401).",
            403: "This API key may not use this merchant account (403).",
            429: "Adyen asks for fewer requests (429).",
        }.get(reply.status, f"Adyen answered {reply.status}.")
        return Health(ok=reply.status == 200, latency_ms=latency_ms, detail=detail)
