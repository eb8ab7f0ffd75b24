"""The PSPs of a run: each a way to make its side of the wire, and an instance's adapter to it.

A user's own adapter takes part as a `SimulatedPsp`: its face over the bank's books, and its gateway over a `Transport`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple, Protocol

from aegispay.domain.outcomes import InDoubt, NotSent
from aegispay.gateways.capabilities import Capabilities
from aegispay.gateways.gateway import Gateway
from aegispay.gateways.http import HttpReply, HttpRequest, Transport
from aegispay.gateways.stripe import StripeGateway
from aegispay.ports import Clock
from aegispay.sandbox import three_ds
from aegispay.sandbox.bank import Bank
from aegispay.sandbox.plainpay_face import PlainPayPsp
from aegispay.sandbox.plainpay_gateway import PlainPayGateway
from aegispay.sandbox.stripe_face import StripePsp
from aegispay.sandbox.wire import Psp, WireRequest
from aegispay.testing.simulation.faults import Faults
from aegispay.testing.simulation.instance_ports import Ported, WorldClock
from aegispay.testing.simulation.loop import SimulatedLoop
from aegispay.testing.simulation.model_gateway import ModelGateway
from aegispay.testing.simulation.model_psp import ModelPsp
from aegispay.testing.simulation.network import Network, SimulatedTransport
from aegispay.testing.simulation.options import Mode, Options

Tokens = dict[str, str]
"""What a PSP calls the card that is approved (`ok`), declined softly (`soft`) or for good (`hard`), or wants 3DS (`3ds`)."""


class World(NamedTuple):
    """What a PSP is made of."""

    options: Options
    loop: SimulatedLoop
    bank: Bank
    faults: Faults
    network: Network
    watch: Callable[[str, str, WireRequest], None]
    """Sees every request that leaves over HTTP."""


class PspSide(Protocol):
    """One PSP of a run."""

    name: str
    tokens: Tokens
    multi_capture: bool

    def gateway(self, ported: Ported, clock: Clock) -> Gateway:
        """An instance's adapter."""
        ...

    def authenticate(self, reference: str, passed: bool) -> None:
        """The payer acts on the PSP's 3DS page."""
        ...


class SimulatedPsp(NamedTuple):
    """A user's own PSP in the simulation: its face (`aegispay.sandbox.wire.Psp`) and its adapter."""

    name: str
    face: Callable[[Bank, Clock, int], Psp]
    """From the bank, the true clock and a seed."""
    gateway: Callable[[Transport, Clock], Gateway]
    """From the transport and the instance's clock."""
    tokens: Tokens
    multi_capture: bool = False


class FaceSide:
    """A real adapter over a face: every byte between them is real, only the network is not."""

    def __init__(self, world: World, psp: SimulatedPsp):
        self.name = psp.name
        self.tokens = psp.tokens
        self.multi_capture = psp.multi_capture
        self._world = world
        self._make = psp.gateway
        self._face = psp.face(world.bank, WorldClock(world.loop), world.options.seed)
        self._late_s_max: float | None = None

    def gateway(self, ported: Ported, clock: Clock) -> Gateway:
        if self._late_s_max is None:
            probe = self._make(_NoTransport(), clock)
            self._late_s_max = late_s_max(self._world.options, probe.capabilities)
        transport = SimulatedTransport(
            self._world.network, self._face, ported, late_s_max=self._late_s_max, watch=self._world.watch
        )
        return self._make(transport, clock)

    def authenticate(self, reference: str, passed: bool) -> None:
        action = b"action=authenticate" if passed else b"action=fail"
        self._face.admit(WireRequest(method="POST", path=f"{three_ds.PATH}{reference}", body=action))


class _NoTransport:
    """Stands in where an adapter is made only to ask for its capabilities."""

    async def send(self, request: HttpRequest) -> HttpReply | NotSent | InDoubt:
        return NotSent(reason="not_connected")

    async def aclose(self) -> None:
        """There is nothing to close."""


