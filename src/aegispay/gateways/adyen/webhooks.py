"""Adyen's standard webhooks: every item of a batch verified, then read. Pure; applying them is not its business.

Signed are eight fields (`SIGNED`); the reason, the date and all additional data are not, so nothing that moves money
is taken from them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from aegispay.domain.errors import ConfigError
from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import Approved, DeclineCategory, Declined, Outcome
from aegispay.gateways.adyen.amounts import from_adyen
from aegispay.gateways.adyen.codes import row_of_text
from aegispay.gateways.adyen.requests import PAYMENT_KEY
from aegispay.gateways.adyen.wire_types import Notification, NotificationItem
from aegispay.gateways.answers import read_body
from aegispay.gateways.webhooks import WEBHOOK_BODY_BYTES_MAX, DisputeNews, GatewayEvent, WebhookRejected

SIGNED = (
    "pspReference",
    "originalReference",
    "merchantAccountCode",
    "merchantReference",
    "value",
    "currency",
    "eventCode",
    "success",
)
"""The fields that the signature covers, in its order, joined with colons."""
RECAPTURED = ("Transaction Recaptured", "Transaction Auto-recaptured")
"""The reasons of a CAPTURE that Adyen repeats after a CAPTURE_FAILED: news, though all that is signed is the same."""
_OPERATION = re.compile(r"op_[A-Za-z0-9]{1,64}")
_PAYMENT = re.compile(r"pay_[0-9a-fA-F]{32}")
_KEY = re.compile(r"[0-9A-Fa-f]{64}")


class Meaning(NamedTuple):
    """What an event code is about, and whether it can be a success at all."""

    kind: OperationKind
    failure: str | None = None
    """Our code for it where the event is a failure whatever its `success` says."""


MEANINGS: dict[str, Meaning] = {
    "AUTHORISATION": Meaning(OperationKind.AUTHORIZE),
    "OFFER_CLOSED": Meaning(OperationKind.AUTHORIZE, "canceled"),
    "CAPTURE": Meaning(OperationKind.CAPTURE),
    "CAPTURE_FAILED": Meaning(OperationKind.CAPTURE, "capture_failed"),
    "CANCELLATION": Meaning(OperationKind.VOID),
    "TECHNICAL_CANCEL": Meaning(OperationKind.VOID),
    "CANCEL_OR_REFUND": Meaning(OperationKind.VOID),
    "EXPIRE": Meaning(OperationKind.VOID),
    "REFUND": Meaning(OperationKind.REFUND),
    "REFUND_FAILED": Meaning(OperationKind.REFUND, "refund_failed"),
    "REFUNDED_REVERSED": Meaning(OperationKind.REFUND, "refund_failed"),
}
"""The events about money. CAPTURE_FAILED and REFUND_FAILED come with `success` true: the failure has succeeded."""

DISPUTES: dict[str, bool | None] = {
    "NOTIFICATION_OF_CHARGEBACK": None,
    "CHARGEBACK": None,
    "PREARBITRATION_OPEN": None,
    "CHARGEBACK_REVERSED": True,
    "ISSUER_RESPONSE_TIMEFRAME_EXPIRED": True,
    "PREARBITRATION_WON": True,
    "PREARBITRATION_ISSUER_WITHDRAWN": True,
    "SCHEME_ARBITRATION_WON": True,
    "SECOND_CHARGEBACK": False,
    "DISPUTE_DEFENSE_PERIOD_ENDED": False,
    "PREARBITRATION_LOST": False,
    "PREARBITRATION_ACCEPTED": False,
    "SCHEME_ARBITRATION_LOST": False,
}
"""The events about disputes: None opens one, else whether the merchant keeps the money."""


class AdyenWebhooks:
    """Verifies and reads webhooks with the HMAC keys of one endpoint; several while they are rotated."""

    def __init__(self, keys: Sequence[str]) -> None:
        """Raises `ConfigError` for a key that is not 32 bytes in hex."""
        if isinstance(keys, str) or not all(isinstance(key, str) and _KEY.fullmatch(key) for key in keys):
            raise ConfigError("Adyen's webhook HMAC keys are a list of texts of 64 hexadecimal digits.")
        self.__keys = tuple(binascii.a2b_hex(key) for key in keys)

    def __repr__(self) -> str:
        return f"<AdyenWebhooks {len(self.__keys)} keys>"

    def parse(self, body: bytes) -> list[GatewayEvent]:
        """The news in one webhook. One item that is not genuine spoils the whole batch: nothing is taken from it."""
        if not self.__keys:
            raise ConfigError("no webhook HMAC key is configured for Adyen.", hint="Pass webhook_keys.")
        if len(body) > WEBHOOK_BODY_BYTES_MAX:
            raise WebhookRejected("too_large")
        notification = read_body(body, Notification)
        if notification is None or not notification.notification_items:
            raise WebhookRejected("malformed")
        items = [wrapper.item for wrapper in notification.notification_items]
        for item in items:
            self._verify(item)
        return [event for event in map(_event, items) if event is not None]

    def _verify(self, item: NotificationItem) -> None:
        raw = (item.additional_data or {}).get("hmacSignature")
        given = read_body(bytes(raw), str) if raw is not None else None
        if not given:
            raise WebhookRejected("missing_signature")
        text = signed_text(item).encode()
        found = False
        for key in self.__keys:
            expected = base64.b64encode(hmac.digest(key, text, hashlib.sha256))
            found |= hmac.compare_digest(expected, given.encode())
        if not found:
            raise WebhookRejected("signature")


def signed_text(item: NotificationItem) -> str:
    """What the signature covers.

    The fields are joined unescaped, so a colon could be moved from one field into its neighbour under the same
    signature: only our own reference may hold one.
    """
    amount = item.amount
    success = item.success if isinstance(item.success, str) else str(item.success).lower()
    fields = [
        item.psp_reference,
        item.original_reference or "",
        item.merchant_account_code or "",
        item.merchant_reference or "",
        str(amount.value) if amount else "",
        amount.currency if amount else "",
        item.event_code,
        success,
    ]
    if any(":" in field for name, field in zip(SIGNED, fields, strict=True) if name != "merchantReference"):
        raise WebhookRejected("malformed")
    return ":".join(fields)


def _event(item: NotificationItem) -> GatewayEvent | None:
    code = item.event_code
    meaning = MEANINGS.get(code)
    if meaning is None and code not in DISPUTES:
        return None
    success = str(item.success).lower()
    if success not in ("true", "false"):
        raise WebhookRejected("malformed")
    amount = _minor(item)
    ours = item.merchant_reference or ""
    event = GatewayEvent(
        id=_identity(item, success),
        type=code,
        at_us=_at_us(item.event_date),
        operation_id=ours if _OPERATION.fullmatch(ours) else None,
        payment_id=_payment_hint(item) if code == "AUTHORISATION" else None,
        reference=item.psp_reference,
        payment_reference=item.original_reference or (None if code in DISPUTES else item.psp_reference),
        amount_minor=amount,
        currency=item.amount.currency if item.amount else None,
        # An amount that we cannot express is no ground to change the books on.
        must_look_up=amount is None,
    )
    if meaning is None:
        return _dispute(event, item, success == "true")
    outcome = None if amount is None else _outcome(item, meaning, success == "true", amount)
    failed = meaning.failure is not None and meaning.kind is not OperationKind.AUTHORIZE
    return msgspec.structs.replace(
        event,
        kind=meaning.kind,
        outcome=outcome,
        undoes=failed,
        again=_recaptured(item) and success == "true",
    )


def _payment_hint(item: NotificationItem) -> str | None:
    """Our payment, as the metadata says, which is not signed.

    It only says where to look for the operation, whose id is signed. An authorisation that is not found there changes
    nothing; of a refund that could not be said, so no other event has it.
    """
    raw = (item.additional_data or {}).get(f"metadata.{PAYMENT_KEY}")
    found = read_body(bytes(raw), str) if raw is not None else None
    return found if found and _PAYMENT.fullmatch(found) else None


def _identity(item: NotificationItem, success: str) -> str:
    """Adyen repeats a notice with the same event code and pspReference; a changed verdict is no repeat."""
    return f"{item.event_code}:{item.psp_reference}:{success}{':recaptured' if _recaptured(item) else ''}"


def _recaptured(item: NotificationItem) -> bool:
    return item.event_code == "CAPTURE" and (item.reason or "").strip().startswith(RECAPTURED)


def _outcome(item: NotificationItem, meaning: Meaning, success: bool, amount: int) -> Outcome:
    if success and meaning.failure is None:
        return Approved(reference=item.psp_reference, amount_minor=amount)
    if meaning.kind is OperationKind.AUTHORIZE and meaning.failure is None:
        row = row_of_text(item.reason)
        category, code = (row.category, row.code) if row else (DeclineCategory.SOFT, "card_declined")
        raw = row.adyen if row else item.event_code
    elif meaning.kind is OperationKind.AUTHORIZE:
        category, code, raw = DeclineCategory.HARD, meaning.failure or "canceled", item.event_code
    else:
        category, raw = DeclineCategory.INVALID, item.event_code
        code = meaning.failure or f"{meaning.kind.value}_failed"
    return Declined(
        category=category,
        code=code,
        message=f"Adyen: {code.replace('_', ' ')}",
        gateway_code=raw[:64],
        reference=item.psp_reference,
    )


def _dispute(event: GatewayEvent, item: NotificationItem, success: bool) -> GatewayEvent | None:
    if not success or event.amount_minor is None:
        return None if not success else event
    won = DISPUTES[item.event_code]
    news = DisputeNews(
        reference=item.psp_reference,
        amount_minor=event.amount_minor,
        opened=won is None,
        won=won,
        reason=item.event_code.lower(),
    )
    return msgspec.structs.replace(event, dispute=news)


def _minor(item: NotificationItem) -> int | None:
    if item.amount is None:
        return None
    try:
        return from_adyen(item.amount.value, item.amount.currency)
    except Exception:  # noqa: BLE001 - a currency or an amount that we cannot express; the notice itself is genuine
        return None


def _at_us(text: str | None) -> int:
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return 0
    return int(moment.timestamp() * 1_000_000) if moment.tzinfo is not None else 0
