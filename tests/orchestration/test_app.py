"""The public face: gateways and hooks as users give them, raw cards, limits, listing, and what is said at the start."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from aegispay import GatewayRegistry, GatewayType, PaymentService, ProcessPayment
from aegispay.app import AegisPay
from aegispay.domain import errors
from aegispay.domain.events import Event
from aegispay.domain.methods import Card
from aegispay.domain.money import Currency, Money
from aegispay.domain.outcomes import DeclineCategory, Declined, NotSent
from aegispay.domain.payment import Payment
from aegispay.domain.states import PaymentState
from aegispay.gateways.capabilities import Capabilities
from aegispay.gateways.gateway import Tokenized
from aegispay.orchestration.hooks import Hooks
from aegispay.orchestration.requests import PaymentRequest
from aegispay.routing.router import OrderedRouter
from aegispay.storage.executors import InlineExecutor
from aegispay.storage.sqlite import SqliteStore
from aegispay.testing.instant_gateway import InstantGateway, hang
from tests.orchestration.harness import SETTINGS, World

USD100 = Money(100_00, "USD")
Make = Callable[..., World]
PAN = "4242424242424242"


class CardGateway(InstantGateway):
    """Turns raw cards into tokens; `answer` says how."""

    def __init__(self, name: str, answer: Tokenized | Declined | NotSent):
        super().__init__(name, Capabilities(stable_key=True, stable_key_ttl_s=1e6, tokenize=True))
        self.answer = answer

    async def tokenize(self, card: Card, timeout_s: float) -> Tokenized | Declined | NotSent:
        assert card.reveal_number() == PAN
        return self.answer


async def test_a_raw_card_becomes_a_token_before_anything_is_recorded(make_world: Make) -> None:
    world = make_world(
        CardGateway("alpha", NotSent(reason="dns")), CardGateway("beta", Tokenized(token="tok_1"))
    )
    pay = await world.instance()
    paid = await pay.charge(USD100, Card(PAN, 12, 2030, "123"), idempotency_key="k")
    assert paid.is_success() and paid.payment.gateway == "beta"
    assert paid.payment.method.last4 == "4242"
    stored = world.path.read_bytes() + world.path.with_name(world.path.name + "-wal").read_bytes()
    assert PAN.encode() not in stored and b"tok_1" in stored
    again = await pay.charge(USD100, Card(PAN, 12, 2030), idempotency_key="k")
    assert again.payment_id == paid.payment_id


async def test_a_card_that_the_gateway_refuses_is_an_invalid_method_with_nothing_written(
    make_world: Make,
) -> None:
    refused = Declined(category=DeclineCategory.HARD, code="incorrect_number")
    world = make_world(CardGateway("alpha", refused))
    pay = await world.instance()
    with pytest.raises(errors.AegisPayError) as caught:
        await pay.charge(USD100, Card(PAN, 12, 2030), idempotency_key="k")
    assert PAN not in str(caught.value)
    assert await pay.list() == []


async def test_a_hook_may_refuse_reorder_and_listen_and_its_mistakes_touch_nothing(
    make_world: Make, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []

    async def fraud_check(request: PaymentRequest) -> None:
        if request.amount.amount_minor > 500_00:
            raise errors.RefusedByHook("too much for a first order.")

    def reverse(request: PaymentRequest, names: tuple[str, ...]) -> tuple[str, ...]:
        return (*reversed(names), "nobody")

    def listen(payment: Payment, events: tuple[Event, ...]) -> None:
        seen.extend(event.type for event in events)
        raise RuntimeError("a listener's mistake")

    hooks = Hooks().register(before_payment=fraud_check, choose_gateways=reverse, after_commit=listen)
    world = make_world()
    pay = await world.instance(hooks=hooks)
    with pytest.raises(errors.RefusedByHook):
        await pay.charge(Money(600_00, "USD"), "tok_ok", idempotency_key="big")
    assert await pay.list() == []
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    assert paid.is_success() and paid.payment.gateway == "beta"
    assert seen == ["payment_initiated", "operation_started", "operation_approved"]
    assert "after_commit" in caplog.text
    for wrong in ({}, {"after_commit": "text"}):
        with pytest.raises(errors.ConfigError):
            Hooks().register(**wrong)  # type: ignore[arg-type]


async def test_a_hook_that_leaves_no_gateway_refuses_the_payment(make_world: Make) -> None:
    pay = await make_world().instance(hooks=Hooks().register(choose_gateways=lambda request, names: ()))
    with pytest.raises(errors.UnsupportedOperation):
        await pay.charge(USD100, "tok_ok", idempotency_key="k")


async def test_gateways_are_given_as_a_registry_a_mapping_or_a_sequence() -> None:
    registry = GatewayRegistry().register(GatewayType.STRIPE, InstantGateway())
    assert AegisPay(registry, store=":memory:").registry.names == ("stripe",)
    assert AegisPay({"a": InstantGateway()}, store=":memory:").registry.names == ("a",)
    assert AegisPay([InstantGateway("x")], store=":memory:").registry.names == ("x",)
    with pytest.raises(errors.ConfigError):
        AegisPay([], store=":memory:")
    for name in ("Has Space", "", "x" * 41, "UPPER"):
        with pytest.raises(errors.ConfigError):
            GatewayRegistry().register(name, InstantGateway())
    with pytest.raises(errors.ConfigError):
        registry.register("stripe", InstantGateway())
    with pytest.raises(errors.UnknownGateway, match="Registered: stripe"):
        registry.get("nobody")
    assert len(registry) == 1 and "stripe" in registry and registry.find("x") is None


async def test_the_router_orders_and_the_caller_may_pin(make_world: Make) -> None:
    world = make_world()
    pay = await world.instance()
    assert (await pay.charge(USD100, "tok_ok", idempotency_key="1")).payment.gateway == "alpha"
    assert (await pay.charge(USD100, "tok_ok", idempotency_key="2", gateway="beta")).payment.gateway == "beta"
    pinned = await pay.charge(USD100, "tok_soft", idempotency_key="3", gateway=["beta"])
    assert pinned.is_failure() and [op.gateway for op in pinned.payment.operations] == ["beta"]
    chosen = OrderedRouter(("beta",)).candidates(None, ("alpha", "beta", "gamma"))  # type: ignore[arg-type]
    assert chosen == ("beta", "alpha", "gamma")


async def test_more_requests_than_the_limit_are_refused_before_anything_is_written(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha"))
    pay = await world.instance(settings=replace(SETTINGS, in_progress_max=2))
    world.gateways[0].faults.extend([hang, hang])
    tasks = [
        asyncio.ensure_future(pay.charge(USD100, "tok_ok", idempotency_key=str(i), timeout_s=1))
        for i in range(2)
    ]
    await asyncio.sleep(0.1)
    with pytest.raises(errors.Overloaded):
        await pay.charge(USD100, "tok_ok", idempotency_key="third")
    await asyncio.wait(tasks)
    assert len(await pay.list()) == 2


async def test_answers_in_memory_are_bounded_and_forgotten_ones_come_from_the_store(make_world: Make) -> None:
    world = make_world()
    pay = await world.instance(settings=replace(SETTINGS, answers_cached_max=3))
    first = await pay.charge(USD100, "tok_ok", idempotency_key="0")
    for number in range(1, 6):
        await pay.charge(USD100, "tok_ok", idempotency_key=str(number))
    assert (await pay.charge(USD100, "tok_ok", idempotency_key="0")).to_json() == first.to_json()
    assert len(world.gateways[0].calls) == 6


async def test_payments_are_listed_newest_first_by_state_and_page(make_world: Make) -> None:
    pay = await make_world().instance()
    made = [await pay.charge(USD100, "tok_ok", idempotency_key=str(i)) for i in range(3)]
    failed = await pay.charge(USD100, "tok_hard", idempotency_key="x")
    assert [p.id for p in await pay.list()] == [failed.payment_id, *[m.payment_id for m in reversed(made)]]
    assert [p.id for p in await pay.list(states=["failed"])] == [failed.payment_id]
    assert [p.id for p in await pay.list(states=["SUCCESS", PaymentState.FAILED], limit=1)] == [
        failed.payment_id
    ]
    assert [p.id for p in await pay.list(before_id=made[1].payment_id)] == [made[0].payment_id]
    for wrong in ({"limit": 0}, {"limit": 1001}, {"states": ["nonsense"]}):
        with pytest.raises(errors.InvalidRequest):
            await pay.list(**wrong)  # type: ignore[arg-type]


async def test_a_store_that_is_not_durable_says_so_at_the_start(
    make_world: Make, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        pay = await make_world().instance()
    assert not pay.durability.durable
    assert "synchronous" in caplog.text


async def test_a_gateway_that_cannot_start_leaves_nothing_open() -> None:
    class Broken(InstantGateway):
        async def start(self) -> None:
            raise errors.ConfigError("no.")

    store = SqliteStore(":memory:", executor=InlineExecutor())
    pay = AegisPay([Broken()], store=store, settings=SETTINGS)
    with pytest.raises(errors.ConfigError):
        await pay.start()
    await pay.stop()
    await store.open()
    await store.close()


async def test_the_missions_names_work(make_world: Make) -> None:
    pay = await make_world().instance()
    service = PaymentService(pay)
    request = ProcessPayment(amount=Money(100_00, Currency.USD), payment_method="tok_ok", idempotency_key="k")
    result = await service.process_payment(request)
    assert result.is_success() and result.value.id == result.payment_id
    assert (await service.event_store.replay_events(result.payment_id)).state is PaymentState("SUCCESS")
    held = await service.process_payment(replace(request, idempotency_key="k2", capture=False))
    assert (await service.capture_payment(held.payment_id, idempotency_key="c")).is_success()
    assert (await service.refund_payment(held.payment_id, idempotency_key="r")).is_success()
    other = await service.process_payment(replace(request, idempotency_key="k3", capture=False))
    assert (await service.cancel_payment(other.payment_id)).is_success()
    assert (await service.get_payment(other.payment_id)).state is PaymentState.CANCELED
    assert service.gateway_registry.names == ("alpha", "beta")


async def test_health_asks_each_gateway(make_world: Make) -> None:
    pay = await make_world().instance()
    assert {name: found.ok for name, found in (await pay.health()).items()} == {"alpha": True, "beta": True}


async def test_settings_that_make_no_sense_are_refused() -> None:
    from aegispay.orchestration.settings import Settings
    from aegispay.resilience.retry import RetryPolicy

    for wrong in ({"call_timeout_s": 0}, {"recovery_interval_s": -1.0}, {"in_progress_max": 0}):
        with pytest.raises(errors.ConfigError):
            Settings(**wrong)  # type: ignore[arg-type]
    with pytest.raises(errors.ConfigError):
        RetryPolicy(attempts_max=0)
