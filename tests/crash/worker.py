"""A shop's process under load, made to be killed.

It tells when it is ready, which shoppers it has begun and finished, and every final answer that AegisPay gave it. What
a shopper does follows from the seed and the shopper's number, so that a later life repeats the same requests under the
same keys.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any, cast

import msgspec

from aegispay.app import AegisPay
from aegispay.domain.errors import StaleFence, StoreError, StoreUnavailable, VersionConflict
from aegispay.domain.methods import Token
from aegispay.domain.money import Money
from aegispay.orchestration.results import InProgress, Result
from aegispay.orchestration.settings import Settings
from aegispay.resilience.retry import RetryPolicy
from aegispay.sandbox.server import ready_gateways
from aegispay.storage import urls
from aegispay.storage.factory import make_store
from aegispay.storage.postgres import PostgresStore
from aegispay.storage.store import ClaimTaken, Store
from tests.crash.notes import LINE_BYTES_MAX, Note, Order
from tests.crash.shopper import Shopper

SETTINGS = Settings(
    call_timeout_s=0.4,
    answer_timeout_s=3.0,
    lease_margin_s=0.2,
    recovery_interval_s=0.05,
    # A row that a hundred killed workers took in turn has been tried a hundred times.
    resends_max=1_000_000,
    inline_retry=RetryPolicy(attempts_max=3, initial_delay_s=0.02, delay_max_s=0.2),
    recovery_retry=RetryPolicy(attempts_max=1_000_000, initial_delay_s=0.05, delay_max_s=0.5),
)
AGAIN_S = 0.05
DRAIN_TIMEOUT_S = 60.0
_OURS = (VersionConflict, StaleFence, ClaimTaken)
"""What the library says to itself; a caller must never hear it."""


def say(note: Note) -> None:
    line = msgspec.json.encode(note) + b"\n"
    if len(line) > LINE_BYTES_MAX:
        raise ValueError(f"a line of {len(line)} bytes could be torn by a kill")
    os.write(1, line)


class Teller:
    """What shoppers use of `AegisPay`; it tells each final answer before the shopper goes on."""

    def __init__(self, pay: AegisPay, life: int):
        self._pay = pay
        self._life = life
        self._told: dict[str, str] = {}

    async def charge(
        self, amount: Money, method: Token, *, idempotency_key: str, gateway: str | None = None
    ) -> Result:
        result = await self._pay.charge(amount, method, idempotency_key=idempotency_key, gateway=gateway)
        return self._tell("payment", idempotency_key, result)

    async def authorize(self, amount: Money, method: Token, *, idempotency_key: str) -> Result:
        result = await self._pay.authorize(amount, method, idempotency_key=idempotency_key)
        return self._tell("payment", idempotency_key, result)

    async def capture(
        self, payment_id: str, amount: Money | None, *, final: bool, idempotency_key: str
    ) -> Result:
        result = await self._pay.capture(payment_id, amount, final=final, idempotency_key=idempotency_key)
        return self._tell("capture", idempotency_key, result)

    async def refund(self, payment_id: str, amount: Money | None, *, idempotency_key: str) -> Result:
        result = await self._pay.refund(payment_id, amount, idempotency_key=idempotency_key)
        return self._tell("refund", idempotency_key, result)

    async def void(self, payment_id: str, *, idempotency_key: str) -> Result:
        return self._tell(
            "void", idempotency_key, await self._pay.void(payment_id, idempotency_key=idempotency_key)
        )

    def _tell(self, scope: str, key: str, result: Result) -> Result:
        if not result.is_pending():
            name, answer = f"{scope} {key}", result.to_json().decode()
            if self._told.get(name) != answer:
                self._told[name] = answer
                say(Note(life=self._life, key=name, answer=answer))
        return result


class Life:
    """One worker's life: its shoppers, one after the other at each till."""

    def __init__(self, pay: AegisPay, order: Order):
        self._shop = cast("AegisPay", Teller(pay, order.life))
        self._order = order
        self._waiting = list(reversed(order.shoppers))
        self._following = order.next_shopper

    def _next(self) -> int | None:
        if self._waiting:
            return self._waiting.pop()
        number = self._following
        if number is not None:
            self._following = number + 1
        return number

    async def till(self) -> None:
        while (number := self._next()) is not None:
            say(Note(life=self._order.life, begun=number))
            if await self._serve(number):
                say(Note(life=self._order.life, done=number))

    async def _serve(self, number: int) -> bool:
        """Serves one shopper, who comes again while the database is away. Whether the shopper has heard everything."""
        while True:
            try:
                await Shopper(self._shop, self._order.seed, number).shop()
                return True
            except InProgress:
                return False
            except Exception as error:
                if isinstance(error, StoreError) and not isinstance(error, _OURS):
                    await asyncio.sleep(AGAIN_S)
                    continue
                trouble = f"shopper {number}: {type(error).__name__}: {error}"
                say(Note(life=self._order.life, trouble=trouble[:1500]))
                return True


def store_of(order: Order) -> Store:
    if urls.is_postgres(order.store_url):
        return PostgresStore(order.store_url, pool_max=order.pool_max, writers=order.writers)
    return make_store(order.store_url)


async def started(order: Order) -> AegisPay:
    gateways = ready_gateways(order.stripe_url, order.plainpay_url, order.sandbox)
    pay = AegisPay(gateways, store=store_of(order), settings=SETTINGS)
    while True:
        try:
            await pay.start()
            return pay
        except StoreError:
            await asyncio.sleep(AGAIN_S)


async def live(order: Order) -> None:
    pay = await started(order)
    say(Note(life=order.life, ready=True))
    life = Life(pay, order)
    async with asyncio.TaskGroup() as tills:
        for _ in range(order.concurrency):
            tills.create_task(life.till())
    async with asyncio.timeout(DRAIN_TIMEOUT_S):
        while await in_flight(pay.store):
            await asyncio.sleep(AGAIN_S)
    await pay.stop()
    say(Note(life=order.life, drained=True))


async def in_flight(store: Store) -> int:
    try:
        return await store.count_in_flight()
    except StoreUnavailable:
        return 1


def run(order: Order) -> None:
    logging.disable(logging.WARNING)
    runner: Any = asyncio
    try:
        import uvloop as runner
    except ImportError:
        pass
    runner.run(live(order))
