"""Loads many finished payments fast, past the orchestrator: rows like those that it writes, in the real schema.

One payment is really made; the others are its rows with ids, keys and times of their own.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from aegispay.app import AegisPay
from aegispay.bench.load import Shop
from aegispay.domain.events import Event, encode_data
from aegispay.domain.payment import Payment, encode_payment
from aegispay.orchestration.requests import claim_digest
from aegispay.storage import urls
from aegispay.storage.sqlite_writer import INSERT_CLAIM, INSERT_EVENT
from aegispay.testing.instant_gateway import InstantGateway

MERCHANT = "prefill"
_CHUNK = 10_000
_SPACING_US = 30_000_000
"""The loaded payments came one in so many microseconds, up to now."""
_INSERT_PAYMENT = """
    INSERT INTO payment (payment_id, version, state, gateway, updated_at_us, body,
                         merchant_id, amount_minor, currency, customer_id, created_at_us)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_PAYMENT_COLUMNS = (
    "payment_id", "version", "state", "gateway", "updated_at_us", "body",
    "merchant_id", "amount_minor", "currency", "customer_id", "created_at_us",
)  # fmt: skip
_EVENT_COLUMNS = (
    "payment_id", "version", "event_id", "type", "schema_version", "at_us", "correlation_id", "causation_id", "data",
)  # fmt: skip
_CLAIM_COLUMNS = (
    "digest", "merchant_id", "scope", "payment_id", "operation_id", "request_hash", "created_at_us",
)  # fmt: skip

Chunk = tuple[list[tuple[Any, ...]], list[tuple[Any, ...]], list[tuple[Any, ...]]]


async def prefill(url: str, count: int, progress: Callable[[int], None]) -> None:
    """Stores `count` finished payments of the merchant `prefill`, and brings the database's statistics up to date."""
    payment, events = await _template()
    if urls.is_postgres(url):
        await _into_postgres(url, _chunks(payment, events, count), progress)
    else:
        await asyncio.to_thread(
            _into_sqlite, urls.sqlite_path(url), _chunks(payment, events, count), progress
        )


async def _template() -> tuple[Payment, list[Event]]:
    gateways = [InstantGateway("first"), InstantGateway("second")]
    with tempfile.TemporaryDirectory(prefix="aegispay-bench-") as folder:
        async with AegisPay(gateways, store=f"sqlite:///{Path(folder) / 'template.db'}") as pay:
            made = await Shop(pay, MERCHANT).buy(1)
            events = await pay.event_store.events(made.payment_id)
            return await pay.get(made.payment_id, merchant_id=MERCHANT), events


def _chunks(payment: Payment, events: list[Event], count: int) -> Iterator[Chunk]:
    """The rows of payments, events and claims; ids as 16 bytes."""
    source = random.Random(count)  # noqa: S311 - rows that can be made again, not secrets
    body = encode_payment(payment).decode()
    datas = [
        (event.version, event.type, event.schema_version, encode_data(event.data).decode())
        for event in events
    ]
    old = (payment.id[-32:], payment.operations[0].id[-32:])
    old_times = {
        str(payment.created_at_us),
        str(payment.updated_at_us),
        str(payment.operations[0].started_at_us),
    }
    state, gateway = payment.state.value, payment.gateway
    at_us = time.time_ns() // 1000 - (count + 1) * _SPACING_US // 1000
    for begun in range(0, count, _CHUNK):
        chunk: Chunk = ([], [], [])
        for number in range(begun, min(begun + _CHUNK, count)):
            at_us += _SPACING_US // 1000
            digest = claim_digest(MERCHANT, "payment", f"stored-{number}")
            own, operation, *event_ids = _ids(at_us, source, 2 + len(datas))
            own = own[:15] + digest[:1]
            new = (own.hex(), operation.hex())
            text = body.replace(old[0], new[0]).replace(old[1], new[1])
            for old_time in old_times:
                text = text.replace(old_time, str(at_us))
            made = (own, payment.version, state, gateway, at_us, text, MERCHANT)
            chunk[0].append((*made, payment.amount_minor, payment.currency, payment.customer_id, at_us))
            cause = None
            for event_id, (version, kind, schema_version, data) in zip(event_ids, datas, strict=True):
                data = data.replace(old[1], new[1])
                chunk[1].append((own, version, event_id, kind, schema_version, at_us, None, cause, data))
                cause = f"evt_{event_id.hex()}"
            request_hash = source.randbytes(16)
            chunk[2].append((digest, MERCHANT, "payment", own, operation, request_hash, at_us))
        yield chunk


def _ids(at_us: int, source: random.Random, count: int) -> list[bytes]:
    """Version 7 UUIDs of a past moment."""
    time_part = (at_us // 1000).to_bytes(6, "big")
    tail = bytearray(source.randbytes(10 * count))
    for at in range(0, 10 * count, 10):
        tail[at] = 0x70 | tail[at] & 0x0F
        tail[at + 2] = 0x80 | tail[at + 2] & 0x3F
    return [time_part + bytes(tail[at : at + 10]) for at in range(0, 10 * count, 10)]


def _into_sqlite(path: str, chunks: Iterator[Chunk], progress: Callable[[int], None]) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute(
            "PRAGMA synchronous = NORMAL"
        )  # Of this connection: the run's own one stays as it is.
        done = 0
        for payments, events, claims in chunks:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_INSERT_PAYMENT, payments)
            connection.executemany(INSERT_EVENT, events)
            connection.executemany(INSERT_CLAIM, claims)
            connection.execute("COMMIT")
            done += len(payments)
            progress(done)
        connection.execute("ANALYZE")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()


async def _into_postgres(url: str, chunks: Iterator[Chunk], progress: Callable[[int], None]) -> None:
    import asyncpg

    connection = await asyncpg.connect(url, command_timeout=600)
    try:
        done = 0
        for payments, events, claims in chunks:
            async with connection.transaction():
                for table, columns, rows, ids in (
                    ("payment", _PAYMENT_COLUMNS, payments, (0,)),
                    ("event", _EVENT_COLUMNS, events, (0, 2)),
                    ("claim", _CLAIM_COLUMNS, claims, (0, 3, 4, 5)),
                ):
                    records = [_with_uuids(row, ids) for row in rows]
                    await connection.copy_records_to_table(table, columns=columns, records=records)
            done += len(payments)
            progress(done)
        await connection.execute("VACUUM ANALYZE")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


def _with_uuids(row: tuple[Any, ...], columns: tuple[int, ...]) -> tuple[Any, ...]:
    return tuple(UUID(bytes=value) if at in columns else value for at, value in enumerate(row))
