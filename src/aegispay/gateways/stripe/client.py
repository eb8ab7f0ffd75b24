"""Stripe's HTTP conventions: key, version, forms. It knows no operation.

The API key lives in here only, and in no repr.
"""

from __future__ import annotations

from aegispay.domain.errors import ConfigError
from aegispay.domain.outcomes import InDoubt, NotSent
from aegispay.gateways.credentials import Secret, checked_base_url, checked_secret
from aegispay.gateways.http import HttpReply, HttpRequest, Transport
from aegispay.gateways.stripe.requests import Form, encode

API_KEY_LENGTH_MAX = 255


def check_api_key(api_key: str) -> Secret:
    """The key, or `ConfigError` without quoting it."""
    secret = checked_secret("the Stripe API key", api_key, API_KEY_LENGTH_MAX)
    if api_key.startswith("pk_"):
        raise ConfigError(
            "that is a publishable Stripe key.", hint="Use the secret (sk_) or restricted (rk_) key."
        )
    return secret


class StripeClient:
    """Sends forms to one Stripe account."""

    def __init__(self, api_key: str, base_url: str, api_version: str, transport: Transport) -> None:
        self._key = check_api_key(api_key)
        self._base_url = checked_base_url("Stripe", base_url, "https://api.stripe.com")
        self._api_version = api_version
        self._transport = transport

    async def post(
        self, path: str, form: Form, timeout_s: float, idempotency_key: str | None
    ) -> HttpReply | NotSent | InDoubt:
        headers = self._headers()
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        return await self._transport.send(
            HttpRequest(
                method="POST",
                url=self._base_url + path,
                headers=headers,
                body=encode(form),
                timeout_s=timeout_s,
            )
        )

    async def get(self, path: str, query: Form, timeout_s: float) -> HttpReply | NotSent | InDoubt:
        url = self._base_url + path
        if query:
            url += "?" + encode(query).decode()
        return await self._transport.send(
            HttpRequest(method="GET", url=url, headers=self._headers(), timeout_s=timeout_s)
        )

    def _headers(self) -> dict[str, str]:
        return {
            "Authorization": f"Bearer {self._key.reveal()}",
            "Stripe-Version": self._api_version,
            "Accept": "application/json",
        }

    def __repr__(self) -> str:
        return f"<StripeClient {self._base_url}>"
