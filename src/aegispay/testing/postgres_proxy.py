"""A TCP proxy before PostgreSQL that cuts connections, at the worst moments of a commit above all.

It understands so much of the wire protocol that it knows which statement writes and when the server has committed it.
Each statement outside a transaction block commits by itself: its COMMIT is the server's "ready for query".
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections import Counter, deque
from enum import StrEnum
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

_SSL_REQUEST = 80877103
_GSS_REQUEST = 80877104
_WRITES = (b"INSERT ", b"UPDATE ", b"DELETE ", b"COMMIT")
_ENDS_BATCH = b"SQXHpfdcF"
"""Messages after which the server may answer: what is sent up to them goes on together."""
_LINGER_NONE = struct.pack("ii", 1, 0)


class Moment(StrEnum):
    """When a connection is cut."""

    BEFORE = "before"
    """The client has sent a statement that writes; none of it reaches the server."""
    HALF_SENT = "half_sent"
    """Half of it reaches the server."""
    SENT = "sent"
    """All of it reaches the server, and the connection is cut at once: it may commit, or not."""
    COMMITTED = "committed"
    """The server has committed and answered; the client hears nothing of it."""
    HALF_ANSWERED = "half_answered"
    """The server has committed; the client gets half of the answer."""
    ANYWHERE = "anywhere"
    """Every connection, whatever it is doing."""


AROUND_COMMIT = tuple(moment for moment in Moment if moment is not Moment.ANYWHERE)


class PostgresProxy:
    """`async with PostgresProxy(dsn) as proxy:` and connect to `proxy.dsn`."""

    def __init__(self, dsn: str, source: random.Random):
        self._target = dsn
        self._source = source
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._armed: deque[tuple[Moment, asyncio.Future[None]]] = deque()
        self.cuts: Counter[Moment] = Counter()
        """How many connections were cut, by moment."""

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def stop(self) -> None:
        """Closes every connection. Safe before start, and twice."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        tasks = [link.task for link in self._links if link.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def port(self) -> int:
        if self._server is None:
            raise RuntimeError("the proxy was not started")
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def dsn(self) -> str:
        """The server's DSN with our port in it."""
        parts = urlsplit(self._target)
        user = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{self.port}"))

    async def cut(self, moment: Moment) -> None:
        """Cuts the next connection that comes to this moment; returns when it is cut."""
        if moment is Moment.ANYWHERE:
            for link in list(self._links):
                link.cut(moment)
            return
        struck: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._armed.append((moment, struck))
        await struck

    def disarm(self) -> None:
        """No more cuts: those that nobody has come to yet are called off."""
        while self._armed:
            self._armed.popleft()[1].cancel()

    # --- inside -------------------------------------------------------------------------------------------

    def take(self) -> tuple[Moment, asyncio.Future[None]] | None:
        """The cut that awaits the next write, if any."""
        while self._armed:
            moment, struck = self._armed.popleft()
            if not struck.done():
                return moment, struck
        return None

    def resets(self) -> bool:
        """Whether a cut is a reset; otherwise the connection ends politely."""
        return self._source.random() < 0.5

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = urlsplit(self._target)
        try:
            up_reader, up_writer = await asyncio.open_connection(target.hostname, target.port)
        except OSError:
            writer.transport.abort()
            return
        link = _Link(self, reader, writer, up_reader, up_writer)
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)


