"""Look-ups: what became of an operation at PayPal, told from its orders. It moves no money.

Whatever is done with a payment stands in its order, and carries our reference there. An order whose id we never got
can be found only by the transaction search, which lags by up to three hours and needs a permission of its own.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlencode

from aegispay.domain.errors import InvalidRequest
from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import Approved, InDoubt, Outcome
from aegispay.gateways.answers import TimeLeft, read
from aegispay.gateways.gateway import Found, GatewayCall, Lookup, LookupFailed, NotFound
from aegispay.gateways.http import HttpReply
from aegispay.gateways.paypal.amounts import from_paypal
from aegispay.gateways.paypal.client import PayPalClient
from aegispay.gateways.paypal.replies import made_outcome, order_outcome, refund_outcome, time_us, took_money
from aegispay.gateways.paypal.requests import operation_of, refund_target
from aegispay.gateways.paypal.wire_types import Order, SearchReply, Transaction

PAGE_SIZE = 500
PAGES_MAX = 20
CLOCK_SKEW_S = 600
SEARCH_WINDOW_S = 2 * 86_400
"""How long after its start an operation's transaction is looked for."""
REFRESHED_AFTER_S = 3600
"""The search proves nothing before its data is this much newer than the operation."""
_Read = TypeVar("_Read")


class Unread(Exception):
    """A request of the look-up did not come through."""


class PayPalLookup:
    """The look-ups of one PayPal application. `search` says whether it may use the transaction search."""

    def __init__(self, client: PayPalClient, *, search: bool) -> None:
        self._client = client
        self._search = search

    async def look_up(self, call: GatewayCall, left: TimeLeft) -> Lookup:
        try:
            if call.kind is OperationKind.CAPTURE:
                return await self._capture(call, left)
            if call.kind is OperationKind.REFUND:
                return await self._refund(call, left)
            if call.kind is OperationKind.VOID:
                return await self._void(call, left)
            if call.kind is OperationKind.CONFIRM:
                order = await self.order(call.parent_reference or "", left)
                kind = call.parent_kind or OperationKind.CHARGE
                return _found(order_outcome(order, call, kind, call.parent_operation_id or ""))
            return await self._first(call, left)
        except Unread as failure:
            return LookupFailed(reason=str(failure))

    async def _first(self, call: GatewayCall, left: TimeLeft) -> Lookup:
        if call.own_reference is None:
            return await self._searched(call, left) if self._search else LookupFailed(reason="no_reference")
        reply = await self._client.get(f"/v2/checkout/orders/{call.own_reference}", left)
        if isinstance(reply, HttpReply) and reply.status == 404:
            # Once approved, the capture's or the authorization's id stands for the operation.
            return await self._by_transaction(call.own_reference, call, left)
        order = _read(reply, Order)
        if order.id != call.own_reference:
            return LookupFailed(reason="garbage")
        return _found(order_outcome(order, call, call.kind, call.operation_id))

    async def _by_transaction(
        self, reference: str, call: GatewayCall, left: TimeLeft, *, searched: bool = False
    ) -> Lookup:
        made = await self.transaction(_resource(call.kind), reference, left)
        if operation_of(made.custom_id) not in (None, call.operation_id):
            return LookupFailed(reason="garbage")
        if searched and call.kind is OperationKind.AUTHORIZE and made.status == "VOIDED":
            # Its order says whether some of it was captured before, and so whether it had been approved.
            order = await self._order_of(made, left)
            return _found(order_outcome(order, call, call.kind, call.operation_id))
        return _found(made_outcome(made, call, call.kind, made.order_id()))

    async def _capture(self, call: GatewayCall, left: TimeLeft) -> Lookup:
        if call.own_reference is not None:
            made = await self.transaction("captures", call.own_reference, left)
            if call.final and made.final_capture is False:
                return LookupFailed(reason="capture_not_final")
            return _found(made_outcome(made, call, call.kind, None))
        parent = await self.transaction("authorizations", call.parent_reference or "", left)
        payments = (await self._order_of(parent, left)).payments()
        ours = [one for one in payments.captures if one.invoice_id == call.operation_id]
        # One without a mark of its own (it may carry its order's) could be ours, or somebody's at PayPal.
        unmarked = [one for one in payments.captures if one.invoice_id in (None, call.parent_operation_id)]
        if not ours and any(_like(one, call) for one in unmarked):
            return LookupFailed(reason="capture_unmarked")
        return _only(ours, lambda one: made_outcome(one, call, call.kind, None))

    async def _refund(self, call: GatewayCall, left: TimeLeft) -> Lookup:
        if call.own_reference is not None:
            return _found(refund_outcome(await self.transaction("refunds", call.own_reference, left), call))
        parent = await self.transaction("captures", refund_target(call) or "", left)
        payments = (await self._order_of(parent, left)).payments()
        ours = [
            one
            for one in payments.refunds
            if call.operation_id in (one.invoice_id, operation_of(one.custom_id))
        ]
        unmarked = [one for one in payments.refunds if one.invoice_id is None and one.custom_id is None]
        if not ours and any(_like(one, call) for one in unmarked):
            return LookupFailed(reason="refund_unmarked")
        return _only(ours, lambda one: refund_outcome(one, call))

    async def _void(self, call: GatewayCall, left: TimeLeft) -> Lookup:
        reference = call.parent_reference or ""
        done = Approved(reference=reference, amount_minor=call.amount.amount_minor)
        if call.parent_kind is not OperationKind.CHARGE:
            reply = await self._client.get(f"/v2/payments/authorizations/{reference}", left)
            if not (isinstance(reply, HttpReply) and reply.status == 404):
                parent = _read(reply, Transaction)
                if parent.id != reference:
                    return LookupFailed(reason="garbage")
                return Found(outcome=done) if parent.status == "VOIDED" else NotFound()
        # The payment was still an order when it was voided.
        order = await self.order(reference, left)
        made = order.payments().authorizations
        gone = all(one.status == "VOIDED" for one in made) and took_money(order) is False
        return Found(outcome=done) if gone else NotFound()

    # --- reading ------------------------------------------------------------------------------------------

    async def order(self, reference: str, left: TimeLeft) -> Order:
        order = _read(await self._client.get(f"/v2/checkout/orders/{reference}", left), Order)
        if order.id != reference:
            raise Unread("garbage")
        return order

    async def transaction(self, resource: str, reference: str, left: TimeLeft) -> Transaction:
        found = _read(await self._client.get(f"/v2/payments/{resource}/{reference}", left), Transaction)
        if found.id != reference:
            raise Unread("garbage")
        return found

    async def _order_of(self, made: Transaction, left: TimeLeft) -> Order:
        reference = made.order_id()
        if reference is None:
            raise Unread("order_unknown")
        return await self.order(reference, left)

    async def _searched(self, call: GatewayCall, left: TimeLeft) -> Lookup:
        """The payment that carries our reference, in PayPal's list of transactions."""
        if not call.started_at_us:
            return LookupFailed(reason="start_unknown")
        begin_s = call.started_at_us // 1_000_000
        refreshed_us: int | None = None
        found: set[str] = set()
        for page in range(1, PAGES_MAX + 1):
            query = {
                "start_date": _text(begin_s - CLOCK_SKEW_S),
                "end_date": _text(begin_s + SEARCH_WINDOW_S),
                "fields": "transaction_info",
                "balance_affecting_records_only": "N",
                "transaction_currency": call.amount.code,
                "page_size": str(PAGE_SIZE),
                "page": str(page),
            }
            path = f"/v1/reporting/transactions?{urlencode(query)}"
            answer = _read(await self._client.get(path, left), SearchReply)
            refreshed_us = time_us(answer.last_refreshed_datetime)
            for detail in answer.transaction_details:
                info = detail.transaction_info
                if info is not None and operation_of(info.custom_field) == call.operation_id:
                    found.add(info.transaction_id)
            if page >= answer.total_pages:
                break
        else:
            return LookupFailed(reason="too_many_to_list")
        if found:
            if len(found) > 1:
                return LookupFailed(reason="several_found")
            return await self._by_transaction(found.pop(), call, left, searched=True)
        if refreshed_us is None or refreshed_us < (begin_s + REFRESHED_AFTER_S) * 1_000_000:
            return LookupFailed(reason="search_lags")
        return NotFound()


