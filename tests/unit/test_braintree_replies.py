"""Every answer of Braintree's becomes the right outcome, and no answer at all becomes a wrong certainty.

The answers are what a server of Braintree's published schema gives to the adapter's own documents.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import Approved, DeclineCategory, Declined, InDoubt, NotSent, Pending
from aegispay.gateways.answers import read_body
from aegispay.gateways.braintree import codes, documents, replies, requests
from aegispay.gateways.http import HttpReply
from tests.fakes import tally
from tests.fakes.braintree_calls import ACCOUNTS, SALE, call, error, execute, refund, sale, schema
from tests.fakes.psp_data import psp_document

K = OperationKind
C = DeclineCategory


def reply(body: Any, status: int = 200, **headers: str) -> HttpReply:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HttpReply(status=status, headers={k.replace("_", "-"): v for k, v in headers.items()}, body=raw)


def refused(*errors: dict[str, Any]) -> HttpReply:
    return reply({"data": {"result": None}, "errors": list(errors)})


def answer(made: Any, transaction: dict[str, Any] | None, mutation_id: str | None = None) -> HttpReply:
    """The schema's answer to the payment."""
    field = "authorizePaymentMethod" if made.kind is K.AUTHORIZE else "chargePaymentMethod"
    document = documents.AUTHORIZE if made.kind is K.AUTHORIZE else documents.CHARGE
    payload = {"transaction": transaction, "clientMutationId": mutation_id or made.operation_id}
    return reply(execute(document, requests.payment(made, ACCOUNTS), {field: payload}))


def paid(status: str, kind: K = K.CHARGE, amount: str = "10.00 USD", **fields: Any) -> Any:
    made = call(kind, amount)
    return replies.payment_outcome(answer(made, sale(made.operation_id, status, **fields)), made)


def looked_up(status: str, kind: K = K.CHARGE, **fields: Any) -> Any:
    """The outcome of the same transaction when a look-up finds it."""
    made = call(kind)
    transaction = answer(made, sale(made.operation_id, status, **fields)).body
    whole = json.loads(transaction)["data"]["result"]["transaction"]
    found = read_body(json.dumps(whole).encode(), replies.Sale)
    return replies.sale_outcome(found, made, kind, looked_up=True)


# --- payments -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", sorted(replies.TAKEN))
def test_a_charge_is_approved_once_it_is_submitted_for_settlement(status):
    assert paid(status) == Approved(reference=SALE, amount_minor=1000)


def test_an_authorisation_is_approved_until_it_expires():
    outcome = paid("AUTHORIZED", K.AUTHORIZE, event={"authorizationExpiresAt": "2027-01-15T08:00:00.000000Z"})
    assert outcome == Approved(reference=SALE, amount_minor=1000, expires_at_us=1_800_000_000_000_000)


def test_an_authorisation_that_was_captured_since_keeps_its_authorised_amount():
    event = {"__typename": "AuthorizedEvent", "status": "AUTHORIZED"}
    history = [{**event, "amount": {"value": "10.00", "currencyCode": "USD"}}]
    outcome = paid("SETTLED", K.AUTHORIZE, amount="10.00 USD", history=history)
    assert outcome == Approved(reference=SALE, amount_minor=1000)


def test_what_is_being_authorised_is_pending():
    assert paid("AUTHORIZING") == Pending(reference=SALE, reason="authorizing")


def test_a_charge_that_is_only_authorised_is_a_doubt():
    assert paid("AUTHORIZED") == InDoubt(reason="unexpected_status")


def test_an_answer_about_something_else_is_no_answer():
    made, other = call(), call()
    assert replies.payment_outcome(answer(made, sale(other.operation_id)), made) == InDoubt(reason="garbage")
    assert replies.payment_outcome(answer(made, sale(None)), made) == InDoubt(reason="garbage")
    assert replies.payment_outcome(answer(made, None), made) == InDoubt(reason="garbage")
    wrong_id = answer(made, sale(made.operation_id), other.operation_id)
    assert replies.payment_outcome(wrong_id, made) == InDoubt(reason="garbage")


def test_trap_money_taken_in_another_currency_is_never_approved():
    made = call(amount="1000 JPY")
    wrong = answer(made, sale(made.operation_id, amount="1000.00", currency="USD"))
    assert replies.payment_outcome(wrong, made) == InDoubt(reason="garbage")
    right = answer(made, sale(made.operation_id, amount="1000", currency="JPY"))
    assert replies.payment_outcome(right, made) == Approved(reference=SALE, amount_minor=1000)


