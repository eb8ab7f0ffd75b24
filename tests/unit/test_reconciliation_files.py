"""Settlement files as they come: encodings, delimiters, quotes, ragged and repeated rows, amounts in every currency."""

from __future__ import annotations

import csv
import io
import re
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegispay.domain.money import Currency, Money
from aegispay.reconciliation import adyen_layout, stripe_layout
from aegispay.reconciliation.layouts import LAYOUTS, layout_of
from aegispay.reconciliation.lines import Line, ReportError, Side
from aegispay.reconciliation.run import Options, read_report
from aegispay.reconciliation.scratch import Scratch
from aegispay.reconciliation.table import LINE_LENGTH_MAX, Table

OP = "op_" + "1" * 32
OP2 = "op_" + "2" * 32
PAY = "pay_" + "3" * 32
GENERIC = "type,amount,currency,created,reference\n"
STRIPE = ",".join((*stripe_layout.REQUIRED, "created_utc", "payment_intent_id"))
ADYEN = (*adyen_layout.REQUIRED, "TimeZone", "Net Currency", "Net Debit (NC)", "Net Credit (NC)")


def lines(text: str | bytes, layout: str | None = None) -> list[Line]:
    raw = text.encode() if isinstance(text, str) else text
    table = Table(io.BytesIO(raw))
    found = layout_of(table, layout)
    return [found.read(row) for row in table.rows()]


def one(layout: str, **cells: str) -> Line:
    """The line that one row makes; columns that are not named are empty."""
    required = (*LAYOUTS[layout].required, *(group[0] for group in LAYOUTS[layout].one_of))
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys((*required, *cells))))
    writer.writeheader()
    writer.writerow(cells)
    (found,) = lines(text.getvalue(), layout)
    return found


def stripe(**cells: str) -> Line:
    base = {
        "balance_transaction_id": "txn_1",
        "reporting_category": "charge",
        "currency": "usd",
        "gross": "10.00",
        "created_utc": "2026-05-01 12:00:00",
    }
    return one("stripe", **{**base, **cells})


def adyen(**cells: str) -> Line:
    base = {
        "Psp Reference": "PSP",
        "Merchant Reference": OP,
        "Creation Date": "2026-05-01 12:00:00",
        "TimeZone": "CEST",
        "Type": "Settled",
        "Modification Reference": "MOD",
        "Gross Currency": "EUR",
        "Gross Credit (GC)": "5.00",
    }
    return one("adyen", **{**base, **cells})


# --- the file -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_any_usual_encoding_delimiter_and_line_end_gives_the_same_lines(
    encoding: str, delimiter: str, newline: str
) -> None:
    rows = [
        "Type,AMOUNT, currency ,created,reference,note",
        'capture,1.00,USD,2026-05-01,r1,"ä; b|c"',
        "",
        " ",
    ]
    text = newline.join(["", *rows, "refund,-0.50,USD,2026-05-01,r2,", ""])
    text = text.replace("ä; b|c", "ä").replace(",", delimiter)
    first, second = lines(text.encode(encoding))
    assert (first.amount_minor, first.side, first.reference, first.number) == (100, Side.TAKEN, "r1", 3)
    assert (second.amount_minor, second.side, second.number) == (50, Side.REFUNDED, 6)


def test_quoted_cells_may_hold_delimiters_quotes_and_line_ends() -> None:
    first, second = lines(
        GENERIC + 'capture,1.00,USD,2026-05-01,"a ""b"",\nc"\ncapture,2.00,USD,2026-05-01,d\n'
    )
    assert first.reference == 'a "b",\nc'
    assert (first.number, second.number) == (2, 4)


