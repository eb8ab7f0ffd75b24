"""The PayPal adapter and the PayPal face, two independent readings of PayPal's documents, over real sockets."""

from __future__ import annotations

import asyncio
import base64
import http.client
import urllib.parse
import urllib.request
import zlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from aegispay.domain.events import OperationKind
from aegispay.domain.money import Money
from aegispay.domain.outcomes import (
    Approved,
    DeclineCategory,
    Declined,
    InDoubt,
    NotSent,
    Outcome,
    RequiresAction,
)
from aegispay.gateways.gateway import Found, GatewayCall, LookupFailed, NotFound
from aegispay.gateways.paypal import WALLET, PayPalGateway
from aegispay.gateways.webhooks import WebhookRejected
from aegispay.ports import SystemClock
from aegispay.sandbox.faults import FaultKind, FaultPlan
from aegispay.sandbox.server import Sandbox, SandboxSettings
from aegispay.sandbox.webhooks import forge

K = OperationKind
OPS = [f"op_{number:032x}" for number in range(6)]
QUICK = FaultPlan(slow_s=0.001, late_s=0.4, outage_s=0.02)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    settings = SandboxSettings(more_psps=("paypal",))
    async with Sandbox(seed=1, faults=QUICK, settings=settings) as running:
        yield running


@pytest.fixture
async def gateway(sandbox: Sandbox) -> AsyncIterator[PayPalGateway]:
    one = PayPalGateway(
        "paypal-sandbox-client",
        "paypal-sandbox-secret",
        base_url=sandbox.faces["paypal"].url,
        webhook_ids=["WHSANDBOX0001"],
    )
    await one.start()
    yield one
    await one.aclose()


def call(operation: str = "op_1", kind: K = K.CHARGE, amount: int = 1000, **more: Any) -> GatewayCall:
    first = kind in (K.AUTHORIZE, K.CHARGE)
    values: dict[str, Any] = {
        "gateway_key": operation,
        "payment_id": "pay_1",
        "merchant_id": "m",
        "amount": Money(amount, "USD"),
        "timeout_s": 5.0,
        "token": "card:visa" if first else None,
        "return_url": "https://shop.test/" if first else None,
        "started_at_us": SystemClock().now_us(),
        **more,
    }
    return GatewayCall(kind=kind, operation_id=operation, **values)


def reference(outcome: Outcome) -> str:
    assert isinstance(outcome, Approved), outcome
    return outcome.reference


def after(parent: str, kind: K = K.CHARGE) -> dict[str, Any]:
    return {"parent_reference": parent, "parent_kind": kind, "parent_operation_id": "op_1"}


async def visit(url: str, form: str) -> str:
    """Acts as the payer's browser; returns where it is sent."""

    def post() -> str:
        parts = urllib.parse.urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
        connection.request("POST", parts.path, form)
        location = connection.getresponse().getheader("location") or ""
        connection.close()
        return location

    return await asyncio.to_thread(post)


async def test_authorize_two_captures_a_void_and_a_refund(gateway: PayPalGateway, sandbox: Sandbox) -> None:
    parent = reference(await gateway.perform(call(kind=K.AUTHORIZE)))
    about = after(parent, K.AUTHORIZE)
    first = reference(await gateway.perform(call("op_2", K.CAPTURE, 300, final=False, **about)))
    reference(await gateway.perform(call("op_3", K.CAPTURE, 200, final=False, **about)))
    reference(await gateway.perform(call("op_4", K.VOID, 500, **about)))
    back = call("op_5", K.REFUND, 100, capture_reference=first, **about)
    assert reference(await gateway.perform(back))
    charge = sandbox.bank.charges()[0]
    assert charge.charge_id == parent
    assert (charge.reference, charge.captured_minor, charge.released_minor, charge.refunded_minor) == (
        "op_1",
        500,
        500,
        100,
    )
    movements = [(one.reference, one.amount_minor) for one in sandbox.bank.movements()]
    assert ("op_2", 300) in movements
    assert ("op_5", 100) in movements


async def test_every_operation_is_found_again(gateway: PayPalGateway) -> None:
    parent = reference(await gateway.perform(call(kind=K.AUTHORIZE)))
    about = after(parent, K.AUTHORIZE)
    taken = reference(await gateway.perform(call("op_2", K.CAPTURE, 300, final=False, **about)))
    back = call("op_3", K.REFUND, 100, capture_reference=taken, **about)
    await gateway.perform(back)
    for asked in (
        call(kind=K.AUTHORIZE, own_reference=parent),
        call("op_2", K.CAPTURE, 300, final=False, **about),
        back,
    ):
        found = await gateway.look_up(asked)
        assert isinstance(found, Found), (asked.kind, found)
        assert isinstance(found.outcome, Approved), (asked.kind, found)
    void = call("op_4", K.VOID, 700, **about)
    assert isinstance(await gateway.look_up(void), NotFound)
    await gateway.perform(void)
    assert isinstance(await gateway.look_up(void), Found)
    assert isinstance(await gateway.perform(void), Approved)


