"""A success that was in doubt and whose caller has gone follows the merchant's policy, whichever evidence tells of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from msgspec.structs import replace

from aegispay.app import AegisPay
from aegispay.domain import starting
from aegispay.domain.events import OperationKind
from aegispay.domain.money import Money
from aegispay.domain.outcomes import Approved, Evidence, InDoubt, Outcome, Pending
from aegispay.domain.payment import OperationStatus, Payment
from aegispay.domain.states import PaymentState
from aegispay.gateways.capabilities import Capabilities
from aegispay.gateways.gateway import GatewayCall, Lookup, LookupFailed
from aegispay.gateways.webhooks import GatewayEvent
from aegispay.orchestration.doubt import is_served
from aegispay.orchestration.settings import DoubtPolicy
from aegispay.reconciliation.evidence import Recorder
from aegispay.reconciliation.lines import Side
from aegispay.reconciliation.report import Finding, Kind, RecordDone
from aegispay.storage.store import InFlight, Purpose
from aegispay.testing.instant_gateway import InstantGateway, reply_lost
from tests.orchestration.harness import DAY_S, SETTINGS, Death, World, until_dead_or_done
from tests.orchestration.test_inbound import TellingGateway, tell

USD100 = Money(100_00, "USD")
REVERSE = replace(SETTINGS, doubt_policy=DoubtPolicy.REVERSE)
REVIEW = replace(SETTINGS, doubt_policy=DoubtPolicy.REVIEW)
LOOKUP_ONLY = Capabilities(lookup_by_reference=True, lookup_quiet_s=3600.0)
Make = Callable[..., World]
Tells = Callable[[World, AegisPay, Payment], Awaitable[object]]
"""One kind of evidence, told once."""


async def down(call: GatewayCall) -> Lookup:
    return LookupFailed(reason="down")


def first_news(world: World, payment: Payment, **more: object) -> GatewayEvent:
    """The PSP's word that the payment itself was made, under our id of its attempt."""
    entry = world.gateways[0].books[0]
    attempt = payment.operations[0]
    given = {
        "id": "evt_1",
        "type": "test",
        "at_us": 0,
        "kind": attempt.kind,
        "operation_id": attempt.id,
        "outcome": Approved(reference=entry.reference, amount_minor=entry.amount_minor),
    }
    return GatewayEvent(**{**given, **more})  # type: ignore[arg-type]


async def by_webhook(world: World, pay: AegisPay, payment: Payment) -> None:
    await tell(pay, first_news(world, payment))


async def by_webhook_and_look_up(world: World, pay: AegisPay, payment: Payment) -> None:
    open_id = payment.unfinished[-1].id
    await tell(pay, first_news(world, payment, operation_id=open_id, outcome=None, must_look_up=True))


async def by_sync(world: World, pay: AegisPay, payment: Payment) -> None:
    await pay.sync(payment.id)


async def by_settlement(world: World, pay: AegisPay, payment: Payment) -> None:
    entry = world.gateways[0].books[0]
    action = RecordDone(
        operation_id=payment.operations[0].id, reference=entry.reference, amount_minor=entry.amount_minor
    )
    finding = Finding(
        kind=Kind.DOUBT_RESOLVED, side=Side.TAKEN, currency="USD", payment_id=payment.id, action=action
    )
    await Recorder(pay, "alpha").record(finding)


async def by_recovery(world: World, pay: AegisPay, payment: Payment) -> None:
    await world.clock.sleep(4000.0)
    await pay.recover()


EVIDENCE = [by_webhook, by_webhook_and_look_up, by_sync, by_settlement, by_recovery]


