"""Stripe's webhooks: the signature verified first, then the event read. Pure; applying it is not its business.

The object in an event is a snapshot of the time when the event was made; events come out of order.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence

import msgspec

from aegispay.domain.errors import ConfigError
from aegispay.domain.events import OperationKind
from aegispay.domain.money import Money
from aegispay.domain.outcomes import Approved, Declined, InDoubt, Outcome
from aegispay.gateways.credentials import checked_secret, header_of
from aegispay.gateways.gateway import GatewayCall
from aegispay.gateways.stripe.amounts import from_stripe
from aegispay.gateways.stripe.replies import intent_outcome, refund_outcome
from aegispay.gateways.stripe.requests import OPERATION_KEY, PAYMENT_KEY
from aegispay.gateways.stripe.wire_types import Charge, Intent, StripeRefund
from aegispay.gateways.webhooks import (
    WEBHOOK_BODY_BYTES_MAX,
    WEBHOOK_TOLERANCE_S,
    DisputeNews,
    GatewayEvent,
    WebhookRejected,
)

SIGNATURES_MAX = 16
"""A header with more signatures than this is not Stripe's."""
INTENT_EVENTS = frozenset(
    f"payment_intent.{what}"
    for what in (
        "amount_capturable_updated",
        "canceled",
        "payment_failed",
        "processing",
        "requires_action",
        "succeeded",
    )
)
REFUND_EVENTS = frozenset({"refund.created", "refund.updated", "refund.failed", "charge.refund.updated"})
DISPUTE_EVENTS = frozenset({"charge.dispute.created", "charge.dispute.closed"})
_DECIDED = {"won": True, "warning_closed": True, "lost": False}
_TIME = re.compile(r"\d{1,12}", re.ASCII)
_AMOUNT = re.compile(r"\d{1,12}", re.ASCII)


class _Data(msgspec.Struct):
    object: msgspec.Raw = msgspec.Raw()


class _Event(msgspec.Struct):
    id: str
    type: str = ""
    created: int = 0
    data: _Data | None = None


class _PastCharge(msgspec.Struct):
    id: str
    status: str | None = None


class _PastCharges(msgspec.Struct):
    data: list[_PastCharge] = []


class _IntentSnapshot(Intent):
    """A snapshot has the API version of the endpoint, which need not be the one that our requests ask for."""

    capture_method: str = ""
    charges: _PastCharges | None = None
    """Every try's charge, where the endpoint's version is older than `latest_charge` (2022-11-15)."""

    def charge_id(self) -> str | None:
        """The charge that was captured, by the name that the answers to our own calls give it."""
        if self.latest_charge is not None:
            latest = self.latest_charge
            return latest.id if isinstance(latest, Charge) else latest
        good = [one.id for one in self.charges.data if one.status != "failed"] if self.charges else []
        return good[0] if len(good) == 1 else None


class _RefundSnapshot(msgspec.Struct):
    id: str
    status: str | None = None
    amount: int = 0
    currency: str = ""
    metadata: dict[str, object] | None = None
    """Null on refunds that were not made by this adapter, so the struct of the replies does not fit."""
    failure_reason: str | None = None
    payment_intent: str | None = None
    charge: str | None = None

    def plain(self) -> StripeRefund:
        return StripeRefund(
            id=self.id,
            status=self.status,
            amount=self.amount,
            currency=self.currency,
            failure_reason=self.failure_reason,
        )


class _Dispute(msgspec.Struct):
    id: str
    status: str = ""
    reason: str = ""
    amount: int = 0
    currency: str = ""
    payment_intent: str | None = None
    charge: str | None = None


