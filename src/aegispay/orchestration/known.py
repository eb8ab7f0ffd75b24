"""What is known of an operation: an outcome with the evidence for it, and how much a gateway's word is worth."""

from __future__ import annotations

from typing import NamedTuple

from aegispay.domain.outcomes import (
    Approved,
    Declined,
    Evidence,
    NotSent,
    Outcome,
    Pending,
    RequiresAction,
)
from aegispay.domain.payment import Operation, OperationStatus

NOT_FOUND = "not_found"
"""The reason of a `NotSent` that rests on a look-up which found nothing."""
PERSON = "person"
"""The reason of a `NotSent` that rests on a person's word."""
ACTION_EXPIRED = "action_expired"
"""The code of a payment whose payer did not act in time at a gateway that can cancel nothing."""


class Known(NamedTuple):
    outcome: Outcome
    evidence: Evidence

    def is_news_of(self, operation: Operation) -> bool:
        """Whether it says more than that the operation is still pending."""
        return not (isinstance(self.outcome, Pending) and operation.status is OperationStatus.PENDING)


def is_evidence(outcome: Outcome) -> bool:
    """Whether a gateway's answer says what became of an operation."""
    if isinstance(outcome, Declined):
        return outcome.code != "idempotency_conflict"
    return isinstance(outcome, Approved | RequiresAction | Pending)


def is_weak(outcome: Outcome) -> bool:
    """Whether an end without effect is believed only as long as nothing else turns up."""
    if isinstance(outcome, NotSent):
        return outcome.reason in (NOT_FOUND, PERSON)
    return isinstance(outcome, Declined) and outcome.code == ACTION_EXPIRED
