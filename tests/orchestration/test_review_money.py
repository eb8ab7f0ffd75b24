"""Found by reading each await and asking: what has the customer paid, and who finds out?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from aegispay.app import AegisPay
from aegispay.domain import errors
from aegispay.domain.events import OperationKind
from aegispay.domain.money import Money
from aegispay.domain.outcomes import Approved, DeclineCategory, Declined, InDoubt, NotSent, Outcome, Pending
from aegispay.domain.states import PaymentState
from aegispay.gateways.capabilities import Capabilities
from aegispay.gateways.gateway import Found, GatewayCall, Lookup, LookupFailed
from aegispay.testing.instant_gateway import InstantGateway, reply_lost, request_lost
from tests.orchestration.harness import SETTINGS, World
from tests.orchestration.test_doubt import KEYED, LOOKUP_ONLY

USD100 = Money(100_00, "USD")
Make = Callable[..., World]


def failing(pay: AegisPay, error: Callable[[], Exception], at: int) -> Callable[[], None]:
    """The store's commits raise from the n-th on, without effect; returns what mends it."""
    real = pay.store.commit
    count = 0

    async def commit(write: Any) -> None:
        nonlocal count
        count += 1
        if count >= at:
            raise error()
        await real(write)

    pay.store.commit = commit  # type: ignore[method-assign]

    def mend() -> None:
        pay.store.commit = real  # type: ignore[method-assign]

    return mend


AFTER_THE_CHARGE = [
    lambda: errors.Overloaded("nothing was started for this one."),
    lambda: errors.NotRunning("the store is closed."),
    lambda: errors.StoreFull(),
    lambda: errors.StoreUnavailable(),
    lambda: errors.VersionConflict(),
    lambda: errors.IllegalTransition(),
    lambda: RuntimeError("a mistake of ours"),
]


@pytest.mark.parametrize("error", AFTER_THE_CHARGE, ids=lambda make: type(make()).__name__)
async def test_a_charge_that_cannot_be_recorded_is_pending_with_its_id_and_recovery_records_it(
    make_world: Make, error: Callable[[], Exception]
) -> None:
    world = make_world(InstantGateway("alpha", KEYED))
    pay = await world.instance()
    mend = failing(pay, error, at=2)
    result = await pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=20)
    assert result.is_pending() and world.taken_minor(result.payment_id) == 100_00
    mend()
    await world.recover(pay)
    assert (await world.check_books(pay))[0].state is PaymentState.SUCCEEDED
    again = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    assert again.is_success() and world.taken_in_all_minor() == 100_00


@pytest.mark.parametrize("error", AFTER_THE_CHARGE, ids=lambda make: type(make()).__name__)
async def test_a_refund_that_cannot_be_recorded_is_pending_and_recovery_records_it(
    make_world: Make, error: Callable[[], Exception]
) -> None:
    world = make_world(InstantGateway("alpha", KEYED))
    pay = await world.instance()
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    mend = failing(pay, error, at=2)
    result = await pay.refund(paid.payment_id, idempotency_key="r", timeout_s=20)
    assert result.is_pending()
    assert result.operation is not None and result.operation.kind is OperationKind.REFUND
    mend()
    await world.recover(pay)
    assert (await world.check_books(pay))[0].state is PaymentState.REFUNDED


async def test_a_declined_confirmation_is_a_failure_not_pending(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha", KEYED))
    pay = await world.instance()
    asked = await pay.charge(USD100, "tok_3ds", idempotency_key="k")

    async def no(gateway: InstantGateway, call: GatewayCall) -> Outcome:
        return Declined(category=DeclineCategory.AUTHENTICATION_REQUIRED, code="authentication_failed")

    world.gateways[0].faults.append(no)
    done = await pay.complete_action(asked.payment_id, idempotency_key="c")
    assert done.is_failure() and done.error is not None and done.error.code == "authentication_failed"
    assert (await pay.complete_action(asked.payment_id, idempotency_key="c")).to_json() == done.to_json()
    await world.kill(pay)
    other = await world.instance()
    assert (await other.complete_action(asked.payment_id, idempotency_key="c")).to_json() == done.to_json()


async def test_a_refusal_by_the_adapter_of_a_resend_says_nothing_of_the_first_send(make_world: Make) -> None:
    """The first send charged; a new configuration makes the adapter refuse the call before it is sent."""
    world = make_world(InstantGateway("alpha", replace(KEYED, lookup_by_reference=False)))
    pay = await world.instance()
    world.gateways[0].faults.append(reply_lost)

    async def refused(gateway: InstantGateway, call: GatewayCall) -> Outcome:
        raise errors.UnsupportedOperation("not with this configuration.")

    async def silent(call: GatewayCall) -> Lookup:
        return LookupFailed(reason="not_supported")

    world.gateways[0].look_up = silent  # type: ignore[method-assign]
    world.gateways[0].faults.extend([refused] * 3)
    result = await pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=4)
    assert not result.is_failure()
    await world.recover(pay)
    assert (await world.check_books(pay))[0].state is PaymentState.SUCCEEDED


