"""Requests under way in this process, by idempotency key, and the final answers of past ones.

Concurrent calls with one key share one flight. A flight is a task of its own: a caller that is cancelled, or waits no
longer, leaves it running. Both tables are bounded; the store remains the truth.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from aegispay.domain.errors import IdempotencyConflict, NotRunning, Overloaded
from aegispay.domain.payment import Payment
from aegispay.orchestration.results import InProgress, Result, operation_result, payment_result
from aegispay.ports import Clock
from aegispay.resilience.deadline import Deadline


class Flight:
    """One request under way."""

    __slots__ = ("deadline", "payment_id", "request_hash", "task")

    def __init__(self, request_hash: bytes, deadline: Deadline):
        self.request_hash = request_hash
        self.deadline = deadline
        """Until when the work may go on for its callers; who joins with more patience moves it."""
        self.payment_id: str | None = None
        """Known once it is chosen; a caller that waits too long is told it."""
        self.task: asyncio.Task[Result]


class Flights:
    """The flights and cached answers of one running instance."""

    def __init__(self, clock: Clock, in_progress_max: int, answers_max: int):
        self._clock = clock
        self._in_progress_max = in_progress_max
        self._answers_max = answers_max
        self._flights: dict[tuple[bytes, bytes], Flight] = {}
        # Kept as values that the garbage collector need not follow: 20,000 results would stall it for 50 ms at a time.
        self._answers: dict[bytes, tuple[bytes, Payment, str]] = {}
        self._oldest: deque[bytes] = deque()
        self._loose: set[asyncio.Task[Result]] = set()
        self._closing = False

    def answered(self, digest: bytes, request_hash: bytes) -> Result | None:
        """The final answer given under this key before; raises `IdempotencyConflict` for another request."""
        found = self._answers.get(digest)
        if found is None:
            return None
        if found[0] != request_hash:
            raise conflict(found[1].id)
        payment = found[1]
        operation = payment.operation(found[2]) if found[2] else None
        return operation_result(payment, operation) if operation else payment_result(payment)

    def keep(self, digest: bytes, request_hash: bytes, result: Result, operation_id: str = "") -> None:
        """Remembers a final answer; the oldest is forgotten where there are too many.

        `operation_id` names the operation that a follow-up's answer is about; the answer to a first request has none.
        """
        answers = self._answers
        if digest not in answers:
            # The order stands in a queue of its own: the first key of a dict that lost many others takes long to find.
            if len(answers) >= self._answers_max:
                del answers[self._oldest.popleft()]
            self._oldest.append(digest)
        answers[digest] = (request_hash, result.payment, operation_id)

    def join(
        self,
        digest: bytes,
        request_hash: bytes,
        timeout_s: float,
        begin: Callable[[Flight], Coroutine[Any, Any, Result]],
    ) -> Flight:
        """The flight of this request under this key, begun if there is none. Raises `Overloaded`, `NotRunning`.

        Another request under the same key is a flight of its own: which of the two holds the key, the store's claim says.
        """
        name = (digest, request_hash)
        flight = self._flights.get(name)
        if flight is not None:
            flight.deadline.extend(timeout_s)
            return flight
        flight = Flight(request_hash, Deadline(self._clock, timeout_s))
        flight.task = self._spawn(begin(flight))
        self._flights[name] = flight

        def landed(task: asyncio.Task[Result]) -> None:
            self._flights.pop(name, None)
            self._loose.discard(task)
            if not task.cancelled():
                task.exception()  # Retrieved here: the callers may all have gone.

        flight.task.add_done_callback(landed)
        return flight

    def launch(self, timeout_s: float, begin: Callable[[Flight], Coroutine[Any, Any, Result]]) -> Flight:
        """A flight without a key."""
        flight = Flight(b"", Deadline(self._clock, timeout_s))
        flight.task = self._spawn(begin(flight))

        def landed(task: asyncio.Task[Result]) -> None:
            self._loose.discard(task)
            if not task.cancelled():
                task.exception()

        flight.task.add_done_callback(landed)
        return flight

    def _spawn(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        if self._closing or len(self._loose) >= self._in_progress_max:
            work.close()
            if self._closing:
                raise NotRunning("AegisPay is shutting down; nothing was started.")
            raise Overloaded(f"{len(self._loose)} requests are under way; nothing was started for this one.")
        task = asyncio.get_running_loop().create_task(work)
        self._loose.add(task)
        return task

    async def wait(self, flight: Flight, timeout_s: float) -> Result:
        """The flight's result, or `InProgress` with the payment id where it takes longer than this caller waits."""
        task = flight.task
        done, _ = await asyncio.wait((task,), timeout=timeout_s)
        if done:
            if task.cancelled():
                raise InProgress("AegisPay was stopped before the answer.", payment_id=flight.payment_id)
            return task.result()
        raise InProgress(payment_id=flight.payment_id)

    def open(self) -> None:
        self._closing = False

    async def close(self, grace_s: float) -> None:
        """Takes no more, waits for what is under way, then stops it: its leases run out and recovery goes on."""
        self._closing = True
        if self._loose:
            await asyncio.wait(tuple(self._loose), timeout=grace_s)
        leftover = tuple(self._loose)
        for task in leftover:
            task.cancel()
        if leftover:
            await asyncio.wait(leftover)
        self._answers.clear()
        self._oldest.clear()

    def __len__(self) -> int:
        return len(self._loose)


def conflict(payment_id: str | None) -> IdempotencyConflict:
    return IdempotencyConflict(
        "this idempotency key was used before with a different request; nothing was done.",
        payment_id=payment_id,
        hint="Use a new key for a new request.",
    )
