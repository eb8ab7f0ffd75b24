"""A person who has looked at the gateway ends a doubt by their word; and what becomes of it where they were wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from aegispay.app import AegisPay
from aegispay.domain import errors
from aegispay.domain import events as ev
from aegispay.domain.money import Money
from aegispay.domain.outcomes import Approved, DeclineCategory, Declined, Evidence, Outcome, Pending
from aegispay.domain.payment import Operation, OperationStatus, Payment
from aegispay.domain.states import PaymentState
from aegispay.gateways.capabilities import Capabilities
from aegispay.gateways.gateway import Found, GatewayCall, Lookup
from aegispay.gateways.webhooks import GatewayEvent
from aegispay.orchestration.settings import DoubtPolicy, Settings
from aegispay.storage.store import Guard, InFlight, Purpose, Write
from aegispay.testing.instant_gateway import (
    Fault,
    InstantGateway,
    refused_connection,
    reply_lost,
    request_lost,
)
from tests.orchestration.harness import DAY_S, SETTINGS, World
from tests.orchestration.test_inbound import silent, tell
from tests.orchestration.test_reviews import hours, refuse

USD100 = Money(100_00, "USD")
USD1 = Money(1_00, "USD")
Make = Callable[..., World]
IN_DOUBT = "in doubt for 86400 s: timeout"
WATCHED = replace(SETTINGS, watch_after_s=3600.0)
KINDS = ["charge", "authorize", "confirm", "capture", "void", "refund"]
S = PaymentState


async def begun(pay: AegisPay, gateway: InstantGateway, kind: str, fault: Fault) -> str:
    """One operation that the gateway gives no answer to, on a payment that is as far as it must be."""
    if kind in ("charge", "authorize"):
        gateway.faults.append(fault)
        result = await (pay.charge if kind == "charge" else pay.authorize)(
            USD100, "tok_ok", idempotency_key="k", timeout_s=0.05
        )
        return str(result.payment_id)
    if kind == "confirm":
        first = await pay.charge(USD100, "tok_3ds", idempotency_key="k")
    else:
        first = await (pay.charge if kind == "refund" else pay.authorize)(
            USD100, "tok_ok", idempotency_key="k"
        )
    gateway.faults.append(fault)
    payment_id = str(first.payment_id)
    if kind == "confirm":
        await pay.complete_action(payment_id, idempotency_key="o", timeout_s=0.05)
    elif kind == "capture":
        await pay.capture(payment_id, idempotency_key="o", timeout_s=0.05)
    elif kind == "void":
        await pay.void(payment_id, idempotency_key="o", timeout_s=0.05)
    else:
        await pay.refund(payment_id, idempotency_key="o", timeout_s=0.05)
    return payment_id


async def asked(
    make_world: Make, kind: str = "charge", fault: Fault = request_lost, settings: Settings = SETTINGS
) -> tuple[World, AegisPay, Payment]:
    """A gateway that never says what became of the operation, and a person who is asked after a day."""
    world = make_world(silent(), InstantGateway("beta"))
    pay = await world.instance(settings=settings)
    payment_id = await begun(pay, world.gateways[0], kind, fault)
    await hours(world, pay, 26)
    payment = await pay.get(payment_id)
    assert (payment.review, payment.review_until_evidence) == (IN_DOUBT, True)
    with pytest.raises(errors.OperationInDoubt, match="Whoever has seen there"):
        await pay.close_review(payment_id, reason="ann: no idea")
    return world, pay, payment


def newest(payment: Payment) -> Operation:
    return payment.operations[-1]


def reference(world: World) -> str:
    """What the gateway calls the last that it did."""
    return world.gateways[0].books[-1].reference


def sees_again(world: World) -> None:
    """The gateway answers look-ups again."""
    del world.gateways[0].look_up  # type: ignore[method-assign]


async def row_of(pay: AegisPay, operation: Operation) -> InFlight | None:
    return await pay.store.find_in_flight(operation.id)


# --- what they say is what it is ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "state"),
    list(
        zip(
            KINDS,
            [S.FAILED, S.FAILED, S.REQUIRES_ACTION, S.AUTHORIZED, S.AUTHORIZED, S.SUCCEEDED],
            strict=True,
        )
    ),
)
async def test_what_had_no_effect_ends_and_the_payment_goes_on_without_another_gateway(
    make_world: Make, kind: str, state: PaymentState
) -> None:
    world, pay, payment = await asked(make_world, kind)
    calls = len(world.gateways[0].calls)
    closed = await pay.close_review(payment.id, reason=" ben: not in the dashboard ", no_effect=True)
    assert (closed.state, closed.review, closed.captured_minor) == (state, None, payment.captured_minor)
    assert closed == await pay.get(payment.id)
    assert (newest(closed).status, newest(closed).code) == (OperationStatus.NOT_SENT, "person")
    events = [event.data for event in await pay.event_store.events(payment.id)][payment.version :]
    assert events[0] == ev.OperationNotSent(
        operation_id=newest(payment).id, reason="person", evidence=Evidence.PERSON
    )
    assert events[-1] == ev.ReviewClosed(reason="person: ben: not in the dashboard")
    await world.clock.sleep(0.9 * 3600)
    await hours(world, pay, 0 if kind == "confirm" else 30)
    assert len(world.gateways[0].calls) == calls and not world.gateways[1].calls
    await world.check_books(pay)


@pytest.mark.parametrize(
    ("kind", "state"),
    list(
        zip(KINDS, [S.SUCCEEDED, S.AUTHORIZED, S.SUCCEEDED, S.SUCCEEDED, S.CANCELED, S.REFUNDED], strict=True)
    ),
)
async def test_what_took_effect_is_booked_under_the_reference_that_they_read(
    make_world: Make, kind: str, state: PaymentState
) -> None:
    world, pay, payment = await asked(make_world, kind, reply_lost)
    calls = len(world.gateways[0].calls)
    closed = await pay.close_review(
        payment.id, reason="ben: it is there", took_effect=f" {reference(world)} "
    )
    assert (closed.state, closed.review) == (state, None)
    assert (newest(closed).status, newest(closed).reference) == (OperationStatus.APPROVED, reference(world))
    events = [event.data for event in await pay.event_store.events(payment.id)][payment.version :]
    assert events == [
        ev.OperationApproved(
            operation_id=newest(payment).id,
            amount_minor=100_00,
            reference=reference(world),
            evidence=Evidence.PERSON,
        ),
        ev.ReviewClosed(reason="person: ben: it is there"),
    ]
    await hours(world, pay, 30)
    assert len(world.gateways[0].calls) == calls
    await world.check_books(pay)
    assert await row_of(pay, newest(closed)) is None


async def test_a_payment_that_was_stuck_goes_on(make_world: Make) -> None:
    world, pay, payment = await asked(make_world)
    await pay.close_review(payment.id, reason="ben: not there", no_effect=True)
    answer = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    assert answer.is_failure() and answer.error is not None and answer.error.retryable
    assert (await pay.charge(USD100, "tok_ok", idempotency_key="again")).is_success()
    assert world.taken_in_all_minor() == 100_00


async def test_what_they_found_can_be_captured_and_refunded_and_its_caller_hears_of_it(
    make_world: Make,
) -> None:
    world, pay, payment = await asked(make_world, "authorize", reply_lost)
    await pay.close_review(payment.id, reason="ben: there", took_effect=reference(world))
    assert (await pay.authorize(USD100, "tok_ok", idempotency_key="k")).is_success()
    assert (await pay.capture(payment.id, idempotency_key="c")).is_success()
    assert world.gateways[0].calls[-1].parent_reference == world.gateways[0].books[0].reference
    assert (await pay.refund(payment.id, idempotency_key="r")).is_success()
    assert (await world.check_books(pay))[0].state is S.REFUNDED


async def test_a_payers_step_that_was_not_confirmed_can_be_completed_or_lapses(make_world: Make) -> None:
    world, pay, payment = await asked(make_world, "confirm")
    await pay.close_review(payment.id, reason="ben: not there", no_effect=True)
    row = await row_of(pay, payment.operations[0])
    assert row is not None and row.purpose is Purpose.ACTION
    done = await pay.complete_action(payment.id, idempotency_key="o2")
    assert done.is_success()
    sees_again(world)
    await hours(world, pay, 5)
    assert (await world.check_books(pay))[0].state is S.SUCCEEDED
    assert await pay.store.count_in_flight() == 0


async def test_a_found_authorisation_lapses_one_day(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha", Capabilities(authorization_ttl_s=7 * DAY_S)))
    pay = await world.instance()
    world.gateways[0].look_up = silent().look_up  # type: ignore[method-assign]
    payment_id = await begun(pay, world.gateways[0], "authorize", reply_lost)
    await hours(world, pay, 26)
    closed = await pay.close_review(payment_id, reason="ben: there", took_effect=reference(world))
    row = await row_of(pay, closed.operations[0])
    assert row is not None and row.purpose is Purpose.EXPIRY
    await hours(world, pay, 7 * 24 + 2)
    assert (await world.check_books(pay))[0].state is S.EXPIRED


@pytest.mark.parametrize("executed", [True, False])
async def test_a_gateway_that_is_no_longer_configured_leaves_nothing_stuck(
    make_world: Make, executed: bool
) -> None:
    world, old, payment = await asked(make_world, "capture", reply_lost if executed else request_lost)
    await old.stop()
    gone = world.gateways.pop(0)
    pay = await world.instance(settings=WATCHED)
    if executed:
        closed = await pay.close_review(payment.id, reason="ben", took_effect=gone.books[-1].reference)
    else:
        closed = await pay.close_review(payment.id, reason="ben", no_effect=True)
        await hours(world, pay, 26)
        assert await pay.get(payment.id) == closed
    assert closed.state is (S.SUCCEEDED if executed else S.AUTHORIZED)
    assert closed.captured_minor == gone.taken_minor(payment.id)
    assert await row_of(pay, newest(closed)) is None


# --- nobody sends what a person said had no effect ----------------------------------------------------------


async def keeps_its_key(make_world: Make) -> tuple[World, AegisPay, Payment]:
    """A gateway that would still execute a resend, and gives no look-ups: each pass of the worker sends again."""
    world = make_world(InstantGateway("alpha", Capabilities(stable_key=True, stable_key_ttl_s=30 * DAY_S)))
    pay = await world.instance()
    world.gateways[0].look_up = silent().look_up  # type: ignore[method-assign]
    world.gateways[0].faults.extend([request_lost] * 1000)
    result = await pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=0.05)
    await hours(world, pay, 26)
    payment = await pay.get(result.payment_id)
    assert payment.review == IN_DOUBT
    world.gateways[0].faults.clear()
    await world.clock.sleep(3600.0)
    return world, pay, payment


async def test_no_worker_sends_it_again(make_world: Make) -> None:
    world, pay, payment = await keeps_its_key(make_world)
    calls = len(world.gateways[0].calls)
    await pay.close_review(payment.id, reason="ben: not there", no_effect=True)
    await hours(world, pay, 40)
    assert len(world.gateways[0].calls) == calls
    assert (await world.check_books(pay))[0].state is S.FAILED


class Held:
    """The gateway takes its time over one call."""

    def __init__(self, gateway: InstantGateway):
        self.go = asyncio.Event()
        gateway.faults.append(self._slow)

    async def _slow(self, inner: InstantGateway, call: GatewayCall) -> Outcome:
        await self.go.wait()
        return inner.execute(call)


async def test_what_a_worker_is_just_trying_is_not_taken_from_it(make_world: Make) -> None:
    world, pay, payment = await keeps_its_key(make_world)
    other = await world.instance()
    held = Held(world.gateways[0])
    working = asyncio.ensure_future(pay.recover())
    await world.clock.sleep(0.5)
    for word in ({"no_effect": True}, {"took_effect": "alpha_7"}):
        with pytest.raises(
            errors.OperationInDoubt, match=r"is being tried at this moment\. Try again in a min"
        ):
            await other.close_review(payment.id, reason="ben", **word)  # type: ignore[arg-type]
    held.go.set()
    await working
    assert (await world.check_books(pay))[0].state is S.SUCCEEDED


async def test_a_worker_that_comes_first_keeps_its_lease(
    make_world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between a person's look at the row and their commit a worker takes it up, and is about to send."""
    world, pay, payment = await keeps_its_key(make_world)
    other = await world.instance()
    commit = pay.store.commit
    held = Held(world.gateways[0])
    working: list[asyncio.Future[Any]] = []

    async def overtaken(write: Any) -> None:
        monkeypatch.undo()
        working.append(asyncio.ensure_future(other.recover()))
        await world.clock.sleep(0.5)
        await commit(write)

    monkeypatch.setattr(pay.store, "commit", overtaken)
    with pytest.raises(errors.OperationInDoubt, match="is being tried at this moment"):
        await pay.close_review(payment.id, reason="ben", no_effect=True)
    assert (await pay.get(payment.id)).review == IN_DOUBT
    held.go.set()
    await working[0]
    assert (await world.check_books(pay))[0].state is S.SUCCEEDED
    with pytest.raises(errors.InvalidState, match="is in no review"):
        await pay.close_review(payment.id, reason="ben", no_effect=True)


