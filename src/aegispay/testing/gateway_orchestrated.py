"""The real orchestrator over the adapter on the bench, with its store in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from aegispay.app import AegisPay
from aegispay.domain.events import OperationKind
from aegispay.domain.methods import Card
from aegispay.orchestration.results import Result
from aegispay.orchestration.settings import Settings
from aegispay.ports import Ports
from aegispay.resilience.retry import RetryPolicy
from aegispay.testing.gateway_rig import Bench


@asynccontextmanager
async def orchestrator(bench: Bench, *, stepping: bool = False) -> AsyncGenerator[AegisPay]:
    """An orchestrator that knows the one gateway, and does not wait long between its tries.

    `stepping`: it lives by the bench's clock, so that days pass at once.
    """
    settings = Settings(
        recovery=False,
        inline_retry=RetryPolicy(attempts_max=3, initial_delay_s=0.001, delay_max_s=0.002),
    )
    ports = Ports(clock=bench.clock) if stepping else None
    async with AegisPay(
        {"bench": bench.gateway}, store="sqlite://:memory:", settings=settings, ports=ports
    ) as pay:
        yield pay


async def start(
    pay: AegisPay, bench: Bench, kind: OperationKind, key: str, method: str | Card | None = None
) -> Result:
    """The first operation of a payment, with what every call of this adapter needs."""
    common = bench.rig.common
    ask = pay.charge if kind is OperationKind.CHARGE else pay.authorize
    return await ask(
        bench.money(),
        method if method is not None else bench.rig.approves,
        idempotency_key=key,
        customer_id=common.get("customer_id"),
        return_url=common.get("return_url"),
        metadata=common.get("metadata"),
    )
