"""Every answer of Stripe's becomes the right outcome, and no answer at all becomes a wrong certainty."""

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
    RequiresAction,
)
from aegispay.gateways.answers import read
from aegispay.gateways.gateway import KEY_REUSED, RESEND_USELESS, SAVED_ERROR
from aegispay.gateways.http import HttpReply
from aegispay.gateways.stripe import codes, replies
from aegispay.gateways.stripe.wire_types import Charge, Identified, Intent, StripeRefund
from tests.fakes import tally
from tests.fakes.psp_data import psp_document
from tests.fakes.stripe_calls import call

K = OperationKind
C = DeclineCategory
SECRET = "pi_1_secret_verysecret"


def reply(status: int, body: Any, **headers: str) -> HttpReply:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HttpReply(status=status, headers={k.replace("_", "-"): v for k, v in headers.items()}, body=raw)


def error(status: int, type_: str = "invalid_request_error", _headers: Any = (), **fields: Any) -> HttpReply:
    return reply(status, {"error": {"type": type_, "message": "no", **fields}}, **dict(_headers))


def intent(of: Any, status: str = "succeeded", **fields: Any) -> dict[str, Any]:
    amount = fields.pop("amount", 1000)
    return {
        "id": "pi_1",
        "object": "payment_intent",
        "status": status,
        "amount": amount,
        "currency": of.amount.code.lower(),
        "amount_received": amount if status == "succeeded" else 0,
        "amount_capturable": amount if status == "requires_capture" else 0,
        "metadata": {"aegispay_operation": of.operation_id},
        "client_secret": SECRET,
        "latest_charge": "ch_1",
        **fields,
    }


def first(kind: K = K.CHARGE, status: str = "succeeded", **fields: Any) -> Any:
    made = call(kind)
    return replies.first_outcome(reply(200, intent(made, status, **fields)), made)


# --- payments -----------------------------------------------------------------------------------------------


def test_a_charge_that_succeeded_is_approved_with_what_was_received():
    assert first() == Approved(reference="pi_1", amount_minor=1000)
    assert first(amount_received=900) == Approved(reference="pi_1", amount_minor=900)


def test_an_authorization_is_approved_with_what_can_be_captured_and_until_when():
    charge = {"id": "ch_1", "payment_method_details": {"card": {"capture_before": 1_800_000_000}}}
    assert first(K.AUTHORIZE, "requires_capture", latest_charge=charge) == Approved(
        reference="pi_1", amount_minor=1000, expires_at_us=1_800_000_000_000_000
    )
    assert first(K.AUTHORIZE, "requires_capture", amount_capturable=600).amount_minor == 600


def test_amounts_come_back_in_our_minor_units():
    made = call(amount="500 ISK")
    outcome = replies.first_outcome(reply(200, intent(made, amount=50000)), made)
    assert outcome == Approved(reference="pi_1", amount_minor=500)
    assert replies.first_outcome(reply(200, intent(made, amount=50050)), made) == InDoubt(reason="garbage")


def test_processing_is_pending():
    assert first(status="processing") == Pending(reference="pi_1")


def test_a_redirect_is_handed_to_the_payer():
    action = {"type": "redirect_to_url", "redirect_to_url": {"url": "https://hooks.stripe.com/3ds"}}
    outcome = first(status="requires_action", next_action=action)
    assert isinstance(outcome, RequiresAction)
    assert (outcome.action.type, outcome.action.url) == (ActionType.REDIRECT, "https://hooks.stripe.com/3ds")


def test_an_action_for_stripes_sdk_carries_no_secret():
    action = {"type": "use_stripe_sdk", "use_stripe_sdk": {"stripe_js": SECRET}}
    outcome = first(status="requires_action", next_action=action)
    assert outcome.action.data == {"payment_intent": "pi_1", "type": "use_stripe_sdk"}
    assert "secret" not in repr(outcome)


def test_a_fresh_requires_payment_method_is_no_decline():
    assert first(status="requires_payment_method") == InDoubt(reason="unexpected_status")


def test_requires_payment_method_with_an_error_is_a_decline():
    problem = {"type": "card_error", "code": "card_declined", "decline_code": "insufficient_funds"}
    outcome = first(status="requires_payment_method", last_payment_error=problem)
    assert (outcome.category, outcome.code, outcome.reference) == (C.SOFT, "insufficient_funds", "pi_1")


def test_canceled_is_a_hard_decline():
    outcome = first(status="canceled")
    assert (outcome.category, outcome.code) == (C.HARD, "canceled")


