"""The transport port: one HTTP exchange, with an honest answer about what may have happened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from aegispay.domain.outcomes import InDoubt, NotSent


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True):
    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None = None
    timeout_s: float
    """For the whole exchange, connecting included."""

    def __repr__(self) -> str:
        return f"<HttpRequest {self.method} {self.url.split('?')[0]}>"


class HttpReply(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer within the size limit."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    def __repr__(self) -> str:
        return f"<HttpReply {self.status}>"


class Transport(Protocol):
    """Sends one request, once, and never raises for what the network does.

    `NotSent` only with proof that the server saw no request: name not resolved, connection refused, TLS failed, or
    time ran out before the first byte of the request was written. Everything else that is not a whole answer is
    `InDoubt`: `timeout`, `reset`, `truncated`, `too_large`, `garbage` (not HTTP).

    Right before the first byte it looks once more whether the time is over, and asks `permit.may_leave()`: a process that
    was paused meanwhile must not send. `NotSent(reason="too_late")` then.
    """

    async def send(self, request: HttpRequest) -> HttpReply | NotSent | InDoubt: ...

    async def aclose(self) -> None: ...
