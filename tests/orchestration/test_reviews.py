"""When a person is asked, when not, and what closing a review sets going again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec.structs import replace

from aegispay.app import AegisPay
from aegispay.domain import commands as cmd
from aegispay.domain import errors
from aegispay.domain import events as ev
from aegispay.domain.events import OperationKind
from aegispay.domain.money import Money
from aegispay.domain.outcomes import (
    Approved,
    DeclineCategory,
    Declined,
    Evidence,
    NextAction,
    Outcome,
    Pending,
    RequiresAction,
)
from aegispay.domain.payment import OperationStatus, Payment
from aegispay.domain.states import PaymentState
from aegispay.gateways.gateway import Found, GatewayCall, Lookup, LookupFailed
from aegispay.gateways.webhooks import GatewayEvent
from aegispay.storage.store import Purpose
from aegispay.testing.instant_gateway import Entry, InstantGateway, refused_connection, reply_lost
from tests.orchestration.harness import DAY_S, SETTINGS, World
from tests.orchestration.test_doubt import KEYED, LOOKUP_ONLY
from tests.orchestration.test_inbound import TellingGateway, tell

USD100 = Money(100_00, "USD")
Make = Callable[..., World]
HELD_A_WEEK = replace(KEYED, authorization_ttl_s=7 * DAY_S)
OPERATIONS_MAX = 250


async def refuse(gateway: InstantGateway, call: GatewayCall) -> Outcome:
    return Declined(category=DeclineCategory.INVALID, code="not_now")


async def hours(world: World, pay: AegisPay, count: int) -> None:
    """The worker passes by once an hour."""
    for _ in range(count):
        await world.clock.sleep(3600.0)
        await pay.recover()


# --- what is held is released, whatever was asked before ----------------------------------------------------


async def worn_out(world: World, pay: AegisPay) -> str:
    """An authorisation whose capture was refused until the payment had all the operations it may have."""
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="k")
    for number in range(OPERATIONS_MAX - 1):
        world.gateways[0].faults.append(refuse)
        await pay.capture(held.payment_id, idempotency_key=f"c{number}")
    assert len((await pay.get(held.payment_id)).operations) == OPERATIONS_MAX
    return str(held.payment_id)


async def test_a_payment_with_all_its_operations_used_up_is_released_when_it_lapses(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha", HELD_A_WEEK))
    pay = await world.instance()
    await worn_out(world, pay)
    await world.clock.sleep(7 * DAY_S)
    await hours(world, pay, 3)
    assert (await world.check_books(pay))[0].state is PaymentState.EXPIRED
    assert world.gateways[0].count(OperationKind.VOID) == 1
    assert await pay.store.count_in_flight() == 0


async def test_a_payment_with_all_its_operations_used_up_can_be_voided(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha", HELD_A_WEEK))
    pay = await world.instance()
    assert (await pay.void(await worn_out(world, pay))).is_success()
    assert (await world.check_books(pay))[0].state is PaymentState.CANCELED


async def test_a_payer_who_failed_their_step_again_and_again_is_canceled_when_late(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha", KEYED))
    pay = await world.instance()
    gateway = world.gateways[0]
    step = RequiresAction(reference="alpha_1", action=NextAction(url="https://bank.example/3ds"))

    async def again(inner: InstantGateway, call: GatewayCall) -> Outcome:
        return step

    async def still_open(call: GatewayCall) -> Lookup:
        return Found(outcome=step)

    asked = await pay.charge(USD100, "tok_3ds", idempotency_key="k")
    for number in range(OPERATIONS_MAX - 1):
        gateway.faults.append(again)
        await pay.complete_action(asked.payment_id, idempotency_key=f"c{number}")
    gateway.look_up = still_open  # type: ignore[method-assign]
    await hours(world, pay, 4)
    assert (await world.check_books(pay))[0].state is PaymentState.EXPIRED
    assert await pay.store.count_in_flight() == 0


async def test_a_release_waits_for_a_capture_that_is_pending_without_going_round_all_the_time(
    make_world: Make,
) -> None:
    world = make_world(InstantGateway("alpha", replace(KEYED, authorization_ttl_s=3600.0)))
    pay = await world.instance()
    gateway = world.gateways[0]
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="k")
    look_up = gateway.look_up

    async def later(inner: InstantGateway, call: GatewayCall) -> Outcome:
        return Pending(reference="cap_1")

    async def not_yet(call: GatewayCall) -> Lookup:
        capture = call.kind is OperationKind.CAPTURE
        return Found(outcome=Pending(reference="cap_1")) if capture else await look_up(call)

    gateway.faults.append(later)
    gateway.look_up = not_yet  # type: ignore[method-assign]
    await pay.capture(held.payment_id, idempotency_key="c", timeout_s=0.05)
    for _ in range(600):
        await world.clock.sleep(60.0)
        await pay.recover()
    assert (await pay.get(held.payment_id)).review is None
    row = await pay.store.find_in_flight((await pay.get(held.payment_id)).operations[0].id)
    assert row is not None and row.purpose is Purpose.EXPIRY
    assert 0 < row.due_at_us - world.clock.now_us() <= 600e6 and row.tries < 100

    async def refused(call: GatewayCall) -> Lookup:
        return Found(outcome=Declined(category=DeclineCategory.INVALID, code="too_late"))

    gateway.look_up = refused  # type: ignore[method-assign]
    await hours(world, pay, 2)
    assert (await world.check_books(pay))[0].state is PaymentState.EXPIRED


# --- evidence that comes while somebody looks ---------------------------------------------------------------


class Interrupted:
    """A look-up that learns nothing, and during which something else happens once."""

    def __init__(self) -> None:
        self.happens: list[Callable[[], Awaitable[Any]]] = []

    async def __call__(self, call: GatewayCall) -> Lookup:
        if self.happens:
            await self.happens.pop()()
        await asyncio.sleep(1.0)
        return LookupFailed(reason="down")


async def in_doubt_for_a_day(make_world: Make) -> tuple[World, AegisPay, Payment, Interrupted]:
    world = make_world(TellingGateway("alpha", replace(LOOKUP_ONLY, authorization_ttl_s=7 * DAY_S)))
    pay = await world.instance()
    looks = Interrupted()
    world.gateways[0].faults.append(reply_lost)
    world.gateways[0].look_up = looks  # type: ignore[method-assign]
    result = await pay.authorize(USD100, "tok_ok", idempotency_key="k", timeout_s=0.05)
    await hours(world, pay, 23)
    await world.clock.sleep(3700.0)
    return world, pay, await pay.get(result.payment_id), looks


def approval(world: World, payment: Payment) -> GatewayEvent:
    return GatewayEvent(
        id="1",
        type="t",
        at_us=0,
        kind=OperationKind.AUTHORIZE,
        operation_id=payment.operations[0].id,
        outcome=Approved(reference=world.gateways[0].books[0].reference, amount_minor=100_00),
    )


async def test_nobody_is_asked_about_a_doubt_that_a_webhook_ended_during_the_look_up(
    make_world: Make,
) -> None:
    world, pay, payment, looks = await in_doubt_for_a_day(make_world)
    looks.happens.append(lambda: tell(pay, approval(world, payment)))
    report = await pay.recover()
    assert (report.reviews, report.resolved) == (0, 1)
    assert (await pay.get(payment.id)).state is PaymentState.AUTHORIZED
    row = await pay.store.find_in_flight(payment.operations[0].id)
    assert row is not None and row.purpose is Purpose.EXPIRY
    assert row.due_at_us > world.clock.now_us() + 6 * DAY_S * 1e6
    await world.clock.sleep(7 * DAY_S)
    await hours(world, pay, 1)
    assert (await world.check_books(pay))[0].state is PaymentState.EXPIRED


async def test_a_payment_that_changed_in_something_else_is_asked_about_all_the_same(make_world: Make) -> None:
    """The operation is still in doubt: a worker that looked meanwhile learnt no more than we did."""
    _, pay, payment, looks = await in_doubt_for_a_day(make_world)

    async def reviewed_elsewhere() -> None:
        engine = pay._orchestrator.engine
        draft = engine.journal.draft(await engine.journal.load(payment.id))
        draft.apply(cmd.RequestReview(reason="somebody wonders"))
        draft.apply(cmd.CloseReview(reason="and is told"))
        await engine.journal.commit(draft)

    looks.happens.append(reviewed_elsewhere)
    assert (await pay.recover()).reviews == 1
    asked = await pay.get(payment.id)
    assert asked.review == "in doubt for 86400 s: timeout" and asked.review_until_evidence


async def refund_in_doubt_for_a_day(make_world: Make) -> tuple[World, AegisPay, Payment, Interrupted]:
    """The second of two refunds, each of 1.00."""
    world = make_world(TellingGateway("alpha", LOOKUP_ONLY))
    pay = await world.instance()
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    await pay.refund(paid.payment_id, Money(1_00, "USD"), idempotency_key="r1")
    looks = Interrupted()
    world.gateways[0].faults.append(reply_lost)
    world.gateways[0].look_up = looks  # type: ignore[method-assign]
    await pay.refund(paid.payment_id, Money(1_00, "USD"), idempotency_key="r2", timeout_s=0.05)
    await hours(world, pay, 23)
    await world.clock.sleep(3700.0)
    return world, pay, await pay.get(paid.payment_id), looks


async def test_nobody_is_asked_about_a_refund_that_was_told_meanwhile_though_the_state_is_the_same(
    make_world: Make,
) -> None:
    world, pay, payment, looks = await refund_in_doubt_for_a_day(make_world)
    refund = payment.operations[-1]
    told = GatewayEvent(
        id="1",
        type="t",
        at_us=0,
        kind=OperationKind.REFUND,
        operation_id=refund.id,
        outcome=Approved(reference=world.gateways[0].books[-1].reference, amount_minor=1_00),
    )
    looks.happens.append(lambda: tell(pay, told))
    # Whoever told us has ended the row, so that our lease on it is gone.
    assert (await pay.recover()).reviews == 0
    ended = (await world.check_books(pay))[0]
    assert (ended.state, payment.state) == (PaymentState.PARTIALLY_REFUNDED,) * 2
    assert await pay.store.count_in_flight() == 0


async def test_an_operation_still_in_doubt_stays_in_flight_when_the_payment_changed_its_state(
    make_world: Make,
) -> None:
    """During the look-up the bank disputes the payment: the next pass asks a person."""
    world, pay, paid, looks = await refund_in_doubt_for_a_day(make_world)

    async def disputed() -> None:
        engine = pay._orchestrator.engine
        draft = engine.journal.draft(await engine.journal.load(paid.id))
        draft.apply(cmd.OpenDispute(reference="dp_1", amount_minor=1_00, attempt_id=paid.operations[0].id))
        await engine.journal.commit(draft)

    looks.happens.append(disputed)
    assert (await pay.recover()).reviews == 0
    assert (await pay.get(paid.id)).state is PaymentState.DISPUTED
    await hours(world, pay, 1)
    assert (await pay.get(paid.id)).state is PaymentState.NEEDS_REVIEW
    assert await pay.store.count_in_flight() == 1


# --- pending ------------------------------------------------------------------------------------------------


async def pending_refund(make_world: Make) -> tuple[World, AegisPay, str, list[bool]]:
    """A refund of which the gateway says, while it answers, that it is at work on it."""
    world = make_world(InstantGateway("alpha", KEYED))
    pay = await world.instance()
    gateway = world.gateways[0]
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    answers = [True]

    async def slow(inner: InstantGateway, call: GatewayCall) -> Outcome:
        inner.execute(call)
        return Pending(reference="re_1")

    async def at_work(call: GatewayCall) -> Lookup:
        return Found(outcome=Pending(reference="re_1")) if answers[0] else LookupFailed(reason="down")

    gateway.faults.append(slow)
    gateway.look_up = at_work  # type: ignore[method-assign]
    await pay.refund(paid.payment_id, idempotency_key="r", timeout_s=0.05)
    return world, pay, paid.payment_id, answers


async def test_what_the_gateway_says_is_pending_is_left_alone_for_a_week(make_world: Make) -> None:
    world, pay, payment_id, _ = await pending_refund(make_world)
    await hours(world, pay, 7 * 24 - 1)
    assert (await pay.get(payment_id)).review is None
    await hours(world, pay, 2)
    payment = await pay.get(payment_id)
    assert payment.review == "pending for 604800 s: processing" and payment.review_until_evidence


async def test_how_long_pending_may_take_is_a_setting(make_world: Make) -> None:
    world, pay, payment_id, _ = await pending_refund(make_world)
    sooner = await world.instance(settings=replace(SETTINGS, pending_review_after_s=2 * DAY_S))
    await hours(world, sooner, 2 * 24 - 1)
    assert (await pay.get(payment_id)).review is None
    await hours(world, sooner, 2)
    assert (await pay.get(payment_id)).review == "pending for 172800 s: processing"


async def test_a_gateway_that_falls_silent_about_what_was_pending_is_asked_about_after_a_day(
    make_world: Make,
) -> None:
    world, pay, payment_id, answers = await pending_refund(make_world)
    await hours(world, pay, 50)
    answers[0] = False
    await hours(world, pay, 23)
    assert (await pay.get(payment_id)).review is None
    await hours(world, pay, 2)
    assert (await pay.get(payment_id)).review == "in doubt for 86400 s: processing"


# --- a person closes a review -------------------------------------------------------------------------------


async def less_than_asked(gateway: InstantGateway, call: GatewayCall) -> Outcome:
    """The gateway takes one cent less than it was asked for."""
    return Approved(reference="odd_1", amount_minor=call.amount.amount_minor - 1)


async def odd_amount(make_world: Make) -> tuple[World, AegisPay, str]:
    """An authorisation of another amount than was asked for: a person must look."""
    world = make_world(InstantGateway("alpha", HELD_A_WEEK))
    pay = await world.instance()
    world.gateways[0].faults.append(less_than_asked)
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="k")
    assert (await pay.get(held.payment_id)).state is PaymentState.NEEDS_REVIEW
    return world, pay, held.payment_id


async def test_a_closed_review_says_who_and_why_and_the_payment_goes_on(make_world: Make) -> None:
    _, pay, payment_id = await odd_amount(make_world)
    with pytest.raises(errors.InvalidState, match="needs_review"):
        await pay.capture(payment_id, idempotency_key="c")
    closed = await pay.close_review(payment_id, reason=" ann: agreed with the shop ")
    assert (closed.state, closed.review) == (PaymentState.AUTHORIZED, None)
    assert closed == await pay.get(payment_id)
    events = await pay.event_store.events(payment_id)
    assert events[-1].data == ev.ReviewClosed(reason="person: ann: agreed with the shop")
    assert await pay.close_review(payment_id, reason="again") == closed
    assert len(await pay.event_store.events(payment_id)) == len(events)
    assert (await pay.capture(payment_id, idempotency_key="c")).is_success()


async def test_an_authorisation_that_lapsed_in_review_is_released_once_the_review_is_closed(
    make_world: Make,
) -> None:
    world, pay, payment_id = await odd_amount(make_world)
    await world.clock.sleep(7 * DAY_S)
    await hours(world, pay, 5)
    assert world.gateways[0].count(OperationKind.VOID) == 0
    await pay.close_review(payment_id, reason="ann: not needed any more")
    await hours(world, pay, 2)
    assert (await pay.get(payment_id)).state is PaymentState.EXPIRED
    assert world.gateways[0].count(OperationKind.VOID) == 1


@pytest.mark.parametrize("reason", ["", " \n", "4242 4242 4242 4242", "x" * 256, None])
async def test_a_review_is_closed_with_a_reason_that_may_be_kept(make_world: Make, reason: Any) -> None:
    _, pay, payment_id = await odd_amount(make_world)
    with pytest.raises(errors.InvalidRequest):
        await pay.close_review(payment_id, reason=reason)
    assert (await pay.get(payment_id)).state is PaymentState.NEEDS_REVIEW


async def test_a_review_is_closed_by_its_own_merchant_alone(make_world: Make) -> None:
    _, pay, payment_id = await odd_amount(make_world)
    with pytest.raises(errors.PaymentNotFound):
        await pay.close_review(payment_id, reason="ann", merchant_id="another")
    with pytest.raises(errors.PaymentNotFound):
        await pay.close_review("pay_" + "0" * 32, reason="ann")
    with pytest.raises(errors.InvalidState, match="no success that nobody wanted"):
        await pay.close_review(payment_id, reason="ann", reversed_by_hand=True)
    assert (await pay.get(payment_id)).state is PaymentState.NEEDS_REVIEW


async def test_a_doubt_is_closed_by_evidence_and_not_by_a_person(make_world: Make) -> None:
    world, pay, payment, _ = await in_doubt_for_a_day(make_world)
    await pay.recover()
    first = payment.operations[0]
    with pytest.raises(errors.OperationInDoubt) as refused:
        await pay.close_review(payment.id, reason="ann: no idea")
    assert f"authorize {first.id} of 100.00 USD at alpha is in_doubt" in str(refused.value)
    await tell(pay, approval(world, payment))
    found = await pay.get(payment.id)
    assert found.state is PaymentState.AUTHORIZED
    assert await pay.close_review(payment.id, reason="ann: late") == found


async def test_a_review_that_began_meanwhile_for_another_reason_is_not_closed_unseen(
    make_world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, pay, payment_id = await odd_amount(make_world)
    other = await world.instance()
    commit = pay.store.commit

    async def overtaken(write: Any) -> None:
        monkeypatch.undo()
        await other.close_review(payment_id, reason="ben: seen")
        engine = other._orchestrator.engine
        draft = engine.journal.draft(await engine.journal.load(payment_id))
        draft.apply(cmd.RequestReview(reason="fraud?"))
        await engine.journal.commit(draft)
        await commit(write)

    monkeypatch.setattr(pay.store, "commit", overtaken)
    with pytest.raises(errors.InvalidState, match="for another reason: fraud"):
        await pay.close_review(payment_id, reason="ann: the amount is fine")
    assert (await pay.get(payment_id)).review == "fraud?"


async def test_two_who_close_at_once_close_it_once(make_world: Make) -> None:
    world, pay, payment_id = await odd_amount(make_world)
    other = await world.instance()
    one, two = await asyncio.gather(
        pay.close_review(payment_id, reason="ann"), other.close_review(payment_id, reason="ben")
    )
    assert one == two == await pay.get(payment_id)
    events = await pay.event_store.events(payment_id)
    assert sum(isinstance(event.data, ev.ReviewClosed) for event in events) == 1


# --- what nobody wanted, given back by hand -----------------------------------------------------------------


async def lies(gateway: InstantGateway, call: GatewayCall) -> Outcome:
    """Charged, and told as declined."""
    gateway.execute(call)
    return Declined(category=DeclineCategory.SOFT, code="processing_error")


async def unwanted(
    make_world: Make, fault: Any, liars: tuple[str, ...] = ("alpha",), meanwhile: Any = None
) -> tuple[World, AegisPay, Payment]:
    """A payment that beta took while alpha had taken it too; each reversal at the liars ends as the fault says."""
    names = ("alpha", "beta", "gamma")[: len(liars) + 1]
    world = make_world(*(TellingGateway(name) for name in names))
    pay = await world.instance()
    lying = [gateway for gateway in world.gateways if gateway.name in liars]
    for gateway in lying:
        gateway.faults.append(lies)
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    assert paid.is_success()
    if meanwhile is not None:
        await meanwhile(world, pay, paid.payment_id)
    for number, gateway in enumerate(lying):
        gateway.faults.extend([fault] * 1000)
        told = GatewayEvent(
            id=str(number),
            type="t",
            at_us=0,
            kind=OperationKind.CHARGE,
            operation_id=paid.payment.operations[number].id,
            outcome=Approved(reference=gateway.books[0].reference, amount_minor=100_00),
        )
        await tell(pay, told, gateway=gateway.name)
    return world, pay, await pay.get(paid.payment_id)


def by_hand(gateway: InstantGateway, payment: Payment) -> None:
    """Somebody refunds the charge at the PSP's dashboard."""
    gateway.books.append(
        Entry(
            kind=OperationKind.REFUND,
            payment_id=payment.id,
            operation_id="",
            amount_minor=100_00,
            reference=f"dash_{gateway.name}",
        )
    )


