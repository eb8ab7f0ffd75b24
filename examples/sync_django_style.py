"""The synchronous face, as a Django view uses it: one AegisPaySync for the process, safe to call from every thread."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from aegispay import AegisPaySync, Money, StripeGateway
from aegispay.sandbox.server import Sandbox


def checkout(pay: AegisPaySync, order: str) -> str:
    """A view: it runs in a thread of the web server."""
    result = pay.charge(Money.parse("12.50", "GBP"), "pm_card_visa", idempotency_key=order)
    if result.is_success():
        return f"{order}: paid"
    return f"{order}: being checked" if result.is_pending() else f"{order}: refused ({result.error.code})"


async def main() -> None:
    async with Sandbox() as sandbox:
        # The sandbox needs this event loop; a web server's threads stand in another.
        await asyncio.to_thread(serve, sandbox)


def serve(sandbox: Sandbox) -> None:
    stripe = StripeGateway(sandbox.stripe_key, base_url=sandbox.stripe_url)
    with AegisPaySync([stripe], store="sqlite://:memory:") as pay, ThreadPoolExecutor(4) as web_server:
        for answer in web_server.map(lambda n: checkout(pay, f"order-{n}"), (1, 2, 3, 1)):
            print(answer)
        print(len(pay.list()), "payments: order-1 was sent twice and paid once")


if __name__ == "__main__":
    asyncio.run(main())
