"""The Stripe adapter against localstripe, a stateful Stripe by other people, in a process of its own.

It shows that our requests and our reading of the answers fit somebody else's idea of Stripe. It is no proof of
idempotency: localstripe ignores the Idempotency-Key.
"""

from __future__ import annotations

import json
import time

import pytest

from aegispay.domain.events import OperationKind
from aegispay.domain.methods import Card
from aegispay.domain.outcomes import (
    ActionType,
    Approved,
    DeclineCategory,
    Declined,
    NotSent,
    RequiresAction,
)
from aegispay.gateways.gateway import Found, NotFound, Tokenized
from aegispay.gateways.http import HttpReply, HttpRequest
from aegispay.gateways.stripe import StripeGateway
from aegispay.gateways.transport import AiohttpTransport
from tests.fakes.foreign_stripes import localstripe
from tests.fakes.stripe_calls import API_KEY, call

K = OperationKind


@pytest.fixture(scope="module")
def base_url():
    with localstripe() as url:
        yield url


@pytest.fixture
async def transport():
    found = AiohttpTransport()
    yield found
    await found.aclose()


@pytest.fixture
def gateway(base_url, transport):
    return StripeGateway(API_KEY, base_url=base_url, transport=transport, search=False)


async def token_of(gateway: StripeGateway, number: str) -> str:
    made = await gateway.tokenize(Card(number, 12, 2030, "123"), 10)
    assert isinstance(made, Tokenized)
    return made.token


async def fetch(base_url: str, transport: AiohttpTransport, path: str, form: str | None = None) -> dict:
    """What localstripe's own books say, read past the adapter."""
    reply = await transport.send(
        HttpRequest(
            method="GET" if form is None else "POST",
            url=base_url + path,
            headers={
                "Authorization": f"Bearer {API_KEY}",
                "Content-Type": "application/x-www-form-urlencoded",
            },
            body=None if form is None else form.encode(),
            timeout_s=10,
        )
    )
    assert isinstance(reply, HttpReply)
    return json.loads(reply.body)


async def test_a_charge_is_approved_and_stands_in_their_books(gateway, base_url, transport):
    outcome = await gateway.charge(call(token=await token_of(gateway, "4242424242424242")))
    assert isinstance(outcome, Approved)
    assert outcome.amount_minor == 1000
    theirs = await fetch(base_url, transport, f"/v1/payment_intents/{outcome.reference}")
    assert (theirs["status"], theirs["amount"], theirs["currency"]) == ("succeeded", 1000, "usd")


async def test_a_declined_charge_is_declined(gateway):
    outcome = await gateway.charge(call(token=await token_of(gateway, "4000000000000341")))
    assert isinstance(outcome, Declined)
    assert outcome.category is DeclineCategory.SOFT
    assert outcome.gateway_code == "card_declined"


async def test_an_authorization_is_captured_in_part_and_refunded_in_parts(gateway, base_url, transport):
    token = await token_of(gateway, "4242424242424242")
    authorized = await gateway.authorize(call(K.AUTHORIZE, token=token))
    assert isinstance(authorized, Approved)
    assert (await fetch(base_url, transport, f"/v1/payment_intents/{authorized.reference}"))[
        "status"
    ] == "requires_capture"
    captured = await gateway.capture(call(K.CAPTURE, "7.00 USD", parent_reference=authorized.reference))
    assert isinstance(captured, Approved)
    assert captured.amount_minor == 700
    refunds = [
        call(K.REFUND, amount, parent_reference=authorized.reference) for amount in ("3.00 USD", "4.00 USD")
    ]
    for refund in refunds:
        refunded = await gateway.refund(refund)
        assert isinstance(refunded, Approved)
        assert refunded.amount_minor == refund.amount.amount_minor
        assert await gateway.look_up(refund) == Found(outcome=refunded)
    never_sent = call(K.REFUND, parent_reference=authorized.reference)
    assert await gateway.look_up(never_sent) == NotFound()


async def test_a_void_releases_the_authorization_and_is_found_again(gateway, base_url, transport):
    token = await token_of(gateway, "4242424242424242")
    authorized = await gateway.authorize(call(K.AUTHORIZE, token=token))
    void = call(K.VOID, parent_reference=authorized.reference)
    assert await gateway.look_up(void) == NotFound()
    assert isinstance(await gateway.void(void), Approved)
    assert isinstance((await gateway.look_up(void)), Found)
    theirs = await fetch(base_url, transport, f"/v1/payment_intents/{authorized.reference}")
    assert theirs["status"] == "canceled"


@pytest.mark.parametrize(
    ("number", "success", "expected"),
    [
        ("4000000000003220", True, Approved),
        ("4000000000003220", False, Declined),
        ("4000008400001629", True, Declined),
    ],
    ids=["authenticated", "authentication failed", "authenticated, then declined"],
)
async def test_3ds_goes_on_after_the_payer_acted(gateway, base_url, transport, number, success, expected):
    charge = call(token=await token_of(gateway, number))
    outcome = await gateway.charge(charge)
    assert isinstance(outcome, RequiresAction)
    assert outcome.action.type is ActionType.SDK
    confirm = call(K.CONFIRM, parent_reference=outcome.reference)
    assert isinstance(await gateway.confirm(confirm), RequiresAction)

    path = f"/v1/payment_intents/{outcome.reference}"
    secret = (await fetch(base_url, transport, path))["client_secret"]
    assert secret not in repr(outcome)
    await fetch(
        base_url, transport, f"{path}/_authenticate", f"client_secret={secret}&success={str(success).lower()}"
    )
    confirmed = await gateway.confirm(confirm)
    assert isinstance(confirmed, expected)
    assert confirmed.reference == outcome.reference
    assert await gateway.look_up(confirm) == Found(outcome=confirmed)


async def test_a_payment_can_be_canceled_while_the_payer_acts(gateway):
    outcome = await gateway.charge(call(token=await token_of(gateway, "4000000000003220")))
    assert isinstance(await gateway.void(call(K.VOID, parent_reference=outcome.reference)), Approved)


async def test_a_charge_is_found_by_its_own_id(gateway):
    charge = call(token=await token_of(gateway, "4242424242424242"))
    outcome = await gateway.charge(charge)
    again = call(operation_id=charge.operation_id, own_reference=outcome.reference)
    assert await gateway.look_up(again) == Found(outcome=outcome)


async def test_an_unknown_token_is_an_invalid_request(gateway):
    outcome = await gateway.charge(call(token="pm_of_somebody_else"))
    assert isinstance(outcome, Declined)
    assert outcome.category is DeclineCategory.INVALID


async def test_health_is_good(gateway):
    found = await gateway.health()
    assert (found.ok, found.detail) == (True, "")


async def test_a_stopped_stripe_is_proof_that_nothing_was_sent(transport):
    gateway = StripeGateway(API_KEY, base_url="http://127.0.0.1:1", transport=transport)
    assert await gateway.charge(call(started_at_us=time.time_ns() // 1000)) == NotSent(
        reason="connection_refused"
    )
