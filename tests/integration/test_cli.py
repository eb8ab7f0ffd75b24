"""The command line in this process: what it does, what it prints, and the exit status of each way it can end."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from aegispay.app import AegisPay
from aegispay.cli import main
from aegispay.config import load
from aegispay.domain import commands as cmd
from aegispay.domain.outcomes import Approved, Evidence
from aegispay.storage import schema
from aegispay.testing.instant_gateway import InstantGateway

COMMANDS = [
    *("charge", "capture", "void", "refund", "complete", "sync", "show", "list", "notices"),
    *("reviews", "review", "recover", "migrate", "check", "config", "demo", "bench"),
]
PAYMENT = "pay_" + "0" * 32
GATEWAY = "tests.fakes.booked_gateway:BookedGateway"


class Run(NamedTuple):
    """One command, run to its end."""

    status: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """The one JSON value that stands on the standard output, and nothing else."""
        assert self.out.count("\n") == 1
        return json.loads(self.out)


class Shop:
    """A folder with a configuration, a database and the gateway's books."""

    def __init__(self, folder: Path, run: Callable[..., Run]):
        self.folder = folder
        self.run = run
        self.configure()

    def configure(self, *, settings: str = "", **options: object) -> None:
        lines = [f"{key} = {json.dumps(value)}" for key, value in options.items()]
        (self.folder / "aegispay.toml").write_text(
            f'[store]\nurl = "sqlite:///pay.db"\n[settings]\n{settings}\n[gateways.booked]\ntype = "{GATEWAY}"\n'
            f'books_path = "{self.folder}/books"\n' + "\n".join(lines)
        )

    def noted(self, book: str) -> list[tuple[str, int]]:
        file = self.folder / "books"
        lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        return [(line["kind"], line["amount_minor"]) for line in lines if line["book"] == book]

    @property
    def books(self) -> list[tuple[str, int]]:
        """What the gateway did."""
        return self.noted("books")

    @property
    def calls(self) -> list[tuple[str, int]]:
        """What the gateway was asked."""
        return self.noted("calls")

    @property
    def rows(self) -> int:
        """How many rows the store has, whatever they are."""
        file = self.folder / "pay.db"
        if not file.exists():
            return 0
        with sqlite3.connect(file) as db:
            tables = ("payment", "event", "claim", "in_flight")
            return sum(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables)

    def charged(self, *more: str, amount: str = "100.00", key: str = "order-1") -> str:
        """The id of a payment that was taken."""
        run = self.run("charge", amount, "USD", "--method", "tok_ok", "--key", key, "--json", *more)
        assert run.status == 0, run
        return str(run.data["payment_id"])


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Run]:
    monkeypatch.chdir(tmp_path)
    for name in ("AEGISPAY_CONFIG", "AEGISPAY_STORE", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)

    def call(*argv: str) -> Run:
        capsys.readouterr()
        # In a thread of its own, so that the command's event loop leaves this thread's alone.
        with ThreadPoolExecutor(1) as thread:
            status = thread.submit(main, argv).result()
        return Run(status, *capsys.readouterr())

    return call


@pytest.fixture
def shop(tmp_path: Path, run: Callable[..., Run]) -> Shop:
    return Shop(tmp_path, run)


def one_line(run: Run) -> str:
    """The error that a person sees: one line on the standard error, and nothing on the standard output."""
    assert run.out == ""
    assert run.err.count("\n") == 1, run.err
    assert run.err.startswith("aegispay: error: ")
    assert "Traceback" not in run.err
    return run.err


# --- payments -----------------------------------------------------------------------------------------------


def test_a_repeat_gets_its_answer_though_its_gateway_is_configured_no_more(shop: Shop) -> None:
    argv = (
        "charge",
        "99.99",
        "USD",
        "--method",
        "tok_ok",
        "--key",
        "order-1",
        "--gateway",
        "booked",
        "--json",
    )
    first = shop.run(*argv)
    file = shop.folder / "aegispay.toml"
    file.write_text(file.read_text().replace("[gateways.booked]", "[gateways.another]"))
    again = shop.run(*argv)
    assert (first.status, again.status) == (0, 0) and again.data == first.data
    other = shop.run(*(word.replace("order-1", "order-2") for word in argv))
    assert other.status == 2 and other.data["error"]["code"] == "unknown_gateway"
    assert shop.books == [("charge", 9999)]


def test_a_charge_prints_the_payment_and_ends_with_0(shop: Shop) -> None:
    run = shop.run(
        "charge", "99.99", "usd", "--method", "tok_ok", "--key", "order-1", "--metadata", "a=[red]b=c"
    )
    assert run.status == 0
    assert "99.99 USD" in run.out
    assert "succeeded" in run.out
    assert "\x1b" not in run.out
    assert shop.books == [("charge", 9999)]


