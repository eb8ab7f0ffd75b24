"""The Braintree adapter over a real connection, before a server that answers as Braintree's published schema says."""

from __future__ import annotations

import base64
import io
import json
import logging
import pickle
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from aegispay.domain.errors import ConfigError, InvalidRequest, UnsupportedOperation
from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import Approved, Declined, InDoubt, NotSent, Pending
from aegispay.gateways.braintree import API_VERSION, LIVE_URL, SANDBOX_URL, BraintreeGateway, documents
from aegispay.gateways.gateway import Found, LookupFailed, NotFound
from tests.fakes.braintree_calls import (
    ACCOUNTS,
    PARENT,
    PRIVATE_KEY,
    PUBLIC_KEY,
    SALE,
    call,
    error,
    execute,
    found,
    refund,
    sale,
    schema,
)
from tests.fakes.raw_server import Peer, answer, raw_server, refused_port

K = OperationKind
NAMES = {document: name for name, document in documents.ALL.items()}


class Seen:
    """One request as the server got it."""

    def __init__(self, raw: bytes):
        head, _, body = raw.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        self.method, self.path, _ = lines[0].split(" ")
        self.headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:])}
        sent = json.loads(body)
        self.document, self.variables = sent["query"], sent["variables"]
        self.name = NAMES[self.document]
        self.input = self.variables.get("input", {})

    @property
    def operation(self) -> str:
        return str(self.input.get("clientMutationId"))


@asynccontextmanager
async def braintree(
    route: Callable[[Seen], Any], **options: Any
) -> AsyncIterator[tuple[BraintreeGateway, list[Seen]]]:
    """An adapter before a server that executes its documents on what the route returns, or sends bytes as they are."""
    seen: list[Seen] = []
    schema()  # Where it is absent the test is skipped, which the server could not do.

    async def script(peer: Peer) -> None:
        while raw := await peer.request():
            seen.append(one := Seen(raw))
            said = route(one)
            if "errors" not in said:
                said = execute(one.document, one.variables, said)
            await peer.send(answer(json.dumps(said).encode()))

    async with raw_server(script) as server:
        gateway = BraintreeGateway(PUBLIC_KEY, PRIVATE_KEY, ACCOUNTS, base_url=server.url(""), **options)
        await gateway.start()
        try:
            yield gateway, seen
        finally:
            await gateway.aclose()


def books(transaction: dict[str, Any], **more: Any) -> Callable[[Seen], Any]:
    """A Braintree that holds one transaction, and does what it is asked."""

    def route(one: Seen) -> Any:
        head = {"clientMutationId": one.operation}
        return {
            "node": transaction,
            "captureTransaction": {
                **head,
                "transaction": {**transaction, "status": "SUBMITTED_FOR_SETTLEMENT"},
            },
            "reverseTransaction": {**head, "reversal": {**transaction, "status": "VOIDED"}},
            "refundTransaction": {**head, "refund": refund(one.input.get("refund", {}).get("orderId"))},
            "search": {"transactions": found(transaction), "refunds": found()},
            **more,
        }

    return route


# --- what is sent -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "field"), [(K.AUTHORIZE, "authorizePaymentMethod"), (K.CHARGE, "chargePaymentMethod")]
)
async def test_a_payment_is_one_mutation(kind, field):
    made = call(kind)
    transaction = sale(made.operation_id, "AUTHORIZED" if kind is K.AUTHORIZE else "SUBMITTED_FOR_SETTLEMENT")
    async with braintree(lambda _: {field: {"transaction": transaction}}) as (gateway, seen):
        assert await gateway.perform(made) == Approved(reference=SALE, amount_minor=1000)
    assert [(one.method, one.path, one.name) for one in seen] == [("POST", "/graphql", kind.value)]
    pair = base64.b64encode(f"{PUBLIC_KEY}:{PRIVATE_KEY}".encode()).decode()
    assert seen[0].headers["authorization"] == f"Basic {pair}"
    assert seen[0].headers["braintree-version"] == API_VERSION
    assert seen[0].operation == made.operation_id


