"""What rows and callers rely on to the letter: names on the wire, defaults, limits, and that nothing changes in place."""

from __future__ import annotations

import inspect
from enum import StrEnum
from importlib import import_module

import msgspec
import pytest

from aegispay.domain import commands as cmd
from aegispay.domain import events as ev
from aegispay.domain.decide import decide
from aegispay.domain.errors import InvalidAmount
from aegispay.domain.events import CaptureMode
from aegispay.domain.methods import PaymentMethodType, Token
from aegispay.domain.money import Money
from aegispay.domain.outcomes import (
    ActionType,
    Approved,
    DeclineCategory,
    Declined,
    Evidence,
    InDoubt,
    NextAction,
    NotSent,
    Outcome,
    Pending,
    RequiresAction,
)
from aegispay.domain.payment import OperationStatus, encode_payment
from aegispay.domain.states import PaymentState
from aegispay.orchestration.results import Failed, operation_result, payment_result
from aegispay.orchestration.results import Pending as PendingResult
from aegispay.storage.store import Purpose
from tests.unit.domain_explorer import AMOUNT, Reached, initiate, play
from tests.unit.domain_lives import HARD, SOFT, approved, attempt, capture, ends, refund, void

MODULES = ("commands", "events", "methods", "outcomes", "payment")
STRUCTS = sorted(
    {
        found
        for module in MODULES
        for found in vars(import_module(f"aegispay.domain.{module}")).values()
        if isinstance(found, type)
        and issubclass(found, msgspec.Struct)
        and found.__module__.startswith("aegispay.domain")
    },
    key=lambda one: one.__name__,
)


def lived(*script: cmd.Command, mode: CaptureMode = CaptureMode.AUTOMATIC) -> Reached:
    return play(initiate(mode), script)


# --- values -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda one: one.__name__)
def test_a_value_never_changes_in_place_and_its_fields_are_named(struct: type[msgspec.Struct]) -> None:
    assert struct.__struct_config__.frozen
    kinds = {one.kind for one in inspect.signature(struct).parameters.values()}
    if struct not in (Money, Token):  # `Money(100, "USD")` and `Token("tok")` are what everybody writes
        assert kinds <= {inspect.Parameter.KEYWORD_ONLY}


WIRE: list[tuple[Outcome, str]] = [
    (
        Approved(reference="r", amount_minor=1),
        '{"type":"approved","reference":"r","amount_minor":1,"expires_at_us":null}',
    ),
    (
        Declined(category=DeclineCategory.SOFT, code="c"),
        '{"type":"declined","category":"soft","code":"c","message":"","gateway_code":"","reference":null}',
    ),
    (
        RequiresAction(reference="r", action=NextAction()),
        '{"type":"requires_action","reference":"r","action":{}}',
    ),
    (Pending(), '{"type":"pending","reference":null,"reason":"processing"}'),
    (NotSent(reason="dns"), '{"type":"not_sent","reason":"dns","retry_after_s":null}'),
    (InDoubt(reason="reset"), '{"type":"in_doubt","reason":"reset","retry_after_s":null}'),
]


@pytest.mark.parametrize(("outcome", "text"), WIRE, ids=lambda one: type(one).__name__)
def test_an_outcome_that_was_kept_with_a_notice_can_be_read_later(outcome: Outcome, text: str) -> None:
    """Notices are stored as JSON: another name in it would make those unreadable that wait during an upgrade."""
    assert msgspec.json.encode(outcome).decode() == text
    assert msgspec.json.decode(text, type=Outcome) == outcome


def test_a_next_action_is_a_redirect_unless_it_says_otherwise() -> None:
    assert NextAction().type is ActionType.REDIRECT
    assert msgspec.json.encode(NextAction(type=ActionType.OTP)) == b'{"type":"otp"}'


def test_what_is_stored_leaves_out_what_is_as_usual() -> None:
    payment = lived(attempt(0), ends(0, approved())).payment
    stored = msgspec.json.decode(encode_payment(payment))
    assert "refunded_minor" not in stored and "review" not in stored and "disputes_open" not in stored
    (operation,) = stored["operations"]
    assert "final" not in operation and "compensates" not in operation and "parent_id" not in operation


# --- commands -----------------------------------------------------------------------------------------------


def test_an_outcome_ends_the_payment_unless_the_caller_says_that_it_goes_on() -> None:
    plain = cmd.RecordOutcome(operation_id="op_0", outcome=SOFT)
    assert plain.evidence is Evidence.REPLY
    after = lived(attempt(0), plain).payment
    assert after.state is PaymentState.FAILED
    goes_on = decide(lived(attempt(0)).payment, ends(0, SOFT, again=True))
    assert [type(one) for one in goes_on] == [ev.OperationDeclined]


def test_a_capture_is_final_and_in_full_unless_it_says_otherwise() -> None:
    authorized = lived(attempt(0), ends(0, approved()), mode=CaptureMode.MANUAL).payment
    (started,) = decide(authorized, cmd.StartCapture(operation_id="op_9"))
    assert isinstance(started, ev.OperationStarted)
    assert started.final and started.amount_minor == AMOUNT