def test_columns_may_stand_in_any_order_and_trailing_empty_cells_are_ignored() -> None:
    text = "created,reference,currency,amount,type,,\n2026-05-01,r,USD,1.00,capture,,,,\n"
    assert lines(text)[0].amount_minor == 100


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "the file is empty"),
        (b"\n \n", "the file is empty"),
        (b"PK\x03\x04\xff\xfe\x00", "is not UTF-8 text"),
        (GENERIC.encode() + b"capture,1.00,USD,2026-05-01,\xff\n", "is not UTF-8 text"),
        (GENERIC.encode() + b"capture,1.00,USD,2026-05-01\n", "line 2 has 4 columns where the header has 5"),
        (GENERIC.encode() + b"capture,1.00,USD,2026-05-01,r,x\n", "line 2 has 6 columns"),
        (GENERIC.encode() + b'capture,1.00,USD,2026-05-01,"r\n', "line 2 is not CSV"),
        (b"type,type,amount,currency,created,reference\n", "the column 'type' twice"),
        (b"a" * LINE_LENGTH_MAX, "line 1 has more than"),
        (GENERIC.encode() + b"a" * (LINE_LENGTH_MAX + 5), "line 2 has more than"),
        (b"type,amount,currency,created\n", "one of 'payment_id', 'operation_id', 'reference'"),
        (GENERIC.encode() + b'capture,"1,00",USD,2026-05-01,r\n', "line 2, column 'amount': '1,00'"),
        (GENERIC.encode() + b"capture,1e2,USD,2026-05-01,r\n", "column 'amount'"),
        (GENERIC.encode() + b"capture,,USD,2026-05-01,r\n", "column 'amount'"),
        (GENERIC.encode() + b"capture,1.001,USD,2026-05-01,r\n", "column 'amount'"),
        (GENERIC.encode() + b"capture,1.00,,2026-05-01,r\n", "column 'currency'"),
        (GENERIC.encode() + b"capture,1.00,USD,yesterday,r\n", "column 'created'"),
    ],
)
def test_a_file_that_cannot_be_used_says_which_line_and_column(raw: bytes, said: str) -> None:
    with pytest.raises(ReportError) as caught:
        lines(raw)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_missing_column_is_named(layout: str) -> None:
    required = LAYOUTS[layout].required
    for column in required:
        header = ",".join(one for one in required if one != column)
        with pytest.raises(ReportError, match=re.escape(f"needs the column {column!r}")):
            layout_of(Table(io.BytesIO(header.encode())), layout)


def test_a_row_that_stands_twice_counts_once_and_one_that_contradicts_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "report.csv"
    row = "txn_1,charge,usd,1.00,2026-05-01 12:00:00,pi_1\n"
    file.write_text(STRIPE + "\n" + row + row)
    options = Options(gateway="stripe", merchant_ids=("default",))
    with Scratch() as scratch:
        report, window = read_report(file, options, scratch)
    assert (report.rows, report.rows_repeated, report.totals["USD"].theirs_taken_minor) == (2, 1, 100)
    assert window.until_us - window.from_us == 999_999
    file.write_text(STRIPE + "\n" + row + row.replace("1.00", "2.00"))
    with Scratch() as scratch, pytest.raises(ReportError, match="line 3 has the id 'txn_1' of line 2"):
        read_report(file, options, scratch)


def test_a_large_file_is_read_in_bounded_memory(tmp_path: Path) -> None:
    file = tmp_path / "report.csv"
    with file.open("w") as out:
        out.write(STRIPE + "\n")
        for number in range(20_000):
            out.write(f"txn_{number},charge,usd,1.00,2026-05-01 12:00:00,pi_{number}\n")
    options = Options(gateway="stripe", merchant_ids=("default",))
    told: list[tuple[str, int, int]] = []
    with Scratch() as scratch:
        tracemalloc.start()
        try:
            report, _ = read_report(file, options, scratch, lambda *progress: told.append(progress))
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert sum(1 for _ in scratch.unresolved()) == 20_000
    assert report.totals["USD"].theirs_taken_minor == 2_000_000
    assert peak_bytes < 1_500_000
    assert told[-1][1] <= told[-1][2]


# --- amounts and times --------------------------------------------------------------------------------------


@given(st.integers(-(10**15), 10**15), st.sampled_from(sorted(one.code for one in Currency)))  # type: ignore[attr-defined]
def test_every_amount_in_every_currency_is_read_exactly(minor: int, code: str) -> None:
    text = Money(minor, code).decimal_text()
    (line,) = lines(GENERIC + f"capture,{text},{code},2026-05-01,r\n")
    assert (line.amount_minor, line.currency) == (minor, code)
    padded = text + ("000" if "." in text else ".00")
    (line,) = lines(GENERIC + f"capture,{padded},{code},2026-05-01,r\n")
    assert line.amount_minor == minor


