"""Rows in flight: none is dropped while it is needed, none goes round for ever, and `sync` respects who works on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from aegispay.domain import commands as cmd
from aegispay.domain.events import OperationKind
from aegispay.domain.money import Money
from aegispay.domain.outcomes import (
    Approved,
    DeclineCategory,
    Declined,
    Evidence,
    InDoubt,
    NextAction,
    Outcome,
    RequiresAction,
)
from aegispay.domain.states import PaymentState
from aegispay.gateways.gateway import Found, GatewayCall, Lookup
from aegispay.orchestration.settings import DoubtPolicy
from aegispay.storage.store import Purpose
from aegispay.testing.instant_gateway import InstantGateway, refused_connection, reply_lost
from tests.orchestration.harness import DAY_S, SETTINGS, World
from tests.orchestration.test_doubt import KEYED, LOOKUP_ONLY

USD100 = Money(100_00, "USD")
Make = Callable[..., World]
SHORT_LIVED = replace(KEYED, authorization_ttl_s=3600.0)


async def no(gateway: InstantGateway, call: GatewayCall) -> Outcome:
    return Declined(category=DeclineCategory.INVALID, code="cannot_be_voided")


async def test_sync_takes_no_half_way_state_for_the_end_while_a_caller_is_at_work(make_world: Make) -> None:
    """The payer's confirmation is on its way; the look-up still sees what was before it."""
    world = make_world(InstantGateway("alpha", KEYED))
    pay = await world.instance()
    gateway = world.gateways[0]
    asked = await pay.charge(USD100, "tok_3ds", idempotency_key="k")

    async def slow(inner: InstantGateway, call: GatewayCall) -> Outcome:
        await asyncio.sleep(1.0)
        return inner.execute(call)

    async def before(call: GatewayCall) -> Lookup:
        action = NextAction(url="https://bank.example/3ds")
        return Found(outcome=RequiresAction(reference="alpha_1", action=action))

    gateway.faults.append(slow)
    look_up, gateway.look_up = gateway.look_up, before  # type: ignore[method-assign]
    done = asyncio.ensure_future(pay.complete_action(asked.payment_id, idempotency_key="c"))
    await world.clock.sleep(0.5)
    await pay.sync(asked.payment_id)
    gateway.look_up = look_up  # type: ignore[method-assign]
    assert (await done).is_success()
    assert (await world.check_books(pay))[0].state is PaymentState.SUCCEEDED


async def test_sync_does_not_end_an_attempt_that_a_caller_may_still_fail_over(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha", KEYED), InstantGateway("beta", KEYED))
    pay = await world.instance()
    alpha = world.gateways[0]

    async def slow(inner: InstantGateway, call: GatewayCall) -> Outcome:
        outcome = Declined(category=DeclineCategory.SOFT, code="insufficient_funds")
        inner._by_key[call.gateway_key] = outcome
        await asyncio.sleep(1.0)
        return outcome

    alpha.faults.append(slow)
    task = asyncio.ensure_future(pay.charge(USD100, "tok_ok", idempotency_key="k"))
    await world.clock.sleep(0.5)
    await pay.sync((await pay.list())[0].id)
    assert (await task).is_success()
    await world.check_books(pay)


async def test_a_release_that_the_gateway_refuses_again_and_again_goes_to_a_person(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha", SHORT_LIVED))
    pay = await world.instance()
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="k")
    world.gateways[0].faults.extend([no] * 1000)
    for _ in range(48):
        await world.clock.sleep(3600)
        await pay.recover()
    payment = await pay.get(held.payment_id)
    assert payment.state is PaymentState.NEEDS_REVIEW
    assert sum(1 for op in payment.operations if op.kind is OperationKind.VOID) <= 10


async def test_an_authorisation_that_lapses_while_a_person_looks_is_released_afterwards(
    make_world: Make,
) -> None:
    """A capture was in doubt over the expiry; then it turns out that nothing was captured."""
    world = make_world(InstantGateway("alpha", replace(SHORT_LIVED, lookup_quiet_s=1.0)))
    pay = await world.instance()
    gateway = world.gateways[0]
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="k")

    async def unclear(inner: InstantGateway, call: GatewayCall) -> Outcome:
        return InDoubt(reason="garbage")

    async def down(call: GatewayCall) -> Lookup:
        raise RuntimeError("down")

    look_up, gateway.look_up = gateway.look_up, down  # type: ignore[method-assign]
    gateway.faults.extend([unclear] * 100)
    await pay.capture(held.payment_id, idempotency_key="c", timeout_s=2)
    for _ in range(30):
        await world.clock.sleep(3600)
        await pay.recover()
    assert (await pay.get(held.payment_id)).state is PaymentState.NEEDS_REVIEW
    gateway.look_up = look_up  # type: ignore[method-assign]
    gateway.faults.clear()
    for _ in range(30):
        await world.clock.sleep(3600)
        await pay.recover()
    payment = (await world.check_books(pay))[0]
    assert payment.state is PaymentState.EXPIRED


