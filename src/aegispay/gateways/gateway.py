"""The port that every PSP adapter implements.

An adapter is told what to do by a `GatewayCall` and answers with an `Outcome`. It never raises for anything that a
network or a PSP does, never retries by itself, and keeps no state between calls.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import msgspec

from aegispay.domain.errors import UnsupportedOperation
from aegispay.domain.events import OperationKind
from aegispay.domain.methods import Card
from aegispay.domain.money import Money
from aegispay.domain.outcomes import Declined, NotSent, Outcome
from aegispay.gateways.capabilities import Capabilities
from aegispay.gateways.webhooks import GatewayEvent

SAVED_ERROR = "saved_error"
"""`InDoubt.reason`: the PSP saved an error under the key and replays it for ever."""
KEY_REUSED = "key_reused"
"""`InDoubt.reason`: the PSP knows the key with other parameters; the first request may have been executed."""
RESEND_USELESS = frozenset({SAVED_ERROR, KEY_REUSED})
"""Doubts that no resend under the same key can end. A look-up, a webhook or a person must."""

RELEASED = frozenset({"canceled", "authorization_expired"})
"""`Declined.code` of a look-up: the PSP holds nothing for this authorisation any more, and never took it."""


class GatewayCall(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One operation, as the adapter needs it. The same operation always gives the same call, over crashes and resends."""

    kind: OperationKind
    operation_id: str
    """Our reference: unique per operation, put where the PSP lets us look it up."""
    gateway_key: str
    """The idempotency key to send it under."""
    payment_id: str
    merchant_id: str
    amount: Money
    timeout_s: float
    """The whole call, connecting included, ends within this time."""
    token: str | None = None
    """The PSP's token for the payment method."""
    parent_reference: str | None = None
    """The PSP's id of the payment that this acts on (confirm, capture, void, refund)."""
    parent_operation_id: str | None = None
    capture_reference: str | None = None
    """For a refund: the PSP's id of the capture that covers it; None where the payment was charged in one step, or no
    capture alone covers the amount (then a PSP that refunds captures only refuses it in `check`)."""
    own_reference: str | None = None
    """The PSP's id of this very operation, where an earlier answer gave one."""
    final: bool = True
    """For a capture: release what is left."""
    reason: str | None = None
    customer_id: str | None = None
    description: str | None = None
    return_url: str | None = None
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    action_data: dict[str, str] = msgspec.field(default_factory=dict)
    parent_kind: OperationKind | None = None
    """AUTHORIZE or CHARGE: what the operation that this acts on was."""
    started_at_us: int = 0
    """When the operation was recorded, in microseconds since 1970."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """The look-up knows the operation."""

    outcome: Outcome


class NotFound(msgspec.Struct, frozen=True, kw_only=True):
    """The PSP has nothing under our reference. Proof only where the capability says so and the quiet period has passed."""


class LookupFailed(msgspec.Struct, frozen=True, kw_only=True):
    """The look-up itself did not come through; nothing was learnt."""

    reason: str


Lookup = Found | NotFound | LookupFailed


class Tokenized(msgspec.Struct, frozen=True, kw_only=True):
    token: str


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a cheap call that moves no money."""

    ok: bool
    latency_ms: float
    detail: str = ""


class Gateway(ABC):
    """One PSP account."""

    name: str
    """The name it is registered under."""
    capabilities: Capabilities

    async def start(self) -> None:
        """Opens connections. Safe to call twice."""

    async def aclose(self) -> None:
        """Closes connections. Safe before start, and twice."""

    @abstractmethod
    async def authorize(self, call: GatewayCall) -> Outcome:
        """Reserve the amount."""

    @abstractmethod
    async def charge(self, call: GatewayCall) -> Outcome:
        """Authorise and capture in one."""

    async def confirm(self, call: GatewayCall) -> Outcome:
        """Go on after the payer acted."""
        raise UnsupportedOperation(f"{self.name} has no confirm.")

    async def capture(self, call: GatewayCall) -> Outcome:
        raise UnsupportedOperation(f"{self.name} has no capture.")

    async def void(self, call: GatewayCall) -> Outcome:
        raise UnsupportedOperation(f"{self.name} has no void.")

    async def refund(self, call: GatewayCall) -> Outcome:
        raise UnsupportedOperation(f"{self.name} has no refund.")

    async def look_up(self, call: GatewayCall) -> Lookup:
        """What became of this operation, found by our reference or the PSP's."""
        return LookupFailed(reason="not_supported")

    async def cancel_by_reference(self, call: GatewayCall) -> Outcome:
        """Makes sure that the operation is not, and will not be, executed.

        `Approved` is the PSP's own word that it is so; nothing else is (`NotSent` says that the cancel did not get through).
        """
        raise UnsupportedOperation(f"{self.name} has no cancel by reference.")

    async def tokenize(self, card: Card, timeout_s: float) -> Tokenized | Declined | NotSent:
        """Turns a raw card into the PSP's token. Moves no money, so any failure is `NotSent` or `Declined`."""
        raise UnsupportedOperation(f"{self.name} takes tokens only.")

    async def prepare_webhook(self, headers: Mapping[str, str], timeout_s: float = 5.0) -> None:
        """Fetches what `parse_webhook`, which opens no connection, needs (a PSP's certificate). Await it first.

        Raises `WebhookRejected` for a notice that names what must not be fetched.
        """

    def parse_webhook(self, headers: Mapping[str, str], body: bytes, now_us: int) -> list[GatewayEvent]:
        """The news in one inbound webhook, its signature verified first. Header names in any case.

        Raises `WebhookRejected`; a notice that is genuine and of no interest gives an empty list.
        """
        raise UnsupportedOperation(f"{self.name} has no webhooks.")

    @abstractmethod
    async def health(self, timeout_s: float = 5.0) -> Health:
        """A cheap call that moves no money."""

    def check(self, call: GatewayCall) -> None:
        """Raises `InvalidRequest` for a call that this PSP can never take (a currency, an amount rule). Sends nothing."""

    async def perform(self, call: GatewayCall) -> Outcome:
        """Sends the call to the method of its kind."""
        return await getattr(self, call.kind.value)(call)  # type: ignore[no-any-return]
