"""The HTTP transport over aiohttp: one exchange, sent once, with an honest word about what may have happened.

Importing this module is cheap: aiohttp is loaded on `start` or the first `send`. It knows nothing of any PSP.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from aegispay.domain.errors import ConfigError
from aegispay.domain.outcomes import InDoubt, NotSent
from aegispay.gateways.http import HttpReply, HttpRequest

if TYPE_CHECKING:
    from aegispay.gateways.wire import Wire

USER_AGENT = "AegisPay/0.1"


class AiohttpTransport:
    """A pool of connections. Safe to share between gateways; belongs to the event loop that first uses it.

    TLS certificates are verified, redirects are not followed, cookies are not kept, proxies are not taken
    from the environment, and nothing is ever sent twice.
    """

    def __init__(
        self,
        *,
        connections_max: int = 100,
        connect_timeout_s: float = 5.0,
        keepalive_s: float = 15.0,
        response_bytes_max: int = 1_000_000,
        tls: ssl.SSLContext | None = None,
        user_agent: str = USER_AGENT,
    ) -> None:
        """Connections wait in a queue beyond `connections_max`; `tls` replaces the system's trust store.

        `connect_timeout_s` bounds name resolution, TCP and TLS together, within each request's own
        `timeout_s`. Raises `ConfigError` for a limit that is not positive.
        """
        limits = {
            "connections_max": connections_max,
            "connect_timeout_s": connect_timeout_s,
            "keepalive_s": keepalive_s,
            "response_bytes_max": response_bytes_max,
        }
        for name, value in limits.items():
            if not value > 0:
                raise ConfigError(f"{name} must be more than 0, not {value}.")
        self._connections_max = connections_max
        self._connect_timeout_s = connect_timeout_s
        self._keepalive_s = keepalive_s
        self._response_bytes_max = response_bytes_max
        self._tls = tls
        self._user_agent = user_agent
        self._wire: Wire | None = None
        self._closed = False

    async def start(self) -> None:
        """Opens the pool. Safe to call twice, and again after `aclose`."""
        self._closed = False
        self._open()

    def _open(self) -> Wire:
        if self._wire is None:
            from aegispay.gateways.wire import Wire

            self._wire = Wire(
                connections_max=self._connections_max,
                connect_timeout_s=self._connect_timeout_s,
                keepalive_s=self._keepalive_s,
                response_bytes_max=self._response_bytes_max,
                tls=self._tls,
                user_agent=self._user_agent,
            )
        return self._wire

    async def send(self, request: HttpRequest) -> HttpReply | NotSent | InDoubt:
        """Sends the request once. `NotSent` is proof; whatever else is not a whole answer is `InDoubt`."""
        if self._closed:
            return NotSent(reason="transport_closed")
        return await self._open().exchange(request)

    async def aclose(self) -> None:
        """Closes every connection; what is under way ends as `NotSent` or `InDoubt`. Safe at any time."""
        self._closed = True
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.aclose()

    def __repr__(self) -> str:
        return f"<AiohttpTransport connections_max={self._connections_max}>"