async def test_a_worker_that_was_stalled_while_a_person_spoke_does_nothing_any_more(
    make_world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It took the row up, slept through its lease, and wakes up when the person has ended it."""
    world, pay, payment = await keeps_its_key(make_world)
    sleeper = await world.instance()
    renew = sleeper.store.renew
    wakes = asyncio.Event()

    async def asleep(*args: Any) -> bool:
        await wakes.wait()
        return await renew(*args)

    monkeypatch.setattr(sleeper.store, "renew", asleep)
    working = asyncio.ensure_future(sleeper.recover())
    await world.clock.sleep(SETTINGS.lease_s + 1)
    calls = len(world.gateways[0].calls)
    await pay.close_review(payment.id, reason="ben: not there", no_effect=True)
    wakes.set()
    assert (await working).lost == 1
    assert len(world.gateways[0].calls) == calls
    row = await row_of(pay, payment.operations[0])
    assert row is not None and (row.purpose, row.owner) == (Purpose.WATCH, "")


async def test_an_operation_without_a_row_gets_one_to_be_watched(make_world: Make) -> None:
    _, pay, payment = await asked(make_world)
    row = await row_of(pay, payment.operations[0])
    assert row is not None
    guard = Guard(operation_id=row.operation_id, fence=row.fence)
    await pay.store.commit(Write(payment=payment, events=(), expected_version=payment.version, guard=guard))
    closed = await pay.close_review(payment.id, reason="ben", no_effect=True)
    assert closed.state is S.FAILED
    row = await row_of(pay, payment.operations[0])
    assert row is not None and (row.purpose, row.owner) == (Purpose.WATCH, "")


# --- a person may be wrong ----------------------------------------------------------------------------------


def told_of(payment: Payment, outcome: Outcome, **more: Any) -> GatewayEvent:
    operation = newest(payment)
    return GatewayEvent(
        id="evt_1",
        type="t",
        at_us=0,
        kind=operation.kind,
        operation_id=operation.id,
        payment_id=payment.id,
        outcome=outcome,
        **more,
    )


@pytest.mark.parametrize("how", ["watch", "webhook"])
@pytest.mark.parametrize(
    ("kind", "state", "status"),
    [
        ("charge", S.FAILED, OperationStatus.REVERSED),
        ("authorize", S.FAILED, OperationStatus.REVERSED),
        ("capture", S.SUCCEEDED, OperationStatus.APPROVED),
        ("void", S.CANCELED, OperationStatus.APPROVED),
        ("refund", S.REFUNDED, OperationStatus.APPROVED),
    ],
)
async def test_what_had_an_effect_after_all_is_found_and_given_back_or_booked(
    make_world: Make, kind: str, state: PaymentState, status: OperationStatus, how: str
) -> None:
    world, pay, payment = await asked(make_world, kind, reply_lost)
    closed = await pay.close_review(payment.id, reason="ben: not there, I think", no_effect=True)
    row = await row_of(pay, newest(closed))
    assert row is not None and (row.purpose, row.owner) == (Purpose.WATCH, "")
    assert row.due_at_us == world.clock.now_us() + int(SETTINGS.watch_after_s * 1e6)
    if how == "webhook":
        await tell(pay, told_of(closed, Approved(reference=reference(world), amount_minor=100_00)))
    sees_again(world)
    await hours(world, pay, 2)
    (ended,) = await world.check_books(pay)
    assert (ended.state, ended.review) == (state, None)
    found = ended.operation(newest(closed).id)
    assert found is not None and found.status is status
    assert await row_of(pay, found) is None and await pay.store.count_in_flight() == 0


async def test_what_cannot_be_given_back_is_handed_to_a_person(make_world: Make) -> None:
    world, pay, payment = await asked(make_world, "charge", reply_lost)
    await pay.close_review(payment.id, reason="ben: not there, I think", no_effect=True)
    world.gateways[0].faults.extend([refuse] * 100)
    sees_again(world)
    await hours(world, pay, 2)
    assert (await pay.get(payment.id)).review == "reversal_refused: not_now"


async def test_who_has_looked_is_not_asked_again_because_the_gateway_stays_silent(make_world: Make) -> None:
    world, pay, payment = await asked(make_world, settings=WATCHED)
    await pay.close_review(payment.id, reason="ben: not there", no_effect=True)
    await hours(world, pay, 23)
    assert await row_of(pay, newest(payment)) is not None
    await hours(world, pay, 3)
    assert (await pay.get(payment.id)).state is S.FAILED
    assert await row_of(pay, newest(payment)) is None


async def test_who_has_looked_is_asked_again_where_the_gateway_is_at_work_on_it(make_world: Make) -> None:
    world, pay, payment = await asked(make_world, settings=WATCHED)
    await pay.close_review(payment.id, reason="ben: not there", no_effect=True)

    async def at_work(call: GatewayCall) -> Lookup:
        return Found(outcome=Pending(reference="alpha_1"))

    world.gateways[0].look_up = at_work  # type: ignore[method-assign]
    await hours(world, pay, 2)
    again = await pay.get(payment.id)
    assert again.review == "failed, and the gateway does not say that it had no effect"
    with pytest.raises(errors.InvalidState, match="is in review for another reason"):
        await pay.close_review(payment.id, reason="ben: there", took_effect="alpha_1")
    assert (await pay.close_review(payment.id, reason="ben: give up")).state is S.FAILED


async def test_a_gateway_that_contradicts_what_they_found_is_a_persons_again(make_world: Make) -> None:
    world, pay, payment = await asked(make_world)
    closed = await pay.close_review(payment.id, reason="ben: there", took_effect="alpha_77")
    assert closed.state is S.SUCCEEDED
    no = Declined(category=DeclineCategory.HARD, code="stolen_card")

    async def declined(call: GatewayCall) -> Lookup:
        return Found(outcome=no)

    world.gateways[0].look_up = declined  # type: ignore[method-assign]
    await tell(pay, told_of(closed, no))
    assert (await pay.get(payment.id)).review == "declined_after_approval"


async def test_a_refund_that_they_found_and_that_failed_is_out_of_the_books_again(make_world: Make) -> None:
    _, pay, payment = await asked(make_world, "refund")
    closed = await pay.close_review(payment.id, reason="ben: there", took_effect="re_1")
    assert closed.state is S.REFUNDED
    failed = Declined(category=DeclineCategory.INVALID, code="refund_failed")
    await tell(pay, told_of(closed, failed, undoes=True))
    undone = await pay.get(payment.id)
    assert (undone.review, undone.refunded_minor) == ("undone: refund_failed", 0)


# --- they have just decided ---------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [DoubtPolicy.REVERSE, DoubtPolicy.REVIEW])
@pytest.mark.parametrize("kind", ["charge", "authorize", "confirm"])
async def test_the_policy_for_doubt_neither_reverses_nor_asks_about_what_a_person_found(
    make_world: Make, policy: DoubtPolicy, kind: str
) -> None:
    world, pay, payment = await asked(make_world, kind, reply_lost, replace(SETTINGS, doubt_policy=policy))
    closed = await pay.close_review(payment.id, reason="ben: there", took_effect=reference(world))
    assert closed.state is (S.AUTHORIZED if kind == "authorize" else S.SUCCEEDED)
    await hours(world, pay, 30)
    (after,) = await world.check_books(pay)
    assert (after.state, len(after.operations)) == (closed.state, len(payment.operations))


async def test_a_giving_back_by_policy_that_a_person_stops_is_not_asked_about_again(make_world: Make) -> None:
    """The policy's own refund is in doubt: it had no effect, so that the charge stands until they refund it."""
    world = make_world(silent())
    pay = await world.instance(settings=replace(SETTINGS, doubt_policy=DoubtPolicy.REVERSE))
    payment_id = await begun(pay, world.gateways[0], "charge", reply_lost)
    world.gateways[0].faults.extend([refused_connection] * 1000)
    late = told_of(await pay.get(payment_id), Approved(reference=reference(world), amount_minor=100_00))
    await tell(pay, late)
    await hours(world, pay, 27)
    assert (await pay.get(payment_id)).review == "not sent for 86400 s"
    world.gateways[0].faults.clear()
    closed = await pay.close_review(payment_id, reason="ben: let it stand", no_effect=True)
    assert (closed.state, newest(closed).reason) == (S.SUCCEEDED, "succeeded_after_doubt")
    sees_again(world)
    await hours(world, pay, 30)
    (after,) = await world.check_books(pay)
    assert (after.state, after.refunded_minor) == (S.SUCCEEDED, 0)
    assert (await pay.refund(payment_id, idempotency_key="r")).is_success()
