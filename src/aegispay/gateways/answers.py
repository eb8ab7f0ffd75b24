"""What adapters share for reading a PSP's answers: a call's time over several requests, JSON, `Retry-After`.

It knows HTTP and JSON, and no PSP.
"""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

from aegispay.gateways.http import HttpReply
from aegispay.ports import Clock

RETRY_AFTER_MAX_S = 3600.0
_SECONDS = re.compile(r"\d{1,6}(\.\d{1,6})?", re.ASCII)
_Read = TypeVar("_Read")


class TimeLeft:
    """What is left of a call's time, over several requests."""

    __slots__ = ("_clock", "_ends_s")

    def __init__(self, clock: Clock, timeout_s: float) -> None:
        self._clock = clock
        self._ends_s = clock.monotonic_s() + timeout_s

    def seconds(self) -> float:
        return self._ends_s - self._clock.monotonic_s()


def read(reply: HttpReply, kind: type[_Read]) -> _Read | None:
    """The body as an object of this kind; None where it is not one."""
    return read_body(reply.body, kind)


def read_body(body: bytes, kind: type[_Read]) -> _Read | None:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def retry_after_s(reply: HttpReply) -> float | None:
    """The `Retry-After` header, where it is a sane number of seconds."""
    text = reply.headers.get("retry-after", "")
    return min(float(text), RETRY_AFTER_MAX_S) if _SECONDS.fullmatch(text) else None