async def test_a_capture_is_one_mutation():
    route = books(sale(PARENT, "AUTHORIZED", amount="7.00"))
    async with braintree(route) as (gateway, seen):
        assert await gateway.perform(call(K.CAPTURE, "7.00 USD")) == Approved(
            reference=SALE, amount_minor=700
        )
    assert [one.name for one in seen] == ["capture"]


async def test_several_captures_are_transactions_of_their_own():
    def route(one: Seen) -> Any:
        capture = sale(one.input["transaction"]["orderId"], amount="4.00", id="dHJhbnNhY3Rpb25fMg")
        return {"partialCaptureTransaction": {"capture": capture}}

    async with braintree(route, multi_capture=True) as (gateway, seen):
        assert gateway.capabilities.multi_capture
        made = call(K.CAPTURE, "4.00 USD", final=False)
        assert await gateway.perform(made) == Approved(reference="dHJhbnNhY3Rpb25fMg", amount_minor=400)
    assert [one.name for one in seen] == ["partial_capture"]


async def test_a_void_reads_the_transaction_and_reverses_it():
    async with braintree(books(sale(PARENT, "AUTHORIZED"))) as (gateway, seen):
        assert await gateway.perform(call(K.VOID)) == Approved(reference=SALE, amount_minor=1000)
    assert [one.name for one in seen] == ["read", "reverse"]


async def test_a_void_of_what_is_voided_is_done():
    async with braintree(books(sale(PARENT, "VOIDED"))) as (gateway, seen):
        assert isinstance(await gateway.perform(call(K.VOID)), Approved)
    assert [one.name for one in seen] == ["read"]


@pytest.mark.parametrize("status", ["SUBMITTED_FOR_SETTLEMENT", "SETTLING", "SETTLED"])
async def test_trap_reverse_transaction_would_refund_so_a_void_never_reverses_what_was_captured(status):
    async with braintree(books(sale(PARENT, status))) as (gateway, seen):
        outcome = await gateway.perform(call(K.VOID))
    assert isinstance(outcome, Declined)
    assert outcome.code == "already_captured"
    assert [one.name for one in seen] == ["read"]


async def test_a_void_of_a_charge_reverses_it_in_whichever_way_is_due():
    async with braintree(books(sale(PARENT, "SETTLED"), reverseTransaction={"reversal": refund(PARENT)})) as (
        gateway,
        seen,
    ):
        outcome = await gateway.perform(call(K.VOID, parent_kind=K.CHARGE))
    assert outcome == Approved(reference="cmVmdW5kXzE", amount_minor=1000)
    assert [one.name for one in seen] == ["read", "reverse"]


async def test_a_void_of_what_failed_is_refused():
    async with braintree(books(sale(PARENT, "AUTHORIZATION_EXPIRED"))) as (gateway, _):
        assert (await gateway.perform(call(K.VOID))).code == "invalid_state"


async def test_what_has_settled_is_refunded_in_part_and_several_times():
    def route(one: Seen) -> Any:
        if one.name == "read":
            return {"node": sale(PARENT, "SETTLED")}
        asked = one.input["refund"]
        return {"refundTransaction": {"refund": refund(asked["orderId"], amount=asked["amount"])}}

    async with braintree(route) as (gateway, seen):
        for part in (300, 200):
            made = call(K.REFUND, f"{part // 100}.00 USD")
            assert await gateway.perform(made) == Approved(reference="cmVmdW5kXzE", amount_minor=part)
    assert [one.name for one in seen] == ["read", "refund"] * 2
    assert seen[1].input["refund"]["orderId"] != seen[3].input["refund"]["orderId"]


async def test_trap_91506_what_has_not_settled_is_voided_if_the_whole_is_given_back():
    async with braintree(books(sale(PARENT, "SUBMITTED_FOR_SETTLEMENT"))) as (gateway, seen):
        assert await gateway.perform(call(K.REFUND)) == Approved(reference=SALE, amount_minor=1000)
    assert [one.name for one in seen] == ["read", "reverse"]


async def test_trap_91506_a_part_of_what_has_not_settled_is_refused_and_never_becomes_the_whole():
    async with braintree(books(sale(PARENT, "SUBMITTED_FOR_SETTLEMENT"))) as (gateway, seen):
        outcome = await gateway.perform(call(K.REFUND, "3.00 USD"))
    assert isinstance(outcome, Declined)
    assert outcome.code == "not_settled"
    assert [one.name for one in seen] == ["read"]


