"""Answers to claimed requests: computed from the stored events, so that a replay gives the same bytes in any process."""

from __future__ import annotations

import logging
from collections.abc import Awaitable

from aegispay.domain.errors import AegisPayError, StaleFence
from aegispay.domain.events import OperationKind
from aegispay.domain.evolve import fold
from aegispay.domain.payment import ACTION_AGAIN, Operation, OperationStatus, Payment
from aegispay.domain.states import PaymentState
from aegispay.orchestration.engine import Engine
from aegispay.orchestration.flights import Flight, Flights, conflict
from aegispay.orchestration.results import Result, given_back, operation_result, payment_result, pending
from aegispay.resilience.deadline import Deadline
from aegispay.resilience.retry import RetryPolicy
from aegispay.storage.store import Claim

logger = logging.getLogger("aegispay")

_FOLLOW_RETRY = RetryPolicy(attempts_max=1_000_000, initial_delay_s=0.02, delay_max_s=0.5)


class Answers:
    """Finds the answer to a claim, and follows work that somebody else does."""

    def __init__(self, engine: Engine, flights: Flights):
        self._engine = engine
        self._flights = flights

    async def settled(
        self, payment: Payment, claim: Claim, flight: Flight, work: Awaitable[Payment]
    ) -> Result:
        """The answer to a request whose intent is committed, once the work on it has ended.

        From here on the gateway may have been called, so no error may look like a refusal: whatever goes wrong, the caller
        is told that the payment is under way, with its id, and recovery finishes it.
        """
        try:
            try:
                payment = await work
            except StaleFence:
                return await self.follow(claim, claim.request_hash, flight)
            return await self.of(payment, claim)
        except AegisPayError as error:
            logger.warning("%s of %s goes on without its caller: %s", claim.scope, payment.id, error.code)
        except Exception as error:  # noqa: BLE001 - as above; its text may quote a request
            logger.error("%s of %s broke off: %s", claim.scope, payment.id, type(error).__name__)
        return pending(payment, payment.operation(claim.operation_id), "in_progress")

    async def of(self, payment: Payment, claim: Claim) -> Result:
        """The answer for a claim. A final one is that of the version which made it final, whatever came later."""
        back = given_back(payment)
        if claim.scope == "payment":
            version = back.concluded_version if back else payment.answered_version
        else:
            operation = payment.operation(claim.operation_id)
            version = _concluded_version(payment, operation) if operation else 0
        if not version:
            return _current(payment, claim)
        if version != payment.version:
            payment = fold(await self._engine.store.load_events(payment.id, until_version=version))
        result = _current(payment, claim)
        if claim.digest and not result.is_pending():
            about = "" if claim.scope == "payment" else claim.operation_id
            self._flights.keep(claim.digest, claim.request_hash, result, about)
        return result

    async def follow(self, claim: Claim, asked: bytes, flight: Flight) -> Result:
        """The answer to a request that is claimed already: waits for it until the deadline, then says where it stands.

        Raises `IdempotencyConflict` where the claim stands for another request.
        """
        if claim.request_hash != asked:
            raise conflict(claim.payment_id)
        flight.payment_id = claim.payment_id
        return await self.wait_for(claim, flight.deadline)

    async def wait_for(self, claim: Claim, deadline: Deadline) -> Result:
        engine = self._engine
        tries = 0
        while True:
            payment = await engine.load(claim.payment_id)
            result = await self.of(payment, claim)
            tries += 1
            delay_s = _FOLLOW_RETRY.delay_s(tries, engine.ports.random)
            if (
                not result.is_pending()
                or payment.state is PaymentState.NEEDS_REVIEW
                or not deadline.allows(delay_s)
            ):
                return result
            await engine.ports.clock.sleep(delay_s)


def _concluded_version(payment: Payment, operation: Operation) -> int:
    """The version whose answer counts. A confirmation's answer is the payment's, unless the payer must act again."""
    if operation.kind is not OperationKind.CONFIRM or operation.code == ACTION_AGAIN:
        return operation.concluded_version
    if operation.status is OperationStatus.NOT_SENT or not operation.concluded_version:
        return operation.concluded_version
    return payment.answered_version


def _current(payment: Payment, claim: Claim) -> Result:
    operation = payment.operation(claim.operation_id)
    if claim.scope == "payment" or operation is None:
        return payment_result(payment)
    return operation_result(payment, operation)
