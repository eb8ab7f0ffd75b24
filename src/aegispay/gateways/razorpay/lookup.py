"""Look-ups: what became of an operation at Razorpay, told from its orders, payments and refunds. It moves no money.

An operation's order carries our reference as its receipt, and an order takes one successful payment, so the payments
of that order are the whole truth about an authorize or charge. A payment that failed is looked at again as often as
it is asked for: it may have been authorized since.
"""

from __future__ import annotations

from typing import TypeVar

from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import Declined, InDoubt, Outcome
from aegispay.gateways.answers import TimeLeft, read
from aegispay.gateways.gateway import Found, GatewayCall, Lookup, LookupFailed, NotFound
from aegispay.gateways.http import HttpReply
from aegispay.gateways.razorpay.client import RazorpayClient
from aegispay.gateways.razorpay.replies import (
    captured_outcome,
    checkout_action,
    leading,
    payment_outcome,
    refund_outcome,
)
from aegispay.gateways.razorpay.requests import CHECKOUT, OPERATION_NOTE, refund_target
from aegispay.gateways.razorpay.wire_types import Collection, Order, Payment, RazorpayRefund, note

PAGE_SIZE = 100
PAGES_MAX = 10
"""A list longer than this is not read to its end, and then proves nothing."""
ORDERS_MAX = 5
"""More orders than this under one receipt are nothing of ours."""
_Read = TypeVar("_Read")


class Unread(Exception):
    """A request of the look-up did not come through."""


class RazorpayLookup:
    """The look-ups of one Razorpay account."""

    def __init__(self, client: RazorpayClient) -> None:
        self._client = client

    async def look_up(self, call: GatewayCall, left: TimeLeft) -> Lookup:
        try:
            if call.kind is OperationKind.REFUND:
                return await self._refund(call, left)
            if call.kind is OperationKind.CAPTURE:
                payment = await self.payment(call.parent_reference or "", left)
                captured = captured_outcome(payment, call)
                if isinstance(captured, InDoubt) and captured.reason == "unexpected_status":
                    return NotFound()
                return _found(captured)
            if call.kind is OperationKind.CONFIRM:
                kind = call.parent_kind or OperationKind.CHARGE
                outcome = await self.by_reference(call.parent_reference or "", call, kind, left)
                return NotFound() if outcome is None else _found(outcome)
            return await self._first(call, left)
        except Unread as failure:
            return LookupFailed(reason=str(failure))

    async def _first(self, call: GatewayCall, left: TimeLeft) -> Lookup:
        if call.own_reference is not None:
            outcome = await self.by_reference(call.own_reference, call, call.kind, left)
            if outcome is None:
                return self._unpaid(call.own_reference, call)
            return _found(outcome)
        orders = await self.orders(call, left)
        if not orders:
            return NotFound()
        payments: list[Payment] = []
        for order in orders:
            payments += await self._payments(order.id, left)
        if len([one for one in payments if one.status in ("captured", "authorized")]) > 1:
            # One order takes one success, so these lie on two orders: a person must look.
            return LookupFailed(reason="several_found")
        best = leading(payments)
        if best is None:
            return self._unpaid(orders[0].id, call)
        if call.token == CHECKOUT:
            order_id = best.order_id or orders[0].id
            outcome = payment_outcome(best, call, call.kind, order_id)
            return _found(self._of_checkout(outcome, order_id, call))
        return _found(payment_outcome(best, call, call.kind, best.id))

    def _unpaid(self, order_id: str, call: GatewayCall) -> Lookup:
        """An order without a payment: the payer may still pay it in the Checkout; otherwise nothing was asked for."""
        if call.token == CHECKOUT:
            return Found(outcome=checkout_action(order_id, call, self._client.key_id))
        return NotFound()

    async def by_reference(
        self, reference: str, call: GatewayCall, kind: OperationKind, left: TimeLeft
    ) -> Outcome | None:
        """What the order or payment of this id says; None for an order that nobody tried to pay."""
        if not reference.startswith("order_"):
            return payment_outcome(await self.payment(reference, left), call, kind)
        best = leading(await self._payments(reference, left))
        return (
            None
            if best is None
            else self._of_checkout(payment_outcome(best, call, kind, reference), reference, call)
        )

    def _of_checkout(self, outcome: Outcome, order_id: str, call: GatewayCall) -> Outcome:
        """One try that failed in the Checkout ends nothing: the order stays open, and the payer may pay it yet."""
        if isinstance(outcome, Declined):
            return checkout_action(order_id, call, self._client.key_id)
        return outcome

    # --- reading ------------------------------------------------------------------------------------------

    async def payment(self, reference: str, left: TimeLeft) -> Payment:
        found = _read(await self._client.get(f"/payments/{reference}", [], left.seconds()), Payment)
        if found.id != reference:
            raise Unread("garbage")
        return found

    async def orders(self, call: GatewayCall, left: TimeLeft) -> list[Order]:
        """The orders that carry our reference. Razorpay matches loosely, so the receipt is compared here."""
        query = [("receipt", call.operation_id), ("count", str(PAGE_SIZE))]
        page = _read(await self._client.get("/orders", query, left.seconds()), Collection[Order])
        found = [one for one in page.items if one.receipt == call.operation_id]
        if len(found) > ORDERS_MAX or len(page.items) >= PAGE_SIZE:
            raise Unread("too_many_to_list")
        return found

    async def _payments(self, order_id: str, left: TimeLeft) -> list[Payment]:
        path = f"/orders/{order_id}/payments"
        page = _read(await self._client.get(path, [], left.seconds()), Collection[Payment])
        if any(one.order_id not in (None, order_id) for one in page.items) or page.count > len(page.items):
            raise Unread("garbage")
        return page.items

    async def _refund(self, call: GatewayCall, left: TimeLeft) -> Lookup:
        if call.own_reference is not None:
            path = f"/refunds/{call.own_reference}"
            refund = _read(await self._client.get(path, [], left.seconds()), RazorpayRefund)
            if refund.id != call.own_reference:
                return LookupFailed(reason="garbage")
            return _found(refund_outcome(refund, call))
        same = [one for one in await self._refunds(refund_target(call), left) if _is_ours(one, call)]
        if not same:
            return NotFound()
        return (
            _found(refund_outcome(same[0], call)) if len(same) == 1 else LookupFailed(reason="several_found")
        )

    async def _refunds(self, payment_id: str, left: TimeLeft) -> list[RazorpayRefund]:
        found: list[RazorpayRefund] = []
        for _ in range(PAGES_MAX):
            query = [("count", str(PAGE_SIZE)), ("skip", str(len(found)))]
            path = f"/payments/{payment_id}/refunds"
            page = _read(await self._client.get(path, query, left.seconds()), Collection[RazorpayRefund])
            found += page.items
            if len(page.items) < PAGE_SIZE:
                return found
        raise Unread("too_many_to_list")


def _is_ours(refund: RazorpayRefund, call: GatewayCall) -> bool:
    return call.operation_id in (refund.receipt, note(refund.notes, OPERATION_NOTE))


def _read(reply: object, kind: type[_Read]) -> _Read:
    if not isinstance(reply, HttpReply):
        raise Unread(getattr(reply, "reason", "failed"))
    if reply.status != 200:
        raise Unread(f"http_{reply.status}")
    found = read(reply, kind)
    if found is None:
        raise Unread("garbage")
    return found


def _found(outcome: Outcome) -> Lookup:
    return LookupFailed(reason=outcome.reason) if isinstance(outcome, InDoubt) else Found(outcome=outcome)
