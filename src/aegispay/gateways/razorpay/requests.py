"""Razorpay's request bodies, from a `GatewayCall`. Pure: the same call always gives the same body.

How a payment is asked for depends on the token:

- `checkout`: an order is made, and the payer pays it in Razorpay's Checkout (any method);
- `token_...`: a saved card is charged server to server; the payer authenticates at the bank;
- `token_...` with the metadata `razorpay_recurring=true`: a mandate is charged, nobody authenticates.
"""

from __future__ import annotations

import re
from typing import Any

from aegispay.domain.errors import InvalidPaymentMethod, InvalidRequest, UnsupportedOperation
from aegispay.domain.events import OperationKind
from aegispay.gateways.gateway import GatewayCall
from aegispay.gateways.razorpay.amounts import to_razorpay

CHECKOUT = "checkout"
"""The token of a payment that the payer makes in Razorpay's Checkout."""
OPERATION_NOTE = "aegispay_operation"
PAYMENT_NOTE = "aegispay_payment"
KIND_NOTE = "aegispay_kind"
FLOW_NOTE = "aegispay_flow"
SERVER_TO_SERVER = "s2s"

PAYER = "razorpay_"
"""Metadata under this prefix says who pays, and is not copied into the notes."""
PAYER_KEYS = {
    "razorpay_email": 254,
    "razorpay_contact": 15,
    "razorpay_ip": 45,
    "razorpay_user_agent": 500,
    "razorpay_recurring": 5,
}
NOTES_MAX = 15
NOTE_LENGTH_MAX = 256
KEYS_RESERVED = 4
"""Notes of ours."""
RECEIPT_LENGTH_MAX = 40
REFUND_KEY_LENGTH_MIN = 10
MANUAL_EXPIRY_MINUTES = 7200
"""For so long an authorised payment can be captured; then Razorpay gives it back. Their maximum: 5 days."""
AUTOMATIC_EXPIRY_MINUTES = 12
"""A charge that is authorised later than this is not captured, and given back. Their minimum."""

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PAYMENT = re.compile(r"pay_[A-Za-z0-9]{1,40}")
_PARENT = re.compile(r"(pay|order)_[A-Za-z0-9]{1,40}")
_OWN = re.compile(r"(pay|order|rfnd)_[A-Za-z0-9]{1,40}")
_TOKEN = re.compile(r"token_[A-Za-z0-9]{1,60}")
_FIRST = (OperationKind.AUTHORIZE, OperationKind.CHARGE)


def is_recurring(call: GatewayCall) -> bool:
    return call.metadata.get("razorpay_recurring") == "true"


def check_call(call: GatewayCall) -> None:
    """Raises a subclass of `InvalidRequest` for a call that Razorpay can never take."""
    if not _ID.fullmatch(call.operation_id) or len(call.operation_id) > RECEIPT_LENGTH_MAX:
        raise InvalidRequest(
            f"the operation's id is not 1 to {RECEIPT_LENGTH_MAX} of A-Z, a-z, 0-9, '_', '-'."
        )
    if not _ID.fullmatch(call.gateway_key) or len(call.gateway_key) < REFUND_KEY_LENGTH_MIN:
        raise InvalidRequest("the operation's key is not 10 to 64 of A-Z, a-z, 0-9, '_' and '-'.")
    if call.kind is OperationKind.VOID:
        raise UnsupportedOperation(
            "Razorpay has no void.", hint="Let the authorisation lapse, or capture it and refund."
        )
    if call.own_reference is not None and not _OWN.fullmatch(call.own_reference):
        raise InvalidRequest(f"the own reference {call.own_reference[:60]!r} is not a Razorpay id.")
    if call.kind in _FIRST:
        _check_first(call)
        return
    pattern = _PARENT if call.kind is OperationKind.CONFIRM else _PAYMENT
    target = refund_target(call) if call.kind is OperationKind.REFUND else call.parent_reference
    if target is None or not pattern.fullmatch(target):
        raise InvalidRequest(f"a {call.kind} at Razorpay needs the id of the payment that it acts on.")
    if call.kind is OperationKind.CONFIRM:
        _check_action_data(call.action_data)
    else:
        to_razorpay(call.amount)
    if call.kind is OperationKind.CAPTURE and not call.final:
        raise UnsupportedOperation("Razorpay takes one capture, of the whole amount.")


def _check_action_data(data: dict[str, str]) -> None:
    if any("otp" in key.lower() for key in data):
        raise InvalidRequest(
            "an OTP is not taken: what a payer brings back is stored.",
            hint="Post it to the next action's URL from your page; then complete the action without it.",
        )


