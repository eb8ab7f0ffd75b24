"""Which row belongs to which operation, and what comes of it: pure, payment by payment."""

from __future__ import annotations

from typing import Any

import pytest

from aegispay.domain.events import CaptureMode, OperationKind
from aegispay.domain.methods import MethodSnapshot
from aegispay.domain.payment import Operation, OperationStatus, Payment
from aegispay.domain.states import PaymentState
from aegispay.reconciliation.books import Standing, books_of
from aegispay.reconciliation.lines import Line, Side, Window
from aegispay.reconciliation.matching import match, unmatched
from aegispay.reconciliation.report import (
    DIFFERENCES_LISTED_MAX,
    Finding,
    Kind,
    RecordDone,
    RecordRefund,
    Report,
)

PAY = "pay_" + "a" * 32
WINDOW = Window(from_us=1_000, until_us=2_000)
DONE, OPEN, NO = OperationStatus.APPROVED, OperationStatus.IN_DOUBT, OperationStatus.NOT_SENT


def op(number: int, kind: str, amount: int = 100, status: OperationStatus = DONE, **more: Any) -> Operation:
    name = f"op_{number:032x}"
    reference = f"ref_{number}" if status is DONE else None
    first = kind in ("charge", "authorize")
    fields = {
        "reference": reference,
        "attempt": int(first),
        "parent_id": None if first else f"op_{1:032x}",
        "gateway": "g",
        "started_at_us": 1_500,
        **more,
    }
    return Operation(
        id=name, kind=OperationKind(kind), amount_minor=amount, gateway_key=name, status=status, **fields
    )


def payment(*operations: Operation, **more: Any) -> Payment:
    return Payment(
        id=PAY,
        merchant_id="m",
        version=1,
        state=PaymentState.SUCCEEDED,
        amount_minor=100,
        currency="USD",
        capture=CaptureMode.AUTOMATIC,
        method=MethodSnapshot(type="token"),
        created_at_us=0,
        updated_at_us=0,
        operations=operations,
        **more,
    )


def line(amount: int = 100, side: Side = Side.TAKEN, number: int = 2, **more: Any) -> Line:
    return Line(number=number, type="x", side=side, amount_minor=amount, currency="USD", **more)


def kinds(found: list[Finding]) -> list[Kind]:
    return [one.kind for one in found]


def matched(operations: tuple[Operation, ...], *lines: Line, **more: Any) -> list[Finding]:
    return match(books_of(payment(*operations, **more), "g"), lines, WINDOW)


CHARGE = op(1, "charge")
AUTH = op(1, "authorize")


@pytest.mark.parametrize(
    "names",
    [
        {"operation_ids": (CHARGE.id,)},
        {"reference": "ref_1"},
        {"payment_reference": "ref_1", "reference": "its_capture"},
        {"payment_id": PAY},
    ],
)
def test_a_charge_is_found_by_our_id_or_the_psps(names: dict[str, Any]) -> None:
    assert kinds(matched((CHARGE,), line(**names))) == [Kind.MATCHED]
    (found,) = matched((CHARGE,), line(99, **names))
    assert (found.kind, found.ours_minor, found.theirs_minor) == (Kind.AMOUNT_DIFFERS, 100, 99)


def test_a_second_charge_of_the_same_payment_is_one_that_we_do_not_know() -> None:
    rows = [line(operation_ids=(CHARGE.id,), number=number, reference=f"c{number}") for number in (2, 3)]
    found = matched((CHARGE,), *rows)
    assert kinds(found) == [Kind.MATCHED, Kind.MISSING_HERE]
    assert (found[1].line, found[1].payment_id, found[1].action) == (3, PAY, None)


def test_a_row_of_another_attempt_is_not_taken_for_this_one() -> None:
    two = (op(1, "charge", status=NO), op(2, "charge"))
    found = matched(two, line(operation_ids=(two[0].id,), payment_reference="p", reference="r"))
    assert kinds(found) == [Kind.LATE_SUCCESS, Kind.MISSING_THERE]
    assert found[0].action == RecordDone(operation_id=two[0].id, reference="p", amount_minor=100)


