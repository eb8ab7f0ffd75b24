"""The Stripe adapter over a real connection: what it sends, how it looks things up, and that its key never shows."""

from __future__ import annotations

import io
import json
import logging
import pickle
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from aegispay.domain.errors import ConfigError, InvalidRequest
from aegispay.domain.events import OperationKind
from aegispay.domain.methods import Card
from aegispay.domain.outcomes import Approved, Declined, InDoubt, NotSent, RequiresAction
from aegispay.gateways.gateway import Found, Health, LookupFailed, NotFound, Tokenized
from aegispay.gateways.stripe import API_VERSION, StripeGateway
from aegispay.gateways.stripe.lookup import PAGES_MAX
from tests.fakes.raw_server import Peer, answer, raw_server, refused_port
from tests.fakes.stripe_calls import API_KEY, call

K = OperationKind
PAN = "4242424242424242"


class Seen:
    """One request as the server got it."""

    def __init__(self, raw: bytes):
        head, _, body = raw.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        self.method, target, _ = lines[0].split(" ")
        self.path = urlsplit(target).path
        self.query = parse_qs(urlsplit(target).query)
        self.headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:])}
        self.form = parse_qs(body.decode())

    def __repr__(self) -> str:
        return f"{self.method} {self.path}"


Route = Callable[[Seen], Any]


@asynccontextmanager
async def stripe(route: Route, **options: Any) -> AsyncIterator[tuple[StripeGateway, list[Seen]]]:
    """An adapter before a server that answers as the route says: an object, or a status and an object."""
    seen: list[Seen] = []

    async def script(peer: Peer) -> None:
        while raw := await peer.request():
            seen.append(Seen(raw))
            said = route(seen[-1])
            status, body = said if isinstance(said, tuple) else (200, said)
            await peer.send(answer(json.dumps(body).encode(), f"{status} Said"))

    async with raw_server(script) as server:
        gateway = StripeGateway(API_KEY, base_url=server.url(""), **options)
        await gateway.start()
        try:
            yield gateway, seen
        finally:
            await gateway.aclose()


def payment(of: Any = None, status: str = "succeeded", **fields: Any) -> dict[str, Any]:
    return {
        "id": "pi_1",
        "object": "payment_intent",
        "status": status,
        "amount": 1000,
        "currency": "usd",
        "amount_received": 1000 if status == "succeeded" else 0,
        "amount_capturable": 1000 if status == "requires_capture" else 0,
        "metadata": {"aegispay_operation": of.operation_id} if of is not None else {},
        "latest_charge": "ch_1",
        **fields,
    }


def page(*data: Any, has_more: bool = False) -> dict[str, Any]:
    return {"object": "list", "data": list(data), "has_more": has_more}


ERROR = {"error": {"type": "invalid_request_error", "message": "no"}}

# --- what is sent -------------------------------------------------------------------------------------------


async def test_a_charge_is_one_request_under_its_gateway_key():
    made = call()
    async with stripe(lambda _: payment(made)) as (gateway, seen):
        assert await gateway.charge(made) == Approved(reference="pi_1", amount_minor=1000)
    assert [repr(one) for one in seen] == ["POST /v1/payment_intents"]
    headers = seen[0].headers
    assert headers["idempotency-key"] == made.gateway_key
    assert headers["authorization"] == f"Bearer {API_KEY}"
    assert headers["stripe-version"] == API_VERSION
    assert headers["content-type"] == "application/x-www-form-urlencoded"


async def test_each_operation_goes_to_its_own_address():
    made = call(K.CAPTURE)
    replies = {
        "/v1/payment_intents/pi_1/capture": payment(),
        "/v1/payment_intents/pi_1/cancel": payment(status="canceled"),
        "/v1/payment_intents/pi_1": payment(),
    }
    async with stripe(lambda one: replies[one.path]) as (gateway, seen):
        assert isinstance(await gateway.perform(made), Approved)
        assert isinstance(await gateway.perform(call(K.VOID)), Approved)
        assert isinstance(await gateway.perform(call(K.CONFIRM)), Approved)
    assert [repr(one) for one in seen] == [
        "POST /v1/payment_intents/pi_1/capture",
        "POST /v1/payment_intents/pi_1/cancel",
        "GET /v1/payment_intents/pi_1",
    ]
    assert seen[0].headers["idempotency-key"] == made.gateway_key
    assert "idempotency-key" not in seen[2].headers


