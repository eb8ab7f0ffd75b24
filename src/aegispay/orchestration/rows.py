"""The in-flight rows of operations: which row one has while it is called, and what of it falls due after that.

It only makes rows; they are stored by the commits that they belong to.
"""

from __future__ import annotations

from msgspec.structs import replace

from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import Outcome
from aegispay.domain.payment import Operation, OperationStatus, Payment, settled_state
from aegispay.domain.states import PaymentState
from aegispay.gateways.registry import GatewayRegistry
from aegispay.orchestration.known import is_weak
from aegispay.orchestration.settings import Settings
from aegispay.ports import Ports
from aegispay.storage.store import InFlight, Purpose

_FENCE_STEP = 1_000_000
"""Fences of rows opened later in a payment's life lie above any that takeovers can reach."""
NEVER_SENT = -1
"""`InFlight.sent_at_us` of an operation of which nothing has left yet: whoever takes it up makes the first send."""


class Rows:
    """Makes the rows for one running instance, whose name and clock they carry."""

    def __init__(self, registry: GatewayRegistry, ports: Ports, settings: Settings):
        self._registry = registry
        self._clock = ports.clock
        self._instance = ports.instance
        self._settings = settings

    def new(self, payment: Payment, operation_id: str, gateway: str) -> InFlight:
        """The row of an operation that starts with this version of the payment: our lease on it."""
        now_us = self._clock.now_us()
        return InFlight(
            operation_id=operation_id,
            payment_id=payment.id,
            gateway=gateway,
            purpose=Purpose.CALL,
            due_at_us=now_us + int(self._settings.lease_s * 1_000_000),
            owner=self._instance,
            fence=payment.version * _FENCE_STEP,
            sent_at_us=now_us,
        )

    def leased(self, row: InFlight) -> InFlight:
        """The same row with our lease running from now."""
        return replace(row, due_at_us=self._in_us(self._settings.lease_s), owner=self._instance)

    def after(self, payment: Payment, row: InFlight, outcome: Outcome) -> InFlight | None:
        """The row that the operation has after its outcome, or None."""
        operation = payment.operation(row.operation_id)
        if operation is None:
            return None
        if operation.status is OperationStatus.REQUIRES_ACTION:
            return row if row.purpose is Purpose.ACTION else self.waiting_for_payer(row)
        if operation.unfinished:
            return self.leased(replace(row, purpose=Purpose.CALL))
        lapsing = self.lapsing(payment, operation, row)
        if lapsing is not None:
            return lapsing
        # Captures and refunds are watched too: nothing is reversed then, but our books must follow the gateway's.
        if is_weak(outcome) and row.purpose is not Purpose.WATCH:
            return _due(row, Purpose.WATCH, self._in_us(self._settings.watch_after_s))
        return None

    def waiting_for_payer(self, row: InFlight) -> InFlight:
        """The row of an operation that the payer has to act on, until their time is up."""
        return _due(row, Purpose.ACTION, self._in_us(self._settings.action_timeout_s))

    def lapsing(self, payment: Payment, operation: Operation, row: InFlight) -> InFlight | None:
        """The row of an approved authorisation until it lapses, or None."""
        # While a person looks, or the bank disputes, the authorisation lapses all the same.
        held = payment.authorized_minor and settled_state(payment) is PaymentState.AUTHORIZED
        if not held or operation.status is not OperationStatus.APPROVED:
            return None
        first = operation.attempt or operation.kind is OperationKind.CONFIRM
        expires_at_us = payment.expires_at_us or self._default_expiry(operation)
        if not first or expires_at_us is None:
            return None
        return _due(row, Purpose.EXPIRY, expires_at_us)

    def reopened(self, payment: Payment) -> InFlight | None:
        """The row of an authorisation that is open again, until it lapses; None where none is."""
        winner = payment.winner
        if winner is None:
            return None
        return self.lapsing(payment, winner, self.new(payment, winner.id, winner.gateway))

    def _default_expiry(self, operation: Operation) -> int | None:
        gateway = self._registry.find(operation.gateway)
        ttl_s = gateway.capabilities.authorization_ttl_s if gateway else None
        return None if ttl_s is None else self._in_us(ttl_s)

    def _in_us(self, delay_s: float) -> int:
        return self._clock.now_us() + int(delay_s * 1_000_000)


def unleased(payment: Payment, operation: Operation) -> InFlight:
    """Stands in for the row of an operation that nobody works on any more; it carries no lease."""
    return InFlight(
        operation_id=operation.id,
        payment_id=payment.id,
        gateway=operation.gateway,
        purpose=Purpose.WATCH,
        due_at_us=0,
        owner="",
        fence=0,
        sent_at_us=operation.started_at_us,
    )


def _due(row: InFlight, purpose: Purpose, due_at_us: int) -> InFlight:
    """Nobody's row, to be taken up when it is due."""
    return replace(row, purpose=purpose, due_at_us=due_at_us, owner="", tries=0)
