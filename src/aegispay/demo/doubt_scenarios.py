"""Scenarios in which nobody can tell at first whether the customer was charged."""

from __future__ import annotations

import asyncio

from aegispay.demo import child
from aegispay.demo.options import LATE_S
from aegispay.demo.scenarios import USD_100
from aegispay.demo.stage import Case, Scenario, until
from aegispay.domain.states import PaymentState as State
from aegispay.sandbox.faults import FaultKind, FaultPlan
from aegispay.sandbox.issuer import sandbox_token

CHARGED_TIMEOUT_S = 5.0


async def reply_lost(case: Case) -> None:
    """The PSP takes the money and the answer never comes. A second PSP must not be asked."""
    stage = case.stage
    before = stage.requests("plainpay")
    stage.sandbox.script("stripe", [FaultKind.REPLY_LOST], path="/v1/payment_intents")
    result = await stage.pay.charge(USD_100, sandbox_token(), idempotency_key=stage.key("lost"))
    case.check(stage.requests("plainpay") == before, "the second PSP was asked")
    case.check(result.is_success(), f"the answer was {result.status}")
    case.happened = "charged, answer lost; asked again under the same key; no failover"
    await case.expect(result.payment_id, state=State.SUCCEEDED, taken_minor=100_00, by="stripe")


async def lands_late(case: Case) -> None:
    """The request arrives after we gave up on it: at a PSP that knows our key, and at one that has none."""
    stage = case.stage
    await asyncio.to_thread(stage.sandbox.set_faults, FaultPlan(late_s=LATE_S))
    for face, path in (("stripe", "/v1/payment_intents"), ("plainpay", "/payments")):
        stage.sandbox.script(face, [FaultKind.LATE], path=path)
    results = await asyncio.gather(
        *(
            stage.pay.charge(
                USD_100, sandbox_token(), idempotency_key=stage.key(f"late-{face}"), gateway=face
            )
            for face in ("stripe", "plainpay")
        )
    )
    await asyncio.to_thread(stage.sandbox.settle)
    case.happened = "stripe: same key again, the late one is a replay; plainpay: looked up"
    for result, face in zip(results, ("stripe", "plainpay"), strict=True):
        await case.expect(result.payment_id, state=State.SUCCEEDED, taken_minor=100_00, by=face)
    await asyncio.to_thread(stage.sandbox.clear_faults)


async def killed(case: Case) -> None:
    """A process is killed when the bank has charged and nothing of that is recorded; another one takes over."""
    stage = case.stage
    order = child.Order(
        store_url=stage.store_url,
        stripe_url=stage.sandbox.stripe_url,
        plainpay_url=stage.sandbox.plainpay_url,
        sandbox=stage.sandbox.settings,
        idempotency_key=stage.key("killed"),
    )
    stage.sandbox.script("stripe", [FaultKind.NO_REPLY], path="/v1/payment_intents")
    async with child.Child(order, stage.directory / "child.log") as first:
        payment_id = await first.payment_id()

        async def charged() -> bool:
            return bool(stage.sandbox.bank.captured_minor(payment_id))

        await until(charged, CHARGED_TIMEOUT_S)
        await first.kill()
    between = await stage.pay.get(payment_id)
    case.check(between.captured_minor == 0, "it was recorded before it could be killed")
    case.check(stage.sandbox.bank.captured_minor(payment_id) == 100_00, "it was not charged yet")
    async with child.Child(order, stage.directory / "child.log") as second:
        answer = await second.answer()
    case.check(answer.get("payment_id") == payment_id, "the second process made another payment")
    case.check(answer.get("status") == "success", f"its answer was {answer.get('status')}")
    case.happened = f"SIGKILL with the bank charged and us at {between.state}; started again"
    await case.expect(payment_id, state=State.SUCCEEDED, taken_minor=100_00, by="stripe")


DOUBTFUL = (
    Scenario("Reply lost after charging", reply_lost),
    Scenario("Request lands late", lands_late),
    Scenario("Killed between charge and record", killed),
)
