"""What PSPs tell of payments that are long done: failures after an approval, what was done at the dashboard, disputes.

Such notices name what the PSP calls things, and seldom anything of ours. They come in any order (I11).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from aegispay.app import AegisPay
from aegispay.domain import commands as cmd
from aegispay.domain import errors
from aegispay.domain.events import OperationKind
from aegispay.domain.evolve import fold
from aegispay.domain.money import Money
from aegispay.domain.outcomes import Approved, DeclineCategory, Declined, Outcome, Pending
from aegispay.domain.payment import OperationStatus, Payment, encode_payment
from aegispay.domain.states import PaymentState
from aegispay.gateways.adyen.webhooks import AdyenWebhooks
from aegispay.gateways.capabilities import Capabilities
from aegispay.gateways.gateway import Found, GatewayCall, Lookup, LookupFailed
from aegispay.gateways.webhooks import DisputeNews, GatewayEvent
from aegispay.storage.notices import NoticeState
from aegispay.storage.store import Purpose
from aegispay.testing.instant_gateway import InstantGateway
from tests.orchestration.harness import World
from tests.orchestration.test_inbound import TellingGateway, silent, tell
from tests.unit.test_adyen_webhooks import KEY, batch, item, signed

USD100 = Money(100_00, "USD")
Make = Callable[..., World]
S = PaymentState


class AdyenLike(InstantGateway):
    """Reads Adyen's webhooks, answers captures and refunds with "received", and has no look-up, as Adyen has none."""

    def __init__(self, name: str = "alpha") -> None:
        super().__init__(name, Capabilities())
        self._webhooks = AdyenWebhooks([KEY])

    async def look_up(self, call: GatewayCall) -> Lookup:
        return LookupFailed(reason="no_lookup")

    async def perform(self, call: GatewayCall) -> Outcome:
        outcome = await super().perform(call)
        if call.kind in (OperationKind.CAPTURE, OperationKind.REFUND) and isinstance(outcome, Approved):
            return Pending(reference=outcome.reference)
        return outcome

    def parse_webhook(self, headers: Mapping[str, str], body: bytes, now_us: int) -> list[GatewayEvent]:
        return self._webhooks.parse(body)


async def hear(world: World, pay: AegisPay, *items: dict[str, Any]) -> None:
    """Adyen's notices, one webhook each; what has to wait is tried again."""
    for one in items:
        await pay.take_webhook("alpha", {}, batch(signed(one)))
        await world.clock.sleep(0.001)
    for _ in range(3):
        await world.clock.sleep(30.0)
        await pay.recover()


def adyen(
    code: str, reference: str | None, payment: Payment, amount_minor: int = 100_00, **more: Any
) -> dict[str, Any]:
    """A notice that carries no id of ours: the merchant's reference is one that somebody typed."""
    return item(
        code,
        pspReference=reference,
        originalReference=payment.gateway_reference,
        merchantReference="typed at the dashboard",
        amount={"value": amount_minor, "currency": "USD"},
        **more,
    )


async def close_review(pay: AegisPay, payment_id: str) -> Payment:
    engine = pay._orchestrator.engine
    draft = engine.journal.draft(await engine.journal.load(payment_id))
    draft.apply(cmd.CloseReview(reason="seen"))
    return await engine.journal.commit(draft)


def summary(payment: Payment) -> tuple[Any, ...]:
    """What must not depend on the order of the notices."""
    return (
        payment.state,
        payment.captured_minor,
        payment.refunded_minor,
        payment.released_minor,
        payment.lost_minor,
        [(op.kind, op.status) for op in payment.operations],
    )


async def captured(
    world: World, pay: AegisPay, key: str, amount_minor: int | None = None
) -> tuple[Payment, str]:
    """An authorisation whose capture Adyen has received; the capture's reference with it."""
    held = await pay.authorize(USD100, "tok_ok", idempotency_key=key)
    amount = None if amount_minor is None else Money(amount_minor, "USD")
    await pay.capture(held.payment_id, amount, idempotency_key=f"c{key}", timeout_s=0.05)
    payment = await pay.get(held.payment_id)
    assert payment.operations[-1].status is OperationStatus.PENDING
    return payment, payment.operations[-1].reference or ""


