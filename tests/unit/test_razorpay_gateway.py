"""The Razorpay adapter over a real connection: what it sends, in which order, and what it makes of each answer."""

from __future__ import annotations

import base64
import pickle
from typing import Any

import pytest

from aegispay.domain.errors import ConfigError, InvalidRequest, UnsupportedOperation
from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import ActionType, Approved, Declined, InDoubt, NotSent, Pending, RequiresAction
from aegispay.gateways.gateway import Found, LookupFailed, NotFound
from aegispay.gateways.razorpay import CHECKOUT, RazorpayGateway
from tests.fakes.json_psp import HANG_UP, Route, json_psp
from tests.fakes.raw_server import refused_port
from tests.fakes.razorpay_calls import (
    KEY_ID,
    KEY_SECRET,
    WEBHOOK_SECRET,
    call,
    error,
    order,
    page,
    payment,
    refund,
)

K = OperationKind
REDIRECT = {
    "razorpay_payment_id": "pay_1",
    "next": [{"action": "redirect", "url": "https://api.razorpay.com/v1/payments/1/authenticate"}],
}


def razorpay(route: Route) -> Any:
    return json_psp(route, lambda url: RazorpayGateway(KEY_ID, KEY_SECRET, base_url=url))


def routes(table: dict[str, Any]) -> Route:
    return lambda one: table[repr(one)]


# --- the first operation ------------------------------------------------------------------------------------


async def test_a_payer_pays_an_order_in_the_checkout():
    made = call(token=CHECKOUT, metadata={})
    async with razorpay(routes({"POST /orders": order(made)})) as (gateway, seen):
        outcome = await gateway.charge(made)
    assert isinstance(outcome, RequiresAction)
    assert outcome.reference == "order_1"
    assert outcome.action.type is ActionType.SDK
    assert outcome.action.data["order_id"] == "order_1"
    assert outcome.action.data["key"] == KEY_ID
    assert outcome.action.data["notes[aegispay_operation]"] == made.operation_id
    assert KEY_SECRET not in repr(outcome)
    basic = base64.b64decode(seen[0].headers["authorization"].removeprefix("Basic ")).decode()
    assert basic == f"{KEY_ID}:{KEY_SECRET}"


async def test_a_saved_card_asks_for_the_bank_with_the_payment_as_reference():
    made = call()
    table = {"POST /orders": order(made), "POST /payments/create/json": REDIRECT}
    async with razorpay(routes(table)) as (gateway, seen):
        outcome = await gateway.charge(made)
    assert outcome.reference == "pay_1"
    assert outcome.action.url == REDIRECT["next"][0]["url"]
    assert [repr(one) for one in seen] == ["POST /orders", "POST /payments/create/json"]
    assert seen[1].json["order_id"] == "order_1"


async def test_a_payment_that_needs_nobody_is_read_once_it_is_made():
    made = call()
    table = {
        "POST /orders": order(made),
        "POST /payments/create/json": {"razorpay_payment_id": "pay_1"},
        "GET /payments/pay_1": payment("captured"),
    }
    async with razorpay(routes(table)) as (gateway, _):
        assert await gateway.charge(made) == Approved(reference="pay_1", amount_minor=1000)
    table["GET /payments/pay_1"] = (500, error())
    async with razorpay(routes(table)) as (gateway, _):
        assert await gateway.charge(made) == Pending(reference="pay_1", reason="created")


@pytest.mark.parametrize("bad", [(500, error()), HANG_UP, (200, {"id": "order_1"}), (200, b"<html>")])
async def test_whatever_happens_to_the_order_no_payment_was_asked_for(bad):
    """An order whose id nobody got is never paid: its loss is proof, not doubt, and no payment follows it."""
    async with razorpay(routes({"POST /orders": bad})) as (gateway, seen):
        assert isinstance(await gateway.charge(call()), NotSent)
    assert len(seen) == 1


