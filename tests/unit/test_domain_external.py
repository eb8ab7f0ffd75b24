"""What was done at a PSP's dashboard: how it is recorded, to the field, and when it is refused or left to a person."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from aegispay.domain import commands as cmd
from aegispay.domain import events as ev
from aegispay.domain.decide import OPERATIONS_MAX, VOIDS_KEPT, decide, gateway_key
from aegispay.domain.errors import InvalidState, OperationInDoubt
from aegispay.domain.events import CaptureMode, OperationKind
from aegispay.domain.outcomes import Evidence, InDoubt
from aegispay.domain.payment import OperationStatus, Payment
from aegispay.domain.states import PaymentState
from tests.unit.domain_explorer import AMOUNT, PART, initiate, play
from tests.unit.domain_lives import HARD, SOFT, approved, attempt, capture, ends, name, refund, void

CHARGED = (attempt(0), ends(0, approved()))
LOST = InDoubt(reason="timeout")


def lived(*script: cmd.Command, mode: CaptureMode = CaptureMode.AUTOMATIC) -> Payment:
    return play(initiate(mode), script).payment


def held(*script: cmd.Command) -> Payment:
    return lived(*script, mode=CaptureMode.MANUAL)


def given_back(amount: int = PART, operation_id: str = "op_9", reference: str = "re_1") -> Any:
    return cmd.RecordExternalRefund(
        operation_id=operation_id, attempt_id="op_0", amount_minor=amount, reference=reference
    )


def let_go(operation_id: str = "op_9") -> Any:
    return cmd.RecordExternalVoid(operation_id=operation_id, attempt_id="op_0", reference="vo_1")


def full(payment: Payment) -> Payment:
    """The same payment with as many operations as one may have."""
    one = payment.operations[0]
    more = tuple(replace(one, id=f"op_x{index}") for index in range(OPERATIONS_MAX - len(payment.operations)))
    return replace(payment, operations=payment.operations + more)


@pytest.mark.parametrize("evidence", [Evidence.WEBHOOK, Evidence.SETTLEMENT])
def test_a_refund_from_outside_is_recorded_as_ours_would_be(evidence: Evidence) -> None:
    payment = lived(*CHARGED)
    assert decide(payment, replace(given_back(), evidence=evidence)) == (
        ev.OperationStarted(
            operation_id="op_9",
            kind=OperationKind.REFUND,
            gateway="a",
            amount_minor=PART,
            gateway_key=gateway_key("op_9"),
            parent_id="op_0",
            reason="external",
            capture_id=None,
        ),
        ev.OperationApproved(operation_id="op_9", amount_minor=PART, reference="re_1", evidence=evidence),
    )


def test_a_refund_from_outside_names_the_capture_that_covers_it() -> None:
    payment = held(*CHARGED, capture(1), ends(1, approved()))
    started = decide(payment, given_back(AMOUNT))[0]
    assert isinstance(started, ev.OperationStarted) and started.capture_id == "op_1"


def test_a_refund_that_is_known_is_told_twice_in_vain() -> None:
    payment = lived(*CHARGED, given_back(reference="re_1"))
    assert payment.refunded_minor == PART
    assert decide(payment, given_back(operation_id="op_8", reference="re_1")) == ()
    assert decide(payment, given_back(operation_id="op_8", reference="re_2")) != ()


def test_while_a_refund_is_under_way_the_one_from_outside_waits() -> None:
    with pytest.raises(OperationInDoubt, match="it may be this one"):
        decide(lived(*CHARGED, refund(1, PART), ends(1, LOST)), given_back())
    assert len(decide(lived(*CHARGED, refund(1, PART), ends(1, HARD)), given_back())) == 2


@pytest.mark.parametrize("amount", [0, -1, AMOUNT + 1])
def test_a_refund_that_does_not_fit_is_left_to_a_person(amount: int) -> None:
    asked = ev.ReviewRequested(reason="external_refund_does_not_fit: re_1")
    assert decide(lived(*CHARGED), given_back(amount)) == (asked,)


def test_a_refund_of_what_was_never_captured_does_not_fit() -> None:
    assert isinstance(decide(lived(attempt(0), ends(0, HARD)), given_back())[0], ev.ReviewRequested)
    gone = held(*CHARGED, void(1), ends(1, approved()))
    assert isinstance(decide(gone, given_back(AMOUNT))[0], ev.ReviewRequested)
    final = held(*CHARGED, capture(1, PART), ends(1, approved(PART)))
    once = replace(given_back(PART + 1), once=True)
    assert isinstance(decide(final, once)[0], ev.ReviewRequested)
    with pytest.raises(InvalidState, match="it waits"):
        decide(final, replace(once, once=False))


def test_a_refund_that_is_faster_than_the_news_of_its_capture_waits_for_it() -> None:
    waits = "gives back what is not known to be captured; it waits"
    with pytest.raises(InvalidState, match=waits):
        decide(held(*CHARGED), given_back())
    with pytest.raises(InvalidState, match=waits):
        decide(held(*CHARGED, capture(1, PART), ends(1, LOST)), given_back())
    part = held(*CHARGED, capture(1, PART, final=False), ends(1, approved(PART)))
    with pytest.raises(InvalidState, match=waits):
        decide(part, given_back(PART + 1))
    gone = held(*CHARGED, void(1), ends(1, approved()))
    with pytest.raises(InvalidState, match=waits):
        decide(gone, given_back(AMOUNT - 1))
    assert isinstance(decide(part, given_back(AMOUNT + 1))[0], ev.ReviewRequested)


def test_a_settled_refund_does_not_wait_for_news_that_no_report_brings() -> None:
    settled = replace(given_back(), evidence=Evidence.SETTLEMENT)
    assert isinstance(decide(held(*CHARGED), settled)[0], ev.ReviewRequested)


def test_a_refund_from_outside_fits_into_what_was_captured_in_part() -> None:
    part = held(*CHARGED, capture(1, PART, final=False), ends(1, approved(PART)))
    assert isinstance(decide(part, given_back(PART))[0], ev.OperationStarted)


def test_a_refund_from_outside_counts_against_the_capture_that_the_news_names() -> None:
    twice = held(
        *CHARGED,
        capture(1, PART, final=False),
        ends(1, approved(PART)),
        capture(2, PART, final=False),
        ends(2, approved(PART)),
    )
    started = decide(twice, replace(given_back(1), capture_id="op_2"))[0]
    assert isinstance(started, ev.OperationStarted) and started.capture_id == "op_2"


@pytest.mark.parametrize("amount", [1, AMOUNT])
def test_a_refund_fits_from_one_unit_to_all_that_was_captured(amount: int) -> None:
    assert len(decide(lived(*CHARGED), given_back(amount))) == 2


def test_a_refund_that_does_not_fit_waits_while_a_person_looks_already() -> None:
    payment = lived(*CHARGED, cmd.RequestReview(reason="person"))
    with pytest.raises(InvalidState, match="is in review; external_refund_does_not_fit: re_1 waits"):
        decide(payment, given_back(AMOUNT + 1))


@pytest.mark.parametrize("news", [given_back, let_go])
def test_news_from_outside_needs_a_new_name(news: Any) -> None:
    payment = held(*CHARGED) if news is let_go else lived(*CHARGED)
    with pytest.raises(InvalidState, match="has an operation op_0 already"):
        decide(payment, news(operation_id="op_0"))


def test_a_refund_from_outside_needs_room_and_a_void_which_ends_the_payment_does_not() -> None:
    with pytest.raises(InvalidState, match="the most that a payment may have"):
        decide(full(lived(*CHARGED)), given_back())
    assert len(decide(full(held(*CHARGED)), let_go())) == 2


def test_what_is_held_can_be_released_however_many_operations_there_were() -> None:
    payment = full(held(*CHARGED))
    with pytest.raises(InvalidState, match="has 250 operations, the most"):
        decide(payment, cmd.StartCapture(operation_id="op_c"))
    assert decide(payment, cmd.StartVoid(operation_id="op_v", reason="expired"))
    assert decide(payment, cmd.StartVoid(operation_id="op_v"))
    declined = replace(
        payment.operations[0], kind=OperationKind.VOID, attempt=0, status=OperationStatus.DECLINED
    )
    voids = tuple(replace(declined, id=f"op_v{index}") for index in range(VOIDS_KEPT))
    fuller = replace(payment, operations=payment.operations + voids)
    with pytest.raises(InvalidState, match="has 270 operations, the most"):
        decide(fuller, cmd.StartVoid(operation_id="op_v"))
    assert decide(fuller, cmd.StartVoid(operation_id="op_v", reason="expired"))


def test_a_void_from_outside_is_recorded_as_ours_would_be() -> None:
    assert decide(held(*CHARGED), replace(let_go(), evidence=Evidence.SETTLEMENT)) == (
        ev.OperationStarted(
            operation_id="op_9",
            kind=OperationKind.VOID,
            gateway="a",
            amount_minor=AMOUNT,
            gateway_key=gateway_key("op_9"),
            parent_id="op_0",
            reason="external",
        ),
        ev.OperationApproved(
            operation_id="op_9", amount_minor=AMOUNT, reference="vo_1", evidence=Evidence.SETTLEMENT
        ),
    )


def test_a_void_of_what_has_ended_without_money_says_nothing_new() -> None:
    for payment in (
        held(*CHARGED, void(1), ends(1, approved())),
        held(*CHARGED, void(1, "expired"), ends(1, approved())),
        held(attempt(0), ends(0, HARD)),
    ):
        assert decide(payment, let_go()) == ()


def test_a_void_waits_for_what_is_under_way() -> None:
    with pytest.raises(OperationInDoubt, match="the void may be its outcome"):
        decide(held(*CHARGED, void(1), ends(1, LOST)), let_go())


def test_what_is_left_after_a_capture_can_be_released_at_the_dashboard() -> None:
    part = held(*CHARGED, capture(1, PART, final=False), ends(1, approved(PART)))
    started, ended = decide(part, let_go())
    assert isinstance(started, ev.OperationStarted) and started.amount_minor == AMOUNT - PART
    assert isinstance(ended, ev.OperationApproved)
    after = held(*CHARGED, capture(1, PART, final=False), ends(1, approved(PART)), let_go())
    assert (after.state, after.captured_minor) == (PaymentState.SUCCEEDED, PART)
    assert after.released_minor == AMOUNT - PART


def test_a_void_by_the_person_who_was_asked_is_recorded_while_they_look() -> None:
    asked = (*CHARGED, cmd.RequestReview(reason="succeeded_after_doubt"))
    after = held(*asked, let_go())
    assert (after.released_minor, after.ended, after.review) == (AMOUNT, "canceled", "succeeded_after_doubt")
    assert held(*asked, let_go(), cmd.CloseReview(reason="ben")).state is PaymentState.CANCELED


def test_a_void_while_the_payers_bank_disputes_a_part_is_left_to_a_person() -> None:
    part = (*CHARGED, capture(1, PART, final=False), ends(1, approved(PART)), DISPUTED)
    assert isinstance(decide(held(*part), let_go())[0], ev.ReviewRequested)


def test_a_void_of_what_was_captured_is_left_to_a_person() -> None:
    asked = ev.ReviewRequested(reason="external_void_does_not_fit: vo_1")
    assert decide(lived(*CHARGED), let_go()) == (asked,)
    with pytest.raises(InvalidState, match="is in review; external_void_does_not_fit: vo_1 waits"):
        decide(lived(*CHARGED, cmd.RequestReview(reason="person")), let_go())


# --- captures -----------------------------------------------------------------------------------------------


def taken(amount: int = AMOUNT, operation_id: str = "op_9", reference: str = "ca_1") -> Any:
    return cmd.RecordExternalCapture(
        operation_id=operation_id, attempt_id="op_0", amount_minor=amount, reference=reference
    )


@pytest.mark.parametrize(("amount", "final"), [(AMOUNT, True), (PART, False)])
def test_a_capture_from_outside_is_recorded_as_ours_would_be(amount: int, final: bool) -> None:
    assert decide(held(*CHARGED), replace(taken(amount), evidence=Evidence.LOOKUP)) == (
        ev.OperationStarted(
            operation_id="op_9",
            kind=OperationKind.CAPTURE,
            gateway="a",
            amount_minor=amount,
            gateway_key=gateway_key("op_9"),
            parent_id="op_0",
            final=final,
            reason="external",
        ),
        ev.OperationApproved(
            operation_id="op_9", amount_minor=amount, reference="ca_1", evidence=Evidence.LOOKUP
        ),
    )
    after = held(*CHARGED, taken(amount))
    assert (after.captured_minor, after.capturable_minor) == (amount, AMOUNT - amount)


def test_a_capture_at_a_gateway_that_captures_but_once_releases_the_rest() -> None:
    after = held(*CHARGED, replace(taken(PART), final=True))
    assert (after.captured_minor, after.released_minor, after.capturable_minor) == (PART, AMOUNT - PART, 0)
    assert after.state is PaymentState.SUCCEEDED


def test_a_capture_that_was_slower_than_the_release_of_the_rest_eats_into_it() -> None:
    after = held(*CHARGED, capture(1, PART, final=False), ends(1, approved(PART)), let_go(), taken(1, "op_8"))
    assert (after.captured_minor, after.released_minor) == (PART + 1, AMOUNT - PART - 1)


@pytest.mark.parametrize("reason", [None, "expired"])
def test_what_was_captured_before_the_rest_was_released_is_booked_though_it_is_heard_of_later(
    reason: str | None,
) -> None:
    """Ours or somebody's void: it released what the capture had left."""
    for released in (void(1, reason) if reason else void(1), None):
        script = (*CHARGED, released, ends(1, approved())) if released else (*CHARGED, let_go("op_7"))
        after = held(*script, taken(PART))
        assert (after.captured_minor, after.released_minor) == (PART, AMOUNT - PART)
        assert after.state is PaymentState.SUCCEEDED
        assert isinstance(decide(held(*script), taken(AMOUNT))[0], ev.ReviewRequested)


