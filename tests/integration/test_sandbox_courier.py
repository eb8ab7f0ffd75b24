"""Webhooks that the sandbox delivers by itself, as they come: held back, repeated, refused, and none of them lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web

from aegispay.domain.events import OperationKind
from aegispay.domain.money import Money
from aegispay.domain.outcomes import Approved
from aegispay.gateways.gateway import Gateway, GatewayCall
from aegispay.ports import SystemClock
from aegispay.sandbox.courier import AT_ONCE, Courier
from aegispay.sandbox.face import bind
from aegispay.sandbox.process import SandboxProcess
from aegispay.sandbox.webhooks import Notice, NoticeFault, NoticePlan, Outbox


def note(number: int) -> Notice:
    return Notice(id=f"n{number}", type="test", headers={}, body=b"%d, genuine: 1" % number, created_us=0)


class Shop:
    """Takes what is delivered; answers each with the next status of `statuses`, else 200, and refuses what is forged."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.statuses: list[int] = []
        self.careless = False
        self.inside = 0
        self.open = asyncio.Event()
        self.open.set()
        self.url = ""

    async def handle(self, request: web.BaseRequest) -> web.Response:
        body = await request.read()
        self.inside += 1
        await self.open.wait()
        if body.endswith(b"genuine: 0") and not self.careless:
            return web.Response(status=400)
        self.bodies.append(body)
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200)


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    one = Shop()
    server = web.Server(one.handle)
    sock = bind(0, listen=True)
    listener = await asyncio.get_running_loop().create_server(server, sock=sock)
    one.url = f"http://127.0.0.1:{sock.getsockname()[1]}/hooks"
    yield one
    listener.close()
    await server.shutdown(0.5)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10.0):
        while not holds():
            await asyncio.sleep(0.002)


async def test_notices_are_delivered_as_they_come_and_wait_while_it_is_stopped(shop: Shop) -> None:
    outbox = Outbox()
    courier = Courier(outbox, SystemClock())
    await courier.stop()
    outbox.add(note(0))
    courier.start(shop.url, NoticePlan())
    with pytest.raises(RuntimeError):
        courier.start(shop.url, NoticePlan())
    await until(lambda: len(shop.bodies) == 1)
    outbox.add(note(1))
    await until(lambda: courier.status().notices == 2)
    await courier.stop()
    outbox.add(note(2))
    assert courier.status().waiting == 1
    courier.start(shop.url, NoticePlan())
    await until(lambda: courier.status().waiting == 0 and courier.status().notices == 3)
    await courier.stop()
    await courier.stop()
    assert shop.bodies == [note(number).body for number in range(3)]
    assert (courier.report.sent, courier.report.repeated) == (3, 0)


async def test_what_is_refused_comes_again_and_what_is_repeated_or_given_up_is_counted(shop: Shop) -> None:
    outbox = Outbox()
    courier = Courier(outbox, SystemClock())
    shop.statuses = [503, 200, 500, 500]
    courier.start(shop.url, NoticePlan(tries_max=2, retry_s=0.0))
    outbox.add(note(0))
    await until(lambda: courier.status().notices == 1)
    outbox.add(note(1))
    await until(lambda: courier.report.given_up == 1)
    await courier.stop()
    plan = NoticePlan(probabilities={NoticeFault.DUPLICATE: 1.0})
    courier.start(shop.url, plan)
    outbox.add(note(2))
    await until(lambda: courier.status().notices == 2 and courier.report.repeated == 1)
    await courier.stop()
    assert (courier.report.sent, courier.report.repeated, courier.report.given_up) == (6, 1, 1)


async def test_forged_copies_are_counted_apart_and_show_whether_they_were_taken(shop: Shop) -> None:
    plan = NoticePlan(probabilities={NoticeFault.FORGED: 1.0})
    for taken in (False, True):
        outbox = Outbox()
        courier = Courier(outbox, SystemClock())
        shop.careless = taken
        for number in range(3):
            outbox.add(note(number))
        courier.start(shop.url, plan)
        await until(lambda courier=courier: courier.status().notices == 3)  # type: ignore[misc]
        await courier.stop()
        assert (courier.report.forged, courier.report.forged_taken) == (3, 3 if taken else 0)
        assert (courier.report.sent, courier.report.repeated) == (3, 0)


async def test_many_are_on_their_way_at_once_and_each_arrives_once(shop: Shop) -> None:
    outbox = Outbox()
    for number in range(50):
        outbox.add(note(number))
    courier = Courier(outbox, SystemClock())
    courier.start(shop.url, NoticePlan(probabilities={NoticeFault.HELD: 0.3}))
    await until(lambda: courier.status().notices == 50)
    await courier.stop()
    assert sorted(shop.bodies) == sorted(note(number).body for number in range(50))
    assert shop.bodies != [note(number).body for number in range(50)]


async def test_stopping_waits_for_what_is_on_its_way_unless_told_not_to(shop: Shop) -> None:
    outbox = Outbox()
    courier = Courier(outbox, SystemClock())
    for number in range(2 * AT_ONCE):
        outbox.add(note(number))
    shop.open.clear()
    courier.start(shop.url, NoticePlan())
    await until(lambda: shop.inside == AT_ONCE)
    stopping = asyncio.ensure_future(courier.stop())
    await asyncio.sleep(0)
    assert not stopping.done()
    assert courier.status().waiting == 2 * AT_ONCE
    shop.open.set()
    await stopping
    assert courier.status().notices == 2 * AT_ONCE
    shop.open.clear()
    outbox.add(note(50))
    courier.start(shop.url, NoticePlan())
    await until(lambda: shop.inside == 2 * AT_ONCE + 1)
    await courier.stop(finish=False)
    assert courier.report.sent == 2 * AT_ONCE
    shop.open.set()


def charge(gateway: Gateway, number: int) -> GatewayCall:
    return GatewayCall(
        kind=OperationKind.CHARGE,
        operation_id=f"op_{number}",
        gateway_key=f"op_{number}",
        payment_id="pay_1",
        merchant_id="m",
        amount=Money(10_00, "USD"),
        timeout_s=5.0,
        token="pm_card_visa",
    )


async def test_a_sandbox_in_another_process_sends_and_holds_its_webhooks_when_told_to(
    tmp_path: Path, shop: Shop
) -> None:
    async with SandboxProcess(tmp_path / "bank.db", synchronous="OFF") as sandbox:
        gateway = sandbox.gateways()["stripe"]
        assert isinstance(await gateway.perform(charge(gateway, 1)), Approved)
        await asyncio.to_thread(sandbox.send_webhooks, {"stripe": shop.url})
        await until(lambda: len(shop.bodies) == 1)
        await asyncio.to_thread(sandbox.hold_webhooks)
        assert isinstance(await gateway.perform(charge(gateway, 2)), Approved)
        assert (await asyncio.to_thread(sandbox.webhooks))["stripe"].waiting == 1
        await asyncio.to_thread(sandbox.send_webhooks, {"stripe": shop.url})
        await until(lambda: len(shop.bodies) == 2)
        await asyncio.to_thread(sandbox.hold_webhooks)
        report = (await asyncio.to_thread(sandbox.webhooks))["stripe"]
        with pytest.raises(RuntimeError, match="plainpay"):
            await asyncio.to_thread(sandbox.send_webhooks, {"plainpay": shop.url})
        await gateway.aclose()
    assert (report.notices, report.waiting, report.given_up) == (2, 0, 0)
