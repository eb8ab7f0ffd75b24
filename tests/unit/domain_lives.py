"""Payments brought by a script to each interesting point of their life, to explore from and to keep as golden streams."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from aegispay.domain import commands as cmd
from aegispay.domain import events as ev
from aegispay.domain.events import CaptureMode, OperationKind
from aegispay.domain.methods import MethodSnapshot, PaymentMethodType
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
from tests.unit.domain_explorer import ACTION, AMOUNT, PART, Reached, apply, initiate, play

SOFT = Declined(category=DeclineCategory.SOFT, code="insufficient_funds", message="no", gateway_code="51")
HARD = Declined(category=DeclineCategory.HARD, code="lost_card", reference="r")
NEEDS_ACTION = RequiresAction(reference="r", action=ACTION)
REST = AMOUNT - PART


def name(index: int) -> str:
    return f"op_{index}"


def approved(amount: int = AMOUNT) -> Approved:
    return Approved(reference="r", amount_minor=amount, expires_at_us=7)


def ends(index: int, outcome: Outcome, again: bool = False) -> cmd.RecordOutcome:
    return cmd.RecordOutcome(operation_id=name(index), outcome=outcome, will_try_next=again)


def attempt(index: int, gateway: str = "a") -> cmd.StartAttempt:
    return cmd.StartAttempt(operation_id=name(index), gateway=gateway, token="tok")


def capture(index: int, amount: int | None = None, final: bool = True) -> cmd.StartCapture:
    return cmd.StartCapture(operation_id=name(index), amount_minor=amount, final=final)


def refund(index: int, amount: int | None = None) -> cmd.StartRefund:
    return cmd.StartRefund(operation_id=name(index), amount_minor=amount)


def void(index: int, reason: str | None = None) -> cmd.StartVoid:
    return cmd.StartVoid(operation_id=name(index), reason=reason)


def confirm(index: int) -> cmd.StartConfirm:
    return cmd.StartConfirm(operation_id=name(index), action_data={"returned": "yes"})


def close_dispute(
    won: bool | None, amount: int = 0, reference: str = "d", attempt_id: str | None = "op_1"
) -> cmd.CloseDispute:
    return cmd.CloseDispute(
        operation_id="op_dispute", attempt_id=attempt_id, reference=reference, won=won, amount_minor=amount
    )


def told(index: int, outcome: Outcome) -> Sequence[cmd.Command]:
    """Asked what became of an operation in doubt, a person says it."""
    word = cmd.RecordOutcome(
        operation_id=name(index), outcome=outcome, evidence=Evidence.PERSON, word="person: looked"
    )
    return (
        ends(index, InDoubt(reason="timeout")),
        cmd.RequestReview(reason="slow", operation_id=name(index)),
        word,
    )


OPEN_DISPUTE = cmd.OpenDispute(attempt_id="op_1", reference="d", amount_minor=AMOUNT, reason="fraud")

_EARLIER: Sequence[cmd.Command] = (attempt(0), ends(0, SOFT, again=True), attempt(1, "b"))
"""A first gateway said no, so that a late success can turn up; operation 1 at gateway b is the one that counts."""
_AUTHORIZED = (*_EARLIER, ends(1, approved()))
_PART_CAPTURED = (*_AUTHORIZED, capture(2, PART, final=False), ends(2, approved(PART)))
_ACTION = (*_EARLIER, ends(1, NEEDS_ACTION))

MANUAL: dict[str, Sequence[cmd.Command]] = {
    "authorized": _AUTHORIZED,
    "capture under way": (*_AUTHORIZED, capture(2)),
    "partly captured": _PART_CAPTURED,
    "partly captured, that refunded": (*_PART_CAPTURED, refund(3), ends(3, approved(PART))),
    "partly captured, partly refunded": (*_PART_CAPTURED, refund(3, 10), ends(3, approved(10))),
    "each capture refunded": (
        *(*_PART_CAPTURED, capture(3), ends(3, approved(REST))),
        *(refund(4, REST), ends(4, approved(REST)), refund(5, PART)),
    ),
    "two captures under way": (*_AUTHORIZED, capture(2, PART, final=False), capture(3, REST, final=False)),
    "partly captured, disputed": (*_PART_CAPTURED, OPEN_DISPUTE),
    "canceled": (*_AUTHORIZED, void(2), ends(2, approved())),
    "expired": (*_AUTHORIZED, void(2, "expired"), ends(2, approved())),
    "void not sent": (*_AUTHORIZED, void(2), ends(2, NotSent(reason="dns"))),
    "partly captured, the rest expired": (*_PART_CAPTURED, void(3, "expired"), ends(3, approved(REST))),
    "voided outside": (
        *_AUTHORIZED,
        cmd.RecordExternalVoid(operation_id=name(2), attempt_id=name(1), reference="r5"),
    ),
    "captured, which failed after all": (
        *(*_AUTHORIZED, capture(2, PART), ends(2, approved(PART))),
        cmd.RecordUndone(operation_id=name(2), code="capture_failed", evidence=Evidence.LOOKUP),
    ),
    "capture told by a person": (
        *_AUTHORIZED,
        capture(2),
        *told(2, Approved(reference="r6", amount_minor=AMOUNT)),
    ),
    "authorized in doubt": (*_EARLIER, ends(1, InDoubt(reason="timeout"))),
}
AUTOMATIC: dict[str, Sequence[cmd.Command]] = {
    "processing": _EARLIER,
    "in doubt": (*_EARLIER, ends(1, InDoubt(reason="timeout"))),
    "pending": (*_EARLIER, ends(1, Pending(reference="r"))),
    "requires action": _ACTION,
    "confirming": (*_ACTION, confirm(2)),
    "confirmation in doubt": (*_ACTION, confirm(2), ends(2, InDoubt(reason="reset"))),
    "voiding while the payer acts": (*_ACTION, void(2)),
    "voiding while the gateway works": (*_ACTION, void(2), ends(1, Pending(reference="r"))),
    "charged while being voided": (*_ACTION, void(2), ends(1, approved())),
    "expired while the payer should act": (*_ACTION, void(2, "expired"), ends(2, approved())),
    "failed": (*_EARLIER, ends(1, HARD)),
    "failed beside a void": (*_ACTION, void(2), ends(1, HARD)),
    "succeeded": (*_EARLIER, ends(1, approved())),
    "two refunds under way": (*_EARLIER, ends(1, approved()), refund(2, PART), refund(3, PART)),
    "partly refunded": (*_EARLIER, ends(1, approved()), refund(2, PART), ends(2, approved(PART))),
    "refunded": (*_EARLIER, ends(1, approved()), refund(2), ends(2, approved())),
    "disputed during a refund": (*_EARLIER, ends(1, approved()), refund(2, PART), OPEN_DISPUTE),
    "refunded, which failed after all": (
        *(*_EARLIER, ends(1, approved()), refund(2, PART), ends(2, approved(PART))),
        cmd.RecordUndone(operation_id=name(2), code="refund_failed", evidence=Evidence.LOOKUP),
    ),
    "dispute lost": (
        *(*_EARLIER, ends(1, approved()), OPEN_DISPUTE),
        close_dispute(False, PART),
    ),
    "late success": (
        *_EARLIER,
        ends(0, approved()),
        cmd.StartReversal(operation_id=name(2), target_id=name(0)),
    ),
    "in review": (
        *(*_EARLIER, ends(1, InDoubt(reason="timeout"))),
        cmd.RequestReview(reason="slow", operation_id=name(1)),
    ),
    "a person saw no effect": (*_EARLIER, *told(1, NotSent(reason="person"))),
}


def everything_said() -> Reached:
    """A stream in which each event type appears with each of its fields; made of facts, not of commands."""
    method = MethodSnapshot(
        type=PaymentMethodType.CARD, brand="visa", last4="4242", expiry_month=1, expiry_year=2031, token="t"
    )
    first = ev.PaymentInitiated(
        merchant_id="m",
        amount_minor=AMOUNT,
        currency="USD",
        capture=CaptureMode.AUTOMATIC,
        method=method,
        candidates=("a", "b"),
        request_hash="h",
        customer_id="cus",
        description="a book",
        return_url="https://shop.example/back",
        metadata={"order": "7"},
    )
    started = ev.OperationStarted(
        operation_id="op_0",
        kind=OperationKind.CHARGE,
        gateway="a",
        amount_minor=AMOUNT,
        gateway_key="op_0",
        attempt=1,
        token="t",
    )
    lookup = Evidence.LOOKUP
    found = apply(Reached(None, (), False), (first, started))  # type: ignore[arg-type]
    action = NextAction(type=ActionType.SDK, url="https://bank.example/3", data={"k": "v"})
    steps: tuple[ev.EventData, ...] = (
        ev.OperationInDoubt(operation_id="op_0", reason="timeout"),
        ev.OperationPending(operation_id="op_0", reason="processing", reference="r"),
        ev.OperationRequiresAction(operation_id="op_0", reference="r", action=action),
        ev.ActionCompleted(operation_id="op_0"),
        replace(started, operation_id="op_1", kind=OperationKind.CONFIRM, attempt=0, parent_id="op_0"),
        ev.OperationNotSent(operation_id="op_1", reason="dns", evidence=lookup),
        ev.OperationDeclined(
            operation_id="op_0",
            category=DeclineCategory.HARD,
            code="lost_card",
            message="no",
            gateway_code="41",
            reference="r2",
            evidence=lookup,
        ),
        ev.PaymentFailed(code="lost_card", category=DeclineCategory.HARD, message="no"),
        ev.ReviewRequested(reason="slow", operation_id="op_0", until_evidence=True),
        ev.LateSuccessFound(
            operation_id="op_0", amount_minor=AMOUNT, reference="r3", evidence=Evidence.SETTLEMENT
        ),
        replace(
            started,
            operation_id="op_2",
            kind=OperationKind.REFUND,
            attempt=0,
            parent_id="op_0",
            final=False,
            reason="late_success",
            action_data={"k": "v"},
            compensates=True,
        ),
        ev.OperationApproved(
            operation_id="op_2", amount_minor=AMOUNT, reference="r4", expires_at_us=9, evidence=lookup
        ),
        ev.DisputeOpened(reference="d", amount_minor=AMOUNT, reason="fraud"),
        ev.DisputeClosed(reference="d", won=False),
        ev.ReviewClosed(reason="seen"),
    )
    return apply(found, steps)


def lives() -> dict[str, Reached]:
    """Each of the lives, played."""
    played = {f"{key}, by hand": play(initiate(CaptureMode.MANUAL), script) for key, script in MANUAL.items()}
    played |= {key: play(initiate(CaptureMode.AUTOMATIC), script) for key, script in AUTOMATIC.items()}
    return played | {"everything said": everything_said()}
