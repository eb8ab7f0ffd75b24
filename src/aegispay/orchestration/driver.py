"""The driver: takes an operation that is recorded and leased from its call to an outcome, or hands it to recovery.

Every await here may be the last: whatever dies, the in-flight row stays, and its lease runs out.
"""

from __future__ import annotations

import logging
from typing import Protocol

from msgspec.structs import replace

from aegispay.domain.commands import RecordOutcome
from aegispay.domain.outcomes import (
    Approved,
    DeclineCategory,
    Declined,
    Evidence,
    NotSent,
    Outcome,
    RequiresAction,
)
from aegispay.domain.payment import Operation, OperationStatus, Payment
from aegispay.domain.record import addressed
from aegispay.orchestration.doubt import is_served
from aegispay.orchestration.engine import Engine
from aegispay.orchestration.evidence import SILENT_S_MAX
from aegispay.orchestration.known import Known
from aegispay.orchestration.recorder import NextAttempt
from aegispay.orchestration.settings import AFTER_DOUBT
from aegispay.resilience.deadline import Deadline
from aegispay.storage.store import InFlight, Purpose

logger = logging.getLogger("aegispay")


class Attempts(Protocol):
    """The attempts that may still follow."""

    @property
    def more(self) -> bool:
        """Whether another gateway may be asked."""
        ...

    async def take(self) -> NextAttempt | None:
        """The next attempt, or None where none is left."""
        ...


class Driver:
    """Drives operations for callers, until a deadline."""

    def __init__(self, engine: Engine):
        self._engine = engine
        self._clock = engine.ports.clock

    async def drive(
        self, payment: Payment, row: InFlight, deadline: Deadline, attempts: Attempts | None = None
    ) -> Payment:
        """Sends the operation, records what comes of it, and goes on to the next attempt where that is allowed.

        Ends when the outcome is final, waits for the payer, or the deadline is near; in the last case
        the lease is handed to recovery. Raises `StaleFence` where another worker has taken over.
        """
        engine = self._engine
        known: Known | None = None
        reversals: list[InFlight] = []
        while True:
            operation = _operation(payment, row)
            if known is None:
                outcome, row = await self._send(payment, operation, row, deadline, attempts)
                known = Known(outcome, Evidence.REPLY)
                if isinstance(outcome, NotSent) and (
                    operation.compensates or operation.reason == AFTER_DOUBT
                ):
                    # Nobody waits for it and nobody else can do it, so it is tried again rather than given up.
                    settings = engine.settings
                    again_s = (
                        settings.recovery_retry.delay_s(row.tries, engine.ports.random) if row.tries else 0.0
                    )
                    await engine.leases.put_back(payment, row, max(settings.recovery_interval_s, again_s))
                    break
            following = None
            if attempts is not None and _soft(known.outcome) and deadline.allows():
                row = await engine.leases.with_room(
                    row
                )  # A raw card is turned into a token first, by a call.
                following = await attempts.take()
            # When the time is up nobody waits any more: they were told that it is under way.
            recorded = await engine.recorder.record(
                payment, row, known.outcome, known.evidence, following, served=deadline.allows()
            )
            payment, known = recorded.payment, None
            started = [one for one in recorded.started if one.purpose is Purpose.CALL]
            begun = [one for one in started if _operation(payment, one).attempt]
            reversals += [one for one in started if one not in begun]
            if begun:
                row = begun[0]
                continue
            operation = _operation(payment, row)
            if recorded.row is None or recorded.row.purpose is not Purpose.CALL or not operation.unfinished:
                break
            known, row = await self._await_evidence(payment, operation, recorded.row, deadline)
            if known is None:
                break
        for reversal in reversals:
            payment = await self.drive(await engine.journal.load(payment.id), reversal, deadline)
        return payment

    async def found(self, payment: Payment, row: InFlight, known: Known) -> Payment:
        """Records evidence that turned up outside a call, and drives what it starts: a reversal."""
        if not isinstance(known.outcome, Approved | Declined | RequiresAction | NotSent):
            return payment
        engine = self._engine
        deadline = Deadline(self._clock, engine.settings.answer_timeout_s)
        row = await self._concluding(payment, row, known.outcome)
        served = is_served(row, self._clock.steady_us(), engine.settings.lease_s)
        recorded = await engine.recorder.record(payment, row, known.outcome, known.evidence, served=served)
        payment = recorded.payment
        for started in recorded.started:
            if started.purpose is Purpose.CALL:
                payment = await self.drive(await engine.journal.load(payment.id), started, deadline)
        return payment

    async def _concluding(self, payment: Payment, row: InFlight, outcome: Outcome) -> InFlight:
        """The row of the operation that the outcome ends: of an attempt that is being confirmed, its confirmation's."""
        if row.fence:
            return row
        ends = addressed(payment, RecordOutcome(operation_id=row.operation_id, outcome=outcome))
        if ends.id == row.operation_id:
            return row
        return await self._engine.store.find_in_flight(ends.id) or row

    async def _send(
        self,
        payment: Payment,
        operation: Operation,
        row: InFlight,
        deadline: Deadline,
        attempts: Attempts | None,
    ) -> tuple[Outcome, InFlight]:
        """One send; again after a moment where it was provably not sent and nobody else can be asked.

        The row comes back with the time at which the last call ended. Its request may have left until then, so that
        quiet periods count from there.
        """
        engine = self._engine
        policy = engine.settings.inline_retry
        tries = 0
        while True:
            if engine.leases.holds(row) and not engine.leases.covers_call(row):
                row = await engine.leases.renew(row)
            outcome = await engine.calls.send(payment, operation, row)
            row = replace(row, sent_at_us=self._clock.now_us())
            tries += 1
            if not isinstance(outcome, NotSent) or tries >= policy.attempts_max:
                return outcome, row
            if attempts is not None and attempts.more:
                return outcome, row
            delay_s = max(policy.delay_s(tries, engine.ports.random), outcome.retry_after_s or 0.0)
            if not deadline.allows(delay_s):
                return outcome, row
            await self._clock.sleep(delay_s)
            row = await engine.leases.renew(row)

    async def _await_evidence(
        self, payment: Payment, operation: Operation, row: InFlight, deadline: Deadline
    ) -> tuple[Known | None, InFlight]:
        """Seeks evidence until the deadline; then the lease is handed over, with None."""
        engine = self._engine
        policy = engine.settings.inline_retry
        tries = 0
        while True:
            tries += 1
            delay_s = policy.delay_s(tries, engine.ports.random)
            quiet_s = (
                engine.evidence.quiet_left_s(operation, row)
                if operation.status is not OperationStatus.PENDING
                else 0.0
            )
            if tries > 1:
                delay_s = max(delay_s, min(quiet_s, policy.delay_max_s))
            if not deadline.allows(delay_s):
                rest_s = min(quiet_s, SILENT_S_MAX)
                await engine.leases.hand_over(payment, row, max(engine.settings.recovery_interval_s, rest_s))
                return None, row
            await self._clock.sleep(delay_s)
            row = await engine.leases.renew(row)
            known, row = await engine.evidence.seek(payment, operation, row, tries)
            if known is not None and known.is_news_of(operation):
                return known, row


def _soft(outcome: Outcome) -> bool:
    return isinstance(outcome, NotSent) or (
        isinstance(outcome, Declined) and outcome.category is DeclineCategory.SOFT
    )


def _operation(payment: Payment, row: InFlight) -> Operation:
    operation = payment.operation(row.operation_id)
    if operation is None:
        raise LookupError(f"{payment.id} has no operation {row.operation_id}")
    return operation
