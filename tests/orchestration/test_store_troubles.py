"""A store that refuses, loses answers or is away at random changes what a caller is told at worst, never what is paid."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from aegispay.app import AegisPay
from aegispay.domain import errors
from aegispay.domain.events import OperationKind
from aegispay.domain.money import Money
from aegispay.domain.outcomes import Approved, DeclineCategory, Declined, NextAction, RequiresAction
from aegispay.domain.states import PaymentState
from aegispay.gateways.gateway import Found, GatewayCall, Lookup
from aegispay.orchestration.results import InProgress, payment_result, pending
from aegispay.storage.store import Write
from aegispay.testing.instant_gateway import InstantGateway, reply_lost, request_lost
from tests.orchestration.harness import DAY_S, SETTINGS, World
from tests.orchestration.test_crash_everywhere import SCENARIOS
from tests.orchestration.test_doubt import CANCELABLE, KEYED, LOOKUP_ONLY

USD100 = Money(100_00, "USD")
Make = Callable[..., World]


def trouble(pay: AegisPay, seed: int, share: float = 0.3) -> list[str]:
    """Makes the store of this instance troublesome; returns what happens, as it happens."""
    source = random.Random(seed)
    commit = pay.store.commit
    happened: list[str] = []

    async def commit_or_not(write: Write) -> None:
        kind = (
            source.choice(["conflict", "away", "answer lost", "overloaded"])
            if source.random() < share
            else "fine"
        )
        happened.append(kind)
        if kind == "conflict" and write.expected_version:
            raise errors.VersionConflict(payment_id=write.payment.id)
        if kind == "away":
            raise errors.StoreUnavailable("away.")
        if kind == "overloaded" and write.guard:
            raise errors.Overloaded("busy.")
        await commit(write)
        if kind == "answer lost":
            raise errors.StoreUnavailable("the connection was lost.")

    pay.store.commit = commit_or_not  # type: ignore[method-assign]
    return happened


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("caps", [KEYED, LOOKUP_ONLY, CANCELABLE], ids=["keyed", "look-up", "cancel"])
async def test_random_troubles_of_the_store_charge_nobody_twice(
    make_world: Make, scenario: str, caps: Any
) -> None:
    client, faults = SCENARIOS[scenario]
    seen: set[str] = set()
    for seed in range(20):
        world = make_world(InstantGateway("alpha", caps), InstantGateway("beta", caps))
        world.gateways[0].faults.extend(faults)  # type: ignore[arg-type]
        pay = await world.instance()
        happened = trouble(pay, seed)
        for _ in range(3):
            try:
                await client(pay)
            except (errors.StoreError, errors.InvalidState, errors.Overloaded, InProgress):
                pass  # Retryable, or what an earlier try had left nothing to do for.
            await world.clock.sleep(30)
        seen |= set(happened)
        steady = await world.instance()
        await world.recover(steady, for_s=3 * DAY_S)
        payments = await world.check_books(steady)
        assert len(payments) <= 1
        for gateway in world.gateways:
            for kind in OperationKind:
                assert gateway.count(kind) <= 1, f"{kind} more than once with seed {seed}"
    assert {"conflict", "away", "answer lost"} <= seen


async def test_the_worker_goes_on_when_the_store_comes_back(
    make_world: Make, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(InstantGateway("alpha", KEYED))
    pay = await world.instance(settings=replace(SETTINGS, recovery=True))
    world.gateways[0].faults.append(reply_lost)
    await pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=0.05)
    lease_due, failures = pay.store.lease_due, iter([errors.StoreUnavailable("away."), RuntimeError("odd")])

    async def lease_or_not(*arguments: Any) -> Any:
        for error in failures:
            raise error
        return await lease_due(*arguments)

    pay.store.lease_due = lease_or_not  # type: ignore[method-assign]
    with caplog.at_level(logging.WARNING):
        await world.clock.sleep(60)
    assert "cannot reach the store" in caplog.text
    assert "broke off" in caplog.text
    assert (await world.check_books(pay))[0].state is PaymentState.SUCCEEDED


async def test_a_gateway_that_is_gone_from_the_registry_leaves_its_doubt_to_a_person(
    make_world: Make,
) -> None:
    world = make_world(InstantGateway("alpha", KEYED))
    pay = await world.instance()
    world.gateways[0].faults.append(reply_lost)
    await pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=0.05)
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="a")
    await pay.stop()
    gone = world.gateways
    world.gateways = [InstantGateway("beta")]
    other = await world.instance()
    await world.recover(other)
    assert (await other.list(states=["needs_review"]))[0].id != held.payment_id
    with pytest.raises(errors.UnknownGateway):
        await other.capture(held.payment_id, idempotency_key="c")
    assert (await other.sync(held.payment_id)).is_success()
    await other.stop()
    world.gateways = gone
    back = await world.instance()
    await world.recover(back, for_s=3 * DAY_S)
    assert {p.state for p in await world.check_books(back)} == {
        PaymentState.SUCCEEDED,
        PaymentState.AUTHORIZED,
    }


@pytest.mark.parametrize("method", ["look_up", "cancel_by_reference"])
async def test_an_adapter_that_raises_while_evidence_is_sought_teaches_nothing(
    make_world: Make, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(InstantGateway("alpha", CANCELABLE))
    pay = await world.instance()
    gateway = world.gateways[0]

    async def broken(call: GatewayCall) -> Any:
        raise RuntimeError("4242424242424242 must not be logged")

    working = getattr(gateway, method)
    setattr(gateway, method, broken)
    gateway.faults.append(request_lost)
    await pay.charge(USD100, "tok_ok", idempotency_key="k")
    await world.recover(pay, for_s=600)
    assert (await pay.list())[0].state is PaymentState.IN_DOUBT
    assert "RuntimeError" in caplog.text and "4242" not in caplog.text
    setattr(gateway, method, working)
    await world.recover(pay)
    assert (await world.check_books(pay))[0].state is PaymentState.FAILED


async def test_a_clock_that_is_set_back_never_reorders_a_stream(make_world: Make) -> None:
    world = make_world()
    pay = await world.instance()
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    world.clock.offset_us = -3_600_000_000
    await pay.refund(paid.payment_id, idempotency_key="r")
    times = [event.at_us for event in await pay.event_store.events(paid.payment_id)]
    assert times == sorted(times)
    await world.check_books(pay)


async def test_a_payer_may_be_asked_to_act_twice(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha", KEYED))
    pay = await world.instance()
    asked = await pay.charge(USD100, "tok_3ds", idempotency_key="k")

    async def once_more(gateway: InstantGateway, call: GatewayCall) -> RequiresAction:
        return RequiresAction(reference="ref_2", action=NextAction(url="https://bank.example/again"))

    world.gateways[0].faults.append(once_more)
    again = await pay.complete_action(asked.payment_id, {"redirectResult": "x" * 3000})
    assert again.requires_action() and again.next_action is not None
    assert again.next_action.url == "https://bank.example/again"
    assert (await pay.complete_action(asked.payment_id)).is_success()
    await world.check_books(pay)


async def test_a_payer_who_acted_without_coming_back_is_found_when_the_time_is_up(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha", KEYED))
    pay = await world.instance()
    asked = await pay.charge(USD100, "tok_3ds", idempotency_key="k")
    gateway = world.gateways[0]
    call = pay._orchestrator.engine.calls.call_for(asked.payment, asked.payment.operations[0])
    gateway._by_key.clear()
    outcome = gateway.execute(replace(call, token="tok_ok"))

    async def acted(call: GatewayCall) -> Lookup:
        return Found(outcome=outcome)

    gateway.look_up = acted  # type: ignore[method-assign]
    await world.clock.sleep(SETTINGS.action_timeout_s + 1)
    await pay.recover()
    assert (await world.check_books(pay))[0].state is PaymentState.SUCCEEDED


async def test_an_expired_authorisation_with_a_capture_under_way_waits_for_it(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha", replace(KEYED, authorization_ttl_s=100.0)))
    pay = await world.instance()
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="k")
    world.gateways[0].faults.extend([request_lost] * 3)
    capture = asyncio.ensure_future(pay.capture(held.payment_id, idempotency_key="c", timeout_s=1))
    await world.clock.sleep(101)
    await pay.recover()
    await asyncio.wait({capture})
    await world.recover(pay)
    (payment,) = await world.check_books(pay)
    assert payment.captured_minor in (0, 100_00)
    assert world.gateways[0].count(OperationKind.CAPTURE) * 100_00 == payment.captured_minor


@pytest.mark.parametrize(
    "data",
    [
        "text",
        {"a": 5},
        {5: "a"},
        {str(i): "x" for i in range(21)},
        {"a": "x" * 8193},
        {"a": "4242424242424242"},
    ],
)
async def test_what_a_payer_brings_back_is_checked(make_world: Make, data: Any) -> None:
    pay = await make_world(InstantGateway("alpha", KEYED)).instance()
    asked = await pay.charge(USD100, "tok_3ds", idempotency_key="k")
    with pytest.raises(errors.InvalidRequest):
        await pay.complete_action(asked.payment_id, data)
    assert (await pay.get(asked.payment_id)).state is PaymentState.REQUIRES_ACTION


async def test_results_compare_by_what_they_say(make_world: Make) -> None:
    pay = await make_world().instance()
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    same = payment_result(await pay.get(paid.payment_id))
    waiting = pending(paid.payment, None, "in_progress")
    assert paid == same and hash(paid) == hash(same)
    assert paid != waiting and paid != "text"
    assert waiting.error is not None and waiting.next_action is None
    assert paid.payment_id in repr(paid) and "100.00 USD" in repr(paid)
    refused = await pay.charge(USD100, "tok_hard", idempotency_key="k2")
    assert refused.to_dict()["error"]["code"] == "stolen_card"


async def test_a_hard_decline_of_a_follow_up_is_its_own_failure_and_the_payment_stands(
    make_world: Make,
) -> None:
    world = make_world()
    pay = await world.instance()
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")

    async def refuse(gateway: InstantGateway, call: GatewayCall) -> Declined:
        return Declined(category=DeclineCategory.INVALID, code="too_old", message="The charge is too old.")

    world.gateways[0].faults.append(refuse)
    refused = await pay.refund(paid.payment_id, idempotency_key="r")
    assert refused.is_failure() and refused.error is not None and refused.error.code == "too_old"
    assert (await pay.get(paid.payment_id)).state is PaymentState.SUCCEEDED
    assert (await pay.refund(paid.payment_id, idempotency_key="r")).to_json() == refused.to_json()
    assert (await pay.refund(paid.payment_id, idempotency_key="r2")).is_success()
    assert isinstance(Approved(reference="x", amount_minor=1), Approved)
