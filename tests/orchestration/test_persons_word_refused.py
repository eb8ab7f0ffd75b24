"""A person's word is taken once, whole or not at all, of what they were asked about alone; the rest is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from aegispay.app import AegisPay
from aegispay.domain import errors
from aegispay.domain import events as ev
from aegispay.domain.outcomes import Approved
from aegispay.domain.payment import OperationStatus, Payment
from aegispay.gateways.capabilities import Capabilities
from aegispay.storage.store import Purpose
from aegispay.testing.instant_gateway import InstantGateway, refused_connection, reply_lost, request_lost
from tests.orchestration.harness import Death, World, until_dead_or_done
from tests.orchestration.test_inbound import silent, tell
from tests.orchestration.test_persons_word import (
    IN_DOUBT,
    USD1,
    USD100,
    Make,
    S,
    asked,
    newest,
    row_of,
    told_of,
)
from tests.orchestration.test_reviews import hours, refuse, unwanted

# --- once, and whole or not at all --------------------------------------------------------------------------


@pytest.mark.parametrize("word", [{"no_effect": True}, {"took_effect": "alpha_9"}], ids=["no", "yes"])
async def test_closing_again_changes_nothing(make_world: Make, word: dict[str, Any]) -> None:
    _, pay, payment = await asked(make_world)
    closed = await pay.close_review(payment.id, reason="ben", **word)
    assert await pay.close_review(payment.id, reason="ben", **word) == closed
    assert await pay.close_review(payment.id, reason="ann, who did not know", **word) == closed
    for other in ({"took_effect": "alpha_8"}, {"no_effect": "took_effect" in word}):
        if any(other.values()):
            with pytest.raises(errors.InvalidState, match="is in no review"):
                await pay.close_review(payment.id, reason="ben", **other)  # type: ignore[arg-type]
    assert await pay.get(payment.id) == closed


async def test_two_who_say_the_same_at_once_say_it_once(make_world: Make) -> None:
    world, pay, payment = await asked(make_world)
    other = await world.instance()
    one, two = await asyncio.gather(
        pay.close_review(payment.id, reason="ann", no_effect=True),
        other.close_review(payment.id, reason="ben", no_effect=True),
    )
    assert one == two == await pay.get(payment.id)


async def test_of_two_who_contradict_each_other_the_second_is_refused(make_world: Make) -> None:
    world, pay, payment = await asked(make_world)
    other = await world.instance()
    said = await asyncio.gather(
        pay.close_review(payment.id, reason="ann", no_effect=True),
        other.close_review(payment.id, reason="ben", took_effect="alpha_9"),
        return_exceptions=True,
    )
    assert sorted(type(one).__name__ for one in said) == ["InvalidState", "Payment"]


@pytest.mark.parametrize("word", [{"no_effect": True}, {"took_effect": "alpha_9"}], ids=["no", "yes"])
async def test_a_death_on_the_way_leaves_all_or_nothing(make_world: Make, word: dict[str, Any]) -> None:
    """The instance dies before each call of the store in turn; the person says it again to another."""
    world, pay, payment = await asked(make_world)
    reached: set[OperationStatus] = set()
    deaths = 0
    for at in range(1, 50):
        death = Death()
        dying = await world.instance(death)
        death.count, death.at = 0, at
        await until_dead_or_done(dying.close_review(payment.id, reason="ben", **word), death)
        now = await pay.get(payment.id)
        if not death.dead.is_set():
            break
        deaths += 1
        reached.add(now.operations[0].status)
        in_review = now.review is not None
        assert in_review == (now.operations[0].status is OperationStatus.IN_DOUBT) == (now == payment)
        row = await row_of(pay, now.operations[0])
        purposes = {True: Purpose.CALL, False: Purpose.WATCH if "no_effect" in word else None}
        assert (row.purpose if row else None) == purposes[in_review]
    assert deaths > 4
    assert len(reached) == 2, "deaths before and after the commit"
    closed = await pay.close_review(payment.id, reason="ben", **word)
    assert closed.state is (S.FAILED if "no_effect" in word else S.SUCCEEDED)


# --- what they may not say ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ({"no_effect": True, "took_effect": "r"}, "one of"),
        ({"no_effect": True, "reversed_by_hand": True}, "one of"),
        ({"took_effect": "r", "reversed_by_hand": True}, "one of"),
        ({"took_effect": ""}, "dashboard"),
        ({"took_effect": " \n"}, "dashboard"),
        ({"took_effect": "4242 4242 4242 4242"}, "card number"),
        ({"took_effect": "x" * 256}, "255 are allowed"),
        ({"took_effect": 7}, "is text"),
    ],
)
async def test_a_word_must_make_sense(make_world: Make, word: dict[str, Any], said: str) -> None:
    _, pay, payment = await asked(make_world)
    with pytest.raises(errors.InvalidRequest, match=said):
        await pay.close_review(payment.id, reason="ben", **word)
    assert await pay.get(payment.id) == payment


async def test_a_reference_is_not_taken_that_is_anothers(make_world: Make) -> None:
    world, pay, payment = await asked(make_world, "charge", reply_lost)
    other = await pay.charge(USD100, "tok_ok", idempotency_key="other")
    theirs = other.payment.gateway_reference
    with pytest.raises(errors.InvalidRequest, match=r"is what alpha calls another payment.*dashboard again"):
        await pay.close_review(payment.id, reason="ben", took_effect=theirs)
    assert await pay.get(payment.id) == payment
    closed = await pay.close_review(
        payment.id, reason="ben", took_effect=world.gateways[0].books[0].reference
    )
    assert closed.state is S.SUCCEEDED


async def two_refunds_in_doubt(make_world: Make) -> tuple[World, AegisPay, Payment]:
    """Three refunds of 1.00: the first is done, the others in doubt; a person is asked about the second."""
    world = make_world(silent())
    pay = await world.instance()
    gateway = world.gateways[0]
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    await pay.refund(paid.payment_id, USD1, idempotency_key="r0")
    for number in (1, 2):
        gateway.faults.append(request_lost)
        await pay.refund(paid.payment_id, USD1, idempotency_key=f"r{number}", timeout_s=0.05)
    await hours(world, pay, 26)
    payment = await pay.get(paid.payment_id)
    assert payment.review == IN_DOUBT and len(payment.unfinished) == 2
    return world, pay, payment


async def test_a_refund_is_not_booked_under_the_name_of_another_operation(make_world: Make) -> None:
    _, pay, payment = await two_refunds_in_doubt(make_world)
    for operation in payment.operations[:2]:
        with pytest.raises(errors.InvalidRequest, match=f"alpha calls {operation.kind} {operation.id}"):
            await pay.close_review(payment.id, reason="ben", took_effect=operation.reference)
    assert (await pay.close_review(payment.id, reason="ben", took_effect="re_2")).refunded_minor == 2_00


async def test_of_two_operations_in_doubt_each_is_asked_about_and_told_by_itself(make_world: Make) -> None:
    world, pay, payment = await two_refunds_in_doubt(make_world)
    asked_about = [
        event.data.operation_id
        for event in await pay.event_store.events(payment.id)
        if isinstance(event.data, ev.ReviewRequested)
    ]
    first = payment.operation(str(asked_about[0]))
    assert first is not None
    closed = await pay.close_review(payment.id, reason="ben: not there", no_effect=True)
    (second,) = closed.unfinished
    assert closed.state is S.PARTIALLY_REFUNDED and second != first
    assert await pay.close_review(payment.id, reason="ben: not there", no_effect=True) == closed
    await hours(world, pay, 1)
    again = await pay.get(payment.id)
    assert again.review == IN_DOUBT
    # Who did not hear our first answer says it once more: that was not about the refund which is asked about now.
    with pytest.raises(errors.InvalidState, match=f"said before, of {first.id};.*about refund {second.id}"):
        await pay.close_review(payment.id, reason="ben: not there", no_effect=True)
    assert await pay.get(payment.id) == again
    closed = await pay.close_review(payment.id, reason="ben: nor the other", no_effect=True)
    assert (closed.state, closed.refunded_minor, closed.unfinished) == (S.PARTIALLY_REFUNDED, 1_00, ())


async def test_a_word_of_what_has_ended_is_not_taken_for_one_of_what_has_not(make_world: Make) -> None:
    """The refund that was asked about is told by a notice; the review stays open for the other."""
    world, pay, payment = await two_refunds_in_doubt(make_world)
    (asked_event,) = (
        event.data
        for event in await pay.event_store.events(payment.id)
        if isinstance(event.data, ev.ReviewRequested)
    )
    done = Approved(reference="re_9", amount_minor=1_00)
    await tell(pay, replace(told_of(payment, done), operation_id=asked_event.operation_id))
    now = await pay.get(payment.id)
    assert now.review == IN_DOUBT and len(now.unfinished) == 1
    for word in ({"no_effect": True}, {"took_effect": "re_8"}):
        with pytest.raises(errors.InvalidState, match=r"is approved\. Close the review without"):
            await pay.close_review(payment.id, reason="ben", **word)  # type: ignore[arg-type]
    closed = await pay.close_review(payment.id, reason="ben: seen")
    assert (closed.review, closed.unfinished) == (None, now.unfinished)
    await hours(world, pay, 2)
    assert (await pay.get(payment.id)).review == IN_DOUBT
    await pay.close_review(payment.id, reason="ben: not there", no_effect=True)
    assert not (await pay.get(payment.id)).unfinished


async def test_a_word_needs_a_review_that_asks_for_it(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha"))
    pay = await world.instance()
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    for word in ({"no_effect": True}, {"took_effect": "r"}):
        with pytest.raises(errors.InvalidState, match="is in no review"):
            await pay.close_review(paid.payment_id, reason="ben", **word)  # type: ignore[arg-type]
    with pytest.raises(errors.PaymentNotFound):
        await pay.close_review(paid.payment_id, reason="ben", no_effect=True, merchant_id="another")


async def test_what_waits_for_its_payer_is_not_a_persons_to_end(make_world: Make) -> None:
    """The payer is late, nothing can be canceled, and the gateway does not say whether they paid."""
    world = make_world(silent())
    pay = await world.instance()
    asked = await pay.charge(USD100, "tok_3ds", idempotency_key="k")
    world.gateways[0].capabilities = replace(world.gateways[0].capabilities, void=False)
    await hours(world, pay, 28)
    payment = await pay.get(asked.payment_id)
    assert (payment.review or "").startswith("the payer is late") and payment.review_until_evidence
    for word in ({"no_effect": True}, {"took_effect": "r"}):
        with pytest.raises(errors.InvalidState, match="waits for its payer; `sync` asks"):
            await pay.close_review(payment.id, reason="ben", **word)  # type: ignore[arg-type]
    assert await pay.get(payment.id) == payment


# --- reversals of what nobody wanted ------------------------------------------------------------------------


async def test_a_reversal_goes_through_or_is_made_by_hand(make_world: Make) -> None:
    world, pay, payment = await unwanted(make_world, refused_connection)
    await hours(world, pay, 30)
    with pytest.raises(errors.InvalidState, match=r"so that it must go through.*reversed by hand"):
        await pay.close_review(payment.id, reason="ben: never mind", no_effect=True)
    assert (await pay.get(payment.id)).review == "not sent for 86400 s"
    closed = await pay.close_review(payment.id, reason="ben: it is there", took_effect="re_1")
    assert (closed.state, closed.operations[0].status) == (S.SUCCEEDED, OperationStatus.REVERSED)
    assert newest(closed).reference == "re_1"
    world.gateways[0].faults.clear()
    calls = len(world.gateways[0].calls)
    await hours(world, pay, 30)
    assert len(world.gateways[0].calls) == calls
    assert await pay.store.count_in_flight() == 0


async def test_what_the_gateway_keeps_is_asked_about_when_the_doubt_beside_it_has_ended(
    make_world: Make,
) -> None:
    async def refund(world: World, pay: AegisPay, payment_id: str) -> None:
        beta = world.gateways[1]
        beta.look_up = silent().look_up  # type: ignore[method-assign]
        beta.capabilities = Capabilities()
        beta.faults.append(request_lost)
        await pay.refund(payment_id, USD1, idempotency_key="r", timeout_s=0.05)
        await hours(world, pay, 26)
        assert (await pay.get(payment_id)).review == IN_DOUBT

    _, pay, payment = await unwanted(make_world, refuse, meanwhile=refund)
    assert payment.review == IN_DOUBT
    told = await pay.close_review(payment.id, reason="ben: no refund there", no_effect=True)
    assert (told.review, told.review_until_evidence) == ("reversal_refused: not_now", True)
    assert not told.unfinished
    with pytest.raises(errors.InvalidState, match=r"is unwanted\. Close the review without"):
        await pay.close_review(payment.id, reason="ben: the other?", took_effect="re_1")
    closed = await pay.close_review(payment.id, reason="ben: by hand", reversed_by_hand=True)
    assert (closed.state, closed.review) == (S.SUCCEEDED, None)
