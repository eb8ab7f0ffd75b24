"""Long random lives of payments, and the named cases that went wrong once or easily could."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from aegispay.domain import commands as cmd
from aegispay.domain import errors
from aegispay.domain import events as ev
from aegispay.domain.decide import (
    ATTEMPTS_MAX,
    DISPUTES_MAX,
    OPERATIONS_MAX,
    REVERSALS_MAX,
    decide,
    gateway_key,
    stranded,
)
from aegispay.domain.errors import (
    AmountTooLarge,
    CorruptEvent,
    IllegalTransition,
    InvalidAmount,
    InvalidRequest,
    InvalidState,
    OperationInDoubt,
    PaymentNotFound,
)
from aegispay.domain.events import CaptureMode, OperationKind
from aegispay.domain.evolve import evolve, fold
from aegispay.domain.methods import MethodSnapshot
from aegispay.domain.money import AMOUNT_MINOR_MAX, Money
from aegispay.domain.outcomes import (
    Approved,
    DeclineCategory,
    Declined,
    Evidence,
    InDoubt,
    NotSent,
    Pending,
    RequiresAction,
)
from aegispay.domain.payment import OperationStatus, encode_payment
from aegispay.domain.states import PaymentState
from tests.unit.domain_explorer import (
    AMOUNT,
    OTHER_ACTION,
    PART,
    Reached,
    Walk,
    apply,
    check_stream,
    commands_for,
    initiate,
    play,
)
from tests.unit.domain_lives import (
    HARD,
    NEEDS_ACTION,
    OPEN_DISPUTE,
    REST,
    SOFT,
    approved,
    attempt,
    capture,
    close_dispute,
    confirm,
    ends,
    lives,
    name,
    refund,
    void,
)

CHARGED = (attempt(0), ends(0, approved()))
S = PaymentState


def automatic(*script: cmd.Command) -> Reached:
    return play(initiate(CaptureMode.AUTOMATIC), script)


def manual(*script: cmd.Command) -> Reached:
    return play(initiate(CaptureMode.MANUAL), script)


def refused(
    reached: Reached, command: cmd.Command, kind: type[Exception] = InvalidState, word: str | None = None
) -> None:
    with pytest.raises(kind, match=word):
        decide(reached.payment, command)


# --- random lives -------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(list(CaptureMode)), st.lists(st.integers(0, 10**9), min_size=1, max_size=40))
def test_forty_random_commands_keep_every_promise(mode: CaptureMode, choices: list[int]) -> None:
    """Each choice picks among the commands that this payment would accept; `Walk.step` checks the promises."""
    walk, reached = Walk(), initiate(mode)
    for choice in choices:
        alphabet = list(commands_for(reached.payment))
        for turn in range(len(alphabet)):
            after = walk.step(reached, alphabet[(choice + turn) % len(alphabet)])
            if after is not None:
                reached = after
                break
    check_stream(reached)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(sorted(lives())), st.data())
def test_evolve_is_deterministic_and_leaves_its_input_alone(life: str, data: st.DataObject) -> None:
    reached = lives()[life]
    cut = data.draw(st.integers(1, len(reached.events)))
    before = fold(reached.events[:cut])
    raw = encode_payment(before)
    first, second = fold(reached.events[cut:], before), fold(reached.events[cut:], before)
    assert encode_payment(first) == encode_payment(second) == encode_payment(reached.payment)
    assert encode_payment(before) == raw


@pytest.mark.parametrize("life", sorted(lives()))
def test_whatever_was_recorded_once_teaches_nothing_the_second_time(life: str) -> None:
    """I11 for the domain: the last outcome, heard again, changes nothing."""
    reached = lives()[life]
    for operation in reached.payment.operations:
        if operation.status is OperationStatus.APPROVED:
            again: Any = approved(operation.amount_minor)
        elif operation.status is OperationStatus.DECLINED:
            again = Declined(category=operation.category or DeclineCategory.SOFT, code="no")
        elif operation.status is OperationStatus.NOT_SENT:
            again = NotSent(reason="dns")
        elif operation.status is OperationStatus.PENDING:
            again = Pending(reference=operation.reference)
        elif operation.status is OperationStatus.IN_DOUBT:
            again = InDoubt(reason="again")
        elif operation.status is OperationStatus.REQUIRES_ACTION:
            again = RequiresAction(reference="r", action=operation.next_action or OTHER_ACTION)
        else:
            continue
        command = cmd.RecordOutcome(operation_id=operation.id, outcome=again)
        assert decide(reached.payment, command) == ()


# --- beginning ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("amount", [0, -1, AMOUNT_MINOR_MAX + 1, 1.0, True, float("nan"), None, "1"])
def test_an_amount_that_cannot_be_asked_for_is_refused(amount: Any) -> None:
    command = cmd.Initiate(
        merchant_id="m",
        amount_minor=amount,
        currency="usd",
        capture=CaptureMode.AUTOMATIC,
        method=MethodSnapshot(),
        candidates=("a",),
        request_hash="h",
    )
    with pytest.raises(InvalidAmount):
        decide(None, command)
    (first,) = decide(None, msgspec.structs.replace(command, amount_minor=1))
    assert isinstance(first, ev.PaymentInitiated)
    assert first.currency == "USD"
    with pytest.raises(InvalidRequest, match="no gateway"):
        decide(None, msgspec.structs.replace(command, amount_minor=1, candidates=()))


def test_a_payment_begins_once_and_before_anything_else() -> None:
    reached = automatic(*CHARGED)
    command = cmd.Initiate(
        merchant_id="m",
        amount_minor=1,
        currency="USD",
        capture=CaptureMode.MANUAL,
        method=MethodSnapshot(),
        candidates=("a",),
        request_hash="h",
    )
    refused(reached, command, word="before")
    with pytest.raises(InvalidState, match="not initiated"):
        decide(None, attempt(0))
    refused(initiate(CaptureMode.MANUAL), cmd.RequestReview(reason="x"), word="nothing was started")


def test_only_the_chosen_gateways_are_asked() -> None:
    refused(initiate(CaptureMode.MANUAL), attempt(0, "elsewhere"), InvalidRequest, "not among")


def test_an_operation_id_is_used_once() -> None:
    reached = automatic(*CHARGED, refund(1, 10))
    for command in (refund(1, 10), refund(0, 10), cmd.StartReversal(operation_id=name(1), target_id=name(0))):
        refused(reached, command, word="already")
    assert gateway_key(name(1)) == reached.payment.operations[1].gateway_key


# --- failover -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [None, InDoubt(reason="timeout"), Pending(), NEEDS_ACTION])
def test_no_second_gateway_is_asked_while_the_first_may_have_charged(outcome: Any) -> None:
    """I2."""
    script = (attempt(0),) if outcome is None else (attempt(0), ends(0, outcome, again=True))
    refused(automatic(*script), attempt(1, "b"), OperationInDoubt, "nothing goes to a second gateway")


def test_a_hard_no_is_final_even_if_the_caller_would_go_on() -> None:
    reached = automatic(attempt(0), ends(0, HARD, again=True))
    assert reached.payment.state is S.FAILED
    refused(reached, attempt(1, "b"))


def test_the_last_allowed_attempt_fails_the_payment() -> None:
    reached = initiate(CaptureMode.AUTOMATIC)
    for index in range(ATTEMPTS_MAX):
        reached = play(reached, (attempt(index), ends(index, NotSent(reason="dns"), again=True)))
    assert reached.payment.state is S.FAILED
    assert not stranded(reached.payment)


def test_a_next_attempt_that_could_not_start_is_not_waited_for() -> None:
    """A reversal of the first attempt is under way, so the second one's soft no ends the payment."""
    reached = lives()["late success"]
    after = play(reached, (ends(1, SOFT, again=True),))
    assert after.payment.state is S.FAILED


