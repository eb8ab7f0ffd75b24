"""Stripe's webhooks over HTTP: from the sandbox's own process to a shop with the official SDK, and into AegisPay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import stripe
from aiohttp import web

from aegispay import AegisPay, Money, Settings
from aegispay.demo.inbox import Inbox
from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import Evidence
from aegispay.domain.payment import OperationStatus
from aegispay.domain.states import PaymentState as State
from aegispay.gateways.gateway import GatewayCall
from aegispay.gateways.stripe import StripeGateway
from aegispay.orchestration.results import Result
from aegispay.ports import SystemClock
from aegispay.sandbox.audit import audit
from aegispay.sandbox.face import bind
from aegispay.sandbox.faults import FaultKind, FaultPlan
from aegispay.sandbox.process import SandboxProcess
from aegispay.sandbox.server import Sandbox
from aegispay.sandbox.webhooks import NoticeDelivery, NoticeFault, NoticePlan, NoticeTry

SECRET = "whsec_sandbox"
USD_100 = Money(100_00, "USD")
SETTINGS = Settings(call_timeout_s=0.1, answer_timeout_s=0.3, lease_margin_s=0.05, recovery=False)
ROUGH = NoticePlan(
    seed=1,
    probabilities={NoticeFault.DUPLICATE: 0.25, NoticeFault.HELD: 0.5, NoticeFault.FORGED: 0.25},
    retry_s=0.01,
)


# --- a shop with the official SDK -----------------------------------------------------------------------------


class Shop:
    """Verifies what arrives as Stripe tells shops to, and answers 400 to what is not genuine."""

    def __init__(self) -> None:
        self.types: list[str] = []
        self.url = ""

    async def handle(self, request: web.BaseRequest) -> web.Response:
        header = request.headers["Stripe-Signature"]
        try:
            event: Any = stripe.Webhook.construct_event(  # type: ignore[no-untyped-call,unused-ignore]
                await request.read(), header, SECRET
            )
        except stripe.SignatureVerificationError:
            return web.Response(status=400)
        self.types.append(event.type)
        return web.Response(status=200)


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    one = Shop()
    server = web.Server(one.handle)
    sock = bind(0, listen=True)
    listener = await asyncio.get_running_loop().create_server(server, sock=sock)
    one.url = f"http://127.0.0.1:{sock.getsockname()[1]}/hooks"
    yield one
    listener.close()
    await server.shutdown(0.5)


async def test_the_official_sdk_takes_what_another_process_delivers(tmp_path: Path, shop: Shop) -> None:
    def drive(sandbox: SandboxProcess) -> list[tuple[str, int, bool]]:
        session = stripe.RequestsClient(timeout=5)
        client = stripe.StripeClient(
            sandbox.stripe_key, base_addresses={"api": sandbox.stripe_url}, http_client=session
        ).v1
        held = client.payment_intents.create(
            {
                "amount": 1000,
                "currency": "usd",
                "payment_method": "pm_card_visa",
                "confirm": True,
                "capture_method": "manual",
            }
        )
        client.payment_intents.capture(held.id)
        client.refunds.create({"payment_intent": held.id, "amount": 400})
        session.close()
        return sandbox.deliver("stripe", shop.url, NoticePlan(probabilities={NoticeFault.FORGED: 1.0}))

    async with SandboxProcess(tmp_path / "bank.db", synchronous="OFF") as sandbox:
        tries = await asyncio.to_thread(drive, sandbox)
    types = ["payment_intent.amount_capturable_updated", "payment_intent.succeeded", "refund.created"]
    assert shop.types == types
    assert [(status, forged) for _, status, forged in tries] == [(400, True), (200, False)] * 3


# --- AegisPay, which asks nobody: only a webhook can tell it ----------------------------------------------------


class Bench:
    """AegisPay without recovery, at the Stripe face, and what carries the face's webhooks to it."""

    def __init__(self, sandbox: Sandbox, pay: AegisPay, inbox: Inbox):
        self.sandbox = sandbox
        self.pay = pay
        self.inbox = inbox

    async def deliver(self, plan: NoticePlan = ROUGH) -> list[NoticeTry]:
        url = self.inbox.url("stripe")
        return await NoticeDelivery(self.sandbox.stripe_psp.outbox, url, SystemClock(), plan).flush()

    async def until(self, payment_id: str, state: State) -> None:
        """What is kept is worked on apart, so the state comes a moment after the last answer."""
        async with asyncio.timeout(5.0):
            while (await self.pay.get(payment_id)).state is not state:
                await asyncio.sleep(0.001)

    async def evidence(self, payment_id: str) -> list[str]:
        """How each approval of the payment was known."""
        events = await self.pay.event_store.events(payment_id)
        return [event.data.evidence for event in events if type(event.data).__name__ == "OperationApproved"]

    async def books_agree(self) -> None:
        report = audit(self.sandbox.bank, await self.pay.list())
        assert report.ok, report


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with Sandbox(seed=1) as sandbox:
        gateway = StripeGateway("sk_test_sandbox", base_url=sandbox.stripe_url, webhook_secrets=[SECRET])
        pay = AegisPay([gateway], store=f"sqlite:///{tmp_path / 'payments.db'}", settings=SETTINGS)
        async with pay, Inbox(pay) as inbox:
            await pay.health()  # Opens the connection, so that the time limit is all the request's.
            yield Bench(sandbox, pay, inbox)


