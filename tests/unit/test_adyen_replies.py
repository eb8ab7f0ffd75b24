"""Every answer of Adyen's becomes the right outcome, and no answer at all becomes a wrong certainty."""

from __future__ import annotations

import json
from pathlib import Path
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
from aegispay.gateways.adyen import codes, replies
from aegispay.gateways.http import HttpReply
from tests.fakes import psp_data, tally
from tests.fakes.adyen_calls import PSP, call
from tests.fakes.psp_data import psp_document

K = OperationKind
C = DeclineCategory


def reply(status: int, body: Any, **headers: str) -> HttpReply:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HttpReply(status=status, headers={k.replace("_", "-"): v for k, v in headers.items()}, body=raw)


def error(status: int, code: str, type_: str = "validation", **headers: str) -> HttpReply:
    body = {"status": status, "errorCode": code, "message": "4111111111111111 no", "errorType": type_}
    return reply(status, body, **headers)


def payment(result: str = "Authorised", of: Any = None, **fields: Any) -> dict[str, Any]:
    return {
        "pspReference": PSP,
        "resultCode": result,
        **({"merchantReference": of.operation_id} if of is not None else {}),
        **fields,
    }


def paid(result: str = "Authorised", kind: K = K.CHARGE, amount: str = "10.00 EUR", **fields: Any) -> Any:
    made = call(kind, amount)
    return replies.payment_outcome(reply(200, payment(result, made, **fields)), made)


def modified(made: Any, answer: HttpReply, payment_reference: str | None = None) -> Any:
    return replies.modification_outcome(
        answer,
        made,
        key=made.gateway_key,
        reference=made.operation_id,
        payment=payment_reference or made.parent_reference,
    )


def received(made: Any, **fields: Any) -> dict[str, Any]:
    return {
        "merchantAccount": "TestMerchant",
        "paymentPspReference": made.parent_reference,
        "pspReference": "8836226171638872",
        "reference": made.operation_id,
        "status": "received",
        **fields,
    }


# --- official fixtures --------------------------------------------------------------------------------------

PAYMENTS: dict[str, tuple[int, Any]] = {
    "payments-success": (200, Approved(reference="8535296650153317", amount_minor=1000)),
    "paymentsdetails-success": (200, Approved(reference="8515232733321252", amount_minor=1000)),
    "paymentsresult-success": (200, Approved(reference="8535253563623704", amount_minor=1000)),
    "payments-error-invalid-data-422": (422, (C.INVALID, "invalid_request", "130")),
    "paymentsdetails-error-invalid-data-422": (422, (C.HARD, "incorrect_number", "101")),
    "paymentsresult-error-invalid-data-payload-422": (422, (C.INVALID, "invalid_request", "14_018")),
    "paymentsession-error-invalid-data-422": (422, (C.INVALID, "invalid_request", "14_012")),
    "sessions-error-invalid-data-422": (422, (C.INVALID, "invalid_request", "130")),
    "paymentmethods-error-forbidden-403": (403, NotSent(reason="forbidden")),
    # Answers to other requests, which must never be taken for an answer to a payment.
    "paymentmethods-success": (200, InDoubt(reason="unexpected_status")),
    "paymentlinks-success": (200, InDoubt(reason="unexpected_status")),
    "getpaymenlinks-succes": (200, InDoubt(reason="unexpected_status")),
    "updatepaymentlinks-success": (200, InDoubt(reason="unexpected_status")),
    "sessions-success": (200, InDoubt(reason="unexpected_status")),
    "paymentsession-success": (200, InDoubt(reason="unexpected_status")),
    "orders-success": (200, InDoubt(reason="unexpected_status")),
    "paymentmethods-balance-success": (200, InDoubt(reason="unexpected_status")),
    "orders-cancel-success": (200, Pending(reference="8515931182066678", reason="received")),
}
MODIFICATIONS = {
    "paymentcapture-success": ("8536214160615591", "YOUR_UNIQUE_REFERENCE", "8836226171638872"),
    "paymentscancels-success": ("8836183819713023", "Cancel123", "8412534564722331"),
    "paymentscancel-withoutreference-succes": ("Payment123", "YourCancelReference", "8412534564722331"),
    "paymentsreversals-success": ("8836183819713023", "YourReversalReference", "8863534564726784"),
}


