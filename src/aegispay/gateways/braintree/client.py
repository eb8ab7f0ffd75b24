"""Braintree's HTTP conventions: one address, keys, version, GraphQL in JSON. It knows no operation.

The private key lives in here only, and in no repr.
"""

from __future__ import annotations

import base64
import re
from typing import Any

import msgspec

from aegispay.domain.errors import ConfigError
from aegispay.domain.outcomes import InDoubt, NotSent
from aegispay.gateways.credentials import Secret, checked_base_url, checked_secret
from aegispay.gateways.http import HttpReply, HttpRequest, Transport

SANDBOX_URL = "https://payments.sandbox.braintree-api.com"
LIVE_URL = "https://payments.braintree-api.com"
API_VERSION = "2019-01-01"

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_PUBLIC_KEY = re.compile(r"[A-Za-z0-9_]{1,128}")


def check_public_key(public_key: str) -> str:
    if not isinstance(public_key, str) or not _PUBLIC_KEY.fullmatch(public_key):
        raise ConfigError("Braintree's public key is 1 to 128 of A-Z, a-z, 0-9 and '_'.")
    return public_key


def check_private_key(private_key: str) -> Secret:
    return checked_secret("Braintree's private key", private_key, 128)


class BraintreeClient:
    """Sends GraphQL documents to one Braintree account."""

    def __init__(
        self, public_key: str, private_key: str, base_url: str, api_version: str, transport: Transport
    ) -> None:
        check_public_key(public_key)
        pair = f"{public_key}:{check_private_key(private_key).reveal()}"
        self._credentials = Secret(base64.b64encode(pair.encode()).decode())
        self._base_url = checked_base_url("Braintree", base_url, SANDBOX_URL)
        if not isinstance(api_version, str) or not _DATE.fullmatch(api_version):
            raise ConfigError("Braintree's API version is a date like 2019-01-01.")
        self._api_version = api_version
        self._transport = transport

    async def send(
        self, document: str, variables: dict[str, Any], timeout_s: float
    ) -> HttpReply | NotSent | InDoubt:
        return await self._transport.send(
            HttpRequest(
                method="POST",
                url=f"{self._base_url}/graphql",
                headers={
                    "Authorization": f"Basic {self._credentials.reveal()}",
                    "Braintree-Version": self._api_version,
                    "Content-Type": "application/json",
                    "Accept": "application/json",
                },
                body=msgspec.json.encode({"query": document, "variables": variables}),
                timeout_s=timeout_s,
            )
        )

    def __repr__(self) -> str:
        return f"<BraintreeClient {self._base_url}>"
