"""Takes a payment at a sandbox that speaks Stripe's API on loopback: no account needed."""

import asyncio

from aegispay import AegisPay, Money, StripeGateway
from aegispay.sandbox.server import Sandbox


async def main() -> None:
    async with Sandbox() as sandbox:
        stripe = StripeGateway(sandbox.stripe_key, base_url=sandbox.stripe_url)
        async with AegisPay([stripe], store="sqlite://:memory:") as pay:
            for _ in range(2):  # The customer clicks twice.
                result = await pay.charge(
                    Money.parse("99.99", "USD"), "pm_card_visa", idempotency_key="order-1"
                )
                print(result.payment_id, result.payment.state, result.payment.captured.format())
        print("The bank took", sandbox.bank.captured_minor(result.payment_id), "cents, once.")


if __name__ == "__main__":
    asyncio.run(main())
