"""A gateway that can cancel nothing, where an order stays open until somebody pays it (Razorpay's Checkout)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aegispay.app import AegisPay
from aegispay.domain.events import OperationKind
from aegispay.domain.money import Money
from aegispay.domain.outcomes import Approved, NextAction, RequiresAction
from aegispay.domain.payment import OperationStatus, Payment
from aegispay.domain.states import PaymentState
from aegispay.gateways.capabilities import Capabilities
from aegispay.gateways.gateway import Found, GatewayCall, Lookup, LookupFailed, NotFound
from aegispay.gateways.webhooks import GatewayEvent
from aegispay.storage.store import Purpose
from aegispay.testing.instant_gateway import InstantGateway, lands_late, request_lost
from tests.orchestration.harness import DAY_S, SETTINGS, World
from tests.orchestration.test_doubt import LOOKUP_ONLY
from tests.orchestration.test_inbound import TellingGateway, news, tell

USD100 = Money(100_00, "USD")
Make = Callable[..., World]
CAPABILITIES = Capabilities(void=False, lookup_by_reference=True, lookup_quiet_s=60.0)


class Checkout(TellingGateway):
    """An order is open until it is paid, for as long as one likes."""

    def __init__(self) -> None:
        super().__init__("alpha", CAPABILITIES)
        self.paid = False
        self.says: Lookup | None = None

    async def look_up(self, call: GatewayCall) -> Lookup:
        if self.says is not None:
            return self.says
        if call.kind in (OperationKind.CHARGE, OperationKind.CONFIRM):
            if self.paid:
                return Found(outcome=Approved(reference="alpha_1", amount_minor=100_00))
            return Found(
                outcome=RequiresAction(reference="alpha_1", action=NextAction(url="https://x.example"))
            )
        return await super().look_up(call)


async def abandoned(world: World, pay: AegisPay) -> Payment:
    asked = await pay.charge(USD100, "tok_3ds", idempotency_key="k")
    assert asked.requires_action()
    await world.clock.sleep(SETTINGS.action_timeout_s + 1)
    await pay.recover()
    return await pay.get(asked.payment_id)


async def test_an_abandoned_order_ends_by_itself_and_nobody_is_asked(make_world: Make) -> None:
    world = make_world(Checkout())
    pay = await world.instance()
    payment = await abandoned(world, pay)
    assert payment.state is PaymentState.FAILED and payment.review is None
    assert payment.failure and payment.failure.code == "action_expired"
    again = await pay.charge(USD100, "tok_3ds", idempotency_key="k")
    assert again.is_failure() and again.error and again.error.code == "action_expired"
    for _ in range(40):
        await world.clock.sleep(3601)
        await pay.recover()
    assert await pay.store.find_in_flight(payment.operations[0].id) is None
    assert (await pay.get(payment.id)).state is PaymentState.FAILED


async def test_while_the_gateway_cannot_be_asked_nothing_is_given_up(make_world: Make) -> None:
    gateway = Checkout()
    world = make_world(gateway)
    pay = await world.instance()
    gateway.says = LookupFailed(reason="down")
    payment = await abandoned(world, pay)
    assert payment.state is PaymentState.REQUIRES_ACTION
    gateway.says = None
    await world.clock.sleep(SETTINGS.lease_s + 1)
    await pay.recover()
    assert (await pay.get(payment.id)).state is PaymentState.FAILED


async def test_a_gateway_that_never_says_leaves_it_to_a_person_and_not_to_nobody(make_world: Make) -> None:
    gateway = Checkout()
    world = make_world(gateway)
    pay = await world.instance()
    gateway.says = LookupFailed(reason="down")
    payment = await abandoned(world, pay)
    await world.clock.sleep(SETTINGS.review_after_s)
    await pay.recover()
    asked = await pay.get(payment.id)
    assert asked.state is PaymentState.NEEDS_REVIEW and "down" in (asked.review or "")
    gateway.says, gateway.paid = None, True
    await world.clock.sleep(3601)
    await pay.recover()
    known = await pay.get(payment.id)
    assert known.operations[0].status is OperationStatus.APPROVED and known.captured_minor == 100_00


async def test_a_payer_who_paid_at_the_last_moment_has_paid(make_world: Make) -> None:
    gateway = Checkout()
    world = make_world(gateway)
    pay = await world.instance()
    gateway.paid = True
    assert (await abandoned(world, pay)).state is PaymentState.SUCCEEDED


async def test_who_pays_the_order_after_it_was_given_up_gets_it_back(make_world: Make) -> None:
    gateway = Checkout()
    world = make_world(gateway)
    pay = await world.instance()
    payment = await abandoned(world, pay)
    gateway.paid = True
    await world.clock.sleep(SETTINGS.watch_after_s + 1)
    await pay.recover()
    payment = await pay.get(payment.id)
    assert payment.operations[0].status is OperationStatus.REVERSED
    assert gateway.count(OperationKind.REFUND) == 1
    assert payment.state is PaymentState.FAILED


async def test_a_webhook_tells_of_it_sooner(make_world: Make) -> None:
    gateway = Checkout()
    world = make_world(gateway)
    pay = await world.instance()
    payment = await abandoned(world, pay)
    gateway.paid = True
    await tell(pay, news(payment, Approved(reference="alpha_1", amount_minor=100_00)))
    payment = await pay.get(payment.id)
    assert payment.operations[0].status is OperationStatus.REVERSED


# --- hints ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("says", [NotFound(), LookupFailed(reason="down")])
async def test_a_hint_is_settled_by_the_gateways_word_and_by_nothing_less(
    make_world: Make, says: Lookup
) -> None:
    """`must_look_up`, and the gateway knows nothing of an attempt that had ended: there is nothing to wait for."""
    gateway = Checkout()
    world = make_world(gateway)
    pay = await world.instance()
    payment = await abandoned(world, pay)
    gateway.says = says
    await tell(pay, news(payment, None, must_look_up=True))
    waiting = await pay.store.lease_notices(
        world.clock.now_us() + int(DAY_S * 1_000_000), world.clock.now_us(), 10
    )
    assert len(waiting) == (0 if isinstance(says, NotFound) else 1)


async def test_a_hold_that_lapsed_is_no_refund_of_ours(make_world: Make) -> None:
    """Razorpay calls it a refund when it gives back what nobody captured."""
    gateway = Checkout()
    world = make_world(gateway)
    pay = await world.instance()
    held = (await pay.authorize(USD100, "tok_ok", idempotency_key="k")).payment
    event = GatewayEvent(
        id="evt_9",
        type="refund.processed",
        at_us=0,
        kind=OperationKind.REFUND,
        outcome=Approved(reference="rfnd_1", amount_minor=100_00),
        payment_id=held.id,
        reference="rfnd_1",
    )
    await tell(pay, event)
    after = await pay.get(held.id)
    assert after.state is PaymentState.AUTHORIZED and after.refunded_minor == 0 and after.review is None


async def test_an_open_order_is_looked_at_every_hour_for_a_day(make_world: Make) -> None:
    world = make_world(Checkout())
    pay = await world.instance()
    payment = await abandoned(world, pay)
    operation_id = payment.operations[0].id
    row = await pay.store.find_in_flight(operation_id)
    assert row is not None and row.purpose is Purpose.WATCH
    looks = 0
    while (row := await pay.store.find_in_flight(operation_id)) is not None:
        wait_us = row.due_at_us - world.clock.now_us()
        assert row.owner == "" and 0 < wait_us <= 3_600_000_000
        await world.clock.sleep(wait_us / 1_000_000 + 0.001)
        report = await pay.recover()
        assert (report.taken, report.resolved, report.waiting) == (1, 1, 0)
        looks += 1
    assert 20 <= looks <= 26


async def test_a_confirmation_is_watched_no_longer_than_until_another_one_has_won(make_world: Make) -> None:
    """The first one was lost on its way. After the second the gateway knows the payment by another reference."""
    world = make_world(InstantGateway("alpha", LOOKUP_ONLY))
    pay = await world.instance()
    gateway = world.gateways[0]
    asked = await pay.charge(USD100, "tok_3ds", idempotency_key="k")
    gateway.faults.append(request_lost)
    first = await pay.complete_action(asked.payment_id, idempotency_key="c1", timeout_s=0.01)
    assert first.is_pending()
    await world.clock.sleep(120.0)
    await pay.recover()
    lost = (await pay.get(asked.payment_id)).operations[1]
    assert (lost.kind, lost.status) == (OperationKind.CONFIRM, OperationStatus.NOT_SENT)
    done = await pay.complete_action(asked.payment_id, idempotency_key="c2")
    assert done.is_success()

    async def unknown(call: GatewayCall) -> Lookup:
        return LookupFailed(reason="no such order")

    gateway.look_up = unknown  # type: ignore[method-assign]
    for _ in range(12):
        await world.clock.sleep(DAY_S / 4)
        await pay.recover()
    payment = await pay.get(asked.payment_id)
    assert (payment.state, payment.review) == (PaymentState.SUCCEEDED, None)
    assert await pay.store.find_in_flight(lost.id) is None


async def test_a_step_that_is_still_open_ends_no_confirmation_that_is_on_its_way(make_world: Make) -> None:
    """The request was slow and lands after the look-up: who was told to act again could void, and be charged after that."""
    world = make_world(InstantGateway("alpha", LOOKUP_ONLY))
    pay = await world.instance()
    gateway = world.gateways[0]
    asked = await pay.charge(USD100, "tok_3ds", idempotency_key="k")
    look_up = gateway.look_up

    async def still_open(call: GatewayCall) -> Lookup:
        return Found(outcome=RequiresAction(reference="alpha_1", action=NextAction(url="https://x.example")))

    async def slow() -> None:
        await world.clock.sleep(30.0)
        gateway.look_up = look_up  # type: ignore[method-assign]

    gateway.look_up = still_open  # type: ignore[method-assign]
    gateway.faults.append(lands_late(slow))
    told = await pay.complete_action(asked.payment_id, idempotency_key="c")
    assert told.is_pending() and told.error is not None and told.error.code == "in_doubt"
    await world.clock.sleep(20.0)
    await pay.recover()
    await pay.sync(asked.payment_id)
    assert (await pay.get(asked.payment_id)).operations[1].status is OperationStatus.IN_DOUBT
    await world.clock.sleep(30.0)
    await world.recover(pay, for_s=600.0)
    assert (await pay.get(asked.payment_id)).state is PaymentState.SUCCEEDED
    assert (await pay.complete_action(asked.payment_id, idempotency_key="c")).is_success()


async def test_a_step_that_is_open_after_the_quiet_period_can_be_done_again(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha", LOOKUP_ONLY))
    pay = await world.instance()
    gateway = world.gateways[0]
    asked = await pay.charge(USD100, "tok_3ds", idempotency_key="k")

    async def still_open(call: GatewayCall) -> Lookup:
        return Found(outcome=RequiresAction(reference="alpha_1", action=NextAction(url="https://x.example")))

    gateway.look_up = still_open  # type: ignore[method-assign]
    gateway.faults.append(request_lost)
    assert (await pay.complete_action(asked.payment_id, idempotency_key="c")).is_pending()
    await world.recover(pay, for_s=120.0)
    assert (await pay.complete_action(asked.payment_id, idempotency_key="c")).requires_action()


async def test_an_order_that_stays_open_after_a_lost_confirmation_is_nobodys_business(
    make_world: Make,
) -> None:
    """The payer came too late: the order may stay open for ever, and what is watched of it is let go after a day."""
    gateway = Checkout()
    world = make_world(gateway)
    pay = await world.instance()
    asked = await pay.charge(USD100, "tok_3ds", idempotency_key="k")
    gateway.faults.append(request_lost)
    gateway.says = NotFound()
    await pay.complete_action(asked.payment_id, idempotency_key="c")
    await world.recover(pay, for_s=300.0)
    gateway.says = None
    await world.clock.sleep(SETTINGS.action_timeout_s + 1)
    for _ in range(72):
        await world.clock.sleep(3_600.0)
        await pay.recover()
    payment = await pay.get(asked.payment_id)
    assert payment.operations[1].status is OperationStatus.NOT_SENT
    assert (payment.state, payment.review) == (PaymentState.FAILED, None)
    assert payment.failure is not None and payment.failure.code == "action_expired"
    assert await pay.store.find_in_flight(payment.operations[1].id) is None
