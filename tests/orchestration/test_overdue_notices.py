"""News that cannot be applied for about a day: a person is asked, once, and it is tried on. No log line is its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from aegispay.app import AegisPay
from aegispay.domain import commands as cmd
from aegispay.domain import errors
from aegispay.domain.events import OperationKind, ReviewRequested
from aegispay.domain.money import Money
from aegispay.domain.outcomes import Approved, DeclineCategory, Declined, Outcome, Pending
from aegispay.domain.payment import OperationStatus, Payment
from aegispay.domain.states import PaymentState
from aegispay.gateways.gateway import Found, GatewayCall, Lookup
from aegispay.gateways.webhooks import DisputeNews, GatewayEvent
from aegispay.orchestration.kept_notices import UNREADABLE, KeptNotice
from aegispay.storage.notices import Notice, NoticeState
from aegispay.testing.instant_gateway import InstantGateway, reply_lost
from tests.orchestration.harness import DAY_S, World
from tests.orchestration.test_inbound import TellingGateway, silent, tell
from tests.orchestration.test_inbound_afterwards import close_review, outside

USD100 = Money(100_00, "USD")
Make = Callable[..., World]
K = OperationKind
S = PaymentState
HOUR_S = 3600.0
DECLINED = Declined(category=DeclineCategory.INVALID, code="refund_failed")


async def pass_hours(world: World, pay: AegisPay, hours: int) -> None:
    for _ in range(hours):
        await world.clock.sleep(HOUR_S)
        await pay.recover()


def dispute_of(payment: Payment) -> GatewayEvent:
    return GatewayEvent(
        id="dispute",
        type="dispute.opened",
        at_us=0,
        dispute=DisputeNews(reference="dp_1", amount_minor=100_00, opened=True),
        reference="dp_1",
        payment_reference=payment.gateway_reference,
        currency="USD",
    )


async def asked(pay: AegisPay, payment_id: str) -> list[str]:
    """Every question that was put to a person, in order."""
    events = await pay.event_store.events(payment_id)
    return [one.data.reason for one in events if isinstance(one.data, ReviewRequested)]


async def still_tried(pay: AegisPay) -> list[str]:
    return [one.notice_id for one in await pay.notices(state="open")]


async def test_a_person_is_asked_once_and_the_news_is_applied_when_it_can_be(make_world: Make) -> None:
    world = make_world(TellingGateway("alpha"))
    pay = await world.instance()
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="k")
    await tell(pay, dispute_of(held.payment))
    await pass_hours(world, pay, 20)
    assert await asked(pay, held.payment_id) == []
    await pass_hours(world, pay, 20)
    reason = "unapplied_notice: dispute.opened dp_1"
    assert (await pay.get(held.payment_id)).review == reason
    await close_review(pay, held.payment_id)
    await pass_hours(world, pay, 5)
    assert await asked(pay, held.payment_id) == [reason], "nobody is asked again and again"
    assert await still_tried(pay) == ["dispute"]
    assert await pay.notices() == []
    await pay.capture(held.payment_id, idempotency_key="c")
    await pass_hours(world, pay, 2)
    assert (await pay.get(held.payment_id)).state is S.DISPUTED
    assert await still_tried(pay) == []


async def test_while_a_person_looks_at_something_else_the_question_waits(make_world: Make) -> None:
    world = make_world(TellingGateway("alpha"))
    pay = await world.instance()
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="k")
    engine = pay._orchestrator.engine
    draft = engine.journal.draft(held.payment)
    draft.apply(cmd.RequestReview(reason="fraud?"))
    await engine.journal.commit(draft)
    await tell(pay, dispute_of(held.payment))
    await pass_hours(world, pay, 40)
    assert await asked(pay, held.payment_id) == ["fraud?"]
    await close_review(pay, held.payment_id)
    await pass_hours(world, pay, 2)
    assert await asked(pay, held.payment_id) == ["fraud?", "unapplied_notice: dispute.opened dp_1"]


async def test_news_that_is_never_applied_is_listed_in_the_end(make_world: Make) -> None:
    world = make_world(TellingGateway("alpha"))
    pay = await world.instance()
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="k")
    await tell(pay, dispute_of(held.payment))
    await pass_hours(world, pay, 40)
    await world.clock.sleep(57 * DAY_S)
    await pass_hours(world, pay, 2)
    assert await still_tried(pay) == ["dispute"]
    await world.clock.sleep(2 * DAY_S)
    await pass_hours(world, pay, 2)
    (kept,) = await pay.notices()
    assert kept == KeptNotice(
        gateway="alpha",
        notice_id="dispute",
        state=NoticeState.UNMATCHED,
        received_at_us=kept.received_at_us,
        tries=kept.tries,
        type="dispute.opened",
        says="dispute opened",
        amount_minor=100_00,
        currency="USD",
        reference="dp_1",
        payment_reference=held.payment.gateway_reference,
    )
    assert kept.tries > 40


async def test_a_refund_outside_beside_a_slow_one_of_ours_is_booked_when_ours_has_ended(
    make_world: Make,
) -> None:
    world = make_world(TellingGateway("alpha"))
    pay = await world.instance()
    gateway = world.gateways[0]
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    word: list[Outcome] = [Pending(reference="re_slow")]

    async def slow(_: InstantGateway, call: GatewayCall) -> Outcome:
        return word[0]

    async def present(call: GatewayCall) -> Lookup:
        return Found(outcome=word[0])

    gateway.faults.append(slow)
    gateway.look_up = present  # type: ignore[method-assign]
    await pay.refund(paid.payment_id, Money(30_00, "USD"), idempotency_key="r", timeout_s=0.05)
    await tell(pay, outside(K.REFUND, paid.payment, 1, 20_00))
    await pass_hours(world, pay, 72)
    assert (await pay.get(paid.payment_id)).refunded_minor == 0
    word[0] = Approved(reference="re_slow", amount_minor=30_00)
    await pass_hours(world, pay, 3)
    after = await pay.get(paid.payment_id)
    assert (after.refunded_minor, after.state) == (50_00, S.PARTIALLY_REFUNDED)


@pytest.mark.parametrize(("undoes", "questions"), [(False, 0), (True, 1)])
async def test_a_failure_of_what_we_never_heard_of_is_asked_about_only_where_it_had_succeeded(
    make_world: Make, undoes: bool, questions: int
) -> None:
    world = make_world(TellingGateway("alpha"))
    pay = await world.instance()
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    told = replace(outside(K.REFUND, paid.payment), outcome=DECLINED, undoes=undoes)
    await tell(pay, told)
    await pass_hours(world, pay, 40)
    assert len(await asked(pay, paid.payment_id)) == questions
    assert len(await pay.notices(state=NoticeState.OPEN)) == questions
    assert await pay.notices() == []


async def test_a_failure_that_may_be_an_open_operations_waits_for_its_end(make_world: Make) -> None:
    world = make_world(silent())
    pay = await world.instance()
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    world.gateways[0].faults.append(reply_lost)
    await pay.refund(paid.payment_id, Money(30_00, "USD"), idempotency_key="r", timeout_s=0.05)
    ours = (await pay.get(paid.payment_id)).operations[-1]
    told = replace(outside(K.REFUND, paid.payment), outcome=DECLINED)
    await tell(pay, told)
    await pass_hours(world, pay, 40)
    assert await still_tried(pay) == [told.id]
    await tell(pay, replace(told, id="by our id", operation_id=ours.id))
    assert (await pay.get(paid.payment_id)).operations[-1].status is OperationStatus.DECLINED
    await pass_hours(world, pay, 2)
    assert await still_tried(pay) == []


@pytest.mark.parametrize(("token", "questions"), [("tok_ok", 0), ("tok_hard", 1)])
async def test_a_hint_that_no_look_up_answers_is_asked_about_where_the_attempt_had_failed(
    make_world: Make, token: str, questions: int
) -> None:
    world = make_world(silent())
    pay = await world.instance()
    result = await pay.charge(USD100, token, idempotency_key="k")
    first = result.payment.operations[0]
    hint = GatewayEvent(id="1", type="look", at_us=0, kind=K.CHARGE, operation_id=first.id, must_look_up=True)
    await tell(pay, hint)
    await pass_hours(world, pay, 40)
    assert len(await asked(pay, result.payment_id)) == questions
    assert len(await still_tried(pay)) == questions


async def test_what_is_under_way_at_the_dashboard_is_not_waited_for(make_world: Make) -> None:
    world = make_world(TellingGateway("alpha"))
    pay = await world.instance()
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    await tell(pay, replace(outside(K.REFUND, paid.payment), outcome=Pending(reference="re_1")))
    assert await still_tried(pay) == []
    assert await pay.get(paid.payment_id) == paid.payment


async def test_news_of_no_payment_of_ours_is_listed_and_so_is_what_cannot_be_read(make_world: Make) -> None:
    world = make_world(TellingGateway("alpha"))
    pay = await world.instance()
    stranger = GatewayEvent(
        id="1", type="charge.ok", at_us=0, kind=K.CHARGE, outcome=DECLINED, payment_reference="pi_of_others"
    )
    await tell(pay, stranger)
    now_us = world.clock.now_us()
    broken = Notice(
        gateway="alpha", notice_id="2", body="?", received_at_us=now_us + 1_000_000, due_at_us=now_us
    )
    await pay.store.keep_notices([broken])
    assert await pay.notices() == []
    await pass_hours(world, pay, 40)
    found = [(one.notice_id, one.type, one.says, one.payment_reference) for one in await pay.notices()]
    assert found == [
        ("2", UNREADABLE, "look at", None),
        ("1", "charge.ok", "declined charge", "pi_of_others"),
    ]
    assert [one.notice_id for one in await pay.notices(limit=1)] == ["2"]
    for wrong in ({"limit": 0}, {"limit": 1001}, {"state": "lost"}):
        with pytest.raises(errors.InvalidRequest):
            await pay.notices(**wrong)  # type: ignore[arg-type]


async def test_a_store_that_cannot_say_whose_news_it_is_leaves_it_open(make_world: Make) -> None:
    world = make_world(TellingGateway("alpha"))
    pay = await world.instance()
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    store: Any = pay.store
    find = store.find_by_reference

    async def away(reference: str) -> list[str]:
        raise errors.StoreUnavailable

    store.find_by_reference = away
    await tell(pay, outside(K.REFUND, paid.payment, 1, 20_00))
    await pass_hours(world, pay, 50)
    assert len(await still_tried(pay)) == 1
    store.find_by_reference = find
    await pass_hours(world, pay, 2)
    assert (await pay.get(paid.payment_id)).refunded_minor == 20_00


# --- captures at the dashboard ------------------------------------------------------------------------------


async def test_a_capture_made_outside_is_booked_and_can_be_refunded_through_us(make_world: Make) -> None:
    world = make_world(TellingGateway("alpha"))
    pay = await world.instance()
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="k")
    told = outside(K.CAPTURE, held.payment)
    for number in ("1", "2"):
        await tell(pay, replace(told, id=number))
    after = await pay.get(held.payment_id)
    assert (after.state, after.captured_minor, after.operations[-1].reason) == (
        *(S.SUCCEEDED, 100_00),
        "external",
    )
    assert len(after.operations) == 2
    refund = await pay.refund(held.payment_id, idempotency_key="r")
    assert refund.payment.state is S.REFUNDED


async def test_a_capture_in_part_made_outside_leaves_the_rest(make_world: Make) -> None:
    world = make_world(TellingGateway("alpha"))
    pay = await world.instance()
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="k")
    await tell(pay, outside(K.CAPTURE, held.payment, 1, 40_00))
    after = await pay.get(held.payment_id)
    assert (after.state, after.captured_minor, after.capturable_minor) == (S.AUTHORIZED, 40_00, 60_00)
    await tell(pay, outside(K.CAPTURE, held.payment, 2, 60_01))
    asked_of = (await pay.get(held.payment_id)).review
    assert asked_of == "external_capture_does_not_fit: made_outside_2"


async def test_a_capture_told_while_our_own_is_in_doubt_is_not_counted_twice(make_world: Make) -> None:
    world = make_world(silent())
    pay = await world.instance()
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="k")
    world.gateways[0].faults.append(reply_lost)
    await pay.capture(held.payment_id, idempotency_key="c", timeout_s=0.05)
    ours = (await pay.get(held.payment_id)).operations[-1]
    reference = world.gateways[0].books[-1].reference
    taken = Approved(reference=reference, amount_minor=100_00)
    told = replace(outside(K.CAPTURE, held.payment), reference=reference, outcome=taken)
    await tell(pay, told)
    assert (await pay.get(held.payment_id)).captured_minor == 0
    await tell(pay, replace(told, id="by our id", operation_id=ours.id))
    await pass_hours(world, pay, 1)
    (after,) = await world.check_books(pay)
    assert (after.state, len(after.operations)) == (S.SUCCEEDED, 2)
    assert await still_tried(pay) == []


async def test_a_capture_that_could_be_forged_is_booked_as_the_psp_itself_says(make_world: Make) -> None:
    world = make_world(TellingGateway("alpha"))
    pay = await world.instance()
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="k")
    told = replace(outside(K.CAPTURE, held.payment, 1, 90_00), forgeable=True)
    await tell(pay, told)
    assert (await pay.get(held.payment_id)).captured_minor == 0

    async def known(call: GatewayCall) -> Lookup:
        assert (call.kind, call.own_reference) == (K.CAPTURE, "made_outside_1")
        return Found(outcome=Approved(reference="made_outside_1", amount_minor=40_00))

    world.gateways[0].look_up = known  # type: ignore[method-assign]
    await pass_hours(world, pay, 1)
    assert (await pay.get(held.payment_id)).captured_minor == 40_00
