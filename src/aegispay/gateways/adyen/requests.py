"""Adyen's request bodies, from a `GatewayCall`. Pure: the same call always gives the same bytes."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import msgspec

from aegispay.domain.errors import InvalidPaymentMethod, InvalidRequest, UnsupportedOperation
from aegispay.domain.events import OperationKind
from aegispay.domain.money import Money
from aegispay.gateways.adyen.amounts import to_adyen
from aegispay.gateways.gateway import GatewayCall

Body = dict[str, Any]

PAYMENT_KEY = "aegispay_payment"
DESCRIPTION_KEY = "description"
KEY_LENGTH_MAX = 64
REFERENCE_LENGTH_MAX = 73
"""Adyen takes 80; seven are left for the prefix of a cancel by our reference."""
METADATA_KEYS_MAX = 20
METADATA_KEY_LENGTH_MAX = 20
METADATA_VALUE_LENGTH_MAX = 80
KEYS_RESERVED = 2
RETURN_URL_LENGTH_MAX = 8000
SHOPPER_REFERENCE_LENGTHS = (3, 256)
TOKEN_LENGTH_MAX = 64

CANCEL_PREFIX = "cancel_"
"""What the reference of a cancel by our reference begins with."""
_OURS = re.compile(r"[A-Za-z0-9_-]+")
_PSP = re.compile(r"[A-Za-z0-9]{8,64}")
_FIRST = (OperationKind.AUTHORIZE, OperationKind.CHARGE)
DETAILS = frozenset({"redirectResult", "payload", "threeDSResult", "MD", "PaRes"})
"""What a payer may bring back. One-time passwords are no part of it: what is passed here is recorded."""
_REFUND_REASONS = {
    "duplicate": "DUPLICATE",
    "late_success": "DUPLICATE",
    "fraudulent": "FRAUD",
    "requested_by_customer": "CUSTOMER REQUEST",
    "return": "RETURN",
}


def encode(body: Body) -> bytes:
    return msgspec.json.encode(body)


def is_adyens(reference: str | None) -> bool:
    """Whether this is a pspReference. Until Adyen gives one, our own reference stands in for it; ours has a `_`."""
    return reference is not None and _PSP.fullmatch(reference) is not None


def check_call(call: GatewayCall, defaults: Defaults, *, multi_capture: bool) -> None:
    """Raises a subclass of `InvalidRequest` for a call that Adyen can never take."""
    if not _fits(call.gateway_key, KEY_LENGTH_MAX) or not _fits(call.operation_id, REFERENCE_LENGTH_MAX):
        raise InvalidRequest(
            f"Adyen takes keys of 1 to {KEY_LENGTH_MAX} and references of 1 to {REFERENCE_LENGTH_MAX} of "
            "A-Z, a-z, 0-9, '_' and '-'."
        )
    for what, value in (("parent", call.parent_reference), ("own", call.own_reference)):
        if value is not None and not _fits(value, REFERENCE_LENGTH_MAX):
            raise InvalidRequest(f"the {what} reference {value[:60]!r} is not one of Adyen's or ours.")
    if call.kind in _FIRST:
        _check_first(call, defaults)
    elif call.kind is OperationKind.CONFIRM:
        _check_details(call.action_data)
    elif call.parent_reference is None:
        raise InvalidRequest(f"a {call.kind} at Adyen needs the pspReference of the payment that it acts on.")
    elif call.kind is not OperationKind.VOID and not is_adyens(call.parent_reference):
        raise InvalidRequest(f"a {call.kind} at Adyen needs a pspReference, not our own reference.")
    if call.kind is OperationKind.CAPTURE and not call.final and not multi_capture:
        raise UnsupportedOperation(
            "this Adyen account cancels what is left after the first capture.",
            hint="Pass multi_capture=True if Adyen has enabled multiple partial captures for the account.",
        )
    if call.kind not in (OperationKind.VOID, OperationKind.CONFIRM):
        to_adyen(call.amount)


def _fits(text: str, length_max: int) -> bool:
    return len(text) <= length_max and _OURS.fullmatch(text) is not None


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """What a payment is sent with where the call itself does not say."""

    merchant_account: str
    return_url: str | None = None
    shopper_reference: str | None = None

    def url(self, call: GatewayCall) -> str | None:
        return call.return_url or self.return_url

    def shopper(self, call: GatewayCall) -> str | None:
        return call.customer_id or self.shopper_reference


def _check_first(call: GatewayCall, defaults: Defaults) -> None:
    if not call.token or len(call.token) > TOKEN_LENGTH_MAX:
        raise InvalidPaymentMethod("Adyen takes a storedPaymentMethodId of up to 64 characters as the token.")
    shopper = defaults.shopper(call)
    least, most = SHOPPER_REFERENCE_LENGTHS
    if shopper is None or not least <= len(shopper) <= most:
        raise InvalidRequest(
            f"Adyen needs the shopperReference that the token belongs to: {least} to {most} characters.",
            hint="Pass customer_id, or shopper_reference to the adapter.",
        )
    url = defaults.url(call)
    if url is None or not 0 < len(url) <= RETURN_URL_LENGTH_MAX or ":" not in url or not url.isprintable():
        raise InvalidRequest(
            f"Adyen needs a return_url: an absolute URL of up to {RETURN_URL_LENGTH_MAX} characters.",
            hint="Pass it with the payment, or to the adapter as its default.",
        )
    _check_metadata(call.metadata)


def _check_metadata(metadata: dict[str, str]) -> None:
    room = METADATA_KEYS_MAX - KEYS_RESERVED
    if len(metadata) > room:
        raise InvalidRequest(f"Adyen takes {room} metadata keys beside ours, not {len(metadata)}.")
    for key, value in metadata.items():
        if not 0 < len(key) <= METADATA_KEY_LENGTH_MAX or key in (PAYMENT_KEY, DESCRIPTION_KEY):
            raise InvalidRequest(
                f"{key[:60]!r} is not a metadata key: 1 to {METADATA_KEY_LENGTH_MAX} characters, not one of ours."
            )
        if len(value) > METADATA_VALUE_LENGTH_MAX:
            raise InvalidRequest(
                f"the metadata value of {key!r} has more than {METADATA_VALUE_LENGTH_MAX} characters."
            )


def _check_details(data: dict[str, str]) -> None:
    unknown = sorted(set(data) - DETAILS)
    if unknown or not data:
        raise InvalidRequest(
            f"action_data for Adyen holds what came back with the payer: {', '.join(sorted(DETAILS))}.",
            hint="A one-time password is never passed here: it would be recorded.",
        )


def amount(money: Money) -> Body:
    return {"currency": money.code, "value": to_adyen(money)}


def payment(call: GatewayCall, defaults: Defaults) -> Body:
    """`/payments`: with a stored payment method, by redirect where the issuer wants 3DS."""
    body: Body = {
        "merchantAccount": defaults.merchant_account,
        "amount": amount(call.amount),
        "reference": call.operation_id,
        "merchantOrderReference": call.payment_id,
        "paymentMethod": {"type": "scheme", "storedPaymentMethodId": call.token},
        "shopperReference": defaults.shopper(call),
        "shopperInteraction": "ContAuth",
        "recurringProcessingModel": "CardOnFile",
        "returnUrl": defaults.url(call),
        "channel": "Web",
        # Native 3DS needs Adyen's component in the page; a redirect works everywhere.
        "authenticationData": {"threeDSRequestData": {"nativeThreeDS": "disabled"}},
        "metadata": {**call.metadata, PAYMENT_KEY: call.payment_id},
    }
    if call.description:
        # Adyen has no free description; the statement line that it has instead is seen by the payer's bank.
        body["metadata"][DESCRIPTION_KEY] = call.description[:METADATA_VALUE_LENGTH_MAX]
    if call.kind is OperationKind.AUTHORIZE:
        body["additionalData"] = {"manualCapture": "true"}
    else:
        body["captureDelayHours"] = 0
    return body


def details(call: GatewayCall) -> Body:
    """`/payments/details`: what the payer brought back."""
    return {"details": dict(sorted(call.action_data.items()))}


def capture(call: GatewayCall, merchant_account: str) -> Body:
    return {
        "merchantAccount": merchant_account,
        "amount": amount(call.amount),
        "reference": call.operation_id,
    }


def refund(call: GatewayCall, merchant_account: str) -> Body:
    body = capture(call, merchant_account)
    reason = _REFUND_REASONS.get(call.reason or "")
    if reason:
        body["merchantRefundReason"] = reason
    return body


def void(call: GatewayCall, merchant_account: str) -> tuple[str, Body]:
    """The path below the base URL, and the body.

    A charge is captured by itself, so only a reversal (Adyen cancels or refunds, whichever is due) gives it back. A
    payment of which Adyen has not yet told its own reference is canceled by ours.
    """
    body: Body = {"merchantAccount": merchant_account, "reference": call.operation_id}
    if not is_adyens(call.parent_reference):
        return "/cancels", {**body, "paymentReference": call.parent_reference}
    verb = "reversals" if call.parent_kind is OperationKind.CHARGE else "cancels"
    return f"/payments/{call.parent_reference}/{verb}", body


def cancel_by_reference(call: GatewayCall, merchant_account: str) -> Body:
    return {
        "merchantAccount": merchant_account,
        "paymentReference": call.operation_id,
        "reference": f"{CANCEL_PREFIX}{call.operation_id}",
    }


def cancel_key(call: GatewayCall) -> str:
    """The key of a cancel by our reference: a function of the payment's own key, and different from it."""
    return hashlib.sha256(f"{CANCEL_PREFIX}{call.gateway_key}".encode()).hexdigest()
