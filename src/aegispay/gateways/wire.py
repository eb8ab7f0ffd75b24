"""The transport's inside: exchanges over one aiohttp session. Loaded lazily: aiohttp takes long to import.

aiohttp says through its trace hooks how far a request has come. The hook that fires just before the first
byte is handed to the socket draws the line between `NotSent` and `InDoubt`; no exception's type is trusted.
The first byte itself passes a gate that looks at the clock once more: a process that was paused after the
hook, or while it connected, sends nothing.
"""

from __future__ import annotations

import asyncio
import ssl
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import aiohttp
from aiohttp.http_exceptions import ContentLengthError
from yarl import URL

from aegispay.domain.outcomes import InDoubt, NotSent
from aegispay.gateways import permit
from aegispay.gateways.http import HttpReply, HttpRequest

STALE_CONNECTIONS_MAX = 3
"""How many spoilt kept-alive connections one request may meet before it gives up; nothing was sent on any."""
HEADER_BYTES_MAX = 16_384


class StaleConnectionError(aiohttp.ClientError):
    """A kept-alive connection was closing or held unasked-for bytes. Raised before anything is written."""


class _SentBeforeError(aiohttp.ClientError):
    """The client library tried to send a request a second time."""


class TooLateError(aiohttp.ClientError):
    """The time to send was over before the first byte was written."""


class _Progress:
    """How far one request has come, and the deadline that holds for that stretch."""

    __slots__ = (
        "begun",
        "connect_timeout_s",
        "deadline_s",
        "ends_s",
        "phase",
        "refused",
        "timer",
        "written",
    )

    def __init__(
        self, timer: asyncio.Timeout, deadline_s: float, timeout_s: float, connect_timeout_s: float
    ) -> None:
        self.timer = timer
        self.ends_s = permit.elapsed_s() + timeout_s
        self.begun = False
        """Whether the gate let the first byte pass."""
        self.refused = False
        """Whether the gate was asked, and let nothing pass."""
        self.deadline_s = deadline_s
        self.connect_timeout_s = connect_timeout_s
        self.phase = "connect"
        self.written = False
        """Whether a byte of the request may have left. Once true, never false again."""

    @property
    def may_have_left(self) -> bool:
        return self.written and not (self.refused and not self.begun)

    def pass_gate(self) -> None:
        """Asked before every write. Raises for the first one, and all that follow, where it comes too late."""
        if self.begun:
            return
        if self.refused or permit.elapsed_s() >= self.ends_s or not permit.may_leave():
            self.refused = True
            raise TooLateError
        self.begun = True

    def connecting(self) -> None:
        self.phase = "connect"
        now_s = asyncio.get_running_loop().time()
        self._reschedule(min(self.deadline_s, now_s + self.connect_timeout_s))

    def connected(self) -> None:
        self._reschedule(self.deadline_s)

    def _reschedule(self, at_s: float) -> None:
        # A timer that has fired cannot be moved; its cancellation is on the way.
        if not self.timer.expired():
            try:
                self.timer.reschedule(at_s)
            except RuntimeError:
                pass


_PROGRESS: ContextVar[_Progress] = ContextVar("aegispay_progress")
"""The request that the current task sends: aiohttp hands nothing of ours to a request's inside."""


