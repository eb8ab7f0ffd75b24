"""Money is whole minor units of one currency, and no operation loses or invents one."""

from __future__ import annotations

import copy
import pickle
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegispay.domain.errors import CurrencyMismatch, InvalidAmount, UnknownCurrency
from aegispay.domain.money import AMOUNT_MINOR_MAX, Currency, Money

CURRENCIES = st.sampled_from(sorted(Currency, key=str))
MINOR = st.integers(-AMOUNT_MINOR_MAX, AMOUNT_MINOR_MAX)


@given(MINOR, CURRENCIES)
def test_what_is_written_in_major_units_reads_back(minor: int, currency: Currency) -> None:
    money = Money(minor, currency)
    assert Money.parse(money.decimal_text(), currency) == money
    text, _, code = money.format().rpartition(" ")
    assert Money.parse(text.replace(",", ""), code) == money
    assert Decimal(money.decimal_text()).scaleb(currency.exponent) == minor


@given(st.integers(0, 10**9), CURRENCIES)
def test_fewer_decimals_than_the_currency_has_are_zeros(whole: int, currency: Currency) -> None:
    assert Money.parse(str(whole), currency).amount_minor == whole * 10**currency.exponent


@given(CURRENCIES, st.integers(1, 5))
def test_more_decimals_than_the_currency_has_are_refused_even_zeros(currency: Currency, more: int) -> None:
    with pytest.raises(InvalidAmount, match="decimals"):
        Money.parse("1." + "0" * (currency.exponent + more), currency)


@pytest.mark.parametrize(
    ("text", "code", "minor"),
    [
        ("99.99", "USD", 9999),
        ("0", "USD", 0),
        ("-0.05", "USD", -5),
        ("0.5", "USD", 50),
        ("007", "USD", 700),
        (" 1.00 ", "USD", 100),
        ("1234567", "JPY", 1234567),
        ("1.234", "KWD", 1234),
        ("1.2345", "UYW", 12345),
        ("1.2345", "CLF", 12345),
    ],
)
def test_amounts_that_read(text: str, code: str, minor: int) -> None:
    assert Money.parse(text, code).amount_minor == minor


@pytest.mark.parametrize(
    "text",
    [
        *("99.999", "", " ", ".", "5.", ".5", "1e2", "1E2", "1,000.00", "1_000", "+1", "--1", "- 1", "1.2.3"),
        *("NaN", "nan", "inf", "Infinity", "0x10", "1 000", "$1", "1\n2", "٣", "１", "1.٠٠", "−1", "½", "²"),
        *("9" * 41, pytest.param("1" * 100_000, id="long")),
    ],
)
def test_text_that_is_no_amount_of_dollars_is_refused(text: str) -> None:
    with pytest.raises(InvalidAmount) as caught:
        Money.parse(text, "USD")
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    "value", [99.99, 1, True, None, Decimal("1.00"), float("nan"), b"1.00", pytest.param(10**5000, id="huge")]
)
def test_only_text_is_parsed(value: Any) -> None:
    with pytest.raises(InvalidAmount, match="text such as"):
        Money.parse(value, "USD")


@pytest.mark.parametrize(
    "value", [1.0, 99.99, float("nan"), float("inf"), True, False, None, "1", Decimal(1)]
)
def test_only_integers_are_amounts(value: Any) -> None:
    with pytest.raises(InvalidAmount, match="integer in minor units"):
        Money(value, Currency.USD)


@pytest.mark.parametrize(
    "value", [AMOUNT_MINOR_MAX + 1, -AMOUNT_MINOR_MAX - 1, pytest.param(10**5000, id="huge")]
)
def test_absurd_amounts_are_refused(value: int) -> None:
    with pytest.raises(InvalidAmount, match="at most"):
        Money(value, Currency.USD)


def test_sums_and_products_stay_within_the_limit_too() -> None:
    most = Money(AMOUNT_MINOR_MAX, Currency.USD)
    for overflow in (lambda: most + most, lambda: most * 2, lambda: -most - most):
        with pytest.raises(InvalidAmount):
            overflow()


@pytest.mark.parametrize("factor", [0.5, 2.0, True, Decimal(2), "2", None])
def test_money_is_multiplied_by_integers_only(factor: Any) -> None:
    with pytest.raises(TypeError):
        Money(1, Currency.USD) * factor


