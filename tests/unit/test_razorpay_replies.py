"""Every answer of Razorpay's becomes the right outcome, and no answer at all becomes a wrong certainty."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import (
    ActionType,
    Approved,
    DeclineCategory,
    Declined,
    InDoubt,
    NotSent,
    Pending,
)
from aegispay.gateways.answers import read
from aegispay.gateways.gateway import KEY_REUSED, RESEND_USELESS
from aegispay.gateways.razorpay import codes, replies
from aegispay.gateways.razorpay.wire_types import (
    Collection,
    Created,
    ErrorReply,
    Order,
    Payment,
    RazorpayRefund,
    Step,
)
from tests.fakes import tally
from tests.fakes.json_psp import reply
from tests.fakes.psp_data import psp_document
from tests.fakes.razorpay_calls import call, error, payment, refund

K = OperationKind
C = DeclineCategory
ANY = object()


def of(kind: K, status: str, **fields: Any) -> Any:
    return replies.payment_outcome(read(reply(200, payment(status, **fields)), Payment), call(kind), kind)


# --- payments -----------------------------------------------------------------------------------------------


def test_a_captured_payment_is_approved():
    assert of(K.CHARGE, "captured") == Approved(reference="pay_1", amount_minor=1000)


def test_an_authorized_payment_is_approved_until_razorpay_gives_it_back():
    lapses_at_us = (1_700_000_000 + 5 * 86_400) * 1_000_000
    assert of(K.AUTHORIZE, "authorized") == Approved(
        reference="pay_1", amount_minor=1000, expires_at_us=lapses_at_us
    )


def test_an_authorized_charge_is_not_yet_a_success():
    assert of(K.CHARGE, "authorized") == Pending(reference="pay_1", reason="authorized")


def test_a_created_payment_is_pending():
    assert of(K.CHARGE, "created") == Pending(reference="pay_1", reason="created")


def test_a_failed_payment_is_declined_with_razorpays_reason():
    outcome = of(K.CHARGE, "failed", error_reason="insufficient_funds")
    assert (outcome.category, outcome.code, outcome.gateway_code) == (C.SOFT,) + ("insufficient_funds",) * 2
    assert outcome.reference == "pay_1"


def test_a_failure_that_only_means_no_answer_from_the_bank_asks_nobody_else():
    """Razorpay goes on asking the bank for days: the payment may still become authorized."""
    for reason in (
        "payment_timed_out",
        "gateway_technical_error",
        "bank_technical_error",
        "payment_cancelled",
    ):
        assert of(K.CHARGE, "failed", error_reason=reason).category is C.HARD


def test_a_failed_payment_of_an_unknown_reason_is_hard():
    outcome = of(K.CHARGE, "failed", error_reason="never_heard_of")
    assert (outcome.category, outcome.code, outcome.gateway_code) == (
        C.HARD,
        "card_declined",
        "never_heard_of",
    )


def test_a_failed_payment_that_says_it_was_captured_is_in_doubt():
    assert of(K.CHARGE, "failed", captured=True) == InDoubt(reason="unexpected_status")


def test_a_payment_given_back_uncaptured_took_nothing():
    outcome = of(K.AUTHORIZE, "refunded", captured=False)
    assert isinstance(outcome, Declined) and outcome.code == "canceled"
    assert isinstance(of(K.CHARGE, "refunded", captured=True), Approved)


def test_another_currency_or_status_is_in_doubt():
    assert of(K.CHARGE, "captured", currency="USD") == InDoubt(reason="garbage")
    assert of(K.CHARGE, "brand_new") == InDoubt(reason="unexpected_status")


def test_an_amount_below_zero_is_in_doubt():
    assert of(K.CHARGE, "captured", amount=-1) == InDoubt(reason="garbage")
    body = payment("captured", amount=-1)
    assert replies.captured_outcome(read(reply(200, body), Payment), call(K.CAPTURE)) == InDoubt(
        reason="garbage"
    )
    made = call(K.REFUND)
    body = refund(made, amount=-1)
    assert replies.refund_outcome(read(reply(200, body), RazorpayRefund), made) == InDoubt(reason="garbage")
    assert replies.refund_outcome(
        read(reply(200, refund(made, currency="USD")), RazorpayRefund), made
    ) == InDoubt(reason="garbage")


def test_the_payment_that_took_money_leads():
    made = [payment("failed", id="pay_1"), payment("captured", id="pay_2"), payment("created", id="pay_3")]
    found = replies.leading([read(reply(200, one), Payment) for one in made])
    assert found.id == "pay_2"
    assert replies.leading([]) is None


def test_next_steps_prefer_the_banks_page_and_give_the_otp_page_otherwise():
    both = [
        Step("otp_generate", "https://api.razorpay.com/otp"),
        Step("redirect", "https://api.razorpay.com/3ds"),
    ]
    assert replies.next_step(Created("pay_1", both)).action.url == "https://api.razorpay.com/3ds"
    otp = replies.next_step(Created("pay_1", both[:1]))
    assert (otp.action.type, otp.action.url) == (ActionType.OTP, "https://api.razorpay.com/otp")
    assert replies.next_step(Created("pay_1", [])) is None


# --- refunds ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "wanted"),
    [
        ("processed", Approved(reference="rfnd_1", amount_minor=1000)),
        ("pending", Pending(reference="rfnd_1", reason="refund_pending")),
        (None, Pending(reference="rfnd_1", reason="refund_pending")),
        ("odd", InDoubt(reason="unexpected_status")),
    ],
)
def test_refund_statuses(status, wanted):
    made = call(K.REFUND)
    assert replies.refund_outcome(read(reply(200, refund(made, status)), RazorpayRefund), made) == wanted


def test_a_failed_refund_is_declined():
    made = call(K.REFUND)
    outcome = replies.refund_outcome(read(reply(200, refund(made, "failed")), RazorpayRefund), made)
    assert (outcome.category, outcome.code) == (C.INVALID, "refund_failed")


# --- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "wanted"),
    [
        (401, error("Authentication failed"), NotSent(reason="unauthorized")),
        (400, error("Authentication failed"), NotSent(reason="unauthorized")),
        (400, error("The api key provided is invalid"), NotSent(reason="unauthorized")),
        (403, error("Access Denied"), NotSent(reason="forbidden")),
        (429, error("Too many requests"), NotSent(reason="rate_limited", retry_after_s=7.0)),
        (409, error("Another request with the same idempotency key is still in progress."), ANY),
        (500, error("Internal server error - Failed to fetch idempotency record", "SERVER_ERROR"), ANY),
        (502, error("Payment failed", "GATEWAY_ERROR"), ANY),
        (400, error("We are facing some trouble", "SERVER_ERROR"), ANY),
        (302, b"", ANY),
        (400, b"<html>proxy</html>", ANY),
    ],
)
def test_only_a_refusal_before_execution_is_proof(status, body, wanted):
    outcome = replies.error_outcome(reply(status, body, retry_after="7"))
    assert isinstance(outcome, InDoubt) if wanted is ANY else outcome == wanted


def test_the_same_key_with_another_body_is_a_doubt_that_no_resend_ends():
    text = "Different request with the same idempotency key has already been processed."
    for status in (400, 409):
        outcome = replies.error_outcome(reply(status, error(text)))
        assert outcome == InDoubt(reason=KEY_REUSED)
        assert outcome.reason in RESEND_USELESS


@pytest.mark.parametrize(
    "text",
    [
        "This payment has already been captured",
        "Your payment has been declined as the order is already paid. Please initiate the payment with a new order.",
        "Payment already done for this order.",
        "The order is paid already",
    ],
)
def test_already_paid_is_no_refusal(text):
    assert replies.error_outcome(reply(400, error(text))) == InDoubt(reason=replies.ALREADY_DONE)


def test_a_fully_refunded_payment_is_a_refusal():
    outcome = replies.error_outcome(reply(400, error("The payment has been fully refunded already.")))
    assert outcome.category is C.INVALID


def test_razorpays_text_is_never_repeated():
    outcome = replies.error_outcome(
        reply(400, error("card 4242424242424242 is bad", reason="4242424242424242", field="card[number]"))
    )
    assert "4242" not in repr(outcome)
    assert outcome.message == "Razorpay: invalid request (card[number])"


def test_an_error_about_a_payment_names_it():
    body = error(reason="card_declined", metadata={"payment_id": "pay_9", "order_id": "order_9"})
    assert replies.error_outcome(reply(400, body)).reference == "pay_9"


def test_each_reason_stands_in_the_table_once_with_its_source():
    assert len({row.razorpay for row in codes.TABLE}) == len(codes.TABLE) == len(codes._BY_REASON)
    assert all(row.source and row.code == row.code.lower() for row in codes.TABLE)


@settings(max_examples=300, deadline=None)
@given(
    status=st.integers(200, 599),
    body=st.binary(max_size=60)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: st.dictionaries(
            st.sampled_from(["id", "error", "code", "entity", "status", "description"]), inner, max_size=4
        ),
        max_leaves=6,
    ).map(lambda one: json.dumps(one).encode()),
)
def test_no_answer_at_all_becomes_a_wrong_certainty(status, body):
    outcome = replies.error_outcome(reply(status, body))
    assert not isinstance(outcome, Approved | Pending)
    if not 400 <= status < 500:
        assert isinstance(outcome, InDoubt)


# --- the official fixtures ----------------------------------------------------------------------------------

SDK_FIXTURES: dict[str, Any] = {
    "bad_request_error.json": (ErrorReply, None, C.INVALID),
    "fake_payment.json": (Payment, K.CHARGE, Pending),
    "fake_captured_payment.json": (Payment, K.CHARGE, Approved),
    "edit_payment.json": (Payment, K.AUTHORIZE, Approved),
    "fake_order.json": (Order, None, None),
    "edit_order.json": (Order, None, None),
    "fake_refund.json": (RazorpayRefund, K.REFUND, Approved),
    "order_collection.json": (Collection[Order], None, None),
    "order_collection_with_one_order.json": (Collection[Order], None, None),
    "payment_collection.json": (Collection[Payment], K.CHARGE, Pending),
    "payment_collection_with_one_payment.json": (Collection[Payment], K.CHARGE, Pending),
    "qrcode_payments_collection.json": (Collection[Payment], K.CHARGE, Approved),
    "refund_collection.json": (Collection[RazorpayRefund], K.REFUND, Pending),
}


def outcome_of(found: Any, kind: K) -> Any:
    made = call(kind, amount=f"1 {found.currency}") if kind is not K.REFUND else call(kind)
    if isinstance(found, RazorpayRefund):
        return replies.refund_outcome(found, made)
    return replies.payment_outcome(found, made, kind)


def test_every_official_sdk_fixture_parses_to_the_right_outcome():
    checked = 0
    for name, (type_, kind, wanted) in SDK_FIXTURES.items():
        body = psp_document(f"razorpay/sdk-python/{name}")
        found = read(reply(200, body), type_)
        assert found is not None, name
        if type_ is ErrorReply:
            assert replies.error_outcome(reply(400, body)).category is wanted
            assert "(amount)" in replies.error_outcome(reply(400, body)).message
        for one in getattr(found, "items", [found]) if kind else []:
            assert isinstance(outcome_of(one, kind), wanted), name
        checked += 1
    tally.checked("razorpay", "fixtures", checked)


def test_every_documented_example_parses_to_an_outcome_that_fits_its_status():
    fits = {
        "created": (Pending,),
        "authorized": (Approved,),
        "captured": (Approved,),
        "refunded": (Approved,),
        "failed": (Declined,),
        "processed": (Approved,),
        "pending": (Pending,),
    }
    checked = {"payment": 0, "refund": 0, "order": 0, "error": 0, "next": 0}

    def look(node: Any) -> None:
        if isinstance(node, list):
            for one in node:
                look(one)
        elif isinstance(node, dict):
            entity = node.get("entity")
            if entity == "payment" and node.get("currency") and node.get("status"):
                found = read(reply(200, node), Payment)
                kind = K.AUTHORIZE if node["status"] == "authorized" else K.CHARGE
                expected = fits[node["status"]]
                assert isinstance(outcome_of(found, kind), expected), node
                checked["payment"] += 1
            elif entity == "refund" and node.get("currency"):
                found = read(reply(200, node), RazorpayRefund)
                assert isinstance(outcome_of(found, K.REFUND), fits[node["status"]]), node
                checked["refund"] += 1
            elif entity == "order":
                assert read(reply(200, node), Order) is not None, node
                checked["order"] += 1
            elif isinstance(node.get("error"), dict):
                text = node["error"].get("description", "")
                outcome = replies.error_outcome(reply(400, node))
                known = isinstance(outcome, Declined | NotSent) or "idempotency" in text
                assert known or replies._DONE_BEFORE.search(text), node
                checked["error"] += 1
            elif "razorpay_payment_id" in node:
                assert read(reply(200, node), Created) is not None, node
                checked["next"] += 1
            for value in node.values():
                look(value)

    pages = dict(psp_document("razorpay/docs-examples.json"))
    pages.pop("webhooks/payments.md")  # checked with the webhooks: one example contradicts itself
    for examples in pages.values():
        look([one["json"] for one in examples])
    tally.checked("razorpay", "fixtures", sum(checked.values()))
    assert min(checked.values()) > 0
