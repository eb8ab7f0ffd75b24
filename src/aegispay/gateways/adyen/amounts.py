"""Adyen's own idea of minor units, and the way there and back from ISO 4217's.

Adyen departs from ISO 4217 for four currencies; whoever mixes the two up charges a hundredfold or a hundredth.
"""

from __future__ import annotations

from aegispay.domain.errors import InvalidAmount, UnsupportedOperation
from aegispay.domain.money import Money, exponent_of

EXPONENTS = {"CLP": 2, "CVE": 0, "IDR": 0, "ISK": 2}
"""Where Adyen's number of decimals is not ISO 4217's (Adyen: development-resources/currency-codes)."""

NOT_TAKEN = frozenset({"CLF", "UYI", "UYW"})
"""Units of account that are no currency of Adyen's list."""


def adyen_exponent(code: str) -> int:
    """How many decimals Adyen's minor unit of this currency has."""
    if code in NOT_TAKEN:
        raise UnsupportedOperation(f"Adyen does not take {code}.")
    return EXPONENTS.get(code, exponent_of(code))


def to_adyen(money: Money) -> int:
    """The amount in Adyen's minor units. Raises `InvalidAmount` for one that Adyen cannot express."""
    if money.amount_minor <= 0:
        raise InvalidAmount(f"Adyen takes amounts above zero, not {money.format()}.")
    shift = adyen_exponent(money.code) - exponent_of(money.code)
    if shift >= 0:
        return money.amount_minor * int(10**shift)
    amount, rest = divmod(money.amount_minor, int(10**-shift))
    if rest:
        raise InvalidAmount(f"Adyen takes whole {money.code} only, not {money.format()}.")
    return amount


def from_adyen(value: int, code: str) -> int:
    """Adyen's amount in our minor units. Raises `ValueError` for one that has no whole number of them."""
    shift = adyen_exponent(code) - exponent_of(code)
    if shift <= 0:
        return value * int(10**-shift)
    whole, rest = divmod(value, int(10**shift))
    if rest:
        raise ValueError(f"{value} is not a whole number of {code}")
    return whole
