"""Stripe's own idea of minor units, and the way there and back from ISO 4217's.

Stripe departs from ISO 4217 for a handful of currencies; whoever mixes the two up charges a hundredfold.
"""

from __future__ import annotations

from aegispay.domain.errors import InvalidAmount, UnsupportedOperation
from aegispay.domain.money import Money, exponent_of

ZERO_DECIMAL = frozenset(
    {
        "BIF",
        "CLP",
        "DJF",
        "GNF",
        "JPY",
        "KMF",
        "KRW",
        "MGA",
        "PYG",
        "RWF",
        "VND",
        "VUV",
        "XAF",
        "XOF",
        "XPF",
    }
)
"""Counted in whole units by Stripe. MGA has two decimals in ISO 4217."""

WHOLE_UNITS_IN_HUNDREDTHS = frozenset({"ISK", "UGX"})
"""Counted in hundredths by Stripe, always multiples of 100, though ISO 4217 gives them no decimals."""

NOT_TAKEN = frozenset({"CLF", "UYI", "UYW", "IQD", "LYD"})
"""Currencies whose exponents Stripe has no rule for: units of account, and the three-decimal ones that it does not list."""

STRIPE_AMOUNT_MAX = 99_999_999
"""Eight digits in Stripe's minor units."""

STRIPE_AMOUNT_MAX_OF = {"IDR": 999_999_999_999}
"""Currencies whose ordinary prices need more digits."""


def stripe_exponent(code: str) -> int:
    """How many decimals Stripe's minor unit of this currency has."""
    if code in NOT_TAKEN:
        raise UnsupportedOperation(f"Stripe does not take {code}.")
    if code in ZERO_DECIMAL:
        return 0
    if code in WHOLE_UNITS_IN_HUNDREDTHS:
        return 2
    return exponent_of(code)


def to_stripe(money: Money) -> int:
    """The amount in Stripe's minor units.

    Raises `InvalidAmount` for one that Stripe cannot express or does not take, `UnsupportedOperation` for a
    currency that it has no rule for.
    """
    code = money.code
    exponent = stripe_exponent(code)
    shift = exponent - exponent_of(code)
    if money.amount_minor <= 0:
        raise InvalidAmount(f"Stripe takes amounts above zero, not {money.format()}.")
    if shift >= 0:
        amount = money.amount_minor * int(10**shift)
    else:
        amount, rest = divmod(money.amount_minor, int(10**-shift))
        if rest:
            raise InvalidAmount(f"Stripe takes whole {code} only, not {money.format()}.")
    if exponent == 3 and amount % 10:
        raise InvalidAmount(
            f"Stripe takes {code} in steps of 0.010, not {money.format()}.",
            hint="Round the last decimal to 0.",
        )
    if amount > STRIPE_AMOUNT_MAX_OF.get(code, STRIPE_AMOUNT_MAX):
        raise InvalidAmount(f"{money.format()} is more than Stripe takes in one payment.")
    return amount


def from_stripe(amount: int, code: str) -> int:
    """Stripe's amount in our minor units. Raises `ValueError` for one that has no whole number of them."""
    shift = stripe_exponent(code) - exponent_of(code)
    if shift <= 0:
        return amount * int(10**-shift)
    whole, rest = divmod(amount, int(10**shift))
    if rest:
        raise ValueError(f"{amount} is not a whole number of {code}")
    return whole
