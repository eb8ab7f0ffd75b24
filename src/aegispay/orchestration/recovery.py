"""The recovery worker: takes over what is due, and hands it to whoever knows what to do with it.

It runs in every instance; leases with fences see to it that two never work on one operation with effect. It resolves
what is open and never begins an attempt at another gateway: the payer may be gone.
"""

from __future__ import annotations

import asyncio
import logging

from aegispay.domain.errors import AegisPayError, StaleFence, StoreError
from aegispay.domain.payment import OperationStatus
from aegispay.orchestration.driver import Driver
from aegispay.orchestration.engine import Engine
from aegispay.orchestration.inbound import Inbound
from aegispay.orchestration.lapses import Lapses
from aegispay.orchestration.open_calls import OpenCalls
from aegispay.orchestration.questions import Questions
from aegispay.orchestration.recovery_report import RecoveryReport
from aegispay.orchestration.watches import Watches
from aegispay.storage.store import InFlight, Purpose

logger = logging.getLogger("aegispay.recovery")

_ROWS_AT_ONCE = 64
_PRUNE_EVERY = 1000
"""Passes between two looks at notices so old that they can be forgotten."""


class RecoveryWorker:
    """Start, stop, safe to stop before start and twice."""

    def __init__(self, engine: Engine, driver: Driver, inbound: Inbound):
        self._inbound = inbound
        self._passes = 0
        self._engine = engine
        self._questions = Questions(engine.journal, engine.ports)
        self._open_calls = OpenCalls(engine, driver, self._questions)
        self._watches = Watches(engine, driver, self._questions)
        self._lapses = Lapses(engine, driver, self._questions)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))

    async def _run(self) -> None:
        settings = self._engine.settings
        failures = 0
        while True:
            try:
                report = await self.run_once()
                failures = 0
            except StoreError as error:
                failures += 1
                report = RecoveryReport()
                logger.warning("recovery cannot reach the store: %s", error.code)
            except Exception as error:  # noqa: BLE001 - whatever a pass raises, the next one must come
                failures += 1
                report = RecoveryReport()
                logger.error("a recovery pass broke off: %s", type(error).__name__)
            if report.taken < _ROWS_AT_ONCE:
                jitter = 0.75 + self._engine.ports.random.random() / 2
                await self._engine.ports.clock.sleep(
                    settings.recovery_interval_s * jitter * 2 ** min(failures, 5)
                )

    async def run_once(self) -> RecoveryReport:
        """One pass over what is due now. Raises `StoreError` where the store cannot be read."""
        engine = self._engine
        notices = await self._inbound.apply_due()
        if self._passes % _PRUNE_EVERY == 0:
            await self._inbound.prune()
        self._passes += 1
        clock = engine.ports.clock
        until_us = clock.now_us() + int(engine.settings.lease_s * 1_000_000)
        # A clock that was set forward must not make us take what others are at work on.
        rows = await engine.store.lease_due(clock.steady_us(), engine.ports.instance, until_us, _ROWS_AT_ONCE)
        report = RecoveryReport(taken=len(rows), notices=notices)
        if rows:
            gate = asyncio.Semaphore(engine.settings.recovery_concurrency_max)
            await asyncio.gather(*(self._guarded(row, report, gate) for row in rows))
        return report

    async def _guarded(self, row: InFlight, report: RecoveryReport, gate: asyncio.Semaphore) -> None:
        async with gate:
            try:
                # The row may have waited for its turn: the lease counts from now.
                await self._handle(await self._engine.leases.renew(row), report)
            except StaleFence:
                report.lost += 1
            except Exception as error:  # noqa: BLE001 - one payment's trouble must not stop the others
                report.failed += 1
                # Only the code or type is logged: the text of a foreign exception may quote a request.
                what = error.code if isinstance(error, AegisPayError) else type(error).__name__
                logger.error("recovery of %s in %s: %s", row.operation_id, row.payment_id, what)
                if not isinstance(error, StoreError):
                    await self._back_off(row)

    async def _back_off(self, row: InFlight) -> None:
        """A row that recovery itself cannot handle comes again later and later, and in the end a person is asked."""
        engine = self._engine
        try:
            held = await engine.store.find_in_flight(row.operation_id)
            payment = await engine.journal.load(row.payment_id)
            operation = payment.operation(row.operation_id)
            if held is None or held.fence != row.fence or operation is None:
                return
            if self._questions.age_s(operation) >= engine.settings.review_after_s and payment.review is None:
                payment = await self._questions.ask_a_person(
                    payment, operation, held, "recovery fails, see the log"
                )
            await engine.leases.hand_over(
                payment, held, engine.settings.recovery_retry.delay_s(row.tries, engine.ports.random)
            )
        except Exception as error:  # noqa: BLE001 - the lease runs out, and the next pass tries again
            logger.error("recovery of %s cannot even wait: %s", row.operation_id, type(error).__name__)

    async def _handle(self, row: InFlight, report: RecoveryReport) -> None:
        payment = await self._engine.journal.load(row.payment_id)
        operation = payment.operation(row.operation_id)
        if operation is None:
            await self._engine.leases.release(payment, row)
        elif row.purpose is Purpose.EXPIRY:
            await self._lapses.expire(payment, row)
        elif row.purpose is Purpose.WATCH:
            await self._watches.look_again(payment, operation, row)
        elif not operation.unfinished or operation.status is OperationStatus.CONFIRMING:
            await self._engine.leases.release(payment, row)
        elif row.purpose is Purpose.ACTION:
            await self._lapses.payer_is_late(payment, operation, row)
        else:
            await self._open_calls.resolve(payment, operation, row, report)
            return
        report.resolved += 1
