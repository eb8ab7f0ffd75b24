"""Reserves an amount, captures it in parts as parcels leave, releases the rest, and refunds one item."""

import asyncio

from aegispay import AegisPay, Money
from aegispay.domain.errors import AmountTooLarge
from aegispay.sandbox.issuer import sandbox_token
from aegispay.sandbox.server import Sandbox


def usd(text: str) -> Money:
    return Money.parse(text, "USD")


async def main() -> None:
    async with Sandbox() as sandbox, AegisPay(sandbox.gateways(), store="sqlite://:memory:") as pay:
        held = await pay.authorize(usd("100.00"), sandbox_token(), idempotency_key="order-1")
        order = held.payment_id
        await pay.capture(order, usd("30.00"), final=False, idempotency_key="parcel-1")
        await pay.capture(order, usd("45.00"), final=False, idempotency_key="parcel-2")
        await pay.void(order, idempotency_key="rest")
        await pay.refund(order, usd("20.00"), idempotency_key="item-7")
        try:
            await pay.refund(order, usd("60.00"), idempotency_key="too-much")
        except AmountTooLarge as refused:
            print("Refused:", refused)
        payment = await pay.get(order)
        print(payment.state, payment.captured.format(), "captured,", payment.refunded.format(), "refunded")
        (charge,) = sandbox.bank.charges(order)
        print("The customer is out of pocket by", charge.net_minor, "cents, with", charge.held_minor, "held.")


if __name__ == "__main__":
    asyncio.run(main())
