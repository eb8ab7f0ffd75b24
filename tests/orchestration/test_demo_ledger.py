"""What the demo counts for each PSP, from the events of payments that went well, wrong, and through doubt."""

from __future__ import annotations

from collections.abc import Callable

from aegispay.demo.ledger import Ledger
from aegispay.domain.money import Money
from aegispay.testing.instant_gateway import InstantGateway, reply_lost
from tests.orchestration.harness import World

USD_100 = Money(100_00, "USD")
Make = Callable[..., World]


async def test_payments_operations_and_doubts_are_counted_at_the_psp_where_they_were(
    make_world: Make,
) -> None:
    world = make_world(InstantGateway("alpha"), InstantGateway("beta"))
    pay = await world.instance()
    await pay.charge(USD_100, "tok_good", idempotency_key="plain")
    await pay.charge(USD_100, "tok_hard", idempotency_key="declined")
    world.gateways[1].faults.append(reply_lost)
    lost = await pay.charge(USD_100, "tok_good", idempotency_key="lost", gateway="beta")
    assert lost.is_success()
    await pay.refund(lost.payment_id, Money(40_00, "USD"), idempotency_key="back")
    ledger = Ledger(["alpha", "beta"])
    for payment in await pay.list():
        ledger.add(payment, await pay.event_store.events(payment.id))
    alpha, beta = ledger.rows["alpha"], ledger.rows["beta"]
    assert (alpha.paid, alpha.operations, alpha.doubts, alpha.resolved) == (1, 2, 0, {})
    assert (beta.paid, beta.operations, beta.doubts, beta.resolved_sum) == (1, 2, 1, 1)
    # A doubt that ends with "the payer must act" has ended.
    world.gateways[0].faults.append(reply_lost)
    asked = await pay.charge(USD_100, "tok_3ds", idempotency_key="asked", return_url="https://shop.example/")
    assert asked.requires_action()
    ledger.add(await pay.get(asked.payment_id), await pay.event_store.events(asked.payment_id))
    assert (alpha.doubts, alpha.resolved_sum) == (1, 1)
    assert set(beta.resolved) <= {"resend", "lookup"}
    assert (alpha.told_by_webhook, beta.told_by_webhook) == (0, 0)
