"""The benchmark: its report has the shape that it promises, and it notices when what was stored is not what was served.

Nothing here says how fast anything is.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aegispay.app import AegisPay
from aegispay.bench import BenchOptions, Report, measure, run
from aegispay.bench import check as checks
from aegispay.bench import load as loads
from aegispay.bench.histogram import Histogram
from aegispay.bench.prefill import MERCHANT, prefill
from aegispay.domain.errors import ConfigError, IdempotencyConflict
from aegispay.domain.evolve import fold
from aegispay.domain.money import Money
from aegispay.domain.payment import Payment
from aegispay.storage.sqlite import SqliteStore
from aegispay.storage.store import Write
from aegispay.testing.instant_gateway import InstantGateway
from aegispay.testing.postgres import find_binaries


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `aegispay bench --json` wrote for one second on SQLite."""
    path = tmp_path_factory.mktemp("bench") / "report.json"
    code = run(
        BenchOptions(
            concurrency=16,
            seconds=1.0,
            warmup_s=0.2,
            replay=True,
            prefill=500,
            json_path=str(path),
            quiet=True,
        )
    )
    assert code == 0
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


def test_what_was_served_is_what_was_stored(report: dict[str, Any]) -> None:
    check = report["check"]
    assert report["ok"] and check["ok"] and not report["errors"]
    assert check["served"] == check["approved"] == check["stored"] == check["succeeded"] > 0
    assert check["events_delivered"] == 3 * check["served"]
    assert check["folded"] > 0
    assert check["fold_differs"] == check["in_flight_left"] == 0


def test_the_report_says_that_durability_was_on(report: dict[str, Any]) -> None:
    store = report["store"]
    assert store["kind"] == "sqlite"
    assert store["durable"] is True and store["warning"] is None
    assert store["settings"] == {"journal_mode": "wal", "synchronous": "FULL"}


def test_the_report_names_machine_load_and_figures(report: dict[str, Any]) -> None:
    assert report["machine"]["cores"] >= 1 and report["machine"]["event_loop"]
    assert report["load"]["mode"] == "closed" and report["load"]["concurrency"] == 16
    assert report["load"]["prefilled"] == 500
    latency = report["latency"]
    assert (
        0
        < latency["p50_ms"]
        <= latency["p95_ms"]
        <= latency["p99_ms"]
        <= latency["p999_ms"]
        <= latency["max_ms"]
    )
    assert report["payments"] > 0 and report["payments_per_s"] > 0 and report["cpu_us_per_payment"] > 0
    assert 0 < report["memory"]["start_mib"] <= report["memory"]["peak_mib"]
    assert report["server_cpu_us_per_payment"] is None


def test_replays_give_the_same_bytes_from_memory_and_after_a_restart(report: dict[str, Any]) -> None:
    for name in ("replay_memory", "replay_store"):
        assert report[name]["replays"] >= report[name]["keys"] > 0
        assert report[name]["differing"] == 0


class _StalledShop:
    """A shop on a clock of its own, where the first answer holds everything up for a second, and the others take no time."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.bought = 0
        self.pay = SimpleNamespace(ports=SimpleNamespace(clock=self))
        self.load: loads.Load | None = None

    def monotonic_s(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += max(seconds, 0.0)
        await asyncio.sleep(0)

    def next_number(self) -> int:
        self.bought += 1
        return self.bought

    async def buy(self, number: int) -> Any:
        self.now_s += 1.0 if number == 1 else 0.0
        if number == 100 and self.load is not None:
            self.load.stop()
        return SimpleNamespace(is_success=lambda: True)


async def test_an_open_loop_measures_from_the_intended_start() -> None:
    """What should have begun during a stall counts from then: the stall shows in half the latencies, not in one."""
    shop = _StalledShop()
    load = loads.Load(shop, BenchOptions(rate=100.0, arrivals="constant"))  # type: ignore[arg-type]
    shop.load, load.measuring = load, True
    await load.run()
    assert load.served == load.latencies.count >= 100
    assert 450_000 < load.latencies.percentile_us(50) < 550_000
    assert load.late_max_us > 900_000


def test_an_open_loop_runs_on_a_real_store() -> None:
    found = measure(BenchOptions(rate=200.0, seconds=0.5, warmup_s=0.0, quiet=True))
    assert found.ok and found.load.mode == "open" and found.load.concurrency is None
    assert found.latency.count > 50


@pytest.mark.parametrize("arrivals", ["poisson", "constant"])
def test_the_same_seed_gives_the_same_arrivals_at_the_asked_rate(arrivals: str) -> None:
    first, second = (loads.gaps_s(1000.0, arrivals, 7) for _ in range(2))
    gaps = [next(first) for _ in range(20_000)]
    assert gaps == [next(second) for _ in range(20_000)]
    assert sum(gaps) == pytest.approx(20.0, rel=0.03)


async def _check_after(
    tmp_path: Path, spoil: Callable[[AegisPay, dict[str, int]], None], **changed: int
) -> checks.Check:
    counts = {"served": 3, "approved": 3, "events_delivered": 9, **changed}
    async with AegisPay([InstantGateway("first")], store=f"sqlite:///{tmp_path / 'pay.db'}") as pay:
        shop = loads.Shop(pay, "bench")
        made = [await shop.buy(shop.next_number()) for _ in range(3)]
        spoil(pay, counts)
        return await checks.check(pay, "bench", sample=[one.payment_id for one in made], **counts)


def _nothing(pay: AegisPay, counts: dict[str, int]) -> None:
    """Leaves everything as it is."""


async def test_the_check_holds_for_an_honest_run(tmp_path: Path) -> None:
    assert (await _check_after(tmp_path, _nothing)).ok


@pytest.mark.parametrize("name", ["served", "approved", "events_delivered"])
async def test_the_check_notices_a_payment_too_many(tmp_path: Path, name: str) -> None:
    before = {"served": 3, "approved": 3, "events_delivered": 9}
    assert not (await _check_after(tmp_path, _nothing, **{name: before[name] + 1})).ok


async def test_the_check_notices_a_projection_that_is_not_the_fold(tmp_path: Path) -> None:
    def spoil(pay: AegisPay, counts: dict[str, int]) -> None:
        store = pay.store
        assert isinstance(store, SqliteStore) and store._writer is not None
        store._writer.execute("UPDATE payment SET body = replace(body, '\"Order from', '\"Order of')")

    found = await _check_after(tmp_path, spoil)
    assert found.fold_differs == 3 and not found.ok


def test_a_store_that_loses_a_write_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted bug: each hundredth outcome is acknowledged and not written."""
    real = SqliteStore.commit
    outcomes = 0

    async def forgetful(store: SqliteStore, write: Write) -> None:
        nonlocal outcomes
        outcomes += bool(write.expected_version)
        if not write.expected_version or outcomes % 100:
            await real(store, write)

    monkeypatch.setattr(SqliteStore, "commit", forgetful)
    found = measure(BenchOptions(concurrency=16, seconds=0.5, warmup_s=0.0, quiet=True))
    assert not found.ok and found.check.succeeded < found.check.served


