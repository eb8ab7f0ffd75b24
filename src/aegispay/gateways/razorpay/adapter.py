"""`RazorpayGateway`: an order, then a payment of that order; captures and refunds of the payment.

It keeps no state between calls and never retries; what to do about a doubt is the orchestrator's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from aegispay.domain.errors import ConfigError, UnsupportedOperation
from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import Declined, InDoubt, NotSent, Outcome, Pending
from aegispay.gateways.answers import TimeLeft, read
from aegispay.gateways.capabilities import Capabilities, KindEvidence
from aegispay.gateways.credentials import checked_secret
from aegispay.gateways.gateway import Found, Gateway, GatewayCall, Health, Lookup, NotFound
from aegispay.gateways.http import HttpReply, Transport
from aegispay.gateways.razorpay import replies, requests
from aegispay.gateways.razorpay.client import RazorpayClient
from aegispay.gateways.razorpay.lookup import RazorpayLookup
from aegispay.gateways.razorpay.webhook import read_webhook
from aegispay.gateways.razorpay.wire_types import Created, Order, Payment, RazorpayRefund
from aegispay.gateways.transport import AiohttpTransport
from aegispay.gateways.webhooks import GatewayEvent
from aegispay.ports import Clock, SystemClock

REFUND_KEY_TTL_S = 3600.0
"""Razorpay keeps keys for refunds only, and does not say for how long: after an hour the look-up tells, not a resend."""
LOOKUP_QUIET_S = 900.0
"""What is waited for is a request that is still on its way; Razorpay's own time-out of a payment is 10 minutes."""