async def test_a_call_that_stripe_can_never_take_is_not_sent():
    async with stripe(lambda _: payment()) as (gateway, seen):
        with pytest.raises(InvalidRequest):
            await gateway.charge(call(token=None))
        with pytest.raises(InvalidRequest):
            await gateway.look_up(call(own_reference="../x"))
    assert not seen


async def test_a_confirmation_is_sent_only_where_stripe_waits_for_one():
    def route(one: Seen) -> Any:
        return payment(status="requires_confirmation" if one.method == "GET" else "succeeded")

    made = call(K.CONFIRM)
    async with stripe(route) as (gateway, seen):
        assert isinstance(await gateway.confirm(made), Approved)
    assert [repr(one) for one in seen] == [
        "GET /v1/payment_intents/pi_1",
        "POST /v1/payment_intents/pi_1/confirm",
    ]
    assert seen[1].headers["idempotency-key"] == made.gateway_key


async def test_a_confirmation_that_cannot_be_read_is_a_doubt_because_the_payer_may_have_been_charged():
    async with stripe(lambda _: (401, ERROR)) as (gateway, _):
        assert await gateway.confirm(call(K.CONFIRM)) == InDoubt(reason="unauthorized")
    gateway = StripeGateway(API_KEY, base_url=f"http://127.0.0.1:{refused_port()}")
    assert await gateway.confirm(call(K.CONFIRM)) == InDoubt(reason="connection_refused")
    await gateway.aclose()


async def test_an_authorize_is_confirmed_as_an_authorize():
    async with stripe(lambda _: payment(status="requires_capture")) as (gateway, _):
        assert isinstance(await gateway.confirm(call(K.CONFIRM, parent_kind=K.AUTHORIZE)), Approved)
        assert isinstance(await gateway.confirm(call(K.CONFIRM, parent_kind=K.CHARGE)), InDoubt)


@pytest.mark.parametrize(("received", "expected"), [(0, "cancel"), (300, "capture")])
async def test_under_multicapture_the_rest_is_released_by_a_final_capture_of_nothing(received, expected):
    def route(one: Seen) -> Any:
        if one.method == "GET":
            return payment(status="requires_capture", amount_received=received)
        return payment(status="canceled" if expected == "cancel" else "succeeded", amount_received=received)

    async with stripe(route, multi_capture=True) as (gateway, seen):
        assert isinstance(await gateway.void(call(K.VOID)), Approved)
    assert seen[1].path == f"/v1/payment_intents/pi_1/{expected}"
    if expected == "capture":
        assert seen[1].form == {"amount_to_capture": ["0"], "final_capture": ["true"]}


async def test_a_release_that_happened_before_is_not_sent_again():
    async with stripe(lambda _: payment(amount_received=300), multi_capture=True) as (gateway, seen):
        assert isinstance(await gateway.void(call(K.VOID, "7.00 USD")), Approved)
        assert isinstance(await gateway.look_up(call(K.VOID, "7.00 USD")), Found)
    assert [one.method for one in seen] == ["GET", "GET"]


@pytest.mark.parametrize(("received", "void"), [(1000, "10.00 USD"), (1000, "7.00 USD"), (600, "7.00 USD")])
async def test_a_payment_that_was_captured_meanwhile_was_not_voided(received, void):
    """The payer's step was completed while it was being canceled, or somebody captured in Stripe's dashboard."""
    async with stripe(lambda _: payment(amount_received=received), multi_capture=True) as (gateway, seen):
        outcome = await gateway.void(call(K.VOID, void))
        assert isinstance(outcome, Declined) and outcome.code == "already_captured"
        assert isinstance(await gateway.look_up(call(K.VOID, void)), NotFound)
    assert [one.method for one in seen] == ["GET", "GET"]


