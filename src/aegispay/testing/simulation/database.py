"""One database that all simulated instances share, and the faults between them and it.

The store is the real `SqliteStore` with its real SQL; only the connection underneath it can fail, at the moments at
which a real one does: before a statement, before COMMIT, and after COMMIT was applied.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

from aegispay.storage import urls
from aegispay.storage.sqlite import SqliteStore, connect, migrate_connection
from aegispay.storage.store import Durability
from aegispay.testing.simulation.faults import Faults
from aegispay.testing.simulation.instance_ports import Ported

Result = TypeVar("Result")

_NEXT_DUE = """
    SELECT min(due_at_us) FROM (
        SELECT min(due_at_us) AS due_at_us FROM in_flight
        UNION ALL SELECT min(due_at_us) FROM notice WHERE state = 'open')"""
_PAYMENT_OF = "SELECT hex(payment_id) FROM payment WHERE body LIKE ? LIMIT 1"
_NOTICES = (
    "SELECT gateway, notice_id, state, body FROM notice WHERE state <> 'applied' ORDER BY gateway, notice_id"
)


@cache
def _template() -> bytes:
    connection = connect(":memory:")
    migrate_connection(connection, ":memory:")
    found = connection.serialize()
    connection.close()
    return found


def prepare() -> None:
    """Migrates the template, once per process and outside of any run."""
    _template()


class Database:
    """The database server, so to speak: it survives every instance."""

    def __init__(self, faults: Faults, changed: Callable[[], None]):
        self.connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self.connection.deserialize(_template())
        self.faults = faults
        self.changed = changed
        """Called after each commit: somebody may have waited for a row to be due."""
        self.away_until_s = 0.0
        self.commits = 0

    def payment_body(self, payment_id: str) -> str:
        """The committed projection, as text; empty where there is none."""
        key = bytes.fromhex(payment_id[-32:])
        row = self.connection.execute("SELECT body FROM payment WHERE payment_id = ?", (key,)).fetchone()
        return row[0] if row else ""

    def bodies(self) -> list[str]:
        """Every committed projection."""
        return [row[0] for row in self.connection.execute("SELECT body FROM payment ORDER BY payment_id")]

    def next_due_us(self) -> int | None:
        return cast("int | None", self.connection.execute(_NEXT_DUE).fetchone()[0])

    def payment_of(self, operation_id: str) -> str:
        """The committed payment that has this operation; empty where none has."""
        row = self.connection.execute(_PAYMENT_OF, (f'%"{operation_id}"%',)).fetchone()
        return f"pay_{row[0].lower()}" if row else ""

    def notices(self) -> list[tuple[str, str, str, str]]:
        """(gateway, id, state, body) of every webhook that was kept and not applied."""
        return [tuple(row) for row in self.connection.execute(_NOTICES)]

    def in_flight(self) -> list[tuple[str, str, str, int, str]]:
        """(payment id, operation id, purpose, due, owner) of every row."""
        rows = self.connection.execute(
            "SELECT hex(payment_id), hex(operation_id), purpose, due_at_us, owner FROM in_flight"
            " ORDER BY operation_id"
        )
        return [(f"pay_{r[0].lower()}", f"op_{r[1].lower()}", r[2], r[3], r[4]) for r in rows]

    def claims(self) -> list[tuple[bytes, str, str]]:
        """(digest, scope, payment id) of every claim."""
        rows = self.connection.execute("SELECT digest, scope, hex(payment_id) FROM claim ORDER BY digest")
        return [(row[0], row[1], f"pay_{row[2].lower()}") for row in rows]

    def has_claim(self, digest: bytes) -> bool:
        found = self.connection.execute("SELECT 1 FROM claim WHERE digest = ?", (digest,)).fetchone()
        return found is not None

    def close(self) -> None:
        self.connection.close()


class Link:
    """One instance's connection: what the store takes for a `sqlite3.Connection`."""

    def __init__(self, database: Database, now_s: Callable[[], float]):
        self._database = database
        self._connection = database.connection
        self._now_s = now_s

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def execute(self, sql: str, values: Any = ()) -> sqlite3.Cursor:
        database = self._database
        if sql == "ROLLBACK":
            return self._connection.execute(sql)
        if self._now_s() < database.away_until_s:
            raise sqlite3.OperationalError("the database is away")
        if sql != "COMMIT":
            return self._connection.execute(sql, values)
        if database.faults.hit("commit_lost"):
            raise sqlite3.OperationalError("the connection broke before the commit")
        done = self._connection.execute(sql)
        database.commits += 1
        database.changed()
        if database.faults.hit("commit_acknowledgement_lost"):
            raise sqlite3.OperationalError("the connection broke after the commit")
        return done

    def executemany(self, sql: str, values: Any) -> sqlite3.Cursor:
        if self._now_s() < self._database.away_until_s:
            raise sqlite3.OperationalError("the database is away")
        return self._connection.executemany(sql, values)

    def close(self) -> None:
        """The database outlives its connections."""


class SimulatedExecutor:
    """Runs the store's blocking functions inline, with a port call's usual perils before and after."""

    def __init__(self, ported: Ported):
        self._ported = ported

    async def run(self, function: Callable[[], Result]) -> Result:
        await self._ported.before("db")
        try:
            return function()
        finally:
            await self._ported.after("db")

    def close(self) -> None:
        """There is nothing to stop."""


class SimulatedStore(SqliteStore):
    """The real store over a `Link`."""

    def __init__(self, database: Database, ported: Ported):
        super().__init__(urls.MEMORY, executor=SimulatedExecutor(ported))
        self._link = Link(database, ported.now_s)

    def _connect(self) -> Durability:
        self._writer = self._reader = cast("sqlite3.Connection", self._link)
        return Durability(durable=True, settings={"simulated": "yes"})
