"""The SQLite store against what happens to files: full disks, foreign locks, other programs' databases."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from aegispay.domain.errors import ConfigError, SchemaTooNew, StoreError, StoreFull, StoreUnavailable
from aegispay.storage import schema, sqlite_writer
from aegispay.storage import sqlite as sqlite_store
from aegispay.storage.factory import make_store, open_store
from aegispay.storage.sqlite import SqliteStore
from aegispay.testing.store_samples import SamplePayment


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "payments.db")


def raw(path: str) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


async def test_a_file_is_durable_and_says_how(path: str) -> None:
    store = await open_store(f"sqlite:///{path}")
    assert store.durability.durable
    assert store.durability.settings == {"journal_mode": "wal", "synchronous": "FULL"}
    await store.close()


@pytest.mark.parametrize(("synchronous", "durable"), [("normal", False), ("OFF", False), ("EXTRA", True)])
async def test_less_than_full_synchronous_is_said_not_to_be_durable(
    path: str, synchronous: str, durable: bool
) -> None:
    store = SqliteStore(path, synchronous=synchronous)
    await store.open()
    assert store.durability.durable is durable
    if not durable:
        assert synchronous.upper() in (store.durability.warning or "")
    await store.close()


def test_an_unknown_synchronous_mode_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="synchronous"):
        SqliteStore(path, synchronous="SOMETIMES")


async def test_a_full_disk_is_said_and_nothing_is_written_and_the_store_recovers(path: str) -> None:
    store = SqliteStore(path)
    await store.open()
    writer = store._writer
    assert writer is not None
    pages = writer.execute("PRAGMA page_count").fetchone()[0]
    writer.execute(f"PRAGMA max_page_count = {pages + 8}")
    samples = [SamplePayment(description="x" * 2000) for _ in range(40)]
    answers = await asyncio.gather(*(store.commit(one.intent()) for one in samples), return_exceptions=True)
    assert {type(one) for one in answers} == {StoreFull}
    assert "Free some space" in str(answers[0])
    assert [await store.load(one.id) for one in samples] == [None] * 40
    writer.execute("PRAGMA max_page_count = 1000000")
    again = SamplePayment()
    await store.commit(again.intent())
    assert await store.load(again.id) == again.payment
    await store.close()


async def test_a_database_that_stays_locked_is_unavailable_and_then_works_again(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore(path)
    await store.open()
    assert store._writer is not None
    store._writer.execute("PRAGMA busy_timeout = 1")
    foreign = raw(path)
    foreign.execute("BEGIN IMMEDIATE")
    sample = SamplePayment()
    write = sample.intent()
    with pytest.raises(StoreUnavailable, match="locked"):
        await store.commit(write)
    assert await store.load(sample.id) is None, "reading goes on while somebody else writes"
    foreign.execute("ROLLBACK")
    await store.commit(write)
    foreign.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        await store.renew(sample.operation_id, 1, 5)
    with pytest.raises(StoreUnavailable, match="locked"):
        await store.lease_due(2**60, "w", 2**60, 5)
    foreign.close()
    assert len(await store.lease_due(2**60, "w", 2**60, 5)) == 1
    await store.close()


@pytest.mark.parametrize("statement", ["UPDATE event SET data = '{}'", "DELETE FROM event"])
async def test_events_can_be_neither_changed_nor_removed(path: str, statement: str) -> None:
    store = SqliteStore(path)
    await store.open()
    sample = SamplePayment()
    await store.commit(sample.intent())
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        raw(path).execute(statement)
    assert await store.load_events(sample.id) == sample.events
    await store.close()


async def test_a_missing_event_is_noticed(path: str) -> None:
    store = SqliteStore(path)
    await store.open()
    sample = SamplePayment()
    await store.commit(sample.intent())
    connection = raw(path)
    connection.execute("DROP TRIGGER event_is_not_deleted")
    connection.execute("DELETE FROM event WHERE version = 1")
    with pytest.raises(StoreError, match=r"event 1 of .* is missing"):
        await store.load_events(sample.id)
    await store.close()


async def test_a_folder_that_does_not_exist_is_a_matter_of_configuration(tmp_path: Path) -> None:
    for bad in (tmp_path / "no" / "such" / "folder.db", tmp_path):
        with pytest.raises(ConfigError, match="cannot be opened"):
            await open_store(f"sqlite:///{bad}")


async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("not a database, but longer than the header that SQLite looks at, " * 20)
    before = file.read_bytes()
    with pytest.raises(ConfigError, match="not a SQLite database"):
        await open_store(str(file))
    assert file.read_bytes() == before
    with pytest.raises(ConfigError):
        schema.current(str(file))
    with pytest.raises(ConfigError):
        schema.migrate(str(file))


async def test_another_programs_database_is_refused_and_left_alone(path: str) -> None:
    connection = raw(path)
    connection.execute("CREATE TABLE event (id INTEGER)")
    with pytest.raises(ConfigError, match="another program"):
        await open_store(path)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("event",)]


async def test_a_database_from_a_newer_version_is_refused_and_left_alone(path: str) -> None:
    assert schema.migrate(path) == list(schema.REVISIONS)
    connection = raw(path)
    connection.execute(f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'")
    connection.close()
    before = Path(path).read_bytes()
    with pytest.raises(SchemaTooNew, match="9999"):
        await open_store(path)
    with pytest.raises(SchemaTooNew):
        schema.migrate(path)
    assert Path(path).read_bytes() == before
    assert schema.current(path) == "9999"


def test_migrating_twice_does_nothing_the_second_time(path: str) -> None:
    assert schema.current(path) is None
    assert schema.migrate(f"sqlite:///{path}") == list(schema.REVISIONS)
    assert schema.migrate(path) == []
    assert schema.current(path) == schema.head()


_OPEN = """
import asyncio, sys
from aegispay.storage.factory import open_store
async def main():
    sys.stdin.readline()
    store = await open_store(sys.argv[1])
    await store.close()
