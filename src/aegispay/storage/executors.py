"""Where blocking calls run: in a thread of their own, or right here.

A store hands functions to an `Executor`; which thread they run on is not its business. The inline executor is for
simulations, where threads would break the replay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

Result = TypeVar("Result")


class Executor(Protocol):
    """Runs blocking functions one after the other."""

    async def run(self, function: Callable[[], Result]) -> Result: ...

    def close(self) -> None: ...


class InlineExecutor:
    """Runs the function at once, on the caller's thread."""

    async def run(self, function: Callable[[], Result]) -> Result:
        return function()

    def close(self) -> None:
        """There is nothing to stop."""


class ThreadExecutor:
    """Runs functions in one thread of its own, in the order in which they came."""

    def __init__(self, name: str):
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, function: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function)

    def close(self) -> None:
        self._pool.shutdown(wait=True)
