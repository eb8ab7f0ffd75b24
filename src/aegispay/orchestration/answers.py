"""Answers to claimed requests: computed from the stored events, so that a replay gives the same bytes in any process."""

from __future__ import annotations

from aegispay.domain.evolve import fold
from aegispay.domain.payment import Payment
from aegispay.domain.states import PaymentState
from aegispay.orchestration.engine import Engine
from aegispay.orchestration.flights import Flight, Flights, conflict
from aegispay.orchestration.results import Result, operation_result, payment_result
from aegispay.resilience.deadline import Deadline
from aegispay.resilience.retry import RetryPolicy
from aegispay.storage.store import Claim

_FOLLOW_RETRY = RetryPolicy(attempts_max=1_000_000, initial_delay_s=0.02, delay_max_s=0.5)


class Answers:
    """Finds the answer to a claim, and follows work that somebody else does."""

    def __init__(self, engine: Engine, flights: Flights):
        self._engine = engine
        self._flights = flights

    async def of(self, payment: Payment, claim: Claim) -> Result:
        """The answer for a claim. A final one is that of the version which made it final, whatever came later."""
        if claim.scope == "payment":
            version = payment.answered_version
        else:
            operation = payment.operation(claim.operation_id)
            version = operation.concluded_version if operation else 0
        if not version:
            return _current(payment, claim)
        if version != payment.version:
            payment = fold(await self._engine.store.load_events(payment.id, until_version=version))
        result = _current(payment, claim)
        if claim.digest and not result.is_pending():
            self._flights.keep(claim.digest, claim.request_hash, result)
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


def _current(payment: Payment, claim: Claim) -> Result:
    operation = payment.operation(claim.operation_id)
    if claim.scope == "payment" or operation is None:
        return payment_result(payment)
    return operation_result(payment, operation)