async def test_where_the_read_before_a_void_or_refund_fails_nothing_was_sent():
    async with braintree(lambda _: {"errors": [error("INTERNAL")], "data": None}) as (gateway, seen):
        for kind in (K.VOID, K.REFUND):
            assert await gateway.perform(call(kind)) == NotSent(reason="server_error")
    assert {one.name for one in seen} == {"read"}
    async with braintree(books({**sale(PARENT), "id": "other"})) as (gateway, _):
        assert await gateway.perform(call(K.VOID)) == NotSent(reason="garbage")
    async with braintree(lambda _: {"node": None}) as (gateway, _):
        assert await gateway.perform(call(K.REFUND)) == NotSent(reason="garbage")


async def test_a_call_that_braintree_can_never_take_is_not_sent():
    async with braintree(books(sale(PARENT))) as (gateway, seen):
        for made in (call(token=None), call(amount="1.00 GBP"), call(K.CAPTURE, final=False)):
            with pytest.raises(InvalidRequest):
                await gateway.perform(made)
        with pytest.raises(UnsupportedOperation):
            await gateway.confirm(call(K.CONFIRM))
        with pytest.raises(UnsupportedOperation):
            await gateway.cancel_by_reference(call())
        with pytest.raises(InvalidRequest):
            await gateway.look_up(call(own_reference='"x'))
    assert not seen


async def test_a_connection_that_breaks_after_the_request_is_a_doubt():
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.reset()

    async with raw_server(script) as server:
        gateway = BraintreeGateway(PUBLIC_KEY, PRIVATE_KEY, ACCOUNTS, base_url=server.url(""))
        for kind in (K.CHARGE, K.CAPTURE):
            assert await gateway.perform(call(kind)) == InDoubt(reason="reset")
        # Here only the read was tried.
        assert await gateway.perform(call(K.REFUND)) == NotSent(reason="reset")
        assert await gateway.look_up(call()) == LookupFailed(reason="reset")
        await gateway.aclose()


# --- evidence -----------------------------------------------------------------------------------------------


def searched(
    *nodes: dict[str, Any], refunds: Any = (), more: bool = False, node: Any = None
) -> Callable[[Seen], Any]:
    return lambda _: {
        "search": {"transactions": found(*nodes, more=more), "refunds": found(*refunds, more=more)},
        "node": node,
    }


def test_trap_there_is_no_idempotency_key_so_nothing_is_ever_resent():
    capabilities = BraintreeGateway(PUBLIC_KEY, PRIVATE_KEY, ACCOUNTS).capabilities
    assert not capabilities.stable_key
    assert capabilities.lookup_by_reference
    # Braintree itself may work on a request for 60 s, during which no search sees it.
    assert capabilities.lookup_quiet_s >= 60.0
    assert not capabilities.next_action and not capabilities.cancel_by_reference
    assert not capabilities.tokenize and not capabilities.multi_capture


async def test_trap_the_search_by_order_id_is_the_evidence():
    made = call()
    async with braintree(searched(sale(made.operation_id))) as (gateway, seen):
        assert await gateway.look_up(made) == Found(outcome=Approved(reference=SALE, amount_minor=1000))
    assert [one.name for one in seen] == ["find_sales"]
    assert seen[0].input == {"orderId": {"is": made.operation_id}}
    async with braintree(searched()) as (gateway, _):
        assert await gateway.look_up(call(K.AUTHORIZE)) == NotFound()


async def test_a_search_that_matches_loosely_finds_nothing():
    made = call()
    loose = (sale(f"{made.operation_id}0"), sale(made.operation_id.upper()), sale(None))
    async with braintree(searched(*loose)) as (gateway, _):
        assert await gateway.look_up(made) == NotFound()


async def test_trap_the_duplicate_check_rejects_the_copy_and_the_search_finds_the_one_that_was_taken():
    made = call()
    copy = sale(
        made.operation_id, "GATEWAY_REJECTED", event={"gatewayRejectionReason": "DUPLICATE"}, id="dHI"
    )
    for nodes in ((copy, sale(made.operation_id)), (sale(made.operation_id), copy)):
        async with braintree(searched(*nodes)) as (gateway, _):
            assert await gateway.look_up(made) == Found(outcome=Approved(reference=SALE, amount_minor=1000))


