"""Calls without an outcome: evidence is sought, round after round; where it takes too long a person is asked as well.

Nothing is ever ended because of its age.
"""

from __future__ import annotations

from msgspec.structs import replace

from aegispay.domain.outcomes import Evidence, InDoubt, Pending
from aegispay.domain.payment import Operation, OperationStatus, Payment
from aegispay.orchestration.driver import Driver
from aegispay.orchestration.engine import Engine
from aegispay.orchestration.evidence import SILENT_S_MAX
from aegispay.orchestration.questions import REVIEWED_INTERVAL_S, Questions
from aegispay.orchestration.recovery_report import RecoveryReport
from aegispay.orchestration.rows import NEVER_SENT
from aegispay.resilience.deadline import Deadline
from aegispay.storage.store import InFlight

_PATIENCE = 3
"""While a quiet period still runs, a person is asked after so many times `review_after_s`."""
_FEW_TRIES = 20
"""After so many looks in vain no quiet period keeps us from asking a person any more."""


class OpenCalls:
    """One round of recovery for one operation that is under way."""

    def __init__(self, engine: Engine, driver: Driver, questions: Questions):
        self._engine = engine
        self._driver = driver
        self._questions = questions

    async def resolve(
        self, payment: Payment, operation: Operation, row: InFlight, report: RecoveryReport
    ) -> None:
        """Records what can be found out about it now, or leaves it for a later round."""
        engine = self._engine
        if operation.status is OperationStatus.STARTED and row.sent_at_us == NEVER_SENT:
            await self._send_first(payment, operation, row, report)
            return
        if operation.status is OperationStatus.STARTED:
            # Its owner died between intent and outcome: say so before anything else happens.
            recorded = await engine.recorder.record(
                payment, row, InDoubt(reason="owner_gone"), Evidence.REPLY
            )
            payment = recorded.payment
            row = recorded.row or row
            operation = payment.operation(row.operation_id) or operation
        known, row = await engine.evidence.seek(payment, operation, row, row.tries)
        if known is not None and known.is_news_of(operation):
            if isinstance(known.outcome, Pending):
                recorded = await engine.recorder.record(payment, row, known.outcome, known.evidence)
                payment, row = recorded.payment, recorded.row or row
            else:
                payment = await self._driver.found(payment, row, known)
            after = payment.operation(operation.id)
            if after is not None and (
                not after.unfinished or after.status is OperationStatus.REQUIRES_ACTION
            ):
                report.resolved += 1
                return
        if known is not None and isinstance(known.outcome, Pending):
            # The gateway's last word: that it is at work on it. Nothing counts from the send any more.
            row = replace(row, sent_at_us=engine.ports.clock.now_us())
        await self._wait_on(payment, payment.operation(operation.id) or operation, row, report)

    async def _wait_on(
        self, payment: Payment, operation: Operation, row: InFlight, report: RecoveryReport
    ) -> None:
        """It is looked for again later; where it has taken too long already a person is asked."""
        engine = self._engine
        quiet_s = 0.0
        if operation.status is not OperationStatus.PENDING:
            quiet_s = engine.evidence.quiet_left_s(operation, row)
        reason = self._overdue(operation, row)
        if reason is not None and payment.review is None:
            payment = await self._questions.ask_a_person(payment, operation, row, reason)
            now = payment.operation(operation.id)
            if now is None or not now.unfinished:
                # Evidence came while we asked the gateway.
                await engine.leases.release(payment, row)
                report.resolved += 1
                return
            report.reviews += payment.review is not None
        delay_s = engine.settings.recovery_retry.delay_s(row.tries, engine.ports.random)
        if payment.review is not None:
            delay_s = max(delay_s, REVIEWED_INTERVAL_S)
        elif quiet_s > 0:
            rest_s = min(quiet_s, SILENT_S_MAX)
            delay_s = max(delay_s, rest_s) if row.tries > 1 else min(delay_s, rest_s)
        await engine.leases.hand_over(payment, row, delay_s)
        report.waiting += 1

    def _overdue(self, operation: Operation, row: InFlight) -> str | None:
        """Why a person should be asked by now, if one should."""
        settings = self._engine.settings
        age_s = self._questions.age_s(operation)
        if operation.status is OperationStatus.PENDING:
            if age_s >= settings.pending_review_after_s:
                return f"pending for {settings.pending_review_after_s:g} s: {operation.code or 'processing'}"
            said_us = max(row.sent_at_us, operation.started_at_us)
            silent_s = (self._engine.ports.clock.earliest_us() - said_us) / 1_000_000
            late = silent_s >= settings.review_after_s
        else:
            # A send recorded under a clock that ran ahead makes the quiet period end late: evidence is still to come.
            ahead = row.sent_at_us > self._engine.ports.clock.earliest_us()
            # So may a lease that such a clock wrote: then we have looked only a few times, a day late.
            quiet = self._engine.evidence.quiet_left_s(operation, row) > 0 and row.tries <= _FEW_TRIES
            patience = _PATIENCE if ahead or quiet else 1
            late = age_s >= patience * settings.review_after_s
        code = operation.code or operation.status
        return f"in doubt for {settings.review_after_s:g} s: {code}" if late else None

    async def _send_first(
        self, payment: Payment, operation: Operation, row: InFlight, report: RecoveryReport
    ) -> None:
        """Sends a reversal of which nothing had left, for as long as it takes; a person hears of it after a day."""
        engine = self._engine
        review_after_s = engine.settings.review_after_s
        if self._questions.age_s(operation) >= review_after_s and payment.review is None:
            payment = await self._questions.ask_a_person(
                payment, operation, row, f"not sent for {review_after_s:g} s"
            )
            report.reviews += payment.review is not None
        row = await engine.leases.about_to_send(payment, row)
        payment = await self._driver.drive(
            payment, row, Deadline(engine.ports.clock, engine.settings.answer_timeout_s)
        )
        after = payment.operation(operation.id)
        if after is None or after.unfinished:
            report.waiting += 1
        else:
            report.resolved += 1
