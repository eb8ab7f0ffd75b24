"""`aegispay reconcile` end to end: payments at the sandbox, its bank's books written as a report, and both compared."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import pytest

from aegispay import AegisPay, Money, PaymentState, Settings
from aegispay.cli import main
from aegispay.domain.outcomes import Evidence, NotSent
from aegispay.domain.payment import Payment
from aegispay.orchestration.known import Known
from aegispay.reconciliation.layouts import LAYOUTS
from aegispay.resilience.retry import RetryPolicy
from aegispay.sandbox.bank import Movement, MovementKind
from aegispay.sandbox.faults import FaultKind
from aegispay.sandbox.issuer import sandbox_token
from aegispay.sandbox.process import SandboxProcess
from aegispay.storage.sqlite import SqliteStore
from aegispay.storage.store import InFlight

T = TypeVar("T")
Rows = list[dict[str, str]]
SETTINGS = Settings(
    call_timeout_s=0.5,
    answer_timeout_s=10.0,
    recovery=False,
    inline_retry=RetryPolicy(attempts_max=3, initial_delay_s=0.01, delay_max_s=0.02),
)
# The first wait before evidence is sought is longer than the caller's patience, so that nobody seeks any.
IMPATIENT = msgspec.structs.replace(
    SETTINGS,
    call_timeout_s=0.1,
    answer_timeout_s=0.2,
    inline_retry=RetryPolicy(attempts_max=3, initial_delay_s=5.0, delay_max_s=5.0),
)


class Run(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        assert self.out.count("\n") == 1
        return json.loads(self.out)


class World:
    """A sandbox with a bank of its own, a store, and the command line over both."""

    def __init__(self, folder: Path, sandbox: SandboxProcess, capsys: pytest.CaptureFixture[str]):
        self.folder = folder
        self.sandbox = sandbox
        self._capsys = capsys
        (folder / "aegispay.toml").write_text(
            '[store]\nurl = "sqlite:///pay.db"\n'
            f'[gateways.stripe]\ntype = "stripe"\napi_key_env = "SANDBOX_KEY"\nbase_url = "{sandbox.stripe_url}"\n'
            f'[gateways.plainpay]\ntype = "sandbox-plainpay"\napi_key_env = "PLAIN_KEY"\n'
            f'base_url = "{sandbox.plainpay_url}"\n'
        )

    def with_pay(self, work: Callable[[AegisPay], Awaitable[T]], settings: Settings = SETTINGS) -> T:
        async def whole() -> T:
            url = f"sqlite:///{self.folder / 'pay.db'}"
            async with AegisPay(self.sandbox.gateways(), store=url, settings=settings) as pay:
                return await work(pay)

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, whole()).result()

    def payments(self) -> list[Payment]:
        return self.with_pay(lambda pay: pay.list(limit=1000))

    def state(self, payment_id: str) -> PaymentState:
        return next(one.state for one in self.payments() if one.id == payment_id)

    def reconcile(self, rows: Rows, gateway: str, *more: str, as_json: bool = True) -> Run:
        """Writes the rows as the file, and reconciles it."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        (self.folder / "report.csv").write_text(text.getvalue())
        return self.run("reconcile", "report.csv", "--gateway", gateway, *more, *["--json"] * as_json)

    def run(self, *argv: str) -> Run:
        self._capsys.readouterr()
        with ThreadPoolExecutor(1) as thread:
            status = thread.submit(main, argv).result()
        return Run(status, *self._capsys.readouterr())

    def report(self, layout: str, gateway: str) -> Rows:
        """The report that a PSP would write, from the bank's books alone."""
        moved = [
            one
            for one in self.sandbox.bank.movements()
            if one.account == gateway and one.kind in (MovementKind.CAPTURE, MovementKind.REFUND)
        ]
        return [WRITERS[layout](self, number, one) for number, one in enumerate(moved, 1)]

    def attempt(self, one: Movement) -> str:
        charge = self.sandbox.bank.charge(one.account, one.charge_id)
        assert charge is not None
        return charge.reference


def _time(at_us: int) -> str:
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _amount(one: Movement, sign: int = 1) -> str:
    return Money(sign * one.amount_minor, one.currency).decimal_text()