async def test_two_that_were_taken_prove_nothing():
    made = call()
    async with braintree(searched(sale(made.operation_id), sale(made.operation_id, id="dHI"))) as (
        gateway,
        _,
    ):
        assert await gateway.look_up(made) == LookupFailed(reason="several_found")


async def test_a_list_that_goes_on_proves_nothing():
    made = call()
    async with braintree(searched(more=True)) as (gateway, _):
        assert await gateway.look_up(made) == LookupFailed(reason="too_many_to_list")
        assert await gateway.look_up(call(K.REFUND)) == LookupFailed(reason="too_many_to_list")


async def test_a_search_that_fails_is_never_nothing_found():
    async with braintree(lambda _: {"errors": [error("INTERNAL")], "data": {"search": None}}) as (gateway, _):
        assert await gateway.look_up(call()) == LookupFailed(reason="server_error")
    async with braintree(lambda _: {"errors": [error("VALIDATION", "1")], "data": {"search": None}}) as (
        gateway,
        _,
    ):
        assert await gateway.look_up(call()) == LookupFailed(reason="invalid_request")
    async with braintree(lambda _: {"search": {"transactions": None}}) as (gateway, _):
        assert await gateway.look_up(call()) == LookupFailed(reason="garbage")
    async with braintree(lambda _: {"search": None}) as (gateway, _):
        assert await gateway.look_up(call()) == LookupFailed(reason="garbage")
    page = {"edges": [], "pageInfo": {"hasNextPage": None}}
    partial = {"data": {"search": {"result": page}}, "errors": []}
    async with braintree(lambda _: partial) as (gateway, _):
        assert await gateway.look_up(call()) == LookupFailed(reason="too_many_to_list")


async def test_what_is_being_authorised_is_found_pending():
    made = call()
    async with braintree(searched(sale(made.operation_id, "AUTHORIZING"))) as (gateway, _):
        assert await gateway.look_up(made) == Found(outcome=Pending(reference=SALE, reason="authorizing"))


async def test_a_capture_is_looked_up_in_the_transaction_itself():
    for status, expected in (
        ("AUTHORIZED", NotFound()),
        ("SETTLING", Found(outcome=Approved(reference=SALE, amount_minor=1000))),
        ("VOIDED", NotFound()),
    ):
        async with braintree(searched(node=sale(PARENT, status))) as (gateway, seen):
            assert await gateway.look_up(call(K.CAPTURE)) == expected
        assert [one.name for one in seen] == ["read"]
    async with braintree(searched(node=sale(PARENT, "SETTLEMENT_DECLINED"))) as (gateway, _):
        assert isinstance((await gateway.look_up(call(K.CAPTURE))).outcome, Declined)


async def test_one_of_several_captures_is_found_by_its_own_order_id():
    made = call(K.CAPTURE, "4.00 USD", final=False)
    async with braintree(searched(sale(made.operation_id, amount="4.00")), multi_capture=True) as (
        gateway,
        _,
    ):
        assert await gateway.look_up(made) == Found(outcome=Approved(reference=SALE, amount_minor=400))


async def test_a_void_is_looked_up_in_the_transaction_itself():
    async with braintree(searched(node=sale(PARENT, "VOIDED"))) as (gateway, _):
        assert await gateway.look_up(call(K.VOID)) == Found(
            outcome=Approved(reference=SALE, amount_minor=1000)
        )
    async with braintree(searched(node=sale(PARENT, "AUTHORIZED"))) as (gateway, _):
        assert await gateway.look_up(call(K.VOID)) == NotFound()
    settled = sale(PARENT, "SETTLED", refunds=[refund(PARENT)])
    async with braintree(searched(node=settled)) as (gateway, _):
        assert await gateway.look_up(call(K.VOID)) == LookupFailed(reason="refund_unmarked")


async def test_a_refund_is_found_by_its_own_order_id():
    made = call(K.REFUND, "3.00 USD")
    async with braintree(searched(refunds=[refund(made.operation_id, amount="3.00")])) as (gateway, _):
        assert await gateway.look_up(made) == Found(
            outcome=Approved(reference="cmVmdW5kXzE", amount_minor=300)
        )