async def left_in_doubt(world: World, pay: AegisPay, kind: OperationKind, *, confirmed: bool) -> Payment:
    """A charge or authorisation, or the payer's step of one, whose reply was lost and whose caller has gone."""
    gateway = world.gateways[0]
    look_up, gateway.look_up = gateway.look_up, down  # type: ignore[method-assign]
    ask = pay.charge if kind is OperationKind.CHARGE else pay.authorize
    if confirmed:
        asked = await ask(USD100, "tok_3ds", idempotency_key="k")
        assert asked.requires_action()
        gateway.faults.append(reply_lost)
        asked = await pay.complete_action(asked.payment_id, idempotency_key="c", timeout_s=0.05)
    else:
        gateway.faults.append(reply_lost)
        asked = await ask(USD100, "tok_ok", idempotency_key="k", timeout_s=0.05)
    assert asked.is_pending() and asked.error is not None and asked.error.code == "in_doubt"
    gateway.look_up = look_up  # type: ignore[method-assign]
    return await pay.get(asked.payment_id)


@pytest.mark.parametrize("confirmed", [False, True], ids=["attempt", "confirmation"])
@pytest.mark.parametrize("kind", [OperationKind.CHARGE, OperationKind.AUTHORIZE])
@pytest.mark.parametrize("told", EVIDENCE)
async def test_reverse_gives_it_back(
    make_world: Make, told: Tells, kind: OperationKind, confirmed: bool
) -> None:
    world = make_world(TellingGateway("alpha", LOOKUP_ONLY))
    pay = await world.instance(settings=REVERSE)
    payment = await left_in_doubt(world, pay, kind, confirmed=confirmed)
    await told(world, pay, payment)
    await world.recover(pay)
    (after,) = await world.check_books(pay)
    charged = kind is OperationKind.CHARGE
    assert after.state is (PaymentState.REFUNDED if charged else PaymentState.CANCELED)
    back = after.operations[-1]
    assert back.kind is (OperationKind.REFUND if charged else OperationKind.VOID)
    assert (back.parent_id, back.reason) == (after.operations[0].id, "succeeded_after_doubt")
    assert len(after.operations) == (3 if confirmed else 2), "it is given back once"
    for one in (pay, await world.instance()):
        ask = one.charge if charged else one.authorize
        answers = [await ask(USD100, "tok_3ds" if confirmed else "tok_ok", idempotency_key="k")]
        if confirmed:
            answers.append(await one.complete_action(payment.id, idempotency_key="c"))
        for answer in answers:
            assert answer.error is not None and answer.error.code == "reversed_after_doubt"


@pytest.mark.parametrize("confirmed", [False, True], ids=["attempt", "confirmation"])
@pytest.mark.parametrize("told", EVIDENCE)
async def test_review_lets_a_person_decide(make_world: Make, told: Tells, confirmed: bool) -> None:
    world = make_world(TellingGateway("alpha", LOOKUP_ONLY))
    pay = await world.instance(settings=REVIEW)
    payment = await left_in_doubt(world, pay, OperationKind.CHARGE, confirmed=confirmed)
    await told(world, pay, payment)
    (after,) = await world.check_books(pay)
    assert (after.review, after.captured_minor) == ("succeeded_after_doubt", 100_00)
    assert after.answered_version == 0, "no final answer was given, not even for the length of a commit"
    token = "tok_3ds" if confirmed else "tok_ok"
    answer = await pay.charge(USD100, token, idempotency_key="k", timeout_s=0.05)
    assert answer.is_pending()


@pytest.mark.parametrize("told", EVIDENCE)
async def test_hold_lets_it_stand(make_world: Make, told: Tells) -> None:
    world = make_world(TellingGateway("alpha", LOOKUP_ONLY))
    pay = await world.instance()
    payment = await left_in_doubt(world, pay, OperationKind.CHARGE, confirmed=False)
    await told(world, pay, payment)
    (after,) = await world.check_books(pay)
    assert after.state is PaymentState.SUCCEEDED and len(after.operations) == 1


async def test_news_that_comes_at_once_follows_the_policy_too(make_world: Make) -> None:
    """The caller has just left, and the worker is to look in a moment."""
    world = make_world(TellingGateway("alpha", Capabilities()))
    pay = await world.instance(settings=REVERSE)
    payment = await left_in_doubt(world, pay, OperationKind.CHARGE, confirmed=False)
    await by_webhook(world, pay, payment)
    assert (await world.check_books(pay))[0].state is PaymentState.REFUNDED