def test_the_same_key_twice_charges_once_and_answers_the_same_bytes(shop: Shop) -> None:
    command = ("charge", "10.00", "USD", "--method", "tok_ok", "--key", "order-1", "--json")
    first, second = shop.run(*command), shop.run(*command)
    assert first == second
    assert first.data["status"] == "success"
    assert shop.books == [("charge", 1000)]


def test_the_same_key_with_another_amount_is_refused(shop: Shop) -> None:
    shop.charged()
    rows = shop.rows
    run = shop.run("charge", "5.00", "USD", "--method", "tok_ok", "--key", "order-1")
    assert run.status == 2
    assert "idempotency key was used before" in one_line(run)
    assert (shop.books, shop.rows) == ([("charge", 10000)], rows)


def test_a_decline_ends_with_1_and_says_why(shop: Shop) -> None:
    run = shop.run("charge", "10.00", "USD", "--method", "tok_hard", "--key", "k")
    assert run.status == 1
    assert "stolen_card" in run.out
    assert shop.books == []


def test_a_payer_who_must_act_ends_with_4_and_completing_goes_on(shop: Shop) -> None:
    run = shop.run("charge", "10.00", "USD", "--method", "tok_3ds", "--key", "k", "--json")
    assert run.status == 4
    assert run.data["next_action"]["url"] == "https://bank.example/3ds"
    payment = run.data["payment_id"]
    assert "complete" in shop.run("charge", "10.00", "USD", "--method", "tok_3ds", "--key", "k").out
    assert shop.run("complete", payment, "--data", "result=ok").status == 0
    assert "succeeded" in shop.run("show", payment).out


QUICK = """
call_timeout_s = 1.0
answer_timeout_s = 1.0
lease_margin_s = 2.0
inline_retry.initial_delay_s = 0.001
recovery_retry.initial_delay_s = 0.0
recovery_retry.delay_max_s = 0.0
"""


def test_doubt_ends_with_3_and_recovery_finds_the_one_charge(shop: Shop) -> None:
    shop.configure(fault="reply_lost", settings=QUICK)
    run = shop.run("charge", "10.00", "USD", "--method", "tok_ok", "--key", "k")
    assert run.status == 3
    assert "not known yet" in run.out
    assert "never charge again under another key" in run.out
    shop.configure(settings=QUICK)
    reports = [shop.run("recover", "--once", "--json")]
    while reports[-1].data["in_flight_left"] and len(reports) < 500:
        # Its lease has a few milliseconds left to run.
        reports.append(shop.run("recover", "--json"))
    assert (reports[-1].status, reports[-1].data["resolved"], reports[-1].data["in_flight_left"]) == (0, 1, 0)
    again = shop.run("charge", "10.00", "USD", "--method", "tok_ok", "--key", "k", "--json")
    assert (again.status, again.data["state"]) == (0, "succeeded")
    assert shop.books == [("charge", 1000)]


def test_doubt_that_stays_is_still_doubt_after_a_sync(shop: Shop) -> None:
    shop.configure(fault="request_lost", settings=QUICK)
    run = shop.run("charge", "10.00", "USD", "--method", "tok_ok", "--key", "k", "--json")
    assert run.status == 3
    assert run.data["error"]["code"] == "in_doubt"
    assert shop.run("sync", run.data["payment_id"]).status == 3
    assert shop.books == []


def test_two_partial_captures_and_void_of_the_rest(shop: Shop) -> None:
    payment = shop.charged("--authorize")
    assert shop.run("capture", payment, "30", "--key", "c1", "--not-final").status == 0
    assert shop.run("capture", payment, "20.50", "--key", "c2", "--not-final").status == 0
    assert shop.run("void", payment).status == 0
    run = shop.run("show", payment, "--json")
    assert run.data["payment"]["captured_minor"] == 5050
    assert run.data["payment"]["released_minor"] == 4950
    assert shop.books == [("authorize", 10000), ("capture", 3000), ("capture", 2050), ("void", 4950)]


def test_a_final_capture_without_a_key_is_taken_once(shop: Shop) -> None:
    payment = shop.charged("--authorize")
    assert shop.run("capture", payment).status == 0
    assert shop.run("capture", payment).status == 0
    assert shop.books == [("authorize", 10000), ("capture", 10000)]


def test_refunds_in_part_and_of_the_rest(shop: Shop) -> None:
    payment = shop.charged()
    assert shop.run("refund", payment, "60", "--key", "r1").status == 0
    assert shop.run("refund", payment, "60", "--key", "r1").status == 0
    assert shop.run("refund", payment, "--key", "r2", "--reason", "damaged").status == 0
    assert shop.books == [("charge", 10000), ("refund", 6000), ("refund", 4000)]