@pytest.mark.parametrize(
    ("fault", "ends"), [(refused_connection, PaymentState.REFUNDED), (no, PaymentState.NEEDS_REVIEW)]
)
async def test_a_success_after_doubt_goes_to_a_person_only_if_the_psp_refuses_to_give_it_back(
    make_world: Make, fault: Any, ends: PaymentState
) -> None:
    world = make_world(InstantGateway("alpha", LOOKUP_ONLY))
    pay = await world.instance(settings=replace(SETTINGS, doubt_policy=DoubtPolicy.REVERSE))
    world.gateways[0].faults.append(reply_lost)
    await pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=0.05)
    world.gateways[0].faults.extend([fault] * 10)
    await world.recover(pay)
    payment = (await world.check_books(pay))[0]
    assert payment.state is ends


async def test_an_authorisation_confirmed_by_somebody_else_still_lapses(make_world: Make) -> None:
    """`sync` records the confirmation's success without its lease; the worker then finds the row of an ended operation."""
    world = make_world(InstantGateway("alpha", SHORT_LIVED))
    pay = await world.instance()
    asked = await pay.authorize(USD100, "tok_3ds", idempotency_key="k")
    world.gateways[0].faults.append(reply_lost)
    await pay.complete_action(asked.payment_id, idempotency_key="c", timeout_s=0.05)
    entry = world.gateways[0].books[0]

    async def parent_knows(call: GatewayCall) -> Lookup:
        return Found(outcome=Approved(reference=entry.reference, amount_minor=entry.amount_minor))

    world.gateways[0].look_up = parent_knows  # type: ignore[method-assign]
    assert (await pay.sync(asked.payment_id)).payment.state is PaymentState.AUTHORIZED
    await pay.recover()
    await world.clock.sleep(60)
    await pay.recover()
    await world.clock.sleep(7200)
    await pay.recover()
    assert (await pay.get(asked.payment_id)).state is PaymentState.EXPIRED


async def test_a_replay_is_answered_though_the_gateway_is_not_registered_any_more(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha", KEYED), InstantGateway("beta", KEYED))
    pay = await world.instance()
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k", gateway="alpha")
    refunded = await pay.refund(paid.payment_id, Money(10_00, "USD"), idempotency_key="r")
    await world.kill(pay)
    world.gateways.pop(0)
    other = await world.instance()
    again = await other.refund(paid.payment_id, Money(10_00, "USD"), idempotency_key="r")
    assert again.to_json() == refunded.to_json()


async def test_no_row_is_left_once_everything_is_over(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha", SHORT_LIVED))
    pay = await world.instance()
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="k")
    asked = await pay.charge(USD100, "tok_3ds", idempotency_key="k2")
    row = await pay.store.find_in_flight(held.payment.operations[0].id)
    assert row is not None and row.purpose is Purpose.EXPIRY
    for _ in range(24):
        await world.clock.sleep(3600)
        await pay.recover()
    assert not await pay.store.lease_due(world.clock.now_us() + int(DAY_S * 1e9), "t", 0, 64)
    states = {one.id: one.state for one in await pay.list()}
    assert states == {held.payment_id: PaymentState.EXPIRED, asked.payment_id: PaymentState.EXPIRED}


@pytest.mark.parametrize("kind", [OperationKind.CAPTURE, OperationKind.VOID])
async def test_one_effect_that_a_look_up_reports_for_two_operations_is_booked_once(
    make_world: Make, kind: OperationKind
) -> None:
    """A PSP that knows one capture per payment says "captured" of the try that never arrived, too."""
    world = make_world(InstantGateway("alpha", KEYED))
    pay = await world.instance()
    gateway = world.gateways[0]
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="k")
    gateway.faults.extend([refused_connection] * 3)
    ask = pay.capture if kind is OperationKind.CAPTURE else pay.void
    first = await ask(held.payment_id, idempotency_key="1")
    second = await ask(held.payment_id, idempotency_key="2")
    assert first.is_failure() and second.is_success()
    assert first.operation is not None and second.operation is not None and second.operation.reference
    draft = pay._orchestrator.journal.draft(await pay.get(held.payment_id))
    told = Approved(reference=second.operation.reference, amount_minor=100_00)
    assert not draft.apply(
        cmd.RecordOutcome(operation_id=first.operation.id, outcome=told, evidence=Evidence.LOOKUP)
    )


async def test_a_reversal_that_was_not_sent_is_tried_again_before_a_person_must_do_it(
    make_world: Make,
) -> None:
    world = make_world(InstantGateway("alpha", KEYED), InstantGateway("beta", KEYED))
    alpha = world.gateways[0]
    pay = await world.instance()

    async def liar(inner: InstantGateway, call: GatewayCall) -> Outcome:
        inner.execute(call)
        return Declined(category=DeclineCategory.SOFT, code="insufficient_funds")

    alpha.faults.append(liar)
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    assert paid.is_success() and world.taken_in_all_minor() == 200_00
    alpha.faults.extend([refused_connection] * 5)
    await pay.sync(paid.payment_id)
    assert world.taken_in_all_minor() == 200_00
    await world.recover(pay)
    payment = (await world.check_books(pay))[0]
    assert payment.state is PaymentState.SUCCEEDED and world.taken_in_all_minor() == 100_00