# --- the payer's step ---------------------------------------------------------------------------------------


def test_a_confirmation_that_was_never_sent_can_be_made_again() -> None:
    for doubt in ((), (ends(1, InDoubt(reason="reset")),)):
        script = (attempt(0), ends(0, NEEDS_ACTION), confirm(1), *doubt, ends(1, NotSent(reason="dns")))
        reached = automatic(*script)
        assert reached.payment.state is S.REQUIRES_ACTION
        assert reached.payment.next_action == NEEDS_ACTION.action
        assert play(reached, (confirm(2), ends(2, approved()))).payment.state is S.SUCCEEDED


def test_news_of_the_attempt_ends_its_confirmation_and_the_reply_is_then_no_news() -> None:
    """The webhook names the attempt while the confirmation's call is still out; a capture follows."""
    reached = manual(attempt(0), ends(0, NEEDS_ACTION), confirm(1), ends(0, approved()))
    assert reached.payment.state is S.AUTHORIZED
    reached = play(reached, (capture(2, PART, final=False), ends(2, approved(PART))))
    assert decide(reached.payment, ends(1, approved())) == ()
    assert reached.payment.captured_minor == PART


def test_stale_news_of_the_attempt_does_not_disturb_its_confirmation() -> None:
    reached = automatic(attempt(0), ends(0, NEEDS_ACTION), confirm(1))
    for stale in (
        NEEDS_ACTION,
        RequiresAction(reference="r", action=OTHER_ACTION),
        Pending(),
        InDoubt(reason="x"),
    ):
        assert decide(reached.payment, ends(0, stale)) == ()
    assert decide(reached.payment, ends(0, NotSent(reason="not_found"))) == ()


