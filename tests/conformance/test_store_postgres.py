"""The PostgreSQL store passes the stores' conformance suite."""

from __future__ import annotations

import pytest

from aegispay.storage.postgres import PostgresStore
from aegispay.testing.store_conformance import MakeStore, StoreConformance


class TestPostgres(StoreConformance):
    @pytest.fixture
    def make_store(self, postgres_dsn: str) -> MakeStore:
        return lambda: PostgresStore(postgres_dsn, pool_max=4)


class TestPostgresWithOneWriter(StoreConformance):
    @pytest.fixture
    def make_store(self, postgres_dsn: str) -> MakeStore:
        return lambda: PostgresStore(postgres_dsn, pool_max=2, writers=1)
