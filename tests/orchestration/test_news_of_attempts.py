"""A PSP's news is about one attempt: what became of one that lost never counts against the one that was approved."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from aegispay.app import AegisPay
from aegispay.domain.events import OperationKind
from aegispay.domain.money import Money
from aegispay.domain.outcomes import Approved, DeclineCategory, Declined, Outcome
from aegispay.domain.payment import Operation, OperationStatus, Payment
from aegispay.domain.states import PaymentState
from aegispay.gateways.gateway import Found, GatewayCall, Lookup
from aegispay.gateways.webhooks import DisputeNews, GatewayEvent
from aegispay.orchestration.outside import attempt_of
from aegispay.testing.instant_gateway import Entry, InstantGateway
from tests.orchestration.harness import World
from tests.orchestration.test_inbound import TellingGateway, tell
from tests.orchestration.test_inbound_afterwards import close_review
from tests.orchestration.test_news_matching import PAYMENT, operation

USD100 = Money(100_00, "USD")
Make = Callable[..., World]
K = OperationKind
S = PaymentState


async def declined_but_done(gateway: InstantGateway, call: GatewayCall) -> Outcome:
    gateway.execute(call)
    return Declined(category=DeclineCategory.SOFT, code="processing_error")


async def refused(gateway: InstantGateway, call: GatewayCall) -> Outcome:
    return Declined(category=DeclineCategory.INVALID, code="balance_too_low")


def event(number: str, **more: Any) -> GatewayEvent:
    return GatewayEvent(id=number, type="test", at_us=0, **more)


def late_success(world: World, payment: Payment) -> GatewayEvent:
    first = payment.operations[0]
    approved = Approved(reference=world.gateways[0].books[0].reference, amount_minor=100_00)
    return event("late", kind=first.kind, outcome=approved, operation_id=first.id)


def given_back(world: World, kind: K = K.REFUND, amount_minor: int = 100_00) -> GatewayEvent:
    """As the PSP of the losing attempt tells of what was done at its dashboard: it names its own payment only."""
    return event(
        f"dashboard {kind}",
        kind=kind,
        outcome=Approved(reference="dash_1", amount_minor=amount_minor),
        reference="dash_1",
        payment_reference=world.gateways[0].books[0].reference,
    )


def disputed(world: World, opened: bool = False, won: bool | None = False) -> GatewayEvent:
    news = DisputeNews(reference="dp_1", amount_minor=100_00, opened=opened, won=None if opened else won)
    paid_there = world.gateways[0].books[0].reference
    return event(f"dispute {opened}", dispute=news, reference="dp_1", payment_reference=paid_there)


def given_back_in_part(world: World) -> GatewayEvent:
    return given_back(world, amount_minor=40_00)


def captured_there(world: World) -> GatewayEvent:
    return given_back(world, K.CAPTURE)


def dispute_opened(world: World) -> GatewayEvent:
    return disputed(world, opened=True)


def lost_says_somebody(world: World) -> GatewayEvent:
    return replace(disputed(world), forgeable=True)


async def failed_over(make_world: Make, *, hold: bool = False) -> tuple[World, AegisPay, Payment]:
    """Alpha declined and had taken the money all the same; beta was approved. Alpha refuses the first reversal."""
    world = make_world(TellingGateway("alpha"), TellingGateway("beta"))
    pay = await world.instance()
    world.gateways[0].faults.extend([declined_but_done, refused])
    paid = await (pay.authorize if hold else pay.charge)(USD100, "tok_ok", idempotency_key="k")
    assert paid.payment.gateway == "beta"
    return world, pay, paid.payment


def note_given_back(world: World, payment: Payment, kind: K = K.REFUND) -> None:
    entry = Entry(
        kind=kind, payment_id=payment.id, operation_id="by hand", amount_minor=100_00, reference="dash_1"
    )
    world.gateways[0].books.append(entry)


@pytest.mark.parametrize("how", [given_back, disputed])
async def test_what_the_loser_gave_back_is_its_reversal_in_any_order(
    make_world: Make, how: Callable[[World], GatewayEvent]
) -> None:
    seen = []
    for order in itertools.permutations((0, 1)):
        world, pay, payment = await failed_over(make_world)
        told = [late_success(world, payment), how(world)]
        note_given_back(world, payment)
        for index in order:
            await tell(pay, told[index])
        for _ in range(4):
            await world.clock.sleep(30)
            await pay.recover()
        (after,) = await world.check_books(pay)
        assert after.operations[0].status is OperationStatus.REVERSED
        assert (after.state, after.refunded_minor, after.lost_minor) == (S.SUCCEEDED, 0, 0)
        seen.append([(op.kind, op.gateway, op.status, op.reason) for op in after.operations])
        refund = await pay.refund(payment.id, idempotency_key="r")
        assert (refund.payment.state, refund.payment.operations[-1].gateway) == (S.REFUNDED, "beta")
    assert seen[0] == seen[1]


@pytest.mark.parametrize("how", [given_back, disputed])
async def test_a_failed_payment_that_was_charged_all_the_same_and_given_back_is_at_rest(
    make_world: Make, how: Callable[[World], GatewayEvent]
) -> None:
    world = make_world(TellingGateway("alpha"))
    pay = await world.instance()
    world.gateways[0].faults.extend([declined_but_done, refused])
    failed = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    assert failed.payment.state is S.FAILED
    await tell(pay, late_success(world, failed.payment))
    assert (await pay.get(failed.payment_id)).review == "reversal_refused: balance_too_low"
    await tell(pay, how(world))
    note_given_back(world, failed.payment)
    (after,) = await world.check_books(pay)
    assert (after.state, after.operations[0].status) == (S.FAILED, OperationStatus.REVERSED)


async def test_a_refund_of_the_loser_is_not_counted_while_its_success_is_not_known(make_world: Make) -> None:
    """The charge that was declined has no reference here, so the notice must name our payment to be tied to it at all."""
    world, pay, payment = await failed_over(make_world)
    await tell(pay, replace(given_back(world), payment_id=payment.id))
    for _ in range(40):
        await world.clock.sleep(3600)
        await pay.recover()
    after = await pay.get(payment.id)
    assert (after.review, after.refunded_minor) == ("unapplied_notice: test dash_1", 0)
    assert (await close_review(pay, payment.id)).refundable_minor == 100_00


async def test_a_void_of_the_losers_hold_is_its_reversal(make_world: Make) -> None:
    world, pay, payment = await failed_over(make_world, hold=True)
    await tell(pay, late_success(world, payment))
    assert (await pay.get(payment.id)).review == "reversal_refused: balance_too_low"
    await tell(pay, given_back(world, K.VOID))
    after = await pay.get(payment.id)
    assert [op.status for op in after.operations if op.attempt] == [
        OperationStatus.REVERSED,
        OperationStatus.APPROVED,
    ]
    assert (after.state, after.capturable_minor) == (S.AUTHORIZED, 100_00)


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (given_back_in_part, "unwanted_attempt: external_refund dash_1"),
        (captured_there, "unwanted_attempt: external_capture dash_1"),
        (dispute_opened, "unwanted_attempt: dispute dp_1"),
        (lost_says_somebody, "unwanted_attempt: dispute dp_1"),
    ],
)
async def test_what_does_not_undo_the_loser_is_a_persons_and_leaves_the_winner_alone(
    make_world: Make, told: Callable[[World], GatewayEvent], reason: str
) -> None:
    world, pay, payment = await failed_over(make_world)
    await tell(pay, late_success(world, payment))
    await tell(pay, told(world))
    after = await pay.get(payment.id)
    assert (after.review, after.refunded_minor, after.lost_minor) == (reason, 0, 0)
    assert (after.captured_minor, after.disputes_open) == (100_00, ())


async def test_a_dispute_after_the_reversal_takes_nothing_from_the_winner(make_world: Make) -> None:
    world, pay, payment = await failed_over(make_world)
    world.gateways[0].faults.clear()
    await tell(pay, late_success(world, payment))
    assert (await pay.get(payment.id)).operations[0].status is OperationStatus.REVERSED
    await tell(pay, disputed(world, opened=True))
    assert (await pay.get(payment.id)).review == "unwanted_attempt: dispute dp_1"
    assert (await close_review(pay, payment.id)).state is S.SUCCEEDED
    await tell(pay, replace(disputed(world, won=True), id="won"))
    assert (await pay.get(payment.id)).state is S.SUCCEEDED
    assert (await pay.refund(payment.id, idempotency_key="r")).payment.state is S.REFUNDED


async def test_what_could_be_forged_is_looked_up_where_the_loser_was(make_world: Make) -> None:
    world, pay, payment = await failed_over(make_world)
    asked: list[tuple[str, K, str | None]] = []
    for gateway in world.gateways:

        async def known(call: GatewayCall, name: str = gateway.name) -> Lookup:
            asked.append((name, call.kind, call.own_reference))
            return Found(outcome=Approved(reference="dash_1", amount_minor=100_00))

        gateway.look_up = known  # type: ignore[method-assign]
    await tell(pay, late_success(world, payment))
    await tell(pay, replace(given_back(world, amount_minor=1), forgeable=True, must_look_up=True))
    assert asked == [("alpha", K.REFUND, "dash_1")]
    assert (await pay.get(payment.id)).operations[0].status is OperationStatus.REVERSED


async def test_a_void_of_the_losers_hold_that_could_be_forged_is_looked_up(make_world: Make) -> None:
    world, pay, payment = await failed_over(make_world, hold=True)
    await tell(pay, late_success(world, payment))
    forged = replace(given_back(world, K.VOID), forgeable=True)
    await tell(pay, forged)
    assert (await pay.get(payment.id)).operations[0].status is OperationStatus.UNWANTED

    async def gone(call: GatewayCall) -> Lookup:
        return Found(outcome=Declined(category=DeclineCategory.HARD, code="canceled"))

    world.gateways[0].look_up = gone  # type: ignore[method-assign]
    await world.clock.sleep(60)
    await pay.recover()
    assert (await pay.get(payment.id)).operations[0].status is OperationStatus.REVERSED


async def test_a_late_success_under_the_winners_reference_is_found_at_the_gateway_that_told(
    make_world: Make,
) -> None:
    world = make_world(TellingGateway("alpha"), TellingGateway("beta"))
    for gateway in world.gateways:
        gateway._reference = lambda number: f"tx_{number}"  # type: ignore[method-assign]
    pay = await world.instance()
    world.gateways[0].faults.append(declined_but_done)
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    assert paid.payment.gateway_reference == world.gateways[0].books[0].reference == "tx_1"
    approved = Approved(reference="tx_1", amount_minor=100_00)
    told = event("late", kind=K.CHARGE, outcome=approved, reference="tx_1", payment_id=paid.payment_id)
    await tell(pay, told)
    assert len(await pay.notices(state="open")) == 1, "it is no old news of beta's charge"
    await tell(pay, replace(told, id="by our id", operation_id=paid.payment.operations[0].id))
    await world.clock.sleep(60)
    await pay.recover()
    assert await pay.notices(state="open") == []
    (after,) = await world.check_books(pay)
    assert after.operations[0].status is OperationStatus.REVERSED
    await tell(pay, replace(given_back(world), id="again", reference="tx_1", payment_reference="tx_1"))
    assert (await pay.get(paid.payment_id)).refunded_minor == 0


# --- which attempt ------------------------------------------------------------------------------------------


def part_of(parent: str, made: Operation) -> Operation:
    return replace(made, parent_id=parent)


TWO_AT_ONE: Payment = replace(
    PAYMENT,
    operations=(
        operation("op_first", K.CHARGE, "psp_1", attempt=1),
        operation("op_second", K.CHARGE, "psp_2", attempt=2),
        part_of("op_second", operation("op_capture", K.CAPTURE, "cap_2")),
        replace(operation("op_third", K.CHARGE, "psp_1", attempt=3), gateway="beta"),
    ),
)


@pytest.mark.parametrize(
    ("names", "gateway", "found"),
    [
        ({"payment_reference": "psp_1"}, "alpha", "op_first"),
        ({"payment_reference": "psp_1"}, "beta", "op_third"),
        ({"payment_reference": "cap_2"}, "alpha", "op_second"),
        ({"reference": "psp_2"}, "alpha", "op_second"),
        ({"operation_id": "op_capture"}, "alpha", "op_second"),
        ({"operation_id": "op_second", "payment_reference": "psp_1"}, "alpha", None),
        ({"payment_reference": "psp_9"}, "alpha", None),
        ({"payment_reference": "psp_9"}, "beta", "op_third"),
        ({}, "alpha", None),
        ({}, "gamma", None),
    ],
)
def test_the_attempt_is_found_at_the_gateway_that_told(
    names: dict[str, str], gateway: str, found: str | None
) -> None:
    attempt = attempt_of(TWO_AT_ONE, event("1", **names), gateway)
    assert (attempt.id if attempt else None) == found