def _stripe_row(world: World, number: int, one: Movement) -> dict[str, str]:
    refund = one.kind is MovementKind.REFUND
    charge = world.sandbox.bank.db.execute(
        "SELECT id FROM documents WHERE parent = ? AND kind = 'charge'", (one.charge_id,)
    ).fetchone()
    charge_id = charge[0] if charge else ""
    return {
        "balance_transaction_id": f"txn_{number}",
        "created_utc": _time(one.at_us),
        "currency": one.currency.lower(),
        "gross": _amount(one, -1 if refund else 1),
        "fee": "0" if refund else "1",
        "reporting_category": "refund" if refund else "charge",
        "source_id": one.movement_id if refund else charge_id,
        "description": 'two\nlines, "quoted"',
        "charge_id": charge_id,
        "payment_intent_id": one.charge_id,
        "payment_metadata[aegispay_payment]": one.payment_ref,
        "payment_metadata[aegispay_operation]": world.attempt(one),
        "refund_metadata[aegispay_operation]": one.reference if refund else "",
    }


def _adyen_row(world: World, _: int, one: Movement) -> dict[str, str]:
    refund = one.kind is MovementKind.REFUND
    return {
        "Company Account": "Shop",
        "Psp Reference": one.charge_id,
        "Merchant Reference": world.attempt(one),
        "Creation Date": _time(one.at_us),
        "TimeZone": "UTC",
        "Type": "Refunded" if refund else "Settled",
        "Modification Reference": one.movement_id,
        "Gross Currency": one.currency,
        "Gross Debit (GC)": _amount(one) if refund else "",
        "Gross Credit (GC)": "" if refund else _amount(one),
        "Net Currency": one.currency,
        "Net Debit (NC)": _amount(one) if refund else "",
        "Net Credit (NC)": "" if refund else _amount(one),
        "Modification Merchant Reference": one.reference,
    }


def _generic_row(world: World, number: int, one: Movement) -> dict[str, str]:
    return {
        "id": str(number),
        "type": "refund" if one.kind is MovementKind.REFUND else "capture",
        "amount": _amount(one),
        "currency": one.currency,
        "created": _time(one.at_us) + "+00:00",
        "payment_reference": one.charge_id,
        "reference": one.movement_id,
        "operation_id": one.reference,
    }


WRITERS: dict[str, Callable[[World, int, Movement], dict[str, str]]] = {
    "stripe": _stripe_row,
    "adyen": _adyen_row,
    "generic": _generic_row,
}


@pytest.fixture
def world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[World]:
    monkeypatch.chdir(tmp_path)
    for name in ("AEGISPAY_CONFIG", "AEGISPAY_STORE"):
        monkeypatch.delenv(name, raising=False)
    with SandboxProcess(tmp_path / "bank.db", synchronous="OFF") as sandbox:
        monkeypatch.setenv("SANDBOX_KEY", sandbox.stripe_key)
        monkeypatch.setenv("PLAIN_KEY", sandbox.plainpay_key)
        yield World(tmp_path, sandbox, capsys)


def pay_some(world: World, gateway: str) -> list[str]:
    """Charges, captures and refunds in three currencies, with faults on the way; all known in the end."""

    async def work(pay: AegisPay) -> list[str]:
        faults = [FaultKind.REPLY_LOST, None, FaultKind.GARBAGE, None, FaultKind.RATE_LIMITED]
        world.sandbox.script(gateway, faults)
        ids = []
        for number, amount in enumerate(("10.00 USD", "2500 JPY", "12.340 KWD", "99.99 USD")):
            text, currency = amount.split()
            result = await pay.charge(
                Money.parse(text, currency), sandbox_token(), idempotency_key=f"c{number}", gateway=gateway
            )
            assert result.is_success(), result
            ids.append(result.payment_id)
        refund = await pay.refund(ids[3], Money(40_00, "USD"), idempotency_key="r")
        assert refund.is_success(), refund
        held = await pay.authorize(Money(70_00, "USD"), sandbox_token(), idempotency_key="a", gateway=gateway)
        ids.append(held.payment_id)
        for key, amount_minor, final in (("x", 30_00, False), ("y", 20_00, True)):
            taken = await pay.capture(
                held.payment_id, Money(amount_minor, "USD"), idempotency_key=key, final=final
            )
            assert taken.is_success(), taken
        return ids

    return world.with_pay(work)


