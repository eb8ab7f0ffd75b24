"""`BraintreeGateway`: each operation as the GraphQL mutation that Braintree documents for it, its answer as an outcome.

It keeps no state between calls and never resends: Braintree has no idempotency key, and a nonce is good for one
request. What became of an operation in doubt is found by its order id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import Approved, DeclineCategory, Declined, NotSent, Outcome
from aegispay.gateways.answers import TimeLeft
from aegispay.gateways.braintree import documents, replies, requests
from aegispay.gateways.braintree.client import API_VERSION, SANDBOX_URL, BraintreeClient
from aegispay.gateways.braintree.lookup import BraintreeLookup, ReadFailed
from aegispay.gateways.braintree.webhooks import BraintreeWebhooks
from aegispay.gateways.braintree.wire_types import Envelope, Sale
from aegispay.gateways.capabilities import Capabilities
from aegispay.gateways.gateway import Gateway, GatewayCall, Health, Lookup
from aegispay.gateways.http import HttpReply, Transport
from aegispay.gateways.transport import AiohttpTransport
from aegispay.gateways.webhooks import GatewayEvent
from aegispay.ports import Clock, SystemClock

LOOKUP_QUIET_S = 300.0
"""Braintree gives a request up after 60 s; the rest is for the search, whose delay Braintree does not state."""


class BraintreeGateway(Gateway):
    """One Braintree account, over its GraphQL API."""

    def __init__(
        self,
        public_key: str,
        private_key: str,
        merchant_accounts: Mapping[str, str],
        *,
        base_url: str = SANDBOX_URL,
        webhook_keys: Sequence[tuple[str, str]] = (),
        multi_capture: bool = False,
        lookup_quiet_s: float | None = None,
        api_version: str = API_VERSION,
        transport: Transport | None = None,
        name: str = "braintree",
        clock: Clock | None = None,
    ) -> None:
        """Raises `ConfigError` for a key, account or address that cannot be right.

        `merchant_accounts`: currency code to merchant account id, which is what decides the currency of a charge.
        `webhook_keys`: further pairs of public and private key under which webhooks are signed while keys are
        rotated; the account's own pair always counts. `multi_capture`: the payments are PayPal's or Venmo's, which
        take several captures. `lookup_quiet_s` is for a sandbox; against the real Braintree, a shorter time than the
        default lets a look-up miss a charge. A `transport` that is passed in is the caller's to close.
        """
        self.name = name
        self._own_transport: AiohttpTransport | None = None
        if transport is None:
            transport = self._own_transport = AiohttpTransport()
        self._client = BraintreeClient(public_key, private_key, base_url, api_version, transport)
        self._accounts = requests.check_accounts(merchant_accounts)
        self._webhooks = BraintreeWebhooks([(public_key, private_key), *webhook_keys])
        self._lookup = BraintreeLookup(self._client, multi_capture=multi_capture)
        self._multi_capture = multi_capture
        self._clock: Clock = clock or SystemClock()
        self.capabilities = Capabilities(
            multi_capture=multi_capture,
            next_action=False,
            lookup_by_reference=True,
            lookup_quiet_s=LOOKUP_QUIET_S if lookup_quiet_s is None else lookup_quiet_s,
        )

    def __repr__(self) -> str:
        return f"<BraintreeGateway {self.name}>"

    async def start(self) -> None:
        if self._own_transport is not None:
            await self._own_transport.start()

    async def aclose(self) -> None:
        if self._own_transport is not None:
            await self._own_transport.aclose()

    def check(self, call: GatewayCall) -> None:
        requests.check_call(call, self._accounts, multi_capture=self._multi_capture)

    # --- operations ---------------------------------------------------------------------------------------

    async def authorize(self, call: GatewayCall) -> Outcome:
        return await self._pay(call, documents.AUTHORIZE)

    async def charge(self, call: GatewayCall) -> Outcome:
        return await self._pay(call, documents.CHARGE)

    async def _pay(self, call: GatewayCall, document: str) -> Outcome:
        self.check(call)
        variables = requests.payment(call, self._accounts)
        reply = await self._client.send(document, variables, call.timeout_s)
        return replies.payment_outcome(reply, call) if isinstance(reply, HttpReply) else reply

    async def capture(self, call: GatewayCall) -> Outcome:
        self.check(call)
        document = documents.PARTIAL_CAPTURE if self._multi_capture else documents.CAPTURE
        variables = requests.capture(call, multi_capture=self._multi_capture)
        reply = await self._client.send(document, variables, call.timeout_s)
        if not isinstance(reply, HttpReply):
            return reply
        if self._multi_capture:
            return replies.payment_outcome(reply, call)
        return replies.capture_outcome(reply, call)

    async def void(self, call: GatewayCall) -> Outcome:
        """Reverses a transaction of which nothing was captured.

        A reversal refunds what has settled, so the transaction is read first: a void never becomes a refund of money
        that was captured behind our back.
        """
        self.check(call)
        left = TimeLeft(self._clock, call.timeout_s)
        sale = await self._read(call.parent_reference or "", left)
        if isinstance(sale, NotSent):
            return sale
        if sale.status == "VOIDED":
            return Approved(reference=sale.id, amount_minor=call.amount.amount_minor)
        captured = sale.status in replies.TAKEN and call.parent_kind is not OperationKind.CHARGE
        if captured or sale.status not in (*replies.TAKEN, *replies.UNSETTLED, "AUTHORIZING"):
            return _not_now("already_captured" if captured else "invalid_state", sale)
        return await self._reverse(call, sale.id, left)

    async def refund(self, call: GatewayCall) -> Outcome:
        """Refunds what has settled. What has not is voided, if the whole of it is to be given back; else refused."""
        self.check(call)
        left = TimeLeft(self._clock, call.timeout_s)
        sale = await self._read(requests.refunded_id(call), left)
        if isinstance(sale, NotSent):
            return sale
        if sale.status in replies.UNSETTLED:
            if replies.minor(sale.amount, call) != call.amount.amount_minor:
                return _not_now("not_settled", sale)
            return await self._reverse(call, sale.id, left)
        reply = await self._client.send(documents.REFUND, requests.refund(call), left.seconds())
        return replies.refund_outcome(reply, call, sale.id) if isinstance(reply, HttpReply) else reply

    async def _reverse(self, call: GatewayCall, transaction_id: str, left: TimeLeft) -> Outcome:
        variables = requests.reverse(call, transaction_id)
        reply = await self._client.send(documents.REVERSE, variables, left.seconds())
        if not isinstance(reply, HttpReply):
            return reply
        return replies.reversal_outcome(reply, call, transaction_id)

    async def _read(self, transaction_id: str, left: TimeLeft) -> Sale | NotSent:
        """The transaction as it stands. Only a read is tried, so a failure is `NotSent`: nothing was undone."""
        try:
            return await self._lookup.transaction(transaction_id, left)
        except ReadFailed as failure:
            return NotSent(reason=str(failure))

    # --- evidence and the rest ----------------------------------------------------------------------------

    async def look_up(self, call: GatewayCall) -> Lookup:
        self.check(call)
        return await self._lookup.look_up(call, TimeLeft(self._clock, call.timeout_s))

    def parse_webhook(self, headers: Mapping[str, str], body: bytes, now_us: int) -> list[GatewayEvent]:
        return self._webhooks.parse(body)

    def answer_challenge(self, challenge: str) -> str:
        """The body to answer `GET ...?bt_challenge=` with, by which Braintree checks a webhook's address."""
        return self._webhooks.answer_challenge(challenge)

    async def health(self, timeout_s: float = 5.0) -> Health:
        begin_s = self._clock.monotonic_s()
        reply = await self._client.send(documents.PING, {}, timeout_s)
        latency_ms = (self._clock.monotonic_s() - begin_s) * 1000
        if not isinstance(reply, HttpReply):
            return Health(
                ok=False, latency_ms=latency_ms, detail=f"Braintree was not reached: {reply.reason}."
            )
        body = replies.unpack(reply)
        refused: Outcome = NotSent(reason="garbage")
        if not isinstance(body, Envelope):
            refused = body
        elif body.data is not None and body.data.ping == "pong":
            return Health(ok=True, latency_ms=latency_ms)
        elif body.errors:
            refused = replies.error_outcome(body.errors)
        reason = getattr(refused, "reason", "refused")
        detail = {
            "unauthorized": "Braintree does not know these API keys.",
            "forbidden": "These API keys may not use the GraphQL API.",
            "rate_limited": "Braintree asks for fewer requests.",
        }.get(reason, f"Braintree answered {reply.status}: {reason}.")
        return Health(ok=False, latency_ms=latency_ms, detail=detail)


def _not_now(code: str, sale: Sale) -> Declined:
    return Declined(
        category=DeclineCategory.INVALID,
        code=code,
        message=f"Braintree: {code.replace('_', ' ')}",
        gateway_code=sale.status[:64],
        reference=sale.id,
    )