async def test_a_declined_capture_under_a_201_is_a_decline(gateway: PayPalGateway, sandbox: Sandbox) -> None:
    outcome = await gateway.perform(call(token="card:insufficientfunds"))
    assert isinstance(outcome, Declined)
    assert (outcome.category, outcome.code) == (DeclineCategory.SOFT, "insufficient_funds")
    stolen = await gateway.perform(call("op_2", token="card:stolencard"))
    assert isinstance(stolen, Declined)
    assert stolen.category is not DeclineCategory.SOFT
    assert sandbox.bank.charges() == []


@pytest.mark.parametrize("token", [WALLET, "card:threeds"])
async def test_the_payer_approves(gateway: PayPalGateway, sandbox: Sandbox, token: str) -> None:
    outcome = await gateway.perform(call(token=token))
    assert isinstance(outcome, RequiresAction), outcome
    assert outcome.action.url is not None
    confirm = call("op_2", K.CONFIRM, **after(outcome.reference))
    assert isinstance(await gateway.perform(confirm), RequiresAction)
    assert (await visit(outcome.action.url, "action=authenticate")).startswith("https://shop.test/?token=")
    assert isinstance(await gateway.perform(call("op_3", K.CONFIRM, **after(outcome.reference))), Approved)
    again = await gateway.perform(call("op_4", K.CONFIRM, **after(outcome.reference)))
    assert isinstance(again, Approved)
    assert sandbox.bank.totals()["USD"].captured_minor == 1000


async def test_an_order_that_was_never_approved_is_abandoned(
    gateway: PayPalGateway, sandbox: Sandbox
) -> None:
    outcome = await gateway.perform(call(token=WALLET))
    assert isinstance(outcome, RequiresAction)
    assert isinstance(await gateway.perform(call("op_2", K.VOID, **after(outcome.reference))), Approved)
    assert sandbox.bank.charges() == []


async def test_a_wallet_that_is_declined_asks_for_another_instrument(
    gateway: PayPalGateway, sandbox: Sandbox
) -> None:
    outcome = await gateway.perform(call(token=WALLET))
    assert isinstance(outcome, RequiresAction)
    assert outcome.action.url is not None
    await visit(outcome.action.url, "action=authenticate&funding=declined")
    refused = await gateway.perform(call("op_2", K.CONFIRM, **after(outcome.reference)))
    assert isinstance(refused, (Declined, RequiresAction))
    assert sandbox.bank.charges() == []


async def test_a_token_that_expires_is_fetched_again(gateway: PayPalGateway, sandbox: Sandbox) -> None:
    psp: Any = sandbox.psps["paypal"]
    psp.token_ttl_s = 0.0
    await gateway.health()
    psp.token_ttl_s = 32_400.0
    assert isinstance(await gateway.perform(call()), Approved)


SEEN: list[tuple[FaultKind, type[Any], bool]] = [
    (FaultKind.SLOW, Approved, True),
    (FaultKind.RESET_BEFORE, InDoubt, False),
    (FaultKind.REPLY_LOST, InDoubt, True),
    (FaultKind.NO_REPLY, InDoubt, True),
    (FaultKind.DUPLICATE, Approved, True),
    (FaultKind.ERROR_BEFORE, InDoubt, False),
    (FaultKind.ERROR_AFTER, InDoubt, True),
    (FaultKind.ERROR_KEPT_BEFORE, InDoubt, False),
    (FaultKind.ERROR_KEPT_AFTER, InDoubt, True),
    (FaultKind.GARBAGE, InDoubt, True),
    (FaultKind.TRUNCATED, InDoubt, True),
    (FaultKind.RATE_LIMITED, NotSent, False),
    (FaultKind.UNAVAILABLE, InDoubt, False),
]


@pytest.mark.parametrize(("fault", "outcome", "taken"), SEEN)
async def test_each_fault_is_seen_as_what_it_is_and_a_resend_takes_the_money_once(
    gateway: PayPalGateway, sandbox: Sandbox, fault: FaultKind, outcome: type[Any], taken: bool
) -> None:
    assert (await gateway.health()).ok
    sandbox.faces["paypal"].script([fault], path="/v2/checkout/orders")
    seen = await gateway.perform(call(timeout_s=0.3 if fault is FaultKind.NO_REPLY else 5.0))
    assert isinstance(seen, outcome), seen
    assert len(sandbox.bank.charges()) == taken
    assert isinstance(await gateway.perform(call()), Approved)
    assert sandbox.bank.totals()["USD"].captured_minor == 1000


async def test_a_request_that_lands_late_is_one_with_its_resend(
    gateway: PayPalGateway, sandbox: Sandbox
) -> None:
    assert (await gateway.health()).ok
    sandbox.faces["paypal"].script([FaultKind.LATE], path="/v2/checkout/orders")
    assert isinstance(await gateway.perform(call(timeout_s=0.2)), InDoubt)
    assert isinstance(await gateway.perform(call()), Approved)
    await sandbox.settle()
    assert sandbox.bank.totals()["USD"].captured_minor == 1000


