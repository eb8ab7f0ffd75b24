"""Scenarios of an ordinary day: charges, captures, declines, failover, refunds, and payers who have to act."""

from __future__ import annotations

import asyncio

from aegispay.demo import payer
from aegispay.demo.stage import Case, Scenario
from aegispay.domain.errors import AmountTooLarge, IdempotencyConflict
from aegispay.domain.money import Money
from aegispay.domain.outcomes import Evidence
from aegispay.domain.states import PaymentState as State
from aegispay.orchestration.results import Result
from aegispay.sandbox.adapters import BROWSER, CARDS, CUSTOMER_ID, FIVE, MANDATE, five_token

USD_100 = Money(100_00, "USD")
CLICKS = 50
REFUNDS = 20
HELD_S = 0.2
"""How long a caller waits for a webhook that is held back."""
FIRST, SECOND, *_ = FIVE
"""The order in which the router tries them."""
PAYER_PSPS = tuple(CARDS["payer"])
"""Those with a page that a payer is sent to; Braintree's 3DS is over before its charge begins."""


async def plain_charges(case: Case) -> None:
    stage = case.stage
    results = await asyncio.gather(
        *(stage.charge(f"plain-{psp}", USD_100, psp) for psp in FIVE),
    )
    case.happened = f"one each through {', '.join(FIVE)}"
    for result, psp in zip(results, FIVE, strict=True):
        case.check(result.is_success(), f"the answer of {psp} was {result.status}")
        await case.expect(result.payment_id, state=State.SUCCEEDED, taken_minor=100_00, by=psp)


async def partial_captures(case: Case) -> None:
    pay, key = case.stage.pay, case.stage.key
    held = await pay.authorize(USD_100, five_token(), idempotency_key=key("hold"), gateway=FIRST)
    for part, minor in enumerate((30_00, 45_00)):
        done = await pay.capture(
            held.payment_id, Money(minor, "USD"), final=False, idempotency_key=key(f"capture-{part}")
        )
        case.check(done.is_success(), f"capture {part} was {done.status}")
    rest = await pay.void(held.payment_id, idempotency_key=key("void"))
    case.check(rest.is_success(), f"the void was {rest.status}")
    case.happened = f"{FIRST}: 100 held, 30 and 45 captured, the rest released"
    await case.expect(held.payment_id, state=State.SUCCEEDED, taken_minor=75_00, by=FIRST)


async def only_by_webhook(case: Case) -> None:
    """Adyen says of a capture and of a refund that it was received; what became of it comes by webhook alone."""
    stage = case.stage
    held = await stage.pay.authorize(
        USD_100,
        five_token(),
        idempotency_key=stage.key("adyen"),
        gateway="adyen",
        customer_id=CUSTOMER_ID,
        return_url="https://shop.example/back",
    )
    for what in ("capture", "refund"):
        await stage.hold_webhooks()
        do = stage.pay.capture if what == "capture" else stage.pay.refund
        asked = await do(
            held.payment_id,
            Money(100_00 if what == "capture" else 40_00, "USD"),
            idempotency_key=stage.key(f"adyen-{what}"),
            timeout_s=HELD_S,
        )
        case.check(asked.is_pending(), f"the {what} was {asked.status} before any webhook")
        await stage.send_webhooks()
        await stage.settled(held.payment_id)
    known = (await stage.evidence(held.payment_id))[1:]
    case.check(known == [Evidence.WEBHOOK] * 2, f"known by {', '.join(known)}")
    case.happened = "adyen: capture and refund pending until their webhooks came"
    await case.expect(
        held.payment_id, state=State.PARTIALLY_REFUNDED, taken_minor=100_00, refunded_minor=40_00, by="adyen"
    )


async def soft_decline(case: Case) -> None:
    method = five_token(**{FIRST: "soft"})
    result = await case.stage.charge("soft", USD_100, method=method)
    codes = [operation.code for operation in result.payment.operations]
    case.check(codes[0] == "insufficient_funds", f"the first answer was {codes[0]}")
    case.happened = f"{FIRST}: {codes[0]}; then {result.payment.gateway} charged"
    await case.expect(result.payment_id, state=State.SUCCEEDED, taken_minor=100_00, by=SECOND)


async def hard_decline(case: Case) -> None:
    stage = case.stage
    before = stage.requests(*FIVE[1:])
    result = await stage.charge("hard", USD_100, method=five_token(**{FIRST: "hard"}))
    case.check(result.is_failure(), f"the answer was {result.status}")
    case.check(stage.requests(*FIVE[1:]) == before, "another PSP was asked")
    code = result.error.code if result.error else "nothing"
    case.happened = f"{FIRST}: {code}; nobody else was asked"
    await case.expect(result.payment_id, state=State.FAILED, taken_minor=0)


