"""Braintree's webhooks: a signed form that holds XML. Pure; applying them is not its business.

The XML names transactions by their old ids, the GraphQL API by global ones; the order id, which is our operation's,
is the same in both. Notices come in any order and carry no id, so one is derived from what they say.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence
from datetime import datetime
from urllib.parse import parse_qsl

import msgspec

from aegispay.domain.errors import ConfigError
from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import Approved, DeclineCategory, Declined, Outcome
from aegispay.gateways.braintree.amounts import from_braintree
from aegispay.gateways.braintree.client import check_private_key, check_public_key
from aegispay.gateways.braintree.safe_xml import Element, parse
from aegispay.gateways.webhooks import WEBHOOK_BODY_BYTES_MAX, DisputeNews, GatewayEvent, WebhookRejected

FIELDS_MAX = 20
SIGNATURES_MAX = 16
SALES = frozenset({"transaction_settled", "transaction_settlement_declined", "transaction_retried"})
"""Notices about a sale. Which of our operations they concern only the transaction itself tells."""
DISPUTES: dict[str, bool | None] = {
    "dispute_opened": None,
    "dispute_won": True,
    "dispute_lost": False,
    "dispute_accepted": False,
    "dispute_auto_accepted": False,
    "dispute_expired": False,
}
"""None opens a dispute, else whether the merchant keeps the money. An expired one was not answered in time."""
_PAYLOAD = re.compile(rb"[A-Za-z0-9+=/\n]+")
_CHALLENGE = re.compile(r"[a-f0-9]{20,32}")
_OPERATION = re.compile(r"op_[A-Za-z0-9]{1,64}")


class BraintreeWebhooks:
    """Verifies and reads webhooks with pairs of public and private key; several while keys are rotated."""

    def __init__(self, keys: Sequence[tuple[str, str]]) -> None:
        """Raises `ConfigError` for a pair that cannot be right. The first pair answers challenges."""
        self.__keys: dict[str, bytes] = {}
        for pair in keys:
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise ConfigError("Braintree's webhook_keys are pairs of a public and a private key.")
            private = check_private_key(pair[1]).reveal().encode()
            self.__keys[check_public_key(pair[0])] = hashlib.sha1(private).digest()  # noqa: S324 - Braintree's choice
        self._first = next(iter(self.__keys))

    def __repr__(self) -> str:
        return f"<BraintreeWebhooks {len(self.__keys)} key pairs>"

    def answer_challenge(self, challenge: str) -> str:
        """`public_key|signature`, which proves to Braintree that the address belongs to the account."""
        if not _CHALLENGE.fullmatch(challenge):
            raise WebhookRejected("malformed")
        return f"{self._first}|{self._sign(self._first, challenge.encode())}"

    def parse(self, body: bytes) -> list[GatewayEvent]:
        """The news in one webhook, its signature verified before anything is decoded."""
        if len(body) > WEBHOOK_BODY_BYTES_MAX:
            raise WebhookRejected("too_large")
        try:
            fields = dict(parse_qsl(body.decode("ascii"), max_num_fields=FIELDS_MAX, strict_parsing=True))
        except ValueError:
            raise WebhookRejected("malformed") from None
        signature = fields.get("bt_signature")
        if not signature:
            raise WebhookRejected("missing_signature")
        payload = fields.get("bt_payload", "").encode()
        if not _PAYLOAD.fullmatch(payload):
            raise WebhookRejected("malformed")
        self._verify(signature, payload)
        try:
            root = parse(base64.b64decode(payload.replace(b"\n", b""), validate=True))
        except (ValueError, binascii.Error):
            raise WebhookRejected("malformed") from None
        return read_notification(root)

    def _verify(self, signature: str, payload: bytes) -> None:
        pairs = [pair.partition("|") for pair in signature.split("&")]
        if len(pairs) > SIGNATURES_MAX:
            raise WebhookRejected("malformed")
        found = False
        for public_key, _, given in pairs:
            if public_key in self.__keys:
                # A last line break is lost on some ways here, so the signature may cover one more than came.
                for text in (payload, payload + b"\n"):
                    expected = self._sign(public_key, text)
                    found |= hmac.compare_digest(expected.encode(), given.encode())
        if not found:
            raise WebhookRejected("signature")

    def _sign(self, public_key: str, text: bytes) -> str:
        return hmac.digest(self.__keys[public_key], text, hashlib.sha1).hex()


def global_id(kind: str, old_id: str | None) -> str | None:
    """The GraphQL API's id of what the XML names by its old id."""
    if not old_id:
        return None
    return base64.urlsafe_b64encode(f"{kind}_{old_id}".encode()).decode().rstrip("=")


