"""Mutation testing of `domain` and `orchestration`, on a random sample that a seed fixes.

`python -m tests.mutation` writes tests/mutation/score.json and exits with 1 where the score is below 85%.
"""

from __future__ import annotations

import argparse

# Loaded before the forks, so that no trial pays for them. Nothing of ours may be among them.
import asyncio
import json
import math
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import hypothesis
import msgspec
import pytest_asyncio

from tests.mutation.baseline import LAST, PACKAGES, ROOT, SOURCES, TEST_MAX_S
from tests.mutation.mutants import Mutant, mutants
from tests.mutation.trial import KILLED, SURVIVED, run

PRELOADED = (asyncio, sqlite3, aiohttp, hypothesis, msgspec, pytest_asyncio)
HERE = Path(__file__).parent
SCORE_MIN = 0.85
BUDGET_S = 10.0
"""Processor time of the tests that are tried on one mutant, the seeds apart; the cheapest come first."""
SEEDS_S = 20
WALL_MAX_S = 900.0


class Verdict(NamedTuple):
    mutant: Mutant
    fate: str
    """killed, timeout or survived."""


def population() -> list[Mutant]:
    """Every mutant of the two packages, in a fixed order."""
    return [
        mutant
        for package in PACKAGES
        for path in sorted((SOURCES / package).glob("*.py"))
        for mutant in mutants(str(path.relative_to(SOURCES.parent)), path.read_text(encoding="utf-8"))
    ]


def chosen_tests(mutant: Mutant, baseline: dict[str, Any]) -> tuple[list[str], float]:
    """The cheapest tests that execute the line, within the budget; of all tests, where the line runs at import only."""
    cost_s: dict[str, float] = baseline["cost_s"]
    lines: dict[str, list[str]] = baseline["lines"].get(mutant.module, {})
    names = set(lines.get(str(mutant.line), ())) or set(cost_s)
    total_s, tests = 0.0, []
    for name in sorted(names, key=lambda one: (cost_s[one], one)):
        if cost_s[name] <= TEST_MAX_S and total_s + cost_s[name] <= BUDGET_S:
            total_s += cost_s[name]
            tests.append(name)
    return tests, total_s


def trials(
    sample: list[Mutant | None], baseline: dict[str, Any], jobs: int, keep: Path | None
) -> list[Verdict]:
    """Tries each in a process of its own, `jobs` at a time. None is the code as it is, which must survive."""
    waiting, running = list(reversed(sample)), {}
    verdicts: list[Verdict] = []
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop()
            tests, cost_s = chosen_tests(mutant, baseline) if mutant else (list(baseline["cost_s"]), 100.0)
            pid = os.fork()
            if not pid:
                run(mutant, tests, int(2 * cost_s) + SEEDS_S + 10)
            running[pid] = (mutant, time.monotonic())
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            for stuck, (_, began_s) in running.items():
                if time.monotonic() - began_s > WALL_MAX_S:
                    os.kill(stuck, signal.SIGKILL)
            time.sleep(0.05)
            continue
        mutant, _ = running.pop(pid)
        code = os.waitstatus_to_exitcode(status)
        fate = {SURVIVED: "survived", KILLED: "killed"}.get(code, "timeout")
        if mutant is None:
            if fate != "survived":
                raise SystemExit(f"the code as it is does not pass: {fate}")
            continue
        verdicts.append(Verdict(mutant, fate))
        if keep is not None:
            with keep.open("a", encoding="utf-8") as file:
                file.write(json.dumps([identity(mutant), mutant.number, fate]) + "\n")
        if fate != "killed":
            say(
                f"{fate:<9} {mutant.module}:{mutant.line} #{mutant.number} {mutant.before}  ->  {mutant.after}"
            )
        if len(verdicts) % 25 == 0:
            alive = sum(1 for one in verdicts if one.fate == "survived")
            say(f"{len(verdicts)} of {len(sample) - 1}: {alive} survived")
    return verdicts


