"""Braintree's amounts: decimal strings in major units, with ISO 4217's number of decimals.

The currency stands in no request: it is the merchant account's, so each currency needs an account of its own.
"""

from __future__ import annotations

import re

from aegispay.domain.errors import InvalidAmount
from aegispay.domain.money import Money, exponent_of

_DECIMAL = re.compile(r"(?P<whole>\d{1,16})(?:\.(?P<fraction>\d{1,6}))?", re.ASCII)


def to_braintree(money: Money) -> str:
    """The amount as `"10.00"`. Raises `InvalidAmount` for one that is not above zero."""
    if money.amount_minor <= 0:
        raise InvalidAmount(f"Braintree takes amounts above zero, not {money.format()}.")
    return money.decimal_text()


def from_braintree(text: str, code: str) -> int:
    """Braintree's amount in our minor units. Raises `ValueError` for one that has no whole number of them."""
    found = _DECIMAL.fullmatch(text)
    if found is None:
        raise ValueError("not a decimal amount")
    exponent = exponent_of(code)
    fraction = found["fraction"] or ""
    kept, rest = fraction[:exponent].ljust(exponent, "0"), fraction[exponent:]
    if rest.strip("0"):
        raise ValueError(f"{text} is not a whole number of {code}'s minor units")
    return int(found["whole"] + kept)
