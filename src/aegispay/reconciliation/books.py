"""What our books say that one gateway moved for one payment: what a settlement report is compared with.

Pure. It leaves out authorisations and voids: money that was only reserved is in no settlement report.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from aegispay.domain.events import OperationKind
from aegispay.domain.external import DISPUTE_LOST
from aegispay.domain.payment import UNFINISHED, Operation, OperationStatus, Payment
from aegispay.reconciliation.lines import Side


class Standing(StrEnum):
    """What we hold of a movement."""

    DONE = "done"
    OPEN = "open"
    """Under way or in doubt."""
    NOT_DONE = "not_done"
    """Declined, or proven not sent."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One operation that moved money, or may have."""

    operation_id: str
    side: Side
    standing: Standing
    amount_minor: int
    started_at_us: int
    attempt_id: str
    """The attempt that it belongs to: itself, for a charge."""
    reference: str = ""
    charge: bool = False
    """Whether it is an attempt that was to be captured at once."""
    expected: bool = True
    """Whether its absence from the report is a difference."""


class Books(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One payment at one gateway."""

    payment_id: str
    currency: str
    entries: tuple[Entry, ...] = ()
    attempts: dict[str, str] = msgspec.field(default_factory=dict)
    """Our id of each attempt at this gateway, and the PSP's id of it, empty while unknown."""
    names: tuple[str, ...] = ()
    """Every id by which a report may name this payment."""
    winner_here: bool = False
    """Whether the approved attempt is at this gateway: only then can a refund made outside belong to the payment."""


def books_of(payment: Payment, gateway: str) -> Books:
    """The payment's books at one gateway."""
    own = [op for op in payment.operations if op.gateway == gateway]
    attempts = {op.id: op.reference or "" for op in own if op.attempt}
    names = dict.fromkeys(op.id for op in own)
    names.update(dict.fromkeys(op.reference for op in own if op.reference))
    winner = payment.winner
    return Books(
        payment_id=payment.id,
        currency=payment.currency,
        entries=tuple(entry for op in own if (entry := _entry(payment, op)) is not None),
        attempts=attempts,
        names=tuple(names),
        winner_here=winner is not None and winner.gateway == gateway,
    )


def _entry(payment: Payment, op: Operation) -> Entry | None:
    parent = payment.operation(op.parent_id) if op.parent_id else None
    expected = True
    if op.kind is OperationKind.CHARGE or op.kind is OperationKind.CAPTURE:
        side = Side.TAKEN
    elif op.kind is OperationKind.REFUND and op.reason == DISPUTE_LOST and op.compensates:
        return None  # A report has a chargeback, and no refund.
    elif op.kind is OperationKind.REFUND:
        side = Side.REFUNDED
    elif op.kind is OperationKind.VOID and parent is not None and parent.kind is OperationKind.CHARGE:
        # The void of a charge that went through may have given money back, or have come before there was any.
        side, expected = Side.REFUNDED, False
    else:
        return None
    attempt = op if op.attempt else parent
    return Entry(
        operation_id=op.id,
        side=side,
        standing=_standing(op),
        amount_minor=_amount_minor(payment, op),
        started_at_us=op.started_at_us,
        attempt_id=attempt.id if attempt else "",
        reference=op.reference or "",
        charge=op.kind is OperationKind.CHARGE,
        expected=expected,
    )


def _standing(op: Operation) -> Standing:
    if op.status in UNFINISHED:
        return Standing.OPEN
    if op.status in (OperationStatus.DECLINED, OperationStatus.NOT_SENT):
        return Standing.NOT_DONE
    return Standing.DONE


def _amount_minor(payment: Payment, op: Operation) -> int:
    """What was moved, as far as we know. An operation keeps the amount that it asked for, and the payment what was taken."""
    if op.status in (OperationStatus.UNWANTED, OperationStatus.REVERSED):
        return op.taken_minor
    if op.status is not OperationStatus.APPROVED or op.compensates:
        return op.amount_minor
    alike = [one for one in payment.operations if _counts_as(one, op)]
    if len(alike) != 1:
        return op.amount_minor
    if op.kind is OperationKind.REFUND:
        return payment.refunded_minor or op.amount_minor
    if op.kind in (OperationKind.CHARGE, OperationKind.CAPTURE):
        return payment.captured_minor or op.amount_minor
    return op.amount_minor


def _counts_as(one: Operation, op: Operation) -> bool:
    return one.kind is op.kind and one.status is OperationStatus.APPROVED and not one.compensates
