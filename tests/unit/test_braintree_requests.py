"""Every document and every variable that the Braintree adapter sends fits Braintree's own schema."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aegispay.domain.errors import (
    ConfigError,
    InvalidAmount,
    InvalidPaymentMethod,
    InvalidRequest,
    UnsupportedOperation,
)
from aegispay.domain.events import OperationKind
from aegispay.domain.money import Currency, Money
from aegispay.gateways.braintree import documents, requests
from aegispay.gateways.braintree.amounts import from_braintree, to_braintree
from tests.fakes import tally
from tests.fakes.braintree_calls import ACCOUNTS, SALE, call, check_variables, checked
from tests.fakes.psp_data import psp_document

K = OperationKind


def fits(document: str, variables: dict[str, Any]) -> dict[str, Any]:
    check_variables(document, variables)
    tally.checked("braintree", "bodies")
    return variables["input"]


@pytest.mark.parametrize("name", documents.ALL)
def test_every_document_is_valid_under_the_schema(name):
    checked(documents.ALL[name])
    tally.checked("braintree", "bodies")


_money = st.builds(Money, st.integers(1, 10**9), st.sampled_from(sorted(ACCOUNTS)))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(kind=st.sampled_from([K.AUTHORIZE, K.CHARGE]), amount=_money)
def test_payment_variables_fit(kind, amount):
    made = call(kind, amount)
    requests.check_call(made, ACCOUNTS, multi_capture=False)
    variables = requests.payment(made, ACCOUNTS)
    assert variables == requests.payment(made, ACCOUNTS)
    sent = fits(documents.AUTHORIZE if kind is K.AUTHORIZE else documents.CHARGE, variables)
    assert sent["transaction"] == {
        "amount": amount.decimal_text(),
        "merchantAccountId": ACCOUNTS[amount.code],
        "orderId": made.operation_id,
    }


def test_every_official_test_nonce_is_taken():
    for nonce in psp_document("braintree/test_nonces.json").values():
        made = call(token=nonce)
        requests.check_call(made, ACCOUNTS, multi_capture=False)
        assert fits(documents.CHARGE, requests.payment(made, ACCOUNTS))["paymentMethodId"] == nonce


def test_capture_reversal_refund_and_search_variables_fit():
    made = call(K.CAPTURE, "7.00 USD")
    sent = fits(documents.CAPTURE, requests.capture(made, multi_capture=False))
    # The sale's order id is the evidence for the sale: a capture must not overwrite it.
    assert sent["transaction"] == {"amount": "7.00"}
    for final in (True, False):
        made = call(K.CAPTURE, "7.00 USD", final=final)
        sent = fits(documents.PARTIAL_CAPTURE, requests.capture(made, multi_capture=True))
        assert sent["transaction"] == {"amount": "7.00", "orderId": made.operation_id, "finalCapture": final}
    fits(documents.REVERSE, requests.reverse(call(K.VOID), SALE))
    made = call(K.REFUND, "3.00 USD")
    sent = fits(documents.REFUND, requests.refund(made))
    assert sent["refund"] == {"amount": "3.00", "orderId": made.operation_id}
    assert fits(documents.FIND_SALES, requests.find("op_1")) == {"orderId": {"is": "op_1"}}
    fits(documents.FIND_REFUNDS, requests.find("op_1"))
    check_variables(documents.READ, {"id": SALE})


def test_a_refund_gives_back_the_capture_where_it_is_a_transaction_of_its_own():
    assert requests.refunded_id(call(K.REFUND)) == SALE
    assert (
        requests.refunded_id(call(K.REFUND, capture_reference="dHJhbnNhY3Rpb25fMg")) == "dHJhbnNhY3Rpb25fMg"
    )


def test_variables_that_braintree_would_refuse_do_not_fit():
    good = requests.payment(call(), ACCOUNTS)["input"]
    for spoilt in ({**good, "sum": 1}, {**good, "paymentMethodId": None}, {**good, "transaction": {}}):
        with pytest.raises(AssertionError):
            check_variables(documents.CHARGE, {"input": spoilt})
    with pytest.raises(AssertionError):
        checked("query Q { transactions }")


@pytest.mark.parametrize(
    ("made", "error"),
    [
        (lambda: call(token=None), InvalidPaymentMethod),
        (lambda: call(token="a b"), InvalidPaymentMethod),
        (lambda: call(amount=Money(0, "USD")), InvalidAmount),
        (lambda: call(amount="1.00 GBP"), UnsupportedOperation),
        (lambda: call(K.CAPTURE, final=False), UnsupportedOperation),
        (lambda: call(K.CONFIRM), UnsupportedOperation),
        (lambda: call(K.REFUND, parent_reference=None), InvalidRequest),
        (lambda: call(K.VOID, parent_reference="x y"), InvalidRequest),
        (lambda: call(own_reference='"}'), InvalidRequest),
        (lambda: call(operation_id="o" * 128), InvalidRequest),
        (lambda: call(operation_id='op"'), InvalidRequest),
    ],
)
def test_calls_that_braintree_can_never_take_are_refused(made, error):
    with pytest.raises(error):
        requests.check_call(made(), ACCOUNTS, multi_capture=False)


def test_a_refund_that_no_capture_covers_is_refused_where_captures_are_transactions_of_their_own():
    with pytest.raises(UnsupportedOperation, match="no single capture"):
        requests.check_call(call(K.REFUND), ACCOUNTS, multi_capture=True)
    requests.check_call(call(K.REFUND, parent_kind=K.CHARGE), ACCOUNTS, multi_capture=True)
    requests.check_call(call(K.REFUND), ACCOUNTS, multi_capture=False)


def test_trap_the_merchant_account_decides_the_currency_so_each_currency_needs_its_own():
    """1000 yen sent to a dollar account would be a thousand dollars."""
    sent = requests.payment(call(amount="1000 JPY"), ACCOUNTS)["input"]["transaction"]
    assert (sent["amount"], sent["merchantAccountId"]) == ("1000", "jpy_account")
    for wrong in ({}, {"USD": ""}, {"USD": "a b"}, {"USD": None}, None):
        with pytest.raises(ConfigError):
            requests.check_accounts(wrong)  # type: ignore[arg-type]
    assert requests.check_accounts({"usd": "acct"}) == {"USD": "acct"}


@pytest.mark.parametrize(
    ("text", "code", "expected"),
    [
        ("10.00", "USD", 1000),
        ("10", "USD", 1000),
        ("0.01", "USD", 1),
        ("1000", "JPY", 1000),
        ("1000.00", "JPY", 1000),
        ("5.125", "KWD", 5125),
        ("5.12", "KWD", 5120),
    ],
)
def test_trap_amounts_are_decimal_texts_in_major_units(text, code, expected):
    assert from_braintree(text, code) == expected


@pytest.mark.parametrize("text", ["", "1e3", "-1.00", "10.005", "1,000.00", " 1", "1.", ".5", "١", "9" * 30])
def test_odd_amounts_are_no_amounts(text):
    with pytest.raises(ValueError, match=r"amount|whole"):
        from_braintree(text, "USD")


@given(st.sampled_from(sorted(c.code for c in Currency)), st.integers(1, 10**12))
def test_every_amount_comes_back_the_same(code, amount):
    assert from_braintree(to_braintree(Money(amount, code)), code) == amount
