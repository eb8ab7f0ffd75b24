"""The rate with a million payments stored, against the rate with none: on SQLite and on PostgreSQL, in turn."""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from aegispay.bench import BenchOptions, measure
from aegispay.bench.target import folder_on_disk
from aegispay.domain.errors import AegisPayError
from aegispay.testing.postgres import throwaway_postgres

STORED = 1_000_000


@contextmanager
def _two_stores(kind: str) -> Iterator[tuple[str, str]]:
    """The URLs of two empty stores of the same kind."""
    if kind == "postgres":
        with throwaway_postgres(durable=True) as server:
            yield server.create_database(), server.create_database()
    else:
        with tempfile.TemporaryDirectory(prefix="aegispay-million-", dir=folder_on_disk()) as folder:
            yield f"sqlite:///{Path(folder) / 'empty.db'}", f"sqlite:///{Path(folder) / 'full.db'}"


def compare(kind: str, stored: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Loads one of two stores, then measures both in turn, so that a busy moment of the machine meets both."""
    with _two_stores(kind) as (empty, full):
        # The load that follows the filling is thrown away: it warms the caches of a database that was just written.
        _run(full, 2.0, prefill=stored)
        pairs: list[dict[str, Any]] = []
        for number in range(1, rounds + 1):
            # Each is first in turn: what the first leaves to be written to the disk meets the second.
            if number % 2:
                none, many = _run(empty, seconds), _run(full, seconds)
            else:
                many, none = _run(full, seconds), _run(empty, seconds)
            pairs.append(
                {"empty": none, "full": many, "ratio": round(many.payments_per_s / none.payments_per_s, 3)}
            )
            print(
                f"{kind:<9} round {number}  empty {none.payments_per_s:6.0f}/s  with {stored} stored "
                f"{many.payments_per_s:6.0f}/s  p95 {none.latency.p95_ms:.1f} / {many.latency.p95_ms:.1f} ms  "
                f"ratio {pairs[-1]['ratio']:.2f}",
                flush=True,
            )
    return {
        "stored": stored,
        "rounds": pairs,
        "ratio": round(statistics.median(one["ratio"] for one in pairs), 3),
    }


def _run(url: str, seconds: float, prefill: int = 0) -> Any:
    report = measure(BenchOptions(store=url, seconds=seconds, prefill=prefill, quiet=True))
    if not report.ok:
        raise SystemExit(f"the run is not right: {report.errors} {report.check}")
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", choices=("sqlite", "postgres", "both"), default="both")
    parser.add_argument("--stored", type=int, default=STORED)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    kinds = ("sqlite", "postgres") if options.store == "both" else (options.store,)
    try:
        found = {kind: compare(kind, options.stored, options.rounds, options.seconds) for kind in kinds}
    except AegisPayError as error:
        print(f"million: {error}", file=sys.stderr)
        return 2
    for kind, one in found.items():
        print(f"{kind}: {one['ratio']:.2f} of the rate with none (median of {options.rounds})")
    if options.json:
        Path(options.json).write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
