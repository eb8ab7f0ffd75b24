"""Scenarios of an ordinary day: charges, captures, declines, failover, refunds, and a payer who has to authenticate."""

from __future__ import annotations

import asyncio
import http.client
from urllib.parse import urlsplit

from aegispay.demo.stage import Case, Scenario
from aegispay.domain.errors import AmountTooLarge, IdempotencyConflict
from aegispay.domain.money import Money
from aegispay.domain.states import PaymentState as State
from aegispay.orchestration.results import Result
from aegispay.sandbox.issuer import sandbox_token

USD_100 = Money(100_00, "USD")
CLICKS = 50
REFUNDS = 20


async def plain_charge(case: Case) -> None:
    stage = case.stage
    result = await stage.pay.charge(USD_100, sandbox_token(), idempotency_key=stage.key("plain"))
    case.happened = f"{result.payment.gateway} charged the card"
    case.check(result.is_success(), f"the answer was {result.status}")
    await case.expect(result.payment_id, state=State.SUCCEEDED, taken_minor=100_00, by="stripe")


async def partial_captures(case: Case) -> None:
    pay, key = case.stage.pay, case.stage.key
    held = await pay.authorize(USD_100, sandbox_token(), idempotency_key=key("hold"))
    for part, minor in enumerate((30_00, 45_00)):
        done = await pay.capture(
            held.payment_id, Money(minor, "USD"), final=False, idempotency_key=key(f"capture-{part}")
        )
        case.check(done.is_success(), f"capture {part} was {done.status}")
    rest = await pay.void(held.payment_id, idempotency_key=key("void"))
    case.check(rest.is_success(), f"the void was {rest.status}")
    case.happened = "100 held, 30 and 45 captured, the rest released"
    await case.expect(held.payment_id, state=State.SUCCEEDED, taken_minor=75_00, by="stripe")


async def soft_decline(case: Case) -> None:
    stage = case.stage
    method = sandbox_token("pm_card_chargeDeclinedInsufficientFunds", "tok_visa")
    result = await stage.pay.charge(USD_100, method, idempotency_key=stage.key("soft"))
    codes = [operation.code for operation in result.payment.operations]
    case.check(codes[0] == "insufficient_funds", f"the first answer was {codes[0]}")
    case.happened = f"stripe: {codes[0]}; then {result.payment.gateway} charged"
    await case.expect(result.payment_id, state=State.SUCCEEDED, taken_minor=100_00, by="plainpay")


async def hard_decline(case: Case) -> None:
    stage = case.stage
    before = stage.requests("plainpay")
    method = sandbox_token("pm_card_chargeDeclinedStolenCard", "tok_visa")
    result = await stage.pay.charge(USD_100, method, idempotency_key=stage.key("hard"))
    case.check(result.is_failure(), f"the answer was {result.status}")
    case.check(stage.requests("plainpay") == before, "the second PSP was asked")
    code = result.error.code if result.error else "nothing"
    case.happened = f"stripe: {code}; nobody else was asked"
    await case.expect(result.payment_id, state=State.FAILED, taken_minor=0)


async def psp_down(case: Case) -> None:
    stage = case.stage
    await asyncio.to_thread(stage.sandbox.down, "stripe")
    try:
        result = await stage.pay.charge(USD_100, sandbox_token(), idempotency_key=stage.key("down"))
    finally:
        await asyncio.to_thread(stage.sandbox.up, "stripe")
    first = result.payment.operations[0]
    case.check(first.status == "not_sent", f"the first attempt ended as {first.status}")
    case.happened = f"stripe: {first.code}, so nothing was sent; then {result.payment.gateway}"
    await case.expect(result.payment_id, state=State.SUCCEEDED, taken_minor=100_00, by="plainpay")


async def many_clicks(case: Case) -> None:
    stage = case.stage
    key = stage.key("clicks")
    answers = await asyncio.gather(
        *(stage.pay.charge(USD_100, sandbox_token(), idempotency_key=key) for _ in range(CLICKS))
    )
    case.check(len({answer.to_json() for answer in answers}) == 1, "the answers differ")
    case.happened = f"{CLICKS} requests with one key at once, {CLICKS} equal answers"
    await case.expect(answers[0].payment_id, state=State.SUCCEEDED, taken_minor=100_00, by="stripe")


async def other_amount(case: Case) -> None:
    stage = case.stage
    key = stage.key("other")
    first = await stage.pay.charge(USD_100, sandbox_token(), idempotency_key=key)
    before = [stage.requests(face) for face in ("stripe", "plainpay")]
    try:
        await stage.pay.charge(Money(200_00, "USD"), sandbox_token(), idempotency_key=key)
        case.check(False, "the second request was not refused")
    except IdempotencyConflict as refused:
        case.happened = f"refused ({refused.code}), nothing sent"
    after = [stage.requests(face) for face in ("stripe", "plainpay")]
    case.check(before == after, "a PSP was asked")
    await case.expect(first.payment_id, state=State.SUCCEEDED, taken_minor=100_00, by="stripe")


async def many_refunds(case: Case) -> None:
    pay, key = case.stage.pay, case.stage.key
    paid = await pay.charge(USD_100, sandbox_token(), idempotency_key=key("refunds"))
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
        paid.payment_id, state=State.PARTIALLY_REFUNDED, taken_minor=100_00, refunded_minor=60_00, by="stripe"
    )


async def three_d_secure(case: Case) -> None:
    stage = case.stage
    result = await stage.pay.charge(
        USD_100,
        sandbox_token("pm_card_threeDSecure2Required"),
        idempotency_key=stage.key("3ds"),
        return_url="https://shop.example/back",
    )
    action = result.next_action
    case.check(action is not None and bool(action.url), f"the payer was not asked: {result.status}")
    case.check(not stage.sandbox.bank.captured_minor(result.payment_id), "taken before the payer agreed")
    if action is not None and action.url:
        await asyncio.to_thread(_authenticate, action.url)
        result = await stage.pay.complete_action(result.payment_id, idempotency_key=stage.key("3ds-back"))
    case.happened = f"the payer authenticated on the bank's page: {result.status}"
    await case.expect(result.payment_id, state=State.SUCCEEDED, taken_minor=100_00, by="stripe")


def _authenticate(url: str) -> None:
    """What a payer's browser does: reads the page, and presses its first button."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "127.0.0.1", where.port, timeout=5.0)
    try:
        connection.request("GET", where.path)
        page = connection.getresponse().read()
        if b'value="authenticate"' not in page:
            raise RuntimeError("the 3DS page has no button")
        form = {"content-type": "application/x-www-form-urlencoded"}
        connection.request("POST", where.path, b"action=authenticate", form)
        connection.getresponse().read()
    finally:
        connection.close()


ORDINARY = (
    Scenario("Plain charge", plain_charge),
    Scenario("Authorize, two captures, void", partial_captures),
    Scenario("Soft decline", soft_decline),
    Scenario("Hard decline", hard_decline),
    Scenario("PSP down", psp_down),
)
CONCURRENT = (
    Scenario(f"{CLICKS} clicks at once", many_clicks),
    Scenario("Same key, other amount", other_amount),
    Scenario(f"{REFUNDS} refunds at once", many_refunds),
    Scenario("3DS", three_d_secure),
)
