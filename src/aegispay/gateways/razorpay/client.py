"""Razorpay's HTTP conventions: Basic authentication, JSON, one request at a time. It knows no operation.

The key's secret lives in here only, and in no repr.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Any
from urllib.parse import urlencode

import msgspec

from aegispay.domain.errors import ConfigError
from aegispay.domain.outcomes import InDoubt, NotSent
from aegispay.gateways.credentials import checked_base_url, checked_secret
from aegispay.gateways.http import HttpReply, HttpRequest, Transport

Answer = HttpReply | NotSent | InDoubt
_KEY_ID = re.compile(r"rzp_[A-Za-z0-9_]{3,60}")


class RazorpayClient:
    """Sends requests to one Razorpay account."""

    def __init__(self, key_id: str, key_secret: str, base_url: str, transport: Transport) -> None:
        if not isinstance(key_id, str) or not _KEY_ID.fullmatch(key_id):
            raise ConfigError(
                "that is not a Razorpay key id.", hint="It looks like rzp_test_... or rzp_live_..."
            )
        self.key_id = key_id
        self._secret = checked_secret("the Razorpay key secret", key_secret, 255)
        if key_secret.startswith("rzp_"):
            raise ConfigError("the Razorpay key id was given where its secret belongs.")
        self._base_url = checked_base_url("Razorpay", base_url, "https://api.razorpay.com/v1")
        self._transport = transport

    async def post(
        self, path: str, body: dict[str, Any], timeout_s: float, refund_key: str | None = None
    ) -> Answer:
        headers = self._headers()
        headers["Content-Type"] = "application/json"
        if refund_key is not None:
            headers["X-Refund-Idempotency"] = refund_key
        return await self._transport.send(
            HttpRequest(
                method="POST",
                url=self._base_url + path,
                headers=headers,
                body=msgspec.json.encode(body),
                timeout_s=timeout_s,
            )
        )

    async def get(self, path: str, query: list[tuple[str, str]], timeout_s: float) -> Answer:
        url = self._base_url + path
        if query:
            url += "?" + urlencode(query)
        return await self._transport.send(
            HttpRequest(method="GET", url=url, headers=self._headers(), timeout_s=timeout_s)
        )

    def signs(self, order_id: str, payment_id: str, signature: str) -> bool:
        """Whether this is the signature that Razorpay's checkout gives for the two ids. Constant in time."""
        digest = hmac.new(
            self._secret.reveal().encode(), f"{order_id}|{payment_id}".encode(), hashlib.sha256
        ).hexdigest()
        return hmac.compare_digest(digest.encode(), signature.encode())

    def _headers(self) -> dict[str, str]:
        basic = base64.b64encode(f"{self.key_id}:{self._secret.reveal()}".encode()).decode()
        return {"Authorization": f"Basic {basic}", "Accept": "application/json"}

    def __repr__(self) -> str:
        return f"<RazorpayClient {self._base_url}>"
