"""The Razorpay adapter and the Razorpay face, two independent readings of Razorpay's documents, over real sockets."""

from __future__ import annotations

import asyncio
import http.client
import urllib.parse
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aegispay.domain.errors import UnsupportedOperation
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
from aegispay.gateways.gateway import Found, GatewayCall, NotFound
from aegispay.gateways.razorpay import RazorpayGateway
from aegispay.gateways.webhooks import GatewayEvent, WebhookRejected
from aegispay.ports import SystemClock
from aegispay.sandbox.faults import FaultKind, FaultPlan
from aegispay.sandbox.razorpay_face import RazorpayPsp
from aegispay.sandbox.server import Sandbox, SandboxSettings
from aegispay.sandbox.webhooks import forge

K = OperationKind
QUICK = FaultPlan(slow_s=0.001, late_s=0.4, outage_s=0.02)
OPS = [f"op_{number:032x}" for number in range(8)]
PAYER = {
    "razorpay_email": "a@b.test",
    "razorpay_contact": "+919999999999",
    "razorpay_ip": "127.0.0.1",
    "razorpay_user_agent": "tests",
}
MANDATE = {
    "razorpay_email": "a@b.test",
    "razorpay_contact": "+919999999999",
    "razorpay_recurring": "true",
}


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    settings = SandboxSettings(more_psps=("razorpay",))
    async with Sandbox(seed=1, faults=QUICK, settings=settings) as running:
        yield running


@pytest.fixture
def psp(sandbox: Sandbox) -> RazorpayPsp:
    found = sandbox.psps["razorpay"]
    assert isinstance(found, RazorpayPsp)
    return found


@pytest.fixture
async def gateway(sandbox: Sandbox) -> AsyncIterator[RazorpayGateway]:
    one = RazorpayGateway(
        "rzp_test_sandbox",
        "razorpay_sandbox_secret",
        webhook_secrets=["razorpay_sandbox_webhook_secret"],
        base_url=f"{sandbox.faces['razorpay'].url}/v1",
        lookup_quiet_s=0.0,
    )
    await one.start()
    yield one
    await one.aclose()


def call(number: int = 1, kind: K = K.CHARGE, amount: int = 5000, **more: Any) -> GatewayCall:
    first = kind in (K.AUTHORIZE, K.CHARGE)
    values: dict[str, Any] = {
        "gateway_key": OPS[number],
        "payment_id": "pay_1",
        "merchant_id": "m",
        "amount": Money(amount, "INR"),
        "timeout_s": 5.0,
        "token": "token_visa" if first else None,
        "metadata": PAYER if first else {},
        "return_url": "https://shop.test/" if first else None,
        "started_at_us": SystemClock().now_us(),
        **more,
    }
    return GatewayCall(kind=kind, operation_id=OPS[number], **values)


def mandate(number: int = 1, kind: K = K.CHARGE, **more: Any) -> GatewayCall:
    return call(number, kind, metadata=MANDATE, customer_id="cust_1", **more)


def after(parent: str, kind: K = K.CHARGE) -> dict[str, Any]:
    return {"parent_reference": parent, "parent_kind": kind, "parent_operation_id": OPS[1]}


def reference(outcome: Outcome) -> str:
    assert isinstance(outcome, Approved), outcome
    return outcome.reference


async def visit(url: str, action: str) -> int:
    def post() -> int:
        parts = urllib.parse.urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
        connection.request("POST", parts.path, f"action={action}")
        status = connection.getresponse().status
        connection.close()
        return status

    return await asyncio.to_thread(post)


async def test_a_mandate_is_authorised_captured_and_refunded(
    gateway: RazorpayGateway, sandbox: Sandbox
) -> None:
    parent = reference(await gateway.perform(mandate(kind=K.AUTHORIZE)))
    about = after(parent, K.AUTHORIZE)
    with pytest.raises(UnsupportedOperation):
        gateway.check(call(2, K.VOID, **about))
    taken = reference(await gateway.perform(call(2, K.CAPTURE, **about)))
    again = await gateway.perform(call(2, K.CAPTURE, **about))
    assert isinstance(again, Approved)
    back = call(3, K.REFUND, 2000, capture_reference=taken, **about)
    assert reference(await gateway.perform(back)) == reference(await gateway.perform(back))
    charge = sandbox.bank.charges("pay_1")[0]
    assert (charge.charge_id, charge.reference) == (parent, OPS[1])
    assert (charge.captured_minor, charge.refunded_minor) == (5000, 2000)
    for asked in (mandate(kind=K.AUTHORIZE), call(2, K.CAPTURE, **about), back):
        found = await gateway.look_up(asked)
        assert isinstance(found, Found), (asked.kind, found)
        assert isinstance(found.outcome, Approved), (asked.kind, found)


@pytest.mark.parametrize(("action", "taken"), [("authenticate", 5000), ("fail", 0)])
async def test_the_payer_authenticates_a_saved_card(
    gateway: RazorpayGateway, sandbox: Sandbox, action: str, taken: int
) -> None:
    outcome = await gateway.perform(call())
    assert isinstance(outcome, RequiresAction), outcome
    assert outcome.action.url is not None
    assert await visit(outcome.action.url, action) == 200
    done = await gateway.perform(call(2, K.CONFIRM, **after(outcome.reference)))
    assert isinstance(done, Approved if taken else Declined), done
    assert sandbox.bank.captured_minor("pay_1") == taken


async def test_an_order_is_paid_in_checkout(
    gateway: RazorpayGateway, sandbox: Sandbox, psp: RazorpayPsp
) -> None:
    outcome = await gateway.perform(call(token="checkout"))
    assert isinstance(outcome, RequiresAction), outcome
    early = await gateway.perform(call(2, K.CONFIRM, **after(outcome.reference)))
    assert not isinstance(early, (Approved, Declined)), early
    psp.pay_order(outcome.reference)
    done = await gateway.perform(call(3, K.CONFIRM, **after(outcome.reference)))
    assert isinstance(done, Approved), done
    assert sandbox.bank.captured_minor("pay_1") == 5000