def test_commands_never_start_the_recovery_worker(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    async def started(_: object) -> None:
        raise AssertionError("a one-shot command took over other payments")

    monkeypatch.setattr("aegispay.orchestration.recovery.RecoveryWorker.start", started)
    shop.charged()


# --- what is refused: one line, the right status, nothing written, nothing charged ----------------------------

CHARGE = {"amount": "10.00", "currency": "USD", "--method": "tok_ok", "--key": "k"}
BAD_CHARGES: dict[str, tuple[dict[str, str], str]] = {
    "unknown currency": ({"currency": "XYZ"}, "unknown currency 'XYZ'"),
    "a currency without minor units": ({"currency": "XAU"}, "unknown currency"),
    "too many decimals": ({"amount": "99.999"}, "has 3 decimals, but USD has 2"),
    "decimals of a currency without": ({"amount": "99.99", "currency": "JPY"}, "has 2 decimals, but JPY has 0"),
    "zero": ({"amount": "0.00"}, "greater than zero"),
    "negative": ({"amount": "-5.00"}, "greater than zero"),
    "absurdly large": ({"amount": "99999999999999999"}, "at most 1000000000000000 minor units"),
    "absurdly long": ({"amount": "9" * 5000}, "is not an amount"),
    "words": ({"amount": "ten"}, "'ten' is not an amount. Write it like '99.99'."),
    "thousands separator": ({"amount": "1,000.00"}, "is not an amount"),
    "exponent": ({"amount": "1e3"}, "is not an amount"),
    "not a number": ({"amount": "nan"}, "is not an amount"),
    "empty key": ({"--key": ""}, "the idempotency key is empty. Use your order's id"),
    "over-long key": ({"--key": "k" * 256}, "has 256 characters; 255 are allowed"),
    "unprintable key": ({"--key": "a\x1b[31mb"}, "characters that cannot be printed"),
    "unknown gateway": ({"--gateway": "nobody"}, "no gateway is named 'nobody'. Registered: booked."),
    "empty method": ({"--method": ""}, "a token is 1 to 255 printable characters"),
    "card number": ({"--method": "4242 4242 4242 4242"}, "looks like a card number"),
    "mistyped card number": ({"--method": "4242424242424241"}, "looks like a card number"),
    "card number as key": ({"--key": "4242424242424242"}, "looks like a card number"),
    "card number in the description": ({"--description": "4242424242424242"}, "looks like a card number"),
    "metadata that is none": ({"--metadata": "order"}, "'order' is not key=value. Write --metadata order=1234."),
    "endless metadata": ({"--metadata": "a=" + "x" * 501}, "has 501 characters; 500 are allowed"),
    "no time": ({"--timeout-s": "0"}, "--timeout-s is more than 0"),
    "time that is none": ({"--timeout-s": "nan"}, "--timeout-s is more than 0"),
    "endless time": ({"--timeout-s": "inf"}, "--timeout-s is more than 0"),
    "time in words": ({"--timeout-s": "soon"}, "Invalid value for '--timeout-s'"),
    "over-long merchant": ({"--merchant": "m" * 65}, "merchant id"),
    "unknown option": ({"--metod": "x"}, "No such option: --metod"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "said"), BAD_CHARGES.values(), ids=BAD_CHARGES.keys())
def test_a_bad_charge_is_one_line_with_nothing_written_and_nothing_sent(
    shop: Shop, change: dict[str, str], said: str
) -> None:
    asked = {**CHARGE, **change}
    options = [word for name, value in asked.items() if name.startswith("--") for word in (name, value)]
    argv = ("charge", asked["amount"], asked["currency"], *options)
    run = shop.run(*argv)
    assert run.status == 2
    assert said in one_line(run)
    assert "4242" not in run.err
    told = shop.run(*argv, "--json")
    assert (told.status, told.err) == (2, "")
    assert told.data["error"]["effect"] == "none"
    assert told.data["error"]["exit_status"] == 2
    assert not (shop.folder / "pay.db").exists()
    assert shop.calls == []


BAD_FOLLOW_UPS: dict[str, tuple[tuple[str, ...], str]] = {
    "capture over the authorised amount": (
        ("capture", "AUTHORIZED", "100.01"),
        "cannot capture 100.01 USD of AUTHORIZED: 100.00 USD is left",
    ),
    "refund over the captured amount": (
        ("refund", "CHARGED", "100.01", "--key", "r"),
        "cannot refund 100.01 USD of CHARGED: 100.00 USD is left",
    ),
    "capture of nothing": (("capture", "AUTHORIZED", "0"), "at least 1 minor unit"),
    "refund of nothing": (("refund", "CHARGED", "0", "--key", "r"), "at least 1 minor unit"),
    "refund of less than nothing": (("refund", "CHARGED", "-1", "--key", "r"), "greater than zero"),
    "refund of a fraction": (("refund", "CHARGED", "1.001", "--key", "r"), "has 3 decimals, but USD has 2"),
    "refund of words": (("refund", "CHARGED", "all", "--key", "r"), "'all' is not an amount"),
    "refund without a key": (("refund", "CHARGED", "1"), "Missing option '--key'"),
    "refund under an empty key": (("refund", "CHARGED", "1", "--key", ""), "the idempotency key is empty"),
    "refund of what was not captured": (("refund", "AUTHORIZED", "--key", "r"), "nothing was captured. Void it instead"),
    "capture of what was captured": (("capture", "CHARGED"), "capture"),
    "void of what was captured": (("void", "CHARGED"), "CHARGED"),
    "completion of what needs none": (("complete", "CHARGED"), "CHARGED"),
    "one of several captures without a key": (("capture", "AUTHORIZED", "1", "--not-final"), "needs --key"),
    "another merchant's payment": (("refund", "CHARGED", "--key", "r", "--merchant", "m"), "there is no payment"),
    "a payment that is not there": (("void", "pay_" + "0" * 32), "there is no payment pay_"),
    "an id that is none": (("void", "order-1"), "'order-1' is not a payment id"),
}  # fmt: skip


@pytest.mark.parametrize(("argv", "said"), BAD_FOLLOW_UPS.values(), ids=BAD_FOLLOW_UPS.keys())
def test_a_bad_follow_up_is_one_line_with_nothing_written_and_nothing_sent(
    shop: Shop, argv: tuple[str, ...], said: str
) -> None:
    ids = {"CHARGED": shop.charged(), "AUTHORIZED": shop.charged("--authorize", key="order-2")}
    before = shop.rows, shop.calls
    run = shop.run(*(ids.get(word, word) for word in argv))
    assert run.status == 2
    for name, payment in ids.items():
        said = said.replace(name, payment)
    assert said in one_line(run)
    assert (shop.rows, shop.calls) == before


@pytest.mark.parametrize(
    "argv",
    [
        ("show", "pay_" + "0" * 32),
        ("list",),
        ("void", "pay_" + "0" * 32),
        ("refund", "pay_" + "0" * 32, "--key", "r"),
        ("recover",),
    ],
)
def test_a_database_that_is_not_there_is_not_made_by_a_command_that_needs_its_payments(
    shop: Shop, argv: tuple[str, ...]
) -> None:
    run = shop.run(*argv)
    assert run.status == 2
    assert "there is no database at pay.db. Check the store's URL" in one_line(run)
    assert not (shop.folder / "pay.db").exists()


def test_a_store_in_memory_takes_no_payment(shop: Shop) -> None:
    run = shop.run("charge", "1", "USD", "--method", "t", "--key", "k", "--store", "sqlite://:memory:")
    assert run.status == 2
    assert "a store in memory forgets the payment" in one_line(run)
    assert shop.calls == []


def test_without_a_configuration_the_way_to_one_is_named(run: Callable[..., Run]) -> None:
    found = run("charge", "1", "USD", "--method", "t", "--key", "k")
    assert found.status == 2
    assert "no gateway is configured. Add a [gateways.NAME] section to aegispay.toml" in one_line(found)
    assert list(Path().iterdir()) == []


def test_a_malformed_file_stops_every_command_but_help(shop: Shop) -> None:
    (shop.folder / "aegispay.toml").write_text("[gateways.booked\n")
    for argv in (("list",), ("check",), ("config",), ("migrate",), ("recover",)):
        found = shop.run(*argv)
        assert found.status == 2
        assert "aegispay.toml: is not valid TOML" in found.err + found.out
    assert shop.run("charge", "--help").status == 0


# --- the store ------------------------------------------------------------------------------------------------


def test_a_database_of_a_newer_version_is_refused_and_left_alone(shop: Shop) -> None:
    shop.charged()
    with sqlite3.connect(shop.folder / "pay.db") as db:
        db.execute("UPDATE aegispay_schema SET version_num = '9999'")
    before = shop.rows, shop.calls
    for argv in (
        ("charge", "1", "USD", "--method", "t", "--key", "k2"),
        ("list",),
        ("migrate",),
        ("migrate", "--status"),
        ("recover",),
    ):
        found = shop.run(*argv)
        assert found.status == 2, argv
        assert "at revision 9999" in one_line(found)
        assert "Run the newer AegisPay" in found.err
    assert "revision 9999" in shop.run("check").out
    assert (shop.rows, shop.calls) == before


def test_an_unreachable_database_ends_with_5_and_its_password_is_not_shown(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AEGISPAY_STORE", "postgresql://shop:hunter2@127.0.0.1:1/pay")
    for argv in (
        ("charge", "1", "USD", "--method", "t", "--key", "k"),
        ("list",),
        ("recover",),
        ("migrate",),
    ):
        found = shop.run(*argv)
        assert found.status == 5, found
        assert "hunter2" not in one_line(found)
        assert "not known whether the gateway" not in found.err
        told = shop.run(*argv, "--json").data["error"]
        assert (told["effect"], told["code"]) == ("none", "store_unavailable")
    assert shop.run("check").status == 5
    assert shop.calls == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://h", "names no database"),
        ("postgresql://h:port/d", "host or port cannot be read"),
        ("mysql://h/d", "no store is known for mysql://"),
        ("postgres:/h/d", "must be followed by two slashes"),
        ("sqlite:///no/such/folder/pay.db", "cannot be opened for writing"),
        ("postgresql://u:hunter2@h/d", "a password does not belong on the command line"),
    ],
)
def test_a_bad_url_is_one_line_and_ends_with_2(shop: Shop, url: str, said: str) -> None:
    run = shop.run("charge", "1", "USD", "--method", "t", "--key", "k", "--store", url)
    assert run.status == 2
    assert said in one_line(run)
    assert "hunter2" not in run.err
    assert shop.calls == []


