"""The parts of PayPal's objects that the adapter reads. Everything else in an answer is skipped, never kept."""

from __future__ import annotations

import re

import msgspec

_ORDER_LINK = re.compile(r"/v2/checkout/orders/([A-Za-z0-9-]{1,64})$")
_AUTHORIZATION_LINK = re.compile(r"/v2/payments/authorizations/([A-Za-z0-9-]{1,64})\Z")


class Link(msgspec.Struct):
    href: str = ""
    rel: str = ""


class Amount(msgspec.Struct):
    currency_code: str = ""
    value: str = ""


class Processor(msgspec.Struct):
    response_code: str | None = None


class Details(msgspec.Struct):
    reason: str | None = None


class RelatedIds(msgspec.Struct):
    order_id: str | None = None
    authorization_id: str | None = None
    capture_id: str | None = None


class Supplement(msgspec.Struct):
    related_ids: RelatedIds | None = None


class Transaction(msgspec.Struct):
    """What captures, authorizations and refunds have in common."""

    id: str
    status: str = ""
    amount: Amount = msgspec.field(default_factory=Amount)
    custom_id: str | None = None
    invoice_id: str | None = None
    processor_response: Processor | None = None
    status_details: Details | None = None
    supplementary_data: Supplement | None = None
    create_time: str | None = None
    expiration_time: str | None = None
    final_capture: bool | None = None
    """Of a capture: whether it is the last of its authorisation. None where the object does not say."""
    links: list[Link] = []

    def order_id(self) -> str | None:
        """The order that it belongs to, where the object says."""
        related = self.supplementary_data.related_ids if self.supplementary_data else None
        if related is not None and related.order_id:
            return related.order_id
        for link in self.links:
            match = _ORDER_LINK.search(link.href)
            if match is not None:
                return match[1]
        return None

    def authorization_id(self) -> str | None:
        """The authorisation that it captures, where the object says."""
        related = self.supplementary_data.related_ids if self.supplementary_data else None
        if related is not None and related.authorization_id:
            return related.authorization_id
        for link in self.links:
            match = _AUTHORIZATION_LINK.search(link.href) if link.rel == "up" else None
            if match is not None:
                return match[1]
        return None


class Payments(msgspec.Struct):
    captures: list[Transaction] = []
    authorizations: list[Transaction] = []
    refunds: list[Transaction] = []


class PurchaseUnit(msgspec.Struct):
    custom_id: str | None = None
    invoice_id: str | None = None
    amount: Amount | None = None
    payments: Payments | None = None


class Order(msgspec.Struct):
    id: str
    status: str = ""
    intent: str = ""
    purchase_units: list[PurchaseUnit] = []
    links: list[Link] = []

    def payments(self) -> Payments:
        found = Payments()
        for unit in self.purchase_units:
            if unit.payments is not None:
                found.captures += unit.payments.captures
                found.authorizations += unit.payments.authorizations
                found.refunds += unit.payments.refunds
        return found


class Issue(msgspec.Struct):
    issue: str = ""
    field: str | None = None


class ErrorReply(msgspec.Struct):
    name: str
    details: list[Issue] = []
    links: list[Link] = []


class TokenReply(msgspec.Struct):
    access_token: str
    expires_in: float
    token_type: str = "Bearer"  # noqa: S105 - a kind of token, not one


class TransactionInfo(msgspec.Struct):
    """One row of the transaction search."""

    transaction_id: str
    custom_field: str | None = None
    invoice_id: str | None = None
    transaction_event_code: str | None = None


class TransactionDetail(msgspec.Struct):
    transaction_info: TransactionInfo | None = None


class SearchReply(msgspec.Struct):
    transaction_details: list[TransactionDetail] = []
    total_pages: int = 1
    last_refreshed_datetime: str | None = None


class Resource(Transaction):
    """What a webhook is about: a transaction, an order or a dispute."""

    intent: str | None = None
    purchase_units: list[PurchaseUnit] = []
    dispute_id: str | None = None
    dispute_amount: Amount | None = None
    dispute_outcome: DisputeOutcome | None = None
    disputed_transactions: list[DisputedTransaction] = []
    reason: str | None = None


class DisputeOutcome(msgspec.Struct):
    outcome_code: str | None = None


class DisputedTransaction(msgspec.Struct):
    seller_transaction_id: str | None = None
    custom: str | None = None


class Notice(msgspec.Struct):
    """A webhook's body."""

    id: str
    event_type: str
    resource: msgspec.Raw = msgspec.Raw()
    create_time: str | None = None