def test_a_confirmation_found_approved_late_is_never_dropped() -> None:
    script = (attempt(0), ends(0, NEEDS_ACTION), confirm(1), ends(1, NotSent(reason="not_found")))
    assert automatic(*script, ends(1, approved())).payment.state is S.SUCCEEDED
    failed = automatic(attempt(0), ends(0, NEEDS_ACTION), confirm(1), ends(1, HARD))
    late = play(failed, (ends(1, approved()),))
    assert late.payment.operations[0].status is OperationStatus.UNWANTED
    assert stranded(late.payment)


def test_a_confirmation_may_ask_for_another_step() -> None:
    again = RequiresAction(reference="r2", action=OTHER_ACTION)
    reached = automatic(attempt(0), ends(0, NEEDS_ACTION), confirm(1), ends(1, again))
    assert reached.payment.next_action == OTHER_ACTION
    assert [op.id for op in reached.payment.unfinished] == [name(0)]


def test_a_void_and_a_confirmation_exclude_each_other() -> None:
    waiting = (attempt(0), ends(0, NEEDS_ACTION))
    refused(automatic(*waiting, void(1)), confirm(2), OperationInDoubt, "being canceled")
    refused(automatic(*waiting, confirm(1)), void(2))
    refused(automatic(attempt(0)), confirm(1), word="waits for no action")


def test_a_void_found_done_during_a_confirmation_asks_a_person_and_ends_neither() -> None:
    script = (
        attempt(0),
        ends(0, NEEDS_ACTION),
        void(1),
        ends(1, NotSent(reason="dns")),
        confirm(2),
        ends(1, approved()),
    )
    reached = automatic(*script)
    assert reached.payment.state is S.NEEDS_REVIEW
    assert reached.payment.operations[2].unfinished


def test_a_charge_that_beats_its_void_cannot_be_given_back_twice() -> None:
    reached = lives()["charged while being voided"]
    refused(reached, refund(3), OperationInDoubt, "waits until it ends")
    assert play(reached, (ends(2, HARD), refund(3))).payment.reserved(OperationKind.REFUND) == AMOUNT
    contradicted = play(reached, (ends(2, approved()),))
    assert contradicted.payment.review == "voided_after_capture"
    assert contradicted.payment.captured_minor == AMOUNT


# --- captures, voids, refunds -------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_two_captures_that_make_up_the_whole_capture_exactly_the_whole(order: tuple[int, int]) -> None:
    sizes = {1: PART, 2: REST}
    script = (attempt(0), ends(0, approved()), capture(1, PART, final=False), capture(2, REST, final=False))
    reached = manual(*script, *(ends(index, approved(sizes[index])) for index in order))
    payment = reached.payment
    assert (payment.state, payment.captured_minor, payment.authorized_minor) == (S.SUCCEEDED, AMOUNT, AMOUNT)
    assert payment.completed


def test_the_rest_stays_capturable_where_one_of_two_captures_is_declined() -> None:
    script = (attempt(0), ends(0, approved()), capture(1, PART, final=False), capture(2, REST, final=False))
    reached = manual(*script, ends(2, approved(REST)), ends(1, HARD))
    assert reached.payment.state is S.AUTHORIZED
    assert reached.payment.capturable_minor == PART


