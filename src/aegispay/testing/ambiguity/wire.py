"""A PSP's side of the wire in this process, and the one trouble that strikes on it.

The adapter sends its real bytes, and the PSP's face answers with its own. Only the network between them is not there, so
that time-outs of seconds and quiet periods of hours pass under virtual time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from urllib.parse import unquote, urlsplit

from aegispay.domain.outcomes import InDoubt, NotSent
from aegispay.gateways.http import HttpReply, HttpRequest
from aegispay.sandbox.wire import Psp, WireReply, WireRequest
from aegispay.testing.ambiguity.troubles import LANDS_AFTER_S, TOO_LATE_S, Trouble

Answer = HttpReply | NotSent | InDoubt
_HTML = b"<html><body><h1>It works!</h1></body></html>"
_EXECUTED = frozenset(
    {
        Trouble.REPLY_LOST,
        Trouble.ERROR_AFTER,
        Trouble.GARBAGE,
        Trouble.TRUNCATED,
        Trouble.CRASH_AFTER,
    }
)
_SILENT = frozenset({Trouble.REQUEST_LOST, Trouble.REPLY_LOST, Trouble.LANDS_LATE, Trouble.LANDS_TOO_LATE})
_FRONT = {Trouble.ERROR_BEFORE: 502, Trouble.ERROR_AFTER: 502, Trouble.RATE_LIMITED: 429}
_BREAKS = {Trouble.KEPT_BEFORE: "before", Trouble.KEPT_AFTER: "after"}


class FaceWire:
    """Implements `Transport` over a PSP's face. `books` is read around each request, to see which of them moves money."""

    def __init__(self, psp: Psp, books: Callable[[], object]) -> None:
        self.count = 0
        """Requests so far."""
        self.moved: list[int] = []
        """The numbers of the requests that moved money at once, from 0."""
        self.dead = asyncio.Event()
        """Our process has died."""
        self.struck = False
        self.quiet_s = 0.0
        """The PSP's promise: a request lands within this time, or never."""
        self.on_its_way = 0
        """Late requests that have left and not arrived yet."""
        self._psp = psp
        self._books = books
        self._armed: dict[int, Trouble] = {}

    def arm(self, trouble: Trouble, number: int, then: Sequence[Trouble] = ()) -> None:
        """The trouble strikes the request with this number, counted from the next one; `then` those that follow it."""
        first = self.count + number
        self._armed = dict(enumerate((trouble, *then), start=first))

    async def send(self, request: HttpRequest) -> Answer:
        number, self.count = self.count, self.count + 1
        trouble = self._armed.pop(number, Trouble.NOTHING)
        if trouble is not Trouble.NOTHING:
            self.struck = True
            return await self._strike(trouble, request, number)
        return _http(self._deliver(request, number))

    async def _strike(self, trouble: Trouble, request: HttpRequest, number: int) -> Answer:
        if trouble is Trouble.REFUSED:
            return NotSent(reason="connection_refused")
        if trouble in (Trouble.LANDS_LATE, Trouble.LANDS_TOO_LATE):
            late_s = LANDS_AFTER_S if trouble is Trouble.LANDS_LATE else self.quiet_s + TOO_LATE_S
            self.on_its_way += 1
            asyncio.get_running_loop().call_later(late_s, self._land, request, number)
        if trouble in _BREAKS:
            return _http(self._deliver(request, number, _BREAKS[trouble]))
        reply = self._deliver(request, number) if trouble in _EXECUTED else None
        if trouble.crash:
            self.dead.set()
            await asyncio.Event().wait()
        if trouble in _SILENT:
            await asyncio.sleep(request.timeout_s)
            return InDoubt(reason="timeout")
        if trouble in _FRONT:
            return _http(self._psp.front_error(_FRONT[trouble], "req_front"))
        if trouble is Trouble.TRUNCATED and reply is not None:
            return _http(WireReply(status=reply.status, body=reply.body[: len(reply.body) // 2]))
        return _http(WireReply(status=200, body=_HTML, content_type="text/html"))

    def _land(self, request: HttpRequest, number: int) -> None:
        self.on_its_way -= 1
        self._deliver(request, number)

    def _deliver(self, request: HttpRequest, number: int, fail: str | None = None) -> WireReply:
        before = self._books()
        found = self._psp.admit(_wire(request))
        reply = found if isinstance(found, WireReply) else self._psp.execute(found, fail)
        if self._books() != before:
            self.moved.append(number)
        return reply

    async def aclose(self) -> None:
        """There is nothing to close."""


def _wire(request: HttpRequest) -> WireRequest:
    parts = urlsplit(request.url)
    return WireRequest(
        method=request.method,
        path=unquote(parts.path),
        query=parts.query,
        headers={name.lower(): value for name, value in request.headers.items()},
        body=request.body or b"",
    )


def _http(reply: WireReply) -> HttpReply:
    headers = {**reply.headers, "content-type": reply.content_type}
    return HttpReply(status=reply.status, headers=headers, body=reply.body)
