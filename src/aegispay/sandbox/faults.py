"""Seeded faults in front of a PSP: what a network, a proxy and a PSP's own front do on a bad day.

The shell knows no sockets: it answers with a reply, or with a `Cut` that says how the connection ends. The real
server turns a `Cut` into a reset or silence; a simulation turns it into the client's outcome.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from aegispay.ports import Clock
from aegispay.sandbox import three_ds
from aegispay.sandbox.wire import Psp, Ticket, WireReply, WireRequest

_T = TypeVar("_T")


class FaultKind(StrEnum):
    """What may go wrong with one request."""

    SLOW = "slow"
    """Taken at once, executed and answered late; its idempotency key is in use meanwhile."""
    REFUSE = "refuse"
    """This request is answered; then the port is closed for `outage_s`, and connections are really refused."""
    RESET_BEFORE = "reset_before"
    """The connection is reset; nothing is executed."""
    REPLY_LOST = "reply_lost"
    """Executed, then the connection is reset."""
    NO_REPLY = "no_reply"
    """Executed, and never answered: the client runs into its time limit."""
    LATE = "late"
    """Taken, never answered, and executed after `late_s`, when the client may have given up."""
    DUPLICATE = "duplicate"
    """Delivered twice, as a proxy that retries would. Only to PSPs that promise idempotency: with one that does not, a
    proxy like that charges twice whatever the client does."""
    ERROR_BEFORE = "error_before"
    """A 502 from the front; nothing reached the PSP."""
    ERROR_AFTER = "error_after"
    """Executed, then a 502 from the front in place of the answer."""
    ERROR_KEPT_BEFORE = "error_kept_before"
    """The PSP itself breaks before its effect: a 500, which it keeps under the key and repeats."""
    ERROR_KEPT_AFTER = "error_kept_after"
    """The PSP itself breaks after its effect: a 500, which it keeps under the key and repeats."""
    GARBAGE = "garbage"
    """Executed; the answer is not what it should be."""
    TRUNCATED = "truncated"
    """Executed; half of the answer comes, then the connection closes."""
    RATE_LIMITED = "rate_limited"
    """A 429 from the front; nothing reached the PSP."""
    UNAVAILABLE = "unavailable"
    """A 503 from the front; nothing reached the PSP."""


class CutKind(StrEnum):
    RESET = "reset"
    SILENCE = "silence"
    TRUNCATED = "truncated"


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """No whole answer."""

    kind: CutKind
    reply: WireReply | None = None
    """The answer of which half is sent, where it is truncated."""


Answer = WireReply | Cut


class FaultPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Which faults come how often. The same seed gives the same faults to the same sequence of requests."""

    seed: int = 0
    probabilities: Mapping[FaultKind, float] = msgspec.field(default_factory=dict)
    """Chance of each kind per request; together at most 1."""
    slow_s: float = 0.05
    late_s: float = 0.2
    outage_s: float = 0.2

    def __post_init__(self) -> None:
        chances = self.probabilities.values()
        if any(not 0 <= chance <= 1 for chance in chances) or sum(chances) > 1.000001:
            raise ValueError("fault probabilities are 0 to 1, and together at most 1")

    @classmethod
    def mixed(cls, seed: int, share: float = 0.2, **times: float) -> FaultPlan:
        """Every kind but outages and kept errors, in equal parts, on this share of the requests."""
        rare = (FaultKind.REFUSE, FaultKind.ERROR_KEPT_BEFORE, FaultKind.ERROR_KEPT_AFTER)
        kinds = [kind for kind in FaultKind if kind not in rare]
        return cls(seed=seed, probabilities={kind: share / len(kinds) for kind in kinds}, **times)


NO_FAULTS = FaultPlan()


