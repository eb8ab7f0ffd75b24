"""The parts of Razorpay's objects that the adapter reads. Everything else in an answer is skipped, never kept."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

Item = TypeVar("Item")
Notes = dict[str, Any] | list[Any]
"""Empty notes come as an empty array."""


class Payment(msgspec.Struct):
    id: str
    entity: str = ""
    amount: int = 0
    currency: str = ""
    status: str = ""
    order_id: str | None = None
    captured: bool | None = None
    amount_refunded: int | None = None
    notes: Notes = {}
    error_code: str | None = None
    error_reason: str | None = None
    created_at: int | None = None


class Order(msgspec.Struct):
    id: str
    entity: str = ""
    amount: int = 0
    currency: str = ""
    status: str = ""
    receipt: str | None = None
    notes: Notes = {}


class RazorpayRefund(msgspec.Struct):
    id: str
    entity: str = ""
    amount: int = 0
    currency: str = ""
    payment_id: str = ""
    status: str | None = None
    receipt: str | None = None
    notes: Notes = {}


class Dispute(msgspec.Struct):
    id: str
    payment_id: str = ""
    amount: int = 0
    currency: str = ""
    status: str = ""
    reason_code: str | None = None


class Collection(msgspec.Struct, Generic[Item]):
    items: list[Item]
    entity: str = ""
    count: int = 0


class Step(msgspec.Struct):
    """One entry of `next`: what can be done to go on with a payment."""

    action: str = ""
    url: str | None = None


class Created(msgspec.Struct):
    """The answer to a server-to-server payment."""

    razorpay_payment_id: str
    next: list[Step] | None = None


class ErrorMetadata(msgspec.Struct):
    payment_id: str | None = None
    order_id: str | None = None


class ErrorBody(msgspec.Struct):
    code: str
    description: str = ""
    reason: str | None = None
    field: str | None = None
    metadata: ErrorMetadata | list[Any] | None = None


class ErrorReply(msgspec.Struct):
    error: ErrorBody


class Entity(msgspec.Struct, Generic[Item]):
    entity: Item


class Payload(msgspec.Struct):
    payment: Entity[Payment] | None = None
    order: Entity[Order] | None = None
    refund: Entity[RazorpayRefund] | None = None
    dispute: Entity[Dispute] | None = None


class Notice(msgspec.Struct):
    """A webhook's body."""

    event: str
    payload: Payload
    created_at: int | None = None


def note(notes: Notes, name: str) -> str | None:
    """One note's text, where there is one."""
    value = notes.get(name) if isinstance(notes, dict) else None
    return value if isinstance(value, str) else None
