"""The parts of Braintree's answers that the adapter reads. Everything else is skipped, never kept."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

Item = TypeVar("Item")


class WireAmount(msgspec.Struct, rename="camel"):
    value: str
    currency_code: str | None = None


class ProcessorResponse(msgspec.Struct, rename="camel"):
    legacy_code: str | None = None


class StatusEvent(msgspec.Struct, rename="camel"):
    """One step of a transaction's life; which fields it has depends on the step."""

    status: str | None = None
    amount: WireAmount | None = None
    authorization_expires_at: str | None = None
    decline_type: str | None = None
    processor_response: ProcessorResponse | None = None
    gateway_rejection_reason: str | None = None


class Identified(msgspec.Struct):
    id: str


class Refund(msgspec.Struct, rename="camel"):
    id: str
    legacy_id: str | None = None
    order_id: str | None = None
    status: str = ""
    amount: WireAmount | None = None
    refunded_transaction: Identified | None = None
    status_history: list[StatusEvent] | None = None


class Sale(msgspec.Struct, rename="camel"):
    """A transaction that takes money."""

    id: str
    legacy_id: str | None = None
    order_id: str | None = None
    status: str = ""
    amount: WireAmount | None = None
    status_history: list[StatusEvent] | None = None
    refunds: list[Refund] | None = None


class SalePayload(msgspec.Struct, rename="camel"):
    transaction: Sale | None = None
    client_mutation_id: str | None = None


class RefundPayload(msgspec.Struct, rename="camel"):
    refund: Refund | None = None
    client_mutation_id: str | None = None


class Typed(msgspec.Struct):
    name: str = msgspec.field(name="__typename", default="")


class ReversalPayload(msgspec.Struct, rename="camel"):
    reversal: msgspec.Raw = msgspec.Raw()
    """A transaction where the money had not moved yet, a refund where it had."""
    client_mutation_id: str | None = None


class Edge(msgspec.Struct, Generic[Item]):
    node: Item


class PageInfo(msgspec.Struct, rename="camel"):
    has_next_page: bool | None = None


class Page(msgspec.Struct, Generic[Item], rename="camel"):
    edges: list[Edge[Item]] | None = None
    page_info: PageInfo | None = None


class Search(msgspec.Struct, Generic[Item]):
    result: Page[Item] | None = None


class ErrorExtensions(msgspec.Struct, rename="camel"):
    error_class: str | None = None
    legacy_code: str | int | None = None


class GraphqlError(msgspec.Struct):
    extensions: ErrorExtensions | None = None


class Data(msgspec.Struct):
    """What the documents ask for, under the alias `result`; a search has it one level below."""

    result: msgspec.Raw = msgspec.Raw()
    search: msgspec.Raw = msgspec.Raw()
    ping: str | None = None


class Envelope(msgspec.Struct):
    data: Data | None = None
    errors: list[GraphqlError] | None = None