def _like(made: Transaction, call: GatewayCall) -> bool:
    """Whether it could be what we asked for: of this amount, and not made before we first asked."""
    made_us = time_us(made.create_time)
    before = made_us is not None and made_us < call.started_at_us - CLOCK_SKEW_S * 1_000_000
    try:
        amount = from_paypal(made.amount.value, call.amount.code)
    except (ValueError, InvalidRequest):
        return True
    return amount == call.amount.amount_minor and not before


def _resource(kind: OperationKind) -> str:
    return "authorizations" if kind is OperationKind.AUTHORIZE else "captures"


def _text(moment_s: int) -> str:
    return datetime.datetime.fromtimestamp(moment_s, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _read(reply: object, kind: type[_Read]) -> _Read:
    if not isinstance(reply, HttpReply):
        raise Unread(getattr(reply, "reason", "failed"))
    if reply.status != 200:
        raise Unread(f"http_{reply.status}")
    found = read(reply, kind)
    if found is None:
        raise Unread("garbage")
    return found


def _only(ours: list[Transaction], outcome_of: Callable[[Transaction], Outcome]) -> Lookup:
    if not ours:
        return NotFound()
    return _found(outcome_of(ours[0])) if len(ours) == 1 else LookupFailed(reason="several_found")


def _found(outcome: Outcome | None) -> Lookup:
    """An order that waits for our own call has had no effect."""
    if outcome is None:
        return NotFound()
    return LookupFailed(reason=outcome.reason) if isinstance(outcome, InDoubt) else Found(outcome=outcome)
