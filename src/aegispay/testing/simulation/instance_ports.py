"""The ports of one simulated instance: its own idea of the time, seeded ids, and the moments at which it may die."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Protocol

from aegispay.testing.simulation.loop import SimulatedLoop

START_US = 1_790_000_000_000_000
"""Where virtual time begins: a moment in 2026, in microseconds since 1970."""
_MASK_74 = (1 << 74) - 1


class Ported(Protocol):
    """Whoever calls a port: may be delayed, and may die, before and after."""

    async def before(self, port: str) -> None: ...

    async def after(self, port: str) -> None: ...

    def now_s(self) -> float: ...


class WorldClock:
    """True time: what the PSPs and the bank live by."""

    def __init__(self, loop: SimulatedLoop):
        self._loop = loop

    def now_us(self) -> int:
        return START_US + int(self._loop.time() * 1_000_000)

    def monotonic_s(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class InstanceClock:
    """One machine's clock: off by a skew, and it may jump. Its monotonic time does neither."""

    def __init__(
        self,
        loop: SimulatedLoop,
        skew_us: int,
        worker_sleep: Callable[[float], Awaitable[None] | None],
    ):
        self._loop = loop
        self.skew_us = skew_us
        self._worker_sleep = worker_sleep

    def now_us(self) -> int:
        return START_US + int(self._loop.time() * 1_000_000) + self.skew_us

    def monotonic_s(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        """The recovery worker's sleep between two looks ends only when there is something to find."""
        instead = self._worker_sleep(seconds)
        await (instead if instead is not None else asyncio.sleep(seconds))


class SeededIds:
    """Version 7 UUIDs in shape and order, from the run's seed."""

    def __init__(self, source: random.Random, clock: InstanceClock):
        self._random = source
        self._clock = clock

    def new_hex(self) -> str:
        milliseconds = self._clock.now_us() // 1000
        bits = self._random.getrandbits(74) & _MASK_74
        high, low = bits >> 62, bits & ((1 << 62) - 1)
        return f"{milliseconds & 0xFFFFFFFFFFFF:012x}7{high:03x}{(0b10 << 62) | low:016x}"