class StripeWebhooks:
    """Verifies and reads webhooks with the signing secrets of one endpoint; several while they are rolled."""

    def __init__(self, secrets: Sequence[str]) -> None:
        """Raises `ConfigError` for a secret that cannot be right."""
        if isinstance(secrets, str):
            raise ConfigError("webhook_secrets is a list of texts, each like whsec_...")
        self._secrets = tuple(checked_secret("a Stripe webhook secret", secret, 255) for secret in secrets)

    def parse(self, headers: Mapping[str, str], body: bytes, now_us: int) -> list[GatewayEvent]:
        if not self._secrets:
            raise ConfigError("no webhook secret is configured for Stripe.", hint="Pass webhook_secrets.")
        if len(body) > WEBHOOK_BODY_BYTES_MAX:
            raise WebhookRejected("too_large")
        self._verify(header_of(headers, "stripe-signature"), body, now_us)
        return read_event(body)

    def _verify(self, header: str | None, body: bytes, now_us: int) -> None:
        """Signature first, then the time that it covers, which must lie near now on either side."""
        if not header:
            raise WebhookRejected("missing_signature")
        fields = [part.strip().partition("=") for part in header.split(",")]
        times = [value for name, _, value in fields if name == "t"]
        given = [value for name, _, value in fields if name == "v1"]
        if not given:
            raise WebhookRejected("missing_signature")
        if len(times) != 1 or not _TIME.fullmatch(times[0]) or len(given) > SIGNATURES_MAX:
            raise WebhookRejected("malformed")
        text = times[0].encode() + b"." + body
        found = False
        for secret in self._secrets:
            expected = hmac.digest(secret.reveal().encode(), text, hashlib.sha256).hex().encode()
            for one in given:
                found |= hmac.compare_digest(expected, one.encode())
        if not found:
            raise WebhookRejected("signature")
        if abs(now_us - int(times[0]) * 1_000_000) > WEBHOOK_TOLERANCE_S * 1_000_000:
            raise WebhookRejected("stale")


def read_event(body: bytes) -> list[GatewayEvent]:
    """The news in a verified event."""
    try:
        event = msgspec.json.decode(body, type=_Event)
        if event.data is None:
            return []
        raw = bytes(event.data.object)
        if event.type in INTENT_EVENTS:
            return [_of_intent(event, msgspec.json.decode(raw, type=_IntentSnapshot))]
        if event.type in REFUND_EVENTS:
            return [_of_refund(event, msgspec.json.decode(raw, type=_RefundSnapshot))]
        if event.type in DISPUTE_EVENTS:
            return _of_dispute(event, msgspec.json.decode(raw, type=_Dispute))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise WebhookRejected("malformed") from None
    return []


def _head(event: _Event, metadata: dict[str, object], currency: str) -> GatewayEvent:
    payment, operation = metadata.get(PAYMENT_KEY), metadata.get(OPERATION_KEY)
    return GatewayEvent(
        id=event.id,
        type=event.type,
        at_us=event.created * 1_000_000,
        payment_id=payment if isinstance(payment, str) else None,
        operation_id=operation if isinstance(operation, str) else None,
        currency=currency.upper() or None,
    )


def _stand_in(kind: OperationKind, currency: str) -> GatewayCall | None:
    """What the reading of an answer needs to know of a call: here only the currency. None for one that is not ISO's."""
    try:
        amount = Money(1, currency.upper())
    except Exception:  # noqa: BLE001 - an unknown currency, in whichever way it is refused
        return None
    return GatewayCall(
        kind=kind,
        operation_id="",
        gateway_key="",
        payment_id="",
        merchant_id="",
        amount=amount,
        timeout_s=0.0,
    )


def _amount(amount: int, currency: str) -> int | None:
    try:
        return from_stripe(amount, currency.upper())
    except Exception:  # noqa: BLE001 - a currency or an amount that we cannot express; the event itself is genuine
        return None


