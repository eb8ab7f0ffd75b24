"""Asks a person about an operation of which recovery cannot learn enough by itself."""

from __future__ import annotations

from aegispay.domain import commands as cmd
from aegispay.domain.errors import VersionConflict
from aegispay.domain.payment import Operation, OperationStatus, Payment
from aegispay.domain.states import PaymentState
from aegispay.orchestration.journal import Journal
from aegispay.ports import Ports
from aegispay.storage.store import Guard, InFlight

REVIEWED_INTERVAL_S = 3600.0
"""How often an operation that a person should look at is still looked for."""


class Questions:
    """Asks for the recovery worker, under its lease."""

    def __init__(self, journal: Journal, ports: Ports):
        self._journal = journal
        self._clock = ports.clock

    def age_s(self, operation: Operation) -> float:
        """No more than its true age, whatever was done to the clock: nobody is asked too early."""
        return (self._clock.earliest_us() - operation.started_at_us) / 1_000_000

    async def ask_a_person(
        self, payment: Payment, operation: Operation, row: InFlight, reason: str
    ) -> Payment:
        """Asks a person, unless what called for it has changed meanwhile: then the payment comes back as it is now."""
        called_for = _standing(payment, operation)
        while True:
            draft = self._journal.draft(payment)
            draft.apply(cmd.RequestReview(reason=reason, operation_id=operation.id))
            guard = Guard(operation_id=row.operation_id, fence=row.fence, keep=row)
            try:
                return await self._journal.commit(draft, guard=guard)
            except VersionConflict:
                payment = await self._journal.load(payment.id)
                if payment.review is not None or _standing(payment, operation) != called_for:
                    return payment


def _standing(payment: Payment, operation: Operation) -> tuple[PaymentState, OperationStatus | None]:
    """What a person is asked about: while it stays, so does the question."""
    now = payment.operation(operation.id)
    return payment.state, now.status if now is not None else None
