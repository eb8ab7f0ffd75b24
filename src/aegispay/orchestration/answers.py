"""Answers to claimed requests: computed from the stored events, so that a replay gives the same bytes in any process."""

from __future__ import annotations

import logging
from collections.abc import Awaitable

from aegispay.domain.errors import AegisPayError, StaleFence
from aegispay.domain.events import Event, OperationKind
from aegispay.domain.evolve import evolve, fold
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
        begun = payment.version
        try:
            try:
                payment = await work
            except StaleFence:
                return await self.follow(claim, claim.request_hash, flight)
            return await self.of(payment, claim, begun)
        except AegisPayError as error:
            logger.warning("%s of %s goes on without its caller: %s", claim.scope, payment.id, error.code)
        except Exception as error:  # noqa: BLE001 - as above; its text may quote a request
            logger.error("%s of %s broke off: %s", claim.scope, payment.id, type(error).__name__)
        return pending(payment, payment.operation(claim.operation_id), "in_progress")

    async def of(self, payment: Payment, claim: Claim, begun: int = 0) -> Result:
        """The answer for a claim. A final one is that of the version which first made it final, whatever came later.

        `begun` is the version at which the caller's own work began, if it is known.
        """
        ending = _ending(payment, claim)
        version = ending.concluded_version if ending else payment.answered_version
        if not version or (ending is not None and not _ended(payment, ending)):
            return _current(payment, claim)
        if ending is not None and version != begun + 1:
            # It may have ended more than once: a refund that failed after all, a capture found after it was given up.
            # A confirmation that ends while a person looks is answered by where that leaves the payment.
            until = payment.version if ending.kind is OperationKind.CONFIRM else version
            events = await self._engine.store.load_events(payment.id, until_version=until)
            told = _told(events, ending.id)
            if told is None:
                return _current(payment, claim)
            payment = told
        elif version != payment.version:
            payment = fold(await self._engine.store.load_events(payment.id, until_version=version))
        result = _current(payment, claim)
        # A no to a follow-up may turn out to be wrong: each asks the store for it.
        if claim.digest and not result.is_pending() and (claim.scope == "payment" or not result.is_failure()):
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
            payment = await engine.journal.load(claim.payment_id)
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


def _ending(payment: Payment, claim: Claim) -> Operation | None:
    """The operation with whose end the answer became final; None where the payment's own answer counts."""
    operation = payment.operation(claim.operation_id)
    if claim.scope != "payment" and operation is not None and not _is_the_payments(operation):
        return operation
    # Nobody may ship on a success whose money goes back: the answer is final once that is done.
    return given_back(payment)


def _is_the_payments(operation: Operation) -> bool:
    """Whether the answer is the payment's: that of a confirmation, unless it left the payer's step to be done again."""
    if operation.kind is not OperationKind.CONFIRM or operation.code == ACTION_AGAIN:
        return False
    return operation.status is not OperationStatus.NOT_SENT and bool(operation.concluded_version)


def _ended(payment: Payment, operation: Operation) -> bool:
    """Whether its end is an answer. That of the policy's own refund or void is one only where it was done."""
    if not operation.concluded_version:
        return False
    back = given_back(payment)
    if back is None or back.id != operation.id:
        return True
    return back.status is OperationStatus.APPROVED or back.undone


def _told(events: list[Event], operation_id: str) -> Payment | None:
    """The payment as it was when this operation was first done, or else when it first ended; None while a person looks who
    was asked what became of a confirmation.

    A yes stays, for somebody acted on it. A no that was wrong does not: whoever heard it again would do it a second time.
    """
    payment: Payment | None = None
    first: Payment | None = None
    for event in events:
        payment = evolve(payment, event)
        operation = payment.operation(operation_id)
        if operation is None or not _ended(payment, operation):
            continue
        if operation.kind is OperationKind.CONFIRM and payment.state is PaymentState.NEEDS_REVIEW:
            continue
        first = first or payment
        if operation.status is OperationStatus.APPROVED:
            return payment
    return first


def _current(payment: Payment, claim: Claim) -> Result:
    operation = payment.operation(claim.operation_id)
    if claim.scope == "payment" or operation is None:
        return payment_result(payment)
    return operation_result(payment, operation)
