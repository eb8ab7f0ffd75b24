"""Dashboard captures and what follows them: in whatever order the news of them comes, our books end as the PSP's."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec.structs import replace

from aegispay.app import AegisPay
from aegispay.domain import commands as cmd
from aegispay.domain.events import OperationKind
from aegispay.domain.money import Money
from aegispay.domain.outcomes import Approved, DeclineCategory, Declined
from aegispay.domain.payment import Payment
from aegispay.domain.states import PaymentState
from aegispay.gateways.capabilities import Capabilities
from aegispay.gateways.gateway import Found, GatewayCall, Lookup
from aegispay.gateways.webhooks import GatewayEvent
from tests.orchestration.harness import DAY_S, World
from tests.orchestration.test_inbound import TellingGateway, silent, tell

USD100 = Money(100_00, "USD")
Make = Callable[..., World]
K = OperationKind
S = PaymentState


def told(kind: K, amount_minor: int, reference: str, of: str, **more: Any) -> GatewayEvent:
    """News of something that somebody did at the PSP to its payment, or capture, `of`."""
    outcome = Approved(reference=reference, amount_minor=amount_minor)
    return GatewayEvent(
        id=f"{kind} {reference}",
        type="test",
        at_us=0,
        kind=kind,
        outcome=outcome,
        reference=reference,
        payment_reference=of,
        **more,
    )


async def held(make_world: Make, gateway: TellingGateway) -> tuple[AegisPay, Payment]:
    world = make_world(gateway)
    pay = await world.instance()
    paid = await pay.authorize(USD100, "tok_ok", idempotency_key="k")
    return pay, paid.payment


async def half_a_day(pay: AegisPay) -> None:
    """Notices that wait are tried again."""
    for _ in range(24):
        await asyncio.sleep(DAY_S / 48)
        await pay.recover()


async def test_that_was_paid_what_we_only_authorised_is_a_capture_where_the_gateway_confirms_it(
    make_world: Make,
) -> None:
    for confirms in (True, False):
        gateway = TellingGateway("alpha")
        pay, payment = await held(make_world, gateway)
        reference = payment.gateway_reference or ""
        if confirms:
            taken = Approved(reference=reference, amount_minor=60_00)
            gateway.look_up = answering(Found(outcome=taken))  # type: ignore[method-assign]
        await tell(pay, told(K.CHARGE, 100_00, reference, reference))
        after = await pay.get(payment.id)
        assert after.captured_minor == (60_00 if confirms else 0)
        for _ in range(4):
            await half_a_day(pay)
        after = await pay.get(payment.id)
        assert bool(after.review) is not confirms


async def test_that_was_paid_what_we_have_captured_is_no_news_under_whatever_name_we_know_it(
    make_world: Make,
) -> None:
    gateway = TellingGateway("alpha")
    pay, payment = await held(make_world, gateway)
    reference = payment.gateway_reference or ""
    await pay.capture(payment.id, Money(60_00, "USD"), final=False, idempotency_key="c")
    taken = Approved(reference=reference, amount_minor=30_00)
    gateway.look_up = answering(Found(outcome=taken))  # type: ignore[method-assign]
    await tell(pay, told(K.CHARGE, 60_00, reference, reference))
    for _ in range(4):
        await half_a_day(pay)
    after = await pay.get(payment.id)
    assert (after.captured_minor, after.review) == (60_00, None)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_they_are_booked_in_any_order_where_we_captured_nothing(
    make_world: Make, order: tuple[int, ...]
) -> None:
    """The void may look like the end of the payment; the refund must not be lost then, nor the capture left to a person."""
    gateway = TellingGateway("alpha")
    pay, payment = await held(make_world, gateway)
    canceled = Declined(category=DeclineCategory.HARD, code="canceled")
    gateway.look_up = answering(Found(outcome=canceled))  # type: ignore[method-assign]
    reference = payment.gateway_reference or ""
    events = [
        told(K.CAPTURE, 30_00, "ca_1", reference),
        told(K.REFUND, 10_00, "re_1", reference),
        told(K.VOID, 70_00, "vo_1", reference),
    ]
    for number in order:
        await tell(pay, events[number])
    await half_a_day(pay)
    after = await pay.get(payment.id)
    assert (after.captured_minor, after.refunded_minor, after.released_minor) == (30_00, 10_00, 70_00)
    assert (after.state, after.review) == (S.PARTIALLY_REFUNDED, None)


@pytest.mark.parametrize("several", [True, False])
async def test_news_in_another_currency_is_a_persons(make_world: Make, several: bool) -> None:
    caps = Capabilities(lookup_by_reference=True, void=True, multi_capture=several)
    pay, payment = await held(make_world, TellingGateway("alpha", caps))
    await tell(pay, replace(told(K.CAPTURE, 30_00, "ca_1", payment.gateway_reference or ""), currency="EUR"))
    after = await pay.get(payment.id)
    assert (after.captured_minor, after.review) == (0, "external_capture_does_not_fit: ca_1")


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_a_capture_a_refund_and_a_release_at_the_dashboard_are_booked_in_any_order(
    make_world: Make, order: tuple[int, ...]
) -> None:
    gateway = TellingGateway("alpha")
    pay, payment = await held(make_world, gateway)
    reference = payment.gateway_reference or ""

    async def says(call: GatewayCall) -> Lookup:
        return Found(outcome=Declined(category=DeclineCategory.HARD, code="canceled"))

    gateway.look_up = says  # type: ignore[method-assign]
    ours = await pay.capture(payment.id, Money(10_00, "USD"), final=False, idempotency_key="c")
    assert ours.is_success()
    events = [
        told(K.CAPTURE, 30_00, "ca_1", reference),
        told(K.REFUND, 35_00, "re_1", reference),
        told(K.VOID, 60_00, "vo_1", reference),
    ]
    for number in order:
        await tell(pay, events[number])
    await half_a_day(pay)
    after = await pay.get(payment.id)
    assert (after.captured_minor, after.refunded_minor, after.released_minor) == (40_00, 35_00, 60_00)
    assert (after.state, after.review) == (S.PARTIALLY_REFUNDED, None)


async def test_where_a_gateway_captures_but_once_nothing_is_left_to_release_or_to_lapse(
    make_world: Make,
) -> None:
    once = Capabilities(lookup_by_reference=True, void=True)
    pay, payment = await held(make_world, TellingGateway("alpha", once))
    await tell(pay, told(K.CAPTURE, 30_00, "ca_1", payment.gateway_reference or ""))
    after = await pay.get(payment.id)
    assert (after.captured_minor, after.released_minor, after.state) == (30_00, 70_00, S.SUCCEEDED)
    await asyncio.sleep(8 * DAY_S)
    await pay.recover()
    assert (await pay.get(payment.id)).review is None


async def test_a_refund_that_could_be_forged_is_looked_up_with_the_capture_that_it_gave_back(
    make_world: Make,
) -> None:
    """Some PSPs know refunds by their capture alone."""
    gateway = TellingGateway("alpha")
    pay, payment = await held(make_world, gateway)
    captured = [
        await pay.capture(payment.id, Money(20_00, "USD"), final=False, idempotency_key=f"c{number}")
        for number in range(2)
    ]
    named = captured[1].operation
    assert named is not None and named.reference is not None
    asked: list[tuple[str | None, str | None]] = []

    async def known(call: GatewayCall) -> Lookup:
        asked.append((call.own_reference, call.capture_reference))
        return Found(outcome=Approved(reference="re_1", amount_minor=5_00))

    gateway.look_up = known  # type: ignore[method-assign]
    await tell(pay, told(K.REFUND, 5_00, "re_1", named.reference, forgeable=True, must_look_up=True))
    assert asked == [("re_1", named.reference)]
    after = await pay.get(payment.id)
    assert (after.refunded_minor, after.operations[-1].capture_id) == (5_00, named.id)


async def test_what_the_asked_person_releases_is_booked_and_what_nothing_confirms_waits_for_them(
    make_world: Make,
) -> None:
    """A merchant's policy asked a person, who lets the authorisation go at the dashboard."""
    for confirms in (True, False):
        gateway = TellingGateway("alpha") if confirms else silent()
        pay, payment = await held(make_world, gateway)
        engine = pay._orchestrator.engine
        draft = engine.journal.draft(payment)
        draft.apply(cmd.RequestReview(reason="succeeded_after_doubt"))
        await engine.journal.commit(draft)
        if confirms:
            canceled = Declined(category=DeclineCategory.HARD, code="canceled")
            gateway.look_up = answering(Found(outcome=canceled))  # type: ignore[method-assign]
        await tell(pay, told(K.VOID, 100_00, "vo_1", payment.gateway_reference or ""))
        after = await pay.get(payment.id)
        assert (after.review, after.ended) == ("succeeded_after_doubt", "canceled" if confirms else None)
        await pay.close_review(payment.id, reason="ben released it")
        await half_a_day(pay)
        after = await pay.get(payment.id)
        assert after.review == (None if confirms else "external_void_unconfirmed: vo_1")


def answering(found: Lookup) -> Callable[[GatewayCall], Awaitable[Lookup]]:
    async def look_up(call: GatewayCall) -> Lookup:
        return found

    return look_up
