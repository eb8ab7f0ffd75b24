"""A raw card never leaves its object by any of the ways in which values usually leave (I13)."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import logging
import pickle
import pprint
import traceback
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegispay.domain.errors import InvalidPaymentMethod
from aegispay.domain.methods import Card, MethodSnapshot, PaymentMethodType, Token, looks_like_pan

PAN = "4242424242424242"
CVC = "987"


@pytest.fixture
def card() -> Card:
    return Card(number="4242 4242-4242 4242", expiry_month=12, expiry_year=30, cvc=CVC, holder="A. Payer")


def _hides(text: str) -> None:
    squeezed = text.replace(" ", "").replace("-", "")
    assert PAN not in squeezed
    assert PAN[:-4] not in squeezed
    assert CVC not in squeezed


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        format,
        ascii,
        pprint.pformat,
        lambda card: f"{card} {card!r} {card!s} {card:>80}",
        lambda card: "%s %r" % (card, card),  # noqa: UP031 - one of the ways
        lambda card: repr([{"card": card}]),
        lambda card: repr(dir(card)),
        lambda card: json.dumps({"card": card}, default=str),
        lambda card: msgspec.json.encode({"card": card}, enc_hook=repr).decode(),
        lambda card: repr(card.snapshot()),
        lambda card: msgspec.json.encode(card.snapshot()).decode(),
    ],
)
def test_nothing_that_prints_a_card_prints_its_digits(card: Card, show: Callable[[Card], str]) -> None:
    _hides(show(card))
    assert "4242" in show(card) or "reveal" in show(card)


@pytest.mark.parametrize(
    "leak",
    [
        *(
            lambda card, protocol=protocol: pickle.dumps(card, protocol)
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
        ),
        copy.copy,
        copy.deepcopy,
        lambda card: copy.deepcopy({"card": [card]}),
        json.dumps,
        lambda card: json.dumps({"card": card}),
        msgspec.json.encode,
        msgspec.msgpack.encode,
        msgspec.to_builtins,
        lambda card: msgspec.convert(card, dict, from_attributes=True),
        dataclasses.asdict,
        dataclasses.replace,
        vars,
        dict,
        list,
        tuple,
    ],
)
def test_whatever_would_take_a_card_apart_is_refused(card: Card, leak: Callable[[Card], Any]) -> None:
    with pytest.raises((TypeError, msgspec.MsgspecError)) as caught:
        leak(card)
    _hides("".join(traceback.format_exception(caught.value)))


def test_a_log_line_with_a_card_in_it_is_safe(card: Card) -> None:
    stream = io.StringIO()
    logger = logging.getLogger("test_methods")
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    try:
        logger.warning("charging %s %r", card, card, extra={"card": card})
    finally:
        logger.removeHandler(handler)
    _hides(stream.getvalue())


def test_a_traceback_with_local_variables_shows_no_digits(card: Card) -> None:
    def charge(method: Card) -> None:
        raise RuntimeError("gateway fell over")

    try:
        charge(card)
    except RuntimeError as error:
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "<Card visa ending 4242>" in shown
    _hides(shown)


@pytest.mark.parametrize(
    "given_card",
    [
        {"number": "4242424242424241", "expiry_month": 12, "expiry_year": 30, "cvc": CVC},
        {"number": PAN, "expiry_month": 13, "expiry_year": 30, "cvc": CVC},
        {"number": PAN, "expiry_month": PAN, "expiry_year": 30, "cvc": CVC},
        {"number": PAN, "expiry_month": 12, "expiry_year": 30, "cvc": PAN},
    ],
)
def test_a_refused_card_stands_in_no_message_no_chained_error_and_no_frame_of_ours(
    given_card: dict[str, Any],
) -> None:
    with pytest.raises(InvalidPaymentMethod) as caught:
        Card(**given_card)
    error = caught.value
    assert error.__context__ is None
    frames = [repr({**entry.frame.f_locals, "self": None}) for entry in caught.traceback[1:]]
    assert frames
    shown = "".join([str(error), repr(error), *frames, json.dumps(error.to_dict())])
    assert "424242" not in shown
    assert CVC not in shown


def test_a_card_is_compared_by_identity_and_cannot_be_changed(card: Card) -> None:
    assert card != Card(number=PAN, expiry_month=12, expiry_year=30, cvc=CVC)
    assert hash(card) == hash(card)
    with pytest.raises(AttributeError):
        card.expiry_year = 2099
    with pytest.raises(AttributeError):
        del card.expiry_month


def test_the_adapter_that_sends_it_gets_the_card(card: Card) -> None:
    assert card.reveal_number() == PAN
    assert card.reveal_cvc() == CVC
    assert Card(PAN, 12, 30).reveal_cvc() is None
    assert card.holder == "A. Payer"
    assert card.token_for("stripe") is None


def test_a_snapshot_holds_brand_last_four_and_expiry_and_no_more(card: Card) -> None:
    assert card.snapshot() == MethodSnapshot(
        type=PaymentMethodType.CARD, brand="visa", last4="4242", expiry_month=12, expiry_year=2030
    )


@pytest.mark.parametrize(
    ("number", "brand"),
    [
        ("4242424242424242", "visa"),
        ("5555555555554444", "mastercard"),
        ("2223003122003222", "mastercard"),
        ("378282246310005", "amex"),
        ("6011111111111117", "discover"),
        ("3566002020360505", "jcb"),
        ("30569309025904", "diners"),
        ("6200000000000005", "unionpay"),
        ("6080320000000002", "rupay"),
        ("1000000000000008", "unknown"),
    ],
)
def test_brands(number: str, brand: str) -> None:
    assert Card(number, 1, 2040).brand == brand


@pytest.mark.parametrize(
    "number",
    [
        "",
        "4242",
        "4242424242424243",
        "4" * 20,
        "4242x4242",
        "４" * 16,
        4242424242424242,
        None,
        pytest.param("0" * 10**6, id="long"),
    ],
)
def test_a_number_that_is_none_is_refused(number: Any) -> None:
    with pytest.raises(InvalidPaymentMethod, match="card number"):
        Card(number, 12, 30)


@pytest.mark.parametrize(
    ("month", "year"),
    [
        *(
            (0, 30),
            (13, 30),
            (-1, 30),
            (12, 1999),
            (12, 2100),
            (12, -1),
            (12, 100),
            ("x", 30),
            (12, ""),
            (None, 30),
        ),
        *((True, 30), (12.9, 30), ("１２", 30), ("12.0", "30"), (12, " 30"), ("12345", 30)),
    ],
)
def test_an_expiry_that_is_no_month_and_year_is_refused(month: Any, year: Any) -> None:
    with pytest.raises(InvalidPaymentMethod, match="expiry"):
        Card(PAN, month, year)


@pytest.mark.parametrize("cvc", ["", "12", "12345", "12a", "１２３", 123, True])
def test_a_cvc_is_three_or_four_digits_of_text(cvc: Any) -> None:
    with pytest.raises(InvalidPaymentMethod, match="CVC"):
        Card(PAN, 12, 30, cvc)


def test_a_card_is_good_through_its_last_month() -> None:
    card = Card(PAN, "02", "2028")
    last_moment_us = 1_835_481_599_999_999
    """29 February 2028, 23:59:59.999999 UTC."""
    assert not card.expired_at(last_moment_us)
    assert card.expired_at(last_moment_us + 1)
    assert not card.expired_at(0)


@given(st.text("0123456789", min_size=14, max_size=14), st.sampled_from(["4", "5"]))
def test_exactly_one_check_digit_fits(body: str, scheme: str) -> None:
    """Luhn's promise: a number with one wrong last digit is never taken."""
    number = f"4{body}" if scheme == "4" else f"51{body[1:]}"
    assert sum(looks_like_pan(number + digit) for digit in "0123456789") == 1