def test_where_a_gateway_captures_but_once_the_same_amount_is_the_same_capture_by_another_name() -> None:
    """Half of an authorisation was captured, in the end: another half of the same amount would fit."""
    once = replace(taken(PART), final=True, once=True)
    final = held(*CHARGED, capture(1, PART), ends(1, approved(PART)))
    assert decide(final, once) == ()
    assert isinstance(decide(final, replace(once, once=False))[0], ev.OperationStarted)
    assert isinstance(decide(final, replace(once, amount_minor=PART - 1))[0], ev.ReviewRequested)


def test_a_capture_that_is_faster_than_the_authorisation_waits_for_it() -> None:
    for payment in (held(attempt(0)), held(attempt(0), ends(0, LOST)), held(attempt(0), ends(0, HARD))):
        with pytest.raises(InvalidState, match="captures what is not known to be authorised; it waits"):
            decide(payment, taken())


def test_a_capture_that_is_known_or_is_the_charge_itself_says_nothing_new() -> None:
    known = held(*CHARGED, taken(PART))
    assert decide(known, taken(PART, "op_8")) == ()
    assert decide(known, taken(PART, "op_8", "ca_2")) != ()
    assert decide(lived(*CHARGED), taken()) == ()


def test_a_capture_from_outside_waits_for_what_is_under_way() -> None:
    for ours in (capture(1, PART, final=False), void(1)):
        with pytest.raises(OperationInDoubt, match="it may be this one"):
            decide(held(*CHARGED, ours, ends(1, LOST)), taken(PART))
    assert len(decide(held(*CHARGED, capture(1), ends(1, HARD)), taken())) == 2


