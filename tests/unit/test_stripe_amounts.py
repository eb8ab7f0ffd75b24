"""Stripe's minor units are not ISO 4217's: each exception, there and back."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from aegispay.domain.errors import InvalidAmount, UnsupportedOperation
from aegispay.domain.money import Currency, Money
from aegispay.gateways.stripe.amounts import (
    STRIPE_AMOUNT_MAX,
    WHOLE_UNITS_IN_HUNDREDTHS,
    ZERO_DECIMAL,
    from_stripe,
    stripe_exponent,
    to_stripe,
)


@pytest.mark.parametrize(
    ("text", "code", "amount"),
    [
        ("10.99", "USD", 1099),
        ("500", "JPY", 500),
        ("5", "ISK", 500),
        ("1234", "UGX", 123400),
        ("5.120", "KWD", 5120),
        ("7", "KRW", 7),
        ("300.00", "MGA", 300),
        ("12.50", "HUF", 1250),
        ("999999.99", "USD", STRIPE_AMOUNT_MAX),
        ("1000000000.00", "IDR", 100_000_000_000),
    ],
)
def test_amounts_go_to_stripe_and_back(text, code, amount):
    money = Money.parse(text, code)
    assert to_stripe(money) == amount
    assert from_stripe(amount, code) == money.amount_minor


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("5.124", "KWD"),
        ("300.50", "MGA"),
        ("1000000.00", "USD"),
        ("100000000", "JPY"),
        ("0", "USD"),
        ("-1.00", "USD"),
        ("1000000", "ISK"),
    ],
)
def test_amounts_that_stripe_cannot_take_are_refused(text, code):
    with pytest.raises(InvalidAmount):
        to_stripe(Money.parse(text, code))


@pytest.mark.parametrize("code", ["CLF", "UYW", "UYI"])
def test_units_of_account_are_refused(code):
    with pytest.raises(UnsupportedOperation, match=code):
        to_stripe(Money(10000, code))


def test_an_amount_from_stripe_that_is_no_whole_unit_of_ours_is_an_error():
    with pytest.raises(ValueError, match="ISK"):
        from_stripe(150, "ISK")


def test_the_exceptions_are_stripes_list():
    assert len(ZERO_DECIMAL) == 15
    assert {"JPY", "KRW", "CLP", "VND", "MGA"} <= ZERO_DECIMAL
    assert not ZERO_DECIMAL & WHOLE_UNITS_IN_HUNDREDTHS


@given(st.sampled_from(sorted(one.code for one in Currency)), st.integers(1, 10**13))
def test_whatever_stripe_takes_comes_back_the_same(code, amount_minor):
    money = Money(amount_minor, code)
    try:
        amount = to_stripe(money)
    except (InvalidAmount, UnsupportedOperation):
        assume(False)
        return
    assert from_stripe(amount, code) == amount_minor
    exponent = stripe_exponent(code)
    assert exponent in (0, 2, 3)
    if exponent == 3:
        assert amount % 10 == 0
    if code in WHOLE_UNITS_IN_HUNDREDTHS:
        assert amount % 100 == 0
