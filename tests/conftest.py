"""Fixtures that several tiers of tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from aegispay.testing.postgres import ExternalServer, PostgresServer, throwaway_postgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer | ExternalServer]:
    """A real PostgreSQL with full fsync, one for the whole run."""
    with throwaway_postgres() as server:
        yield server


@pytest.fixture
def postgres_dsn(postgres_server: PostgresServer | ExternalServer) -> str:
    """The DSN of a new database with our tables."""
    return postgres_server.create_database()