def kept(path: Path | None, sample: list[Mutant]) -> list[Verdict]:
    """What an earlier run with the same file came to: a search of an hour may be broken off and go on."""
    if path is None or not path.exists():
        return []
    fates: dict[tuple[str, int], str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, number, fate = json.loads(line)
        fates[name, number] = fate
    named = [(one, (identity(one), one.number)) for one in sample]
    return [Verdict(one, fates[key]) for one, key in named if key in fates]


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def interval(killed: int, total: int) -> tuple[float, float]:
    """Wilson's 95% interval of a proportion."""
    z, p = 1.96, killed / total
    middle = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return round(middle - half, 4), round(middle + half, 4)


def identity(mutant: Mutant) -> str:
    """A name that outlives changes elsewhere in the module."""
    line = (ROOT / "src" / mutant.module).read_text(encoding="utf-8").splitlines()[mutant.line - 1].strip()
    return f"{mutant.module} | {line} | {mutant.before} -> {mutant.after}"


def score(verdicts: list[Verdict], everything: int, seed: int, minutes: float) -> dict[str, Any]:
    """What is kept: raw, and with the equivalent mutants, each of which has its reason, left out."""
    equivalent: dict[str, str] = json.loads((HERE / "equivalent.json").read_text(encoding="utf-8"))
    alive = [one.mutant for one in verdicts if one.fate == "survived"]
    same = [one for one in alive if identity(one) in equivalent]
    total, killed = len(verdicts), len(verdicts) - len(alive)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "tool": "python -m tests.mutation",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": commit,
        "mutants": everything,
        "sample": total,
        "seed": seed,
        "killed": killed,
        "of_these_by_timeout": sum(1 for one in verdicts if one.fate == "timeout"),
        "survived": len(alive),
        "equivalent": len(same),
        "score_raw": round(killed / total, 4),
        "score_raw_95": interval(killed, total),
        "score": round(killed / (total - len(same)), 4),
        "score_95": interval(killed, total - len(same)),
        "minutes": round(minutes, 1),
        "survivors": [
            {"line": one.line, "mutant": identity(one), "equivalent": equivalent.get(identity(one))}
            for one in sorted(alive)
        ],
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--sample", type=int, default=400, help="how many mutants; 0 for all (default 400)")
    parser.add_argument("--seed", type=int, default=2, help="which sample (default 2)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--output", type=Path, default=HERE / "score.json")
    parser.add_argument(
        "--again", type=Path, help="only the survivors in this score file, which is left as it is"
    )
    parser.add_argument(
        "--keep", type=Path, help="note each verdict in this file, and go on from what is in it"
    )
    parser.add_argument(
        "--baseline", type=Path, help="keep the measured tests here, and use them if they are there"
    )
    options = parser.parse_args(arguments)
    began_s = time.monotonic()
    everything = population()
    with tempfile.TemporaryDirectory() as folder:
        measured = options.baseline or Path(folder) / "baseline.json"
        if not measured.exists():
            say("the unchanged code ...")
            command = [sys.executable, "-m", "tests.mutation.baseline", str(measured)]
            if subprocess.run(command, cwd=ROOT, check=False).returncode:
                return 2
        baseline = json.loads(measured.read_text(encoding="utf-8"))
    sample = everything
    if options.again:
        names = {one["mutant"] for one in json.loads(options.again.read_text(encoding="utf-8"))["survivors"]}
        sample = [one for one in everything if identity(one) in names]
    elif options.sample and options.sample < len(everything):
        sample = random.Random(options.seed).sample(everything, options.sample)
    say(f"{len(sample)} of {len(everything)} mutants, {len(baseline['cost_s'])} tests, then {LAST}")
    known = json.loads((HERE / "equivalent.json").read_text(encoding="utf-8"))
    for name in sorted(set(known) - {identity(one) for one in everything}):
        say(f"no longer in the code, take it out of equivalent.json: {name}")
    done = kept(options.keep, sample)
    left = [one for one in sample if one not in {verdict.mutant for verdict in done}]
    verdicts = done + trials([None, *left], baseline, options.jobs, options.keep)
    result = score(verdicts, len(everything), options.seed, (time.monotonic() - began_s) / 60)
    if not options.again:
        options.output.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    say(json.dumps({key: value for key, value in result.items() if key != "survivors"}))
    return 0 if result["score"] >= SCORE_MIN else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
