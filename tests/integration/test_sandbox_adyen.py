"""The official Adyen SDK against the Adyen face, over loopback: a client that we did not write; and its webhooks."""

from __future__ import annotations

import asyncio
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from aegispay.ports import SystemClock
from aegispay.sandbox.adyen_face import API_KEY, HMAC_KEY, MERCHANT_ACCOUNT
from aegispay.sandbox.face import bind, wire_request
from aegispay.sandbox.process import SandboxProcess
from aegispay.sandbox.server import Sandbox, SandboxSettings
from aegispay.sandbox.webhooks import NoticeDelivery, NoticeFault, NoticePlan
from tests.fakes.psp_data import psp_document
from tests.unit.test_sandbox_adyen_psp import Client, payment

Adyen = pytest.importorskip("Adyen", reason="the official Adyen SDK is not installed")
util = pytest.importorskip("Adyen.util")
SETTINGS = SandboxSettings(more_psps=("adyen",))


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    path: Path = tmp_path_factory.mktemp("bank") / "bank.db"
    with SandboxProcess(path, seed=3, synchronous="OFF", settings=SETTINGS) as running:
        yield running


@pytest.fixture
def checkout(sandbox: SandboxProcess) -> Any:
    """The SDK's Checkout API. It has no option for another host, so the one that it works out is exchanged."""
    sandbox.clear_faults()
    adyen = Adyen.Adyen(xapikey=API_KEY, platform="test")
    client = adyen.client
    work_out = client._determine_api_url

    def on_loopback(platform: str, endpoint: str) -> str:
        return work_out(platform, endpoint).replace("https://checkout-test.adyen.com", sandbox.url("adyen"))

    client._determine_api_url = on_loopback
    return adyen.checkout


def pay(checkout: Any, key: str | None = None, **more: Any) -> Any:
    headers = {"idempotency_key": key} if key else {}
    return checkout.payments_api.payments(payment(**more), **headers).message


def modify(checkout: Any, verb: str, id_: str, value: int | None = None) -> Any:
    body: dict[str, Any] = {"merchantAccount": MERCHANT_ACCOUNT, "reference": f"op_{verb}"}
    if value is not None:
        body["amount"] = {"currency": "EUR", "value": value}
    return getattr(checkout.modifications_api, verb)(body, id_).message


def test_pay_capture_and_refund(checkout: Any, sandbox: SandboxProcess) -> None:
    paid = pay(checkout, metadata={"aegispay_payment": "pay_sdk_1"})
    assert paid["resultCode"] == "Authorised"
    captured = modify(checkout, "capture_authorised_payment", paid["pspReference"], 800)
    refunded = modify(checkout, "refund_captured_payment", paid["pspReference"], 300)
    assert (captured["status"], refunded["status"]) == ("received", "received")
    [charge] = sandbox.bank.charges("pay_sdk_1")
    assert (charge.captured_minor, charge.released_minor, charge.refunded_minor) == (800, 200, 300)


def test_cancel_by_theirs_by_ours_and_reverse(checkout: Any, sandbox: SandboxProcess) -> None:
    first, second, third = (
        pay(checkout, reference=f"op_sdk_{n}", metadata={"payment_id": f"pay_cancel_{n}"}) for n in range(3)
    )
    modify(checkout, "cancel_authorised_payment_by_psp_reference", first["pspReference"])
    body = {"merchantAccount": MERCHANT_ACCOUNT, "paymentReference": "op_sdk_1", "reference": "c1"}
    answer = checkout.modifications_api.cancel_authorised_payment(body).message
    assert (answer["status"], answer["paymentReference"]) == ("received", second["merchantReference"])
    modify(checkout, "refund_or_cancel_payment", third["pspReference"])
    assert [sandbox.bank.charges(f"pay_cancel_{n}")[0].held_minor for n in range(3)] == [0, 0, 0]


def test_a_replay_is_the_same_payment(checkout: Any, sandbox: SandboxProcess) -> None:
    metadata = {"payment_id": "pay_replayed"}
    assert pay(checkout, "sdk-1", metadata=metadata) == pay(checkout, "sdk-1", metadata=metadata)
    assert len(sandbox.bank.charges("pay_replayed")) == 1


