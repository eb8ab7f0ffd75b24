"""The version of a database's schema, and how it is brought up to date.

alembic and SQLAlchemy are imported only where there is something to migrate: they cost half a second. A store reads
the version by itself, and compares it here.
"""

from __future__ import annotations

import asyncio
import io
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aegispay.domain.errors import SchemaTooNew
from aegispay.storage import urls

REVISIONS = ("0001", "0002", "0003")
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


def upgrade_sqlite(connection: sqlite3.Connection) -> list[str]:
    """Migrates in one transaction on a connection in autocommit mode, and returns the revisions that were applied.

    The write lock is taken before the revision is read, so of two processes the second finds nothing to do.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        found = read_sqlite_revision(connection)
        steps = pending(found) if needs_migration(found) else []
        if steps:
            for statement in _split(upgrade_script("sqlite", found)):
                connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return steps


def _split(script: str) -> Iterator[str]:
    """The statements of a SQLite script: a trigger holds semicolons of its own."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if line.rstrip().endswith(";") and sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def upgrade_script(dialect: str, found: str | None) -> str:
    """The SQL that brings a database at this revision up to date, its new revision included, as alembic writes it.

    Stores run it on connections of their own, inside one transaction, so SQLAlchemy never opens one.
    """
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)
    written = io.StringIO()

    def steps(revision: Any, _: Any) -> Any:
        return script._upgrade_revs("head", revision)

    with (
        _ONE_AT_A_TIME,
        EnvironmentContext(config, script, fn=steps, as_sql=True, starting_rev=found) as environment,
    ):
        environment.configure(
            dialect_name=dialect, output_buffer=written, version_table=VERSION_TABLE, transactional_ddl=True
        )
        environment.run_migrations()
    return written.getvalue()
