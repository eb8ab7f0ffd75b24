"""Real crashes for as long as it is told to: `python -m tests.crash.soak --worker-kills 3000 --cuts 1000 --minutes 60`.

Rounds of every kind follow each other until the goals are reached or the time is over. Each round has a seed; with
`--seed` the kills, cuts, shoppers and faults repeat, though not the machine's own timing.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from aegispay.testing.postgres import PostgresServer
from tests.crash.disk import MountRefused, SmallDisk
from tests.crash.fleet import SEEDS
from tests.crash.rounds import SERVER_SETTINGS, Plan, RoundReport, Tally, play

LONGER_S = (0.1, 1.5)
"""Where there is other trouble, workers live long enough to meet it."""
PLANS = (
    Plan(name="workers on SQLite", store="sqlite", worker_kills=300),
    Plan(name="workers on PostgreSQL", store="postgres", worker_kills=200),
    Plan(name="postmaster", store="postgres", postmaster_kills=20, worker_kills=40, alive_s=LONGER_S),
    Plan(name="cuts", store="postgres", cuts=150, terminations=20, worker_kills=30, alive_s=LONGER_S),
    Plan(
        name="pool of one",
        store="postgres",
        cuts=100,
        terminations=20,
        worker_kills=30,
        alive_s=LONGER_S,
        pool_max=1,
        writers=1,
    ),
    Plan(name="full disk, SQLite", store="sqlite", fills=5, worker_kills=20, alive_s=LONGER_S),
    Plan(name="full disk, PostgreSQL", store="postgres", fills=5, worker_kills=20, alive_s=LONGER_S),
    Plan(name="standby takes over", store="postgres", failovers=1, worker_kills=20, alive_s=LONGER_S),
)
GOALS = ("worker_kills", "postmaster_kills", "cuts")


class Screen:
    """A line that says how far we are; on a terminal it stays in its place."""

    def __init__(self, goals: dict[str, int], tally: Tally):
        self._goals = goals
        self._tally = tally
        self._said_s = 0.0
        self._begin_s = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self.playing = ""
        tally.changed = self.changed

    def changed(self) -> None:
        every_s = 0.2 if self._terminal else 30.0
        now_s = time.monotonic()
        if now_s - self._said_s >= every_s:
            self._said_s = now_s
            self.say()

    def say(self) -> None:
        counts = self._tally.counts
        shares = [min(1.0, counts[name] / goal) for name, goal in self._goals.items() if goal]
        share = sum(shares) / len(shares) if shares else 1.0
        bar = "#" * int(share * 20)
        parts = ", ".join(
            f"{counts[name]}/{goal} {name.replace('_', ' ')}" for name, goal in self._goals.items()
        )
        line = f"[{bar:<20}] {time.monotonic() - self._begin_s:5.0f} s  {parts}, {counts['answers']} answers  {self.playing}"
        sys.stderr.write(f"\r\x1b[K{line}" if self._terminal else line + "\n")
        sys.stderr.flush()

    def line(self, text: str) -> None:
        sys.stderr.write(f"\r\x1b[K{text}\n" if self._terminal else text + "\n")


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.crash.soak", description=__doc__)
    parser.add_argument("--worker-kills", type=int, default=3000, metavar="N")
    parser.add_argument("--postmaster-kills", type=int, default=100, metavar="N")
    parser.add_argument("--cuts", type=int, default=1000, metavar="N")
    parser.add_argument("--minutes", type=float, metavar="M", help="begin no round after so many minutes")
    parser.add_argument("--store", choices=("sqlite", "postgres", "both"), default="both")
    parser.add_argument("--seed", type=int, help="repeats a run's kills, shoppers and faults")
    parser.add_argument("--only", metavar="NAME", help="only the rounds whose name holds this")
    parser.add_argument("--json", action="store_true", help="the whole report as JSON on standard output")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keeps the rounds' files here")
    return parser.parse_args(arguments)


def chosen(options: argparse.Namespace) -> list[Plan]:
    plans = [plan for plan in PLANS if options.store in ("both", plan.store)]
    if options.only:
        plans = [plan for plan in plans if options.only in plan.name]
    if not plans:
        raise SystemExit(
            f"no round's name holds {options.only!r}; there are: {', '.join(p.name for p in PLANS)}"
        )
    return plans


def without_mounts(plans: list[Plan], directory: Path) -> list[Plan]:
    """The plans that can be played here: a full disk needs the right to mount one."""
    try:
        with SmallDisk(directory / "probe", 1):
            return plans
    except MountRefused as error:
        sys.stderr.write(
            f"Full disks are left out: {error}. Run it under `unshare --user --map-root-user --mount` to have them.\n"
        )
        return [plan for plan in plans if not plan.fills]


def goal_of(plan: Plan) -> str | None:
    """The run's goal that a plan is there for; None where it is there for itself."""
    if plan.fills or plan.failovers:
        return None
    return next(name for name in ("postmaster_kills", "cuts", "worker_kills") if getattr(plan, name))


