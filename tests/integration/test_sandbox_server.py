"""The sandbox over real sockets: what a client of each face sees of each fault, and what stands in the books."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aegispay.domain.errors import InvalidPaymentMethod
from aegispay.domain.events import OperationKind
from aegispay.domain.methods import Card
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
from aegispay.gateways.gateway import Found, Gateway, GatewayCall, NotFound, Tokenized
from aegispay.gateways.http import HttpReply, HttpRequest
from aegispay.gateways.transport import AiohttpTransport
from aegispay.sandbox.faults import FaultKind, FaultPlan
from aegispay.sandbox.process import SandboxProcess
from aegispay.sandbox.server import Sandbox, SandboxSettings

QUICK = FaultPlan(slow_s=0.001, late_s=0.4, outage_s=0.02)
SETTINGS = SandboxSettings(lookup_quiet_s=0.05)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(seed=1, faults=QUICK, settings=SETTINGS) as running:
        yield running


@pytest.fixture(params=["stripe", "plainpay"])
async def gateway(request: pytest.FixtureRequest, sandbox: Sandbox) -> AsyncIterator[Gateway]:
    gateways = sandbox.gateways()
    chosen = gateways[request.param]
    await chosen.start()
    yield chosen
    for one in gateways.values():
        await one.aclose()


TOKENS = {
    "stripe": {
        "good": "pm_card_visa",
        "poor": "pm_card_chargeDeclinedInsufficientFunds",
        "3ds": "pm_card_threeDSecure2Required",
    },
    "plainpay": {"good": "tok_visa", "poor": "tok_insufficient_funds", "3ds": "tok_3ds"},
}


def call(
    gateway: Gateway, operation: str = "op_1", kind: OperationKind = OperationKind.CHARGE, **more: Any
) -> GatewayCall:
    values: dict[str, Any] = {
        "kind": kind,
        "operation_id": operation,
        "gateway_key": operation,
        "payment_id": "pay_1",
        "merchant_id": "m",
        "amount": Money(1000, "USD"),
        "timeout_s": 5.0,
        "token": TOKENS[gateway.name]["good"],
        "return_url": "https://shop.test/",
        **more,
    }
    return GatewayCall(**values)


async def post(url: str, body: bytes) -> HttpReply:
    transport = AiohttpTransport()
    reply = await transport.send(HttpRequest(method="POST", url=url, headers={}, body=body, timeout_s=5.0))
    await transport.aclose()
    assert isinstance(reply, HttpReply)
    return reply


def reference(outcome: Outcome) -> str:
    assert isinstance(outcome, Approved), outcome
    return outcome.reference


async def test_authorize_two_captures_and_void_of_the_rest(gateway: Gateway, sandbox: Sandbox) -> None:
    parent = reference(await gateway.perform(call(gateway, kind=OperationKind.AUTHORIZE)))
    about = {
        "parent_reference": parent,
        "parent_kind": OperationKind.AUTHORIZE,
        "parent_operation_id": "op_1",
    }
    for operation, amount in (("op_2", 300), ("op_3", 200)):
        part = call(
            gateway, operation, OperationKind.CAPTURE, amount=Money(amount, "USD"), final=False, **about
        )
        outcome = await gateway.perform(part)
        assert isinstance(outcome, Approved)
        assert outcome.amount_minor == amount
    void = await gateway.perform(call(gateway, "op_4", OperationKind.VOID, amount=Money(500, "USD"), **about))
    assert isinstance(void, Approved)
    charge = sandbox.bank.charges("pay_1")[0]
    assert (charge.reference, charge.captured_minor, charge.released_minor) == ("op_1", 500, 500)


async def test_refunds_are_booked_and_too_much_is_declined(gateway: Gateway, sandbox: Sandbox) -> None:
    parent = reference(await gateway.perform(call(gateway)))
    about = {"parent_reference": parent, "parent_kind": OperationKind.CHARGE}
    back = await gateway.perform(
        call(gateway, "op_2", OperationKind.REFUND, amount=Money(600, "USD"), **about)
    )
    assert isinstance(back, Approved)
    more = await gateway.perform(
        call(gateway, "op_3", OperationKind.REFUND, amount=Money(401, "USD"), **about)
    )
    assert isinstance(more, Declined)
    assert more.category is DeclineCategory.INVALID
    assert [(m.reference, m.amount_minor) for m in sandbox.bank.movements("pay_1")][2:] == [("op_2", 600)]
    assert isinstance(
        await gateway.look_up(call(gateway, "op_2", OperationKind.REFUND, amount=Money(600, "USD"), **about)),
        Found,
    )


async def test_a_decline_is_soft_where_the_card_is_short_of_money(gateway: Gateway) -> None:
    outcome = await gateway.perform(call(gateway, token=TOKENS[gateway.name]["poor"]))
    assert isinstance(outcome, Declined)
    assert (outcome.category, outcome.code) == (DeclineCategory.SOFT, "insufficient_funds")


@pytest.mark.parametrize(("action", "taken"), [("authenticate", 1000), ("fail", 0)])
async def test_the_payer_authenticates(gateway: Gateway, sandbox: Sandbox, action: str, taken: int) -> None:
    outcome = await gateway.perform(call(gateway, token=TOKENS[gateway.name]["3ds"]))
    assert isinstance(outcome, RequiresAction)
    assert outcome.action.url is not None
    assert (await post(outcome.action.url, f"action={action}".encode())).status == 303
    confirm = call(
        gateway,
        "op_2",
        OperationKind.CONFIRM,
        parent_reference=outcome.reference,
        parent_kind=OperationKind.CHARGE,
    )
    assert isinstance(await gateway.perform(confirm), Approved if taken else Declined)
    assert sandbox.bank.captured_minor("pay_1") == taken


async def test_a_raw_card_becomes_a_token(gateway: Gateway) -> None:
    found = await gateway.tokenize(Card("4000000000009995", 12, 2040, "123"), 5.0)
    assert isinstance(found, Tokenized)
    outcome = await gateway.perform(call(gateway, token=found.token))
    assert isinstance(outcome, Declined)
    assert outcome.code == "insufficient_funds"
    with pytest.raises(InvalidPaymentMethod):
        Card("4000000000009996", 12, 2040)


async def test_both_gateways_are_healthy_until_they_are_down(gateway: Gateway, sandbox: Sandbox) -> None:
    assert (await gateway.health()).ok
    face = sandbox.faces[gateway.name]
    await face.down()
    assert not (await gateway.health()).ok
    outcome = await gateway.perform(call(gateway))
    assert isinstance(outcome, NotSent)
    assert outcome.reason == "connection_refused"
    await face.up()
    assert isinstance(await gateway.perform(call(gateway)), Approved)
    assert sandbox.bank.captured_minor("pay_1") == 1000


SEEN: list[tuple[FaultKind, type[Any], bool]] = [
    (FaultKind.SLOW, Approved, True),
    (FaultKind.RESET_BEFORE, InDoubt, False),
    (FaultKind.REPLY_LOST, InDoubt, True),
    (FaultKind.NO_REPLY, InDoubt, True),
    (FaultKind.ERROR_BEFORE, InDoubt, False),
    (FaultKind.ERROR_AFTER, InDoubt, True),
    (FaultKind.ERROR_KEPT_BEFORE, InDoubt, False),
    (FaultKind.ERROR_KEPT_AFTER, InDoubt, True),
    (FaultKind.GARBAGE, InDoubt, True),
    (FaultKind.TRUNCATED, InDoubt, True),
    (FaultKind.RATE_LIMITED, NotSent, False),
    (FaultKind.UNAVAILABLE, InDoubt, False),
    (FaultKind.REFUSE, Approved, True),
]


@pytest.mark.parametrize(("fault", "outcome", "taken"), SEEN)
async def test_what_a_gateway_sees_of_each_fault_and_what_the_look_up_then_says(
    gateway: Gateway, sandbox: Sandbox, fault: FaultKind, outcome: type[Any], taken: bool
) -> None:
    face = sandbox.faces[gateway.name]
    await gateway.health()  # Opens the connection, so that the time limit is all the request's.
    face.script([fault])
    asked = call(gateway, timeout_s=0.1 if fault is FaultKind.NO_REPLY else 5.0)
    assert isinstance(await gateway.perform(asked), outcome)
    assert face.shell.fired == {fault: 1}
    assert sandbox.bank.captured_minor("pay_1") == (1000 if taken else 0)
    await face.up()
    if fault is not FaultKind.REFUSE:
        found = await gateway.look_up(call(gateway))
        assert isinstance(found, Found if taken else NotFound)


async def test_each_broken_connection_has_its_own_reason(gateway: Gateway, sandbox: Sandbox) -> None:
    await gateway.health()
    sandbox.faces[gateway.name].script(["reply_lost", "truncated", "no_reply"])
    for index, reason in enumerate(("reset", "truncated", "timeout")):
        outcome = await gateway.perform(call(gateway, f"op_{index}", timeout_s=0.3))
        assert isinstance(outcome, InDoubt)
        assert outcome.reason == reason


async def test_a_duplicate_delivery_to_stripe_is_one_charge(sandbox: Sandbox) -> None:
    gateway = sandbox.gateways()["stripe"]
    sandbox.stripe.script([FaultKind.DUPLICATE])
    assert isinstance(await gateway.perform(call(gateway)), Approved)
    assert sandbox.stripe.shell.fired == {FaultKind.DUPLICATE: 1}
    assert sandbox.bank.captured_minor("pay_1") == 1000
    await gateway.aclose()


async def test_a_late_request_lands_once_whatever_is_resent(sandbox: Sandbox) -> None:
    gateway = sandbox.gateways()["stripe"]
    await gateway.health()  # Opens the connection, so that the time limit is all the request's.
    sandbox.stripe.script([FaultKind.LATE, None])
    assert isinstance(await gateway.perform(call(gateway, timeout_s=0.1)), InDoubt)
    assert isinstance(await gateway.perform(call(gateway)), Approved)
    await sandbox.settle()
    assert sandbox.bank.captured_minor("pay_1") == 1000
    await gateway.aclose()


async def test_a_cancel_by_reference_keeps_a_late_request_out(sandbox: Sandbox) -> None:
    gateway = sandbox.gateways()["plainpay"]
    await gateway.health()  # Opens the connection, so that the time limit is all the request's.
    sandbox.plainpay.script([FaultKind.LATE, None])
    assert isinstance(await gateway.perform(call(gateway, timeout_s=0.1)), InDoubt)
    assert isinstance(await gateway.cancel_by_reference(call(gateway)), Approved)
    await sandbox.settle()
    assert sandbox.bank.movements("pay_1") == []
    await gateway.aclose()


async def test_a_cancel_by_reference_is_no_proof_where_money_was_taken(sandbox: Sandbox) -> None:
    gateway = sandbox.gateways()["plainpay"]
    await gateway.perform(call(gateway))
    assert await gateway.cancel_by_reference(call(gateway)) == InDoubt(reason="executed")
    sandbox.plainpay.script(["unavailable"])
    assert isinstance(await gateway.cancel_by_reference(call(gateway, "op_2")), InDoubt)
    await gateway.aclose()


async def test_two_effects_under_one_reference_are_left_to_a_person(sandbox: Sandbox) -> None:
    gateway = sandbox.gateways()["plainpay"]
    for _ in range(2):
        await gateway.perform(call(gateway))
    found = await gateway.look_up(call(gateway))
    assert getattr(found, "reason", None) == "several_under_one_reference"
    await gateway.aclose()


async def test_an_outage_ends_by_itself(sandbox: Sandbox) -> None:
    gateway = sandbox.gateways()["plainpay"]
    sandbox.plainpay.script([FaultKind.REFUSE])
    await gateway.perform(call(gateway))
    outcome: Outcome = await gateway.perform(call(gateway, "op_2"))
    tries = 0
    while not isinstance(outcome, Approved) and tries < 1000:
        # The first may still have gone out over a pooled connection that was just closed.
        assert isinstance(outcome, NotSent) or tries == 0
        outcome, tries = await gateway.perform(call(gateway, "op_2")), tries + 1
    assert sandbox.bank.captured_minor("pay_1") == 2000
    await gateway.aclose()


# --- a process of its own -----------------------------------------------------------------------------------


async def test_a_bank_that_is_killed_comes_back_with_its_books_and_its_keys(tmp_path: Path) -> None:
    process = SandboxProcess(tmp_path / "bank.db", seed=5)
    process.start()
    try:
        gateways = process.gateways()
        first = await gateways["stripe"].perform(call(gateways["stripe"]))
        url = process.stripe_url
        process.stop(kill=True)
        assert isinstance(
            await gateways["stripe"].perform(call(gateways["stripe"], "op_2")), NotSent | InDoubt
        )
        process.start()
        assert process.stripe_url == url
        assert await gateways["stripe"].perform(call(gateways["stripe"])) == first
        assert process.bank.captured_minor("pay_1") == 1000
        for gateway in gateways.values():
            await gateway.aclose()
    finally:
        process.stop()


async def test_another_process_drives_the_faults_and_reads_the_books(tmp_path: Path) -> None:
    async with SandboxProcess(tmp_path / "bank.db", seed=5, synchronous="OFF", settings=SETTINGS) as process:
        gateway = process.gateways()["plainpay"]
        process.script("plainpay", [FaultKind.ERROR_AFTER])
        assert isinstance(await gateway.perform(call(gateway)), InDoubt)
        assert process.faults_fired()["plainpay"] == {"error_after": 1}
        books = process.control("books", payment="pay_1")
        assert [row["kind"] for row in books["movements"]] == ["authorization", "capture"]
        assert books["totals"]["USD"]["captured_minor"] == 1000
        process.down("plainpay")
        for _ in range(3):
            await asyncio.sleep(0)  # The loop sees that its pooled connections ended.
        assert isinstance(await gateway.perform(call(gateway, "op_2")), NotSent)
        process.up("plainpay")
        process.set_faults(FaultPlan(probabilities={FaultKind.RATE_LIMITED: 1.0}))
        assert isinstance(await gateway.perform(call(gateway, "op_3")), NotSent)
        process.clear_faults()
        assert isinstance(await gateway.perform(call(gateway, "op_4")), Approved)
        process.settle()
        with pytest.raises(RuntimeError, match="nonsense"):
            process.control("nonsense")
        await gateway.aclose()


async def test_the_sandbox_ends_with_its_parent(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-m', 'aegispay.sandbox', '--json'],"
        " stdout=subprocess.PIPE, stderr=subprocess.DEVNULL); print(p.stdout.readline().decode(), flush=True)"
    )
    parent = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], capture_output=True, check=True
    )
    pid = msgspec.json.decode(parent.stdout)["pid"]
    for _ in range(500):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if (
            Path(f"/proc/{pid}/stat").exists()
            and Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        ):
            return
        await asyncio.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    raise AssertionError("the sandbox lives on without its parent")
