"""Stripe's request bodies, from a `GatewayCall`. Pure: the same call always gives the same bytes.

That sameness is part of the promise: Stripe refuses a resend whose parameters differ from the first.
"""

from __future__ import annotations

import re
from urllib.parse import quote_plus

from aegispay.domain.errors import InvalidPaymentMethod, InvalidRequest, UnsupportedOperation
from aegispay.domain.events import OperationKind
from aegispay.domain.methods import Card
from aegispay.gateways.gateway import GatewayCall
from aegispay.gateways.stripe.amounts import to_stripe

Form = list[tuple[str, str]]

OPERATION_KEY = "aegispay_operation"
PAYMENT_KEY = "aegispay_payment"

METADATA_KEYS_MAX = 50
METADATA_KEY_LENGTH_MAX = 40
METADATA_VALUE_LENGTH_MAX = 500
KEYS_RESERVED = 2
"""Metadata keys of ours on every object."""
KEYS_RESERVED_MULTI_CAPTURE = 20
"""One more for each capture of a payment that may be captured several times."""
DESCRIPTION_LENGTH_MAX = 1000
RETURN_URL_LENGTH_MAX = 2048

_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")
_FIRST = (OperationKind.AUTHORIZE, OperationKind.CHARGE)
_REFUND_REASONS = {
    "duplicate": "duplicate",
    "late_success": "duplicate",
    "fraudulent": "fraudulent",
    "requested_by_customer": "requested_by_customer",
}
_CANCEL_REASONS = {**_REFUND_REASONS, "abandoned": "abandoned", "expired": "abandoned"}


def encode(form: Form) -> bytes:
    """The form as `application/x-www-form-urlencoded`."""
    return "&".join(f"{quote_plus(name, safe='[]')}={quote_plus(value)}" for name, value in form).encode()


def check_call(call: GatewayCall, *, multi_capture: bool) -> None:
    """Raises a subclass of `InvalidRequest` for a call that Stripe can never take."""
    if not _ID.fullmatch(call.operation_id) or not _ID.fullmatch(call.gateway_key):
        raise InvalidRequest("the operation's id or key is not 1 to 255 of A-Z, a-z, 0-9, '_' and '-'.")
    for what, value in (("parent", call.parent_reference), ("own", call.own_reference)):
        if value is not None and not _ID.fullmatch(value):
            raise InvalidRequest(f"the {what} reference {value[:60]!r} is not a Stripe id.")
    if call.kind in _FIRST:
        _check_first(call, multi_capture=multi_capture)
    elif call.parent_reference is None:
        raise InvalidRequest(f"a {call.kind} at Stripe needs the id of the payment that it acts on.")
    if call.kind is OperationKind.CAPTURE and not call.final and not multi_capture:
        raise UnsupportedOperation(
            "this Stripe account takes one capture per authorisation.",
            hint="Pass multi_capture=True if Stripe has enabled multicapture for the account.",
        )
    if call.kind not in (OperationKind.VOID, OperationKind.CONFIRM):
        to_stripe(call.amount)


def _check_first(call: GatewayCall, *, multi_capture: bool) -> None:
    if not call.token:
        raise InvalidPaymentMethod("Stripe takes a payment method's token (pm_...).")
    if call.description is not None and len(call.description) > DESCRIPTION_LENGTH_MAX:
        raise InvalidRequest(f"Stripe takes descriptions of up to {DESCRIPTION_LENGTH_MAX} characters.")
    url = call.return_url
    if url is not None and (
        not 0 < len(url) <= RETURN_URL_LENGTH_MAX or ":" not in url or not url.isprintable()
    ):
        raise InvalidRequest(f"return_url is an absolute URL of up to {RETURN_URL_LENGTH_MAX} characters.")
    _check_metadata(call.metadata, KEYS_RESERVED + (KEYS_RESERVED_MULTI_CAPTURE if multi_capture else 0))