def test_a_declined_final_capture_can_be_tried_again() -> None:
    reached = manual(attempt(0), ends(0, approved()), capture(1), ends(1, HARD))
    assert play(reached, (capture(2), ends(2, approved()))).payment.state is S.SUCCEEDED


def test_captures_and_voids_wait_for_each_other() -> None:
    held = (attempt(0), ends(0, approved()))
    refused(manual(*held, capture(1)), void(2), OperationInDoubt)
    refused(manual(*held, capture(1)), capture(2, 1, final=False), OperationInDoubt)
    refused(manual(*held, capture(1, PART, final=False)), capture(2), OperationInDoubt)
    refused(manual(*held, void(1)), capture(2), OperationInDoubt)
    refused(manual(*held, void(1)), void(2), OperationInDoubt)
    refused(manual(attempt(0)), capture(1))
    refused(automatic(*CHARGED), capture(1), word="cannot be captured")
    refused(automatic(*CHARGED), void(1), word="Refund it instead")


@pytest.mark.parametrize("amount", [0, -1, 1.5, True, "1", AMOUNT + 1, AMOUNT_MINOR_MAX * 2])
def test_amounts_that_cannot_be_captured_or_refunded(amount: Any) -> None:
    for reached, command in (
        (manual(attempt(0), ends(0, approved())), capture(1, amount)),
        (automatic(*CHARGED), refund(1, amount)),
    ):
        with pytest.raises((InvalidAmount, AmountTooLarge)):
            decide(reached.payment, command)


def test_refunds_in_doubt_hold_their_amount() -> None:
    """I9."""
    reached = automatic(*CHARGED, refund(1, 60), ends(1, InDoubt(reason="timeout")))
    refused(reached, refund(2, 60), AmountTooLarge, "0.60 USD is held")
    refused(play(reached, (refund(2),)), refund(3), AmountTooLarge, "any more.*nothing is left")
    assert play(reached, (ends(1, NotSent(reason="not_found")), refund(2))).payment.refundable_minor == 0
    refused(manual(attempt(0), ends(0, approved())), refund(1), word="Void it instead")


def test_a_refund_found_done_after_the_money_was_refunded_again_asks_a_person() -> None:
    script = (
        refund(1),
        ends(1, NotSent(reason="not_found")),
        refund(2),
        ends(2, approved()),
        ends(1, approved()),
    )
    reached = automatic(*CHARGED, *script)
    assert reached.payment.review == "refunded_beyond_captured"
    assert reached.payment.refunded_minor == 2 * AMOUNT


def test_an_expired_authorisation_ends_as_expired_and_one_partly_captured_as_succeeded() -> None:
    assert lives()["expired, by hand"].payment.state is S.EXPIRED
    assert lives()["partly captured, the rest expired, by hand"].payment.state is S.SUCCEEDED
    found_late = play(lives()["void not sent, by hand"], (void(3, "expired"), ends(3, approved())))
    assert found_late.payment.state is S.EXPIRED
    another = Approved(reference="another void", amount_minor=AMOUNT)
    assert play(found_late, (ends(2, another),)).payment.state is S.EXPIRED
    same = cmd.RecordOutcome(operation_id=name(2), outcome=approved(), evidence=Evidence.LOOKUP)
    assert decide(found_late.payment, same) == (), "one effect at the PSP is booked once"


def test_a_capture_found_done_after_the_rest_was_released_eats_into_the_release() -> None:
    script = (
        capture(1, PART, final=False),
        ends(1, NotSent(reason="x")),
        capture(2, REST),
        ends(2, approved(REST)),
    )
    reached = manual(attempt(0), ends(0, approved()), *script)
    assert reached.payment.released_minor == PART
    late = play(reached, (ends(1, approved(PART)),))
    assert (late.payment.captured_minor, late.payment.released_minor) == (AMOUNT, 0)
    assert late.payment.review == "captured_beyond_authorized"


# --- late success -------------------------------------------------------------------------------------------


