"""PayPal's inbound webhooks: address of the certificate, time and signature first, then what the notice says. Pure.

PayPal signs a CRC32 of the body, not the body. Whoever holds one genuine notice can write another body with the same
CRC32, so the notice alone proves nothing: every event says `must_look_up`.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence

import msgspec

from aegispay.domain.errors import ConfigError, InvalidRequest
from aegispay.domain.events import OperationKind
from aegispay.domain.money import Money
from aegispay.domain.outcomes import Approved, Declined, Outcome
from aegispay.gateways.answers import read_body
from aegispay.gateways.credentials import header_of
from aegispay.gateways.gateway import GatewayCall
from aegispay.gateways.paypal.amounts import from_paypal
from aegispay.gateways.paypal.certificates import CertificateStore
from aegispay.gateways.paypal.replies import made_outcome, refund_outcome, time_us
from aegispay.gateways.paypal.wire_types import Amount, Notice, Resource
from aegispay.gateways.webhooks import (
    WEBHOOK_BODY_BYTES_MAX,
    WEBHOOK_TOLERANCE_S,
    DisputeNews,
    GatewayEvent,
    WebhookRejected,
)

K = OperationKind
CERT_URL = "paypal-cert-url"
PAST_TOLERANCE_S = 3 * 86_400 + WEBHOOK_TOLERANCE_S
"""PayPal delivers a notice up to 25 times over three days, and does not say that each try is signed anew."""
_ALGORITHM = "SHA256withRSA"
_OPERATION = re.compile(r"op_[0-9a-f]{32}")
_OURS = re.compile(r"(?P<operation>op_[0-9a-f]{32})/(?P<payment>pay_[0-9a-z_-]{1,46})(?P<refund>/refund)?")
"""A `custom_id` of ours."""
_TRANSMISSION = re.compile(r"[\w-]{1,100}", re.ASCII)
_AUTHORIZATION = {
    "PAYMENT.AUTHORIZATION.CREATED",
    "PAYMENT.AUTHORIZATION.DENIED",
    "PAYMENT.AUTHORIZATION.PENDING",
}
_CAPTURE = {
    "PAYMENT.CAPTURE.COMPLETED",
    "PAYMENT.CAPTURE.DENIED",
    "PAYMENT.CAPTURE.DECLINED",
    "PAYMENT.CAPTURE.PENDING",
}
_REFUND = {"PAYMENT.CAPTURE.REFUNDED", "PAYMENT.REFUND.PENDING", "PAYMENT.REFUND.FAILED"}
_ORDER = {"CHECKOUT.ORDER.APPROVED", "CHECKOUT.ORDER.COMPLETED", "CHECKOUT.PAYMENT-APPROVAL.REVERSED"}
_DISPUTE = {"CUSTOMER.DISPUTE.CREATED": True, "CUSTOMER.DISPUTE.RESOLVED": False}
_WON = {
    "RESOLVED_SELLER_FAVOUR": True,
    "RESOLVED_WITH_PAYOUT": True,
    "CANCELED_BY_BUYER": True,
    "DENIED": True,
    "RESOLVED_BUYER_FAVOUR": False,
    "ACCEPTED": False,
}


def signed_message(transmission_id: str, time: str, webhook_id: str, body: bytes) -> bytes:
    """What PayPal signs."""
    return f"{transmission_id}|{time}|{webhook_id}|{zlib.crc32(body)}".encode()


def read_webhook(
    headers: Mapping[str, str],
    body: bytes,
    now_us: int,
    webhook_ids: Sequence[str],
    certificates: CertificateStore,
) -> list[GatewayEvent]:
    """The news in one notice. Raises `WebhookRejected`, or `ConfigError` where no webhook id is configured."""
    if not webhook_ids:
        raise ConfigError("no PayPal webhook id is configured.", hint="Pass webhook_ids=[...].")
    if len(body) > WEBHOOK_BODY_BYTES_MAX:
        raise WebhookRejected("too_large")
    _check_signature(headers, body, now_us, webhook_ids, certificates)
    notice = read_body(body, Notice)
    if notice is None or not notice.id:
        raise WebhookRejected("malformed")
    event = _event(notice)
    return [] if event is None else [event]


def _check_signature(
    headers: Mapping[str, str],
    body: bytes,
    now_us: int,
    webhook_ids: Sequence[str],
    certificates: CertificateStore,
) -> None:
    names = ("paypal-transmission-id", "paypal-transmission-time", "paypal-transmission-sig", CERT_URL)
    found = [header_of(headers, name) for name in names]
    if not all(found):
        raise WebhookRejected("missing_signature")
    transmission_id, time, signature, url = (one or "" for one in found)
    if (header_of(headers, "paypal-auth-algo") or _ALGORITHM) != _ALGORITHM:
        raise WebhookRejected("signature")
    if not _TRANSMISSION.fullmatch(transmission_id):
        raise WebhookRejected("signature")
    sent_us = time_us(time)
    if sent_us is None:
        raise WebhookRejected("signature")
    age_s = (now_us - sent_us) / 1_000_000
    if not -WEBHOOK_TOLERANCE_S <= age_s <= PAST_TOLERANCE_S:
        raise WebhookRejected("stale")
    refused = WebhookRejected("signature")
    for webhook_id in webhook_ids:
        try:
            message = signed_message(transmission_id, time, webhook_id, body)
            certificates.verify(url, message, signature, now_us)
        except WebhookRejected as error:
            if error.reason != "signature":
                raise
            refused = error
        else:
            return
    raise refused


def _event(notice: Notice) -> GatewayEvent | None:
    name = notice.event_type
    resource = read_body(bytes(notice.resource), _resource_type(name))
    if resource is None:
        if name in _AUTHORIZATION | _CAPTURE | _REFUND | _ORDER | set(_DISPUTE):
            raise WebhookRejected("malformed")
        return None
    try:
        if name in _DISPUTE:
            return _dispute(notice, resource)
        if name in _ORDER:
            return _order(notice, resource)
        if name in _AUTHORIZATION:
            return _made(notice, resource, K.AUTHORIZE)
        if name in _CAPTURE:
            return _made(notice, resource, _capture_kind(resource))
        if name in _REFUND:
            return _refund(notice, resource)
        if name in ("PAYMENT.AUTHORIZATION.VOIDED", "PAYMENT.CAPTURE.REVERSED"):
            return _other(notice, resource)
    except (ValueError, InvalidRequest) as error:
        raise WebhookRejected("malformed") from error
    return None


def _resource_type(name: str) -> type[Resource]:
    return _Dispute if name in _DISPUTE else Resource


class _Dispute(Resource):
    """A dispute has no `id`."""

    id: str = ""


def _ours(custom_id: str | None) -> re.Match[str] | None:
    return _OURS.fullmatch(custom_id or "")


def _capture_kind(made: Resource) -> OperationKind:
    """A capture of an authorization names it, or has an invoice id of its own; that of a charge has the charge's."""
    ours = _ours(made.custom_id)
    if made.authorization_id() is not None:
        return K.CAPTURE
    return K.CAPTURE if ours and made.invoice_id not in (None, ours["operation"]) else K.CHARGE