@pytest.mark.parametrize("name", PAYMENTS)
def test_official_payment_fixtures(name):
    status, expected = PAYMENTS[name]
    outcome = replies.payment_outcome(
        reply(status, psp_document(f"adyen/sdk-python/checkout/{name}.json")), call()
    )
    if isinstance(expected, tuple):
        assert isinstance(outcome, Declined)
        assert (outcome.category, outcome.code, outcome.gateway_code) == expected
    else:
        assert outcome == expected
    tally.checked("adyen", "fixtures")


@pytest.mark.parametrize("name", MODIFICATIONS)
def test_official_modification_fixtures(name):
    about, reference, psp = MODIFICATIONS[name]
    made = call(K.CAPTURE, "25.00 EUR", operation_id=reference, parent_reference=about)
    body = psp_document(f"adyen/sdk-python/checkout/{name}.json")
    assert modified(made, reply(201, body)) == Pending(reference=psp, reason="received")
    other = call(K.CAPTURE, "25.00 EUR", parent_reference=about)
    assert modified(other, reply(201, body)) == InDoubt(reason="garbage")
    tally.checked("adyen", "fixtures")


def test_no_official_fixture_is_left_out():
    folder = Path(psp_data._ROOT) / "psp/adyen/sdk-python/checkout"
    if not folder.is_dir():
        pytest.skip("Adyen's fixtures are absent")
    assert {file.stem for file in folder.iterdir()} == {*PAYMENTS, *MODIFICATIONS}


# --- payments -----------------------------------------------------------------------------------------------


def test_an_approval_has_the_amount_that_adyen_names():
    assert paid(amount="10.00 EUR") == Approved(reference=PSP, amount_minor=1000)
    assert paid("PartiallyAuthorised", amount_={}) == InDoubt(reason="garbage")
    part = {"currency": "EUR", "value": 700}
    made = call()
    answer = reply(200, payment("PartiallyAuthorised", made) | {"amount": part})
    assert replies.payment_outcome(answer, made) == Approved(reference=PSP, amount_minor=700)


def test_trap_amounts_come_back_in_our_minor_units():
    made = call(amount="500 ISK")
    for value, expected in ((50_000, Approved(reference=PSP, amount_minor=500)), (50_050, None), (0, None)):
        answer = reply(200, payment(of=made) | {"amount": {"currency": "ISK", "value": value}})
        assert replies.payment_outcome(answer, made) == (expected or InDoubt(reason="garbage"))


def test_an_approval_in_another_currency_is_no_answer():
    made = call()
    answer = reply(200, payment(of=made) | {"amount": {"currency": "USD", "value": 1000}})
    assert replies.payment_outcome(answer, made) == InDoubt(reason="garbage")


def test_an_approval_of_another_payment_is_no_answer():
    made, other = call(), call()
    assert replies.payment_outcome(reply(200, payment(of=other)), made) == InDoubt(reason="garbage")
    echoed = reply(200, payment(), idempotency_key=other.gateway_key)
    assert replies.payment_outcome(echoed, made) == InDoubt(reason="garbage")
    echoed = reply(200, payment(), idempotency_key=made.gateway_key)
    assert isinstance(replies.payment_outcome(echoed, made), Approved)


@pytest.mark.parametrize("result", ["Received", "Pending"])
def test_what_is_not_decided_is_pending(result):
    assert paid(result) == Pending(reference=PSP, reason=result.lower())


@pytest.mark.parametrize(
    "result", ["AuthenticationFinished", "AuthenticationNotRequired", "Success", "", "x"]
)
def test_a_result_that_says_nothing_of_money_is_a_doubt(result):
    assert paid(result) == InDoubt(reason="unexpected_status")


REDIRECT = {"type": "redirect", "method": "GET", "url": "https://checkoutshopper-test.adyen.com/3ds?MD=1"}


def test_a_redirect_is_handed_to_the_payer_under_our_reference_where_adyen_has_none():
    made = call()
    body = {"resultCode": "RedirectShopper", "action": REDIRECT}
    outcome = replies.payment_outcome(reply(200, body), made)
    assert isinstance(outcome, RequiresAction)
    assert outcome.reference == made.operation_id
    assert (outcome.action.type, outcome.action.url) == (ActionType.REDIRECT, REDIRECT["url"])
    assert paid("RedirectShopper", action=REDIRECT).reference == PSP


@pytest.mark.parametrize("result", ["ChallengeShopper", "IdentifyShopper", "PresentToShopper"])
def test_other_actions_go_to_adyens_own_component_whole(result):
    action = {"type": "threeDS2", "token": "eyJ0", "paymentData": "Ab02", "subtype": "challenge"}
    outcome = paid(result, action=action)
    assert outcome.action.type is ActionType.SDK
    assert json.loads(outcome.action.data["action"]) == action


