"""Stripe's itemised balance change from activity, and the balance history that has the same columns.

Columns: https://docs.stripe.com/reports/report-types/balance (balance_change_from_activity.itemized.3); categories:
https://docs.stripe.com/reports/reporting-categories. Amounts are in major units, refunds negative.
"""

from __future__ import annotations

from aegispay.reconciliation.lines import Line, Side
from aegispay.reconciliation.table import Row
from aegispay.reconciliation.values import amount_minor, currency_of, our_operations, our_payment, time_us

REQUIRED = ("balance_transaction_id", "reporting_category", "currency", "gross")
ONE_OF = (
    ("created_utc", "created"),
    ("payment_intent_id", "charge_id", "source_id", "payment_metadata[aegispay_payment]"),
)
_SIDES = {
    "charge": Side.TAKEN,
    # Of an authorisation that was captured in part Stripe writes two rows: the whole, and what was not captured.
    "partial_capture_reversal": Side.TAKEN,
    "charge_failure": Side.TAKEN,
    "refund": Side.REFUNDED,
    "refund_failure": Side.REFUNDED,
}


def read(row: Row) -> Line:
    """One balance transaction."""
    category = row.text("reporting_category")
    # `created` is in the zone that the report was asked in, which it does not name: UTC unless asked otherwise.
    at_us = time_us(row, "created_utc" if row.text("created_utc") else "created")
    side = _SIDES.get(category.lower())
    key = row.text("balance_transaction_id")
    if side is None:
        return Line(number=row.number, type=category, at_us=at_us, key=key)
    balance_currency = currency_of(row, "currency")
    currency, gross = balance_currency, amount_minor(row, "gross", balance_currency)
    if row.text("customer_facing_amount") and row.text("customer_facing_currency"):
        facing = currency_of(row, "customer_facing_currency")
        if facing != balance_currency:
            # Settled in another currency than the payer's: our books have the payer's.
            size = abs(amount_minor(row, "customer_facing_amount", facing))
            currency, gross = facing, -size if gross < 0 else size
    fee = amount_minor(row, "fee", balance_currency) if row.text("fee") else None
    charge = row.text("charge_id")
    source = row.text("source_id")
    refund = side is Side.REFUNDED
    return Line(
        number=row.number,
        type=category,
        side=side,
        at_us=at_us,
        amount_minor=-gross if refund else gross,
        currency=currency,
        fee_minor=fee,
        fee_currency=balance_currency,
        key=key,
        payment_id=our_payment(row.text("payment_metadata[aegispay_payment]"))
        or our_payment(row.text("refund_metadata[aegispay_payment]")),
        operation_ids=our_operations(
            row.text("refund_metadata[aegispay_operation]"), row.text("payment_metadata[aegispay_operation]")
        ),
        reference=source if refund else charge or source,
        payment_reference=row.text("payment_intent_id"),
        other_references=(charge,) if refund and charge else (),
    )
