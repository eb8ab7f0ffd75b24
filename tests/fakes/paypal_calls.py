"""`GatewayCall`s and PayPal objects for the tests, with only what a test cares about written out."""

from __future__ import annotations

import datetime
import itertools
from typing import Any

from aegispay.domain.events import OperationKind
from aegispay.domain.money import Money
from aegispay.gateways.gateway import GatewayCall

CLIENT_ID = "AZDxjDScFpQtjWTOUtWKbyN_bDt4OgqaF4eYXlewfBP4"
CLIENT_SECRET = "EGnHDxD_qRPdaLdZz8iCr8N7_MzF-YHPTkjs6NKYQvQSBngp4PTTVWkPZRbL"
TOKEN = "A21AAFEpH4PsADK7qSS7pSRsgzfENtu-Q1ysgEDVDESseMHBYXVJYE8ovjj68elIDy8nF26AwPhfXTIeWAZHSLIsQkSYz9ifg"
ORDER = "5O190127TN364715T"
CAPTURE = "3C679366HH908993F"
AUTHORIZATION = "0VF52814937998046"
REFUND = "1JU08902781691411"
_numbers = itertools.count(1)


def call(
    kind: OperationKind = OperationKind.CHARGE, amount: Money | str = "10.00 USD", **more: Any
) -> GatewayCall:
    """A call of its own operation. The kind's usual needs (a token, a parent) are filled in."""
    number = next(_numbers)
    operation = more.pop("operation_id", f"op_{number:032x}")
    if isinstance(amount, str):
        amount = Money.parse(*amount.split())
    first = kind in (OperationKind.AUTHORIZE, OperationKind.CHARGE)
    parents = {
        OperationKind.CONFIRM: (ORDER, OperationKind.CHARGE),
        OperationKind.CAPTURE: (AUTHORIZATION, OperationKind.AUTHORIZE),
        OperationKind.VOID: (AUTHORIZATION, OperationKind.AUTHORIZE),
        OperationKind.REFUND: (CAPTURE, OperationKind.CHARGE),
    }
    reference, parent_kind = parents.get(kind, (None, None))
    usual: dict[str, Any] = {
        "gateway_key": operation,
        "payment_id": f"pay_{number:032x}",
        "merchant_id": "default",
        "timeout_s": 10.0,
        "token": "card:8kk8451t" if first else None,
        "parent_reference": reference,
        "parent_operation_id": None if first else f"op_{0:032x}",
        "parent_kind": parent_kind,
        "started_at_us": 1_700_000_000_000_000,
    }
    return GatewayCall(kind=kind, operation_id=operation, amount=amount, **{**usual, **more})


def money(value: str = "10.00", code: str = "USD") -> dict[str, str]:
    return {"currency_code": code, "value": value}


def custom_id(of: GatewayCall | None) -> str | None:
    tag = "/refund" if of is not None and of.kind is OperationKind.REFUND else ""
    return f"{of.operation_id}/{of.payment_id}{tag}" if of is not None else None


def made(
    of: GatewayCall | None, status: str = "COMPLETED", id: str = CAPTURE, **fields: Any
) -> dict[str, Any]:
    """A capture or an authorization, made by this operation."""
    own = of.operation_id if of is not None else None
    return {
        "id": id,
        "status": status,
        "amount": money(),
        "custom_id": custom_id(of),
        "invoice_id": own,
        "links": [
            {"rel": "up", "href": f"https://api-m.paypal.com/v2/checkout/orders/{ORDER}", "method": "GET"}
        ],
        **fields,
    }


def declined(of: GatewayCall | None, code: str | None = "5120", **fields: Any) -> dict[str, Any]:
    processor = {"processor_response": {"response_code": code}} if code else {}
    return made(of, "DECLINED", **processor, **fields)


def order(
    of: GatewayCall | str | None,
    status: str = "COMPLETED",
    captures: Any = (),
    authorizations: Any = (),
    refunds: Any = (),
    **fields: Any,
) -> dict[str, Any]:
    own = of.operation_id if isinstance(of, GatewayCall) else of
    custom = custom_id(of) if isinstance(of, GatewayCall) else of
    return {
        "id": ORDER,
        "status": status,
        "intent": "CAPTURE",
        "purchase_units": [
            {
                "reference_id": "default",
                "custom_id": custom,
                "invoice_id": own,
                "amount": money(),
                "payments": {
                    "captures": list(captures),
                    "authorizations": list(authorizations),
                    "refunds": list(refunds),
                },
            }
        ],
        "links": [],
        **fields,
    }


APPROVE = [
    {"rel": "self", "href": f"https://api-m.paypal.com/v2/checkout/orders/{ORDER}"},
    {"rel": "payer-action", "href": f"https://www.paypal.com/checkoutnow?token={ORDER}"},
]


def refund(of: GatewayCall, status: str = "COMPLETED", **fields: Any) -> dict[str, Any]:
    return {
        "id": REFUND,
        "status": status,
        "amount": money(),
        "invoice_id": of.operation_id,
        "custom_id": custom_id(of),
        "links": [{"rel": "up", "href": f"https://api-m.paypal.com/v2/payments/captures/{CAPTURE}"}],
        **fields,
    }


def error(issue: str, name: str = "UNPROCESSABLE_ENTITY", **fields: Any) -> dict[str, Any]:
    return {
        "name": name,
        "message": "no",
        "debug_id": "90957fca61718",
        "details": [{"issue": issue, **fields}],
    }


def text_of(moment_us: int) -> str:
    moment = datetime.datetime.fromtimestamp(moment_us / 1_000_000, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