def test_partial_captures_match_one_by_one_or_in_sum() -> None:
    captures = (AUTH, op(2, "capture", 30), op(3, "capture", 50))
    own = {"operation_ids": (AUTH.id,), "reference": ""}
    assert kinds(matched(captures, line(50, **own), line(30, number=3, **own))) == [Kind.MATCHED] * 2
    assert kinds(matched(captures, line(80, **own))) == [Kind.MATCHED] * 2
    assert Kind.MATCHED not in kinds(matched(captures, line(81, **own)))
    same = tuple(op(one, "capture", amount, reference="ch") for one, amount in ((2, 30), (3, 50)))
    assert (
        kinds(matched((AUTH, *same), line(80, reference="ch", operation_ids=(AUTH.id,))))
        == [Kind.MATCHED] * 2
    )


def test_the_rest_that_was_not_captured_is_taken_off_the_whole() -> None:
    rows = (line(100, reference="ch"), line(-40, reference="ch", number=3))
    captured = (AUTH, op(2, "capture", 60, reference="ch"))
    assert kinds(matched(captured, *rows)) == [Kind.MATCHED]
    assert kinds(matched(captured, *reversed(rows))) == [Kind.MATCHED]


def test_what_a_payment_took_counts_where_it_differs_from_what_was_asked_for() -> None:
    assert kinds(matched((CHARGE,), line(90, reference="ref_1"), captured_minor=90)) == [Kind.MATCHED]


@pytest.mark.parametrize("status", [OperationStatus.STARTED, OPEN, OperationStatus.PENDING])
def test_doubt_is_resolved_by_a_row_that_names_the_operation(status: OperationStatus) -> None:
    charge = op(1, "charge", status=status)
    (found,) = matched((charge,), line(operation_ids=(charge.id,), reference="mod", payment_reference="psp"))
    # The payment's own reference, so that later operations can name it.
    assert found.action == RecordDone(operation_id=charge.id, reference="psp", amount_minor=100)
    (found,) = matched((charge,), line(operation_ids=(charge.id,), reference="mod"))
    assert (found.kind, found.action) == (Kind.DOUBT_RESOLVED, None)
    (found,) = matched((charge,), line(0, operation_ids=(charge.id,), payment_reference="psp"))
    assert (found.kind, found.action) == (Kind.STILL_IN_DOUBT, None)
    foreign = Line(
        number=2, type="x", side=Side.TAKEN, amount_minor=100, currency="EUR", operation_ids=(charge.id,)
    )
    (found,) = matched((charge,), foreign)
    assert (found.kind, found.action) == (Kind.CURRENCY_DIFFERS, None)


def test_a_capture_in_doubt_is_told_by_its_amount_if_one_alone_fits() -> None:
    row = line(30, operation_ids=(AUTH.id,), reference="c")
    (found,) = matched((AUTH, op(2, "capture", 30, OPEN)), row)
    assert found.action == RecordDone(operation_id=f"op_{2:032x}", reference="c", amount_minor=30)
    found_both = matched((AUTH, op(2, "capture", 30, OPEN), op(3, "capture", 30, OPEN)), row)
    assert kinds(found_both) == [Kind.MISSING_HERE, Kind.STILL_IN_DOUBT, Kind.STILL_IN_DOUBT]
    assert not any(one.action for one in found_both)


def test_a_refund_in_doubt_is_never_told_by_its_amount() -> None:
    doubt = op(2, "refund", 30, OPEN)
    row = line(30, Side.REFUNDED, payment_reference="ref_1", reference="re")
    found = matched((CHARGE, doubt), line(reference="ref_1"), row)
    assert kinds(found) == [Kind.MATCHED, Kind.MISSING_HERE, Kind.STILL_IN_DOUBT]
    assert not any(one.action for one in found)
    named = line(30, Side.REFUNDED, operation_ids=(doubt.id, CHARGE.id), reference="re")
    found = matched((CHARGE, doubt), line(reference="ref_1"), named)
    assert found[1].action == RecordDone(operation_id=doubt.id, reference="re", amount_minor=30)