class _Link:
    """One client's connection and ours to the server."""

    def __init__(
        self,
        proxy: PostgresProxy,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ):
        self._proxy = proxy
        self._reader = reader
        self._writer = writer
        self._up_reader = up_reader
        self._up_writer = up_writer
        self._writing_statements: set[bytes] = set()
        self._bound_writes = False
        self._due: tuple[Moment, asyncio.Future[None]] | None = None
        """The cut that comes when the server has answered."""
        self.task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        self.task = asyncio.current_task()
        pumps = [asyncio.create_task(self._upwards()), asyncio.create_task(self._downwards())]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            pass  # The proxy stops; a task that ends cancelled would be reported by the stream server.
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.wait(pumps)
            if self._due is not None:
                self._struck(*self._due)
            self._writer.close()
            self._up_writer.close()

    def cut(self, moment: Moment) -> None:
        """Ends both connections now. What was handed to the server's still reaches it."""
        self._proxy.cuts[moment] += 1
        if self._proxy.resets():
            sock: socket.socket | None = self._writer.get_extra_info("socket")
            if sock is not None and sock.fileno() >= 0:  # The client may have closed it a moment ago.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
            self._writer.transport.abort()
        else:
            self._writer.close()
        self._up_writer.close()

    def _struck(self, moment: Moment, struck: asyncio.Future[None]) -> None:
        self._due = None
        self.cut(moment)
        if not struck.done():
            struck.set_result(None)

    # --- from the client ----------------------------------------------------------------------------------

    async def _upwards(self) -> None:
        try:
            await self._greet()
            batch = bytearray()
            writes = False
            while True:
                head = await self._reader.readexactly(5)
                body = await self._reader.readexactly(int.from_bytes(head[1:], "big") - 4)
                writes = self._writes(head[:1], body) or writes
                batch += head + body
                if head[:1] in _ENDS_BATCH:
                    if not self._send(bytes(batch), writes):
                        return
                    await self._up_writer.drain()
                    batch.clear()
                    writes = False
        except (asyncio.IncompleteReadError, OSError):
            return

    async def _greet(self) -> None:
        """The first packet has no type; one that asks for encryption is declined in the server's place."""
        while True:
            head = await self._reader.readexactly(4)
            body = await self._reader.readexactly(int.from_bytes(head, "big") - 4)
            if int.from_bytes(body[:4], "big") not in (_SSL_REQUEST, _GSS_REQUEST):
                self._up_writer.write(head + body)
                return
            self._writer.write(b"N")

    def _writes(self, kind: bytes, body: bytes) -> bool:
        """Whether this message makes the server write something."""
        if kind == b"Q":
            return _is_write(body)
        if kind == b"P":
            name, query, _ = body.split(b"\0", 2)
            self._writing_statements.discard(name)
            if _is_write(query):
                self._writing_statements.add(name)
        elif kind == b"B":
            self._bound_writes = body.split(b"\0", 2)[1] in self._writing_statements
        elif kind == b"E":
            return self._bound_writes
        return False

    def _send(self, batch: bytes, writes: bool) -> bool:
        """Forwards what the client sent, or as much as a cut lets through; False where the link is cut."""
        taken = self._proxy.take() if writes else None
        if taken is None:
            self._up_writer.write(batch)
            return True
        moment, struck = taken
        if moment in (Moment.COMMITTED, Moment.HALF_ANSWERED):
            self._due = (moment, struck)
            self._up_writer.write(batch)
            return True
        if moment is not Moment.BEFORE:
            self._up_writer.write(batch if moment is Moment.SENT else batch[: len(batch) // 2])
        self._struck(moment, struck)
        return False

    # --- from the server ----------------------------------------------------------------------------------

    async def _downwards(self) -> None:
        held = bytearray()
        try:
            while True:
                head = await self._up_reader.readexactly(5)
                body = await self._up_reader.readexactly(int.from_bytes(head[1:], "big") - 4)
                if self._due is None:
                    self._writer.write(head + body)
                    await self._writer.drain()
                    continue
                held += head + body
                if head[:1] == b"Z":
                    if self._due[0] is Moment.HALF_ANSWERED:
                        self._writer.write(bytes(held[: len(held) // 2]))
                    self._struck(*self._due)
                    return
        except (asyncio.IncompleteReadError, OSError):
            return


def _is_write(query: bytes) -> bool:
    return any(word in query for word in _WRITES)
