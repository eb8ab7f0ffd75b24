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
from tests.unit.domain_explorer import AMOUNT, PART, initiate, play
from tests.unit.domain_lives import HARD, approved, attempt, capture, ends, refund, void

CHARGED = (attempt(0), ends(0, approved()))
LOST = InDoubt(reason="timeout")


def lived(*script: cmd.Command, mode: CaptureMode = CaptureMode.AUTOMATIC) -> Payment:
    return play(initiate(mode), script).payment


def held(*script: cmd.Command) -> Payment:
    return lived(*script, mode=CaptureMode.MANUAL)


def given_back(amount: int = PART, operation_id: str = "op_9", reference: str = "re_1") -> Any:
    return cmd.RecordExternalRefund(operation_id=operation_id, amount_minor=amount, reference=reference)


def let_go(operation_id: str = "op_9") -> Any:
    return cmd.RecordExternalVoid(operation_id=operation_id, reference="vo_1")


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
    assert isinstance(decide(held(*CHARGED), given_back())[0], ev.ReviewRequested)
    assert isinstance(decide(lived(attempt(0), ends(0, HARD)), given_back())[0], ev.ReviewRequested)


@pytest.mark.parametrize("amount", [1, AMOUNT])
def test_a_refund_fits_from_one_unit_to_all_that_was_captured(amount: int) -> None:
    assert len(decide(lived(*CHARGED), given_back(amount))) == 2


def test_a_refund_that_does_not_fit_waits_while_a_person_looks_already() -> None:
    payment = lived(*CHARGED, cmd.RequestReview(reason="person"))
    with pytest.raises(InvalidState, match="is in review; the refund re_1 waits"):
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


def test_a_void_of_what_was_captured_is_left_to_a_person() -> None:
    asked = ev.ReviewRequested(reason="external_void_does_not_fit: vo_1")
    assert decide(lived(*CHARGED), let_go()) == (asked,)
    part = held(*CHARGED, capture(1, PART, final=False), ends(1, approved(PART)))
    assert decide(part, let_go()) == (asked,)
    with pytest.raises(InvalidState, match="is in review; the void vo_1 waits"):
        decide(lived(*CHARGED, cmd.RequestReview(reason="person")), let_go())
