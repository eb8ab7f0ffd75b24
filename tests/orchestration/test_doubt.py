"""Doubt: lost replies, lost requests, late landings, liars; and failover only on evidence."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from aegispay.domain import errors
from aegispay.domain.events import OperationKind
from aegispay.domain.money import Money
from aegispay.domain.outcomes import Approved, InDoubt, NotSent, Outcome, Pending
from aegispay.domain.payment import OperationStatus
from aegispay.domain.states import PaymentState
from aegispay.gateways.capabilities import Capabilities
from aegispay.gateways.gateway import Found, GatewayCall, Lookup, LookupFailed
from aegispay.orchestration.settings import DoubtPolicy
from aegispay.testing.instant_gateway import (
    InstantGateway,
    adapter_bug,
    hang,
    lands_late,
    refused_connection,
    reply_lost,
    request_lost,
)
from tests.orchestration.harness import DAY_S, SETTINGS, Death, World, until_dead_or_done

USD100 = Money(100_00, "USD")
Make = Callable[..., World]

KEYED = Capabilities(
    stable_key=True,
    stable_key_ttl_s=DAY_S,
    lookup_by_reference=True,
    lookup_quiet_s=3600.0,
    multi_capture=True,
)
LOOKUP_ONLY = Capabilities(lookup_by_reference=True, lookup_quiet_s=60.0, multi_capture=True)
CANCELABLE = Capabilities(
    lookup_by_reference=True, lookup_quiet_s=60.0, cancel_by_reference=True, multi_capture=True
)
NO_EVIDENCE = Capabilities()


def pair(first: Capabilities) -> tuple[InstantGateway, InstantGateway]:
    return InstantGateway("alpha", first), InstantGateway("beta")


async def test_a_soft_decline_goes_to_the_next_gateway(make_world: Make) -> None:
    from aegispay.domain.methods import Token

    world = make_world()
    pay = await world.instance()
    result = await pay.charge(USD100, Token("tok_soft", {"beta": "tok_ok"}), idempotency_key="k")
    assert result.is_success() and result.payment.gateway == "beta"
    assert [op.status for op in result.payment.operations] == [
        OperationStatus.DECLINED,
        OperationStatus.APPROVED,
    ]
    await world.check_books(pay)


async def test_a_hard_decline_asks_nobody_else(make_world: Make) -> None:
    world = make_world()
    pay = await world.instance()
    result = await pay.charge(USD100, "tok_hard", idempotency_key="k")
    assert result.is_failure() and result.error is not None and result.error.code == "stolen_card"
    assert [len(gateway.calls) for gateway in world.gateways] == [1, 0]


async def test_a_gateway_that_is_down_is_failed_over_because_nothing_was_sent(make_world: Make) -> None:
    world = make_world()
    pay = await world.instance()
    world.gateways[0].faults.append(refused_connection)
    result = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    assert result.is_success() and result.payment.gateway == "beta"


async def test_the_only_gateway_is_asked_again_after_proof_that_nothing_was_sent(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha"))
    pay = await world.instance()
    world.gateways[0].faults.extend([refused_connection, refused_connection])
    assert (await pay.charge(USD100, "tok_ok", idempotency_key="k")).is_success()
    world.gateways[0].faults.extend([refused_connection] * 3)
    failed = await pay.charge(USD100, "tok_ok", idempotency_key="k2")
    assert failed.is_failure() and failed.error is not None and failed.error.code == "gateway_unavailable"
    assert failed.error.retryable


@pytest.mark.parametrize("fault", [reply_lost, request_lost, adapter_bug, hang])
@pytest.mark.parametrize("caps", [KEYED, LOOKUP_ONLY, CANCELABLE])
async def test_doubt_is_never_failed_over_and_ends_with_the_books_right(
    make_world: Make, caps: Capabilities, fault: Callable[..., object], caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(*pair(caps))
    pay = await world.instance()
    world.gateways[0].faults.append(fault)  # type: ignore[arg-type]
    with caplog.at_level(logging.DEBUG):
        result = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    assert not result.is_failure()
    assert "4242" not in caplog.text
    assert world.gateways[1].calls == [], "a second gateway was asked while the first was in doubt"
    await world.recover(pay)
    payment = (await world.check_books(pay))[0]
    happened = fault is not request_lost
    if caps.stable_key or happened:
        assert payment.state is PaymentState.SUCCEEDED and world.taken_minor(payment.id) == 100_00
    else:
        assert payment.state is PaymentState.FAILED and world.taken_minor(payment.id) == 0
    again = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    assert again.payment_id == payment.id and again.is_success() is (payment.state is PaymentState.SUCCEEDED)
    assert sum(gateway.count(OperationKind.CHARGE) for gateway in world.gateways) <= 1


async def test_a_request_that_lands_late_is_charged_once(make_world: Make) -> None:
    for caps in (KEYED, CANCELABLE):
        world = make_world(*pair(caps))
        pay = await world.instance()

        async def delay() -> None:
            await asyncio.sleep(20)

        world.gateways[0].faults.append(lands_late(delay))
        await pay.charge(USD100, "tok_ok", idempotency_key="k")
        await world.recover(pay)
        await asyncio.sleep(100)
        payment = (await world.check_books(pay))[0]
        assert payment.state is PaymentState.SUCCEEDED
        assert world.gateways[0].count(OperationKind.CHARGE) == 1 and world.gateways[1].calls == []


async def test_a_request_that_lands_after_the_cancel_by_reference_is_refused_by_the_psp(
    make_world: Make,
) -> None:
    world = make_world(*pair(CANCELABLE))
    pay = await world.instance()

    async def delay() -> None:
        await asyncio.sleep(7_200)

    world.gateways[0].faults.append(lands_late(delay))
    await pay.charge(USD100, "tok_ok", idempotency_key="k")
    await world.recover(pay)
    await asyncio.sleep(8_000)
    payment = (await world.check_books(pay))[0]
    assert payment.state is PaymentState.FAILED and world.taken_in_all_minor() == 0


async def test_a_cancel_by_reference_that_was_not_answered_proves_nothing(make_world: Make) -> None:
    world = make_world(*pair(CANCELABLE))
    pay = await world.instance()
    gateway = world.gateways[0]
    cancel = gateway.cancel_by_reference

    async def down(call: GatewayCall) -> Outcome:
        return NotSent(reason="connection_refused")

    gateway.cancel_by_reference = down  # type: ignore[method-assign]
    gateway.faults.append(request_lost)
    await pay.charge(USD100, "tok_ok", idempotency_key="k")
    await world.recover(pay, for_s=600)
    assert (await pay.list())[0].state is PaymentState.IN_DOUBT
    gateway.cancel_by_reference = cancel  # type: ignore[method-assign]
    await world.recover(pay)
    assert (await world.check_books(pay))[0].state is PaymentState.FAILED


async def test_a_request_that_lands_after_a_believed_look_up_is_found_by_the_watch_and_reversed(
    make_world: Make,
) -> None:
    world = make_world(*pair(LOOKUP_ONLY))
    pay = await world.instance()

    async def delay() -> None:
        await asyncio.sleep(300)

    world.gateways[0].faults.append(lands_late(delay))
    await pay.charge(USD100, "tok_ok", idempotency_key="k")
    await world.recover(pay)
    assert (await pay.list())[0].state is PaymentState.FAILED
    await asyncio.sleep(pay.settings.watch_after_s + 100)
    await pay.recover()
    payment = (await world.check_books(pay))[0]
    assert payment.state is PaymentState.FAILED
    assert payment.operations[0].status is OperationStatus.REVERSED
    assert world.gateways[0].count(OperationKind.REFUND) == 1 and world.taken_in_all_minor() == 0


async def test_not_sent_to_a_resend_is_no_evidence_about_the_first_send(make_world: Make) -> None:
    world = make_world(*pair(KEYED))
    pay = await world.instance()
    world.gateways[0].faults.extend([reply_lost] + [refused_connection] * 40)
    result = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    assert not result.is_failure() and world.gateways[1].calls == []
    world.gateways[0].faults.clear()
    await world.recover(pay)
    assert (await world.check_books(pay))[0].state is PaymentState.SUCCEEDED
    assert world.taken_in_all_minor() == 100_00


async def test_nothing_is_resent_once_the_psp_may_have_forgotten_the_key(make_world: Make) -> None:
    caps = replace(KEYED, stable_key_ttl_s=3600.0, lookup_by_reference=False)
    world = make_world(*pair(caps))
    pay = await world.instance()
    world.gateways[0].faults.append(reply_lost)
    await pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=0.05)
    sent = len(world.gateways[0].calls)
    world.gateways[0]._by_key.clear()  # The PSP forgets its keys...
    await world.clock.sleep(3601)  # ...when they expire.

    async def nothing(call: GatewayCall) -> Lookup:
        return LookupFailed(reason="down")

    world.gateways[0].look_up = nothing  # type: ignore[method-assign]
    await world.recover(pay)
    assert len(world.gateways[0].calls) == sent, "a resend after the key's life is a new charge"
    assert (await pay.list())[0].state is PaymentState.NEEDS_REVIEW


async def test_a_look_up_is_not_believed_before_the_quiet_period_has_passed(make_world: Make) -> None:
    world = make_world(*pair(LOOKUP_ONLY))
    pay = await world.instance()

    async def delay() -> None:
        await asyncio.sleep(50)

    world.gateways[0].faults.append(lands_late(delay))
    await pay.charge(USD100, "tok_ok", idempotency_key="k")
    for _ in range(40):
        await pay.recover()
        await world.clock.sleep(1)
    assert (await pay.list())[0].state is PaymentState.IN_DOUBT
    await world.recover(pay)
    assert (await world.check_books(pay))[0].state is PaymentState.SUCCEEDED


async def test_without_any_evidence_a_payment_goes_to_review_and_a_later_look_clears_it(
    make_world: Make,
) -> None:
    world = make_world(*pair(NO_EVIDENCE))
    pay = await world.instance()
    gateway = world.gateways[0]
    look_up = gateway.look_up

    async def down(call: GatewayCall) -> Lookup:
        return LookupFailed(reason="down")

    gateway.look_up = down  # type: ignore[method-assign]
    gateway.faults.append(reply_lost)
    result = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    assert result.is_pending()
    await world.recover(pay)
    payment = (await pay.list())[0]
    assert payment.state is PaymentState.NEEDS_REVIEW
    with pytest.raises(errors.InvalidState):
        await pay.refund(payment.id, idempotency_key="r")
    gateway.look_up = look_up  # type: ignore[method-assign]
    await world.recover(pay, for_s=3 * DAY_S)
    assert (await world.check_books(pay))[0].state is PaymentState.SUCCEEDED


async def test_sync_finds_what_happened_without_waiting_for_the_worker(make_world: Make) -> None:
    world = make_world(*pair(LOOKUP_ONLY))
    pay = await world.instance()
    world.gateways[0].faults.append(reply_lost)
    pending = await pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=0.05)
    assert pending.is_pending()
    assert (await pay.sync(pending.payment_id)).is_success()
    await world.check_books(pay)


async def test_sync_reverses_a_late_duplicate_after_a_failover(make_world: Make) -> None:
    """The first gateway said no and charged all the same; the second succeeded."""
    world = make_world()
    pay = await world.instance()

    async def liar(gateway: InstantGateway, call: GatewayCall) -> Outcome:
        gateway.execute(call)
        return NotSent(reason="connection_refused")

    world.gateways[0].faults.append(liar)
    result = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    assert result.is_success() and result.payment.gateway == "beta"
    assert world.taken_in_all_minor() == 200_00
    synced = await pay.sync(result.payment_id)
    assert synced.is_success() and world.taken_in_all_minor() == 100_00
    payment = (await world.check_books(pay))[0]
    assert payment.operations[0].status is OperationStatus.REVERSED and payment.gateway == "beta"
    types = [event.type for event in await pay.event_store.events(payment.id)]
    assert "late_success_found" in types


async def test_a_reversal_that_is_refused_goes_to_review(make_world: Make) -> None:
    from aegispay.domain.outcomes import DeclineCategory, Declined

    world = make_world()
    pay = await world.instance()

    async def liar(gateway: InstantGateway, call: GatewayCall) -> Outcome:
        gateway.execute(call)
        return NotSent(reason="connection_refused")

    async def refuse(gateway: InstantGateway, call: GatewayCall) -> Outcome:
        return Declined(category=DeclineCategory.INVALID, code="too_old")

    world.gateways[0].faults.extend([liar, refuse])
    result = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    await pay.sync(result.payment_id)
    assert (await pay.get(result.payment_id)).state is PaymentState.NEEDS_REVIEW


@pytest.mark.parametrize("kind", ["capture", "void", "refund"])
@pytest.mark.parametrize("fault", [reply_lost, request_lost])
async def test_a_doubtful_follow_up_is_pending_reserves_its_amount_and_is_resolved(
    make_world: Make, kind: str, fault: Callable[..., object]
) -> None:
    world = make_world(InstantGateway("alpha", KEYED))
    pay = await world.instance()
    if kind == "refund":
        made = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    else:
        made = await pay.authorize(USD100, "tok_ok", idempotency_key="k")
    target = made.payment_id
    world.gateways[0].faults.extend([fault] + [request_lost] * 50)  # type: ignore[list-item]

    async def down(call: GatewayCall) -> Lookup:
        return LookupFailed(reason="down")

    look_up, world.gateways[0].look_up = world.gateways[0].look_up, down  # type: ignore[method-assign]
    if kind == "void":
        result = await pay.void(target)
    elif kind == "capture":
        result = await pay.capture(target, Money(60_00, "USD"), final=False, idempotency_key="c")
    else:
        result = await pay.refund(target, Money(60_00, "USD"), idempotency_key="r")
    assert result.is_pending() and result.error is not None and result.error.code == "in_doubt"
    if kind == "refund":
        more = pay.refund(target, Money(60_00, "USD"), idempotency_key="r2")
    else:
        more = pay.capture(target, Money(60_00, "USD"), final=False, idempotency_key="c2")
    with pytest.raises(errors.InvalidState):
        await more
    world.gateways[0].faults.clear()
    world.gateways[0].look_up = look_up  # type: ignore[method-assign]
    await world.recover(pay)
    payment = (await world.check_books(pay))[0]
    expected = {"capture": (60_00, 0), "void": (0, 0), "refund": (100_00, 60_00)}[kind]
    assert (payment.captured_minor, payment.refunded_minor) == expected
    assert world.gateways[0].count(OperationKind(kind)) == 1


async def test_a_pending_answer_is_polled_until_it_is_final(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha", KEYED))
    gateway = world.gateways[0]
    pay = await world.instance()

    async def accepted(inner: InstantGateway, call: GatewayCall) -> Outcome:
        return Pending(reference="ref_1")

    answers: list[Outcome] = [Pending(reference="ref_1"), Approved(reference="ref_1", amount_minor=100_00)]

    async def look_up(call: GatewayCall) -> Lookup:
        assert call.own_reference == "ref_1"
        if len(answers) == 1:
            gateway.execute(call)
        return Found(outcome=answers.pop(0) if len(answers) > 1 else answers[0])

    gateway.faults.append(accepted)
    gateway.look_up = look_up  # type: ignore[method-assign]
    result = await pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=0.05)
    assert result.is_pending() and result.error is not None and result.error.code == "processing"
    await world.recover(pay)
    assert (await world.check_books(pay))[0].state is PaymentState.SUCCEEDED
    assert len(gateway.calls) == 1, "what the PSP accepted is looked up, not sent again"


@pytest.mark.parametrize(
    ("policy", "state"),
    [
        (DoubtPolicy.HOLD, PaymentState.SUCCEEDED),
        (DoubtPolicy.REVERSE, PaymentState.REFUNDED),
        (DoubtPolicy.REVIEW, PaymentState.NEEDS_REVIEW),
    ],
)
async def test_the_merchants_policy_decides_what_a_success_after_doubt_becomes(
    make_world: Make, policy: DoubtPolicy, state: PaymentState
) -> None:
    world = make_world(InstantGateway("alpha", LOOKUP_ONLY))
    pay = await world.instance(settings=replace(SETTINGS, doubt_policy=policy))
    world.gateways[0].faults.append(reply_lost)
    await pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=0.05)
    await world.recover(pay)
    assert (await world.check_books(pay))[0].state is state
    again = await (await world.instance()).charge(USD100, "tok_ok", idempotency_key="k", timeout_s=0.05)
    assert again.is_success() is (policy is DoubtPolicy.HOLD), (
        "nobody ships on a success whose money goes back"
    )
    assert again.is_failure() is (policy is DoubtPolicy.REVERSE)


async def test_an_amount_that_differs_goes_to_review(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha"))
    pay = await world.instance()

    async def less(gateway: InstantGateway, call: GatewayCall) -> Outcome:
        return gateway.execute(replace(call, amount=Money(90_00, "USD")))

    world.gateways[0].faults.append(less)
    await pay.charge(USD100, "tok_ok", idempotency_key="k")
    payment = (await world.check_books(pay))[0]
    assert payment.state is PaymentState.NEEDS_REVIEW and payment.captured_minor == 90_00


async def test_an_owner_that_stalls_beyond_its_lease_does_not_send(make_world: Make) -> None:
    """The look-up of whoever took over may be believed by then: a late send would charge unseen."""
    world = make_world(*pair(LOOKUP_ONLY))
    pay = await world.instance()
    store = pay.store
    commit = store.commit

    async def stall(write: object) -> None:
        await commit(write)  # type: ignore[arg-type]
        await world.clock.sleep(SETTINGS.lease_s + 1)

    store.commit = stall  # type: ignore[method-assign]
    task = asyncio.ensure_future(pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=30))
    await world.clock.sleep(SETTINGS.lease_s + 2)
    store.commit = commit  # type: ignore[method-assign]
    await asyncio.wait({task})
    assert world.gateways[0].calls == []
    await world.recover(pay)
    assert (await world.check_books(pay))[0].state is PaymentState.FAILED


async def test_the_quiet_period_counts_from_the_end_of_a_dead_owners_lease(make_world: Make) -> None:
    """The dead owner may have sent at the last moment of its lease, not when the operation was recorded."""
    world = make_world(*pair(LOOKUP_ONLY))
    death = Death(at=3)  # Between the intent's commit and the call.
    pay = await world.instance(death)
    await until_dead_or_done(pay.charge(USD100, "tok_ok", idempotency_key="k"), death)
    await world.kill(pay)
    other = await world.instance()
    await world.clock.sleep(LOOKUP_ONLY.lookup_quiet_s + SETTINGS.lease_s - 1)
    await other.recover()
    assert (await other.list())[0].state is PaymentState.IN_DOUBT
    await world.recover(other, for_s=300)
    assert (await world.check_books(other))[0].state is PaymentState.FAILED


async def test_a_worker_whose_lease_was_taken_over_cannot_record(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha", KEYED))

    async def stall(gateway: InstantGateway, call: GatewayCall) -> Outcome:
        outcome = gateway.execute(call)
        await world.clock.sleep(SETTINGS.lease_s + 5)
        return outcome

    settings_timeout = replace(SETTINGS, call_timeout_s=60.0, lease_margin_s=0.1)
    slow = await world.instance(settings=settings_timeout)
    world.gateways[0].faults.append(stall)
    task = asyncio.ensure_future(slow.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=120))
    await world.clock.sleep(0.5)
    world.clock.offset_us += (
        61_000_000  # Whoever starts now sees a later hour than the stalled one began with.
    )
    other = await world.instance()
    await other.recover()
    assert (await other.list())[0].state is PaymentState.SUCCEEDED
    version = (await other.list())[0].version
    assert (await task).is_success()
    assert (await world.check_books(other))[0].version == version
    assert world.taken_in_all_minor() == 100_00


async def test_what_recovery_itself_cannot_handle_backs_off_and_a_person_is_asked(make_world: Make) -> None:
    world = make_world(*pair(KEYED))
    pay = await world.instance()
    world.gateways[0].faults.extend([request_lost] * 30)
    await pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=0.05)
    calls = 0

    async def broken(*_: object) -> object:
        nonlocal calls
        calls += 1
        raise RuntimeError("4242424242424242 must not be logged")

    seek, pay._orchestrator.engine.evidence.seek = pay._orchestrator.engine.evidence.seek, broken  # type: ignore[assignment]
    await world.recover(pay, for_s=26 * 3600)
    assert (await pay.list())[0].state is PaymentState.NEEDS_REVIEW
    assert calls < 400
    pay._orchestrator.engine.evidence.seek = seek  # type: ignore[method-assign]
    world.gateways[0].faults.clear()
    await world.recover(pay, for_s=30 * 3600)
    assert (await world.check_books(pay))[0].state is PaymentState.FAILED


async def test_recovery_never_begins_an_attempt_at_another_gateway(make_world: Make) -> None:
    world = make_world(*pair(LOOKUP_ONLY))
    pay = await world.instance()
    world.gateways[0].faults.append(request_lost)
    await pay.charge(USD100, "tok_ok", idempotency_key="k")
    await world.recover(pay)
    payment = (await world.check_books(pay))[0]
    assert payment.state is PaymentState.FAILED and world.gateways[1].calls == []


async def test_a_doubtful_confirmation_is_resolved(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha", KEYED))
    pay = await world.instance()
    asked = await pay.charge(USD100, "tok_3ds", idempotency_key="k")
    world.gateways[0].faults.append(reply_lost)
    done = await pay.complete_action(asked.payment_id)
    assert done.is_success()
    assert world.gateways[0].count(OperationKind.CHARGE) == 1
    await world.check_books(pay)


async def test_a_confirmation_that_was_not_sent_can_be_completed_again(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha", KEYED))
    pay = await world.instance()
    asked = await pay.charge(USD100, "tok_3ds", idempotency_key="k")
    world.gateways[0].faults.extend([refused_connection] * 3)
    first = await pay.complete_action(asked.payment_id)
    assert not first.is_success()
    assert (await pay.get(asked.payment_id)).state is PaymentState.REQUIRES_ACTION
    assert (await pay.complete_action(asked.payment_id)).is_success()
    await world.check_books(pay)


async def test_an_unclear_answer_is_pending_until_the_deadline(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha", KEYED))
    pay = await world.instance()

    async def unclear(gateway: InstantGateway, call: GatewayCall) -> Outcome:
        return InDoubt(reason="garbage")

    async def down(call: GatewayCall) -> Lookup:
        return LookupFailed(reason="down")

    world.gateways[0].look_up = down  # type: ignore[method-assign]
    world.gateways[0].faults.extend([unclear] * 100)
    result = await pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=3)
    assert result.is_pending() and result.error is not None and result.error.code == "in_doubt"
    assert result.payment.state is PaymentState.IN_DOUBT
    assert len(world.gateways[0].calls) < 12


async def test_an_answer_that_was_slept_on_is_as_old_as_its_question(make_world: Make) -> None:
    """The look-up saw nothing within the quiet period; the process slept on the answer until the period was over."""
    world = make_world(*pair(LOOKUP_ONLY))
    pay = await world.instance()
    first = world.gateways[0]
    loop: Any = asyncio.get_running_loop()
    late: list[GatewayCall] = []

    async def on_its_way(gateway: InstantGateway, call: GatewayCall) -> Outcome:
        late.append(call)
        return InDoubt(reason="timeout")

    async def look_up(call: GatewayCall) -> Lookup:
        found = await InstantGateway.look_up(first, call)
        if late:
            first.execute(late.pop())  # It lands, within the quiet period,
            loop._now_s += 10 * LOOKUP_ONLY.lookup_quiet_s  # while this process is suspended.
        return found

    first.faults.append(on_its_way)
    first.look_up = look_up  # type: ignore[method-assign]
    pending = await pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=20.0)
    for _ in range(3):
        await world.clock.sleep(600.0)
        await pay.recover()
    payment = (await world.check_books(pay))[0]
    assert payment.id == pending.payment_id and payment.state is PaymentState.SUCCEEDED
    assert world.taken_in_all_minor() == 100_00
    assert not any(event.type == "operation_not_sent" for event in await pay.event_store.events(payment.id))


async def no_answer(call: GatewayCall) -> Lookup:
    return LookupFailed(reason="down")


async def test_a_void_that_the_psp_does_not_have_is_never_in_doubt(make_world: Make) -> None:
    """The policy's reversal got no answer, but it was never sent either: the adapter refuses it before anything leaves."""
    world = make_world(InstantGateway("alpha", replace(LOOKUP_ONLY, void=False)))
    pay = await world.instance(settings=replace(SETTINGS, doubt_policy=DoubtPolicy.REVERSE))
    gateway = world.gateways[0]
    gateway.faults.extend([reply_lost, hang])
    look_up, gateway.look_up = gateway.look_up, no_answer  # type: ignore[method-assign]
    asked = await pay.authorize(USD100, "tok_ok", idempotency_key="k")
    assert asked.is_pending()
    gateway.look_up = look_up  # type: ignore[method-assign]
    for _ in range(4):
        await world.clock.sleep(60.0)
        await pay.recover()
    payment = await pay.get(asked.payment_id)
    void = payment.operations[-1]
    assert (void.kind, void.status) == (OperationKind.VOID, OperationStatus.DECLINED)
    assert payment.review == "reversal_refused: unsupported_operation"
