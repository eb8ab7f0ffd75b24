"""Small things about rows, leases and notices that nothing else looks at closely."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from aegispay.domain.errors import InvalidAmount, UnsupportedOperation
from aegispay.domain.money import Money
from aegispay.domain.outcomes import DeclineCategory, Declined
from aegispay.domain.payment import OperationStatus
from aegispay.gateways.capabilities import Capabilities
from aegispay.gateways.gateway import Found, GatewayCall, Lookup, NotFound
from aegispay.orchestration.inbound import KEPT_S
from aegispay.storage.sqlite import SqliteStore
from aegispay.storage.store import Purpose
from aegispay.testing.instant_gateway import InstantGateway, hang, request_lost
from tests.orchestration.harness import DAY_S, Death, World
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
    assert await pay.store.find_in_flight(held.payment.operations[0].id) is not None
    await world.recover(pay, for_s=8 * DAY_S)
    assert await pay.store.count_in_flight() == 0
    assert world.taken_in_all_minor() == 200_00


async def test_a_look_between_two_steps_of_a_confirmation_ends_nothing(make_world: Make) -> None:
    """The attempt waits for its confirmation, whose call has not come back: a refusal seen there is no end of it."""
    world = make_world()
    pay = await world.instance()
    asked = await pay.charge(USD100, "tok_3ds", idempotency_key="k")
    (gateway, _) = world.gateways
    gateway.faults.append(hang)
    confirming = asyncio.ensure_future(pay.complete_action(asked.payment_id, {"done": "1"}, timeout_s=1))
    await asyncio.sleep(0.01)

    async def refused(call: GatewayCall) -> Lookup:
        return Found(outcome=Declined(category=DeclineCategory.HARD, code="stolen_card"))

    gateway.look_up = refused  # type: ignore[method-assign]
    before = await pay.get(asked.payment_id)
    assert before.operations[0].status is OperationStatus.CONFIRMING
    assert (await pay.sync(asked.payment_id)).is_pending()
    assert (await pay.get(asked.payment_id)).version == before.version
    await confirming


async def test_what_a_look_sees_while_a_call_is_under_way_is_no_end_unless_it_is_a_success(
    make_world: Make,
) -> None:
    world = make_world()
    pay = await world.instance()
    gateway = world.gateways[0]
    gateway.faults.append(hang)
    charging = asyncio.ensure_future(pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=1))
    await asyncio.sleep(0.01)
    ((payment,), found) = (await pay.list(), gateway.look_up)

    async def refused(call: GatewayCall) -> Lookup:
        return Found(outcome=Declined(category=DeclineCategory.HARD, code="stolen_card"))

    gateway.look_up = refused  # type: ignore[method-assign]
    assert (await pay.sync(payment.id)).is_pending()
    gateway.look_up = found  # type: ignore[method-assign]
    assert (await pay.sync(payment.id)).is_success()
    await charging
    await world.check_books(pay)


async def test_evidence_is_sought_soon_and_then_less_and_less_often(make_world: Make) -> None:
    """The first look comes after the first delay of the policy, the later ones after longer ones, until the time is up."""
    world = make_world(InstantGateway("alpha", Capabilities(lookup_by_reference=True, lookup_quiet_s=3600.0)))
    pay = await world.instance()
    looks: list[float] = []

    async def nothing(call: GatewayCall) -> Lookup:
        looks.append(world.clock.monotonic_s())
        return NotFound()

    world.gateways[0].look_up = nothing  # type: ignore[method-assign]
    world.gateways[0].faults.append(request_lost)
    began_s = world.clock.monotonic_s()
    answer = await pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=5)
    assert answer.is_pending()
    gaps_s = [after - before for before, after in itertools.pairwise([began_s, *looks])]
    assert 0.05 <= gaps_s[0] <= 0.1
    assert len(gaps_s) == 3 and all(gap_s == pytest.approx(2.0, abs=0.01) for gap_s in gaps_s[1:])


class Counting(Death):
    """Nobody dies; loads are counted."""

    def __init__(self) -> None:
        super().__init__()
        self.loads = 0

    async def step(self, where: str) -> None:
        self.loads += where == "before load"


async def test_who_waits_for_another_instances_answer_asks_less_and_less_often(make_world: Make) -> None:
    world = make_world()
    first, counting = await world.instance(), Counting()
    second = await world.instance(counting)
    world.gateways[0].faults.append(hang)
    serving = asyncio.ensure_future(first.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=1))
    await asyncio.sleep(0.01)
    answer = await second.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=1.9)
    assert answer.is_pending()
    assert 3 <= counting.loads <= 12
    await serving


async def test_the_first_pass_of_the_worker_forgets_old_notices_and_the_next_ones_leave_them(
    make_world: Make,
) -> None:
    world = make_world(silent())
    pay = await world.instance()
    payment = await in_doubt(world, pay)
    told = news(payment, charged(world))
    assert await tell(pay, told) == 1
    await world.clock.sleep(KEPT_S + 1)
    await pay.recover()
    assert await tell(pay, told) == 1
    await world.clock.sleep(KEPT_S + 1)
    await pay.recover()
    assert await tell(pay, told) == 0


async def test_ids_of_notices_are_kept_as_they_are_unless_they_are_too_long(make_world: Make) -> None:
    world = make_world(silent())
    pay = await world.instance()
    payment = await in_doubt(world, pay)
    usual = news(payment, None)
    ids = ["short", "x" * 255, "x" * 256, "x" * 255 + "y"]
    assert await tell(pay, *(replace(usual, id=one) for one in ids)) == 4
    assert await tell(pay, *(replace(usual, id=one) for one in ids)) == 0
    store = pay.store
    assert isinstance(store, SqliteStore)
    rows = await store._read("SELECT notice_id FROM notice ORDER BY length(notice_id)")
    lengths = [len(one) for (one,) in rows]
    assert lengths == [5, 64, 64, 255] and rows[0][0] == "short"


@pytest.mark.parametrize("able", ["charge", "authorize"])
async def test_a_gateway_is_asked_only_for_what_it_can_do(make_world: Make, able: str) -> None:
    caps = Capabilities(charge=able == "charge", authorize=able == "authorize")
    world = make_world(InstantGateway("alpha", caps))
    pay = await world.instance()
    calls = {"charge": pay.charge, "authorize": pay.authorize}
    assert (await calls.pop(able)(USD100, "tok_ok", idempotency_key="a")).payment_id
    ((_, unable),) = calls.items()
    with pytest.raises(UnsupportedOperation, match="cannot"):
        await unable(USD100, "tok_ok", idempotency_key="b")
    assert len(world.gateways[0].calls) == 1


async def test_only_a_gateway_whose_silence_is_evidence_makes_us_wait_for_its_quiet_period(
    make_world: Make,
) -> None:
    keyed = Capabilities(
        stable_key=True, stable_key_ttl_s=DAY_S, lookup_by_reference=True, lookup_quiet_s=60.0
    )
    quiet = Capabilities(lookup_by_reference=True, lookup_quiet_s=60.0)
    expected = {"keyed": (keyed, 0.0), "none": (Capabilities(), 0.0), "quiet": (quiet, 60.0)}
    for name, (caps, waits_s) in expected.items():
        world = make_world(InstantGateway(name, caps))
        pay = await world.instance()
        world.gateways[0].faults.append(request_lost)
        payment = (await pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=0.01)).payment
        operation = payment.operations[0]
        row = await pay.store.find_in_flight(operation.id)
        assert row is not None
        assert pay._orchestrator.engine.evidence.quiet_left_s(operation, row) == pytest.approx(
            waits_s, abs=0.1
        )
        await world.clock.sleep(61)
        assert pay._orchestrator.engine.evidence.quiet_left_s(operation, row) == 0.0


async def test_a_refund_or_capture_of_nothing_is_refused(make_world: Make) -> None:
    world = make_world()
    pay = await world.instance()
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="a")
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="b")
    with pytest.raises(InvalidAmount, match="at least 1 minor unit"):
        await pay.refund(paid.payment_id, Money(0, "USD"), idempotency_key="r")
    with pytest.raises(InvalidAmount, match="at least 1 minor unit"):
        await pay.capture(held.payment_id, Money(0, "USD"), idempotency_key="c")
