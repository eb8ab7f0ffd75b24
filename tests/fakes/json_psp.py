"""A PSP that speaks JSON, on loopback: each request is answered as the test's route says, and remembered."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

from aegispay.gateways.gateway import Gateway
from aegispay.gateways.http import HttpReply
from tests.fakes.raw_server import Peer, answer, raw_server


class Seen:
    """One request as the server got it."""

    def __init__(self, raw: bytes):
        head, _, self.body = raw.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        self.method, self.target, _ = lines[0].split(" ")
        self.path = urlsplit(self.target).path
        self.query = parse_qs(urlsplit(self.target).query)
        self.headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:])}

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"{self.method} {self.path}"


HANG_UP = object()
"""A route's answer: the connection is closed without one."""
Route = Callable[[Seen], Any]


@asynccontextmanager
async def json_psp(route: Route, make: Callable[[str], Gateway]) -> AsyncIterator[tuple[Any, list[Seen]]]:
    """The adapter that `make` builds from a base URL, before a server that answers as the route says.

    A route gives an object (200), a status and an object, a status and bytes, or `HANG_UP`.
    """
    seen: list[Seen] = []

    async def script(peer: Peer) -> None:
        while raw := await peer.request():
            seen.append(Seen(raw))
            said = route(seen[-1])
            if said is HANG_UP:
                peer.reset()
                return
            status, body = said if isinstance(said, tuple) else (200, said)
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            await peer.send(answer(data, f"{status} Said"))

    async with raw_server(script) as server:
        gateway = make(server.url(""))
        await gateway.start()
        try:
            yield gateway, seen
        finally:
            await gateway.aclose()


def reply(status: int, body: Any, **headers: str) -> HttpReply:
    """An answer as the transport gives it."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HttpReply(status=status, headers={k.replace("_", "-"): v for k, v in headers.items()}, body=raw)
