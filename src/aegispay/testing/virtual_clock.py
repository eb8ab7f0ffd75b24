"""A clock that follows the running event loop's time: under a loop with virtual time, hours pass in milliseconds."""

from __future__ import annotations

import asyncio
from typing import Any

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


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose time stands still while there is work, and jumps to the next timer when there is none.

    For code that does no real I/O: a loop that waits for a socket or a thread would spin through its timers meanwhile.
    """

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 0.0
        self._select = self._selector.select  # type: ignore[attr-defined]
        self._selector.select = self._jump  # type: ignore[attr-defined]

    def time(self) -> float:
        return self._now_s

    def _jump(self, timeout: float | None = None) -> list[Any]:
        found: list[Any] = self._select(0)
        if not found and timeout is None:
            raise RuntimeError("nothing is left to wait for under virtual time: the test would hang.")
        if not found and timeout:
            self._now_s += timeout
        return found
