"""PayPal's access token: fetched once, kept until shortly before it expires, fetched again when PayPal refuses it.

However many calls wait, one request is under way. The token is never logged and stands in no repr.
"""

from __future__ import annotations

import asyncio
import base64
import re

from aegispay.domain.outcomes import NotSent
from aegispay.gateways.answers import read, retry_after_s
from aegispay.gateways.credentials import Secret
from aegispay.gateways.http import HttpReply, HttpRequest, Transport
from aegispay.gateways.paypal.wire_types import TokenReply
from aegispay.ports import Clock

FETCH_TIMEOUT_S = 10.0
EARLY_S = 60.0
"""A token is not used in the last minute of its life."""
LIFE_MAX_S = 12 * 3600.0
_TOKEN = re.compile(r"[!-~]{8,4096}")


class TokenSource:
    """The access token of one PayPal application."""

    def __init__(
        self, client_id: Secret, client_secret: Secret, base_url: str, transport: Transport, clock: Clock
    ) -> None:
        self._client_id = client_id
        self._client_secret = client_secret
        self._url = base_url + "/v1/oauth2/token"
        self._transport = transport
        self._clock = clock
        self._held: Secret | None = None
        self._good_until_s = 0.0
        self._fetching: asyncio.Task[Secret | NotSent] | None = None

    def __repr__(self) -> str:
        return "<TokenSource>"

    async def get(self, timeout_s: float) -> Secret | NotSent:
        """The token, fetched if need be within this time. `NotSent`: there is none, and nothing was asked for with it."""
        if self._held is not None and self._clock.monotonic_s() < self._good_until_s:
            return self._held
        return await self.fetch(timeout_s)

    async def fetch(self, timeout_s: float) -> Secret | NotSent:
        """Joins the request that is under way, or begins one. It outlives the caller who began it."""
        loop = asyncio.get_running_loop()
        task = self._fetching
        if task is None or task.done() or task.get_loop() is not loop:
            task = self._fetching = loop.create_task(self._ask())
        done, _ = await asyncio.wait({task}, timeout=max(0.0, timeout_s))
        if not done:
            return NotSent(reason="token_timeout")
        return NotSent(reason="transport_closed") if task.cancelled() else task.result()

    def forget(self, token: Secret) -> None:
        """PayPal refused this token. A newer one, fetched meanwhile by somebody else, stays."""
        if self._held is token:
            self._held = None

    async def aclose(self) -> None:
        task, self._fetching = self._fetching, None
        self._held = None
        if task is not None and not task.done() and task.get_loop() is asyncio.get_running_loop():
            task.cancel()
            await asyncio.wait({task})

    async def _ask(self) -> Secret | NotSent:
        begin_s = self._clock.monotonic_s()
        reply = await self._transport.send(
            HttpRequest(
                method="POST",
                url=self._url,
                headers={
                    "Authorization": f"Basic {self._basic()}",
                    "Content-Type": "application/x-www-form-urlencoded",
                    "Accept": "application/json",
                },
                body=b"grant_type=client_credentials",
                timeout_s=FETCH_TIMEOUT_S,
            )
        )
        if not isinstance(reply, HttpReply):
            return NotSent(reason=f"token_{reply.reason}", retry_after_s=reply.retry_after_s)
        if reply.status in (400, 401, 403):
            return NotSent(reason="unauthorized")
        if reply.status == 429:
            return NotSent(reason="rate_limited", retry_after_s=retry_after_s(reply))
        if reply.status != 200:
            return NotSent(reason=f"token_http_{reply.status}", retry_after_s=retry_after_s(reply))
        found = read(reply, TokenReply)
        if found is None or not _TOKEN.fullmatch(found.access_token):
            return NotSent(reason="token_garbage")
        token = Secret(found.access_token)
        self._held = token
        self._good_until_s = begin_s + min(max(found.expires_in - EARLY_S, 0.0), LIFE_MAX_S)
        return token

    def _basic(self) -> str:
        pair = f"{self._client_id.reveal()}:{self._client_secret.reveal()}"
        return base64.b64encode(pair.encode()).decode()
