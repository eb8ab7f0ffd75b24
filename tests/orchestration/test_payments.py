"""The main job without trouble: charge, authorize, capture, void, refund, 3DS, and who may ask for what."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from aegispay.domain import errors
from aegispay.domain.events import OperationApproved, OperationKind
from aegispay.domain.methods import Card, Token
from aegispay.domain.money import Money
from aegispay.domain.outcomes import DeclineCategory, Declined, Evidence
from aegispay.domain.states import PaymentState
from aegispay.gateways.capabilities import Capabilities
from aegispay.gateways.gateway import Found, GatewayCall, Lookup, LookupFailed, NotFound
from aegispay.orchestration.results import payment_result
from aegispay.testing.instant_gateway import InstantGateway, hang
from tests.orchestration.harness import World

USD100 = Money(100_00, "USD")
Make = Callable[..., World]


async def test_a_charge_succeeds_and_is_in_the_books_once(make_world: Make) -> None:
    world = make_world()
    pay = await world.instance()
    result = await pay.charge(USD100, "tok_ok", idempotency_key="order-1")
    assert result.is_success() and not result.is_failure() and not result.is_pending()
    assert result.payment.state is PaymentState.SUCCEEDED and result.payment.completed
    assert world.taken_minor(result.payment_id) == 100_00
    assert [event.type for event in await pay.event_store.events(result.payment_id)] == [
        "payment_initiated",
        "operation_started",
        "operation_approved",
    ]
    await world.check_books(pay)


async def test_the_same_key_and_request_give_the_same_bytes_and_one_charge_also_after_a_restart(
    make_world: Make,
) -> None:
    world = make_world()
    pay = await world.instance()
    first = await pay.charge(USD100, "tok_ok", idempotency_key="order-1", metadata={"b": "1", "a": "2"})
    again = await pay.charge(USD100, "tok_ok", idempotency_key="order-1", metadata={"a": "2", "b": "1"})
    await pay.refund(first.payment_id, Money(1, "USD"), idempotency_key="r")
    await pay.stop()
    other = await world.instance()
    later = await other.charge(USD100, "tok_ok", idempotency_key="order-1", metadata={"b": "1", "a": "2"})
    assert first.to_json() == again.to_json() == later.to_json()
    assert sum(gateway.count(OperationKind.CHARGE) for gateway in world.gateways) == 1


@pytest.mark.parametrize("token", ["tok_hard", "tok_soft"])
async def test_a_decline_is_replayed_as_the_same_decline(make_world: Make, token: str) -> None:
    world = make_world()
    pay = await world.instance()
    first = await pay.charge(USD100, token, idempotency_key="order-1")
    assert first.is_failure() and first.error is not None
    await pay.stop()
    other = await world.instance()
    assert (await other.charge(USD100, token, idempotency_key="order-1")).to_json() == first.to_json()
    assert world.taken_in_all_minor() == 0


async def test_the_same_key_with_another_request_is_refused_and_nothing_happens(make_world: Make) -> None:
    world = make_world()
    pay = await world.instance()
    await pay.charge(USD100, "tok_ok", idempotency_key="order-1")
    for other in (pay, await world.instance()):
        for amount, token in (
            (Money(200_00, "USD"), "tok_ok"),
            (Money(100_00, "EUR"), "tok_ok"),
            (USD100, "tok_other"),
        ):
            with pytest.raises(errors.IdempotencyConflict):
                await other.charge(amount, token, idempotency_key="order-1")
        with pytest.raises(errors.IdempotencyConflict):
            await other.charge(USD100, "tok_ok", idempotency_key="order-1", customer_id="c")
    with pytest.raises(errors.IdempotencyConflict):
        await pay.charge(USD100, "tok_ok", idempotency_key="order-1", gateway="beta")
    assert world.taken_in_all_minor() == 100_00


async def test_of_two_different_concurrent_requests_under_one_key_one_is_refused(make_world: Make) -> None:
    world = make_world()
    for pair in ([await world.instance()] * 2, [await world.instance(), await world.instance()]):
        key = f"order-{len(await pair[0].list())}"
        answers = await asyncio.gather(
            pair[0].charge(USD100, "tok_ok", idempotency_key=key),
            pair[1].charge(Money(1, "USD"), "tok_ok", idempotency_key=key),
            return_exceptions=True,
        )
        assert sorted(isinstance(answer, errors.IdempotencyConflict) for answer in answers) == [False, True]


async def test_keys_belong_to_their_merchant(make_world: Make) -> None:
    world = make_world()
    pay = await world.instance()
    one = await pay.charge(USD100, "tok_ok", idempotency_key="k", merchant_id="m1")
    two = await pay.charge(USD100, "tok_ok", idempotency_key="k", merchant_id="m2")
    assert one.payment_id != two.payment_id
    with pytest.raises(errors.PaymentNotFound):
        await pay.get(one.payment_id, merchant_id="m2")
    with pytest.raises(errors.PaymentNotFound):
        await pay.refund(one.payment_id, idempotency_key="r", merchant_id="m2")
    assert [p.id for p in await pay.list(merchant_id="m1")] == [one.payment_id]


async def test_fifty_concurrent_clicks_are_one_charge_and_fifty_equal_answers(make_world: Make) -> None:
    world = make_world()
    instances = [await world.instance() for _ in range(2)]
    results = await asyncio.gather(
        *(instances[i % 2].charge(USD100, "tok_ok", idempotency_key="order-1") for i in range(50))
    )
    assert len({result.to_json() for result in results}) == 1
    assert world.taken_in_all_minor() == 100_00
    assert sum(len(gateway.calls) for gateway in world.gateways) == 1


async def test_a_caller_that_waits_too_long_is_told_in_progress_with_the_payment_id(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha"))
    pay = await world.instance()
    world.gateways[0].faults.append(hang)
    result = await pay.charge(USD100, "tok_ok", idempotency_key="order-1", timeout_s=0.5)
    assert result.is_pending() and not result.is_failure()
    assert result.error is not None and result.error.code == "in_progress"
    assert result.payment_id.startswith("pay_")
    done = await pay.charge(USD100, "tok_ok", idempotency_key="order-1", timeout_s=20)
    assert done.is_success() and done.payment_id == result.payment_id
    assert world.taken_in_all_minor() == 100_00


async def test_a_cancelled_caller_leaves_nothing_in_limbo(make_world: Make) -> None:
    world = make_world()
    pay = await world.instance()
    for moment in range(12):
        task = asyncio.ensure_future(pay.charge(USD100, "tok_ok", idempotency_key=f"order-{moment}"))
        for _ in range(moment):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
    await asyncio.sleep(30)
    payments = await world.check_books(pay)
    assert all(payment.state is PaymentState.SUCCEEDED for payment in payments)
    assert await pay.store.count_in_flight() == 0


async def test_authorize_two_partial_captures_and_a_void_of_the_rest(make_world: Make) -> None:
    world = make_world()
    pay = await world.instance()
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="order-1")
    assert held.payment.state is PaymentState.AUTHORIZED
    await pay.capture(held.payment_id, Money(30_00, "USD"), final=False, idempotency_key="c1")
    second = await pay.capture(held.payment_id, Money(20_00, "USD"), final=False, idempotency_key="c2")
    assert second.payment.state is PaymentState.AUTHORIZED and second.payment.captured_minor == 50_00
    rest = await pay.void(held.payment_id)
    assert rest.is_success()
    payment = await pay.get(held.payment_id)
    assert (payment.state, payment.captured_minor, payment.released_minor) == (
        PaymentState.SUCCEEDED,
        50_00,
        50_00,
    )
    assert (await pay.void(held.payment_id)).to_json() == rest.to_json()
    await world.check_books(pay)


async def test_a_final_capture_releases_the_rest(make_world: Make) -> None:
    pay = await make_world().instance()
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="order-1")
    taken = await pay.capture(held.payment_id, Money(30_00, "USD"), idempotency_key="c1")
    assert taken.payment.state is PaymentState.SUCCEEDED and taken.payment.released_minor == 70_00
    with pytest.raises(errors.InvalidState):
        await pay.capture(held.payment_id, idempotency_key="c2")


async def test_a_void_before_capture_cancels(make_world: Make) -> None:
    world = make_world()
    pay = await world.instance()
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="order-1")
    assert (await pay.void(held.payment_id, idempotency_key="v")).payment.state is PaymentState.CANCELED
    with pytest.raises(errors.InvalidState):
        await pay.capture(held.payment_id, idempotency_key="c")
    await world.check_books(pay)


async def test_partial_refunds_add_up_and_never_exceed_the_capture(make_world: Make) -> None:
    world = make_world()
    pay = await world.instance()
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="order-1")
    one = await pay.refund(paid.payment_id, Money(60_00, "USD"), idempotency_key="r1")
    assert one.payment.state is PaymentState.PARTIALLY_REFUNDED
    with pytest.raises(errors.AmountTooLarge, match=r"40\.00 USD is left"):
        await pay.refund(paid.payment_id, Money(40_01, "USD"), idempotency_key="r2")
    assert (await pay.refund(paid.payment_id, idempotency_key="r3")).payment.state is PaymentState.REFUNDED
    assert (
        await pay.refund(paid.payment_id, Money(60_00, "USD"), idempotency_key="r1")
    ).to_json() == one.to_json()
    await world.check_books(pay)


async def test_of_twenty_concurrent_refunds_of_60_on_100_exactly_one_happens(make_world: Make) -> None:
    world = make_world()
    instances = [await world.instance() for _ in range(2)]
    paid = await instances[0].charge(USD100, "tok_ok", idempotency_key="order-1")
    answers = await asyncio.gather(
        *(
            instances[i % 2].refund(paid.payment_id, Money(60_00, "USD"), idempotency_key=f"r{i}")
            for i in range(20)
        ),
        return_exceptions=True,
    )
    assert sum(not isinstance(answer, BaseException) for answer in answers) == 1
    assert all(
        isinstance(answer, errors.AmountTooLarge) for answer in answers if isinstance(answer, BaseException)
    )
    assert world.taken_minor(paid.payment_id) == 40_00


async def test_a_payer_action_is_handed_out_and_completed(make_world: Make) -> None:
    world = make_world()
    pay = await world.instance()
    asked = await pay.charge(USD100, "tok_3ds", idempotency_key="order-1")
    assert asked.requires_action() and asked.next_action is not None and asked.next_action.url
    assert (await pay.charge(USD100, "tok_3ds", idempotency_key="order-1")).requires_action()
    done, also = await asyncio.gather(
        pay.complete_action(asked.payment_id), pay.complete_action(asked.payment_id)
    )
    assert done.is_success() and also.is_success()
    assert (await pay.complete_action(asked.payment_id)).is_success()
    assert (await pay.charge(USD100, "tok_3ds", idempotency_key="order-1")).is_success()
    assert world.taken_minor(asked.payment_id) == 100_00
    assert PaymentState.AUTHENTICATED in [
        (await pay.event_store.replay_events(asked.payment_id, until_version=v)).state
        for v in range(1, (await pay.get(asked.payment_id)).version + 1)
    ]
    await world.check_books(pay)


async def test_a_payer_action_can_be_canceled(make_world: Make) -> None:
    world = make_world()
    pay = await world.instance()
    asked = await pay.charge(USD100, "tok_3ds", idempotency_key="order-1")
    assert (await pay.cancel(asked.payment_id)).is_success()
    assert (await pay.get(asked.payment_id)).state is PaymentState.CANCELED
    with pytest.raises(errors.InvalidState):
        await pay.complete_action(asked.payment_id)
    assert (await pay.charge(USD100, "tok_3ds", idempotency_key="order-1")).is_failure()


async def test_a_payer_who_never_comes_back_lets_the_payment_expire(make_world: Make) -> None:
    world = make_world()
    pay = await world.instance()
    asked = await pay.charge(USD100, "tok_3ds", idempotency_key="order-1")
    await world.clock.sleep(pay.settings.action_timeout_s + 1)
    await pay.recover()
    assert (await pay.get(asked.payment_id)).state is PaymentState.EXPIRED
    assert world.taken_in_all_minor() == 0


async def test_an_authorisation_that_lapses_is_released_and_expired(make_world: Make) -> None:
    caps = Capabilities(stable_key=True, stable_key_ttl_s=1e6, authorization_ttl_s=7 * 86_400.0)
    world = make_world(InstantGateway("alpha", caps))
    pay = await world.instance()
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="order-1")
    kept = await pay.authorize(USD100, "tok_ok", idempotency_key="order-2")
    await pay.capture(kept.payment_id, idempotency_key="c")
    await world.clock.sleep(7 * 86_400 + 1)
    await pay.recover()
    assert (await pay.get(held.payment_id)).state is PaymentState.EXPIRED
    assert (await pay.get(kept.payment_id)).state is PaymentState.SUCCEEDED
    await world.check_books(pay)


class NoVoid(InstantGateway):
    """A PSP without a void. `says` is what its look-up tells of an authorisation, where it is another than held."""

    def __init__(self) -> None:
        caps = Capabilities(stable_key=True, stable_key_ttl_s=1e6, authorization_ttl_s=100.0, void=False)
        super().__init__("alpha", caps)
        self.says: Lookup | None = None

    async def look_up(self, call: GatewayCall) -> Lookup:
        return self.says or await super().look_up(call)


def released(code: str) -> Found:
    return Found(outcome=Declined(category=DeclineCategory.HARD, code=code))


@pytest.mark.parametrize("code", ["canceled", "authorization_expired"])
async def test_a_lapsed_authorisation_without_void_is_expired_once_the_psp_says_that_it_let_go(
    make_world: Make, code: str
) -> None:
    gateway = NoVoid()
    world = make_world(gateway)
    pay = await world.instance()
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="order-1")
    await world.clock.sleep(101)
    await pay.recover()
    assert (await pay.get(held.payment_id)).state is PaymentState.AUTHORIZED  # It is still held there.
    gateway.says = released(code)
    await world.clock.sleep(3600)
    await pay.recover()
    payment = await pay.get(held.payment_id)
    assert payment.state is PaymentState.EXPIRED
    last = (await pay.event_store.events(held.payment_id))[-1].data
    assert isinstance(last, OperationApproved) and last.evidence is Evidence.LOOKUP
    assert len(gateway.calls) == 1  # No void was sent.
    assert not await pay.store.count_in_flight()


@pytest.mark.parametrize(
    "says", [None, NotFound(), LookupFailed(reason="timeout"), released("card_declined")], ids=repr
)
async def test_a_lapsed_authorisation_without_void_and_without_evidence_goes_to_a_person(
    make_world: Make, says: Lookup | None
) -> None:
    gateway = NoVoid()
    world = make_world(gateway)
    pay = await world.instance()
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="order-1")
    gateway.says = says
    await world.clock.sleep(101)
    await pay.recover()
    assert (await pay.get(held.payment_id)).state is PaymentState.AUTHORIZED
    await world.clock.sleep(pay.settings.review_after_s + 3600)
    await pay.recover()
    payment = await pay.get(held.payment_id)
    assert payment.state is PaymentState.NEEDS_REVIEW
    assert "no void" in (payment.review or "")
    assert len(gateway.calls) == 1


async def test_time_travel_shows_the_payment_at_a_version_and_at_a_time(make_world: Make) -> None:
    import datetime

    world = make_world()
    pay = await world.instance()
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="order-1")
    middle = datetime.datetime.fromtimestamp((world.clock.now_us() + 500_000) / 1e6, datetime.UTC)
    await world.clock.sleep(1)
    await pay.refund(paid.payment_id, idempotency_key="r")
    assert (await pay.event_store.replay_events(paid.payment_id)).state is PaymentState.REFUNDED
    assert (
        await pay.event_store.replay_events(paid.payment_id, until=middle)
    ).state is PaymentState.SUCCEEDED
    assert (
        await pay.event_store.replay_events(paid.payment_id, until_version=2)
    ).state is PaymentState.PROCESSING
    with pytest.raises(errors.InvalidRequest):
        await pay.event_store.replay_events(paid.payment_id, until=datetime.datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(errors.PaymentNotFound):
        await pay.event_store.replay_events("pay_" + "0" * 32)


async def test_what_a_gateway_cannot_do_is_refused_before_anything_is_sent(make_world: Make) -> None:
    caps = Capabilities(
        stable_key=True, stable_key_ttl_s=60, void=False, partial_refund=False, partial_capture=False
    )
    world = make_world(InstantGateway("alpha", caps))
    pay = await world.instance()
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="order-1")
    with pytest.raises(errors.UnsupportedOperation):
        await pay.capture(held.payment_id, Money(1, "USD"), idempotency_key="c1")
    with pytest.raises(errors.UnsupportedOperation):
        await pay.void(held.payment_id)
    assert (await pay.get(held.payment_id)).version == 3
    await pay.capture(held.payment_id, idempotency_key="c3")
    with pytest.raises(errors.UnsupportedOperation):
        await pay.refund(held.payment_id, Money(1, "USD"), idempotency_key="r")
    with pytest.raises(errors.UnsupportedOperation):
        await pay.charge(USD100, Card("4242424242424242", 12, 2030), idempotency_key="card")
    assert len(world.gateways[0].calls) == 2


async def test_a_gateway_that_captures_once_is_not_asked_to_capture_twice(make_world: Make) -> None:
    caps = Capabilities(stable_key=True, stable_key_ttl_s=60)
    world = make_world(InstantGateway("alpha", caps))
    pay = await world.instance()
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="order-1")
    with pytest.raises(errors.UnsupportedOperation, match="captures once"):
        await pay.capture(held.payment_id, Money(1, "USD"), final=False, idempotency_key="c")
    assert len(world.gateways[0].calls) == 1


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"amount": Money(0, "USD")}, errors.InvalidAmount),
        ({"amount": Money(-5, "USD")}, errors.InvalidAmount),
        ({"amount": 99.99}, errors.InvalidAmount),
        ({"idempotency_key": ""}, errors.InvalidIdempotencyKey),
        ({"idempotency_key": "k" * 256}, errors.InvalidIdempotencyKey),
        ({"idempotency_key": "4242424242424242"}, errors.InvalidIdempotencyKey),
        ({"idempotency_key": "a\nb"}, errors.InvalidIdempotencyKey),
        ({"idempotency_key": 7}, errors.InvalidIdempotencyKey),
        ({"gateway": "nobody"}, errors.UnknownGateway),
        ({"method": "4242424242424242"}, errors.InvalidPaymentMethod),
        ({"method": ""}, errors.InvalidPaymentMethod),
        ({"method": None}, errors.InvalidPaymentMethod),
        ({"method": Token("x" * 256) if False else "x" * 256}, errors.InvalidPaymentMethod),
        ({"description": "4242 4242 4242 4242"}, errors.InvalidRequest),
        ({"description": "d" * 501}, errors.InvalidRequest),
        ({"description": "a\0b"}, errors.InvalidRequest),
        ({"metadata": {"card": "4242424242424242"}}, errors.InvalidRequest),
        ({"metadata": {str(i): "x" for i in range(41)}}, errors.InvalidRequest),
        ({"metadata": {"k": 5}}, errors.InvalidRequest),
        ({"metadata": {"": "x"}}, errors.InvalidRequest),
        ({"metadata": "text"}, errors.InvalidRequest),
        ({"return_url": "javascript:alert(1)"}, errors.InvalidRequest),
        ({"merchant_id": ""}, errors.InvalidRequest),
        ({"customer_id": 5}, errors.InvalidRequest),
        ({"timeout_s": 0}, errors.InvalidRequest),
        ({"timeout_s": float("nan")}, errors.InvalidRequest),
    ],
)
async def test_a_wrong_request_is_refused_with_nothing_written_and_nothing_charged(
    make_world: Make, changes: dict[str, object], error: type[Exception]
) -> None:
    world = make_world()
    pay = await world.instance()
    arguments: dict[str, object] = {
        "amount": USD100,
        "method": "tok_ok",
        "idempotency_key": "order-1",
        **changes,
    }
    with pytest.raises(error) as caught:
        await pay.charge(**arguments)  # type: ignore[arg-type]
    assert "4242" not in str(caught.value) and "\n" not in str(caught.value)
    assert await pay.list() == [] and world.taken_in_all_minor() == 0


async def test_an_expired_card_is_refused(make_world: Make) -> None:
    pay = await make_world().instance()
    with pytest.raises(errors.InvalidPaymentMethod, match="expired in 01/2024"):
        await pay.charge(USD100, Card("4242424242424242", 1, 2024), idempotency_key="k")


async def test_an_amount_in_another_currency_than_the_payments_is_refused(make_world: Make) -> None:
    pay = await make_world().instance()
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="k")
    with pytest.raises(errors.CurrencyMismatch):
        await pay.capture(held.payment_id, Money(1, "EUR"), idempotency_key="c")


async def test_a_payment_that_does_not_exist_is_not_found(make_world: Make) -> None:
    pay = await make_world().instance()
    for wrong in ("pay_" + "0" * 32, "nonsense", "pay_zz"):
        with pytest.raises(errors.PaymentNotFound):
            await pay.get(wrong)
        with pytest.raises(errors.PaymentNotFound):
            await pay.refund(wrong, idempotency_key="k")


async def test_before_start_and_after_stop_nothing_is_taken(make_world: Make) -> None:
    world = make_world()
    pay = await world.instance()
    await pay.stop()
    await pay.stop()
    for work in (pay.charge(USD100, "tok_ok", idempotency_key="k"), pay.recover()):
        with pytest.raises(errors.NotRunning):
            await work
    await pay.start()
    assert (await pay.charge(USD100, "tok_ok", idempotency_key="k")).is_success()


async def test_result_of_a_payment_is_a_function_of_its_state(make_world: Make) -> None:
    pay = await make_world().instance()
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    assert payment_result(await pay.get(paid.payment_id)).is_success()
    assert paid.value.id == paid.payment_id and paid.error is None