class RazorpayGateway(Gateway):
    """One Razorpay account, over its public API."""

    def __init__(
        self,
        key_id: str,
        key_secret: str,
        *,
        webhook_secrets: Sequence[str] = (),
        base_url: str = "https://api.razorpay.com/v1",
        transport: Transport | None = None,
        lookup_quiet_s: float = LOOKUP_QUIET_S,
        name: str = "razorpay",
        clock: Clock | None = None,
    ) -> None:
        """Raises `ConfigError` for keys that cannot be right, without quoting them.

        `webhook_secrets`: every secret that is in force, so that one can be replaced without losing notices.
        `lookup_quiet_s` is for a sandbox: against the real Razorpay a shorter time than the default lets a look-up
        miss a payment. A `transport` that is passed in is the caller's to close.
        """
        self.name = name
        self._own_transport: AiohttpTransport | None = None
        if transport is None:
            transport = self._own_transport = AiohttpTransport()
        if isinstance(webhook_secrets, str):
            raise ConfigError("webhook_secrets is a list of texts, not one text.")
        self._webhook_secrets = [
            checked_secret("a Razorpay webhook secret", one, 255) for one in webhook_secrets
        ]
        self._client = RazorpayClient(key_id, key_secret, base_url, transport)
        self._lookup = RazorpayLookup(self._client)
        self._clock: Clock = clock or SystemClock()
        self.capabilities = Capabilities(
            void=False,
            partial_capture=False,
            lookup_by_reference=True,
            lookup_quiet_s=lookup_quiet_s,
            by_kind={OperationKind.REFUND: KindEvidence(key_ttl_s=REFUND_KEY_TTL_S)},
            authorization_ttl_s=requests.MANUAL_EXPIRY_MINUTES * 60.0,
        )

    def __repr__(self) -> str:
        return f"<RazorpayGateway {self.name}>"

    async def start(self) -> None:
        if self._own_transport is not None:
            await self._own_transport.start()

    async def aclose(self) -> None:
        if self._own_transport is not None:
            await self._own_transport.aclose()

    def check(self, call: GatewayCall) -> None:
        requests.check_call(call)

    # --- operations ---------------------------------------------------------------------------------------

    async def authorize(self, call: GatewayCall) -> Outcome:
        return await self._create(call)

    async def charge(self, call: GatewayCall) -> Outcome:
        return await self._create(call)

    async def _create(self, call: GatewayCall) -> Outcome:
        """Makes the order, then asks for the payment.

        An order moves no money, and one whose id nobody got is never paid: whatever goes wrong with it, nothing was
        executed. From the payment's request on, what is not a clear answer is in doubt, and the order tells.
        """
        self.check(call)
        left = TimeLeft(self._clock, call.timeout_s)
        reply = await self._client.post("/orders", requests.order_body(call), left.seconds())
        order = _order(reply, call)
        if not isinstance(order, Order):
            return order
        if call.token == requests.CHECKOUT:
            return replies.checkout_action(order.id, call, self._client.key_id)
        body = requests.payment_body(call, order.id)
        reply = await self._client.post(requests.payment_path(call), body, left.seconds())
        if not isinstance(reply, HttpReply):
            return reply
        if not 200 <= reply.status < 300:
            return replies.error_outcome(reply)
        created = read(reply, Created)
        if created is None:
            return InDoubt(reason="garbage")
        action = replies.next_step(created)
        if action is not None:
            return action
        known = replace(call, own_reference=created.razorpay_payment_id)
        found = await self._lookup.look_up(known, left)
        if isinstance(found, Found):
            return found.outcome
        return Pending(reference=created.razorpay_payment_id, reason="created")

    async def confirm(self, call: GatewayCall) -> Outcome:
        """Reads what became of the order or payment; what the payer brought back is not believed, so it is not needed.

        An order that nobody has paid yet asks for the payer again. Whatever keeps the answer from us is a doubt.
        """
        self.check(call)
        found = await self._lookup.look_up(call, TimeLeft(self._clock, call.timeout_s))
        if isinstance(found, Found):
            return found.outcome
        if isinstance(found, NotFound):
            return replies.checkout_action(call.parent_reference or "", call, self._client.key_id)
        return InDoubt(reason=found.reason)

    async def capture(self, call: GatewayCall) -> Outcome:
        """Captures the whole amount. A refusal is read again: captured before is captured, whoever did it."""
        self.check(call)
        left = TimeLeft(self._clock, call.timeout_s)
        path = f"/payments/{call.parent_reference}/capture"
        reply = await self._client.post(path, requests.capture_body(call), left.seconds())
        if not isinstance(reply, HttpReply):
            return reply
        if 200 <= reply.status < 300:
            payment = read(reply, Payment)
            return InDoubt(reason="garbage") if payment is None else replies.captured_outcome(payment, call)
        return await self._read_again(replies.error_outcome(reply), call, left)

    async def _read_again(self, outcome: Outcome, call: GatewayCall, left: TimeLeft) -> Outcome:
        """A refusal of a capture or refund, checked against the payment: it may be about our own earlier send."""
        already = isinstance(outcome, InDoubt) and outcome.reason == replies.ALREADY_DONE
        if not already and not isinstance(outcome, Declined):
            return outcome
        found = await self._lookup.look_up(call, left)
        if isinstance(found, Found):
            return found.outcome
        return outcome if isinstance(found, NotFound) else InDoubt(reason=found.reason)

    async def void(self, call: GatewayCall) -> Outcome:
        raise UnsupportedOperation(
            "Razorpay has no void.", hint="Let the authorisation lapse, or capture it and refund."
        )

    async def refund(self, call: GatewayCall) -> Outcome:
        self.check(call)
        left = TimeLeft(self._clock, call.timeout_s)
        path = f"/payments/{requests.refund_target(call)}/refund"
        body = requests.refund_body(call)
        reply = await self._client.post(path, body, left.seconds(), refund_key=call.gateway_key)
        if not isinstance(reply, HttpReply):
            return reply
        if not 200 <= reply.status < 300:
            return await self._read_again(replies.error_outcome(reply), call, left)
        refund = read(reply, RazorpayRefund)
        if refund is None or refund.payment_id != requests.refund_target(call):
            return InDoubt(reason="garbage")
        if refund.receipt not in (None, call.operation_id):
            return InDoubt(reason="garbage")
        return replies.refund_outcome(refund, call)

    # --- evidence and the rest ----------------------------------------------------------------------------

    async def look_up(self, call: GatewayCall) -> Lookup:
        self.check(call)
        return await self._lookup.look_up(call, TimeLeft(self._clock, call.timeout_s))

    def verify_callback(self, order_id: str, payment_id: str, signature: str) -> bool:
        """Whether Razorpay signed what the payer's browser brought back. For the merchant's own page; we read instead."""
        return self._client.signs(order_id, payment_id, signature)

    def parse_webhook(self, headers: Mapping[str, str], body: bytes, now_us: int) -> list[GatewayEvent]:
        return read_webhook(headers, body, self._webhook_secrets)

    async def health(self, timeout_s: float = 5.0) -> Health:
        begin_s = self._clock.monotonic_s()
        reply = await self._client.get("/payments/downtimes", [], timeout_s)
        latency_ms = (self._clock.monotonic_s() - begin_s) * 1000
        if not isinstance(reply, HttpReply):
            return Health(
                ok=False, latency_ms=latency_ms, detail=f"Razorpay was not reached: {reply.reason}."
            )
        detail = {
            200: "",
            401: "Razorpay does not know this key (401).",
            429: "Razorpay asks for fewer requests (429).",
        }.get(reply.status, f"Razorpay answered {reply.status}.")
        return Health(ok=reply.status == 200, latency_ms=latency_ms, detail=detail)


def _order(reply: HttpReply | NotSent | InDoubt, call: GatewayCall) -> Order | NotSent | Declined:
    """The order that was made, or the proof that no payment was asked for."""
    if not isinstance(reply, HttpReply):
        return NotSent(reason=reply.reason, retry_after_s=reply.retry_after_s)
    if 200 <= reply.status < 300:
        order = read(reply, Order)
        body = requests.order_body(call)
        wanted = (body["receipt"], body["amount"], body["currency"])
        if (
            order is not None
            and order.id.startswith("order_")
            and (order.receipt, order.amount, order.currency) == wanted
        ):
            return order
        return NotSent(reason="garbage")
    outcome = replies.error_outcome(reply)
    if isinstance(outcome, NotSent | Declined):
        return outcome
    return NotSent(reason=getattr(outcome, "reason", "failed"))
