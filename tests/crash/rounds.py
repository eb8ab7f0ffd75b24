"""One round: workers under load on a database, trouble until its goals are reached, then quiet, and the verdict."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from aegispay.sandbox.faults import FaultPlan
from aegispay.sandbox.process import SandboxProcess
from aegispay.sandbox.server import SandboxSettings
from aegispay.testing.postgres import PostgresServer
from aegispay.testing.postgres_proxy import PostgresProxy
from aegispay.testing.postgres_standby import StandbyServer
from tests.crash.disk import SmallDisk
from tests.crash.fleet import ALIVE_S, Fleet
from tests.crash.notes import Order
from tests.crash.verdict import Verdict, judge

LOOKUP_QUIET_S = 1.0
LATE_S = 0.6
FAULT_SHARE = 0.08
SQLITE_DISK_MB = 48
"""The write-ahead log alone takes 16 before it is copied into the file."""
POSTGRES_DISK_MB = 96
SERVER_SETTINGS = {"recovery_init_sync_method": "syncfs"}
"""A killed server begins again in a quarter of a second, where syncing each file by itself would take it several."""
ROUND_S_MAX = 600.0
"""A round that has not reached its goals by then has failed."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to happen in a round. The numbers are goals; the round ends when each is reached."""

    name: str
    store: str
    worker_kills: int = 0
    postmaster_kills: int = 0
    cuts: int = 0
    terminations: int = 0
    """Backends ended with `pg_terminate_backend`."""
    fills: int = 0
    """How often the disk is full."""
    failovers: int = 0
    """0 or 1: the primary is killed and its standby takes over."""
    alive_s: tuple[float, float] = ALIVE_S
    """A worker that is to be killed lives so long after it is ready."""
    workers: int = 3
    pool_max: int = 4
    writers: int = 2

    @property
    def needs_postgres(self) -> bool:
        return self.store == "postgres"


class Tally:
    """What has happened so far, over all rounds."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.changed: Callable[[], None] = lambda: None

    def add(self, what: str, number: int = 1) -> None:
        self.counts[what] += number
        self.changed()


class RoundReport(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a round."""

    plan: Plan
    seed: int
    seconds: float
    kills_a_minute: float
    """While there was trouble, without start and verdict."""
    kills: int
    kills_at_work: int
    counts: dict[str, int]
    verdict: Verdict

    @property
    def ok(self) -> bool:
        return not self.verdict.violations


class Stage:
    """Everything of a round that troublemakers may touch."""

    def __init__(self, plan: Plan, source: random.Random, tally: Tally, fleet: Fleet):
        self.plan = plan
        self.source = source
        self.tally = tally
        self.fleet = fleet
        self.counts: Counter[str] = Counter()
        self.server: PostgresServer | None = None
        self.standby: StandbyServer | None = None
        self.proxy: PostgresProxy | None = None
        self.disk: SmallDisk | None = None

    def count(self, what: str, number: int = 1) -> None:
        self.counts[what] += number
        self.tally.add(what, number)

    async def pause(self, least_s: float, most_s: float) -> None:
        await asyncio.sleep(self.source.uniform(least_s, most_s))


class _Ground:
    """Where a round's database stands."""

    def __init__(self) -> None:
        self.url = ""
        """What the workers connect to."""
        self.direct_url = ""
        self.server: PostgresServer | None = None
        self.standby: StandbyServer | None = None
        self.proxy: PostgresProxy | None = None
        self.disk: SmallDisk | None = None


