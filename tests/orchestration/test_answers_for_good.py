"""One final answer under one key (I8): whatever comes later, whoever answers, and whatever the day and the configuration."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from aegispay.domain import errors
from aegispay.domain.events import OperationKind
from aegispay.domain.methods import Card
from aegispay.domain.money import Money
from aegispay.domain.outcomes import Approved, DeclineCategory, Declined, NotSent, Outcome
from aegispay.domain.payment import OperationStatus, Payment
from aegispay.domain.states import PaymentState
from aegispay.gateways.gateway import Found, GatewayCall, Lookup, LookupFailed, Tokenized
from aegispay.gateways.webhooks import GatewayEvent
from aegispay.orchestration.results import Result
from aegispay.orchestration.settings import DoubtPolicy
from aegispay.testing.instant_gateway import InstantGateway, reply_lost
from tests.orchestration.harness import DAY_S, SETTINGS, World
from tests.orchestration.test_doubt import KEYED, LOOKUP_ONLY
from tests.orchestration.test_inbound import TellingGateway, tell

USD100 = Money(100_00, "USD")
USD70 = Money(70_00, "USD")
REVERSE = replace(SETTINGS, doubt_policy=DoubtPolicy.REVERSE)
REVIEW = replace(SETTINGS, doubt_policy=DoubtPolicy.REVIEW)
REFUND_FAILED = Declined(category=DeclineCategory.INVALID, code="refund_failed")
Make = Callable[..., World]


class CardGateway(InstantGateway):
    """Takes raw cards, each for the same token."""

    async def tokenize(self, card: Card, timeout_s: float) -> Tokenized | Declined | NotSent:
        return Tokenized(token="tok_ok")


def undone(refund: Result | Payment, number: int = 1) -> GatewayEvent:
    """The PSP's word that the newest operation failed after all."""
    operation = refund.operations[-1] if isinstance(refund, Payment) else refund.operation
    assert operation is not None
    return GatewayEvent(
        id=f"undone_{number}",
        type="test",
        at_us=0,
        kind=operation.kind,
        reference=operation.reference,
        outcome=REFUND_FAILED,
        undoes=True,
    )


def done(payment: Payment, amount_minor: int, number: int = 1) -> GatewayEvent:
    """The PSP's word that the newest operation was done."""
    operation = payment.operations[-1]
    return GatewayEvent(
        id=f"done_{number}",
        type="test",
        at_us=0,
        kind=operation.kind,
        operation_id=operation.id,
        outcome=Approved(reference="re_1", amount_minor=amount_minor),
        reference="re_1",
    )


async def unreachable(gateway: InstantGateway, call: GatewayCall) -> Outcome:
    return NotSent(reason="refused")


async def refused(gateway: InstantGateway, call: GatewayCall) -> Outcome:
    return Declined(category=DeclineCategory.INVALID, code="balance_too_low")


async def down(call: GatewayCall) -> Lookup:
    return LookupFailed(reason="down")


# --- an operation that ends more than once --------------------------------------------------------------------


async def test_a_refund_that_failed_after_all_keeps_the_answer_of_its_key_in_every_instance(
    make_world: Make,
) -> None:
    world = make_world(TellingGateway("alpha"))
    pay, other = await world.instance(), await world.instance()
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    told = await pay.refund(paid.payment_id, USD70, idempotency_key="r")
    await tell(pay, undone(told))
    payment = await pay.get(paid.payment_id)
    assert payment.operations[-1].undone and payment.refunded_minor == 0, "the payment tells of the failure"
    later = await world.instance()
    for one in (pay, other, later):
        again = await one.refund(paid.payment_id, USD70, idempotency_key="r")
        assert again.is_success() and again.to_json() == told.to_json()


async def test_a_refund_that_succeeds_again_keeps_its_answer_too(make_world: Make) -> None:
    world = make_world(TellingGateway("alpha"))
    pay = await world.instance()
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    told = await pay.refund(paid.payment_id, USD70, idempotency_key="r")
    await tell(pay, undone(told))
    assert told.operation is not None and told.operation.reference is not None
    mended = Approved(reference=told.operation.reference, amount_minor=70_00)
    await tell(pay, replace(undone(told, 2), outcome=mended, undoes=False, again=True))
    assert (await pay.get(paid.payment_id)).refunded_minor == 70_00
    again = await (await world.instance()).refund(paid.payment_id, USD70, idempotency_key="r")
    assert again.to_json() == told.to_json()


