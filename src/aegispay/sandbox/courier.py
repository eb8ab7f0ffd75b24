"""A PSP's notices delivered as they come, by the sandbox itself, for as long as somebody wants them."""

from __future__ import annotations

import asyncio

import msgspec

from aegispay.ports import Clock
from aegispay.sandbox.webhooks import NoticeDelivery, NoticePlan, Outbox

POLL_S = 0.02
AT_ONCE = 8
"""How many notices are on their way at the same time: more than one, so they arrive out of order by themselves too."""


class CourierReport(msgspec.Struct, kw_only=True):
    """What a courier has done so far."""

    waiting: int = 0
    """Notices that are not delivered yet."""
    notices: int = 0
    """Different notices that were acknowledged."""
    sent: int = 0
    """Deliveries that were tried, forged ones not counted."""
    repeated: int = 0
    """Deliveries of a notice that had been acknowledged before."""
    forged: int = 0
    forged_taken: int = 0
    """Forged copies that the receiver took: none, it is hoped."""
    given_up: int = 0


class Courier:
    """Start, stop; safe to stop before start and twice. What waits when it is stopped goes on waiting."""

    def __init__(self, outbox: Outbox, clock: Clock) -> None:
        self.report = CourierReport()
        self._outbox = outbox
        self._clock = clock
        self._known: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._busy = 0

    def start(self, url: str, plan: NoticePlan) -> None:
        """Begins to deliver there. Raises `RuntimeError` where it does already."""
        if self._task is not None:
            raise RuntimeError("this courier is under way")
        self._stopping.clear()
        delivery = NoticeDelivery(self._outbox, url, self._clock, plan, at_once=AT_ONCE)
        self._task = asyncio.ensure_future(self._run(delivery))

    async def stop(self, *, finish: bool = True) -> None:
        """Ends when what is on its way has arrived; with `finish=False` at once, and that is lost."""
        task, self._task = self._task, None
        if task is not None:
            self._stopping.set()
            if not finish:
                task.cancel()
            await asyncio.wait((task,))

    def status(self) -> CourierReport:
        return msgspec.structs.replace(self.report, waiting=len(self._outbox) + self._busy)

    async def _run(self, delivery: NoticeDelivery) -> None:
        while not self._stopping.is_set():
            self._busy = len(self._outbox)
            if self._busy:
                await self._deliver(delivery)
            self._busy = 0
            await self._clock.sleep(POLL_S)

    async def _deliver(self, delivery: NoticeDelivery) -> None:
        report = self.report
        for one in await delivery.flush():
            accepted = 200 <= one.status < 300
            if one.forged:
                report.forged += 1
                report.forged_taken += accepted
                continue
            report.sent += 1
            if accepted:
                report.repeated += one.notice.id in self._known
                self._known.add(one.notice.id)
        report.notices = len(self._known)
        report.given_up += len(delivery.given_up)
        delivery.given_up.clear()
