"""What the Razorpay adapter asks for, in Razorpay's own words and amounts; what it cannot ask is refused unsent."""

from __future__ import annotations

import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from aegispay.domain.errors import InvalidAmount, InvalidPaymentMethod, InvalidRequest, UnsupportedOperation
from aegispay.domain.events import OperationKind
from aegispay.domain.money import Currency, Money, exponent_of
from aegispay.gateways.razorpay import CHECKOUT, requests
from aegispay.gateways.razorpay.amounts import (
    THREE_DECIMAL,
    TWO_DECIMAL,
    ZERO_DECIMAL,
    from_razorpay,
    razorpay_exponent,
    to_razorpay,
)
from tests.fakes import tally
from tests.fakes.psp_data import psp_document
from tests.fakes.razorpay_calls import PAYER, call

K = OperationKind


def test_an_order_carries_our_reference_and_how_it_is_captured():
    made = call(K.CHARGE, metadata={**PAYER, "cart": "7"})
    body = requests.order_body(made)
    assert body["receipt"] == made.operation_id
    assert len(body["receipt"]) <= 40
    assert (body["amount"], body["currency"]) == (1000, "INR")
    assert body["payment"]["capture"] == "automatic"
    assert body["notes"] == {
        "cart": "7",
        "aegispay_operation": made.operation_id,
        "aegispay_payment": made.payment_id,
        "aegispay_kind": "charge",
    }
    assert requests.order_body(call(K.AUTHORIZE))["payment"] == {
        "capture": "manual",
        "capture_options": {"manual_expiry_period": 7200, "refund_speed": "normal"},
    }


def test_a_charge_that_is_authorised_late_is_given_back_and_not_captured():
    options = requests.order_body(call())["payment"]["capture_options"]
    assert options["automatic_expiry_period"] == options["manual_expiry_period"] == 12


def test_a_saved_card_is_charged_server_to_server():
    made = call(return_url="https://shop.example/back", customer_id="cust_1", description="Shoes")
    body = requests.payment_body(made, "order_9")
    assert requests.payment_path(made) == "/payments/create/json"
    documented = {"amount", "currency", "order_id", "email", "contact", "method", "token", "ip", "user_agent"}
    assert documented | {"callback_url", "customer_id", "description", "notes"} == set(body)
    assert body["order_id"] == "order_9"
    assert body["notes"]["aegispay_flow"] == "s2s"
    assert "customer_id" not in requests.payment_body(call(customer_id="ours-7"), "order_9")


def test_a_mandate_is_charged_without_the_payer():
    made = call(
        customer_id="cust_1",
        metadata={
            "razorpay_email": "a@b.example",
            "razorpay_contact": "9000090000",
            "razorpay_recurring": "true",
        },
    )
    requests.check_call(made)
    body = requests.payment_body(made, "order_9")
    assert requests.payment_path(made) == "/payments/create/recurring"
    assert body["recurring"] is True
    assert "method" not in body and "ip" not in body


def test_captures_and_refunds_name_amount_and_reference():
    assert requests.capture_body(call(K.CAPTURE, "7.00 INR")) == {"amount": 700, "currency": "INR"}
    made = call(K.REFUND, "3.00 INR", capture_reference="pay_7", parent_reference="pay_1")
    assert requests.refund_target(made) == "pay_7"
    assert requests.refund_body(made) == {
        "amount": 300,
        "speed": "normal",
        "receipt": made.operation_id,
        "notes": {"aegispay_operation": made.operation_id, "aegispay_payment": made.payment_id},
    }


def test_the_same_call_gives_the_same_bytes():
    made = call()
    for body in (requests.order_body, requests.capture_body, requests.refund_body):
        assert json.dumps(body(made)) == json.dumps(body(made))