def helpful(plans: list[Plan], goals: dict[str, int], tally: Tally) -> Iterator[Plan]:
    """The plans in turn, each once at least; those whose goal is reached are left out until all goals are."""
    reachable = {goal_of(plan) for plan in plans} - {None}
    for turn in count():
        for plan in plans:
            goal = goal_of(plan)
            if turn == 0 or goal is None or tally.counts[goal] < goals[goal]:
                yield plan
        if all(tally.counts[name] >= goals[name] for name in reachable if name is not None):
            return


async def run(options: argparse.Namespace, directory: Path) -> tuple[list[RoundReport], Tally]:
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(SEEDS)
    goals = {name: getattr(options, name) for name in GOALS}
    plans = without_mounts(chosen(options), directory)
    tally = Tally()
    screen = Screen(goals, tally)
    reports: list[RoundReport] = []
    end_s = time.monotonic() + options.minutes * 60 if options.minutes else float("inf")
    with PostgresServer(settings=SERVER_SETTINGS) as shared:
        for number, plan in enumerate(helpful(plans, goals, tally)):
            if time.monotonic() >= end_s:
                break
            screen.playing = plan.name
            report = await play(plan, (seed + number) % SEEDS, directory / f"{seed}-{number}", tally, shared)
            reports.append(report)
            screen.line(told(number, report))
    return reports, tally


def told(number: int, report: RoundReport) -> str:
    verdict = report.verdict
    line = (
        f"round {number:>3}  {report.plan.name:<22} seed {report.seed}: {report.kills} kills "
        f"({report.kills_at_work} at work, {report.kills_a_minute:.0f} a minute), {verdict.payments} payments, "
        f"{verdict.answers} answers, {len(verdict.violations)} violations, {report.seconds:.0f} s"
    )
    return "\n".join([line, *(f"    {violation}" for violation in verdict.violations)])


def summary(reports: list[RoundReport], tally: Tally, seconds: float) -> dict[str, Any]:
    branches: Counter[str] = Counter()
    troubles: Counter[str] = Counter()
    for report in reports:
        branches.update(report.verdict.branches)
        troubles.update(report.counts)
    kills = sum(report.kills for report in reports)
    return {
        "rounds": len(reports),
        "seconds": round(seconds),
        "kills_at_work": sum(report.kills_at_work for report in reports),
        "kills_a_minute": round(kills / seconds * 60, 1),
        "cuts": tally.counts["cuts"],
        "troubles": dict(sorted(troubles.items())),
        "payments": sum(report.verdict.payments for report in reports),
        "answers": sum(report.verdict.answers for report in reports),
        "charged_twice": sum(report.verdict.charged_twice for report in reports),
        "lost": sum(report.verdict.lost for report in reports),
        "branches": dict(sorted(branches.items())),
        "violations": [violation for report in reports for violation in report.verdict.violations],
    }


def show(found: dict[str, Any]) -> None:
    for name, value in found.items():
        if isinstance(value, dict):
            sys.stdout.write(f"{name}:\n")
            sys.stdout.writelines(f"    {key:<36}{count:>8}\n" for key, count in value.items())
        elif isinstance(value, list):
            sys.stdout.write(f"{name:<40}{len(value):>8}\n")
        else:
            sys.stdout.write(f"{name:<40}{value:>8}\n")


def main() -> int:
    options = parsed()
    begin_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="aegispay-soak-") as temporary:
        reports, tally = asyncio.run(run(options, options.keep or Path(temporary)))
    found = summary(reports, tally, time.monotonic() - begin_s)
    if options.json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode({**found, "each": reports})).decode() + "\n")
    else:
        show(found)
    return 1 if found["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
