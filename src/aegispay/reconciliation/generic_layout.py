"""Our own plain layout, for every PSP whose report can be brought into it: see docs/guides/reconcile.md."""

from __future__ import annotations

from aegispay.reconciliation.lines import Line, Side
from aegispay.reconciliation.table import Row
from aegispay.reconciliation.values import amount_minor, currency_of, our_operations, our_payment, time_us

REQUIRED = ("type", "amount", "currency", "created")
ONE_OF = (("payment_id", "operation_id", "reference", "payment_reference"),)
_SIDES = {
    "charge": Side.TAKEN,
    "capture": Side.TAKEN,
    "refund": Side.REFUNDED,
    "refund_failure": Side.REFUNDED,
}


def read(row: Row) -> Line:
    """One movement. A refund's amount may have either sign; a failed refund gives back what the refund took."""
    kind = row.text("type")
    side = _SIDES.get(kind.lower())
    key = row.text("id")
    if side is None:
        return Line(number=row.number, type=kind, key=key)
    currency = currency_of(row, "currency")
    amount = amount_minor(row, "amount", currency)
    if side is Side.REFUNDED:
        amount = -abs(amount) if kind.lower() == "refund_failure" else abs(amount)
    return Line(
        number=row.number,
        type=kind,
        side=side,
        at_us=time_us(row, "created"),
        amount_minor=amount,
        currency=currency,
        fee_minor=amount_minor(row, "fee", currency) if row.text("fee") else None,
        fee_currency=currency,
        key=key,
        payment_id=our_payment(row.text("payment_id")),
        operation_ids=our_operations(row.text("operation_id")),
        reference=row.text("reference"),
        payment_reference=row.text("payment_reference"),
    )