async def psp_down(case: Case) -> None:
    stage = case.stage
    await asyncio.to_thread(stage.sandbox.down, FIRST)
    try:
        result = await stage.charge("down", USD_100)
    finally:
        await asyncio.to_thread(stage.sandbox.up, FIRST)
    first = result.payment.operations[0]
    case.check(first.status == "not_sent", f"the first attempt ended as {first.status}")
    case.happened = f"{FIRST}: {first.code}, so nothing was sent; then {result.payment.gateway}"
    await case.expect(result.payment_id, state=State.SUCCEEDED, taken_minor=100_00, by=SECOND)


async def many_clicks(case: Case) -> None:
    """Each click is a request of its own with the same key; the five PSPs get their share of them."""
    stage = case.stage
    each = CLICKS // len(FIVE)
    answers = await asyncio.gather(
        *(stage.charge(f"clicks-{psp}", USD_100, psp) for psp in FIVE for _ in range(each))
    )
    case.happened = f"{each} requests at once with one key at each PSP: {len(answers)} answers"
    for index, psp in enumerate(FIVE):
        same = answers[index * each : (index + 1) * each]
        case.check(len({answer.to_json() for answer in same}) == 1, f"the answers of {psp} differ")
        await case.expect(same[0].payment_id, state=State.SUCCEEDED, taken_minor=100_00, by=psp)


async def other_amount(case: Case) -> None:
    stage = case.stage
    first = await stage.charge("other", USD_100)
    before = stage.requests(*FIVE)
    try:
        await stage.charge("other", Money(200_00, "USD"))
        case.check(False, "the second request was not refused")
    except IdempotencyConflict as refused:
        case.happened = f"refused ({refused.code}), nothing sent"
    case.check(stage.requests(*FIVE) == before, "a PSP was asked")
    await case.expect(first.payment_id, state=State.SUCCEEDED, taken_minor=100_00, by=FIRST)


async def many_refunds(case: Case) -> None:
    pay, key = case.stage.pay, case.stage.key
    paid = await case.stage.charge("refunds", USD_100)
    answers = await asyncio.gather(
        *(
            pay.refund(paid.payment_id, Money(60_00, "USD"), idempotency_key=key(f"refund-{number}"))
            for number in range(REFUNDS)
        ),
        return_exceptions=True,
    )
    refused = sum(isinstance(answer, AmountTooLarge) for answer in answers)
    done = sum(isinstance(answer, Result) and answer.is_success() for answer in answers)
    case.check((done, refused) == (1, REFUNDS - 1), f"{done} went through and {refused} were refused")
    case.happened = f"{REFUNDS} refunds of 60 at once: {done} paid, {refused} refused"
    await case.expect(
        paid.payment_id, state=State.PARTIALLY_REFUNDED, taken_minor=100_00, refunded_minor=60_00, by=FIRST
    )


async def payers_act(case: Case) -> None:
    """3DS at Stripe and Adyen, approval at PayPal, the bank's page at Razorpay: nothing is taken before the payer agrees."""
    for psp in PAYER_PSPS:
        await _one_payer(case, psp)
    case.happened = f"authenticated on the pages of {', '.join(PAYER_PSPS)}; then charged"


async def _one_payer(case: Case, psp: str) -> None:
    stage = case.stage
    metadata = BROWSER if psp == "razorpay" else MANDATE
    result = await stage.charge(f"3ds-{psp}", USD_100, psp, five_token("payer"), metadata)
    action = result.next_action
    case.check(action is not None and bool(action.url), f"{psp}: the payer was not asked: {result.status}")
    case.check(not stage.taken_minor(result.payment), "taken before the payer agreed")
    if action is not None and action.url:
        brought = await asyncio.to_thread(payer.visit, action.url)
        result = await stage.pay.complete_action(
            result.payment_id, brought, idempotency_key=stage.key(f"3ds-{psp}-back")
        )
    case.check(result.is_success(), f"{psp}: the answer was {result.status}")
    await case.expect(result.payment_id, state=State.SUCCEEDED, taken_minor=100_00, by=psp)


ORDINARY = (
    Scenario("Plain charges", plain_charges),
    Scenario("Authorize, two captures, void", partial_captures),
    Scenario("The webhook has the last word", only_by_webhook),
    Scenario("Soft decline", soft_decline),
    Scenario("Hard decline", hard_decline),
    Scenario("PSP down", psp_down),
)
CONCURRENT = (
    Scenario(f"{CLICKS} clicks at once", many_clicks),
    Scenario("Same key, other amount", other_amount),
    Scenario(f"{REFUNDS} refunds at once", many_refunds),
    Scenario("Payers who must act", payers_act),
)
