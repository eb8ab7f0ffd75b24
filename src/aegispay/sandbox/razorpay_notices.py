"""Razorpay's webhooks: what a notice says and how it is signed. Pure, but for the ids."""

from __future__ import annotations

import hashlib
import hmac

import msgspec

from aegispay.sandbox.documents import Document
from aegispay.sandbox.razorpay_objects import shown
from aegispay.sandbox.webhooks import Notice


def sign(secret: str, raw: bytes) -> str:
    """Razorpay's signature of a webhook's body or of a callback's text: HMAC-SHA256, in hexadecimal."""
    return hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()


def signed_callback(order_id: str, payment_id: str, key_secret: str) -> dict[str, str]:
    """What the payer's browser brings back to the merchant."""
    return {
        "razorpay_payment_id": payment_id,
        "razorpay_order_id": order_id,
        "razorpay_signature": sign(key_secret, f"{order_id}|{payment_id}".encode()),
    }


def notice(
    event: str, entities: dict[str, Document], *, event_id: str, account_id: str, secret: str, now_us: int
) -> Notice:
    """A webhook about these objects, by the names that Razorpay gives them in the payload."""
    body = msgspec.json.encode(
        {
            "entity": "event",
            "account_id": account_id,
            "event": event,
            "contains": list(entities),
            "payload": {name: {"entity": shown(entity)} for name, entity in entities.items()},
            "created_at": now_us // 1_000_000,
        }
    )
    headers = {
        "content-type": "application/json",
        "user-agent": "Razorpay-Webhook/v1",
        "x-razorpay-event-id": event_id,
        "x-razorpay-signature": sign(secret, body),
    }
    return Notice(id=event_id, type=event, headers=headers, body=body, created_us=now_us)
