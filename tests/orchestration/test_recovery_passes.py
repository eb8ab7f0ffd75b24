"""What one pass of the recovery worker takes, counts, and puts off."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from aegispay.domain.errors import PaymentNotFound, StoreUnavailable, UnknownGateway, UnsupportedOperation
from aegispay.domain.money import Money
from aegispay.domain.payment import OperationStatus
from aegispay.domain.states import PaymentState
from aegispay.gateways.gateway import GatewayCall, Lookup, LookupFailed, NotFound
from aegispay.orchestration.recovery_report import RecoveryReport
from aegispay.storage.store import Purpose
from aegispay.testing.instant_gateway import InstantGateway, hang, reply_lost
from tests.orchestration.harness import DAY_S, SETTINGS, World
from tests.orchestration.test_doubt import KEYED, LOOKUP_ONLY, NO_EVIDENCE

USD100 = Money(100_00, "USD")
Make = Callable[..., World]
ROWS_AT_ONCE = 64


async def no_answer(call: GatewayCall) -> Lookup:
    return LookupFailed(reason="down")


async def doubts(world: World, pay: Any, count: int) -> list[str]:
    """So many charges whose replies were lost; look-ups answer again afterwards."""
    gateway = world.gateways[0]
    look_up, gateway.look_up = gateway.look_up, no_answer  # type: ignore[method-assign]
    ids = []
    for number in range(count):
        gateway.faults.append(reply_lost)
        answer = await pay.charge(USD100, "tok_ok", idempotency_key=f"k{number}")
        assert answer.is_pending()
        ids.append(answer.payment_id)
    gateway.look_up = look_up  # type: ignore[method-assign]
    return ids


@pytest.mark.parametrize("count", [ROWS_AT_ONCE - 1, ROWS_AT_ONCE, ROWS_AT_ONCE + 1])
async def test_a_full_pass_is_followed_by_the_next_at_once(make_world: Make, count: int) -> None:
    world = make_world(InstantGateway("alpha", LOOKUP_ONLY))
    serving = await world.instance(settings=replace(SETTINGS, answer_timeout_s=0.5))
    ids = await doubts(world, serving, count)
    await world.clock.sleep(600.0)
    # Its worker begins at once, and would rest for half a second or more between two passes.
    pay = await world.instance(settings=replace(SETTINGS, recovery=True, recovery_interval_s=10.0))
    await world.clock.sleep(0.1)
    states = [(await pay.get(one)).state for one in ids]
    assert states.count(PaymentState.SUCCEEDED) == count


async def test_a_pass_counts_what_it_took_and_what_became_of_it(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha", replace(KEYED, authorization_ttl_s=3600.0)))
    pay = await world.instance()
    assert await pay.recover() == RecoveryReport()
    held = [await pay.authorize(USD100, "tok_ok", idempotency_key=f"h{number}") for number in range(3)]
    await world.clock.sleep(3_700.0)
    assert await pay.recover() == RecoveryReport(taken=3, resolved=3)
    assert {(await pay.get(one.payment_id)).state for one in held} == {PaymentState.EXPIRED}


async def test_a_release_that_was_begun_is_looked_after_an_hour_later(make_world: Make) -> None:
    """The row of the authorisation waits beside the release's own, in case that comes to nothing."""
    world = make_world(InstantGateway("alpha", replace(KEYED, authorization_ttl_s=DAY_S)))
    pay = await world.instance()
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="h")
    gateway = world.gateways[0]
    gateway.look_up = no_answer  # type: ignore[method-assign]
    gateway.faults.append(reply_lost)
    await world.clock.sleep(DAY_S + 1)
    before_us = world.clock.now_us()
    await pay.recover()
    row = await pay.store.find_in_flight(held.payment.operations[0].id)
    assert row is not None and row.purpose is Purpose.EXPIRY and row.owner == ""
    assert row.due_at_us - before_us == pytest.approx(3_600_000_000, abs=500)


async def test_within_a_quiet_period_nobody_is_asked_in_vain(make_world: Make) -> None:
    """Only a look-up after it would be believed; until then a few looks for good news are enough."""
    world = make_world(InstantGateway("alpha", replace(LOOKUP_ONLY, lookup_quiet_s=1_800.0)))
    pay = await world.instance()
    gateway = world.gateways[0]
    asked_at_s: list[float] = []

    async def nothing(call: GatewayCall) -> Lookup:
        asked_at_s.append(world.clock.monotonic_s())
        return NotFound()

    gateway.look_up = nothing  # type: ignore[method-assign]
    gateway.faults.append(hang)
    began_s = world.clock.monotonic_s()
    asked = asyncio.ensure_future(pay.charge(USD100, "tok_ok", idempotency_key="k"))
    await world.clock.sleep(0.5)
    await world.kill(pay)
    await asyncio.gather(asked, return_exceptions=True)
    pay = await world.instance()
    while world.clock.monotonic_s() - began_s < 1_900.0:
        await world.clock.sleep(1.0)
        await pay.recover()
    waits_s = [one - began_s for one in asked_at_s]
    assert len(waits_s) <= 3
    assert 1_800.0 <= waits_s[-1] <= 1_815.0
    (payment,) = await pay.list()
    operation = payment.operations[0]
    assert (operation.status, operation.code) == (OperationStatus.NOT_SENT, "not_found")


