"""The state machine, as one table of lettered edges.

The runtime check, the diagram in the documents and the exhaustive test are all derived from `EDGES`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from aegispay.domain.errors import IllegalTransition


class PaymentState(StrEnum):
    """Where a payment stands."""

    INITIATED = "initiated"
    REQUIRES_ACTION = "requires_action"
    AUTHENTICATED = "authenticated"
    PROCESSING = "processing"
    IN_DOUBT = "in_doubt"
    AUTHORIZED = "authorized"
    SUCCEEDED = "succeeded"
    PARTIALLY_REFUNDED = "partially_refunded"
    REFUNDED = "refunded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"
    NEEDS_REVIEW = "needs_review"
    DISPUTED = "disputed"

    @classmethod
    def _missing_(cls, value: object) -> PaymentState | None:
        """The mission's names are understood too: SUCCESS, FAILURE, COMPLETED."""
        return _SYNONYMS.get(str(value).lower())


S = PaymentState
_SYNONYMS = {"success": S.SUCCEEDED, "completed": S.SUCCEEDED, "failure": S.FAILED, "cancelled": S.CANCELED}

PAID = frozenset({S.SUCCEEDED, S.PARTIALLY_REFUNDED, S.REFUNDED})
"""Money was captured, and nothing more is expected."""
TERMINAL = PAID | {S.FAILED, S.CANCELED, S.EXPIRED}
"""Left only by a listed edge: a refund, a dispute, a review, a late success that is reversed."""
UNSETTLED = frozenset({S.INITIATED, S.REQUIRES_ACTION, S.AUTHENTICATED, S.PROCESSING, S.IN_DOUBT})
"""No final word yet on the first operation."""


class Edge(NamedTuple):
    """One allowed step, with the letter that the diagram shows and the reason."""

    letter: str
    source: PaymentState
    target: PaymentState
    event: str
    why: str


_GOES_ON = "operation_started operation_declined operation_not_sent operation_in_doubt operation_pending"
"""An operation begins, or has no effect, or has none yet."""
_ENDED_WITHOUT = "operation_declined operation_not_sent"
_OPEN = "processing in_doubt requires_action"
_SETTLED = "authorized succeeded partially_refunded refunded"
_OVER = "failed canceled expired"