def test_a_refund_that_we_lack_was_made_outside_and_is_not_paired_with_another() -> None:
    row = line(30, Side.REFUNDED, payment_reference="ref_1", reference="re_x")
    found = matched((CHARGE,), line(reference="ref_1"), row)
    assert found[1].kind is Kind.EXTERNAL_REFUND
    assert found[1].action == RecordRefund(reference="re_x", amount_minor=30)
    found = matched((CHARGE, op(2, "refund", 30)), line(reference="ref_1"), row)
    assert kinds(found) == [Kind.MATCHED, Kind.EXTERNAL_REFUND, Kind.MISSING_THERE]
    lost = (op(1, "charge", status=OperationStatus.UNWANTED, taken_minor=100, reference="ref_1"),)
    found = matched(lost, line(reference="ref_1"), row)
    assert kinds(found) == [Kind.MATCHED, Kind.MISSING_HERE]


def test_a_refund_that_came_back_is_told() -> None:
    refunded = (CHARGE, op(2, "refund", 30))
    back = (line(30, Side.REFUNDED, reference="ref_2"), line(-30, Side.REFUNDED, number=4, reference="ref_2"))
    assert kinds(matched(refunded, line(reference="ref_1"), *back)) == [Kind.MATCHED, Kind.REFUND_FAILED]
    assert kinds(matched(refunded, line(reference="ref_1"), back[1])) == [Kind.MATCHED, Kind.REFUND_FAILED]


def test_absence_is_a_difference_within_the_window_only_and_never_a_proof() -> None:
    assert kinds(matched((CHARGE,))) == [Kind.MISSING_THERE]
    assert kinds(matched((op(1, "charge", status=OPEN),))) == [Kind.STILL_IN_DOUBT]
    assert matched((op(1, "charge", status=NO),)) == []
    for at_us, seen in ((999, False), (1_000, True), (2_000, True), (2_001, False)):
        assert bool(matched((op(1, "charge", started_at_us=at_us),))) is seen
    assert not any(one.action for one in matched((op(1, "charge", status=OPEN),)))


def test_money_that_was_only_reserved_or_moved_elsewhere_is_left_out() -> None:
    operations = (AUTH, op(2, "void"), op(3, "charge", gateway="other"), op(4, "confirm"))
    assert books_of(payment(*operations), "g").entries == ()
    reversed_charge = op(1, "charge", status=OperationStatus.REVERSED, taken_minor=70)
    (entry,) = books_of(payment(reversed_charge), "g").entries
    assert (entry.standing, entry.amount_minor) == (Standing.DONE, 70)


def test_a_row_that_names_no_payment_is_missing_here() -> None:
    found = unmatched(line(reference="r", number=9))
    assert (found.kind, found.line, found.theirs_minor, found.action) == (Kind.MISSING_HERE, 9, 100, None)


def test_a_report_counts_everything_and_lists_a_bounded_number() -> None:
    report = Report(gateway="g")
    for number in range(DIFFERENCES_LISTED_MAX + 5):
        report.add(unmatched(line(number=number)))
    assert len(report.differences) == DIFFERENCES_LISTED_MAX
    assert report.differences_left_off == 5
    assert report.counts[Kind.MISSING_HERE] == report.unsettled == DIFFERENCES_LISTED_MAX + 5
    assert not report.ok
    for number in range(1_000):
        report.add_other(f"type {number}")
    assert len(report.rows_of_other_types) <= 201
    assert sum(report.rows_of_other_types.values()) == 1_000


@pytest.mark.parametrize(("reason", "entries"), [("external", 2), ("dispute_lost", 1)])
def test_a_report_has_no_refund_where_a_lost_dispute_was_the_reversal(reason: str, entries: int) -> None:
    charge = op(1, "charge", status=OperationStatus.REVERSED, taken_minor=100, reference="ref_1")
    reversal = op(2, "refund", compensates=True, reason=reason)
    assert len(books_of(payment(charge, reversal), "g").entries) == entries
    # A refund that a merchant gave that reason to is one all the same.
    ours = op(2, "refund", reason="dispute_lost")
    assert len(books_of(payment(op(1, "charge"), ours), "g").entries) == 2
