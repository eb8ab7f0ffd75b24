"""The simulated network between instances and PSPs: one exchange, with every way in which it can go wrong.

A request that has left is on its way by itself: it arrives although its sender dies, stalls, or gives up. It knows no PSP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar
from urllib.parse import unquote, urlsplit

from aegispay.domain.outcomes import InDoubt, NotSent
from aegispay.gateways.http import HttpReply, HttpRequest
from aegispay.gateways.permit import may_leave
from aegispay.sandbox.wire import Psp, Ticket, WireReply, WireRequest
from aegispay.testing.simulation.faults import Faults
from aegispay.testing.simulation.instance_ports import Ported
from aegispay.testing.simulation.loop import PROCESS, Process, SimulatedLoop
from aegispay.testing.simulation.trace import Trace

Reply = TypeVar("Reply")


class Exchange(Generic[Reply]):
    """One request, as the network sees it."""

    def __init__(
        self,
        *,
        psp: str,
        what: str,
        timeout_s: float,
        deliver: Callable[[str | None], Reply],
        front: Callable[[int], Reply],
        garbage: Callable[[], Reply | InDoubt],
        writes: bool,
        replays: bool,
        late_s_max: float,
    ):
        self.psp = psp
        self.what = what
        self.timeout_s = timeout_s
        self.deliver = deliver
        """Carries the request out at the PSP; `before` or `after` makes the PSP break and keep its 500."""
        self.front = front
        self.garbage = garbage
        self.writes = writes
        self.replays = replays
        """Whether a proxy may deliver it twice without a second effect."""
        self.late_s_max = late_s_max


_BEFORE_ARRIVAL = ("request_lost", "reset_before", "error_before", "rate_limited")
_AT_ARRIVAL = ("error_kept_before", "error_kept_after", "duplicated", "slow")
_AFTER_ARRIVAL = ("reply_lost", "error_after", "garbage", "truncated")


class Network:
    """All links. PSPs that are down refuse connections."""

    def __init__(self, loop: SimulatedLoop, faults: Faults, trace: Trace):
        self._loop = loop
        self._faults = faults
        self._trace = trace
        self.down_until_s: dict[str, float] = {}
        self.requests = 0
        self.kill: Callable[[Process], None] = lambda _process: None
        """Ends a process; told by whoever keeps them."""
        self.on_its_way = 0
        """Requests that have left and not arrived yet."""

    async def carry(self, exchange: Exchange[Reply], ported: Ported) -> Reply | NotSent | InDoubt:
        """What the sender sees of it. `NotSent` only where no byte has left."""
        deadline_s = self._loop.time() + exchange.timeout_s
        await ported.before(exchange.psp)
        answer = await self._carry(exchange, deadline_s)
        self._note(exchange, f"<- {answer!r}")
        await ported.after(exchange.psp)
        return answer

    async def _carry(self, exchange: Exchange[Reply], deadline_s: float) -> Reply | NotSent | InDoubt:
        loop, faults, draw = self._loop, self._faults, self._faults.random.random
        self.requests += 1
        left_s = deadline_s - loop.time()
        if left_s <= 0:
            # A sender that stalled looks at its deadline before it writes: the transport's promise.
            return NotSent(reason="timeout")
        if not may_leave():
            return NotSent(reason="too_late")
        if loop.time() < self.down_until_s.get(exchange.psp, 0.0) or faults.hit("connection_refused"):
            return NotSent(reason="connection_refused")
        connect_s = draw() * 0.05
        if faults.hit("connect_slow"):
            connect_s = draw() * 1.5 * left_s
        late = self._strikes("lands_late", exchange)
        if late and draw() < 0.5:
            # The worst of both: it leaves at the end of the call, and lands at the end of what is left after that.
            connect_s = draw() * left_s
        if connect_s >= left_s:
            await asyncio.sleep(left_s)
            return NotSent(reason="connect_timeout")
        answer: asyncio.Future[Reply | InDoubt] = loop.create_future()
        sender = PROCESS.get()

        def leave() -> None:
            # A process that died while connecting never wrote its request; one that stalled had written it already.
            if sender is None or not sender.dead:
                self._leave(exchange, answer, late)
                if sender is not None and faults.hit("crash_mid_call"):
                    self.kill(sender)

        self._loop.outside_at(loop.time() + connect_s, leave)
        await asyncio.wait((answer,), timeout=max(0.0, deadline_s - loop.time()))
        return answer.result() if answer.done() else InDoubt(reason="timeout")

    def _leave(self, exchange: Exchange[Reply], answer: asyncio.Future[Reply | InDoubt], late: bool) -> None:
        """The request is written: from here on it is out of our hands."""
        faults, draw, now_s = self._faults, self._faults.random.random, self._loop.time()
        self._note(exchange, f"-> {exchange.what}")
        way_s = draw() * 0.1
        fault = next(
            (kind for kind in _BEFORE_ARRIVAL if faults.rate(kind) and self._strikes(kind, exchange)), None
        )
        if fault == "request_lost":
            return
        if fault == "reset_before":
            self._answer_later(answer, way_s, lambda: InDoubt(reason="reset"))
        elif fault in ("error_before", "rate_limited"):
            status = 429 if fault == "rate_limited" else 502 if draw() < 0.5 else 503
            self._answer_later(answer, way_s, lambda: exchange.front(status))
        else:
            if late:
                # The ends of the range matter most: just after the sender gave up, and just before it is too late.
                part = draw()
                way_s = exchange.late_s_max * (part if draw() < 0.5 else 1 - part**3 / 10)
            self.on_its_way += 1
            self._loop.outside_at(now_s + way_s, self._arrive, exchange, answer)

    def _strikes(self, kind: str, exchange: Exchange[Reply]) -> bool:
        if not exchange.writes and kind in (
            "lands_late",
            "duplicated",
            "error_kept_before",
            "error_kept_after",
        ):
            return False
        return self._faults.hit(kind)

    def _arrive(self, exchange: Exchange[Reply], answer: asyncio.Future[Reply | InDoubt]) -> None:
        faults, draw = self._faults, self._faults.random.random
        self.on_its_way -= 1
        fault = next(
            (kind for kind in _AT_ARRIVAL if faults.rate(kind) and self._strikes(kind, exchange)), None
        )
        kept = {"error_kept_before": "before", "error_kept_after": "after"}.get(fault or "")
        reply = exchange.deliver(kept)
        if fault == "duplicated" and exchange.replays:
            exchange.deliver(None)
        back_s = draw() * 0.1
        if fault == "slow":
            back_s = draw() * 2 * exchange.timeout_s
        lost = next(
            (kind for kind in _AFTER_ARRIVAL if faults.rate(kind) and self._strikes(kind, exchange)), None
        )
        if lost == "reply_lost":
            if draw() < 0.5:
                self._answer_later(answer, back_s, lambda: InDoubt(reason="reset"))
        elif lost == "error_after":
            self._answer_later(answer, back_s, lambda: exchange.front(502))
        elif lost == "garbage":
            self._answer_later(answer, back_s, exchange.garbage)
        elif lost == "truncated":
            self._answer_later(answer, back_s, lambda: InDoubt(reason="truncated"))
        else:
            self._answer_later(answer, back_s, lambda: reply)

    def _answer_later(
        self,
        answer: asyncio.Future[Reply | InDoubt],
        delay_s: float,
        make: Callable[[], Reply | InDoubt],
    ) -> None:
        def settle() -> None:
            if not answer.done():
                answer.set_result(make())

        self._loop.outside_at(self._loop.time() + delay_s, settle)

    def _note(self, exchange: Exchange[Reply], text: str) -> None:
        process = PROCESS.get()
        self._trace.note(
            self._loop.time(), process.name if process else exchange.psp, f"{exchange.psp} {text}"
        )


KEY_HEADERS = ("idempotency-key", "paypal-request-id", "x-refund-idempotency")
"""What the PSPs call the header with the idempotency key."""


class SimulatedTransport:
    """The `Transport` port of one instance towards one PSP face: real adapters run over it unchanged."""

    def __init__(
        self,
        network: Network,
        psp: Psp,
        ported: Ported,
        *,
        late_s_max: float,
        watch: Callable[..., None],
        after: Callable[[], None],
        keeps_errors: bool,
    ):
        self._network = network
        self._psp = psp
        self._ported = ported
        self._late_s_max = late_s_max
        self._watch = watch
        self._after = after
        self._keeps_errors = keeps_errors

    async def send(self, request: HttpRequest) -> HttpReply | NotSent | InDoubt:
        parts = urlsplit(request.url)
        wire = WireRequest(
            method=request.method,
            path=unquote(parts.path),
            query=parts.query,
            headers={name.lower(): value for name, value in request.headers.items()},
            body=request.body or b"",
        )
        key = next((wire.headers[name] for name in KEY_HEADERS if name in wire.headers), "")
        self._watch(self._psp.account, key, wire)
        exchange: Exchange[WireReply] = Exchange(
            psp=self._psp.account,
            what=f"{request.method} {wire.path} {key}".rstrip(),
            timeout_s=request.timeout_s,
            deliver=lambda fail: self._deliver(wire, fail),
            front=lambda status: self._psp.front_error(status, "req_front"),
            garbage=lambda: WireReply(status=200, body=b"<html>It works!</html>", content_type="text/html"),
            writes=request.method == "POST",
            replays=bool(key) and self._psp.idempotent,
            # A cancel by reference that lands late may void what was found meanwhile: see docs/reliability.md.
            late_s_max=0.0 if wire.path.startswith("/references/") else self._late_s_max,
        )
        answer = await self._network.carry(exchange, self._ported)
        if not isinstance(answer, WireReply):
            return answer
        headers = {**answer.headers, "content-type": answer.content_type}
        return HttpReply(status=answer.status, headers=headers, body=answer.body)

    def _deliver(self, request: WireRequest, fail: str | None) -> WireReply:
        broken = fail is not None and not self._keeps_errors
        if broken and fail == "before":
            return self._psp.front_error(500, "req_broken")
        ticket: Ticket | WireReply = self._psp.admit(request)
        if broken:
            fail = None
        reply = ticket if isinstance(ticket, WireReply) else self._psp.execute(ticket, fail)
        self._after()
        return self._psp.front_error(500, "req_broken") if broken else reply

    async def aclose(self) -> None:
        """There is nothing to close."""
