"""Razorpay's inbound webhooks: the signature over the raw body first, then what the notice says. Pure.

Razorpay signs no time, and its header with the event's id is not signed: repeats are told from the body itself.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence

from aegispay.domain.errors import ConfigError, InvalidRequest
from aegispay.domain.events import OperationKind
from aegispay.domain.money import Money
from aegispay.domain.outcomes import Approved, Declined, InDoubt, Outcome, Pending
from aegispay.gateways.answers import read_body
from aegispay.gateways.credentials import Secret, header_of
from aegispay.gateways.gateway import GatewayCall
from aegispay.gateways.razorpay.amounts import from_razorpay
from aegispay.gateways.razorpay.replies import payment_outcome, refund_outcome
from aegispay.gateways.razorpay.requests import (
    FLOW_NOTE,
    KIND_NOTE,
    OPERATION_NOTE,
    PAYMENT_NOTE,
    SERVER_TO_SERVER,
)
from aegispay.gateways.razorpay.wire_types import Dispute, Notice, Order, Payment, RazorpayRefund, note
from aegispay.gateways.webhooks import WEBHOOK_BODY_BYTES_MAX, DisputeNews, GatewayEvent, WebhookRejected

K = OperationKind
SIGNATURE_HEADER = "x-razorpay-signature"
_PAYMENT_EVENTS = frozenset({"payment.authorized", "payment.captured", "payment.failed", "order.paid"})
_REFUND_EVENTS = frozenset({"refund.created", "refund.processed", "refund.failed"})
_DISPUTE_EVENTS = {
    "payment.dispute.created": (True, None),
    "payment.dispute.won": (False, True),
    "payment.dispute.lost": (False, False),
    "payment.dispute.closed": (False, None),
}


def sign(body: bytes, secret: str) -> str:
    """The signature of a body, as Razorpay makes it."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def read_webhook(headers: Mapping[str, str], body: bytes, secrets: Sequence[Secret]) -> list[GatewayEvent]:
    """The news in one notice. Raises `WebhookRejected`, or `ConfigError` where no secret is configured."""
    if not secrets:
        raise ConfigError("no Razorpay webhook secret is configured.", hint="Pass webhook_secrets=[...].")
    if len(body) > WEBHOOK_BODY_BYTES_MAX:
        raise WebhookRejected("too_large")
    given = header_of(headers, SIGNATURE_HEADER)
    if not given:
        raise WebhookRejected("missing_signature")
    # Every secret is tried whatever the first says, so that the time taken does not tell which one is in force.
    matches = [
        hmac.compare_digest(sign(body, secret.reveal()).encode(), given.strip().encode())
        for secret in secrets
    ]
    if not any(matches):
        raise WebhookRejected("signature")
    notice = read_body(body, Notice)
    if notice is None:
        raise WebhookRejected("malformed")
    event = _event(notice, f"rzp_{hashlib.sha256(body).hexdigest()[:40]}")
    return [] if event is None else [event]


def _event(notice: Notice, event_id: str) -> GatewayEvent | None:
    payload = notice.payload
    at_us = (notice.created_at or 0) * 1_000_000
    # Refunds made on the dashboard and disputes carry no notes of ours; the payment beside them may.
    paid = note(payload.payment.entity.notes, PAYMENT_NOTE) if payload.payment is not None else None
    try:
        if notice.event in _PAYMENT_EVENTS and payload.payment is not None:
            order = payload.order.entity if payload.order is not None else None
            return _payment(notice.event, event_id, at_us, payload.payment.entity, order)
        if notice.event in _REFUND_EVENTS and payload.refund is not None:
            return _refund(notice.event, event_id, at_us, payload.refund.entity, paid)
        if notice.event in _DISPUTE_EVENTS and payload.dispute is not None:
            return _dispute(notice.event, event_id, at_us, payload.dispute.entity, paid)
    except (ValueError, InvalidRequest) as error:
        raise WebhookRejected("malformed") from error
    return None


def _payment(name: str, event_id: str, at_us: int, payment: Payment, order: Order | None) -> GatewayEvent:
    notes = (
        payment.notes if note(payment.notes, OPERATION_NOTE) else (order.notes if order else payment.notes)
    )
    operation_id = note(notes, OPERATION_NOTE)
    asked = note(notes, KIND_NOTE)
    kinds = {one.value: one for one in (K.AUTHORIZE, K.CHARGE)}
    # A payment that is not ours as far as the notice says: what it tells is a reason to look.
    guess = K.AUTHORIZE if payment.status == "authorized" else K.CHARGE
    known = asked in kinds
    kind = kinds.get(asked or "", guess)
    outcome: Outcome | None = payment_outcome(payment, _as_call(kind, payment), kind)
    if known and kind is K.AUTHORIZE and payment.status == "captured":
        # The authorisation was told before; this is news of its capture, whose id the payment does not carry.
        kind, operation_id = K.CAPTURE, None
    if isinstance(outcome, Declined) and note(payment.notes, FLOW_NOTE) != SERVER_TO_SERVER:
        # One try failed in the Checkout; the payer may try again there.
        outcome = None
    unclear = isinstance(outcome, InDoubt)
    return GatewayEvent(
        id=event_id,
        type=name,
        at_us=at_us,
        kind=kind,
        outcome=None if unclear or isinstance(outcome, Pending) else outcome,
        operation_id=operation_id,
        payment_id=note(notes, PAYMENT_NOTE),
        reference=payment.id,
        payment_reference=payment.order_id or payment.id,
        amount_minor=from_razorpay(payment.amount, payment.currency),
        currency=payment.currency,
        must_look_up=not known or unclear,
    )


def _refund(name: str, event_id: str, at_us: int, refund: RazorpayRefund, paid: str | None) -> GatewayEvent:
    operation_id = note(refund.notes, OPERATION_NOTE)
    outcome = refund_outcome(refund, _as_call(K.REFUND, refund))
    return GatewayEvent(
        id=event_id,
        type=name,
        at_us=at_us,
        kind=K.REFUND,
        outcome=outcome if isinstance(outcome, Approved | Declined) else None,
        operation_id=operation_id,
        payment_id=note(refund.notes, PAYMENT_NOTE) or paid,
        reference=refund.id,
        payment_reference=refund.payment_id,
        amount_minor=from_razorpay(refund.amount, refund.currency),
        currency=refund.currency,
        undoes=isinstance(outcome, Declined),
    )


def _dispute(name: str, event_id: str, at_us: int, dispute: Dispute, paid: str | None) -> GatewayEvent:
    opened, won = _DISPUTE_EVENTS[name]
    amount = from_razorpay(dispute.amount, dispute.currency)
    return GatewayEvent(
        id=event_id,
        type=name,
        at_us=at_us,
        payment_id=paid,
        reference=dispute.id,
        payment_reference=dispute.payment_id or None,
        amount_minor=amount,
        currency=dispute.currency,
        dispute=DisputeNews(
            reference=dispute.id,
            amount_minor=amount,
            opened=opened,
            won=won,
            reason=(dispute.reason_code or "")[:100],
        ),
    )


def _as_call(kind: OperationKind, about: Payment | RazorpayRefund) -> GatewayCall:
    """A call with what the mapping of outcomes looks at: the currency that the notice itself names."""
    return GatewayCall(
        kind=kind,
        operation_id="",
        gateway_key="",
        payment_id="",
        merchant_id="",
        amount=Money(0, about.currency),
        timeout_s=0.0,
    )
