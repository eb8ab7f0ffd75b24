"""The PayPal adapter over a real connection: what it sends, how it looks things up, and that no secret shows."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import pickle
from typing import Any

import pytest

from aegispay.domain.errors import ConfigError, InvalidRequest
from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import (
    Approved,
    DeclineCategory,
    Declined,
    InDoubt,
    NotSent,
    Pending,
    RequiresAction,
)
from aegispay.gateways.gateway import Found, LookupFailed, NotFound
from aegispay.gateways.paypal import WALLET, PayPalGateway
from tests.fakes.json_psp import HANG_UP, Route, Seen, json_psp
from tests.fakes.paypal_calls import (
    APPROVE,
    AUTHORIZATION,
    CAPTURE,
    CLIENT_ID,
    CLIENT_SECRET,
    ORDER,
    REFUND,
    TOKEN,
    call,
    custom_id,
    declined,
    error,
    made,
    money,
    order,
    refund,
)
from tests.fakes.raw_server import refused_port

K = OperationKind
ORDERS = "POST /v2/checkout/orders"
GET_ORDER = f"GET /v2/checkout/orders/{ORDER}"
CAPTURE_ORDER = f"POST /v2/checkout/orders/{ORDER}/capture"
AUTHORIZE_ORDER = f"POST /v2/checkout/orders/{ORDER}/authorize"
CAPTURE_AUTH = f"POST /v2/payments/authorizations/{AUTHORIZATION}/capture"
VOID_AUTH = f"POST /v2/payments/authorizations/{AUTHORIZATION}/void"
GET_AUTH = f"GET /v2/payments/authorizations/{AUTHORIZATION}"
REFUND_CAPTURE = f"POST /v2/payments/captures/{CAPTURE}/refund"
GET_CAPTURE = f"GET /v2/payments/captures/{CAPTURE}"
SEARCH = "GET /v1/reporting/transactions"
GRANT = {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 32400}


def paypal(route: Route, **options: Any) -> Any:
    return json_psp(route, lambda url: PayPalGateway(CLIENT_ID, CLIENT_SECRET, base_url=url, **options))


def routes(table: dict[str, Any]) -> Route:
    def route(one: Seen) -> Any:
        return GRANT if one.path == "/v1/oauth2/token" else table[repr(one)]

    return route


def sent(seen: list[Seen]) -> list[str]:
    return [repr(one) for one in seen if one.path != "/v1/oauth2/token"]


# --- the access token ---------------------------------------------------------------------------------------


async def test_the_token_is_fetched_once_and_kept():
    of = call()
    async with paypal(routes({ORDERS: (201, order(of, captures=[made(of)]))})) as (gateway, seen):
        for _ in range(3):
            assert isinstance(await gateway.charge(of), Approved)
    assert [repr(one) for one in seen] == ["POST /v1/oauth2/token", ORDERS, ORDERS, ORDERS]
    grant, first = seen[0], seen[1]
    assert (
        base64.b64decode(grant.headers["authorization"].split()[1]).decode() == f"{CLIENT_ID}:{CLIENT_SECRET}"
    )
    assert grant.body == b"grant_type=client_credentials"
    assert first.headers["authorization"] == f"Bearer {TOKEN}"
    assert first.headers["paypal-request-id"] == of.gateway_key
    assert first.headers["prefer"] == "return=representation"
    assert first.headers["content-type"] == "application/json"


async def test_many_calls_at_once_share_one_token_request():
    of = call()
    async with paypal(routes({ORDERS: (201, order(of, captures=[made(of)]))})) as (gateway, seen):
        outcomes = await asyncio.gather(*(gateway.charge(of) for _ in range(20)))
    assert all(isinstance(one, Approved) for one in outcomes)
    assert len([one for one in seen if one.path == "/v1/oauth2/token"]) == 1


async def test_a_caller_who_gives_up_does_not_take_the_token_from_the_others():
    of = call()
    async with paypal(routes({ORDERS: (201, order(of, captures=[made(of)]))})) as (gateway, _):
        first = asyncio.ensure_future(gateway.charge(of))
        second = asyncio.ensure_future(gateway.charge(of))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        first.cancel()
        assert isinstance(await second, Approved)


async def test_a_refused_token_is_replaced_once_and_only_once():
    of = call()
    tokens = iter(f"{TOKEN}{n}" for n in range(9))
    refused = {f"Bearer {TOKEN}0"}

    def route(one: Seen) -> Any:
        if one.path == "/v1/oauth2/token":
            return {**GRANT, "access_token": next(tokens)}
        if one.headers["authorization"] in refused:
            return 401, error("INVALID", "AUTHENTICATION_FAILURE")
        return 201, order(of, captures=[made(of)])

    async with paypal(route) as (gateway, seen):
        assert isinstance(await gateway.charge(of), Approved)
        assert len(seen) == 4
        keys = [one.headers["paypal-request-id"] for one in seen if "paypal-request-id" in one.headers]
        assert keys == [of.gateway_key] * 2
        refused |= {f"Bearer {TOKEN}{n}" for n in range(9)}
        assert await gateway.charge(of) == NotSent(reason="unauthorized")
        assert len(seen) == 4 + 3


async def test_many_calls_with_a_refused_token_fetch_one_new_one():
    of = call()
    tokens = iter(f"{TOKEN}{n}" for n in range(99))

    def route(one: Seen) -> Any:
        if one.path == "/v1/oauth2/token":
            return {**GRANT, "access_token": next(tokens)}
        if one.headers["authorization"] == f"Bearer {TOKEN}0":
            return 401, error("INVALID", "AUTHENTICATION_FAILURE")
        return 201, order(of, captures=[made(of)])

    async with paypal(route) as (gateway, seen):
        await asyncio.gather(*(gateway.charge(of) for _ in range(10)))
    assert len([one for one in seen if one.path == "/v1/oauth2/token"]) <= 3


async def test_a_late_refusal_of_the_old_token_does_not_throw_the_new_one_away():
    async with paypal(routes({})) as (gateway, seen):
        tokens = gateway._client.tokens
        old = await tokens.fetch(1.0)
        new = await tokens.fetch(1.0)
        tokens.forget(old)
        assert await tokens.get(1.0) is new
        tokens.forget(new)
        assert await tokens.get(1.0) is not new
    assert len(seen) == 3


async def test_a_token_that_does_not_come_in_time_is_waited_for_no_longer_than_the_call():
    gate = asyncio.Event()

    class Slow:
        async def send(self, request: Any) -> Any:
            await gate.wait()
            return NotSent(reason="late")

        async def aclose(self) -> None: ...

    gateway = PayPalGateway(CLIENT_ID, CLIENT_SECRET, transport=Slow())
    assert await gateway.charge(call(timeout_s=0.001)) == NotSent(reason="token_timeout")
    waiting = asyncio.ensure_future(gateway.charge(call()))
    await asyncio.sleep(0)
    await gateway.aclose()
    assert await waiting == NotSent(reason="transport_closed")


@pytest.mark.parametrize(
    ("grant", "reason"),
    [
        ((401, error("x", "invalid_client")), "unauthorized"),
        ((429, error("x", "RATE")), "rate_limited"),
        ((500, b""), "token_http_500"),
        ((200, b"<html>"), "token_garbage"),
        ((200, {**GRANT, "access_token": "two lines\r\nX: y"}), "token_garbage"),
        (HANG_UP, "token_reset"),
    ],
)
async def test_without_a_token_nothing_was_sent(grant, reason):
    async with paypal(lambda _: grant) as (gateway, seen):
        for one in (call(), call(K.CAPTURE), call(K.REFUND), call(K.CONFIRM), call(K.VOID)):
            assert (await gateway.perform(one)).reason == reason
            assert isinstance(await gateway.perform(one), NotSent)
        assert not (await gateway.health()).ok
    assert {one.path for one in seen} == {"/v1/oauth2/token"}


async def test_a_token_in_the_last_minute_of_its_life_is_not_kept():
    of = call()

    def route(one: Seen) -> Any:
        short = {**GRANT, "expires_in": 60}
        return short if one.path == "/v1/oauth2/token" else (201, order(of, captures=[made(of)]))

    async with paypal(route) as (gateway, seen):
        await gateway.charge(of)
        await gateway.charge(of)
    assert len([one for one in seen if one.path == "/v1/oauth2/token"]) == 2


# --- the first operation ------------------------------------------------------------------------------------


async def test_a_saved_card_is_charged_in_one_request():
    of = call()
    async with paypal(routes({ORDERS: (201, order(of, captures=[made(of)]))})) as (gateway, seen):
        assert await gateway.charge(of) == Approved(reference=CAPTURE, amount_minor=1000)
    assert sent(seen) == [ORDERS]


async def test_paypals_201_with_a_declined_capture_is_declined_over_the_wire():
    of = call()
    body = order(of, captures=[declined(of, "9500")])
    async with paypal(routes({ORDERS: (201, body)})) as (gateway, _):
        outcome = await gateway.charge(of)
    assert (outcome.category, outcome.code) == (DeclineCategory.FRAUD, "fraud_suspected")


async def test_the_payer_approves_a_wallet_order_and_nothing_is_taken_yet():
    of = call(token=WALLET, return_url="https://shop.example/back")
    async with paypal(routes({ORDERS: (200, order(of, "PAYER_ACTION_REQUIRED", links=APPROVE))})) as (
        gateway,
        seen,
    ):
        outcome = await gateway.charge(of)
    assert isinstance(outcome, RequiresAction)
    assert (outcome.reference, outcome.action.url) == (ORDER, APPROVE[1]["href"])
    assert sent(seen) == [ORDERS]


@pytest.mark.parametrize("bad", [(500, b""), (503, error("x")), HANG_UP, (201, b"<html>")])
async def test_a_lost_wallet_order_is_proof_and_a_lost_card_order_is_doubt(bad):
    """An order that waits for its payer takes nothing, and one that nobody knows is never approved."""
    async with paypal(lambda one: GRANT if one.path.endswith("token") else bad) as (gateway, _):
        assert isinstance(await gateway.charge(call(token=WALLET)), NotSent)
        assert isinstance(await gateway.charge(call()), InDoubt)
        assert isinstance(await gateway.authorize(call(K.AUTHORIZE)), InDoubt)


async def test_an_invoice_id_that_was_paid_before_is_in_doubt_for_every_token():
    async with paypal(routes({ORDERS: (422, error("DUPLICATE_INVOICE_ID"))})) as (gateway, _):
        for token in (WALLET, "card:8kk8451t"):
            assert await gateway.charge(call(token=token)) == InDoubt(reason="duplicate_invoice_id")


async def test_an_order_that_needs_a_second_request_gets_one_under_a_key_of_its_own():
    of = call(K.AUTHORIZE)
    table = {
        ORDERS: (201, order(of, "CREATED")),
        AUTHORIZE_ORDER: (201, order(of, authorizations=[made(of, "CREATED", id=AUTHORIZATION)])),
    }
    async with paypal(routes(table)) as (gateway, seen):
        assert await gateway.authorize(of) == Approved(reference=AUTHORIZATION, amount_minor=1000)
    keys = [one.headers["paypal-request-id"] for one in seen if "paypal-request-id" in one.headers]
    assert keys == [of.gateway_key, of.gateway_key + "-2"]


async def test_a_crash_between_the_two_requests_is_mended_by_sending_both_again():
    """PayPal replays each under its own key, so the resend of the whole operation takes nothing twice."""
    of = call()
    books: dict[str, dict[str, Any]] = {}
    captures = []

    def route(one: Seen) -> Any:
        if one.path == "/v1/oauth2/token":
            return GRANT
        key = one.headers["paypal-request-id"]
        if key in books:
            return 200, books[key]
        if one.path.endswith("/capture"):
            captures.append(made(of))
            books[key] = order(of, captures=captures)
            return HANG_UP
        books[key] = order(of, "CREATED")
        return 201, books[key]

    async with paypal(route) as (gateway, _):
        assert isinstance(await gateway.charge(of), InDoubt)
        assert await gateway.charge(of) == Approved(reference=CAPTURE, amount_minor=1000)
    assert len(captures) == 1


async def test_a_declined_issue_is_declined_by_the_table():
    async with paypal(routes({ORDERS: (422, error("INSTRUMENT_DECLINED"))})) as (gateway, _):
        outcome = await gateway.charge(call())
    assert (outcome.category, outcome.gateway_code) == (DeclineCategory.SOFT, "INSTRUMENT_DECLINED")


async def test_nobody_there_is_proof():
    gateway = PayPalGateway(CLIENT_ID, CLIENT_SECRET, base_url=f"http://127.0.0.1:{refused_port()}")
    for one in (call(), call(K.CAPTURE), call(K.REFUND), call(K.CONFIRM), call(K.VOID)):
        assert isinstance(await gateway.perform(one), NotSent)
    assert isinstance(await gateway.look_up(call(K.CAPTURE)), LookupFailed)
    await gateway.aclose()


# --- confirm ------------------------------------------------------------------------------------------------


def confirm(kind: K = K.CHARGE) -> Any:
    return call(K.CONFIRM, parent_kind=kind, parent_operation_id="op_parent")


async def test_an_approved_order_is_captured_or_authorized():
    of = confirm()
    own = {"custom_id": "op_parent", "invoice_id": "op_parent"}
    table = {CAPTURE_ORDER: (201, order("op_parent", captures=[made(None, **own)]))}
    async with paypal(routes(table)) as (gateway, seen):
        assert await gateway.confirm(of) == Approved(reference=CAPTURE, amount_minor=1000)
    assert seen[1].headers["paypal-request-id"] == of.gateway_key
    assert seen[1].json == {}
    of = confirm(K.AUTHORIZE)
    body = order("op_parent", authorizations=[made(None, "CREATED", id=AUTHORIZATION)])
    async with paypal(routes({AUTHORIZE_ORDER: (201, body)})) as (gateway, _):
        assert (await gateway.confirm(of)).reference == AUTHORIZATION


async def test_order_already_captured_means_look_at_the_order():
    table = {
        CAPTURE_ORDER: (422, error("ORDER_ALREADY_CAPTURED")),
        GET_ORDER: order("op_parent", captures=[made(None)]),
    }
    async with paypal(routes(table)) as (gateway, seen):
        assert await gateway.confirm(confirm()) == Approved(reference=CAPTURE, amount_minor=1000)
    assert sent(seen) == [CAPTURE_ORDER, GET_ORDER]
    table[GET_ORDER] = order("op_parent", captures=[declined(None)])
    async with paypal(routes(table)) as (gateway, _):
        assert isinstance(await gateway.confirm(confirm()), Declined)
    for bad in (
        HANG_UP,
        (500, b""),
        order("op_stranger", captures=[made(None)]),
        order("op_parent", "APPROVED"),
    ):
        async with paypal(routes({**table, GET_ORDER: bad})) as (gateway, _):
            assert isinstance(await gateway.confirm(confirm()), InDoubt)


async def test_an_order_that_nobody_approved_asks_the_payer_again():
    table: dict[str, Any] = {
        CAPTURE_ORDER: (422, error("ORDER_NOT_APPROVED")),
        GET_ORDER: order("op_parent", "PAYER_ACTION_REQUIRED", links=APPROVE),
    }
    async with paypal(routes(table)) as (gateway, _):
        assert (await gateway.confirm(confirm())).action.url == APPROVE[1]["href"]
    table[CAPTURE_ORDER] = (422, {**error("PAYER_ACTION_REQUIRED"), "links": APPROVE})
    async with paypal(routes(table)) as (gateway, seen):
        assert isinstance(await gateway.confirm(confirm()), RequiresAction)
    assert sent(seen) == [CAPTURE_ORDER]


@pytest.mark.parametrize(
    "bad", [(500, b""), HANG_UP, (201, b"x"), (409, error("PREVIOUS_REQUEST_IN_PROGRESS"))]
)
async def test_a_confirmation_without_a_clear_answer_is_in_doubt(bad):
    async with paypal(routes({CAPTURE_ORDER: bad})) as (gateway, _):
        assert isinstance(await gateway.confirm(confirm()), InDoubt)


# --- captures, voids, refunds -------------------------------------------------------------------------------


async def test_captures_in_parts_each_under_their_own_key_and_invoice():
    of = call(K.CAPTURE, "4.00 USD", final=False)
    body = made(of, amount=money("4.00"), final_capture=False)
    async with paypal(routes({CAPTURE_AUTH: (201, body)})) as (gateway, seen):
        assert await gateway.capture(of) == Approved(reference=CAPTURE, amount_minor=400)
    assert seen[1].json == {"amount": money("4.00"), "invoice_id": of.operation_id, "final_capture": False}
    assert seen[1].headers["paypal-request-id"] == of.gateway_key
    async with paypal(routes({CAPTURE_AUTH: (201, declined(of))})) as (gateway, _):
        assert isinstance(await gateway.capture(of), Declined)
    async with paypal(routes({CAPTURE_AUTH: (201, made(of, "PENDING"))})) as (gateway, _):
        assert (await gateway.capture(of)).reference == CAPTURE
    async with paypal(routes({CAPTURE_AUTH: (201, made(call()))})) as (gateway, _):
        assert await gateway.capture(of) == InDoubt(reason="garbage")


@pytest.mark.parametrize(
    "issue", ["AUTHORIZATION_ALREADY_CAPTURED", "DUPLICATE_INVOICE_ID", "MAX_CAPTURE_AMOUNT_EXCEEDED"]
)
async def test_a_refused_capture_may_be_our_own_earlier_one(issue):
    of = call(K.CAPTURE)
    table = {
        CAPTURE_AUTH: (422, error(issue)),
        GET_AUTH: made(None, "CAPTURED", id=AUTHORIZATION),
        GET_ORDER: order("op_parent", captures=[made(call(), id="OTHER"), made(of)]),
    }
    async with paypal(routes(table)) as (gateway, _):
        assert await gateway.capture(of) == Approved(reference=CAPTURE, amount_minor=1000)
    table[GET_ORDER] = order("op_parent", captures=[made(call(), id="OTHER")])
    async with paypal(routes(table)) as (gateway, _):
        outcome = await gateway.capture(of)
    assert isinstance(outcome, InDoubt if issue == "DUPLICATE_INVOICE_ID" else Declined)
    table[GET_ORDER] = HANG_UP
    async with paypal(routes(table)) as (gateway, _):
        assert isinstance(await gateway.capture(of), InDoubt)


async def test_a_void_is_done_whether_now_or_before():
    voided = made(None, "VOIDED", id=AUTHORIZATION)
    done = Approved(reference=AUTHORIZATION, amount_minor=1000)
    for said in ((204, b""), (200, voided)):
        async with paypal(routes({VOID_AUTH: said})) as (gateway, seen):
            assert await gateway.void(call(K.VOID)) == done
        assert "paypal-request-id" not in seen[1].headers


async def test_previously_voided_is_done():
    async with paypal(routes({VOID_AUTH: (422, error("PREVIOUSLY_VOIDED"))})) as (gateway, _):
        assert await gateway.void(call(K.VOID)) == Approved(reference=AUTHORIZATION, amount_minor=1000)


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ((409, error("PREVIOUS_REQUEST_IN_PROGRESS")), InDoubt),
        ((500, b""), InDoubt),
        (HANG_UP, InDoubt),
        ((200, made(None, "CREATED", id=AUTHORIZATION)), InDoubt),
        ((200, b"x"), InDoubt),
    ],
)
async def test_other_answers_to_a_void(said, wanted):
    async with paypal(routes({VOID_AUTH: said})) as (gateway, _):
        assert isinstance(await gateway.void(call(K.VOID)), wanted)


@pytest.mark.parametrize("issue", ["PREVIOUSLY_CAPTURED", "AUTHORIZATION_EXPIRED"])
@pytest.mark.parametrize(
    ("status", "expires", "wanted"),
    [
        ("PARTIALLY_CAPTURED", "2020-01-01T00:00:00Z", Approved),
        ("CREATED", "2020-01-01T00:00:00Z", Approved),
        ("PARTIALLY_CAPTURED", "2999-01-01T00:00:00Z", Declined),
        ("CAPTURED", "2020-01-01T00:00:00Z", Declined),
        (None, "", InDoubt),
    ],
)
async def test_a_refused_void_of_what_has_lapsed_is_done(issue, status, expires, wanted):
    """PayPal refuses to void what it holds no longer. What was captured to its end has not lapsed, whatever its date."""
    read = HANG_UP
    if status is not None:
        read = made(None, status, id=AUTHORIZATION, expiration_time=expires)
    table = {VOID_AUTH: (422, error(issue)), f"GET /v2/payments/authorizations/{AUTHORIZATION}": read}
    async with paypal(routes(table)) as (gateway, _):
        assert isinstance(await gateway.void(call(K.VOID)), wanted)


async def test_an_order_that_took_nothing_is_voided_by_leaving_it_alone():
    """The payer may still approve it; without a capture call of ours it takes nothing, and it expires."""
    of = call(K.VOID, parent_reference=ORDER, parent_kind=K.CHARGE)
    for status in ("CREATED", "PAYER_ACTION_REQUIRED", "APPROVED"):
        async with paypal(routes({GET_ORDER: order("op_parent", status)})) as (gateway, seen):
            assert await gateway.void(of) == Approved(reference=ORDER, amount_minor=1000)
        assert sent(seen) == [GET_ORDER]
    async with paypal(routes({GET_ORDER: order("op_parent", captures=[declined(None)])})) as (gateway, _):
        assert isinstance(await gateway.void(of), Approved)
    for body in (
        order("op_parent", captures=[made(None)]),
        order("op_parent", captures=[made(None, "PENDING")]),
    ):
        async with paypal(routes({GET_ORDER: body})) as (gateway, _):
            assert (await gateway.void(of)).code == "already_captured"
    for bad in (order("op_parent", "COMPLETED"), HANG_UP, (404, error("INVALID_RESOURCE_ID"))):
        async with paypal(routes({GET_ORDER: bad})) as (gateway, _):
            assert isinstance(await gateway.void(of), NotSent)


async def test_the_void_of_an_order_that_was_authorized_meanwhile_voids_that():
    of = call(K.VOID, parent_reference=ORDER)
    table = {
        f"POST /v2/payments/authorizations/{ORDER}/void": (
            404,
            error("INVALID_RESOURCE_ID", "RESOURCE_NOT_FOUND"),
        ),
        GET_ORDER: order("op_parent", authorizations=[made(None, "CREATED", id=AUTHORIZATION)]),
        VOID_AUTH: (204, b""),
    }
    async with paypal(routes(table)) as (gateway, seen):
        assert await gateway.void(of) == Approved(reference=AUTHORIZATION, amount_minor=1000)
    assert len(sent(seen)) == 3


async def test_a_refund_gives_back_the_capture_that_it_names():
    of = call(
        K.REFUND,
        "3.00 USD",
        parent_reference=AUTHORIZATION,
        parent_kind=K.AUTHORIZE,
        capture_reference=CAPTURE,
    )
    async with paypal(routes({REFUND_CAPTURE: (201, refund(of, amount=money("3.00")))})) as (gateway, seen):
        assert await gateway.refund(of) == Approved(reference=REFUND, amount_minor=300)
    assert seen[1].headers["paypal-request-id"] == of.gateway_key
    async with paypal(routes({REFUND_CAPTURE: (201, refund(of, "PENDING"))})) as (gateway, _):
        assert await gateway.refund(of) == Pending(reference=REFUND, reason="refund_pending")
    async with paypal(routes({REFUND_CAPTURE: (201, refund(call(K.REFUND)))})) as (gateway, _):
        assert await gateway.refund(of) == InDoubt(reason="garbage")


async def test_a_refused_refund_may_be_our_own_earlier_one():
    of = call(K.REFUND)
    table = {
        REFUND_CAPTURE: (422, error("CAPTURE_FULLY_REFUNDED")),
        GET_CAPTURE: made(None, "REFUNDED"),
        GET_ORDER: order("op_parent", captures=[made(None, "REFUNDED")], refunds=[refund(of)]),
    }
    async with paypal(routes(table)) as (gateway, _):
        assert await gateway.refund(of) == Approved(reference=REFUND, amount_minor=1000)
        assert isinstance(await gateway.refund(call(K.REFUND)), Declined)
    async with paypal(routes({REFUND_CAPTURE: (422, error("REFUND_FAILED_INSUFFICIENT_FUNDS"))})) as (
        gateway,
        _,
    ):
        assert (await gateway.refund(of)).code == "balance_insufficient"


async def test_a_call_that_paypal_can_never_take_is_not_sent():
    async with paypal(routes({})) as (gateway, seen):
        for method, one in (
            (gateway.charge, call(token=None)),
            (gateway.capture, call(K.CAPTURE, amount="5.120 KWD")),
            (gateway.refund, call(K.REFUND, parent_kind=K.AUTHORIZE)),
            (gateway.look_up, call(own_reference="../x")),
        ):
            with pytest.raises(InvalidRequest):
                await method(one)
    assert not seen


# --- look-ups -----------------------------------------------------------------------------------------------


async def test_a_payment_is_looked_up_by_its_order_or_by_what_it_became():
    of = call(own_reference=ORDER)
    async with paypal(routes({GET_ORDER: order(of, captures=[made(of)])})) as (gateway, _):
        assert await gateway.look_up(of) == Found(outcome=Approved(reference=CAPTURE, amount_minor=1000))
    of = call(own_reference=CAPTURE)
    table = {
        f"GET /v2/checkout/orders/{CAPTURE}": (404, error("INVALID_RESOURCE_ID")),
        GET_CAPTURE: made(of),
    }
    async with paypal(routes(table)) as (gateway, _):
        assert isinstance(await gateway.look_up(of), Found)
    async with paypal(routes({**table, GET_CAPTURE: made(call())})) as (gateway, _):
        assert isinstance(await gateway.look_up(of), LookupFailed)


async def test_a_pending_or_declined_payment_that_completes_later_is_found():
    of = call(own_reference=ORDER)
    for early, wanted in (("PENDING", Pending), ("DECLINED", Declined)):
        now = {"status": early}

        def route(one: Seen, now: dict[str, str] = now) -> Any:
            return GRANT if one.path.endswith("token") else order(of, captures=[made(of, now["status"])])

        async with paypal(route) as (gateway, _):
            assert isinstance((await gateway.look_up(of)).outcome, wanted)
            now["status"] = "COMPLETED"
            assert isinstance((await gateway.look_up(of)).outcome, Approved)


async def test_an_approved_order_has_had_no_effect():
    of = call(own_reference=ORDER)
    async with paypal(routes({GET_ORDER: order(of, "APPROVED")})) as (gateway, _):
        assert await gateway.look_up(of) == NotFound()
        assert await gateway.look_up(call(K.CONFIRM, parent_operation_id=of.operation_id)) == NotFound()
    async with paypal(routes({GET_ORDER: order(of, "CREATED", links=APPROVE)})) as (gateway, _):
        assert isinstance((await gateway.look_up(of)).outcome, RequiresAction)


async def test_without_an_id_and_without_the_search_nothing_can_be_learnt():
    async with paypal(routes({})) as (gateway, seen):
        assert not gateway.capabilities.looks_up(K.CHARGE)
        assert await gateway.look_up(call()) == LookupFailed(reason="no_reference")
    assert not seen


def found_in(*rows: Any, refreshed: str | None = "2023-11-15T10:00:00Z", pages: int = 1) -> dict[str, Any]:
    details = [{"transaction_info": row} for row in rows]
    return {"transaction_details": details, "total_pages": pages, "last_refreshed_datetime": refreshed}


async def test_the_transaction_search_finds_a_payment_by_our_reference():
    of = call()
    rows = [
        {"transaction_id": "STRANGER", "custom_field": "op_other/pay_other"},
        {"transaction_id": CAPTURE, "custom_field": custom_id(of)},
    ]
    table = {SEARCH: found_in(*rows), GET_CAPTURE: made(of)}
    async with paypal(routes(table), transaction_search=True) as (gateway, seen):
        assert gateway.capabilities.looks_up(K.CHARGE)
        assert await gateway.look_up(of) == Found(outcome=Approved(reference=CAPTURE, amount_minor=1000))
    query = seen[1].query
    assert query["start_date"] == ["2023-11-14T22:03:20Z"]
    assert query["balance_affecting_records_only"] == ["N"]


async def test_of_a_voided_authorization_that_the_search_finds_the_order_says_whether_it_was_captured():
    of = call(K.AUTHORIZE)
    rows = [{"transaction_id": AUTHORIZATION, "custom_field": custom_id(of)}]
    voided = made(of, "VOIDED", id=AUTHORIZATION)
    for captures, outcome in (([], Declined), ([made(of)], Approved)):
        table = {
            SEARCH: found_in(*rows),
            GET_AUTH: voided,
            GET_ORDER: order(of, authorizations=[voided], captures=captures),
        }
        async with paypal(routes(table), transaction_search=True) as (gateway, _):
            found = await gateway.look_up(of)
        assert isinstance(found, Found) and isinstance(found.outcome, outcome)


async def test_a_search_that_found_nothing_proves_it_only_once_it_is_fresh():
    of = call()
    for said, wanted in (
        (found_in(), NotFound()),
        (found_in(refreshed="2023-11-14T22:30:00Z"), LookupFailed(reason="search_lags")),
        (found_in(refreshed=None), LookupFailed(reason="search_lags")),
        (found_in(pages=99), LookupFailed(reason="too_many_to_list")),
        ((403, error("PERMISSION_DENIED")), LookupFailed(reason="http_403")),
        (
            found_in(*({"transaction_id": f"T{n}", "custom_field": custom_id(of)} for n in range(2))),
            LookupFailed(reason="several_found"),
        ),
    ):
        async with paypal(routes({SEARCH: said}), transaction_search=True) as (gateway, _):
            assert await gateway.look_up(of) == wanted


async def test_captures_refunds_and_voids_are_told_apart_within_the_order():
    capture, back = call(K.CAPTURE), call(K.REFUND)
    table = {
        GET_AUTH: made(None, "PARTIALLY_CAPTURED", id=AUTHORIZATION),
        GET_CAPTURE: made(None),
        GET_ORDER: order("op_parent", captures=[made(capture)], refunds=[refund(back)]),
    }
    async with paypal(routes(table)) as (gateway, _):
        assert (await gateway.look_up(capture)).outcome.reference == CAPTURE
        assert (await gateway.look_up(back)).outcome.reference == REFUND
        assert await gateway.look_up(call(K.CAPTURE)) == NotFound()
        assert await gateway.look_up(call(K.REFUND)) == NotFound()
        assert await gateway.look_up(call(K.VOID)) == NotFound()
    table[GET_AUTH] = made(None, "VOIDED", id=AUTHORIZATION)
    async with paypal(routes(table)) as (gateway, _):
        assert isinstance(await gateway.look_up(call(K.VOID)), Found)
    table[GET_ORDER] = order("op_parent", captures=[made(capture), made(capture, id="TWICE")])
    async with paypal(routes(table)) as (gateway, _):
        assert await gateway.look_up(capture) == LookupFailed(reason="several_found")
    table[GET_AUTH] = made(None, "CAPTURED", id=AUTHORIZATION, links=[])
    async with paypal(routes(table)) as (gateway, _):
        assert await gateway.look_up(capture) == LookupFailed(reason="order_unknown")


async def test_the_void_of_an_order_is_looked_up_in_the_order():
    of = call(K.VOID, parent_reference=ORDER, parent_kind=K.CHARGE)
    for body, wanted in (
        (order("op_parent", "APPROVED"), Found),
        (order("op_parent", captures=[made(None)]), NotFound),
        (order("op_parent", authorizations=[made(None, "CREATED")]), NotFound),
        (order("op_parent", authorizations=[made(None, "VOIDED")]), Found),
        ((500, b""), LookupFailed),
    ):
        async with paypal(routes({GET_ORDER: body})) as (gateway, _):
            assert isinstance(await gateway.look_up(of), wanted)


async def test_what_has_its_own_id_is_looked_up_by_it():
    of = call(K.REFUND, own_reference=REFUND)
    async with paypal(routes({f"GET /v2/payments/refunds/{REFUND}": refund(of)})) as (gateway, _):
        assert isinstance(await gateway.look_up(of), Found)
    of = call(K.CAPTURE, own_reference=CAPTURE)
    async with paypal(routes({GET_CAPTURE: made(of, "PENDING")})) as (gateway, _):
        assert isinstance((await gateway.look_up(of)).outcome, Pending)


@pytest.mark.parametrize(
    "bad", [(500, b""), (404, error("INVALID_RESOURCE_ID")), HANG_UP, (200, b"[]"), (200, {"id": "X"})]
)
async def test_a_look_up_that_does_not_come_through_teaches_nothing(bad):
    async with paypal(lambda one: GRANT if one.path.endswith("token") else bad) as (gateway, _):
        for one in (
            call(own_reference=ORDER),
            call(K.CAPTURE),
            call(K.REFUND),
            call(K.VOID),
            call(K.CONFIRM),
        ):
            assert isinstance(await gateway.look_up(one), LookupFailed)


# --- the account --------------------------------------------------------------------------------------------


async def test_health_asks_for_a_fresh_token():
    async with paypal(routes({})) as (gateway, seen):
        assert (await gateway.health()).ok
        assert (await gateway.health()).ok
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("client_id", "secret", "options"),
    [
        ("", CLIENT_SECRET, {}),
        ("a\nb", CLIENT_SECRET, {}),
        (CLIENT_ID, "", {}),
        (CLIENT_ID, "with space", {}),
        (CLIENT_ID, "x" * 256, {}),
        (CLIENT_ID, CLIENT_SECRET, {"base_url": "http://api-m.paypal.com"}),
        (CLIENT_ID, CLIENT_SECRET, {"webhook_ids": "1JE4291016473214C"}),
        (CLIENT_ID, CLIENT_SECRET, {"webhook_ids": ["a|b"]}),
        (CLIENT_ID, CLIENT_SECRET, {"webhook_certificates": {"https://evil.example/c": ""}}),
    ],
)
def test_malformed_credentials_are_refused_without_quoting_them(client_id, secret, options):
    with pytest.raises(ConfigError) as caught:
        PayPalGateway(client_id, secret, **options)
    assert CLIENT_SECRET not in str(caught.value)


async def test_neither_secret_nor_token_shows_anywhere():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        async with paypal(routes({ORDERS: (500, b"")})) as (gateway, _):
            outcome = await gateway.charge(call())
            client = gateway._client
            shown = [
                gateway,
                vars(gateway),
                client,
                vars(client),
                client.tokens,
                vars(client.tokens),
                outcome,
            ]
            for found in (*map(repr, shown), stream.getvalue(), json.dumps(repr(await gateway.health()))):
                assert CLIENT_SECRET not in found and TOKEN not in found
            with pytest.raises(TypeError):
                pickle.dumps(client.tokens._held)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def test_what_paypal_can_do_is_declared():
    caps = PayPalGateway(CLIENT_ID, CLIENT_SECRET).capabilities
    assert (
        caps.void and caps.multi_capture and caps.partial_capture and caps.partial_refund and caps.stable_key
    )
    assert not (caps.cancel_by_reference or caps.tokenize)
    assert [kind for kind in K if not caps.looks_up(kind)] == [K.AUTHORIZE, K.CHARGE]
    searching = PayPalGateway(CLIENT_ID, CLIENT_SECRET, transaction_search=True).capabilities
    assert all(searching.looks_up(kind) for kind in K)
    assert searching.quiet_s(K.CHARGE) > 3 * 3600 > searching.quiet_s(K.CAPTURE)


def test_paypal_keeps_the_keys_of_orders_for_six_hours_and_of_payments_for_45_days():
    caps = PayPalGateway(CLIENT_ID, CLIENT_SECRET).capabilities
    for kind in (K.AUTHORIZE, K.CHARGE, K.CONFIRM):
        assert 5 * 3600 < caps.key_ttl_s(kind) < 6 * 3600
    for kind in (K.CAPTURE, K.REFUND):
        assert 40 * 86_400 < caps.key_ttl_s(kind) < 45 * 86_400


async def test_a_capture_or_refund_without_a_mark_of_its_own_might_be_ours():
    """Not found is proof, so nothing is "not found" while one stands there that could be it."""
    capture, back = call(K.CAPTURE, parent_operation_id="op_parent"), call(K.REFUND)
    for other in (made(None), made(None, invoice_id="op_parent")):
        table = {
            GET_AUTH: made(None, "CAPTURED", id=AUTHORIZATION),
            GET_ORDER: order("op_parent", captures=[other]),
        }
        async with paypal(routes(table)) as (gateway, _):
            assert await gateway.look_up(capture) == LookupFailed(reason="capture_unmarked")
    bare = {key: value for key, value in refund(back).items() if key not in ("invoice_id", "custom_id")}
    table = {GET_CAPTURE: made(None), GET_ORDER: order("op_parent", refunds=[bare])}
    async with paypal(routes(table)) as (gateway, _):
        assert await gateway.look_up(back) == LookupFailed(reason="refund_unmarked")


@pytest.mark.parametrize(
    ("theirs", "told"),
    [
        ({}, None),
        ({"amount": money("9.99")}, NotFound()),
        ({"create_time": "2023-11-14T22:00:00Z"}, NotFound()),
        ({"create_time": "2023-11-14T22:05:00Z"}, None),
        ({"amount": {"currency_code": "XXX", "value": "?"}}, None),
    ],
)
async def test_what_is_unmarked_and_of_another_amount_or_older_is_not_ours(theirs, told):
    """Whoever captures or refunds at PayPal too does not leave ours in doubt by that. Clocks may differ by ten minutes."""
    capture, back = call(K.CAPTURE), call(K.REFUND)
    table = {
        GET_AUTH: made(None, "PARTIALLY_CAPTURED", id=AUTHORIZATION),
        GET_CAPTURE: made(None),
        GET_ORDER: order(
            "op_parent",
            captures=[made(None, invoice_id=None, **theirs)],
            refunds=[{**refund(back), "invoice_id": None, "custom_id": None, **theirs}],
        ),
    }
    async with paypal(routes(table)) as (gateway, _):
        assert await gateway.look_up(capture) == (told or LookupFailed(reason="capture_unmarked"))
        assert await gateway.look_up(back) == (told or LookupFailed(reason="refund_unmarked"))
