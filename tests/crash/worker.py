"""A shop's process under load, made to be killed: `python -m tests.crash.worker` with its order as JSON on standard input.

It says on standard output when it is ready, and which shoppers it has begun and finished. What a shopper does follows
from the seed and the shopper's number, so that a later life repeats the same requests under the same keys.
"""

from __future__ import annotations

import asyncio
import sys

import msgspec

from aegispay.app import AegisPay
from aegispay.demo.mixed import Shopper
from aegispay.orchestration.results import InProgress
from aegispay.orchestration.settings import Settings
from aegispay.resilience.retry import RetryPolicy
from aegispay.sandbox.server import SandboxSettings, ready_gateways

SETTINGS = Settings(
    call_timeout_s=0.4,
    answer_timeout_s=3.0,
    lease_margin_s=0.2,
    recovery_interval_s=0.05,
    inline_retry=RetryPolicy(attempts_max=3, initial_delay_s=0.02, delay_max_s=0.2),
    recovery_retry=RetryPolicy(attempts_max=1_000_000, initial_delay_s=0.05, delay_max_s=0.5),
)
CONCURRENCY = 16
DRAIN_TIMEOUT_S = 30.0


class Order(msgspec.Struct, frozen=True, kw_only=True):
    store_url: str
    stripe_url: str
    plainpay_url: str
    sandbox: SandboxSettings
    seed: int
    shoppers: list[int]
    """Left over from earlier lives; they come first."""
    next_shopper: int | None = None
    """New ones from here on, without end; None: end when the others are done and nothing is left in flight."""


class Note(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of output."""

    ready: bool = False
    begun: int | None = None
    done: int | None = None
    trouble: str | None = None
    drained: bool = False


def say(note: Note) -> None:
    sys.stdout.write(msgspec.json.encode(note).decode() + "\n")
    sys.stdout.flush()


async def serve(pay: AegisPay, order: Order) -> None:
    waiting = list(reversed(order.shoppers))
    following = order.next_shopper

    async def till() -> None:
        nonlocal following
        while waiting or following is not None:
            if waiting:
                number = waiting.pop()
            else:
                assert following is not None
                number, following = following, following + 1
            say(Note(begun=number))
            try:
                await Shopper(pay, order.seed, number).shop()
            except InProgress:
                continue
            except Exception as error:
                say(Note(trouble=f"shopper {number}: {type(error).__name__}: {error}"))
            say(Note(done=number))

    async with asyncio.TaskGroup() as tills:
        for _ in range(CONCURRENCY):
            tills.create_task(till())


async def main() -> None:
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    gateways = ready_gateways(order.stripe_url, order.plainpay_url, order.sandbox)
    async with AegisPay(gateways, store=order.store_url, settings=SETTINGS) as pay:
        say(Note(ready=True))
        await serve(pay, order)
        async with asyncio.timeout(DRAIN_TIMEOUT_S):
            while await pay.store.count_in_flight():
                await asyncio.sleep(0.02)
    say(Note(drained=True))


if __name__ == "__main__":
    asyncio.run(main())
