"""Adyen's HTTP conventions: key, JSON, idempotency key, one address. It knows no operation.

The API key lives in here only, and in no repr.
"""

from __future__ import annotations

import re

from aegispay.domain.errors import ConfigError
from aegispay.domain.outcomes import InDoubt, NotSent
from aegispay.gateways.adyen.requests import Body, encode
from aegispay.gateways.credentials import checked_base_url, checked_secret
from aegispay.gateways.http import HttpReply, HttpRequest, Transport

TEST_URL = "https://checkout-test.adyen.com/v71"
_PREFIX = re.compile(r"[A-Za-z0-9-]{1,60}")
_ACCOUNT = re.compile(r"[A-Za-z0-9_.-]{1,80}")


def live_url(prefix: str) -> str:
    """The live address of the account with this URL prefix (Customer Area, Developers, API URLs)."""
    if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
        raise ConfigError("Adyen's live URL prefix is text like '1797a841fbb37ca7-AdyenDemo'.")
    return f"https://{prefix}-checkout-live.adyenpayments.com/checkout/v71"


def check_merchant_account(merchant_account: str) -> str:
    if not isinstance(merchant_account, str) or not _ACCOUNT.fullmatch(merchant_account):
        raise ConfigError("Adyen's merchant account is 1 to 80 of A-Z, a-z, 0-9, '_', '.' and '-'.")
    return merchant_account


class AdyenClient:
    """Sends JSON to one Adyen account in one region: idempotency keys are not known in any other."""

    def __init__(self, api_key: str, base_url: str, transport: Transport) -> None:
        self._key = checked_secret("the Adyen API key", api_key, 512)
        self._base_url = checked_base_url("Adyen", base_url, TEST_URL)
        self._transport = transport

    async def post(
        self, path: str, body: Body, timeout_s: float, idempotency_key: str | None
    ) -> HttpReply | NotSent | InDoubt:
        headers = {
            "X-API-Key": self._key.reveal(),
            "Content-Type": "application/json",
            "Accept": "application/json",
        }
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        return await self._transport.send(
            HttpRequest(
                method="POST",
                url=self._base_url + path,
                headers=headers,
                body=encode(body),
                timeout_s=timeout_s,
            )
        )

    def __repr__(self) -> str:
        return f"<AdyenClient {self._base_url}>"
