"""The whole orchestrator over the Razorpay and the PayPal face under mixed faults: the bank's books agree with ours."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aegispay import AegisPay, Money, Settings, Token
from aegispay.domain.events import OperationApproved
from aegispay.domain.outcomes import Evidence
from aegispay.domain.states import PaymentState
from aegispay.gateways.gateway import Gateway
from aegispay.gateways.paypal import PayPalGateway
from aegispay.gateways.razorpay import RazorpayGateway
from aegispay.orchestration.results import Success
from aegispay.ports import Ports
from aegispay.resilience.retry import RetryPolicy
from aegispay.sandbox.audit import audit
from aegispay.sandbox.faults import FaultKind, FaultPlan
from aegispay.sandbox.server import Sandbox, SandboxSettings
from aegispay.testing.faulty_transport import SteppingClock

PAYMENTS = 30
QUIET_S = 0.25
DAY_S = 86_400.0
KINDS = [kind for kind in FaultKind if kind is not FaultKind.REFUSE]
RETRY = RetryPolicy(attempts_max=1_000_000, initial_delay_s=0.02, delay_max_s=0.1)
SETTINGS = Settings(
    call_timeout_s=0.2,
    answer_timeout_s=5.0,
    lease_margin_s=0.1,
    recovery_interval_s=0.02,
    inline_retry=msgspec.structs.replace(RETRY, attempts_max=3),
    recovery_retry=RETRY,
    resends_max=3,
)
WHO_PAYS: dict[str, Any] = {
    "metadata": {
        "razorpay_email": "a@b.test",
        "razorpay_contact": "+919999999999",
        "razorpay_recurring": "true",
    },
    "customer_id": "cust_1",
}


def gateway_of(name: str, url: str) -> Gateway:
    # The quiet period of real life is long; here a request lands within `late_s`, or never.
    if name == "paypal":
        return PayPalGateway(
            "paypal-sandbox-client",
            "paypal-sandbox-secret",
            base_url=url,
            transaction_search=True,
            lookup_quiet_s=QUIET_S,
        )
    return RazorpayGateway(
        "rzp_test_sandbox", "razorpay_sandbox_secret", base_url=f"{url}/v1", lookup_quiet_s=QUIET_S
    )


async def live(pay: AegisPay, name: str, number: int) -> None:
    """One payment's life: a charge, a charge and a refund, or an authorisation and its capture."""
    currency, token = ("USD", "card:visa") if name == "paypal" else ("INR", "token_visa")
    amount = Money(100_00, currency)
    more: dict[str, Any] = {"idempotency_key": f"k{number}", **(WHO_PAYS if name == "razorpay" else {})}
    start = pay.authorize if number % 3 == 0 else pay.charge
    result = await start(amount, Token(token), **more)
    if not isinstance(result, Success):
        return
    if number % 3 == 0:
        await pay.capture(result.payment_id, idempotency_key=f"c{number}")
    elif number % 3 == 1:
        await pay.refund(result.payment_id, Money(40_00, currency), idempotency_key=f"r{number}")


@pytest.mark.parametrize("name", ["paypal", "razorpay"])
async def test_the_books_agree_after_every_kind_of_fault(tmp_path: Path, name: str) -> None:
    times = {"slow_s": 0.01, "late_s": 0.1}
    plan = FaultPlan(seed=1, probabilities={kind: 0.25 / len(KINDS) for kind in KINDS}, **times)
    async with Sandbox(seed=1, faults=plan, settings=SandboxSettings(more_psps=(name,))) as sandbox:
        gateways = {name: gateway_of(name, sandbox.faces[name].url)}
        store = f"sqlite:///{tmp_path / 'payments.db'}"
        async with AegisPay(gateways, store=store, settings=SETTINGS) as pay:
            await asyncio.gather(*(live(pay, name, number) for number in range(PAYMENTS)))
            assert sum(sandbox.faults_fired()[name].values()) > 0
            sandbox.clear_faults()
            await sandbox.settle()
            async with asyncio.timeout(20.0):
                while await pay.store.count_in_flight():
                    await asyncio.sleep(0.005)
            report = audit(sandbox.bank, await pay.list(limit=1000))
    assert report.ok, report
    assert report.payments == PAYMENTS


async def test_what_razorpay_gave_back_by_itself_is_expired_and_needs_no_person() -> None:
    """Razorpay has no void: an authorisation that nobody captures is refunded by Razorpay, and the look-up says so."""
    clock = SteppingClock()
    async with Sandbox(settings=SandboxSettings(more_psps=("razorpay",)), clock=clock) as sandbox:
        gateways = {"razorpay": gateway_of("razorpay", sandbox.faces["razorpay"].url)}
        settings = Settings(recovery=False)
        ports = Ports(clock=clock)
        async with AegisPay(gateways, store="sqlite://:memory:", settings=settings, ports=ports) as pay:
            held = await pay.authorize(
                Money(100_00, "INR"), Token("token_visa"), idempotency_key="k", **WHO_PAYS
            )
            clock.advance(5 * DAY_S + 1)
            await pay.recover()
            payment = await pay.get(held.payment_id)
            last = (await pay.event_store.events(held.payment_id))[-1].data
            report = audit(sandbox.bank, await pay.list(limit=1000))
    assert payment.state is PaymentState.EXPIRED
    assert payment.review is None
    assert isinstance(last, OperationApproved) and last.evidence is Evidence.LOOKUP
    assert report.ok, report
