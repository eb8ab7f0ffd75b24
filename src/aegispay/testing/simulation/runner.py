"""Many seeds: in several processes, with a sample run twice to see that the same seed gives the same hash."""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import count, islice
from multiprocessing import get_context

import msgspec

from aegispay.testing.simulation.options import Mode
from aegispay.testing.simulation.simulation import Report, Simulation

CHUNK = 20
TWICE_EVERY = 100
"""One seed in so many is run twice."""
FAILURES_KEPT_MAX = 20


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A seed that broke a promise, and the command that shows it again."""

    seed: int
    mode: Mode
    violations: list[str]
    replay: str


class Summary(msgspec.Struct, kw_only=True):
    """What many seeds came to."""

    mode: Mode
    seeds: int = 0
    failed: int = 0
    twice: int = 0
    """Seeds that were run twice, and gave the same hash."""
    steps: int = 0
    virtual_s: float = 0.0
    requests: int = 0
    exchanges: int = 0
    commits: int = 0
    payments: int = 0
    needs_review: int = 0
    elapsed_s: float = 0.0
    cpu_s: float = 0.0
    fired: dict[str, int] = {}
    branches: dict[str, int] = {}
    states: dict[str, int] = {}
    gateways: dict[str, int] = {}
    """Operations of each gateway."""
    failures: list[Failure] = []

    @property
    def ok(self) -> bool:
        return not self.failed

    def add(self, other: Summary) -> None:
        """Adds another part's counts."""
        for name in (
            "seeds failed twice steps virtual_s requests exchanges commits payments needs_review cpu_s".split()  # noqa: SIM905
        ):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("fired", "branches", "states", "gateways"):
            both = Counter(getattr(self, name))
            both.update(getattr(other, name))
            setattr(self, name, dict(sorted(both.items())))
        self.failures = (self.failures + other.failures)[:FAILURES_KEPT_MAX]


def replay_command(seed: int, mode: Mode) -> str:
    """The one command that runs this seed again, with its timeline."""
    return f"aegispay simulate --seed {seed}" + ("" if mode is Mode.NORMAL else f" --mode {mode}")


def run_chunk(seeds: Sequence[int], mode: Mode) -> Summary:
    """Runs some seeds in this process."""
    summary = Summary(mode=mode)
    started_s = time.process_time()
    collecting = gc.isenabled()
    gc.disable()
    try:
        for seed in seeds:
            report = Simulation(seed, mode=mode).run()
            _count(summary, report)
            if seed % TWICE_EVERY == 0:
                summary.twice += 1
                if Simulation(seed, mode=mode, timeline=True).run().digest != report.digest:
                    _fail(summary, seed, ["determinism: two runs of this seed differ"])
    finally:
        if collecting:
            gc.enable()
        gc.collect()
    summary.cpu_s = time.process_time() - started_s
    return summary


def _count(summary: Summary, report: Report) -> None:
    part = Summary(
        mode=summary.mode,
        seeds=1,
        steps=report.steps,
        virtual_s=report.virtual_s,
        requests=report.requests,
        exchanges=report.exchanges,
        commits=report.commits,
        payments=report.payments,
        needs_review=report.states.get("needs_review", 0),
        fired=report.fired,
        branches=report.branches,
        states=report.states,
        gateways=report.gateways,
    )
    summary.add(part)
    if not report.ok:
        texts = [f"{one.promise} at {one.at_s:.3f} s: {one.detail}" for one in report.violations]
        _fail(summary, report.options.seed, texts)


def _fail(summary: Summary, seed: int, violations: list[str]) -> None:
    summary.failed += 1
    if len(summary.failures) < FAILURES_KEPT_MAX:
        summary.failures.append(
            Failure(
                seed=seed, mode=summary.mode, violations=violations, replay=replay_command(seed, summary.mode)
            )
        )


def run_many(
    *,
    first: int = 0,
    seeds: int | None = None,
    minutes: float | None = None,
    jobs: int = 1,
    mode: Mode = Mode.NORMAL,
    progress: Callable[[Summary], None] = lambda _summary: None,
) -> Summary:
    """Runs `seeds` seeds from `first` on, or as many as fit in `minutes`; both: whichever ends first."""
    summary = Summary(mode=mode)
    started_s = time.monotonic()
    chunks = _chunks(first, seeds)

    def over() -> bool:
        return minutes is not None and time.monotonic() - started_s >= minutes * 60

    def took(part: Summary) -> None:
        summary.add(part)
        summary.elapsed_s = time.monotonic() - started_s
        progress(summary)

    if jobs <= 1:
        for chunk in chunks:
            took(run_chunk(chunk, mode))
            if over():
                break
        return summary
    with ProcessPoolExecutor(max_workers=jobs, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(run_chunk, chunk, mode) for chunk in islice(chunks, jobs * 2)]
        while waiting:
            took(waiting.pop(0).result())
            following = None if over() else next(chunks, None)
            if following is not None:
                waiting.append(pool.submit(run_chunk, following, mode))
    return summary


def _chunks(first: int, seeds: int | None) -> Iterator[range]:
    for start in count(first, CHUNK):
        stop = start + CHUNK if seeds is None else min(start + CHUNK, first + seeds)
        if stop <= start:
            return
        yield range(start, stop)
