"""A PSP's notices on their way to the merchant: queued signed, delivered over HTTP, with what goes wrong on that way.

The PSP itself makes and signs a notice; nothing here knows any PSP's format.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable, Mapping
from enum import StrEnum

import aiohttp
import msgspec

from aegispay.ports import Clock


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One webhook, signed and ready to be sent any number of times."""

    id: str
    type: str
    """The PSP's own name for what happened."""
    headers: Mapping[str, str]
    body: bytes
    created_us: int
    signed_at: Callable[[int], Mapping[str, str]] | None = None
    """The headers of a try at that time (microseconds), where the PSP signs every try anew, with its time."""

    def headers_at(self, now_us: int) -> Mapping[str, str]:
        """The headers of a try that is made now."""
        return self.headers if self.signed_at is None else self.signed_at(now_us)

    def __repr__(self) -> str:
        return f"<Notice {self.type} {self.id}>"


class Outbox:
    """A PSP's notices in the order in which things happened. In memory: a PSP that is restarted has forgotten them."""

    def __init__(self, notices_max: int = 10_000) -> None:
        self._waiting: deque[Notice] = deque(maxlen=notices_max)

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, notice: Notice) -> None:
        self._waiting.append(notice)

    def take(self) -> list[Notice]:
        """Every waiting notice, oldest first; they are no longer waiting."""
        taken = list(self._waiting)
        self._waiting.clear()
        return taken


class NoticeFault(StrEnum):
    """What may go wrong with one notice."""

    DUPLICATE = "duplicate"
    """Sent twice, byte for byte."""
    LOST_ANSWER = "lost_answer"
    """Delivered; its answer does not arrive, so it is sent again later."""
    HELD = "held"
    """Kept back until the notices after it have been sent."""
    FORGED = "forged"
    """A copy whose body was changed, under the signature of the true one, comes first."""
    DROPPED = "dropped"
    """Never sent."""


class NoticePlan(msgspec.Struct, frozen=True, kw_only=True):
    """Which faults come how often. The same seed gives the same faults to the same sequence of notices."""

    seed: int = 0
    probabilities: Mapping[NoticeFault, float] = msgspec.field(default_factory=dict)
    """Chance of each fault per notice; together at most 1."""
    tries_max: int = 5
    retry_s: float = 1.0
    """Time before the second try; it doubles with every further one."""

    def __post_init__(self) -> None:
        chances = self.probabilities.values()
        if any(not 0 <= chance <= 1 for chance in chances) or sum(chances) > 1.000001:
            raise ValueError("fault probabilities are 0 to 1, and together at most 1")
        if self.tries_max < 1:
            raise ValueError("tries_max is at least 1")


class NoticeTry(msgspec.Struct, frozen=True, kw_only=True):
    """One delivery that was tried."""

    notice: Notice
    status: int
    """The receiver's; 0 where it could not be reached."""
    forged: bool = False


class NoticeDelivery:
    """Sends what is in an outbox to a URL, when told to. A 2xx is an acknowledgement; anything else is tried again."""

    def __init__(
        self,
        outbox: Outbox,
        url: str,
        clock: Clock,
        plan: NoticePlan | None = None,
        *,
        timeout_s: float = 5.0,
        at_once: int = 1,
    ) -> None:
        """`at_once`: how many notices may be on their way at the same time; with 1 they arrive in order."""
        self.url = url
        self.plan = plan or NoticePlan()
        self.fired: Counter[NoticeFault] = Counter()
        """How often each fault has struck."""
        self.given_up: list[Notice] = []
        self._outbox = outbox
        self._clock = clock
        self._random = random.Random(f"notices:{self.plan.seed}")  # noqa: S311
        self._at_once = at_once
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)

    async def flush(self) -> list[NoticeTry]:
        """Delivers everything that waits, with its faults and retries; returns every try in order."""
        tries: list[NoticeTry] = []
        at_once = self._at_once
        async with aiohttp.ClientSession(timeout=self._timeout) as session:
            again: list[Notice] = []
            plan = self._planned()
            for begin in range(0, len(plan), at_once):
                group = plan[begin : begin + at_once]
                for failed in await asyncio.gather(
                    *(self._first(session, notice, fault, tries) for notice, fault in group)
                ):
                    again += failed
            await self._retry(session, again, tries)
        return tries

    def _planned(self) -> list[tuple[Notice, NoticeFault | None]]:
        """Everything that waits in the order in which it is sent, each with its fault."""
        now: list[tuple[Notice, NoticeFault | None]] = []
        held: list[tuple[Notice, NoticeFault | None]] = []
        for notice in self._outbox.take():
            fault = self._draw()
            if fault is not None:
                self.fired[fault] += 1
            if fault is NoticeFault.HELD:
                held.append((notice, None))
            elif fault is not NoticeFault.DROPPED:
                now.append((notice, fault))
        return now + held[::-1]

    async def _first(
        self,
        session: aiohttp.ClientSession,
        notice: Notice,
        fault: NoticeFault | None,
        tries: list[NoticeTry],
    ) -> list[Notice]:
        """Sends a notice for the first time; returns it where it must be sent again."""
        if fault is NoticeFault.FORGED:
            tries.append(await self._send(session, notice, forged=True))
        done = await self._send(session, notice)
        tries.append(done)
        if fault is NoticeFault.DUPLICATE:
            tries.append(await self._send(session, notice))
        return [] if 200 <= done.status < 300 and fault is not NoticeFault.LOST_ANSWER else [notice]

    async def _retry(
        self, session: aiohttp.ClientSession, again: list[Notice], tries: list[NoticeTry]
    ) -> None:
        wait_s = self.plan.retry_s
        for _ in range(1, self.plan.tries_max):
            if not again:
                return
            await self._clock.sleep(wait_s)
            wait_s *= 2
            results = [await self._send(session, notice) for notice in again]
            tries.extend(results)
            again = [one.notice for one in results if not 200 <= one.status < 300]
        self.given_up.extend(again)

    async def _send(
        self, session: aiohttp.ClientSession, notice: Notice, *, forged: bool = False
    ) -> NoticeTry:
        body = forge(notice.body) if forged else notice.body
        headers = dict(notice.headers_at(self._clock.now_us()))
        try:
            async with session.post(self.url, data=body, headers=headers) as reply:
                status = reply.status
        except (aiohttp.ClientError, TimeoutError):
            status = 0
        return NoticeTry(notice=notice, status=status, forged=forged)

    def _draw(self) -> NoticeFault | None:
        if not self.plan.probabilities:
            return None
        draw = self._random.random()
        for fault, chance in self.plan.probabilities.items():
            draw -= chance
            if draw < 0:
                return fault
        return None


def forge(body: bytes) -> bytes:
    """The same body with one digit changed (or one byte added where it has none): never what was signed."""
    for index in range(len(body) - 1, -1, -1):
        if body[index : index + 1].isdigit():
            other = b"1" if body[index : index + 1] == b"0" else b"0"
            return body[:index] + other + body[index + 1 :]
    return body + b" "