def in_doubt(world: World, gateway: str = "stripe") -> str:
    """A charge that the PSP has done and never answered."""
    world.sandbox.script(gateway, [FaultKind.NO_REPLY])

    async def work(pay: AegisPay) -> str:
        result = await pay.charge(
            Money(55_00, "USD"), sandbox_token(), idempotency_key="doubt", gateway=gateway
        )
        assert result.is_pending()
        return result.payment_id

    payment_id = world.with_pay(work, IMPATIENT)
    world.sandbox.clear_faults()
    assert world.state(payment_id) is PaymentState.IN_DOUBT
    assert world.sandbox.bank.captured_minor(payment_id) == 55_00
    return payment_id


@pytest.mark.parametrize("gateway", ["stripe", "plainpay"])
def test_the_banks_books_match_ours_in_every_layout_and_each_planted_difference_is_found(
    world: World, gateway: str
) -> None:
    ids = pay_some(world, gateway)
    before = world.payments()
    for layout in LAYOUTS:
        rows = world.report(layout, gateway)
        assert len(rows) == 7
        run = world.reconcile(rows, gateway)
        assert run.status == 0, run
        assert run.data["layout"] == layout
        assert run.data["counts"]["matched"] == 7
        assert run.data["totals"]["JPY"]["ours_taken_minor"] == 2500
        assert run.data["totals"]["KWD"]["theirs_taken_minor"] == 12_340
        assert run.data["totals"]["USD"] == {
            "ours_taken_minor": 159_99,
            "theirs_taken_minor": 159_99,
            "ours_refunded_minor": 40_00,
            "theirs_refunded_minor": 40_00,
        }

        # A row is missing: the window is that of the rest.
        run = world.reconcile(rows[:1] + rows[2:], gateway)
        assert run.status == 1
        assert [one["payment_id"] for one in run.data["differences"]] == [ids[1]]
        assert run.data["differences"][0]["kind"] == "missing_there"

        # An amount is another one.
        changed = [dict(row) for row in rows]
        column = {"stripe": "gross", "adyen": "Gross Credit (GC)", "generic": "amount"}[layout]
        changed[2][column] = "12.350"
        run = world.reconcile(changed, gateway)
        assert run.status == 1
        (found,) = run.data["differences"]
        assert (found["kind"], found["ours_minor"], found["theirs_minor"]) == (
            "amount_differs",
            12_340,
            12_350,
        )
        assert found["payment_id"] == ids[2]

        # Another currency.
        changed = [dict(row) for row in rows]
        column = {"stripe": "currency", "adyen": "Gross Currency", "generic": "currency"}[layout]
        changed[0][column] = "EUR"
        run = world.reconcile(changed, gateway)
        assert [one["kind"] for one in run.data["differences"]] == ["currency_differs"]

        # A charge of which we know nothing.
        stranger = {
            name: "" if "aegispay" in name or "erchant" in name else value for name, value in rows[0].items()
        }
        for name in ("balance_transaction_id", "source_id", "charge_id", "payment_intent_id", "id"):
            stranger |= {name: "stranger"} if name in stranger else {}
        for name in ("Psp Reference", "Modification Reference", "payment_reference", "reference"):
            stranger |= {name: "stranger"} if name in stranger else {}
        stranger |= {"operation_id": ""} if "operation_id" in stranger else {}
        run = world.reconcile([*rows, stranger], gateway, "--apply")
        assert run.status == 1
        (found,) = run.data["differences"]
        assert (found["kind"], found["theirs_minor"], found["line"] > 7) == ("missing_here", 10_00, True)
    assert world.payments() == before


