"""One row of a settlement report in our words, whatever PSP wrote it.

Knows neither CSV nor our books: layouts make lines, `matching` compares them.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from aegispay.domain.errors import InvalidRequest


class ReportError(InvalidRequest):
    """The settlement report cannot be read."""

    code = "invalid_report"


class Side(StrEnum):
    """Which way the money went."""

    TAKEN = "taken"
    REFUNDED = "refunded"


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One movement that the PSP reports, or a row that concerns no movement of ours (`side` is None)."""

    number: int
    """Where the row begins in the file, from 1."""
    type: str
    """The PSP's own word for it."""
    side: Side | None = None
    at_us: int = 0
    amount_minor: int = 0
    """In ISO 4217 minor units, positive in the side's own direction; negative where an earlier movement was taken back."""
    currency: str = ""
    fee_minor: int | None = None
    """What the PSP kept, in `fee_currency`; information only."""
    fee_currency: str = ""
    key: str = ""
    """The PSP's id of the row; empty where it gives none, and then the row's whole content stands for it."""
    payment_id: str = ""
    """Our id of the payment, where the report carries it."""
    operation_ids: tuple[str, ...] = ()
    """Our ids of the operation and of the attempt that it belongs to, where the report carries them."""
    reference: str = ""
    """The PSP's id of this movement."""
    payment_reference: str = ""
    """The PSP's id of the payment."""
    other_references: tuple[str, ...] = ()
    """Further ids by which the PSP knows the payment."""

    @property
    def references(self) -> tuple[str, ...]:
        """Every id of the PSP's that the row carries."""
        return tuple(one for one in (self.reference, self.payment_reference, *self.other_references) if one)


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """The time that a report covers, both ends included."""

    from_us: int
    until_us: int

    def holds(self, at_us: int) -> bool:
        return self.from_us <= at_us <= self.until_us