def test_another_programs_file_is_refused_and_left_alone(shop: Shop) -> None:
    (shop.folder / "pay.db").write_text("not a database, but precious\n" * 100)
    run = shop.run("charge", "1", "USD", "--method", "t", "--key", "k")
    assert run.status == 2
    assert "is not a SQLite database" in one_line(run)
    assert (shop.folder / "pay.db").read_text().startswith("not a database, but precious")


def test_migrate_creates_then_has_nothing_to_do_and_status_changes_nothing(shop: Shop) -> None:
    status = shop.run("migrate", "--status", "--json")
    assert status.status == 2
    assert status.data["revision"] is None
    assert status.data["pending"] == list(schema.REVISIONS)
    assert not (shop.folder / "pay.db").exists()
    assert shop.run("migrate", "--json").data["applied"] == list(schema.REVISIONS)
    again = shop.run("migrate", "--json")
    assert (again.status, again.data["applied"], again.data["up_to_date"]) == (0, [], True)
    assert f"up to date at {schema.head()}" in shop.run("migrate", "--status").out


# --- reading ----------------------------------------------------------------------------------------------------


def test_show_tells_the_story_and_goes_back_in_time(shop: Shop) -> None:
    payment = shop.charged("--description", "a [bold]kettle[/bold] \x1b[31m", "--customer", "cus_1")
    shop.run("refund", payment, "60", "--key", "r1")
    run = shop.run("show", payment)
    assert "\x1b" not in run.out
    for part in (
        "partially_refunded",
        "60.00 USD",
        "cus_1",
        "[bold]kettle",
        "payment initiated",
        "refund at booked",
    ):
        assert part in run.out
    then = shop.run("show", payment, "--version", "2", "--json")
    assert then.data["payment"]["state"] == "processing"
    assert [event["type"] for event in then.data["events"]] == ["payment_initiated", "operation_started"]
    whole = shop.run("show", payment, "--json").data
    third = whole["events"][2]
    at = shop.run("show", payment, "--at", third["at"][:-1] + "999Z", "--json")
    assert at.data["payment"]["state"] == "succeeded"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--version", "99"), "has 3 events, not 99"),
        (("--version", "0"), "--version is 1 or more"),
        (("--at", "yesterday"), "'yesterday' is not a time. Write it like 2026-05-01T12:00:00Z."),
        (("--at", "2026-05-01T12:00:00"), "has no time zone"),
        (("--at", "2001-01-01T00:00:00Z"), "did not exist yet at that time. It was created at 20"),
        (("--at", "2001-01-01T00:00:00Z", "--version", "1"), "exclude each other"),
    ],
)
def test_a_past_that_never_was_is_one_line(shop: Shop, argv: tuple[str, ...], said: str) -> None:
    run = shop.run("show", shop.charged(), *argv)
    assert run.status == 2
    assert said in one_line(run)


