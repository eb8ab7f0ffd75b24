"""What the gateways' conformance suite needs to know of an adapter (`Rig`), and the bench on which it is tried (`Bench`).

The bench makes the calls that the orchestrator would make. It knows no PSP.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from aegispay.domain.events import OperationKind
from aegispay.domain.methods import Card
from aegispay.domain.money import Money
from aegispay.domain.outcomes import Approved, DeclineCategory, InDoubt, Outcome, Pending, RequiresAction
from aegispay.gateways.gateway import Found, Gateway, GatewayCall
from aegispay.gateways.http import HttpRequest, Transport
from aegispay.gateways.transport import AiohttpTransport
from aegispay.ports import Clock
from aegispay.testing.faulty_transport import LOST_AFTER, LOST_BEFORE, FaultyTransport, SteppingClock

TIMEOUT_S = 10.0
_LOOKS_MAX = 20
FIRST = (OperationKind.AUTHORIZE, OperationKind.CHARGE)
PAN, CVC = "4242424242424242", "737"


class ConformanceFailure(AssertionError):
    """The adapter breaks a promise."""


def expect(truth: object, message: str) -> None:
    """Raises `ConformanceFailure` with the message, under `python -O` too."""
    if not truth:
        raise ConformanceFailure(message)


class Books(msgspec.Struct, frozen=True, kw_only=True):
    """What the PSP's own books say of one payment of ours, in ISO 4217 minor units."""

    held_minor: int = 0
    """Reserved, and neither taken nor released."""
    taken_minor: int = 0
    """Captured, before refunds."""
    given_back_minor: int = 0
    """Refunded."""


def _card() -> Card:
    return Card(PAN, 12, 2040, CVC)


@dataclass(frozen=True, kw_only=True)
class Rig:
    """One adapter and a PSP to try it on. The first four are always needed, the next ones where the adapter can do it."""

    make: Callable[[Transport, Clock], Gateway]
    """The adapter over this transport, as new. One that sends several requests for an operation takes its time from
    the clock; others may leave it."""
    books: Callable[[str], Books]
    """The PSP's own books of the payment with this id of ours. Everything is counted here."""
    approves: str
    """A token that the PSP approves, for any amount."""
    declines: Mapping[str, DeclineCategory]
    """Tokens that the PSP declines, and the category that each is to have."""
    needs_payer: str | None = None
    """A token for which the payer must act first. Needed where `next_action` is declared."""
    payer: Callable[[RequiresAction], Awaitable[Mapping[str, str]]] | None = None
    """The payer acts; gives what they bring back (`action_data`)."""
    pending: tuple[bytes, bytes] | None = None
    """What to replace in the PSP's answer to a charge, and by what, so that it says "accepted, not done yet"."""
    wrong_key: Callable[[Transport, Clock], Gateway] | None = None
    """The adapter with credentials that the PSP does not know."""
    secrets: Sequence[str] = ()
    """Texts, or parts of texts, that must never show. What is sent in credential headers is added to them."""
    currency: str = "USD"
    common: Mapping[str, Any] = field(default_factory=dict)
    """Fields that every call of the adapter needs (`metadata`, `return_url`, `customer_id`)."""
    card: Callable[[], Card] = _card
    """A card that `tokenize` takes, with the number and CVC of this module, where that is declared."""
    final_word: Callable[[Gateway, GatewayCall, Pending], Awaitable[Outcome]] | None = None
    """How a `Pending` ends: by webhook, say. By look-up where this is None."""
    transport: Transport | None = None
    """The way to the PSP; real HTTP where this is None."""
    bare_yes: Collection[int] = ()
    """Statuses by which the PSP itself says yes without a body (204 to a void): they are no strange answers then."""
    shared: str | None = None
    """A part of the URL of requests that several operations share, such as one for an access token: they have a time of
    their own, and whether an operation waits for them no longer than it may is not proven."""
    age: Callable[[float], None] | None = None
    """Makes so many seconds pass at the PSP. Where it can, the declared life of the keys is proven too."""
    wired: bool = True
    """False for an adapter that does not send through the `Transport` port: then no network fault can be tried."""
    lose_reply: Callable[[Gateway], None] | None = None
    """For one that is not wired: the next operation is executed and its answer lost."""
    lose_request: Callable[[Gateway], None] | None = None
    """For one that is not wired: the next operation is lost on its way."""


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """An operation that is ready to be sent, and the books without and with its effect."""

    call: GatewayCall
    undone: Books
    done: Books


