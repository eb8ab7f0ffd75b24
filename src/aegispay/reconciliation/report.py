"""What a reconciliation came to: findings, counts and totals. Pure; bounded, however many differences there are."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from aegispay.reconciliation.lines import Side, Window

DIFFERENCES_LISTED_MAX = 10_000
TYPES_LISTED_MAX = 200


class Kind(StrEnum):
    """What a comparison of one movement came to."""

    MATCHED = "matched"
    AMOUNT_DIFFERS = "amount_differs"
    CURRENCY_DIFFERS = "currency_differs"
    MISSING_HERE = "missing_here"
    """The PSP moved money that we know nothing of."""
    MISSING_THERE = "missing_there"
    """We recorded it within the report's time, and the report does not have it."""
    DOUBT_RESOLVED = "doubt_resolved"
    """We did not know; the report shows that it was done."""
    STILL_IN_DOUBT = "still_in_doubt"
    """We do not know, and the report does not have it. That proves nothing."""
    LATE_SUCCESS = "late_success"
    """We held it for not done; the report shows that it was."""
    EXTERNAL_REFUND = "external_refund"
    """A refund that was made outside of us."""
    REFUND_FAILED = "refund_failed"
    """We recorded a refund that came back to the PSP."""


class RecordDone(msgspec.Struct, frozen=True, kw_only=True):
    """The operation was done: this is the evidence."""

    operation_id: str
    reference: str
    amount_minor: int


class RecordRefund(msgspec.Struct, frozen=True, kw_only=True):
    """A refund that our books lack."""

    reference: str
    amount_minor: int


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One movement, compared."""

    kind: Kind
    side: Side
    currency: str
    payment_id: str = ""
    operation_id: str = ""
    reference: str = ""
    line: int = 0
    """Where it stands in the file; 0 where it does not."""
    ours_minor: int | None = None
    theirs_minor: int | None = None
    detail: str = ""
    action: RecordDone | RecordRefund | None = None
    """What `--apply` records."""
    applied: str = ""
    """`recorded`, or why it was not; empty where nothing was tried."""

    @property
    def settled(self) -> bool:
        """Whether the books agree about it now."""
        return self.kind is Kind.MATCHED or self.applied == RECORDED

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.to_builtins(self)
        found.pop("action")
        return {**found, "can_be_applied": self.action is not None}


RECORDED = "recorded"


class Totals(msgspec.Struct, kw_only=True):
    """Sums in one currency, integer minor units. Ours are of what was compared: found in the file, or of its time."""

    ours_taken_minor: int = 0
    theirs_taken_minor: int = 0
    ours_refunded_minor: int = 0
    theirs_refunded_minor: int = 0

    @property
    def agree(self) -> bool:
        return (self.ours_taken_minor, self.ours_refunded_minor) == (
            self.theirs_taken_minor,
            self.theirs_refunded_minor,
        )


class Report(msgspec.Struct, kw_only=True):
    """The whole reconciliation."""

    gateway: str
    layout: str = ""
    applied: bool = False
    window: Window | None = None
    rows: int = 0
    """Rows of the file that are not empty."""
    rows_repeated: int = 0
    """Rows that stood in the file before, word for word; they count once."""
    rows_of_other_types: dict[str, int] = msgspec.field(default_factory=dict)
    """Rows that are no capture or refund, by the PSP's own type: fees, payouts, disputes."""
    counts: dict[Kind, int] = msgspec.field(default_factory=lambda: dict.fromkeys(Kind, 0))
    totals: dict[str, Totals] = msgspec.field(default_factory=dict)
    fees_minor: dict[str, int] = msgspec.field(default_factory=dict)
    differences: list[Finding] = msgspec.field(default_factory=list)
    differences_left_off: int = 0
    unsettled: int = 0
    """Differences that stand: those that were not recorded."""

    @property
    def ok(self) -> bool:
        return not self.unsettled

    def add(self, finding: Finding) -> None:
        """Counts a finding, and keeps it where it is a difference."""
        self.counts[finding.kind] += 1
        totals = self.totals.setdefault(finding.currency, Totals())
        ours = finding.ours_minor or 0
        if finding.kind in _NOT_OURS and finding.applied != RECORDED:
            ours = 0
        if finding.side is Side.TAKEN:
            totals.ours_taken_minor += ours
        else:
            totals.ours_refunded_minor += ours
        if finding.kind is Kind.MATCHED:
            return
        self.unsettled += not finding.settled
        if len(self.differences) < DIFFERENCES_LISTED_MAX:
            self.differences.append(finding)
        else:
            self.differences_left_off += 1

    def add_theirs(self, side: Side, currency: str, amount_minor: int) -> None:
        totals = self.totals.setdefault(currency, Totals())
        if side is Side.TAKEN:
            totals.theirs_taken_minor += amount_minor
        else:
            totals.theirs_refunded_minor += amount_minor

    def add_fee(self, currency: str, fee_minor: int) -> None:
        self.fees_minor[currency] = self.fees_minor.get(currency, 0) + fee_minor

    def add_other(self, kind: str) -> None:
        known = kind in self.rows_of_other_types or len(self.rows_of_other_types) < TYPES_LISTED_MAX
        name = kind[:60] if known else "..."
        self.rows_of_other_types[name] = self.rows_of_other_types.get(name, 0) + 1

    def to_dict(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        found["differences"] = [one.to_dict() for one in self.differences]
        return {**found, "ok": self.ok}


_NOT_OURS = frozenset({Kind.DOUBT_RESOLVED, Kind.STILL_IN_DOUBT, Kind.LATE_SUCCESS, Kind.EXTERNAL_REFUND})
"""Movements that stand in our books only once they were recorded."""