def test_a_capture_that_does_not_fit_is_left_to_a_person() -> None:
    asked = (ev.ReviewRequested(reason="external_capture_does_not_fit: ca_1"),)
    for amount in (0, AMOUNT + 1):
        assert decide(held(*CHARGED), taken(amount)) == asked
    assert decide(held(*CHARGED, void(1), ends(1, approved())), taken()) == asked
    assert decide(held(*CHARGED, capture(1), ends(1, approved())), taken()) == asked
    disputed = held(*CHARGED, capture(1, PART, final=False), ends(1, approved(PART)), DISPUTED)
    assert decide(disputed, taken(PART)) == asked
    with pytest.raises(InvalidState, match="is in review; external_capture_does_not_fit: ca_1 waits"):
        decide(held(*CHARGED, cmd.RequestReview(reason="person")), taken(AMOUNT + 1))


def test_the_same_unfitting_news_is_asked_about_once_and_overrides_a_doubt() -> None:
    payment = held(*CHARGED, taken(AMOUNT + 1))
    assert decide(payment, taken(AMOUNT + 1)) == ()
    doubt = lived(*CHARGED, refund(1, PART), ends(1, LOST), WATCHED)
    assert doubt.review_until_evidence
    after = replace(doubt, operations=(doubt.operations[0],))
    assert isinstance(decide(after, given_back(AMOUNT + 1))[0], ev.ReviewRequested)


