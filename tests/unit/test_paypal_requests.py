"""Every body that the PayPal adapter can send fits PayPal's own OpenAPI documents; what cannot is refused unsent."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openapi_schema_validator import OAS30Validator

from aegispay.domain.errors import InvalidAmount, InvalidPaymentMethod, InvalidRequest, UnsupportedOperation
from aegispay.domain.events import OperationKind
from aegispay.domain.money import Currency, Money, exponent_of
from aegispay.gateways.paypal import WALLET, requests
from aegispay.gateways.paypal.amounts import TWO_DECIMAL, ZERO_DECIMAL, from_paypal, to_paypal
from tests.fakes import tally
from tests.fakes.paypal_calls import call
from tests.fakes.psp_data import psp_document

K = OperationKind
ORDERS, PAYMENTS = "paypal/checkout_orders_v2.json", "paypal/payments_payment_v2.json"


def properties(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """A schema's properties, those that it takes over from others included."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    found = dict(schema.get("properties", {}))
    for part in schema.get("allOf", []):
        found |= properties(document, part)
    return found


def unknown(document: dict[str, Any], schema: dict[str, Any], body: Any, path: str = "") -> list[str]:
    """Names in the body that the schema does not have, for it allows additional ones everywhere."""
    if isinstance(body, list):
        return [name for one in body for name in unknown(document, schema.get("items", {}), one, path)]
    if not isinstance(body, dict):
        return []
    known = properties(document, schema)
    strange: list[str] = []
    for name, value in body.items():
        if name not in known:
            strange.append(f"{path}{name}")
        else:
            strange += unknown(document, known[name], value, f"{path}{name}.")
    return strange


NEWER_THAN_THE_DOCUMENT = {"payment_source.card.attributes.verification"}


def check_body(path: str, body: dict[str, Any], name: str) -> None:
    document = psp_document(name)
    schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    OAS30Validator({**schema, "components": document["components"]}).validate(body)
    assert set(unknown(document, schema, body)) <= NEWER_THAN_THE_DOCUMENT
    tally.checked("paypal", "bodies")


_money = st.builds(
    Money,
    st.integers(1, 9_999_999).map(lambda units: units * 100),
    st.sampled_from(["USD", "EUR", "JPY", "HUF", "TWD", "GBP"]),
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from([K.AUTHORIZE, K.CHARGE]),
    amount=_money,
    token=st.sampled_from([WALLET, "card:8kk8451t", "paypal:9rr-1_2", "8kk8451t"]),
    description=st.none()
    | st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=127),
    return_url=st.none() | st.just("https://shop.example/back?order=1&x=%20"),
)
def test_order_bodies_fit(kind, amount, token, description, return_url):
    made = call(kind, amount, token=token, description=description, return_url=return_url)
    requests.check_call(made)
    body = requests.order_body(made)
    assert body == requests.order_body(made)
    check_body("/v2/checkout/orders", body, ORDERS)
    (unit,) = body["purchase_units"]
    assert unit["custom_id"] == f"{made.operation_id}/{made.payment_id}"
    assert len(unit["custom_id"]) <= 127
    assert unit["invoice_id"] == made.operation_id
    assert body["intent"] == ("AUTHORIZE" if kind is K.AUTHORIZE else "CAPTURE")
    (name,) = body["payment_source"]
    assert name == ("paypal" if token.startswith("paypal") else "card")
    assert ("vault_id" in body["payment_source"][name]) == (token != WALLET)


@pytest.mark.parametrize("final", [False, True])
def test_capture_and_refund_bodies_fit(final):
    made = call(K.CAPTURE, "7.00 USD", final=final)
    body = requests.capture_body(made)
    check_body("/v2/payments/authorizations/{authorization_id}/capture", body, PAYMENTS)
    assert (body["final_capture"], body["amount"]["value"]) == (final, "7.00")
    assert body["invoice_id"] == made.operation_id
    made = call(K.REFUND, "3 JPY")
    body = requests.refund_body(made)
    check_body("/v2/payments/captures/{capture_id}/refund", body, PAYMENTS)
    assert body["amount"] == {"currency_code": "JPY", "value": "3"}
    assert body["custom_id"] == f"{made.operation_id}/{made.payment_id}/refund"


def test_the_empty_bodies_of_capture_and_authorize_fit():
    check_body("/v2/checkout/orders/{id}/capture", {}, ORDERS)
    check_body("/v2/checkout/orders/{id}/authorize", {}, ORDERS)