@pytest.mark.parametrize("status", ["requires_confirmation", "requires_capture", "something_new", ""])
def test_a_status_that_cannot_be_stays_a_doubt(status):
    assert first(status=status) == InDoubt(reason="unexpected_status")


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": {"aegispay_operation": "op_of_somebody_else"}},
        {"metadata": {}},
        {"object": "charge"},
        {"currency": "eur"},
        {"id": 7},
        {"amount": "1000"},
        {"metadata": None},
    ],
)
def test_an_answer_about_something_else_stays_a_doubt(change):
    assert first(**change) == InDoubt(reason="garbage")


def test_an_answer_to_another_key_stays_a_doubt_even_when_it_is_a_decline():
    made = call()
    for status, body in ((200, intent(made)), (402, {"error": {"type": "card_error"}})):
        answer = reply(status, body, idempotency_key="op_of_somebody_else")
        assert replies.first_outcome(answer, made) == InDoubt(reason="garbage")
    other = intent(call())
    answer = error(402, "card_error", code="card_declined", payment_intent=other)
    assert replies.first_outcome(answer, made) == InDoubt(reason="garbage")


# --- errors -------------------------------------------------------------------------------------------------

SAVED = {"idempotent_replayed": "true"}
FINAL = {"stripe_should_retry": "false"}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (error(401), NotSent(reason="unauthorized")),
        (error(403), NotSent(reason="forbidden")),
        (error(429, code="rate_limit"), NotSent(reason="rate_limited")),
        (error(429, code="lock_timeout"), NotSent(reason="lock_timeout")),
        (
            error(429, _headers={"retry_after": "2"}, code="rate_limit"),
            NotSent(reason="rate_limited", retry_after_s=2.0),
        ),
        (error(409, code="idempotency_key_in_use"), InDoubt(reason="in_flight")),
        (
            error(409, _headers={"retry_after": "0.5"}, code="idempotency_key_in_use"),
            InDoubt(reason="in_flight", retry_after_s=0.5),
        ),
        (error(400, "idempotency_error"), InDoubt(reason=KEY_REUSED)),
        (error(424, "api_error"), InDoubt(reason="server_error")),
        (error(500, "api_error"), InDoubt(reason="server_error")),
        (error(500, "api_error", _headers=SAVED), InDoubt(reason=SAVED_ERROR)),
        (error(500, "api_error", _headers=FINAL), InDoubt(reason=SAVED_ERROR)),
        (error(400, "api_error"), InDoubt(reason="server_error")),
        (error(400, _headers={"stripe_should_retry": "true"}), InDoubt(reason="server_error")),
        (reply(502, b"<html>Bad Gateway</html>"), InDoubt(reason="server_error")),
        (reply(503, b"", retry_after="9999999"), InDoubt(reason="server_error")),
        (reply(503, b"", retry_after="99999"), InDoubt(reason="server_error", retry_after_s=3600.0)),
        (reply(503, b"", retry_after="-1"), InDoubt(reason="server_error")),
        (reply(503, b"", retry_after="Wed, 21 Oct 2026 07:28:00 GMT"), InDoubt(reason="server_error")),
        (reply(400, b"<html>"), InDoubt(reason="garbage")),
        (reply(401, b"<html>proxy</html>"), InDoubt(reason="garbage")),
        (reply(429, b""), InDoubt(reason="garbage")),
        (reply(404, b"{}"), InDoubt(reason="garbage")),
        (reply(302, b'{"error":{"type":"card_error"}}'), InDoubt(reason="garbage")),
    ],
)
def test_what_is_not_a_decline(answer, expected):
    assert replies.first_outcome(answer, call()) == expected


@pytest.mark.parametrize("row", codes.TABLE, ids=lambda row: row.stripe)
def test_each_listed_code_is_declined_as_the_table_says(row):
    for fields in ({"code": "card_declined", "decline_code": row.stripe}, {"code": row.stripe}):
        outcome = replies.error_outcome(error(402, "card_error", **fields))
        assert isinstance(outcome, Declined)
        assert (outcome.category, outcome.code, outcome.gateway_code) == (row.category, row.code, row.stripe)


def test_the_table_names_each_code_once_and_holds_the_known_ones():
    names = [row.stripe for row in codes.TABLE]
    assert len(names) == len(set(names))
    of = {row.stripe: row.category for row in codes.TABLE}
    for hard in ("lost_card", "stolen_card", "pickup_card", "expired_card", "incorrect_number"):
        assert of[hard] is C.HARD
    for soft in ("insufficient_funds", "processing_error", "issuer_not_available", "try_again_later"):
        assert of[soft] is C.SOFT
    assert of["generic_decline"] is of["do_not_honor"] is C.SOFT
    assert of["fraudulent"] is C.FRAUD
    assert of["authentication_required"] is C.AUTHENTICATION_REQUIRED
    # Another gateway would charge what the issuer takes for a repetition.
    assert of["duplicate_transaction"] is C.HARD