async def test_a_void_whose_read_fails_was_not_sent():
    async with stripe(lambda _: (500, ERROR), multi_capture=True) as (gateway, seen):
        assert await gateway.void(call(K.VOID)) == NotSent(reason="server_error")
    assert len(seen) == 1


@pytest.mark.parametrize("kind", [K.AUTHORIZE, K.CHARGE, K.CAPTURE, K.VOID, K.REFUND])
async def test_what_was_not_sent_and_what_got_no_answer_are_told_apart(kind):
    gateway = StripeGateway(API_KEY, base_url=f"http://127.0.0.1:{refused_port()}")
    assert await gateway.perform(call(kind)) == NotSent(reason="connection_refused")
    await gateway.aclose()

    async def hangs_up(peer: Peer) -> None:
        await peer.request()

    async with raw_server(hangs_up) as server:
        gateway = StripeGateway(API_KEY, base_url=server.url(""))
        assert await gateway.perform(call(kind)) == InDoubt(reason="reset")
        await gateway.aclose()


async def test_a_confirmation_whose_answer_is_lost_is_a_doubt():
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(json.dumps(payment(status="requires_confirmation")).encode()))
        await peer.request()

    async with raw_server(script) as server:
        gateway = StripeGateway(API_KEY, base_url=server.url(""))
        assert await gateway.confirm(call(K.CONFIRM)) == InDoubt(reason="reset")
        await gateway.aclose()


# --- look-ups -----------------------------------------------------------------------------------------------

STARTED_US = 1_800_000_000_000_000


@pytest.mark.parametrize(
    ("made", "body", "expected"),
    [
        (call(own_reference="pi_1"), payment(), Approved),
        (call(own_reference="pi_1"), payment(status="canceled"), Declined),
        (call(K.CAPTURE), payment(amount_received=700), Approved),
        (call(K.CAPTURE), payment(status="requires_capture"), NotFound),
        (call(K.VOID), payment(status="canceled"), Approved),
        (call(K.VOID), payment(status="requires_capture"), NotFound),
        (call(K.CONFIRM), payment(status="requires_confirmation"), NotFound),
        (call(K.CONFIRM), payment(), Approved),
        (call(own_reference="pi_1"), payment(status="new"), LookupFailed),
        (call(own_reference="pi_1"), payment(currency="eur"), LookupFailed),
        (call(own_reference="pi_1"), payment(id="pi_2"), LookupFailed),
        (call(own_reference="pi_1"), (404, ERROR), LookupFailed),
        (call(own_reference="pi_1"), (200, ["garbage"]), LookupFailed),
    ],
)
async def test_a_payment_that_we_can_name_is_read(made, body, expected):
    async with stripe(lambda _: body) as (gateway, seen):
        found = await gateway.look_up(made)
    assert [repr(one) for one in seen] == ["GET /v1/payment_intents/pi_1"]
    assert isinstance(found.outcome if isinstance(found, Found) else found, expected)


async def test_a_capture_under_multicapture_is_known_by_the_mark_it_left():
    made = call(K.CAPTURE, "2.00 USD", final=False)
    body = payment(status="requires_capture", amount_received=900)
    async with stripe(lambda _: body, multi_capture=True) as (gateway, _):
        assert await gateway.look_up(made) == NotFound()
        body["metadata"] = {made.operation_id: "200"}
        assert await gateway.look_up(made) == Found(outcome=Approved(reference="ch_1", amount_minor=200))


async def test_a_payment_in_the_list_is_found_though_the_search_lags():
    made = call(started_at_us=STARTED_US)

    def route(one: Seen) -> Any:
        if one.path.endswith("/search"):
            return page()
        return (
            page(payment(made)) if "starting_after" in one.query else page(payment(id="pi_0"), has_more=True)
        )

    async with stripe(route) as (gateway, seen):
        assert await gateway.look_up(made) == Found(outcome=Approved(reference="pi_1", amount_minor=1000))
    assert seen[0].query["created[gte]"] == ["1799999700"]
    assert seen[0].query["created[lte]"] == ["1800000900"]
    assert seen[1].query["starting_after"] == ["pi_0"]