# --- answers ------------------------------------------------------------------------------------------------


def test_an_answer_tells_who_is_being_waited_for() -> None:
    started = lived(attempt(0)).payment
    answers = {
        "in_progress": started,
        "in_doubt": lived(attempt(0), ends(0, InDoubt(reason="timeout"))).payment,
        "processing": lived(attempt(0), ends(0, Pending(reference="r"))).payment,
    }
    for code, payment in answers.items():
        for answer in (payment_result(payment), operation_result(payment, payment.operations[0])):
            assert isinstance(answer, PendingResult)
            assert answer.error is not None and answer.error.code == code


@pytest.mark.parametrize(
    ("outcome", "code", "retryable"),
    [
        (SOFT, "insufficient_funds", True),
        (HARD, "lost_card", False),
        (NotSent(reason="dns"), "gateway_unavailable", True),
    ],
)
def test_a_refused_follow_up_says_why_and_whether_to_try_again(
    outcome: Outcome, code: str, retryable: bool
) -> None:
    payment = lived(attempt(0), ends(0, approved()), refund(1), ends(1, outcome)).payment
    answer = operation_result(payment, payment.operations[1])
    assert isinstance(answer, Failed) and answer.error is not None
    assert (answer.error.code, answer.error.retryable) == (code, retryable)
    assert answer.error.message
    assert answer.is_failure() and not answer.is_pending()


@pytest.mark.parametrize(("outcome", "retryable"), [(SOFT, True), (HARD, False)])
def test_a_failed_payment_says_whether_to_try_again(outcome: Outcome, retryable: bool) -> None:
    answer = payment_result(lived(attempt(0), ends(0, outcome)).payment)
    assert isinstance(answer, Failed) and answer.error is not None
    assert answer.error.retryable is retryable
    assert answer.error.category is (DeclineCategory.SOFT if retryable else DeclineCategory.HARD)


def test_a_voided_payment_is_canceled_and_one_that_lapsed_is_expired() -> None:
    def voided(reason: str | None) -> PaymentState:
        script = (attempt(0), ends(0, approved()), void(1, reason), ends(1, approved()))
        return lived(*script, mode=CaptureMode.MANUAL).payment.state

    assert voided(None) is PaymentState.CANCELED
    assert voided("requested") is PaymentState.CANCELED
    assert voided("expired") is PaymentState.EXPIRED


def test_captures_add_up() -> None:
    life = (
        attempt(0),
        ends(0, approved()),
        capture(1, 40, final=False),
        ends(1, approved(40)),
        capture(2, 60),
    )
    payment = lived(*life, ends(2, approved(60)), mode=CaptureMode.MANUAL).payment
    assert (payment.captured_minor, payment.released_minor) == (AMOUNT, 0)


NAMES = {
    ev.CaptureMode: "automatic manual",
    ev.OperationKind: "authorize charge confirm capture void refund",
    DeclineCategory: "soft hard fraud authentication_required invalid",
    Evidence: "reply resend lookup cancel webhook settlement person",
    ActionType: "redirect otp sdk",
    PaymentState: "initiated requires_action authenticated processing in_doubt authorized succeeded"
    " partially_refunded refunded failed canceled expired needs_review disputed",
    OperationStatus: "started in_doubt pending requires_action confirming approved declined not_sent unwanted reversed",
    PaymentMethodType: "card token",
    Purpose: "call action expiry watch",
}


@pytest.mark.parametrize("names", NAMES, ids=lambda one: one.__name__)
def test_a_name_that_stands_in_rows_stays(names: type[StrEnum]) -> None:
    assert {one.value for one in names} == set(NAMES[names].split())


@pytest.mark.parametrize("data", list(ev.TYPE_OF), ids=lambda one: one.__name__)
def test_an_event_is_stored_without_what_is_as_usual(data: type[msgspec.Struct]) -> None:
    assert data.__struct_config__.omit_defaults and data.__struct_config__.tag == ev.TYPE_OF[data]


def test_a_payment_shows_the_gateway_that_won_or_else_the_last_that_was_asked() -> None:
    failed = lived(attempt(0), ends(0, HARD))
    assert (failed.payment.gateway, failed.payment.gateway_reference) == ("a", "r")
    won = lived(attempt(0), ends(0, approved())).payment
    assert (won.gateway, won.gateway_reference) == ("a", "r")
    assert lived().payment.gateway is None and lived().payment.gateway_reference is None
    assert lived().payment.state is PaymentState.INITIATED


@pytest.mark.parametrize(("length", "shown"), [(38, "x" * 38), (60, "x" * 38)])
def test_a_refused_value_is_quoted_only_as_far_as_it_is_short(length: int, shown: str) -> None:
    with pytest.raises(InvalidAmount) as caught:
        Money.parse("x" * length, "USD")
    assert shown in str(caught.value) and ("x" * 41) not in str(caught.value)
