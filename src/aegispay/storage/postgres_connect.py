"""Connecting to PostgreSQL: the DSN, asyncpg's errors as ours, and migrations.

asyncpg is imported here and nowhere else, and only when a connection is wanted. A DSN's password is never shown.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aegispay.domain.errors import AegisPayError, ConfigError, StoreError, StoreFull, StoreUnavailable
from aegispay.storage import postgres_queries as sql
from aegispay.storage import schema, urls

CONNECT_TIMEOUT_S = 10.0
POSTGRES_MIN = 15

_LOST = ("08", "57P0", "25006")
"""SQLSTATEs (or their beginnings) of a server that is going, coming, or became a replica."""
_REFUSED = ("22", "23", "40")
"""A bad value, a broken constraint, a deadlock: the statement had no effect, and may fare better in parts."""


def _asyncpg() -> Any:
    try:
        import asyncpg
    except ImportError:
        raise ConfigError(
            "the PostgreSQL driver is not installed.",
            hint="Install it with: pip install 'aegispay[postgres]'",
        ) from None
    return asyncpg


async def _no_reset(_: Any) -> None:
    """Pooled connections run single statements only, so there is nothing to undo, and a round trip is saved."""


class Dsn:
    """How to reach one database."""

    def __init__(self, dsn: str):
        if not isinstance(dsn, str) or not urls.is_postgres(dsn):
            raise ConfigError("the PostgreSQL DSN is not valid.", hint=urls.HINT)
        self._hosts = urls.each_host(dsn)
        """The DSN for each host, the one that took our last connection first."""
        self.shown = urls.shown(dsn)
        # Of several hosts, and after a failover, only the one that takes writes will do.
        self._attributes = None if "target_session_attrs" in dsn else "read-write"

    async def connect(self, *, command_timeout_s: float | None = None, **more: Any) -> Any:
        """A connection to the first host that takes it.

        Each host has the whole timeout to itself. asyncpg has one for all: there, a primary whose machine is frozen or cut
        off, and refuses nothing, would use it up, and its standby would never be asked.
        """
        *others, last = list(self._hosts)
        for host in others:
            try:
                return await self._connect_to(host, command_timeout_s, more)
            except Exception as error:
                if not _next_may_do(error):
                    raise
        return await self._connect_to(last, command_timeout_s, more)

    async def _connect_to(self, host: str, command_timeout_s: float | None, more: dict[str, Any]) -> Any:
        connection = await _asyncpg().connect(
            host,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=command_timeout_s,
            target_session_attrs=self._attributes,
            server_settings={"application_name": "aegispay"},
            **more,
        )
        if host != self._hosts[0]:
            self._hosts.remove(host)
            self._hosts.insert(0, host)
        return connection

    async def connect_first(self, *, command_timeout_s: float | None = None) -> Any:
        """Connects when a store opens: what fails now is more likely the configuration."""
        try:
            connection = await self.connect(command_timeout_s=command_timeout_s)
        except Exception as error:  # noqa: BLE001 - a driver may raise anything, and its words may quote the password
            raise at_open(error, self) from None
        major = connection.get_server_version().major
        if major < POSTGRES_MIN:
            connection.terminate()
            raise ConfigError(
                f"PostgreSQL {major} is too old.", hint=f"AegisPay needs {POSTGRES_MIN} or later."
            )
        return connection

    async def pool(self, *, max_size: int, command_timeout_s: float) -> Any:
        async def connect(_: str, **more: Any) -> Any:
            return await self.connect(command_timeout_s=command_timeout_s, **more)

        return await _asyncpg().create_pool(
            self._hosts[0], min_size=0, max_size=max_size, connect=connect, reset=_no_reset
        )

    async def migrate(self) -> list[str]:
        """Migrates in one transaction; returns the revisions that were applied, none where another process was faster."""
        connection = await self.connect_first()
        try:
            async with connection.transaction():
                # Whoever waited here finds, in the statements after it, what the other process has committed.
                await connection.execute("SELECT pg_advisory_xact_lock($1)", schema.LOCK_NUMBER)
                found = await read_revision(connection)
                steps = schema.pending(found) if schema.needs_migration(found) else []
                if steps:
                    # alembic's import takes half a second, which the loop should not stand still for.
                    await connection.execute(
                        await asyncio.to_thread(schema.upgrade_script, "postgresql", found)
                    )
                return steps
        except AegisPayError:
            raise
        except Exception as error:
            if not _state(error).startswith("42"):
                raise translated(error, self) from error
            raise ConfigError(
                f"{self.shown} cannot be migrated: {error}.",
                hint="Is it another program's database, or may this user not create tables? Nothing was changed.",
            ) from error
        finally:
            connection.terminate()


async def read_revision(connection: Any) -> str | None:
    """The schema's revision; None for a database without our tables."""
    if not await connection.fetchval(sql.KNOWS_VERSION, schema.VERSION_TABLE):
        return None
    found = await connection.fetchval(schema.READ_VERSION)
    return None if found is None else str(found)


