"""Money: integer minor units of an ISO 4217 currency. No float ever holds an amount.

Currencies and their exponents come from the `iso4217` package, which follows the maintenance agency's list.
What one PSP counts differently (ISK at Stripe, say) is that adapter's business, not this module's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import iso4217
import msgspec

from aegispay.domain.errors import CurrencyMismatch, InvalidAmount, UnknownCurrency

AMOUNT_MINOR_MAX = 10**15
"""No amount of more minor units than this is taken: it fits a signed 64-bit column with room for sums."""

_DECIMAL = re.compile(r"(?P<sign>-?)(?P<whole>\d+)(?:\.(?P<fraction>\d+))?\Z", re.ASCII)


def _shown(value: object) -> str:
    """A refused value for an error message. It may be of any type and size: only short text is quoted."""
    if isinstance(value, str):
        return repr(value) if len(value) <= 40 else f"{value[:40]!r}..."
    return repr(value) if isinstance(value, float | bool) else f"of type {type(value).__name__}"


class _CurrencyType(type):
    """Lets `Currency.USD` be written for any ISO 4217 code."""

    def __getattr__(cls, code: str) -> Currency:
        if len(code) == 3 and code.isupper():
            try:
                return Currency.of(code)
            except UnknownCurrency as error:
                raise AttributeError(str(error)) from None
        raise AttributeError(code)

    def __iter__(cls) -> Any:
        return iter(_TABLE.values())

    def __len__(cls) -> int:
        return len(_TABLE)


class Currency(metaclass=_CurrencyType):
    """One ISO 4217 currency that has minor units: `Currency.USD`, `Currency.of("usd")`."""

    __slots__ = ("code", "exponent", "name", "number")

    code: str
    """Alphabetic code, upper case."""
    exponent: int
    """How many decimals the minor unit has: 2 for USD, 0 for JPY, 3 for KWD."""
    number: int
    """Numeric code."""
    name: str

    def __init__(self, code: str, exponent: int, number: int, name: str):
        object.__setattr__(self, "code", code)
        object.__setattr__(self, "exponent", exponent)
        object.__setattr__(self, "number", number)
        object.__setattr__(self, "name", name)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a currency cannot be changed")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a currency cannot be changed")

    def __reduce__(self) -> tuple[Any, ...]:
        return (Currency.of, (self.code,))

    @staticmethod
    def of(code: str | Currency) -> Currency:
        """The currency with this alphabetic code, in either case.

        Raises `UnknownCurrency` for a code that ISO 4217 does not list, or lists without minor units (XAU).
        """
        if isinstance(code, Currency):
            return code
        found = _TABLE.get(code) if isinstance(code, str) else None
        # Only ASCII is folded: "\u0131nr".upper() is "INR", and nobody meant that.
        if found is None and isinstance(code, str) and len(code) == 3 and code.isascii():
            found = _TABLE.get(code.upper())
        if found is None:
            raise UnknownCurrency(
                f"unknown currency {_shown(code)}.", hint="Use an ISO 4217 alphabetic code such as 'USD'."
            )
        return found

    def __str__(self) -> str:
        return self.code

    def __repr__(self) -> str:
        return f"Currency.{self.code}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Currency) and other.code == self.code

    def __hash__(self) -> int:
        return hash(self.code)


_TABLE: dict[str, Currency] = {
    entry.code: Currency(entry.code, entry.exponent, entry.number, entry.currency_name)
    for entry in iso4217.Currency
    if entry.exponent is not None and entry.code != "XTS"
}


@lru_cache(maxsize=512)
def exponent_of(code: str) -> int:
    """The ISO 4217 exponent of an alphabetic code."""
    return Currency.of(code).exponent


class Money(msgspec.Struct, frozen=True, gc=False, order=False):
    """An amount in integer minor units: `Money(9999, Currency.USD)` is `Money.parse("99.99", "USD")`.

    `amount_minor` may be zero or negative (sums and differences are money too); what a payment may ask for is
    checked where the payment is made. Limit: +-10^15 minor units. Raises `InvalidAmount` for anything that is
    not an integer (floats and booleans among them) and `UnknownCurrency`.
    """

    amount_minor: int
    currency: Any
    """A `Currency`; an alphabetic code is taken too and turned into one."""

    def __post_init__(self) -> None:
        amount = self.amount_minor
        if type(amount) is not int:
            kind = type(amount).__name__
            raise InvalidAmount(
                f"an amount is an integer in minor units, not {kind}.",
                hint="Use Money.parse('99.99', 'USD') for decimal text.",
            )
        if not -AMOUNT_MINOR_MAX <= amount <= AMOUNT_MINOR_MAX:
            # The amount is not quoted: Python refuses to print integers of more than 4,300 digits.
            raise InvalidAmount(f"an amount is at most {AMOUNT_MINOR_MAX} minor units.")
        if type(self.currency) is not Currency:
            msgspec.structs.force_setattr(self, "currency", Currency.of(self.currency))

    @classmethod
    def parse(cls, text: str, currency: Currency | str) -> Money:
        """Reads a decimal amount in major units, such as `"99.99"`.

        Refused with `InvalidAmount`: more decimals than the currency has ("99.999" USD), floats, exponents,
        thousands separators, signs other than a leading minus, and empty text.
        """
        found = Currency.of(currency)
        if not isinstance(text, str):
            raise InvalidAmount(
                f"an amount in major units is text such as '99.99', not {type(text).__name__}.",
                hint="A float cannot hold most decimal amounts exactly.",
            )
        match = _DECIMAL.match(text.strip()) if len(text) <= 40 else None
        if match is None:
            raise InvalidAmount(f"{text[:40]!r} is not an amount.", hint="Write it like '99.99'.")
        fraction = match["fraction"] or ""
        if len(fraction) > found.exponent:
            raise InvalidAmount(
                f"{text.strip()!r} has {len(fraction)} decimals, but {found.code} has {found.exponent}."
            )
        minor = int(match["whole"] + fraction.ljust(found.exponent, "0"))
        return cls(-minor if match["sign"] else minor, found)

    @property
    def code(self) -> str:
        """The currency's alphabetic code."""
        return str(self.currency.code)

    def decimal_text(self) -> str:
        """The amount in major units, without the currency: `"99.99"`."""
        digits = self.currency.exponent
        sign = "-" if self.amount_minor < 0 else ""
        text = str(abs(self.amount_minor)).rjust(digits + 1, "0")
        return f"{sign}{text[:-digits]}.{text[-digits:]}" if digits else f"{sign}{text}"

    def format(self) -> str:
        """The amount for people and logs: `"99.99 USD"`, `"1,234,567 JPY"`."""
        whole, dot, fraction = self.decimal_text().partition(".")
        return f"{int(whole):,}{dot}{fraction} {self.code}" if whole != "-0" else f"-0.{fraction} {self.code}"

    def __str__(self) -> str:
        return self.format()

    def __repr__(self) -> str:
        return f"Money({self.amount_minor}, {self.code})"

    def _same(self, other: object) -> Money:
        if not isinstance(other, Money):
            raise TypeError(f"money and {type(other).__name__} cannot be combined")
        if other.currency.code != self.currency.code:
            raise CurrencyMismatch(f"{self.code} and {other.code} cannot be combined.")
        return other

    def __add__(self, other: Money) -> Money:
        return Money(self.amount_minor + self._same(other).amount_minor, self.currency)

    def __sub__(self, other: Money) -> Money:
        return Money(self.amount_minor - self._same(other).amount_minor, self.currency)

    def __mul__(self, factor: int) -> Money:
        if type(factor) is not int:
            raise TypeError("money is multiplied by integers only; use allocate() for shares")
        return Money(self.amount_minor * factor, self.currency)

    __rmul__ = __mul__

    def __neg__(self) -> Money:
        return Money(-self.amount_minor, self.currency)

    def __bool__(self) -> bool:
        return self.amount_minor != 0

    def __lt__(self, other: Money) -> bool:
        return self.amount_minor < self._same(other).amount_minor

    def __le__(self, other: Money) -> bool:
        return self.amount_minor <= self._same(other).amount_minor

    def __gt__(self, other: Money) -> bool:
        return self.amount_minor > self._same(other).amount_minor

    def __ge__(self, other: Money) -> bool:
        return self.amount_minor >= self._same(other).amount_minor

    def allocate(self, ratios: Sequence[int]) -> list[Money]:
        """Splits the amount by integer ratios without losing a unit; largest remainders get the odd units.

        `Money.parse("100.00", "USD").allocate([1, 1, 1])` gives 33.34, 33.33, 33.33. Ratios are not negative
        and not all zero; raises `InvalidAmount` otherwise.
        """
        if not ratios or any(type(ratio) is not int or ratio < 0 for ratio in ratios) or not sum(ratios):
            raise InvalidAmount("ratios are integers, none negative, not all zero.")
        total = sum(ratios)
        sign = -1 if self.amount_minor < 0 else 1
        size = abs(self.amount_minor)
        shares = [size * ratio // total for ratio in ratios]
        by_remainder = sorted(range(len(ratios)), key=lambda i: (-(size * ratios[i] % total), i))
        for index in by_remainder[: size - sum(shares)]:
            shares[index] += 1
        return [Money(sign * share, self.currency) for share in shares]