def test_list_filters_and_pages(shop: Shop) -> None:
    payments = [shop.charged(key=f"order-{number}") for number in range(3)]
    shop.run("refund", payments[0], "--key", "r")
    assert [one["id"] for one in shop.run("list", "--json").data] == payments[::-1]
    assert [one["id"] for one in shop.run("list", "--state", "REFUNDED", "--json").data] == payments[:1]
    page = shop.run("list", "--limit", "1", "--before", payments[2])
    assert payments[1] in page.out
    assert f"--before {payments[1]}" in page.err
    assert shop.run("list", "--merchant", "other", "--json").data == []
    for argv, said in (
        (("--state", "paid"), "'paid' is unknown"),
        (("--limit", "0"), "--limit is 1 to 1000"),
        (("--limit", "9999"), "--limit is 1 to 1000"),
        (("--before", "x"), "is not a payment id"),
    ):
        assert said in one_line(shop.run("list", *argv))


# --- reviews ----------------------------------------------------------------------------------------------------


def ask(shop: Shop, payment: str, *commands: cmd.Command) -> None:
    """Puts a payment before a person, as the recovery worker would."""

    async def work() -> None:
        async with AegisPay([InstantGateway("booked")], store=f"sqlite:///{shop.folder}/pay.db") as pay:
            engine = pay._orchestrator.engine
            for command in commands:
                draft = engine.journal.draft(await engine.journal.load(payment))
                draft.apply(command)
                await engine.journal.commit(draft)

    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(work())).result()