# --- which attempt it was -----------------------------------------------------------------------------------


DISPUTED = cmd.OpenDispute(attempt_id="op_0", reference="d", amount_minor=PART)
WATCHED = cmd.RequestReview(reason="slow", operation_id="op_1")
TWO = (attempt(0), ends(0, SOFT, again=True), attempt(1, "b"), ends(1, approved()))
REFUSED = (
    *(*TWO, ends(0, approved())),
    *(cmd.StartReversal(operation_id=name(2), target_id=name(0)), ends(2, HARD)),
)
"""The first attempt had taken money as well, and its PSP would not take it back."""


def lost(amount: int, won: bool | None = False) -> cmd.CloseDispute:
    return cmd.CloseDispute(
        operation_id="op_9", attempt_id="op_0", reference="dp_1", won=won, amount_minor=amount
    )


@pytest.mark.parametrize(
    ("told", "reason"), [(given_back(AMOUNT), "external"), (lost(AMOUNT), "dispute_lost")]
)
def test_what_the_losing_attempt_gave_back_in_full_is_its_reversal(told: Any, reason: str) -> None:
    payment = lived(*REFUSED)
    assert payment.review == "reversal_refused: lost_card"
    after = lived(*REFUSED, told)
    assert decide(payment, told) == (
        ev.OperationStarted(
            operation_id="op_9",
            kind=OperationKind.REFUND,
            gateway="a",
            amount_minor=AMOUNT,
            gateway_key=gateway_key("op_9"),
            parent_id="op_0",
            reason=reason,
            compensates=True,
        ),
        ev.OperationApproved(
            operation_id="op_9",
            amount_minor=AMOUNT,
            reference=told.reference,
            evidence=Evidence.WEBHOOK,
        ),
        ev.ReviewClosed(reason="evidence: webhook"),
    )
    assert after.operations[0].status is OperationStatus.REVERSED
    assert (after.state, after.refundable_minor, after.refunded_minor, after.lost_minor) == (
        *(PaymentState.SUCCEEDED, AMOUNT, 0),
        0,
    )
    assert decide(after, told) == (), "told twice"
    assert decide(after, refund(10))[0].gateway == "b"  # type: ignore[union-attr]


