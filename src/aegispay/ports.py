"""The ports through which time, ids and randomness come in, and their real implementations.

The orchestrator never calls `time`, `random` or `uuid` itself: inside a simulation these are replaced, and the same
code runs unchanged.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Protocol

from uuid_utils import uuid4, uuid7


class Clock(Protocol):
    """Time, in integer microseconds since 1970 (UTC) for records and in monotonic seconds for waiting."""

    def now_us(self) -> int: ...

    def monotonic_s(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


class SteadyClock:
    """A clock on which a wall clock that is set, forwards or back, while we run makes nobody unsafe.

    It carries two ideas of the time: the wall clock's, and the one that began with the wall clock at our start and went on
    with the monotonic clock. Where they differ, `now_us` is the later and `earliest_us` the earlier of the two. What ends
    with time (our lease, a PSP's key) is judged by the later; what must have passed before we may act on it (a quiet
    period) by the earlier. A machine that was suspended is served as well: there the monotonic clock may stand still.
    """

    __slots__ = ("_anchor_us", "_clock")

    def __init__(self, clock: Clock):
        self._clock = clock
        self._anchor_us = clock.now_us() - int(clock.monotonic_s() * 1_000_000)

    def steady_us(self) -> int:
        """The time by our start and the monotonic clock: wrong by no jump, late where the machine was suspended."""
        return self._anchor_us + int(self._clock.monotonic_s() * 1_000_000)

    def now_us(self) -> int:
        """The time for what ends with time. It never goes back while we run."""
        return max(self._clock.now_us(), self.steady_us())

    def earliest_us(self) -> int:
        """The time for what must have passed."""
        return min(self._clock.now_us(), self.steady_us())

    def monotonic_s(self) -> float:
        return self._clock.monotonic_s()

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)


class Ids(Protocol):
    """New version 7 UUIDs as 32 hexadecimal digits, rising with time."""

    def new_hex(self) -> str: ...


class SystemClock:
    """The machine's clock."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SystemIds:
    """Ids from the operating system's randomness."""

    def new_hex(self) -> str:
        return uuid7().hex


def instance_name() -> str:
    """A name for this process that no other has, for leases."""
    return uuid4().hex[:16]


class Ports:
    """The ports of one running instance, kept together."""

    __slots__ = ("clock", "ids", "instance", "random")

    def __init__(
        self,
        clock: Clock | None = None,
        ids: Ids | None = None,
        random_source: random.Random | None = None,
        instance: str | None = None,
    ):
        self.clock = SteadyClock(clock or SystemClock())
        self.ids: Ids = ids or SystemIds()
        self.random: random.Random = random_source or random.SystemRandom()
        self.instance: str = instance or instance_name()
