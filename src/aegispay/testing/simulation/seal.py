"""While a simulation runs, real time, real randomness, threads and sockets are out of reach: using one is a failure."""

from __future__ import annotations

import logging
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import uuid_utils

import aegispay.ports
from aegispay.testing.simulation.loop import NotDeterministic

_SEALED: tuple[tuple[Any, str], ...] = (
    (time, "time"),
    (time, "time_ns"),
    (time, "monotonic"),
    (time, "monotonic_ns"),
    (time, "sleep"),
    (random, "random"),
    (random, "randint"),
    (random, "choice"),
    (random.SystemRandom, "random"),
    (os, "urandom"),
    (uuid_utils, "uuid4"),
    (uuid_utils, "uuid7"),
    (aegispay.ports, "uuid4"),
    (aegispay.ports, "uuid7"),
    (threading.Thread, "start"),
    (socket.socket, "connect"),
    (socket.socket, "bind"),
)
_MAY_LOOK_AT_CLOCKS = ("logging", "threading")


def _refusal(owner: Any, name: str, real: Callable[..., Any], used: list[str]) -> Callable[..., Any]:
    where = f"{getattr(owner, '__name__', owner)}.{name}"

    def refused(*args: Any, **kwargs: Any) -> Any:
        if owner is time and sys._getframe(1).f_globals.get("__name__") in _MAY_LOOK_AT_CLOCKS:
            return real(*args, **kwargs)
        used.append(where)
        raise NotDeterministic(f"{where} was used inside the simulation")

    return refused


@contextmanager
def sealed() -> Generator[list[str], None, None]:
    """Within it, whatever would make a run depend on more than its seed raises `NotDeterministic`.

    Yields what was used all the same: a task may keep the exception to itself.
    """
    used: list[str] = []
    before = [(owner, name, getattr(owner, name)) for owner, name in _SEALED]
    own = [name in vars(owner) for owner, name in _SEALED]
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        for owner, name, real in before:
            setattr(owner, name, _refusal(owner, name, real, used))
        yield used
    finally:
        for (owner, name, real), here in zip(before, own, strict=True):
            if here:
                setattr(owner, name, real)
            else:
                delattr(owner, name)
        logging.disable(disabled)
