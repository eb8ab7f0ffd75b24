"""Inbound webhooks: duplicated, delayed, reordered or forged, they lead to the same state as clean ones (I11)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from aegispay.app import AegisPay
from aegispay.domain import errors
from aegispay.domain.events import OperationKind
from aegispay.domain.money import Money
from aegispay.domain.outcomes import Approved, DeclineCategory, Declined, NotSent, Outcome, Pending
from aegispay.domain.payment import OperationStatus, Payment
from aegispay.domain.states import PaymentState
from aegispay.gateways.capabilities import Capabilities
from aegispay.gateways.gateway import Found, GatewayCall, Lookup, LookupFailed
from aegispay.gateways.webhooks import WEBHOOK_BODY_BYTES_MAX, DisputeNews, GatewayEvent, WebhookRejected
from aegispay.storage.notices import NoticeState
from aegispay.testing.instant_gateway import InstantGateway, reply_lost, request_lost
from aegispay.webhooks import WebhookApp
from tests.orchestration.harness import DAY_S, World

USD100 = Money(100_00, "USD")
Make = Callable[..., World]
DECLINED = Declined(category=DeclineCategory.HARD, code="stolen_card")


class TellingGateway(InstantGateway):
    """Its webhooks are a JSON list of events, genuine if the header says so."""

    def parse_webhook(self, headers: Mapping[str, str], body: bytes, now_us: int) -> list[GatewayEvent]:
        if headers.get("signature") != "good":
            raise WebhookRejected("signature")
        return msgspec.json.decode(body, type=list[GatewayEvent])


def silent(name: str = "alpha") -> TellingGateway:
    """A gateway that gives no evidence but its webhooks."""
    gateway = TellingGateway(name, Capabilities())

    async def nothing(call: GatewayCall) -> Lookup:
        return LookupFailed(reason="down")

    gateway.look_up = nothing  # type: ignore[method-assign]
    return gateway


async def tell(pay: AegisPay, *events: GatewayEvent, gateway: str = "alpha") -> int:
    new = await pay.take_webhook(gateway, {"signature": "good"}, msgspec.json.encode(events))
    await asyncio.sleep(0.001)
    return new


def news(payment: Payment, outcome: Outcome | None, number: int = 1, **more: Any) -> GatewayEvent:
    operation = payment.operations[0]
    given = {"kind": operation.kind, "operation_id": operation.id, "payment_id": payment.id, **more}
    return GatewayEvent(id=f"evt_{number}", type="test", at_us=0, outcome=outcome, **given)


async def in_doubt(world: World, pay: AegisPay, fault: Any = reply_lost) -> Payment:
    world.gateways[0].faults.append(fault)
    pending = await pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=0.05)
    assert pending.is_pending()
    return await pay.get(pending.payment_id)


def charged(world: World) -> Approved:
    return Approved(reference=world.gateways[0].books[0].reference, amount_minor=100_00)


async def test_a_webhook_ends_doubt_once_however_often_it_comes(make_world: Make) -> None:
    world = make_world(silent())
    pay = await world.instance()
    payment = await in_doubt(world, pay)
    assert await tell(pay, news(payment, charged(world))) == 1
    assert await tell(pay, news(payment, charged(world))) == 0
    assert await tell(pay, news(payment, charged(world), number=2)) == 1
    (after,) = await world.check_books(pay)
    assert after.state is PaymentState.SUCCEEDED
    assert after.version == payment.version + 1


@pytest.mark.parametrize("headers", [{}, {"signature": "forged"}])
async def test_a_forged_webhook_is_refused_and_nothing_is_kept(
    make_world: Make, headers: dict[str, str]
) -> None:
    world = make_world(silent())
    pay = await world.instance()
    payment = await in_doubt(world, pay)
    with pytest.raises(WebhookRejected):
        await pay.take_webhook("alpha", headers, msgspec.json.encode([news(payment, charged(world))]))
    with pytest.raises(WebhookRejected, match="too_large"):
        await pay.take_webhook("alpha", {"signature": "good"}, b" " * 1_000_001)
    with pytest.raises(errors.UnknownGateway):
        await pay.take_webhook("nobody", {"signature": "good"}, b"[]")
    assert await pay.store.lease_notices(world.clock.now_us(), 0, 10) == []
    assert (await pay.get(payment.id)).state is PaymentState.IN_DOUBT


async def test_a_webhook_that_is_faster_than_our_own_commit_waits_for_it(make_world: Make) -> None:
    world = make_world(silent())
    pay = await world.instance()
    payment = await in_doubt(world, pay)
    ahead = news(payment, charged(world))
    other = make_world(silent())
    late = await other.instance()
    await tell(late, ahead)
    assert await late.list() == []
    # The same payment reaches the store only now.
    events = await pay.event_store.events(payment.id)
    await _copy(pay, late, payment, events)
    other.gateways[0].books.extend(world.gateways[0].books)
    await other.clock.sleep(10)
    await late.recover()
    assert (await late.get(payment.id)).state is PaymentState.SUCCEEDED


async def _copy(source: AegisPay, target: AegisPay, payment: Payment, events: Any) -> None:
    from aegispay.storage.store import Write

    row = await source.store.find_in_flight(payment.operations[0].id)
    assert row is not None
    await target.store.commit(Write(payment=payment, events=tuple(events), expected_version=0, opens=(row,)))


async def test_a_success_after_we_had_failed_over_is_reversed_and_audited(make_world: Make) -> None:
    world = make_world(TellingGateway("alpha"), TellingGateway("beta"))
    pay = await world.instance()

    async def liar(gateway: InstantGateway, call: GatewayCall) -> Outcome:
        gateway.execute(call)
        return NotSent(reason="connection_refused")

    world.gateways[0].faults.append(liar)
    result = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    assert result.payment.gateway == "beta"
    await tell(pay, news(result.payment, charged(world)))
    (payment,) = await world.check_books(pay)
    assert payment.operations[0].status is OperationStatus.REVERSED
    assert world.taken_in_all_minor() == 100_00


async def test_a_decline_told_while_its_caller_is_served_does_not_stop_the_failover(make_world: Make) -> None:
    world = make_world(TellingGateway("alpha"), TellingGateway("beta"))
    pay = await world.instance()
    soft = Declined(category=DeclineCategory.SOFT, code="insufficient_funds")

    async def told_first(gateway: InstantGateway, call: GatewayCall) -> Outcome:
        payment = await pay.get(call.payment_id)
        await tell(pay, news(payment, soft))
        return soft

    world.gateways[0].faults.append(told_first)
    result = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    assert result.is_success() and result.payment.gateway == "beta"
    await world.clock.sleep(60)
    await pay.recover()
    assert (await world.check_books(pay))[0].state is PaymentState.SUCCEEDED


async def test_a_late_decline_after_an_approval_is_looked_up_and_not_believed(make_world: Make) -> None:
    world = make_world(TellingGateway("alpha"))
    pay = await world.instance()
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    await tell(pay, news(paid.payment, DECLINED))
    assert (await pay.get(paid.payment_id)).state is PaymentState.SUCCEEDED

    async def turned(call: GatewayCall) -> Lookup:
        return Found(outcome=DECLINED)

    world.gateways[0].look_up = turned  # type: ignore[method-assign]
    await tell(pay, news(paid.payment, DECLINED, number=2))
    assert (await pay.get(paid.payment_id)).state is PaymentState.NEEDS_REVIEW


async def test_what_is_not_signed_is_looked_up_before_it_is_believed(make_world: Make) -> None:
    world = make_world(silent())
    pay = await world.instance()
    payment = await in_doubt(world, pay)
    await tell(pay, news(payment, charged(world), must_look_up=True))
    assert (await pay.get(payment.id)).state is PaymentState.IN_DOUBT
    del world.gateways[0].look_up  # type: ignore[method-assign]
    await tell(pay, news(payment, charged(world), number=2, must_look_up=True))
    assert (await pay.get(payment.id)).state is PaymentState.SUCCEEDED


def refund_news(payment: Payment, amount_minor: int, number: int, reference: str = "re_1") -> GatewayEvent:
    return news(
        payment,
        Approved(reference=reference, amount_minor=amount_minor),
        number,
        kind=OperationKind.REFUND,
        operation_id=None,
        reference=reference,
    )


async def test_a_refund_from_the_psps_dashboard_enters_our_books_once(make_world: Make) -> None:
    world = make_world(TellingGateway("alpha"))
    pay = await world.instance()
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    for number in (1, 2):
        await tell(pay, refund_news(paid.payment, 30_00, number))
    payment = await pay.get(paid.payment_id)
    assert (payment.refunded_minor, payment.state) == (30_00, PaymentState.PARTIALLY_REFUNDED)
    with pytest.raises(errors.AmountTooLarge):
        await pay.refund(paid.payment_id, Money(80_00, "USD"), idempotency_key="r")
    await tell(pay, refund_news(paid.payment, 80_00, 3, reference="re_2"))
    assert (await pay.get(paid.payment_id)).state is PaymentState.NEEDS_REVIEW


async def test_a_refund_told_while_our_own_is_in_doubt_waits_and_is_not_counted_twice(
    make_world: Make,
) -> None:
    world = make_world(silent())
    pay = await world.instance()
    paid = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    world.gateways[0].faults.append(reply_lost)
    doubtful = await pay.refund(paid.payment_id, Money(30_00, "USD"), idempotency_key="r", timeout_s=0.05)
    assert doubtful.is_pending() and doubtful.operation is not None
    reference = world.gateways[0].books[-1].reference
    await tell(pay, refund_news(paid.payment, 30_00, 1, reference))
    assert (await pay.get(paid.payment_id)).refunded_minor == 0
    told = refund_news(paid.payment, 30_00, 2, reference)
    await tell(pay, replace(told, operation_id=doubtful.operation.id))
    await world.clock.sleep(60)
    await pay.recover()
    assert (await world.check_books(pay))[0].refunded_minor == 30_00


async def test_disputes_open_and_close_in_any_order(make_world: Make) -> None:
    world = make_world(TellingGateway("alpha"))
    pay = await world.instance()
    opened = DisputeNews(reference="dp_1", amount_minor=100_00, opened=True)
    closed = DisputeNews(reference="dp_1", amount_minor=100_00, opened=False, won=True)
    for number, order in enumerate(itertools.permutations([opened, closed])):
        paid = await pay.charge(USD100, "tok_ok", idempotency_key=f"k{number}")
        seen = []
        for index, one in enumerate(order):
            event = news(paid.payment, None, number * 10 + index, dispute=one)
            await tell(pay, replace(event, kind=None, operation_id=None))
            seen.append((await pay.get(paid.payment_id)).state)
        assert seen[-1] is PaymentState.SUCCEEDED


async def test_news_of_a_payment_that_is_not_ours_is_kept_for_a_person(make_world: Make) -> None:
    world = make_world(TellingGateway("alpha"))
    pay = await world.instance()
    stranger = GatewayEvent(
        id="evt_1",
        type="t",
        at_us=0,
        kind=OperationKind.CHARGE,
        outcome=DECLINED,
        payment_id="pay_" + "0" * 32,
    )
    await tell(pay, stranger)
    for _ in range(60):
        await world.clock.sleep(3600)
        await pay.recover()
    assert await pay.store.lease_notices(world.clock.now_us() + int(DAY_S * 1e6), 0, 10) == []
    assert await tell(pay, stranger) == 0
    assert await pay.store.prune_notices(world.clock.now_us(), 10) == 0, (
        "what nobody applied is not forgotten"
    )


async def test_a_notice_that_was_kept_survives_the_process(make_world: Make) -> None:
    world = make_world(silent())
    pay = await world.instance()
    payment = await in_doubt(world, pay)
    inbound = pay._orchestrator.inbound
    inbound._begin = lambda: None  # type: ignore[method-assign] # The process dies right after it has kept the notice.
    await tell(pay, news(payment, charged(world)))
    await world.kill(pay)
    other = await world.instance()
    await other.recover()
    assert (await world.check_books(other))[0].state is PaymentState.SUCCEEDED


async def test_a_decline_by_webhook_ends_a_payment_in_doubt(make_world: Make) -> None:
    world = make_world(silent())
    pay = await world.instance()
    payment = await in_doubt(world, pay, request_lost)
    await tell(pay, news(payment, DECLINED))
    assert (await world.check_books(pay))[0].state is PaymentState.FAILED


async def test_every_order_of_clean_duplicated_and_stale_notices_ends_the_same(make_world: Make) -> None:
    world = make_world(TellingGateway("alpha"))
    pay = await world.instance()
    for number, order in enumerate(itertools.permutations(range(4))):
        paid = await pay.charge(USD100, "tok_ok", idempotency_key=f"k{number}")
        refunded = await pay.refund(paid.payment_id, Money(10_00, "USD"), idempotency_key=f"r{number}")
        assert refunded.operation is not None
        payment = refunded.payment
        reference = payment.operations[1].reference or ""
        notices = [
            news(payment, Approved(reference=payment.gateway_reference or "", amount_minor=100_00), 0),
            news(payment, DECLINED, 1),
            replace(refund_news(payment, 10_00, 2, reference), operation_id=refunded.operation.id),
            refund_news(payment, 10_00, 3, reference),
        ]
        for index in order:
            await tell(pay, replace(notices[index], id=f"{number}-{index}"))
        after = await pay.get(paid.payment_id)
        assert (after.state, after.captured_minor, after.refunded_minor) == (
            PaymentState.PARTIALLY_REFUNDED,
            100_00,
            10_00,
        )


async def test_notices_wait_while_the_store_is_away_and_while_one_is_worked_on(make_world: Make) -> None:
    world = make_world(silent())
    pay = await world.instance()
    payment = await in_doubt(world, pay)
    lease, failures = pay.store.lease_notices, iter([errors.StoreUnavailable("away.")])

    async def lease_or_not(*arguments: Any) -> Any:
        for error in failures:
            raise error
        return await lease(*arguments)

    pay.store.lease_notices = lease_or_not  # type: ignore[method-assign]
    await tell(pay, news(payment, None, 1))
    more = [msgspec.json.encode([news(payment, charged(world), number)]) for number in (2, 3)]
    await asyncio.gather(*(pay.take_webhook("alpha", {"signature": "good"}, body) for body in more))
    await asyncio.sleep(0.01)
    assert (await pay.get(payment.id)).state is PaymentState.SUCCEEDED
    await pay.recover()
    assert await pay.store.lease_notices(world.clock.now_us(), 0, 10) == []


async def test_stopping_in_the_middle_of_a_notice_leaves_it_to_the_next_process(make_world: Make) -> None:
    world = make_world(silent())
    pay = await world.instance()
    payment = await in_doubt(world, pay)

    async def hangs(*_: Any) -> Any:
        await asyncio.Event().wait()

    pay.store.find_in_flight = hangs  # type: ignore[method-assign]
    await tell(pay, news(payment, charged(world)))
    await world.kill(pay)
    other = await world.instance()
    await world.clock.sleep(120)
    await other.recover()
    assert (await world.check_books(other))[0].state is PaymentState.SUCCEEDED


@pytest.mark.parametrize("known_by", ["operation", "reference", "payment reference", "nothing"])
async def test_a_notice_finds_its_operation_by_our_id_or_the_psps(make_world: Make, known_by: str) -> None:
    world = make_world(silent())
    pay = await world.instance()

    async def accepted(gateway: InstantGateway, call: GatewayCall) -> Outcome:
        outcome = gateway.execute(call)
        assert isinstance(outcome, Approved)
        return Pending(reference=outcome.reference)

    payment = await in_doubt(world, pay, accepted)
    reference = payment.operations[0].reference
    full = news(payment, charged(world))
    event = {
        "operation": replace(full, payment_id="not ours", reference=None),
        "reference": replace(full, operation_id=None, reference=reference, kind=None),
        "payment reference": replace(full, operation_id=None, payment_reference=reference),
        "nothing": replace(full, operation_id="op_" + "0" * 32, payment_id=None),
    }[known_by]
    await tell(pay, event)
    expected = PaymentState.PROCESSING if known_by == "nothing" else PaymentState.SUCCEEDED
    assert (await pay.get(payment.id)).state is expected


async def test_a_notice_of_another_gateway_about_our_payment_is_not_applied(make_world: Make) -> None:
    world = make_world(silent("alpha"), silent("beta"))
    pay = await world.instance()
    payment = await in_doubt(world, pay)
    await tell(pay, news(payment, DECLINED), gateway="beta")
    await tell(pay, news(payment, DECLINED, kind=OperationKind.CAPTURE, operation_id=None, number=2))
    assert (await pay.get(payment.id)).state is PaymentState.IN_DOUBT


async def test_a_notice_that_breaks_the_code_is_tried_again_and_logged_without_its_text(
    make_world: Make, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(silent())
    pay = await world.instance()
    payment = await in_doubt(world, pay)
    find, failures = (
        pay.store.find_in_flight,
        iter([RuntimeError("4242424242424242"), errors.StoreError("odd.")]),
    )

    async def find_or_not(operation_id: str) -> Any:
        for error in failures:
            raise error
        return await find(operation_id)

    pay.store.find_in_flight = find_or_not  # type: ignore[method-assign]
    await tell(pay, news(payment, charged(world)))
    assert "RuntimeError" in caplog.text
    assert "4242" not in caplog.text
    for _ in range(3):
        await world.clock.sleep(60)
        await pay.recover()
    assert (await world.check_books(pay))[0].state is PaymentState.SUCCEEDED


async def test_a_notice_whose_lease_another_worker_took_waits(make_world: Make) -> None:
    world = make_world(silent())
    pay = await world.instance()
    payment = await in_doubt(world, pay)
    found, failures = pay._orchestrator.driver.found, iter([errors.StaleFence()])

    async def found_or_not(*arguments: Any, **more: Any) -> Any:
        for error in failures:
            raise error
        return await found(*arguments, **more)

    pay._orchestrator.driver.found = found_or_not  # type: ignore[method-assign]
    await tell(pay, news(payment, charged(world)))
    assert (await pay.get(payment.id)).state is PaymentState.IN_DOUBT
    await world.clock.sleep(10)
    await pay.recover()
    assert (await pay.get(payment.id)).state is PaymentState.SUCCEEDED


async def test_a_refund_told_twice_at_once_to_two_instances_is_counted_once(make_world: Make) -> None:
    world = make_world(TellingGateway("alpha"))
    instances = [await world.instance() for _ in range(2)]
    paid = await instances[0].charge(USD100, "tok_ok", idempotency_key="k")
    for number, pay in enumerate(instances):
        pay._orchestrator.inbound._begin = lambda: None  # type: ignore[method-assign]
        await tell(pay, refund_news(paid.payment, 30_00, number))
    await asyncio.gather(*(pay._orchestrator.inbound.apply_due() for pay in instances))
    assert (await instances[0].get(paid.payment_id)).refunded_minor == 30_00


async def test_news_of_a_capture_that_carries_the_authorisations_reference_is_not_taken_for_it(
    make_world: Make,
) -> None:
    world = make_world(silent())
    pay = await world.instance()
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="k")

    async def accepted(gateway: InstantGateway, call: GatewayCall) -> Outcome:
        outcome = gateway.execute(call)
        assert isinstance(outcome, Approved)
        return Pending(reference=outcome.reference)

    world.gateways[0].faults.append(accepted)
    await pay.capture(held.payment_id, idempotency_key="c", timeout_s=0.05)
    entry = world.gateways[0].books[-1]
    done = Approved(reference=entry.reference, amount_minor=100_00)
    payment = await pay.get(held.payment_id)
    await tell(pay, news(payment, done, kind=OperationKind.CAPTURE, reference=entry.reference))
    assert (await world.check_books(pay))[0].state is PaymentState.SUCCEEDED


async def test_a_notice_that_only_says_look_makes_us_look(make_world: Make) -> None:
    world = make_world(silent())
    pay = await world.instance()
    payment = await in_doubt(world, pay)
    del world.gateways[0].look_up  # type: ignore[method-assign]
    await tell(pay, news(payment, None, 1))
    assert (await pay.get(payment.id)).state is PaymentState.IN_DOUBT
    await tell(pay, news(payment, None, 2, must_look_up=True))
    assert (await pay.get(payment.id)).state is PaymentState.SUCCEEDED


async def test_two_long_ids_that_begin_alike_are_two_notices(make_world: Make) -> None:
    world = make_world(silent())
    pay = await world.instance()
    payment = await in_doubt(world, pay)
    long = [replace(news(payment, None), id="x" * 300 + end) for end in "ab"]
    assert [await tell(pay, one) for one in (*long, *long)] == [1, 1, 0, 0]


async def post(
    app: WebhookApp, path: str, body: bytes, signature: bytes = b"good", method: str = "POST"
) -> int:
    sent: list[Any] = []
    chunks = [body[: len(body) // 2], body[len(body) // 2 :]]
    messages = [
        {"type": "http.request", "body": part, "more_body": not last} for last, part in enumerate(chunks)
    ]

    async def receive() -> Any:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": [(b"Signature", signature)]}
    await app(scope, receive, send)
    return int(sent[0]["status"])


async def test_the_asgi_application_answers_what_the_psp_should_do_next(make_world: Make) -> None:
    world = make_world(silent())
    pay = await world.instance()
    payment = await in_doubt(world, pay)
    app = WebhookApp(pay)
    body = msgspec.json.encode([news(payment, charged(world))])
    assert await post(app, "/webhooks/alpha", body, b"forged") == 400
    assert await post(app, "/webhooks/nobody", body) == 404
    assert await post(app, "/webhooks/alpha", body, method="GET") == 405
    assert await post(app, "/webhooks/alpha", b"x" * 1_000_001) == 413
    assert await post(app, "/webhooks/alpha", body) == 200
    await asyncio.sleep(0.001)
    assert (await pay.get(payment.id)).state is PaymentState.SUCCEEDED
    with pytest.raises(RuntimeError):
        await app({"type": "websocket"}, None, None)  # type: ignore[arg-type]
    await pay.stop()
    assert await post(app, "/webhooks/alpha", body) == 503
    assert NoticeState("unmatched") is NoticeState.UNMATCHED


async def test_a_lease_from_a_clock_that_ran_ahead_holds_no_notice_back(make_world: Make) -> None:
    """Whoever wrote it died under a clock a day ahead; the webhook must not wait for that day to come."""
    world = make_world(silent())
    pay = await world.instance()
    payment = await in_doubt(world, pay)
    row = await pay.store.find_in_flight(payment.operations[0].id)
    assert row is not None
    ahead_us = world.clock.now_us() + int(DAY_S * 1_000_000)
    (taken,) = await pay.store.lease_due(row.due_at_us, "somebody", ahead_us, 1)
    assert taken.owner == "somebody" and taken.due_at_us == ahead_us
    await tell(pay, news(payment, DECLINED))
    assert (await pay.get(payment.id)).state is PaymentState.FAILED


async def test_a_body_of_just_the_allowed_size_is_read_and_one_byte_more_is_not(make_world: Make) -> None:
    world = make_world(silent())
    pay = await world.instance()
    body = msgspec.json.encode([])
    assert await pay.take_webhook("alpha", {"signature": "good"}, body.ljust(WEBHOOK_BODY_BYTES_MAX)) == 0
    with pytest.raises(WebhookRejected, match="too_large"):
        await pay.take_webhook("alpha", {"signature": "good"}, body.ljust(WEBHOOK_BODY_BYTES_MAX + 1))