def test_what_waits_for_a_person_is_listed_with_why_and_since_when_and_closed(shop: Shop) -> None:
    fine, asked = shop.charged(key="order-1"), shop.charged(key="order-2")
    assert shop.run("reviews").out == "No payment waits for a person.\n"
    seen = (cmd.RequestReview(reason="first"), cmd.CloseReview(reason="seen"))
    ask(
        shop,
        asked,
        *seen,
        cmd.RequestReview(reason="fraud?"),
        cmd.OpenDispute(reference="d", amount_minor=1, attempt_id=operation_of(shop, asked)),
    )
    run = shop.run("reviews")
    assert asked in run.out and "fraud?" in run.out and "100.00 USD" in run.out and "booked" in run.out
    assert fine not in run.out and "aegispay review close ID --reason TEXT" in run.err
    (found,) = shop.run("reviews", "--json").data
    events = shop.run("show", asked, "--json").data["events"]
    assert events[-1]["type"] == "dispute_opened"
    assert (found["payment_id"], found["reason"]) == (asked, "fraud?")
    assert (found["since_us"], found["since"]) == (events[-2]["at_us"], events[-2]["at"])
    assert f"review close {asked} --reason TEXT" in shop.run("show", asked).out
    calls = shop.calls

    run = shop.run("review", "close", asked, "--reason", "ann: 4 orders from the same person")
    assert run.status == 0 and asked in run.out and "disputed" in run.out
    again = shop.run("review", "close", asked, "--reason", "ann", "--json")
    assert (again.status, again.data["id"], again.data["state"]) == (0, asked, "disputed")
    told = shop.run("show", asked).out
    assert "person: ann: 4 orders from the same person" in told
    assert "aegispay review close" not in told
    assert shop.run("reviews", "--json").data == []
    assert shop.calls == calls


def test_a_doubt_is_left_to_evidence_and_show_says_how_to_ask_for_it(shop: Shop) -> None:
    shop.configure(fault="reply_lost")
    command = ("charge", "10.00", "USD", "--method", "tok_ok", "--key", "k", "--timeout-s", "0.01", "--json")
    payment = shop.run(*command).data["payment_id"]
    ask(shop, payment, cmd.RequestReview(reason="slow", operation_id=operation_of(shop, payment)))
    assert f"aegispay sync {payment}" in shop.run("show", payment).out
    refused = shop.run("review", "close", payment, "--reason", "ann")
    assert refused.status == 3
    assert "charge op_" in one_line(refused) and "`sync` asks it now" in refused.err
    assert shop.run("review", "close", payment, "--reason", "ann", "--json").data["error"]["effect"] == "none"
    shop.configure()
    assert shop.run("sync", payment).status == 0
    assert shop.run("reviews", "--json").data == []


def doubted(shop: Shop) -> str:
    """A charge whose reply was lost, and a person who is asked about it."""
    shop.configure(fault="reply_lost")
    command = ("charge", "10.00", "USD", "--method", "tok_ok", "--key", "k", "--timeout-s", "0.01", "--json")
    payment = str(shop.run(*command).data["payment_id"])
    ask(shop, payment, cmd.RequestReview(reason="slow", operation_id=operation_of(shop, payment)))
    return payment


def test_a_person_who_saw_that_it_had_no_effect_ends_the_doubt(shop: Shop) -> None:
    payment = doubted(shop)
    close = f"aegispay review close {payment} --reason TEXT"
    lines = ["about", f"charge {operation_of(shop, payment)} of 10.00 USD at booked", f"sync {payment}"]
    for text in (*lines, f"{close} --no-effect", f"{close} --took-effect REFERENCE"):
        assert text in " ".join(shop.run("show", payment).out.split())
    calls = shop.calls
    close = ("review", "close", payment, "--reason", "ben: not in the dashboard", "--no-effect")
    run = shop.run(*close)
    assert run.status == 0 and payment in run.out and "failed" in run.out
    again = shop.run(*close, "--json")
    assert (again.status, again.data["id"], again.data["state"]) == (0, payment, "failed")
    assert shop.run("reviews", "--json").data == []
    told = shop.run("show", payment).out
    assert "evidence person" in told and "person: ben: not in the dashboard" in told
    other = shop.run("review", "close", payment, "--reason", "ben", "--took-effect", "ch_1")
    assert other.status == 2 and "is in no review" in one_line(other)
    assert shop.calls == calls


def test_a_person_who_saw_that_it_went_through_ends_the_doubt(shop: Shop) -> None:
    payment = doubted(shop)
    calls = shop.calls
    close = ("review", "close", payment, "--reason", "ben: it is there", "--took-effect", "ch_1", "--json")
    run = shop.run(*close)
    assert (run.status, run.data["state"], run.data["captured_minor"]) == (0, "succeeded", 10_00)
    assert shop.run(*close).data == run.data
    shown = shop.run("show", payment, "--json").data
    assert shown["payment"]["operations"][0]["reference"] == "ch_1"
    approved = [event["data"] for event in shown["events"] if event["type"] == "operation_approved"]
    assert [one["evidence"] for one in approved] == ["person"]
    assert shop.calls == calls


def operation_of(shop: Shop, payment: str) -> str:
    return str(shop.run("show", payment, "--json").data["payment"]["operations"][0]["id"])