@given(st.integers(-(10**12), 10**12), st.integers(-(10**12), 10**12), CURRENCIES)
def test_arithmetic_is_that_of_the_integers(one: int, other: int, currency: Currency) -> None:
    left, right = Money(one, currency), Money(other, currency)
    assert (left + right).amount_minor == one + other
    assert (left - right).amount_minor == one - other
    assert (-left).amount_minor == -one
    assert (left * 3) == (3 * left) == left + left + left
    assert (left < right, left <= right, left > right, left >= right) == (
        one < other,
        one <= other,
        one > other,
        one >= other,
    )
    assert (left == right) is (one == other)
    assert bool(left) is bool(one)


@pytest.mark.parametrize("operator", ["__add__", "__sub__", "__lt__", "__le__", "__gt__", "__ge__"])
def test_currencies_do_not_mix(operator: str) -> None:
    with pytest.raises(CurrencyMismatch, match="USD and EUR"):
        getattr(Money(1, Currency.USD), operator)(Money(1, Currency.EUR))
    with pytest.raises(TypeError):
        getattr(Money(1, Currency.USD), operator)(1)


def test_equal_money_is_equal_everywhere() -> None:
    money = Money(9999, Currency.USD)
    assert money == Money(9999, "usd") == Money.parse("99.99", "USD")
    assert hash(money) == hash(Money(9999, "USD"))
    assert money != Money(9999, Currency.EUR)
    assert money != Money(9998, Currency.USD)
    assert money != 9999
    assert len({money, Money(9999, "USD"), Money(9999, "EUR")}) == 2


@given(MINOR, CURRENCIES)
def test_money_survives_pickling_and_copying(minor: int, currency: Currency) -> None:
    money = Money(minor, currency)
    for again in (pickle.loads(pickle.dumps(money)), copy.copy(money), copy.deepcopy(money)):
        assert again == money
        assert again.currency is currency


def test_money_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Money(1, Currency.USD).amount_minor = 2  # type: ignore[misc]


def test_an_unknown_currency_is_refused() -> None:
    with pytest.raises(UnknownCurrency):
        Money(1, "ZZZ")


@pytest.mark.parametrize(
    ("money", "text"),
    [
        (Money(123456789, Currency.USD), "1,234,567.89 USD"),
        (Money(1234567, Currency.JPY), "1,234,567 JPY"),
        (Money(-5, Currency.USD), "-0.05 USD"),
        (Money(-123456, Currency.USD), "-1,234.56 USD"),
        (Money(0, Currency.JPY), "0 JPY"),
        (Money(-7, Currency.JPY), "-7 JPY"),
        (Money(5, Currency.KWD), "0.005 KWD"),
        (Money(12345, Currency.CLF), "1.2345 CLF"),
    ],
)
def test_money_for_people(money: Money, text: str) -> None:
    assert money.format() == str(money) == text
    assert money.code in repr(money)


# --- allocation -----------------------------------------------------------------------------------------------


@given(MINOR, CURRENCIES, st.lists(st.integers(0, 10**9), min_size=1, max_size=30).filter(any))
def test_allocation_never_loses_a_unit_and_is_never_off_by_more_than_one(
    minor: int, currency: Currency, ratios: list[int]
) -> None:
    shares = Money(minor, currency).allocate(ratios)
    assert len(shares) == len(ratios)
    assert sum(share.amount_minor for share in shares) == minor
    for share, ratio in zip(shares, ratios, strict=True):
        assert abs(share.amount_minor * sum(ratios) - minor * ratio) < sum(ratios)
        assert share.amount_minor * minor >= 0
        assert ratio or not share


@given(MINOR, st.lists(st.integers(0, 100), min_size=1, max_size=8).filter(any))
def test_a_refund_is_allocated_as_the_charge_was(minor: int, ratios: list[int]) -> None:
    there = Money(minor, Currency.USD).allocate(ratios)
    back = Money(-minor, Currency.USD).allocate(ratios)
    assert [-share for share in back] == there


def test_the_largest_remainders_get_the_odd_units() -> None:
    assert [one.amount_minor for one in Money(10000, Currency.USD).allocate([1, 1, 1])] == [3334, 3333, 3333]
    assert [one.amount_minor for one in Money(5, Currency.USD).allocate([3, 7])] == [2, 3]
    assert [one.amount_minor for one in Money(100, Currency.JPY).allocate([0, 1, 2])] == [0, 33, 67]


@pytest.mark.parametrize("ratios", [[], [0], [0, 0], [1, -1], [1.0], [0.5, 0.5], [True], ["1"], [None]])
def test_ratios_that_say_nothing_are_refused(ratios: list[Any]) -> None:
    with pytest.raises(InvalidAmount, match="ratios"):
        Money(100, Currency.USD).allocate(ratios)
