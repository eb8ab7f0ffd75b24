"""A PSP's webhooks on their way: signed by the face, delivered to whichever instance answers, until one acknowledges.

On the way they are held up, overtaken, doubled, forged, and sent again long after; the PSP insists, as real ones do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from msgspec.structs import replace

from aegispay.sandbox.webhooks import Notice, Outbox
from aegispay.testing.simulation.faults import Faults
from aegispay.testing.simulation.instance_ports import START_US
from aegispay.testing.simulation.loop import SimulatedLoop
from aegispay.testing.simulation.trace import Trace

Take = Callable[[str, Mapping[str, str], bytes], "asyncio.Future[str]"]
"""Hands a webhook to some instance; comes to `taken`, `refused: <reason>`, or `lost`."""
_RETRY_S = 5.0
_RETRY_S_MAX = 3600.0


class Post:
    """The webhooks of one PSP."""

    def __init__(
        self,
        loop: SimulatedLoop,
        faults: Faults,
        trace: Trace,
        name: str,
        outbox: Outbox,
        forge: Callable[[bytes], bytes],
    ):
        self.name = name
        self.take: Take
        """Set by whoever knows the instances."""
        self.refused: Callable[[str], None] = lambda _: None
        """Told of a genuine webhook that was refused, or a forged one that was not."""
        self._loop = loop
        self._faults = faults
        self._trace = trace
        self._outbox = outbox
        self._forge = forge
        self.on_its_way = 0

    def collect(self) -> None:
        """What the PSP has to tell leaves, now or later."""
        faults, draw = self._faults, self._faults.random.random
        for notice in self._outbox.take():
            delay_s = draw() * 0.2
            if faults.hit("webhook_held"):
                # Overtaken by what happens after it.
                delay_s = (1.0, 30.0, 600.0, 7200.0)[int(draw() * 4)] * draw()
            if faults.hit("webhook_forged"):
                self._leave(delay_s * draw(), notice, True)
            if faults.hit("webhook_doubled"):
                self._leave(delay_s + draw() * 0.2, notice, False)
            if faults.hit("webhook_repeated"):
                # By somebody who wrote it down: byte for byte, with the signature of then.
                self._leave(delay_s + draw() * 20_000.0, replace(notice, signed_at=None), False)
            self._leave(delay_s, notice, False)

    def _leave(self, delay_s: float, notice: Notice, forged: bool, tries: int = 0) -> None:
        self.on_its_way += 1
        self._loop.outside_at(self._loop.time() + delay_s, self._deliver, notice, forged, tries)

    def _deliver(self, notice: Notice, forged: bool, tries: int) -> None:
        body = self._forge(notice.body) if forged else notice.body
        self._note(f"webhook {notice.type}{' FORGED' if forged else ''} -> ")
        now_us = START_US + int(self._loop.time() * 1_000_000)
        answer = self.take(self.name, notice.headers_at(now_us), body)

        def heard(done: asyncio.Future[str]) -> None:
            self.on_its_way -= 1
            found = done.result()
            self._note(f"webhook {notice.type} {found}")
            if forged:
                if found == "taken":
                    self.refused(f"a forged {notice.type} of {self.name} was taken")
                return
            if found == "refused: stale" and notice.signed_at is None:
                return  # Too old to be believed, as it should be.
            if found.startswith("refused") and found != "refused: stale":
                self.refused(f"a genuine {notice.type} of {self.name} was {found}")
                return
            if found != "taken" or self._faults.hit("webhook_ack_lost"):
                delay_s = min(_RETRY_S * 2**tries, _RETRY_S_MAX)
                self._leave(delay_s * (0.5 + self._faults.random.random()), notice, False, min(tries + 1, 10))

        answer.add_done_callback(heard, context=self._loop.outside)

    def _note(self, text: str) -> None:
        self._trace.note(self._loop.time(), self.name, text)