async def test_a_capture_that_failed_after_it_was_approved_leaves_the_books(make_world: Make) -> None:
    world = make_world(AdyenLike())
    pay = await world.instance()
    payment, reference = await captured(world, pay, "k")
    await hear(world, pay, adyen("CAPTURE", reference, payment))
    assert (await pay.get(payment.id)).state is S.SUCCEEDED
    await hear(world, pay, adyen("CAPTURE_FAILED", reference, payment))
    after = await pay.get(payment.id)
    assert (after.state, after.review, after.captured_minor) == (S.NEEDS_REVIEW, "undone: capture_failed", 0)
    assert encode_payment(fold(await pay.event_store.events(payment.id))) == encode_payment(after)
    # The capture did not happen, so the authorisation is open again, and lapses one day.
    winner = after.winner
    assert winner is not None
    again = await close_review(pay, payment.id)
    assert (again.state, again.capturable_minor) == (S.AUTHORIZED, 100_00)
    await pay.capture(payment.id, idempotency_key="c2", timeout_s=0.05)
    assert (await pay.get(payment.id)).operations[-1].status is OperationStatus.PENDING


async def test_an_authorisation_that_is_open_again_lapses_as_any_other(make_world: Make) -> None:
    gateway = AdyenLike()
    gateway.capabilities = Capabilities(authorization_ttl_s=86_400.0)
    world = make_world(gateway)
    pay = await world.instance()
    payment, reference = await captured(world, pay, "k")
    await hear(world, pay, adyen("CAPTURE", reference, payment))
    await world.clock.sleep(2 * 86_400.0)
    await pay.recover()
    winner = payment.operations[0].id
    assert await pay.store.find_in_flight(winner) is None
    await hear(world, pay, adyen("CAPTURE_FAILED", reference, payment))
    row = await pay.store.find_in_flight(winner)
    assert row is not None and row.purpose is Purpose.EXPIRY


@pytest.mark.parametrize("amount_minor", [None, 40_00])
@pytest.mark.parametrize("codes", [("CAPTURE", "CAPTURE_FAILED"), ("CAPTURE", "CAPTURE_FAILED", "again")])
async def test_captures_that_fail_and_are_taken_again_end_the_same_in_any_order(
    make_world: Make, codes: tuple[str, ...], amount_minor: int | None
) -> None:
    world = make_world(AdyenLike())
    pay = await world.instance()
    found = []
    for number, order in enumerate(itertools.permutations(codes)):
        payment, reference = await captured(world, pay, f"k{number}", amount_minor)
        notices = []
        for code in order:
            more = {"reason": "Transaction Recaptured"} if code == "again" else {}
            name = "CAPTURE" if code == "again" else code
            notices.append(adyen(name, reference, payment, amount_minor or 100_00, **more))
        await hear(world, pay, *notices)
        await hear(world, pay, *notices)
        after = await pay.get(payment.id)
        found.append(summary(after))
        assert encode_payment(fold(await pay.event_store.events(payment.id))) == encode_payment(after)
    assert len({str(one) for one in found}) == 1, found
    taken = (amount_minor or 100_00, S.SUCCEEDED) if "again" in codes else (0, S.NEEDS_REVIEW)
    assert (found[0][1], found[0][0]) == taken


@pytest.mark.parametrize("codes", [("CAPTURE", "CAPTURE_FAILED"), ("CAPTURE", "CAPTURE_FAILED", "again")])
async def test_a_capture_at_the_dashboard_that_fails_and_is_taken_again_ends_the_same_in_any_order(
    make_world: Make, codes: tuple[str, ...]
) -> None:
    """We know of none of it until we are told, and the last word may be heard first."""
    world = make_world(AdyenLike())
    pay = await world.instance()
    for number, order in enumerate(itertools.permutations(codes)):
        payment = (await pay.authorize(USD100, "tok_ok", idempotency_key=f"k{number}")).payment
        notices = []
        for code in order:
            more = {"reason": "Transaction Recaptured"} if code == "again" else {}
            name = "CAPTURE" if code == "again" else code
            notices.append(adyen(name, f"CAP{number}", payment, 100_00, **more))
        await hear(world, pay, *notices)
        await hear(world, pay, *notices)
        after = await pay.get(payment.id)
        ends = (100_00, S.SUCCEEDED) if "again" in codes else (0, S.NEEDS_REVIEW)
        assert (after.captured_minor, after.state) == ends, order
        assert encode_payment(fold(await pay.event_store.events(payment.id))) == encode_payment(after)


