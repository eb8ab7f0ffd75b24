"""Amounts and times as reports write them: decimal text becomes integer minor units, with no float and no rounding."""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo

from aegispay.domain.errors import InvalidAmount, PaymentNotFound, UnknownCurrency
from aegispay.domain.ids import check_payment_id
from aegispay.domain.money import Currency, Money
from aegispay.reconciliation.table import Row

_OPERATION_ID = re.compile(r"op_[0-9a-f]{32}\Z")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def currency_of(row: Row, column: str) -> str:
    """The ISO 4217 code in a cell."""
    try:
        return Currency.of(row.text(column)).code
    except UnknownCurrency:
        raise row.wrong(column, "is not a currency.", "It must be an ISO 4217 code such as EUR.") from None


def amount_minor(row: Row, column: str, currency: str, *, empty_is_zero: bool = False) -> int:
    """The signed amount in a cell, in the currency's minor units."""
    text = row.text(column)
    if not text and empty_is_zero:
        return 0
    whole, dot, fraction = text.partition(".")
    exponent = Currency.of(currency).exponent
    if dot and len(fraction) > exponent and not fraction[exponent:].strip("0") and fraction.isascii():
        # Reports write 500.00 JPY and 12.5000 EUR: zeros beyond the minor unit change nothing.
        text = f"{whole}.{fraction[:exponent]}" if exponent else whole
    try:
        return Money.parse(text, currency).amount_minor
    except InvalidAmount:
        raise row.wrong(
            column,
            f"is not an amount in {currency}.",
            "Amounts are in major units with a decimal point and no thousands separators: -1234.50.",
        ) from None


def time_us(row: Row, column: str, zone: tzinfo = UTC) -> int:
    """The time in a cell, in microseconds since 1970. Where it names no zone it is one of `zone`."""
    try:
        found = datetime.fromisoformat(row.text(column))
        if found.tzinfo is None:
            found = found.replace(tzinfo=zone)
        since = found - _EPOCH
    except (ValueError, OverflowError):
        raise row.wrong(column, "is not a time.", "Times are like 2026-05-01 12:00:00.") from None
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def our_payment(text: str) -> str:
    """The text where it is a payment id of ours, else nothing."""
    try:
        return check_payment_id(text)
    except PaymentNotFound:
        return ""


def our_operations(*texts: str) -> tuple[str, ...]:
    """Those texts that are operation ids of ours, each once."""
    return tuple(dict.fromkeys(text for text in texts if _OPERATION_ID.match(text)))