async def test_a_payment_that_only_the_search_knows_is_read_afresh():
    """What a late resend made lies outside the list's window, and the search's copy may be old."""
    made = call(started_at_us=STARTED_US)

    def route(one: Seen) -> Any:
        if one.path.endswith("/search"):
            return page(payment(made, "processing"))
        return page() if one.path == "/v1/payment_intents" else payment(made)

    async with stripe(route) as (gateway, seen):
        assert await gateway.look_up(made) == Found(outcome=Approved(reference="pi_1", amount_minor=1000))
    assert seen[1].query["query"] == [f"metadata['aegispay_operation']:'{made.operation_id}'"]


async def test_not_found_needs_the_list_and_the_search_to_be_silent():
    made = call(started_at_us=STARTED_US)
    for broken in (None, "/v1/payment_intents", "/v1/payment_intents/search"):

        def route(one: Seen, broken: str | None = broken) -> Any:
            return (500, ERROR) if one.path == broken else page(payment(call()))

        async with stripe(route) as (gateway, _):
            found = await gateway.look_up(made)
        assert found == (NotFound() if broken is None else LookupFailed(reason="http_500"))


async def test_without_a_search_the_list_is_read_up_to_now_or_proves_nothing():
    made = call(started_at_us=STARTED_US)
    async with stripe(lambda _: page(payment(id="pi_0")), search=False) as (gateway, seen):
        assert await gateway.look_up(made) == NotFound()
        assert "created[lte]" not in seen[0].query
        assert len(seen) == 1
        assert await gateway.look_up(call()) == LookupFailed(reason="start_unknown")
        assert gateway.capabilities.lookup_quiet_s == 300
    async with stripe(lambda _: page(payment(id="pi_0"), has_more=True), search=False) as (gateway, seen):
        assert await gateway.look_up(made) == LookupFailed(reason="too_many_to_list")
        assert len(seen) == PAGES_MAX
    async with stripe(lambda _: page(has_more=True), search=False) as (gateway, _):
        assert await gateway.look_up(made) == LookupFailed(reason="garbage")


async def test_two_payments_of_one_operation_are_left_to_a_person():
    made = call(started_at_us=STARTED_US)
    async with stripe(lambda _: page(payment(made), payment(made, id="pi_2")), search=False) as (gateway, _):
        assert await gateway.look_up(made) == LookupFailed(reason="several_found")


async def test_a_refund_is_looked_up_among_the_payments_refunds():
    made = call(K.REFUND, "3.00 USD")
    ours = {"id": "re_1", "object": "refund", "status": "succeeded", "amount": 300, "currency": "usd"}
    ours["metadata"] = {"aegispay_operation": made.operation_id}
    other = {**ours, "id": "re_2", "metadata": {}}
    for data, expected in (
        ([other, ours], Found(outcome=Approved(reference="re_1", amount_minor=300))),
        ([other], NotFound()),
        ([ours, {**ours, "id": "re_3"}], LookupFailed(reason="several_found")),
        ([{**ours, "status": "new"}], LookupFailed(reason="unexpected_status")),
    ):
        async with stripe(lambda _, data=data: page(*data)) as (gateway, seen):
            assert await gateway.look_up(made) == expected
        assert seen[0].query["payment_intent"] == ["pi_1"]


async def test_a_look_up_that_cannot_be_sent_teaches_nothing():
    gateway = StripeGateway(API_KEY, base_url=f"http://127.0.0.1:{refused_port()}")
    assert await gateway.look_up(call(own_reference="pi_1")) == LookupFailed(reason="connection_refused")
    await gateway.aclose()


# --- tokens and health --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"id": "pm_1"}, Tokenized(token="pm_1")),
        ({"nothing": 1}, NotSent(reason="garbage")),
        ((500, ERROR), NotSent(reason="server_error")),
        ((401, ERROR), NotSent(reason="unauthorized")),
    ],
)
async def test_a_card_becomes_a_token_or_nothing_was_done(said, expected):
    async with stripe(lambda _: said) as (gateway, seen):
        assert await gateway.tokenize(Card(PAN, 12, 2030, "987"), 5) == expected
    assert seen[0].form["card[number]"] == [PAN]