@pytest.mark.parametrize(
    "number", ["4242424242424242", "5555555555554444", "378282246310005", "6011111111111117"]
)
def test_a_card_number_is_seen_within_a_text_and_however_it_is_spaced(number: str) -> None:
    spaced = "-".join(number[i : i + 4] for i in range(0, len(number), 4))
    for text in (number, f"card {number}, please", f"x{number}y", spaced, spaced.replace("-", " ")):
        assert looks_like_pan(text)


@pytest.mark.parametrize(
    "text",
    [
        "1790000000000",
        "1790000000123",
        "order-20261123-000123456789",
        "42424242424242424242424242",
        "123456789012",
        "4242424242424241",
    ],
)
def test_order_numbers_timestamps_and_wrong_check_digits_are_no_cards(text: str) -> None:
    assert not looks_like_pan(text)


# --- tokens -----------------------------------------------------------------------------------------------------


def test_a_token_knows_which_gateway_gets_which() -> None:
    token = Token("pm_1", by_gateway={"other": "tok_2"})
    assert token.token_for("other") == "tok_2"
    assert token.token_for("stripe") == "pm_1"
    assert token.snapshot() == MethodSnapshot(type=PaymentMethodType.TOKEN, token="pm_1")


@pytest.mark.parametrize(
    "text",
    ["", "x" * 256, "a\nb", "a\x00", "tok\u200b", None, 7, PAN, "4242 4242 4242 4242", "4242-4242-4242-4242"],
)
@pytest.mark.parametrize("place", ["value", "for a gateway", "as a gateway's name"])
def test_what_is_no_token_or_looks_like_a_card_is_refused(text: Any, place: str) -> None:
    values = {
        "value": (text, {}),
        "for a gateway": ("pm_1", {"a": text}),
        "as a gateway's name": ("pm_1", {text: "tok"}),
    }
    with pytest.raises(InvalidPaymentMethod) as caught:
        Token(*values[place])
    assert "4242" not in str(caught.value)
