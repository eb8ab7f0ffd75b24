"""A wall clock that ran ahead: nobody is asked too early, nothing is put off, and a person is asked in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from msgspec.structs import replace

from aegispay.app import AegisPay
from aegispay.domain.money import Money
from aegispay.domain.payment import Payment
from aegispay.domain.states import PaymentState
from aegispay.gateways.capabilities import Capabilities
from aegispay.gateways.gateway import GatewayCall, Lookup, LookupFailed
from aegispay.testing.instant_gateway import InstantGateway, reply_lost, request_lost
from tests.orchestration.harness import DAY_S, SETTINGS, World
from tests.orchestration.test_doubt import KEYED, LOOKUP_ONLY, NO_EVIDENCE

USD100 = Money(100_00, "USD")
Make = Callable[..., World]
DAY_US = int(DAY_S * 1_000_000)


async def no_answer(call: GatewayCall) -> Lookup:
    return LookupFailed(reason="down")


async def doubt_under_a_clock_ahead(
    make_world: Make, caps: Capabilities, ahead_s: float
) -> tuple[World, AegisPay, Payment]:
    """A charge whose reply is lost at a PSP that does not answer look-ups; then the clock is right again."""
    world = make_world(InstantGateway("alpha", caps))
    pay = await world.instance()
    world.clock.offset_us = int(ahead_s * 1_000_000)
    world.gateways[0].faults.append(reply_lost)
    world.gateways[0].look_up = no_answer  # type: ignore[method-assign]
    asked = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    assert asked.is_pending()
    world.clock.offset_us = 0
    return world, pay, asked.payment


async def test_work_is_not_put_off_by_as_much_as_a_clock_runs_ahead(make_world: Make) -> None:
    world, pay, payment = await doubt_under_a_clock_ahead(make_world, NO_EVIDENCE, 3 * DAY_S)
    row = await pay.store.find_in_flight(payment.operations[0].id)
    assert row is not None and row.owner == ""
    assert row.due_at_us - world.clock.now_us() < 60 * 1_000_000


async def test_a_person_is_asked_a_day_after_the_call_and_not_when_a_clock_jumps(make_world: Make) -> None:
    world, pay, payment = await doubt_under_a_clock_ahead(make_world, NO_EVIDENCE, 0.0)
    world.clock.offset_us = 2 * DAY_US
    await world.clock.sleep(120.0)
    assert (await pay.recover()).taken == 1
    assert (await pay.get(payment.id)).state is PaymentState.IN_DOUBT
    world.clock.offset_us = 0
    await world.recover(pay, for_s=DAY_S + 7_200)
    assert (await pay.get(payment.id)).review == "in doubt for 86400 s: timeout"


async def test_while_a_quiet_period_runs_a_person_is_asked_after_three_days_only(make_world: Make) -> None:
    """The send was recorded by a clock four days ahead, so the quiet period ends late: evidence is still to come."""
    world, pay, payment = await doubt_under_a_clock_ahead(make_world, LOOKUP_ONLY, 4 * DAY_S)
    await world.recover(pay, for_s=3 * DAY_S - 7_200)
    assert (await pay.get(payment.id)).state is PaymentState.IN_DOUBT
    await world.recover(pay, for_s=4 * 3_600)
    assert (await pay.get(payment.id)).review == "in doubt for 86400 s: timeout"


async def test_a_key_that_has_expired_leaves_the_quiet_period_to_wait_for(make_world: Make) -> None:
    """Where the last send stands two days ahead, nothing is resent any more and no look-up is believed until then."""
    caps = replace(KEYED, stable_key_ttl_s=60.0, lookup_quiet_s=30.0)
    world = make_world(InstantGateway("alpha", caps))
    pay = await world.instance(settings=replace(SETTINGS, resends_max=1))
    gateway = world.gateways[0]
    world.clock.offset_us = 2 * DAY_US
    gateway.faults.extend([request_lost] * 20)
    asked = await pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=0.001)
    assert asked.is_pending()
    world.clock.offset_us = 0
    await world.recover(pay, for_s=2 * DAY_S - 3_600)
    assert (await pay.get(asked.payment_id)).state is PaymentState.IN_DOUBT
    await world.recover(pay, for_s=7_200)
    payment = await pay.get(asked.payment_id)
    assert (payment.state, payment.review) == (PaymentState.FAILED, None)


async def test_nobody_is_asked_at_the_first_look_after_a_lease_that_ended_a_day_late(
    make_world: Make,
) -> None:
    """Its owner died. The key has expired by then, and no look-up is believed until its quiet period is over too."""
    caps = replace(KEYED, stable_key_ttl_s=60.0, lookup_quiet_s=1_800.0)
    world = make_world(InstantGateway("alpha", caps))
    pay = await world.instance()
    world.clock.offset_us = DAY_US
    world.gateways[0].faults.append(request_lost)
    world.gateways[0].look_up = no_answer  # type: ignore[method-assign]
    asked = asyncio.ensure_future(pay.charge(USD100, "tok_ok", idempotency_key="k"))
    await world.clock.sleep(0.05)
    await world.kill(pay)
    await asyncio.gather(asked, return_exceptions=True)
    world.clock.offset_us = 0
    del world.gateways[0].look_up  # type: ignore[method-assign]
    pay = await world.instance()
    (payment,) = await pay.list()
    row = await pay.store.find_in_flight(payment.operations[0].id)
    assert row is not None and row.owner != "" and row.due_at_us - world.clock.now_us() > DAY_US - 60_000_000
    await world.recover(pay, for_s=DAY_S + 7_200.0)
    payment = await pay.get(payment.id)
    assert (payment.state, payment.review) == (PaymentState.FAILED, None)
    events = [event.type for event in await pay.event_store.events(payment.id)]
    assert "review_requested" not in events