@pytest.mark.parametrize(
    ("token", "category", "code"),
    [
        ("token_insufficientfunds", DeclineCategory.SOFT, "insufficient_funds"),
        ("token_expired", DeclineCategory.HARD, "expired_card"),
        ("token_fraudulent", DeclineCategory.FRAUD, "fraud_suspected"),
    ],
)
async def test_a_decline_keeps_its_reason(
    gateway: RazorpayGateway, token: str, category: DeclineCategory, code: str
) -> None:
    outcome = await gateway.perform(mandate(token=token))
    assert isinstance(outcome, Declined), outcome
    assert (outcome.category, outcome.code) == (category, code)


async def test_a_payment_that_failed_and_is_captured_later_is_found_captured(
    gateway: RazorpayGateway, psp: RazorpayPsp, sandbox: Sandbox
) -> None:
    outcome = await gateway.perform(mandate(token="token_latesuccess"))
    assert not isinstance(outcome, Approved)
    assert isinstance(outcome, Declined), outcome
    assert outcome.category is not DeclineCategory.SOFT
    (payment,) = psp.state.documents.newest("payment")
    psp.late_success(payment["id"])
    found = await gateway.look_up(mandate(token="token_latesuccess"))
    assert isinstance(found, Found), found
    assert isinstance(found.outcome, Approved)
    assert sandbox.bank.captured_minor("pay_1") == 5000


SEEN: list[tuple[FaultKind, bool]] = [
    (FaultKind.RESET_BEFORE, False),
    (FaultKind.REPLY_LOST, True),
    (FaultKind.NO_REPLY, True),
    (FaultKind.ERROR_BEFORE, False),
    (FaultKind.ERROR_AFTER, True),
    (FaultKind.ERROR_KEPT_BEFORE, False),
    (FaultKind.ERROR_KEPT_AFTER, True),
    (FaultKind.GARBAGE, True),
    (FaultKind.TRUNCATED, True),
    (FaultKind.UNAVAILABLE, False),
]


@pytest.mark.parametrize(("fault", "taken"), SEEN)
async def test_a_fault_at_the_payment_leaves_a_doubt_that_the_look_up_ends(
    gateway: RazorpayGateway, sandbox: Sandbox, fault: FaultKind, taken: bool
) -> None:
    sandbox.faces["razorpay"].script([fault], path="/payments/create")
    seen = await gateway.perform(mandate(timeout_s=0.3 if fault is FaultKind.NO_REPLY else 5.0))
    assert isinstance(seen, InDoubt), seen
    assert sandbox.bank.captured_minor("pay_1") == 5000 * taken
    found = await gateway.look_up(mandate())
    assert isinstance(found, Found if taken else NotFound), found


@pytest.mark.parametrize("fault", [fault for fault, _ in SEEN])
async def test_a_fault_at_the_order_is_proof_that_nothing_was_executed(
    gateway: RazorpayGateway, sandbox: Sandbox, fault: FaultKind
) -> None:
    sandbox.faces["razorpay"].script([fault], path="/orders")
    assert isinstance(
        await gateway.perform(mandate(timeout_s=0.3 if fault is FaultKind.NO_REPLY else 5.0)), NotSent
    )
    assert sandbox.bank.charges() == []


@pytest.mark.parametrize("fault", [fault for fault, _ in SEEN])
async def test_a_fault_at_the_refund_is_healed_by_the_resend_and_it_is_paid_once(
    gateway: RazorpayGateway, sandbox: Sandbox, fault: FaultKind
) -> None:
    parent = reference(await gateway.perform(mandate()))
    sandbox.faces["razorpay"].script([fault], path="/refund")
    back = call(
        2,
        K.REFUND,
        2000,
        timeout_s=0.3 if fault is FaultKind.NO_REPLY else 5.0,
        capture_reference=parent,
        **after(parent),
    )
    assert isinstance(await gateway.perform(back), InDoubt)
    assert isinstance(await gateway.perform(back), Approved)
    assert sandbox.bank.refunded_minor("pay_1") == 2000


async def test_health_and_downtimes(gateway: RazorpayGateway, psp: RazorpayPsp, sandbox: Sandbox) -> None:
    assert (await gateway.health()).ok
    psp.start_downtime()
    await gateway.health()
    await sandbox.faces["razorpay"].down()
    assert not (await gateway.health()).ok


async def test_the_adapter_takes_the_notices_of_every_operation_and_no_forged_one(
    gateway: RazorpayGateway, psp: RazorpayPsp
) -> None:
    parent = reference(await gateway.perform(mandate()))
    await gateway.perform(call(2, K.REFUND, 2000, capture_reference=parent, **after(parent)))
    await gateway.perform(mandate(3, token="token_declined"))
    told: list[GatewayEvent] = []
    for notice in psp.outbox.take():
        now_us = SystemClock().now_us()
        with pytest.raises(WebhookRejected):
            gateway.parse_webhook(notice.headers, forge(notice.body), now_us)
        told += gateway.parse_webhook(notice.headers, notice.body, now_us)
    about = {(one.type, one.operation_id) for one in told}
    assert {
        ("payment.authorized", OPS[1]),
        ("payment.captured", OPS[1]),
        ("refund.processed", OPS[2]),
        ("payment.failed", OPS[3]),
    } <= about
    approved = [one for one in told if isinstance(one.outcome, Approved)]
    assert {one.kind for one in approved} == {K.CHARGE, K.REFUND}
