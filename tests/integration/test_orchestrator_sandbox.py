"""The whole orchestrator over real HTTP: every fault, at each PSP, under each operation; both books agree each time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from aegispay import AegisPay, Card, Money, PaymentState, Result, Settings
from aegispay.domain.errors import InvalidAmount
from aegispay.domain.payment import OperationStatus
from aegispay.gateways.gateway import Gateway
from aegispay.resilience.retry import RetryPolicy
from aegispay.sandbox.audit import AuditReport, audit
from aegispay.sandbox.faults import FaultKind, FaultPlan
from aegispay.sandbox.issuer import sandbox_token
from aegispay.sandbox.server import Sandbox, SandboxSettings

USD100 = Money(100_00, "USD")
LATE_S = 0.15
QUIET_S = 0.25
PLAN = FaultPlan(slow_s=0.02, late_s=LATE_S, outage_s=0.05)
RETRY = RetryPolicy(attempts_max=1_000_000, initial_delay_s=0.02, delay_max_s=0.1)
SETTINGS = Settings(
    call_timeout_s=0.1,
    answer_timeout_s=5.0,
    lease_margin_s=0.1,
    recovery_interval_s=0.02,
    inline_retry=msgspec.structs.replace(RETRY, attempts_max=3),
    recovery_retry=RETRY,
    resends_max=3,
)
FACES = ("stripe", "plainpay")


def _quick(gateway: Gateway) -> Gateway:
    """The quiet period of real life is an hour; here a request lands within `LATE_S`, or never."""
    gateway.capabilities = msgspec.structs.replace(gateway.capabilities, lookup_quiet_s=QUIET_S)
    return gateway


class World:
    """A sandbox, and AegisPay beside it."""

    def __init__(self, sandbox: Sandbox, pay: AegisPay):
        self.sandbox = sandbox
        self.pay = pay

    async def audit(self) -> AuditReport:
        """Waits until nothing is open, then compares the books."""
        self.sandbox.clear_faults()
        await self.sandbox.settle()
        async with asyncio.timeout(10.0):
            while await self.pay.store.count_in_flight():
                await asyncio.sleep(0.005)
        return audit(self.sandbox.bank, await self.pay.list(limit=1000))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    settings = SandboxSettings(lookup_quiet_s=QUIET_S)
    async with Sandbox(seed=1, faults=PLAN, settings=settings) as sandbox:
        gateways = {name: _quick(gateway) for name, gateway in sandbox.gateways().items()}
        url = f"sqlite:///{tmp_path / 'payments.db'}"
        async with AegisPay(gateways, store=url, settings=SETTINGS) as pay:
            yield World(sandbox, pay)


# --- every fault, everywhere -----------------------------------------------------------------------------------


async def _charge(world: World, face: str, strike: Callable[[], None]) -> Result:
    strike()
    return await world.pay.charge(USD100, sandbox_token(), idempotency_key="k", gateway=face)


async def _capture(world: World, face: str, strike: Callable[[], None]) -> Result:
    held = await world.pay.authorize(USD100, sandbox_token(), idempotency_key="k", gateway=face)
    strike()
    return await world.pay.capture(held.payment_id, Money(60_00, "USD"), idempotency_key="c")


async def _void(world: World, face: str, strike: Callable[[], None]) -> Result:
    held = await world.pay.authorize(USD100, sandbox_token(), idempotency_key="k", gateway=face)
    strike()
    return await world.pay.void(held.payment_id, idempotency_key="v")


async def _refund(world: World, face: str, strike: Callable[[], None]) -> Result:
    paid = await world.pay.charge(USD100, sandbox_token(), idempotency_key="k", gateway=face)
    strike()
    return await world.pay.refund(paid.payment_id, Money(40_00, "USD"), idempotency_key="r")


OPERATIONS: dict[str, Callable[[World, str, Callable[[], None]], Awaitable[Result]]] = {
    "charge": _charge,
    "capture": _capture,
    "void": _void,
    "refund": _refund,
}


@pytest.mark.parametrize("kind", OPERATIONS)
@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("fault", FaultKind)
async def test_the_books_agree_whatever_strikes(world: World, fault: FaultKind, face: str, kind: str) -> None:
    def strike() -> None:
        world.sandbox.faces[face].script([fault], path="payment" if kind != "refund" else "refund")

    result = await OPERATIONS[kind](world, face, strike)
    report = await world.audit()
    skipped = fault is FaultKind.DUPLICATE and face == "plainpay"
    assert sum(world.sandbox.faults_fired()[face].values()) == (0 if skipped else 1), (
        "the fault did not strike"
    )
    assert report.ok, report
    payment = await world.pay.get(result.payment_id)
    assert not payment.unfinished
    assert payment.state is not PaymentState.NEEDS_REVIEW
    # Nothing went to the other PSP, and what was answered as done is done.
    assert {operation.gateway for operation in payment.operations} == {face}
    if result.is_success():
        assert payment.operations[-1].status is OperationStatus.APPROVED


@pytest.mark.parametrize("fault", FaultKind)
async def test_a_fault_at_the_first_psp_never_makes_two_psps_take_the_money(
    world: World, fault: FaultKind
) -> None:
    """With failover allowed: whichever PSP takes it in the end, it is one of them."""
    world.sandbox.stripe.script([fault])
    result = await world.pay.charge(USD100, sandbox_token(), idempotency_key="k")
    report = await world.audit()
    assert report.ok, report
    charges = [charge for charge in world.sandbox.bank.charges(result.payment_id) if charge.net_minor]
    payment = await world.pay.get(result.payment_id)
    assert len(charges) == (1 if payment.captured_minor else 0)


@pytest.mark.parametrize("then", FaultKind)
@pytest.mark.parametrize("first", [FaultKind.REPLY_LOST, FaultKind.LATE])
async def test_a_second_fault_while_evidence_is_sought_changes_nothing(
    world: World, first: FaultKind, then: FaultKind
) -> None:
    """A refused resend, above all, says nothing of the first send."""
    world.sandbox.stripe.script([first, then], path="payment_intents")
    result = await world.pay.charge(USD100, sandbox_token(), idempotency_key="k")
    report = await world.audit()
    assert report.ok, report
    payment = await world.pay.get(result.payment_id)
    # An error that Stripe keeps under the key shuts the late request out: proof, in time, that nothing was taken.
    shut_out = (first, then) == (FaultKind.LATE, FaultKind.ERROR_KEPT_BEFORE)
    tried = [operation.gateway for operation in payment.operations]
    assert tried == (["stripe", "plainpay"] if shut_out else ["stripe"])
    assert (payment.state, payment.captured_minor) == (PaymentState.SUCCEEDED, 100_00)


async def test_a_request_that_lands_later_than_was_promised_is_kept_out_by_the_cancel(world: World) -> None:
    """PlainPay's quiet period passes, the payment fails over, and only then does the first request arrive."""
    world.sandbox.plainpay.set_plan(msgspec.structs.replace(PLAN, late_s=4 * QUIET_S))
    world.sandbox.plainpay.script([FaultKind.LATE], path="/payments")
    result = await world.pay.charge(
        USD100, sandbox_token(), idempotency_key="k", gateway=("plainpay", "stripe")
    )
    assert [operation.gateway for operation in result.payment.operations] == ["plainpay", "stripe"]
    assert result.is_success()
    report = await world.audit()
    assert report.ok, report
    (charge,) = world.sandbox.bank.charges(result.payment_id)
    assert charge.account == "stripe"


