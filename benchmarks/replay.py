"""Idempotent replays a second: from the memory of the process that made the payments, and from the store after a restart."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from aegispay.bench import BenchOptions, Report, measure
from aegispay.domain.errors import AegisPayError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", action="append", help="sqlite, postgres or a URL; may be given twice")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    found: dict[str, Report] = {}
    try:
        for store in options.store or ("sqlite", "postgres"):
            report = measure(BenchOptions(store=store, seconds=2.0, replay=True, quiet=True))
            memory, stored = report.replay_memory, report.replay_store
            if memory is None or stored is None or not report.ok:
                raise SystemExit(f"the run is not right: {report.errors} {report.check} {memory} {stored}")
            found[store] = report
            print(
                f"{report.store.kind:<9} from memory {memory.replays_per_s:8.0f}/s   from the store "
                f"{stored.replays_per_s:6.0f}/s   {stored.keys} keys, the same bytes each time",
                flush=True,
            )
    except AegisPayError as error:
        print(f"replay: {error}", file=sys.stderr)
        return 2
    if options.json:
        Path(options.json).write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
