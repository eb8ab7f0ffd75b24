"""`GatewayCall`s and Razorpay objects for the tests, with only what a test cares about written out."""

from __future__ import annotations

import itertools
from typing import Any

from aegispay.domain.events import OperationKind
from aegispay.domain.money import Money
from aegispay.gateways.gateway import GatewayCall

KEY_ID = "rzp_test_abcdefghij"
KEY_SECRET = "thekeysecret4242thekeysecret"
WEBHOOK_SECRET = "thewebhooksecret4242"
PAYER = {
    "razorpay_email": "gaurav.kumar@example.com",
    "razorpay_contact": "+919000090000",
    "razorpay_ip": "105.106.107.108",
    "razorpay_user_agent": "Mozilla/5.0",
}
_numbers = itertools.count(1)


def call(
    kind: OperationKind = OperationKind.CHARGE, amount: Money | str = "10.00 INR", **more: Any
) -> GatewayCall:
    """A call of its own operation. The kind's usual needs (a token, a payer, a parent) are filled in."""
    number = next(_numbers)
    operation = more.pop("operation_id", f"op_{number:032x}")
    if isinstance(amount, str):
        amount = Money.parse(*amount.split())
    first = kind in (OperationKind.AUTHORIZE, OperationKind.CHARGE)
    usual: dict[str, Any] = {
        "gateway_key": operation,
        "payment_id": f"pay_{number:032x}",
        "merchant_id": "default",
        "timeout_s": 10.0,
        "token": "token_HMtDKn3TnF4D8x" if first else None,
        "metadata": dict(PAYER) if first else {},
        "parent_reference": None if first else "pay_1",
        "parent_operation_id": None if first else f"op_{0:032x}",
        "parent_kind": None if first else OperationKind.CHARGE,
    }
    return GatewayCall(kind=kind, operation_id=operation, amount=amount, **{**usual, **more})


def order(of: GatewayCall, **fields: Any) -> dict[str, Any]:
    return {
        "id": "order_1",
        "entity": "order",
        "amount": 1000,
        "currency": of.amount.code,
        "receipt": of.operation_id,
        "status": "created",
        "notes": [],
        **fields,
    }


def payment(status: str = "captured", **fields: Any) -> dict[str, Any]:
    return {
        "id": "pay_1",
        "entity": "payment",
        "amount": 1000,
        "currency": "INR",
        "status": status,
        "order_id": "order_1",
        "captured": status in ("captured", "refunded"),
        "notes": [],
        "error_code": "BAD_REQUEST_ERROR" if status == "failed" else None,
        "error_reason": "payment_failed" if status == "failed" else None,
        "created_at": 1_700_000_000,
        **fields,
    }


def refund(of: GatewayCall, status: str | None = "processed", **fields: Any) -> dict[str, Any]:
    return {
        "id": "rfnd_1",
        "entity": "refund",
        "amount": 1000,
        "currency": "INR",
        "payment_id": "pay_1",
        "receipt": of.operation_id,
        "status": status,
        "notes": {"aegispay_operation": of.operation_id},
        **fields,
    }


def page(*items: Any) -> dict[str, Any]:
    return {"entity": "collection", "count": len(items), "items": list(items)}


def error(description: str = "no", code: str = "BAD_REQUEST_ERROR", **fields: Any) -> dict[str, Any]:
    return {"error": {"code": code, "description": description, **fields}}
