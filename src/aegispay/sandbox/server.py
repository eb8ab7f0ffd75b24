"""The sandbox: a bank with books of its own and PSPs in front of it, on loopback, in this process.

`SandboxProcess` in `process.py` runs the same in a process of its own.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from aegispay.gateways.gateway import Gateway
from aegispay.ports import Clock, SystemClock
from aegispay.sandbox.bank import Bank
from aegispay.sandbox.control import Control
from aegispay.sandbox.face import Face
from aegispay.sandbox.faults import NO_FAULTS, FaultPlan, FaultShell
from aegispay.sandbox.plainpay_face import PlainPayPsp
from aegispay.sandbox.psps import MAKERS, PayerWaits, ServedPsp
from aegispay.sandbox.stripe_face import API_KEY, WEBHOOK_SECRET, StripePsp
from aegispay.sandbox.webhooks import Outbox


class SandboxSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the PSPs behave when nothing is wrong. Durations are seconds."""

    stripe_key: str = API_KEY
    stripe_webhook_secret: str = WEBHOOK_SECRET
    plainpay_key: str = "plain_test_sandbox"
    search_lag_s: float = 0.0
    """How far Stripe's search is behind."""
    key_ttl_s: float = 86_400.0
    """How long Stripe keeps an idempotency key."""
    lookup_lag_s: float = 0.0
    """How far PlainPay's look-up by reference is behind."""
    payer_timeout_s: float = 600.0
    """How long Razorpay waits for the payer; then the payment fails there."""
    lookup_quiet_s: float = 1.0
    """What PlainPay promises: a request lands within this time, or never. Keep `late_s` and the lag below it."""
    stripe_port: int = 0
    plainpay_port: int = 0
    """0: chosen by the kernel."""
    more_psps: tuple[str, ...] = ()
    """Names of further PSPs to open, of `aegispay.sandbox.psps.MAKERS`."""
    more_ports: dict[str, int] = msgspec.field(default_factory=dict)
    """Their ports; any where none is given."""


class Sandbox:
    """`async with Sandbox() as sandbox:` and point any Stripe client at `sandbox.stripe_url`.

    `path=None` keeps the books in memory. With a `seed`, ids repeat. `synchronous` is the bank file's durability.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        seed: int | None = None,
        faults: FaultPlan = NO_FAULTS,
        synchronous: str = "FULL",
        clock: Clock | None = None,
        settings: SandboxSettings | None = None,
    ) -> None:
        self.settings = settings or SandboxSettings()
        self._path = path
        self._seed = seed
        self._faults = faults
        self._synchronous = synchronous
        self._clock = clock or SystemClock()
        self._control: Control | None = None

    async def start(self) -> None:
        chosen = self.settings
        self.bank = Bank(self._path, synchronous=self._synchronous)
        self.stripe_psp = StripePsp(
            self.bank,
            api_key=chosen.stripe_key,
            webhook_secret=chosen.stripe_webhook_secret,
            clock=self._clock,
            seed=self._seed,
            search_lag_s=chosen.search_lag_s,
            key_ttl_s=chosen.key_ttl_s,
        )
        self.plainpay_psp = PlainPayPsp(
            self.bank,
            api_key=chosen.plainpay_key,
            clock=self._clock,
            seed=self._seed,
            lookup_lag_s=chosen.lookup_lag_s,
        )
        self.stripe = Face(FaultShell(self.stripe_psp, self._clock, self._faults), self._clock)
        self.plainpay = Face(FaultShell(self.plainpay_psp, self._clock, self._faults), self._clock)
        await self.stripe.start(chosen.stripe_port)
        await self.plainpay.start(chosen.plainpay_port)
        self.stripe_psp.base_url = self.stripe.url
        self.plainpay_psp.base_url = self.plainpay.url
        self.psps: dict[str, ServedPsp] = {}
        """The further PSPs, by name."""
        self._more: dict[str, Face] = {}
        for name in chosen.more_psps:
            psp = self.psps[name] = MAKERS[name](self.bank, self._clock, self._seed)
            if isinstance(psp, PayerWaits):
                psp.payer_timeout_s = chosen.payer_timeout_s
            face = self._more[name] = Face(FaultShell(psp, self._clock, self._faults), self._clock)
            await face.start(chosen.more_ports.get(name, 0))
            psp.base_url = face.url

    async def start_control(self, port: int = 0) -> str:
        """Opens the control port, by which another process drives faults and reads the books; returns its URL."""
        self._control = Control(self)
        return await self._control.start(port)

    async def aclose(self) -> None:
        if self._control is not None:
            await self._control.aclose()
        for face in self.faces.values():
            await face.aclose()
            face.shell.clear()
        await self.settle()
        self.bank.close()

    async def __aenter__(self) -> Sandbox:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # --- what a client needs --------------------------------------------------------------------------------

    @property
    def stripe_url(self) -> str:
        return self.stripe.url

    @property
    def stripe_key(self) -> str:
        return self.settings.stripe_key

    @property
    def plainpay_url(self) -> str:
        return self.plainpay.url

    @property
    def plainpay_key(self) -> str:
        return self.settings.plainpay_key

    def gateways(self, **stripe_options: Any) -> dict[str, Gateway]:
        """Adapters for both PSPs, by name, in the order in which to try them."""
        return ready_gateways(self.stripe_url, self.plainpay_url, self.settings, **stripe_options)

    # --- webhooks -------------------------------------------------------------------------------------------

    @property
    def outboxes(self) -> dict[str, Outbox]:
        """The webhooks that wait, by the name of the PSP that sends them. PlainPay sends none."""
        return {"stripe": self.stripe_psp.outbox, **{name: psp.outbox for name, psp in self.psps.items()}}

    # --- faults ---------------------------------------------------------------------------------------------

    @property
    def faces(self) -> dict[str, Face]:
        return {"stripe": self.stripe, "plainpay": self.plainpay, **self._more}

    def set_faults(self, plan: FaultPlan) -> None:
        """Random faults at every face."""
        for face in self.faces.values():
            face.set_plan(plan)

    def clear_faults(self) -> None:
        for face in self.faces.values():
            face.shell.clear()

    async def settle(self) -> None:
        """Waits until every late request has landed."""
        for face in self.faces.values():
            await face.shell.settle()

    def faults_fired(self) -> dict[str, dict[str, int]]:
        """How often each kind of fault struck, per face."""
        return {
            name: {kind.value: count for kind, count in sorted(face.shell.fired.items())}
            for name, face in self.faces.items()
        }


def ready_gateways(
    stripe_url: str, plainpay_url: str, settings: SandboxSettings, **stripe_options: Any
) -> dict[str, Gateway]:
    from aegispay.gateways.stripe import StripeGateway
    from aegispay.sandbox.plainpay_gateway import PlainPayGateway

    # The sandbox's Stripe account has multicapture.
    stripe_options.setdefault("multi_capture", True)
    return {
        "stripe": StripeGateway(api_key=settings.stripe_key, base_url=stripe_url, **stripe_options),
        "plainpay": PlainPayGateway(
            api_key=settings.plainpay_key, base_url=plainpay_url, lookup_quiet_s=settings.lookup_quiet_s
        ),
    }