@pytest.mark.parametrize("kind", [OperationKind.CAPTURE, OperationKind.REFUND])
async def test_the_policy_is_about_the_payment_and_not_about_what_follows_it(
    make_world: Make, kind: OperationKind
) -> None:
    """A merchant who captures or refunds has decided: that it was in doubt changes nothing about it."""
    world = make_world(TellingGateway("alpha", LOOKUP_ONLY))
    pay = await world.instance(settings=REVERSE)
    if kind is OperationKind.CAPTURE:
        paid = await pay.authorize(USD100, "tok_ok", idempotency_key="k")
        world.gateways[0].faults.append(reply_lost)
        asked = await pay.capture(paid.payment_id, idempotency_key="f", timeout_s=0.05)
    else:
        paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
        world.gateways[0].faults.append(reply_lost)
        asked = await pay.refund(paid.payment_id, Money(1, "USD"), idempotency_key="f", timeout_s=0.05)
    assert asked.is_pending()
    await world.recover(pay)
    (after,) = await world.check_books(pay)
    assert len(after.operations) == 2 and after.operations[-1].status is OperationStatus.APPROVED


# --- who still waits hears of the success -----------------------------------------------------------------------


@pytest.mark.parametrize("confirmed", [False, True], ids=["attempt", "confirmation"])
@pytest.mark.parametrize("told", [by_webhook, by_sync, by_settlement])
async def test_a_caller_who_still_waits_gets_the_success(
    make_world: Make, told: Tells, confirmed: bool
) -> None:
    world = make_world(TellingGateway("alpha", LOOKUP_ONLY))
    pay, other = await world.instance(settings=REVERSE), await world.instance(settings=REVERSE)
    gateway = world.gateways[0]
    look_up, gateway.look_up = gateway.look_up, down  # type: ignore[method-assign]
    if confirmed:
        asked = await pay.charge(USD100, "tok_3ds", idempotency_key="k")
        work = pay.complete_action(asked.payment_id, idempotency_key="c")
    else:
        work = pay.charge(USD100, "tok_ok", idempotency_key="k")
    gateway.faults.append(reply_lost)
    waiting = asyncio.create_task(work)
    await world.clock.sleep(1.0)
    (payment,) = await pay.list()
    assert payment.unfinished[-1].status is OperationStatus.IN_DOUBT and not waiting.done()
    gateway.look_up = look_up if told is by_sync else down  # type: ignore[method-assign]
    await told(world, other, payment)
    assert (await waiting).is_success()
    (after,) = await world.check_books(pay)
    assert after.state is PaymentState.SUCCEEDED


LEASE = InFlight(
    operation_id="op_1",
    payment_id="pay_1",
    gateway="alpha",
    purpose=Purpose.CALL,
    due_at_us=115_000_000,
    owner="instance",
    fence=1,
    sent_at_us=100_000_000,
)


@pytest.mark.parametrize(
    ("row", "served"),
    [
        (LEASE, True),
        (replace(LEASE, due_at_us=100_000_001), True),
        (replace(LEASE, due_at_us=100_000_000), False),
        (replace(LEASE, due_at_us=250_000_000), True),
        (replace(LEASE, due_at_us=250_000_001), False),
        (replace(LEASE, owner=""), False),
        (replace(LEASE, tries=1), False),
        (replace(LEASE, purpose=Purpose.ACTION), False),
    ],
    ids=[
        "begun",
        "ends now",
        "ended",
        "long",
        "of a clock ahead",
        "given back",
        "the worker's",
        "the payer's",
    ],
)
def test_a_caller_is_served_under_the_lease_that_began_the_operation(row: InFlight, served: bool) -> None:
    assert is_served(row, 100_000_000, 15.0) is served


