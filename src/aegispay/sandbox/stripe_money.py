"""How Stripe counts amounts, written down apart from the adapter, so that each checks the other."""

from __future__ import annotations

from aegispay.domain.errors import UnknownCurrency
from aegispay.domain.money import exponent_of

ZERO_DECIMAL = frozenset(
    "BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF".split()  # noqa: SIM905
)
WHOLE_UNITS_IN_CENTS = frozenset({"ISK", "UGX"})
"""Two decimals on the wire, and the amount must be a multiple of 100."""
THREE_DECIMAL = frozenset(["BHD", "JOD", "KWD", "OMR", "TND"])
AMOUNT_MAX = 99_999_999


def wire_exponent(currency: str) -> int:
    """How many decimals Stripe's integer amounts have in this currency."""
    if currency in ZERO_DECIMAL:
        return 0
    return 3 if currency in THREE_DECIMAL else 2


def known_currency(code: str) -> str | None:
    """The ISO 4217 code in upper case, or None where there is no such currency."""
    try:
        exponent_of(code.upper())
    except UnknownCurrency:
        return None
    return code.upper()


def amount_rule_broken(amount: int, currency: str) -> str | None:
    """Why Stripe takes no such amount, or None."""
    if currency in WHOLE_UNITS_IN_CENTS and amount % 100:
        return f"amounts in {currency} have no decimals: they are multiples of 100"
    if currency in THREE_DECIMAL and amount % 10:
        return f"amounts in {currency} end in 0"
    return None


def to_iso_minor(amount: int, currency: str) -> int:
    """Stripe's amount in ISO 4217 minor units."""
    difference = exponent_of(currency) - wire_exponent(currency)
    if difference >= 0:
        return int(amount * 10**difference)
    return int(amount // 10**-difference)
