"""A fleet of workers over one store: begun, killed at random moments, begun again; and what all of them have said."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from msgspec.structs import replace

from tests.crash.notes import LINE_BYTES_MAX, Command, Note, Order

ALIVE_S = (0.01, 0.6)
"""How long a worker lives once it takes payments."""
UNBORN_S_MAX = 5.0
"""One that is not ready by then is killed all the same: its database may be away."""
REPLAYED_MAX = 5
"""So many finished shoppers are sent again to each new worker: nothing may come of it."""
TWICE_SHARE = 0.2
"""How often those that a dead worker left are served by two workers at once."""
NUMBERS_PER_LIFE = 1_000
"""Seed and number together stay below 13 digits, or a key would look like a card number and be refused."""
SEEDS = 1_000_000
END_TIMEOUT_S = 180.0


class _Life:
    def __init__(self, order: Order):
        self.order = order
        self.open: set[int] = set(order.shoppers)
        """Shoppers of whom it has not said that they are done."""
        self.ready = False
        self.drained = False
        self.killer: asyncio.TimerHandle | None = None
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()


class Fleet:
    """`async with Fleet(order, source, log) as fleet`. `order` is the pattern of every worker's order."""

    def __init__(self, order: Order, source: random.Random, log: Path):
        self._order = order
        self._source = source
        self._log_path = log
        self._lives: dict[int, _Life] = {}
        self._count = 0
        self._size = 0
        self._alive_s: tuple[float, float] | None = None
        self._left: list[int] = []
        self._lately: deque[int] = deque(maxlen=1000)
        self.begun: set[int] = set()
        self.done: set[int] = set()
        self.answers: dict[str, str] = {}
        """Every final answer that a caller has had, by its request's key."""
        self.replayed: set[str] = set()
        self.violations: list[str] = []
        self.kills = 0
        self.kills_at_work = 0
        """Those of a worker that had begun a shopper and not finished it."""
        self.on_kill: Callable[[], None] = lambda: None
        self.on_answer: Callable[[], None] = lambda: None

    async def __aenter__(self) -> Self:
        self._log = self._log_path.open("ab")
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.crash.nursery",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            process_group=0,
            limit=16 * LINE_BYTES_MAX,
        )
        self._listening = asyncio.create_task(self._listen())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._size = 0
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(10):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await asyncio.wait((self._listening,))
        for life in self._lives.values():
            if life.killer is not None:
                life.killer.cancel()
        self._log.close()

    # --- what the driver wants ----------------------------------------------------------------------------

    def keep(self, size: int, alive_s: tuple[float, float] | None) -> None:
        """From now on so many workers run; each is killed within `alive_s` of its being ready, or never."""
        self._size, self._alive_s = size, alive_s
        while len(self._lives) < size:
            self._begin(self._next_order())

    async def halt(self) -> None:
        """Kills every worker at its work, and begins no more."""
        self._size = 0
        lives = list(self._lives)
        for number in lives:
            self._kill(number)
        await self._ended(*(self._lives[number] for number in lives if number in self._lives))

    async def drain(self) -> None:
        """One worker finishes what is left; then another repeats every request that was ever made, under its key."""
        await self._serve(sorted(self.begun - self.done))
        told, self.answers = self.answers, {}
        await self._serve(sorted(self.begun))
        self.replayed = set(self.answers)
        for key, answer in told.items():
            again = self.answers.get(key)
            if again != answer:
                self.violations.append(f"acknowledged {key}: {answer}; and now: {again}")
        self.answers.update(told)

    async def _serve(self, shoppers: list[int]) -> None:
        life = self._begin(replace(self._order, shoppers=shoppers, next_shopper=None), kill=False)
        try:
            await self._ended(life)
        except TimeoutError:
            self._kill(life.order.life)
            await life.ended
        if not life.drained:
            self.violations.append(
                f"something is stuck: the last worker ended with {life.ended.result()}, with {len(life.open)} "
                f"shoppers unserved; see {self._log_path}"
            )

    async def _ended(self, *lives: _Life) -> None:
        async with asyncio.timeout(END_TIMEOUT_S):
            for life in lives:
                await life.ended

    # --- lives ----------------------------------------------------------------------------------------------

    def _next_order(self) -> Order:
        source = self._source
        left = [number for number in dict.fromkeys(self._left) if number not in self.done]
        self._left = left if source.random() < TWICE_SHARE else []
        again = source.sample(self._lately, min(REPLAYED_MAX, len(self._lately)))
        return replace(
            self._order, shoppers=[*left, *again], next_shopper=(self._count + 1) * NUMBERS_PER_LIFE
        )

    def _begin(self, order: Order, *, kill: bool = True) -> _Life:
        self._count += 1
        life = self._lives[self._count] = _Life(replace(order, life=self._count))
        self._tell(Command(begin=life.order))
        if kill and self._alive_s is not None:
            self._kill_later(life, UNBORN_S_MAX)
        return life

    def _kill_later(self, life: _Life, after_s: float) -> None:
        if life.killer is not None:
            life.killer.cancel()
        life.killer = asyncio.get_running_loop().call_later(after_s, self._kill, life.order.life)

    def _kill(self, number: int) -> None:
        if number in self._lives:
            self._tell(Command(kill=number))

    def _tell(self, command: Command) -> None:
        if self._process.stdin is not None:
            self._process.stdin.write(msgspec.json.encode(command) + b"\n")

    # --- what is heard --------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        decode = msgspec.json.Decoder(Note).decode
        while line := await self._process.stdout.readline():
            note = decode(line)
            life = self._lives.get(note.life)
            if life is not None:
                self._hear(life, note)
        for life in self._lives.values():
            if not life.ended.done():
                life.ended.set_result(-1)

    def _hear(self, life: _Life, note: Note) -> None:
        if note.begun is not None:
            self.begun.add(note.begun)
            life.open.add(note.begun)
        elif note.done is not None:
            self.done.add(note.done)
            self._lately.append(note.done)
            life.open.discard(note.done)
        elif note.key is not None and note.answer is not None:
            if self.answers.setdefault(note.key, note.answer) != note.answer:
                self.violations.append(f"{note.key}: {self.answers[note.key]}; and again: {note.answer}")
            self.on_answer()
        elif note.ready:
            life.ready = True
            if life.killer is not None and self._alive_s is not None:
                self._kill_later(life, self._source.uniform(*self._alive_s))
        elif note.exit is not None:
            self._buried(life, note.exit)
        life.drained = life.drained or note.drained
        if note.trouble is not None:
            self.violations.append(f"a caller heard: {note.trouble}")

    def _buried(self, life: _Life, status: int) -> None:
        del self._lives[life.order.life]
        if life.killer is not None:
            life.killer.cancel()
        if status == -9:
            self.kills += 1
            self.kills_at_work += bool(life.ready and life.open)
            self.on_kill()
        elif not life.drained:
            self.violations.append(f"a worker ended by itself, with {status}; see {self._log_path}")
        self._left += sorted(life.open - self.done)
        life.ended.set_result(status)
        if len(self._lives) < self._size:
            self._begin(self._next_order())
