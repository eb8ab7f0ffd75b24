"""Where the demo's PSPs deliver their webhooks: the library's own ASGI application, served on loopback."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from aegispay.app import AegisPay
from aegispay.sandbox.face import bind
from aegispay.webhooks import WebhookApp


class Inbox:
    """`async with Inbox(pay) as inbox:` and tell a PSP to send its webhooks to `inbox.url("stripe")`."""

    def __init__(self, pay: AegisPay):
        self.answered: dict[str, Counter[int]] = {}
        """How often each status was answered, per gateway."""
        self._app = WebhookApp(pay)
        self._server = web.Server(self._serve, access_log=None)
        self._listener: asyncio.AbstractServer | None = None
        self._port = 0

    async def __aenter__(self) -> Self:
        sock = bind(0, listen=True)
        self._port = int(sock.getsockname()[1])
        self._listener = await asyncio.get_running_loop().create_server(self._server, sock=sock)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._listener is not None:
            self._listener.close()
        await self._server.shutdown(0.5)

    def url(self, gateway: str) -> str:
        """Where this gateway's webhooks go."""
        return f"http://127.0.0.1:{self._port}/webhooks/{gateway}"

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """One HTTP request as an ASGI server passes it on."""
        body = await request.read()
        scope = {
            "type": "http",
            "method": request.method,
            "path": request.path,
            "headers": [(name.lower(), value) for name, value in request.raw_headers],
        }
        sent: list[MutableMapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        status = int(sent[0]["status"])
        gateway = request.path.rsplit("/", 1)[-1]
        self.answered.setdefault(gateway, Counter())[status] += 1
        return web.Response(status=status, body=b"".join(part.get("body", b"") for part in sent[1:]))