async def test_an_order_of_another_amount_is_not_paid():
    made = call()
    async with razorpay(routes({"POST /orders": order(made, amount=100_000)})) as (gateway, seen):
        assert await gateway.charge(made) == NotSent(reason="garbage")
    assert len(seen) == 1


@pytest.mark.parametrize(
    "bad", [(500, error()), (502, b"bad gateway"), HANG_UP, (200, b"<html>"), (200, {"id": "pay_1"})]
)
async def test_a_payment_without_a_clear_answer_is_in_doubt(bad):
    made = call()
    table = {"POST /orders": order(made), "POST /payments/create/json": bad}
    async with razorpay(routes(table)) as (gateway, _):
        assert isinstance(await gateway.charge(made), InDoubt)


async def test_a_refused_order_is_a_decline():
    body = error("Order amount less than minimum", reason="input_validation_failed", field="amount")
    async with razorpay(routes({"POST /orders": (400, body)})) as (gateway, _):
        outcome = await gateway.charge(call())
    assert (outcome.code, outcome.message) == ("invalid_request", "Razorpay: invalid request (amount)")


async def test_nobody_there_is_proof():
    gateway = RazorpayGateway(KEY_ID, KEY_SECRET, base_url=f"http://127.0.0.1:{refused_port()}")
    for made in (call(), call(K.CAPTURE), call(K.REFUND)):
        assert isinstance(await gateway.perform(made), NotSent)
    assert isinstance(await gateway.look_up(call(K.CAPTURE)), LookupFailed)
    assert not (await gateway.health()).ok
    await gateway.aclose()


# --- confirm ------------------------------------------------------------------------------------------------


def confirm(**more: Any) -> Any:
    return call(K.CONFIRM, **more)


@pytest.mark.parametrize(
    ("items", "kind", "wanted"),
    [
        ([payment("captured")], K.CHARGE, Approved),
        ([payment("failed", id="pay_0"), payment("captured")], K.CHARGE, Approved),
        ([payment("authorized")], K.AUTHORIZE, Approved),
        ([payment("authorized")], K.CHARGE, Pending),
        ([payment("created")], K.CHARGE, Pending),
        # The order stays open: the payer may try again in the Checkout.
        ([payment("failed")], K.CHARGE, RequiresAction),
        ([], K.CHARGE, RequiresAction),
    ],
)
async def test_a_confirmation_reads_what_was_paid_of_the_order(items, kind, wanted):
    made = confirm(parent_reference="order_1", parent_kind=kind)
    async with razorpay(routes({"GET /orders/order_1/payments": page(*items)})) as (gateway, _):
        outcome = await gateway.confirm(made)
    assert isinstance(outcome, wanted)
    if wanted is Approved:
        assert outcome.reference == "pay_1"
    if wanted in (Pending, Declined, RequiresAction):
        assert outcome.reference == "order_1"


async def test_what_the_payer_brings_back_is_not_believed():
    """A forged callback that claims success changes nothing: the order itself is read."""
    forged = {"razorpay_payment_id": "pay_666", "razorpay_order_id": "order_666", "razorpay_signature": "00"}
    made = confirm(parent_reference="order_1", action_data=forged)
    async with razorpay(routes({"GET /orders/order_1/payments": page(payment("failed"))})) as (gateway, seen):
        assert isinstance(await gateway.confirm(made), RequiresAction)
    assert [repr(one) for one in seen] == ["GET /orders/order_1/payments"]


@pytest.mark.parametrize("bad", [(500, error()), HANG_UP, (200, page(payment(order_id="order_2")))])
async def test_a_confirmation_that_cannot_be_read_is_in_doubt(bad):
    async with razorpay(routes({"GET /orders/order_1/payments": bad})) as (gateway, _):
        assert isinstance(await gateway.confirm(confirm(parent_reference="order_1")), InDoubt)


# --- captures, voids, refunds -------------------------------------------------------------------------------