async def database_revision(url: str) -> str | None:
    """Connects and reads the revision."""
    connection = await Dsn(url).connect_first()
    try:
        return await read_revision(connection)
    finally:
        await connection.close()


async def migrate_database(url: str) -> list[str]:
    """Brings the database up to date; returns the revisions that were applied."""
    if not schema.needs_migration(await database_revision(url)):
        return []
    return await Dsn(url).migrate()


# --- errors -------------------------------------------------------------------------------------------------


def _state(error: BaseException) -> str:
    return str(getattr(error, "sqlstate", None) or "")


def connection_lost(error: BaseException) -> bool:
    """Whether the connection, or the server behind it, is gone."""
    if isinstance(error, OSError | TimeoutError) or _state(error).startswith(_LOST):
        return True
    return isinstance(error, _asyncpg().InterfaceError) and not _state(error)


def _next_may_do(error: Exception) -> bool:
    """Whether another host of the same cluster may do what this one did not."""
    not_this = _asyncpg().TargetServerAttributeNotMatched
    return isinstance(error, not_this) or connection_lost(error)


def refused_whole(error: BaseException) -> bool:
    """Whether the statement failed without any effect, and its parts may be tried one by one."""
    return _state(error).startswith(_REFUSED)


def translated(error: BaseException, dsn: Dsn) -> AegisPayError:
    """asyncpg's error as one of ours, with a word on how to mend it."""
    if isinstance(error, AegisPayError):
        return error
    state = _state(error)
    if state == "53100":
        return StoreFull(
            f"the disk of {dsn.shown} is full; nothing was written.", hint="Free some space and try again."
        )
    if refused_whole(error) or state.startswith("42"):
        return StoreError(f"PostgreSQL refused the statement ({state}): {error}.")
    what = "took too long to answer" if isinstance(error, TimeoutError) else "cannot be reached"
    return StoreUnavailable(f"{dsn.shown} {what}: {type(error).__name__} {error}".strip() + ".")


def at_open(error: BaseException, dsn: Dsn) -> AegisPayError:
    """What an error means while a store opens. asyncpg's own words on a bad DSN may quote it, so they aren't repeated."""
    if isinstance(error, AegisPayError):
        return error
    state = _state(error)
    if state.startswith("28"):
        return ConfigError(f"{dsn.shown} refuses the user or the password.", hint="Check both in the DSN.")
    if state == "3D000":
        return ConfigError(
            f"{dsn.shown} does not exist.", hint="Create the database first, with createdb for example."
        )
    if isinstance(error, TimeoutError):
        return StoreUnavailable(
            f"{dsn.shown} does not answer within {CONNECT_TIMEOUT_S:.0f} s.",
            hint="Is the server running and reachable?",
        )
    asyncpg = _asyncpg()
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return StoreUnavailable(
            f"{dsn.shown} takes no writes: it is a replica.", hint="Name the primary in the DSN."
        )
    if isinstance(error, OSError):
        return StoreUnavailable(
            f"{dsn.shown} cannot be reached: {error.strerror or error}.",
            hint="Is the server running and reachable?",
        )
    if state:
        return StoreUnavailable(f"{dsn.shown} refuses the connection ({state}): {error}.")
    if isinstance(error, ValueError | asyncpg.InterfaceError):
        return ConfigError(f"the PostgreSQL DSN is not valid ({dsn.shown}).", hint=urls.HINT)
    return StoreUnavailable(f"{dsn.shown} cannot be reached: {type(error).__name__}.")
