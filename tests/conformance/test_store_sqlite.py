"""The SQLite store passes the stores' conformance suite: in a file, in memory, and in memory without threads."""

from __future__ import annotations

from pathlib import Path

import pytest

from aegispay.storage.executors import InlineExecutor
from aegispay.storage.sqlite import SqliteStore
from aegispay.testing.store_conformance import MakeStore, StoreConformance


class TestSqliteFile(StoreConformance):
    @pytest.fixture
    def make_store(self, tmp_path: Path) -> MakeStore:
        return lambda: SqliteStore(f"sqlite:///{tmp_path}/payments.db")


class TestSqliteFileWithoutThreads(StoreConformance):
    @pytest.fixture
    def make_store(self, tmp_path: Path) -> MakeStore:
        return lambda: SqliteStore(str(tmp_path / "payments.db"), executor=InlineExecutor())


class TestSqliteMemory(StoreConformance):
    two_instances = False

    @pytest.fixture
    def make_store(self) -> MakeStore:
        return lambda: SqliteStore(":memory:")


class TestSqliteMemoryWithoutThreads(StoreConformance):
    two_instances = False

    @pytest.fixture
    def make_store(self) -> MakeStore:
        return lambda: SqliteStore("sqlite://:memory:", executor=InlineExecutor())
