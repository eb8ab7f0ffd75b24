"""One PSP face on a loopback port: real HTTP, real resets, a port that really refuses when it is down."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterable
from urllib.parse import unquote

from aiohttp import web

from aegispay.ports import Clock
from aegispay.sandbox.faults import Cut, CutKind, FaultKind, FaultPlan, FaultShell
from aegispay.sandbox.wire import WireReply, WireRequest

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time to linger: closing sends a reset."""
BODY_BYTES_MAX = 1_000_000


def bind(port: int, listen: bool) -> socket.socket:
    """A loopback socket. One that is bound and does not listen keeps the port and refuses connections."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(("127.0.0.1", port))
        if listen:
            sock.listen(1024)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


async def wire_request(request: web.BaseRequest) -> WireRequest:
    path, _, query = request.raw_path.partition("?")
    return WireRequest(
        method=request.method,
        path=unquote(path),
        query=query,
        headers={name.lower(): value for name, value in request.headers.items()},
        body=await request.read() if request.can_read_body else b"",
    )


def web_reply(reply: WireReply) -> web.Response:
    return web.Response(
        status=reply.status,
        body=reply.body,
        headers={**reply.headers, "content-type": reply.content_type},
    )


class Face:
    """A fault shell, served. `hold_s` bounds how long a request is left without an answer."""

    def __init__(self, shell: FaultShell, clock: Clock, *, hold_s: float = 30.0) -> None:
        self.shell = shell
        self.port = 0
        self._clock = clock
        self._hold_s = hold_s
        self._server: web.Server | None = None
        self._listener: asyncio.AbstractServer | None = None
        self._reserved: socket.socket | None = None
        self._busy: set[object] = set()
        self._stopping = asyncio.Event()
        self._outages: set[asyncio.Task[None]] = set()
        shell.on_outage = self._outage

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def is_up(self) -> bool:
        return self._listener is not None

    async def start(self, port: int = 0) -> None:
        self._stopping.clear()
        self._server = web.Server(self._handle, access_log=None, keepalive_timeout=75.0)
        await self._listen(bind(port, listen=True))

    async def aclose(self) -> None:
        """Stops listening and ends every connection. Safe before start, and twice."""
        self._stopping.set()
        for task in list(self._outages):
            task.cancel()
        self._close_listener()
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None
        if self._server is not None:
            await self._server.shutdown(0.5)
            self._server = None

    async def down(self) -> None:
        """From now on connections are refused: the port stays bound and nobody listens. Requests under way are finished."""
        if self._listener is None:
            return
        self._close_listener()
        for connection in list(self._server.connections) if self._server is not None else ():
            # A client's pool must not go on over a connection from before.
            if connection in self._busy:
                connection.close()
            else:
                connection.force_close()
        for _ in range(5):
            await asyncio.sleep(0)  # Lets a client on this loop see that its idle connections ended.
        # The loop closes the listening socket in its own time; until then the port cannot be bound again.
        for _ in range(1000):
            try:
                self._reserved = bind(self.port, listen=False)
                return
            except OSError:
                await asyncio.sleep(0)
        raise RuntimeError(f"port {self.port} could not be kept")

    async def up(self) -> None:
        """Listens again on the same port."""
        if self._listener is not None or self._reserved is None:
            return
        sock, self._reserved = self._reserved, None
        sock.listen(1024)
        await self._listen(sock)

    def script(self, faults: Iterable[FaultKind | str | None], *, path: str = "") -> None:
        """See `FaultShell.script`."""
        self.shell.script(faults, path=path)

    def set_plan(self, plan: FaultPlan) -> None:
        self.shell.set_plan(plan)

    async def _listen(self, sock: socket.socket) -> None:
        if self._server is None:
            raise RuntimeError("the face is closed")
        self._listener = await asyncio.get_running_loop().create_server(self._server, sock=sock)
        self.port = int(sock.getsockname()[1])

    def _close_listener(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _outage(self, outage_s: float) -> None:
        async def outage() -> None:
            await self.down()
            await self._clock.sleep(outage_s)
            await self.up()

        task = asyncio.ensure_future(outage())
        self._outages.add(task)
        task.add_done_callback(self._outages.discard)

    # --- requests -------------------------------------------------------------------------------------------

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self._busy.add(request.protocol)
        try:
            answer = await self.shell.serve(await wire_request(request))
            if isinstance(answer, Cut):
                return await self._cut(request, answer)
            return web_reply(answer)
        finally:
            self._busy.discard(request.protocol)

    async def _cut(self, request: web.BaseRequest, cut: Cut) -> web.StreamResponse:
        """Ends the connection without a whole answer. The response that is returned finds nobody to read it."""
        transport = request.transport
        if cut.kind is CutKind.SILENCE:
            try:
                await asyncio.wait_for(self._stopping.wait(), self._hold_s)
            except TimeoutError:
                pass
        if transport is not None:
            if cut.kind is CutKind.TRUNCATED and cut.reply is not None:
                body = cut.reply.body
                head = f"HTTP/1.1 {cut.reply.status} OK\r\ncontent-length: {len(body)}\r\n\r\n"
                transport.write(head.encode() + body[: len(body) // 2])
                transport.close()
            else:
                raw = transport.get_extra_info("socket")
                if raw is not None and not transport.is_closing():
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                transport.abort()
        return web.Response(status=500)
