"""Every answer of PayPal's becomes the right outcome, and no answer at all becomes a wrong certainty."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import (
    Approved,
    DeclineCategory,
    Declined,
    InDoubt,
    NotSent,
    Pending,
    RequiresAction,
)
from aegispay.gateways.answers import read
from aegispay.gateways.paypal import codes, replies
from aegispay.gateways.paypal.wire_types import Order, Transaction
from tests.fakes import tally
from tests.fakes.json_psp import reply
from tests.fakes.paypal_calls import (
    APPROVE,
    AUTHORIZATION,
    CAPTURE,
    ORDER,
    call,
    declined,
    error,
    made,
    money,
    order,
    refund,
)
from tests.fakes.psp_data import psp_document

K = OperationKind
C = DeclineCategory


def of_order(kind: K = K.CHARGE, status: str = "COMPLETED", of: Any = None, **fields: Any) -> Any:
    of = of or call(kind)
    found = read(reply(200, order(of, status, **fields)), Order)
    return replies.order_outcome(found, of, kind, of.operation_id)


def of_capture(body: dict[str, Any], kind: K = K.CHARGE, amount: str = "10.00 USD") -> Any:
    return replies.made_outcome(read(reply(200, body), Transaction), call(kind, amount), kind, ORDER)


# --- orders -------------------------------------------------------------------------------------------------


def test_a_completed_capture_is_approved_by_its_own_id():
    of = call()
    assert of_order(of=of, captures=[made(of)]) == Approved(reference=CAPTURE, amount_minor=1000)


def test_trap_paypals_201_with_a_declined_capture_is_a_decline():
    """The order says COMPLETED, HTTP says 201: only the capture inside tells that nothing was taken."""
    of = call()
    outcome = of_order(of=of, captures=[declined(of, "5120")])
    assert (outcome.category, outcome.code, outcome.gateway_code) == (C.SOFT, "insufficient_funds", "5120")
    assert outcome.reference == ORDER


def test_a_declined_try_beside_a_success_does_not_hide_it():
    of = call()
    both = [declined(of, "9500", id="X1"), made(of), declined(of, "5120", id="X2")]
    assert of_order(of=of, captures=both) == Approved(reference=CAPTURE, amount_minor=1000)


def test_an_authorization_is_approved_until_it_expires():
    of = call(K.AUTHORIZE)
    body = made(of, "CREATED", id=AUTHORIZATION, expiration_time="2023-12-13T22:13:20Z")
    assert of_order(K.AUTHORIZE, of=of, authorizations=[body]) == Approved(
        reference=AUTHORIZATION, amount_minor=1000, expires_at_us=1_702_505_600_000_000
    )


def test_an_authorization_that_was_captured_in_part_and_then_voided_had_been_approved():
    """Whoever voids it releases what is left; what was captured before stays taken."""
    of = call(K.AUTHORIZE)
    voided = made(of, "VOIDED", id=AUTHORIZATION)
    assert of_order(K.AUTHORIZE, of=of, authorizations=[voided]).code == "canceled"
    refused = [declined(of)]
    assert of_order(K.AUTHORIZE, of=of, authorizations=[voided], captures=refused).code == "canceled"
    for status in ("COMPLETED", "PENDING", "REFUNDED"):
        taken = [made(of, status)]
        outcome = of_order(K.AUTHORIZE, of=of, authorizations=[voided], captures=taken)
        assert outcome == Approved(reference=AUTHORIZATION, amount_minor=1000)


@pytest.mark.parametrize("status", ["CREATED", "PAYER_ACTION_REQUIRED"])
def test_an_order_that_waits_for_the_payer_says_where_to(status):
    outcome = of_order(status=status, links=APPROVE)
    assert isinstance(outcome, RequiresAction)
    assert (outcome.reference, outcome.action.url) == (ORDER, APPROVE[1]["href"])
    assert outcome.action.data == {"order_id": ORDER}


def test_an_approved_order_waits_for_our_own_call():
    assert of_order(status="APPROVED") is None
    assert of_order(status="CREATED") is None
    assert of_order(status="PAYER_ACTION_REQUIRED") == InDoubt(reason="unexpected_status")


def test_an_order_without_what_it_took_is_in_doubt():
    assert of_order(status="COMPLETED") == InDoubt(reason="unexpected_status")
    assert of_order(status="NEW_STATUS") == InDoubt(reason="unexpected_status")


def test_a_voided_order_is_canceled():
    assert of_order(status="VOIDED").code == "canceled"


def test_somebody_elses_order_is_garbage():
    of = call()
    found = read(reply(200, order("op_other", captures=[made(None)])), Order)
    assert replies.order_outcome(found, of, K.CHARGE, of.operation_id) == InDoubt(reason="garbage")


def test_a_link_that_is_no_web_address_is_not_handed_to_the_payer():
    links = [{"rel": "approve", "href": "javascript:alert(1)"}]
    assert of_order(status="CREATED", links=links) is None


# --- captures, authorizations, refunds ----------------------------------------------------------------------


def test_every_status_of_the_specification_has_an_outcome():
    document = psp_document("paypal/payments_payment_v2.json")["components"]["schemas"]
    wanted = {
        "COMPLETED": Approved,
        "PARTIALLY_REFUNDED": Approved,
        "REFUNDED": Approved,
        "PENDING": Pending,
        "DECLINED": Declined,
        "FAILED": Declined,
        "CREATED": Approved,
        "CAPTURED": Approved,
        "PARTIALLY_CAPTURED": Approved,
        "DENIED": Declined,
        "VOIDED": Declined,
        "CANCELLED": Declined,
    }
    checked = 0
    for name, kind in (("capture_status", K.CHARGE), ("authorization_status", K.AUTHORIZE)):
        for status in document[name]["properties"]["status"]["enum"]:
            outcome = of_capture(made(None, status), kind)
            assert isinstance(outcome, wanted[status]), (name, status)
            checked += 1
    for status in document["refund_status"]["properties"]["status"]["enum"]:
        of = call(K.REFUND)
        outcome = replies.refund_outcome(read(reply(200, refund(of, status)), Transaction), of)
        assert isinstance(outcome, wanted[status]), status
        checked += 1
    tally.checked("paypal", "fixtures", checked)


def test_a_pending_capture_says_why():
    body = made(None, "PENDING", status_details={"reason": "ECHECK"})
    assert of_capture(body) == Pending(reference=ORDER, reason="pending_echeck")
    assert of_capture(body, K.CAPTURE) == Pending(reference=CAPTURE, reason="pending_echeck")


@pytest.mark.parametrize(
    ("body", "amount"),
    [
        (made(None, amount=money("10.00", "EUR")), "10.00 USD"),
        (made(None, amount=money("ten")), "10.00 USD"),
        (made(None, amount=money("10.50", "JPY")), "10 JPY"),
        (made(None, amount={}), "10.00 USD"),
        (made(None, "SOMETHING"), "10.00 USD"),
    ],
)
def test_what_does_not_fit_is_in_doubt(body, amount):
    assert isinstance(of_capture(body, amount=amount), InDoubt)


@pytest.mark.parametrize("amount", [money("10.00", "EUR"), money("x"), {}])
def test_a_refund_that_does_not_fit_is_in_doubt(amount):
    of = call(K.REFUND)
    found = read(reply(200, refund(of, amount=amount)), Transaction)
    assert replies.refund_outcome(found, of) == InDoubt(reason="garbage")
    assert replies.refund_outcome(read(reply(200, refund(of, "ODD")), Transaction), of) == InDoubt(
        reason="unexpected_status"
    )


@pytest.mark.parametrize("text", ["2023-12-13T22:13:20", "soon", "", "2023-12-13T22:13:20Z" + " " * 40])
def test_a_time_without_a_zone_is_no_time(text):
    assert replies.time_us(text) is None


def test_amounts_come_back_in_our_minor_units():
    assert of_capture(made(None, amount=money("1234", "HUF")), amount="1234.00 HUF").amount_minor == 123400
    assert of_capture(made(None, amount=money("500", "JPY")), amount="500 JPY").amount_minor == 500


# --- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "wanted"),
    [
        (401, error("INVALID_ACCOUNT_STATUS", "AUTHENTICATION_FAILURE"), NotSent(reason="unauthorized")),
        (401, b"", NotSent(reason="unauthorized")),
        (403, error("PERMISSION_DENIED", "NOT_AUTHORIZED"), NotSent(reason="forbidden")),
        (
            429,
            error("RATE_LIMIT_REACHED", "RATE_LIMIT_REACHED"),
            NotSent(reason="rate_limited", retry_after_s=9.0),
        ),
        (500, error("INTERNAL"), InDoubt(reason="server_error", retry_after_s=9.0)),
        (503, b"<html>", InDoubt(reason="server_error", retry_after_s=9.0)),
        (403, b"<html>proxy</html>", InDoubt(reason="garbage")),
        (429, b"<html>proxy</html>", InDoubt(reason="garbage")),
        (302, b"", InDoubt(reason="garbage")),
    ],
)
def test_only_a_refusal_before_execution_is_proof(status, body, wanted):
    assert replies.error_outcome(reply(status, body, retry_after="9")) == wanted


def test_409_previous_request_in_progress_is_waited_for():
    body = error("PREVIOUS_REQUEST_IN_PROGRESS", "RESOURCE_CONFLICT")
    assert replies.error_outcome(reply(409, body)) == InDoubt(reason="in_flight")
    assert replies.error_outcome(reply(422, error("ORDER_COMPLETION_IN_PROGRESS"))) == InDoubt(
        reason="in_flight"
    )


def test_a_duplicate_invoice_id_is_no_decline_for_only_we_can_have_used_it():
    outcome = replies.error_outcome(reply(422, error("DUPLICATE_INVOICE_ID")))
    assert outcome == InDoubt(reason=replies.DUPLICATE_INVOICE)


def test_paypals_text_is_never_repeated():
    body = error("4242424242424242", field="/payment_source/card/number")
    body["details"][0]["description"] = "4242424242424242 is bad"
    outcome = replies.error_outcome(reply(422, body))
    assert outcome.message == "PayPal: invalid request (/payment_source/card/number)"
    assert "is bad" not in repr(outcome)


def test_every_official_issue_has_a_row_and_an_outcome():
    ours = [
        "POST /v2/checkout/orders",
        "GET /v2/checkout/orders/{id}",
        "POST /v2/checkout/orders/{id}/authorize",
        "POST /v2/checkout/orders/{id}/capture",
        "GET /v2/payments/authorizations/{authorization_id}",
        "POST /v2/payments/authorizations/{authorization_id}/capture",
        "POST /v2/payments/authorizations/{authorization_id}/void",
        "GET /v2/payments/captures/{capture_id}",
        "POST /v2/payments/captures/{capture_id}/refund",
        "GET /v2/payments/refunds/{refund_id}",
    ]
    doubts = {"PREVIOUS_REQUEST_IN_PROGRESS", "ORDER_COMPLETION_IN_PROGRESS", "DUPLICATE_INVOICE_ID"}
    listed = psp_document("paypal/error_issues.json")
    checked = 0
    for operation in ours:
        for status, issues in listed[operation].items():
            for issue in issues:
                row = codes.row_of(issue)
                assert row is not None, issue
                outcome = replies.error_outcome(reply(int(status), error(issue)))
                if status in ("401", "403"):
                    assert isinstance(outcome, NotSent), issue
                elif issue in doubts:
                    assert isinstance(outcome, InDoubt), issue
                else:
                    assert (outcome.category, outcome.code, outcome.gateway_code) == (
                        row.category,
                        row.code,
                        issue,
                    )
                checked += 1
    tally.checked("paypal", "codes", checked)
    assert checked > 250


def test_every_processor_code_of_the_specification_has_a_row():
    schemas = psp_document("paypal/checkout_orders_v2.json")["components"]["schemas"]
    listed = schemas["processor_response"]["properties"]["response_code"]["enum"]
    for code in listed:
        if code == "0000":
            continue  # approved
        row = codes.row_of(code)
        assert row is not None and row.source == codes.PROCESSOR, code
        outcome = of_capture(declined(None, code))
        assert (outcome.category, outcome.code, outcome.gateway_code) == (row.category, row.code, code)
    tally.checked("paypal", "codes", len(listed))


@pytest.mark.parametrize(
    ("code", "category"),
    [
        ("0500", C.SOFT),
        ("5120", C.SOFT),
        ("5100", C.SOFT),
        ("00N7", C.SOFT),
        ("9500", C.FRAUD),
        ("9520", C.HARD),
        ("5180", C.HARD),
        ("1330", C.HARD),
        ("5400", C.HARD),
        ("5650", C.AUTHENTICATION_REQUIRED),
        ("ZZZZ", C.SOFT),
        (None, C.SOFT),
    ],
)
def test_processor_codes_decide_whether_another_gateway_is_asked(code, category):
    outcome = of_capture(declined(None, code))
    assert outcome.category is category
    assert outcome.gateway_code == (code or "DECLINED")


def test_an_unknown_issue_is_an_invalid_request_and_kept_raw():
    outcome = replies.error_outcome(reply(422, error("BRAND_NEW_ISSUE")))
    assert (outcome.category, outcome.code, outcome.gateway_code) == (
        C.INVALID,
        "invalid_request",
        "BRAND_NEW_ISSUE",
    )


def test_each_code_stands_in_the_table_once_with_its_source():
    assert len({row.paypal for row in codes.TABLE}) == len(codes.TABLE) == len(codes._BY_CODE)
    assert all(row.source and row.code == row.code.lower() for row in codes.TABLE)


@settings(max_examples=300, deadline=None)
@given(
    status=st.integers(200, 599),
    body=st.binary(max_size=60)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(
                st.sampled_from(["id", "name", "details", "issue", "status"]), inner, max_size=4
            )
        ),
        max_leaves=6,
    ).map(lambda one: json.dumps(one).encode()),
)
def test_no_answer_at_all_becomes_a_wrong_certainty(status, body):
    outcome = replies.error_outcome(reply(status, body))
    assert not isinstance(outcome, Approved | Pending)
    if not 400 <= status < 500:
        assert isinstance(outcome, InDoubt)