def test_a_redirect_by_post_is_for_the_component():
    outcome = paid("RedirectShopper", action={**REDIRECT, "method": "POST", "data": {"MD": "x"}})
    assert outcome.action.type is ActionType.SDK


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "http://evil.example/", "https://x\n", "https://" + "x" * 9000]
)
def test_a_payer_is_sent_nowhere_odd(url):
    assert paid("RedirectShopper", action={**REDIRECT, "url": url}) == InDoubt(reason="unexpected_status")
    assert paid("RedirectShopper") == InDoubt(reason="unexpected_status")


# --- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row", [row for row in codes.TABLE if row.kind == "refusal"], ids=lambda row: row.adyen
)
def test_each_refusal_reason_has_its_category(row):
    for result in ("Refused", "Error", "Cancelled"):
        outcome = paid(result, refusalReason=row.text, refusalReasonCode=row.adyen)
        assert (outcome.category, outcome.code, outcome.gateway_code) == (row.category, row.code, row.adyen)
        assert outcome.reference == PSP


def test_the_table_agrees_with_what_the_facts_list():
    category = {row.adyen: row.category for row in codes.TABLE if row.kind == "refusal"}
    assert {category[code] for code in ("2", "4", "9", "12")} == {C.SOFT}
    assert {category[code] for code in ("5", "6", "8")} == {C.HARD}
    # The risk check said fraud: as final as a hard decline.
    assert category["20"] is C.FRAUD
    assert category["38"] is C.AUTHENTICATION_REQUIRED
    assert len({(row.kind, row.adyen) for row in codes.TABLE}) == len(codes.TABLE)


def test_an_unknown_refusal_is_kept_raw_and_soft():
    outcome = paid("Refused", refusalReasonCode="999", refusalReason="New")
    assert (outcome.category, outcome.code, outcome.gateway_code) == (C.SOFT, "card_declined", "999")
    assert paid("Error").category is C.SOFT
    assert (paid("Cancelled").category, paid("Cancelled").code) == (C.HARD, "canceled")
    assert paid("Refused", refusalReasonCode="4111 1111").gateway_code == ""


# --- errors -------------------------------------------------------------------------------------------------


def test_trap_704_and_409_are_in_flight_and_never_a_decline():
    made = call()
    for answer in (
        error(422, "704", transient_error="true"),
        error(422, "704"),
        error(409, "704"),
        error(409, "000"),
    ):
        assert replies.payment_outcome(answer, made) == InDoubt(reason="in_flight")
        assert modified(call(K.CAPTURE), answer) == InDoubt(reason="in_flight")


def test_trap_the_transient_error_header_makes_any_refusal_a_doubt():
    made = call()
    assert isinstance(replies.payment_outcome(error(422, "130"), made), Declined)
    answer = error(422, "130", transient_error="true")
    assert replies.payment_outcome(answer, made) == InDoubt(reason="server_error")


def test_trap_a_key_store_that_is_down_says_nothing():
    answer = error(503, "703", "internal", transient_error="true", retry_after="7")
    assert replies.payment_outcome(answer, call()) == InDoubt(reason="server_error", retry_after_s=7.0)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (error(401, "000", "security"), NotSent(reason="unauthorized")),
        (error(403, "901", "security"), NotSent(reason="forbidden")),
        (error(429, "000", retry_after="3"), NotSent(reason="rate_limited", retry_after_s=3.0)),
        (error(500, "905", "configuration"), InDoubt(reason="server_error")),
        (error(422, "130", "internal"), InDoubt(reason="server_error")),
        (reply(502, b"<html>"), InDoubt(reason="server_error")),
        (reply(401, b"<html>"), InDoubt(reason="garbage")),
        (reply(403, b""), InDoubt(reason="garbage")),
        (reply(422, {"status": 401, "errorCode": "000"}), InDoubt(reason="garbage")),
        (reply(302, {"status": 302}), InDoubt(reason="garbage")),
        (reply(200, b""), InDoubt(reason="garbage")),
        (reply(200, [1]), InDoubt(reason="garbage")),
        (reply(200, {"resultCode": "Authorised"}), InDoubt(reason="garbage")),
        (reply(200, {"resultCode": "Authorised", "pspReference": "../x"}), InDoubt(reason="garbage")),
    ],
)
def test_answers_that_are_no_result(answer, expected):
    assert replies.payment_outcome(answer, call()) == expected


