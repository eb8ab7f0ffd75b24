"""The version of a database's schema, and how it is brought up to date.

alembic and SQLAlchemy are imported only where there is something to migrate: they cost half a second. A store reads
the version by itself, and compares it here.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aegispay.domain.errors import SchemaTooNew
from aegispay.storage import urls

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

REVISIONS = ("0001",)
"""Every revision that this AegisPay knows, oldest first. A test compares it with the files."""
VERSION_TABLE = "aegispay_schema"
READ_VERSION = f"SELECT version_num FROM {VERSION_TABLE}"  # noqa: S608 - a constant
LOCK_NUMBER = 0x61656769735F7061
"""The PostgreSQL advisory lock that one migrating process holds."""
_ONE_AT_A_TIME = threading.Lock()
"""alembic keeps the running migration in a global, so one process runs one at a time."""


def head() -> str:
    """The revision that this AegisPay works with."""
    return REVISIONS[-1]


def needs_migration(found: str | None) -> bool:
    """Whether a database at this revision must be migrated; raises `SchemaTooNew` where nobody here knows it."""
    if found is not None and found not in REVISIONS:
        raise SchemaTooNew(
            f"the database's schema is at revision {found[:40]}, and this AegisPay knows only up to {head()}.",
            hint="Run the newer AegisPay that migrated it; nothing was changed.",
        )
    return found != head()


def pending(found: str | None) -> list[str]:
    """The revisions that a database at this one still lacks."""
    return list(REVISIONS[REVISIONS.index(found) + 1 :] if found in REVISIONS else REVISIONS)


def migrate(url: str) -> list[str]:
    """Brings the database up to date and returns the revisions that were applied. Safe in several processes at once."""
    if not urls.is_postgres(url):
        from aegispay.storage.sqlite import migrate_file

        return migrate_file(urls.sqlite_path(url))
    from aegispay.storage.postgres import migrate_database

    return asyncio.run(migrate_database(url))


def current(url: str) -> str | None:
    """The database's revision; None for one without our tables."""
    if not urls.is_postgres(url):
        from aegispay.storage.sqlite import file_revision

        return file_revision(urls.sqlite_path(url))
    from aegispay.storage.postgres import database_revision

    return asyncio.run(database_revision(url))


def read_sqlite_revision(connection: sqlite3.Connection) -> str | None:
    """The revision of an open SQLite database."""
    known = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    if connection.execute(known, (VERSION_TABLE,)).fetchone() is None:
        return None
    row = connection.execute(READ_VERSION).fetchone()
    return None if row is None else str(row[0])


def upgrade_sqlite_connection(connection: sqlite3.Connection) -> list[str]:
    """Migrates in one transaction on a connection in autocommit mode, and returns the revisions that were applied.

    The write lock is taken before the revision is read, so of two processes the second finds nothing to do.
    """
    from sqlalchemy import create_engine, pool

    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=pool.StaticPool)
    # SQLAlchemy rolls back once when it first meets a connection, so it must meet it before the transaction begins.
    bound = engine.connect()
    bound.detach()  # The raw connection is the caller's: SQLAlchemy neither resets nor closes it.
    connection.execute("BEGIN IMMEDIATE")
    try:
        found = read_sqlite_revision(connection)
        steps = pending(found) if needs_migration(found) else []
        if steps:
            bound.begin()  # alembic then knows that the transaction is not its own to commit.
            run_alembic(bound)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return steps


def run_alembic(connection: Connection) -> None:
    """Applies every missing revision on this connection, inside the transaction that the caller holds."""
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)

    def steps(revision: Any, _: Any) -> Any:
        return script._upgrade_revs("head", revision)  # noqa: SLF001 - what alembic's own upgrade command calls

    with _ONE_AT_A_TIME, EnvironmentContext(config, script, fn=steps) as environment:
        environment.configure(connection=connection, version_table=VERSION_TABLE)
        environment.run_migrations()