@pytest.mark.parametrize("first", [True, False])
async def test_of_named_gateways_one_that_cannot_is_passed_over_and_an_unknown_one_is_refused(
    make_world: Make, first: bool
) -> None:
    world = make_world(InstantGateway("alpha", replace(KEYED, charge=False)), InstantGateway("beta", KEYED))
    pay = await world.instance()
    named = ["alpha", "beta"] if first else ["beta", "alpha"]
    done = await pay.charge(USD100, "tok_ok", idempotency_key="k", gateway=named)
    assert done.is_success() and done.payment.gateway == "beta"
    with pytest.raises(UnknownGateway):
        await pay.charge(USD100, "tok_ok", idempotency_key="k2", gateway=["nobody", "beta"])
    with pytest.raises(UnsupportedOperation, match="alpha cannot charge"):
        await pay.charge(USD100, "tok_ok", idempotency_key="k3", gateway=["alpha"])


async def test_a_payment_at_a_gateway_that_is_no_longer_registered_waits(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha", LOOKUP_ONLY), InstantGateway("beta", KEYED))
    pay = await world.instance()
    (payment_id,) = await doubts(world, pay, 1)
    await world.kill(pay)
    world.gateways = world.gateways[1:]
    pay = await world.instance()
    answer = await pay.sync(payment_id)
    assert answer.is_pending() and answer.error is not None and answer.error.code == "in_doubt"
    await world.clock.sleep(60.0)
    assert await pay.recover() == RecoveryReport(taken=1, waiting=1)
    await world.recover(pay, for_s=DAY_S + 7_200)
    assert (await pay.get(payment_id)).review == "in doubt for 86400 s: timeout"


async def test_recovery_of_a_payment_that_is_gone_is_a_failure_and_not_a_crash(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha", LOOKUP_ONLY))
    pay = await world.instance()
    with pytest.raises(PaymentNotFound, match="there is no payment pay_gone"):
        await pay._orchestrator.engine.journal.load("pay_gone")


class Passes:
    """When each pass of the worker begins, and whether the store answers it."""

    def __init__(self, pay: Any, clock: Any):
        self.began_s: list[float] = []
        self.away = False
        lease_due = pay.store.lease_due

        async def noted(*args: Any) -> Any:
            self.began_s.append(clock.monotonic_s())
            if self.away:
                raise StoreUnavailable("away.")
            return await lease_due(*args)

        pay.store.lease_due = noted

    def waits_s(self) -> list[float]:
        return [round(after - before, 6) for before, after in itertools.pairwise(self.began_s)]


async def test_the_worker_looks_about_once_an_interval_and_no_two_instances_in_step(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha", LOOKUP_ONLY))
    pay = await world.instance(settings=replace(SETTINGS, recovery=True, recovery_interval_s=4.0))
    passes = Passes(pay, world.clock)
    await world.clock.sleep(400.0)
    waits_s = passes.waits_s()
    assert 3.0 <= min(waits_s) < 3.4 and 4.6 < max(waits_s) <= 5.0


async def test_the_worker_asks_a_store_that_is_away_less_and_less_often(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha", LOOKUP_ONLY))
    pay = await world.instance(settings=replace(SETTINGS, recovery=True, recovery_interval_s=4.0))
    passes = Passes(pay, world.clock)
    await world.clock.sleep(10.0)
    passes.away = True
    passes.began_s.clear()
    await world.clock.sleep(1_000.0)
    for number, wait_s in enumerate(passes.waits_s()):
        assert 0.75 <= wait_s / (4.0 * 2 ** min(number + 1, 5)) <= 1.25
    assert len(passes.began_s) > 6
    passes.away = False
    await world.clock.sleep(300.0)
    assert passes.waits_s()[-1] <= 5.0


async def test_a_person_is_asked_once_and_the_pass_says_so(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha", NO_EVIDENCE))
    pay = await world.instance()
    (payment_id,) = await doubts(world, pay, 1)
    world.gateways[0].look_up = no_answer  # type: ignore[method-assign]
    await world.clock.sleep(SETTINGS.review_after_s + 1.0)
    assert await pay.recover() == RecoveryReport(taken=1, waiting=1, reviews=1)
    await world.clock.sleep(3_601.0)
    assert await pay.recover() == RecoveryReport(taken=1, waiting=1)
    row = await pay.store.find_in_flight((await pay.get(payment_id)).operations[0].id)
    assert row is not None and row.due_at_us - world.clock.now_us() == pytest.approx(3_600_000_000, abs=500)


@pytest.mark.parametrize(("reason", "kept"), [(None, None), ("late", "late"), ("expired", "requested")])
async def test_a_merchants_void_keeps_its_reason_and_is_never_taken_for_a_lapse(
    make_world: Make, reason: str | None, kept: str | None
) -> None:
    pay = await make_world(InstantGateway("alpha", KEYED)).instance()
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="h")
    done = await pay.void(held.payment_id, reason=reason, idempotency_key="v")
    assert (done.payment.state, done.payment.operations[-1].reason) == (PaymentState.CANCELED, kept)


async def test_a_row_that_another_worker_took_meanwhile_is_counted_as_lost(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha", NO_EVIDENCE))
    pay = await world.instance()
    await doubts(world, pay, 1)
    world.gateways[0].look_up = no_answer  # type: ignore[method-assign]
    await world.clock.sleep(60.0)
    lease_due = pay.store.lease_due

    async def overtaken(*args: Any) -> Any:
        rows = await lease_due(*args)
        return [replace(row, fence=row.fence - 1) for row in rows]

    pay.store.lease_due = overtaken  # type: ignore[method-assign]
    assert await pay.recover() == RecoveryReport(taken=1, lost=1)
    assert RecoveryReport() == RecoveryReport(
        taken=0, resolved=0, waiting=0, reviews=0, lost=0, notices=0, failed=0
    )