class _Gate:
    """A connection's transport that lets a request's first byte pass only in time. All else it hands on."""

    __slots__ = ("_transport", "progress")

    def __init__(self, transport: Any, progress: _Progress) -> None:
        self._transport = transport
        self.progress = progress

    def write(self, data: Any) -> None:
        self.progress.pass_gate()
        self._transport.write(data)

    def writelines(self, data: Any) -> None:
        self.progress.pass_gate()
        self._transport.writelines(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _CleanRequest(aiohttp.ClientRequest):
    """A request that passes the gate, and that refuses a connection on which the server has already said something.

    Such bytes (a late answer to somebody else, a 408 on an idle connection) would be read as our answer.
    """

    async def send(self, conn: Any) -> aiohttp.ClientResponse:
        protocol = conn.protocol
        if protocol is None or protocol.should_close or not protocol.is_connected():
            raise StaleConnectionError
        if isinstance(protocol.transport, _Gate):
            protocol.transport.progress = _PROGRESS.get()  # A connection that is used again.
        else:
            protocol.transport = _Gate(protocol.transport, _PROGRESS.get())
        return await super().send(conn)


class Wire:
    """One aiohttp session. Made inside a running event loop."""

    def __init__(
        self,
        *,
        connections_max: int,
        connect_timeout_s: float,
        keepalive_s: float,
        response_bytes_max: int,
        tls: ssl.SSLContext | None,
        user_agent: str,
    ) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._response_bytes_max = response_bytes_max
        self._user_agent = user_agent
        self._closing = False
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=connections_max, keepalive_timeout=keepalive_s, ssl=tls if tls is not None else True
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            # All time limits are ours (one timer per request): aiohttp rounds those above 5 s up.
            timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None),
            trust_env=False,
            auto_decompress=False,
            raise_for_status=False,
            skip_auto_headers=("User-Agent", "Content-Type"),
            request_class=_CleanRequest,
            max_line_size=HEADER_BYTES_MAX,
            max_field_size=HEADER_BYTES_MAX,
            trace_configs=[_traces()],
        )

    async def aclose(self) -> None:
        self._closing = True
        await self._session.close()

    async def exchange(self, request: HttpRequest) -> HttpReply | NotSent | InDoubt:
        """See `Transport.send`. Raises only `CancelledError`, when the caller is cancelled."""
        unsendable = _unsendable(request)
        if unsendable:
            return NotSent(reason=unsendable)
        deadline_s = asyncio.get_running_loop().time() + request.timeout_s
        timer = asyncio.timeout_at(deadline_s)
        progress = _Progress(timer, deadline_s, request.timeout_s, self._connect_timeout_s)
        _PROGRESS.set(progress)
        try:
            async with timer:
                progress.connecting()
                for _ in range(STALE_CONNECTIONS_MAX):
                    try:
                        return await self._once(request, progress)
                    except StaleConnectionError:
                        if progress.written:
                            raise
                return NotSent(reason="stale_connection")
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._closing or task is None or task.cancelling():
                raise
            # Closing the pool cancels those who wait for a connection, though nobody cancelled this task.
            return InDoubt(reason="reset") if progress.may_have_left else NotSent(reason="transport_closed")
        except Exception as error:  # noqa: BLE001 - whatever a library raises, the caller gets an outcome
            if progress.refused and not progress.begun:
                return NotSent(reason="too_late")
            return verdict(error, written=progress.written, phase=progress.phase)

    async def _once(self, request: HttpRequest, progress: _Progress) -> HttpReply | InDoubt:
        headers = {"User-Agent": self._user_agent, "Accept-Encoding": "identity", **request.headers}
        response = await self._session.request(
            request.method,
            URL(request.url, encoded=True),
            headers=headers,
            data=request.body,
            allow_redirects=False,
            trace_request_ctx=progress,
        )
        try:
            body = await self._read(response)
        except BaseException:
            response.close()
            raise
        if body is None or response.status < 200:
            response.close()
            return InDoubt(reason="too_large" if body is None else "garbage")
        found = {name.lower(): value for name, value in response.headers.items()}
        return HttpReply(status=response.status, headers=found, body=body)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes | None:
        """The body, or None where it is over the limit: reading stops there."""
        limit = self._response_bytes_max
        if (response.content_length or 0) > limit:
            return None
        chunks: list[bytes] = []
        total = 0
        async for chunk in response.content.iter_any():
            total += len(chunk)
            if total > limit:
                return None
            chunks.append(chunk)
        return b"".join(chunks)


def _unsendable(request: HttpRequest) -> str | None:
    """Why a request can never be written: a control character would let a value add headers of its own."""
    if any(character <= " " or character == "\x7f" for character in request.url):
        return "invalid_url"
    for name, value in request.headers.items():
        if not value.isprintable() or not name.isprintable() or not name:
            return "invalid_header"
    return None


def _traces() -> aiohttp.TraceConfig:
    """Hooks that move the request's `_Progress`."""

    async def queued(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        progress: _Progress = context.trace_request_ctx
        progress.phase = "pool"
        progress.connected()

    async def connecting(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        progress: _Progress = context.trace_request_ctx
        if progress.written:
            # aiohttp sends a GET again when a kept-alive connection breaks. We send once.
            raise _SentBeforeError
        progress.connecting()

    async def reused(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        progress: _Progress = context.trace_request_ctx
        if not progress.written:
            # A second sending is refused in `writing`: raised here, aiohttp would lose the connection unclosed.
            progress.connecting()

    async def connected(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        progress: _Progress = context.trace_request_ctx
        progress.connected()

    async def writing(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        progress: _Progress = context.trace_request_ctx
        if progress.written:
            raise _SentBeforeError
        progress.written = True
        progress.phase = "sent"
        progress.connected()

    traces = aiohttp.TraceConfig()
    traces.on_connection_queued_start.append(queued)
    traces.on_connection_queued_end.append(connecting)
    traces.on_connection_create_start.append(connecting)
    traces.on_connection_reuseconn.append(reused)
    traces.on_connection_create_end.append(connected)
    traces.on_request_headers_sent.append(writing)
    return traces


def verdict(error: Exception, *, written: bool, phase: str) -> NotSent | InDoubt:
    """What an exchange that ended with this error proves. Only the reason's wording depends on the error."""
    if written:
        return InDoubt(reason=_doubt(error))
    if isinstance(error, TimeoutError):
        return NotSent(reason="pool_timeout" if phase == "pool" else "connect_timeout")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return NotSent(reason="dns")
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError | ssl.CertificateError):
        return NotSent(reason="tls")
    if isinstance(error, aiohttp.ClientConnectorError):
        refused = isinstance(error.os_error, ConnectionRefusedError)
        return NotSent(reason="connection_refused" if refused else "connection_failed")
    if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError | ValueError):
        return NotSent(reason="invalid_url")
    return NotSent(reason="connection_failed")


def _doubt(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, aiohttp.ClientPayloadError):
        cause = error.__cause__ or error.__context__
        return "truncated" if isinstance(cause, ContentLengthError) else "garbage"
    if isinstance(error, aiohttp.ClientResponseError):
        return "garbage"
    if isinstance(error, aiohttp.ClientConnectionError | OSError | _SentBeforeError):
        return "reset"
    return "garbage"
