"""A person may be wrong, or speak of another operation than they mean: what they said is found out, or not recorded."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from aegispay.domain import errors
from aegispay.domain.money import Money
from aegispay.domain.outcomes import Pending
from aegispay.domain.payment import OperationStatus
from aegispay.gateways.capabilities import Capabilities
from aegispay.gateways.gateway import Found, GatewayCall, Lookup
from aegispay.orchestration.persons_word import named_by_review
from aegispay.storage.store import Guard
from aegispay.testing.instant_gateway import reply_lost
from tests.orchestration.harness import DAY_S
from tests.orchestration.test_inbound import silent
from tests.orchestration.test_persons_word import (
    USD100,
    WATCHED,
    Make,
    S,
    asked,
    newest,
    row_of,
    sees_again,
)
from tests.orchestration.test_persons_word_refused import two_refunds_in_doubt
from tests.orchestration.test_reviews import hours


@pytest.mark.parametrize("asks", [True, False], ids=["worker", "sync"])
async def test_what_the_gateway_is_still_at_work_on_is_booked_when_it_ends(
    make_world: Make, asks: bool
) -> None:
    """A refund that was said to have had no effect; the gateway completes it days later."""
    world = make_world(silent())
    pay = await world.instance(settings=WATCHED)
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    world.gateways[0].faults.append(reply_lost)
    await pay.refund(paid.payment_id, Money(40_00, "USD"), idempotency_key="r1", timeout_s=0.05)
    await hours(world, pay, 26)
    await pay.close_review(paid.payment_id, reason="ben: not there", no_effect=True)

    async def at_work(call: GatewayCall) -> Lookup:
        return Found(outcome=Pending(reference="alpha_2"))

    world.gateways[0].look_up = at_work  # type: ignore[method-assign]
    await hours(world, pay, 30)
    payment = await pay.get(paid.payment_id)
    assert payment.review == "failed, and the gateway does not say that it had no effect"
    assert await row_of(pay, newest(payment)) is not None
    sees_again(world)
    world.gateways[0].capabilities = Capabilities(lookup_by_reference=True, lookup_quiet_s=1.0)
    if asks:
        await hours(world, pay, 2)
    else:
        await pay.sync(paid.payment_id)
    assert (await pay.get(paid.payment_id)).refunded_minor == 40_00
    assert world.taken_minor(paid.payment_id) == 60_00


async def test_the_word_is_about_the_operation_that_they_looked_for_or_about_none(make_world: Make) -> None:
    """Ann and Ben were both shown the first refund; when Ben speaks, the review is about the second."""
    world, pay, payment = await two_refunds_in_doubt(make_world)
    named = named_by_review(await pay.store.load_events(payment.id))
    doubts = [op for op in payment.operations if op.status is OperationStatus.IN_DOUBT]
    first, second = sorted(doubts, key=lambda op: op.id != named)
    await pay.close_review(payment.id, reason="ann: not there", no_effect=True, operation_id=first.id)
    await hours(world, pay, 1)
    before = await pay.get(payment.id)
    with pytest.raises(errors.InvalidState, match=f"is in review about refund {second.id}"):
        await pay.close_review(payment.id, reason="ben: not there", no_effect=True, operation_id=first.id)
    assert await pay.get(payment.id) == before
    await pay.close_review(payment.id, reason="ben: nor that", no_effect=True, operation_id=second.id)
    assert not (await pay.get(payment.id)).unfinished
    with pytest.raises(errors.InvalidRequest, match="goes with `no_effect` or `took_effect`"):
        await pay.close_review(payment.id, reason="ben", operation_id=first.id)


async def test_a_confirmation_that_ended_while_they_looked_is_answered_by_where_that_left_the_payment(
    make_world: Make,
) -> None:
    world, pay, payment = await asked(make_world, "confirm")
    waits = await pay.complete_action(payment.id, idempotency_key="o", timeout_s=0.05)
    assert waits.is_pending()
    await pay.close_review(payment.id, reason="ben: not there", no_effect=True)
    said = await pay.complete_action(payment.id, idempotency_key="o", timeout_s=0.05)
    assert said.requires_action()
    assert (await pay.complete_action(payment.id, idempotency_key="o2")).is_success()
    for instance in (pay, await world.instance()):
        again = await instance.complete_action(payment.id, idempotency_key="o", timeout_s=0.05)
        assert again.to_json() == said.to_json()


async def test_a_lease_from_a_clock_far_ahead_does_not_keep_them_from_speaking(make_world: Make) -> None:
    _, pay, payment = await asked(make_world)
    row = await row_of(pay, newest(payment))
    assert row is not None
    due_at_us = row.due_at_us + int(300 * DAY_S * 1_000_000)
    ahead = replace(row, owner="gone", due_at_us=due_at_us, fence=row.fence + 1)
    journal = pay._orchestrator.engine.journal
    await journal.commit(
        journal.draft(payment), guard=Guard(operation_id=row.operation_id, fence=row.fence, keep=ahead)
    )
    closed = await pay.close_review(payment.id, reason="ben: not there", no_effect=True)
    assert closed.state is S.FAILED