def test_codes_that_nobody_listed_are_soft_from_an_issuer_and_invalid_from_stripe():
    outcome = replies.error_outcome(error(402, "card_error", code="card_declined", decline_code="brand_new"))
    assert (outcome.category, outcome.code, outcome.gateway_code) == (C.SOFT, "card_declined", "brand_new")
    outcome = replies.error_outcome(error(400, code="brand_new", param="amount"))
    assert (outcome.category, outcome.code) == (C.INVALID, "invalid_request")
    assert outcome.message == "Stripe: invalid request (amount)"


@pytest.mark.parametrize("field", ["message", "code", "decline_code", "param"])
@pytest.mark.parametrize("status", [400, 402])
def test_no_text_of_stripes_that_could_quote_a_card_is_kept(status, field):
    for text in ("4242424242424242", "No such card: 4242424242424242", "Drop Table 4242"):
        outcome = replies.error_outcome(error(status, **{field: text}))
        assert isinstance(outcome, Declined)
        assert "4242" not in repr(outcome)


# --- captures, voids, refunds -------------------------------------------------------------------------------


def captured(answer: HttpReply, made: Any, multi: bool = False) -> Any:
    return replies.capture_outcome(answer, made, multi_capture=multi)


def test_a_capture_is_approved_with_what_was_received():
    made = call(K.CAPTURE, "7.00 USD")
    answer = reply(200, intent(made, amount_received=700))
    assert captured(answer, made) == Approved(reference="ch_1", amount_minor=700)


def test_one_of_several_captures_is_approved_with_its_own_amount():
    made = call(K.CAPTURE, "2.00 USD", final=False)
    answer = reply(200, intent(made, "requires_capture", amount_received=900))
    assert captured(answer, made, multi=True) == Approved(reference="ch_1", amount_minor=200)
    assert captured(answer, made) == InDoubt(reason="unexpected_status")


def test_a_payment_that_was_captured_before_counts_as_captured():
    made = call(K.CAPTURE, "7.00 USD")
    about = intent(made, amount_received=700)
    answer = error(400, code="payment_intent_unexpected_state", payment_intent=about)
    assert captured(answer, made) == Approved(reference="ch_1", amount_minor=700)
    other = error(400, code="payment_intent_unexpected_state", payment_intent={**about, "id": "pi_2"})
    assert isinstance(captured(other, made), Declined)
    assert isinstance(captured(answer, made, multi=True), Declined)


def test_a_payment_that_was_canceled_before_counts_as_voided_and_a_captured_one_does_not():
    made = call(K.VOID)
    for status, expected in (("canceled", Approved), ("succeeded", Declined)):
        answer = error(400, code="payment_intent_unexpected_state", payment_intent=intent(made, status))
        assert isinstance(replies.void_outcome(answer, made), expected)
    assert isinstance(replies.void_outcome(reply(200, intent(made, "canceled")), made), Approved)
    assert replies.void_outcome(reply(200, intent(made)), made) == InDoubt(reason="unexpected_status")
    assert isinstance(replies.void_outcome(reply(200, intent(made)), made, released=True), Approved)


@pytest.mark.parametrize("parse", [captured, replies.void_outcome], ids=["capture", "void"])
def test_an_answer_about_another_payment_stays_a_doubt(parse):
    made = call(K.CAPTURE, parent_reference="pi_2")
    for status in ("succeeded", "canceled"):
        assert parse(reply(200, intent(made, status)), made) == InDoubt(reason="garbage")


def test_a_confirmation_is_never_refused_by_an_invalid_request():
    """The payment may have gone on by itself: an "unexpected state" can be a charge."""
    made = call(K.CONFIRM)
    refused = error(400, code="payment_intent_unexpected_state")
    assert replies.confirm_outcome(refused, made, K.CHARGE) == InDoubt(reason="unexpected_status")
    told = error(400, code="payment_intent_unexpected_state", payment_intent=intent(made))
    assert isinstance(replies.confirm_outcome(told, made, K.CHARGE), Approved)
    assert replies.confirm_outcome(error(401), made, K.CHARGE) == InDoubt(reason="unauthorized")
    assert isinstance(
        replies.confirm_outcome(error(402, "card_error", code="card_declined"), made, K.CHARGE), Declined
    )