async def test_a_refund_that_failed_after_it_was_approved_can_be_made_again(make_world: Make) -> None:
    world = make_world(AdyenLike())
    pay = await world.instance()
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    await pay.refund(paid.payment_id, Money(70_00, "USD"), idempotency_key="r", timeout_s=0.05)
    payment = await pay.get(paid.payment_id)
    reference = payment.operations[-1].reference
    await hear(world, pay, adyen("REFUND", reference, payment, 70_00))
    assert (await pay.get(payment.id)).refunded_minor == 70_00
    for _ in range(2):
        await hear(world, pay, adyen("REFUND_FAILED", reference, payment, 70_00))
    after = await pay.get(payment.id)
    assert (after.state, after.review, after.refunded_minor) == (S.NEEDS_REVIEW, "undone: refund_failed", 0)
    assert (await close_review(pay, payment.id)).state is S.SUCCEEDED
    await pay.refund(payment.id, USD100, idempotency_key="r2", timeout_s=0.05)
    assert (await pay.get(payment.id)).refundable_minor == 0


async def test_a_failure_that_is_not_signed_is_looked_up_before_the_books_follow(make_world: Make) -> None:
    world = make_world(TellingGateway("alpha"))
    pay = await world.instance()
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    refunded = await pay.refund(paid.payment_id, Money(70_00, "USD"), idempotency_key="r")
    reference = refunded.payment.operations[-1].reference
    failed = Declined(category=DeclineCategory.INVALID, code="refund_failed")
    event = GatewayEvent(
        id="1", type="t", at_us=0, kind=OperationKind.REFUND, outcome=failed, reference=reference, undoes=True
    )
    await tell(pay, replace(event, must_look_up=True))
    assert (await pay.get(paid.payment_id)).refunded_minor == 70_00

    async def turned(call: GatewayCall) -> Lookup:
        return Found(outcome=failed)

    world.gateways[0].look_up = turned  # type: ignore[method-assign]
    await tell(pay, replace(event, id="2", must_look_up=True))
    assert (await pay.get(paid.payment_id)).refunded_minor == 0


async def test_a_reversal_that_failed_after_all_is_a_persons(make_world: Make) -> None:
    """The duplicate's money is with us again; which of the two the payer should get back, nobody here can tell."""
    world = make_world(TellingGateway("alpha"), TellingGateway("beta"))
    pay = await world.instance()

    async def liar(gateway: InstantGateway, call: GatewayCall) -> Outcome:
        gateway.execute(call)
        return Declined(category=DeclineCategory.SOFT, code="processing_error")

    world.gateways[0].faults.append(liar)
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    assert paid.payment.gateway == "beta"
    charged = Approved(reference=world.gateways[0].books[0].reference, amount_minor=100_00)
    first = paid.payment.operations[0]
    event = GatewayEvent(
        id="1", type="t", at_us=0, kind=OperationKind.CHARGE, outcome=charged, operation_id=first.id
    )
    await tell(pay, event)
    reversal = (await pay.get(paid.payment_id)).operations[-1]
    assert reversal.compensates and reversal.status is OperationStatus.APPROVED
    failed = Declined(category=DeclineCategory.INVALID, code="refund_failed")
    undone = GatewayEvent(
        id="2",
        type="t",
        at_us=0,
        kind=OperationKind.REFUND,
        outcome=failed,
        reference=reversal.reference,
        undoes=True,
    )
    await tell(pay, undone)
    after = await pay.get(paid.payment_id)
    assert (after.state, after.review, after.captured_minor) == (
        S.NEEDS_REVIEW,
        "undone: refund_failed",
        100_00,
    )


# --- what was done at the PSP's dashboard -------------------------------------------------------------------


def outside(
    kind: OperationKind, payment: Payment, number: int = 1, amount_minor: int = 100_00
) -> GatewayEvent:
    """News of something that we did not ask for, which names the PSP's payment and nothing of ours."""
    reference = f"made_outside_{number}"
    return GatewayEvent(
        id=f"outside {number}",
        type="test",
        at_us=0,
        kind=kind,
        outcome=Approved(reference=reference, amount_minor=amount_minor),
        reference=reference,
        payment_reference=payment.gateway_reference,
    )


async def test_a_refund_made_outside_is_booked_though_it_names_only_the_psps_payment(
    make_world: Make,
) -> None:
    world = make_world(TellingGateway("alpha"))
    pay = await world.instance()
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    await pay.charge(USD100, "tok_ok", idempotency_key="other")
    for _ in range(2):
        await tell(pay, outside(OperationKind.REFUND, paid.payment, 1, 30_00))
    after = await pay.get(paid.payment_id)
    assert (after.state, after.refunded_minor) == (S.PARTIALLY_REFUNDED, 30_00)
    # And it may fail after all, like one of ours.
    told = outside(OperationKind.REFUND, paid.payment, 1, 30_00)
    failed = Declined(category=DeclineCategory.INVALID, code="refund_failed")
    await tell(pay, replace(told, id="failed", outcome=failed, undoes=True, payment_reference=None))
    assert (await pay.get(paid.payment_id)).refunded_minor == 0


