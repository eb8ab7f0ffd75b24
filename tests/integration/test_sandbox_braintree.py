"""The official Braintree SDK against the Braintree face, over loopback: a client that we did not write; and its webhooks."""

from __future__ import annotations

import asyncio
import urllib.parse
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from aegispay.ports import SystemClock
from aegispay.sandbox.braintree_face import MERCHANT_ID, PRIVATE_KEY, PUBLIC_KEY
from aegispay.sandbox.braintree_notices import challenge_answered
from aegispay.sandbox.face import bind, wire_request
from aegispay.sandbox.process import SandboxProcess
from aegispay.sandbox.server import SandboxSettings
from aegispay.sandbox.webhooks import NoticeDelivery, NoticeFault, NoticePlan
from aegispay.sandbox.wire import WireRequest, handle
from tests.fakes import tally
from tests.fakes.psp_data import psp_document
from tests.unit.test_sandbox_braintree_psp import BASIC, Client

braintree = pytest.importorskip("braintree", reason="the official braintree SDK is not installed")
exceptions = pytest.importorskip("braintree.exceptions")
SETTINGS = SandboxSettings(more_psps=("braintree",))


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    path: Path = tmp_path_factory.mktemp("bank") / "bank.db"
    with SandboxProcess(path, seed=3, synchronous="OFF", settings=SETTINGS) as running:
        yield running


def gateway_at(url: str) -> Any:
    where = urllib.parse.urlsplit(url)
    port = str(where.port)
    environment = braintree.Environment("sandbox", "127.0.0.1", port, url, False, None, "127.0.0.1", port)
    return braintree.BraintreeGateway(
        braintree.Configuration(environment, MERCHANT_ID, PUBLIC_KEY, PRIVATE_KEY)
    )


@pytest.fixture
def gateway(sandbox: SandboxProcess) -> Iterator[Any]:
    sandbox.clear_faults()
    one = gateway_at(sandbox.url("braintree"))
    yield one
    one.config.http().close()
    one.graphql_client.close()


def sale(gateway: Any, order: str, *, submit: bool = False, **more: Any) -> Any:
    wanted = {
        "amount": "10.00",
        "payment_method_nonce": "fake-valid-nonce",
        "order_id": order,
        "options": {"submit_for_settlement": submit},
    }
    return gateway.transaction.sale(wanted | more)


def test_sale_settlement_in_part_and_refund(gateway: Any, sandbox: SandboxProcess) -> None:
    made = sale(gateway, "sdk_1")
    assert (made.is_success, made.transaction.status) == (True, "authorized")
    id_ = made.transaction.id
    taken = gateway.transaction.submit_for_settlement(id_, "5.00")
    assert (taken.transaction.status, str(taken.transaction.amount)) == ("submitted_for_settlement", "5.00")
    back = gateway.transaction.refund(id_, "1.00")
    assert (back.transaction.type, back.transaction.refunded_transaction_id) == ("credit", id_)
    found = gateway.transaction.find(id_)
    assert (found.status, found.refund_ids) == ("settled", [back.transaction.id])
    assert [str(event.amount) for event in found.status_history] == ["10.00", "5.00", "5.00"]
    charge = next(one for one in sandbox.bank.charges() if one.reference == "sdk_1")
    assert (charge.captured_minor, charge.released_minor, charge.refunded_minor) == (500, 500, 100)


def test_void_partial_settlement_and_search_by_order_id(gateway: Any) -> None:
    made = sale(gateway, "sdk_2").transaction
    part = gateway.transaction.submit_for_partial_settlement(made.id, "5.00").transaction
    assert part.authorized_transaction_id == made.id
    assert gateway.transaction.void(made.id).transaction.status == "voided"
    found = gateway.transaction.search(braintree.TransactionSearch.order_id == "sdk_2")
    assert {one.id for one in found.items} == {made.id, part.id}
    assert list(gateway.transaction.search(braintree.TransactionSearch.order_id == "nobody").items) == []


def test_declines_and_errors_arrive_as_the_sdks_own(gateway: Any, sandbox: SandboxProcess) -> None:
    declined = sale(gateway, "sdk_3", amount="2001.00")
    assert (declined.is_success, declined.transaction.processor_response_code) == (False, "2001")
    assert declined.transaction.processor_response_type == "soft_declined"
    rejected = sale(gateway, "sdk_4", payment_method_nonce="fake-gateway-rejected-fraud-nonce")
    assert (rejected.transaction.status, rejected.transaction.gateway_rejection_reason) == (
        "gateway_rejected",
        "fraud",
    )
    spent = sale(gateway, "sdk_5", payment_method_nonce="fake-consumed-nonce")
    assert [one.code for one in spent.errors.deep_errors] == ["91564"]
    made = sale(gateway, "sdk_6", submit=True).transaction
    again = gateway.transaction.submit_for_settlement(made.id)
    assert [one.code for one in again.errors.deep_errors] == ["91507"]
    with pytest.raises(exceptions.not_found_error.NotFoundError):
        gateway.transaction.find("nosuch00")
    sandbox.script("braintree", ["rate_limited", "unavailable", "error_kept_before"])
    for kind in (
        exceptions.too_many_requests_error.TooManyRequestsError,
        exceptions.service_unavailable_error.ServiceUnavailableError,
        exceptions.server_error.ServerError,
    ):
        with pytest.raises(kind):
            sale(gateway, "sdk_7")
    assert not any(one.reference == "sdk_7" for one in sandbox.bank.charges())