async def test_a_capture_takes_the_whole_payment():
    async with razorpay(routes({"POST /payments/pay_1/capture": payment("captured")})) as (gateway, seen):
        assert await gateway.capture(call(K.CAPTURE)) == Approved(reference="pay_1", amount_minor=1000)
    assert seen[0].json == {"amount": 1000, "currency": "INR"}


async def test_already_been_captured_means_success():
    table = {
        "POST /payments/pay_1/capture": (400, error("This payment has already been captured")),
        "GET /payments/pay_1": payment("captured"),
    }
    async with razorpay(routes(table)) as (gateway, seen):
        assert await gateway.capture(call(K.CAPTURE)) == Approved(reference="pay_1", amount_minor=1000)
    assert len(seen) == 2
    table["POST /payments/pay_1/capture"] = (400, error("in words that nobody expected"))
    async with razorpay(routes(table)) as (gateway, _):
        assert isinstance(await gateway.capture(call(K.CAPTURE)), Approved)


async def test_already_been_captured_without_a_captured_payment_is_in_doubt():
    table = {
        "POST /payments/pay_1/capture": (400, error("This payment has already been captured")),
        "GET /payments/pay_1": payment("authorized"),
    }
    async with razorpay(routes(table)) as (gateway, _):
        assert isinstance(await gateway.capture(call(K.CAPTURE)), InDoubt)


async def test_a_refused_capture_is_declined_once_the_payment_says_so_too():
    table: dict[str, Any] = {
        "POST /payments/pay_1/capture": (400, error("Capture amount must be equal to the amount authorized")),
        "GET /payments/pay_1": payment("authorized"),
    }
    async with razorpay(routes(table)) as (gateway, _):
        assert isinstance(await gateway.capture(call(K.CAPTURE)), Declined)
    table["GET /payments/pay_1"] = HANG_UP
    async with razorpay(routes(table)) as (gateway, _):
        assert isinstance(await gateway.capture(call(K.CAPTURE)), InDoubt)


async def test_there_is_no_void_and_nothing_is_sent():
    async with razorpay(routes({})) as (gateway, seen):
        assert not gateway.capabilities.void
        with pytest.raises(UnsupportedOperation, match="no void"):
            await gateway.void(call(K.VOID))
        with pytest.raises(UnsupportedOperation):
            gateway.check(call(K.VOID))
        with pytest.raises(UnsupportedOperation):
            await gateway.capture(call(K.CAPTURE, final=False))
        with pytest.raises(InvalidRequest):
            await gateway.charge(call(token=None))
    assert not seen


async def test_a_refund_is_sent_under_its_key():
    made = call(K.REFUND, "3.00 INR")
    body = refund(made, amount=300)
    async with razorpay(routes({"POST /payments/pay_1/refund": body})) as (gateway, seen):
        assert await gateway.refund(made) == Approved(reference="rfnd_1", amount_minor=300)
    assert seen[0].headers["x-refund-idempotency"] == made.gateway_key
    async with razorpay(routes({"POST /payments/pay_1/refund": refund(made, payment_id="pay_2")})) as (
        gateway,
        _,
    ):
        assert await gateway.refund(made) == InDoubt(reason="garbage")
    async with razorpay(routes({"POST /payments/pay_1/refund": refund(made, receipt="op_2")})) as (
        gateway,
        _,
    ):
        assert await gateway.refund(made) == InDoubt(reason="garbage")


async def test_a_refused_refund_may_be_our_own_earlier_one():
    made = call(K.REFUND)
    table = {
        "POST /payments/pay_1/refund": (400, error("The payment has been fully refunded already.")),
        "GET /payments/pay_1/refunds": page(refund(made)),
    }
    async with razorpay(routes(table)) as (gateway, _):
        assert await gateway.refund(made) == Approved(reference="rfnd_1", amount_minor=1000)
        assert isinstance(await gateway.refund(call(K.REFUND)), Declined)