async def test_a_reversal_that_the_psp_refuses_is_made_by_hand_and_recorded(make_world: Make) -> None:
    world, pay, payment = await unwanted(make_world, refuse)
    assert payment.review == "reversal_refused: not_now"
    with pytest.raises(errors.InvalidState, match=r"must be reversed first: charge op_\w+ of 100.00 USD at"):
        await pay.close_review(payment.id, reason="ann: tired of it")
    by_hand(world.gateways[0], payment)
    closed = await pay.close_review(payment.id, reason="ann: at the dashboard", reversed_by_hand=True)
    assert (closed.state, closed.review, closed.captured_minor) == (PaymentState.SUCCEEDED, None, 100_00)
    first, reversal = closed.operations[0], closed.operations[-1]
    assert first.status is OperationStatus.REVERSED
    assert (reversal.kind, reversal.reason) == (OperationKind.REFUND, "reversed_by_hand")
    assert (reversal.parent_id, reversal.amount_minor, reversal.compensates) == (first.id, 100_00, True)
    events = [event.data for event in await pay.event_store.events(payment.id)][-3:]
    assert isinstance(events[1], ev.OperationApproved) and events[1].evidence is Evidence.PERSON
    assert events[2] == ev.ReviewClosed(reason="person: ann: at the dashboard")
    assert await pay.close_review(payment.id, reason="ann", reversed_by_hand=True) == closed
    await world.check_books(pay)
    assert await pay.store.count_in_flight() == 0


