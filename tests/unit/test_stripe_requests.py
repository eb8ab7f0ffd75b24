"""Every body that the Stripe adapter can send fits Stripe's own OpenAPI document; what cannot is refused unsent."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openapi_schema_validator import OAS30Validator

from aegispay.domain.errors import (
    InvalidAmount,
    InvalidPaymentMethod,
    InvalidRequest,
    UnsupportedOperation,
)
from aegispay.domain.events import OperationKind
from aegispay.domain.methods import Card
from aegispay.domain.money import Money
from aegispay.gateways.stripe import requests
from tests.fakes import tally
from tests.fakes.psp_data import psp_document
from tests.fakes.stripe_calls import call

K = OperationKind
NEWER_THAN_THE_DOCUMENT = {"final_capture"}
"""Parameters of multicapture, which Stripe added after the version that the document describes."""


def decode(body: bytes) -> dict[str, Any]:
    """A form as the nested object that it stands for."""
    found: dict[str, Any] = {}
    for name, value in parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=bool(body)):
        first, *rest = re.findall(r"[^\[\]]+|\[\]", name)
        place: Any = found
        path = [first, *rest]
        for key, following in zip(path, [*path[1:], None], strict=True):
            if following is None:
                place[key] = value
            elif following == "[]":
                place.setdefault(key, []).append(value)
                break
            else:
                place = place.setdefault(key, {})
    return found


def typed(value: Any, schema: dict[str, Any]) -> Any:
    """A form has only texts: those that the schema wants as numbers or booleans are read as such."""
    kinds = [schema, *schema.get("anyOf", [])]
    if isinstance(value, dict):
        properties = {name: sub for kind in kinds for name, sub in kind.get("properties", {}).items()}
        return {name: typed(one, properties.get(name, {})) for name, one in value.items()}
    types = {kind.get("type") for kind in kinds}
    if "integer" in types and isinstance(value, str) and re.fullmatch(r"\d+", value):
        return int(value)
    if "boolean" in types and value in ("true", "false"):
        return value == "true"
    return value


def check_body(path: str, body: bytes, document: str = "stripe/spec3.slim.json") -> dict[str, Any]:
    operation = psp_document(document)["paths"][path]["post"]
    schema = operation["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"]
    decoded = decode(body)
    known = {name: value for name, value in decoded.items() if name not in NEWER_THAN_THE_DOCUMENT}
    assert set(decoded) - set(schema["properties"]) <= NEWER_THAN_THE_DOCUMENT
    OAS30Validator(schema).validate(typed(known, schema))
    tally.checked("stripe", "bodies")
    return decoded


_text = st.text(st.characters(codec="utf-8", exclude_characters="[]"), min_size=1, max_size=30)
_metadata = st.dictionaries(
    _text.filter(lambda key: not key.startswith(("op_", "aegispay_"))), _text, max_size=5
)
_money = st.builds(
    Money,
    st.integers(1, 9_999).map(lambda units: units * 100),
    st.sampled_from(["USD", "JPY", "ISK", "UGX", "KWD", "MGA", "EUR"]),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from([K.AUTHORIZE, K.CHARGE]),
    amount=_money,
    metadata=_metadata,
    description=st.none() | _text,
    return_url=st.none() | st.just("https://shop.example/back?order=1&x=%20"),
    customer_id=st.sampled_from([None, "cus_1", "customer 7"]),
    multi=st.booleans(),
)
def test_create_bodies_fit(kind, amount, metadata, description, return_url, customer_id, multi):
    made = call(
        kind,
        amount,
        metadata=metadata,
        description=description,
        return_url=return_url,
        customer_id=customer_id,
    )
    requests.check_call(made, multi_capture=multi)
    body = requests.encode(requests.create_form(made, multi_capture=multi))
    assert body == requests.encode(requests.create_form(made, multi_capture=multi))
    decoded = check_body("/v1/payment_intents", body)
    assert decoded["metadata"] == {
        **metadata,
        "aegispay_operation": made.operation_id,
        "aegispay_payment": made.payment_id,
    }
    assert decoded["capture_method"] == ("manual" if kind is K.AUTHORIZE else "automatic")
    assert decoded["confirm"] == "true"
    assert decoded.get("customer") == ("cus_1" if customer_id == "cus_1" else None)
    assert decoded.get("description") == description
    assert decoded.get("return_url") == return_url


@pytest.mark.parametrize("multi", [False, True])
@pytest.mark.parametrize("final", [False, True])
def test_capture_bodies_fit(multi, final):
    made = call(K.CAPTURE, "7.00 USD", final=final)
    decoded = check_body(
        "/v1/payment_intents/{intent}/capture",
        requests.encode(requests.capture_form(made, multi_capture=multi)),
    )
    assert decoded["amount_to_capture"] == "700"
    assert ("final_capture" in decoded) == multi
    assert decoded.get("metadata") == ({made.operation_id: "700"} if multi else None)


def test_the_body_that_releases_the_rest_fits():
    check_body("/v1/payment_intents/{intent}/capture", requests.encode(requests.release_form()))


@pytest.mark.parametrize("reason", [None, "expired", "duplicate", "late_success", "because I say so"])
def test_cancel_and_refund_bodies_fit_whatever_the_reason(reason):
    check_body(
        "/v1/payment_intents/{intent}/cancel",
        requests.encode(requests.cancel_form(call(K.VOID, reason=reason))),
    )
    for parent in ("pi_1", "ch_1"):
        made = call(K.REFUND, "3.00 USD", reason=reason, parent_reference=parent)
        decoded = check_body("/v1/refunds", requests.encode(requests.refund_form(made)))
        assert decoded["charge" if parent == "ch_1" else "payment_intent"] == parent


def test_confirm_bodies_fit():
    check_body("/v1/payment_intents/{intent}/confirm", b"")


@pytest.mark.parametrize("cvc", [None, "123"])
@pytest.mark.parametrize("holder", [None, "Zoë Müller & Söhne"])
def test_card_bodies_fit(cvc, holder):
    card = Card("4242424242424242", 12, 2030, cvc, holder)
    decoded = check_body(
        "/v1/payment_methods", requests.encode(requests.card_form(card)), "stripe/spec3.trimmed.json"
    )
    assert decoded["card"]["number"] == "4242424242424242"
    assert decoded.get("billing_details") == ({"name": holder} if holder else None)


def test_a_body_that_stripe_would_refuse_does_not_fit():
    with pytest.raises(AssertionError):
        check_body("/v1/refunds", b"sum=1")
    with pytest.raises(Exception, match="not_a_mode"):
        check_body("/v1/payment_intents", b"amount=1&currency=usd&capture_method=not_a_mode")


# --- what is refused before anything is sent ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "error"),
    [
        (lambda: call(token=None), InvalidPaymentMethod),
        (lambda: call(amount="5.124 KWD"), InvalidAmount),
        (lambda: call(amount="1000000.00 USD"), InvalidAmount),
        (lambda: call(amount=Money(100, "CLF")), UnsupportedOperation),
        (lambda: call(K.CAPTURE, final=False), UnsupportedOperation),
        (lambda: call(K.REFUND, parent_reference=None), InvalidRequest),
        (lambda: call(K.VOID, parent_reference="../../v1/refunds"), InvalidRequest),
        (lambda: call(K.CAPTURE, parent_reference="pi_1?x=1"), InvalidRequest),
        (lambda: call(own_reference="pi_1/cancel"), InvalidRequest),
        (lambda: call(operation_id="op'] OR status:'x"), InvalidRequest),
        (lambda: call(gateway_key="a\r\nb"), InvalidRequest),
        (lambda: call(metadata={"k" * 41: "v"}), InvalidRequest),
        (lambda: call(metadata={"k": "v" * 501}), InvalidRequest),
        (lambda: call(metadata={"a[b]": "v"}), InvalidRequest),
        (lambda: call(metadata={"": "v"}), InvalidRequest),
        (lambda: call(metadata={"aegispay_operation": "op_1"}), InvalidRequest),
        (lambda: call(metadata={"op_1": "700"}), InvalidRequest),
        (lambda: call(metadata={f"k{n}": "v" for n in range(49)}), InvalidRequest),
        (lambda: call(description="d" * 1001), InvalidRequest),
        (lambda: call(return_url="no url"), InvalidRequest),
        (lambda: call(return_url="https://x\r\n"), InvalidRequest),
    ],
)
def test_calls_that_stripe_can_never_take_are_refused(made, error):
    with pytest.raises(error):
        requests.check_call(made(), multi_capture=False)


def test_the_most_that_stripe_takes_is_taken():
    full = {f"k{n}".ljust(40, "x"): "v" * 500 for n in range(48)}
    requests.check_call(call(metadata=full, description="d" * 1000), multi_capture=False)
    with pytest.raises(InvalidRequest, match="28 metadata keys"):
        requests.check_call(call(metadata=full), multi_capture=True)


def test_form_encoding_escapes_everything_that_could_be_read_as_another_field():
    body = requests.encode([("description", "a&amount=1=2+3 %\r\n\u00e9")])
    assert body == b"description=a%26amount%3D1%3D2%2B3+%25%0D%0A%C3%A9"