def test_reviews_page_and_belong_to_their_merchant(shop: Shop) -> None:
    payments = [shop.charged(key=f"order-{number}") for number in range(3)]
    for payment in payments:
        ask(shop, payment, cmd.RequestReview(reason="fraud?"))
    page = shop.run("reviews", "--limit", "1", "--before", payments[2])
    assert payments[1] in page.out and payments[0] not in page.out
    assert f"aegispay reviews --before {payments[1]}" in page.err
    assert shop.run("reviews", "--merchant", "other", "--json").data == []
    other = shop.run("review", "close", payments[0], "--reason", "ann", "--merchant", "other")
    assert other.status == 2 and "there is no payment" in one_line(other)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("reviews", "--limit", "0"), "--limit is 1 to 1000"),
        (("review",), "has one command: close"),
        (("review", "close"), "Missing argument 'ID'"),
        (("review", "close", PAYMENT), "Missing option '--reason'"),
        (("review", "close", PAYMENT, "--reason", " "), "closed with a reason"),
        (("review", "close", PAYMENT, "--reason", "4242424242424242"), "looks like a card number"),
        (("review", "close", PAYMENT, "--reason", "a", "--took-effect"), "requires an argument"),
        (("review", "close", PAYMENT, "--reason", "a", "--took-effect", " "), "the gateway's dashboard"),
        (("review", "close", PAYMENT, "--reason", "a", "--no-effect", "--took-effect", "r"), "one of"),
        (("review", "close", PAYMENT, "--reason", "a", "--no-effect", "--reversed-by-hand"), "one of"),
        (("review", "close", "x", "--reason", "ann"), "is not a payment id"),
        (("review", "close", PAYMENT, "--reason", "ann"), "there is no payment"),
    ],
)
def test_a_bad_review_command_is_one_line(shop: Shop, argv: tuple[str, ...], said: str) -> None:
    shop.charged()
    run = shop.run(*argv)
    assert run.status == 2
    assert said in one_line(run)


def test_a_review_of_what_nobody_wanted_is_closed_once_it_was_given_back_by_hand(shop: Shop) -> None:
    shop.configure(fault="refused_connection")
    command = ("charge", "10.00", "USD", "--method", "tok_ok", "--key", "k", "--json")
    payment = shop.run(*command).data["payment_id"]
    attempt = operation_of(shop, payment)
    late = Approved(reference="late_1", amount_minor=10_00)
    ask(
        shop,
        payment,
        cmd.RequestReview(reason="person"),
        cmd.RecordOutcome(operation_id=attempt, outcome=late, evidence=Evidence.WEBHOOK),
    )
    close = ("review", "close", payment, "--reason", "ben: refunded at the dashboard")
    assert "Give it back at the gateway" in one_line(shop.run(*close))
    assert "failed" in shop.run(*close, "--reversed-by-hand").out
    found = shop.run("show", payment, "--json").data["payment"]["operations"]
    assert [one["status"] for one in found] == ["reversed", "approved"]