async def test_a_review_of_a_refused_reversal_is_closed_by_hand_while_a_refund_is_pending(
    make_world: Make,
) -> None:
    """The question was about the reversal; the refund of what was wanted has evidence of its own to come."""

    async def pending(gateway: InstantGateway, call: GatewayCall) -> Outcome:
        gateway.execute(call)
        return Pending(reference="re_1")

    async def at_work(call: GatewayCall) -> Lookup:
        return Found(outcome=Pending(reference="re_1"))

    async def refund(world: World, pay: AegisPay, payment_id: str) -> None:
        beta = world.gateways[1]
        beta.faults.append(pending)
        beta.look_up = at_work  # type: ignore[method-assign]
        await pay.refund(payment_id, Money(1_00, "USD"), idempotency_key="r", timeout_s=0.05)

    _, pay, payment = await unwanted(make_world, refuse, meanwhile=refund)
    assert payment.review == "reversal_refused: not_now" and payment.review_until_evidence
    closed = await pay.close_review(payment.id, reason="ann: at the dashboard", reversed_by_hand=True)
    assert closed.state is PaymentState.SUCCEEDED
    assert [op.status for op in closed.unfinished] == [OperationStatus.PENDING]
    assert await pay.store.count_in_flight() == 1


async def test_a_reversal_that_never_left_is_made_by_hand_and_then_never_sent(make_world: Make) -> None:
    world, pay, payment = await unwanted(make_world, refused_connection)
    alpha = world.gateways[0]
    await hours(world, pay, 30)
    asked = await pay.get(payment.id)
    assert asked.review == "not sent for 86400 s"
    match = r"refund op_\w+ of 100.00 USD at alpha is started.*close the review as reversed by hand"
    with pytest.raises(errors.OperationInDoubt, match=match):
        await pay.close_review(payment.id, reason="ann: tired of it")
    by_hand(alpha, payment)
    closed = await pay.close_review(payment.id, reason="ann: at the dashboard", reversed_by_hand=True)
    assert closed.state is PaymentState.SUCCEEDED and not closed.unfinished
    assert len(closed.operations) == len(asked.operations)
    alpha.faults.clear()
    asked_before = len(alpha.calls)
    await hours(world, pay, 30)
    assert len(alpha.calls) == asked_before
    await world.check_books(pay)
    assert await pay.store.count_in_flight() == 0