def test_a_late_success_is_reversed_by_what_it_took() -> None:
    failed = automatic(attempt(0), ends(0, HARD))
    late = play(failed, (ends(0, approved(AMOUNT - 1)),))
    assert late.payment.state is S.FAILED
    assert stranded(late.payment)
    reversing = play(late, (cmd.StartReversal(operation_id=name(1), target_id=name(0)),))
    assert reversing.payment.operations[1].amount_minor == AMOUNT - 1
    assert not stranded(reversing.payment)
    done = play(reversing, (ends(1, approved(AMOUNT - 1)),))
    assert done.payment.operations[0].status is OperationStatus.REVERSED
    assert (done.payment.state, done.payment.captured_minor) == (S.FAILED, 0)


def test_a_late_success_while_another_attempt_is_under_way_leaves_that_one_alone() -> None:
    reached = play(lives()["late success"], (ends(1, approved()), ends(2, approved())))
    assert reached.payment.state is S.SUCCEEDED
    assert reached.payment.winner is not None
    assert reached.payment.gateway == "b"
    assert (reached.payment.captured_minor, reached.payment.refunded_minor) == (AMOUNT, 0)


def test_the_reversal_of_another_attempt_does_not_block_a_void_or_a_capture() -> None:
    late = (ends(0, approved()), cmd.StartReversal(operation_id=name(2), target_id=name(0)))
    held = play(lives()["authorized, by hand"], late)
    assert held.payment.operations[2].kind is OperationKind.VOID
    assert play(held, (capture(3),)).payment.reserved(OperationKind.CAPTURE) == AMOUNT
    assert play(held, (void(3),)).payment.operations[3].kind is OperationKind.VOID


def test_two_late_successes_are_both_reversed() -> None:
    base = automatic(attempt(0), ends(0, SOFT, again=True), attempt(1, "b"), ends(1, HARD))
    first = play(base, (ends(0, approved()), cmd.StartReversal(operation_id=name(2), target_id=name(0))))
    second = play(first, (ends(1, approved()),))
    assert stranded(second.payment)
    refused(second, cmd.StartReversal(operation_id=name(3), target_id=name(0)), OperationInDoubt)


def test_a_refused_reversal_is_tried_again_a_bounded_number_of_times_and_owed_until_done() -> None:
    reached = automatic(attempt(0), ends(0, HARD), ends(0, approved()))
    for index in range(1, REVERSALS_MAX + 1):
        start = cmd.StartReversal(operation_id=name(index), target_id=name(0))
        reached = play(reached, (start, ends(index, SOFT)))
        assert reached.payment.review == "reversal_refused: insufficient_funds"
        refused(reached, cmd.CloseReview(reason="tired of it"), word="must be reversed")
    more = cmd.StartReversal(operation_id="op_x", target_id=name(0))
    refused(reached, more, word="reverse it at the gateway")
    done = play(reached, (ends(3, approved()),))
    assert done.payment.state is S.FAILED
    assert done.payment.operations[0].status is OperationStatus.REVERSED
    twice = play(done, (ends(4, approved()),))
    assert twice.payment.review == "reversed_twice"


def test_a_person_reverses_only_what_is_unwanted_and_what_they_were_asked_about() -> None:
    late = automatic(attempt(0), ends(0, HARD), ends(0, approved()))
    hand = cmd.RecordReversed(target_id=name(0), operation_id=name(9))
    refused(late, hand, word="is in no review")
    start = cmd.StartReversal(operation_id=name(1), target_id=name(0))
    asked = play(late, (start, ends(1, SOFT)))
    refused(asked, replace(hand, operation_id=name(1)), word="has an operation")
    refused(asked, replace(hand, target_id=name(1)), word="not an unwanted")
    done = play(asked, (hand, cmd.CloseReview(reason="seen")))
    assert (done.payment.state, done.payment.review) == (S.FAILED, None)
    assert done.payment.operations[0].status is OperationStatus.REVERSED
    refused(done, hand, word="not an unwanted")
    # The reversal that the gateway had refused turns out done as well: given back twice.
    assert play(done, (ends(1, approved()),)).payment.review == "reversed_twice"


def test_what_was_wanted_is_not_reversed() -> None:
    refused(
        automatic(*CHARGED),
        cmd.StartReversal(operation_id=name(1), target_id=name(0)),
        word="not an unwanted",
    )
    refused(
        automatic(*CHARGED), cmd.StartReversal(operation_id=name(1), target_id="op_x"), word="not an unwanted"
    )


