"""A person's word of what became of an operation in doubt: they were asked, and have looked where we cannot.

It is recorded under the fence of the operation's row, in one commit, so that no worker sends what a person saw had no
effect. It may be wrong: what had no effect is watched, like what a look-up did not find.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from aegispay.domain import commands as cmd
from aegispay.domain import events as ev
from aegispay.domain.errors import InvalidRequest, InvalidState
from aegispay.domain.events import Event, OperationKind
from aegispay.domain.outcomes import Approved, Evidence, NotSent, Outcome
from aegispay.domain.payment import Operation, OperationStatus, Payment
from aegispay.domain.word import TELLABLE
from aegispay.orchestration.engine import Engine
from aegispay.orchestration.known import PERSON
from aegispay.orchestration.requests import check_text

REFERENCE_LENGTH_MAX = 255
_WITHOUT = "Close the review without `no_effect` and `took_effect`."


class Word(NamedTuple):
    """What a person says that they found at the gateway; nothing of it where they only looked."""

    reversed_by_hand: bool = False
    """A success that nobody wanted was given back there, in full."""
    no_effect: bool = False
    """The operation that the review is about had no effect."""
    took_effect: str | None = None
    """It went through, in full, and this is what the gateway calls it."""
    operation_id: str | None = None
    """The operation that they looked for, if they say: the review may be about another one by now."""

    @property
    def ends_doubt(self) -> bool:
        return self.no_effect or self.took_effect is not None


def check_word(word: Word) -> Word:
    """The word as it is recorded. Raises `InvalidRequest` where it contradicts itself or names nothing."""
    if sum((bool(word.reversed_by_hand), bool(word.no_effect), word.took_effect is not None)) > 1:
        raise InvalidRequest("a person says one of `reversed_by_hand`, `no_effect` and `took_effect`.")
    if word.operation_id is not None and not word.ends_doubt:
        raise InvalidRequest("`operation_id` goes with `no_effect` or `took_effect`.")
    reference = check_text("took_effect", word.took_effect, REFERENCE_LENGTH_MAX)
    if reference is None:
        return word
    if not reference.strip():
        raise InvalidRequest(
            "`took_effect` is the gateway's reference of what went through.",
            hint="Take it from the gateway's dashboard.",
        )
    return word._replace(took_effect=reference.strip())


class PersonsWord:
    """Records it, for one running instance."""

    def __init__(self, engine: Engine):
        self._engine = engine

    async def recorded(self, payment: Payment, word: Word, reason: str) -> Payment:
        """The payment after one commit, or unchanged where this was recorded before.

        Raises `InvalidState` where no review is about an operation that a person may speak of, `InvalidRequest` for a
        reference that is another's, `OperationInDoubt` while somebody is at work on it; and `VersionConflict` and
        `StaleFence` where something came first, with nothing written.
        """
        events = await self._engine.store.load_events(payment.id, until_version=payment.version)
        operation = _asked_about(payment, events)
        if operation is None or operation.status not in TELLABLE:
            if _said_of(events, word):
                return payment
            raise _nothing_to_say(payment, operation)
        _check_meant(payment, operation, word)
        self._check_not_repeated(payment, operation, events, word, reason)
        await self._check_reference(payment, operation, word.took_effect)
        row = await self._engine.leases.waiting(operation)
        outcome: Outcome = NotSent(reason=PERSON)
        if word.took_effect is not None:
            outcome = Approved(reference=word.took_effect, amount_minor=operation.amount_minor)
        learns = cmd.RecordOutcome(
            operation_id=operation.id, outcome=outcome, evidence=Evidence.PERSON, word=reason
        )
        return await self._engine.recorder.record_word(payment, operation, row, learns)

    def _check_not_repeated(
        self, payment: Payment, operation: Operation, events: list[Event], word: Word, reason: str
    ) -> None:
        """Who says the same again word for word may not have seen that the review is by now about another operation."""
        closed = any(isinstance(one.data, ev.ReviewClosed) and one.data.reason == reason for one in events)
        before = _said_of(events, word)
        if closed and before:
            raise InvalidState(
                f"this was said before, of {before}; {payment.id} is now in review about "
                f"{operation.kind} {operation.id} at {operation.gateway}.",
                payment_id=payment.id,
                hint="Look for that one, and close its review with a reason of its own.",
            )

    async def _check_reference(self, payment: Payment, operation: Operation, reference: str | None) -> None:
        """Raises `InvalidRequest` where the gateway calls something else so, as far as we know."""
        if reference is None:
            return

        def there(op: Operation) -> bool:
            return (op.gateway, op.reference) == (operation.gateway, reference)

        whose: str | None = None
        for op in payment.operations:
            # Captures and voids may go by the payment's own name; a refund has one of its own.
            if op.id != operation.id and OperationKind.REFUND in (op.kind, operation.kind) and there(op):
                whose = f"{op.kind} {op.id}"
        for payment_id in await self._engine.store.find_by_reference(reference):
            other = await self._engine.store.load(payment_id) if payment_id != payment.id else None
            if other is not None and any(there(op) for op in other.operations):
                whose = "another payment"
        if whose is not None:
            raise InvalidRequest(
                f"{reference} is what {operation.gateway} calls {whose}.",
                payment_id=payment.id,
                hint=f"Look at its dashboard again, for {operation.kind} {operation.id}.",
            )


def _check_meant(payment: Payment, operation: Operation, word: Word) -> None:
    """Raises `InvalidState` where they looked for another operation than the one that the review is about by now."""
    if word.operation_id not in (None, operation.id):
        raise InvalidState(
            f"{payment.id} is in review about {operation.kind} {operation.id} at {operation.gateway}, not about"
            f" {word.operation_id}.",
            payment_id=payment.id,
            hint="Look for that one, and say what became of it.",
        )


def named_by_review(events: Sequence[Event]) -> str | None:
    """The operation that the newest review was asked about, if it named one."""
    for event in reversed(events):
        if isinstance(event.data, ev.ReviewRequested):
            return event.data.operation_id
    return None


def _asked_about(payment: Payment, events: list[Event]) -> Operation | None:
    """The operation that the open review names, if it waits to hear what became of one."""
    if not payment.review_until_evidence:
        return None
    return payment.operation(named_by_review(events) or "")


def _said_of(events: list[Event], word: Word) -> str | None:
    """The operation of which a person has said the same before."""
    for event in events:
        match event.data:
            case ev.OperationNotSent(operation_id=about, evidence=Evidence.PERSON) if word.no_effect:
                return about
            case ev.OperationApproved(operation_id=about, evidence=Evidence.PERSON, reference=reference):
                if reference and reference == word.took_effect:
                    return about
            case _:
                pass
    return None


def _nothing_to_say(payment: Payment, operation: Operation | None) -> InvalidState:
    """Why the word is refused, and what to do instead."""
    if payment.review is None:
        said, hint = (
            f"{payment.id} is in no review; nobody asks what became of it.",
            "`get` says where it stands.",
        )
    elif operation is None:
        said, hint = f"{payment.id} is in review for another reason: {payment.review}.", _WITHOUT
    else:
        said = (
            f"{operation.kind} {operation.id}, which {payment.id} is in review about, is {operation.status}."
        )
        hint = _WITHOUT
        if operation.status in (OperationStatus.REQUIRES_ACTION, OperationStatus.CONFIRMING):
            hint = "It waits for its payer; `sync` asks the gateway."
    return InvalidState(said, payment_id=payment.id, hint=hint)