def _made(notice: Notice, made: Resource, kind: OperationKind) -> GatewayEvent:
    outcome = made_outcome(made, _as_call(kind, made.amount), kind, None)
    ours = _ours(made.custom_id)
    attempt = ours["operation"] if ours else None
    own = attempt
    if kind is K.CAPTURE:
        # What somebody captured at PayPal has no invoice id, or that of its order: it is none of our operations.
        own = made.invoice_id if made.invoice_id != attempt else None
    event = _about(notice, made, kind, outcome, own, made.custom_id, payment=made.order_id())
    return msgspec.structs.replace(event, final=kind is K.CAPTURE and made.final_capture is True)


def _refund(notice: Notice, refund: Resource) -> GatewayEvent:
    """A refund of ours, or one that somebody made at PayPal: that one may carry the custom id of its charge."""
    outcome = refund_outcome(refund, _as_call(K.REFUND, refund.amount))
    related = refund.supplementary_data.related_ids if refund.supplementary_data else None
    capture = related.capture_id if related else None
    for link in refund.links:
        if capture is None and link.rel == "up" and "/captures/" in link.href:
            capture = link.href.rsplit("/", 1)[1][:64]
    ours = _ours(refund.custom_id)
    own = ours["operation"] if ours and ours["refund"] else None
    return _about(notice, refund, K.REFUND, outcome, own, refund.custom_id, payment=capture)