async def test_a_refund_at_adyens_dashboard_is_booked(make_world: Make) -> None:
    world = make_world(AdyenLike())
    pay = await world.instance()
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    await hear(world, pay, adyen("REFUND", "8825408195409505", paid.payment, 25_00))
    assert (await pay.get(paid.payment_id)).refunded_minor == 25_00


async def test_a_refund_in_a_notice_that_could_be_forged_is_booked_as_the_psp_itself_says(
    make_world: Make,
) -> None:
    world = make_world(TellingGateway("alpha"))
    pay = await world.instance()
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    forged = replace(outside(OperationKind.REFUND, paid.payment, 1, 90_00), forgeable=True, must_look_up=True)
    await tell(pay, forged)
    assert (await pay.get(paid.payment_id)).refunded_minor == 0
    asked = []

    async def known(call: GatewayCall) -> Lookup:
        asked.append((call.kind, call.own_reference))
        return Found(outcome=Approved(reference="made_outside_2", amount_minor=30_00))

    world.gateways[0].look_up = known  # type: ignore[method-assign]
    told = outside(OperationKind.REFUND, paid.payment, 2, 90_00)
    await tell(pay, replace(told, forgeable=True, must_look_up=True))
    assert (await pay.get(paid.payment_id)).refunded_minor == 30_00
    assert asked == [(OperationKind.REFUND, "made_outside_2")]


async def test_a_refund_that_another_payment_has_is_not_booked_twice(make_world: Make) -> None:
    world = make_world(TellingGateway("alpha"))
    pay = await world.instance()
    first, second = [await pay.charge(USD100, "tok_ok", idempotency_key=key) for key in "ab"]
    told = outside(OperationKind.REFUND, first.payment, 1, 30_00)
    await tell(pay, told)
    await tell(pay, replace(told, id="again", payment_id=second.payment_id))
    refunded = [(await pay.get(one.payment_id)).refunded_minor for one in (first, second)]
    assert refunded == [30_00, 0]


def voided_at_the_psp(world: World) -> None:
    async def gone(call: GatewayCall) -> Lookup:
        return Found(outcome=Declined(category=DeclineCategory.HARD, code="canceled"))

    world.gateways[0].look_up = gone  # type: ignore[method-assign]


async def test_a_void_made_outside_cancels_the_payment_once_the_psp_confirms_it(make_world: Make) -> None:
    world = make_world(TellingGateway("alpha"))
    pay = await world.instance()
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="k")
    await tell(pay, outside(OperationKind.VOID, held.payment))
    assert (await pay.get(held.payment_id)).state is S.AUTHORIZED, "its present word is that it is held"
    voided_at_the_psp(world)
    await world.clock.sleep(60)
    await pay.recover()
    after = await pay.get(held.payment_id)
    assert (after.state, after.operations[-1].reason) == (S.CANCELED, "external")
    version = after.version
    await tell(pay, outside(OperationKind.VOID, held.payment, number=2))
    assert (await pay.get(held.payment_id)).version == version
    assert (await world.check_books(pay))[0].released_minor == 100_00
    with pytest.raises(errors.InvalidState):
        await pay.capture(held.payment_id, idempotency_key="c")


async def test_a_void_that_no_look_up_can_confirm_is_a_persons(make_world: Make) -> None:
    world = make_world(AdyenLike())
    pay = await world.instance()
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="k")
    await hear(world, pay, adyen("CANCELLATION", "8825408195409506", held.payment))
    after = await pay.get(held.payment_id)
    assert (after.state, after.released_minor) == (S.NEEDS_REVIEW, 0)
    assert after.review == "external_void_unconfirmed: 8825408195409506"


