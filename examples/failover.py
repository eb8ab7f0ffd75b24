"""Fails over on evidence only: when the first PSP refuses connections, and not when its answer is lost."""

import asyncio

from aegispay import AegisPay, Money
from aegispay.sandbox.issuer import sandbox_token
from aegispay.sandbox.server import Sandbox

PRICE = Money.parse("49.00", "EUR")


async def main() -> None:
    async with Sandbox() as sandbox, AegisPay(sandbox.gateways(), store="sqlite://:memory:") as pay:
        await sandbox.stripe.down()
        down = await pay.charge(PRICE, sandbox_token(), idempotency_key="order-1")
        show("PSP down", down)

        await sandbox.stripe.up()
        sandbox.stripe.script(["reply_lost"])
        lost = await pay.charge(PRICE, sandbox_token(), idempotency_key="order-2")
        show("Answer lost", lost)


def show(what: str, result) -> None:
    tried = [f"{operation.gateway} ({operation.status})" for operation in result.payment.operations]
    print(f"{what}: {result.status}, tried {', then '.join(tried)}")


if __name__ == "__main__":
    asyncio.run(main())