_ROWS: tuple[tuple[str, str, str, str, str], ...] = (
    # letter, from, to, event types, why
    (
        "a",
        "initiated",
        "processing",
        "operation_started",
        "the first attempt is recorded before anything is sent",
    ),
    (
        *("b", "processing", "processing", f"{_ENDED_WITHOUT} operation_started operation_pending"),
        "an attempt had no effect and the next begins, or the PSP will answer later",
    ),
    ("c", "processing", "in_doubt", "operation_in_doubt", "no clear answer and no proof"),
    (
        *("d", "in_doubt", "processing", f"{_ENDED_WITHOUT} operation_pending"),
        "evidence: it had no effect, or the PSP works on it",
    ),
    ("e", "in_doubt", "authorized", "operation_approved", "evidence: it was authorised"),
    ("f", "in_doubt", "succeeded", "operation_approved", "evidence: it was captured"),
    ("g", _OPEN, "requires_action", "operation_requires_action", "the payer must authenticate"),
    (
        *("h", "processing in_doubt", "requires_action", "operation_not_sent"),
        "the confirmation never left: the payer's step can be completed again",
    ),
    ("i", "requires_action", "authenticated", "action_completed", "the payer came back"),
    (
        "j",
        "authenticated",
        "processing",
        "operation_started",
        "the confirmation is recorded before it is sent",
    ),
    ("k", "requires_action", "requires_action", _GOES_ON, "canceling while the payer acts"),
    (
        *("l", "requires_action", "processing", f"{_ENDED_WITHOUT} operation_pending"),
        "the payer acted and the PSP works on it, or the attempt ended",
    ),
    (
        "m",
        "processing requires_action",
        "authorized",
        "operation_approved",
        "the amount is reserved on the card",
    ),
    ("n", "processing requires_action", "succeeded", "operation_approved", "charged in one step"),
    (
        *("o", "authorized", "authorized", f"{_GOES_ON} operation_approved"),
        "a capture, void or refund begins or ends, with some of the amount still reserved",
    ),
    ("p", "authorized", "succeeded", "operation_approved", "captured in full, or the rest released"),
    (
        *("q", "authorized", "partially_refunded refunded", "operation_approved"),
        "captured or released in full, after some of the captured was refunded",
    ),
    (
        *("r", "authorized requires_action processing", "canceled", "operation_approved"),
        "voided before any capture, or before the payer's step took effect",
    ),
    (
        *("s", "authorized requires_action processing", "expired", "operation_approved"),
        "lapsed, and released at the PSP",
    ),
    ("t", "processing", "failed", "payment_failed", "every allowed attempt ended with a definitive no"),
    ("u", "succeeded", "succeeded", _GOES_ON, "a refund begins, or ends without effect"),
    (
        *("v", "succeeded partially_refunded", "partially_refunded refunded", "operation_approved"),
        "refunded",
    ),
    (
        "w",
        "partially_refunded",
        "partially_refunded",
        _GOES_ON,
        "another refund begins, or ends without effect",
    ),
    ("x", _SETTLED, "disputed", "dispute_opened", "the payer's bank disputes the charge"),
    ("y", "disputed", _SETTLED, "dispute_closed", "the last open dispute was decided"),
    ("z", _SETTLED, "=", "dispute_closed", "a dispute's end is heard of before its beginning"),
    (
        *("A", "disputed", "disputed", f"{_GOES_ON} operation_approved dispute_opened dispute_closed"),
        "an operation from before the dispute, or a reversal, goes on; another dispute comes or goes",
    ),
    (
        *("B", f"{_OPEN} {_SETTLED} {_OVER} disputed needs_review", "needs_review", "review_requested"),
        "evidence did not come in time, or contradicts: a person must look",
    ),
    (
        "C",
        "needs_review",
        "needs_review",
        f"{_GOES_ON} operation_approved operation_undone operation_requires_action late_success_found"
        " dispute_opened dispute_closed payment_failed",
        "evidence arrives while a person looks",
    ),
    ("D", "needs_review", f"{_OPEN} {_SETTLED} {_OVER} disputed", "review_closed", "the doubt is cleared"),
    (
        *("E", f"{_OPEN} {_SETTLED} {_OVER} disputed", "=", "late_success_found"),
        "an attempt that had ended turns out charged: it will be reversed",
    ),
    (
        *("F", f"{_OPEN} {_SETTLED} {_OVER}", "=", f"{_GOES_ON} operation_approved"),
        "the reversal of a late success, or a void beside an attempt that ended, goes on",
    ),
    (
        *("G", "canceled expired", "succeeded", "operation_approved"),
        "a capture at the dashboard is heard of after what it had left was released",
    ),
    (
        *("H", "refunded", "partially_refunded", "operation_approved"),
        "a capture at the dashboard is heard of after the rest was released there, and what we captured refunded",
    ),
)


def _edges() -> list[Edge]:
    found: list[Edge] = []
    for letter, sources, targets, events, why in _ROWS:
        for source in sources.split():
            for target in targets.split():
                end = source if target == "=" else target
                found.extend(Edge(letter, S(source), S(end), event, why) for event in events.split())
    return found


EDGES: tuple[Edge, ...] = tuple(_edges())
_ALLOWED = frozenset((edge.source, edge.event, edge.target) for edge in EDGES)


def check_transition(source: PaymentState, event: str, target: PaymentState) -> None:
    """Raises `IllegalTransition` where the table has no such edge."""
    if (source, event, target) not in _ALLOWED:
        raise IllegalTransition(f"no edge leads from {source} to {target} by {event}.")


def diagram() -> str:
    """The table as a Mermaid state diagram with its lettered edges."""
    lines = ["stateDiagram-v2", "    [*] --> initiated"]
    seen: set[tuple[str, str, str]] = set()
    for edge in EDGES:
        row = (edge.source.value, edge.target.value, edge.letter)
        if edge.letter not in "BCDEF" and row not in seen:
            seen.add(row)
            lines.append(f"    {row[0]} --> {row[1]} : {row[2]}")
    return "\n".join(lines)
