"""A process that stalls between its last check of the lease and the first byte sends nothing."""

from __future__ import annotations

import asyncio

from aegispay import AegisPay, Money, Settings
from aegispay.domain.states import PaymentState
from aegispay.gateways.stripe import StripeGateway
from aegispay.ports import Ports, SystemClock
from aegispay.resilience.retry import RetryPolicy
from tests.fakes.raw_server import Peer, RawServer, raw_server


class Stalling(SystemClock):
    """An hour passes while the process connects: it was suspended, and wakes up."""

    def __init__(self, server: RawServer) -> None:
        self._server = server

    def now_us(self) -> int:
        return super().now_us() + (3_600_000_000 if self._server.connections else 0)


async def test_a_process_that_stalled_while_connecting_sends_nothing_after_its_lease() -> None:
    async def hangs_up(peer: Peer) -> None:
        peer.server.requests.append(b"" if peer.server.connections > 1 else await peer.reader.read())
        peer.server.hung_up.set()
        peer.reset()

    async with raw_server(hangs_up) as server:
        gateway = StripeGateway("sk_test_anything", base_url=f"http://127.0.0.1:{server.port}")
        settings = Settings(recovery=False, inline_retry=RetryPolicy(attempts_max=1))
        ports = Ports(clock=Stalling(server))
        async with AegisPay(
            {"stripe": gateway}, store="sqlite://:memory:", settings=settings, ports=ports
        ) as pay:
            result = await pay.charge(Money(10_00, "USD"), "pm_card_visa", idempotency_key="k")
            await asyncio.wait_for(server.hung_up.wait(), 5.0)
            payment = await pay.get(result.payment_id)
    # What follows is sent under a lease that was renewed first: nobody had taken over.
    assert server.requests[0] == b""
    assert payment.state in (PaymentState.IN_DOUBT, PaymentState.FAILED)