def test_percentiles_are_those_of_the_sorted_values_within_a_thousandth() -> None:
    source = random.Random(3)
    values = sorted(int(source.lognormvariate(9, 2)) for _ in range(50_000))
    histogram = Histogram()
    for value in source.sample(values, len(values)):
        histogram.add(value)
    for percent in (1, 50, 95, 99, 99.9, 100):
        exact = values[max(0, -int(-len(values) * percent // 100) - 1)]
        assert exact <= histogram.percentile_us(percent) <= exact * 1.001 + 1
    assert histogram.latency().max_ms == values[-1] / 1000
    assert histogram.latency().count == 50_000


def test_the_histogram_takes_anything_and_never_grows() -> None:
    histogram = Histogram()
    size = len(histogram._counts)
    for value in (-5, 0, 1, 2047, 2048, 2**42, 2**62):
        histogram.add(value)
    assert len(histogram._counts) == size and histogram.count == 7
    assert histogram.max_us == 2**62
    assert Histogram().percentile_us(99) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"concurrency": 0},
        {"seconds": 0.0},
        {"seconds": float("nan")},
        {"rate": -1.0},
        {"arrivals": "never"},
        {"prefill": -1},
        {"store": "sqlite://:memory:"},
        {"store": "mysql://x"},
        {"store": ""},
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything_starts(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        BenchOptions(**wrong)


def test_a_report_that_cannot_be_written_is_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        run(
            BenchOptions(
                seconds=0.1, warmup_s=0.0, quiet=True, json_path=str(tmp_path / "no" / "report.json")
            )
        )


def test_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(BenchOptions(concurrency=4, seconds=0.2, warmup_s=0.0)) == 0
    out = capsys.readouterr().out
    assert "measuring for 0.2 s" in out and "durable" in out and "\x1b" not in out


def test_json_on_the_standard_output_stands_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(BenchOptions(concurrency=4, seconds=0.2, warmup_s=0.0, json_path="-")) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True


def test_the_event_loop_is_the_one_that_was_asked_for() -> None:
    found = measure(BenchOptions(concurrency=4, seconds=0.2, warmup_s=0.0, uvloop=False, quiet=True))
    assert found.machine.event_loop == "asyncio"


def _has_postgres() -> bool:
    try:
        find_binaries()
    except ConfigError:
        return False
    return True


@pytest.mark.skipif(not _has_postgres(), reason="no PostgreSQL binaries on this machine")
def test_a_throwaway_postgres_runs_with_full_fsync() -> None:
    found: Report = measure(
        BenchOptions(store="postgres", concurrency=16, seconds=0.5, warmup_s=0.1, prefill=200, quiet=True)
    )
    assert found.ok and found.store.durable
    assert found.store.settings["fsync"] == "on" and found.store.settings["synchronous_commit"] == "on"
    assert "@" not in found.store.url and "://" not in found.store.url


async def test_prefilled_payments_are_real_ones(tmp_path: Path) -> None:
    """They list, load and fold like any other, and their keys are claimed."""
    gateway = InstantGateway("first")
    url = f"sqlite:///{tmp_path / 'full.db'}"
    async with AegisPay([gateway], store=url) as pay:
        await prefill(url, 50, lambda done: None)
        found: list[Payment] = await pay.list(merchant_id=MERCHANT, limit=100)
        assert len({one.id for one in found}) == 50
        for one in found:
            assert fold(await pay.event_store.events(one.id)) == one
        with pytest.raises(IdempotencyConflict):
            await pay.charge(Money(5, "USD"), "tok_a", idempotency_key="stored-7", merchant_id=MERCHANT)
    assert gateway.books == []
