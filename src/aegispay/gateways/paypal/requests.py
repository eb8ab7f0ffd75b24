"""PayPal's request bodies, from a `GatewayCall`. Pure: the same call always gives the same body.

The token says what pays: `paypal` (the payer approves the order at PayPal), `card:ID` or `paypal:ID` (saved in PayPal's
vault); a bare id is a saved card's.
"""

from __future__ import annotations

import re
from typing import Any

from aegispay.domain.errors import InvalidPaymentMethod, InvalidRequest
from aegispay.domain.events import OperationKind
from aegispay.gateways.gateway import GatewayCall
from aegispay.gateways.paypal.amounts import to_paypal

WALLET = "paypal"
"""The token of a payment that the payer approves at PayPal."""
DESCRIPTION_LENGTH_MAX = 127
RETURN_URL_LENGTH_MAX = 2000
REQUEST_ID_LENGTH_MAX = 100
"""Orders take 108, and the second request of an operation appends to its key."""

_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{REQUEST_ID_LENGTH_MAX}}}")
_REFERENCE = re.compile(r"[A-Za-z0-9-]{1,64}")
_VAULTED = re.compile(r"(?:(?P<source>card|paypal):)?(?P<id>[0-9A-Za-z_-]{1,200})")
_FIRST = (OperationKind.AUTHORIZE, OperationKind.CHARGE)


def is_wallet(call: GatewayCall) -> bool:
    """Whether the payer must approve the order before anything can be taken."""
    return call.token == WALLET


def check_call(call: GatewayCall) -> None:
    """Raises a subclass of `InvalidRequest` for a call that PayPal can never take."""
    if not _ID.fullmatch(call.operation_id):
        raise InvalidRequest("the operation's id is not 1 to 100 of A-Z, a-z, 0-9, '_' and '-'.")
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,50}", call.payment_id) or len(call.operation_id) > 60:
        raise InvalidRequest(
            "the payment's id is not 1 to 50 of A-Z, a-z, 0-9, '_' and '-', or the operation's too long."
        )
    if not _ID.fullmatch(call.gateway_key):
        raise InvalidRequest(
            f"the operation's key is not 1 to {REQUEST_ID_LENGTH_MAX} of A-Z, a-z, 0-9, '_', '-'."
        )
    for what, value in (
        ("parent", call.parent_reference),
        ("capture", call.capture_reference),
        ("own", call.own_reference),
    ):
        if value is not None and not _REFERENCE.fullmatch(value):
            raise InvalidRequest(f"the {what} reference {value[:60]!r} is not a PayPal id.")
    if call.kind in _FIRST:
        _check_first(call)
    elif call.parent_reference is None:
        raise InvalidRequest(f"a {call.kind} at PayPal needs the id of the payment that it acts on.")
    if call.kind is OperationKind.REFUND and refund_target(call) is None:
        raise InvalidRequest(
            "PayPal refunds one capture at a time, and no capture of this payment covers the amount.",
            hint="Refund in parts, each within one capture.",
        )
    if call.kind not in (OperationKind.VOID, OperationKind.CONFIRM):
        to_paypal(call.amount)


def _check_first(call: GatewayCall) -> None:
    if not call.token or not _VAULTED.fullmatch(call.token):
        raise InvalidPaymentMethod(
            f"PayPal takes the token {WALLET!r}, or the id of a saved payment method (card:ID or paypal:ID)."
        )
    if call.description is not None and not 0 < len(call.description) <= DESCRIPTION_LENGTH_MAX:
        raise InvalidRequest(f"PayPal takes descriptions of 1 to {DESCRIPTION_LENGTH_MAX} characters.")
    url = call.return_url
    if url is not None and (
        not 10 <= len(url) <= RETURN_URL_LENGTH_MAX
        or not url.isprintable()
        or not url.startswith(("https://", "http://"))
    ):
        raise InvalidRequest(f"return_url is an absolute URL of 10 to {RETURN_URL_LENGTH_MAX} characters.")


def custom_id(call: GatewayCall) -> str:
    """Our operation and our payment, for whatever PayPal says of them later; a refund says that it is one, for a refund
    that somebody makes at PayPal may carry its charge's."""
    tag = "/refund" if call.kind is OperationKind.REFUND else ""
    return f"{call.operation_id}/{call.payment_id}{tag}"


def operation_of(text: str | None) -> str | None:
    """The operation in a `custom_id`; the text itself where it is none of ours."""
    return text.split("/", 1)[0] if text is not None else None


def money(call: GatewayCall) -> dict[str, str]:
    return {"currency_code": call.amount.code, "value": to_paypal(call.amount)}


def order_body(call: GatewayCall) -> dict[str, Any]:
    """Our reference stands in it twice: `custom_id` comes back on whatever follows from the order; `invoice_id` lets
    PayPal refuse a second payment, where the account asks for unique ones."""
    unit: dict[str, Any] = {
        "custom_id": custom_id(call),
        "invoice_id": call.operation_id,
        "amount": money(call),
    }
    if call.description:
        unit["description"] = call.description
    return {
        "intent": "AUTHORIZE" if call.kind is OperationKind.AUTHORIZE else "CAPTURE",
        "purchase_units": [unit],
        "payment_source": _source(call),
    }


def _source(call: GatewayCall) -> dict[str, Any]:
    urls = {"return_url": call.return_url, "cancel_url": call.return_url} if call.return_url else {}
    if is_wallet(call):
        context = {"user_action": "PAY_NOW", "shipping_preference": "NO_SHIPPING", **urls}
        return {"paypal": {"experience_context": context}}
    match = _VAULTED.fullmatch(call.token or "")
    name, vault_id = (match["source"] or "card", match["id"]) if match else ("card", "")
    source: dict[str, Any] = {"vault_id": vault_id}
    if urls:
        source["experience_context"] = urls
        if name == "card":
            # The payer is there: the issuer may ask for 3-D Secure.
            source["attributes"] = {"verification": {"method": "SCA_WHEN_REQUIRED"}}
    return {name: source}


def capture_body(call: GatewayCall) -> dict[str, Any]:
    """`invoice_id` marks the capture as ours, so that a look-up can tell one capture from another."""
    return {"amount": money(call), "invoice_id": call.operation_id, "final_capture": call.final}


def refund_body(call: GatewayCall) -> dict[str, Any]:
    return {"amount": money(call), "invoice_id": call.operation_id, "custom_id": custom_id(call)}


def refund_target(call: GatewayCall) -> str | None:
    """The capture to give back: the one that was chosen, or the charge's own."""
    if call.capture_reference is not None:
        return call.capture_reference
    return call.parent_reference if call.parent_kind is not OperationKind.AUTHORIZE else None
