"""An approval that cannot be true beside what is known already: which of them a person must look at, and why."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from aegispay.domain import commands as cmd
from aegispay.domain import events as ev
from aegispay.domain.decide import DISPUTES_MAX, decide
from aegispay.domain.errors import (
    CurrencyMismatch,
    InvalidAmount,
    InvalidRequest,
    InvalidState,
    UnknownCurrency,
)
from aegispay.domain.events import CaptureMode, OperationKind
from aegispay.domain.money import AMOUNT_MINOR_MAX, Money
from aegispay.domain.outcomes import InDoubt
from aegispay.domain.payment import Operation, OperationStatus, Payment
from aegispay.domain.record import _contradiction
from aegispay.domain.states import PaymentState
from aegispay.orchestration.requests import checked_request
from aegispay.orchestration.results import operation_result
from tests.unit.domain_explorer import AMOUNT, PART, initiate, play
from tests.unit.domain_lives import approved, attempt, capture, close_dispute, ends, refund, void

HELD = (attempt(0), ends(0, approved()))
REST = AMOUNT - PART


def held(*script: cmd.Command) -> Payment:
    return play(initiate(CaptureMode.MANUAL), (*HELD, *script)).payment


def last(payment: Payment, **changed: Any) -> Operation:
    return replace(payment.operations[-1], **changed)


def beside(payment: Payment, **changed: Any) -> Payment:
    """With one more operation like the last one, still in doubt."""
    more = replace(payment.operations[-1], id="op_8", status=OperationStatus.IN_DOUBT, **changed)
    return replace(payment, operations=(*payment.operations, more))


def test_another_amount_than_was_asked_for() -> None:
    payment = held(capture(1, PART))
    assert _contradiction(payment, last(payment), PART) is None
    assert _contradiction(payment, last(payment), PART - 1) == (
        f"amount_differs: asked for {PART}, the gateway took {PART - 1}"
    )


def test_a_void_may_say_another_amount() -> None:
    payment = held(void(1))
    assert _contradiction(payment, last(payment), 1) is None


def test_a_void_beside_a_capture() -> None:
    payment = held(void(1))
    assert _contradiction(beside(payment, kind=OperationKind.CAPTURE), last(payment), AMOUNT) == (
        "voided_during_capture"
    )
    taken = replace(payment, captured_minor=AMOUNT)
    assert _contradiction(taken, last(payment), AMOUNT) == "voided_after_capture"
    part = replace(payment, captured_minor=PART)
    assert _contradiction(part, last(payment), REST) is None


def test_a_capture_of_more_than_is_held() -> None:
    payment = held(capture(1, PART))
    assert _contradiction(payment, last(payment), PART) is None
    done = replace(payment, captured_minor=AMOUNT)
    ended = last(payment, status=OperationStatus.NOT_SENT)
    assert _contradiction(done, ended, PART) == "captured_beyond_authorized"


def test_a_final_capture_beside_another_that_may_have_been_made() -> None:
    payment = held(capture(1, PART, final=False))
    two = beside(payment, final=False)
    assert _contradiction(two, replace(two.operations[-1], final=True), PART) == "released_during_capture"
    assert _contradiction(two, two.operations[-1], PART) is None
    assert _contradiction(payment, last(payment, final=True), PART) is None


def test_a_refund_of_more_than_was_taken() -> None:
    payment = play(initiate(CaptureMode.AUTOMATIC), (*HELD, refund(1, PART))).payment
    assert _contradiction(payment, last(payment), PART) is None
    gone = replace(payment, refunded_minor=AMOUNT)
    assert _contradiction(gone, last(payment, status=OperationStatus.NOT_SENT), PART) == (
        "refunded_beyond_captured"
    )


def test_a_reversal_of_what_was_reversed_before() -> None:
    payment = held(void(1))
    reversal = last(payment, compensates=True, parent_id="op_0")
    assert _contradiction(payment, reversal, AMOUNT) == "reversed_twice"
    unwanted = replace(payment.operations[0], status=OperationStatus.UNWANTED)
    there = replace(payment, operations=(unwanted, *payment.operations[1:]))
    assert _contradiction(there, reversal, AMOUNT) is None


# --- disputes -----------------------------------------------------------------------------------------------


def test_the_end_of_a_known_dispute_is_heard_however_many_there_are() -> None:
    charged = play(initiate(CaptureMode.AUTOMATIC), HELD).payment
    closed = tuple(f"d{number}" for number in range(DISPUTES_MAX))
    full = replace(charged, disputes_closed=closed)
    assert decide(full, close_dispute(True, reference="d0")) == ()
    with pytest.raises(InvalidState, match="the most that a payment may have"):
        decide(full, close_dispute(True, reference="d_new", attempt_id="op_0"))
    opened = replace(charged, disputes_open=closed)
    assert decide(opened, close_dispute(True, reference="d0")) == (
        ev.DisputeClosed(reference="d0", won=True),
    )


# --- what an error shows --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "shown"),
    [
        (1.5, "1.5"),
        (True, "True"),
        ([1], "of type list"),
        (None, "of type NoneType"),
        ("U" * 41, "'" + "U" * 40 + "'..."),
    ],
)
def test_a_refused_currency_is_named(wrong: Any, shown: str) -> None:
    with pytest.raises(UnknownCurrency) as caught:
        Money(1, wrong)
    assert f"unknown currency {shown}." in str(caught.value)


@pytest.mark.parametrize(
    ("field", "most"),
    [("customer_id", 255), ("description", 500), ("return_url", 2000), ("correlation_id", 128)],
)
def test_a_text_that_is_too_long_is_named_with_its_limit(field: str, most: int) -> None:
    def asked(length: int) -> Any:
        return checked_request(
            amount=Money(1, "USD"),
            method="tok_1",
            idempotency_key="k",
            capture=CaptureMode.AUTOMATIC,
            **{field: "https://a.example/".ljust(length, "x")},
        )

    assert getattr(asked(most), field) == "https://a.example/".ljust(most, "x")
    with pytest.raises(InvalidRequest, match=f"^{field}[^~]*{most}"):
        asked(most + 1)


def test_the_largest_amount_and_sums_of_two_currencies() -> None:
    assert Money(AMOUNT_MINOR_MAX, "USD").amount_minor == AMOUNT_MINOR_MAX
    with pytest.raises(InvalidAmount):
        Money(AMOUNT_MINOR_MAX + 1, "USD")
    with pytest.raises(CurrencyMismatch):
        Money(1, "USD") + Money(1, "EUR")


def test_a_doubt_reserves_what_it_may_have_taken() -> None:
    payment = held(capture(1, PART, final=False), ends(1, InDoubt(reason="timeout")))
    assert payment.reserved(OperationKind.CAPTURE) == PART
    assert payment.capturable_minor == REST


@pytest.mark.parametrize("kind", [OperationKind.CAPTURE, OperationKind.REFUND, OperationKind.VOID])
def test_an_operation_in_doubt_is_told_as_a_persons_business_only_while_one_looks(
    kind: OperationKind,
) -> None:
    begun = {
        OperationKind.CAPTURE: (capture(1, PART, final=False),),
        OperationKind.VOID: (void(1),),
        OperationKind.REFUND: (capture(1), ends(1, approved()), refund(2, PART)),
    }[kind]
    last_number = 2 if kind is OperationKind.REFUND else 1
    doubt = held(*begun, ends(last_number, InDoubt(reason="timeout")))
    answer = operation_result(doubt, doubt.operations[-1])
    assert answer.error is not None and answer.error.code == "in_doubt"
    looked_at = replace(doubt, review="person", state=PaymentState.NEEDS_REVIEW)
    answer = operation_result(looked_at, looked_at.operations[-1])
    assert answer.error is not None and answer.error.code == "needs_review"
