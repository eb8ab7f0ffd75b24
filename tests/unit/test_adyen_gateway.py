"""The Adyen adapter over a real connection: what it sends, what it refuses, and that its keys never show."""

from __future__ import annotations

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
from aegispay.domain.outcomes import Approved, InDoubt, NotSent, Pending
from aegispay.gateways.adyen import TEST_URL, AdyenGateway, live_url
from aegispay.gateways.gateway import LookupFailed
from tests.fakes.adyen_calls import ACCOUNT, API_KEY, PSP, call
from tests.fakes.raw_server import Peer, answer, raw_server, refused_port

K = OperationKind
HMAC_KEY = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056"


class Seen:
    """One request as the server got it."""

    def __init__(self, raw: bytes):
        head, _, body = raw.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        self.method, self.path, _ = lines[0].split(" ")
        self.headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:])}
        self.body = json.loads(body)


@asynccontextmanager
async def adyen(
    route: Callable[[Seen], Any], **options: Any
) -> AsyncIterator[tuple[AdyenGateway, list[Seen]]]:
    seen: list[Seen] = []

    async def script(peer: Peer) -> None:
        while raw := await peer.request():
            seen.append(Seen(raw))
            said = route(seen[-1])
            status, body = said if isinstance(said, tuple) else (200, said)
            await peer.send(answer(json.dumps(body).encode(), f"{status} Said"))

    async with raw_server(script) as server:
        gateway = AdyenGateway(API_KEY, ACCOUNT, base_url=server.url("/v71"), **options)
        await gateway.start()
        try:
            yield gateway, seen
        finally:
            await gateway.aclose()


def received(one: Seen) -> Any:
    parts = one.path.split("/")
    about = (
        {"paymentPspReference": parts[3]}
        if len(parts) > 4
        else {"paymentReference": one.body["paymentReference"]}
    )
    return 201, {
        "status": "received",
        "pspReference": "8836226171638872",
        "reference": one.body["reference"],
        **about,
    }


async def test_a_charge_is_one_request_under_its_gateway_key():
    made = call()
    body = {"resultCode": "Authorised", "pspReference": PSP, "merchantReference": made.operation_id}
    async with adyen(lambda _: body) as (gateway, seen):
        assert await gateway.perform(made) == Approved(reference=PSP, amount_minor=1000)
    assert [(one.method, one.path) for one in seen] == [("POST", "/v71/payments")]
    assert seen[0].headers["idempotency-key"] == made.gateway_key
    assert seen[0].headers["x-api-key"] == API_KEY


async def test_each_operation_goes_to_its_own_address_under_its_own_key():
    calls = [
        call(K.CAPTURE),
        call(K.VOID),
        call(K.VOID, parent_kind=K.CHARGE),
        call(K.VOID, parent_reference="op_1"),
        call(K.REFUND),
    ]
    async with adyen(received) as (gateway, seen):
        for made in calls:
            assert await gateway.perform(made) == Pending(reference="8836226171638872", reason="received")
    assert [one.path for one in seen] == [
        f"/v71/payments/{PSP}/captures",
        f"/v71/payments/{PSP}/cancels",
        f"/v71/payments/{PSP}/reversals",
        "/v71/cancels",
        f"/v71/payments/{PSP}/refunds",
    ]
    assert [one.headers["idempotency-key"] for one in seen] == [made.gateway_key for made in calls]


async def test_several_captures_and_refunds_are_told_apart_by_their_references():
    async with adyen(received, multi_capture=True) as (gateway, seen):
        for made in (
            call(K.CAPTURE, "4.00 EUR", final=False),
            call(K.CAPTURE, "6.00 EUR"),
            call(K.REFUND, "1.00 EUR"),
        ):
            assert isinstance(await gateway.perform(made), Pending)
    assert [one.body["amount"]["value"] for one in seen] == [400, 600, 100]
    assert len({one.body["reference"] for one in seen}) == 3


async def test_a_confirmation_sends_what_the_payer_brought_back():
    made = call(K.CONFIRM)
    body = {"resultCode": "Authorised", "pspReference": PSP, "merchantReference": made.parent_operation_id}
    async with adyen(lambda _: body) as (gateway, seen):
        assert await gateway.perform(made) == Approved(reference=PSP, amount_minor=1000)
    assert (seen[0].path, seen[0].body) == (
        "/v71/payments/details",
        {"details": {"redirectResult": "eyJ0cmFu"}},
    )


async def test_trap_a_resend_is_the_same_bytes_under_the_same_key_at_the_same_address():
    made = call(metadata={"order": "7"})
    async with adyen(lambda _: {"resultCode": "Received", "pspReference": PSP}) as (gateway, seen):
        await gateway.charge(made)
        await gateway.charge(made)
    first, second = seen
    assert first.body == second.body
    for name in ("idempotency-key", "host"):
        assert first.headers[name] == second.headers[name]


async def test_trap_keys_are_per_region_so_an_adapter_never_leaves_its_address():
    """Nothing is sent when its one address is down; there is no second one to be charged again at."""
    gateway = AdyenGateway(API_KEY, ACCOUNT, base_url=f"http://127.0.0.1:{refused_port()}/v71")
    try:
        assert await gateway.charge(call()) == NotSent(reason="connection_refused")
    finally:
        await gateway.aclose()


