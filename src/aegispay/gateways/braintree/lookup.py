"""Look-ups: what became of an operation at Braintree. It moves no money.

There is no idempotency key, so the search by order id is the evidence: every operation that makes a transaction or a
refund has an order id of its own. The search does not see a request that is still in flight, hence the quiet period.
A capture and a void make nothing new; the transaction's own state tells of them.
"""

from __future__ import annotations

from typing import Any, TypeVar

from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import Approved, Declined, InDoubt, Outcome
from aegispay.gateways.answers import TimeLeft, read_body
from aegispay.gateways.braintree import documents, replies, requests
from aegispay.gateways.braintree.client import BraintreeClient
from aegispay.gateways.braintree.wire_types import Envelope, Refund, Sale, Search, Typed
from aegispay.gateways.gateway import Found, GatewayCall, Lookup, LookupFailed, NotFound
from aegispay.gateways.http import HttpReply

_Item = TypeVar("_Item", Sale, Refund)


class ReadFailed(Exception):
    """A request that only reads did not come through."""


class BraintreeLookup:
    """The look-ups of one Braintree account."""

    def __init__(self, client: BraintreeClient, *, multi_capture: bool) -> None:
        self._client = client
        self._multi_capture = multi_capture

    async def look_up(self, call: GatewayCall, left: TimeLeft) -> Lookup:
        try:
            if call.kind is OperationKind.REFUND:
                return await self._refund(call, left)
            if call.kind is OperationKind.VOID:
                return await self._void(call, left)
            if call.kind is OperationKind.CAPTURE and not self._multi_capture:
                return await self._capture(call, left)
            return await self._made_by(call, left)
        except ReadFailed as failure:
            return LookupFailed(reason=str(failure))

    async def transaction(self, transaction_id: str, left: TimeLeft) -> Sale:
        """The transaction of this id. Raises where it cannot be read: an id that we know is never "not found"."""
        body = await self._ask(documents.READ, {"id": transaction_id}, left)
        raw = bytes(body.data.result) if body.data is not None else b""
        typed, sale = read_body(raw, Typed), read_body(raw, Sale)
        if not isinstance(typed, Typed) or typed.name != "Transaction" or sale is None:
            raise ReadFailed("garbage")
        if sale.id != transaction_id:
            raise ReadFailed("garbage")
        return sale

    async def _made_by(self, call: GatewayCall, left: TimeLeft) -> Lookup:
        """What was made under the operation's own order id."""
        sales = await self._search(documents.FIND_SALES, Sale, call, left)
        if not sales:
            return NotFound()
        outcomes = [replies.sale_outcome(sale, call, call.kind, looked_up=True) for sale in sales]
        # A copy of the request that Braintree rejected says nothing against the one that it took.
        alive = [one for one in outcomes if not isinstance(one, Declined)]
        if len(alive) > 1:
            return LookupFailed(reason="several_found")
        return _found(alive[0] if alive else outcomes[0])

    async def _capture(self, call: GatewayCall, left: TimeLeft) -> Lookup:
        sale = await self.transaction(call.parent_reference or "", left)
        if sale.status in replies.TAKEN or sale.status == "SETTLEMENT_DECLINED":
            return _found(replies.captured(sale, call))
        return NotFound()

    async def _void(self, call: GatewayCall, left: TimeLeft) -> Lookup:
        sale = await self.transaction(call.parent_reference or "", left)
        if sale.status == "VOIDED":
            return Found(outcome=Approved(reference=sale.id, amount_minor=call.amount.amount_minor))
        return _unmarked(sale) or NotFound()

    async def _refund(self, call: GatewayCall, left: TimeLeft) -> Lookup:
        refunds = await self._search(documents.FIND_REFUNDS, Refund, call, left)
        about = requests.refunded_id(call)
        same = [one for one in refunds if replies.of_transaction(one, about)]
        outcomes = [replies.given_back(one, call) for one in same]
        alive = [one for one in outcomes if not isinstance(one, Declined)]
        if len(alive) > 1:
            return LookupFailed(reason="several_found")
        if outcomes:
            return _found(alive[0] if alive else outcomes[0])
        sale = await self.transaction(about, left)
        if sale.status == "VOIDED":
            # The whole was given back before it settled: by a void, which carries no order id.
            return Found(outcome=Approved(reference=sale.id, amount_minor=call.amount.amount_minor))
        return _unmarked(sale) or NotFound()

    async def _search(
        self, document: str, kind: type[_Item], call: GatewayCall, left: TimeLeft
    ) -> list[_Item]:
        """Everything under the operation's order id."""
        body = await self._ask(document, requests.find(call.operation_id), left)
        raw = bytes(body.data.search) if body.data is not None else b""
        found: Any = read_body(raw, Search[kind])  # type: ignore[valid-type]
        page = found.result if isinstance(found, Search) else None
        if page is None or page.edges is None:
            raise ReadFailed("garbage")
        if page.page_info is None or page.page_info.has_next_page is not False:
            raise ReadFailed("too_many_to_list")
        # A search that matched loosely would take another payment for this one.
        return [edge.node for edge in page.edges if edge.node.order_id == call.operation_id]

    async def _ask(self, document: str, variables: requests.Variables, left: TimeLeft) -> Envelope:
        reply = await self._client.send(document, variables, left.seconds())
        if not isinstance(reply, HttpReply):
            raise ReadFailed(reply.reason)
        body = replies.unpack(reply)
        if not isinstance(body, Envelope):
            raise ReadFailed(body.reason)
        if body.errors:
            outcome = replies.error_outcome(body.errors)
            raise ReadFailed(getattr(outcome, "reason", None) or getattr(outcome, "code", "failed"))
        return body


def _unmarked(sale: Sale) -> Lookup | None:
    """A refund under the sale's own order id is a reversal's, or was made in the Control Panel: nobody can tell."""
    for refund in sale.refunds or []:
        if refund.order_id is None or refund.order_id == sale.order_id:
            return LookupFailed(reason="refund_unmarked")
    return None


def _found(outcome: Outcome) -> Lookup:
    return LookupFailed(reason=outcome.reason) if isinstance(outcome, InDoubt) else Found(outcome=outcome)