def test_notices_shows_what_no_payment_was_found_for(shop: Shop) -> None:
    shop.charged()
    assert shop.run("notices").out == "No notices.\n"
    assert shop.run("notices", "--json").data == []
    news = {"id": "evt_1", "type": "charge.refunded", "at_us": 0, "kind": "refund", "currency": "USD"}
    told = {"type": "approved", "reference": "re_1", "amount_minor": 1250}
    body = json.dumps({**news, "outcome": told, "reference": "re_1", "payment_reference": "pi_of_others"})
    odd = json.dumps({**news, "currency": "???", "outcome": told})
    with sqlite3.connect(shop.folder / "pay.db") as db:
        for number, (state, text) in enumerate([("unmatched", body), ("unmatched", odd), ("open", "?")]):
            row = ("booked", f"n{number}", state, number, 0, 41, text)
            db.execute("INSERT INTO notice VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    odd_one, first = shop.run("notices", "--json").data
    assert (odd_one["notice_id"], first["notice_id"]) == ("n1", "n0")
    assert (first["says"], first["amount_minor"], first["payment_reference"]) == (
        *("approved refund", 1250),
        "pi_of_others",
    )
    assert first["received_at"] == "1970-01-01T00:00:00.000Z"
    shown = shop.run("notices").out
    assert "approved refund" in shown and "12.50 USD" in shown and "1250 minor units" in shown
    page = shop.run("notices", "--limit", "1")
    assert "n0" not in page.out and "More may follow" in page.err
    assert "unreadable" in shop.run("notices", "--state", "OPEN").out
    for argv, said in ((("--state", "lost"), "unknown notice state 'lost'"), (("--limit", "0"), "1 to 1000")):
        assert said in one_line(shop.run("notices", *argv))


def test_reading_needs_no_secret(shop: Shop) -> None:
    payment = shop.charged()
    shop.configure(api_key_env="NOT_SET_ANYWHERE")
    assert shop.run("show", payment).status == 0
    assert shop.run("list").status == 0
    assert "NOT_SET_ANYWHERE is not set" in one_line(shop.run("sync", payment))


# --- check and config -------------------------------------------------------------------------------------------


def test_check_looks_and_changes_nothing(shop: Shop) -> None:
    run = shop.run("check", "--json")
    assert run.status == 0
    assert run.data["ok"] is True
    assert not (shop.folder / "pay.db").exists()
    shop.run("migrate")
    assert f"durable (journal_mode=wal, synchronous=FULL), schema {schema.head()}" in shop.run("check").out
    assert shop.calls == []


def test_check_fails_where_a_gateway_does_not_answer(shop: Shop) -> None:
    shop.configure(healthy=False)
    run = shop.run("check", "--json")
    assert run.status == 5
    failed = [one for one in run.data["checks"] if not one["ok"]]
    assert [one["name"] for one in failed] == ["gateway booked"]
    assert "connection refused" in failed[0]["detail"]


def test_check_goes_on_after_a_gateway_that_cannot_be_made(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = shop.folder / "aegispay.toml"
    file.write_text(
        file.read_text() + '\n[gateways.stripe]\ntype = "stripe"\napi_key_env = "NOT_SET_ANYWHERE"'
    )
    monkeypatch.setenv("AEGISPAY_STROE", "x")
    run = shop.run("check", "--json")
    assert run.status == 2
    said = {one["name"]: one for one in run.data["checks"]}
    assert said["gateway booked"]["ok"]
    assert "NOT_SET_ANYWHERE is not set" in said["gateway stripe"]["detail"]
    assert "did you mean AEGISPAY_STORE" in said["environment AEGISPAY_STROE"]["detail"]


def test_check_fails_where_nothing_lasts_or_no_gateway_is_there(run: Callable[..., Run]) -> None:
    found = run("check", "--store", "sqlite://:memory:", "--json")
    assert found.status == 2
    assert [one["name"] for one in found.data["checks"] if not one["ok"]] == [
        "store sqlite://:memory:",
        "gateways",
    ]
    assert run("check", "--store", "sqlite:///no/such/folder/a.db").status == 2


def test_config_shows_where_values_come_from_and_no_secret(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.configure(api_key_env="BOOKED_KEY", settings="resends_max = 4")
    monkeypatch.setenv("BOOKED_KEY", "the-secret")
    monkeypatch.setenv("AEGISPAY_STORE", "postgresql://u:hunter2@h/d")
    monkeypatch.setenv("AEGISPAY_CALL_TIMEOUT_S", "3")
    run = shop.run("config")
    for part in (
        "postgresql://u@h/d",
        "BOOKED_KEY (set)",
        "environment AEGISPAY_CALL_TIMEOUT_S",
        "resends_max",
    ):
        assert part in run.out
    told = shop.run("config", "--json")
    assert told.data["settings"]["resends_max"] == 4
    assert told.data["gateways"]["booked"]["variables"] == {"api_key": {"name": "BOOKED_KEY", "set": True}}
    for text in (run.out, told.out, repr(load())):
        assert "hunter2" not in text
        assert "the-secret" not in text


# --- the frame --------------------------------------------------------------------------------------------------


def test_common_options_may_stand_before_the_command(shop: Shop) -> None:
    shop.charged()
    assert len(shop.run("--json", "--config", "aegispay.toml", "list").data) == 1


def test_an_unexpected_error_is_one_line_and_debug_shows_the_traceback(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.charged()

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("4242424242424242")

    monkeypatch.setattr("aegispay.cli.read_commands.EventStore.events", broken)
    argv = ("show", "pay_" + "0" * 32)
    run = shop.run(*argv)
    assert run.status == 70
    assert "unexpected ZeroDivisionError" in one_line(run)
    assert "4242" not in run.err
    assert "Traceback" in shop.run(*argv, "--debug").err
    assert shop.run(*argv, "--json").data["error"]["code"] == "internal"


def test_wrong_usage_is_one_line(shop: Shop) -> None:
    for argv, said in (
        (("chrge",), "No such command 'chrge'"),
        (("charge", "1"), "Missing argument 'CURRENCY'"),
        (("list", "extra 4242424242424242"), "<card number>"),
        (("list", "--limit", "many"), "Invalid value for '--limit'"),
    ):
        run = shop.run(*argv)
        assert run.status == 2
        assert said in one_line(run)
        assert shop.run(*argv, "--json").data["error"]["code"] == "usage"


def test_every_command_teaches_with_examples(shop: Shop) -> None:
    root = shop.run("--help")
    assert "Exit status:" in root.out
    for name in COMMANDS:
        assert f"  {name} " in root.out
        run = shop.run(name, *(("close",) if name == "review" else ()), "--help")
        assert run.status == 0
        assert f"  aegispay {name}" in run.out
        assert "--json" in run.out
    assert shop.run("--version").out.startswith("aegispay 0.")
    assert shop.run().status == 2
