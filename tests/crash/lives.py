"""Processes that come and go: what they said, and what the next one is to do."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys

import msgspec

from aegispay.domain.payment import Payment
from aegispay.orchestration.requests import DEFAULT_MERCHANT
from aegispay.storage.store import Store
from tests.crash.worker import Note, Order

REPLAYED = 10
"""So many finished shoppers are sent again to each new process: nothing may come of it."""
LIFE_S_MAX = 60.0


class Lives:
    """What the processes that came and went have said."""

    def __init__(self, order: Order):
        self.order = order
        self.begun: set[int] = set()
        self.done: set[int] = set()
        self.troubles: list[str] = []
        self.drained = False

    async def live(self, order: Order, alive_s: float | None) -> int | None:
        """One process, killed so long after it was ready, or left to end. Returns its exit status."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.crash.worker",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(msgspec.json.encode(order))
        process.stdin.close()
        killer: asyncio.TimerHandle | None = None
        try:
            async with asyncio.timeout(LIFE_S_MAX):
                while line := await process.stdout.readline():
                    note = self._note(line)
                    if note.ready and alive_s is not None:
                        killer = asyncio.get_running_loop().call_later(alive_s, process.kill)
                return await process.wait()
        finally:
            if killer is not None:
                killer.cancel()
            if process.returncode is None:
                process.kill()
                await process.wait()

    def _note(self, line: bytes) -> Note:
        try:
            note = msgspec.json.decode(line, type=Note)
        except msgspec.MsgspecError:
            return Note()  # Killed while it wrote the line.
        if note.begun is not None:
            self.begun.add(note.begun)
        if note.done is not None:
            self.done.add(note.done)
        if note.trouble is not None:
            self.troubles.append(note.trouble)
        self.drained = self.drained or note.drained
        return note

    def next_order(self, source: random.Random, *, last: bool = False) -> Order:
        """Interrupted shoppers ask again, and some that were served long ago."""
        again = source.sample(sorted(self.done), min(REPLAYED, len(self.done)))
        return msgspec.structs.replace(
            self.order,
            shoppers=sorted(self.begun - self.done) + again,
            next_shopper=None if last else max(self.begun, default=-1) + 1,
        )


async def all_payments(store: Store) -> list[Payment]:
    found: list[Payment] = []
    while page := await store.list_payments(
        DEFAULT_MERCHANT, before_id=found[-1].id if found else None, limit=1000
    ):
        found += page
    return found
