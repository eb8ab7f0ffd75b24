"""The PostgreSQL store against a real server: killed, restarted, unreachable, misconfigured, raced for."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from aegispay.domain.errors import (
    ConfigError,
    NotRunning,
    SchemaTooNew,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from aegispay.domain.evolve import fold
from aegispay.domain.payment import encode_payment
from aegispay.storage import postgres_connect, postgres_queries, schema, urls
from aegispay.storage.factory import make_store, open_store
from aegispay.storage.postgres import PostgresStore, _durability
from aegispay.storage.postgres_connect import Dsn, at_open, translated
from aegispay.storage.store import ClaimTaken
from aegispay.testing.postgres import ExternalServer, PostgresServer
from aegispay.testing.store_samples import SamplePayment

Server = PostgresServer | ExternalServer


def changed(dsn: str, *, netloc: str | None = None, path: str | None = None) -> str:
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(netloc=netloc or parts.netloc, path=path or parts.path))


async def execute(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """A server that may be killed."""
    with PostgresServer() as server:
        yield server


async def test_a_server_with_its_defaults_is_durable(postgres_dsn: str) -> None:
    store = await open_store(postgres_dsn)
    assert store.durability.durable
    assert store.durability.settings == {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
    await store.close()


async def test_a_database_without_synchronous_commit_is_said_not_to_be_durable(postgres_dsn: str) -> None:
    name = urlsplit(postgres_dsn).path[1:]
    await execute(postgres_dsn, f"ALTER DATABASE {name} SET synchronous_commit = off")
    store = await open_store(postgres_dsn)
    assert not store.durability.durable
    assert (
        store.durability.warning
        == "Committed payments can be lost in a power cut: synchronous_commit is off."
    )
    await store.close()
    assert "fsync, full_page_writes are off" in str(
        _durability({"fsync": "off", "full_page_writes": "off"}).warning
    )


async def test_committed_payments_survive_a_killed_server_and_the_store_recovers(
    own_server: PostgresServer,
) -> None:
    store = PostgresStore(own_server.create_database())
    await store.open()
    sample = SamplePayment()
    await store.commit(sample.intent())
    own_server.kill()
    with pytest.raises(StoreUnavailable) as caught:
        await store.load(sample.id)
    assert caught.value.effect == "unknown"
    lost = SamplePayment()
    with pytest.raises(StoreUnavailable):
        await store.commit(lost.intent())
    own_server.restart()
    assert await store.load(sample.id) == sample.payment
    await store.commit(sample.approve())
    assert await store.load(sample.id) == sample.payment
    assert await store.load(lost.id) is None
    await store.close()


async def test_a_server_killed_under_load_loses_nothing_that_was_acknowledged(
    own_server: PostgresServer,
) -> None:
    store = PostgresStore(own_server.create_database())
    await store.open()
    acknowledged: list[SamplePayment] = []
    answers: set[type] = set()

    async def pay() -> None:
        while True:
            sample = SamplePayment()
            write = sample.intent()
            try:
                await store.commit(write)
            except StoreError as error:
                answers.add(type(error))
                return
            acknowledged.append(sample)
            if len(acknowledged) == 300:
                own_server.kill()

    await asyncio.gather(*(pay() for _ in range(32)))
    assert answers == {StoreUnavailable}
    own_server.restart()
    for sample in acknowledged:
        assert await store.load(sample.id) == sample.payment
        assert await store.load_events(sample.id) == sample.events
    await store.close()


async def test_a_connection_cut_by_the_server_is_replaced(postgres_dsn: str) -> None:
    store = await open_store(postgres_dsn)
    sample = SamplePayment()
    await store.commit(sample.intent())
    await execute(
        postgres_dsn,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    assert await store.load(sample.id) == sample.payment
    await store.commit(sample.approve())
    assert await store.count_in_flight() == 0
    await store.close()


async def test_a_refusal_whose_reason_cannot_be_read_is_no_version_conflict(postgres_dsn: str) -> None:
    """Its caller would take it for the last word; tried again, it is a claim that is taken, with an answer behind it."""
    store = await open_store(postgres_dsn)
    sample = SamplePayment()
    write = sample.intent()
    await store.commit(write)
    name = urlsplit(postgres_dsn).path[1:]
    watcher = await asyncpg.connect(changed(postgres_dsn, path="/postgres"))
    # Writers have their connections; whoever asks for the reason needs a new one.
    await watcher.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    with pytest.raises(StoreUnavailable, match="refused"):
        await store.commit(write)
    await watcher.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    with pytest.raises(ClaimTaken):
        await store.commit(write)
    await watcher.close()
    await store.close()


@pytest.mark.parametrize("statement", ["UPDATE event SET data = '{}'", "DELETE FROM event", "TRUNCATE event"])
async def test_events_can_be_neither_changed_nor_removed(postgres_dsn: str, statement: str) -> None:
    store = await open_store(postgres_dsn)
    sample = SamplePayment()
    await store.commit(sample.intent())
    with pytest.raises(asyncpg.RaiseError, match="append-only"):
        await execute(postgres_dsn, statement)
    assert await store.load_events(sample.id) == sample.events
    await store.close()


async def test_a_new_payment_that_is_being_inserted_elsewhere_fails_alone(postgres_dsn: str) -> None:
    """Its row is there, uncommitted, when the batch looks; the primary key stops it, and its neighbours are written."""
    store = await open_store(postgres_dsn)
    sample, neighbour = SamplePayment(), SamplePayment()
    write = sample.intent()
    foreign = await asyncpg.connect(postgres_dsn)
    transaction = foreign.transaction()
    await transaction.start()
    await foreign.execute(
        "INSERT INTO payment VALUES ($1, 1, 1, 1, 1, 'm', 'initiated', 'USD', NULL, NULL, '{}')",
        sample.id[4:],
    )
    tasks = [asyncio.create_task(store.commit(one)) for one in (write, neighbour.intent())]
    watcher = await asyncpg.connect(postgres_dsn)
    while not await watcher.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
        await asyncio.sleep(0.002)
    await transaction.commit()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one).__name__ for one in answers] == ["VersionConflict", "NoneType"]
    assert await store.find_claim(write.claim.digest if write.claim else b"") is None
    assert await store.load_events(sample.id) == []
    assert await store.load(neighbour.id) == neighbour.payment
    await foreign.close()
    await watcher.close()
    await store.close()


async def test_a_version_that_changes_while_the_batch_waits_for_the_row_is_noticed(postgres_dsn: str) -> None:
    """The snapshot of the batch shows the old version; the row that it gets to lock has the new one."""
    store = await open_store(postgres_dsn)
    sample, neighbour = SamplePayment(), SamplePayment()
    await store.commit(sample.intent())
    foreign = await asyncpg.connect(postgres_dsn)
    transaction = foreign.transaction()
    await transaction.start()
    await foreign.execute("UPDATE payment SET version = 3 WHERE payment_id = $1", sample.id[4:])
    tasks = [asyncio.create_task(store.commit(one)) for one in (sample.approve(), neighbour.intent())]
    watcher = await asyncpg.connect(postgres_dsn)
    while not await watcher.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
        await asyncio.sleep(0.002)
    await transaction.commit()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one).__name__ for one in answers] == ["VersionConflict", "NoneType"]
    assert len(await store.load_events(sample.id)) == 2
    assert await store.find_in_flight(sample.operation_id) is not None
    await foreign.close()
    await watcher.close()
    await store.close()


async def test_a_fence_that_rises_while_the_batch_waits_for_the_lease_is_noticed(postgres_dsn: str) -> None:
    store = await open_store(postgres_dsn)
    sample = SamplePayment()
    await store.commit(sample.intent())
    foreign = await asyncpg.connect(postgres_dsn)
    transaction = foreign.transaction()
    await transaction.start()
    await foreign.execute("UPDATE in_flight SET fence = 2")
    task = asyncio.create_task(store.commit(sample.approve()))
    watcher = await asyncpg.connect(postgres_dsn)
    while not await watcher.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
        await asyncio.sleep(0.002)
    await transaction.commit()
    (answer,) = await asyncio.gather(task, return_exceptions=True)
    assert type(answer).__name__ == "StaleFence"
    assert len(await store.load_events(sample.id)) == 2
    await foreign.close()
    await watcher.close()
    await store.close()


async def test_a_claim_whose_rival_rolls_back_is_won(postgres_dsn: str) -> None:
    store = await open_store(postgres_dsn)
    sample = SamplePayment()
    write = sample.intent()
    assert write.claim is not None
    foreign = await asyncpg.connect(postgres_dsn)
    transaction = foreign.transaction()
    await transaction.start()
    await foreign.execute(
        "INSERT INTO claim VALUES ($1, $2, $2, $1, 1, 'm', 'payment')",
        write.claim.digest.hex(),
        sample.id[4:],
    )
    task = asyncio.create_task(store.commit(write))
    watcher = await asyncpg.connect(postgres_dsn)
    while not await watcher.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
        await asyncio.sleep(0.002)
    await transaction.rollback()
    await task
    assert await store.find_claim(write.claim.digest) == write.claim
    await foreign.close()
    await watcher.close()
    await store.close()


async def test_a_value_that_postgresql_cannot_hold_fails_its_own_caller(postgres_dsn: str) -> None:
    store = await open_store(postgres_dsn)
    bad, good = SamplePayment(merchant_id="nul \0 nul"), SamplePayment()
    answers = await asyncio.gather(
        store.commit(bad.intent()), store.commit(good.intent()), return_exceptions=True
    )
    assert isinstance(answers[0], StoreError)
    assert answers[1] is None
    assert await store.load(bad.id) is None
    await store.close()


async def test_the_batch_statement_reads_no_table_from_end_to_end(postgres_dsn: str) -> None:
    """However many payments there are, a batch touches its own rows only."""
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute(postgres_queries.WRITER_SETTINGS)
    await connection.execute("PREPARE write AS " + postgres_queries.WRITE)
    empty = ", ".join(["'{}'"] * 64)
    plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN EXECUTE write({empty})"))
    await connection.close()
    lines = [line.strip().removeprefix("->").strip() for line in plan.splitlines()]
    locks = [number for number, line in enumerate(lines) if line.startswith("LockRows")]
    # Rows are locked in the order of their ids, so two processes never wait for each other in a circle.
    assert [lines[number + 1].split()[0] for number in locks] == ["Sort", "Sort"]
    assert {lines[number + 2].rpartition(".")[2] for number in locks} == {"payment_id", "guard_id"}
    assert "Seq Scan" not in plan
    assert "Bitmap" not in plan
    for line, condition in zip(plan.splitlines(), plan.splitlines()[1:], strict=False):
        if "Index Scan" in line or "Index Only Scan" in line:
            assert "Index Cond" in condition, line


async def test_projections_equal_their_events_after_many_concurrent_writers(postgres_dsn: str) -> None:
    stores = [await open_store(postgres_dsn) for _ in range(2)]
    samples = [SamplePayment() for _ in range(60)]

    async def work(number: int, sample: SamplePayment) -> None:
        store = stores[number % 2]
        for write in (sample.intent(), sample.doubt(), sample.approve(), sample.refund(1), sample.refund(2)):
            await store.commit(write)

    await asyncio.gather(*(work(number, sample) for number, sample in enumerate(samples)))
    for sample in samples:
        found = await stores[0].load(sample.id)
        assert found is not None
        assert encode_payment(found) == encode_payment(fold(await stores[1].load_events(sample.id)))
    for store in stores:
        await store.close()


# --- bad DSNs and servers that do not answer ----------------------------------------------------------------


async def test_a_wrong_password_is_said_and_never_shown(postgres_server: Server, postgres_dsn: str) -> None:
    parts = urlsplit(postgres_dsn)
    bad = changed(postgres_dsn, netloc=f"{parts.username}:s3cr3t-wrong@{parts.hostname}:{parts.port}")
    with pytest.raises(ConfigError, match="password") as caught:
        await open_store(bad)
    assert "s3cr3t" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.hint


async def test_a_database_that_does_not_exist_is_said(postgres_dsn: str) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        await open_store(changed(postgres_dsn, path="/no_such_database"))


async def test_a_server_that_nobody_runs_is_unavailable() -> None:
    with pytest.raises(StoreUnavailable, match="cannot be reached") as caught:
        await open_store("postgresql://me:s3cr3t@127.0.0.1:1/payments")
    assert "s3cr3t" not in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(StoreUnavailable):
        await asyncio.to_thread(schema.current, "postgresql://me:s3cr3t@127.0.0.1:1/payments")


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://me:s3cr3t@127.0.0.1:port/payments",
        "postgresql://me:s3cr3t@h1,h2:1:2/payments",
        "postgresql://me:s3cr3t@[::1/payments",
        "postgresql://me:s3cr3t@127.0.0.1:5432/payments?sslmode=perhaps",
    ],
)
async def test_a_dsn_that_cannot_be_read_is_refused_without_being_quoted(dsn: str) -> None:
    with pytest.raises(ConfigError, match="not valid") as caught:
        await open_store(dsn)
    assert "s3cr3t" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_another_scheme_is_no_postgresql_dsn() -> None:
    with pytest.raises(ConfigError):
        PostgresStore("mysql://localhost/x")


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("postgresql://me:pass@host:5/db?password=pass", "postgresql://me@host:5/db"),
        ("postgres://me:p@ss@a:1,b:2/db", "postgresql://me@a:1,b:2/db"),
        ("postgresql:///db", "postgresql:///db"),
        ("postgresql://[pass", "the PostgreSQL DSN"),
        ("/some/file.db", "/some/file.db"),
    ],
)
def test_a_dsn_is_shown_without_its_password(dsn: str, shown: str) -> None:
    assert urls.shown(dsn) == shown


async def test_the_host_that_takes_writes_is_found_among_several(postgres_dsn: str) -> None:
    parts = urlsplit(postgres_dsn)
    user, _, place = parts.netloc.rpartition("@")
    store = await open_store(changed(postgres_dsn, netloc=f"{user}@127.0.0.1:1,{place}"))
    sample = SamplePayment()
    await store.commit(sample.intent())
    await store.close()


async def test_a_host_that_is_frozen_does_not_keep_the_next_from_being_asked(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its machine takes the connection and never says a word; who opens the store has patience for one host at a time."""
    monkeypatch.setattr(postgres_connect, "CONNECT_TIMEOUT_S", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        user, _, place = urlsplit(postgres_dsn).netloc.rpartition("@")
        hosts = f"{user}@127.0.0.1:{frozen.getsockname()[1]},{place}"
        store = await open_store(changed(postgres_dsn, netloc=hosts))
        sample = SamplePayment()
        await store.commit(sample.intent())
        assert await store.load(sample.id) == sample.payment
        frozen.setblocking(False)
        knocks = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                frozen.accept()[0].close()
                knocks += 1
        assert knocks == 1, "a host that did not answer was asked first again"
        await store.close()


async def test_a_server_that_takes_no_writes_is_named_as_such(postgres_dsn: str) -> None:
    name = urlsplit(postgres_dsn).path[1:]
    await execute(postgres_dsn, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(StoreUnavailable, match="replica"):
        await open_store(postgres_dsn)


class _Refusal(Exception):
    def __init__(self, sqlstate: str):
        super().__init__("the server's words")
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("sqlstate", "kind"),
    [
        ("53100", StoreFull),
        ("57P01", StoreUnavailable),
        ("40P01", StoreError),
        ("42P01", StoreError),
        ("XX000", StoreUnavailable),
    ],
)
def test_every_sqlstate_becomes_one_of_our_errors(sqlstate: str, kind: type) -> None:
    dsn = Dsn("postgresql://me:s3cr3t@host/db")
    assert type(translated(_Refusal(sqlstate), dsn)) is kind
    assert "s3cr3t" not in str(translated(_Refusal(sqlstate), dsn))
    assert translated(NotRunning(), dsn).code == "not_running"


def test_errors_at_opening_name_what_to_mend() -> None:
    dsn = Dsn("postgresql://me@host/db")
    for error, kind in (
        (TimeoutError(), StoreUnavailable),
        (_Refusal("53300"), StoreUnavailable),
        (EOFError(), StoreUnavailable),
    ):
        assert type(at_open(error, dsn)) is kind
    assert at_open(NotRunning(), dsn).code == "not_running"
    assert "took too long" in str(translated(TimeoutError(), dsn))


async def test_without_the_driver_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(ConfigError, match=r"aegispay\[postgres\]"):
        await make_store("postgresql://me@127.0.0.1:1/db").open()


# --- migrations ---------------------------------------------------------------------------------------------


async def test_a_database_from_a_newer_version_is_refused_and_left_alone(postgres_dsn: str) -> None:
    await execute(postgres_dsn, f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(SchemaTooNew, match="9999"):
        await open_store(postgres_dsn)
    with pytest.raises(SchemaTooNew):
        await asyncio.to_thread(schema.migrate, postgres_dsn)
    assert await asyncio.to_thread(schema.current, postgres_dsn) == "9999"


async def test_another_programs_database_is_refused_and_left_alone(postgres_server: Server) -> None:
    dsn = postgres_server.create_database(migrated=False)
    await execute(dsn, "CREATE TABLE event (id integer)")
    with pytest.raises(ConfigError, match="cannot be migrated"):
        await open_store(dsn)
    connection = await asyncpg.connect(dsn)
    tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    await connection.close()
    assert [row[0] for row in tables] == ["event"]


_OPEN = """
import asyncio, sys
from aegispay.storage.factory import open_store
async def main():
    sys.stdin.readline()
    store = await open_store(sys.argv[1])
    await store.close()
asyncio.run(main())
"""


async def test_processes_that_migrate_at_the_same_time_do_not_disturb_each_other(
    postgres_server: Server,
) -> None:
    dsn = postgres_server.create_database(migrated=False)
    assert await asyncio.to_thread(schema.current, dsn) is None
    processes = [
        subprocess.Popen([sys.executable, "-c", _OPEN, dsn], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
    for process in processes:
        _, said = await asyncio.to_thread(process.communicate)
        assert process.returncode == 0, said.decode()
    assert await asyncio.to_thread(schema.current, dsn) == schema.head()
    assert await asyncio.to_thread(schema.migrate, dsn) == []


async def test_stores_that_open_together_in_one_process_migrate_once(postgres_server: Server) -> None:
    dsn = postgres_server.create_database(migrated=False)
    stores = [PostgresStore(dsn) for _ in range(3)]
    await asyncio.gather(*(store.open() for store in stores))
    await asyncio.gather(*(store.close() for store in stores))
    assert await asyncio.to_thread(schema.current, dsn) == schema.head()


async def test_payments_from_before_the_index_are_found_after_the_migration(postgres_dsn: str) -> None:
    store = PostgresStore(postgres_dsn)
    await store.open()
    sample = SamplePayment(reference="ch_old")
    await store.commit(sample.intent())
    await store.commit(sample.approve())
    await store.close()
    await execute(postgres_dsn, "DROP INDEX event_by_operation, event_by_reference")
    await execute(postgres_dsn, f"UPDATE {schema.VERSION_TABLE} SET version_num = '0002'")
    assert await asyncio.to_thread(schema.migrate, postgres_dsn) == ["0003"]
    await store.open()
    assert await store.find_by_operation(sample.operation_id) == sample.id
    assert await store.find_by_reference("ch_old") == [sample.id]
    await store.close()


@pytest.mark.parametrize(
    ("statement", "values", "index"),
    [
        (postgres_queries.FIND_BY_OPERATION, ("x",), "event_by_operation"),
        (postgres_queries.FIND_BY_REFERENCE, ("x", 10), "event_by_reference"),
    ],
)
async def test_a_payment_is_found_by_an_index_not_by_reading_all_events(
    postgres_dsn: str, statement: str, values: tuple[object, ...], index: str
) -> None:
    connection = await asyncpg.connect(postgres_dsn)
    try:
        # On a table that holds next to nothing, reading all of it is what the planner prefers.
        await connection.execute("SET enable_seqscan = off")
        plan = await connection.fetch(f"EXPLAIN {statement}", *values)
    finally:
        await connection.close()
    # "Index Cond": it looks the value up, rather than reading through the whole index.
    assert index in str(plan) and "Index Cond" in str(plan), plan
    assert "Filter" not in str(plan), plan
