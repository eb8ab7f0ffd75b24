"""The store that a run writes to: one that exists, or one that is made for the run and removed after it."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from aegispay.bench.machine import filesystem_of
from aegispay.bench.options import BenchOptions
from aegispay.bench.usage import ServerCpu
from aegispay.storage import urls

_NOT_ON_DISK = frozenset({"tmpfs", "ramfs"})


class Target(msgspec.Struct, frozen=True, kw_only=True):
    url: str
    kind: str
    """`sqlite` or `postgres`."""
    throwaway: bool
    filesystem: str
    """Of the data's folder, where that is on this machine and known."""

    @property
    def shown(self) -> str:
        """The URL as it may be printed."""
        return f"throwaway {self.kind}" if self.throwaway else urls.shown(self.url)


@contextmanager
def target_of(options: BenchOptions) -> Generator[Target]:
    """The store of a run, for as long as the run lasts."""
    if options.throwaway == "postgres":
        from aegispay.testing.postgres import throwaway_postgres

        with throwaway_postgres(durable=True) as server:
            yield Target(
                url=server.create_database(),
                kind="postgres",
                throwaway=True,
                filesystem=filesystem_of(Path(tempfile.gettempdir())),
            )
    elif options.throwaway == "sqlite":
        with tempfile.TemporaryDirectory(prefix="aegispay-bench-", dir=folder_on_disk()) as folder:
            path = Path(folder) / "bench.db"
            yield Target(
                url=f"sqlite:///{path}", kind="sqlite", throwaway=True, filesystem=filesystem_of(path.parent)
            )
    elif urls.is_postgres(options.url):
        yield Target(url=options.url, kind="postgres", throwaway=False, filesystem="unknown")
    else:
        folder = str(Path(urls.sqlite_path(options.url)).resolve().parent)
        yield Target(url=options.url, kind="sqlite", throwaway=False, filesystem=filesystem_of(Path(folder)))


def folder_on_disk() -> str | None:
    """None for the usual temporary folder, unless that one is in memory: a sync costs nothing there."""
    for folder in (tempfile.gettempdir(), "/var/tmp", "."):  # noqa: S108 - a folder of its own is made inside
        if filesystem_of(Path(folder)) not in _NOT_ON_DISK:
            return folder
    return None


class Server(msgspec.Struct, frozen=True):
    """The database behind a target."""

    version: str
    cpu: ServerCpu | None


async def server_of(target: Target) -> Server:
    """Its version, and where its CPU time can be read."""
    if target.kind == "sqlite":
        return Server(f"SQLite {sqlite3.sqlite_version}", None)
    import asyncpg

    connection = await asyncpg.connect(target.url)
    try:
        version = await connection.fetchval("SHOW server_version")
        return Server(
            f"PostgreSQL {version}", ServerCpu(await connection.fetchval("SELECT pg_backend_pid()"))
        )
    finally:
        await connection.close()
