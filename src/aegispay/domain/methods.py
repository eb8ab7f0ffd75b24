"""Payment methods: tokens first. A raw card is a value that never prints, pickles or serialises.

What an event or a table may hold of a method is its `MethodSnapshot`: kind, token, brand, last four
digits, expiry.
"""

from __future__ import annotations

import datetime
import re
from enum import StrEnum
from typing import Any, NoReturn

import msgspec

from aegispay.domain.errors import InvalidPaymentMethod

TOKEN_LENGTH_MAX = 255


class PaymentMethodType(StrEnum):
    """What the payer pays with."""

    CARD = "card"
    TOKEN = "token"  # noqa: S105 - the name of a kind, not a secret


class MethodSnapshot(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What may be kept of a payment method. Never a PAN, never a CVV."""

    type: PaymentMethodType = PaymentMethodType.TOKEN
    token: str | None = None
    """The PSP's token, as the merchant gave it; useless without the merchant's own PSP account."""
    brand: str | None = None
    last4: str | None = None
    expiry_month: int | None = None
    expiry_year: int | None = None


class Token(msgspec.Struct, frozen=True, gc=False):
    """A payment method that a PSP's own fields or SDK have already turned into a token (`pm_...`, a nonce).

    A token belongs to one PSP. For a payment that may fail over to another, give `by_gateway` a token for
    each.
    """

    value: str
    by_gateway: dict[str, str] = msgspec.field(default_factory=dict)
    """Gateway name to the token to use there; gateways that are not named get `value`."""

    def __post_init__(self) -> None:
        for text in (self.value, *self.by_gateway, *self.by_gateway.values()):
            if not isinstance(text, str) or not 0 < len(text) <= TOKEN_LENGTH_MAX or not text.isprintable():
                raise InvalidPaymentMethod(f"a token is 1 to {TOKEN_LENGTH_MAX} printable characters.")
            if looks_like_pan(text):
                raise InvalidPaymentMethod(
                    "the token looks like a card number.", hint="Pass Card(number=...) or a PSP's token."
                )

    def snapshot(self) -> MethodSnapshot:
        return MethodSnapshot(type=PaymentMethodType.TOKEN, token=self.value)

    def token_for(self, gateway: str) -> str | None:
        return self.by_gateway.get(gateway, self.value)


class Card:
    """A raw card. It is turned into the PSP's token before anything is charged, and lives only in memory.

    It has no repr of its digits, cannot be changed, pickled, copied or encoded, and compares by identity.
    `expiry_year` has four digits (two are taken as 20xx). Raises `InvalidPaymentMethod` for a number that fails
    the Luhn check, or a wrong expiry or CVC; neither the message nor the raising frame holds what was given.
    """

    __slots__ = ("__cvc", "__number", "expiry_month", "expiry_year", "holder")

    __number: str
    __cvc: str | None
    expiry_month: int
    expiry_year: int
    holder: str | None

    def __init__(
        self,
        number: str,
        expiry_month: int | str,
        expiry_year: int | str,
        cvc: str | None = None,
        holder: str | None = None,
    ):
        given = (number, expiry_month, expiry_year, cvc)
        # Tracebacks with local variables are common in error trackers: nothing secret stays in this frame.
        number = cvc = ""
        expiry_month = expiry_year = 0
        digits, month, year, code, problem = _read_card(*given)
        del given
        if problem is not None:
            digits = code = ""
            raise InvalidPaymentMethod(problem)
        put = object.__setattr__
        put(self, "_Card__number", digits)
        put(self, "_Card__cvc", code)
        put(self, "expiry_month", month)
        put(self, "expiry_year", year)
        put(self, "holder", holder)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a card cannot be changed")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a card cannot be changed")

    @property
    def last4(self) -> str:
        return self.__number[-4:]

    @property
    def brand(self) -> str:
        return _brand(self.__number)

    def expired_at(self, now_us: int) -> bool:
        """Whether the card's last valid month (UTC) lies before this time, in microseconds since 1970."""
        today = datetime.datetime.fromtimestamp(now_us / 1_000_000, datetime.UTC)
        return (self.expiry_year, self.expiry_month) < (today.year, today.month)

    def reveal_number(self) -> str:
        """The full card number, for the adapter that sends it to the PSP; nobody else calls this."""
        return self.__number

    def reveal_cvc(self) -> str | None:
        """The CVC, for the adapter that sends it to the PSP; it is never stored."""
        return self.__cvc

    def snapshot(self) -> MethodSnapshot:
        return MethodSnapshot(
            type=PaymentMethodType.CARD,
            brand=self.brand,
            last4=self.last4,
            expiry_month=self.expiry_month,
            expiry_year=self.expiry_year,
        )

    def token_for(self, gateway: str) -> str | None:
        return None

    def __repr__(self) -> str:
        return f"<Card {self.brand} ending {self.last4}>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __refuse(self, *_: Any) -> NoReturn:
        raise TypeError("a card cannot be pickled, copied or serialised")

    __reduce_ex__ = __refuse
    __reduce__ = __refuse
    __copy__ = __refuse
    __deepcopy__ = __refuse
    __getstate__ = __refuse
    __iter__ = __refuse


PaymentMethod = Token | Card


def _read_card(
    number: object, month: object, year: object, cvc: object
) -> tuple[str, int, int, str | None, str | None]:
    """Number, month, year and CVC in their plain form, and what is wrong with them. It raises nothing: an
    exception's frames would hold the digits."""
    digits = re.sub(r"[ -]", "", number) if isinstance(number, str) and len(number) <= 40 else ""
    if not re.fullmatch(r"\d{12,19}", digits, re.ASCII) or not _luhn(digits):
        return "", 0, 0, None, "the card number is not valid."
    month_number, year_number = _whole_number(month), _whole_number(year)
    if year_number is not None and 0 <= year_number < 100:
        year_number += 2000
    if (
        month_number is None
        or year_number is None
        or not (1 <= month_number <= 12 and 2000 <= year_number <= 2099)
    ):
        return "", 0, 0, None, "the card's expiry is not a month and a year."
    if cvc is None:
        return digits, month_number, year_number, None, None
    if not isinstance(cvc, str) or not re.fullmatch(r"\d{3,4}", cvc, re.ASCII):
        return "", 0, 0, None, "the card's CVC is not 3 or 4 digits of text."
    return digits, month_number, year_number, cvc, None


def _whole_number(value: object) -> int | None:
    if type(value) is int:
        return value
    if isinstance(value, str) and re.fullmatch(r"\d{1,4}", value, re.ASCII):
        return int(value)
    return None


def _luhn(digits: str) -> bool:
    total = 0
    for index, character in enumerate(reversed(digits)):
        value = int(character)
        if index % 2:
            value = value * 2 - 9 if value > 4 else value * 2
        total += value
    return total % 10 == 0


_DIGIT_RUN = re.compile(r"(?<![0-9])[0-9](?:[ -]?[0-9]){11,18}(?![0-9])")
_MAYBE = re.compile(r"[0-9 -]{12}").search
_LENGTHS = {
    "visa": (13, 16, 19),
    "mastercard": (16,),
    "amex": (15,),
    "rupay": (16,),
}
_LENGTHS_OTHERS = tuple(range(14, 20))


def looks_like_pan(text: str) -> bool:
    """Whether a number that could be a card's stands in the text, written with or without spaces and dashes.

    Only numbers with a card scheme's prefix, length and check digit count: order numbers and timestamps pass.
    """
    if len(text) < 12 or not _MAYBE(text):
        return False  # Most texts end here: this is asked of each text of each request.
    for match in _DIGIT_RUN.finditer(text):
        digits = match[0].replace(" ", "").replace("-", "")
        brand = _brand(digits)
        if brand != "unknown" and len(digits) in _LENGTHS.get(brand, _LENGTHS_OTHERS) and _luhn(digits):
            return True
    return False


def _brand(number: str) -> str:
    two, four = int(number[:2]), int(number[:4])
    if number[0] == "4":
        return "visa"
    if 51 <= two <= 55 or 2221 <= four <= 2720:
        return "mastercard"
    if two in (34, 37):
        return "amex"
    if four == 6011 or two == 65:
        return "discover"
    if two in (60, 81, 82):
        return "rupay"
    if two == 35:
        return "jcb"
    if two in (30, 36, 38):
        return "diners"
    if two == 62:
        return "unionpay"
    return "unknown"
