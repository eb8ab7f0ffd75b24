"""The synchronous face, for Django and scripts: an event loop in a thread of its own, and each method of `AegisPay` waited for.

There are no twins to keep: the bridge is generic, and `AegisPaySync` has whatever `AegisPay` has.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from aegispay.app import AegisPay, EventStore
from aegispay.domain.errors import NotRunning

T = TypeVar("T")


class AegisPaySync:
    """`AegisPay` without `await`: `with AegisPaySync(gateways) as pay: pay.charge(...)`.

    Takes the arguments of `AegisPay`. Safe to use from several threads; calls run side by side on one event loop.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        self._pay = AegisPay(*args, **kwargs)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the thread and AegisPay in it. Safe to call twice. Raises what `AegisPay.start` raises."""
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
        """Stops AegisPay and its thread. Safe before start, and twice."""
        if self._thread is None:
            return
        try:
            self._run(self._pay.stop(grace_s))
        finally:
            self._end()

    def _end(self) -> None:
        loop, thread = self._loop, self._thread
        self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            work.close()
            raise NotRunning("AegisPay is not running.", hint="Use it as `with AegisPaySync(...) as pay:`.")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

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
