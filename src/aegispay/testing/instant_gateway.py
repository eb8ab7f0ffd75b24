"""A gateway in memory with books of its own, and faults on demand: for benchmarks and precise tests of the orchestrator.

It is honest about its capabilities: with `stable_key` it replays by key, with `lookup_by_reference` it finds by
reference, without either it executes whatever arrives. What it took stands in `books`, not in our database.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable

import msgspec

from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import (
    Approved,
    DeclineCategory,
    Declined,
    InDoubt,
    NextAction,
    NotSent,
    Outcome,
    RequiresAction,
)
from aegispay.gateways.capabilities import Capabilities
from aegispay.gateways.gateway import Found, Gateway, GatewayCall, Health, Lookup, NotFound

Fault = Callable[["InstantGateway", GatewayCall], Awaitable[Outcome]]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One effect: money that was reserved, taken, released or given back."""

    kind: OperationKind
    payment_id: str
    operation_id: str
    amount_minor: int
    reference: str


class InstantGateway(Gateway):
    """Approves at once, unless a fault is queued or the token says otherwise (`tok_soft`, `tok_hard`, `tok_3ds`)."""

    def __init__(
        self, name: str = "instant", capabilities: Capabilities | None = None, *, keep_books: bool = True
    ):
        self.name = name
        self.capabilities = capabilities or Capabilities(
            stable_key=True,
            stable_key_ttl_s=86_400.0,
            lookup_by_reference=True,
            lookup_quiet_s=1.0,
            multi_capture=True,
        )
        self.books: list[Entry] = []
        self.calls: list[GatewayCall] = []
        self.faults: deque[Fault] = deque()
        self._keep_books = keep_books
        self._by_key: dict[str, Outcome] = {}
        self._refused: set[str] = set()
        self._count = 0

    # --- books ----------------------------------------------------------------------------------------------

    def taken_minor(self, payment_id: str) -> int:
        """What was captured less what was refunded."""
        sign = {OperationKind.CHARGE: 1, OperationKind.CAPTURE: 1, OperationKind.REFUND: -1}
        return sum(sign.get(e.kind, 0) * e.amount_minor for e in self.books if e.payment_id == payment_id)

    def count(self, kind: OperationKind, payment_id: str | None = None) -> int:
        return sum(1 for e in self.books if e.kind is kind and payment_id in (None, e.payment_id))

    def charges_per_payment(self) -> Counter[str]:
        return Counter(e.payment_id for e in self.books if e.kind is OperationKind.CHARGE)

    # --- the port -------------------------------------------------------------------------------------------

    async def perform(self, call: GatewayCall) -> Outcome:
        if self._keep_books:
            self.calls.append(call)
        if self.faults:
            return await self.faults.popleft()(self, call)
        return self.execute(call)

    def execute(self, call: GatewayCall) -> Outcome:
        """The effect itself, as the PSP applies it: once per key with `stable_key`, each time without."""
        if call.operation_id in self._refused:
            return Declined(category=DeclineCategory.INVALID, code="reference_canceled")
        if self.capabilities.key_ttl_s(call.kind):
            saved = self._by_key.get(call.gateway_key)
            if saved is not None:
                return saved
        outcome = self._decide(call)
        if self._keep_books:
            self._by_key[call.gateway_key] = outcome
            if isinstance(outcome, Approved):
                self.books.append(
                    Entry(
                        kind=self._effect(call),
                        payment_id=call.payment_id,
                        operation_id=call.operation_id,
                        amount_minor=outcome.amount_minor,
                        reference=outcome.reference,
                    )
                )
        return outcome

    def _effect(self, call: GatewayCall) -> OperationKind:
        return (call.parent_kind or call.kind) if call.kind is OperationKind.CONFIRM else call.kind

    def _decide(self, call: GatewayCall) -> Outcome:
        self._count += 1
        reference = self._reference(self._count)
        token = call.token or ""
        if token.startswith("tok_soft"):
            return Declined(
                category=DeclineCategory.SOFT, code="insufficient_funds", message="Not enough money."
            )
        if token.startswith("tok_hard"):
            return Declined(
                category=DeclineCategory.HARD, code="stolen_card", message="The card was refused."
            )
        if token.startswith("tok_3ds"):
            return RequiresAction(reference=reference, action=NextAction(url="https://bank.example/3ds"))
        return Approved(reference=reference, amount_minor=call.amount.amount_minor)

    def _reference(self, number: int) -> str:
        """What this PSP calls its so-manieth effect."""
        return f"{self.name}_{number}"

    async def authorize(self, call: GatewayCall) -> Outcome:
        return await self.perform(call)

    async def charge(self, call: GatewayCall) -> Outcome:
        return await self.perform(call)

    async def confirm(self, call: GatewayCall) -> Outcome:
        return await self.perform(call)

    async def capture(self, call: GatewayCall) -> Outcome:
        return await self.perform(call)

    async def void(self, call: GatewayCall) -> Outcome:
        return await self.perform(call)

    async def refund(self, call: GatewayCall) -> Outcome:
        return await self.perform(call)

    async def look_up(self, call: GatewayCall) -> Lookup:
        for entry in self.books:
            if entry.operation_id == call.operation_id:
                return Found(outcome=Approved(reference=entry.reference, amount_minor=entry.amount_minor))
        saved = self._by_key.get(call.gateway_key)
        return Found(outcome=saved) if saved is not None else NotFound()

    async def cancel_by_reference(self, call: GatewayCall) -> Outcome:
        self._refused.add(call.operation_id)
        return Approved(reference=call.operation_id, amount_minor=call.amount.amount_minor)

    async def health(self, timeout_s: float = 5.0) -> Health:
        return Health(ok=True, latency_ms=0.0, detail="in memory")


# --- faults: each is an answer to one call ----------------------------------------------------------------------


async def reply_lost(gateway: InstantGateway, call: GatewayCall) -> Outcome:
    """The effect happens; the answer never comes."""
    gateway.execute(call)
    return InDoubt(reason="timeout")


async def request_lost(gateway: InstantGateway, call: GatewayCall) -> Outcome:
    """Nothing happens; we cannot know that."""
    return InDoubt(reason="timeout")


async def refused_connection(gateway: InstantGateway, call: GatewayCall) -> Outcome:
    """Proof that nothing was sent."""
    return NotSent(reason="connection_refused")


async def adapter_bug(gateway: InstantGateway, call: GatewayCall) -> Outcome:
    """The adapter raises after the effect."""
    gateway.execute(call)
    raise RuntimeError("4242424242424242 must not be logged")


async def hang(gateway: InstantGateway, call: GatewayCall) -> Outcome:
    """The effect happens; the adapter never answers."""
    gateway.execute(call)
    await asyncio.Event().wait()
    raise AssertionError


def lands_late(delay: Callable[[], Awaitable[None]]) -> Fault:
    """We give up; the request is executed when `delay` is over."""
    tasks: set[asyncio.Task[None]] = set()

    async def fault(gateway: InstantGateway, call: GatewayCall) -> Outcome:
        async def later() -> None:
            await delay()
            gateway.execute(call)

        task = asyncio.get_running_loop().create_task(later())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return InDoubt(reason="timeout")

    return fault
