"""The Braintree adapter and the Braintree face, two independent readings of Braintree's documents, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from aegispay.domain.events import OperationKind
from aegispay.domain.money import Money
from aegispay.domain.outcomes import Approved, Declined, InDoubt, NotSent, Outcome
from aegispay.gateways.braintree import BraintreeGateway
from aegispay.gateways.gateway import Found, GatewayCall, NotFound
from aegispay.gateways.webhooks import WebhookRejected
from aegispay.ports import SystemClock
from aegispay.sandbox.braintree_face import PRIVATE_KEY, PUBLIC_KEY, BraintreePsp
from aegispay.sandbox.braintree_notices import challenge_answered
from aegispay.sandbox.faults import FaultKind, FaultPlan
from aegispay.sandbox.server import Sandbox, SandboxSettings
from aegispay.sandbox.webhooks import forge

K = OperationKind
QUICK = FaultPlan(slow_s=0.001, late_s=0.05, outage_s=0.02)
OPS = [f"op_{number:032x}" for number in range(10)]
ACCOUNTS = {code: f"sandbox_{code.lower()}" for code in ("EUR", "USD", "JPY", "KWD")}


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(seed=1, faults=QUICK, settings=SandboxSettings(more_psps=("braintree",))) as running:
        yield running


@pytest.fixture
def psp(sandbox: Sandbox) -> BraintreePsp:
    found = sandbox.psps["braintree"]
    assert isinstance(found, BraintreePsp)
    return found


@pytest.fixture
async def gateway(sandbox: Sandbox) -> AsyncIterator[BraintreeGateway]:
    url = sandbox.faces["braintree"].url
    one = BraintreeGateway(PUBLIC_KEY, PRIVATE_KEY, ACCOUNTS, base_url=url, lookup_quiet_s=0.0)
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
        "token": "fake-valid-nonce" if first else None,
        "started_at_us": SystemClock().now_us(),
        **more,
    }
    return GatewayCall(kind=kind, operation_id=OPS[number], **values)


def after(outcome: Outcome, kind: K = K.AUTHORIZE) -> dict[str, Any]:
    assert isinstance(outcome, Approved), outcome
    return {"parent_reference": outcome.reference, "parent_kind": kind, "parent_operation_id": OPS[1]}


async def test_each_operation_is_done_and_its_look_up_says_the_same(
    gateway: BraintreeGateway, sandbox: Sandbox
) -> None:
    first = call(1, K.AUTHORIZE)
    paid = await gateway.perform(first)
    found = await gateway.look_up(first)
    assert isinstance(found, Found)
    assert found.outcome == paid
    for number, kind, amount in ((2, K.CAPTURE, "4.00 EUR"), (3, K.REFUND, "1.50 EUR")):
        one = call(number, kind, amount, **after(paid))
        done = await gateway.perform(one)
        assert isinstance(done, Approved)
        found = await gateway.look_up(one)
        assert isinstance(found, Found)
        assert found.outcome == done
    [charge] = sandbox.bank.charges()
    assert (charge.reference, charge.captured_minor, charge.released_minor) == (OPS[1], 400, 600)
    assert charge.refunded_minor == 150


async def test_a_void_gives_back_and_is_the_same_when_it_is_sent_again(
    gateway: BraintreeGateway, sandbox: Sandbox
) -> None:
    paid = await gateway.perform(call(1, K.AUTHORIZE))
    void = call(2, K.VOID, **after(paid))
    assert isinstance(await gateway.perform(void), Approved)
    assert isinstance(await gateway.perform(void), Approved)
    assert sandbox.bank.charges()[0].held_minor == 0


async def test_a_refund_before_settlement_is_refused_in_part_and_voided_in_full(
    gateway: BraintreeGateway, sandbox: Sandbox, psp: BraintreePsp
) -> None:
    psp.settle_after_s = 3600.0
    paid = await gateway.perform(call())
    part = await gateway.perform(call(2, K.REFUND, "1.00 EUR", **after(paid, K.CHARGE)))
    assert isinstance(part, Declined)
    assert sandbox.bank.charges()[0].refunded_minor == 0
    whole = await gateway.perform(call(3, K.REFUND, **after(paid, K.CHARGE)))
    assert isinstance(whole, Approved)
    assert sandbox.bank.charges()[0].net_minor == 0


@pytest.mark.parametrize(
    ("fault", "first", "money"),
    [
        (FaultKind.RESET_BEFORE, InDoubt, False),
        (FaultKind.REPLY_LOST, InDoubt, True),
        (FaultKind.TRUNCATED, InDoubt, True),
        (FaultKind.GARBAGE, InDoubt, True),
        (FaultKind.ERROR_BEFORE, InDoubt, False),
        (FaultKind.ERROR_AFTER, InDoubt, True),
        (FaultKind.ERROR_KEPT_BEFORE, InDoubt, False),
        (FaultKind.ERROR_KEPT_AFTER, InDoubt, True),
        (FaultKind.RATE_LIMITED, NotSent, False),
        (FaultKind.SLOW, Approved, True),
    ],
)
async def test_the_search_ends_each_doubt(
    gateway: BraintreeGateway, sandbox: Sandbox, fault: FaultKind, first: type[Outcome], money: bool
) -> None:
    sandbox.faces["braintree"].script([fault])
    assert isinstance(await gateway.perform(call()), first)
    found = await gateway.look_up(call())
    assert isinstance(found, Found if money else NotFound)
    if isinstance(found, Found):
        assert isinstance(found.outcome, Approved)
    assert sandbox.bank.totals().get("EUR") is not None or not money
    assert len(sandbox.bank.charges()) == int(money)


async def test_a_resend_that_the_duplicate_check_rejects_is_no_decline(
    gateway: BraintreeGateway, sandbox: Sandbox
) -> None:
    paid = await gateway.perform(call())
    assert isinstance(await gateway.perform(call()), InDoubt)
    found = await gateway.look_up(call())
    assert isinstance(found, Found)
    assert found.outcome == paid
    assert len(sandbox.bank.charges()) == 1


@pytest.mark.parametrize(
    ("amount", "first", "later"),
    [
        ("2000.00 EUR", Declined, Declined),
        ("2004.00 EUR", Declined, Declined),
        ("5001.00 EUR", Declined, Declined),
        ("3000.00 EUR", InDoubt, Declined),
    ],
)
async def test_magic_amounts(
    gateway: BraintreeGateway, sandbox: Sandbox, amount: str, first: type[Outcome], later: type[Outcome]
) -> None:
    one = call(1, K.CHARGE, amount)
    assert isinstance(await gateway.perform(one), first)
    found = await gateway.look_up(one)
    assert isinstance(found, Found)
    assert isinstance(found.outcome, later)
    assert sandbox.bank.charges() == []


@pytest.mark.parametrize("amount", ["7.01 EUR", "7.01 USD", "7 JPY", "1.234 KWD"])
async def test_amounts_survive_the_decimals(gateway: BraintreeGateway, sandbox: Sandbox, amount: str) -> None:
    done = await gateway.perform(call(1, K.CHARGE, amount))
    assert isinstance(done, Approved)
    minor = Money.parse(*amount.split()).amount_minor
    assert done.amount_minor == minor
    assert [(one.captured_minor, one.currency) for one in sandbox.bank.charges()] == [(minor, amount[-3:])]


async def test_a_disputes_notice_is_read_and_a_forged_one_is_not(
    gateway: BraintreeGateway, sandbox: Sandbox, psp: BraintreePsp
) -> None:
    await gateway.perform(call())
    legacy = sandbox.bank.charges()[0].charge_id
    psp.dispute(legacy)
    psp.dispute(legacy, "dispute_won")
    opened, won = psp.outbox.take()
    now_us = SystemClock().now_us()
    [first] = gateway.parse_webhook(opened.headers, opened.body, now_us)
    [second] = gateway.parse_webhook(won.headers, won.body, now_us)
    assert first.dispute is not None
    assert second.dispute is not None
    assert (first.dispute.opened, first.dispute.amount_minor) == (True, 1000)
    assert (second.dispute.opened, second.dispute.won) == (False, True)
    assert first.operation_id == OPS[1]
    with pytest.raises(WebhookRejected):
        gateway.parse_webhook(opened.headers, forge(opened.body), now_us)


async def test_the_challenge_and_health(gateway: BraintreeGateway) -> None:
    challenge = "20f9f8ed05f77439fe955c977e4c8a53"
    assert challenge_answered(challenge, gateway.answer_challenge(challenge), PUBLIC_KEY, PRIVATE_KEY)
    assert (await gateway.health()).ok
