"""The load: callers that ask for payments, in a closed loop or at a fixed rate, and what they saw.

At a fixed rate a latency runs from the moment the payment was meant to begin, so that waiting is never hidden.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator

from aegispay.app import AegisPay
from aegispay.bench.histogram import Histogram
from aegispay.bench.options import BenchOptions
from aegispay.domain.errors import AegisPayError
from aegispay.domain.money import Currency, Money
from aegispay.orchestration.results import Result

OUTSTANDING_MAX = 15_000
"""At a fixed rate so many payments may be under way; those that arrive on top are counted as errors."""
REMEMBERED_MAX = 1_000
"""So many answers are kept, evenly spread, for the checks and the replays."""


class Shop:
    """Asks for payments as a merchant's checkout would, each under a key of its own."""

    def __init__(self, pay: AegisPay, merchant_id: str):
        self.pay = pay
        self.merchant_id = merchant_id
        self.last_number = 0

    def next_number(self) -> int:
        self.last_number += 1
        return self.last_number

    async def buy(self, number: int) -> Result:
        """The payment with this number; the same number again is a replay."""
        return await self.pay.charge(
            Money(1_000 + number % 9_000, Currency.USD),
            f"pm_1Bench{number:x}Card",
            idempotency_key=f"order-{number}",
            customer_id=f"cus_Bench{number % 50_000:x}",
            description="Order from the benchmark's shop",
            metadata={"cart": f"cart-{number}", "channel": "web"},
            merchant_id=self.merchant_id,
        )


class Load:
    """Drives a shop until it is stopped. `measuring` says whether payments that begin now count."""

    def __init__(self, shop: Shop, options: BenchOptions):
        self._shop = shop
        self._options = options
        self.latencies = Histogram()
        self.errors: Counter[str] = Counter()
        self.served = 0
        """Payments that succeeded, from the first of the warm-up."""
        self.measuring = False
        self.late_max_us = 0
        """Open loop: how far the generator itself fell behind its schedule, at most."""
        self._stopping = False
        self.remembered: dict[int, Result] = {}
        self._remember_every = 1
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Returns when `stop` was called and everything that was started has been answered."""
        if self._options.rate is None:
            await asyncio.gather(*(self._caller() for _ in range(self._options.concurrency)))
        else:
            await self._arrivals(self._options.rate)

    def stop(self) -> None:
        self._stopping = True

    async def _caller(self) -> None:
        clock = self._shop.pay.ports.clock
        while not self._stopping:
            await self._one(int(clock.monotonic_s() * 1_000_000), self.measuring)

    async def _arrivals(self, rate: float) -> None:
        clock = self._shop.pay.ports.clock
        loop = asyncio.get_running_loop()
        gaps = gaps_s(rate, self._options.arrivals, self._options.seed)
        due_s = clock.monotonic_s() + next(gaps)
        while not self._stopping:
            now_s = clock.monotonic_s()
            while due_s <= now_s:
                self.late_max_us = max(self.late_max_us, int((now_s - due_s) * 1_000_000))
                if len(self._tasks) >= OUTSTANDING_MAX:
                    self.errors["more arrived than could be served"] += 1
                else:
                    task = loop.create_task(self._one(int(due_s * 1_000_000), self.measuring))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                due_s += next(gaps)
            await clock.sleep(due_s - now_s)
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _one(self, begun_us: int, counts: bool) -> None:
        shop = self._shop
        number = shop.next_number()
        try:
            result = await shop.buy(number)
        except AegisPayError as error:
            self.errors[type(error).__name__] += 1
            return
        except Exception as error:  # noqa: BLE001 - a caller that died would make the load lighter unseen
            self.errors[f"unexpected {type(error).__name__}"] += 1
            return
        if counts:
            self.latencies.add(int(shop.pay.ports.clock.monotonic_s() * 1_000_000) - begun_us)
        if not result.is_success():
            self.errors[f"answered {result.status}"] += 1
            return
        self.served += 1
        if number % self._remember_every == 0:
            self._remember(number, result)

    def _remember(self, number: int, result: Result) -> None:
        self.remembered[number] = result
        if len(self.remembered) >= REMEMBERED_MAX:
            self._remember_every *= 2
            kept = {at: one for at, one in self.remembered.items() if at % self._remember_every == 0}
            self.remembered = kept


def gaps_s(rate: float, arrivals: str, seed: int) -> Iterator[float]:
    """The times between arrivals: all the same, or exponential as independent customers give them."""
    source = random.Random(seed)  # noqa: S311 - a schedule that can be repeated, not a secret
    while True:
        yield 1 / rate if arrivals == "constant" else source.expovariate(rate)
