"""`aegispay bench`: a thin wrapper. The benchmark stands in `aegispay.bench` and is imported only when it is asked for."""

from __future__ import annotations

import importlib
from typing import Annotated, Any

import typer

from aegispay.cli.options import command
from aegispay.cli.session import Session


def _bench(
    session: Session,
    store: Annotated[
        str,
        typer.Option(
            "--store", metavar="STORE", help="sqlite, postgres (throwaway ones), postgres=DSN or a URL."
        ),
    ] = "sqlite",
    concurrency: Annotated[int, typer.Option("--concurrency", metavar="N", help="Callers at once.")] = 64,
    seconds: Annotated[float, typer.Option("--seconds", metavar="S", help="How long to measure.")] = 10.0,
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate", metavar="R", help="Open loop: so many payments arrive a second, whatever happens."
        ),
    ] = None,
    json_path: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE", help="Write the report there as JSON; - prints it."),
    ] = None,
) -> int:
    """Measure the whole orchestrator on a durable store, with a gateway that answers at once.

    Reports payments a second, latencies, CPU time a payment and memory.
    """
    bench: Any = importlib.import_module("aegispay.bench")
    options = bench.BenchOptions(
        store=store, concurrency=concurrency, seconds=seconds, rate=rate, json_path=json_path
    )
    return int(bench.run(options))


def register(app: typer.Typer) -> None:
    """Adds the command."""
    command(
        app,
        "bench",
        examples="""
        aegispay bench
        aegispay bench --store postgres --concurrency 64 --seconds 10
        aegispay bench --store postgres --rate 1000 --json -""",
        common=("debug",),
    )(_bench)
