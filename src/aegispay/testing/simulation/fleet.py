"""The simulated instances: real `AegisPay` objects on one database, which crash, stall, come back, and misread the time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextvars import copy_context
from typing import Any

from aegispay.app import AegisPay
from aegispay.domain.errors import AegisPayError
from aegispay.gateways.webhooks import WebhookRejected
from aegispay.orchestration.hooks import Hooks
from aegispay.ports import Ports
from aegispay.testing.simulation.database import Database, SimulatedStore
from aegispay.testing.simulation.faults import Faults
from aegispay.testing.simulation.instance_ports import InstanceClock, SeededIds
from aegispay.testing.simulation.loop import PROCESS, Process, SimulatedLoop
from aegispay.testing.simulation.options import Options
from aegispay.testing.simulation.psps import PspSide
from aegispay.testing.simulation.trace import Trace

LOST = "connection lost"
"""What a client sees where its instance died under it, or its request was cancelled."""
MakeHooks = Callable[[], Hooks]


class Instance(Process):
    """One life of one instance, with the ports that it calls."""

    def __init__(self, number: int, name: str, fleet: Fleet, skew_us: int):
        super().__init__(number, name)
        self._fleet = fleet
        self._loop = fleet.loop
        self._faults = fleet.faults
        self.clock = InstanceClock(fleet.loop, skew_us, self._worker_sleep)
        self.context = copy_context()
        self.context.run(PROCESS.set, self)
        self.pay: AegisPay
        self.ready = False
        self.requests: dict[asyncio.Future[Any], asyncio.Task[None]] = {}

    # --- ports --------------------------------------------------------------------------------------------

    def now_s(self) -> float:
        return self._loop.time()

    async def before(self, port: str) -> None:
        await self._port("before", port)

    async def after(self, port: str) -> None:
        await self._port("after", port)

    async def _port(self, when: str, port: str) -> None:
        if self._faults.hit("crash_at_port"):
            self._fleet.crash(self, f"{when} {port}")
        if self.dead:
            await self._loop.create_future()
        if self._faults.hit("stall_at_port"):
            # Often a little longer than a lease, or than a lease and a quiet period: another has taken over by then.
            lease_s, quiet_s = self._fleet.lease_s, self._fleet.options.quiet_s
            seconds = self._fleet.random.choice((0.5 * lease_s, 1.1 * lease_s, lease_s + 1.1 * quiet_s))
            self._fleet.stall(self, seconds)
            await asyncio.sleep(0)
        if self._faults.hit("all_stall_at_port"):
            # Suspended machines, all of them, until a PSP may have forgotten its keys.
            seconds = (0.8 + 0.5 * self._fleet.random.random()) * self._fleet.options.key_ttl_s
            for one in self._fleet.living.values():
                self._fleet.stall(one, seconds)
            await asyncio.sleep(0)
        draw = self._fleet.random.random()
        if draw > 0.85:
            await asyncio.sleep((draw - 0.85) * 0.1)
        elif draw > 0.5:
            await asyncio.sleep(0)

    def _worker_sleep(self, seconds: float) -> Awaitable[None] | None:
        if asyncio.current_task() is not self.pay._worker._task:
            return None
        return self._fleet.sleep_until_due(self, seconds)


class Fleet:
    """All instances. Who died comes back after a while, as another life with another name."""

    def __init__(
        self,
        loop: SimulatedLoop,
        options: Options,
        database: Database,
        sides: list[PspSide],
        faults: Faults,
        trace: Trace,
        make_hooks: MakeHooks,
        source: random.Random,
    ):
        self.loop = loop
        self.options = options
        self.database = database
        self.faults = faults
        self.random = source
        self._settings = options.settings()
        self.lease_s = self._settings.lease_s
        self._sides = sides
        self._trace = trace
        self._make_hooks = make_hooks
        self._lives = 0
        self._sleepers: dict[int, asyncio.Future[None]] = {}  # a set would be in the order of addresses
        self._armed_due_us = 0
        self.never_lapse: frozenset[str] = frozenset()
        """Gateways that do not say when an authorisation lapses."""
        self.lapsed_after_s = 0.0
        """After so long every authorisation at the others has lapsed."""
        self.living: dict[int, Instance] = {}
        """The instance in each slot, dead ones left out."""
        self.all: list[Instance] = []
        skew_us = int(options.skew_s_max * 1_000_000)
        self.furthest_ahead_s = 0.0
        """The most that any wall clock ever ran ahead of the time."""
        self._skews_us = [self.random.randint(-skew_us, skew_us) for _ in range(options.instances)]

    # --- lives --------------------------------------------------------------------------------------------

    def start(self, slot: int) -> Instance:
        """A new life in this slot."""
        self._lives += 1
        instance = Instance(self._lives, f"app{slot}.{self._lives}", self, self._skews_us[slot])
        ports = Ports(
            clock=instance.clock,
            ids=SeededIds(self.random, instance.clock),
            random_source=self.random,
            instance=instance.name,
        )
        instance.pay = AegisPay(
            [side.gateway(instance, instance.clock) for side in self._sides],
            store=SimulatedStore(self.database, instance),
            settings=self._settings,
            hooks=self._make_hooks(),
            ports=ports,
        )
        ttls_s = {one.name: one.capabilities.authorization_ttl_s for one in instance.pay.registry}
        self.never_lapse = frozenset(name for name, ttl_s in ttls_s.items() if ttl_s is None)
        self.lapsed_after_s = max((ttl_s or 0.0 for ttl_s in ttls_s.values()), default=0.0)
        self.living[slot] = instance
        self.all.append(instance)
        self._note(instance, "starts")

        async def begin() -> None:
            await instance.pay.start()
            instance.ready = True

        self.loop.create_task(begin(), context=instance.context)
        return instance

    def start_all(self) -> None:
        for slot in range(self.options.instances):
            if slot not in self.living:
                self.start(slot)

    def crash(self, instance: Instance, why: str) -> None:
        """The process is gone: nothing of it runs again, and its clients lose their connections."""
        if instance.dead:
            return
        instance.dead = True
        self._note(instance, f"CRASHES {why}")
        slot = next(slot for slot, one in self.living.items() if one is instance)
        del self.living[slot]
        for waiting in list(instance.requests):
            if not waiting.done():
                waiting.set_result(LOST)
        instance.requests.clear()
        back_s = self.random.choice((0.1, 1.0, 5.0, 60.0)) * self.random.random()
        self.loop.outside_at(self.loop.time() + back_s, self._come_back, slot)

    def _come_back(self, slot: int) -> None:
        if slot not in self.living:
            self.start(slot)

    def crash_process(self, process: Process) -> None:
        """The sender dies while its request is on its way."""
        if isinstance(process, Instance):
            self.crash(process, "mid call")

    def stall(self, instance: Instance, seconds: float) -> None:
        """Nothing of it runs for a while; the world goes on."""
        self._note(instance, f"STALLS for {seconds:.1f} s")
        instance.stalled_until_s = max(instance.stalled_until_s, self.loop.time() + seconds)
        self.loop.outside_at(instance.stalled_until_s, self.loop.resume, instance)

    def jump(self, instance: Instance, seconds: float) -> None:
        """Its wall clock is set, forwards or back."""
        self._note(instance, f"CLOCK JUMPS by {seconds:.1f} s")
        instance.clock.skew_us += int(seconds * 1_000_000)
        self.furthest_ahead_s = max(self.furthest_ahead_s, instance.clock.skew_us / 1_000_000)
        self._wake()

    def calm(self) -> None:
        """What is stalled goes on, and clocks are right again, but for their skew."""
        for slot, instance in self.living.items():
            instance.stalled_until_s = 0.0
            self.loop.resume(instance)
            instance.clock.skew_us = self._skews_us[slot]
        self._wake()

    def pick(self) -> Instance | None:
        """Any instance that takes requests."""
        able = [one for one in self.living.values() if one.ready]
        return self.random.choice(able) if able else None

    def take_webhook(self, name: str, headers: Mapping[str, str], body: bytes) -> asyncio.Future[str]:
        """Hands a webhook to some instance: `taken`, `refused: ...`, or `lost` where none could keep it."""
        heard: asyncio.Future[str] = self.loop.create_future()
        instance = self.pick()
        if instance is None:
            heard.set_result("lost")
            return heard

        async def serve() -> None:
            try:
                await instance.pay.take_webhook(name, headers, body)
                told = "taken"
            except WebhookRejected as refused:
                # A certificate that could not be fetched says nothing of the webhook: it comes again.
                fetched = refused.reason != "certificate"
                told = f"refused: {refused.reason}" if fetched else "lost: certificate"
            except AegisPayError as error:
                told = f"lost: {error.code}"
            instance.requests.pop(heard, None)
            if not heard.done():
                heard.set_result(told)

        instance.requests[heard] = self.loop.create_task(serve(), context=instance.context)
        return heard

    # --- the recovery workers' sleep ------------------------------------------------------------------------

    async def sleep_until_due(self, instance: Instance, seconds: float) -> None:
        """At least `seconds`, and on until a row is due by this instance's clock: looks in between would find nothing."""
        await asyncio.sleep(seconds)
        while True:
            due_us, now_us = self.database.next_due_us(), instance.clock.now_us()
            if due_us is not None and due_us <= now_us:
                return
            changed: asyncio.Future[None] = self.loop.create_future()
            self._sleepers[instance.number] = changed
            self._armed_due_us = due_us or 2**62
            wait_s = None if due_us is None else (due_us - now_us) / 1e6 + self.random.random() * seconds
            await asyncio.wait((changed,), timeout=wait_s)
            self._sleepers.pop(instance.number, None)

    def rows_changed(self) -> None:
        due_us = self.database.next_due_us()
        if due_us is not None and due_us < self._armed_due_us:
            self._wake()

    def _wake(self) -> None:
        sleepers, self._sleepers = self._sleepers, {}
        self._armed_due_us = 0
        for one in sleepers.values():
            if not one.done():
                one.set_result(None)

    def _note(self, instance: Instance, text: str) -> None:
        self._trace.note(self.loop.time(), instance.name, text)
