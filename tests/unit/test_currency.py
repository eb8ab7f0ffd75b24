"""Every ISO 4217 currency, with the exponent that the maintenance agency gives it."""

from __future__ import annotations

import copy
import pickle

import iso4217
import pytest

from aegispay.domain.errors import UnknownCurrency
from aegispay.domain.money import Currency, exponent_of

WITH_MINOR_UNITS = [one for one in iso4217.Currency if one.exponent is not None and one.code != "XTS"]
WITHOUT = [one for one in iso4217.Currency if one.exponent is None or one.code == "XTS"]


@pytest.mark.parametrize("listed", WITH_MINOR_UNITS, ids=lambda one: one.code)
def test_each_listed_currency_is_known_by_its_code(listed: iso4217.Currency) -> None:
    found = Currency.of(listed.code)
    assert (found.code, found.exponent, found.number, found.name) == (
        listed.code,
        listed.exponent,
        listed.number,
        listed.currency_name,
    )
    assert Currency.of(listed.code.lower()) is found
    assert getattr(Currency, listed.code) is found
    assert exponent_of(listed.code) == listed.exponent


def test_the_table_is_the_list_and_nothing_else() -> None:
    assert {one.code for one in Currency} == {one.code for one in WITH_MINOR_UNITS}
    assert len(Currency) == len(WITH_MINOR_UNITS) > 150


@pytest.mark.parametrize("listed", WITHOUT, ids=lambda one: one.code)
def test_gold_and_test_codes_cannot_be_paid_with(listed: iso4217.Currency) -> None:
    with pytest.raises(UnknownCurrency):
        Currency.of(listed.code)


@pytest.mark.parametrize(
    ("code", "exponent"),
    [
        ("USD", 2),
        ("JPY", 0),
        ("KWD", 3),
        ("CLF", 4),
        ("UYW", 4),
        ("ISK", 0),
        ("UGX", 0),
        ("HUF", 2),
        ("MRU", 2),
    ],
)
def test_exponents_that_are_easily_got_wrong(code: str, exponent: int) -> None:
    assert Currency.of(code).exponent == exponent


@pytest.mark.parametrize(
    "code", ["", "US", "USDD", "ZZZ", " USD", "USD ", "U$D", "BGN", 840, None, 1.5, b"USD", ["USD"]]
)
def test_an_unknown_code_is_refused_with_a_hint(code: object) -> None:
    with pytest.raises(UnknownCurrency, match="ISO 4217"):
        Currency.of(code)  # type: ignore[arg-type]


@pytest.mark.parametrize("code", ["\u0131nr", "u\u017fd", "ＵＳＤ"])
def test_letters_that_only_fold_to_ascii_are_refused(code: str) -> None:
    """Dotless i and long s become I and S in upper case."""
    with pytest.raises(UnknownCurrency):
        Currency.of(code)


def test_an_overlong_code_is_not_quoted_whole() -> None:
    with pytest.raises(UnknownCurrency) as caught:
        Currency.of("x" * 100_000)
    assert len(str(caught.value)) < 200


def test_an_unknown_attribute_is_an_attribute_error() -> None:
    for name in ("ZZZ", "usd", "nothing"):
        assert not hasattr(Currency, name)


def test_a_currency_is_one_value_however_it_travels() -> None:
    usd = Currency.USD
    assert pickle.loads(pickle.dumps(usd)) is usd
    assert copy.copy(usd) is usd
    assert copy.deepcopy(usd) is usd
    assert Currency.of(usd) is usd
    assert {usd: 1}[Currency.of("usd")] == 1
    assert usd != Currency.EUR
    assert usd != "USD"
    assert (str(usd), repr(usd)) == ("USD", "Currency.USD")


def test_a_currency_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Currency.USD.exponent = 0
    with pytest.raises(AttributeError):
        del Currency.USD.code
    assert Currency.USD.exponent == 2