@pytest.mark.parametrize(
    "row", [row for row in codes.TABLE if row.kind == "error"], ids=lambda row: row.adyen
)
def test_each_error_code_has_its_category_and_adyens_message_is_not_kept(row):
    outcome = replies.payment_outcome(error(422, row.adyen), call())
    assert isinstance(outcome, Declined)
    assert (outcome.category, outcome.code, outcome.gateway_code) == (row.category, row.code, row.adyen)
    assert "4111" not in repr(outcome)


# --- confirmations ------------------------------------------------------------------------------------------


def test_a_confirmation_is_about_its_parent():
    made = call(K.CONFIRM)
    parent = call(operation_id=made.parent_operation_id)
    assert replies.payment_outcome(reply(200, payment(of=parent)), made) == Approved(
        reference=PSP, amount_minor=1000
    )
    assert replies.payment_outcome(reply(200, payment(of=made)), made) == InDoubt(reason="garbage")
    refused = payment("Refused", parent, refusalReasonCode="11")
    assert replies.payment_outcome(reply(200, refused), made).code == "authentication_failed"


def test_details_that_adyen_does_not_take_leave_the_payment_waiting_for_the_payer():
    assert replies.payment_outcome(error(422, "14_018"), call(K.CONFIRM)) == NotSent(reason="details_refused")
    assert replies.payment_outcome(error(422, "704"), call(K.CONFIRM)) == InDoubt(reason="in_flight")


def test_a_second_action_is_handed_on_under_the_same_reference():
    made = call(K.CONFIRM, parent_reference="op_9", parent_operation_id="op_9")
    body = {"resultCode": "RedirectShopper", "action": REDIRECT}
    assert replies.payment_outcome(reply(200, body), made).reference == "op_9"


# --- captures, voids, refunds -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [K.CAPTURE, K.VOID, K.REFUND])
def test_trap_received_is_never_an_approval(kind):
    made = call(kind)
    assert modified(made, reply(201, received(made))) == Pending(
        reference="8836226171638872", reason="received"
    )


def test_a_modification_of_something_else_is_no_answer():
    made = call(K.REFUND)
    for spoilt in (
        {"reference": "op_other"},
        {"paymentPspReference": "8836226171638870"},
        {"paymentPspReference": None},
        {"pspReference": ""},
        {"amount": {"currency": "USD", "value": 1000}},
    ):
        assert modified(made, reply(201, received(made, **spoilt))) == InDoubt(reason="garbage")
    assert modified(made, reply(201, received(made, status="done"))) == InDoubt(reason="unexpected_status")
    echoed = reply(201, received(made), idempotency_key="other")
    assert modified(made, echoed) == InDoubt(reason="garbage")


def test_a_refused_modification_is_a_decline():
    outcome = modified(call(K.REFUND), error(422, "167"))
    assert (outcome.category, outcome.code) == (C.INVALID, "not_found")


# --- totality -----------------------------------------------------------------------------------------------

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=8,
)
_fields = st.fixed_dictionaries(
    {},
    optional={
        "resultCode": st.sampled_from(["Authorised", "Refused", "RedirectShopper", "Pending", "odd"]) | _json,
        "pspReference": st.just(PSP) | _json,
        "merchantReference": _json,
        "amount": _json,
        "action": _json,
        "status": st.sampled_from(["received", 422, 500]) | _json,
        "errorCode": st.sampled_from(["704", "130"]) | _json,
    },
)


@settings(max_examples=300, deadline=None)
@given(
    status=st.sampled_from([200, 201, 302, 400, 401, 403, 409, 422, 429, 500, 503]),
    body=st.binary(max_size=60) | _fields.map(lambda value: json.dumps(value).encode()),
    kind=st.sampled_from([K.CHARGE, K.CONFIRM, K.CAPTURE]),
)
def test_whatever_the_bytes_are_there_is_one_outcome_and_no_approval_by_chance(status, body, kind):
    made = call(kind)
    answer = HttpReply(status=status, headers={}, body=body)
    if kind is K.CAPTURE:
        outcome = modified(made, answer)
        assert not isinstance(outcome, Approved)
    else:
        outcome = replies.payment_outcome(answer, made)
    if isinstance(outcome, Approved):
        assert status < 300 and b"Authorised" in body and PSP.encode() in body
    if status >= 500:
        assert isinstance(outcome, InDoubt)
