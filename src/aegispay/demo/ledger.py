"""What happened at each PSP, counted from the events of all payments: the log itself is asked, not a counter."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from aegispay.domain.events import (
    Event,
    OperationApproved,
    OperationDeclined,
    OperationInDoubt,
    OperationNotSent,
    OperationRequiresAction,
    OperationStarted,
)
from aegispay.domain.outcomes import Evidence
from aegispay.domain.payment import Payment
from aegispay.sandbox.courier import CourierReport

PAYER = "payer"


class PspRow(msgspec.Struct, kw_only=True):
    """One PSP in the run."""

    paid: int = 0
    """Payments that it took or authorised in the end."""
    operations: int = 0
    """What was asked of it: charges, authorisations, captures, voids, refunds."""
    faults: int = 0
    """Faults that struck there."""
    doubts: int = 0
    """Operations of which nobody could tell, for a while, what had become of them."""
    resolved: dict[str, int] = msgspec.field(default_factory=dict)
    """How those ended, by the kind of evidence; or `payer`: it turned out that the payer must act."""
    told_by_webhook: int = 0
    """Operations, in doubt or pending, whose outcome came by webhook."""
    webhooks: CourierReport = msgspec.field(default_factory=CourierReport)

    def count(self, how: str) -> None:
        """One more doubt has ended."""
        self.resolved[how] = self.resolved.get(how, 0) + 1

    @property
    def resolved_sum(self) -> int:
        return sum(self.resolved.values())


class Ledger:
    """`add` each payment with its events, then read `rows`."""

    def __init__(self, psps: Iterable[str]) -> None:
        self.rows = {name: PspRow() for name in psps}

    def add(self, payment: Payment, events: Iterable[Event]) -> None:
        if payment.winner is not None:
            self.rows[payment.winner.gateway].paid += 1
        gateways: dict[str, str] = {}
        doubted: set[str] = set()
        for event in events:
            data = event.data
            if isinstance(data, OperationStarted):
                gateways[data.operation_id] = data.gateway
                self.rows[data.gateway].operations += 1
            elif isinstance(data, OperationInDoubt):
                if data.operation_id not in doubted:
                    self.rows[gateways[data.operation_id]].doubts += 1
                doubted.add(data.operation_id)
            elif isinstance(data, OperationApproved | OperationDeclined | OperationNotSent):
                row = self.rows[gateways[data.operation_id]]
                row.told_by_webhook += data.evidence is Evidence.WEBHOOK
                if data.operation_id in doubted:
                    doubted.discard(data.operation_id)
                    row.count(data.evidence.value)
            elif isinstance(data, OperationRequiresAction) and data.operation_id in doubted:
                doubted.discard(data.operation_id)
                self.rows[gateways[data.operation_id]].count(PAYER)