# --- review -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("amount", [0, -5, AMOUNT_MINOR_MAX + 1, 99.0, True])
def test_an_approval_without_a_usable_amount_asks_a_person_and_ends_nothing(amount: Any) -> None:
    nothing = Approved(reference="r", amount_minor=amount)
    reached = automatic(attempt(0), ends(0, nothing))
    assert reached.payment.review == "approved_without_amount"
    assert decide(reached.payment, ends(0, nothing)) == ()
    assert play(reached, (ends(0, approved()),)).payment.state is S.SUCCEEDED
    failed = automatic(attempt(0), ends(0, HARD), ends(0, nothing))
    assert failed.payment.review == "approved_without_amount"


def test_a_void_needs_no_amount() -> None:
    reached = manual(
        attempt(0), ends(0, approved()), void(1), ends(1, Approved(reference="r", amount_minor=0))
    )
    assert reached.payment.state is S.CANCELED


def test_an_amount_that_differs_is_booked_as_taken_and_stays_with_a_person() -> None:
    reached = manual(attempt(0), ends(0, approved(AMOUNT - 1)))
    payment = reached.payment
    assert (payment.state, payment.authorized_minor) == (S.NEEDS_REVIEW, AMOUNT - 1)
    assert payment.answered_version == 0
    refused(reached, capture(1), word="needs_review")
    closed = play(reached, (cmd.CloseReview(reason="seen"), capture(1)))
    assert closed.payment.operations[1].amount_minor == AMOUNT - 1


def test_a_review_about_amounts_is_not_closed_by_another_operations_end() -> None:
    script = (capture(1, PART, final=False), capture(2, 10, final=False), ends(1, approved(PART - 1)))
    reached = manual(attempt(0), ends(0, approved()), *script, ends(2, approved(10)))
    assert reached.payment.state is S.NEEDS_REVIEW


def test_a_review_about_a_doubt_closes_once_nothing_is_in_doubt() -> None:
    doubt = InDoubt(reason="timeout")
    script = (refund(1, 10), refund(2, 10), ends(1, doubt), ends(2, doubt))
    reached = automatic(*CHARGED, *script, cmd.RequestReview(reason="slow", operation_id=name(1)))
    assert decide(reached.payment, cmd.RequestReview(reason="slow", operation_id=name(2))) == ()
    half = play(reached, (ends(1, approved(10)),))
    assert half.payment.state is S.NEEDS_REVIEW
    assert play(half, (ends(2, HARD),)).payment.state is S.PARTIALLY_REFUNDED


def test_a_review_that_a_person_asked_for_is_closed_by_a_person() -> None:
    reached = automatic(attempt(0), cmd.RequestReview(reason="fraud?"), ends(0, approved()))
    assert reached.payment.state is S.NEEDS_REVIEW
    closed = play(reached, (cmd.CloseReview(reason="fine"),))
    assert closed.payment.state is S.SUCCEEDED
    assert decide(closed.payment, cmd.CloseReview(reason="fine")) == ()
    refused(closed, cmd.RequestReview(reason="x", operation_id="op_x"), word="no operation")


def test_a_contradiction_overrides_a_doubt_but_only_once() -> None:
    reached = automatic(
        *CHARGED, refund(1), cmd.RequestReview(reason="slow", operation_id=name(1)), ends(0, HARD)
    )
    assert reached.payment.review == "declined_after_approval"
    assert decide(reached.payment, ends(0, HARD)) == ()
    assert play(reached, (ends(1, approved()),)).payment.state is S.NEEDS_REVIEW


# --- disputes -----------------------------------------------------------------------------------------------


def test_a_refund_ends_during_a_dispute_and_is_seen_after_it() -> None:
    reached = play(lives()["disputed during a refund"], (ends(2, approved(PART)),))
    assert reached.payment.state is S.DISPUTED
    refused(reached, refund(3), word="disputed")
    won = play(reached, (close_dispute(True),))
    assert won.payment.state is S.PARTIALLY_REFUNDED


def test_dispute_notices_may_come_twice_or_in_the_wrong_order() -> None:
    opened, close = replace(OPEN_DISPUTE, attempt_id="op_0"), close_dispute(True, attempt_id="op_0")
    clean = automatic(*CHARGED, opened, close)
    assert decide(clean.payment, opened) == decide(clean.payment, close) == ()
    reordered = automatic(*CHARGED, close)
    assert decide(reordered.payment, opened) == ()
    assert reordered.payment.state is clean.payment.state is S.SUCCEEDED


