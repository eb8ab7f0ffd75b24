"""What settings and words come to: what a router sees, how often a call is sent again, what a person reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from aegispay.domain.errors import NotRunning
from aegispay.domain.events import CaptureMode, OperationKind
from aegispay.domain.methods import MethodSnapshot, PaymentMethodType
from aegispay.domain.money import Money
from aegispay.domain.outcomes import InDoubt, Outcome
from aegispay.gateways.gateway import GatewayCall, Lookup, LookupFailed
from aegispay.routing.router import RoutingContext
from aegispay.testing.instant_gateway import InstantGateway, reply_lost
from tests.orchestration.harness import DAY_S, SETTINGS, World
from tests.orchestration.test_doubt import KEYED, LOOKUP_ONLY

USD100 = Money(100_00, "USD")
Make = Callable[..., World]


async def no_answer(call: GatewayCall) -> Lookup:
    return LookupFailed(reason="down")


class Unheard(InstantGateway):
    """Nothing comes back from it."""

    sent = 0

    async def perform(self, call: GatewayCall) -> Outcome:
        self.sent += 1
        return InDoubt(reason="timeout")


class Last:
    """Chooses the last of what is available, and keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[RoutingContext, tuple[str, ...]]] = []

    def candidates(self, context: RoutingContext, available: tuple[str, ...]) -> tuple[str, ...]:
        self.told.append((context, available))
        return available[-1:]


async def test_a_router_is_told_what_the_payment_is_and_who_can_take_it(make_world: Make) -> None:
    world = make_world(
        InstantGateway("alpha", KEYED),
        InstantGateway("beta", replace(KEYED, authorize=False)),
        InstantGateway("gamma", KEYED),
    )
    pay = await world.instance()
    router = pay._orchestrator.candidates._router = Last()
    done = await pay.authorize(
        USD100, "tok_ok", idempotency_key="k", customer_id="c1", metadata={"a": "b"}, merchant_id="m1"
    )
    assert done.payment.gateway == "gamma"
    assert router.told == [
        (
            RoutingContext(
                merchant_id="m1",
                amount_minor=100_00,
                currency="USD",
                capture=CaptureMode.MANUAL,
                method=MethodSnapshot(type=PaymentMethodType.TOKEN, token="tok_ok"),
                customer_id="c1",
                metadata={"a": "b"},
            ),
            ("alpha", "gamma"),
        )
    ]
    pinned = await pay.charge(USD100, "tok_ok", idempotency_key="k2", gateway="alpha")
    assert pinned.payment.gateway == "alpha" and len(router.told) == 1


@pytest.mark.parametrize("resends_max", [1, 2, 5])
async def test_a_call_is_sent_again_only_so_often_where_a_look_up_can_tell(
    make_world: Make, resends_max: int
) -> None:
    gateway = Unheard("alpha", KEYED)
    gateway.look_up = no_answer  # type: ignore[method-assign]
    world = make_world(gateway)
    pay = await world.instance(settings=replace(SETTINGS, resends_max=resends_max))
    await pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=0.001)
    assert gateway.sent == 1
    await world.recover(pay, for_s=7_200)
    assert gateway.sent == resends_max


async def test_where_nothing_else_can_tell_it_is_sent_again_for_as_long_as_the_key_lives(
    make_world: Make,
) -> None:
    gateway = Unheard("alpha", replace(KEYED, lookup_by_reference=False, stable_key_ttl_s=3_600.0))
    gateway.look_up = no_answer  # type: ignore[method-assign]
    world = make_world(gateway)
    pay = await world.instance(settings=replace(SETTINGS, resends_max=2))
    await pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=0.001)
    await world.recover(pay, for_s=3_600)
    within = gateway.sent
    await world.recover(pay, for_s=7_200)
    assert within > 8 and gateway.sent == within


async def test_recovery_that_cannot_work_backs_off_and_tells_a_person_in_the_end(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha", LOOKUP_ONLY))
    pay = await world.instance()
    world.gateways[0].faults.append(reply_lost)
    world.gateways[0].look_up = no_answer  # type: ignore[method-assign]
    asked = await pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=0.001)
    tries = 0

    async def broken(*args: Any) -> Any:
        nonlocal tries
        tries += 1
        raise RuntimeError("a mistake in here")

    pay._orchestrator.engine.evidence.seek = broken  # type: ignore[method-assign]
    await world.recover(pay, for_s=3_600)
    assert 5 < tries < 60
    assert (await pay.get(asked.payment_id)).review is None
    await world.recover(pay, for_s=DAY_S)
    assert (await pay.get(asked.payment_id)).review == "recovery fails, see the log"


async def test_nothing_is_taken_before_the_start_or_after_the_end(make_world: Make) -> None:
    pay = await make_world(InstantGateway("alpha", KEYED)).instance()
    assert pay._orchestrator.running is True
    await pay.stop()
    with pytest.raises(NotRunning):
        await pay.charge(USD100, "tok_ok", idempotency_key="k")
    with pytest.raises(NotRunning):
        await pay.sync("pay_" + "0" * 32)


async def test_each_refund_names_the_capture_that_still_covers_it(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha", KEYED))
    pay = await world.instance()
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="h")
    one = await pay.capture(held.payment_id, Money(60_00, "USD"), idempotency_key="c1", final=False)
    two = await pay.capture(held.payment_id, Money(40_00, "USD"), idempotency_key="c2")
    first, second = one.payment.operations[-1].id, two.payment.operations[-1].id
    named = []
    for number, minor in enumerate((30_00, 40_00, 30_00)):
        done = await pay.refund(held.payment_id, Money(minor, "USD"), idempotency_key=f"r{number}")
        assert done.payment.operations[-1].kind is OperationKind.REFUND
        named.append(done.payment.operations[-1].capture_id)
    assert named == [first, second, first]
