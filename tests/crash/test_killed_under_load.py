"""Real processes, servers, connections and disks that fail at seeded moments under load: in the end both books agree.

`make soak` plays the same rounds for hours.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aegispay.testing.postgres import PostgresServer
from aegispay.testing.postgres_proxy import AROUND_COMMIT
from tests.crash.disk import MountRefused, SmallDisk
from tests.crash.fleet import SEEDS
from tests.crash.rounds import SERVER_SETTINGS, Plan, RoundReport, Tally, play

SEED_VARIABLE = "AEGISPAY_TEST_SEED"
"""Repeats the moments of the kills, the shoppers and the faults of a run; the machine's own timing it cannot repeat."""
LONGER_S = (0.3, 3.0)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL of our own, with full fsync: it is killed, so it may be nobody else's."""
    with PostgresServer(settings=SERVER_SETTINGS) as running:
        yield running


async def played(plan: Plan, directory: Path, server: PostgresServer | None = None) -> RoundReport:
    seed = int(os.environ.get(SEED_VARIABLE) or random.SystemRandom().randrange(SEEDS)) % SEEDS
    sys.stdout.write(f"{SEED_VARIABLE}={seed}\n")
    report = await play(plan, seed, directory, Tally(), server)
    assert report.verdict.violations == []
    assert report.verdict.payments and report.verdict.answers
    return report


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
async def test_fifty_killed_workers_lose_nothing_and_charge_nobody_twice(
    store: str, tmp_path: Path, server: PostgresServer
) -> None:
    report = await played(Plan(name="workers", store=store, worker_kills=50), tmp_path, server)
    assert report.kills_at_work >= 25, "the kills met nobody at work"
    assert report.verdict.branches["in doubt: owner_gone"], "no kill fell between an intent and its outcome"


async def test_five_kills_of_the_postmaster_lose_no_acknowledged_payment(
    tmp_path: Path, server: PostgresServer
) -> None:
    await played(Plan(name="postmaster", store="postgres", postmaster_kills=5), tmp_path, server)


async def test_connections_cut_around_commit_neither_lose_nor_repeat_a_write(
    tmp_path: Path, server: PostgresServer
) -> None:
    report = await played(Plan(name="cuts", store="postgres", cuts=35), tmp_path, server)
    assert all(report.counts[f"cut_{moment}"] >= 5 for moment in AROUND_COMMIT)


async def test_one_connection_that_is_cut_and_terminated_is_enough(
    tmp_path: Path, server: PostgresServer
) -> None:
    plan = Plan(name="pool of one", store="postgres", cuts=15, terminations=15, pool_max=1, writers=1)
    await played(plan, tmp_path, server)


async def test_terminated_backends_are_replaced_and_their_writes_found(
    tmp_path: Path, server: PostgresServer
) -> None:
    plan = Plan(name="terminated", store="postgres", terminations=30, worker_kills=3, alive_s=LONGER_S)
    await played(plan, tmp_path, server)


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
async def test_a_full_disk_is_survived_and_nothing_half_written(store: str, tmp_path: Path) -> None:
    try:
        with SmallDisk(tmp_path / "probe", 1):
            pass
    except MountRefused as error:
        pytest.skip(f"a small disk cannot be mounted here: {error}")
    plan = Plan(name="full disk", store=store, fills=2, worker_kills=3, alive_s=LONGER_S)
    await played(plan, tmp_path)


async def test_a_standby_takes_over_and_no_acknowledged_payment_is_lost(tmp_path: Path) -> None:
    plan = Plan(name="standby", store="postgres", failovers=1, worker_kills=5, alive_s=LONGER_S)
    await played(plan, tmp_path)
