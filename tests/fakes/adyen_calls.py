"""`GatewayCall`s for the Adyen tests, with only what a test cares about written out."""

from __future__ import annotations

import itertools
from typing import Any

from aegispay.domain.events import OperationKind
from aegispay.domain.money import Money
from aegispay.gateways.adyen.requests import Defaults
from aegispay.gateways.gateway import GatewayCall

API_KEY = "AQE_test_secret_key_9917"
ACCOUNT = "TestMerchant"
DEFAULTS = Defaults(merchant_account=ACCOUNT)
PSP = "8535296650153317"
"""The payment that captures, voids and refunds act on."""
_numbers = itertools.count(1)


def call(
    kind: OperationKind = OperationKind.CHARGE, amount: Money | str = "10.00 EUR", **more: Any
) -> GatewayCall:
    """A call of its own operation. The kind's usual needs are filled in."""
    number = next(_numbers)
    operation = more.pop("operation_id", f"op_{number:032x}")
    if isinstance(amount, str):
        amount = Money.parse(*amount.split())
    first = kind in (OperationKind.AUTHORIZE, OperationKind.CHARGE)
    confirm = kind is OperationKind.CONFIRM
    usual: dict[str, Any] = {
        "gateway_key": operation,
        "payment_id": f"pay_{number:032x}",
        "merchant_id": "default",
        "timeout_s": 10.0,
        "token": "8415995487234100" if first else None,
        "customer_id": "shopper-7",
        "return_url": "https://shop.example/back",
        "parent_reference": None if first else PSP,
        "parent_operation_id": None if first else f"op_{0:032x}",
        "parent_kind": None if first else OperationKind.AUTHORIZE,
        "action_data": {"redirectResult": "eyJ0cmFu"} if confirm else {},
    }
    return GatewayCall(kind=kind, operation_id=operation, amount=amount, **{**usual, **more})