async def test_evidence_within_the_callers_time_is_a_success(make_world: Make) -> None:
    world = make_world(TellingGateway("alpha", LOOKUP_ONLY))
    pay = await world.instance(settings=REVERSE)
    world.gateways[0].faults.append(reply_lost)
    assert (await pay.charge(USD100, "tok_ok", idempotency_key="k")).is_success()
    assert (await world.check_books(pay))[0].state is PaymentState.SUCCEEDED


async def test_evidence_that_comes_after_the_callers_time_is_none_for_them(make_world: Make) -> None:
    """The look-up began while somebody waited, and ended when they had been told that it is under way."""
    world = make_world(TellingGateway("alpha", LOOKUP_ONLY))
    pay = await world.instance(settings=REVERSE)
    gateway = world.gateways[0]
    gateway.faults.append(reply_lost)
    look_up = gateway.look_up

    async def slow(call: GatewayCall) -> Lookup:
        await world.clock.sleep(1.5)
        return await look_up(call)

    gateway.look_up = slow  # type: ignore[method-assign]
    asked = await pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=1.0)
    assert asked.is_pending()
    await world.clock.sleep(5.0)
    assert (await world.check_books(pay))[0].state is PaymentState.REFUNDED


async def test_a_slow_reply_was_never_in_doubt(make_world: Make) -> None:
    world = make_world(TellingGateway("alpha", LOOKUP_ONLY))
    pay = await world.instance(settings=REVERSE)

    async def slow(gateway: InstantGateway, call: GatewayCall) -> Outcome:
        await world.clock.sleep(1.5)
        return gateway.execute(call)

    world.gateways[0].faults.append(slow)
    asked = await pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=1.0)
    assert asked.is_pending() and asked.error is not None and asked.error.code == "in_progress"
    await world.clock.sleep(5.0)
    assert (await world.check_books(pay))[0].state is PaymentState.SUCCEEDED


async def test_evidence_on_its_way_while_the_caller_leaves_follows_the_policy(make_world: Make) -> None:
    """Who worked on the notice had seen that a caller was served; by the time it commits the caller was told: in doubt."""
    world = make_world(TellingGateway("alpha", Capabilities()))
    pay, other = await world.instance(settings=REVERSE), await world.instance(settings=REVERSE)
    gateway = world.gateways[0]
    look_up, gateway.look_up = gateway.look_up, down  # type: ignore[method-assign]
    gateway.faults.append(reply_lost)
    waiting = asyncio.create_task(pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=2.0))
    await world.clock.sleep(0.5)
    (payment,) = await pay.list()
    assert not waiting.done()

    async def slow(call: GatewayCall) -> Lookup:
        gateway.look_up = down  # type: ignore[method-assign]
        found = await look_up(call)
        assert (await waiting).is_pending()
        return found

    gateway.look_up = slow  # type: ignore[method-assign]
    # The notice says so, and is not signed: the gateway is asked first.
    await tell(other, first_news(world, payment, must_look_up=True))
    await waiting
    gateway.look_up = look_up  # type: ignore[method-assign]
    await world.clock.sleep(60.0)
    await world.recover(other)
    assert (await world.check_books(other))[0].state is PaymentState.REFUNDED


async def test_a_caller_whose_instance_died_waits_no_more(make_world: Make) -> None:
    """Nobody recorded the doubt: the notice comes after the lease has run out, and before the worker looks."""
    world = make_world(TellingGateway("alpha", LOOKUP_ONLY))
    death = Death(at=4)  # After the call, and before its outcome is recorded.
    doomed = await world.instance(death, settings=REVERSE)
    await until_dead_or_done(doomed.charge(USD100, "tok_ok", idempotency_key="k"), death)
    assert world.gateways[0].count(OperationKind.CHARGE) == 1
    pay = await world.instance(settings=REVERSE)
    (payment,) = await pay.list()
    assert payment.operations[0].status is OperationStatus.STARTED
    await world.clock.sleep(SETTINGS.lease_s + 1.0)
    await by_webhook(world, pay, payment)
    await world.recover(pay)
    assert (await world.check_books(pay))[0].state is PaymentState.REFUNDED