def test_a_void_of_the_losing_authorisation_is_its_reversal() -> None:
    payment = held(*REFUSED)
    started = decide(payment, let_go())[0]
    assert isinstance(started, ev.OperationStarted)
    assert (started.kind, started.gateway, started.compensates) == (OperationKind.VOID, "a", True)
    after = held(*REFUSED, let_go())
    assert after.operations[0].status is OperationStatus.REVERSED
    assert (after.state, after.capturable_minor) == (PaymentState.AUTHORIZED, AMOUNT)
    assert decide(after, let_go()) == ()


def test_the_review_stays_open_while_something_else_is_in_doubt() -> None:
    told = given_back(AMOUNT)
    doubtful = lived(*TWO, refund(2, PART), ends(2, LOST), ends(0, approved()), REVERSAL, ends(3, HARD), told)
    assert doubtful.operations[0].status is OperationStatus.REVERSED
    assert doubtful.state is PaymentState.NEEDS_REVIEW


REVERSAL = cmd.StartReversal(operation_id=name(3), target_id=name(0))


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (given_back(PART), "unwanted_attempt: external_refund re_1"),
        (taken(AMOUNT), "unwanted_attempt: external_capture ca_1"),
        (lost(PART), "unwanted_attempt: dispute dp_1"),
        (lost(AMOUNT, won=None), "unwanted_attempt: dispute dp_1"),
        (DISPUTED, "unwanted_attempt: dispute d"),
    ],
)
def test_what_does_not_undo_the_losing_attempt_is_left_to_a_person(told: Any, reason: str) -> None:
    assert decide(lived(*REFUSED), told) == (ev.ReviewRequested(reason=reason),)
    after = lived(*REFUSED, told)
    assert (after.refunded_minor, after.lost_minor, after.disputes_open) == (0, 0, ())
    assert decide(after, told) == ()