def test_a_payer_authenticates_on_the_page_and_details_decide(checkout: Any, sandbox: SandboxProcess) -> None:
    paid = pay(checkout, number="4212345678901237", metadata={"payment_id": "pay_3ds"})
    assert paid["resultCode"] == "RedirectShopper"

    class NoRedirect(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    opener = urllib.request.build_opener(NoRedirect)
    with pytest.raises(urllib.error.HTTPError) as caught:
        opener.open(paid["action"]["url"], b"action=authenticate", timeout=5)
    with caught.value as answer:
        query = urllib.parse.urlsplit(answer.headers["location"]).query
    details = {"details": {"redirectResult": dict(urllib.parse.parse_qsl(query))["redirectResult"]}}
    done = checkout.payments_api.payments_details(details).message
    assert (done["resultCode"], done["pspReference"]) == ("Authorised", paid["pspReference"])
    assert sandbox.bank.authorized_minor("pay_3ds") == 1000


def test_errors_arrive_as_the_sdks_own(checkout: Any, sandbox: SandboxProcess) -> None:
    assert pay(checkout, holder="DECLINED")["refusalReasonCode"] == "2"
    exceptions = Adyen.exceptions
    with pytest.raises(exceptions.AdyenAPIUnprocessableEntity) as unprocessable:
        pay(checkout, returnUrl="")
    assert unprocessable.value.error_code == "14_030"
    with pytest.raises(exceptions.AdyenAPIInvalidPermission):
        pay(checkout, merchantAccount="Other")
    sandbox.script("adyen", ["rate_limited", "unavailable", "error_kept_after"], path="/payments")
    for status in (429, 503, 500):
        with pytest.raises(exceptions.AdyenAPIResponseError) as broken:
            pay(checkout, "sdk-broken")
        assert broken.value.status_code == status
    sandbox.script("adyen", ["reply_lost"], path="/payments")
    with pytest.raises(Exception, match=r"(?i)connection|disconnected|reset"):
        pay(checkout, "sdk-lost", metadata={"payment_id": "pay_lost"})
    assert pay(checkout, "sdk-lost", metadata={"payment_id": "pay_lost"})["resultCode"] == "Authorised"
    assert len(sandbox.bank.charges("pay_lost")) == 1


def test_health_is_a_call_for_payment_methods(checkout: Any) -> None:
    found = checkout.payments_api.payment_methods({"merchantAccount": MERCHANT_ACCOUNT}).message
    assert found["paymentMethods"][0]["type"] == "scheme"


def test_every_recorded_request_of_the_sdk_is_understood() -> None:
    """What the SDK was once seen to send is routed and read here, up to its merchant account and its payment."""
    client = Client()
    client.psp.merchant_account = "M"
    asked = 0
    for name, scenario in psp_document("sdk_wire/official_sdk_requests.json").items():
        if not name.startswith("adyen."):
            continue
        for sent in scenario["requests"]:
            body = msgspec.json.decode(sent["body"])
            path = sent["path"].removeprefix("/v72")
            reply = client.raw(path, body, api_key=API_KEY)
            asked += 1
            code = msgspec.json.decode(reply.body).get("errorCode")
            # The recorded payment has a card without a number; the others name a payment that is not here.
            assert (reply.status, code) in ((422, "101"), (422, "167"), (201, None)), name
    assert asked == 6


# --- webhooks ---------------------------------------------------------------------------------------------------


@pytest.fixture
async def receiver() -> AsyncIterator[tuple[str, list[bytes]]]:
    """A merchant's endpoint that keeps what the SDK holds to be genuine, and refuses the rest."""
    got: list[bytes] = []

    async def take(request: web.BaseRequest) -> web.StreamResponse:
        wire = await wire_request(request)
        genuine = util.is_valid_hmac_notification(msgspec.json.decode(wire.body), HMAC_KEY)
        if genuine:
            got.append(wire.body)
        return web.Response(status=200 if genuine else 401, text="[accepted]")

    server = web.Server(take, access_log=None)
    sock = bind(0, listen=True)
    listener = await asyncio.get_running_loop().create_server(server, sock=sock)
    yield f"http://127.0.0.1:{sock.getsockname()[1]}", got
    listener.close()
    await server.shutdown(0.5)


async def test_the_sdk_verifies_our_notices_and_refuses_forged_ones(
    receiver: tuple[str, list[bytes]],
) -> None:
    url, got = receiver
    client = Client()
    id_ = client.pay()["pspReference"]
    client.modify(id_, "captures", 1000)
    client.modify(id_, "refunds", 300)
    plan = NoticePlan(seed=1, probabilities={NoticeFault.FORGED: 1.0})
    tries = await NoticeDelivery(client.psp.outbox, url, SystemClock(), plan).flush()
    forged = [one.status for one in tries if one.forged]
    true = [one.status for one in tries if not one.forged]
    assert true == [200, 200, 200]
    # The last digit of a body stands in the signature, in a signed field, or in `eventDate`, which nothing signs.
    assert len(forged) == 3
    assert 401 in forged
    assert len(got) == forged.count(200) + 3


async def test_notices_reach_the_receiver_over_the_running_sandbox(
    receiver: tuple[str, list[bytes]],
) -> None:
    url, got = receiver
    async with Sandbox(seed=1, synchronous="OFF", settings=SETTINGS) as sandbox:
        client = Client()
        psp = sandbox.psps["adyen"]
        ticket = psp.admit(client.request("/payments", payment()))
        psp.execute(ticket)  # type: ignore[arg-type]
        plan = NoticePlan(seed=1, probabilities={NoticeFault.DUPLICATE: 1.0})
        await NoticeDelivery(psp.outbox, url, SystemClock(), plan).flush()
    assert len(got) == 2
    assert got[0] == got[1]
