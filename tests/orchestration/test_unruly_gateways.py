"""Gateways that keep no time, have gone, or can do less than is asked: what the core does about it, to the second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from aegispay.domain.errors import StaleFence, UnsupportedOperation
from aegispay.domain.money import Money
from aegispay.domain.outcomes import Outcome
from aegispay.domain.payment import OperationStatus
from aegispay.domain.states import PaymentState
from aegispay.gateways.gateway import GatewayCall, Lookup, LookupFailed
from aegispay.testing.instant_gateway import InstantGateway, reply_lost, request_lost
from tests.orchestration.harness import SETTINGS, World
from tests.orchestration.test_doubt import CANCELABLE, KEYED, LOOKUP_ONLY

USD100 = Money(100_00, "USD")
Make = Callable[..., World]
CUT_OFF_S = SETTINGS.call_timeout_s + 1.0
"""An adapter is held to its time-out, and a second more."""


class Endless(InstantGateway):
    """Answers what is not in `silent`; in the rest it forgets the time."""

    silent: frozenset[str] = frozenset()

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.cut_off_after_s: list[float] = []

    async def _forget_the_time(self) -> None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            await asyncio.Event().wait()
        finally:
            self.cut_off_after_s.append(round(loop.time() - began_s, 6))

    async def perform(self, call: GatewayCall) -> Outcome:
        if "perform" in self.silent:
            await self._forget_the_time()
        return await super().perform(call)

    async def look_up(self, call: GatewayCall) -> Lookup:
        if "look_up" in self.silent:
            await self._forget_the_time()
        return await super().look_up(call)

    async def cancel_by_reference(self, call: GatewayCall) -> Outcome:
        if "cancel_by_reference" in self.silent:
            await self._forget_the_time()
        return await super().cancel_by_reference(call)


@pytest.mark.parametrize("silent", ["perform", "look_up", "cancel_by_reference"])
async def test_an_adapter_that_keeps_no_time_is_cut_off(make_world: Make, silent: str) -> None:
    gateway = Endless("alpha", CANCELABLE)
    gateway.silent = frozenset({silent})
    gateway.faults.append(request_lost)
    world = make_world(gateway)
    pay = await world.instance()
    asked = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    assert asked.is_pending()
    for _ in range(4):
        await world.clock.sleep(60.0)
        await pay.recover()
    assert gateway.cut_off_after_s and set(gateway.cut_off_after_s) == {CUT_OFF_S}


async def test_a_follow_up_at_a_gateway_that_has_gone_is_refused_and_nothing_is_written(
    make_world: Make,
) -> None:
    world = make_world(InstantGateway("alpha", KEYED), InstantGateway("beta", KEYED))
    pay = await world.instance()
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="h")
    await world.kill(pay)
    world.gateways = world.gateways[1:]
    pay = await world.instance()
    with pytest.raises(Exception, match="alpha"):
        await pay.capture(held.payment_id, idempotency_key="c")
    assert (await pay.get(held.payment_id)).version == held.payment.version
    payment = await pay.get(held.payment_id)
    operation = payment.operations[0]
    engine = pay._orchestrator.engine
    row = engine.rows.new(payment, operation.id, "alpha")
    outcome = await engine.calls.send(payment, operation, row)
    assert getattr(outcome, "reason", None) == "gateway_not_registered"


@pytest.mark.parametrize(
    ("lacks", "asks", "told"),
    [
        ({"refund": False}, None, "alpha has no refund"),
        ({"partial_refund": False}, 99_99, "alpha refunds the full amount only"),
    ],
)
async def test_a_refund_that_the_gateway_does_not_have_is_refused_first(
    make_world: Make, lacks: dict[str, bool], asks: int | None, told: str
) -> None:
    pay = await make_world(InstantGateway("alpha", replace(KEYED, **lacks))).instance()
    done = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    amount = None if asks is None else Money(asks, "USD")
    with pytest.raises(UnsupportedOperation, match=told):
        await pay.refund(done.payment_id, amount, idempotency_key="r")
    assert (await pay.get(done.payment_id)).version == done.payment.version


async def test_a_full_refund_and_a_partial_capture_are_no_partial_refund(make_world: Make) -> None:
    pay = await make_world(InstantGateway("alpha", replace(KEYED, partial_refund=False))).instance()
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="h")
    taken = await pay.capture(held.payment_id, Money(40_00, "USD"), idempotency_key="c")
    assert taken.payment.captured_minor == 40_00
    back = await pay.refund(held.payment_id, Money(40_00, "USD"), idempotency_key="r")
    assert back.payment.state is PaymentState.REFUNDED


async def test_sync_that_is_overtaken_tells_what_the_other_found(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha", LOOKUP_ONLY))
    pay = await world.instance()
    gateway = world.gateways[0]
    look_up = gateway.look_up

    async def no_answer(call: GatewayCall) -> Lookup:
        return LookupFailed(reason="down")

    gateway.look_up = no_answer  # type: ignore[method-assign]
    gateway.faults.append(reply_lost)
    asked = await pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=0.01)
    gateway.look_up = look_up  # type: ignore[method-assign]
    other = await world.instance()
    found = pay._orchestrator.driver.found

    async def overtaken(*args: Any, **kwargs: Any) -> Any:
        await world.clock.sleep(SETTINGS.lease_s + 60.0)
        await other.recover()
        raise StaleFence(payment_id=asked.payment_id)

    pay._orchestrator.driver.found = overtaken  # type: ignore[method-assign]
    answer = await pay.sync(asked.payment_id)
    pay._orchestrator.driver.found = found  # type: ignore[method-assign]
    assert answer.is_success()
    assert answer.payment.operations[0].status is OperationStatus.APPROVED
