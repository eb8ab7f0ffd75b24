"""`aegispay simulate`: a thin wrapper. The simulation stands in `aegispay.testing.simulation` and is imported only here."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Annotated, Any

import msgspec
import typer

from aegispay.cli.exits import Exit
from aegispay.cli.options import command
from aegispay.cli.session import Session
from aegispay.domain.errors import InvalidRequest

SEEDS_DEFAULT = 200
SEED_MAX = 2**62
JOBS_MAX = 256


def _simulate(
    session: Session,
    seeds: Annotated[
        int | None, typer.Option("--seeds", metavar="N", help=f"How many seeds [default: {SEEDS_DEFAULT}].")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="S", help="Run this one seed and show its timeline.")
    ] = None,
    first: Annotated[int, typer.Option("--first", metavar="S", help="The first of the seeds.")] = 0,
    minutes: Annotated[
        float | None, typer.Option("--minutes", metavar="M", help="Run new seeds for so long.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", metavar="J", help="Processes at once [default: one per core].")
    ] = None,
    mode: Annotated[
        str,
        typer.Option(
            "--mode", metavar="MODE", help="normal, late, dashboard or calm: see docs/reliability.md."
        ),
    ] = "normal",
) -> int:
    """Run the real code in a simulated world that fails in every way, and check it against the bank's books.

    The same seed gives the same run, to the last step. Exits with 1 where a promise was broken.
    """
    simulation: Any = importlib.import_module("aegispay.testing.simulation")
    if mode not in list(simulation.Mode):
        raise InvalidRequest(f"--mode is one of {', '.join(simulation.Mode)}.")
    if seed is not None:
        if seeds is not None or minutes is not None or not 0 <= seed < SEED_MAX:
            raise InvalidRequest("--seed takes one number from 0 on, and goes without --seeds and --minutes.")
        return _one(session, simulation, seed, mode)
    if seeds is not None and seeds < 1:
        raise InvalidRequest("--seeds is at least 1.")
    if not 0 <= first < SEED_MAX:
        raise InvalidRequest("--first is 0 or more.")
    if minutes is not None and not 0 < minutes <= 1_000_000:
        raise InvalidRequest("--minutes is more than 0.")
    if jobs is not None and not 1 <= jobs <= JOBS_MAX:
        raise InvalidRequest(f"--jobs is 1 to {JOBS_MAX}.")
    wanted = SEEDS_DEFAULT if seeds is None and minutes is None else seeds
    return _many(session, simulation, first, wanted, minutes, jobs or os.cpu_count() or 1, mode)


def _one(session: Session, simulation: Any, seed: int, mode: str) -> int:
    report = simulation.Simulation(seed, mode=mode, timeline=True).run()
    if session.json:
        session.emit(report)
        return Exit.OK if report.ok else Exit.FAILED
    lines = [
        "Options",
        *(f"  {name:<18} {value}" for name, value in msgspec.to_builtins(report.options).items()),
        "",
        "Timeline (virtual seconds)",
        *report.timeline,
        "",
        f"{report.steps} steps, {report.virtual_s:.0f} s of virtual time, {report.requests} requests,"
        f" {report.payments} payments, hash {report.digest}",
        *(f"BROKEN {one.promise} at {one.at_s:.3f} s: {one.detail}" for one in report.violations),
        "no promise was broken" if report.ok else "",
    ]
    print("\n".join(lines))
    return Exit.OK if report.ok else Exit.FAILED


def _many(
    session: Session,
    simulation: Any,
    first: int,
    seeds: int | None,
    minutes: float | None,
    jobs: int,
    mode: str,
) -> int:
    runner: Any = importlib.import_module("aegispay.testing.simulation.runner")
    shown = sys.stderr.isatty() and not session.json

    told = 0

    def progress(summary: Any) -> None:
        nonlocal told
        # A long run says at once what failed, not an hour later.
        for failure in summary.failures[told:]:
            end = "\r\033[K" if shown else ""
            print(f"{end}FAILED seed {failure.seed}: {failure.violations[0]}", file=sys.stderr, flush=True)
        told = len(summary.failures)
        if shown:
            rate = summary.seeds / max(summary.elapsed_s, 1e-9)
            text = f"\r{summary.seeds} seeds, {rate:.0f}/s, {summary.failed} failed"
            print(text, end="", file=sys.stderr, flush=True)

    summary = runner.run_many(
        first=first, seeds=seeds, minutes=minutes, jobs=jobs, mode=simulation.Mode(mode), progress=progress
    )
    if shown:
        print(file=sys.stderr)
    if session.json:
        session.emit(summary)
    else:
        print("\n".join(_lines(summary)))
    return Exit.OK if summary.ok else Exit.FAILED


def _lines(summary: Any) -> list[str]:
    rate = summary.seeds / max(summary.cpu_s, 1e-9)
    lines = [
        f"{summary.seeds} seeds in mode {summary.mode}: {summary.failed} failed",
        f"{summary.elapsed_s:.1f} s, {rate:.1f} seeds a second a core; {summary.twice} seeds run twice",
        f"{summary.steps} steps, {summary.virtual_s / 86_400:.0f} days of virtual time, {summary.payments} payments,"
        f" {summary.requests} requests, {summary.exchanges} gateway exchanges, {summary.commits} commits",
        "",
        *_table("Faults fired", summary.fired),
        *_table("Ways taken (stored events)", summary.branches),
        *_table("Payments ended", summary.states),
        *_table("Operations by PSP", summary.gateways),
    ]
    for failure in summary.failures:
        lines.append(f"FAILED seed {failure.seed}: {failure.replay}")
        lines += [f"  {text}" for text in failure.violations[:5]]
    if summary.ok and summary.seeds:
        lines.append(
            f"No promise was broken. {summary.seeds} clean seeds bound the share of failing seeds of this"
            f" fault distribution at {3 / summary.seeds:.2g} (95%), no more."
        )
    return lines


def _table(title: str, counts: dict[str, int]) -> list[str]:
    return [title, *(f"  {number:>9}  {name}" for name, number in counts.items()), ""]


def register(app: typer.Typer) -> None:
    """Adds the command."""
    command(
        app,
        "simulate",
        examples="""
        aegispay simulate
        aegispay simulate --seeds 2000
        aegispay simulate --minutes 10 --jobs 2
        aegispay simulate --seed 337
        aegispay simulate --mode late --seeds 500 --json""",
        common=("json", "debug"),
    )(_simulate)
