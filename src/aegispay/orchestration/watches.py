"""Watches over what ended because nothing was found, or a person said so: the money may have moved all the same."""

from __future__ import annotations

from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import Approved, Declined, Evidence, NotSent, Outcome, Pending, RequiresAction
from aegispay.domain.payment import Operation, OperationStatus, Payment
from aegispay.gateways.gateway import Found, NotFound
from aegispay.orchestration.driver import Driver
from aegispay.orchestration.engine import Engine
from aegispay.orchestration.known import ACTION_EXPIRED, PERSON, Known
from aegispay.orchestration.questions import REVIEWED_INTERVAL_S, Questions
from aegispay.storage.store import InFlight


class Watches:
    """One more look for the recovery worker."""

    def __init__(self, engine: Engine, driver: Driver, questions: Questions):
        self._engine = engine
        self._driver = driver
        self._questions = questions

    async def look_again(self, payment: Payment, operation: Operation, row: InFlight) -> None:
        """One more look at what ended because nothing was found; again later where the answer is unclear."""
        engine = self._engine
        parent = payment.operation(operation.parent_id) if operation.parent_id else None
        if operation.kind is OperationKind.CONFIRM and parent and parent.status is OperationStatus.APPROVED:
            # What the confirmation was for has happened since, and can happen only once.
            await engine.leases.release(payment, row)
            return
        found = await engine.calls.ask(payment, operation)
        outcome = found.outcome if isinstance(found, Found) else None
        if isinstance(outcome, Approved):
            await self._driver.found(payment, row, Known(outcome, Evidence.LOOKUP))
        elif isinstance(found, NotFound) or isinstance(outcome, Declined | NotSent):
            await engine.leases.release(payment, row)
        elif isinstance(outcome, RequiresAction) and ACTION_EXPIRED in (
            operation.code,
            parent and parent.code,
        ):
            # Still open at the gateway, and may stay so for ever: a day of looks, and then its webhooks.
            if self._questions.age_s(operation) < engine.settings.review_after_s:
                await engine.leases.hand_over(payment, row, REVIEWED_INTERVAL_S)
            else:
                await engine.leases.release(payment, row)
        else:
            await self._unclear(payment, operation, row, outcome)

    async def _unclear(
        self, payment: Payment, operation: Operation, row: InFlight, outcome: Outcome | None
    ) -> None:
        """Looks again later, for about a day; then a person is asked, unless they have said already what they saw."""
        engine = self._engine
        again_s = engine.settings.watch_after_s
        # They looked where we cannot: that we see nothing is no reason to ask them again. That it is under way is one.
        told = operation.code == PERSON and not isinstance(outcome, Pending)
        looked_s = row.tries * again_s if told else self._questions.age_s(operation) - again_s
        if looked_s < engine.settings.review_after_s:
            await engine.leases.hand_over(payment, row, again_s)
            return
        if not told:
            reason = "failed, and the gateway does not say that it had no effect"
            payment = await self._questions.ask_a_person(payment, operation, row, reason)
            if payment.review is None:
                await engine.leases.hand_over(payment, row, again_s)
                return
        if isinstance(outcome, Pending):
            # It will end, and what it took or gave back then belongs into our books.
            await engine.leases.hand_over(payment, row, REVIEWED_INTERVAL_S)
        else:
            await engine.leases.release(payment, row)