def read_notification(root: Element) -> list[GatewayEvent]:
    """The news in a verified notification."""
    kind = root.text_of("kind")
    if root.name != "notification" or kind is None:
        raise WebhookRejected("malformed")
    if kind in DISPUTES:
        return _dispute(root, kind)
    transaction = root.find("subject", "transaction")
    if transaction is None or kind not in (*SALES, "refund_failed"):
        return []
    head = _head(root, kind, transaction.text_of("id"), transaction)
    if kind == "refund_failed":
        return [_refund_failed(head, transaction)]
    refund = transaction.text_of("type") == "credit"
    return [
        msgspec.structs.replace(
            head,
            kind=OperationKind.REFUND if refund else OperationKind.CHARGE,
            outcome=_said(head, kind),
            must_look_up=True,
        )
    ]


def _said(head: GatewayEvent, kind: str) -> Outcome | None:
    """What the notice says of the transaction. It names the sale, not which of our operations: look it up first."""
    if head.amount_minor is None or head.reference is None or kind == "transaction_retried":
        return None
    if kind == "transaction_settled":
        return Approved(reference=head.reference, amount_minor=head.amount_minor)
    return Declined(
        category=DeclineCategory.HARD,
        code="settlement_declined",
        message="Braintree: settlement declined",
        gateway_code="SETTLEMENT_DECLINED",
        reference=head.reference,
    )


def _head(root: Element, kind: str, about: str | None, transaction: Element | None) -> GatewayEvent:
    stamp = root.text_of("timestamp") or ""
    order = transaction.text_of("order-id") if transaction else None
    old_id = transaction.text_of("id") if transaction else None
    currency = transaction.text_of("currency-iso-code") if transaction else None
    amount = transaction.text_of("amount") if transaction else None
    status = (transaction.text_of("status") if transaction else None) or ""
    reference = global_id("transaction", old_id)
    return GatewayEvent(
        id=f"{kind}:{about or ''}:{status}:{stamp}"[:255],
        type=kind,
        at_us=_at_us(stamp),
        operation_id=order if order and _OPERATION.fullmatch(order) else None,
        reference=reference,
        payment_reference=reference,
        amount_minor=_minor(amount, currency),
        currency=currency,
    )


def _refund_failed(head: GatewayEvent, transaction: Element) -> GatewayEvent:
    old_id = transaction.text_of("id")
    reference = global_id("refund", old_id)
    declined = Declined(
        category=DeclineCategory.INVALID,
        code="refund_failed",
        message="Braintree: refund failed",
        gateway_code=(transaction.text_of("status") or "")[:64],
        reference=reference,
    )
    return msgspec.structs.replace(
        head,
        kind=OperationKind.REFUND,
        outcome=declined,
        undoes=True,
        reference=reference,
        payment_reference=global_id("transaction", transaction.text_of("refunded-transaction-id")),
    )


def _dispute(root: Element, kind: str) -> list[GatewayEvent]:
    dispute = root.find("subject", "dispute")
    reference = dispute.text_of("id") if dispute else None
    if dispute is None or reference is None:
        raise WebhookRejected("malformed")
    transaction = dispute.find("transaction")
    currency = dispute.text_of("currency-iso-code")
    amount = _minor(dispute.text_of("amount-disputed") or dispute.text_of("amount"), currency)
    head = msgspec.structs.replace(
        _head(root, kind, reference, transaction),
        reference=global_id("dispute", reference),
        currency=currency,
        amount_minor=amount,
    )
    if amount is None:
        return [msgspec.structs.replace(head, must_look_up=True)]
    won = DISPUTES[kind]
    news = DisputeNews(
        reference=head.reference or reference,
        amount_minor=amount,
        opened=won is None,
        won=won,
        reason=(dispute.text_of("reason") or "")[:64],
    )
    return [msgspec.structs.replace(head, dispute=news)]


def _minor(amount: str | None, currency: str | None) -> int | None:
    try:
        return from_braintree(amount or "", currency or "")
    except Exception:  # noqa: BLE001 - a currency or an amount that we cannot express; the notice itself is genuine
        return None


def _at_us(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return 0
    return int(moment.timestamp() * 1_000_000) if moment.tzinfo is not None else 0