def test_a_reply_that_is_lost_leaves_a_charge_that_the_search_finds(
    gateway: Any, sandbox: SandboxProcess
) -> None:
    sandbox.script("braintree", ["reply_lost"])
    with pytest.raises(Exception, match=r"(?i)connection|reset"):
        sale(gateway, "sdk_lost", submit=True)
    [found] = gateway.transaction.search(braintree.TransactionSearch.order_id == "sdk_lost").items
    assert found.status in ("submitted_for_settlement", "settled")
    again = sale(gateway, "sdk_lost", submit=True)
    assert again.transaction.gateway_rejection_reason == "duplicate"
    assert sum(one.reference == "sdk_lost" for one in sandbox.bank.charges()) == 1


def test_the_sdks_graphql_client(gateway: Any) -> None:
    assert gateway.graphql_client.query("query { ping }")["data"] == {"ping": "pong"}
    text = (
        "mutation M($input: ChargePaymentMethodInput!) "
        "{ chargePaymentMethod(input: $input) { transaction { status } } }"
    )
    wanted = {
        "paymentMethodId": "fake-consumed-nonce",
        "transaction": {"amount": "1.00", "orderId": "sdk_graph"},
    }
    answer = gateway.graphql_client.query(text, {"input": wanted})
    errors = gateway.graphql_client.get_validation_errors(answer)
    assert [one["code"] for one in errors["errors"]] == ["91564"]
    missing = {"id": "dHJhbnNhY3Rpb25fbm9uZQ"}
    with pytest.raises(exceptions.not_found_error.NotFoundError):
        gateway.graphql_client.query("query N($id: ID!) { node(id: $id) { id } }", missing)


def test_other_keys_are_refused_at_both_doors(sandbox: SandboxProcess) -> None:
    other = gateway_at(sandbox.url("braintree"))
    other.config.private_key = "another"
    for ask in (
        lambda: other.transaction.find("tx1"),
        lambda: other.graphql_client.query("{ ping }"),
    ):
        with pytest.raises(exceptions.authentication_error.AuthenticationError):
            ask()
    other.config.http().close()
    other.graphql_client.close()


def test_every_recorded_request_of_the_sdk_is_understood() -> None:
    """What the SDK was once seen to send is routed and read here, up to the transaction that it names."""
    client = Client()
    client.psp.merchant_id = "merchant_id"
    asked = 0
    for name, scenario in psp_document("sdk_wire/official_sdk_requests.json").items():
        if not name.startswith("braintree.") or "http_" in name:
            continue
        for sent in scenario["requests"]:
            reply = handle(
                client.psp,
                WireRequest(
                    method=sent["method"],
                    path=sent["path"],
                    headers={"authorization": BASIC},
                    body=sent["body"].encode(),
                ),
            )
            expected = {"braintree.sale_authorize": 201, "braintree.search_by_order_id": 200}
            assert reply.status == expected.get(name, 404), name
            asked += 1
            tally.checked("braintree", "SDK requests")
    assert asked == 7


# --- webhooks ---------------------------------------------------------------------------------------------------


@pytest.fixture
async def receiver() -> AsyncIterator[tuple[str, list[Any]]]:
    """A merchant's endpoint that keeps what the SDK parses, refuses the rest, and answers challenges."""
    got: list[Any] = []
    sdk = gateway_at("http://127.0.0.1:1")

    async def take(request: web.BaseRequest) -> web.StreamResponse:
        wire = await wire_request(request)
        query = dict(urllib.parse.parse_qsl(wire.query))
        if "bt_challenge" in query:
            return web.Response(text=sdk.webhook_notification.verify(query["bt_challenge"]))
        form = dict(urllib.parse.parse_qsl(wire.body.decode()))
        try:
            got.append(sdk.webhook_notification.parse(form["bt_signature"], form["bt_payload"]))
        except exceptions.invalid_signature_error.InvalidSignatureError:
            return web.Response(status=401)
        return web.Response()

    server = web.Server(take, access_log=None)
    sock = bind(0, listen=True)
    listener = await asyncio.get_running_loop().create_server(server, sock=sock)
    yield f"http://127.0.0.1:{sock.getsockname()[1]}", got
    listener.close()
    await server.shutdown(0.5)


async def test_the_sdk_parses_our_notices_and_refuses_forged_ones(
    receiver: tuple[str, list[Any]],
) -> None:
    url, got = receiver
    client = Client()
    made = client.sale("12.34", order="op_disputed")
    client.psp.dispute(made["legacyId"])
    client.psp.dispute(made["legacyId"], "dispute_lost")
    plan = NoticePlan(seed=1, probabilities={NoticeFault.FORGED: 1.0})
    tries = await NoticeDelivery(client.psp.outbox, url, SystemClock(), plan).flush()
    assert [(one.forged, one.status) for one in tries] == [(True, 401), (False, 200)] * 2
    assert [one.kind for one in got] == ["dispute_opened", "dispute_lost"]
    dispute = got[0].dispute
    assert (str(dispute.amount), dispute.status, dispute.transaction.id) == (
        "12.34",
        "open",
        made["legacyId"],
    )
    assert dispute.transaction.order_id == "op_disputed"


async def test_the_sdk_answers_our_challenge(receiver: tuple[str, list[Any]]) -> None:
    import aiohttp

    url, _ = receiver
    challenge = "20f9f8ed05f77439fe955c977e4c8a53"
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, params={"bt_challenge": challenge}) as reply,
    ):
        assert challenge_answered(challenge, await reply.text(), PUBLIC_KEY, PRIVATE_KEY)


def test_a_dashboards_refund_and_settlement_are_in_the_books() -> None:
    client = Client(settle_after_s=3600.0)
    made = client.sale("5.00")
    client.psp.settle(made["legacyId"])
    refund = client.psp.dashboard_refund(made["legacyId"], "2.00")
    assert msgspec.json.encode(refund)
    assert client.bank.charges()[0].refunded_minor == 200