class FaultShell:
    """A PSP with faults in front of it."""

    def __init__(self, psp: Psp, clock: Clock, plan: FaultPlan = NO_FAULTS) -> None:
        self.psp = psp
        self.fired: Counter[FaultKind] = Counter()
        """How often each kind has struck."""
        self.requests = 0
        self.on_outage: Callable[[float], None] = lambda _outage_s: None
        """Called where the port is to be closed for a while."""
        self._clock = clock
        self._script: list[tuple[FaultKind | None, str]] = []
        self._late: set[asyncio.Task[Any]] = set()
        self.set_plan(plan)

    def set_plan(self, plan: FaultPlan) -> None:
        """Replaces the random faults; what is scripted stays."""
        self.plan = plan
        self._random = random.Random(f"{plan.seed}:{self.psp.account}")  # noqa: S311

    def script(self, faults: Iterable[FaultKind | str | None], *, path: str = "") -> None:
        """Forces the fault of each of the next POST requests whose path holds `path`; None lets one through whole."""
        self._script.extend((None if fault is None else FaultKind(fault), path) for fault in faults)

    def clear(self) -> None:
        """No more faults, scripted or random. What is late still lands."""
        self._script.clear()
        self.set_plan(NO_FAULTS)

    async def settle(self) -> None:
        """Waits until every late request has landed."""
        while self._late:
            await asyncio.gather(*self._late)

    async def serve(self, request: WireRequest) -> Answer:
        """One request through the faults."""
        self.requests += 1
        if request.path.startswith(three_ds.PATH):
            return self._whole(request)
        fault = self._next(request)
        if fault is FaultKind.DUPLICATE and not self.psp.idempotent:
            fault = None
        if fault is None:
            return self._whole(request)
        self.fired[fault] += 1
        return await self._strike(fault, request)

    def _next(self, request: WireRequest) -> FaultKind | None:
        if request.method == "POST":
            for index, (fault, path) in enumerate(self._script):
                if path in request.path:
                    del self._script[index]
                    return fault
        plan = self.plan
        if not plan.probabilities:
            return None
        draw = self._random.random()
        for kind, chance in plan.probabilities.items():
            draw -= chance
            if draw < 0:
                return kind
        return None

    async def _strike(self, fault: FaultKind, request: WireRequest) -> Answer:
        if fault is FaultKind.RESET_BEFORE:
            return Cut(kind=CutKind.RESET)
        front = _FRONT.get(fault)
        if front is not None:
            return self.psp.front_error(front, "req_front")
        if fault is FaultKind.LATE:
            self._land_later(request)
            return Cut(kind=CutKind.SILENCE)
        if fault is FaultKind.SLOW:
            return await self._slow(request)
        if fault in _BREAKS:
            return self._whole(request, _BREAKS[fault])
        reply = self._whole(request)
        return self._after(fault, request, reply)

    def _after(self, fault: FaultKind, request: WireRequest, reply: WireReply) -> Answer:
        """The faults that strike when everything is done."""
        if fault is FaultKind.REFUSE:
            self.on_outage(self.plan.outage_s)
            return reply
        if fault is FaultKind.DUPLICATE:
            self._whole(request)
            return reply
        if fault is FaultKind.ERROR_AFTER:
            return self.psp.front_error(502, "req_front")
        if fault is FaultKind.GARBAGE:
            return WireReply(status=200, body=b"<html><h1>It works!</h1>", content_type="text/html")
        if fault is FaultKind.TRUNCATED:
            return Cut(kind=CutKind.TRUNCATED, reply=reply)
        return Cut(kind=CutKind.RESET if fault is FaultKind.REPLY_LOST else CutKind.SILENCE)

    def _whole(self, request: WireRequest, fail: str | None = None) -> WireReply:
        ticket = self.psp.admit(request)
        return ticket if isinstance(ticket, WireReply) else self.psp.execute(ticket, fail)

    async def _slow(self, request: WireRequest) -> Answer:
        """A PSP that is slow goes on even where its client has gone."""
        ticket = self.psp.admit(request)
        if isinstance(ticket, WireReply):
            return ticket
        return await asyncio.shield(self._later(ticket, self.plan.slow_s))

    def _later(self, ticket: Ticket, delay_s: float) -> asyncio.Task[WireReply]:
        async def execute() -> WireReply:
            await self._clock.sleep(delay_s)
            return self.psp.execute(ticket)

        return self._keep(asyncio.ensure_future(execute()))

    def _land_later(self, request: WireRequest) -> None:
        """On its way until then: the PSP has not seen it, so its key is not in use yet."""

        async def land() -> None:
            await self._clock.sleep(self.plan.late_s)
            self._whole(request)

        self._keep(asyncio.ensure_future(land()))

    def _keep(self, task: asyncio.Task[_T]) -> asyncio.Task[_T]:
        self._late.add(task)
        task.add_done_callback(self._late.discard)
        return task


_FRONT = {FaultKind.ERROR_BEFORE: 502, FaultKind.RATE_LIMITED: 429, FaultKind.UNAVAILABLE: 503}
_BREAKS = {FaultKind.ERROR_KEPT_BEFORE: "before", FaultKind.ERROR_KEPT_AFTER: "after"}