# --- what else only the whole shows ----------------------------------------------------------------------------


async def test_without_a_fault_the_first_psp_in_order_takes_the_payment(world: World) -> None:
    """A gateway's own check of a call must not keep it from being chosen."""
    result = await world.pay.charge(USD100, sandbox_token(), idempotency_key="k")
    assert [operation.gateway for operation in result.payment.operations] == ["stripe"]
    assert (await world.audit()).ok


@pytest.mark.parametrize("face", FACES)
async def test_a_raw_card_becomes_a_token_and_is_charged(world: World, face: str) -> None:
    card = Card("4242424242424242", 12, 2040, cvc="123")
    result = await world.pay.charge(USD100, card, idempotency_key="k", gateway=face)
    assert result.is_success()
    assert (await world.audit()).ok


async def test_an_amount_that_only_the_second_psp_takes_goes_there(world: World) -> None:
    """Stripe takes Kuwaiti dinars in steps of 0.010."""
    odd = Money(1_001, "KWD")
    result = await world.pay.charge(odd, sandbox_token(), idempotency_key="k")
    assert result.payment.gateway == "plainpay"
    with pytest.raises(InvalidAmount):
        await world.pay.charge(odd, sandbox_token(), idempotency_key="k2", gateway="stripe")
    assert (await world.audit()).ok


@pytest.mark.parametrize("face", FACES)
async def test_a_second_process_answers_a_repeat_with_the_same_bytes(
    world: World, tmp_path: Path, face: str
) -> None:
    first = await world.pay.charge(USD100, sandbox_token(), idempotency_key="k", gateway=face)
    url = f"sqlite:///{tmp_path / 'payments.db'}"
    async with AegisPay(world.sandbox.gateways(), store=url, settings=SETTINGS) as other:
        again = await other.charge(USD100, sandbox_token(), idempotency_key="k", gateway=face)
    assert again.to_json() == first.to_json()
    assert (await world.audit()).ok