def test_disputes_are_bounded_and_need_a_capture() -> None:
    opened = replace(OPEN_DISPUTE, attempt_id="op_0")
    refused(manual(attempt(0), ends(0, approved())), opened, word="no captured amount")
    many = (replace(opened, reference=f"d{index}", amount_minor=1) for index in range(DISPUTES_MAX))
    refused(automatic(*CHARGED, *many), opened, word="the most")


# --- bounds and broken streams ------------------------------------------------------------------------------


def test_a_payment_has_a_bounded_number_of_operations() -> None:
    reached = automatic(*CHARGED)
    for index in range(1, OPERATIONS_MAX):
        reached = apply(reached, decide(reached.payment, refund(index, 1)))
        reached = apply(reached, decide(reached.payment, ends(index, HARD)))
    refused(reached, refund(OPERATIONS_MAX, 1), word="the most")


def test_news_of_an_unknown_operation_is_refused() -> None:
    refused(automatic(*CHARGED), ends(7, approved()), word="no operation")


def test_a_stream_with_a_gap_or_of_another_payment_is_corrupt() -> None:
    reached = automatic(*CHARGED)
    first, second, third = reached.events
    with pytest.raises(CorruptEvent, match="first event"):
        fold([second])
    with pytest.raises(CorruptEvent, match="follows"):
        fold([first, third])
    with pytest.raises(CorruptEvent, match="follows"):
        evolve(fold([first]), msgspec.structs.replace(second, payment_id="pay_2"))
    with pytest.raises(IllegalTransition, match="cannot follow"):
        evolve(fold([first]), msgspec.structs.replace(first, version=2))
    with pytest.raises(CorruptEvent, match="no operation op_0"):
        evolve(fold([first]), msgspec.structs.replace(third, version=2))
    with pytest.raises(PaymentNotFound):
        fold([])


def test_the_fold_refuses_a_step_that_the_table_does_not_list() -> None:
    """Whatever wrote it: a success is not turned into a failure by an event."""
    failed = ev.PaymentFailed(code="no", category=DeclineCategory.HARD)
    with pytest.raises(IllegalTransition, match="from succeeded to succeeded by payment_failed"):
        apply(automatic(*CHARGED), (failed,))
    again = ev.OperationStarted(
        operation_id="op_9",
        kind=OperationKind.CHARGE,
        gateway="b",
        amount_minor=1,
        gateway_key="op_9",
        attempt=2,
    )
    with pytest.raises(IllegalTransition):
        apply(
            automatic(attempt(0), ends(0, NEEDS_ACTION), confirm(1)),
            (ev.ActionCompleted(operation_id="op_0"),),
        )
    assert apply(automatic(attempt(0), ends(0, SOFT, again=True)), (again,)).payment.state is S.PROCESSING


def test_a_payment_shows_its_amounts_and_gateway() -> None:
    payment = play(lives()["partly refunded"], ()).payment
    assert payment.amount == payment.captured == payment.authorized == Money(AMOUNT, "USD")
    assert payment.refunded == Money(PART, "USD")
    assert (payment.gateway, payment.gateway_reference) == ("b", "r")
    assert payment.next_action is None
    fresh = initiate(CaptureMode.AUTOMATIC).payment
    assert (fresh.gateway, fresh.gateway_reference, fresh.winner, fresh.first_operation) == (
        None,
        None,
        None,
        None,
    )


def test_an_error_tells_its_code_and_how_to_mend_it() -> None:
    error = InvalidAmount("too odd.", hint="Make it even.", payment_id="pay_1")
    assert str(error) == "too odd. Make it even."
    assert error.to_dict() == {
        "code": "invalid_amount",
        "message": "too odd.",
        "retryable": False,
        "effect": "none",
        "hint": "Make it even.",
        "payment_id": "pay_1",
    }
    assert str(errors.VersionConflict()) == "The payment was changed by somebody else in the meantime."
    assert errors.StoreUnavailable().to_dict()["effect"] == "unknown"


def test_no_two_kinds_of_error_share_a_code() -> None:
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.AegisPayError)
    ]
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert all(kind.__doc__ for kind in kinds)