async def test_a_refused_card_is_declined_without_a_word_that_was_sent():
    said = {"error": {"type": "card_error", "code": "incorrect_number", "message": PAN, "param": "number"}}
    async with stripe(lambda _: (402, said)) as (gateway, _):
        outcome = await gateway.tokenize(Card(PAN, 12, 2030), 5)
    assert isinstance(outcome, Declined)
    assert outcome.code == "incorrect_number"
    assert PAN not in repr(outcome)


@pytest.mark.parametrize(
    ("said", "ok", "detail"),
    [
        ({"object": "balance"}, True, ""),
        ((401, ERROR), False, "does not know this API key"),
        ((403, ERROR), False, "may not read the balance"),
        ((429, ERROR), False, "fewer requests"),
        ((503, ERROR), False, "503"),
    ],
)
async def test_health_says_what_is_wrong(said, ok, detail):
    async with stripe(lambda _: said) as (gateway, seen):
        found = await gateway.health()
    assert isinstance(found, Health)
    assert found.ok is ok
    assert detail in found.detail
    assert found.latency_ms > 0
    assert repr(seen[0]) == "GET /v1/balance"


async def test_health_of_a_stripe_that_is_not_there():
    gateway = StripeGateway(API_KEY, base_url=f"http://127.0.0.1:{refused_port()}")
    found = await gateway.health()
    await gateway.aclose()
    assert (found.ok, found.detail) == (False, "Stripe was not reached: connection_refused.")


# --- configuration and secrets ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key", ["", "sk_test\n", " sk_test", "sk test", "sk_é", "pk_test_1", "k" * 256, None]
)
def test_keys_that_cannot_be_right_are_refused_without_being_quoted(key):
    with pytest.raises(ConfigError) as caught:
        StripeGateway(key)
    assert not key or len(key) < 3 or key not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["http://api.stripe.com", "ftp://x", "api.stripe.com", "https://", "https://a:b@x", "https://x?y", ""],
)
def test_base_urls_that_would_leak_the_key_or_lead_nowhere_are_refused(url):
    with pytest.raises(ConfigError):
        StripeGateway(API_KEY, base_url=url)


def test_the_quiet_period_is_the_searchs_lag_unless_a_sandbox_says_otherwise():
    assert StripeGateway(API_KEY).capabilities.lookup_quiet_s == 3600
    assert StripeGateway(API_KEY, lookup_quiet_s=0.5).capabilities.lookup_quiet_s == 0.5


def test_http_is_for_loopback():
    StripeGateway(API_KEY, base_url="http://127.0.0.1:8080/")


def reachable(thing: Any, depth: int = 6) -> str:
    """Everything that a dump of the object would print."""
    text = repr(thing)
    if depth and not isinstance(thing, str | bytes | int | float | type(None)):
        for inner in (vars(thing) if hasattr(thing, "__dict__") else {}).values():
            text += reachable(inner, depth - 1)
    return text


async def test_the_key_shows_nowhere(caplog):
    caplog.set_level(logging.DEBUG)
    secret = "pi_1_secret_" + "x" * 20
    action = {"type": "use_stripe_sdk", "use_stripe_sdk": {"secret": secret}}
    made = call()
    body = payment(made, "requires_action", next_action=action, client_secret=secret)
    async with stripe(lambda _: body) as (gateway, _):
        outcome = await gateway.charge(made)
        found = await gateway.look_up(call(own_reference="pi_1"))
        await gateway.tokenize(Card(PAN, 12, 2030, "987"), 5)
        texts = [repr(outcome), repr(found), reachable(gateway), str(gateway), caplog.text]
        with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
            pickle.Pickler(io.BytesIO()).dump(gateway)
    assert isinstance(outcome, RequiresAction)
    for text in texts:
        for hidden in (API_KEY, secret, PAN):
            assert hidden not in text
