"""A reversal that provably did not leave: it is sent when the PSP can be reached again, once, and nobody has to be asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from aegispay.app import AegisPay
from aegispay.domain.events import OperationKind
from aegispay.domain.money import Money
from aegispay.domain.outcomes import NotSent, Outcome
from aegispay.domain.payment import OperationStatus
from aegispay.domain.states import PaymentState
from aegispay.gateways.gateway import GatewayCall, Lookup, LookupFailed
from aegispay.orchestration.rows import NEVER_SENT
from aegispay.orchestration.settings import DoubtPolicy
from aegispay.storage.store import InFlight
from aegispay.testing.instant_gateway import InstantGateway, reply_lost
from tests.orchestration.harness import DAY_S, SETTINGS, World
from tests.orchestration.test_doubt import KEYED, LOOKUP_ONLY, NO_EVIDENCE

USD100 = Money(100_00, "USD")
Make = Callable[..., World]
REVERSE = replace(SETTINGS, doubt_policy=DoubtPolicy.REVERSE)


class Reachable(InstantGateway):
    """A PSP that refuses connections for refunds and voids while it is `away`."""

    away = False
    refused = 0

    async def perform(self, call: GatewayCall) -> Outcome:
        if self.away and call.kind in (OperationKind.REFUND, OperationKind.VOID):
            self.refused += 1
            return NotSent(reason="connection_refused")
        return await super().perform(call)


async def no_answer(call: GatewayCall) -> Lookup:
    return LookupFailed(reason="down")


async def never_arrives(inner: InstantGateway, call: GatewayCall) -> Outcome:
    await asyncio.Event().wait()
    raise AssertionError


async def late_success(make_world: Make, caps: Any) -> tuple[World, AegisPay, Reachable, str]:
    """A charge in doubt that turns out to have succeeded, under a policy that gives it back, while the PSP is away."""
    gateway = Reachable("alpha", caps)
    world = make_world(gateway)
    pay = await world.instance(settings=REVERSE)
    gateway.look_up = no_answer  # type: ignore[method-assign]
    gateway.faults.extend([reply_lost] * 3)
    asked = await pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=0.01)
    assert asked.is_pending()
    del gateway.look_up  # type: ignore[method-assign]
    gateway.faults.clear()
    gateway.away = True
    await world.clock.sleep(REVERSE.lease_s + 60.0)
    await pay.recover()
    return world, pay, gateway, asked.payment_id


async def refund_row(pay: AegisPay, payment_id: str) -> InFlight:
    refund = (await pay.get(payment_id)).operations[-1]
    assert (refund.kind, refund.status) == (OperationKind.REFUND, OperationStatus.STARTED)
    row = await pay.store.find_in_flight(refund.id)
    assert row is not None
    return row


@pytest.mark.parametrize("caps", [KEYED, LOOKUP_ONLY, NO_EVIDENCE], ids=["keyed", "look-up", "nothing"])
async def test_it_is_sent_once_when_the_psp_is_back(make_world: Make, caps: Any) -> None:
    world, pay, gateway, payment_id = await late_success(make_world, caps)
    row = await refund_row(pay, payment_id)
    assert (row.owner, row.sent_at_us) == ("", NEVER_SENT)
    assert row.due_at_us - world.clock.now_us() <= 2_000_000
    await world.recover(pay, for_s=7_200)
    assert gateway.refused > 5
    assert (await pay.get(payment_id)).review is None
    gateway.away = False
    await world.recover(pay, for_s=1_200)
    payment = await pay.get(payment_id)
    assert (payment.state, payment.review) == (PaymentState.REFUNDED, None)
    assert [one.kind for one in gateway.books].count(OperationKind.REFUND) == 1
    await world.check_books(pay)


async def test_the_tries_come_later_and_later_and_a_person_hears_of_it_after_a_day(make_world: Make) -> None:
    world, pay, gateway, payment_id = await late_success(make_world, LOOKUP_ONLY)
    await world.recover(pay, for_s=3_600)
    first_hour = gateway.refused
    await world.recover(pay, for_s=3_600)
    assert gateway.refused - first_hour < first_hour
    await world.recover(pay, for_s=DAY_S - 3 * 3_600)
    assert (await pay.get(payment_id)).review is None
    await world.recover(pay, for_s=3 * 3_600)
    assert (await pay.get(payment_id)).review == "not sent for 86400 s"
    gateway.away = False
    await world.recover(pay, for_s=3_600)
    payment = await pay.get(payment_id)
    assert (payment.state, payment.review) == (PaymentState.REFUNDED, None)


async def test_whoever_dies_over_the_first_send_leaves_a_doubt_and_no_second_send(make_world: Make) -> None:
    world, pay, gateway, payment_id = await late_success(make_world, LOOKUP_ONLY)
    gateway.away = False
    gateway.faults.append(never_arrives)
    await world.clock.sleep(30.0)
    dying = asyncio.ensure_future(pay.recover())
    await world.clock.sleep(0.5)
    row = await refund_row(pay, payment_id)
    assert row.owner != "" and row.sent_at_us > 0  # Written before anything left.
    await world.kill(pay)
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    pay = await world.instance(settings=REVERSE)
    await world.clock.sleep(REVERSE.lease_s + 1.0)
    await pay.recover()
    refund = (await pay.get(payment_id)).operations[-1]
    assert (refund.status, refund.code) == (OperationStatus.IN_DOUBT, "owner_gone")
    assert [one.kind for one in gateway.books].count(OperationKind.REFUND) == 0


async def test_whoever_dies_before_it_is_written_that_it_is_sent_leaves_a_doubt_too(make_world: Make) -> None:
    world, pay, gateway, payment_id = await late_success(make_world, LOOKUP_ONLY)
    row = await refund_row(pay, payment_id)
    (taken,) = await pay.store.lease_due(row.due_at_us, "somebody", row.due_at_us + 1_000_000, 1)
    assert taken.sent_at_us == NEVER_SENT
    await world.clock.sleep(3_600.0)
    gateway.away = False
    await pay.recover()
    refund = (await pay.get(payment_id)).operations[-1]
    assert refund.status is not OperationStatus.APPROVED
    assert [one.kind for one in gateway.books].count(OperationKind.REFUND) == 0
