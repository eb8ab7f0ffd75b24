"""What the comparison with pgbench asks a PostgreSQL server directly: row sizes, row counts, its CPU time."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

import asyncpg
import msgspec

from aegispay.bench.usage import ServerCpu
from aegispay.domain.events import encode_data
from aegispay.domain.evolve import fold
from aegispay.domain.payment import encode_payment
from aegispay.storage.factory import open_store

_NEWEST = "SELECT payment_id FROM payment WHERE state = 'succeeded' ORDER BY payment_id DESC LIMIT 1"
_COUNTS = """
    SELECT (SELECT count(*) FROM claim) AS claim, (SELECT count(*) FROM payment) AS payment,
           (SELECT count(*) FROM event) AS event, (SELECT count(*) FROM in_flight) AS in_flight"""


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """How long the texts of one payment's rows are, as our orchestrator writes them, in characters (all ASCII)."""

    merchant_id: str
    customer_id: str
    body_before: int
    """The projection before the call."""
    body_after: int
    events: tuple[int, int, int]


def sizes(dsn: str) -> Sizes:
    """Those of the newest payment that our orchestrator stored there."""
    return asyncio.run(_sizes(dsn))


async def _sizes(dsn: str) -> Sizes:
    payment_id = "pay_" + (await _fetch(dsn, _NEWEST))[0].hex
    store = await open_store(dsn)
    try:
        events = await store.load_events(payment_id)
    finally:
        await store.close()
    one, two, three = (len(encode_data(event.data)) for event in events)
    before, after = fold(events[:2]), fold(events)
    return Sizes(
        merchant_id=after.merchant_id,
        customer_id=after.customer_id or "",
        body_before=len(encode_payment(before)),
        body_after=len(encode_payment(after)),
        events=(one, two, three),
    )


def count_rows(dsn: str) -> dict[str, int]:
    return dict(asyncio.run(_fetch(dsn, _COUNTS)))


async def _fetch(dsn: str, sql: str) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchrow(sql)
    finally:
        await connection.close()


async def _server_cpu(dsn: str) -> ServerCpu:
    connection = await asyncpg.connect(dsn)
    try:
        # While the backend lives: the server is found through it.
        return ServerCpu(await connection.fetchval("SELECT pg_backend_pid()"))
    finally:
        await connection.close()


class ServerMeter:
    """The server's CPU time while the block runs, where it is on this machine."""

    def __init__(self, dsn: str):
        self._cpu = asyncio.run(_server_cpu(dsn))
        self._before: float | None = None
        self._after: float | None = None

    def __enter__(self) -> Self:
        self._before = self._cpu.seconds()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._after = self._cpu.seconds()

    def per_payment_us(self, payments: int) -> float | None:
        if self._before is None or self._after is None or not payments:
            return None
        return round((self._after - self._before) / payments * 1e6, 1)
