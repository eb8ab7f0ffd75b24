"""Small things about rows, leases and notices that nothing else looks at closely."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aegispay.domain.money import Money
from aegispay.gateways.capabilities import Capabilities
from aegispay.orchestration.inbound import KEPT_S
from aegispay.storage.store import Purpose
from aegispay.testing.instant_gateway import InstantGateway
from tests.orchestration.harness import DAY_S, World
from tests.orchestration.test_inbound import charged, in_doubt, news, silent, tell

USD100 = Money(100_00, "USD")
Make = Callable[..., World]


async def test_an_applied_notice_is_remembered_for_sixty_days_to_the_second(make_world: Make) -> None:
    world = make_world(silent())
    pay = await world.instance()
    payment = await in_doubt(world, pay)
    told = news(payment, charged(world))
    assert await tell(pay, told) == 1
    assert KEPT_S == 60 * DAY_S
    inbound = pay._orchestrator.inbound
    await world.clock.sleep(KEPT_S - 1)
    assert await inbound.prune() == 0
    assert await tell(pay, told) == 0
    await world.clock.sleep(2)
    assert await inbound.prune() == 1
    assert await inbound.prune() == 0


async def test_only_what_is_authorised_and_not_captured_waits_for_its_expiry(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha", Capabilities(stable_key=True, authorization_ttl_s=7 * DAY_S)))
    pay = await world.instance()
    charge = await pay.charge(USD100, "tok_ok", idempotency_key="charge")
    assert await pay.store.find_in_flight(charge.payment.operations[0].id) is None
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="hold")
    row = await pay.store.find_in_flight(held.payment.operations[0].id)
    assert row is not None and row.purpose is Purpose.EXPIRY
    assert row.due_at_us - world.clock.now_us() == pytest.approx(7 * DAY_S * 1_000_000, abs=1_000_000)
    await pay.capture(held.payment_id, idempotency_key="capture")
    assert await pay.store.find_in_flight(held.payment.operations[1 - 1].id) is not None
    await world.recover(pay, for_s=8 * DAY_S)
    assert await pay.store.count_in_flight() == 0
    assert world.taken_in_all_minor() == 200_00
