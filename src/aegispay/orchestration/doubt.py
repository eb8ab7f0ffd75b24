"""What the merchant's policy makes follow a success that was in doubt, whichever evidence tells of it."""

from __future__ import annotations

from collections.abc import Callable

from aegispay.domain import commands as cmd
from aegispay.domain.events import CaptureMode, OperationKind
from aegispay.domain.outcomes import Approved, Evidence
from aegispay.domain.payment import OperationStatus, Payment
from aegispay.domain.record import addressed
from aegispay.orchestration.settings import AFTER_DOUBT, DoubtPolicy
from aegispay.storage.store import InFlight, Purpose

Reversal = cmd.StartVoid | cmd.StartRefund
"""How a success is taken back."""

_DOUBTFUL = frozenset({OperationStatus.STARTED, OperationStatus.IN_DOUBT})
"""What its own call left without an answer. Where the gateway said that it would take its time, nobody was in doubt."""

_LEASES_MAX = 10
"""No instance's lease is so many times as long as ours: their settings and clocks differ, but not by that."""


def asks_person() -> cmd.RequestReview:
    """A person decides."""
    return cmd.RequestReview(reason=AFTER_DOUBT)


def after_doubt(
    policy: DoubtPolicy,
    payment: Payment,
    learnt: cmd.RecordOutcome,
    new_operation_id: Callable[[], str],
) -> Reversal | cmd.RequestReview | None:
    """What follows in the same commit when a first operation in doubt turns out to have succeeded, and nobody waits.

    The operation's own reply is no such evidence: it was never in doubt then.
    """
    if policy is DoubtPolicy.HOLD or not isinstance(learnt.outcome, Approved):
        return None
    operation = addressed(payment, learnt)
    first = operation.attempt or operation.kind is OperationKind.CONFIRM
    if not first or operation.status not in _DOUBTFUL or learnt.evidence is Evidence.REPLY:
        return None
    if policy is DoubtPolicy.REVIEW:
        return asks_person()
    if payment.capture is CaptureMode.AUTOMATIC:
        return cmd.StartRefund(operation_id=new_operation_id(), reason=AFTER_DOUBT)
    return cmd.StartVoid(operation_id=new_operation_id(), reason=AFTER_DOUBT)


def is_served(row: InFlight, now_us: int, lease_s: float) -> bool:
    """Whether a caller waits for this operation: the lease is that of the instance that began it, and still runs."""
    return not row.tries and is_at_work(row, now_us, lease_s)


def is_at_work(row: InFlight, now_us: int, lease_s: float) -> bool:
    """Whether somebody, a caller's instance or the recovery worker, holds a lease on its call that still runs."""
    # A lease that ends later than any can was written under a clock that ran ahead: its owner serves nobody any more.
    longest_us = now_us + int(_LEASES_MAX * lease_s * 1_000_000)
    return row.purpose is Purpose.CALL and bool(row.owner) and now_us < row.due_at_us <= longest_us
