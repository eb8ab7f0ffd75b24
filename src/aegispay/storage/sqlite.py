"""The SQLite store: the embedded default, one file, no server.

One connection writes, in batches, in a thread of its own; another reads. Other processes may use the file at the same
time. What is done on a connection stands in `sqlite_writer`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from aegispay.domain.errors import (
    AegisPayError,
    ConfigError,
    NotRunning,
)
from aegispay.domain.events import Event
from aegispay.domain.payment import Payment, decode_payment
from aegispay.domain.states import PaymentState
from aegispay.storage import schema, sqlite_notices, sqlite_writer, urls
from aegispay.storage.executors import Executor, ThreadExecutor
from aegispay.storage.group_commit import QUEUE_MAX, GroupCommit
from aegispay.storage.notices import Notice, NoticeState
from aegispay.storage.rows import (
    LIST_MAX,
    SAME_REFERENCE_MAX,
    check_gapless,
    check_write,
    id_bytes,
    make_event,
    make_in_flight,
    write_keys,
)
from aegispay.storage.sqlite_writer import BUSY_TIMEOUT_MS, Row, translated
from aegispay.storage.store import Claim, Durability, InFlight, Write

Result = TypeVar("Result")

BATCH_MAX = 128
CACHE_KIB = 64 * 1024
"""The writer's page cache: it holds the index of a few million claims."""
READER_CACHE_KIB = 8 * 1024
CHECKPOINT_PAGES = 4000
"""The log is copied into the file after so many pages, when most pages have changed several times."""
_SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")
_STRICT_TABLES_SINCE = (3, 37, 0)

LOAD = "SELECT body FROM payment WHERE payment_id = ?"
LOAD_EVENTS = """
    SELECT version, hex(event_id), schema_version, at_us, correlation_id, causation_id, data
    FROM event WHERE payment_id = ? AND version <= ? ORDER BY version"""
FIND_IN_FLIGHT = f"SELECT {sqlite_writer.IN_FLIGHT_COLUMNS} FROM in_flight WHERE operation_id = ?"  # noqa: S608
# The expressions and conditions are those of the indexes in migration 0003.
FIND_BY_OPERATION = """
    SELECT hex(payment_id) FROM event
    WHERE json_extract(data, '$.operation_id') = ? AND type = 'operation_started' LIMIT 1"""
FIND_BY_REFERENCE = f"""
    SELECT DISTINCT hex(payment_id) FROM event
    WHERE json_extract(data, '$.reference') = ?
    AND type IN ('operation_approved', 'operation_requires_action', 'operation_pending', 'operation_declined',
                 'late_success_found')
    ORDER BY payment_id LIMIT {SAME_REFERENCE_MAX}"""  # noqa: S608 - a constant
COUNT_IN_FLIGHT = "SELECT count(*) FROM in_flight WHERE purpose = 'call'"
LIST = """
    SELECT body FROM payment WHERE merchant_id = ? AND payment_id < ? {states}
    ORDER BY payment_id DESC LIMIT ?"""
_AFTER_EVERY_ID = b"\xff" * 17
_VERSION_MAX = 2**62