def test_a_time_without_a_zone_is_utc_unless_the_report_says_otherwise() -> None:
    noon_us = 1_777_636_800_000_000
    for text in ("2026-05-01 12:00:00", "2026-05-01T12:00:00Z", "2026-05-01T14:00:00+02:00"):
        assert lines(GENERIC + f"capture,1,USD,{text},r\n")[0].at_us == noon_us
    assert adyen().at_us == noon_us - 7_200_000_000
    assert adyen(TimeZone="Europe/Amsterdam").at_us == noon_us - 7_200_000_000
    assert adyen(TimeZone="").at_us == noon_us
    with pytest.raises(ReportError, match="column 'TimeZone': 'XYZ'"):
        adyen(TimeZone="XYZ")


# --- layouts ------------------------------------------------------------------------------------------------


def test_stripe_rows_name_the_movement_the_payment_and_our_ids() -> None:
    metadata = {"payment_metadata[aegispay_payment]": PAY, "payment_metadata[aegispay_operation]": OP}
    charge = stripe(source_id="ch_1", charge_id="ch_1", payment_intent_id="pi_1", fee="0.59", **metadata)
    assert (charge.reference, charge.payment_reference, charge.payment_id) == ("ch_1", "pi_1", PAY)
    assert (charge.operation_ids, charge.fee_minor, charge.side) == ((OP,), 59, Side.TAKEN)
    refund = stripe(
        reporting_category="refund",
        gross="-4.00",
        source_id="re_1",
        charge_id="ch_1",
        **metadata,
        **{"refund_metadata[aegispay_operation]": OP2},
    )
    assert (refund.reference, refund.other_references, refund.operation_ids) == ("re_1", ("ch_1",), (OP2, OP))
    assert (refund.amount_minor, refund.side) == (400, Side.REFUNDED)
    assert stripe(reporting_category="refund_failure", gross="4.00").amount_minor == -400
    assert stripe(reporting_category="partial_capture_reversal", gross="-3.00").amount_minor == -300
    assert stripe(reporting_category="payout", gross="", currency="").side is None


def test_stripe_amounts_are_the_payers_where_the_balance_has_another_currency() -> None:
    other = {"customer_facing_currency": "jpy", "customer_facing_amount": "1500"}
    charge = stripe(fee="0.30", **other)
    assert (charge.amount_minor, charge.currency) == (1500, "JPY")
    assert (charge.fee_minor, charge.fee_currency) == (30, "USD")
    assert stripe(reporting_category="refund", gross="-10.00", **other).amount_minor == 1500
    same = stripe(gross="7.00", customer_facing_currency="usd", customer_facing_amount="10.00")
    assert same.amount_minor == 700


def test_adyen_rows_name_the_modification_and_the_payment() -> None:
    settled = adyen(**{"Net Currency": "EUR", "Net Credit (NC)": "4.88"})
    assert (settled.reference, settled.payment_reference, settled.operation_ids) == ("MOD", "PSP", (OP,))
    assert (settled.amount_minor, settled.fee_minor, settled.side) == (500, 12, Side.TAKEN)
    refunded = adyen(
        Type="Refunded",
        **{"Gross Credit (GC)": "", "Gross Debit (GC)": "5", "Modification Merchant Reference": OP2},
    )
    assert (refunded.amount_minor, refunded.side, refunded.operation_ids) == (500, Side.REFUNDED, (OP2, OP))
    assert adyen(**{"Net Currency": "USD", "Net Credit (NC)": "4.88"}).fee_minor is None
    assert adyen(Type="RefundedReversed").amount_minor == -500
    for other in ("Fee", "MerchantPayout", "Chargeback", "DepositCorrection"):
        assert adyen(Type=other, **{"Gross Currency": "", "Creation Date": ""}).side is None
    with pytest.raises(ReportError, match="there is no debit"):
        adyen(**{"Gross Credit (GC)": ""})
