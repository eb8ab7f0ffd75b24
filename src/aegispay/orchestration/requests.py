"""What a caller asks for, checked, and the two hashes that idempotency rests on.

The claim digest says which key it is: (merchant, scope, key). The request hash says what was asked under it.
"""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from aegispay.domain.errors import (
    InvalidAmount,
    InvalidIdempotencyKey,
    InvalidPaymentMethod,
    InvalidRequest,
)
from aegispay.domain.events import CaptureMode
from aegispay.domain.methods import Card, MethodSnapshot, PaymentMethod, Token, looks_like_pan
from aegispay.domain.money import AMOUNT_MINOR_MAX, Money

KEY_LENGTH_MAX = 255
TEXT_LENGTH_MAX = 500
METADATA_KEYS_MAX = 40
METADATA_KEY_LENGTH_MAX = 40
DEFAULT_MERCHANT = "default"

_encode = msgspec.json.Encoder(order="sorted").encode


class PaymentRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request to charge or authorize, already checked by `checked_request`."""

    merchant_id: str
    idempotency_key: str
    amount: Money
    capture: CaptureMode
    method: PaymentMethod
    snapshot: MethodSnapshot
    gateways: tuple[str, ...] = ()
    """Only these may be tried, in this order; empty: the router decides."""
    customer_id: str | None = None
    description: str | None = None
    return_url: str | None = None
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    correlation_id: str | None = None


def claim_digest(merchant_id: str, scope: str, key: str) -> bytes:
    """16 bytes that stand for (merchant, scope, key). Its first byte is the payment's partition."""
    return blake2b(f"{merchant_id}\0{scope}\0{key}".encode(), digest_size=16).digest()


def request_hash(request: PaymentRequest) -> bytes:
    """16 bytes of what was asked; a raw card enters with brand, last four digits and expiry only."""
    snapshot = request.snapshot
    tokens = request.method.by_gateway if isinstance(request.method, Token) else None
    parts = (
        request.amount.amount_minor,
        request.amount.code,
        request.capture,
        snapshot,
        tokens or None,
        request.gateways,
        request.customer_id,
        request.description,
        request.return_url,
        request.metadata,
    )
    return blake2b(_encode(parts), digest_size=16).digest()


def operation_hash(kind: str, payment_id: str, *parts: object) -> bytes:
    """16 bytes of what was asked of an existing payment."""
    return blake2b(_encode((kind, payment_id, *parts)), digest_size=16).digest()


def check_key(key: object) -> str:
    """Returns the idempotency key, or raises `InvalidIdempotencyKey` for an empty, over-long or unprintable one."""
    if not isinstance(key, str):
        raise InvalidIdempotencyKey(f"an idempotency key is text, not {type(key).__name__}.")
    if not key:
        raise InvalidIdempotencyKey(
            "the idempotency key is empty.",
            hint="Use your order's id, so that a second click finds the first.",
        )
    if len(key) > KEY_LENGTH_MAX:
        raise InvalidIdempotencyKey(
            f"the idempotency key has {len(key)} characters; {KEY_LENGTH_MAX} are allowed."
        )
    if not key.isprintable():
        raise InvalidIdempotencyKey("the idempotency key holds characters that cannot be printed.")
    if looks_like_pan(key):
        raise InvalidIdempotencyKey("the idempotency key looks like a card number, and would be stored.")
    return key


