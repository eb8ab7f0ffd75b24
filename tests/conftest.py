"""Fixtures that several tiers of tests share."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from aegispay.testing.postgres import ExternalServer, PostgresServer, throwaway_postgres
from tests.fakes import tally

# No test asserts on time, hypothesis' own examples included: the machine may be busy.
settings.register_profile("aegispay", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("aegispay")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer | ExternalServer]:
    """A real PostgreSQL with full fsync, one for the whole run."""
    with throwaway_postgres() as server:
        yield server


@pytest.fixture
def postgres_dsn(postgres_server: PostgresServer | ExternalServer) -> str:
    """The DSN of a new database with our tables."""
    return postgres_server.create_database()


# --- what was checked against the PSPs' own material is said at the end of a run ------------------------------


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker process hands its counts over."""
    handed = getattr(session.config, "workeroutput", None)
    if handed is not None:
        handed["official"] = tally.rows()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    tally.add(getattr(node, "workeroutput", {}).get("official", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in tally.summary():
        terminalreporter.write_line(line)


def pytest_configure() -> None:
    """A shell starts what runs in its background deaf to Ctrl-C, and so would be each process that a test interrupts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
