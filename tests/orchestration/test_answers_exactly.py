"""Every field of the plain form of an answer, for each kind of answer: programs and their stored logs depend on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from aegispay.domain.errors import UnsupportedOperation
from aegispay.domain.money import Money
from aegispay.domain.outcomes import DeclineCategory, Declined, Outcome
from aegispay.gateways.gateway import GatewayCall
from aegispay.orchestration.results import ResultError
from aegispay.testing.instant_gateway import InstantGateway
from tests.orchestration.harness import World
from tests.orchestration.test_doubt import KEYED
from tests.orchestration.test_inbound import in_doubt, silent

USD100 = Money(100_00, "USD")
Make = Callable[..., World]


def plain(answer: Any, **changed: Any) -> dict[str, Any]:
    """What the answer to a charge of 100 USD at alpha says, but for what is `changed`."""
    payment = answer.payment
    expected = {
        "status": "success",
        "payment_id": payment.id,
        "state": "succeeded",
        "version": payment.version,
        "amount_minor": 100_00,
        "currency": "USD",
        "authorized_minor": 100_00,
        "captured_minor": 100_00,
        "refunded_minor": 0,
        "released_minor": 0,
        "lost_minor": 0,
        "gateway": "alpha",
        "gateway_reference": payment.gateway_reference,
        "attempts": 1,
        "operation_id": payment.operations[0].id,
        "operation": "charge",
        "operation_amount_minor": 100_00,
    }
    return {**expected, **changed}


async def test_a_success_and_its_refund(make_world: Make) -> None:
    pay = await make_world(InstantGateway("alpha", KEYED)).instance()
    charged = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    assert charged.payment.gateway_reference
    assert charged.to_dict() == plain(charged)
    refunded = await pay.refund(charged.payment_id, Money(30_00, "USD"), idempotency_key="r")
    assert refunded.to_dict() == plain(
        refunded,
        state="partially_refunded",
        refunded_minor=30_00,
        operation="refund",
        operation_id=refunded.payment.operations[1].id,
        operation_amount_minor=30_00,
    )


@pytest.mark.parametrize(
    ("token", "code", "category", "again"),
    [("tok_soft", "insufficient_funds", "soft", True), ("tok_hard", "stolen_card", "hard", False)],
)
async def test_a_decline(make_world: Make, token: str, code: str, category: str, again: bool) -> None:
    pay = await make_world(InstantGateway("alpha", KEYED)).instance()
    failed = await pay.charge(USD100, token, idempotency_key="k")
    assert failed.error is not None
    error = {"code": code, "message": failed.error.message, "category": category, "retryable": again}
    assert failed.to_dict() == plain(
        failed, status="failure", state="failed", authorized_minor=0, captured_minor=0, error=error
    )


async def test_a_doubt(make_world: Make) -> None:
    world = make_world(silent())
    pay = await world.instance()
    payment = await in_doubt(world, pay)
    answer = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    assert answer.payment_id == payment.id
    assert answer.to_dict() == plain(
        answer,
        status="pending",
        state="in_doubt",
        authorized_minor=0,
        captured_minor=0,
        error={
            "code": "in_doubt",
            "message": "The gateway gave no clear answer; it is being found out. Nobody else was asked.",
            "category": None,
            "retryable": False,
        },
    )


async def test_what_the_payer_must_do(make_world: Make) -> None:
    pay = await make_world(InstantGateway("alpha", KEYED)).instance()
    asked = await pay.charge(USD100, "tok_3ds", idempotency_key="k")
    action = asked.next_action
    assert action is not None
    assert asked.to_dict() == plain(
        asked,
        status="requires_action",
        state="requires_action",
        authorized_minor=0,
        captured_minor=0,
        next_action={"type": "redirect", "url": action.url, "data": dict(action.data)},
    )


async def test_a_refused_capture_says_why_and_whether_to_try_again(make_world: Make) -> None:
    world = make_world(InstantGateway("alpha", KEYED))
    pay = await world.instance()
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="k")

    async def refuses(inner: InstantGateway, call: GatewayCall) -> Outcome:
        return Declined(category=DeclineCategory.HARD, code="capture_refused")

    world.gateways[0].faults.append(refuses)
    refused = await pay.capture(held.payment_id, idempotency_key="c")
    assert refused.error == ResultError(
        code="capture_refused",
        message="The gateway refused it.",
        category=DeclineCategory.HARD,
        retryable=False,
    )
    assert refused.to_dict()["operation"] == "capture"
    assert ResultError(code="x", message="y").retryable is False


async def test_a_gateway_without_a_void_is_told_before_anything_is_written(make_world: Make) -> None:
    from msgspec.structs import replace

    pay = await make_world(InstantGateway("alpha", replace(KEYED, void=False))).instance()
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="k")
    with pytest.raises(UnsupportedOperation, match="alpha has no void"):
        await pay.void(held.payment_id, idempotency_key="v")
    assert (await pay.get(held.payment_id)).version == held.payment.version