def test_a_body_that_paypal_would_refuse_does_not_fit():
    with pytest.raises(Exception, match="purchase_units"):
        check_body("/v2/checkout/orders", {"intent": "CAPTURE"}, ORDERS)
    with pytest.raises(AssertionError):
        check_body("/v2/payments/captures/{capture_id}/refund", {"sum": "1"}, PAYMENTS)


def test_a_refund_names_its_capture():
    assert requests.refund_target(call(K.REFUND, capture_reference="CAP2", parent_kind=K.AUTHORIZE)) == "CAP2"
    assert requests.refund_target(call(K.REFUND, parent_reference="CAP1")) == "CAP1"
    with pytest.raises(InvalidRequest, match="one capture at a time"):
        requests.check_call(call(K.REFUND, parent_kind=K.AUTHORIZE))


@pytest.mark.parametrize(
    ("made", "error"),
    [
        (lambda: call(token=None), InvalidPaymentMethod),
        (lambda: call(token="card:"), InvalidPaymentMethod),
        (lambda: call(token="visa:8kk8451t"), InvalidPaymentMethod),
        (lambda: call(token="a b"), InvalidPaymentMethod),
        (lambda: call(amount=Money(1050, "HUF")), InvalidAmount),
        (lambda: call(amount=Money(1, "TWD")), InvalidAmount),
        (lambda: call(amount="5.120 KWD"), UnsupportedOperation),
        (lambda: call(amount="500 KRW"), UnsupportedOperation),
        (lambda: call(description="d" * 128), InvalidRequest),
        (lambda: call(return_url="ftp://shop.example/back"), InvalidRequest),
        (lambda: call(return_url="https://shop.example/\r\nX: y"), InvalidRequest),
        (lambda: call(operation_id="op 1"), InvalidRequest),
        (lambda: call(gateway_key="a\r\nb"), InvalidRequest),
        (lambda: call(payment_id="pay/1"), InvalidRequest),
        (lambda: call(payment_id="p" * 51), InvalidRequest),
        (lambda: call(K.CAPTURE, parent_reference=None), InvalidRequest),
        (lambda: call(K.CAPTURE, parent_reference="../../v2/checkout/orders"), InvalidRequest),
        (lambda: call(K.REFUND, capture_reference="X/refund"), InvalidRequest),
        (lambda: call(own_reference="X?fields=all"), InvalidRequest),
    ],
)
def test_calls_that_paypal_can_never_take_are_refused(made, error):
    with pytest.raises(error):
        requests.check_call(made())


# --- amounts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (Money(1099, "USD"), "10.99"),
        (Money(5, "EUR"), "0.05"),
        (Money(500, "JPY"), "500"),
        (Money(123400, "HUF"), "1234"),
        (Money(700, "TWD"), "7"),
    ],
)
def test_trap_amounts_are_decimal_text_and_three_currencies_have_no_decimals(amount, text):
    assert to_paypal(amount) == text
    assert from_paypal(text, amount.code) == amount.amount_minor


@pytest.mark.parametrize("text", ["", "-1.00", "1.005", "1,00", "1e3", "NaN", "1.", "\u0661", "9" * 17])
def test_text_that_is_no_amount_is_an_error(text):
    with pytest.raises(ValueError):
        from_paypal(text, "USD")
    assert from_paypal("10", "USD") == from_paypal("10.0", "USD") == from_paypal("10.000", "USD") == 1000


@given(st.sampled_from(sorted(TWO_DECIMAL | ZERO_DECIMAL)), st.integers(1, 10**11), st.booleans())
def test_whatever_paypal_takes_comes_back_the_same(code, amount, whole):
    amount_minor = amount * 10 ** exponent_of(code) if whole else amount
    try:
        text = to_paypal(Money(amount_minor, code))
    except InvalidAmount:
        assert code in ZERO_DECIMAL and not whole
        return
    assert from_paypal(text, code) == amount_minor
    assert ("." in text) == (code in TWO_DECIMAL) != (code in ZERO_DECIMAL)


def test_other_currencies_are_refused():
    others = {one.code for one in Currency} - TWO_DECIMAL - ZERO_DECIMAL
    assert {"KWD", "BHD", "KRW", "ISK", "CLP"} <= others
    for code in others:
        with pytest.raises(UnsupportedOperation):
            to_paypal(Money(1000, code))
