"""A standby that repeats a throwaway PostgreSQL synchronously, so that it can take over when the first is killed."""

from __future__ import annotations

import subprocess
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from aegispay.domain.errors import StoreUnavailable
from aegispay.testing.postgres import PostgresServer, as_nobody, user_to_be

PROMOTE_TIMEOUT_S = 60


class StandbyServer(PostgresServer):
    """`with PostgresServer() as primary, StandbyServer(primary) as standby:`; then nothing commits on one server only.

    With `synchronous=False` the primary doesn't wait for the standby, and what it acknowledged last may be lost with it.
    """

    def __init__(self, primary: PostgresServer, *, synchronous: bool = True):
        super().__init__(settings=primary.settings, binaries=primary.binaries)
        self._primary = primary
        self._synchronous = synchronous
        self._password = urlsplit(primary.dsn).password or ""

    def start(self) -> StandbyServer:
        """Copies the primary, follows it, and makes it wait for us; returns when both are so far."""
        super().start()
        if self._synchronous:
            # Written into the primary after the copy was taken: the standby, once promoted, waits for nobody.
            self._primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            self._primary.execute("SELECT pg_reload_conf()")
            self._primary.wait_until("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'")
        return self

    def promote(self) -> None:
        """Takes over; returns when it accepts writes. The primary must be dead, or there are two of them."""
        self.execute(f"SELECT pg_promote(true, {PROMOTE_TIMEOUT_S})")

    def both(self, database_dsn: str) -> str:
        """A DSN of the primary's, with both hosts: clients go to the one that takes writes."""
        parts = urlsplit(database_dsn)
        netloc = f"{parts.netloc},127.0.0.1:{urlsplit(self.dsn).port}"
        return urlunsplit(parts._replace(netloc=netloc, query="target_session_attrs=read-write"))

    def _initialise(self, directory: Path) -> None:
        command = [
            *as_nobody(),
            str(self._binaries / "pg_basebackup"),
            f"--pgdata={directory / 'data'}",
            f"--dbname={self._primary.dsn}",
            "--write-recovery-conf",
            "--wal-method=stream",
            "--checkpoint=fast",
            "--no-sync",
        ]
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, check=False, cwd="/", user=user_to_be(), group=user_to_be()
        )
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()[-500:]
            raise StoreUnavailable(f"pg_basebackup failed: {said.replace(self._password, '***')}")