class SqliteStore:
    """Payments in one SQLite file, or in memory (`:memory:`), which is gone on close.

    `executor` replaces the store's own threads; it is not closed with the store. `synchronous` below FULL gives up
    durability, and `durability` says so.
    """

    def __init__(
        self,
        path: str,
        *,
        executor: Executor | None = None,
        synchronous: str = "FULL",
        queue_max: int = QUEUE_MAX,
    ):
        self._path = urls.sqlite_path(str(path))
        if synchronous.upper() not in _SYNCHRONOUS:
            raise ConfigError(
                f"{synchronous!r} is no SQLite synchronous mode.", hint=f"Use one of {_SYNCHRONOUS}."
            )
        if sqlite3.sqlite_version_info < _STRICT_TABLES_SINCE:
            raise ConfigError(
                f"SQLite {sqlite3.sqlite_version} is too old.", hint="AegisPay needs 3.37 or later."
            )
        self._synchronous = synchronous.upper()
        self._given_executor = executor
        self._queue_max = queue_max
        self._threads: list[ThreadExecutor] = []
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._durability: Durability | None = None

    # --- life cycle ---------------------------------------------------------------------------------------

    async def open(self) -> None:
        if self._writer is not None:
            return
        self._on_writer = self._on_reader = self._given_executor or self._thread("aegispay-sqlite-writer")
        if self._path != urls.MEMORY and self._given_executor is None:
            self._on_reader = self._thread("aegispay-sqlite-reader")
        try:
            self._durability = await self._on_writer.run(self._connect)
        except BaseException:
            self._stop_threads()
            raise
        self._group: GroupCommit[Row] = GroupCommit(
            self._write_batch, batch_max=BATCH_MAX, queue_max=self._queue_max
        )

    async def close(self) -> None:
        if self._writer is None:
            return
        await self._group.close()
        await self._disconnect()

    async def _disconnect(self) -> None:
        writer, reader = self._writer, self._reader
        if writer is None or reader is None:
            return  # Somebody else closed it while the last writes went out.
        self._writer = self._reader = None
        if reader is not writer:
            await self._on_reader.run(reader.close)
        await self._on_writer.run(writer.close)
        self._stop_threads()

    @property
    def durability(self) -> Durability:
        if self._durability is None:
            raise NotRunning("the store is not open.")
        return self._durability

    def _thread(self, name: str) -> Executor:
        thread = ThreadExecutor(name)
        self._threads.append(thread)
        return thread

    def _stop_threads(self) -> None:
        for thread in self._threads:
            thread.close()
        self._threads.clear()

    def _connect(self) -> Durability:
        writer = connect(self._path)
        reader = writer
        try:
            durability = self._prepare(writer)
            if schema.needs_migration(schema.read_sqlite_revision(writer)):
                migrate_connection(writer, self._path)
            if self._path != urls.MEMORY:
                reader = connect(self._path)
                reader.execute("PRAGMA query_only = ON")
                reader.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB}")
        except BaseException as error:
            reader.close()
            writer.close()
            if isinstance(error, sqlite3.Error):
                raise at_open(error, self._path) from error
            raise
        self._writer, self._reader = writer, reader
        return durability

    def _prepare(self, writer: sqlite3.Connection) -> Durability:
        mode = str(writer.execute("PRAGMA journal_mode").fetchone()[0])
        if mode != "wal":
            # A database from a newer AegisPay is refused before anything in it is changed.
            schema.needs_migration(schema.read_sqlite_revision(writer))
            mode = str(writer.execute("PRAGMA journal_mode = WAL").fetchone()[0])
        writer.execute(f"PRAGMA synchronous = {self._synchronous}")
        writer.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        level = int(writer.execute("PRAGMA synchronous").fetchone()[0])
        durable = (
            self._path != urls.MEMORY
            and level >= _SYNCHRONOUS.index("FULL")
            and mode not in ("off", "memory")
        )
        warning = None
        if self._path == urls.MEMORY:
            warning = "Payments are kept in memory only and are lost when the process ends."
        elif not durable:
            warning = f"Committed payments can be lost in a power cut: synchronous is {_SYNCHRONOUS[level]}."
        settings = {"journal_mode": mode, "synchronous": _SYNCHRONOUS[level]}
        return Durability(durable=durable, settings=settings, warning=warning)

    # --- writing ------------------------------------------------------------------------------------------

    async def commit(self, write: Write) -> None:
        if self._writer is None:
            raise NotRunning("the store is not open.")
        check_write(write)
        await self._group.commit(Row(write), write_keys(write))

    async def _write_batch(self, rows: list[Row]) -> list[Exception | None]:
        writer = self._writer
        if writer is None:
            raise NotRunning("the store is closed.")
        return await self._on_writer.run(lambda: sqlite_writer.apply(writer, rows, self._path))

    async def lease_due(self, now_us: int, owner: str, lease_until_us: int, limit: int) -> list[InFlight]:
        return await self._writing(lambda c: sqlite_writer.lease_due(c, now_us, owner, lease_until_us, limit))

    async def renew(self, operation_id: str, fence: int, due_at_us: int) -> bool:
        key = id_bytes(operation_id)
        if key is None:
            return False
        return await self._writing(lambda c: sqlite_writer.renew(c, key, fence, due_at_us))

    async def _writing(self, function: Callable[[sqlite3.Connection], Result]) -> Result:
        writer = self._writer
        if writer is None:
            raise NotRunning("the store is not open.")
        try:
            return await self._on_writer.run(lambda: sqlite_writer.run(writer, function))
        except sqlite3.Error as error:
            raise translated(error, self._path) from error

    # --- inbound notices ------------------------------------------------------------------------------------

    async def keep_notices(self, notices: Sequence[Notice]) -> int:
        return await self._writing(lambda c: sqlite_notices.keep(c, notices))

    async def lease_notices(self, now_us: int, lease_until_us: int, limit: int) -> list[Notice]:
        return await self._writing(lambda c: sqlite_notices.lease(c, now_us, lease_until_us, limit))

    async def settle_notice(self, notice: Notice) -> None:
        await self._writing(lambda c: sqlite_notices.settle(c, notice))

    async def list_notices(self, state: NoticeState, limit: int) -> list[Notice]:
        return sqlite_notices.made(await self._read(sqlite_notices.LIST, state.value, limit))

    async def prune_notices(self, before_us: int, limit: int) -> int:
        return await self._writing(lambda c: sqlite_notices.prune(c, before_us, limit))

    # --- reading ------------------------------------------------------------------------------------------

    async def load(self, payment_id: str) -> Payment | None:
        rows = await self._read(LOAD, id_bytes(payment_id))
        return decode_payment(rows[0][0]) if rows else None

    async def load_events(
        self, payment_id: str, *, until_version: int | None = None, until_us: int | None = None
    ) -> list[Event]:
        last = _VERSION_MAX if until_version is None else until_version
        rows = await self._read(LOAD_EVENTS, id_bytes(payment_id), last)
        payment_id = payment_id.lower()
        events: list[Event] = []
        for version, event_hex, schema_version, at_us, correlation_id, causation_id, data in rows:
            if until_us is not None and at_us > until_us:
                break
            events.append(
                make_event(
                    payment_id=payment_id,
                    version=version,
                    event_id="evt_" + event_hex.lower(),
                    schema_version=schema_version,
                    at_us=at_us,
                    correlation_id=correlation_id,
                    causation_id=causation_id,
                    data=data,
                )
            )
        return check_gapless(payment_id, events)

    async def find_claim(self, digest: bytes) -> Claim | None:
        rows = await self._read(sqlite_writer.FIND_CLAIM, digest)
        return sqlite_writer.claim_of(rows[0]) if rows else None

    async def find_in_flight(self, operation_id: str) -> InFlight | None:
        rows = await self._read(FIND_IN_FLIGHT, id_bytes(operation_id))
        return make_in_flight(rows[0][0].lower(), rows[0][1].lower(), *rows[0][2:]) if rows else None

    async def find_by_operation(self, operation_id: str) -> str | None:
        rows = await self._read(FIND_BY_OPERATION, operation_id)
        return "pay_" + rows[0][0].lower() if rows else None

    async def find_by_reference(self, reference: str) -> list[str]:
        return ["pay_" + row[0].lower() for row in await self._read(FIND_BY_REFERENCE, reference)]

    async def list_payments(
        self,
        merchant_id: str,
        *,
        states: tuple[PaymentState, ...] = (),
        before_id: str | None = None,
        limit: int = 50,
    ) -> list[Payment]:
        before = _AFTER_EVERY_ID if before_id is None else id_bytes(before_id)
        among = f"AND state IN ({', '.join('?' * len(states))})" if states else ""
        values = [state.value for state in states]
        limit = max(0, min(limit, LIST_MAX))
        rows = await self._read(LIST.format(states=among), merchant_id, before, *values, limit)
        return [decode_payment(row[0]) for row in rows]

    async def count_in_flight(self) -> int:
        return int((await self._read(COUNT_IN_FLIGHT))[0][0])

    async def _read(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        reader = self._reader
        if reader is None:
            raise NotRunning("the store is not open.")
        try:
            return await self._on_reader.run(lambda: reader.execute(sql, values).fetchall())
        except sqlite3.Error as error:
            raise translated(error, self._path) from error


# --- connecting and migrating, also without a store ---------------------------------------------------------


def connect(path: str) -> sqlite3.Connection:
    """A connection in autocommit mode, with our settings; raises `ConfigError` where the file cannot be opened."""
    connection = None
    try:
        connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_MS / 1000
        )
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise at_open(error, path) from error
    return connection


