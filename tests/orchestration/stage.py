"""One real adapter over its PSP's face, whose webhooks wait until a test hands them over, in the order that it chooses."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from aegispay.app import AegisPay
from aegispay.domain.methods import Token
from aegispay.domain.money import Money
from aegispay.domain.outcomes import InDoubt
from aegispay.domain.payment import Operation, Payment
from aegispay.gateways.gateway import Gateway
from aegispay.gateways.http import HttpReply, HttpRequest, Transport
from aegispay.ports import Clock, Ports
from aegispay.routing.router import OrderedRouter
from aegispay.sandbox.bank import Bank, MovementKind
from aegispay.sandbox.webhooks import Notice, Outbox
from aegispay.sandbox.wire import Psp, WireRequest, handle
from aegispay.storage.executors import InlineExecutor
from aegispay.storage.sqlite import SqliteStore
from aegispay.testing.simulation.dashboards import Act
from aegispay.testing.simulation.faces import FACES
from aegispay.testing.virtual_clock import LoopClock
from tests.orchestration.harness import DAY_S, SETTINGS

Adapter = Callable[[Transport, Clock], Gateway]


def usd(minor: int) -> Money:
    return Money(minor, "USD")


class _Direct:
    """The transport without a network: the face answers at once, which we need not hear."""

    def __init__(self, face: Psp):
        self._face = face
        self.answers_lost = False

    async def send(self, request: HttpRequest) -> HttpReply | InDoubt:
        parts = urlsplit(request.url)
        wire = WireRequest(
            method=request.method,
            path=unquote(parts.path),
            query=parts.query,
            headers={name.lower(): value for name, value in request.headers.items()},
            body=request.body or b"",
        )
        reply = handle(self._face, wire)
        if self.answers_lost:
            return InDoubt(reason="timeout")
        headers = {**reply.headers, "content-type": reply.content_type}
        return HttpReply(status=reply.status, headers=headers, body=reply.body)

    async def aclose(self) -> None:
        pass


class Stage:
    """A payment of 100 USD, authorised at one PSP, and what is done with it there and by us."""

    def __init__(self, name: str, path: Path, adapter: Adapter | None = None):
        self.name = name
        self.clock = LoopClock()
        self.bank = Bank()
        psp = FACES[name](900.0, 0.0)
        self.face = psp.face(self.bank, self.clock, 1)
        self.dashboard = psp.dashboard
        self.wire = _Direct(self.face)
        self.gateway = (adapter or psp.gateway)(self.wire, self.clock)
        self.token = psp.tokens["ok"]
        self.pay = AegisPay(
            {name: self.gateway},
            store=SqliteStore(str(path), executor=InlineExecutor(), synchronous="OFF"),
            settings=SETTINGS,
            ports=Ports(clock=self.clock, random_source=random.Random(7)),
            router=OrderedRouter(),
        )
        self.payment_id = ""

    async def authorize(self) -> Operation:
        """The payment's authorisation, all news of which is told."""
        await self.pay.start()
        paid = await self.pay.authorize(usd(100_00), Token(self.token), idempotency_key="k")
        self.payment_id = paid.payment_id
        await self.tell(*self.news())
        winner = (await self.payment()).winner
        assert winner is not None
        return winner

    async def payment(self) -> Payment:
        return await self.pay.get(self.payment_id)

    def news(self) -> Sequence[Notice]:
        """What the face has told of since this was last asked."""
        outbox: Outbox = getattr(self.face, "outbox")  # noqa: B009 - not every face has one
        return outbox.take()

    def somebody(self, act: Act, minor: int, capture: str = "") -> Sequence[Notice]:
        """Somebody does this at the PSP's own pages; returns what is told of it."""
        assert self.dashboard is not None
        assert self.dashboard(self.face, self.bank.charges()[0], capture, act, usd(minor))
        return self.news()

    async def tell(self, *notices: Notice) -> None:
        for notice in notices:
            await self.tell_body(notice.headers_at(self.clock.now_us()), notice.body)

    async def tell_body(self, headers: Mapping[str, str], body: bytes) -> None:
        await self.pay.take_webhook(self.name, headers, body)
        await asyncio.sleep(0.01)

    async def days(self, count: float) -> None:
        """Time passes: what waits is tried again, what is due is looked at, what the PSP says by itself is told."""
        for _ in range(int(count * 48)):
            await asyncio.sleep(DAY_S / 48)
            await self.pay.recover()
            await self.tell(*self.news())

    def captured_minor(self) -> int:
        """What the bank has taken, before refunds."""
        taken = [one.amount_minor for one in self.bank.movements() if one.kind is MovementKind.CAPTURE]
        return sum(taken)
