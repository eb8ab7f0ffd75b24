"""What the orchestration tests share: instances on one SQLite file under virtual time, and deaths at chosen moments."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aegispay.app import AegisPay
from aegispay.domain.events import OperationKind
from aegispay.domain.evolve import fold
from aegispay.domain.payment import Payment, encode_payment
from aegispay.domain.states import TERMINAL, PaymentState
from aegispay.gateways.gateway import Gateway, GatewayCall
from aegispay.orchestration.settings import Settings
from aegispay.ports import Ports
from aegispay.routing.router import OrderedRouter
from aegispay.storage.executors import InlineExecutor
from aegispay.storage.sqlite import SqliteStore
from aegispay.testing.instant_gateway import InstantGateway
from aegispay.testing.virtual_clock import LoopClock

SETTINGS = Settings(call_timeout_s=2.0, answer_timeout_s=5.0, lease_margin_s=1.0, recovery=False)
DAY_S = 86_400.0


class Death:
    """The process dies before the n-th call of a port (1, 2, ...): from then on no port answers any more."""

    def __init__(self, at: int = 0):
        self.at = at
        self.count = 0
        self.where = ""
        self.dead = asyncio.Event()

    async def step(self, where: str) -> None:
        self.count += 1
        if self.dead.is_set() or self.count == self.at:
            if not self.dead.is_set():
                self.where = where
            self.dead.set()
            await asyncio.Event().wait()


class MortalStore:
    """A store whose caller may die before or after each call."""

    def __init__(self, store: SqliteStore, death: Death):
        self._store = store
        self._death = death

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not asyncio.iscoroutinefunction(found) or name in ("open", "close"):
            return found

        async def call(*args: Any, **kwargs: Any) -> Any:
            await self._death.step(f"before {name}")
            answer = await found(*args, **kwargs)
            await self._death.step(f"after {name}")
            return answer

        return call


class MortalGateway(Gateway):
    """A gateway whose caller may die before or after each call; the books are the inner gateway's."""

    def __init__(self, inner: InstantGateway, death: Death):
        self.inner = inner
        self.name = inner.name
        self.capabilities = inner.capabilities
        self._death = death

    async def _through(self, name: str, call: GatewayCall) -> Any:
        await self._death.step(f"before {self.name}.{name}")
        answer = await getattr(self.inner, name)(call)
        await self._death.step(f"after {self.name}.{name}")
        return answer

    async def perform(self, call: GatewayCall) -> Any:
        return await self._through("perform", call)

    async def authorize(self, call: GatewayCall) -> Any:
        return await self._through("perform", call)

    async def charge(self, call: GatewayCall) -> Any:
        return await self._through("perform", call)

    async def look_up(self, call: GatewayCall) -> Any:
        return await self._through("look_up", call)

    async def cancel_by_reference(self, call: GatewayCall) -> Any:
        return await self._through("cancel_by_reference", call)

    async def health(self, timeout_s: float = 5.0) -> Any:
        return await self.inner.health(timeout_s)


class World:
    """One database file, some gateways with books, and the instances that come and go."""

    def __init__(self, path: Path, gateways: list[InstantGateway]):
        self.path = path
        self.gateways = gateways
        self.clock = LoopClock()
        self._started: list[AegisPay] = []

    def store(self) -> SqliteStore:
        return SqliteStore(str(self.path), executor=InlineExecutor(), synchronous="OFF")

    async def instance(
        self, death: Death | None = None, settings: Settings = SETTINGS, **kwargs: Any
    ) -> AegisPay:
        store: Any = self.store()
        gateways: list[Gateway] = list(self.gateways)
        if death is not None:
            store = MortalStore(store, death)
            gateways = [MortalGateway(gateway, death) for gateway in self.gateways]
        pay = AegisPay(
            gateways,
            store=store,
            settings=settings,
            ports=Ports(clock=self.clock, random_source=random.Random(7)),
            router=OrderedRouter(),
            **kwargs,
        )
        await pay.start()
        self._started.append(pay)
        return pay

    async def kill(self, pay: AegisPay) -> None:
        """What is under way is gone; nothing is handed over."""
        await pay.stop(grace_s=0.001)

    async def close(self) -> None:
        for pay in self._started:
            await pay.stop(grace_s=0.001)

    async def recover(self, pay: AegisPay, for_s: float = DAY_S * 2) -> None:
        """Runs the recovery worker's passes until nothing is in flight, or the time is up."""
        start_s = self.clock.monotonic_s()
        while (elapsed_s := self.clock.monotonic_s() - start_s) < for_s:
            await pay.recover()
            if not await pay.store.count_in_flight():
                return
            # In small steps at first, where the order of things matters most.
            await self.clock.sleep(1.0 if elapsed_s < 120 else 60.0 if elapsed_s < 7_200 else 600.0)

    def taken_minor(self, payment_id: str) -> int:
        return sum(gateway.taken_minor(payment_id) for gateway in self.gateways)

    def taken_in_all_minor(self) -> int:
        return sum(
            entry.amount_minor
            * {OperationKind.CHARGE: 1, OperationKind.CAPTURE: 1, OperationKind.REFUND: -1}.get(entry.kind, 0)
            for gateway in self.gateways
            for entry in gateway.books
        )

    async def check_books(self, pay: AegisPay) -> list[Payment]:
        """Our books equal the gateways' (I10), the projection equals its fold (I6), and nothing is left open."""
        payments = await pay.list(limit=1000)
        for payment in payments:
            assert payment.captured_minor - payment.refunded_minor == self.taken_minor(payment.id), payment
            events = await pay.event_store.events(payment.id)
            assert encode_payment(fold(events)) == encode_payment(payment)
            assert payment.state in TERMINAL | {
                PaymentState.AUTHORIZED,
                PaymentState.NEEDS_REVIEW,
                PaymentState.REQUIRES_ACTION,
            }, payment
        known = {payment.id for payment in payments}
        for gateway in self.gateways:
            assert {entry.payment_id for entry in gateway.books} <= known, (
                "charged, and we know nothing of it"
            )
        return payments


async def until_dead_or_done(work: Awaitable[Any], death: Death) -> Any:
    """The work's result, or None where the process died."""
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(death.dead.wait())
    await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
    watch.cancel()
    if not death.dead.is_set():
        return task.result()
    task.cancel()
    await asyncio.wait({task})
    return None


Scenario = Callable[[AegisPay], Awaitable[Any]]
