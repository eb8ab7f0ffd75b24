"""Adyen's standard webhooks: an item, its signature, and several items in one body.

Pure: no clock, no books. The signature covers eight fields, which `reason` and `eventDate` are not among.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from aegispay.sandbox.webhooks import Notice

Item = dict[str, Any]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_SIGNED = (
    "pspReference",
    "originalReference",
    "merchantAccountCode",
    "merchantReference",
    "value",
    "currency",
    "eventCode",
    "success",
)


def signature(item: Item, hmac_key: str) -> str:
    """The item's `hmacSignature` under a key in hexadecimal digits."""
    fields = {**item, **item["amount"]}
    text = ":".join(str(fields.get(name, "")) for name in _SIGNED)
    return base64.b64encode(hmac.digest(bytes.fromhex(hmac_key), text.encode(), hashlib.sha256)).decode()


def event_date(at_us: int) -> str:
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).isoformat()


def notice(item: Item, hmac_key: str, at_us: int) -> Notice:
    """One item, signed, in a body of its own."""
    extra = {**item.get("additionalData", {}), "hmacSignature": signature(item, hmac_key)}
    return _posted([{**item, "additionalData": extra}], at_us)


def batched(notices: Sequence[Notice]) -> Notice:
    """Several notices in one body, as Adyen sends them under load; each item keeps its own signature."""
    items = [
        entry["NotificationRequestItem"]
        for one in notices
        for entry in _decode(one.body)["notificationItems"]
    ]
    return _posted(items, notices[-1].created_us)


def _posted(items: list[Item], at_us: int) -> Notice:
    body = {"live": "false", "notificationItems": [{"NotificationRequestItem": item} for item in items]}
    return Notice(
        id="+".join(f"{item['eventCode']}:{item['pspReference']}" for item in items),
        type="+".join(item["eventCode"] for item in items),
        headers={"content-type": "application/json; charset=utf-8"},
        body=_encode(body),
        created_us=at_us,
    )
