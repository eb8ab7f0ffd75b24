"""The parts of Adyen's objects that the adapter reads. Everything else in an answer is skipped, never kept."""

from __future__ import annotations

import msgspec


class WireAmount(msgspec.Struct):
    """An amount in Adyen's own minor units."""

    value: int
    currency: str


class ActionHead(msgspec.Struct):
    """What every `action` has; the rest of it is for Adyen's own web component."""

    type: str = ""
    url: str | None = None
    method: str | None = None


class PaymentReply(msgspec.Struct, rename="camel"):
    """The answer to `/payments` and `/payments/details`."""

    result_code: str = ""
    psp_reference: str | None = None
    merchant_reference: str | None = None
    amount: WireAmount | None = None
    refusal_reason_code: str | None = None
    action: msgspec.Raw = msgspec.Raw()


class ModificationReply(msgspec.Struct, rename="camel"):
    """The answer to a capture, cancel, refund or reversal: received, nothing more."""

    status: str
    psp_reference: str
    reference: str | None = None
    payment_psp_reference: str | None = None
    payment_reference: str | None = None
    amount: WireAmount | None = None


class ServiceError(msgspec.Struct, rename="camel"):
    """The body of every answer that is not 2xx."""

    status: int
    error_code: str | None = None
    error_type: str | None = None
    message: str | None = None


class NotificationItem(msgspec.Struct, rename="camel"):
    """One item of a standard webhook. The first eight fields are signed, the rest is not."""

    psp_reference: str
    event_code: str
    success: str | bool
    merchant_account_code: str | None = None
    original_reference: str | None = None
    merchant_reference: str | None = None
    amount: WireAmount | None = None
    additional_data: dict[str, msgspec.Raw] | None = None
    event_date: str | None = None
    reason: str | None = None


class NotificationWrapper(msgspec.Struct):
    item: NotificationItem = msgspec.field(name="NotificationRequestItem")


class Notification(msgspec.Struct, rename="camel"):
    notification_items: list[NotificationWrapper]
