"""Razorpay's currencies and minor units, which are ISO 4217's wherever it takes the currency.

The table is Razorpay's own list; a currency that it does not name is refused, not guessed.
"""

from __future__ import annotations

from aegispay.domain.errors import InvalidAmount, UnsupportedOperation
from aegispay.domain.money import Money

_ZERO_DECIMAL = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
ZERO_DECIMAL = frozenset(_ZERO_DECIMAL.split())
"""Counted in whole units. ISK is among them here, while Stripe and Adyen count it in hundredths."""

THREE_DECIMAL = frozenset(["BHD", "IQD", "JOD", "KWD", "OMR", "TND"])
"""Counted in thousandths, whose last digit must be 0."""

_TWO_DECIMAL = """
AED ALL AMD AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BZD CAD CHF CNY COP CRC CUP CVE CZK
DKK DOP DZD EGP ETB EUR FJD GBP GHS GIP GMD GTQ GYD HKD HNL HRK HTG HUF IDR ILS INR JMD KES KGS KHR KYD KZT
LAK LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PEN PGK PHP
PKR PLN QAR RON RSD RUB SAR SCR SEK SGD SLL SOS SVC SZL THB TRY TTD TWD TZS UAH USD UYU UZS XCD YER ZAR
ZMW
"""
TWO_DECIMAL = frozenset(_TWO_DECIMAL.split())
INR_MINOR_MIN = 100
"""Razorpay takes no less than one rupee."""


def razorpay_exponent(code: str) -> int:
    """How many decimals Razorpay's minor unit has. Raises `UnsupportedOperation` for a currency off its list."""
    if code in TWO_DECIMAL:
        return 2
    if code in ZERO_DECIMAL:
        return 0
    if code in THREE_DECIMAL:
        return 3
    raise UnsupportedOperation(f"Razorpay does not take {code}.")


def to_razorpay(money: Money) -> int:
    """The amount in Razorpay's minor units. Raises `InvalidAmount` for one that it cannot express or take.

    They are ISO 4217's for every currency of the list, which a test holds: an amount is checked, not converted.
    """
    code = money.code
    exponent = razorpay_exponent(code)
    amount = money.amount_minor
    if amount <= 0:
        raise InvalidAmount(f"Razorpay takes amounts above zero, not {money.format()}.")
    if exponent == 3 and amount % 10:
        raise InvalidAmount(
            f"Razorpay takes {code} in steps of 0.010, not {money.format()}.",
            hint="Round the last decimal to 0.",
        )
    if code == "INR" and amount < INR_MINOR_MIN:
        raise InvalidAmount(f"Razorpay takes no less than 1.00 INR, not {money.format()}.")
    return amount


def from_razorpay(amount: int, code: str) -> int:
    """Razorpay's amount in our minor units. Raises `UnsupportedOperation` for a currency off its list."""
    razorpay_exponent(code)
    if amount < 0:
        raise ValueError("an amount below zero")
    return amount
