"""Look-ups: what became of an operation at Stripe, told from Stripe's own lists. It moves no money.

Captures, voids, confirmations and refunds name their payment, so reading that payment (or its refunds) is
authoritative. A payment of which only our reference is known is looked for twice: the list of the payments created
about when the operation began, which is current, and the search by metadata, which lags (up to an hour in an
outage) but sees what a late resend made. "Not found" needs both to be silent.
"""

from __future__ import annotations

from typing import TypeVar

from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import Approved, InDoubt
from aegispay.gateways.answers import TimeLeft, read
from aegispay.gateways.gateway import Found, GatewayCall, Lookup, LookupFailed, NotFound
from aegispay.gateways.http import HttpReply
from aegispay.gateways.stripe.client import StripeClient
from aegispay.gateways.stripe.replies import (
    captured,
    intent_outcome,
    refund_outcome,
    rest_released,
    same_capture,
)
from aegispay.gateways.stripe.requests import OPERATION_KEY, Form
from aegispay.gateways.stripe.wire_types import Intent, Page, StripeRefund

PAGE_SIZE = 100
PAGES_MAX = 20
"""A list longer than this is not read to its end, and then proves nothing."""
CLOCK_SKEW_S = 300
LIST_WINDOW_S = 900
"""How long after its start an operation's payment is looked for in the list, where a search covers later ones."""

_Item = TypeVar("_Item", Intent, StripeRefund)


class _Failed(Exception):
    """A request of the look-up did not come through."""


class StripeLookup:
    """The look-ups of one Stripe account. `search` says whether the account has the search API."""

    def __init__(self, client: StripeClient, *, multi_capture: bool, search: bool) -> None:
        self._client = client
        self._multi_capture = multi_capture
        self._search = search

    async def look_up(self, call: GatewayCall, left: TimeLeft) -> Lookup:
        try:
            if call.kind is OperationKind.REFUND:
                return await self._refund(call, left)
            if call.kind in (OperationKind.AUTHORIZE, OperationKind.CHARGE) and call.own_reference is None:
                return await self._by_our_reference(call, left)
            return await self._by_their_id(call, left)
        except _Failed as failure:
            return LookupFailed(reason=str(failure))

    # --- by Stripe's id -----------------------------------------------------------------------------------

    async def _by_their_id(self, call: GatewayCall, left: TimeLeft) -> Lookup:
        first = call.kind in (OperationKind.AUTHORIZE, OperationKind.CHARGE)
        reference = call.own_reference if first else call.parent_reference
        intent = await self.retrieve(reference or "", left)
        if intent.currency.upper() != call.amount.code:
            return LookupFailed(reason="garbage")
        if call.kind is OperationKind.CAPTURE:
            return self._capture(intent, call)
        if call.kind is OperationKind.VOID:
            released = self._multi_capture and rest_released(intent, call)
            if intent.status == "canceled" or released:
                return Found(outcome=Approved(reference=intent.id, amount_minor=call.amount.amount_minor))
            return NotFound()
        if call.kind is OperationKind.CONFIRM and intent.status == "requires_confirmation":
            return NotFound()
        kind = call.kind if first else (call.parent_kind or OperationKind.CHARGE)
        return _found(intent, call, kind)

    def _capture(self, intent: Intent, call: GatewayCall) -> Lookup:
        if self._multi_capture:
            done = same_capture(intent, call) and bool(intent.amount_received)
        else:
            done = intent.status == "succeeded"
        if not done:
            return NotFound()
        outcome = captured(intent, call, multi_capture=self._multi_capture)
        return LookupFailed(reason=outcome.reason) if isinstance(outcome, InDoubt) else Found(outcome=outcome)

    async def retrieve(self, reference: str, left: TimeLeft) -> Intent:
        """The PaymentIntent of this id. Raises where it cannot be read: an id that we know is never "not found"."""
        reply = await self._client.get(f"/v1/payment_intents/{reference}", [], left.seconds())
        intent = _read(reply, Intent)
        if intent.id != reference or intent.object != "payment_intent":
            raise _Failed("garbage")
        return intent

    # --- by our reference ---------------------------------------------------------------------------------

    async def _by_our_reference(self, call: GatewayCall, left: TimeLeft) -> Lookup:
        found: dict[str, Intent] = {}
        if call.started_at_us:
            begin_s = call.started_at_us // 1_000_000
            query: Form = [("created[gte]", str(begin_s - CLOCK_SKEW_S))]
            if self._search:
                query.append(("created[lte]", str(begin_s + LIST_WINDOW_S)))
            for intent in await self._list("/v1/payment_intents", query, Intent, left):
                if intent.metadata.get(OPERATION_KEY) == call.operation_id:
                    found[intent.id] = intent
        elif not self._search:
            return LookupFailed(reason="start_unknown")
        if self._search:
            for reference in await self._searched(call, left):
                if reference not in found:
                    # What the search holds may be old; the payment itself is not.
                    found[reference] = await self.retrieve(reference, left)
        if not found:
            return NotFound()
        if len(found) > 1:
            return LookupFailed(reason="several_found")
        return _found(next(iter(found.values())), call, call.kind)

    async def _searched(self, call: GatewayCall, left: TimeLeft) -> list[str]:
        query: Form = [("query", f"metadata['{OPERATION_KEY}']:'{call.operation_id}'"), ("limit", "10")]
        reply = await self._client.get("/v1/payment_intents/search", query, left.seconds())
        page = _read(reply, Page[Intent])
        return [one.id for one in page.data if one.metadata.get(OPERATION_KEY) == call.operation_id]

    async def _refund(self, call: GatewayCall, left: TimeLeft) -> Lookup:
        parent = call.parent_reference or ""
        name = "charge" if parent.startswith(("ch_", "py_")) else "payment_intent"
        refunds = await self._list("/v1/refunds", [(name, parent)], StripeRefund, left)
        same = [one for one in refunds if one.metadata.get(OPERATION_KEY) == call.operation_id]
        if not same:
            return NotFound()
        if len(same) > 1:
            return LookupFailed(reason="several_found")
        outcome = refund_outcome(same[0], call)
        return LookupFailed(reason=outcome.reason) if isinstance(outcome, InDoubt) else Found(outcome=outcome)

    async def _list(self, path: str, query: Form, kind: type[_Item], left: TimeLeft) -> list[_Item]:
        items: list[_Item] = []
        for _ in range(PAGES_MAX):
            after: Form = [("starting_after", items[-1].id)] if items else []
            reply = await self._client.get(path, [*query, ("limit", str(PAGE_SIZE)), *after], left.seconds())
            page: Page[_Item] = _read(reply, Page[kind])  # type: ignore[valid-type]
            items += page.data
            if not page.has_more:
                return items
            if not page.data:
                raise _Failed("garbage")
        raise _Failed("too_many_to_list")


_Read = TypeVar("_Read")


def _read(reply: object, kind: type[_Read]) -> _Read:
    if not isinstance(reply, HttpReply):
        raise _Failed(getattr(reply, "reason", "failed"))
    if reply.status != 200:
        raise _Failed(f"http_{reply.status}")
    found = read(reply, kind)
    if found is None:
        raise _Failed("garbage")
    return found


def _found(intent: Intent, call: GatewayCall, kind: OperationKind) -> Lookup:
    outcome = intent_outcome(intent, call, kind)
    return LookupFailed(reason=outcome.reason) if isinstance(outcome, InDoubt) else Found(outcome=outcome)