# --- declines -----------------------------------------------------------------------------------------------


def declined(code: str | None, says: str | None = None) -> Any:
    event: dict[str, Any] = {"processorResponse": {"legacyCode": code}} if code else {}
    return paid("PROCESSOR_DECLINED", event={**event, "declineType": says})


@pytest.mark.parametrize(
    "row",
    [row for row in codes.TABLE if row.kind == "processor" and not row.braintree.startswith("3")],
    ids=lambda row: row.braintree,
)
def test_each_processor_code_has_its_category(row):
    outcome = declined(row.braintree)
    assert (outcome.category, outcome.code, outcome.gateway_code) == (row.category, row.code, row.braintree)
    assert outcome.reference == SALE


def test_trap_the_decline_type_goes_before_soft_and_hard_of_the_table():
    assert declined("2000").category is C.SOFT
    assert declined("2000", "HARD").category is C.HARD
    assert declined("2004").category is C.HARD
    assert declined("2004", "SOFT").category is C.SOFT
    # Fraud and a missing authentication are neither.
    assert declined("2014", "SOFT").category is C.FRAUD
    assert declined("2099", "HARD").category is C.AUTHENTICATION_REQUIRED


def test_an_unknown_processor_code_is_kept_raw_and_follows_the_decline_type():
    for says, category in ((None, C.SOFT), ("SOFT", C.SOFT), ("HARD", C.HARD)):
        outcome = declined("2777", says)
        assert (outcome.category, outcome.code, outcome.gateway_code) == (category, "card_declined", "2777")
    assert declined(None).category is C.SOFT


@pytest.mark.parametrize("status", ["FAILED", "PROCESSOR_DECLINED"])
def test_trap_3000_processor_network_unavailable_is_searched_for_first(status):
    event = {"processorResponse": {"legacyCode": "3000"}}
    assert paid(status, event=event) == InDoubt(reason="processor_network")
    outcome = looked_up(status, event=event)
    assert (outcome.category, outcome.code, outcome.gateway_code) == (C.SOFT, "processing_error", "3000")


@pytest.mark.parametrize(
    "row", [row for row in codes.TABLE if row.kind == "gateway"], ids=lambda row: row.braintree
)
def test_each_gateway_rejection_has_its_category(row):
    event = {"gatewayRejectionReason": row.braintree}
    outcome = looked_up("GATEWAY_REJECTED", event=event)
    assert (outcome.category, outcome.code, outcome.gateway_code) == (row.category, row.code, row.braintree)
    if row.braintree != "DUPLICATE":
        assert paid("GATEWAY_REJECTED", event=event).code == row.code


def test_every_rejection_reason_of_the_schema_is_in_the_table():
    known = {row.braintree for row in codes.TABLE if row.kind == "gateway"}
    assert known == set(schema().type_map["GatewayRejectionReason"].values)  # type: ignore[attr-defined]


def test_trap_a_duplicate_rejection_may_be_of_our_own_earlier_copy():
    event = {"gatewayRejectionReason": "DUPLICATE"}
    assert paid("GATEWAY_REJECTED", event=event) == InDoubt(reason="duplicate")


def test_an_unknown_rejection_is_hard():
    assert paid("GATEWAY_REJECTED").category is C.HARD


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("VOIDED", "canceled"),
        ("AUTHORIZATION_EXPIRED", "authorization_expired"),
        ("SETTLEMENT_DECLINED", "settlement_declined"),
    ],
)
def test_states_in_which_nothing_was_taken(status, code):
    outcome = paid(status)
    assert (outcome.category, outcome.code) == (C.HARD, code)


def test_every_status_of_the_schema_is_decided():
    for status in schema().type_map["PaymentStatus"].values:  # type: ignore[attr-defined]
        assert looked_up(status, K.AUTHORIZE) != InDoubt(reason="unexpected_status"), status


# --- errors under HTTP 200 ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error_class", "expected"),
    [
        ("AUTHENTICATION", NotSent(reason="unauthorized")),
        ("AUTHORIZATION", NotSent(reason="forbidden")),
        ("RESOURCE_LIMIT", NotSent(reason="rate_limited")),
        ("UNSUPPORTED_CLIENT", NotSent(reason="unsupported_client")),
        ("INTERNAL", InDoubt(reason="server_error")),
        ("SERVICE_AVAILABILITY", InDoubt(reason="server_error")),
        ("SOMETHING_NEW", InDoubt(reason="server_error")),
        (None, InDoubt(reason="garbage")),
    ],
)
def test_trap_errors_come_under_http_200_and_their_class_decides(error_class, expected):
    assert replies.payment_outcome(refused(error(error_class)), call()) == expected


