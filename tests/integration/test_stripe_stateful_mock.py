"""Our idempotency keys against stripe-stateful-mock, which others wrote and which honours Idempotency-Key.

It has charges and refunds only (no PaymentIntents), so a charge is made by hand and refunded through the adapter.
"""

from __future__ import annotations

import asyncio
import json
from urllib.parse import urlencode

import msgspec
import pytest

from aegispay.domain.events import OperationKind
from aegispay.domain.money import Money
from aegispay.domain.outcomes import Approved, DeclineCategory, Declined, InDoubt, NotSent
from aegispay.gateways.gateway import KEY_REUSED, RESEND_USELESS, Found, NotFound
from aegispay.gateways.http import HttpReply, HttpRequest
from aegispay.gateways.stripe import StripeGateway
from aegispay.gateways.transport import AiohttpTransport
from tests.fakes.foreign_stripes import stripe_stateful_mock
from tests.fakes.stripe_calls import API_KEY, call

REFUND = OperationKind.REFUND


@pytest.fixture(scope="module")
def base_url():
    with stripe_stateful_mock() as url:
        yield url


@pytest.fixture
async def transport():
    found = AiohttpTransport()
    yield found
    await found.aclose()


@pytest.fixture
def gateway(base_url, transport):
    return StripeGateway(API_KEY, base_url=base_url, transport=transport)


@pytest.fixture
async def books(base_url, transport):
    """Asks the mock, past the adapter, with a GET or a POST of these fields; gives the answer and its body."""

    async def ask(path: str, key: str | None = None, **fields: str) -> tuple[HttpReply, dict]:
        headers = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/x-www-form-urlencoded"}
        if key:
            headers["Idempotency-Key"] = key
        reply = await transport.send(
            HttpRequest(
                method="POST" if fields else "GET",
                url=base_url + path,
                headers=headers,
                body=urlencode(fields).encode() if fields else None,
                timeout_s=10,
            )
        )
        assert isinstance(reply, HttpReply)
        return reply, json.loads(reply.body)

    return ask


@pytest.fixture
async def charge_id(books):
    _, charge = await books("/v1/charges", amount="1000", currency="usd", source="tok_visa")
    assert charge["paid"]
    return charge["id"]


async def test_a_resend_under_the_same_key_is_replayed_and_refunds_once(gateway, books, charge_id):
    refund = call(REFUND, "4.00 USD", parent_reference=charge_id)
    first = await gateway.refund(refund)
    assert isinstance(first, Approved)
    for _ in range(3):
        assert await gateway.refund(refund) == first
    _, charge = await books(f"/v1/charges/{charge_id}")
    assert charge["amount_refunded"] == 400


async def test_their_server_marks_the_replay_as_one(books, charge_id):
    fields = {"charge": charge_id, "amount": "100"}
    first, _ = await books("/v1/refunds", "op_replayed", **fields)
    again, _ = await books("/v1/refunds", "op_replayed", **fields)
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.body == first.body


async def test_a_reused_key_with_another_body_is_refused_and_stays_a_doubt(gateway, books, charge_id):
    """The first request may have been executed, so the refusal says nothing about the operation."""
    refund = call(REFUND, "4.00 USD", parent_reference=charge_id)
    assert isinstance(await gateway.refund(refund), Approved)
    other = msgspec.structs.replace(refund, amount=Money(500, "USD"))
    outcome = await gateway.refund(other)
    assert outcome == InDoubt(reason=KEY_REUSED)
    assert outcome.reason in RESEND_USELESS
    _, charge = await books(f"/v1/charges/{charge_id}")
    assert charge["amount_refunded"] == 400


async def test_two_operations_have_two_keys_and_both_refund(gateway, books, charge_id):
    for _ in range(2):
        assert isinstance(
            await gateway.refund(call(REFUND, "4.00 USD", parent_reference=charge_id)), Approved
        )
    _, charge = await books(f"/v1/charges/{charge_id}")
    assert charge["amount_refunded"] == 800


async def test_a_refund_of_more_than_is_left_is_an_invalid_request(gateway, charge_id):
    outcome = await gateway.refund(call(REFUND, "11.00 USD", parent_reference=charge_id))
    assert isinstance(outcome, Declined)
    assert outcome.category is DeclineCategory.INVALID


async def test_twenty_sends_at_once_under_one_key_refund_once(gateway, books, charge_id):
    refund = call(REFUND, "4.00 USD", parent_reference=charge_id)
    outcomes = await asyncio.gather(*(gateway.refund(refund) for _ in range(20)))
    assert len({outcome.reference for outcome in outcomes}) == 1
    _, charge = await books(f"/v1/charges/{charge_id}")
    assert charge["amount_refunded"] == 400


async def test_the_look_up_finds_the_refund_that_was_made_and_no_other(gateway, charge_id):
    refund = call(REFUND, "4.00 USD", parent_reference=charge_id)
    assert await gateway.look_up(refund) == NotFound()
    outcome = await gateway.refund(refund)
    assert await gateway.look_up(refund) == Found(outcome=outcome)
    assert await gateway.look_up(call(REFUND, parent_reference=charge_id)) == NotFound()


async def test_a_key_of_no_known_form_is_refused_before_anything_is_executed(
    base_url, transport, charge_id, books
):
    gateway = StripeGateway("not_a_key", base_url=base_url, transport=transport)
    refund = call(REFUND, "4.00 USD", parent_reference=charge_id)
    assert await gateway.refund(refund) == NotSent(reason="unauthorized")
    _, charge = await books(f"/v1/charges/{charge_id}")
    assert charge["amount_refunded"] == 0
