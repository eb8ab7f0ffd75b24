"""Where exactly a request is refused: the last value that is taken, and the first that is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from aegispay.domain import decide, record
from aegispay.domain.errors import InvalidAmount, InvalidIdempotencyKey, InvalidPaymentMethod, InvalidRequest
from aegispay.domain.events import CaptureMode
from aegispay.domain.methods import Card
from aegispay.domain.money import AMOUNT_MINOR_MAX, Money
from aegispay.orchestration.requests import (
    PaymentRequest,
    check_action_data,
    check_amount,
    check_key,
    check_metadata,
    check_not_expired,
    check_text,
    checked_request,
    operation_hash,
    request_hash,
)

YEAR_2030_US = 1_893_456_000_000_000


def request(**given: Any) -> PaymentRequest:
    usual: dict[str, Any] = {
        "amount": Money(1, "USD"),
        "method": "tok_1",
        "idempotency_key": "k",
        "capture": CaptureMode.AUTOMATIC,
    }
    return checked_request(**{**usual, **given})


def keys(count: int) -> dict[str, str]:
    return {str(at): "v" for at in range(count)}


TAKEN_AND_REFUSED: list[tuple[str, Callable[[Any], Any], Any, Any]] = [
    ("key length", check_key, "k" * 255, "k" * 256),
    ("key emptiness", check_key, "k", ""),
    ("key type", check_key, "7", 7),
    ("key printable", check_key, "a b", "a\tb"),
    ("key no card", check_key, "4242424242424241", "4242424242424242"),
    ("text length", lambda text: check_text("t", text), "x" * 500, "x" * 501),
    ("text type", lambda text: check_text("t", text), "1", 1),
    ("text no NUL", lambda text: check_text("t", text), "a b", "a\0b"),
    ("text no half character", lambda text: check_text("t", text), "\U0001f600", "\ud83d"),
    ("text no card", lambda text: check_text("t", text), "4242 4242 4242 4241", "4242 4242 4242 4242"),
    ("metadata keys", check_metadata, keys(40), keys(41)),
    ("metadata key length", check_metadata, {"k" * 40: "v"}, {"k" * 41: "v"}),
    ("metadata key emptiness", check_metadata, {"k": "v"}, {"": "v"}),
    ("metadata key type", check_metadata, {"1": "v"}, {1: "v"}),
    ("metadata value length", check_metadata, {"k": "v" * 500}, {"k": "v" * 501}),
    ("metadata value", check_metadata, {"k": ""}, {"k": None}),
    ("metadata type", check_metadata, {"k": "v"}, ["k"]),
    ("action data size", check_action_data, keys(20), keys(21)),
    ("action data type", check_action_data, {}, [("k", "v")]),
    ("action data key length", check_action_data, {"k" * 100: "v"}, {"k" * 101: "v"}),
    ("action data key", check_action_data, {"k": "v"}, {None: "v"}),
    ("action data value length", check_action_data, {"k": "v" * 8192}, {"k": "v" * 8193}),
    ("action data value", check_action_data, {"k": "v"}, {"k": None}),
    ("amount above zero", check_amount, Money(1, "USD"), Money(0, "USD")),
    ("amount limit", check_amount, Money(AMOUNT_MINOR_MAX, "USD"), 100),
    ("merchant length", lambda name: request(merchant_id=name), "m" * 64, "m" * 65),
    ("merchant emptiness", lambda name: request(merchant_id=name), "m", ""),
    ("merchant printable", lambda name: request(merchant_id=name), "m 1", "m\n1"),
    ("merchant type", lambda name: request(merchant_id=name), "7", 7),
    ("customer length", lambda text: request(customer_id=text), "c" * 255, "c" * 256),
    ("description length", lambda text: request(description=text), "d" * 500, "d" * 501),
    ("return URL scheme", lambda url: request(return_url=url), "http://shop.example", "ftp://shop.example"),
    ("return URL secure", lambda url: request(return_url=url), "https://shop.example", "shop.example"),
    (
        "return URL length",
        lambda url: request(return_url=url),
        "https://" + "u" * 1992,
        "https://" + "u" * 1993,
    ),
    ("correlation length", lambda text: request(correlation_id=text), "c" * 128, "c" * 129),
    ("method type", lambda method: request(method=method), "tok_1", 7),
]


@pytest.mark.parametrize(
    ("check", "taken", "refused"),
    [pytest.param(check, taken, refused, id=name) for name, check, taken, refused in TAKEN_AND_REFUSED],
)
def test_the_last_that_is_taken_and_the_first_that_is_not(
    check: Callable[[Any], Any], taken: Any, refused: Any
) -> None:
    answer = check(taken)
    assert isinstance(answer, PaymentRequest) or answer == taken
    with pytest.raises(InvalidRequest):
        check(refused)


def test_no_metadata_and_no_text_are_taken_as_such() -> None:
    assert check_metadata(None) == {} and check_metadata({}) == {}
    assert check_text("t", None) is None


def test_what_is_checked_is_a_copy_that_its_giver_cannot_change() -> None:
    given = {"k": "v"}
    metadata, action = check_metadata(given), check_action_data(given)
    given["k"] = "changed"
    assert metadata == action == {"k": "v"}


def test_a_card_is_taken_to_the_end_of_its_last_month() -> None:
    card = Card(number="4242424242424242", expiry_month=12, expiry_year=2029, cvc="123")
    check_not_expired(card, YEAR_2030_US - 1)
    with pytest.raises(InvalidPaymentMethod, match="12/2029"):
        check_not_expired(card, YEAR_2030_US + 86_400_000_000 * 2)
    assert request(method=card).method is card, "what holds at one time only is no part of the request"


def test_everything_that_was_given_is_in_the_request() -> None:
    given = {
        "merchant_id": "m",
        "idempotency_key": "k",
        "gateways": ("a",),
        "customer_id": "c",
        "description": "d",
        "return_url": "https://r.example",
        "metadata": {"k": "v"},
        "correlation_id": "x",
        "capture": CaptureMode.MANUAL,
    }
    made = request(**given)
    assert {name: getattr(made, name) for name in given} == given
    assert made.amount == Money(1, "USD") and made.snapshot == made.method.snapshot()
    assert request().merchant_id == "default"


@pytest.mark.parametrize(
    "other",
    [
        {"amount": Money(2, "USD")},
        {"amount": Money(1, "EUR")},
        {"method": "tok_2"},
        {"capture": CaptureMode.MANUAL},
        {"gateways": ("b",)},
        {"customer_id": "c"},
        {"description": "d"},
        {"return_url": "https://r.example"},
        {"metadata": {"k": "v"}},
    ],
    ids=lambda one: next(iter(one)),
)
def test_another_request_has_another_hash(other: dict[str, Any]) -> None:
    assert request_hash(request(**other)) != request_hash(request())
    assert request_hash(request(**other)) == request_hash(request(**other))
    assert len(request_hash(request())) == 16


def test_what_does_not_change_the_request_does_not_change_its_hash() -> None:
    assert request_hash(request(correlation_id="x")) == request_hash(request())


def test_an_operations_hash_covers_its_kind_its_payment_and_all_that_was_asked() -> None:
    hashes = {
        operation_hash(*parts)
        for parts in (
            ("refund", "p", 1),
            ("refund", "p", 2),
            ("capture", "p", 1),
            ("refund", "q", 1),
            ("refund", "p"),
        )
    }
    assert len(hashes) == 5 and {len(one) for one in hashes} == {16}


def test_the_limits_of_a_payment_are_what_they_are_said_to_be() -> None:
    """They are part of the contract: what was allowed yesterday must not be refused today."""
    assert (record.ATTEMPTS_MAX, record.OPERATIONS_MAX) == (10, 250)
    assert (decide.REVERSALS_MAX, decide.DISPUTES_MAX, decide.VOIDS_KEPT) == (10, 50, 20)
    assert AMOUNT_MINOR_MAX == 10**15
    assert record.TIME_MAX_US == 253_402_300_799_000_000


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_a_bad_key_is_told_as_one(key: str) -> None:
    with pytest.raises(InvalidIdempotencyKey):
        request(idempotency_key=key)


def test_an_amount_that_is_none_is_told_as_one() -> None:
    with pytest.raises(InvalidAmount, match="greater than zero"):
        check_amount(Money(0, "USD"))