async def test_the_recovery_worker_survives_whatever_a_pass_raises(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha", KEYED))
    pay = await world.instance(settings=replace(SETTINGS, recovery=True))
    real = pay.store.lease_due
    raised = 0

    async def broken(*args: Any) -> Any:
        nonlocal raised
        raised += 1
        if raised < 3:
            raise ValueError("a row of a newer version")
        return await real(*args)

    pay.store.lease_due = broken  # type: ignore[method-assign]
    world.gateways[0].faults.append(reply_lost)
    await pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=0.05)
    await world.clock.sleep(120)
    assert (await world.check_books(pay))[0].state is PaymentState.SUCCEEDED


async def test_a_caller_at_shutdown_is_told_in_progress_with_the_payment_id(make_world: Make) -> None:
    """Not `NotRunning`, which would say that nothing was done."""
    world = make_world(InstantGateway("alpha", KEYED))
    pay = await world.instance()

    async def slow(gateway: InstantGateway, call: GatewayCall) -> Outcome:
        gateway.execute(call)
        await asyncio.sleep(1.5)
        return InDoubt(reason="timeout")

    world.gateways[0].faults.append(slow)
    task = asyncio.ensure_future(pay.charge(USD100, "tok_ok", idempotency_key="k"))
    await world.clock.sleep(0.5)
    real = pay.store.load

    async def closed(payment_id: str) -> Any:
        raise errors.NotRunning("the store is not open.")

    pay.store.load = closed  # type: ignore[method-assign]
    await pay.stop(grace_s=0.001)
    pay.store.load = real  # type: ignore[method-assign]
    with pytest.raises(errors.AegisPayError) as caught:
        await task
    assert caught.value.code == "in_progress" and caught.value.effect == "unknown"
    assert caught.value.payment_id == world.gateways[0].books[0].payment_id


@pytest.mark.parametrize("later", [errors.Overloaded, errors.NotRunning, errors.VersionConflict])
async def test_a_write_of_unknown_fate_is_never_said_to_have_had_no_effect(
    make_world: Make, later: type[errors.AegisPayError]
) -> None:
    """The intent was applied and the answer lost; then the store refuses to say more."""
    world = make_world(InstantGateway("alpha", KEYED))
    pay = await world.instance()
    real, tries = pay.store.commit, 0

    async def commit(write: Any) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            await real(write)
            raise errors.StoreUnavailable
        raise later

    async def unreadable(*args: Any, **kwargs: Any) -> Any:
        raise errors.StoreUnavailable

    pay.store.commit = commit  # type: ignore[method-assign]
    read, pay.store.load_events = pay.store.load_events, unreadable  # type: ignore[method-assign]
    with pytest.raises(errors.AegisPayError) as caught:
        await pay.charge(USD100, "tok_ok", idempotency_key="k")
    assert caught.value.effect == "unknown" and caught.value.payment_id
    pay.store.commit, pay.store.load_events = real, read  # type: ignore[method-assign]
    await world.recover(pay)
    assert (await world.check_books(pay))[0].state is PaymentState.SUCCEEDED


async def test_the_quiet_period_counts_from_the_last_send_of_the_caller_itself(make_world: Make) -> None:
    """Sent 25 s after the intent, because the first try was provably not sent."""
    caps = Capabilities(lookup_by_reference=True, lookup_quiet_s=60.0)
    world = make_world(InstantGateway("alpha", caps))
    pay = await world.instance()

    async def busy(gateway: InstantGateway, call: GatewayCall) -> Outcome:
        return NotSent(reason="rate_limited", retry_after_s=25.0)

    world.gateways[0].faults.extend([busy, request_lost])
    await pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=27)
    for _ in range(57):
        await world.clock.sleep(1)
        await pay.recover()
    assert (await pay.list())[0].state is PaymentState.IN_DOUBT, "believed before the quiet period had passed"
    await world.recover(pay, for_s=600)
    assert (await world.check_books(pay))[0].state is PaymentState.FAILED


