"""Fixtures that several tiers of tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from aegispay.testing.postgres import ExternalServer, PostgresServer, throwaway_postgres

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