async def test_a_payment_whose_id_never_came_back_is_found_in_the_list_of_transactions(
    sandbox: Sandbox,
) -> None:
    searching = PayPalGateway(
        "paypal-sandbox-client",
        "paypal-sandbox-secret",
        base_url=sandbox.faces["paypal"].url,
        transaction_search=True,
    )
    await searching.start()
    psp: Any = sandbox.psps["paypal"]
    await searching.health()
    sandbox.faces["paypal"].script([FaultKind.REPLY_LOST], path="/v2/checkout/orders")
    asked = call(OPS[1])
    assert isinstance(await searching.perform(asked), InDoubt)
    found = await searching.look_up(asked)
    assert isinstance(found, Found), found
    assert isinstance(found.outcome, Approved)
    psp.reports.lag_s = 10_000.0
    assert isinstance(await searching.look_up(asked), LookupFailed)
    psp.reports.lag_s = 0.0
    long_ago = SystemClock().now_us() - 2 * 3_600_000_000
    assert isinstance(await searching.look_up(call(OPS[2], started_at_us=long_ago)), NotFound)
    await searching.aclose()


# --- webhooks -----------------------------------------------------------------------------------------------


def get(url: str) -> bytes:
    with urllib.request.urlopen(url) as reply:
        return bytes(reply.read())


async def test_a_notice_verifies_with_nothing_but_its_certificate(
    gateway: PayPalGateway, sandbox: Sandbox
) -> None:
    await gateway.perform(call())
    (notice,) = sandbox.psps["paypal"].outbox.take()
    pem = await asyncio.to_thread(get, notice.headers["paypal-cert-url"])
    key = x509.load_pem_x509_certificate(pem).public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    parts = [notice.headers[f"paypal-transmission-{name}"] for name in ("id", "time")]
    text = "|".join([*parts, "WHSANDBOX0001", str(zlib.crc32(notice.body))])
    signature = base64.b64decode(notice.headers["paypal-transmission-sig"])
    key.verify(signature, text.encode(), padding.PKCS1v15(), hashes.SHA256())


async def test_the_adapter_takes_the_notices_of_every_operation_and_no_forged_one(
    gateway: PayPalGateway, sandbox: Sandbox
) -> None:
    parent = reference(await gateway.perform(call(OPS[1], kind=K.AUTHORIZE)))
    about = after(parent, K.AUTHORIZE)
    taken = reference(await gateway.perform(call(OPS[2], K.CAPTURE, 300, final=False, **about)))
    await gateway.perform(call(OPS[3], K.REFUND, 100, capture_reference=taken, **about))
    await gateway.perform(call(OPS[4], K.VOID, 700, **about))
    await gateway.perform(call(OPS[5], token="card:declined"))
    told: dict[str, str | None] = {}
    for notice in sandbox.psps["paypal"].outbox.take():
        await gateway.prepare_webhook(notice.headers)
        now_us = SystemClock().now_us()
        with pytest.raises(WebhookRejected):
            gateway.parse_webhook(notice.headers, forge(notice.body), now_us)
        (event,) = gateway.parse_webhook(notice.headers, notice.body, now_us)
        told[event.type] = event.operation_id
    # PayPal's notice of a void does not name it.
    assert told == {
        "PAYMENT.AUTHORIZATION.CREATED": OPS[1],
        "PAYMENT.CAPTURE.COMPLETED": OPS[2],
        "PAYMENT.CAPTURE.REFUNDED": OPS[3],
        "PAYMENT.AUTHORIZATION.VOIDED": None,
        "PAYMENT.CAPTURE.DENIED": OPS[5],
    }


async def test_the_psp_itself_verifies_a_notice(gateway: PayPalGateway, sandbox: Sandbox) -> None:
    psp: Any = sandbox.psps["paypal"]
    await gateway.perform(call())
    (notice,) = psp.outbox.take()
    head = {name.removeprefix("paypal-").replace("-", "_"): text for name, text in notice.headers.items()}
    asked: dict[str, Any] = {
        name: head[name]
        for name in ("auth_algo", "cert_url", "transmission_id", "transmission_sig", "transmission_time")
    }
    asked["webhook_id"] = "WHSANDBOX0001"
    for body, status in ((notice.body, "SUCCESS"), (forge(notice.body), "FAILURE")):
        raw = msgspec.json.encode({**asked, "webhook_event": msgspec.Raw(body)})
        token = await asyncio.to_thread(_token, psp.base_url)
        request = urllib.request.Request(
            f"{psp.base_url}/v1/notifications/verify-webhook-signature",
            data=raw,
            headers={"authorization": f"Bearer {token}", "content-type": "application/json"},
        )
        reply = await asyncio.to_thread(lambda sent=request: urllib.request.urlopen(sent).read())
        assert msgspec.json.decode(reply) == {"verification_status": status}


def _token(base_url: str) -> str:
    basic = base64.b64encode(b"paypal-sandbox-client:paypal-sandbox-secret").decode()
    request = urllib.request.Request(
        f"{base_url}/v1/oauth2/token",
        data=b"grant_type=client_credentials",
        headers={"authorization": f"Basic {basic}"},
    )
    with urllib.request.urlopen(request) as reply:
        return str(msgspec.json.decode(reply.read())["access_token"])
