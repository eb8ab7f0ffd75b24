"""Public ids: a prefix and 32 hexadecimal digits of a version 7 UUID, so that they sort by time.

Stores keep the 16 bytes. A payment's id ends in its partition, the first byte of the claim's digest: the hash
of (merchant, idempotency key). So a payment's claim, operations and events can live together when the
database is sharded.
"""

from __future__ import annotations

import re

from aegispay.domain.errors import InvalidRequest, PaymentNotFound

PAYMENT = "pay_"
OPERATION = "op_"
EVENT = "evt_"

_PAYMENT_ID = re.compile(r"pay_[0-9a-fA-F]{32}\Z")


def payment_id(uuid_hex: str, partition: int) -> str:
    """A payment id from 32 hexadecimal digits, its last byte replaced by the partition (0 to 255)."""
    return f"pay_{uuid_hex[:30]}{partition:02x}"


def partition_of(payment: str) -> int:
    """The partition number (0 to 255) that a payment id carries."""
    return int(payment[-2:], 16)


def to_bytes(public_id: str) -> bytes:
    """The 16 bytes that are stored for a public id."""
    return bytes.fromhex(public_id[-32:])


def check_payment_id(text: str) -> str:
    """Returns the id, or raises `PaymentNotFound` where no payment could ever have it."""
    if not isinstance(text, str):
        raise InvalidRequest(f"a payment id is text, not {type(text).__name__}.")
    if _PAYMENT_ID.match(text):
        return text.lower()
    raise PaymentNotFound(
        f"{text[:60]!r} is not a payment id.", hint="Payment ids look like pay_ and 32 hex digits."
    )