def test_the_most_doubtful_of_several_errors_decides():
    made = call()
    for errors in (
        (error("VALIDATION", "91565"), error("INTERNAL")),
        (error("INTERNAL"), error("AUTHENTICATION")),
    ):
        assert replies.payment_outcome(refused(*errors), made) == InDoubt(reason="server_error")
    both = refused(error("AUTHENTICATION"), error("VALIDATION", "91565"))
    assert isinstance(replies.payment_outcome(both, made), Declined)


def test_trap_a_result_beside_errors_counts():
    """GraphQL knows partial success: the charge was made, only a field of the answer failed."""
    made = call()
    body = json.loads(answer(made, sale(made.operation_id)).body)
    body["errors"] = [error("INTERNAL")]
    assert replies.payment_outcome(reply(body), made) == Approved(reference=SALE, amount_minor=1000)


def test_trap_91564_nonce_consumed_may_be_our_own_earlier_copy():
    for code in ("91564", "91566"):
        assert replies.payment_outcome(refused(error("VALIDATION", code)), call()) == InDoubt(
            reason="nonce_consumed"
        )


def test_trap_91506_a_refund_needs_settlement():
    outcome = replies.refund_outcome(refused(error("VALIDATION", "91506")), call(K.REFUND), SALE)
    assert (outcome.category, outcome.code, outcome.gateway_code) == (C.INVALID, "not_settled", "91506")


def test_every_official_validation_code_is_a_definite_no_except_the_nonces_in_use():
    official = psp_document("braintree/validation_error_codes.json")
    table = {row.braintree: row for row in codes.TABLE if row.kind == "validation"}
    assert set(table) <= set(official)
    for code in official:
        outcome = replies.payment_outcome(refused(error("VALIDATION", code)), call())
        if code in codes.NONCE_BUSY:
            assert outcome == InDoubt(reason="nonce_consumed")
        else:
            assert isinstance(outcome, Declined)
            row = table.get(code)
            expected = (row.category, row.code) if row else (C.INVALID, "invalid_request")
            assert (outcome.category, outcome.code, outcome.gateway_code) == (*expected, code)
            assert "4111" not in repr(outcome)
        tally.checked("braintree", "codes")
    for code, row in table.items():
        assert official[code].endswith(row.text), code


def test_a_numeric_legacy_code_is_read_too():
    numeric = error("VALIDATION")
    numeric["extensions"]["legacyCode"] = 91512
    assert replies.payment_outcome(refused(numeric), call()).code == "already_refunded"


def test_what_was_not_found_is_a_definite_no():
    outcome = replies.capture_outcome(refused(error("NOT_FOUND")), call(K.CAPTURE))
    assert (outcome.category, outcome.code) == (C.INVALID, "not_found")


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (reply(b"<html>", 502), InDoubt(reason="server_error")),
        (reply(b"", 503, retry_after="9"), InDoubt(reason="server_error", retry_after_s=9.0)),
        (reply({}, 401), NotSent(reason="unauthorized")),
        (reply(b"no", 401), InDoubt(reason="garbage")),
        (reply({}, 429, retry_after="2"), NotSent(reason="rate_limited", retry_after_s=2.0)),
        (reply({}, 403), InDoubt(reason="garbage")),
        (reply({}, 302), InDoubt(reason="garbage")),
        (reply({}), InDoubt(reason="garbage")),
        (reply([]), InDoubt(reason="garbage")),
        (reply(b""), InDoubt(reason="garbage")),
        (reply({"data": None}), InDoubt(reason="garbage")),
        (reply({"data": None, "errors": []}), InDoubt(reason="garbage")),
        (reply({"data": {"result": 7}, "errors": [error("VALIDATION")]}), InDoubt(reason="garbage")),
    ],
)
def test_answers_that_are_no_result(made, expected):
    assert replies.payment_outcome(made, call()) == expected


# --- captures, reversals, refunds ---------------------------------------------------------------------------


def captured(status: str, **fields: Any) -> Any:
    made = call(K.CAPTURE, "7.00 USD")
    transaction = sale("op_parent", status, **fields)
    payload = {"transaction": transaction, "clientMutationId": made.operation_id}
    body = execute(
        documents.CAPTURE, requests.capture(made, multi_capture=False), {"captureTransaction": payload}
    )
    return replies.capture_outcome(reply(body), made)


