"""The synchronous face, for Django and scripts: an event loop in a thread of its own, where `AegisPay`'s methods run.

There are no twins to keep: the bridge is generic, and `AegisPaySync` has whatever `AegisPay` has.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import inspect
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from aegispay.app import AegisPay, EventStore
from aegispay.domain.errors import InvalidRequest, NotRunning
from aegispay.orchestration.results import InProgress

T = TypeVar("T")
_FINISH_S = 1.0


class AegisPaySync:
    """`AegisPay` without `await`: `with AegisPaySync(gateways) as pay: pay.charge(...)`.

    Takes the arguments of `AegisPay`. Safe to use from several threads; calls run side by side on one event loop.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        self._pay = AegisPay(*args, **kwargs)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._life = threading.RLock()
        """One thread at a time starts or stops."""
        self._door = threading.Lock()
        """Nothing is handed to a loop that is being stopped."""

    def start(self) -> None:
        """Starts the thread and AegisPay in it. Safe to call twice. Raises what `AegisPay.start` raises."""
        with self._life:
            if self._thread is not None:
                return
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=loop.run_forever, name="aegispay", daemon=True)
            thread.start()
            self._loop, self._thread = loop, thread
            try:
                self._run(self._pay.start())
            except BaseException:
                self._end()
                raise

    def stop(self, grace_s: float = 10.0) -> None:
        """Stops AegisPay and its thread; callers in other threads are answered. Safe before start, and twice."""
        with self._life:
            if self._thread is None:
                return
            try:
                self._run(self._pay.stop(grace_s))
            finally:
                self._end()

    def _end(self) -> None:
        with self._door:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            asyncio.run_coroutine_threadsafe(_finish(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        with self._door:
            loop = self._loop
            if loop is None or threading.current_thread() is self._thread:
                work.close()
                if loop is not None:
                    raise InvalidRequest("the synchronous face cannot be used within its own event loop.")
                raise NotRunning(
                    "AegisPay is not running.", hint="Use it as `with AegisPaySync(...) as pay:`."
                )
            answer = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return answer.result()
        except concurrent.futures.CancelledError:
            raise InProgress("AegisPay was stopped before the answer.") from None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        found = getattr(self._pay, name)
        return _Waited(found, self._run) if isinstance(found, EventStore) else _waited(found, self._run)


async def _finish() -> None:
    """Ends what still runs on the loop, so that no thread waits for ever: most of it only has to deliver its answer."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for _ in range(2):
        if others:
            _, others = await asyncio.wait(others, timeout=_FINISH_S)
        for task in others:
            task.cancel()


class _Waited:
    """An object of ours whose coroutine methods are waited for."""

    def __init__(self, inner: object, run: Callable[[Coroutine[Any, Any, Any]], Any]):
        self._inner = inner
        self._run = run

    def __getattr__(self, name: str) -> Any:
        return _waited(getattr(self._inner, name), self._run)


def _waited(found: Any, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> Any:
    if not inspect.iscoroutinefunction(found):
        return found

    @functools.wraps(found)
    def call(*args: Any, **kwargs: Any) -> Any:
        return run(found(*args, **kwargs))

    return call
