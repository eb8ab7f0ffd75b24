"""PayPal's HTTP conventions: bearer token, JSON, request ids, one fresh token where PayPal refuses the old one.

It knows no operation. The client's secret lives in its token source only, and in no repr.
"""

from __future__ import annotations

from typing import Any

import msgspec

from aegispay.domain.outcomes import InDoubt, NotSent
from aegispay.gateways.answers import TimeLeft
from aegispay.gateways.credentials import checked_base_url, checked_secret
from aegispay.gateways.http import HttpReply, HttpRequest, Transport
from aegispay.gateways.paypal.oauth import TokenSource
from aegispay.ports import Clock

Answer = HttpReply | NotSent | InDoubt


class PayPalClient:
    """Sends requests for one PayPal application."""

    def __init__(
        self, client_id: str, client_secret: str, base_url: str, transport: Transport, clock: Clock
    ) -> None:
        self.base_url = checked_base_url("PayPal", base_url, "https://api-m.paypal.com")
        self.transport = transport
        self.tokens = TokenSource(
            checked_secret("the PayPal client id", client_id, 255),
            checked_secret("the PayPal client secret", client_secret, 255),
            self.base_url,
            transport,
            clock,
        )

    async def post(
        self, path: str, body: dict[str, Any] | None, left: TimeLeft, request_id: str | None
    ) -> Answer:
        return await self._send("POST", path, msgspec.json.encode(body or {}), left, request_id)

    async def get(self, path: str, left: TimeLeft) -> Answer:
        return await self._send("GET", path, None, left, None)

    async def _send(
        self, method: str, path: str, body: bytes | None, left: TimeLeft, request_id: str | None
    ) -> Answer:
        reply = await self._once(method, path, body, left, request_id)
        if isinstance(reply, tuple):
            # 401 is given before anything is executed, so the request may go once more with a fresh token.
            token, refused = reply
            self.tokens.forget(token)
            reply = await self._once(method, path, body, left, request_id)
            return refused if isinstance(reply, tuple) else reply
        return reply

    async def _once(
        self, method: str, path: str, body: bytes | None, left: TimeLeft, request_id: str | None
    ) -> Answer | tuple[Any, HttpReply]:
        """One exchange; the token and the answer where PayPal refused the token."""
        token = await self.tokens.get(left.seconds())
        if isinstance(token, NotSent):
            return token
        headers = {
            "Authorization": f"Bearer {token.reveal()}",
            "Accept": "application/json",
            "Prefer": "return=representation",
        }
        if body is not None:
            headers["Content-Type"] = "application/json"
        if request_id is not None:
            headers["PayPal-Request-Id"] = request_id
        reply = await self.transport.send(
            HttpRequest(
                method=method, url=self.base_url + path, headers=headers, body=body, timeout_s=left.seconds()
            )
        )
        if isinstance(reply, HttpReply) and reply.status == 401:
            return token, reply
        return reply

    def __repr__(self) -> str:
        return f"<PayPalClient {self.base_url}>"
