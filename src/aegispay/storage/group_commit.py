"""Group commit: concurrent callers share one transaction, and each gets an answer of its own.

A batch is whatever arrived while the last one was being written, so nobody waits for company. This module knows
asyncio and nothing else: no database, no threads, no time, so that it runs unchanged inside a simulation.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

from aegispay.domain.errors import NotRunning, Overloaded, StoreError, StoreUnavailable

Item = TypeVar("Item")

QUEUE_MAX = 10_000
"""So many writes may wait; the next one is refused with `Overloaded`."""
_SCAN_FACTOR = 8
"""At most so many batches' worth of waiting writes are looked at for one batch."""


class BatchRefused(Exception):
    """The batch failed as a whole and nothing of it was written; `error` is what a batch of one answers."""

    def __init__(self, error: Exception):
        super().__init__(str(error))
        self.error = error


class _Waiting(Generic[Item]):
    """One caller's write, and where its answer goes."""

    __slots__ = ("future", "item", "keys")

    def __init__(self, item: Item, keys: tuple[Hashable, ...], future: asyncio.Future[None]):
        self.item = item
        self.keys = keys
        self.future = future


class GroupCommit(Generic[Item]):
    """Takes what waits and writes it as one transaction.

    `write_batch` answers each item with None or its own error. It raises `BatchRefused` where nothing was written:
    then the items are written one by one. It raises `StoreError` where the fate of all of them is the same.
    Two items that share a key are never in flight together, and keep their order.
    """

    def __init__(
        self,
        write_batch: Callable[[list[Item]], Awaitable[Sequence[Exception | None]]],
        *,
        batch_max: int,
        queue_max: int = QUEUE_MAX,
        batches_in_flight_max: int = 1,
    ):
        self._write_batch = write_batch
        self._batch_max = batch_max
        self._queue_max = queue_max
        self._in_flight_max = batches_in_flight_max
        self._queue: deque[_Waiting[Item]] = deque()
        self._busy: set[Hashable] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._start_is_due = False
        self._closing = False
        self._idle: asyncio.Future[None] | None = None

    async def commit(self, item: Item, keys: tuple[Hashable, ...]) -> None:
        """Returns when the item is written, or raises its own error.

        A caller that is cancelled stops waiting; its write goes on, because it may be on its way already.
        """
        if self._closing:
            raise NotRunning("the store is closed.")
        if len(self._queue) >= self._queue_max:
            raise Overloaded(f"{self._queue_max} writes wait for the database already; nothing was written.")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._queue.append(_Waiting(item, keys, future))
        self._start_soon(loop)
        await future

    async def close(self) -> None:
        """Refuses new writes and returns when those that were accepted are answered. Safe to call twice."""
        self._closing = True
        while self._queue or self._tasks:
            if self._idle is None:
                self._idle = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._idle)

    def _start_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        # One turn of the loop later, so that everybody who is ready in this turn shares the batch.
        if not self._start_is_due and len(self._tasks) < self._in_flight_max:
            self._start_is_due = True
            loop.call_soon(self._start)

    def _start(self) -> None:
        self._start_is_due = False
        while self._queue and len(self._tasks) < self._in_flight_max:
            batch = self._take()
            if not batch:
                return
            self._tasks.add(asyncio.get_running_loop().create_task(self._run(batch)))

    def _take(self) -> list[_Waiting[Item]]:
        queue, busy = self._queue, self._busy
        batch: list[_Waiting[Item]] = []
        held_back: list[_Waiting[Item]] = []
        held_keys: set[Hashable] = set()
        scans_left = self._batch_max * _SCAN_FACTOR
        while queue and len(batch) < self._batch_max and scans_left:
            scans_left -= 1
            one = queue.popleft()
            if busy.isdisjoint(one.keys) and held_keys.isdisjoint(one.keys):
                busy.update(one.keys)
                batch.append(one)
            else:
                # Whoever shares a key with somebody that waits must wait behind them.
                held_keys.update(one.keys)
                held_back.append(one)
        queue.extendleft(reversed(held_back))
        return batch

    async def _run(self, batch: list[_Waiting[Item]]) -> None:
        answers: Sequence[Exception | None] | None = None
        try:
            answers = await self._answers(batch)
        finally:
            if answers is None:
                # This task itself was cancelled: the loop is being torn down under us.
                answers = [StoreUnavailable("the write was interrupted.") for _ in batch]
            for one, answer in zip(batch, answers, strict=True):
                self._busy.difference_update(one.keys)
                if one.future.done():
                    continue
                if answer is None:
                    one.future.set_result(None)
                else:
                    one.future.set_exception(answer)
            task = asyncio.current_task()
            if task is not None:
                self._tasks.discard(task)
            self._go_on()

    def _go_on(self) -> None:
        if self._queue:
            self._start_soon(asyncio.get_running_loop())
        elif not self._tasks and self._idle is not None:
            self._idle.set_result(None)
            self._idle = None

    async def _answers(self, batch: list[_Waiting[Item]]) -> Sequence[Exception | None]:
        try:
            return await self._write_batch([one.item for one in batch])
        except BatchRefused as refused:
            if len(batch) == 1:
                return [refused.error]
        except Exception as error:  # noqa: BLE001 - whatever it is, every caller must get an answer
            return [_own_copy(error) for _ in batch]
        return [(await self._answers([one]))[0] for one in batch]


def _own_copy(error: Exception) -> Exception:
    """Each caller raises an exception object of its own, or their tracebacks would grow into each other."""
    if isinstance(error, StoreError):
        copy = type(error)(error.message, hint=error.hint)
    else:
        copy = StoreError(f"the write failed: {type(error).__name__}: {error}")
    copy.__cause__ = error
    return copy
