"""What a payer may be told: something for every code, and nothing that helps a thief."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import aegispay
from aegispay.domain.outcomes import DeclineCategory
from aegispay.domain.payer_messages import (
    AUTHENTICATE,
    CANCELED,
    CHECK_DATA,
    MESSAGES,
    NO_MONEY,
    NOT_POSSIBLE,
    NOT_TAKEN_HERE,
    REFUSED,
    RETURNED,
    TIMED_OUT,
    TRY_LATER,
    WAIT,
    payer_message,
)
from aegispay.gateways.adyen import codes as adyen
from aegispay.gateways.braintree import codes as braintree
from aegispay.gateways.paypal import codes as paypal
from aegispay.gateways.razorpay import codes as razorpay
from aegispay.gateways.stripe import codes as stripe
from aegispay.orchestration.known import ACTION_EXPIRED
from aegispay.orchestration.results import ResultError

TABLES = {"stripe": stripe, "razorpay": razorpay, "paypal": paypal, "braintree": braintree, "adyen": adyen}
GROUPS = {
    AUTHENTICATE: "authentication_failed authentication_required",
    CHECK_DATA: "incorrect_address incorrect_cvc incorrect_number incorrect_pin invalid_expiry",
    MESSAGES["expired_card"]: "expired_card",
    NO_MONEY: "insufficient_funds limit_exceeded",
    NOT_TAKEN_HERE: "card_not_supported currency_not_supported invalid_payment_method",
    TRY_LATER: "gateway_unavailable issuer_unavailable processing_error try_again",
    CANCELED: "canceled canceled_by_payer expired",
    TIMED_OUT: "action_expired timed_out",
    REFUSED: "card_declined do_not_honor fraud_suspected invalid_account lost_card not_permitted pickup_card"
    " restricted_card settlement_declined stolen_card transaction_refused",
    NOT_POSSIBLE: "account_invalid already_authorized already_captured already_refunded already_voided"
    " approved_without_capture authorization_expired balance_insufficient disputed duplicate_transaction forbidden"
    " invalid_amount invalid_request invalid_state livemode_mismatch not_found not_refundable not_settled not_supported"
    " partially_approved refund_canceled refund_failed",
    WAIT: "in_doubt in_progress needs_review processing",
    RETURNED: "reversed_after_doubt",
}
SOURCE = Path(aegispay.__file__).parent


@pytest.mark.parametrize("psp", TABLES)
def test_every_code_of_every_psp_has_a_sentence_of_its_own(psp: str) -> None:
    assert {row.code for row in TABLES[psp].TABLE} <= set(MESSAGES)  # type: ignore[attr-defined]


def test_every_code_that_is_written_in_the_code_has_one_too() -> None:
    written: set[str] = set()
    for folder in ("gateways", "orchestration"):
        for file in (SOURCE / folder).rglob("*.py"):
            written |= set(re.findall(r'Declined\([^)]*?code="([a-z_]+)"', file.read_text()))
            written |= set(re.findall(r'ResultError\(code="([a-z_]+)"', file.read_text()))
    assert len(written) >= 3
    assert written <= set(MESSAGES)


def test_no_sentence_tells_a_thief_why() -> None:
    for code in ("fraud_suspected", "lost_card", "stolen_card", "pickup_card", "restricted_card"):
        assert payer_message(code) == payer_message("card_declined") == REFUSED
    telling = re.compile(r"fraud|stolen|lost|risk|suspect|block|adyen|stripe|paypal|braintree|razorpay", re.I)
    assert not [text for text in MESSAGES.values() if telling.search(text)]


def test_whoever_may_have_been_charged_is_never_asked_to_pay_again() -> None:
    for code in ("in_doubt", "in_progress", "processing", "needs_review"):
        assert payer_message(code) == WAIT
    assert not [text for text in MESSAGES.values() if "nothing was charged" in text]


def test_each_code_has_its_sentence() -> None:
    assert {
        text: {code for code, said in MESSAGES.items() if said == text} for text in set(MESSAGES.values())
    } == {text: set(codes.split()) for text, codes in GROUPS.items()}
    assert len({*GROUPS}) == len(GROUPS) and "expired" in MESSAGES["expired_card"]


@pytest.mark.parametrize("category", [None, *DeclineCategory])
def test_the_banks_reasons_are_told_alike_whatever_their_category(category: DeclineCategory | None) -> None:
    refused = set(GROUPS[REFUSED].split())
    assert {code for code, text in MESSAGES.items() if text == REFUSED} == refused
    assert {payer_message(code, category) for code in refused} == {REFUSED}


def test_who_did_not_act_in_time_looks_at_their_account_first() -> None:
    assert payer_message(ACTION_EXPIRED, DeclineCategory.HARD) == payer_message("timed_out")
    assert "check your account" in payer_message(ACTION_EXPIRED)


@pytest.mark.parametrize("category", [None, *DeclineCategory])
def test_an_unknown_code_has_a_safe_sentence(category: DeclineCategory | None) -> None:
    said = payer_message("what_nobody_has_heard_of", category)
    assert said in set(MESSAGES.values())
    assert (said == NOT_POSSIBLE) == (category is DeclineCategory.INVALID)


def test_an_error_carries_it_beside_the_merchants_message() -> None:
    error = ResultError(code="stolen_card", message="Stripe: stolen card", category=DeclineCategory.HARD)
    assert error.payer_message == REFUSED
