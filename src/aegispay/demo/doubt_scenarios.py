"""Scenarios in which nobody can tell at first whether the customer was charged."""

from __future__ import annotations

import asyncio

from aegispay.demo import child
from aegispay.demo.options import LATE_S, LOOKUP_QUIET_S
from aegispay.demo.scenarios import USD_100
from aegispay.demo.stage import Case, Scenario, until
from aegispay.domain.outcomes import Evidence
from aegispay.domain.states import PaymentState as State
from aegispay.sandbox.adapters import FIVE
from aegispay.sandbox.faults import FaultKind, FaultPlan

CHARGED_TIMEOUT_S = 5.0
CHARGES = {
    "stripe": "/v1/payment_intents",
    "razorpay": "/payments/create",
    "paypal": "/v2/checkout/orders",
    "braintree": "/graphql",
    "adyen": "/payments",
}
"""Where each PSP is asked for a charge."""
TELLING = ("stripe", "adyen")
"""PSPs whose webhooks alone can end a doubt: nothing has to be asked of them to believe one."""
KILLED_AT = ("stripe", "braintree")
"""One PSP that knows our key, and one that knows none."""


async def reply_lost(case: Case) -> None:
    """The PSP takes the money and the answer never comes. Another PSP must not be asked."""
    stage = case.stage
    for psp, path in CHARGES.items():
        stage.sandbox.script(psp, [FaultKind.REPLY_LOST], path=path)
    results = await asyncio.gather(
        *(
            stage.charge(f"lost-{psp}", USD_100, [psp, FIVE[(index + 1) % len(FIVE)]])
            for index, psp in enumerate(FIVE)
        )
    )
    case.happened = "charged, answer lost: asked again under the same key or looked up; no failover"
    for result, psp in zip(results, FIVE, strict=True):
        case.check(result.is_success(), f"the answer of {psp} was {result.status}")
        attempts = sum(operation.attempt > 0 for operation in result.payment.operations)
        case.check(attempts == 1, f"{psp}: {attempts} attempts")
        await case.expect(result.payment_id, state=State.SUCCEEDED, taken_minor=100_00, by=psp)


async def lands_late(case: Case) -> None:
    """The request arrives after we gave up on it: at PSPs that know our key, and at those that have none."""
    stage = case.stage
    await asyncio.to_thread(stage.sandbox.set_faults, FaultPlan(late_s=LATE_S))
    for psp, path in CHARGES.items():
        stage.sandbox.script(psp, [FaultKind.LATE], path=path)
    results = await asyncio.gather(*(stage.charge(f"late-{psp}", USD_100, psp) for psp in FIVE))
    await asyncio.to_thread(stage.sandbox.settle)
    case.happened = (
        "with a key: asked again, the late one is a replay; without: looked up, or told by webhook"
    )
    for result, psp in zip(results, FIVE, strict=True):
        await case.expect(result.payment_id, state=State.SUCCEEDED, taken_minor=100_00, by=psp)
    await asyncio.to_thread(stage.sandbox.clear_faults)


async def told_by_webhook(case: Case) -> None:
    """Charged, and from then on the PSP cannot be reached: its webhook is all that is heard of it."""
    stage = case.stage
    for psp in TELLING:
        stage.sandbox.script(psp, [FaultKind.NO_REPLY], path=CHARGES[psp])
        cut = FaultPlan(probabilities={FaultKind.RESET_BEFORE: 1.0})
        await asyncio.to_thread(stage.sandbox.set_faults, cut, face=psp)
    results = await asyncio.gather(*(stage.charge(f"told-{psp}", USD_100, psp) for psp in TELLING))
    case.happened = f"{' and '.join(TELLING)}: charged, then out of reach; the webhook told"
    for result, psp in zip(results, TELLING, strict=True):
        await case.expect(result.payment_id, state=State.SUCCEEDED, taken_minor=100_00, by=psp)
        known = await stage.evidence(result.payment_id)
        case.check(known == [Evidence.WEBHOOK], f"{psp}: known by {', '.join(known) or 'nothing'}")
    await asyncio.to_thread(stage.sandbox.clear_faults)


async def killed(case: Case) -> None:
    """A process is killed when the bank has charged and nothing of that is recorded; another one takes over."""
    stage = case.stage
    # A webhook would tell before anybody can be killed.
    await stage.hold_webhooks()
    between = await asyncio.gather(*(_killed_at(case, psp) for psp in KILLED_AT))
    await stage.send_webhooks()
    case.happened = (
        f"{' and '.join(KILLED_AT)}: SIGKILL with the bank charged and us at {between[0]}; started again"
    )


async def _killed_at(case: Case, psp: str) -> str:
    """One process that dies and one that goes on; returns the state that the first left."""
    stage = case.stage
    order = child.Order(
        store_url=stage.store_url,
        urls={name: stage.sandbox.url(name) for name in FIVE},
        lookup_quiet_s=LOOKUP_QUIET_S,
        idempotency_key=stage.key(f"killed-{psp}"),
        gateway=psp,
    )
    stage.sandbox.script(psp, [FaultKind.NO_REPLY], path=CHARGES[psp])
    log = stage.directory / f"child-{psp}.log"
    async with child.Child(order, log) as first:
        payment_id = await first.payment_id()

        async def charged() -> bool:
            return bool(stage.taken_minor(await stage.pay.get(payment_id)))

        await until(charged, CHARGED_TIMEOUT_S)
        await first.kill()
    between = await stage.pay.get(payment_id)
    case.check(between.captured_minor == 0, "it was recorded before it could be killed")
    case.check(stage.taken_minor(between) == 100_00, "it was not charged yet")
    async with child.Child(order, log) as second:
        answer = await second.answer()
    case.check(answer.get("payment_id") == payment_id, "the second process made another payment")
    case.check(answer.get("status") == "success", f"its answer was {answer.get('status')}")
    await case.expect(payment_id, state=State.SUCCEEDED, taken_minor=100_00, by=psp)
    return str(between.state)


DOUBTFUL = (
    Scenario("Reply lost after charging", reply_lost),
    Scenario("Request lands late", lands_late),
    Scenario("Only the webhook tells", told_by_webhook),
    Scenario("Killed between charge and record", killed),
)
