"""A transport with faults between an adapter and its PSP, and a clock that only the test moves.

It breaks exchanges for any adapter that sends through the `Transport` port; the PSP behind needs to know nothing of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from aegispay.domain.outcomes import InDoubt, NotSent
from aegispay.gateways.http import HttpReply, HttpRequest, Transport

Answer = HttpReply | NotSent | InDoubt


class SteppingClock:
    """Implements `aegispay.ports.Clock`. The monotonic time moves only by `advance`; the date starts at today's."""

    def __init__(self) -> None:
        self._elapsed_s = 0.0
        self._start_us = time.time_ns() // 1000

    def now_us(self) -> int:
        # Real time counts too: a PSP on this machine that takes its own dates must not be ahead of us.
        return max(self._start_us, time.time_ns() // 1000) + int(self._elapsed_s * 1_000_000)

    def monotonic_s(self) -> float:
        return self._elapsed_s

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        self._elapsed_s += max(0.0, seconds)


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """What goes wrong with one exchange."""

    name: str
    executed: bool
    """Whether the PSP gets the request."""
    later: bool = False
    """The PSP gets it when `FaultyTransport.land` is called, long after the adapter has been answered."""
    answer: Answer | None = None
    """What the adapter gets in the real answer's place; None for the first half of the real body."""
    takes_all_time: bool = False
    """The request's whole time passes."""


def _timeout(name: str, *, executed: bool, later: bool = False) -> Fault:
    return Fault(
        name=name, executed=executed, later=later, answer=InDoubt(reason="timeout"), takes_all_time=True
    )


REFUSED = Fault(name="connection refused", executed=False, answer=NotSent(reason="connection_refused"))
LOST_BEFORE = _timeout("time-out, the request was lost", executed=False)
LOST_AFTER = _timeout("time-out, the answer was lost", executed=True)
HELD = _timeout("time-out, the request lands later", executed=False, later=True)
RESET = Fault(name="connection reset after execution", executed=True, answer=InDoubt(reason="reset"))
TRUNCATED = Fault(
    name="connection closed within the answer", executed=True, answer=InDoubt(reason="truncated")
)
TOO_LARGE = Fault(name="answer too large to read", executed=True, answer=InDoubt(reason="too_large"))
HALF_BODY = Fault(name="half of the answer's body", executed=True)

_HTML = b"<html><head><title>Hello</title></head><body>Something went wrong.</body></html>"
_STRANGE: tuple[tuple[int, bytes], ...] = (
    (200, _HTML),
    (200, b""),
    (200, b"{}"),
    (200, b"[]"),
    (200, b"null"),
    (200, b'"approved"'),
    (200, b'{"id": 1, "status": {"a": []}, "data": null}'),
    (200, b"\xff\xfe\x00\x01"),
    (200, b"[" * 20_000),
    (204, b""),
    (302, b""),
    (400, _HTML),
    (400, b"{}"),
    (404, _HTML),
    (408, _HTML),
    (409, b""),
    (422, b"[1]"),
    (500, _HTML),
    (500, b"{}"),
    (502, b""),
    (503, b'{"message": "try again later"}'),
    (504, _HTML),
)


def _strange(status: int, body: bytes, *, executed: bool) -> Fault:
    shown = "20,000 brackets" if len(body) > 100 else repr(body[:40])[1:]
    return Fault(
        name=f"{status} {shown} in the answer's place, {'executed' if executed else 'not executed'}",
        executed=executed,
        answer=HttpReply(status=status, headers={"content-type": "text/html"}, body=body),
    )


STRANGE_ANSWERS = tuple(
    _strange(status, body, executed=executed) for status, body in _STRANGE for executed in (True, False)
)
"""Answers that no PSP of the adapter's gives: from proxies, captive portals, or a PSP that is broken."""
SILENCES = (LOST_BEFORE, LOST_AFTER, HELD, RESET, TRUNCATED, TOO_LARGE)
BROKEN = (*SILENCES, HALF_BODY, *STRANGE_ANSWERS)
"""Everything but a refused connection, which proves something."""


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """One request as the adapter sent it."""

    request: HttpRequest
    at_s: float
    """When, by the stepping clock."""


class FaultyTransport:
    """Implements `Transport` over another one. Every request is remembered; the one that is chosen meets a fault."""

    def __init__(self, inner: Transport, clock: SteppingClock) -> None:
        self.sent: list[Exchange] = []
        self.share_of_time = 0.0
        """How much of its time each exchange takes, by the stepping clock: 0 to 1."""
        self.struck = False
        """Whether the fault that was asked for has met a request."""
        self.moved = False
        """Whether the struck request itself changed the PSP's books."""
        self.watch: Callable[[], object] = lambda: None
        """Reads the books, for `moved`."""
        self.rewrite: Callable[[HttpReply], HttpReply] | None = None
        """Changes every real answer."""
        self._inner = inner
        self._clock = clock
        self._fault: Fault | None = None
        self._countdown = 0
        self._always = False
        self._held: list[HttpRequest] = []

    def strike(self, fault: Fault, number: int = 0) -> None:
        """The fault meets one request: the next one, or the one `number` after it."""
        self._fault, self._countdown, self._always = fault, number, False
        self.struck = self.moved = False

    def strike_all(self, fault: Fault, number: int = 0) -> None:
        """The fault meets every request from the one `number` after the next on, until `clear`."""
        self.strike(fault, number)
        self._always = True

    def clear(self) -> None:
        self._fault, self.rewrite, self.share_of_time = None, None, 0.0

    async def land(self) -> None:
        """Delivers what was held back."""
        held, self._held = self._held, []
        for request in held:
            before = self.watch()
            await self._inner.send(msgspec.structs.replace(request, timeout_s=10.0))
            self.moved = self.moved or before != self.watch()

    async def send(self, request: HttpRequest) -> Answer:
        self.sent.append(Exchange(request=request, at_s=self._clock.monotonic_s()))
        if request.timeout_s <= 0:
            return NotSent(reason="connect_timeout")
        fault = self._due()
        if fault is None:
            self._clock.advance(request.timeout_s * self.share_of_time)
            reply = await self._inner.send(request)
            return self.rewrite(reply) if self.rewrite and isinstance(reply, HttpReply) else reply
        return await self._break(fault, request)

    def _due(self) -> Fault | None:
        fault = self._fault
        if fault is None:
            return None
        if self._countdown:
            self._countdown -= 1
            return None
        self.struck = True
        if not self._always:
            self._fault = None
        return fault

    async def _break(self, fault: Fault, request: HttpRequest) -> Answer:
        answer = fault.answer
        if fault.later:
            self._held.append(request)
        if fault.executed:
            before = self.watch()
            reply = await self._inner.send(request)
            self.moved = self.moved or before != self.watch()
            if answer is None:
                answer = _half(reply)
        if fault.takes_all_time:
            self._clock.advance(request.timeout_s)
        return answer if answer is not None else InDoubt(reason="truncated")

    async def aclose(self) -> None:
        """The transport within belongs to whoever made it."""

    def __repr__(self) -> str:
        return f"<FaultyTransport {len(self.sent)} sent>"


def _half(reply: Answer) -> Answer:
    if not isinstance(reply, HttpReply):
        return reply
    return msgspec.structs.replace(reply, body=reply.body[: len(reply.body) // 2])
