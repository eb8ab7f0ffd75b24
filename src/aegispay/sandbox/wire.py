"""What passes between a PSP's logic and whatever carries it: plain requests and replies.

A PSP here is a synchronous function over the bank's books. It knows no sockets, no event loop and no faults, so that the
same PSP serves over real HTTP and inside a simulation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

FREE = ""
"""The idempotency key of a request that has none."""


class WireRequest(msgspec.Struct, frozen=True, kw_only=True):
    method: str
    path: str
    """Without the query, percent-decoded."""
    query: str = ""
    """Raw, as it stood after the question mark."""
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Names in lower case."""
    body: bytes = b""

    def __repr__(self) -> str:
        return f"<WireRequest {self.method} {self.path}>"


class WireReply(msgspec.Struct, frozen=True, kw_only=True):
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    content_type: str = "application/json"

    def __repr__(self) -> str:
        return f"<WireReply {self.status}>"


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """A request that the PSP has let in and will execute when told to."""

    request: WireRequest
    request_id: str
    key: str = FREE
    """The idempotency key that is in use until the ticket is executed or dropped."""
    moves_money: bool = False


class Psp(Protocol):
    """A PSP behind its wire protocol. `admit` then `execute` is one request; time may pass in between."""

    @property
    def account(self) -> str:
        """The name under which the bank knows this PSP account."""
        ...

    @property
    def idempotent(self) -> bool:
        """Whether a request may be delivered twice without a second effect."""
        ...

    def admit(self, request: WireRequest) -> Ticket | WireReply:
        """Checks who asks, answers a replay at once, or lets the request in."""
        ...

    def execute(self, ticket: Ticket, fail: str | None = None) -> WireReply:
        """Carries the request out and answers.

        `fail` makes the PSP itself break, `before` or `after` its effect; its answer is then a 500, kept under the key.
        """
        ...

    def drop(self, ticket: Ticket) -> None:
        """Forgets a request that was let in and will not be executed."""
        ...

    def front_error(self, status: int, request_id: str) -> WireReply:
        """What the PSP's front says where the request never reached the PSP (429, 502, 503); nothing is kept of it."""
        ...


def handle(psp: Psp, request: WireRequest) -> WireReply:
    """One request, start to end, with nothing going wrong."""
    ticket = psp.admit(request)
    return ticket if isinstance(ticket, WireReply) else psp.execute(ticket)


_encode = msgspec.json.Encoder().encode


def json_reply(status: int, body: Any, headers: Mapping[str, str] | None = None) -> WireReply:
    return WireReply(status=status, body=_encode(body), headers=headers or {})


def html_reply(status: int, html: str) -> WireReply:
    return WireReply(status=status, body=html.encode(), content_type="text/html; charset=utf-8")