async def test_a_reversal_that_a_worker_is_just_trying_is_not_taken_from_it(make_world: Make) -> None:
    world, pay, payment = await unwanted(make_world, refused_connection)
    other = await world.instance()
    alpha = world.gateways[0]
    await hours(world, pay, 30)
    gone = asyncio.Event()

    async def slow(inner: InstantGateway, call: GatewayCall) -> Outcome:
        await gone.wait()
        return inner.execute(call)

    alpha.faults.clear()
    alpha.faults.append(slow)
    await world.clock.sleep(3600.0)
    working = asyncio.ensure_future(pay.recover())
    await world.clock.sleep(0.5)
    with pytest.raises(errors.OperationInDoubt, match="is being tried at this moment"):
        await other.close_review(payment.id, reason="ann", reversed_by_hand=True)
    gone.set()
    await working
    ended = (await world.check_books(pay))[0]
    assert (ended.state, ended.review) == (PaymentState.SUCCEEDED, None)


async def test_a_worker_that_comes_first_keeps_its_lease_against_a_person(
    make_world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between our look at the row and our commit a worker takes the reversal up, and sends it."""
    world, pay, payment = await unwanted(make_world, refused_connection)
    other = await world.instance()
    await hours(world, pay, 30)
    await world.clock.sleep(3600.0)
    commit = pay.store.commit

    async def overtaken(write: Any) -> None:
        monkeypatch.undo()
        world.gateways[0].faults.clear()
        await other.recover()
        await commit(write)

    monkeypatch.setattr(pay.store, "commit", overtaken)
    closed = await pay.close_review(payment.id, reason="ann", reversed_by_hand=True)
    assert closed.review is None
    events = [event.data for event in await pay.event_store.events(payment.id)]
    assert [one.evidence for one in events if isinstance(one, ev.OperationApproved)][-1] is Evidence.REPLY
    await world.check_books(pay)


async def test_two_reversals_that_never_left_are_both_recorded_as_made_by_hand(make_world: Make) -> None:
    world, pay, payment = await unwanted(make_world, refused_connection, liars=("alpha", "beta"))
    await hours(world, pay, 30)
    for gateway in world.gateways[:2]:
        by_hand(gateway, payment)
    closed = await pay.close_review(payment.id, reason="ann: both", reversed_by_hand=True)
    assert closed.state is PaymentState.SUCCEEDED
    assert [op.status for op in closed.operations[:2]] == [OperationStatus.REVERSED] * 2
    assert await pay.store.count_in_flight() == 0  # Each was taken over under its own fence.
    for gateway in world.gateways[:2]:
        gateway.faults.clear()
    await hours(world, pay, 30)
    await world.check_books(pay)
    assert await pay.store.count_in_flight() == 0


# --- what cannot be released --------------------------------------------------------------------------------


async def test_what_was_released_at_the_dashboard_is_seen_once_the_review_is_closed(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha", replace(KEYED, authorization_ttl_s=3600.0)))
    pay = await world.instance()
    gateway = world.gateways[0]
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="k")
    gateway.faults.extend([refuse] * 1000)
    await hours(world, pay, 10)
    assert (await pay.get(held.payment_id)).review == "cannot be released: not_now"
    await pay.close_review(held.payment_id, reason="ann: try once more")
    await hours(world, pay, 2)
    assert (await pay.get(held.payment_id)).review == "cannot be released: not_now"

    async def released(call: GatewayCall) -> Lookup:
        return Found(outcome=Declined(category=DeclineCategory.HARD, code="canceled", reference="vo_1"))

    gateway.look_up = released  # type: ignore[method-assign]
    await pay.close_review(held.payment_id, reason="ben: voided at the dashboard")
    calls = len(gateway.calls)
    await hours(world, pay, 2)
    ended = (await world.check_books(pay))[0]
    assert (ended.state, ended.operations[-1].reference) == (PaymentState.EXPIRED, "vo_1")
    assert len(gateway.calls) == calls
    assert await pay.store.count_in_flight() == 0