@asynccontextmanager
async def _ground(
    plan: Plan, directory: Path, source: random.Random, shared: PostgresServer | None
) -> AsyncIterator[_Ground]:
    ground = _Ground()
    async with AsyncExitStack() as stack:
        if plan.fills:
            size_mb = POSTGRES_DISK_MB if plan.needs_postgres else SQLITE_DISK_MB
            ground.disk = stack.enter_context(SmallDisk(directory / "disk", size_mb))
        folder = ground.disk.folder if ground.disk else directory
        if not plan.needs_postgres:
            ground.url = ground.direct_url = f"sqlite:///{folder / 'payments.db'}"
            yield ground
            return
        ground.server = shared
        if shared is None or plan.fills or plan.failovers:
            ground.server = await stack.enter_async_context(_own_server(plan, ground.disk))
        ground.url = ground.direct_url = await asyncio.to_thread(ground.server.create_database)
        if plan.failovers:
            ground.standby = StandbyServer(ground.server)
            await asyncio.to_thread(ground.standby.start)
            stack.callback(ground.standby.stop)
            ground.url = ground.direct_url = ground.standby.both(ground.url)
        if plan.cuts:
            ground.proxy = await stack.enter_async_context(PostgresProxy(ground.url, source))
            ground.url = ground.proxy.dsn
        yield ground


@asynccontextmanager
async def _own_server(plan: Plan, disk: SmallDisk | None) -> AsyncIterator[PostgresServer]:
    if disk is None:
        server = PostgresServer(settings=SERVER_SETTINGS)
    else:
        small = {
            "max_wal_size": "16MB",
            "min_wal_size": "4MB",
            "wal_recycle": "off",
            "shared_buffers": "16MB",
        }
        server = PostgresServer(settings=small, inside=disk.folder, wal_segment_mb=1)
    await asyncio.to_thread(server.start)
    try:
        yield server
    finally:
        await asyncio.to_thread(server.stop)


async def play(
    plan: Plan, seed: int, directory: Path, tally: Tally, shared: PostgresServer | None = None
) -> RoundReport:
    """Plays one round in this directory. `shared` is a PostgreSQL that rounds may use one after the other."""
    from tests.crash.troubles import make_trouble

    source = random.Random(f"{seed}:{plan.name}")
    begin_s = time.monotonic()
    directory.mkdir(parents=True, exist_ok=True)
    if (directory / "bank.db").exists():
        raise FileExistsError(f"{directory} holds another round's books")
    settings = SandboxSettings(lookup_quiet_s=LOOKUP_QUIET_S)
    async with (
        SandboxProcess(directory / "bank.db", synchronous="NORMAL", settings=settings) as bank,
        _ground(plan, directory, source, shared) as ground,
    ):
        order = Order(
            store_url=ground.url,
            stripe_url=bank.stripe_url,
            plainpay_url=bank.plainpay_url,
            sandbox=bank.settings,
            seed=seed,
            pool_max=plan.pool_max,
            writers=plan.writers,
        )
        async with Fleet(order, source, directory / "workers.log") as fleet:
            stage = Stage(plan, source, tally, fleet)
            stage.server, stage.standby = ground.server, ground.standby
            stage.proxy, stage.disk = ground.proxy, ground.disk
            fleet.on_kill = lambda: stage.count("worker_kills")
            fleet.on_answer = lambda: tally.add("answers")
            bank.set_faults(FaultPlan.mixed(seed, FAULT_SHARE, slow_s=0.03, late_s=LATE_S))
            trouble_s = time.monotonic()
            fleet.keep(plan.workers, plan.alive_s if plan.worker_kills else None)
            async with asyncio.timeout(ROUND_S_MAX):
                await make_trouble(stage)
            await fleet.halt()
            trouble_s = time.monotonic() - trouble_s
            await asyncio.to_thread(bank.clear_faults)
            await asyncio.to_thread(bank.settle)
            await fleet.drain()
            verdict = await judge(ground.direct_url, bank.bank, fleet)
        tally.add("payments", verdict.payments)
        return RoundReport(
            plan=plan,
            seed=seed,
            seconds=round(time.monotonic() - begin_s, 1),
            kills_a_minute=round(fleet.kills / trouble_s * 60, 1),
            kills=fleet.kills,
            kills_at_work=fleet.kills_at_work,
            counts=dict(stage.counts),
            verdict=verdict,
        )