async def test_a_void_told_while_a_capture_is_in_doubt_waits_for_its_end(make_world: Make) -> None:
    world = make_world(AdyenLike())
    pay = await world.instance()
    payment, reference = await captured(world, pay, "k")
    await hear(world, pay, adyen("CANCELLATION", "8825408195409506", payment))
    assert (await pay.get(payment.id)).state is S.AUTHORIZED
    await hear(world, pay, adyen("CAPTURE", reference, payment))
    for _ in range(3):
        await world.clock.sleep(600)
        await pay.recover()
    after = await pay.get(payment.id)
    assert (after.state, after.captured_minor) == (S.NEEDS_REVIEW, 100_00), (
        "captured and voided: one is wrong"
    )


async def test_news_of_our_own_void_is_none_that_was_made_outside(make_world: Make) -> None:
    world = make_world(TellingGateway("alpha"))
    pay = await world.instance()
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="k")
    ended = await pay.void(held.payment_id, idempotency_key="v")
    await tell(pay, outside(OperationKind.VOID, held.payment))
    assert await pay.get(held.payment_id) == ended.payment


# --- whose payment it is ------------------------------------------------------------------------------------


async def test_a_reference_that_two_gateways_use_leads_to_the_one_that_told_of_it(make_world: Make) -> None:
    world = make_world(TellingGateway("alpha"), TellingGateway("beta"))
    for gateway in world.gateways:
        gateway._reference = lambda number: f"tx_{number}"  # type: ignore[method-assign]
    pay = await world.instance()
    first = await pay.charge(USD100, "tok_ok", idempotency_key="a")

    async def soft(gateway: InstantGateway, call: GatewayCall) -> Outcome:
        return Declined(category=DeclineCategory.SOFT, code="insufficient_funds")

    world.gateways[0].faults.append(soft)
    second = await pay.charge(USD100, "tok_ok", idempotency_key="b")
    assert first.payment.gateway_reference == second.payment.gateway_reference == "tx_1"
    await tell(pay, outside(OperationKind.REFUND, first.payment, 1, 30_00), gateway="beta")
    refunded = [(await pay.get(one.payment_id)).refunded_minor for one in (first, second)]
    # Alpha declined the second payment first, so what alpha says of tx_1 could be about either.
    assert refunded == [0, 30_00]


async def test_a_reference_that_could_mean_two_payments_is_left_for_a_person(make_world: Make) -> None:
    world = make_world(TellingGateway("alpha"))
    world.gateways[0]._reference = lambda number: "same"  # type: ignore[method-assign]
    pay = await world.instance()
    paid = [await pay.charge(USD100, "tok_ok", idempotency_key=key) for key in "ab"]
    await tell(pay, outside(OperationKind.REFUND, paid[0].payment, 1, 30_00))
    assert [(await pay.get(one.payment_id)).refunded_minor for one in paid] == [0, 0]
    assert await pay.store.prune_notices(world.clock.now_us() + 1, 10) == 0, (
        f"it is not {NoticeState.APPLIED}"
    )


# --- disputes -----------------------------------------------------------------------------------------------


def dispute(payment: Payment, number: int, news: DisputeNews, currency: str | None = "USD") -> GatewayEvent:
    """As a PSP tells of it: it names its transaction, and nothing of ours."""
    return GatewayEvent(
        id=f"dispute {payment.id} {number}",
        type="test",
        at_us=0,
        reference=news.reference,
        payment_reference=payment.gateway_reference,
        currency=currency,
        dispute=news,
    )


OPENED = DisputeNews(reference="dp_1", amount_minor=60_00, opened=True)
LOST = DisputeNews(reference="dp_1", amount_minor=60_00, opened=False, won=False)
WON = DisputeNews(reference="dp_1", amount_minor=60_00, opened=False, won=True)
ENDED = DisputeNews(reference="dp_1", amount_minor=60_00, opened=False, won=None)


async def disputed(make_world: Make, *steps: DisputeNews, currency: str | None = "USD") -> list[Payment]:
    """The payments that every order of these notices ends in, told once and told again."""
    world = make_world(TellingGateway("alpha"))
    pay = await world.instance()
    found = []
    orders = itertools.permutations(steps)
    for key, told in enumerate(one for order in orders for one in (order, (*order, *order))):
        paid = await pay.charge(USD100, "tok_ok", idempotency_key=f"k{key}")
        for number, news in enumerate(told):
            await tell(pay, dispute(paid.payment, number, news, currency))
        found.append(await pay.get(paid.payment_id))
    assert len({str(summary(one)) for one in found}) == 1, found
    return found


async def test_a_dispute_that_names_only_the_transaction_is_opened(make_world: Make) -> None:
    assert {payment.state for payment in await disputed(make_world, OPENED)} == {S.DISPUTED}


