"""Every body that the Adyen adapter can send fits Adyen's own OpenAPI document; what cannot is refused unsent."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema.exceptions import ValidationError
from openapi_schema_validator import OAS31Validator

from aegispay.domain.errors import (
    InvalidAmount,
    InvalidPaymentMethod,
    InvalidRequest,
    UnsupportedOperation,
)
from aegispay.domain.events import OperationKind
from aegispay.domain.money import Currency, Money
from aegispay.gateways.adyen import requests
from aegispay.gateways.adyen.amounts import EXPONENTS, NOT_TAKEN, adyen_exponent, from_adyen, to_adyen
from tests.fakes import tally
from tests.fakes.adyen_calls import ACCOUNT, DEFAULTS, PSP, call
from tests.fakes.psp_data import psp_document

K = OperationKind


@lru_cache(maxsize=16)
def validator(path: str) -> OAS31Validator:
    document = psp_document("adyen/CheckoutService-v71.json")
    content = document["paths"][path]["post"]["requestBody"]["content"]
    reference = content["application/json"]["schema"]["$ref"]
    schemas = dict(document["components"]["schemas"])
    # Sixty kinds of payment method share the field `storedPaymentMethodId`, so "exactly one fits" cannot be held.
    # Ours is the one for cards.
    payment = dict(schemas["PaymentRequest"])
    card = {"$ref": "#/components/schemas/CardDetails"}
    payment["properties"] = {**payment["properties"], "paymentMethod": card}
    schemas["PaymentRequest"] = payment
    schemas["CardDetails"] = {**schemas["CardDetails"], "additionalProperties": False}
    name = reference.rsplit("/", 1)[1]
    schemas[name] = {**schemas[name], "additionalProperties": False}
    return OAS31Validator({"$ref": reference, "components": {"schemas": schemas}})


def check_body(path: str, body: requests.Body) -> dict[str, Any]:
    sent = json.loads(requests.encode(body))
    validator(path).validate(sent)
    tally.checked("adyen", "bodies")
    return sent


_text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
_metadata = st.dictionaries(
    _text.filter(lambda key: key not in ("aegispay_payment", "description")), _text, max_size=5
)
_money = st.builds(
    Money,
    st.integers(1, 9_999).map(lambda units: units * 100),
    st.sampled_from(["USD", "JPY", "ISK", "CLP", "KWD", "IDR", "CVE"]),
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from([K.AUTHORIZE, K.CHARGE]),
    amount=_money,
    metadata=_metadata,
    description=st.none() | st.text(st.characters(codec="utf-8"), min_size=1, max_size=200),
    customer_id=st.sampled_from(["abc", "c" * 256]),
)
def test_payment_bodies_fit(kind, amount, metadata, description, customer_id):
    made = call(kind, amount, metadata=metadata, description=description, customer_id=customer_id)
    requests.check_call(made, DEFAULTS, multi_capture=False)
    body = requests.payment(made, DEFAULTS)
    assert requests.encode(body) == requests.encode(requests.payment(made, DEFAULTS))
    sent = check_body("/payments", body)
    assert sent["reference"] == made.operation_id
    assert sent["merchantAccount"] == ACCOUNT
    assert sent["amount"] == {"currency": amount.code, "value": to_adyen(amount)}
    assert sent["metadata"].items() >= {**metadata, "aegispay_payment": made.payment_id}.items()
    assert all(len(value) <= 80 for value in sent["metadata"].values())
    manual = sent.get("additionalData") == {"manualCapture": "true"}
    assert manual == (kind is K.AUTHORIZE)
    assert sent.get("captureDelayHours") == (None if manual else 0)


def test_capture_refund_and_confirm_bodies_fit():
    check_body("/payments/{paymentPspReference}/captures", requests.capture(call(K.CAPTURE), ACCOUNT))
    for reason in (None, "duplicate", "fraudulent", "requested_by_customer", "because I say so"):
        check_body(
            "/payments/{paymentPspReference}/refunds", requests.refund(call(K.REFUND, reason=reason), ACCOUNT)
        )
    for data in (
        {"redirectResult": "x"},
        {"threeDSResult": "x"},
        {"MD": "a", "PaRes": "b"},
        {"payload": "p"},
    ):
        check_body("/payments/details", requests.details(call(K.CONFIRM, action_data=data)))


def test_a_void_cancels_an_authorisation_and_reverses_a_charge():
    path, body = requests.void(call(K.VOID), ACCOUNT)
    assert path == f"/payments/{PSP}/cancels"
    check_body("/payments/{paymentPspReference}/cancels", body)
    path, body = requests.void(call(K.VOID, parent_kind=K.CHARGE), ACCOUNT)
    assert path == f"/payments/{PSP}/reversals"
    check_body("/payments/{paymentPspReference}/reversals", body)


def test_a_payment_without_a_psp_reference_is_canceled_by_ours():
    made = call(K.VOID, parent_reference="op_1", parent_kind=K.CHARGE)
    path, body = requests.void(made, ACCOUNT)
    assert path == "/cancels"
    assert check_body("/cancels", body)["paymentReference"] == "op_1"
    check_body("/cancels", requests.cancel_by_reference(call(K.CHARGE), ACCOUNT))


def test_the_body_of_the_health_check_fits():
    check_body("/paymentMethods", {"merchantAccount": ACCOUNT})


def test_a_body_that_adyen_would_refuse_does_not_fit():
    for spoilt in ({"amount": "10.00"}, {"channel": "Fax"}, {"captureDelayHours": "0"}, {"sum": 1}):
        with pytest.raises(ValidationError):
            check_body("/payments", {**requests.payment(call(), DEFAULTS), **spoilt})


def test_trap_keys_have_64_characters_at_most():
    requests.check_call(call(gateway_key="k" * 64), DEFAULTS, multi_capture=False)
    with pytest.raises(InvalidRequest, match="64"):
        requests.check_call(call(gateway_key="k" * 65), DEFAULTS, multi_capture=False)
    for key in ("k", "k" * 64):
        derived = requests.cancel_key(call(gateway_key=key))
        assert len(derived) <= 64 and derived != key


@pytest.mark.parametrize(
    ("made", "error"),
    [
        (lambda: call(token=None), InvalidPaymentMethod),
        (lambda: call(token="t" * 65), InvalidPaymentMethod),
        (lambda: call(customer_id=None), InvalidRequest),
        (lambda: call(customer_id="ab"), InvalidRequest),
        (lambda: call(return_url=None), InvalidRequest),
        (lambda: call(return_url="https://x\r\n"), InvalidRequest),
        (lambda: call(amount="10.50 IDR"), InvalidAmount),
        (lambda: call(amount=Money(150, "CVE")), InvalidAmount),
        (lambda: call(amount=Money(0, "EUR")), InvalidAmount),
        (lambda: call(amount=Money(100, "CLF")), UnsupportedOperation),
        (lambda: call(K.CAPTURE, final=False), UnsupportedOperation),
        (lambda: call(K.REFUND, parent_reference=None), InvalidRequest),
        (lambda: call(K.REFUND, parent_reference="op_1"), InvalidRequest),
        (lambda: call(K.CAPTURE, parent_reference="op_1"), InvalidRequest),
        (lambda: call(K.VOID, parent_reference="../../x"), InvalidRequest),
        (lambda: call(own_reference="a/b"), InvalidRequest),
        (lambda: call(operation_id="o" * 74), InvalidRequest),
        (lambda: call(gateway_key="a\r\nb"), InvalidRequest),
        (lambda: call(metadata={"k" * 21: "v"}), InvalidRequest),
        (lambda: call(metadata={"k": "v" * 81}), InvalidRequest),
        (lambda: call(metadata={"aegispay_payment": "x"}), InvalidRequest),
        (lambda: call(metadata={f"k{n}": "v" for n in range(19)}), InvalidRequest),
        (lambda: call(K.CONFIRM, action_data={}), InvalidRequest),
        (lambda: call(K.CONFIRM, action_data={"cupsecureplus.smscode": "123456"}), InvalidRequest),
    ],
)
def test_calls_that_adyen_can_never_take_are_refused(made, error):
    with pytest.raises(error):
        requests.check_call(made(), DEFAULTS, multi_capture=False)


def test_a_one_time_password_is_refused_because_it_would_be_recorded():
    with pytest.raises(InvalidRequest) as caught:
        requests.check_call(
            call(K.CONFIRM, action_data={"oneTimePasscode": "987654"}), DEFAULTS, multi_capture=False
        )
    assert "987654" not in str(caught.value)


def test_defaults_serve_payments_that_bring_none_of_their_own():
    defaults = requests.Defaults(
        merchant_account=ACCOUNT, return_url="https://d.example/", shopper_reference="default-shopper"
    )
    made = call(customer_id=None, return_url=None)
    requests.check_call(made, defaults, multi_capture=False)
    sent = check_body("/payments", requests.payment(made, defaults))
    assert (sent["shopperReference"], sent["returnUrl"]) == ("default-shopper", "https://d.example/")


# --- amounts ------------------------------------------------------------------------------------------------


def test_trap_four_currencies_have_other_exponents_than_iso_4217():
    assert EXPONENTS == {"CLP": 2, "CVE": 0, "IDR": 0, "ISK": 2}
    assert to_adyen(Money.parse("500", "ISK")) == 50_000
    assert to_adyen(Money.parse("500", "CLP")) == 50_000
    assert to_adyen(Money.parse("500.00", "IDR")) == 500
    assert to_adyen(Money.parse("500.00", "CVE")) == 500
    assert to_adyen(Money.parse("500", "UGX")) == 500
    assert to_adyen(Money.parse("5.125", "KWD")) == 5125
    assert from_adyen(50_000, "ISK") == 500
    assert from_adyen(500, "IDR") == 50_000
    with pytest.raises(ValueError, match="whole"):
        from_adyen(50_050, "ISK")


@given(st.sampled_from(sorted(c.code for c in Currency if c.code not in NOT_TAKEN)), st.integers(1, 10**9))
def test_every_amount_that_adyen_takes_comes_back_the_same(code, amount):
    money = Money(amount, code)
    try:
        sent = to_adyen(money)
    except InvalidAmount:
        assert adyen_exponent(code) < Currency.of(code).exponent
    else:
        assert from_adyen(sent, code) == amount