class ModelSide:
    """A model PSP and its adapter."""

    multi_capture = True

    def __init__(self, world: World, name: str):
        self.name = name
        self.tokens: Tokens = {"ok": "tok_ok", "soft": "tok_soft", "hard": "tok_hard", "3ds": "tok_3ds"}
        self._world = world
        options = world.options
        keyed, cancels = name.startswith("keyed"), name.startswith("cancel")
        self._capabilities = Capabilities(
            multi_capture=True,
            stable_key=keyed,
            # Declared shorter than it is, as an adapter must: clocks differ, and a resend may be on its way for long.
            stable_key_ttl_s=options.key_ttl_s - options.quiet_s - 120.0 if keyed else 0.0,
            lookup_by_reference=True,
            lookup_quiet_s=options.quiet_s,
            cancel_by_reference=cancels,
            authorization_ttl_s=7 * 86_400.0,
        )
        source = random.Random(f"{options.seed}:{name}")  # noqa: S311 - replayable on purpose
        self._psp = ModelPsp(
            name,
            world.bank,
            world.loop,
            source,
            keyed=keyed,
            cancels=cancels,
            key_ttl_s=options.key_ttl_s,
            lag_s=lambda: lag_s(world, self._capabilities),
            pending_share=source.choice((0.0, 0.0, 0.3)),
        )

    def gateway(self, ported: Ported, clock: Clock) -> Gateway:
        return ModelGateway(
            self.name,
            self._psp,
            self._world.network,
            ported,
            self._capabilities,
            late_s_max=late_s_max(self._world.options, self._capabilities),
        )

    def authenticate(self, reference: str, passed: bool) -> None:
        self._psp.authenticate(reference, passed)


def _budget_s(options: Options, capabilities: Capabilities) -> float:
    """What the declared quiet period leaves when the clocks' differences are taken off."""
    return max(0.0, capabilities.lookup_quiet_s - 2 * options.skew_s_max - 0.5)


def late_s_max(options: Options, capabilities: Capabilities) -> float:
    """How long a request may be on its way: within the declared quiet period, unless the mode breaks that promise."""
    if capabilities.cancel_by_reference:
        # Such a PSP need not promise when a request lands: it refuses what comes after the cancel.
        return 2 * capabilities.lookup_quiet_s
    if options.mode is Mode.LATE and not capabilities.stable_key:
        return 2 * capabilities.lookup_quiet_s
    return _budget_s(options, capabilities) * options.late_share


def lag_s(world: World, capabilities: Capabilities) -> float:
    """How far a look-up is behind now."""
    if not world.faults.rate("lookup_lags"):
        return 0.0
    world.faults.fire("lookup_lags")
    return _budget_s(world.options, capabilities) * (1 - world.options.late_share)


def stripe_side(world: World) -> FaceSide:
    """The real Stripe adapter over the sandbox's Stripe face."""

    def face(bank: Bank, clock: Clock, seed: int) -> Psp:
        return StripePsp(bank, clock=clock, seed=seed, search_lag_s=0.0)

    def gateway(transport: Transport, clock: Clock) -> Gateway:
        return StripeGateway(
            "sk_test_sandbox",
            base_url="https://stripe.example",
            transport=transport,
            lookup_quiet_s=world.options.quiet_s,
            clock=clock,
        )

    tokens = {
        "ok": "pm_card_visa",
        "soft": "pm_card_chargeDeclinedInsufficientFunds",
        "hard": "pm_card_chargeDeclinedStolenCard",
        "3ds": "pm_card_threeDSecure2Required",
    }
    return FaceSide(world, SimulatedPsp("stripe", face, gateway, tokens))


def plainpay_side(world: World) -> FaceSide:
    """The PlainPay adapter over the sandbox's PlainPay face."""

    def face(bank: Bank, clock: Clock, seed: int) -> Psp:
        return PlainPayPsp(bank, clock=clock, seed=seed)

    def gateway(transport: Transport, clock: Clock) -> Gateway:
        return PlainPayGateway(
            base_url="https://plainpay.example",
            api_key="plain_test_sandbox",
            transport=transport,
            lookup_quiet_s=world.options.quiet_s,
        )

    tokens = {"ok": "tok_visa", "soft": "tok_insufficient_funds", "hard": "tok_stolen_card", "3ds": "tok_3ds"}
    return FaceSide(world, SimulatedPsp("plainpay", face, gateway, tokens, multi_capture=True))


def make_side(world: World, name: str, own: dict[str, SimulatedPsp]) -> PspSide:
    """The PSP of that name."""
    if name in own:
        return FaceSide(world, own[name])
    if name == "stripe":
        return stripe_side(world)
    if name == "plainpay":
        return plainpay_side(world)
    return ModelSide(world, name)
