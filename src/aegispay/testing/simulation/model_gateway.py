"""The adapter to a model PSP, over the simulated network. Its capabilities are what its PSP keeps, no more."""

from __future__ import annotations

from aegispay.domain.outcomes import InDoubt, NotSent, Outcome
from aegispay.gateways.capabilities import Capabilities
from aegispay.gateways.gateway import (
    Found,
    Gateway,
    GatewayCall,
    Health,
    Lookup,
    LookupFailed,
    NotFound,
)
from aegispay.testing.simulation.instance_ports import Ported
from aegispay.testing.simulation.model_psp import ModelPsp
from aegispay.testing.simulation.network import Exchange, Network


class ModelGateway(Gateway):
    """One instance's way to one model PSP."""

    def __init__(
        self,
        name: str,
        psp: ModelPsp,
        network: Network,
        ported: Ported,
        capabilities: Capabilities,
        *,
        late_s_max: float,
    ):
        self.name = name
        self.capabilities = capabilities
        self._psp = psp
        self._network = network
        self._ported = ported
        self._late_s_max = late_s_max

    async def perform(self, call: GatewayCall) -> Outcome:
        return await self._carry(
            Exchange(
                psp=self.name,
                what=f"{call.kind} {call.operation_id} {call.amount.amount_minor}",
                timeout_s=call.timeout_s,
                deliver=lambda fail: self._psp.execute(call, fail),
                front=_front,
                garbage=lambda: InDoubt(reason="garbage"),
                writes=True,
                replays=self._psp.keyed,
                late_s_max=self._late_s_max,
            )
        )

    async def _carry(self, exchange: Exchange[Outcome]) -> Outcome:
        return await self._network.carry(exchange, self._ported)

    async def authorize(self, call: GatewayCall) -> Outcome:
        return await self.perform(call)

    async def charge(self, call: GatewayCall) -> Outcome:
        return await self.perform(call)

    async def look_up(self, call: GatewayCall) -> Lookup:
        exchange: Exchange[Lookup] = Exchange(
            psp=self.name,
            what=f"look-up {call.operation_id}",
            timeout_s=call.timeout_s,
            deliver=lambda fail: self._psp.look_up(call),
            front=lambda status: LookupFailed(reason=f"http_{status}"),
            garbage=lambda: LookupFailed(reason="garbage"),
            writes=False,
            replays=True,
            late_s_max=0.0,
        )
        found = await self._network.carry(exchange, self._ported)
        return (
            found if isinstance(found, Found | NotFound | LookupFailed) else LookupFailed(reason=found.reason)
        )

    async def cancel_by_reference(self, call: GatewayCall) -> Outcome:
        if not self._psp.cancels:
            return await super().cancel_by_reference(call)
        return await self._carry(
            Exchange(
                psp=self.name,
                what=f"cancel {call.operation_id}",
                timeout_s=call.timeout_s,
                deliver=lambda fail: self._psp.cancel(call),
                front=_front,
                garbage=lambda: InDoubt(reason="garbage"),
                writes=True,
                replays=True,
                late_s_max=0.0,
            )
        )

    async def health(self, timeout_s: float = 5.0) -> Health:
        return Health(ok=True, latency_ms=0.0, detail="simulated")


def _front(status: int) -> Outcome:
    """A front that answers for its PSP: only a 429 proves that nothing was executed."""
    return NotSent(reason="rate_limited") if status == 429 else InDoubt(reason="server_error")