class Bench:
    """One adapter between its rig and a test."""

    def __init__(self, rig: Rig, inner: Transport) -> None:
        self.rig = rig
        self.clock = SteppingClock()
        self.wire = FaultyTransport(inner, self.clock)
        self.gateway = rig.make(self.wire, self.clock)
        self.caps = self.gateway.capabilities
        self.seen: list[object] = []
        """Everything that the adapter answered or raised, for the search for secrets."""

    # --- what a test needs --------------------------------------------------------------------------------

    def needs(self, *names: str) -> None:
        """Skips the test where a capability is not declared."""
        for name in names:
            if not getattr(self.caps, name):
                pytest.skip(f"{self.gateway.name} does not declare {name}")

    def needs_wire(self) -> None:
        if not self.rig.wired:
            pytest.skip(f"{self.gateway.name} does not send through the Transport port")

    def needs_kind(self, kind: OperationKind) -> None:
        if not self.can(kind):
            pytest.skip(f"{self.gateway.name} does not declare {kind}")

    def needs_key(self, kind: OperationKind) -> None:
        """Skips the test where operations of this kind are not declared to be replayed by key."""
        self.needs_kind(kind)
        if not self.caps.key_ttl_s(kind):
            pytest.skip(f"{self.gateway.name} declares no key for a {kind}")

    def needs_lookup(self, kind: OperationKind) -> None:
        self.needs_kind(kind)
        if not self.caps.looks_up(kind):
            pytest.skip(f"{self.gateway.name} declares no look-up of a {kind}")

    def needs_cancel(self, kind: OperationKind) -> None:
        self.needs_kind(kind)
        if not self.caps.cancels(kind):
            pytest.skip(f"{self.gateway.name} declares no cancel of a {kind} by reference")

    def first_kind(self) -> OperationKind:
        return OperationKind.CHARGE if self.caps.charge else OperationKind.AUTHORIZE

    def age(self, seconds: float) -> None:
        """Time passes for the adapter, and for the PSP where the rig can make it."""
        self.clock.advance(seconds)
        if self.rig.age is not None:
            self.rig.age(seconds)

    def can(self, kind: OperationKind) -> bool:
        if kind is OperationKind.CONFIRM:
            return self.caps.next_action and self.rig.needs_payer is not None
        if kind is OperationKind.CAPTURE:
            return self.caps.authorize
        if kind is OperationKind.VOID:
            return self.caps.authorize and self.caps.void
        return bool(getattr(self.caps, kind.value))

    def kinds(self) -> list[OperationKind]:
        return [kind for kind in OperationKind if self.can(kind)]

    def crash(self) -> None:
        """From here on another instance of the adapter works, as after a restart."""
        self.gateway = self.rig.make(self.wire, self.clock)

    # --- calls --------------------------------------------------------------------------------------------

    def money(self, minor: int = 2000) -> Money:
        return Money(minor, self.rig.currency)

    def call(
        self, kind: OperationKind, amount: Money | None = None, *, token: str | None = None, **more: Any
    ) -> GatewayCall:
        """A call of an operation and payment of its own."""
        operation = f"op_{uuid.uuid4().hex}"
        usual: dict[str, Any] = {
            "gateway_key": f"{operation}_k",
            "payment_id": f"pay_{uuid.uuid4().hex}",
            "merchant_id": "default",
            "timeout_s": TIMEOUT_S,
            "started_at_us": self.clock.now_us(),
            "token": (token or self.rig.approves) if kind in FIRST else None,
            **self.rig.common,
        }
        return GatewayCall(
            kind=kind,
            operation_id=operation,
            amount=amount if amount is not None else self.money(),
            **{**usual, **more},
        )

    def on(
        self,
        parent: GatewayCall,
        done: Approved | RequiresAction,
        kind: OperationKind,
        amount: Money | None = None,
        **more: Any,
    ) -> GatewayCall:
        """A call that acts on an earlier one."""
        return self.call(
            kind,
            amount if amount is not None else parent.amount,
            payment_id=parent.payment_id,
            parent_reference=done.reference,
            parent_operation_id=parent.operation_id,
            parent_kind=parent.kind,
            **more,
        )

    async def perform(self, call: GatewayCall) -> Outcome:
        """Sends the call, and holds the adapter to what holds for every call."""
        number, begin_s = len(self.wire.sent), self.clock.monotonic_s()
        self.wire.watch = lambda: self.books(call)
        try:
            outcome = await self.gateway.perform(call)
        except Exception as error:
            self.seen.append(error)
            raise ConformanceFailure(
                f"{call.kind} raised {type(error).__name__}: what a network or a PSP does is an outcome"
            ) from error
        self.seen.append(outcome)
        expect(isinstance(outcome, Outcome), f"{call.kind} answered {type(outcome).__name__}, not an outcome")
        self._check_sent(call, number, begin_s)
        return outcome

    def _check_sent(self, call: GatewayCall, number: int, begin_s: float) -> None:
        sent = self.wire.sent[number:]
        posted: set[tuple[str, bytes | None]] = set()
        for request in (exchange.request for exchange in sent if exchange.request.method != "GET"):
            expect(
                (request.url, request.body) not in posted,
                f"{call.kind} sent one request twice: an adapter never retries by itself",
            )
            posted.add((request.url, request.body))
        for exchange in sent:
            if self.is_shared(exchange.request):
                continue
            ends_s = exchange.at_s - begin_s + exchange.request.timeout_s
            expect(
                ends_s <= call.timeout_s + 1e-6,
                f"{call.kind} may take {ends_s:.3g} s, but has {call.timeout_s:.3g} s for all of its requests",
            )

    def is_shared(self, request: HttpRequest) -> bool:
        return self.rig.shared is not None and self.rig.shared in request.url

    async def final(self, call: GatewayCall, outcome: Outcome) -> Outcome:
        """The outcome, waited for where it is to come later."""
        for _ in range(_LOOKS_MAX):
            if not isinstance(outcome, Pending):
                return outcome
            if self.rig.final_word is not None:
                outcome = await self.rig.final_word(self.gateway, call, outcome)
            else:
                known = msgspec.structs.replace(call, own_reference=outcome.reference)
                found = await self.gateway.look_up(known)
                outcome = found.outcome if isinstance(found, Found) else outcome
            self.seen.append(outcome)
        return outcome

    async def approved(self, call: GatewayCall) -> Approved:
        """Sends the call, and expects it to be approved in the end."""
        outcome = await self.final(call, await self.perform(call))
        expect(
            isinstance(outcome, Approved),
            f"{call.kind} of {call.amount} was to be approved, but the adapter says {outcome!r}",
        )
        if not isinstance(outcome, Approved):  # For type checkers: `expect` has raised.
            raise ConformanceFailure
        return outcome

    # --- scenarios ----------------------------------------------------------------------------------------

    async def paid(self, amount: Money | None = None) -> tuple[GatewayCall, Approved, str | None]:
        """A payment whose money was taken; and the reference of its capture, if it needed one."""
        if self.caps.charge:
            call = self.call(OperationKind.CHARGE, amount)
            return call, await self.approved(call), None
        call = self.call(OperationKind.AUTHORIZE, amount)
        done = await self.approved(call)
        capture = await self.approved(self.on(call, done, OperationKind.CAPTURE))
        return call, done, capture.reference

    async def prepare(self, kind: OperationKind) -> Scenario:
        """An operation of this kind on a payment of its own, ready to be sent by an instance as new.

        As new, so that the same operation always takes the same requests: an access token may be fetched first.
        """
        scenario = await self._prepare(kind)
        self.crash()
        return scenario

    async def _prepare(self, kind: OperationKind) -> Scenario:
        amount = self.money().amount_minor
        taken, held = Books(taken_minor=amount), Books(held_minor=amount)
        if kind in FIRST:
            done = taken if kind is OperationKind.CHARGE else held
            return Scenario(call=self.call(kind), undone=Books(), done=done)
        if kind is OperationKind.CONFIRM:
            return await self._confirmation()
        if kind is OperationKind.REFUND:
            call, paid, capture = await self.paid()
            refund = self.on(call, paid, kind, capture_reference=capture)
            back = Books(taken_minor=amount, given_back_minor=amount)
            return Scenario(call=refund, undone=taken, done=back)
        call = self.call(OperationKind.AUTHORIZE)
        authorized = await self.approved(call)
        done = taken if kind is OperationKind.CAPTURE else Books()
        return Scenario(call=self.on(call, authorized, kind), undone=held, done=done)

    async def _confirmation(self) -> Scenario:
        call, asked = await self.asked_payer()
        data = await self.payer_acts(asked)
        undone = self.rig.books(call.payment_id)
        amount = call.amount.amount_minor
        charge = call.kind is OperationKind.CHARGE
        done = Books(taken_minor=amount) if charge else Books(held_minor=amount)
        confirm = self.on(call, asked, OperationKind.CONFIRM, action_data=dict(data))
        return Scenario(call=confirm, undone=undone, done=done)

    async def asked_payer(self) -> tuple[GatewayCall, RequiresAction]:
        """A payment for which the payer must act."""
        expect(
            self.rig.needs_payer and self.rig.payer,
            "next_action is declared: the rig needs `needs_payer` and `payer` to prove it",
        )
        kind = OperationKind.CHARGE if self.caps.charge else OperationKind.AUTHORIZE
        call = self.call(kind, token=self.rig.needs_payer)
        outcome = await self.perform(call)
        if not isinstance(outcome, RequiresAction):
            raise ConformanceFailure(f"the payer was to be asked, but the adapter says {outcome!r}")
        return call, outcome

    async def payer_acts(self, asked: RequiresAction) -> Mapping[str, str]:
        return await self.rig.payer(asked) if self.rig.payer is not None else {}

    def books(self, call: GatewayCall) -> Books:
        return self.rig.books(call.payment_id)

    def expect_books(self, call: GatewayCall, expected: Books, when: str) -> None:
        found = self.books(call)
        expect(found == expected, f"{when}: the PSP's books say {found}, not {expected}")

    # --- doubt --------------------------------------------------------------------------------------------

    async def requests_in(self, kind: OperationKind) -> int:
        """How many requests the adapter sends for such an operation when nothing goes wrong."""
        scenario = await self.prepare(kind)
        before = len(self.wire.sent)
        await self.perform(scenario.call)
        return len(self.wire.sent) - before

    async def in_doubt(self, kind: OperationKind, *, executed: bool) -> list[Scenario]:
        """Operations that the adapter left in doubt because an answer (`executed`) or a request was lost: one for
        each request that it sends for such an operation."""
        if not self.rig.wired:
            return [await self._in_doubt_unwired(kind, executed=executed)]
        found: list[Scenario] = []
        for number in range(await self.requests_in(kind)):
            scenario = await self.prepare(kind)
            self.wire.strike(LOST_AFTER if executed else LOST_BEFORE, number)
            outcome = await self.perform(scenario.call)
            self.wire.clear()
            if isinstance(outcome, InDoubt):
                found.append(scenario)
        expect(found, f"no time-out of a request left a {kind} in doubt")
        return found

    async def _in_doubt_unwired(self, kind: OperationKind, *, executed: bool) -> Scenario:
        lose = self.rig.lose_reply if executed else self.rig.lose_request
        if lose is None:
            pytest.skip("the rig has no way to lose a reply or a request")
        scenario = await self.prepare(kind)
        lose(self.gateway)
        outcome = await self.perform(scenario.call)
        expect(isinstance(outcome, InDoubt), f"a time-out of a {kind} is {outcome!r}, not InDoubt")
        return scenario


@asynccontextmanager
async def open_bench(rig: Rig) -> AsyncGenerator[Bench]:
    """A bench whose connections are closed in the end."""
    own = AiohttpTransport() if rig.transport is None else None
    bench = Bench(rig, rig.transport or own or AiohttpTransport())
    try:
        await bench.gateway.start()
        yield bench
    finally:
        await bench.gateway.aclose()
        if own is not None:
            await own.aclose()
