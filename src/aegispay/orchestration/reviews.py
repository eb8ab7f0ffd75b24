"""A person ends a review: what they found goes into the audit trail, and the payment goes on from where it stands."""

from __future__ import annotations

from aegispay.domain import commands as cmd
from aegispay.domain.errors import InvalidRequest, InvalidState, StaleFence, VersionConflict
from aegispay.domain.payment import Operation, OperationStatus, Payment
from aegispay.orchestration.engine import Engine
from aegispay.orchestration.persons_word import PersonsWord, Word, named_by_review
from aegispay.orchestration.requests import check_text
from aegispay.storage.store import Guard

REASON_LENGTH_MAX = 255
_TRIES_MAX = 100


def check_reason(reason: object) -> str:
    """Why a review is closed: the audit trail is worth nothing without it. Raises `InvalidRequest`."""
    text = check_text("reason", reason, REASON_LENGTH_MAX)
    if text is None or not text.strip():
        raise InvalidRequest("a review is closed with a reason.", hint="Say who looked, and what they found.")
    return text.strip()


class Reviews:
    """Closes reviews for callers."""

    def __init__(self, engine: Engine):
        self._engine = engine
        self._persons_word = PersonsWord(engine)

    async def close(self, payment: Payment, reason: str, word: Word) -> Payment:
        """The payment after the review; as it is where none is open. Raises the domain's refusals with nothing written."""
        asked = payment.review
        text = f"person: {check_reason(reason)}"
        for _ in range(_TRIES_MAX):
            if payment.review is None and not word.ends_doubt:
                return payment
            if payment.review not in (None, asked):
                raise InvalidState(
                    f"{payment.id} is now in review for another reason: {payment.review}.",
                    payment_id=payment.id,
                    hint="Look at it again, and then close that.",
                )
            try:
                if word.ends_doubt:
                    return await self._persons_word.recorded(payment, word, text)
                payment = await self._step(payment, text, word.reversed_by_hand)
            except (VersionConflict, StaleFence):
                payment = await self._engine.journal.load(payment.id)
        raise VersionConflict(payment_id=payment.id)

    async def _step(self, payment: Payment, reason: str, by_hand: bool) -> Payment:
        """One commit. A reversal of ours that is under way is taken over under its fence, and a commit has one guard."""
        engine = self._engine
        draft = engine.journal.draft(payment)
        under_way = [op for op in payment.operations if op.compensates and op.unfinished] if by_hand else []
        guard = await self._taken_over(under_way[0]) if under_way else None
        if by_hand:
            self._check_reversed(payment)
            owed = [op.id for op in payment.operations if op.status is OperationStatus.UNWANTED]
            if len(under_way) > 1:
                owed = [under_way[0].parent_id or ""]
            for target_id in owed:
                operation_id = engine.journal.new_operation_id()
                draft.apply(cmd.RecordReversed(target_id=target_id, operation_id=operation_id))
        if len(under_way) <= 1:
            events = await engine.store.load_events(payment.id, until_version=payment.version)
            draft.apply(cmd.CloseReview(reason=reason, operation_id=named_by_review(events)))
        return await engine.journal.commit(draft, guard=guard)

    def _check_reversed(self, payment: Payment) -> None:
        reversible = (OperationStatus.UNWANTED, OperationStatus.REVERSED)
        if not any(op.status in reversible for op in payment.operations):
            raise InvalidState(
                f"{payment.id} has no success that nobody wanted, so nothing was to be reversed.",
                payment_id=payment.id,
                hint="Close the review without `reversed_by_hand`.",
            )

    async def _taken_over(self, reversal: Operation) -> Guard | None:
        """The guard that keeps every worker from sending the reversal that a person has made."""
        row = await self._engine.leases.waiting(reversal)
        return None if row is None else Guard(operation_id=row.operation_id, fence=row.fence)
