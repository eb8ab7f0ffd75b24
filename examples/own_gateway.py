"""An adapter of your own: each operation ends in an outcome; what is neither a clear answer nor a proof is InDoubt."""

import asyncio

from aegispay import AegisPay, Approved, Capabilities, Gateway, InDoubt, Money
from aegispay.gateways.gateway import Health


class CashDesk(Gateway):
    """A PSP in a dictionary. It replays by our key, so that a doubt can be ended by sending again."""

    name = "cash_desk"
    capabilities = Capabilities(authorize=False, stable_key=True, stable_key_ttl_s=86_400.0)

    def __init__(self):
        self.drawer = {}

    async def authorize(self, call):
        raise NotImplementedError  # Never called: the capabilities say so.

    async def charge(self, call):
        if call.gateway_key in self.drawer:
            return self.drawer[call.gateway_key]
        self.drawer[call.gateway_key] = Approved(reference="slip_1", amount_minor=call.amount.amount_minor)
        return InDoubt(reason="timeout")  # The first answer is always lost.

    async def health(self, timeout_s=5.0):
        return Health(ok=True, latency_ms=0.0)


async def main() -> None:
    desk = CashDesk()
    async with AegisPay([desk], store="sqlite://:memory:") as pay:
        result = await pay.charge(Money.parse("7.50", "CHF"), "cash", idempotency_key="order-1")
        print(result.status, result.payment.gateway_reference, "-", len(desk.drawer), "entry in the drawer")


if __name__ == "__main__":
    asyncio.run(main())