async def test_a_refund_that_became_a_void_is_found_in_the_transaction():
    async with braintree(searched(node=sale(PARENT, "VOIDED"))) as (gateway, _):
        assert isinstance(await gateway.look_up(call(K.REFUND)), Found)
    async with braintree(searched(node=sale(PARENT, "SETTLED"))) as (gateway, _):
        assert await gateway.look_up(call(K.REFUND)) == NotFound()


async def test_a_refund_without_our_mark_proves_neither_that_ours_was_made_nor_that_it_was_not():
    for unmarked in (refund(PARENT), refund(None)):
        async with braintree(searched(node=sale(PARENT, "SETTLED", refunds=[unmarked]))) as (gateway, _):
            assert await gateway.look_up(call(K.REFUND)) == LookupFailed(reason="refund_unmarked")
    other = sale(PARENT, "SETTLED", refunds=[refund("op_another_refund")])
    async with braintree(searched(node=other)) as (gateway, _):
        assert await gateway.look_up(call(K.REFUND)) == NotFound()


# --- health and secrets -------------------------------------------------------------------------------------


async def test_health_is_a_ping():
    async with braintree(lambda _: {"ping": "pong"}) as (gateway, seen):
        assert (await gateway.health()).ok
    assert [one.name for one in seen] == ["ping"]
    for said, word in (
        ({"errors": [error("AUTHENTICATION")]}, "keys"),
        ({"errors": [error("AUTHORIZATION")]}, "may not"),
        ({"errors": [error("RESOURCE_LIMIT")]}, "fewer"),
        ({"errors": [error("INTERNAL")]}, "server_error"),
        ({"errors": [], "data": {}}, "garbage"),
    ):
        async with braintree(lambda _, said=said: said) as (gateway, _):
            health = await gateway.health()
        assert not health.ok and word in health.detail
    gateway = BraintreeGateway(
        PUBLIC_KEY, PRIVATE_KEY, ACCOUNTS, base_url=f"http://127.0.0.1:{refused_port()}"
    )
    health = await gateway.health()
    await gateway.aclose()
    assert not health.ok and "connection_refused" in health.detail


async def test_secrets_are_shown_nowhere(caplog):
    stream = io.StringIO()
    logging.getLogger().addHandler(handler := logging.StreamHandler(stream))
    caplog.set_level(logging.DEBUG)
    async with braintree(books(sale(PARENT, "AUTHORIZED"))) as (gateway, _):
        await gateway.perform(call(K.VOID))
        shown = repr(gateway) + str(vars(gateway)) + str(vars(gateway._client)) + repr(gateway._webhooks)
        with pytest.raises(TypeError):
            pickle.dumps(gateway._client)
    logging.getLogger().removeHandler(handler)
    pair = base64.b64encode(f"{PUBLIC_KEY}:{PRIVATE_KEY}".encode()).decode()
    for secret in (PRIVATE_KEY, pair):
        assert secret not in shown + stream.getvalue() + caplog.text


@pytest.mark.parametrize(
    "wrong",
    [
        {"public_key": ""},
        {"public_key": "a:b"},
        {"public_key": None},
        {"private_key": ""},
        {"private_key": "key\n"},
        {"private_key": "k" * 129},
        {"merchant_accounts": {}},
        {"base_url": "http://payments.braintree-api.com"},
        {"base_url": "https://u:p@payments.braintree-api.com"},
        {"api_version": "latest"},
        {"webhook_keys": [("a", "b c")]},
        {"webhook_keys": ["abc"]},
        {"webhook_keys": [("a|b", "c")]},
    ],
)
def test_what_cannot_be_right_is_refused_without_quoting_it(wrong):
    good = {"public_key": PUBLIC_KEY, "private_key": "private_9917", "merchant_accounts": ACCOUNTS}
    with pytest.raises(ConfigError) as caught:
        BraintreeGateway(**{**good, **wrong})
    assert "private_9917" not in str(caught.value) and "b c" not in str(caught.value)


def test_the_addresses_are_https():
    assert SANDBOX_URL.startswith("https://") and LIVE_URL.startswith("https://")
