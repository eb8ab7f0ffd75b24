"""The Adyen adapter and the Adyen face, two independent readings of Adyen's documents, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from aegispay.domain.events import OperationKind
from aegispay.domain.money import Money
from aegispay.domain.outcomes import Approved, Declined, InDoubt, NotSent, Outcome, Pending, RequiresAction
from aegispay.gateways.adyen import AdyenGateway
from aegispay.gateways.gateway import GatewayCall
from aegispay.gateways.webhooks import GatewayEvent, WebhookRejected
from aegispay.ports import SystemClock
from aegispay.sandbox.adyen_face import API_KEY, HMAC_KEY, MERCHANT_ACCOUNT
from aegispay.sandbox.adyen_notices import batched
from aegispay.sandbox.adyen_tables import STORED_METHODS
from aegispay.sandbox.faults import FaultKind, FaultPlan
from aegispay.sandbox.server import Sandbox, SandboxSettings
from aegispay.sandbox.webhooks import Notice, forge
from aegispay.testing.sandbox_rigs import sandbox_payer

K = OperationKind
QUICK = FaultPlan(slow_s=0.001, late_s=0.05, outage_s=0.02)
OPS = [f"op_{number:032x}" for number in range(10)]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(seed=1, faults=QUICK, settings=SandboxSettings(more_psps=("adyen",))) as running:
        yield running


@pytest.fixture
async def gateway(sandbox: Sandbox) -> AsyncIterator[AdyenGateway]:
    url = f"{sandbox.faces['adyen'].url}/v71"
    one = AdyenGateway(API_KEY, MERCHANT_ACCOUNT, base_url=url, webhook_keys=[HMAC_KEY])
    await one.start()
    yield one
    await one.aclose()


def call(number: int = 1, kind: K = K.CHARGE, amount: str = "10.00 EUR", **more: Any) -> GatewayCall:
    first = kind in (K.AUTHORIZE, K.CHARGE)
    values: dict[str, Any] = {
        "gateway_key": OPS[number],
        "payment_id": "pay_1",
        "merchant_id": "m",
        "amount": Money.parse(*amount.split()),
        "timeout_s": 5.0,
        "token": "stored_visa" if first else None,
        "customer_id": "shopper-7",
        "return_url": "https://shop.test/back",
        "started_at_us": SystemClock().now_us(),
        **more,
    }
    return GatewayCall(kind=kind, operation_id=OPS[number], **values)


def after(outcome: Outcome, kind: K = K.AUTHORIZE) -> dict[str, Any]:
    assert isinstance(outcome, Approved), outcome
    return {"parent_reference": outcome.reference, "parent_kind": kind, "parent_operation_id": OPS[1]}


def notices(sandbox: Sandbox) -> list[Notice]:
    return sandbox.psps["adyen"].outbox.take()


def news(gateway: AdyenGateway, sandbox: Sandbox) -> list[GatewayEvent]:
    now_us = SystemClock().now_us()
    return [
        event for one in notices(sandbox) for event in gateway.parse_webhook(one.headers, one.body, now_us)
    ]


async def test_what_is_only_received_is_approved_by_its_notice(
    gateway: AdyenGateway, sandbox: Sandbox
) -> None:
    paid = await gateway.perform(call(1, K.AUTHORIZE))
    for number, kind, amount in (
        (2, K.CAPTURE, "4.00 EUR"),
        (3, K.REFUND, "1.50 EUR"),
        (4, K.VOID, "10.00 EUR"),
    ):
        outcome = await gateway.perform(call(number, kind, amount, **after(paid)))
        assert isinstance(outcome, Pending)
    told = {event.operation_id: event for event in news(gateway, sandbox)}
    outcomes = [told[operation].outcome for operation in OPS[1:5]]
    assert [type(one) for one in outcomes] == [Approved, Approved, Approved, Declined]
    assert [one.amount_minor for one in outcomes if isinstance(one, Approved)] == [1000, 400, 150]
    [charge] = sandbox.bank.charges("pay_1")
    assert (charge.reference, charge.captured_minor, charge.refunded_minor) == (OPS[1], 400, 150)


async def test_a_charge_is_taken_and_a_void_reverses_it(gateway: AdyenGateway, sandbox: Sandbox) -> None:
    paid = await gateway.perform(call())
    assert sandbox.bank.captured_minor("pay_1") == 1000
    assert isinstance(await gateway.perform(call(2, K.VOID, **after(paid, K.CHARGE))), Pending)
    assert sandbox.bank.refunded_minor("pay_1") == 1000
    event = news(gateway, sandbox)[-1]
    assert (event.type, event.operation_id) == ("CANCEL_OR_REFUND", OPS[2])
    assert isinstance(event.outcome, Approved)


@pytest.mark.parametrize("token", sorted(STORED_METHODS))
async def test_the_answer_and_its_notice_agree(gateway: AdyenGateway, sandbox: Sandbox, token: str) -> None:
    outcome = await gateway.perform(call(token=token))
    if "3ds" in token:
        assert isinstance(outcome, RequiresAction)
        assert news(gateway, sandbox) == []
    else:
        [event] = news(gateway, sandbox)
        assert event.outcome == outcome
        assert isinstance(outcome, Approved) == (sandbox.bank.captured_minor("pay_1") == 1000)


async def test_the_payer_authenticates(gateway: AdyenGateway, sandbox: Sandbox) -> None:
    asked = await gateway.perform(call(token="stored_3ds"))
    assert isinstance(asked, RequiresAction)
    back = await sandbox_payer(["redirectResult"])(asked)
    confirm = call(
        2, K.CONFIRM, parent_reference=asked.reference, parent_kind=K.CHARGE, action_data=dict(back)
    )
    done = await gateway.perform(confirm)
    assert isinstance(done, Approved)
    assert done.amount_minor == 1000
    assert sandbox.bank.captured_minor("pay_1") == 1000


@pytest.mark.parametrize(
    ("fault", "first"),
    [
        (FaultKind.RESET_BEFORE, InDoubt),
        (FaultKind.REPLY_LOST, InDoubt),
        (FaultKind.TRUNCATED, InDoubt),
        (FaultKind.GARBAGE, InDoubt),
        (FaultKind.ERROR_BEFORE, InDoubt),
        (FaultKind.ERROR_AFTER, InDoubt),
        (FaultKind.RATE_LIMITED, NotSent),
        (FaultKind.DUPLICATE, Approved),
        (FaultKind.SLOW, Approved),
    ],
)
async def test_a_resend_under_the_key_takes_the_money_once(
    gateway: AdyenGateway, sandbox: Sandbox, fault: FaultKind, first: type[Outcome]
) -> None:
    sandbox.faces["adyen"].script([fault])
    assert isinstance(await gateway.perform(call()), first)
    assert isinstance(await gateway.perform(call()), Approved)
    assert sandbox.bank.captured_minor("pay_1") == 1000
    assert len(sandbox.bank.charges("pay_1")) == 1


async def test_a_kept_500_stays_in_doubt_and_the_notice_ends_it(
    gateway: AdyenGateway, sandbox: Sandbox
) -> None:
    sandbox.faces["adyen"].script([FaultKind.ERROR_KEPT_AFTER])
    assert isinstance(await gateway.perform(call()), InDoubt)
    assert isinstance(await gateway.perform(call()), InDoubt)
    [event] = news(gateway, sandbox)
    assert isinstance(event.outcome, Approved)
    assert event.operation_id == OPS[1]


@pytest.mark.parametrize(
    "amount", ["100 CLP", "7.00 CVE", "7.00 IDR", "7 ISK", "7 JPY", "1.234 KWD", "7 UGX"]
)
async def test_amounts_survive_adyens_own_exponents(
    gateway: AdyenGateway, sandbox: Sandbox, amount: str
) -> None:
    done = await gateway.perform(call(1, K.CHARGE, amount))
    assert isinstance(done, Approved)
    minor = Money.parse(*amount.split()).amount_minor
    assert (done.amount_minor, sandbox.bank.captured_minor("pay_1")) == (minor, minor)


async def test_a_batch_is_read_whole_and_a_forged_one_not_at_all(
    gateway: AdyenGateway, sandbox: Sandbox
) -> None:
    paid = await gateway.perform(call(1, K.AUTHORIZE))
    await gateway.perform(call(2, K.CAPTURE, **after(paid)))
    batch = batched(notices(sandbox))
    now_us = SystemClock().now_us()
    read = gateway.parse_webhook(batch.headers, batch.body, now_us)
    assert [event.operation_id for event in read] == [OPS[1], OPS[2]]
    other = batch.body.replace(b'"value":1000', b'"value":9000', 1)
    assert other != batch.body != forge(batch.body)
    with pytest.raises(WebhookRejected):
        gateway.parse_webhook(batch.headers, other, now_us)


async def test_health(gateway: AdyenGateway) -> None:
    assert (await gateway.health()).ok
