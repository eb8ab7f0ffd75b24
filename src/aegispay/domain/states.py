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


def _edges() -> list[Edge]:
    rows: list[tuple[str, str, str, str, str]] = [
        # letter, from, to, event types, why
        ("a", "initiated", "processing", "operation_started", "the first attempt is recorded before anything is sent"),
        ("b", "initiated", "failed", "payment_failed", "no gateway can take it"),
        ("c", "processing", "processing", "operation_declined operation_not_sent operation_started operation_pending", "an attempt ended with no effect and the next begins, or the PSP will answer later"),
        ("d", "processing", "in_doubt", "operation_in_doubt", "no clear answer and no proof"),
        ("e", "in_doubt", "in_doubt", "operation_in_doubt operation_declined operation_not_sent", "still no evidence; the parent of a doubtful confirmation may be named too"),
        ("f", "in_doubt", "processing", "operation_declined operation_not_sent operation_pending", "evidence: it had no effect, or the PSP works on it"),
        ("g", "in_doubt", "authorized", "operation_approved", "evidence: it was authorised"),
        ("h", "in_doubt", "succeeded", "operation_approved", "evidence: it was captured"),
        ("i", "processing requires_action in_doubt", "requires_action", "operation_requires_action", "the payer must authenticate"),
        ("j", "requires_action", "authenticated", "action_completed", "the payer came back"),
        ("k", "authenticated", "processing", "operation_started", "the confirmation is recorded before it is sent"),
        ("l", "requires_action", "requires_action", "operation_started operation_declined operation_not_sent operation_in_doubt operation_pending", "cancelling while the payer acts"),
        ("m", "requires_action", "processing", "operation_pending operation_declined operation_not_sent operation_in_doubt", "the payer acted and the PSP works on it, or the attempt ended"),
        ("n", "processing requires_action", "authorized", "operation_approved", "the amount is reserved on the card"),
        ("o", "processing requires_action", "succeeded", "operation_approved", "charged in one step"),
        ("p", "authorized", "authorized", "operation_started operation_approved operation_declined operation_not_sent operation_in_doubt operation_pending", "a capture or void begins or ends, with some of the amount still reserved"),
        ("q", "authorized", "succeeded", "operation_approved", "captured in full, or the rest released"),
        ("r", "authorized", "partially_refunded refunded", "operation_approved", "the rest is released after some of the captured was refunded"),
        ("s", "authorized requires_action", "canceled", "operation_approved", "voided before any capture"),
        ("t", "authorized requires_action", "expired", "operation_approved", "lapsed, and released at the PSP"),
        ("u", "processing", "failed", "payment_failed", "every allowed attempt ended with a definitive no"),
        ("v", "succeeded", "succeeded", "operation_started operation_declined operation_not_sent operation_in_doubt operation_pending", "a refund begins, or ends without effect"),
        ("w", "succeeded partially_refunded", "partially_refunded refunded", "operation_approved", "refunded"),
        ("x", "partially_refunded", "partially_refunded", "operation_started operation_declined operation_not_sent operation_in_doubt operation_pending", "another refund begins, or ends without effect"),
        ("y", "succeeded partially_refunded refunded", "disputed", "dispute_opened", "the payer's bank disputes the charge"),
        ("z", "disputed", "succeeded partially_refunded refunded", "dispute_closed", "the dispute was decided"),
        ("A", "disputed", "disputed", "operation_approved operation_declined operation_not_sent operation_in_doubt operation_pending late_success_found operation_started", "an operation from before the dispute ends"),
        ("B", "processing in_doubt requires_action authorized succeeded partially_refunded refunded failed canceled expired disputed needs_review", "needs_review", "review_requested", "evidence did not come in time, or contradicts: a person must look"),
        ("C", "needs_review", "needs_review", "operation_started operation_approved operation_declined operation_not_sent operation_in_doubt operation_pending operation_requires_action late_success_found dispute_opened dispute_closed payment_failed", "evidence arrives while a person looks"),
        ("D", "needs_review", "processing in_doubt requires_action authorized succeeded partially_refunded refunded failed canceled expired disputed", "review_closed", "the doubt is cleared"),
        ("E", "processing in_doubt requires_action authorized succeeded partially_refunded refunded failed canceled expired", "=", "late_success_found", "an attempt that had ended turns out charged: it will be reversed"),
        ("F", "succeeded partially_refunded refunded failed canceled expired processing in_doubt requires_action authorized", "=", "operation_started operation_approved operation_declined operation_not_sent operation_in_doubt operation_pending", "the compensating operation for a late success"),
    ]  # fmt: skip
    found: list[Edge] = []
    for letter, sources, targets, events, why in rows:
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