asyncio.run(main())
"""


def start_together(url: str, number: int) -> list[subprocess.Popen[bytes]]:
    """Processes that open the same store at the same moment."""
    found = [
        subprocess.Popen([sys.executable, "-c", _OPEN, url], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(number)
    ]
    for one in found:
        assert one.stdin is not None
        one.stdin.write(b"\n")
        one.stdin.flush()
    return found


def test_processes_that_migrate_at_the_same_time_do_not_disturb_each_other(path: str) -> None:
    for process in start_together(path, 4):
        _, said = process.communicate()
        assert process.returncode == 0, said.decode()
    assert schema.current(path) == schema.head()
    assert schema.migrate(path) == []


_WRITE = """
import asyncio, sys
from aegispay.storage.factory import open_store
from aegispay.testing.store_samples import SamplePayment
async def main():
    store = await open_store(sys.argv[1])
    for _ in range(10):
        samples = [SamplePayment(merchant_id=sys.argv[2]) for _ in range(10)]
        await asyncio.gather(*(store.commit(sample.intent(claimed=False)) for sample in samples))
    await store.close()
import aegispay.testing.store_samples as module
module.START_US += int(sys.argv[3]) * 10**9
asyncio.run(main())
"""


async def test_two_processes_can_write_to_one_file_at_the_same_time(path: str) -> None:
    store = await open_store(path)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITE, path, f"shop {number}", str(number)], stderr=subprocess.PIPE
        )
        for number in range(2)
    ]
    for process in processes:
        _, said = await asyncio.to_thread(process.communicate)
        assert process.returncode == 0, said.decode()
    for number in range(2):
        assert len(await store.list_payments(f"shop {number}", limit=1000)) == 100
    await store.close()


_KILLED = """
import asyncio, os, sys
from aegispay.storage.factory import open_store
from aegispay.testing.store_samples import SamplePayment
async def main():
    store = await open_store(sys.argv[1])
    sample = SamplePayment()
    await store.commit(sample.intent())
    print(sample.id, flush=True)
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""


async def test_what_was_committed_survives_sigkill(path: str) -> None:
    done = subprocess.run([sys.executable, "-c", _KILLED, path], capture_output=True, check=False)
    assert done.returncode == -9, done.stderr.decode()
    store = await open_store(path)
    assert await store.load(done.stdout.decode().strip()) is not None
    await store.close()


@pytest.mark.parametrize(
    "url", ["", "   ", "mysql://localhost/x", "sqlite://file.db", "sqlite:///", "redis://x", "sqlite:///a\0b"]
)
def test_a_url_that_names_no_store_is_refused_with_a_hint(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_store(url)
    assert caught.value.hint


@pytest.mark.parametrize("url", [":memory:", "sqlite://:memory:", "sqlite:///:memory:", "sqlite://"])
async def test_every_way_to_name_memory_is_understood(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = await open_store(url)
    assert not store.durability.durable
    await store.close()
    assert os.listdir(tmp_path) == []


async def test_relative_and_plain_paths_are_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for url in ("sqlite:///one.db", "two.db"):
        await (await open_store(url)).close()
    assert {"one.db", "two.db"} <= set(os.listdir(tmp_path))


def test_the_known_revisions_are_those_of_the_files() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)
    assert [one.revision for one in reversed(list(script.walk_revisions()))] == list(schema.REVISIONS)
    assert script.get_current_head() == schema.head()


def test_opening_a_store_that_is_up_to_date_imports_neither_alembic_nor_sqlalchemy_nor_asyncpg(
    path: str,
) -> None:
    schema.migrate(path)
    code = (
        _OPEN
        + "\nprint(sorted({name.partition('.')[0] for name in sys.modules} & {'alembic', 'sqlalchemy', 'asyncpg'}))"
    )
    done = subprocess.run([sys.executable, "-c", code, path], input=b"\n", capture_output=True, check=True)
    assert done.stdout.decode().strip() == "[]"


async def test_the_wait_for_a_foreign_lock_is_bounded(path: str) -> None:
    assert sqlite_writer.BUSY_TRIES_MAX * sqlite_writer.BUSY_TIMEOUT_MS <= 20_000


async def test_payments_from_before_the_index_are_found_after_the_migration(path: str) -> None:
    store = SqliteStore(path)
    await store.open()
    sample = SamplePayment(reference="ch_old")
    await store.commit(sample.intent())
    await store.commit(sample.approve())
    await store.close()
    connection = raw(path)
    for statement in ("DROP INDEX event_by_operation", "DROP INDEX event_by_reference"):
        connection.execute(statement)
    connection.execute(f"UPDATE {schema.VERSION_TABLE} SET version_num = '0002'")
    assert schema.migrate(path) == ["0003"]
    await store.open()
    assert await store.find_by_operation(sample.operation_id) == sample.id
    assert await store.find_by_reference("ch_old") == [sample.id]
    await store.close()


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (sqlite_store.FIND_BY_OPERATION, "event_by_operation"),
        (sqlite_store.FIND_BY_REFERENCE, "event_by_reference"),
    ],
)
def test_a_payment_is_found_by_an_index_not_by_reading_all_events(
    path: str, statement: str, index: str
) -> None:
    schema.migrate(path)
    plan = raw(path).execute(f"EXPLAIN QUERY PLAN {statement}", ("x",)).fetchall()
    assert f"USING INDEX {index} (<expr>=?)" in str(plan), plan
    assert "SCAN" not in str(plan)
