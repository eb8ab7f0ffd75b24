"""`GatewayCall`s for the Stripe tests, with only what a test cares about written out."""

from __future__ import annotations

import itertools
from typing import Any

from aegispay.domain.events import OperationKind
from aegispay.domain.money import Money
from aegispay.gateways.gateway import GatewayCall

API_KEY = "sk_test_4242secret4242"
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
    usual: dict[str, Any] = {
        "gateway_key": operation,
        "payment_id": f"pay_{number:032x}",
        "merchant_id": "default",
        "timeout_s": 10.0,
        "token": "pm_card_visa" if first else None,
        "parent_reference": None if first else "pi_1",
        "parent_kind": None if first else OperationKind.CHARGE,
    }
    return GatewayCall(kind=kind, operation_id=operation, amount=amount, **{**usual, **more})