async def test_a_refund_found_done_after_its_no_was_told_is_told_as_done_by_every_instance(
    make_world: Make,
) -> None:
    """The no was wrong, and our books follow the PSP's. A merchant who hears it again would give back twice."""
    world = make_world(TellingGateway("alpha"))
    pay, other = await world.instance(), await world.instance()
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    world.gateways[0].faults.extend([unreachable] * 3)
    told = await pay.refund(paid.payment_id, USD70, idempotency_key="r")
    assert told.is_failure() and told.operation is not None
    await tell(pay, done(told.payment, 70_00))
    payment = await pay.get(paid.payment_id)
    assert payment.operations[-1].status is OperationStatus.APPROVED and payment.refunded_minor == 70_00
    answers = [
        await one.refund(paid.payment_id, USD70, idempotency_key="r")
        for one in (pay, other, await world.instance(), pay)
    ]
    assert answers[0].is_success() and {one.to_json() for one in answers} == {answers[0].to_json()}


async def reversed_after_doubt(world: World) -> Payment:
    """A charge that succeeded after doubt and was given back; who asks is told of a failure."""
    pay = await world.instance(settings=REVERSE)
    world.gateways[0].faults.append(reply_lost)
    asked = await pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=0.05)
    await world.recover(pay)
    return await pay.get(asked.payment_id)


async def test_a_reversal_after_doubt_that_failed_after_all_keeps_the_charges_answer(
    make_world: Make,
) -> None:
    world = make_world(TellingGateway("alpha", LOOKUP_ONLY))
    payment = await reversed_after_doubt(world)
    pay, other = await world.instance(), await world.instance()
    told = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    assert told.error is not None and told.error.code == "reversed_after_doubt"
    await tell(pay, undone(payment))
    assert (await pay.get(payment.id)).state is PaymentState.NEEDS_REVIEW
    assert (await other.charge(USD100, "tok_ok", idempotency_key="k")).to_json() == told.to_json()


async def test_a_reversal_after_doubt_that_was_refused_is_no_answer_until_it_is_done(
    make_world: Make,
) -> None:
    world = make_world(TellingGateway("alpha", LOOKUP_ONLY))
    world.gateways[0].faults.extend([reply_lost, refused])
    pay = await world.instance(settings=REVERSE)
    asked = await pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=0.05)
    await world.recover(pay, for_s=600.0)
    payment = await pay.get(asked.payment_id)
    assert payment.review == "reversal_refused: balance_too_low"
    waiting = await pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=0.05)
    assert waiting.is_pending() and waiting.error is not None and waiting.error.code == "needs_review"
    await tell(pay, done(payment, 100_00))
    for one in (pay, await world.instance()):
        told = await one.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=0.05)
        assert told.error is not None and told.error.code == "reversed_after_doubt"


@pytest.mark.parametrize("kind", [OperationKind.REFUND, OperationKind.VOID])
async def test_a_merchants_reason_makes_no_failure_of_a_success(
    make_world: Make, kind: OperationKind
) -> None:
    """By this reason we know what a policy began: a merchant's own is stored under another word."""
    world = make_world(InstantGateway("alpha", KEYED))
    pay, other = await world.instance(), await world.instance()
    if kind is OperationKind.REFUND:
        told = await pay.charge(USD100, "tok_ok", idempotency_key="k")
        given = await pay.refund(
            told.payment_id, Money(1_00, "USD"), reason="succeeded_after_doubt", idempotency_key="r"
        )
    else:
        told = await pay.authorize(USD100, "tok_ok", idempotency_key="k")
        given = await pay.void(told.payment_id, reason="succeeded_after_doubt", idempotency_key="r")
    assert told.is_success() and given.is_success()
    assert given.operation is not None and given.operation.reason == "requested"
    for one in (pay, other):
        ask = one.charge if kind is OperationKind.REFUND else one.authorize
        assert (await ask(USD100, "tok_ok", idempotency_key="k")).to_json() == told.to_json()


async def test_any_other_reason_reaches_the_psp_as_the_merchant_said_it(make_world: Make) -> None:
    world = make_world()
    pay = await world.instance()
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    await pay.refund(paid.payment_id, reason="expired", idempotency_key="r")
    assert world.gateways[0].calls[-1].reason == "expired"