@pytest.mark.parametrize(
    ("made", "error"),
    [
        (lambda: call(token=None), InvalidPaymentMethod),
        (lambda: call(token="pm_card_visa"), InvalidPaymentMethod),
        (lambda: call(metadata={}), InvalidRequest),
        (lambda: call(metadata={**PAYER, "razorpay_ip": ""}), InvalidRequest),
        (lambda: call(metadata={**PAYER, "razorpay_secret": "x"}), InvalidRequest),
        (lambda: call(metadata={**PAYER, "razorpay_recurring": "yes"}), InvalidRequest),
        (lambda: call(metadata={**PAYER, "razorpay_recurring": "true"}), InvalidRequest),
        (lambda: call(metadata={**PAYER, "aegispay_operation": "op_1"}), InvalidRequest),
        (lambda: call(metadata={**PAYER, "k": "v" * 257}), InvalidRequest),
        (lambda: call(metadata={**PAYER, **{f"k{n}": "v" for n in range(12)}}), InvalidRequest),
        (lambda: call(amount="0.99 INR"), InvalidAmount),
        (lambda: call(amount="5.124 KWD"), InvalidAmount),
        (lambda: call(amount=Money(100, "XCG")), UnsupportedOperation),
        (lambda: call(operation_id="op_" + "0" * 38), InvalidRequest),
        (lambda: call(gateway_key="short"), InvalidRequest),
        (lambda: call(gateway_key="a\r\nb: 0123456789"), InvalidRequest),
        (lambda: call(K.VOID), UnsupportedOperation),
        (lambda: call(K.CAPTURE, final=False), UnsupportedOperation),
        (lambda: call(K.CAPTURE, parent_reference="order_1"), InvalidRequest),
        (lambda: call(K.CAPTURE, parent_reference="../orders", capture_reference="pay_1"), InvalidRequest),
        (lambda: call(K.REFUND, parent_reference=None), InvalidRequest),
        (lambda: call(K.REFUND, parent_reference="pay_1/../x"), InvalidRequest),
        (lambda: call(K.CONFIRM, parent_reference="pay_1", action_data={"otp": "123456"}), InvalidRequest),
        (lambda: call(own_reference="pay_1/capture"), InvalidRequest),
    ],
)
def test_calls_that_razorpay_can_never_take_are_refused(made, error):
    with pytest.raises(error):
        requests.check_call(made())


def test_the_most_that_razorpay_takes_is_taken():
    requests.check_call(call(metadata={**PAYER, **{f"k{n}": "v" * 256 for n in range(11)}}))
    requests.check_call(call(token=CHECKOUT, metadata={}))
    requests.check_call(call(K.CONFIRM, parent_reference="order_1", action_data={"razorpay_signature": "ab"}))


# --- amounts ------------------------------------------------------------------------------------------------


def test_the_exponents_are_razorpays_own_list():
    listed = psp_document("razorpay/currency_exponents.json")
    checked = 0
    known = {one.code for one in Currency}
    for code, exponent in listed.items():
        assert razorpay_exponent(code) == exponent, code
        if code in known:
            # Amounts are checked and not converted, which is right only while the two lists agree.
            assert exponent_of(code) == exponent, code
        checked += 1
    tally.checked("razorpay", "codes", checked)
    assert checked == 128 == len(TWO_DECIMAL | ZERO_DECIMAL | THREE_DECIMAL)


def test_trap_isk_has_no_decimals_here_although_it_has_two_at_stripe():
    assert to_razorpay(Money.parse("500", "ISK")) == 500
    assert from_razorpay(500, "ISK") == 500


@given(st.sampled_from(sorted(one.code for one in Currency)), st.integers(1, 10**13))
def test_whatever_razorpay_takes_comes_back_the_same(code, amount_minor):
    try:
        amount = to_razorpay(Money(amount_minor, code))
    except (InvalidAmount, UnsupportedOperation):
        assume(False)
        return
    assert from_razorpay(amount, code) == amount_minor
    if exponent_of(code) == 3:
        assert amount % 10 == 0