# --- what was never in doubt, and what cannot be taken back -----------------------------------------------------


async def test_what_the_gateway_said_it_would_tell_later_stands(make_world: Make) -> None:
    world = make_world(TellingGateway("alpha", Capabilities()))
    pay = await world.instance(settings=REVERSE)

    async def accepted(gateway: InstantGateway, call: GatewayCall) -> Outcome:
        gateway.execute(call)
        return Pending()

    world.gateways[0].faults.append(accepted)
    asked = await pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=0.05)
    await by_webhook(world, pay, await pay.get(asked.payment_id))
    assert (await world.check_books(pay))[0].state is PaymentState.SUCCEEDED


async def test_a_payer_who_acts_and_never_comes_back_has_paid(make_world: Make) -> None:
    world = make_world(TellingGateway("alpha", LOOKUP_ONLY))
    pay = await world.instance(settings=REVERSE)
    asked = await pay.charge(USD100, "tok_3ds", idempotency_key="k")
    gateway = world.gateways[0]
    call = replace(gateway.calls[0], token="tok_ok", gateway_key="the payer's step")
    gateway.execute(call)
    await by_webhook(world, pay, asked.payment)
    assert (await world.check_books(pay))[0].state is PaymentState.SUCCEEDED


async def test_what_cannot_be_taken_back_now_is_left_to_a_person(
    make_world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No room for another operation: the success is recorded all the same, and is no answer."""
    world = make_world(TellingGateway("alpha", LOOKUP_ONLY))
    pay = await world.instance(settings=REVERSE)
    payment = await left_in_doubt(world, pay, OperationKind.CHARGE, confirmed=True)
    monkeypatch.setattr(starting, "OPERATIONS_MAX", len(payment.operations))
    await by_webhook(world, pay, payment)
    (after,) = await world.check_books(pay)
    assert (after.review, after.captured_minor) == ("succeeded_after_doubt", 100_00)
    assert after.answered_version == 0


async def test_a_success_without_a_usable_amount_is_what_a_person_hears_of(make_world: Make) -> None:
    world = make_world(TellingGateway("alpha", LOOKUP_ONLY))
    pay = await world.instance(settings=REVIEW)
    payment = await left_in_doubt(world, pay, OperationKind.CHARGE, confirmed=False)
    nothing = Approved(reference="alpha_1", amount_minor=0)
    await tell(pay, first_news(world, payment, outcome=nothing))
    after = await pay.get(payment.id)
    assert after.review == "approved_without_amount" and after.unfinished


async def test_a_policys_refund_is_told_of_with_its_evidence(make_world: Make) -> None:
    """One commit holds the evidence and what follows from it: nobody who follows the events sees one without the other."""
    world = make_world(TellingGateway("alpha", LOOKUP_ONLY))
    pay = await world.instance(settings=REVERSE)
    payment = await left_in_doubt(world, pay, OperationKind.CHARGE, confirmed=False)
    await by_webhook(world, pay, payment)
    events = [event.data for event in await pay.event_store.events(payment.id)]
    approved = next(at for at, one in enumerate(events) if getattr(one, "evidence", None) is Evidence.WEBHOOK)
    assert getattr(events[approved + 1], "reason", None) == "succeeded_after_doubt"


async def test_a_reversal_in_doubt_is_found_out_like_any_other(make_world: Make) -> None:
    world = make_world(TellingGateway("alpha", LOOKUP_ONLY))
    pay = await world.instance(settings=REVERSE)
    payment = await left_in_doubt(world, pay, OperationKind.CHARGE, confirmed=False)

    async def lost(gateway: InstantGateway, call: GatewayCall) -> Outcome:
        gateway.execute(call)
        return InDoubt(reason="timeout")

    world.gateways[0].faults.append(lost)
    await by_webhook(world, pay, payment)
    await world.recover(pay, for_s=DAY_S)
    (after,) = await world.check_books(pay)
    assert after.state is PaymentState.REFUNDED and world.gateways[0].count(OperationKind.REFUND) == 1
