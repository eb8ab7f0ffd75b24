"""PayPal's amounts: decimal text in major units, and the way there and back from our minor units.

HUF and TWD have two decimals in ISO 4217 and none here. A currency that PayPal's list of currency codes does not name is
refused, not guessed; INR left that list in April 2021, when PayPal ended payments within India.
"""

from __future__ import annotations

import re

from aegispay.domain.errors import InvalidAmount, UnsupportedOperation
from aegispay.domain.money import Money, exponent_of

ZERO_DECIMAL = frozenset({"HUF", "JPY", "TWD"})
_TWO_DECIMAL = """
AUD BRL CAD CHF CNY CZK DKK EUR GBP HKD ILS MXN MYR NOK NZD PHP PLN RUB SEK SGD THB USD
"""
TWO_DECIMAL = frozenset(_TWO_DECIMAL.split())
_TEXT = re.compile(r"(?P<whole>\d{1,16})(?:\.(?P<fraction>\d{1,6}))?", re.ASCII)


def paypal_exponent(code: str) -> int:
    """How many decimals PayPal writes. Raises `UnsupportedOperation` for a currency off its list."""
    if code in ZERO_DECIMAL:
        return 0
    if code in TWO_DECIMAL:
        return 2
    raise UnsupportedOperation(f"PayPal does not take {code}.")


def to_paypal(money: Money) -> str:
    """The amount as PayPal's decimal text. Raises `InvalidAmount` for one that it cannot express."""
    code = money.code
    exponent = paypal_exponent(code)
    if money.amount_minor <= 0:
        raise InvalidAmount(f"PayPal takes amounts above zero, not {money.format()}.")
    whole, rest = divmod(money.amount_minor, int(10 ** exponent_of(code)))
    if exponent == 0:
        if rest:
            raise InvalidAmount(f"PayPal takes whole {code} only, not {money.format()}.")
        return str(whole)
    return f"{whole}.{rest:02d}"


def from_paypal(value: str, code: str) -> int:
    """PayPal's amount in our minor units. Raises `ValueError` for text that is no amount of this currency."""
    match = _TEXT.fullmatch(value)
    if match is None:
        raise ValueError("not an amount")
    exponent = exponent_of(code)
    fraction = (match["fraction"] or "").ljust(exponent, "0")
    if fraction[exponent:].strip("0"):
        raise ValueError(f"too many decimals for {code}")
    return int(match["whole"] + fraction[:exponent])