def refund(of: Any, status: str = "succeeded", **fields: Any) -> dict[str, Any]:
    return {
        "id": "re_1",
        "object": "refund",
        "status": status,
        "amount": 300,
        "currency": "usd",
        "metadata": {"aegispay_operation": of.operation_id},
        **fields,
    }


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("succeeded", Approved),
        ("pending", Pending),
        ("requires_action", Pending),
        ("failed", Declined),
        ("canceled", Declined),
        ("new", InDoubt),
        (None, InDoubt),
    ],
)
def test_each_status_of_a_refund(status, kind):
    made = call(K.REFUND, "3.00 USD")
    assert isinstance(replies.refund_reply_outcome(reply(200, refund(made, status)), made), kind)


def test_a_refund_of_another_operation_stays_a_doubt():
    made = call(K.REFUND, "3.00 USD")
    for change in ({"metadata": {}}, {"currency": "eur"}, {"object": "charge"}):
        answer = reply(200, refund(made, **change))
        assert replies.refund_reply_outcome(answer, made) == InDoubt(reason="garbage")


# --- Stripe's own fixtures, and anything at all -------------------------------------------------------------


def fixture(name: str) -> dict[str, Any]:
    return dict(psp_document("stripe/fixtures3.json")["resources"][name])


def test_stripes_own_payment_fixture_in_every_status_gives_the_right_outcome():
    made = call(amount="10.99 USD")
    ours = {"metadata": {"aegispay_operation": made.operation_id}, "last_payment_error": None}
    expected = {
        "succeeded": Approved,
        "processing": Pending,
        "canceled": Declined,
        "requires_action": RequiresAction,
        "requires_payment_method": InDoubt,
        "requires_confirmation": InDoubt,
        "requires_capture": InDoubt,
    }
    for status, kind in expected.items():
        body = {**fixture("payment_intent"), **ours, "status": status}
        outcome = replies.first_outcome(reply(200, body), made)
        assert isinstance(outcome, kind), status
        assert "secret" not in repr(outcome)
        tally.checked("stripe", "fixtures")
    assert set(expected) == set(
        psp_document("stripe/spec3.slim.json")["components"]["schemas"]["payment_intent"]["properties"][
            "status"
        ]["enum"]
    )
    as_it_is = {**fixture("payment_intent"), "metadata": ours["metadata"]}
    assert isinstance(replies.first_outcome(reply(200, as_it_is), made), Declined)


def test_stripes_own_refund_charge_and_payment_method_fixtures_are_read():
    made = call(K.REFUND, "1.00 USD")
    body = {**fixture("refund"), "metadata": {"aegispay_operation": made.operation_id}}
    assert replies.refund_reply_outcome(reply(200, body), made) == Approved(
        reference=fixture("refund")["id"], amount_minor=100
    )
    for name, kind in (("charge", Charge), ("payment_method", Identified), ("refund", StripeRefund)):
        assert read(reply(200, fixture(name)), kind).id == fixture(name)["id"]
        tally.checked("stripe", "fixtures")
    expanded = {**fixture("payment_intent"), "latest_charge": fixture("charge")}
    assert read(reply(200, expanded), Intent).latest_charge.id == fixture("charge")["id"]


def test_no_other_fixture_of_stripes_passes_for_a_success():
    made = call()
    for name in psp_document("stripe/fixtures3.json")["resources"]:
        if name != "payment_intent":
            assert replies.first_outcome(reply(200, fixture(name)), made) == InDoubt(reason="garbage")
            tally.checked("stripe", "fixtures")


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "object", "status", "error", "type", "code", "metadata", "amount"]), inner
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(
    status=st.integers(100, 599),
    body=st.binary(max_size=60) | _json.map(lambda one: json.dumps(one).encode()),
)
def test_no_bytes_raise_and_none_become_a_success(status, body):
    answer = reply(status, body)
    outcomes = [
        replies.first_outcome(answer, call()),
        captured(answer, call(K.CAPTURE)),
        replies.void_outcome(answer, call(K.VOID)),
        replies.refund_reply_outcome(answer, call(K.REFUND)),
        replies.confirm_outcome(answer, call(K.CONFIRM), K.CHARGE),
    ]
    assert not any(isinstance(outcome, Approved | Pending | RequiresAction) for outcome in outcomes)
    if status < 400 or status >= 500:
        assert all(isinstance(outcome, InDoubt) for outcome in outcomes)


def test_the_doubts_that_no_resend_can_end_are_marked():
    assert {SAVED_ERROR, KEY_REUSED} == RESEND_USELESS