def _check_metadata(metadata: dict[str, str], reserved: int) -> None:
    room = METADATA_KEYS_MAX - reserved
    if len(metadata) > room:
        raise InvalidRequest(f"Stripe takes {room} metadata keys beside ours, not {len(metadata)}.")
    for key, value in metadata.items():
        if not 0 < len(key) <= METADATA_KEY_LENGTH_MAX or any(character in key for character in "[]"):
            raise InvalidRequest(
                f"{key[:60]!r} is not a metadata key: 1 to {METADATA_KEY_LENGTH_MAX} characters, no brackets."
            )
        if key in (OPERATION_KEY, PAYMENT_KEY) or key.startswith("op_"):
            raise InvalidRequest(f"the metadata key {key!r} is AegisPay's own.")
        if len(value) > METADATA_VALUE_LENGTH_MAX:
            raise InvalidRequest(
                f"the metadata value of {key!r} has more than {METADATA_VALUE_LENGTH_MAX} characters."
            )


def create_form(call: GatewayCall, *, multi_capture: bool) -> Form:
    """Creates and confirms a PaymentIntent in one request, for cards only, so that no return URL is required."""
    manual = call.kind is OperationKind.AUTHORIZE
    form: Form = [
        ("amount", str(to_stripe(call.amount))),
        ("currency", call.amount.code.lower()),
        ("capture_method", "manual" if manual else "automatic"),
        ("confirm", "true"),
        ("payment_method", call.token or ""),
        ("payment_method_types[]", "card"),
    ]
    if call.return_url:
        form.append(("return_url", call.return_url))
    if call.customer_id and call.customer_id.startswith("cus_"):
        # Other ids are the merchant's own; Stripe would refuse them.
        form.append(("customer", call.customer_id))
    if call.description:
        form.append(("description", call.description))
    if manual:
        # The charge says until when the authorisation can be captured.
        form.append(("expand[]", "latest_charge"))
        if multi_capture:
            form.append(("payment_method_options[card][request_multicapture]", "if_available"))
    form += _metadata(call, call.metadata)
    return form


def capture_form(call: GatewayCall, *, multi_capture: bool) -> Form:
    form: Form = [("amount_to_capture", str(to_stripe(call.amount)))]
    if multi_capture:
        form.append(("final_capture", "true" if call.final else "false"))
        # Each capture leaves its id on the payment, so that a look-up can tell one capture from another.
        form.append((f"metadata[{call.operation_id}]", str(to_stripe(call.amount))))
    return form


def release_form() -> Form:
    """A final capture of nothing: how the rest is released once something was captured."""
    return [("amount_to_capture", "0"), ("final_capture", "true")]


def cancel_form(call: GatewayCall) -> Form:
    reason = _CANCEL_REASONS.get(call.reason or "")
    return [("cancellation_reason", reason)] if reason else []


def refund_form(call: GatewayCall) -> Form:
    parent = call.parent_reference or ""
    form: Form = [
        ("charge" if parent.startswith(("ch_", "py_")) else "payment_intent", parent),
        ("amount", str(to_stripe(call.amount))),
    ]
    reason = _REFUND_REASONS.get(call.reason or "")
    if reason:
        form.append(("reason", reason))
    form += _metadata(call, {})
    return form


def card_form(card: Card) -> Form:
    """A raw card as a PaymentMethod. The only place that the digits are written out."""
    form: Form = [
        ("type", "card"),
        ("card[number]", card.reveal_number()),
        ("card[exp_month]", str(card.expiry_month)),
        ("card[exp_year]", str(card.expiry_year)),
    ]
    cvc = card.reveal_cvc()
    if cvc is not None:
        form.append(("card[cvc]", cvc))
    if card.holder:
        form.append(("billing_details[name]", card.holder))
    return form


def _metadata(call: GatewayCall, merchant: dict[str, str]) -> Form:
    ours = {OPERATION_KEY: call.operation_id, PAYMENT_KEY: call.payment_id}
    return [(f"metadata[{key}]", value) for key, value in {**merchant, **ours}.items()]
