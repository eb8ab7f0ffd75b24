"""The record of an outcome: what was learnt, and in the same commit whatever follows from it.

It decides nothing about money: `domain.decide` does.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from aegispay.domain import commands as cmd
from aegispay.domain.errors import InvalidState, VersionConflict
from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import Evidence, Outcome
from aegispay.domain.payment import Operation, OperationStatus, Payment
from aegispay.domain.record import may_try_next, stranded, unreversed
from aegispay.domain.states import PaymentState
from aegispay.orchestration.doubt import Reversal, after_doubt, asks_person
from aegispay.orchestration.journal import Draft, Journal
from aegispay.orchestration.rows import Rows
from aegispay.orchestration.settings import AFTER_DOUBT, DoubtPolicy, Settings
from aegispay.storage.store import Guard, InFlight

_RECORD_TRIES_MAX = 100


class NextAttempt(NamedTuple):
    """The attempt that follows if this one had no effect."""

    operation_id: str
    gateway: str
    token: str | None


class Recorded(NamedTuple):
    """A committed outcome."""

    payment: Payment
    row: InFlight | None
    """The in-flight row of the operation after the write, if it still has one."""
    started: tuple[InFlight, ...]
    """Operations that were started in the same commit: the next attempt, or a reversal."""


class Recorder:
    """Records outcomes for one running instance."""

    def __init__(self, journal: Journal, rows: Rows, settings: Settings):
        self._journal = journal
        self._rows = rows
        self._settings = settings

    async def record(
        self,
        payment: Payment,
        row: InFlight,
        outcome: Outcome,
        evidence: Evidence,
        next_attempt: NextAttempt | None = None,
        *,
        served: bool = False,
    ) -> Recorded:
        """Commits what was learnt, under our fence; a changed payment is read again and decided anew.

        What the merchant's policy makes follow a success in doubt is in the same commit, unless it is `served`: whoever
        asked for it still waits, and hears of the success.

        Raises `StaleFence` where another worker has taken over: then it decides, with its own evidence.
        """
        learns = cmd.RecordOutcome(
            operation_id=row.operation_id,
            outcome=outcome,
            evidence=evidence,
            will_try_next=next_attempt is not None,
        )
        for _ in range(_RECORD_TRIES_MAX):
            draft, opens, learnt = self._drafted(payment, row, learns, next_attempt, served=served)
            keep = self._rows.after(draft.current, row, outcome)
            if not learnt and keep is not None and keep.purpose is row.purpose:
                return Recorded(payment, row, ())
            # A row without a fence stands for an operation that had ended: there is no lease to hold or to keep.
            guard = Guard(operation_id=row.operation_id, fence=row.fence, keep=keep) if row.fence else None
            try:
                return Recorded(await self._journal.commit(draft, guard=guard, opens=opens), keep, opens)
            except VersionConflict:
                payment = await self._journal.load(payment.id)
        raise VersionConflict(payment_id=payment.id)

    async def record_word(
        self, payment: Payment, operation: Operation, row: InFlight | None, learns: cmd.RecordOutcome
    ) -> Payment:
        """Commits a person's word of an operation that nobody works on, in place of whoever would take it up next.

        What the merchant's policy makes follow a success in doubt is left out, and so is what asks a person of a refusal:
        they have just decided. Raises `VersionConflict` and `StaleFence` where something came first.
        """
        draft = self._journal.draft(payment)
        draft.apply(learns)
        held = row or self._rows.new(draft.current, operation.id, operation.gateway)
        opens = self._followers(draft, held, None, None)
        keep = self._rows.after(draft.current, held, learns.outcome)
        if row is None:
            return await self._journal.commit(draft, opens=(*opens, keep) if keep else opens)
        if keep is not None:
            # With a fence of its own: whoever lost the operation long ago and wakes up now must not send it again.
            keep = replace(keep, fence=row.fence + 1)
        guard = Guard(operation_id=row.operation_id, fence=row.fence, keep=keep)
        return await self._journal.commit(draft, guard=guard, opens=opens)

    def _drafted(
        self,
        payment: Payment,
        row: InFlight,
        learns: cmd.RecordOutcome,
        next_attempt: NextAttempt | None,
        *,
        served: bool,
    ) -> tuple[Draft, tuple[InFlight, ...], bool]:
        """The commit that follows from an outcome, what it puts in flight, and whether anything was learnt."""
        policy = DoubtPolicy.HOLD if served else self._settings.doubt_policy
        follow = after_doubt(policy, payment, learns, self._journal.new_operation_id)
        while True:
            draft = self._journal.draft(payment)
            # A person is asked before the approval, so that it is no answer until they have decided.
            asked = isinstance(follow, cmd.RequestReview) and draft.apply(follow)
            learnt = draft.apply(learns)
            if asked and not learnt:
                follow = None  # It was no success that could be recorded: a person is asked about that.
                continue
            reversal = None if isinstance(follow, cmd.RequestReview) else follow
            try:
                opens = self._followers(draft, row, next_attempt, reversal) if learnt else ()
            except InvalidState:
                if reversal is None:
                    raise
                follow = asks_person()  # It cannot be taken back now; it is recorded all the same.
                continue
            if learnt:
                self._ask_where_kept(draft, row)
            return draft, opens, learnt

    def _followers(
        self,
        draft: Draft,
        row: InFlight,
        next_attempt: NextAttempt | None,
        reversal: Reversal | None,
    ) -> tuple[InFlight, ...]:
        """What begins in the same commit: the next attempt, reversals, the payer's step once more."""
        operation = draft.current.operation(row.operation_id)
        if operation is None:
            return ()
        opens: list[InFlight] = []
        if next_attempt is not None and _goes_on(draft.current, operation):
            opens.append(self._begin(draft, next_attempt))
        opens += self._take_back(draft)
        if operation.kind is OperationKind.CONFIRM and draft.current.state is PaymentState.REQUIRES_ACTION:
            parent = draft.current.first_operation
            if parent is not None:
                again = self._rows.new(draft.current, parent.id, parent.gateway)
                opens.append(self._rows.waiting_for_payer(again))
        approved = operation.status is OperationStatus.APPROVED and draft.current.review is None
        if reversal is not None and approved:
            draft.apply(reversal)
            opens.append(self._rows.new(draft.current, reversal.operation_id, operation.gateway))
        return tuple(opens)

    def _ask_where_kept(self, draft: Draft, row: InFlight) -> None:
        """What the policy began to give back had no effect, and nobody waits for its answer: a person decides."""
        operation = draft.current.operation(row.operation_id)
        if operation is None or operation.reason != AFTER_DOUBT or draft.current.review is not None:
            return
        if operation.status in (OperationStatus.DECLINED, OperationStatus.NOT_SENT):
            reason = f"reversal_refused: {operation.code}"
            draft.apply(cmd.RequestReview(reason=reason, operation_id=operation.id))

    def _begin(self, draft: Draft, attempt: NextAttempt) -> InFlight:
        draft.apply(
            cmd.StartAttempt(operation_id=attempt.operation_id, gateway=attempt.gateway, token=attempt.token)
        )
        return self._rows.new(draft.current, attempt.operation_id, attempt.gateway)

    def _take_back(self, draft: Draft) -> list[InFlight]:
        """Begins the reversal of each success that nobody wants."""
        opens: list[InFlight] = []
        tried = {op.parent_id for op in draft.current.operations if op.compensates}
        for unwanted in unreversed(draft.current):
            if unwanted.id in tried:
                continue  # The gateway refused to take it back: a person must.
            reversal_id = self._journal.new_operation_id()
            draft.apply(cmd.StartReversal(operation_id=reversal_id, target_id=unwanted.id))
            opens.append(self._rows.new(draft.current, reversal_id, unwanted.gateway))
        return opens


def _goes_on(payment: Payment, operation: Operation) -> bool:
    """Whether the attempt that has just ended is followed by the next one."""
    return bool(operation.attempt) and may_try_next(operation) and stranded(payment)
