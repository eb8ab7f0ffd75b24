"""What a person may say became of an operation, when they are heard, and what becomes of the review they were asked in."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from aegispay.domain import commands as cmd
from aegispay.domain import events as ev
from aegispay.domain.decide import decide
from aegispay.domain.errors import InvalidRequest, InvalidState, OperationInDoubt
from aegispay.domain.events import CaptureMode
from aegispay.domain.money import AMOUNT_MINOR_MAX
from aegispay.domain.outcomes import Approved, Evidence, InDoubt, NotSent, Outcome
from aegispay.domain.payment import Payment
from aegispay.domain.states import PaymentState
from tests.unit.domain_explorer import AMOUNT, PART, WORD, Reached, initiate, play
from tests.unit.domain_lives import HARD, approved, attempt, capture, ends, name, refund, void

DOUBT = InDoubt(reason="timeout")
NO = NotSent(reason="person")
HELD = (attempt(0), ends(0, approved()))


def yes(amount: int = AMOUNT) -> Approved:
    return Approved(reference="r9", amount_minor=amount)


def ask(index: int) -> cmd.RequestReview:
    return cmd.RequestReview(reason="slow", operation_id=name(index))


def say(index: int, outcome: Outcome, word: str = WORD) -> cmd.RecordOutcome:
    return cmd.RecordOutcome(operation_id=name(index), outcome=outcome, evidence=Evidence.PERSON, word=word)


def held(*script: cmd.Command) -> Reached:
    return play(initiate(CaptureMode.MANUAL), (*HELD, *script))


def charged(*script: cmd.Command) -> Reached:
    return play(initiate(CaptureMode.AUTOMATIC), script)


IN_DOUBT = charged(attempt(0), ends(0, DOUBT), ask(0))


@pytest.mark.parametrize(
    ("command", "error", "said"),
    [
        (say(0, NO, word=""), InvalidRequest, "comes with a reason"),
        (say(7, NO), InvalidState, "has no operation op_7"),
        (say(0, HARD), InvalidRequest, "that it went through, or that it had no effect"),
        (say(0, DOUBT), InvalidRequest, "that it went through, or that it had no effect"),
        (say(0, yes(PART)), InvalidRequest, "went through in full"),
    ],
)
def test_a_word_that_a_person_cannot_give(command: cmd.Command, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        decide(IN_DOUBT.payment, command)


@pytest.mark.parametrize("outcome", [NO, yes()])
def test_a_person_is_heard_only_where_they_were_asked_what_became_of_it(outcome: Outcome) -> None:
    nobody = charged(attempt(0), ends(0, DOUBT))
    something_else = play(nobody, (cmd.RequestReview(reason="fraud?"),))
    for reached in (nobody, something_else):
        with pytest.raises(InvalidState, match="nobody was asked what became of charge op_0"):
            decide(reached.payment, say(0, outcome))
    other_ended = held(capture(1, PART), ends(1, DOUBT), ask(1))
    with pytest.raises(
        InvalidState, match="authorize op_0 is approved; what became of it is not for a person"
    ):
        decide(other_ended.payment, say(0, outcome))


def test_what_contradicts_the_books_is_a_new_question_and_what_they_said_is_kept() -> None:
    """The void went through while a capture was under way: they could not know of that."""
    base = held(void(1), ends(1, DOUBT), ask(1)).payment
    under_way = replace(base.operations[1], id=name(2), kind=ev.OperationKind.CAPTURE, amount_minor=PART)
    both: Payment = replace(base, operations=(*base.operations, under_way))
    events = decide(both, say(1, yes()))
    assert [type(one) for one in events] == [ev.ReviewClosed, ev.ReviewRequested, ev.OperationApproved]
    assert events[0] == ev.ReviewClosed(reason=WORD)
    assert events[1] == ev.ReviewRequested(reason="voided_during_capture", operation_id=name(1))


def test_what_does_not_fit_into_the_books_is_refused_rather_than_dropped() -> None:
    asked = charged(attempt(0), ends(0, approved()), refund(1, PART), ends(1, DOUBT), ask(1)).payment
    full = replace(asked, refunded_minor=AMOUNT_MINOR_MAX)
    with pytest.raises(InvalidState, match="does not fit into the books"):
        decide(full, say(1, yes(PART)))


def test_a_reversal_must_go_through() -> None:
    late = charged(attempt(0), ends(0, HARD), ends(0, approved()))
    asked = play(late, (cmd.StartReversal(operation_id=name(1), target_id=name(0)), ask(1)))
    with pytest.raises(InvalidState, match="must go through"):
        decide(asked.payment, say(1, NO))
    assert play(asked, (say(1, yes()),)).payment.state is PaymentState.FAILED


def test_a_success_that_turns_up_while_they_look_is_asked_about_when_they_have_spoken() -> None:
    """An earlier attempt turns out charged and is not taken back yet; the later one had no effect."""
    soft = NotSent(reason="dns")
    asked = charged(attempt(0), ends(0, soft, again=True), attempt(1, "b"), ends(1, DOUBT), ask(1))
    found = play(asked, (ends(0, approved()),))
    assert found.payment.review == "slow"
    told = play(found, (say(1, NO),)).payment
    assert (told.review, told.review_until_evidence) == ("reversal_refused: not_tried", True)


def test_a_review_ends_with_the_operation_that_it_named_whatever_else_is_in_doubt() -> None:
    doubts = (capture(1, PART, final=False), ends(1, DOUBT), capture(2, PART, final=False), ends(2, DOUBT))
    asked = held(*doubts, ask(1))
    told = play(asked, (say(1, NO),)).payment
    assert (told.state, [op.id for op in told.unfinished]) == (PaymentState.AUTHORIZED, [name(2)])
    heard = play(asked, (ends(1, approved(PART)),))
    assert heard.payment.review == "slow"
    for about in (None, name(2), "op_of_another_payment"):
        with pytest.raises(OperationInDoubt, match="capture op_2"):
            decide(heard.payment, cmd.CloseReview(reason="seen", operation_id=about))
    assert play(heard, (cmd.CloseReview(reason="seen", operation_id=name(1)),)).payment.review is None
    with pytest.raises(OperationInDoubt):
        decide(asked.payment, cmd.CloseReview(reason="seen", operation_id=name(1)))
