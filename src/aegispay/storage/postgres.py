"""The PostgreSQL store, for production: asyncpg, one statement per batch of writes.

A few connections of its own write; a pool reads. It needs the extra `postgres`. The SQL stands in `postgres_queries`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from aegispay.domain.errors import (
    NotRunning,
    StaleFence,
    StoreUnavailable,
    VersionConflict,
)
from aegispay.domain.events import Event
from aegispay.domain.payment import Payment, decode_payment
from aegispay.domain.states import PaymentState
from aegispay.storage import postgres_queries as sql
from aegispay.storage import schema
from aegispay.storage.group_commit import QUEUE_MAX, BatchRefused, GroupCommit
from aegispay.storage.notices import Notice, NoticeState, make_notice
from aegispay.storage.postgres_connect import (
    Dsn,
    connection_lost,
    database_revision,
    migrate_database,
    read_revision,
    refused_whole,
    translated,
)
from aegispay.storage.postgres_rows import Row, arguments
from aegispay.storage.rows import (
    LIST_MAX,
    SAME_REFERENCE_MAX,
    check_gapless,
    check_write,
    id_bytes,
    make_claim,
    make_event,
    make_in_flight,
    write_keys,
)
from aegispay.storage.store import Claim, ClaimTaken, Durability, InFlight, Write

__all__ = ["PostgresStore", "database_revision", "migrate_database"]

BATCH_MAX = 128
WRITERS = 2
"""Batches in flight, each on a connection of its own: while one waits for the disk, the next is made ready."""
POOL_MAX = 8
COMMAND_TIMEOUT_S = 30.0
_VERSION_MAX = 2**31 - 1


class _Writer:
    """One writing connection and its prepared statement; reconnects when it was lost."""

    def __init__(self, dsn: Dsn):
        self._dsn = dsn
        self._connection: Any = None
        self._statement: Any = None

    async def ready(self) -> None:
        if self._connection is not None and not self._connection.is_closed():
            return
        connection = await self._dsn.connect(command_timeout_s=COMMAND_TIMEOUT_S)
        try:
            await connection.execute(sql.WRITER_SETTINGS)
            self._statement = await connection.prepare(sql.WRITE)
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection

    async def write(self, rows: list[Row]) -> list[int]:
        """Applies the batch; returns the numbers (from 1) of the writes that did not pass."""
        found = await self._statement.fetch(*arguments(rows))
        return [record[0] for record in found]

    def drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            await connection.close()


class PostgresStore:
    """Payments in a PostgreSQL database (15 or later).

    `dsn` is `postgresql://user@host/database`; with several hosts the one that takes writes is found. Nothing of it but
    user, host and database is ever shown.
    """

    def __init__(
        self, dsn: str, *, pool_max: int = POOL_MAX, writers: int = WRITERS, queue_max: int = QUEUE_MAX
    ):
        self._dsn = Dsn(dsn)
        self._pool_max = pool_max
        self._queue_max = queue_max
        self._writers = [_Writer(self._dsn) for _ in range(writers)]
        self._free = list(self._writers)
        self._pool: Any = None
        self._durability: Durability | None = None

    # --- life cycle ---------------------------------------------------------------------------------------

    async def open(self) -> None:
        if self._pool is not None:
            return
        connection = await self._dsn.connect_first(command_timeout_s=COMMAND_TIMEOUT_S)
        try:
            found = await read_revision(connection)
            settings: dict[str, str] = dict(await connection.fetch(sql.DURABILITY))
        except Exception as error:
            raise translated(error, self._dsn) from error
        finally:
            connection.terminate()
        if schema.needs_migration(found):
            await self._dsn.migrate()
        self._durability = _durability(settings)
        pool = await self._dsn.pool(max_size=self._pool_max, command_timeout_s=COMMAND_TIMEOUT_S)
        try:
            for writer in self._writers:
                await writer.ready()
        except Exception as error:
            pool.terminate()
            raise translated(error, self._dsn) from error
        self._pool = pool
        self._group: GroupCommit[Row] = GroupCommit(
            self._write_batch,
            batch_max=BATCH_MAX,
            queue_max=self._queue_max,
            batches_in_flight_max=len(self._writers),
        )

    async def close(self) -> None:
        if self._pool is None:
            return
        await self._group.close()
        pool, self._pool = self._pool, None
        if pool is None:
            return  # Somebody else closed it while the last writes went out.
        for writer in self._writers:
            await writer.close()
        await pool.close()

    @property
    def durability(self) -> Durability:
        if self._durability is None:
            raise NotRunning("the store is not open.")
        return self._durability

    # --- writing ------------------------------------------------------------------------------------------

    async def commit(self, write: Write) -> None:
        if self._pool is None:
            raise NotRunning("the store is not open.")
        check_write(write)
        await self._group.commit(Row(write), write_keys(write))

    async def _write_batch(self, rows: list[Row]) -> list[Exception | None]:
        writer = self._free.pop()
        try:
            failed = await self._apply(writer, rows)
        finally:
            self._free.append(writer)
        answers: list[Exception | None] = [None] * len(rows)
        for number in failed:
            answers[number - 1] = await self._refusal(rows[number - 1].write)
        return answers

    async def _apply(self, writer: _Writer, rows: list[Row]) -> list[int]:
        try:
            await writer.ready()
        except Exception as error:
            raise StoreUnavailable(str(translated(error, self._dsn)), hint="Nothing was written.") from error
        try:
            return await writer.write(rows)
        except BaseException as error:
            if not isinstance(error, Exception):
                writer.drop()
                raise
            if refused_whole(error):
                refusal = await self._refusal(rows[0].write, error) if len(rows) == 1 else error
                raise BatchRefused(refusal) from error
            # Whatever it was, the next batch begins on a fresh connection: to the new primary, if it moved.
            writer.drop()
            raise translated(error, self._dsn) from error

    async def _refusal(self, write: Write, cause: Exception | None = None) -> Exception:
        """Why a write did not pass, asked in this order: its claim, its lease, its version.

        Where the reason has gone since, it's a version conflict all the same: the caller looks again.
        """
        payment_id = write.payment.id
        try:
            if write.claim is not None and (taken := await self.find_claim(write.claim.digest)):
                return ClaimTaken(taken)
            if (guard := write.guard) is not None:
                held = await self._fetch(sql.FIND_FENCE, guard.operation_id[-32:], payment_id[-32:])
                if not held or held[0][0] != guard.fence:
                    return StaleFence(payment_id=payment_id)
            found = await self._fetch(sql.FIND_VERSION, payment_id[-32:])
        except Exception as error:  # noqa: BLE001 - whatever it is, each caller hears the same word
            # Not a version conflict: whoever tries the write again learns the reason, a claim that is taken for example.
            return StoreUnavailable(
                "the write was refused, and the database went away before it said why.",
                hint="Nothing was written.",
            ).with_traceback(error.__traceback__)
        version = found[0][0] if found else 0
        if cause is not None and version == write.expected_version:
            return translated(cause, self._dsn)
        return VersionConflict(
            f"{payment_id} is at version {version}, not {write.expected_version}.", payment_id=payment_id
        )

    async def lease_due(self, now_us: int, owner: str, lease_until_us: int, limit: int) -> list[InFlight]:
        rows = await self._fetch(sql.LEASE_DUE, now_us, owner, lease_until_us, limit, tries=1)
        rows.sort(key=lambda row: (row[9], row[0].bytes))
        return [make_in_flight(row[0].hex, row[1].hex, *row[2:9]) for row in map(tuple, rows)]

    async def renew(self, operation_id: str, fence: int, due_at_us: int) -> bool:
        if id_bytes(operation_id) is None:
            return False
        return bool(await self._fetch(sql.RENEW, operation_id[-32:], fence, due_at_us, tries=1))

    # --- inbound notices ------------------------------------------------------------------------------------

    async def keep_notices(self, notices: Sequence[Notice]) -> int:
        if not notices:
            return 0
        rows = [
            (
                one.gateway,
                one.notice_id,
                one.body,
                one.received_at_us,
                one.due_at_us,
                one.tries,
                one.state.value,
            )
            for one in notices
        ]
        return len(await self._fetch(sql.KEEP_NOTICES, *zip(*rows, strict=True)))

    async def lease_notices(self, now_us: int, lease_until_us: int, limit: int) -> list[Notice]:
        rows = await self._fetch(sql.LEASE_NOTICES, now_us, lease_until_us, limit, tries=1)
        rows.sort(key=lambda row: (row[7], row[1]))
        return [make_notice(*tuple(row)[:7]) for row in rows]

    async def settle_notice(self, notice: Notice) -> None:
        await self._fetch(
            sql.SETTLE_NOTICE, notice.state.value, notice.due_at_us, notice.gateway, notice.notice_id
        )

    async def list_notices(self, state: NoticeState, limit: int) -> list[Notice]:
        return [make_notice(*tuple(row)) for row in await self._fetch(sql.LIST_NOTICES, state.value, limit)]

    async def prune_notices(self, before_us: int, limit: int) -> int:
        return len(await self._fetch(sql.PRUNE_NOTICES, before_us, limit))

    # --- reading ------------------------------------------------------------------------------------------

    async def load(self, payment_id: str) -> Payment | None:
        if id_bytes(payment_id) is None:
            return None
        rows = await self._fetch(sql.LOAD, payment_id[-32:])
        return decode_payment(rows[0][0]) if rows else None

    async def load_events(
        self, payment_id: str, *, until_version: int | None = None, until_us: int | None = None
    ) -> list[Event]:
        if id_bytes(payment_id) is None:
            return []
        last = _VERSION_MAX if until_version is None else min(until_version, _VERSION_MAX)
        payment_id = payment_id.lower()
        events: list[Event] = []
        for row in await self._fetch(sql.LOAD_EVENTS, payment_id[-32:], last):
            version, event_id, schema_version, at_us, correlation_id, causation_id, data = row
            if until_us is not None and at_us > until_us:
                break
            events.append(
                make_event(
                    payment_id=payment_id,
                    version=version,
                    event_id="evt_" + event_id.hex,
                    schema_version=schema_version,
                    at_us=at_us,
                    correlation_id=correlation_id,
                    causation_id=causation_id,
                    data=data,
                )
            )
        return check_gapless(payment_id, events)

    async def find_claim(self, digest: bytes) -> Claim | None:
        rows = await self._fetch(sql.FIND_CLAIM, digest.hex())
        if not rows:
            return None
        found, merchant_id, scope, payment_id, operation_id, request_hash = rows[0]
        return make_claim(
            found.bytes, merchant_id, scope, payment_id.hex, operation_id.hex, request_hash.bytes
        )

    async def find_in_flight(self, operation_id: str) -> InFlight | None:
        if id_bytes(operation_id) is None:
            return None
        rows = await self._fetch(sql.FIND_IN_FLIGHT, operation_id[-32:])
        return make_in_flight(rows[0][0].hex, rows[0][1].hex, *tuple(rows[0])[2:]) if rows else None

    async def find_by_operation(self, operation_id: str) -> str | None:
        if id_bytes(operation_id) is None:
            return None
        rows = await self._fetch(sql.FIND_BY_OPERATION, operation_id)
        return "pay_" + rows[0][0].hex if rows else None

    async def find_by_reference(self, reference: str) -> list[str]:
        written = msgspec.json.encode(reference)[1:-1].decode()  # As it stands in the event.
        if not written:
            return []
        rows = await self._fetch(sql.FIND_BY_REFERENCE, written, SAME_REFERENCE_MAX)
        return ["pay_" + row[0].hex for row in rows]

    async def list_payments(
        self,
        merchant_id: str,
        *,
        states: tuple[PaymentState, ...] = (),
        before_id: str | None = None,
        limit: int = 50,
    ) -> list[Payment]:
        among = [state.value for state in states]
        limit = max(0, min(limit, LIST_MAX))
        if before_id is None:
            rows = await self._fetch(sql.LIST_FROM_NEWEST, merchant_id, among, limit)
        elif id_bytes(before_id) is None:
            return []
        else:
            rows = await self._fetch(sql.LIST, merchant_id, before_id[-32:], among, limit)
        return [decode_payment(row[0]) for row in rows]

    async def count_in_flight(self) -> int:
        return int((await self._fetch(sql.COUNT_IN_FLIGHT))[0][0])

    async def _fetch(self, statement: str, *values: Any, tries: int = 2) -> list[Any]:
        """Runs one statement on the pool; one that only reads is tried again when its connection turns out to be dead."""
        pool = self._pool
        if pool is None:
            raise NotRunning("the store is not open.")
        while True:
            tries -= 1
            try:
                return list(await pool.fetch(statement, *values))
            except Exception as error:
                if not tries or not connection_lost(error):
                    raise translated(error, self._dsn) from error
                await asyncio.sleep(0)


def _durability(settings: dict[str, str]) -> Durability:
    off = [name for name, value in settings.items() if value == "off"]
    warning = None
    if off:
        warning = f"Committed payments can be lost in a power cut: {', '.join(off)} {'is' if len(off) == 1 else 'are'} off."
    return Durability(durable=not off, settings=settings, warning=warning)
