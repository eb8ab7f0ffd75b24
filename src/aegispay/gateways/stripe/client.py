"""Stripe's HTTP conventions: key, version, forms, one deadline for several requests. It knows no operation.

The API key lives in here only, and in no repr.
"""

from __future__ import annotations

from typing import NoReturn
from urllib.parse import urlsplit

from aegispay.domain.errors import ConfigError
from aegispay.domain.outcomes import InDoubt, NotSent
from aegispay.gateways.http import HttpReply, HttpRequest, Transport
from aegispay.gateways.stripe.requests import Form, encode
from aegispay.ports import Clock

API_KEY_LENGTH_MAX = 255
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class _Secret:
    """A text that does not print and cannot be pickled."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "<secret>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret cannot be pickled or copied")


def check_api_key(api_key: str) -> str:
    """Returns the key, or raises `ConfigError` without quoting it."""
    if not isinstance(api_key, str) or not 0 < len(api_key) <= API_KEY_LENGTH_MAX:
        raise ConfigError(f"the Stripe API key is a text of 1 to {API_KEY_LENGTH_MAX} characters.")
    if not api_key.isascii() or any(character <= " " or character == "\x7f" for character in api_key):
        raise ConfigError(
            "the Stripe API key holds white space or characters that are not ASCII.",
            hint="A line break at the end of an environment variable is the usual cause.",
        )
    if api_key.startswith("pk_"):
        raise ConfigError(
            "that is a publishable Stripe key.", hint="Use the secret (sk_) or restricted (rk_) key."
        )
    return api_key


def check_base_url(base_url: str) -> str:
    """Returns the URL without its last slash; raises `ConfigError` where a key would travel unencrypted."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(
            f"{base_url[:100]!r} is not a base URL.", hint="Write it like https://api.stripe.com."
        )
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise ConfigError("the Stripe API key is sent over https only.", hint="http is for 127.0.0.1.")
    if parts.username or parts.password:
        raise ConfigError("a base URL holds no user name or password.")
    return base_url.rstrip("/")


class Deadline:
    """What is left of a call's time, over several requests."""

    def __init__(self, clock: Clock, timeout_s: float) -> None:
        self._clock = clock
        self._ends_s = clock.monotonic_s() + timeout_s

    def left_s(self) -> float:
        return self._ends_s - self._clock.monotonic_s()


class StripeClient:
    """Sends forms to one Stripe account."""

    def __init__(self, api_key: str, base_url: str, api_version: str, transport: Transport) -> None:
        self._key = _Secret(check_api_key(api_key))
        self._base_url = check_base_url(base_url)
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
