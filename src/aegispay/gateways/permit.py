"""The last question before a request leaves: may it still?

Whoever holds an operation under a lease may send only while the lease runs. Between the check and the first byte lie
name resolution, a queue for a connection, TLS, and perhaps a pause of the whole process; so the transport asks again
right before it hands the first byte over. It travels by context, so that no adapter has to pass it on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar

_MAY_LEAVE: ContextVar[Callable[[], bool] | None] = ContextVar("aegispay_may_leave", default=None)


@contextmanager
def sending_while(holds: Callable[[], bool]) -> Generator[None]:
    """Within it, and in the tasks that begin there, requests leave only while `holds` says yes."""
    token = _MAY_LEAVE.set(holds)
    try:
        yield
    finally:
        _MAY_LEAVE.reset(token)


def may_leave() -> bool:
    """For transports: whether the first byte of a request may be written now. Yes where nobody set a condition."""
    holds = _MAY_LEAVE.get()
    return holds is None or holds()


def elapsed_s() -> float:
    """A clock that never goes back and that runs on while the machine sleeps, where the system has such a clock."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)
