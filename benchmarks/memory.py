"""Whether memory grows with payments served: this process's resident memory each time so many more have been served.

The cache of answers is filled first, for it is what grows until it is full.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import msgspec

from aegispay.app import AegisPay
from aegispay.bench import BenchOptions, usage
from aegispay.bench.load import Shop
from aegispay.bench.target import target_of
from aegispay.domain.errors import AegisPayError
from aegispay.testing.instant_gateway import InstantGateway

CALLERS = 64


async def _measure(url: str, step: int, steps: int) -> list[dict[str, float]]:
    gateways = [InstantGateway("first", keep_books=False), InstantGateway("second", keep_books=False)]
    async with AegisPay(gateways, store=url) as pay:
        shop = Shop(pay, "memory")

        async def caller(count: int) -> None:
            for _ in range(count):
                result = await shop.buy(shop.next_number())
                if not result.is_success():
                    raise SystemExit(f"a payment failed: {result!r}")

        async def serve(count: int) -> None:
            await asyncio.gather(*(caller(-(-count // CALLERS)) for _ in range(CALLERS)))
            served, rss = shop.last_number, usage.rss_mib()
            found.append({"served": served, "rss_mib": rss})
            print(f"{served:>9} served   {rss:6.1f} MiB", flush=True)

        found: list[dict[str, float]] = []
        await serve(pay.settings.answers_cached_max + CALLERS)
        for _ in range(steps):
            await serve(step)
        return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", default="sqlite")
    parser.add_argument("--step", type=int, default=20_000)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    try:
        with target_of(BenchOptions(store=options.store)) as target:
            points = asyncio.run(_measure(target.url, options.step, options.steps))
    except AegisPayError as error:
        print(f"memory: {error}", file=sys.stderr)
        return 2
    grown_mib = round(points[-1]["rss_mib"] - points[0]["rss_mib"], 1)
    more = points[-1]["served"] - points[0]["served"]
    print(
        f"grown by {grown_mib} MiB while {more:.0f} more were served: {grown_mib * 1024 * 1024 / more:.0f} bytes each"
    )
    if options.json:
        found = {"store": options.store, "points": points, "grown_mib": grown_mib}
        Path(options.json).write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
