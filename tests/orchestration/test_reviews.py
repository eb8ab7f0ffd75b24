"""When a person is asked, when not, and what closing a review sets going again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec.structs import replace

from aegispay.domain import commands as cmd
from aegispay.domain.events import OperationKind
from aegispay.domain.money import Money
from aegispay.domain.outcomes import (
    Approved,
    DeclineCategory,
    Declined,
    NextAction,
    Outcome,
    Pending,
    RequiresAction,
)
from aegispay.domain.payment import Payment
from aegispay.domain.states import PaymentState
from aegispay.gateways.gateway import Found, GatewayCall, Lookup, LookupFailed
from aegispay.gateways.webhooks import GatewayEvent
from aegispay.storage.store import Purpose
from aegispay.testing.instant_gateway import InstantGateway, reply_lost
from tests.orchestration.harness import DAY_S, SETTINGS, World
from tests.orchestration.test_doubt import KEYED, LOOKUP_ONLY
from tests.orchestration.test_inbound import TellingGateway, tell

USD100 = Money(100_00, "USD")
Make = Callable[..., World]
HELD_A_WEEK = replace(KEYED, authorization_ttl_s=7 * DAY_S)
OPERATIONS_MAX = 250


async def refuse(gateway: InstantGateway, call: GatewayCall) -> Outcome:
    return Declined(category=DeclineCategory.INVALID, code="not_now")


async def hours(world: World, pay: Any, count: int) -> None:
    """The worker passes by once an hour."""
    for _ in range(count):
        await world.clock.sleep(3600.0)
        await pay.recover()


# --- what is held is released, whatever was asked before ----------------------------------------------------


async def worn_out(world: World, pay: Any) -> str:
    """An authorisation whose capture was refused until the payment had all the operations it may have."""
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="k")
    for number in range(OPERATIONS_MAX - 1):
        world.gateways[0].faults.append(refuse)
        await pay.capture(held.payment_id, idempotency_key=f"c{number}")
    assert len((await pay.get(held.payment_id)).operations) == OPERATIONS_MAX
    return str(held.payment_id)


async def test_a_payment_with_all_its_operations_used_up_is_released_when_it_lapses(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha", HELD_A_WEEK))
    pay = await world.instance()
    await worn_out(world, pay)
    await world.clock.sleep(7 * DAY_S)
    await hours(world, pay, 3)
    assert (await world.check_books(pay))[0].state is PaymentState.EXPIRED
    assert world.gateways[0].count(OperationKind.VOID) == 1
    assert await pay.store.count_in_flight() == 0


async def test_a_payment_with_all_its_operations_used_up_can_be_voided(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha", HELD_A_WEEK))
    pay = await world.instance()
    assert (await pay.void(await worn_out(world, pay))).is_success()
    assert (await world.check_books(pay))[0].state is PaymentState.CANCELED


async def test_a_payer_who_failed_their_step_again_and_again_is_canceled_when_late(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha", KEYED))
    pay = await world.instance()
    gateway = world.gateways[0]
    step = RequiresAction(reference="alpha_1", action=NextAction(url="https://bank.example/3ds"))

    async def again(inner: InstantGateway, call: GatewayCall) -> Outcome:
        return step

    async def still_open(call: GatewayCall) -> Lookup:
        return Found(outcome=step)

    asked = await pay.charge(USD100, "tok_3ds", idempotency_key="k")
    for number in range(OPERATIONS_MAX - 1):
        gateway.faults.append(again)
        await pay.complete_action(asked.payment_id, idempotency_key=f"c{number}")
    gateway.look_up = still_open  # type: ignore[method-assign]
    await hours(world, pay, 4)
    assert (await world.check_books(pay))[0].state is PaymentState.EXPIRED
    assert await pay.store.count_in_flight() == 0


async def test_a_release_waits_for_a_capture_that_is_pending_without_going_round_all_the_time(
    make_world: Make,
) -> None:
    world = make_world(InstantGateway("alpha", replace(KEYED, authorization_ttl_s=3600.0)))
    pay = await world.instance()
    gateway = world.gateways[0]
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="k")
    look_up = gateway.look_up

    async def later(inner: InstantGateway, call: GatewayCall) -> Outcome:
        return Pending(reference="cap_1")

    async def not_yet(call: GatewayCall) -> Lookup:
        capture = call.kind is OperationKind.CAPTURE
        return Found(outcome=Pending(reference="cap_1")) if capture else await look_up(call)

    gateway.faults.append(later)
    gateway.look_up = not_yet  # type: ignore[method-assign]
    await pay.capture(held.payment_id, idempotency_key="c", timeout_s=0.05)
    for _ in range(600):
        await world.clock.sleep(60.0)
        await pay.recover()
    assert (await pay.get(held.payment_id)).review is None
    row = await pay.store.find_in_flight((await pay.get(held.payment_id)).operations[0].id)
    assert row is not None and row.purpose is Purpose.EXPIRY
    assert 0 < row.due_at_us - world.clock.now_us() <= 600e6 and row.tries < 100

    async def refused(call: GatewayCall) -> Lookup:
        return Found(outcome=Declined(category=DeclineCategory.INVALID, code="too_late"))

    gateway.look_up = refused  # type: ignore[method-assign]
    await hours(world, pay, 2)
    assert (await world.check_books(pay))[0].state is PaymentState.EXPIRED


# --- evidence that comes while somebody looks ---------------------------------------------------------------


class Interrupted:
    """A look-up that learns nothing, and during which something else happens once."""

    def __init__(self) -> None:
        self.happens: list[Callable[[], Awaitable[Any]]] = []

    async def __call__(self, call: GatewayCall) -> Lookup:
        if self.happens:
            await self.happens.pop()()
        await asyncio.sleep(1.0)
        return LookupFailed(reason="down")


async def in_doubt_for_a_day(make_world: Make) -> tuple[World, Any, Payment, Interrupted]:
    world = make_world(TellingGateway("alpha", replace(LOOKUP_ONLY, authorization_ttl_s=7 * DAY_S)))
    pay = await world.instance()
    looks = Interrupted()
    world.gateways[0].faults.append(reply_lost)
    world.gateways[0].look_up = looks  # type: ignore[method-assign]
    result = await pay.authorize(USD100, "tok_ok", idempotency_key="k", timeout_s=0.05)
    await hours(world, pay, 23)
    await world.clock.sleep(3700.0)
    return world, pay, await pay.get(result.payment_id), looks


def approval(world: World, payment: Payment) -> GatewayEvent:
    return GatewayEvent(
        id="1",
        type="t",
        at_us=0,
        kind=OperationKind.AUTHORIZE,
        operation_id=payment.operations[0].id,
        outcome=Approved(reference=world.gateways[0].books[0].reference, amount_minor=100_00),
    )


async def test_nobody_is_asked_about_a_doubt_that_a_webhook_ended_during_the_look_up(
    make_world: Make,
) -> None:
    world, pay, payment, looks = await in_doubt_for_a_day(make_world)
    looks.happens.append(lambda: tell(pay, approval(world, payment)))
    report = await pay.recover()
    assert (report.reviews, report.resolved) == (0, 1)
    assert (await pay.get(payment.id)).state is PaymentState.AUTHORIZED
    row = await pay.store.find_in_flight(payment.operations[0].id)
    assert row is not None and row.purpose is Purpose.EXPIRY
    assert row.due_at_us > world.clock.now_us() + 6 * DAY_S * 1e6
    await world.clock.sleep(7 * DAY_S)
    await hours(world, pay, 1)
    assert (await world.check_books(pay))[0].state is PaymentState.EXPIRED


async def test_a_payment_that_changed_in_something_else_is_asked_about_all_the_same(make_world: Make) -> None:
    """The operation is still in doubt: a worker that looked meanwhile learnt no more than we did."""
    _, pay, payment, looks = await in_doubt_for_a_day(make_world)

    async def reviewed_elsewhere() -> None:
        engine = pay._orchestrator.engine
        draft = engine.journal.draft(await engine.load(payment.id))
        draft.apply(cmd.RequestReview(reason="somebody wonders"))
        draft.apply(cmd.CloseReview(reason="and is told"))
        await engine.journal.commit(draft)

    looks.happens.append(reviewed_elsewhere)
    assert (await pay.recover()).reviews == 1
    asked = await pay.get(payment.id)
    assert asked.review == "in doubt for 86400 s: timeout" and asked.review_until_evidence


async def refund_in_doubt_for_a_day(make_world: Make) -> tuple[World, Any, Payment, Interrupted]:
    """The second of two refunds, each of 1.00."""
    world = make_world(TellingGateway("alpha", LOOKUP_ONLY))
    pay = await world.instance()
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    await pay.refund(paid.payment_id, Money(1_00, "USD"), idempotency_key="r1")
    looks = Interrupted()
    world.gateways[0].faults.append(reply_lost)
    world.gateways[0].look_up = looks  # type: ignore[method-assign]
    await pay.refund(paid.payment_id, Money(1_00, "USD"), idempotency_key="r2", timeout_s=0.05)
    await hours(world, pay, 23)
    await world.clock.sleep(3700.0)
    return world, pay, await pay.get(paid.payment_id), looks


async def test_nobody_is_asked_about_a_refund_that_was_told_meanwhile_though_the_state_is_the_same(
    make_world: Make,
) -> None:
    world, pay, payment, looks = await refund_in_doubt_for_a_day(make_world)
    refund = payment.operations[-1]
    told = GatewayEvent(
        id="1",
        type="t",
        at_us=0,
        kind=OperationKind.REFUND,
        operation_id=refund.id,
        outcome=Approved(reference=world.gateways[0].books[-1].reference, amount_minor=1_00),
    )
    looks.happens.append(lambda: tell(pay, told))
    # Whoever told us has ended the row, so that our lease on it is gone.
    assert (await pay.recover()).reviews == 0
    ended = (await world.check_books(pay))[0]
    assert (ended.state, payment.state) == (PaymentState.PARTIALLY_REFUNDED,) * 2
    assert await pay.store.count_in_flight() == 0


async def test_an_operation_still_in_doubt_stays_in_flight_when_the_payment_changed_its_state(
    make_world: Make,
) -> None:
    """During the look-up the bank disputes the payment: the next pass asks a person."""
    world, pay, paid, looks = await refund_in_doubt_for_a_day(make_world)

    async def disputed() -> None:
        engine = pay._orchestrator.engine
        draft = engine.journal.draft(await engine.load(paid.id))
        draft.apply(cmd.OpenDispute(reference="dp_1", amount_minor=1_00))
        await engine.journal.commit(draft)

    looks.happens.append(disputed)
    assert (await pay.recover()).reviews == 0
    assert (await pay.get(paid.id)).state is PaymentState.DISPUTED
    await hours(world, pay, 1)
    assert (await pay.get(paid.id)).state is PaymentState.NEEDS_REVIEW
    assert await pay.store.count_in_flight() == 1


# --- pending ------------------------------------------------------------------------------------------------


async def pending_refund(make_world: Make) -> tuple[World, Any, str, list[bool]]:
    """A refund of which the gateway says, while it answers, that it is at work on it."""
    world = make_world(InstantGateway("alpha", KEYED))
    pay = await world.instance()
    gateway = world.gateways[0]
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    answers = [True]

    async def slow(inner: InstantGateway, call: GatewayCall) -> Outcome:
        inner.execute(call)
        return Pending(reference="re_1")

    async def at_work(call: GatewayCall) -> Lookup:
        return Found(outcome=Pending(reference="re_1")) if answers[0] else LookupFailed(reason="down")

    gateway.faults.append(slow)
    gateway.look_up = at_work  # type: ignore[method-assign]
    await pay.refund(paid.payment_id, idempotency_key="r", timeout_s=0.05)
    return world, pay, paid.payment_id, answers


async def test_what_the_gateway_says_is_pending_is_left_alone_for_a_week(make_world: Make) -> None:
    world, pay, payment_id, _ = await pending_refund(make_world)
    await hours(world, pay, 7 * 24 - 1)
    assert (await pay.get(payment_id)).review is None
    await hours(world, pay, 2)
    payment = await pay.get(payment_id)
    assert payment.review == "pending for 604800 s: processing" and payment.review_until_evidence


async def test_how_long_pending_may_take_is_a_setting(make_world: Make) -> None:
    world, pay, payment_id, _ = await pending_refund(make_world)
    sooner = await world.instance(settings=replace(SETTINGS, pending_review_after_s=2 * DAY_S))
    await hours(world, sooner, 2 * 24 - 1)
    assert (await pay.get(payment_id)).review is None
    await hours(world, sooner, 2)
    assert (await pay.get(payment_id)).review == "pending for 172800 s: processing"


async def test_a_gateway_that_falls_silent_about_what_was_pending_is_asked_about_after_a_day(
    make_world: Make,
) -> None:
    world, pay, payment_id, answers = await pending_refund(make_world)
    await hours(world, pay, 50)
    answers[0] = False
    await hours(world, pay, 23)
    assert (await pay.get(payment_id)).review is None
    await hours(world, pay, 2)
    assert (await pay.get(payment_id)).review == "in doubt for 86400 s: processing"