def _check_first(call: GatewayCall) -> None:
    token = call.token
    if not token or not (token == CHECKOUT or _TOKEN.fullmatch(token)):
        raise InvalidPaymentMethod(
            f"Razorpay takes the token {CHECKOUT!r}, or one of a saved card (token_...)."
        )
    to_razorpay(call.amount)
    own = {key: value for key, value in call.metadata.items() if key.startswith(PAYER)}
    for key, value in own.items():
        limit = PAYER_KEYS.get(key)
        if limit is None or not 0 < len(value) <= limit or not value.isprintable():
            raise InvalidRequest(f"the metadata {key[:40]!r} is not one that Razorpay's adapter takes.")
    if own.get("razorpay_recurring", "true") != "true":
        raise InvalidRequest("razorpay_recurring is 'true' or left out.")
    if token != CHECKOUT:
        _check_payer(call, own)
    merchant = len(call.metadata) - len(own)
    if merchant > NOTES_MAX - KEYS_RESERVED:
        raise InvalidRequest(
            f"Razorpay takes {NOTES_MAX - KEYS_RESERVED} notes beside ours, not {merchant} metadata keys."
        )
    for key, value in call.metadata.items():
        if key in (OPERATION_NOTE, PAYMENT_NOTE, KIND_NOTE, FLOW_NOTE):
            raise InvalidRequest(f"the metadata key {key!r} is AegisPay's own.")
        if key not in own and (not key or len(key) > NOTE_LENGTH_MAX or len(value) > NOTE_LENGTH_MAX):
            raise InvalidRequest(f"a Razorpay note has up to {NOTE_LENGTH_MAX} characters.")


def _check_payer(call: GatewayCall, own: dict[str, str]) -> None:
    needed = ["razorpay_email", "razorpay_contact"]
    if not is_recurring(call):
        needed += ["razorpay_ip", "razorpay_user_agent"]
    elif not (call.customer_id or "").startswith("cust_"):
        raise InvalidRequest("a recurring payment at Razorpay needs the customer's id there (cust_...).")
    missing = [key for key in needed if key not in own]
    if missing:
        raise InvalidRequest(
            f"Razorpay asks who pays with a saved card: metadata {', '.join(missing)} is missing.",
            hint="Or use the token 'checkout'.",
        )


def order_body(call: GatewayCall) -> dict[str, Any]:
    """The order: it carries our reference, and decides whether what is authorised is captured by itself."""
    if call.kind is OperationKind.CHARGE:
        payment: dict[str, Any] = {
            "capture": "automatic",
            "capture_options": {
                "automatic_expiry_period": AUTOMATIC_EXPIRY_MINUTES,
                "manual_expiry_period": AUTOMATIC_EXPIRY_MINUTES,
                "refund_speed": "normal",
            },
        }
    else:
        payment = {
            "capture": "manual",
            "capture_options": {"manual_expiry_period": MANUAL_EXPIRY_MINUTES, "refund_speed": "normal"},
        }
    return {
        "amount": to_razorpay(call.amount),
        "currency": call.amount.code,
        "receipt": call.operation_id,
        "payment": payment,
        "notes": notes(call, merchant=True),
    }


def payment_path(call: GatewayCall) -> str:
    return "/payments/create/recurring" if is_recurring(call) else "/payments/create/json"


def payment_body(call: GatewayCall, order_id: str) -> dict[str, Any]:
    """A server-to-server payment of an order with a saved card."""
    own = call.metadata
    body: dict[str, Any] = {
        "amount": to_razorpay(call.amount),
        "currency": call.amount.code,
        "order_id": order_id,
        "email": own["razorpay_email"],
        "contact": own["razorpay_contact"],
        "token": call.token,
        "notes": {**notes(call, merchant=False), FLOW_NOTE: SERVER_TO_SERVER},
    }
    if call.description:
        body["description"] = call.description
    if call.customer_id and call.customer_id.startswith("cust_"):
        # Other ids are the merchant's own; Razorpay would refuse them.
        body["customer_id"] = call.customer_id
    if is_recurring(call):
        body["recurring"] = True
        return body
    body["method"] = "card"
    body["ip"] = own["razorpay_ip"]
    body["user_agent"] = own["razorpay_user_agent"]
    if call.return_url:
        body["callback_url"] = call.return_url
    return body


def capture_body(call: GatewayCall) -> dict[str, Any]:
    return {"amount": to_razorpay(call.amount), "currency": call.amount.code}


def refund_body(call: GatewayCall) -> dict[str, Any]:
    return {
        "amount": to_razorpay(call.amount),
        "speed": "normal",
        "receipt": call.operation_id,
        "notes": {OPERATION_NOTE: call.operation_id, PAYMENT_NOTE: call.payment_id},
    }


def refund_target(call: GatewayCall) -> str:
    return call.capture_reference or call.parent_reference or ""


def notes(call: GatewayCall, *, merchant: bool) -> dict[str, str]:
    """Our notes, by which webhooks and look-ups know the operation; the merchant's only on the order."""
    ours = {OPERATION_NOTE: call.operation_id, PAYMENT_NOTE: call.payment_id, KIND_NOTE: call.kind.value}
    if not merchant:
        return ours
    return {**{key: text for key, text in call.metadata.items() if not key.startswith(PAYER)}, **ours}