# --- what was answered, though it would be refused today -------------------------------------------------------


def card_of_this_month(world: World) -> Card:
    now = datetime.datetime.fromtimestamp(world.clock.now_us() / 1e6, datetime.UTC)
    return Card("4242424242424242", now.month, now.year, cvc="123")


async def test_a_card_that_expired_since_gets_the_answer_that_it_got(make_world: Make) -> None:
    world = make_world(CardGateway("alpha", replace(KEYED, tokenize=True)))
    pay = await world.instance()
    card = card_of_this_month(world)
    world.gateways[0].faults.append(reply_lost)
    asked = await pay.charge(USD100, card, idempotency_key="k", timeout_s=0.05)
    assert asked.is_pending()
    await world.clock.sleep(60.0)
    await pay.recover()
    await world.clock.sleep(32 * DAY_S)
    for one in (pay, await world.instance()):
        told = await one.charge(USD100, card, idempotency_key="k")
        assert told.is_success() and told.payment_id == asked.payment_id
    with pytest.raises(errors.InvalidPaymentMethod, match="expired") as caught:
        await pay.charge(USD100, card, idempotency_key="another")
    assert caught.value.effect == "none"
    with pytest.raises(errors.IdempotencyConflict):
        await pay.charge(USD70, card, idempotency_key="k")
    assert world.gateways[0].count(OperationKind.CHARGE) == 1


async def test_a_gateway_that_is_registered_no_more_refuses_no_replay(make_world: Make) -> None:
    world = make_world()
    pay = await world.instance()
    told = await pay.charge(USD100, "tok_ok", idempotency_key="k", gateway="alpha")
    given = await pay.refund(told.payment_id, USD70, idempotency_key="r")
    del world.gateways[0]
    after = await world.instance()
    assert await after.charge(USD100, "tok_ok", idempotency_key="k", gateway="alpha") == told
    assert await after.refund(told.payment_id, USD70, idempotency_key="r") == given
    with pytest.raises(errors.UnknownGateway):
        await after.charge(USD100, "tok_ok", idempotency_key="k2", gateway="alpha")
    with pytest.raises(errors.UnknownGateway):
        await after.refund(told.payment_id, Money(1, "USD"), idempotency_key="r2")


# --- a person is to decide -------------------------------------------------------------------------------------


async def test_a_success_after_a_long_doubt_is_no_answer_while_a_person_is_to_decide(
    make_world: Make,
) -> None:
    """The policy's question takes the place of the doubt's, which the evidence would close."""
    world = make_world(InstantGateway("alpha", LOOKUP_ONLY))
    pay = await world.instance(settings=REVIEW)
    gateway = world.gateways[0]
    gateway.faults.append(reply_lost)
    look_up, gateway.look_up = gateway.look_up, down  # type: ignore[method-assign]
    asked = await pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=0.05)
    for _ in range(26):
        await world.clock.sleep(3600.0)
        await pay.recover()
    assert "in doubt for" in ((await pay.get(asked.payment_id)).review or "")
    gateway.look_up = look_up  # type: ignore[method-assign]
    for _ in range(3):
        await world.clock.sleep(3600.0)
        await pay.recover()
    payment = await pay.get(asked.payment_id)
    assert (payment.review, payment.captured_minor) == ("succeeded_after_doubt", 100_00)
    assert payment.answered_version == 0
    for one in (pay, await world.instance()):
        told = await one.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=0.05)
        assert told.is_pending() and told.error is not None and told.error.code == "needs_review"


async def test_a_long_doubt_that_is_found_without_effect_closes_its_own_review(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha", LOOKUP_ONLY))
    pay = await world.instance(settings=REVIEW)
    gateway = world.gateways[0]
    gateway.faults.append(reply_lost)
    gateway.look_up = down  # type: ignore[method-assign]
    asked = await pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=0.05)
    for _ in range(26):
        await world.clock.sleep(3600.0)
        await pay.recover()

    async def declined(call: GatewayCall) -> Lookup:
        return Found(outcome=Declined(category=DeclineCategory.HARD, code="stolen_card"))

    gateway.look_up = declined  # type: ignore[method-assign]
    await world.clock.sleep(3600.0)
    await pay.recover()
    payment = await pay.get(asked.payment_id)
    assert (payment.state, payment.review) == (PaymentState.FAILED, None)
