"""The parts of Stripe's objects that the adapter reads. Everything else in an answer is skipped, never kept."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

Item = TypeVar("Item")


class Redirect(msgspec.Struct):
    url: str | None = None


class StripeAction(msgspec.Struct):
    """A `next_action`. What stands under `use_stripe_sdk` is not read: it is for Stripe's own SDK."""

    type: str = ""
    redirect_to_url: Redirect | None = None


class Charge(msgspec.Struct):
    id: str
    payment_method_details: dict[str, Any] | None = None


class PaymentError(msgspec.Struct):
    """`last_payment_error`: why the newest try of a payment failed."""

    code: str | None = None
    decline_code: str | None = None
    type: str | None = None


class Intent(msgspec.Struct):
    """A PaymentIntent. Its `client_secret` is not read."""

    id: str
    object: str = ""
    status: str = ""
    amount: int = 0
    currency: str = ""
    amount_capturable: int | None = None
    amount_received: int | None = None
    metadata: dict[str, Any] = {}
    last_payment_error: PaymentError | None = None
    next_action: StripeAction | None = None
    latest_charge: Charge | str | None = None


class StripeRefund(msgspec.Struct):
    id: str
    object: str = ""
    status: str | None = None
    amount: int = 0
    currency: str = ""
    metadata: dict[str, Any] = {}
    failure_reason: str | None = None


class ErrorBody(msgspec.Struct):
    type: str
    code: str | None = None
    decline_code: str | None = None
    param: str | None = None
    payment_intent: Intent | str | None = None


class ErrorReply(msgspec.Struct):
    error: ErrorBody


class Page(msgspec.Struct, Generic[Item]):
    data: list[Item]
    has_more: bool = False
    next_page: str | None = None


class Identified(msgspec.Struct):
    """Any object that has an id."""

    id: str
