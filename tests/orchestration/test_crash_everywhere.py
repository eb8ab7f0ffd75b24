"""A promise at every await: the process dies before and after each call of each port, and another one mends what is left.

For each scenario the test first counts the port calls, then kills the process at each of them in turn, starts a new one
on the same database, lets recovery run, repeats the client's request, and compares our books with the gateways'.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from aegispay.app import AegisPay
from aegispay.domain.errors import InvalidState
from aegispay.domain.events import OperationKind
from aegispay.domain.methods import Token
from aegispay.domain.money import Money
from aegispay.domain.states import PaymentState
from aegispay.gateways.capabilities import Capabilities
from aegispay.testing.instant_gateway import InstantGateway, refused_connection, reply_lost, request_lost
from tests.orchestration.harness import DAY_S, Death, World, until_dead_or_done
from tests.orchestration.test_doubt import CANCELABLE, KEYED, LOOKUP_ONLY

USD100 = Money(100_00, "USD")
Make = Callable[..., World]
Client = Callable[[AegisPay], Awaitable[object]]


async def charge(pay: AegisPay) -> object:
    return await pay.charge(USD100, "tok_ok", idempotency_key="k")


async def failover(pay: AegisPay) -> object:
    return await pay.charge(USD100, Token("tok_soft", {"beta": "tok_ok"}), idempotency_key="k")


async def capture_and_refund(pay: AegisPay) -> object:
    held = await pay.authorize(USD100, "tok_ok", idempotency_key="k")
    if held.payment.state is not PaymentState.AUTHORIZED:
        return held
    await pay.capture(held.payment_id, Money(60_00, "USD"), final=False, idempotency_key="c")
    await pay.void(held.payment_id, idempotency_key="v")
    return await pay.refund(held.payment_id, Money(20_00, "USD"), idempotency_key="r")


async def three_d_secure(pay: AegisPay) -> object:
    asked = await pay.charge(USD100, "tok_3ds", idempotency_key="k")
    return await pay.complete_action(asked.payment_id) if asked.requires_action() else asked


SCENARIOS: dict[str, tuple[Client, list[Callable[..., object]]]] = {
    "charge": (charge, []),
    "charge, reply lost": (charge, [reply_lost]),
    "charge, request lost": (charge, [request_lost]),
    "charge, first gateway down": (charge, [refused_connection]),
    "soft decline, then the second": (failover, []),
    "authorize, capture, void, refund": (capture_and_refund, []),
    "3DS": (three_d_secure, []),
}


async def live(world: World, client: Client, faults: list[Callable[..., object]], at: int) -> Death:
    """One life of a process that dies at the given port call."""
    death = Death(at)
    world.gateways[0].faults.extend(faults)  # type: ignore[arg-type]
    pay = await world.instance(death)
    await until_dead_or_done(client(pay), death)
    await world.kill(pay)
    world.gateways[0].faults.clear()
    return death


async def check(world: World, client: Client) -> None:
    """Recovery alone makes the books right; the client's repeat of the same requests charges nothing twice."""
    pay = await world.instance()
    await world.recover(pay, for_s=3 * DAY_S)
    payments = await world.check_books(pay)
    assert len(payments) <= 1
    try:
        await client(pay)
    except InvalidState:
        # What was not found at the gateway ended as not sent: then there is nothing to refund now.
        (payment,) = await pay.list()
        assert payment.captured_minor == 0
        assert payment.state in (PaymentState.FAILED, PaymentState.CANCELED)
    await world.recover(pay, for_s=3 * DAY_S)
    (payment,) = await world.check_books(pay)
    for kind in (
        OperationKind.CHARGE,
        OperationKind.AUTHORIZE,
        OperationKind.CAPTURE,
        OperationKind.VOID,
        OperationKind.REFUND,
    ):
        assert sum(gateway.count(kind, payment.id) for gateway in world.gateways) <= 1, (
            f"{kind} more than once"
        )
    assert payment.state is not PaymentState.NEEDS_REVIEW


@pytest.mark.parametrize("caps", [KEYED, LOOKUP_ONLY, CANCELABLE], ids=["keyed", "look-up", "cancel"])
@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_the_process_dies_before_and_after_every_port_call(
    make_world: Make, scenario: str, caps: Capabilities
) -> None:
    client, faults = SCENARIOS[scenario]
    rehearsal = await live(
        make_world(InstantGateway("alpha", caps), InstantGateway("beta", caps)), client, faults, 0
    )
    assert rehearsal.count >= 4
    places: list[str] = []
    for at in range(1, rehearsal.count + 1):
        world = make_world(InstantGateway("alpha", caps), InstantGateway("beta", caps))
        death = await live(world, client, faults, at)
        assert death.dead.is_set()
        places.append(death.where)
        await check(world, client)
    assert any(place.startswith("after") and "perform" in place for place in places)


@pytest.mark.parametrize("caps", [KEYED, LOOKUP_ONLY, CANCELABLE], ids=["keyed", "look-up", "cancel"])
async def test_the_recovery_worker_dies_at_every_port_call_of_its_own(
    make_world: Make, caps: Capabilities
) -> None:
    """A lost reply, and a first process that is gone: then the one that recovers dies too, wherever it stands."""
    for at in range(1, 200):
        world = make_world(InstantGateway("alpha", caps))
        await live(world, charge, [reply_lost], 5)
        await world.clock.sleep(120)
        death = Death(at)
        dying = await world.instance(death)
        await until_dead_or_done(world.recover(dying, for_s=300), death)
        await world.kill(dying)
        await check(world, charge)
        if not death.dead.is_set():
            assert at > 8
            break
    else:
        raise AssertionError("recovery makes more port calls than it should")