def test_a_dispute_about_the_losing_attempt_that_was_won_changes_nothing() -> None:
    assert decide(lived(*REFUSED), lost(AMOUNT, won=True)) == ()


def test_news_of_an_attempt_that_is_being_reversed_may_be_that_reversal() -> None:
    reversing = lived(*TWO, ends(0, approved()), cmd.StartReversal(operation_id=name(2), target_id=name(0)))
    for told in (given_back(AMOUNT), lost(AMOUNT)):
        with pytest.raises(OperationInDoubt, match="may be that"):
            decide(reversing, told)
    held_twice = held(*TWO, ends(0, approved()), cmd.StartReversal(operation_id=name(2), target_id=name(0)))
    with pytest.raises(OperationInDoubt, match="may be that"):
        decide(held_twice, let_go())


@pytest.mark.parametrize("attempt_id", ["op_0", None, "op_unknown"])
def test_news_of_an_attempt_that_took_nothing_yet_waits_and_counts_against_nobody(
    attempt_id: str | None,
) -> None:
    """The news of its late success may be on its way; and where nobody knows which attempt it is, it may be either's."""
    charged = lived(*TWO)
    for told in (given_back(AMOUNT), taken(AMOUNT), lost(AMOUNT), DISPUTED):
        with pytest.raises(InvalidState, match="is not about the approved attempt"):
            decide(charged, replace(told, attempt_id=attempt_id))
    if attempt_id != "op_0":
        with pytest.raises(InvalidState, match="is not about the approved attempt"):
            decide(held(*TWO), replace(let_go(), attempt_id=attempt_id))
    else:
        assert decide(held(*TWO), let_go()) == ()


def test_a_dispute_that_is_known_to_be_the_approved_attempts_is_closed_by_its_name_alone() -> None:
    opened = lived(*TWO, replace(DISPUTED, attempt_id="op_1"))
    closed = decide(opened, replace(lost(PART), reference="d", attempt_id=None))
    assert closed == (ev.DisputeClosed(reference="d", won=False, amount_minor=PART),)