def at_open(error: sqlite3.Error, path: str) -> AegisPayError:
    """What an error means while a file is being opened: more often than later, it's the configuration."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return ConfigError(
            f"the SQLite file {path} cannot be opened for writing.",
            hint="Check that its folder exists, and the rights.",
        )
    if code == sqlite3.SQLITE_NOTADB:
        return ConfigError(
            f"{path} is not a SQLite database.", hint="Name another file, or move this one away."
        )
    return translated(error, path)


def migrate_connection(connection: sqlite3.Connection, path: str) -> list[str]:
    """Migrates; raises our errors only."""
    try:
        return schema.upgrade_sqlite(connection)
    except sqlite3.Error as error:
        if "already exists" not in str(error):
            raise at_open(error, path) from error
        raise ConfigError(
            f"{path} cannot be migrated: {error}.",
            hint="It is another program's database; name a file of its own.",
        ) from error


def migrate_file(path: str) -> list[str]:
    """Brings a file up to date, creating it where there is none; returns the revisions that were applied."""
    connection = connect(path)
    try:
        if not schema.needs_migration(schema.read_sqlite_revision(connection)):
            return []
        return migrate_connection(connection, path)
    except sqlite3.Error as error:
        raise at_open(error, path) from error
    finally:
        connection.close()


def file_revision(path: str) -> str | None:
    """The revision of a file's schema; None for an empty one."""
    connection = connect(path)
    try:
        return schema.read_sqlite_revision(connection)
    except sqlite3.Error as error:
        raise at_open(error, path) from error
    finally:
        connection.close()
