"""Adyen's settlement details report.

Columns and journal types: https://docs.adyen.com/reporting/settlement-reconciliation/transaction-level/settlement-details-report
(`Modification Merchant Reference` and metadata are columns that can be added). Our operation's id is the merchant reference.
"""

from __future__ import annotations

from datetime import timedelta, timezone, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

from aegispay.reconciliation.lines import Line, Side
from aegispay.reconciliation.table import Row
from aegispay.reconciliation.values import amount_minor, currency_of, our_operations, our_payment, time_us

REQUIRED = (
    "Psp Reference",
    "Merchant Reference",
    "Creation Date",
    "Type",
    "Modification Reference",
    "Gross Currency",
    "Gross Debit (GC)",
    "Gross Credit (GC)",
)
ONE_OF: tuple[tuple[str, ...], ...] = ()
_SIDES = {
    "settled": Side.TAKEN,
    "settledreversed": Side.TAKEN,
    "settledexternallywithinfo": Side.TAKEN,
    "refunded": Side.REFUNDED,
    "refundedreversed": Side.REFUNDED,
    "refundedexternallywithinfo": Side.REFUNDED,
}
_HOURS = {
    "UTC": 0, "GMT": 0, "WET": 0, "BST": 1, "WEST": 1, "CET": 1, "CEST": 2, "EET": 2, "EEST": 3, "MSK": 3,
    "SGT": 8, "HKT": 8, "AWST": 8, "JST": 9, "AEST": 10, "AEDT": 11, "NZST": 12, "NZDT": 13,
    "BRT": -3, "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7,
}  # fmt: skip
"""The abbreviations that accounts are set to; BST is Britain's, CST America's."""


def read(row: Row) -> Line:
    """One journal entry."""
    kind = row.text("Type")
    side = _SIDES.get(kind.lower())
    if side is None:
        return Line(number=row.number, type=kind)
    currency = currency_of(row, "Gross Currency")
    if not row.text("Gross Debit (GC)") and not row.text("Gross Credit (GC)"):
        raise row.wrong("Gross Credit (GC)", "is no amount, and there is no debit.", "Download it again.")
    gross = _difference(row, "Gross Credit (GC)", "Gross Debit (GC)", currency)
    psp = row.text("Psp Reference")
    merchant, of_modification = row.text("Merchant Reference"), row.text("Modification Merchant Reference")
    return Line(
        number=row.number,
        type=kind,
        side=side,
        at_us=time_us(row, "Creation Date", _zone(row)),
        amount_minor=-gross if side is Side.REFUNDED else gross,
        currency=currency,
        fee_minor=_fee_minor(row, currency, gross),
        fee_currency=currency,
        payment_id=our_payment(row.text("Metadata[aegispay_payment]")),
        operation_ids=our_operations(of_modification, merchant),
        reference=row.text("Modification Reference"),
        payment_reference=psp,
    )


def _difference(row: Row, credit: str, debit: str, currency: str) -> int:
    plus = amount_minor(row, credit, currency, empty_is_zero=True)
    return plus - amount_minor(row, debit, currency, empty_is_zero=True)


def _fee_minor(row: Row, currency: str, gross: int) -> int | None:
    """Gross less net. The single fees may have more decimals than the currency; their sum as booked has not."""
    if row.text("Net Currency").upper() != currency:
        return None
    if not row.text("Net Credit (NC)") and not row.text("Net Debit (NC)"):
        return None
    return gross - _difference(row, "Net Credit (NC)", "Net Debit (NC)", currency)


def _zone(row: Row) -> tzinfo:
    found = _zone_named(row.text("TimeZone") or "UTC")
    if found is None:
        raise row.wrong(
            "TimeZone",
            "is not a time zone that is known here.",
            "Set the account's reports to UTC, or edit it.",
        )
    return found


@lru_cache(maxsize=64)
def _zone_named(name: str) -> tzinfo | None:
    hours = _HOURS.get(name.upper())
    if hours is not None:
        return timezone(timedelta(hours=hours))
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        return None
