"""The PSPs of a run: each a way to make its side of the wire, and an instance's adapter to it.

A user's own adapter takes part as a `SimulatedPsp`: its face over the bank's books, and its gateway over a `Transport`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from aegispay.domain.money import Money
from aegispay.domain.outcomes import InDoubt, NotSent
from aegispay.domain.payment import Payment
from aegispay.gateways.capabilities import Capabilities
from aegispay.gateways.gateway import Gateway
from aegispay.gateways.http import HttpReply, HttpRequest
from aegispay.ports import Clock
from aegispay.sandbox.bank import Bank, BankCharge
from aegispay.sandbox.webhooks import Outbox
from aegispay.sandbox.wire import WireRequest
from aegispay.testing.simulation.dashboards import Act, Dashboard
from aegispay.testing.simulation.faces import FACES, SimulatedPsp, Tokens, acts_on_page
from aegispay.testing.simulation.faults import Faults
from aegispay.testing.simulation.instance_ports import Ported, WorldClock
from aegispay.testing.simulation.loop import SimulatedLoop
from aegispay.testing.simulation.model_gateway import ModelGateway
from aegispay.testing.simulation.model_psp import ModelPsp
from aegispay.testing.simulation.network import Network, SimulatedTransport
from aegispay.testing.simulation.options import Mode, Options
from aegispay.testing.simulation.post import Post
from aegispay.testing.simulation.trace import Trace


class World(NamedTuple):
    """What a PSP is made of."""

    options: Options
    loop: SimulatedLoop
    bank: Bank
    faults: Faults
    network: Network
    watch: Callable[[str, str, WireRequest], None]
    """Sees every request that leaves over HTTP."""
    trace: Trace
    posts: list[Post]
    """How the webhooks of each PSP that has any are delivered."""


class PspSide(Protocol):
    """One PSP of a run."""

    name: str
    tokens: Tokens
    multi_capture: bool
    dashboard: Dashboard | None

    def gateway(self, ported: Ported, clock: Clock) -> Gateway:
        """An instance's adapter."""
        ...

    def authenticate(self, payment: Payment, passed: bool) -> Mapping[str, str]:
        """The payer acts on the PSP's page; returns what comes back with them."""
        ...

    def let_time_pass(self) -> None:
        """What is due at the PSP by its clock happens, though nobody asks: holds lapse."""
        ...

    def act(self, charge: BankCharge, capture_id: str, act: Act, amount: Money) -> bool:
        """Somebody acts at the PSP's own pages; whether the PSP did it."""
        ...


class FaceSide:
    """A real adapter over a face: every byte between them is real, only the network is not."""

    def __init__(self, world: World, psp: SimulatedPsp):
        self.name = psp.name
        self.tokens = psp.tokens
        self.multi_capture = psp.multi_capture
        self.dashboard = psp.dashboard
        self._world = world
        self._make = psp.gateway
        self._face = psp.face(world.bank, WorldClock(world.loop), world.options.seed)
        self._psp = psp
        self._late_s_max: float | None = None
        outbox: Outbox | None = getattr(self._face, "outbox", None)
        self._post: Post | None = None
        if outbox is not None and (psp.webhooks_only or world.options.webhooks):
            self._post = Post(world.loop, world.faults, world.trace, psp.name, outbox, psp.forge)
            world.posts.append(self._post)

    def gateway(self, ported: Ported, clock: Clock) -> Gateway:
        if self._late_s_max is None:
            probe = self._make(_NoTransport(), clock)
            self._late_s_max = late_s_max(self._world.options, probe.capabilities)
        transport = SimulatedTransport(
            self._world.network,
            self._face,
            ported,
            late_s_max=self._late_s_max,
            watch=self._world.watch,
            after=self._after,
            keeps_errors=self._psp.keeps_errors,
        )
        return self._make(transport, clock)

    def authenticate(self, payment: Payment, passed: bool) -> Mapping[str, str]:
        acts = self._psp.payer or acts_on_page
        brought = acts(self._face, payment, passed)
        self._after()
        return brought

    def let_time_pass(self) -> None:
        due: Callable[[], None] | None = getattr(self._face, "let_time_pass", None)
        if due is not None:
            due()

    def act(self, charge: BankCharge, capture_id: str, act: Act, amount: Money) -> bool:
        done = self.dashboard is not None and self.dashboard(self._face, charge, capture_id, act, amount)
        self._after()
        return done

    def _after(self) -> None:
        """Something happened at the PSP: its notices leave."""
        if self._post is not None:
            self._post.collect()


class _NoTransport:
    """Stands in where an adapter is made only to ask for its capabilities."""

    async def send(self, request: HttpRequest) -> HttpReply | NotSent | InDoubt:
        return NotSent(reason="not_connected")

    async def aclose(self) -> None:
        """There is nothing to close."""


class ModelSide:
    """A model PSP and its adapter."""

    multi_capture = True
    dashboard: Dashboard | None = None

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

    def authenticate(self, payment: Payment, passed: bool) -> Mapping[str, str]:
        self._psp.authenticate(payment.gateway_reference or "", passed)
        return {}

    def let_time_pass(self) -> None:
        """Nothing lapses there by itself."""

    def act(self, charge: BankCharge, capture_id: str, act: Act, amount: Money) -> bool:
        """It has no pages, and no webhooks that would tell."""
        return False


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


def lag_s_max(world: World) -> float:
    """How far the search of a face is behind, all through the run, where look-ups lag at all."""
    if not world.faults.rate("lookup_lags"):
        return 0.0
    world.faults.fire("lookup_lags")
    options = world.options
    room_s = max(0.0, options.quiet_s - 2 * options.skew_s_max - 0.5)
    return room_s * (1 - options.late_share)


def lag_s(world: World, capabilities: Capabilities) -> float:
    """How far a look-up is behind now."""
    if not world.faults.rate("lookup_lags"):
        return 0.0
    world.faults.fire("lookup_lags")
    return _budget_s(world.options, capabilities) * (1 - world.options.late_share)


def make_side(world: World, name: str, own: dict[str, SimulatedPsp]) -> PspSide:
    """The PSP of that name."""
    if name in own:
        return FaceSide(world, own[name])
    if name in FACES:
        return FaceSide(world, FACES[name](world.options.quiet_s, lag_s_max(world)))
    return ModelSide(world, name)