def check_text(name: str, text: object, length_max: int = TEXT_LENGTH_MAX) -> str | None:
    """Returns optional free text, or raises `InvalidRequest`: wrong type, too long, or a card number in it."""
    if text is None:
        return None
    if not isinstance(text, str):
        raise InvalidRequest(f"{name} is text, not {type(text).__name__}.")
    if len(text) > length_max:
        raise InvalidRequest(f"{name} has {len(text)} characters; {length_max} are allowed.")
    if looks_like_pan(text):
        raise InvalidRequest(f"{name} looks like a card number, and would be stored.")
    if "\0" in text:
        raise InvalidRequest(f"{name} holds a NUL character, which no database keeps.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"{name} holds half a character, which no database keeps.") from None
    return text


def check_metadata(metadata: object) -> dict[str, str]:
    """Returns a copy of the metadata: up to 40 keys of 1 to 40 characters, values of up to 500."""
    if not metadata:
        return {}
    if not isinstance(metadata, dict):
        raise InvalidRequest(f"metadata is a mapping of text to text, not {type(metadata).__name__}.")
    if len(metadata) > METADATA_KEYS_MAX:
        raise InvalidRequest(f"metadata has {len(metadata)} keys; {METADATA_KEYS_MAX} are allowed.")
    for key, value in metadata.items():
        if not isinstance(key, str) or not 0 < len(key) <= METADATA_KEY_LENGTH_MAX:
            raise InvalidRequest(f"a metadata key is text of 1 to {METADATA_KEY_LENGTH_MAX} characters.")
        check_text("a metadata key", key)
        if check_text(f"metadata {key!r}", value) is None:
            raise InvalidRequest(f"metadata {key!r} is text, not None.")
    return dict(metadata)


def check_action_data(data: object) -> dict[str, str]:
    """Returns a copy of what a payer brought back: up to 20 keys of text, values of up to 8,192 characters."""
    if not isinstance(data, dict) or len(data) > 20:
        raise InvalidRequest("action_data is a mapping of up to 20 texts.")
    for key, value in data.items():
        if (
            check_text("an action_data key", key, 100) is None
            or check_text(f"action_data {key!r}", value, 8192) is None
        ):
            raise InvalidRequest("action_data holds text only.")
    return dict(data)


def check_amount(amount: object) -> Money:
    """Returns the amount of a payment: `Money` of 1 to 10^15 minor units."""
    if not isinstance(amount, Money):
        raise InvalidAmount(
            f"an amount is Money, not {type(amount).__name__}.",
            hint="For example Money.parse('99.99', 'USD').",
        )
    if not 0 < amount.amount_minor <= AMOUNT_MINOR_MAX:
        raise InvalidAmount(f"an amount is greater than zero, not {amount.format()}.")
    return amount


def check_not_expired(method: PaymentMethod, now_us: int) -> None:
    """Raises `InvalidPaymentMethod` for a raw card whose last month is over.

    Only for what was never asked before: under a key that has an answer, the card may have expired since.
    """
    if isinstance(method, Card) and method.expired_at(now_us):
        raise InvalidPaymentMethod(
            f"the card expired in {method.expiry_month:02d}/{method.expiry_year}.",
            hint="Ask for another card.",
        )


def checked_request(
    *,
    amount: Money,
    method: PaymentMethod | str,
    idempotency_key: str,
    capture: CaptureMode,
    merchant_id: str = DEFAULT_MERCHANT,
    gateways: tuple[str, ...] = (),
    customer_id: str | None = None,
    description: str | None = None,
    return_url: str | None = None,
    metadata: dict[str, str] | None = None,
    correlation_id: str | None = None,
) -> PaymentRequest:
    """The request, checked by what is the same at any time. Raises a subclass of `InvalidRequest`.

    What depends on the day or on the configuration is asked later: a replay must find its answer first.
    """
    if isinstance(method, str):
        method = Token(method)
    if not isinstance(method, Token | Card):
        raise InvalidPaymentMethod(f"a payment method is a Token or a Card, not {type(method).__name__}.")
    if not isinstance(merchant_id, str) or not 0 < len(merchant_id) <= 64 or not merchant_id.isprintable():
        raise InvalidRequest("a merchant id is text of 1 to 64 printable characters.")
    if return_url is not None and not str(return_url).startswith(("http://", "https://")):
        raise InvalidRequest("return_url begins with https:// or http://.")
    return PaymentRequest(
        merchant_id=merchant_id,
        idempotency_key=check_key(idempotency_key),
        amount=check_amount(amount),
        capture=capture,
        method=method,
        snapshot=method.snapshot(),
        gateways=gateways,
        customer_id=check_text("customer_id", customer_id, 255),
        description=check_text("description", description),
        return_url=check_text("return_url", return_url, 2000),
        metadata=check_metadata(metadata),
        correlation_id=check_text("correlation_id", correlation_id, 128),
    )