async def charge(bench: Bench, key: str = "k") -> Result:
    return await bench.pay.charge(USD_100, "pm_card_visa", idempotency_key=key)


async def test_a_charge_in_doubt_is_resolved_by_its_webhook(bench: Bench) -> None:
    bench.sandbox.stripe.script([FaultKind.NO_REPLY])
    bench.sandbox.stripe.set_plan(FaultPlan(probabilities={FaultKind.RESET_BEFORE: 1.0}))
    result = await charge(bench)
    assert result.is_pending()
    assert (await bench.pay.get(result.payment_id)).state in (State.IN_DOUBT, State.PROCESSING)
    assert bench.sandbox.bank.captured_minor(result.payment_id) == 100_00
    await bench.deliver()
    await bench.until(result.payment_id, State.SUCCEEDED)
    assert await bench.evidence(result.payment_id) == [Evidence.WEBHOOK]
    await bench.books_agree()


@pytest.mark.parametrize("paid", [True, False])
async def test_a_charge_that_is_processing_ends_by_its_webhook(bench: Bench, paid: bool) -> None:
    bench.sandbox.stripe_psp.settles_later = True
    result = await charge(bench)
    assert result.is_pending()
    operation = (await bench.pay.get(result.payment_id)).operations[0]
    assert operation.status is OperationStatus.PENDING
    assert operation.reference is not None
    bench.sandbox.stripe_psp.finish_payment(operation.reference, paid=paid)
    tries = await bench.deliver()
    assert {one.status for one in tries if one.forged} <= {400}
    assert {one.status for one in tries if not one.forged} == {200}
    await bench.until(result.payment_id, State.SUCCEEDED if paid else State.FAILED)
    await bench.books_agree()


@pytest.mark.parametrize(("paid", "state"), [(True, State.REFUNDED), (False, State.SUCCEEDED)])
async def test_a_refund_that_is_pending_ends_by_its_webhook(bench: Bench, paid: bool, state: State) -> None:
    result = await charge(bench)
    bench.sandbox.stripe_psp.settles_later = True
    await bench.pay.refund(result.payment_id, idempotency_key="r")
    operation = (await bench.pay.get(result.payment_id)).operations[-1]
    assert operation.status is OperationStatus.PENDING
    assert operation.reference is not None
    bench.sandbox.stripe_psp.finish_refund(operation.reference, paid=paid)
    await bench.deliver()
    await bench.until(result.payment_id, state)
    async with asyncio.timeout(5.0):
        while (await bench.pay.get(result.payment_id)).unfinished:
            await asyncio.sleep(0.001)
    await bench.books_agree()


async def test_a_refund_that_we_did_not_ask_for_is_taken_into_our_books(bench: Bench) -> None:
    """Somebody made it who knows what our payments are called; no operation of ours stands behind it."""
    result = await charge(bench)
    await bench.deliver(NoticePlan())
    payment = await bench.pay.get(result.payment_id)
    form = {
        "payment_intent": payment.operations[0].reference,
        "amount": 400,
        "metadata": {"aegispay_payment": payment.id},
    }
    session = stripe.RequestsClient(timeout=5)

    def by_hand() -> None:
        stripe.StripeClient(
            "sk_test_sandbox", base_addresses={"api": bench.sandbox.stripe_url}, http_client=session
        ).v1.refunds.create(form)  # type: ignore[arg-type,unused-ignore]

    await asyncio.to_thread(by_hand)
    session.close()
    await bench.deliver()
    await bench.until(result.payment_id, State.PARTIALLY_REFUNDED)
    await bench.books_agree()


async def test_a_forged_webhook_alone_changes_nothing(bench: Bench) -> None:
    bench.sandbox.stripe.script([FaultKind.RESET_BEFORE] * 30)
    result = await charge(bench)
    bench.sandbox.clear_faults()
    before = await bench.pay.get(result.payment_id)
    other = await charge(bench, "other")
    plan = NoticePlan(probabilities={NoticeFault.FORGED: 1.0})
    tries = await bench.deliver(plan)
    assert [one.status for one in tries] == [400, 200]
    assert (await bench.pay.get(result.payment_id)) == before
    assert (await bench.pay.get(other.payment_id)).state is State.SUCCEEDED
    assert bench.inbox.answered["stripe"] == {400: 1, 200: 1}


class HourAgo(SystemClock):
    """The PSP's clock when it made the event; now its delivery is tried again."""

    def now_us(self) -> int:
        return super().now_us() - 3_600_000_000


async def test_each_try_is_signed_with_its_own_time(shop: Shop) -> None:
    """A signature is good for five minutes, and Stripe goes on trying for three days."""
    async with Sandbox(seed=1, clock=HourAgo()) as sandbox:
        gateway = sandbox.gateways()["stripe"]
        call = GatewayCall(
            kind=OperationKind.CHARGE,
            operation_id="op_1",
            gateway_key="op_1",
            payment_id="pay_1",
            merchant_id="m",
            amount=USD_100,
            timeout_s=5.0,
            token="pm_card_visa",
        )
        await gateway.perform(call)
        await gateway.aclose()
        [done] = await NoticeDelivery(sandbox.stripe_psp.outbox, shop.url, SystemClock()).flush()
    assert done.status == 200
