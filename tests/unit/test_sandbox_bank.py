"""The bank's books and the audit that reads them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from aegispay.domain.events import CaptureMode, OperationKind
from aegispay.domain.methods import MethodSnapshot
from aegispay.domain.payment import Operation, OperationStatus, Payment
from aegispay.domain.states import PaymentState
from aegispay.sandbox.audit import AuditReport, audit
from aegispay.sandbox.bank import Bank, BankRefusal, MovementKind

AMOUNT = 1000


def charge(
    bank: Bank, charge_id: str, *, payment: str = "pay_1", account: str = "stripe", take: int = AMOUNT
) -> None:
    bank.authorize(
        account,
        charge_id,
        reference=f"op_{charge_id}",
        payment_ref=payment,
        amount_minor=AMOUNT,
        currency="USD",
        at_us=1,
    )
    if take:
        bank.capture(
            account, charge_id, f"cap_{charge_id}", reference=f"op_{charge_id}", amount_minor=take, at_us=2
        )


def refund(bank: Bank, charge_id: str, amount: int = AMOUNT, reference: str = "op_r") -> None:
    bank.refund("stripe", charge_id, "re_1", reference=reference, amount_minor=amount, at_us=3)


def ours(
    charge_id: str | None = "pi_1",
    *,
    id_: str = "pay_1",
    captured: int = AMOUNT,
    refunded: int = 0,
    status: OperationStatus = OperationStatus.APPROVED,
) -> Payment:
    """Our record of a payment whose attempt named this charge; None: no attempt took anything."""
    attempt = Operation(
        id=f"op_{charge_id}",
        kind=OperationKind.CHARGE,
        gateway="stripe",
        amount_minor=AMOUNT,
        gateway_key="k",
        status=status if charge_id else OperationStatus.NOT_SENT,
        started_at_us=1,
        attempt=1,
        reference=charge_id,
    )
    taken = status is OperationStatus.APPROVED and charge_id is not None
    return Payment(
        id=id_,
        merchant_id="m",
        version=3,
        state=PaymentState.SUCCEEDED if taken else PaymentState.FAILED,
        amount_minor=AMOUNT,
        currency="USD",
        capture=CaptureMode.AUTOMATIC,
        method=MethodSnapshot(),
        created_at_us=1,
        updated_at_us=1,
        authorized_minor=AMOUNT if taken else 0,
        captured_minor=captured if taken else 0,
        refunded_minor=refunded,
        released_minor=AMOUNT - captured if taken else 0,
        operations=(attempt,),
    )


def problems(report: AuditReport) -> set[str]:
    return {problem.kind.value for problem in report.problems}


@pytest.fixture
def bank() -> Bank:
    return Bank()


def test_books_that_agree_are_fine(bank: Bank) -> None:
    charge(bank, "pi_1")
    report = audit(bank, [ours()])
    assert report.ok
    assert report.payments == 1
    assert report.totals["USD"].bank_captured_minor == report.totals["USD"].our_captured_minor == AMOUNT


def test_a_second_charge_at_another_psp_is_charged_twice(bank: Bank) -> None:
    charge(bank, "pi_1")
    charge(bank, "pp_1", account="plainpay")
    report = audit(bank, [ours()])
    assert (report.charged_twice, report.charged_unrecorded, report.ok) == (1, 1, False)
    assert "captured_over_amount" in problems(report)
    assert not report.totals["USD"].equal


def test_a_second_charge_is_found_by_its_operation_where_its_metadata_names_no_payment(bank: Bank) -> None:
    charge(bank, "pi_1")
    bank.authorize(
        "stripe", "pi_2", reference="op_pi_1", payment_ref="", amount_minor=AMOUNT, currency="USD", at_us=1
    )
    bank.capture("stripe", "pi_2", "c", reference="op_pi_1", amount_minor=AMOUNT, at_us=2)
    assert audit(bank, [ours()]).charged_twice == 1


def test_two_charges_that_we_know_nothing_of_are_charged_twice_too(bank: Bank) -> None:
    charge(bank, "pi_1")
    charge(bank, "pi_2")
    report = audit(bank, [ours(None)])
    assert (report.charged_twice, report.charged_unrecorded) == (1, 1)


def test_a_refund_of_the_right_charge_does_not_hide_a_second_one(bank: Bank) -> None:
    charge(bank, "pi_1")
    charge(bank, "pi_2")
    refund(bank, "pi_1")
    assert audit(bank, [ours(refunded=AMOUNT)]).charged_twice == 1


def test_a_duplicate_that_was_given_back_is_counted_apart(bank: Bank) -> None:
    charge(bank, "pi_1")
    charge(bank, "pi_2")
    refund(bank, "pi_2")
    charge(bank, "pi_3", take=0)
    bank.release("stripe", "pi_3", "v", reference="op_v", amount_minor=AMOUNT, at_us=4)
    report = audit(bank, [ours()])
    assert report.ok, report.problems
    assert report.reversed_duplicates == 1
    assert report.totals["USD"].reversed_minor == AMOUNT


def test_a_duplicate_that_was_given_back_in_part_is_charged_twice(bank: Bank) -> None:
    charge(bank, "pi_1")
    charge(bank, "pi_2")
    refund(bank, "pi_2", AMOUNT - 1)
    assert audit(bank, [ours()]).charged_twice == 1


def test_one_capture_that_is_made_twice_is_charged_twice(bank: Bank) -> None:
    charge(bank, "pi_1", take=0)
    for movement in ("cap_1", "cap_2"):
        bank.capture("stripe", "pi_1", movement, reference="op_c", amount_minor=300, at_us=2)
    bank.release("stripe", "pi_1", "v", reference="op_c", amount_minor=400, at_us=3)
    report = audit(bank, [ours(captured=300)])
    assert (report.charged_twice, report.charged_unrecorded) == (1, 1)


def test_one_refund_that_is_paid_twice_is_found(bank: Bank) -> None:
    charge(bank, "pi_1")
    refund(bank, "pi_1", 100)
    refund(bank, "pi_1", 100)
    report = audit(bank, [ours(refunded=100)])
    assert (report.refunded_twice, report.amounts_differ) == (1, 1)


def test_a_charge_of_a_failed_payment_is_unrecorded(bank: Bank) -> None:
    charge(bank, "pi_1")
    report = audit(bank, [ours(None)])
    assert (report.charged_twice, report.charged_unrecorded) == (0, 1)


def test_a_charge_of_no_payment_is_unrecorded(bank: Bank) -> None:
    charge(bank, "pi_1", payment="pay_lost")
    assert audit(bank, []).charged_unrecorded == 1


def test_a_success_that_the_bank_does_not_know_is_found(bank: Bank) -> None:
    assert audit(bank, [ours()]).recorded_uncharged == 1


def test_a_late_success_that_was_reversed_is_fine(bank: Bank) -> None:
    charge(bank, "pi_1")
    refund(bank, "pi_1")
    report = audit(bank, [ours(None)])
    assert report.ok, report.problems
    assert report.reversed_duplicates == 0


def test_an_amount_that_is_still_held_is_found(bank: Bank) -> None:
    charge(bank, "pi_1", take=0)
    report = audit(bank, [ours(None)])
    assert (report.held_unrecorded, report.charged_unrecorded) == (1, 0)


def test_a_refund_that_we_did_not_record_differs(bank: Bank) -> None:
    charge(bank, "pi_1")
    refund(bank, "pi_1", 10)
    assert audit(bank, [ours()]).amounts_differ == 1


def test_another_currency_differs(bank: Bank) -> None:
    bank.authorize(
        "stripe",
        "pi_1",
        reference="op_pi_1",
        payment_ref="pay_1",
        amount_minor=AMOUNT,
        currency="EUR",
        at_us=1,
    )
    bank.capture("stripe", "pi_1", "c", reference="op_pi_1", amount_minor=AMOUNT, at_us=2)
    report = audit(bank, [ours()])
    assert problems(report) == {"currency_differs"}
    assert not report.ok


def test_a_doubt_that_is_left_is_not_fine(bank: Bank) -> None:
    report = audit(bank, [ours(status=OperationStatus.IN_DOUBT)])
    assert (report.in_doubt_left, report.ok) == (1, False)


def test_waiting_for_the_payer_is_no_doubt(bank: Bank) -> None:
    assert audit(bank, [ours(status=OperationStatus.REQUIRES_ACTION)]).ok


def test_the_bank_refuses_what_its_books_do_not_allow(bank: Bank) -> None:
    charge(bank, "pi_1", take=400)
    for move in (bank.capture, bank.release):
        with pytest.raises(BankRefusal):
            move("stripe", "pi_1", "x", reference="", amount_minor=601, at_us=3)
    with pytest.raises(BankRefusal):
        refund(bank, "pi_1", 401)
    with pytest.raises(BankRefusal):
        refund(bank, "pi_unknown", 1)
    assert [movement.kind for movement in bank.movements()] == [
        MovementKind.AUTHORIZATION,
        MovementKind.CAPTURE,
    ]


def test_a_transaction_that_fails_leaves_nothing(bank: Bank) -> None:
    def half() -> None:
        with bank.transaction():
            charge(bank, "pi_1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert bank.charges() == []
    charge(bank, "pi_1")


def test_another_reader_sees_the_books_and_cannot_write_them(tmp_path: Path) -> None:
    bank = Bank(tmp_path / "bank.db")
    charge(bank, "pi_1")
    reader = Bank(tmp_path / "bank.db", readonly=True)
    assert reader.captured_minor("pay_1") == AMOUNT
    with pytest.raises(sqlite3.OperationalError):
        charge(reader, "pi_2")
    reader.close()
    bank.close()


def test_the_books_survive_the_bank(tmp_path: Path) -> None:
    first = Bank(tmp_path / "bank.db")
    charge(first, "pi_1")
    before = first.movements()
    first.close()
    second = Bank(tmp_path / "bank.db")
    assert second.movements() == before
    assert second.db.execute("PRAGMA synchronous").fetchone()[0] == 2
    second.close()


def test_an_unknown_durability_is_refused() -> None:
    with pytest.raises(ValueError, match="MAYBE"):
        Bank(synchronous="MAYBE")