@pytest.mark.parametrize("unclear", [LookupFailed(reason="down"), Found(outcome=Pending())])
async def test_the_watch_goes_on_until_a_look_up_says_something(make_world: Make, unclear: Lookup) -> None:
    world = make_world(InstantGateway("alpha", LOOKUP_ONLY))
    pay = await world.instance()
    gateway = world.gateways[0]
    calls: list[GatewayCall] = []

    async def lost(inner: InstantGateway, call: GatewayCall) -> Outcome:
        calls.append(call)
        return InDoubt(reason="timeout")

    gateway.faults.append(lost)
    await pay.charge(USD100, "tok_ok", idempotency_key="k")
    await world.recover(pay)
    assert (await pay.list())[0].state is PaymentState.FAILED
    gateway.execute(calls[0])
    look_up = gateway.look_up

    async def no_word(call: GatewayCall) -> Lookup:
        return unclear

    gateway.look_up = no_word  # type: ignore[method-assign]
    await world.clock.sleep(SETTINGS.watch_after_s + 1)
    await pay.recover()
    gateway.look_up = look_up  # type: ignore[method-assign]
    for _ in range(48):
        await world.clock.sleep(3600)
        await pay.recover()
    assert world.taken_in_all_minor() == 0, "charged, and nobody looked again"
    await world.check_books(pay)


async def test_what_was_answered_stays_answered_whatever_a_hook_says_now(make_world: Make) -> None:
    from aegispay.orchestration.hooks import Hooks

    world = make_world()
    pay = await world.instance()
    first = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    await world.kill(pay)

    async def too_often(request: Any) -> None:
        raise errors.RefusedByHook("two charges within a minute.")

    other = await world.instance(hooks=Hooks().register(before_payment=too_often))
    assert (await other.charge(USD100, "tok_ok", idempotency_key="k")).to_json() == first.to_json()
    with pytest.raises(errors.RefusedByHook):
        await other.charge(USD100, "tok_ok", idempotency_key="k2")


async def test_two_workers_at_a_gateway_that_hangs_still_bring_a_payment_to_a_person(
    make_world: Make,
) -> None:
    """Resend and look-up together outlast a lease: without a renewal each worker loses its work to the other for ever."""
    world = make_world(InstantGateway("alpha", KEYED))
    settings = replace(SETTINGS, recovery=True, review_after_s=3600.0, resends_max=1_000_000)
    pay = await world.instance(settings=settings)
    await world.instance(settings=settings)

    async def never(*_: Any) -> Any:
        await asyncio.Event().wait()

    world.gateways[0].perform = never  # type: ignore[method-assign]
    world.gateways[0].look_up = never  # type: ignore[method-assign]
    await pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=1)
    await world.clock.sleep(5400)
    assert (await pay.list())[0].state is PaymentState.NEEDS_REVIEW


async def test_a_decline_is_recorded_even_if_the_next_gateway_breaks_while_it_takes_the_card(
    make_world: Make, caplog: pytest.LogCaptureFixture
) -> None:
    from aegispay.domain.methods import Card

    caps = replace(KEYED, tokenize=True)
    world = make_world(InstantGateway("alpha", caps), InstantGateway("beta", caps))
    alpha, beta = world.gateways
    pay = await world.instance()

    async def soft(card: Card, timeout_s: float) -> Any:
        from aegispay.gateways.gateway import Tokenized

        return Tokenized(token="tok_soft")

    async def broken(card: Card, timeout_s: float) -> Any:
        raise RuntimeError("4242424242424242")

    alpha.tokenize, beta.tokenize = soft, broken  # type: ignore[method-assign]
    card = Card(number="4242424242424242", expiry_month=12, expiry_year=2040)
    result = await pay.charge(USD100, card, idempotency_key="k")
    assert result.is_failure() and result.error is not None and result.error.code == "insufficient_funds"
    assert "4242424242424242" not in caplog.text


@pytest.mark.parametrize("at_us", [2**70, 1, -5, 1_790_000_000])
async def test_an_expiry_that_cannot_be_is_no_expiry(make_world: Make, at_us: int) -> None:
    """Seconds taken for microseconds, or nonsense: the authorisation is neither lost nor voided at once."""
    world = make_world(InstantGateway("alpha", KEYED))
    pay = await world.instance()

    async def odd(gateway: InstantGateway, call: GatewayCall) -> Outcome:
        outcome = gateway.execute(call)
        assert isinstance(outcome, Approved)
        return replace(outcome, expires_at_us=at_us)

    world.gateways[0].faults.append(odd)
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="k")
    assert held.is_success()
    await world.clock.sleep(60)
    await pay.recover()
    assert (await pay.get(held.payment_id)).state is PaymentState.AUTHORIZED