async def test_trap_there_is_no_get_payment_so_no_look_up_is_declared():
    async with adyen(received) as (gateway, seen):
        assert not gateway.capabilities.lookup_by_reference
        assert await gateway.look_up(call()) == LookupFailed(reason="not_supported")
    assert not seen


async def test_a_cancel_by_our_reference_is_only_ever_pending():
    made = call()
    async with adyen(received) as (gateway, seen):
        assert not gateway.capabilities.cancel_by_reference
        outcome = await gateway.cancel_by_reference(made)
        assert outcome == Pending(reference="8836226171638872", reason="received")
        with pytest.raises(UnsupportedOperation):
            await gateway.cancel_by_reference(call(K.REFUND))
    assert seen[0].path == "/v71/cancels"
    assert seen[0].body["paymentReference"] == made.operation_id
    assert seen[0].headers["idempotency-key"] != made.gateway_key


async def test_a_call_that_adyen_can_never_take_is_not_sent():
    async with adyen(received) as (gateway, seen):
        for made in (call(token=None), call(K.CAPTURE, final=False), call(K.REFUND, parent_reference="op_1")):
            with pytest.raises(InvalidRequest):
                await gateway.perform(made)
    assert not seen


async def test_a_connection_that_breaks_after_the_request_is_a_doubt():
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.reset()

    async with raw_server(script) as server:
        gateway = AdyenGateway(API_KEY, ACCOUNT, base_url=server.url(""))
        for made in (call(), call(K.CAPTURE), call(K.CONFIRM)):
            assert await gateway.perform(made) == InDoubt(reason="reset")
        assert await gateway.cancel_by_reference(call()) == InDoubt(reason="reset")
        await gateway.aclose()


@pytest.mark.parametrize(
    ("status", "ok"), [(200, True), (401, False), (403, False), (429, False), (500, False)]
)
async def test_health_asks_for_the_payment_methods(status, ok):
    async with adyen(lambda _: (status, {})) as (gateway, seen):
        found = await gateway.health()
    assert found.ok is ok and (found.detail == "") is ok
    assert (seen[0].path, seen[0].body) == ("/v71/paymentMethods", {"merchantAccount": ACCOUNT})


async def test_health_says_that_adyen_was_not_reached():
    gateway = AdyenGateway(API_KEY, ACCOUNT, base_url=f"http://127.0.0.1:{refused_port()}")
    found = await gateway.health()
    await gateway.aclose()
    assert not found.ok and "connection_refused" in found.detail


async def test_secrets_are_shown_nowhere(caplog):
    stream = io.StringIO()
    logging.getLogger().addHandler(handler := logging.StreamHandler(stream))
    caplog.set_level(logging.DEBUG)
    async with adyen(received, webhook_keys=[HMAC_KEY]) as (gateway, _):
        await gateway.perform(call(K.CAPTURE))
        shown = repr(gateway) + str(vars(gateway)) + str(vars(gateway._client)) + repr(gateway._webhooks)
        with pytest.raises(TypeError):
            pickle.dumps(gateway._client)
    logging.getLogger().removeHandler(handler)
    for secret in (API_KEY, HMAC_KEY, HMAC_KEY.lower()):
        assert secret not in shown + stream.getvalue() + caplog.text


@pytest.mark.parametrize(
    "wrong",
    [
        {"api_key": ""},
        {"api_key": "key\n"},
        {"api_key": None},
        {"api_key": "k" * 513},
        {"merchant_account": ""},
        {"merchant_account": "a b"},
        {"base_url": "http://checkout-test.adyen.com/v71"},
        {"base_url": "https://user:pass@checkout-test.adyen.com"},
        {"base_url": "ftp://x"},
        {"webhook_keys": [HMAC_KEY[:-1]]},
        {"webhook_keys": ["g" * 64]},
        {"webhook_keys": HMAC_KEY},
    ],
)
def test_what_cannot_be_right_is_refused_without_quoting_it(wrong):
    with pytest.raises(ConfigError) as caught:
        AdyenGateway(**{"api_key": API_KEY, "merchant_account": ACCOUNT, **wrong})
    assert API_KEY not in str(caught.value) and HMAC_KEY[:-1] not in str(caught.value)


def test_the_live_address_has_the_accounts_own_prefix():
    assert live_url("1797a841fbb37ca7-AdyenDemo") == (
        "https://1797a841fbb37ca7-AdyenDemo-checkout-live.adyenpayments.com/checkout/v71"
    )
    for wrong in ("", "a.b", "x/../y", "evil.example/?"):
        with pytest.raises(ConfigError):
            live_url(wrong)
    assert TEST_URL.startswith("https://checkout-test.adyen.com/")


def test_what_is_declared():
    capabilities = AdyenGateway(API_KEY, ACCOUNT).capabilities
    assert capabilities.stable_key and capabilities.stable_key_ttl_s < 7 * 86_400
    assert not capabilities.multi_capture and not capabilities.tokenize and not capabilities.raw_card
    assert AdyenGateway(API_KEY, ACCOUNT, multi_capture=True).capabilities.multi_capture
