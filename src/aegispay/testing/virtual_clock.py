"""A clock that follows the running event loop's time: under a loop with virtual time, hours pass in milliseconds."""

from __future__ import annotations

import asyncio

START_US = 1_790_000_000_000_000
"""Where virtual time begins: a moment in 2026, in microseconds since 1970."""


class LoopClock:
    """Implements `aegispay.ports.Clock` over `loop.time()`."""

    def __init__(self, start_us: int = START_US):
        self._start_us = start_us
        self.offset_us = 0
        """Added to the wall clock, to test what a clock that jumps does."""

    def now_us(self) -> int:
        return self._start_us + self.offset_us + int(asyncio.get_running_loop().time() * 1_000_000)

    def monotonic_s(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
