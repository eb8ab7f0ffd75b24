"""Idempotent replays: how fast the process that made a payment answers for it again, and how fast the store does."""

from __future__ import annotations

import asyncio

import msgspec

from aegispay.bench.load import Shop
from aegispay.orchestration.results import Result

FROM_STORE_CONCURRENCY = 64
_ROUND = 500


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    keys: int
    """Different idempotency keys that were asked for again."""
    replays: int
    replays_per_s: float
    differing: int
    """Answers whose bytes were not those of the first answer."""


async def from_memory(shop: Shop, answers: dict[int, bytes], seconds: float) -> Replay:
    """Asks again in the process that made the payments, one call after the other."""
    clock = shop.pay.ports.clock
    numbers = list(answers)
    count = 0
    begun_s = now_s = clock.monotonic_s()
    while now_s < begun_s + seconds:
        for at in range(count, count + _ROUND):
            await shop.buy(numbers[at % len(numbers)])
        count += _ROUND
        now_s = clock.monotonic_s()
    differing = 0
    for number, expected in answers.items():
        differing += (await shop.buy(number)).to_json() != expected
    return Replay(
        keys=len(numbers),
        replays=count,
        replays_per_s=round(count / (now_s - begun_s), 1),
        differing=differing,
    )


async def from_store(shop: Shop, answers: dict[int, bytes]) -> Replay:
    """Asks once for each key in a process that has not seen it: the answer comes from the store."""
    clock = shop.pay.ports.clock
    waiting = iter(answers)
    found: dict[int, Result] = {}

    async def caller() -> None:
        for number in waiting:
            found[number] = await shop.buy(number)

    begun_s = clock.monotonic_s()
    await asyncio.gather(*(caller() for _ in range(FROM_STORE_CONCURRENCY)))
    took_s = clock.monotonic_s() - begun_s
    differing = sum(1 for number, expected in answers.items() if found[number].to_json() != expected)
    return Replay(
        keys=len(answers),
        replays=len(found),
        replays_per_s=round(len(found) / took_s, 1),
        differing=differing,
    )
