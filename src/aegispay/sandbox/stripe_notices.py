"""Stripe's webhooks: what an event says and how it is signed. Pure: no clock, no books.

The object in an event is a snapshot of the time when the event was made. Stripe signs every try anew, with its time.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import msgspec

from aegispay.sandbox.documents import Document
from aegispay.sandbox.stripe_objects import public
from aegispay.sandbox.webhooks import Notice

API_VERSION = "2024-06-20"
INTENT_EVENTS = {
    "processing": "payment_intent.processing",
    "requires_action": "payment_intent.requires_action",
    "requires_capture": "payment_intent.amount_capturable_updated",
    "requires_payment_method": "payment_intent.payment_failed",
    "succeeded": "payment_intent.succeeded",
    "canceled": "payment_intent.canceled",
}
"""What is told when a PaymentIntent has come to a status, by something that was done to it."""


def sign(secret: str, raw: bytes, at_us: int) -> str:
    """The `Stripe-Signature` of a body that is sent at this time: HMAC-SHA256 over `t.body`, in hexadecimal."""
    at_s = at_us // 1_000_000
    return f"t={at_s},v1={hmac.digest(secret.encode(), b'%d.%s' % (at_s, raw), hashlib.sha256).hex()}"


def notice(
    event_type: str, subject: Document, *, event_id: str, key: str, secret: str, now_us: int
) -> Notice:
    """A webhook about this object. `key`: the idempotency key of the request that did it, empty where none did."""
    event: dict[str, Any] = {
        "id": event_id,
        "object": "event",
        "api_version": API_VERSION,
        "created": now_us // 1_000_000,
        "data": {"object": public(subject)},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": key or None},
        "type": event_type,
    }
    body = msgspec.json.encode(event)

    def headers_at(at_us: int) -> dict[str, str]:
        return {
            "content-type": "application/json; charset=utf-8",
            "user-agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
            "stripe-signature": sign(secret, body, at_us),
        }

    return Notice(
        id=event_id,
        type=event_type,
        headers=headers_at(now_us),
        body=body,
        created_us=now_us,
        signed_at=headers_at,
    )


def dispute(id_: str, charge: Document, reason: str, status: str, now_s: int) -> Document:
    """A dispute over the whole charge, as Stripe shows it."""
    return {
        "id": id_,
        "object": "dispute",
        "amount": charge["amount_captured"],
        "balance_transactions": [],
        "charge": charge["id"],
        "created": now_s,
        "currency": charge["currency"],
        "evidence": {},
        "evidence_details": {"due_by": now_s + 7 * 86_400, "has_evidence": False, "past_due": False},
        "is_charge_refundable": False,
        "livemode": False,
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "reason": reason,
        "status": status,
    }