async def test_a_refund_under_way_is_in_doubt():
    table = {"POST /payments/pay_1/refund": (409, error("Another request ... is still in progress."))}
    async with razorpay(routes(table)) as (gateway, _):
        assert await gateway.refund(call(K.REFUND)) == InDoubt(reason="in_flight")


# --- look-ups -----------------------------------------------------------------------------------------------


async def test_a_payment_is_found_by_our_reference():
    made = call()
    table = {
        "GET /orders": page(order(made), order(made, id="order_2", receipt=made.operation_id + "x")),
        "GET /orders/order_1/payments": page(payment("captured")),
    }
    async with razorpay(routes(table)) as (gateway, seen):
        found = await gateway.look_up(made)
    assert found == Found(outcome=Approved(reference="pay_1", amount_minor=1000))
    assert seen[0].query["receipt"] == [made.operation_id]


async def test_somebody_elses_payment_is_not_ours():
    async with razorpay(routes({"GET /payments/pay_1": payment("captured", id="pay_2")})) as (gateway, _):
        assert await gateway.look_up(call(own_reference="pay_1")) == LookupFailed(reason="garbage")


async def test_no_order_and_an_order_that_nobody_paid_are_nothing():
    made = call()
    async with razorpay(routes({"GET /orders": page()})) as (gateway, _):
        assert await gateway.look_up(made) == NotFound()
    table = {"GET /orders": page(order(made)), "GET /orders/order_1/payments": page()}
    async with razorpay(routes(table)) as (gateway, _):
        assert await gateway.look_up(made) == NotFound()


async def test_an_unpaid_checkout_order_still_waits_for_its_payer():
    made = call(token=CHECKOUT, metadata={})
    table = {"GET /orders": page(order(made)), "GET /orders/order_1/payments": page()}
    async with razorpay(routes(table)) as (gateway, _):
        found = await gateway.look_up(made)
    assert isinstance(found.outcome, RequiresAction)
    assert found.outcome.reference == "order_1"


@pytest.mark.parametrize("reference", ["pay_1", "order_1"])
async def test_trap_razorpays_failed_that_later_captures(reference):
    """`failed` is not final: the same look-up, made again, finds the late success."""
    made = call(token=CHECKOUT if reference == "order_1" else "token_1", own_reference=reference)
    now = {"status": "failed"}

    def route(one: Any) -> Any:
        body = payment(now["status"])
        return page(body) if one.path.endswith("/payments") else body

    async with razorpay(route) as (gateway, _):
        before = await gateway.look_up(made)
        # An order stays open to another try of the payer's; a saved card is tried once.
        assert isinstance(before.outcome, RequiresAction if reference == "order_1" else Declined)
        assert before.outcome.reference == reference
        now["status"] = "captured"
        assert await gateway.look_up(made) == Found(outcome=Approved(reference="pay_1", amount_minor=1000))


async def test_two_successes_under_one_reference_go_to_a_person():
    made = call()

    def route(one: Any) -> Any:
        if one.path == "/orders":
            return page(order(made), order(made, id="order_2"))
        number = one.path.split("_")[1][0]
        return page(payment("captured", id=f"pay_{number}", order_id=f"order_{number}"))

    async with razorpay(route) as (gateway, _):
        assert await gateway.look_up(made) == LookupFailed(reason="several_found")


async def test_captures_are_looked_up_by_their_payment():
    async with razorpay(routes({"GET /payments/pay_1": payment("captured")})) as (gateway, _):
        assert isinstance(await gateway.look_up(call(K.CAPTURE)), Found)
    async with razorpay(routes({"GET /payments/pay_1": payment("authorized")})) as (gateway, _):
        assert await gateway.look_up(call(K.CAPTURE)) == NotFound()
    async with razorpay(routes({"GET /payments/pay_1": payment("captured", id="pay_2")})) as (gateway, _):
        assert isinstance(await gateway.look_up(call(K.CAPTURE)), LookupFailed)