async def test_a_lost_dispute_leaves_less_to_refund(make_world: Make) -> None:
    world = make_world(TellingGateway("alpha"))
    pay = await world.instance()
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    for number, news in enumerate((OPENED, LOST)):
        await tell(pay, dispute(paid.payment, number, news))
    payment = await pay.get(paid.payment_id)
    assert (payment.state, payment.lost_minor, payment.refundable_minor) == (S.SUCCEEDED, 60_00, 40_00)
    with pytest.raises(errors.AmountTooLarge):
        await pay.refund(paid.payment_id, Money(40_01, "USD"), idempotency_key="r")
    refunded = await pay.refund(paid.payment_id, idempotency_key="r2")
    assert refunded.payment.refunded_minor == 40_00
    assert refunded.to_dict()["lost_minor"] == 60_00
    await tell(pay, outside(OperationKind.REFUND, paid.payment, 1, 10_00))
    after = await pay.get(paid.payment_id)
    assert (after.state, after.refunded_minor) == (S.NEEDS_REVIEW, 40_00), (
        "there is nothing left to give back"
    )


@pytest.mark.parametrize(
    ("steps", "state", "lost_minor"),
    [
        ((OPENED, WON), S.SUCCEEDED, 0),
        ((OPENED, LOST), S.SUCCEEDED, 60_00),
        ((OPENED, WON, LOST), S.NEEDS_REVIEW, 60_00),
        ((OPENED, ENDED), S.NEEDS_REVIEW, 0),
    ],
    ids=["won", "lost", "won and lost", "nobody says who won"],
)
async def test_disputes_end_the_same_in_any_order(
    make_world: Make, steps: tuple[DisputeNews, ...], state: PaymentState, lost_minor: int
) -> None:
    for payment in await disputed(make_world, *steps):
        assert (payment.state, payment.lost_minor) == (state, lost_minor)


async def test_what_was_lost_beyond_what_was_left_is_booked_and_a_persons(make_world: Make) -> None:
    world = make_world(TellingGateway("alpha"))
    pay = await world.instance()
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    await pay.refund(paid.payment_id, Money(70_00, "USD"), idempotency_key="r")
    for number, news in enumerate((OPENED, LOST)):
        await tell(pay, dispute(paid.payment, number, news))
    payment = await pay.get(paid.payment_id)
    assert (payment.review, payment.lost_minor) == ("dispute_lost_beyond_captured: dp_1", 60_00)


async def test_what_was_lost_in_another_currency_is_a_persons_to_book(make_world: Make) -> None:
    for payment in await disputed(make_world, OPENED, LOST, currency="EUR"):
        assert payment.state is S.NEEDS_REVIEW
        assert (payment.review or "").startswith("dispute_lost_amount_unknown")
        assert payment.lost_minor == 0


async def test_what_a_forgeable_notice_says_was_lost_is_a_persons_to_book(make_world: Make) -> None:
    world = make_world(TellingGateway("alpha"))
    pay = await world.instance()
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    for number, news in enumerate((OPENED, LOST)):
        await tell(pay, replace(dispute(paid.payment, number, news), forgeable=True))
    payment = await pay.get(paid.payment_id)
    assert (payment.review, payment.lost_minor) == ("dispute_lost_amount_unknown: dp_1", 0)


async def test_a_chargeback_at_adyen_finds_its_payment(make_world: Make) -> None:
    world = make_world(AdyenLike())
    pay = await world.instance()
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    await hear(world, pay, adyen("CHARGEBACK", "9915555555555555", paid.payment))
    assert (await pay.get(paid.payment_id)).state is S.DISPUTED
    await hear(world, pay, adyen("SECOND_CHARGEBACK", "9915555555555555", paid.payment))
    after = await pay.get(paid.payment_id)
    assert (after.state, after.lost_minor) == (S.SUCCEEDED, 100_00)


async def test_news_that_names_only_our_operation_finds_a_payment_that_is_long_done(make_world: Make) -> None:
    world = make_world(silent())
    pay = await world.instance()
    declined = await pay.charge(USD100, "tok_hard", idempotency_key="k")
    operation = declined.payment.operations[0]
    late = GatewayEvent(
        id="1",
        type="t",
        at_us=0,
        kind=OperationKind.CHARGE,
        outcome=Approved(reference="late_1", amount_minor=100_00),
        operation_id=operation.id,
    )
    await tell(pay, late)
    after = await pay.get(declined.payment_id)
    assert after.operations[0].status is OperationStatus.REVERSED