def _order(notice: Notice, order: Resource) -> GatewayEvent:
    """The payer approved, or took it back: nothing was taken by that, but our own call may be due."""
    unit = order.purchase_units[0] if order.purchase_units else None
    order.amount = unit.amount if unit is not None and unit.amount is not None else Amount()
    kind = K.AUTHORIZE if order.intent == "AUTHORIZE" else K.CHARGE
    custom_id = unit.custom_id if unit else None
    ours = _ours(custom_id)
    return _about(notice, order, kind, None, ours["operation"] if ours else None, custom_id, payment=order.id)


def _other(notice: Notice, resource: Resource) -> GatewayEvent:
    """A void, whose own operation the notice does not name, or money that PayPal took back by itself."""
    voided = notice.event_type == "PAYMENT.AUTHORIZATION.VOIDED"
    outcome: Outcome | None = None
    if voided and resource.amount.currency_code:
        amount = from_paypal(resource.amount.value, resource.amount.currency_code)
        outcome = Approved(reference=resource.id, amount_minor=amount)
    kind = K.VOID if voided else K.REFUND
    payment = resource.order_id() or resource.id
    return _about(notice, resource, kind, outcome, None, resource.custom_id, payment=payment)


def _about(
    notice: Notice,
    resource: Resource,
    kind: OperationKind,
    outcome: Outcome | None,
    own: str | None,
    custom_id: str | None,
    *,
    payment: str | None,
) -> GatewayEvent:
    code = resource.amount.currency_code
    ours = _ours(custom_id)
    return GatewayEvent(
        id=notice.id[:100],
        type=notice.event_type[:100],
        at_us=time_us(notice.create_time) or 0,
        kind=kind,
        outcome=outcome if isinstance(outcome, Approved | Declined) else None,
        operation_id=own if own is not None and _OPERATION.fullmatch(own) else None,
        payment_id=ours["payment"] if ours else None,
        reference=resource.id,
        payment_reference=payment,
        amount_minor=from_paypal(resource.amount.value, code) if code else None,
        currency=code or None,
        must_look_up=True,
        forgeable=True,
        undoes=kind is K.REFUND and isinstance(outcome, Declined),
    )


def _dispute(notice: Notice, dispute: Resource) -> GatewayEvent:
    reference = dispute.dispute_id or ""
    amount = dispute.dispute_amount or Amount()
    if not reference or not amount.currency_code:
        raise ValueError("a dispute without an id or an amount")
    opened = _DISPUTE[notice.event_type]
    decided = dispute.dispute_outcome.outcome_code if dispute.dispute_outcome else None
    minor = from_paypal(amount.value, amount.currency_code)
    disputed = dispute.disputed_transactions
    ours = _ours(disputed[0].custom) if disputed else None
    return GatewayEvent(
        id=notice.id[:100],
        type=notice.event_type[:100],
        at_us=time_us(notice.create_time) or 0,
        payment_id=ours["payment"] if ours else None,
        reference=reference,
        payment_reference=disputed[0].seller_transaction_id if disputed else None,
        amount_minor=minor,
        currency=amount.currency_code,
        dispute=DisputeNews(
            reference=reference,
            amount_minor=minor,
            opened=opened,
            won=None if opened else _WON.get(decided or ""),
            reason=(dispute.reason or "")[:100],
        ),
        must_look_up=True,
        forgeable=True,
    )


def _as_call(kind: OperationKind, amount: Amount) -> GatewayCall:
    """A call with what the mapping of outcomes looks at: the currency that the notice itself names."""
    return GatewayCall(
        kind=kind,
        operation_id="",
        gateway_key="",
        payment_id="",
        merchant_id="",
        amount=Money(0, amount.currency_code),
        timeout_s=0.0,
    )
