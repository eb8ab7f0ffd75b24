"""A seeded event loop: virtual time, a seeded choice among ready callbacks, processes that die or stall.

It knows asyncio and nothing of payments. There is no real I/O, no thread and no real time in it.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar

from aegispay.testing.simulation.trace import Trace

Result = TypeVar("Result")


class NotDeterministic(BaseException):
    """Something under simulation used real time, real randomness, a thread or a socket."""


class Deadlock(Exception):
    """Everybody waits and no timer is set."""


class OutOfSteps(Exception):
    """The run took more steps than any run should."""


class Process:
    """Something that can die and stall: callbacks that belong to it are dropped, or wait until it goes on."""

    def __init__(self, number: int, name: str):
        self.number = number
        """1, 2, 3, ...; 0 stands for the world outside."""
        self.name = name
        self.dead = False
        self.stalled_until_s = 0.0
        self.parked: list[asyncio.Handle] = []
        """What would have run while it is stalled."""


PROCESS: ContextVar[Process | None] = ContextVar("aegispay_simulated_process", default=None)
"""Which process the running callback belongs to; tasks inherit it from whoever creates them."""


class SimulatedLoop(asyncio.AbstractEventLoop):
    """An asyncio loop whose every choice comes from one seed."""

    def __init__(self, source: random.Random, trace: Trace, steps_max: int):
        self._random = source
        self._trace = trace
        self._steps_max = steps_max
        self._now_s = 0.0
        self._ready: list[asyncio.Handle] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timer_count = 0
        self._tasks: list[asyncio.Task[Any]] = []
        self._closed = False
        self._running = False
        self.steps = 0
        self.outside: Context = copy_context()
        """The context of the world: what runs in it survives every crash."""
        self.unexpected: list[str] = []
        """Exceptions that nobody caught, as text."""

    # --- running ------------------------------------------------------------------------------------------

    def run(self, main: Coroutine[Any, Any, Result]) -> Result:
        """Runs until the coroutine is done. Raises what it raises, `Deadlock` or `OutOfSteps`."""
        previous = asyncio._get_running_loop()
        asyncio._set_running_loop(None)
        asyncio._set_running_loop(self)
        self._running = True
        try:
            task = self.create_task(main)
            while not task.done():
                self._step()
            result: Result = task.result()
            return result
        finally:
            self._running = False
            asyncio._set_running_loop(previous)

    def _step(self) -> None:
        ready = self._ready
        if not ready:
            self._advance()
        count = len(ready)
        index = int(self._random.random() * count) if count > 1 else 0
        handle = ready[index]
        ready[index] = ready[-1]
        ready.pop()
        if handle._cancelled:
            return
        process: Process | None = handle._context.get(PROCESS)  # type: ignore[attr-defined]
        number = 0
        if process is not None:
            if process.dead:
                return
            if process.stalled_until_s > self._now_s:
                process.parked.append(handle)
                return
            number = process.number
        self.steps += 1
        if self.steps > self._steps_max:
            raise OutOfSteps(f"more than {self._steps_max} steps")
        self._trace.step(self._now_s, count, index, number)
        handle._run()

    def _advance(self) -> None:
        timers = self._timers
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)
        if not timers:
            raise Deadlock("everybody waits and no timer is set")
        self._now_s = max(self._now_s, timers[0][0])
        while timers and timers[0][0] <= self._now_s:
            handle = heapq.heappop(timers)[2]
            if not handle._cancelled:
                self._ready.append(handle)

    def resume(self, process: Process) -> None:
        """Lets a stalled process go on, if its time has come."""
        if process.stalled_until_s <= self._now_s:
            parked, process.parked = process.parked, []
            self._ready.extend(parked)

    # --- what asyncio asks of a loop ------------------------------------------------------------------------

    def time(self) -> float:
        return self._now_s

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if not self._closed:
            self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        if not self._closed:
            self._push(when, timer)
        return timer

    def _push(self, when: float, timer: asyncio.TimerHandle) -> None:
        self._timer_count += 1
        heapq.heappush(self._timers, (when, self._timer_count, timer))

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, name=name or "simulated", context=context)
        # Kept until the end: a task that is collected in between would run its `finally` blocks after its death.
        self._tasks.append(task)
        return task

    def outside_at(self, when: float, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        """A timer of the world's own: it fires whoever has died or stalled."""
        return self.call_at(when, callback, *args, context=self.outside)

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return self._closed

    def get_debug(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are skipped when their time comes."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self._closed:
            return
        error = context.get("exception")
        text = f"{context.get('message')}: {type(error).__name__}: {error}" if error else str(context)
        self.unexpected.append(text[:500])

    def close(self) -> None:
        """Ends what is left, the tasks of dead processes among it; nothing of it can reach the world any more."""
        if self._closed:
            return
        self._closed = True
        self._ready.clear()
        self._timers.clear()
        for task in self._tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                try:
                    task.get_coro().close()
                except BaseException:  # noqa: BLE001, S110 - it is dead: what it still has to say does not matter
                    pass
            elif not task.cancelled():
                task.exception()
        self._tasks.clear()

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        raise NotDeterministic("a thread was asked for inside the simulation")

    def call_soon_threadsafe(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        raise NotDeterministic("a thread called into the simulation")
