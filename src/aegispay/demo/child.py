"""A shop's process that makes one payment and may be killed while it does: `python -m aegispay.demo.child`.

It reads its order as JSON from standard input. It writes the payment's id when the intent is recorded, which
is before anything is sent, and then the answer, if it lives to see it.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import msgspec

from aegispay.app import AegisPay
from aegispay.domain.events import Event
from aegispay.domain.money import Money
from aegispay.domain.payment import Payment
from aegispay.orchestration.hooks import Hooks
from aegispay.orchestration.settings import Settings
from aegispay.resilience.retry import RetryPolicy
from aegispay.sandbox.adapters import CUSTOMER_ID, MANDATE, five_gateways, five_token

LIFE_S_MAX = 20.0


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What the child is to do."""

    store_url: str
    urls: dict[str, str]
    """Where the PSPs listen, by name."""
    lookup_quiet_s: float
    idempotency_key: str
    amount_minor: int = 100_00
    currency: str = "USD"
    gateway: str | None = None
    """The one gateway to ask; None leaves it to the router."""
    call_timeout_s: float = 1.5
    lease_margin_s: float = 0.2
    answer_timeout_s: float = 8.0


class Child:
    """A child process, from its parent's side. Leaving the context kills it where it still runs."""

    def __init__(self, order: Order, log: Path):
        self._order = order
        self._log_path = log
        self._log: IO[bytes] | None = None
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self._log = self._log_path.open("ab")
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "aegispay.demo.child",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            process_group=0,
        )
        stdin = self._process.stdin
        if stdin is not None:
            stdin.write(msgspec.json.encode(self._order))
            stdin.close()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.kill()
        if self._log is not None:
            self._log.close()

    async def payment_id(self) -> str:
        """Its payment, once the intent is recorded."""
        return str((await self._line())["payment_id"])

    async def answer(self) -> dict[str, Any]:
        """What AegisPay answered it."""
        while True:
            line = await self._line()
            if "status" in line:
                return line

    async def kill(self) -> None:
        """SIGKILL. Safe where it has ended, and twice."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            process.kill()
        await process.wait()
        # What it wrote and nobody read must not keep the pipe open.
        if process.stdout is not None:
            await process.stdout.read()

    async def _line(self) -> dict[str, Any]:
        process = self._process
        if process is None or process.stdout is None:
            raise RuntimeError("the child was not started")
        async with asyncio.timeout(LIFE_S_MAX):
            line = await process.stdout.readline()
        if not line:
            raise RuntimeError(f"the child ended without an answer; see {self._log_path}")
        return msgspec.json.decode(line, type=dict[str, Any])


# --- the child's own side ---------------------------------------------------------------------------------


def _say(found: dict[str, Any]) -> None:
    sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    sys.stdout.flush()


async def _pay(order: Order) -> None:
    def announce(payment: Payment, events: tuple[Event, ...]) -> None:
        if events[0].version == 1:
            _say({"payment_id": payment.id})

    settings = Settings(
        call_timeout_s=order.call_timeout_s,
        lease_margin_s=order.lease_margin_s,
        answer_timeout_s=order.answer_timeout_s,
        recovery_interval_s=0.1,
        recovery_retry=RetryPolicy(attempts_max=1_000_000, initial_delay_s=0.1, delay_max_s=1.0),
    )
    gateways = five_gateways(order.urls, lookup_quiet_s=order.lookup_quiet_s)
    hooks = Hooks().register(after_commit=announce)
    async with AegisPay(gateways, store=order.store_url, settings=settings, hooks=hooks) as pay:
        amount = Money(order.amount_minor, order.currency)
        result = await pay.charge(
            amount,
            five_token(),
            idempotency_key=order.idempotency_key,
            gateway=order.gateway,
            customer_id=CUSTOMER_ID,
            metadata=dict(MANDATE),
        )
    _say(result.to_dict())


async def _main() -> None:
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    async with asyncio.timeout(LIFE_S_MAX):
        await _pay(order)


if __name__ == "__main__":
    asyncio.run(_main())