def test_a_capture_says_what_it_took():
    assert captured("SUBMITTED_FOR_SETTLEMENT", amount="7.00") == Approved(reference=SALE, amount_minor=700)
    assert captured("SUBMITTED_FOR_SETTLEMENT", id="other") == InDoubt(reason="garbage")
    assert captured("AUTHORIZED") == InDoubt(reason="unexpected_status")


def reversed_to(made: Any, reversal: dict[str, Any]) -> Any:
    payload = {"reversal": reversal, "clientMutationId": made.operation_id}
    body = execute(documents.REVERSE, requests.reverse(made, SALE), {"reverseTransaction": payload})
    return replies.reversal_outcome(reply(body), made, SALE)


def test_trap_reverse_transaction_voids_or_refunds_and_says_which():
    made = call(K.VOID)
    assert reversed_to(made, sale("op_parent", "VOIDED")) == Approved(reference=SALE, amount_minor=1000)
    assert reversed_to(made, refund("op_parent")) == Approved(reference="cmVmdW5kXzE", amount_minor=1000)
    assert reversed_to(made, sale("op_parent", "AUTHORIZED")) == InDoubt(reason="unexpected_status")
    assert reversed_to(made, {**sale("op_parent", "VOIDED"), "id": "other"}) == InDoubt(reason="garbage")
    assert reversed_to(made, refund("op_parent", of="other")) == InDoubt(reason="garbage")


def refunded(status: str, order_id: str | None = None, **fields: Any) -> Any:
    made = call(K.REFUND, "3.00 USD")
    payload = {
        "refund": refund(order_id or made.operation_id, status, amount="3.00", **fields),
        "clientMutationId": made.operation_id,
    }
    body = execute(documents.REFUND, requests.refund(made), {"refundTransaction": payload})
    return replies.refund_outcome(reply(body), made, SALE)


def test_a_refund_has_the_outcome_of_its_state():
    for status in ("SUBMITTED_FOR_SETTLEMENT", "SETTLING", "SETTLED", "AUTHORIZED"):
        assert refunded(status) == Approved(reference="cmVmdW5kXzE", amount_minor=300)
    assert isinstance(refunded("AUTHORIZING"), Pending)
    for status in ("PROCESSOR_DECLINED", "GATEWAY_REJECTED", "FAILED", "SETTLEMENT_DECLINED", "VOIDED"):
        outcome = refunded(status)
        assert (outcome.category, outcome.code) == (C.INVALID, "refund_failed")


def test_a_refund_of_something_else_is_no_answer():
    assert refunded("SETTLED", order_id="op_other") == InDoubt(reason="garbage")
    assert refunded("SETTLED", of="other") == InDoubt(reason="garbage")
    assert refunded("SETTLED", currency="EUR") == InDoubt(reason="garbage")


# --- totality -----------------------------------------------------------------------------------------------

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=8,
)
_transaction = st.fixed_dictionaries(
    {"id": st.just(SALE) | _json},
    optional={
        "orderId": _json,
        "status": st.sampled_from(["SETTLED", "AUTHORIZED", "FAILED", "odd"]) | _json,
        "amount": st.just({"value": "10.00", "currencyCode": "USD"}) | _json,
        "statusHistory": _json,
    },
)
_body = st.fixed_dictionaries(
    {},
    optional={
        "data": st.fixed_dictionaries({"result": st.fixed_dictionaries({"transaction": _transaction})})
        | _json,
        "errors": st.lists(st.sampled_from([error("INTERNAL"), error("VALIDATION", "91506"), error(None)]))
        | _json,
    },
)


@settings(max_examples=300, deadline=None)
@given(
    status=st.sampled_from([200, 201, 401, 403, 422, 429, 500]),
    body=st.binary(max_size=60) | _body.map(lambda value: json.dumps(value).encode()),
)
def test_whatever_the_bytes_are_there_is_one_outcome_and_no_approval_by_chance(status, body):
    made = call()
    for outcome in (
        replies.payment_outcome(HttpReply(status=status, headers={}, body=body), made),
        replies.reversal_outcome(HttpReply(status=status, headers={}, body=body), made, SALE),
        replies.refund_outcome(HttpReply(status=status, headers={}, body=body), made, SALE),
    ):
        assert not isinstance(outcome, Approved)
        if status >= 500:
            assert isinstance(outcome, InDoubt)
