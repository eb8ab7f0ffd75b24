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
        self.clock: Clock = clock or SystemClock()
        self.ids: Ids = ids or SystemIds()
        self.random: random.Random = random_source or random.SystemRandom()
        self.instance: str = instance or instance_name()
