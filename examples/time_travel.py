"""Reads a payment's events, and the payment as it was after each of them."""

import asyncio

from aegispay import AegisPay, Money
from aegispay.sandbox.issuer import sandbox_token
from aegispay.sandbox.server import Sandbox


async def main() -> None:
    async with Sandbox() as sandbox, AegisPay(sandbox.gateways(), store="sqlite://:memory:") as pay:
        method = sandbox_token("pm_card_chargeDeclinedInsufficientFunds", "tok_visa")
        paid = await pay.charge(Money(4_800, "JPY"), method, idempotency_key="order-1")
        await pay.refund(paid.payment_id, Money(800, "JPY"), idempotency_key="item-2")
        for event in await pay.event_store.events(paid.payment_id):
            then = await pay.event_store.replay_events(paid.payment_id, until_version=event.version)
            name = type(event.data).__name__
            print(f"{event.version}  {name:<20} {then.state:<20} {then.captured.format():>10}")


if __name__ == "__main__":
    asyncio.run(main())