def _of_intent(event: _Event, intent: _IntentSnapshot) -> GatewayEvent:
    manual = intent.capture_method == "manual"
    kind = OperationKind.AUTHORIZE if manual else OperationKind.CHARGE
    head = msgspec.structs.replace(
        _head(event, intent.metadata, intent.currency),
        reference=intent.id,
        payment_reference=intent.id,
        amount_minor=_amount(intent.amount, intent.currency),
        kind=kind,
    )
    if manual and intent.status == "succeeded":
        return _of_capture(head, intent)
    if intent.status == "canceled":
        released = _amount(intent.amount - (intent.amount_received or 0), intent.currency)
        outcome = None if released is None else Approved(reference=intent.id, amount_minor=released)
        # The intent carries the mark of the operation that made it, not of the one that canceled it.
        return _with(head, outcome, kind=OperationKind.VOID, operation_id=None, amount_minor=released)
    call = _stand_in(kind, intent.currency)
    if call is None or (manual and intent.amount_received):
        # Between several captures an intent says neither what was authorised nor what this capture took.
        return _with(head, None)
    return _with(head, intent_outcome(intent, call, kind))


def _of_capture(head: GatewayEvent, intent: _IntentSnapshot) -> GatewayEvent:
    """An authorisation that has been captured: news of what was captured without us.

    Of several captures the intent knows the sum only, and the charge is the same for all. Each of ours has left its mark
    with its amount, so what the sum has beyond the marks somebody else captured.
    """
    received = intent.amount_received or 0
    marks = [value for key, value in intent.metadata.items() if key.startswith("op_")]
    ours = _sum_of(marks)
    # Without the charge nobody can say whether this is our own capture: under another name it would be booked twice.
    reference = intent.charge_id() if ours is not None and ours <= received else None
    amount = _amount(received - (ours or 0), intent.currency)
    outcome: Outcome | None = None
    if reference is not None and amount:
        reference = f"{reference}-{received}" if marks else reference
        outcome = Approved(reference=reference, amount_minor=amount)
    return _with(
        head,
        outcome,
        kind=OperationKind.CAPTURE,
        operation_id=None,
        reference=reference,
        amount_minor=amount or _amount(received, intent.currency),
        # What has succeeded is captured no further, whatever it has left.
        final=True,
    )


def _sum_of(marks: list[object]) -> int | None:
    """What our own captures took, in Stripe's units; None where a mark is not what we left."""
    texts = [mark for mark in marks if isinstance(mark, str) and _AMOUNT.fullmatch(mark)]
    return sum(map(int, texts)) if len(texts) == len(marks) else None


def _of_refund(event: _Event, refund: _RefundSnapshot) -> GatewayEvent:
    call = _stand_in(OperationKind.REFUND, refund.currency)
    head = msgspec.structs.replace(
        _head(event, refund.metadata or {}, refund.currency),
        kind=OperationKind.REFUND,
        reference=refund.id,
        payment_reference=refund.payment_intent or refund.charge,
        amount_minor=_amount(refund.amount, refund.currency),
    )
    outcome = None if call is None else refund_outcome(refund.plain(), call)
    # A refund that had succeeded may yet fail, and stays so.
    return _with(head, outcome, undoes=isinstance(outcome, Declined))


def _of_dispute(event: _Event, dispute: _Dispute) -> list[GatewayEvent]:
    opened = event.type == "charge.dispute.created"
    won = None if opened else _DECIDED.get(dispute.status)
    if not opened and won is None:
        return []
    amount = _amount(dispute.amount, dispute.currency)
    head = msgspec.structs.replace(
        _head(event, {}, dispute.currency),
        reference=dispute.id,
        payment_reference=dispute.payment_intent or dispute.charge,
        amount_minor=amount,
    )
    if amount is None:
        return [_with(head, None)]
    news = DisputeNews(
        reference=dispute.id, amount_minor=amount, opened=opened, won=won, reason=dispute.reason[:64]
    )
    return [msgspec.structs.replace(head, dispute=news)]


def _with(head: GatewayEvent, outcome: Outcome | None, **changes: object) -> GatewayEvent:
    """The event with its outcome; one that settles nothing asks for a look-up."""
    settled = None if isinstance(outcome, InDoubt) else outcome
    return msgspec.structs.replace(head, outcome=settled, must_look_up=settled is None, **changes)