async def test_refunds_are_looked_up_in_the_payments_list_to_its_end():
    made = call(K.REFUND)
    others = [refund(call(K.REFUND), id=f"rfnd_{n}") for n in range(100)]

    def route(one: Any) -> Any:
        return page(*others) if one.query["skip"] == ["0"] else page(refund(made, id="rfnd_last"))

    async with razorpay(route) as (gateway, seen):
        found = await gateway.look_up(made)
        assert found.outcome.reference == "rfnd_last"
        assert [one.query["skip"] for one in seen] == [["0"], ["100"]]
        assert await gateway.look_up(call(K.REFUND)) == NotFound()
    async with razorpay(lambda _: page(*others)) as (gateway, seen):
        assert await gateway.look_up(made) == LookupFailed(reason="too_many_to_list")
        assert len(seen) == 10
    known = call(K.REFUND, own_reference="rfnd_1")
    async with razorpay(routes({"GET /refunds/rfnd_1": refund(known)})) as (gateway, _):
        assert isinstance(await gateway.look_up(known), Found)


@pytest.mark.parametrize("bad", [(500, error()), (401, error()), HANG_UP, (200, b"[]"), (200, b"x")])
async def test_a_look_up_that_does_not_come_through_teaches_nothing(bad):
    async with razorpay(lambda _: bad) as (gateway, _):
        for made in (call(), call(own_reference="pay_1"), call(K.CAPTURE), call(K.REFUND)):
            assert isinstance(await gateway.look_up(made), LookupFailed)


# --- the account --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "ok"), [(200, True), (401, False), (429, False), (500, False)])
async def test_health_is_a_call_that_moves_no_money(status, ok):
    async with razorpay(routes({"GET /payments/downtimes": (status, page())})) as (gateway, _):
        found = await gateway.health()
    assert found.ok is ok
    assert KEY_SECRET not in found.detail


@pytest.mark.parametrize(
    ("key_id", "secret", "options"),
    [
        ("", KEY_SECRET, {}),
        ("sk_test_stripe", KEY_SECRET, {}),
        ("rzp_test_a\nb", KEY_SECRET, {}),
        (KEY_ID, "", {}),
        (KEY_ID, "with space", {}),
        (KEY_ID, KEY_ID, {}),
        (KEY_ID, KEY_SECRET, {"base_url": "http://api.razorpay.com/v1"}),
        (KEY_ID, KEY_SECRET, {"base_url": "https://u:p@api.razorpay.com/v1"}),
        (KEY_ID, KEY_SECRET, {"webhook_secrets": "one text"}),
        (KEY_ID, KEY_SECRET, {"webhook_secrets": [""]}),
    ],
)
def test_malformed_keys_are_refused_without_quoting_them(key_id, secret, options):
    with pytest.raises(ConfigError) as caught:
        RazorpayGateway(key_id, secret, **options)
    assert KEY_SECRET not in str(caught.value)


def test_the_secret_shows_nowhere():
    gateway = RazorpayGateway(KEY_ID, KEY_SECRET, webhook_secrets=[WEBHOOK_SECRET])
    shown = repr(gateway) + repr(vars(gateway)) + repr(vars(gateway._client)) + repr(gateway._webhook_secrets)
    assert KEY_SECRET not in shown and WEBHOOK_SECRET not in shown
    with pytest.raises(TypeError):
        pickle.dumps(gateway._client._secret)


def test_what_razorpay_cannot_do_is_declared():
    caps = RazorpayGateway(KEY_ID, KEY_SECRET).capabilities
    assert not (caps.void or caps.partial_capture or caps.multi_capture or caps.stable_key or caps.tokenize)
    assert caps.lookup_by_reference and caps.partial_refund and caps.next_action
    assert [kind for kind in K if caps.key_ttl_s(kind)] == [K.REFUND]
    assert caps.authorization_ttl_s == 5 * 86_400