def test_ids_of_the_psp_are_enough_where_the_report_lacks_ours(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Five payments, so several pages of them are read.
    monkeypatch.setattr("aegispay.reconciliation.run.LIST_MAX", 2)
    pay_some(world, "stripe")
    rows = [
        {name: value for name, value in row.items() if "aegispay" not in name}
        for row in world.report("stripe", "stripe")
    ]
    run = world.reconcile(rows, "stripe")
    assert run.status == 0, run.data["differences"]
    assert run.data["counts"]["matched"] == 7


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_charge_in_doubt_is_resolved_by_the_report_and_only_with_apply(world: World, layout: str) -> None:
    payment_id = in_doubt(world)
    rows = world.report(layout, "stripe")
    run = world.reconcile(rows, "stripe")
    assert run.status == 1
    (found,) = run.data["differences"]
    assert (found["kind"], found["payment_id"], found["can_be_applied"]) == (
        "doubt_resolved",
        payment_id,
        True,
    )
    assert run.data["totals"]["USD"]["ours_taken_minor"] == 0
    assert world.state(payment_id) is PaymentState.IN_DOUBT

    run = world.reconcile(rows, "stripe", "--apply")
    assert run.status == 0, run
    assert run.data["differences"][0]["applied"] == "recorded"
    assert world.state(payment_id) is PaymentState.SUCCEEDED

    async def look(pay: AegisPay) -> tuple[list[Any], int]:
        return await pay.event_store.events(payment_id), await pay.store.count_in_flight()

    events, in_flight = world.with_pay(look)
    assert events[-1].data.evidence is Evidence.SETTLEMENT
    assert in_flight == 0
    # Our reference is the payment's, so that a refund finds it.
    refund = world.with_pay(lambda pay: pay.refund(payment_id, idempotency_key="r"))
    assert refund.is_success()
    run = world.reconcile(world.report(layout, "stripe"), "stripe")
    assert (run.status, run.data["counts"]["matched"]) == (0, 2)


def test_a_payment_from_before_the_search_is_found_by_our_ids_alone(world: World) -> None:
    payment_id = in_doubt(world)
    ancient = ("--from", "2999-01-01", "--lookback-days", "0")
    for layout in LAYOUTS:
        rows = world.report(layout, "stripe")
        run = world.reconcile(rows, "stripe", *ancient)
        (found,) = run.data["differences"]
        assert (found["kind"], found["payment_id"]) == ("doubt_resolved", payment_id), layout
    rows = [{**row, "operation_id": ""} for row in rows]
    run = world.reconcile(rows, "stripe", *ancient)
    assert [one["kind"] for one in run.data["differences"]] == ["missing_here"]


def test_payments_of_several_merchants_are_searched_where_they_are_named(world: World) -> None:
    async def work(pay: AegisPay) -> None:
        for merchant in ("one", "two"):
            result = await pay.charge(
                Money(10_00, "USD"),
                sandbox_token(),
                idempotency_key="k",
                gateway="plainpay",
                merchant_id=merchant,
            )
            assert result.is_success()

    world.with_pay(work)
    rows = [{**row, "operation_id": ""} for row in world.report("generic", "plainpay")]
    run = world.reconcile(rows, "plainpay", "--merchant", "one", "--merchant", "two")
    assert (run.status, run.data["counts"]["matched"]) == (0, 2), run
    run = world.reconcile(rows, "plainpay", "--merchant", "one")
    assert run.data["counts"]["missing_here"] == 1
    # The search goes no further back than it was told to.
    both = ("--merchant", "one", "--merchant", "two", "--from", "2999-01-01", "--lookback-days", "0")
    assert world.reconcile(rows, "plainpay", *both).data["counts"]["missing_here"] == 2


def test_an_operation_that_another_worker_takes_over_meanwhile_is_left_to_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment_id = in_doubt(world)
    found = SqliteStore.find_in_flight

    async def then_taken(store: SqliteStore, operation_id: str) -> InFlight | None:
        row = await found(store, operation_id)
        now_us = time.time_ns() // 1000
        assert await store.lease_due(now_us + 60_000_000, "another", now_us + 120_000_000, 10)
        return row

    monkeypatch.setattr(SqliteStore, "find_in_flight", then_taken)
    run = world.reconcile(world.report("stripe", "stripe"), "stripe", "--apply")
    assert run.status == 1
    assert run.data["differences"][0]["applied"].startswith("another worker has it")
    assert world.state(payment_id) is PaymentState.IN_DOUBT


def test_what_is_in_doubt_and_not_in_the_report_stays_in_doubt(world: World) -> None:
    payment_id = in_doubt(world)
    pay_some(world, "stripe")
    rows = world.report("stripe", "stripe")
    assert rows[0]["payment_metadata[aegispay_payment]"] == payment_id
    run = world.reconcile(rows[1:], "stripe", "--apply", "--from", "2000-01-01")
    assert run.status == 1
    assert [one["kind"] for one in run.data["differences"]] == ["still_in_doubt"]
    assert world.state(payment_id) is PaymentState.IN_DOUBT


def test_a_refund_made_at_the_psp_is_taken_into_our_books_once(world: World) -> None:
    ids = pay_some(world, "stripe")
    rows = world.report("stripe", "stripe")
    outside = {
        **rows[0],
        "balance_transaction_id": "txn_dashboard",
        "reporting_category": "refund",
        "gross": "-4.00",
        "source_id": "re_dashboard",
    }
    run = world.reconcile([*rows, outside], "stripe")
    assert run.status == 1
    assert [one["kind"] for one in run.data["differences"]] == ["external_refund"]
    for times in (1, 2):
        run = world.reconcile([*rows, outside], "stripe", "--apply")
        assert run.status == 0, run
        assert run.data["counts"]["external_refund"] == (1 if times == 1 else 0)
        assert run.data["totals"]["USD"]["ours_refunded_minor"] == 44_00
    payment = next(one for one in world.payments() if one.id == ids[0])
    assert (payment.state, payment.refunded_minor) == (PaymentState.PARTIALLY_REFUNDED, 4_00)


def test_a_charge_that_we_held_for_not_done_is_recorded_and_given_back(world: World) -> None:
    payment_id = in_doubt(world)

    async def give_up(pay: AegisPay) -> None:
        payment = await pay.get(payment_id)
        row = await pay.store.find_in_flight(payment.operations[0].id)
        assert row is not None
        known = Known(NotSent(reason="not_found"), Evidence.LOOKUP)
        await pay._orchestrator.driver.found(payment, row, known)

    world.with_pay(give_up)
    assert world.state(payment_id) is PaymentState.FAILED
    rows = world.report("stripe", "stripe")
    run = world.reconcile(rows, "stripe")
    assert [one["kind"] for one in run.data["differences"]] == ["late_success"]
    run = world.reconcile(rows, "stripe", "--apply")
    assert run.status == 0, run
    assert world.sandbox.bank.refunded_minor(payment_id) == 55_00
    run = world.reconcile(world.report("stripe", "stripe"), "stripe")
    assert (run.status, run.data["counts"]["matched"]) == (0, 2), run


def test_a_report_for_people_names_the_differences(world: World) -> None:
    ids = pay_some(world, "stripe")
    rows = world.report("stripe", "stripe")
    assert "The books agree." in world.reconcile(rows, "stripe", as_json=False).out
    run = world.reconcile(rows[:1] + rows[2:], "stripe", as_json=False)
    assert run.status == 1
    assert "missing there (taken)" in run.out
    assert ids[1] in run.out
    assert "2,500 JPY" in run.out
    assert "\x1b" not in run.out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        ("a,b\n1,2\n", "fits no layout"),
        ("type,amount,currency\ncapture,1.00,USD\n", "'created'"),
        ("type,amount,currency,created,reference\ncapture,1.00,USD\n", "line 2 has 3 columns"),
        ("type,amount,currency,created,reference\ncapture,1.005,USD,2026-05-01,r\n", "column 'amount'"),
        ("type,amount,currency,created,reference\ncapture,1.00,XXY,2026-05-01,r\n", "column 'currency'"),
        ("type,amount,currency,created,reference\ncapture,1.00,USD,soon,r\n", "column 'created'"),
        ('type,amount,currency,created,reference\ncapture,1.00,USD,2026-05-01,"r\n', "line 2 is not CSV"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line_and_nothing_is_written(
    world: World, text: str, said: str
) -> None:
    payment_id = in_doubt(world)
    (row,) = world.report("generic", "stripe")
    if text.startswith("type,amount,currency,created"):
        # A good row comes first, and is not applied either.
        head, rest = text.split("\n", 1)
        good = ",".join(row[name] for name in ("type", "amount", "currency", "created", "reference"))
        text = f"{head}\n{good}\n{rest}"
        said = said.replace("line 2", "line 3")
    (world.folder / "report.csv").write_text(text)
    run = world.run("reconcile", "report.csv", "--gateway", "stripe", "--apply")
    assert run.status == 2
    assert run.out == ""
    assert run.err.count("\n") == 1
    assert said in run.err
    assert world.state(payment_id) is PaymentState.IN_DOUBT


def test_wrong_usage_is_told_before_anything_is_read(world: World) -> None:
    world.payments()
    for argv, said in (
        (("--gateway", "nobody"), "no gateway 'nobody' is configured. Configured: stripe, plainpay."),
        (("--gateway", "stripe", "--layout", "x"), "cannot be read"),
        (("--gateway", "stripe", "--from", "x"), "--from 'x' is not a time"),
        (("--gateway", "stripe", "--from", "2026-05-02", "--until", "2026-05-01"), "later than"),
        (("--gateway", "stripe", "--lookback-days", "-1"), "--lookback-days"),
    ):
        run = world.run("reconcile", "absent.csv", *argv)
        assert run.status == 2
        assert said in run.err, run
