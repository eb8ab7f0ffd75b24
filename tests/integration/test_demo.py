"""The demo: it says the truth about a sound AegisPay, and it finds out each of several broken ones.

The bugs are planted from here, with monkeypatch; the demo itself has no switch that breaks anything.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aegispay.demo import DemoOptions, mixed, run, runner
from aegispay.demo.doubt_scenarios import DOUBTFUL
from aegispay.demo.scenarios import ORDINARY
from aegispay.demo.stage import Stage
from aegispay.domain.errors import ConfigError, InvalidRequest
from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import Approved, DeclineCategory, Declined, InDoubt, NotSent, Outcome
from aegispay.gateways.gateway import Gateway, GatewayCall
from aegispay.gateways.stripe.webhooks import StripeWebhooks
from aegispay.orchestration.calls import Calls
from aegispay.orchestration.evidence import EvidenceSearch
from aegispay.orchestration.inbound import Inbound
from aegispay.sandbox.adapters import FIVE

COMMAND = [sys.executable, "-m", "aegispay", "demo"]
SEED = 20_260_101


def demo(capsys: pytest.CaptureFixture[str], payments: int = 60) -> tuple[int, dict[str, Any]]:
    """One run in this process: its exit status and its JSON object."""
    status = run(DemoOptions(seed=SEED, payments=payments, json=True))
    return status, msgspec.json.decode(capsys.readouterr().out)


def test_every_promise_is_kept_and_the_only_output_is_one_json_object(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "--json", "--payments", "150", "--seed", str(SEED)],
        capture_output=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    (line,) = done.stdout.splitlines()
    found = msgspec.json.decode(line)
    assert found["seed"] == SEED
    assert found["payments"] == 150 + 35
    for name in ("charged_twice", "charged_unrecorded", "recorded_uncharged", "in_doubt_left"):
        assert found[name] == 0
    assert [row["ok"] for row in found["scenarios"]] == [True] * 14
    assert all(sums["equal"] for sums in found["totals"].values())
    assert {"INR", "JPY", "KWD", "USD"} <= set(found["totals"])
    assert list(found["psps"]) == list(FIVE)
    for name, row in found["psps"].items():
        assert row["paid"] > 10, name
        assert row["operations"] >= row["paid"], name
        assert row["doubts"] == sum(row["resolved"].values()) > 0, name
        assert row["faults"] == sum(found["faults"][name].values()) > 0, name
    webhooks = {name: row["webhooks"] for name, row in found["psps"].items()}
    # Card sales at Braintree send none.
    assert webhooks.pop("braintree")["notices"] == 0
    for name, courier in webhooks.items():
        assert courier["notices"] > 10, name
        assert courier["repeated"] > 0, name
        assert courier["forged"] > 0, name
        assert (courier["forged_taken"], courier["given_up"], courier["waiting"]) == (0, 0, 0), name
    # Captures, voids and refunds at Adyen have no other end.
    assert found["psps"]["adyen"]["told_by_webhook"] > 5
    assert sum(sum(kinds.values()) for kinds in found["faults"].values()) > 20
    assert done.stderr == b""
    assert list(tmp_path.iterdir()) == [], "a file was left behind"


# --- bugs that it must find out ------------------------------------------------------------------------------

Perform = Callable[..., Any]
_perform: Perform = Calls._perform


def plant(monkeypatch: pytest.MonkeyPatch, spoil: Callable[[GatewayCall, Outcome], Outcome]) -> None:
    """The engine misunderstands the gateways' answers."""

    async def perform(calls: Calls, gateway: Gateway, call: GatewayCall, *, again: bool = False) -> Outcome:
        return spoil(call, await _perform(calls, gateway, call, again=again))

    monkeypatch.setattr(Calls, "_perform", perform)


def no_webhooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The PSPs keep them: with them, the library would find out by itself what it misunderstood, and mend it."""

    async def nothing(_: Stage) -> None:
        pass

    monkeypatch.setattr(Stage, "send_webhooks", nothing)


def test_failover_on_a_timeout_is_found_out_as_charged_twice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def spoil(_: GatewayCall, outcome: Outcome) -> Outcome:
        return NotSent(reason=outcome.reason) if isinstance(outcome, InDoubt) else outcome

    plant(monkeypatch, spoil)
    monkeypatch.setattr(runner, "SCENARIOS", DOUBTFUL[:1])
    status, found = demo(capsys, payments=100)
    assert status == 1
    assert found["charged_twice"] > 0
    assert not found["scenarios"][0]["ok"]


def test_a_key_that_changes_with_each_send_is_found_out_as_charged_twice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call_for = Calls.call_for
    sends = iter(range(1_000_000))

    def changing(self: Calls, *args: Any) -> GatewayCall:
        call = call_for(self, *args)
        return msgspec.structs.replace(call, gateway_key=f"{call.gateway_key}_{next(sends)}")

    monkeypatch.setattr(Calls, "call_for", changing)
    monkeypatch.setattr(runner, "SCENARIOS", DOUBTFUL[:1])
    status, found = demo(capsys)
    assert status == 1
    assert found["charged_twice"] > 0


def test_an_approval_that_is_taken_for_a_refusal_is_found_out_as_not_recorded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def spoil(call: GatewayCall, outcome: Outcome) -> Outcome:
        if call.kind is OperationKind.CHARGE and isinstance(outcome, Approved):
            return Declined(category=DeclineCategory.HARD, code="stolen_card")
        return outcome

    plant(monkeypatch, spoil)
    no_webhooks(monkeypatch)
    monkeypatch.setattr(runner, "SCENARIOS", ORDINARY[:1])
    monkeypatch.setattr(runner, "DRAIN_TIMEOUT_S", 0.5)
    monkeypatch.setattr(runner, "SETTINGS", msgspec.structs.replace(runner.SETTINGS, answer_timeout_s=1.0))
    status, found = demo(capsys)
    assert status == 1
    assert found["charged_unrecorded"] > 0
    assert found["scenarios"][0]["customer_paid"] == "5 x 100.00 USD"
    assert found["scenarios"][0]["recorded"].startswith("5 x failed")


def test_a_success_that_no_bank_knows_of_is_found_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def spoil(call: GatewayCall, outcome: Outcome) -> Outcome:
        if isinstance(outcome, Declined):
            return Approved(reference="pi_invented", amount_minor=call.amount.amount_minor)
        return outcome

    plant(monkeypatch, spoil)
    monkeypatch.setattr(runner, "SCENARIOS", ())
    status, found = demo(capsys)
    assert status == 1
    assert found["recorded_uncharged"] > 0


def test_a_recovery_that_finds_no_evidence_is_found_out_as_doubt_that_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def blind(_: EvidenceSearch, __: Any, ___: Any, row: Any, ____: int) -> Any:
        return None, row

    monkeypatch.setattr(EvidenceSearch, "seek", blind)
    monkeypatch.setattr(runner, "SCENARIOS", ())
    monkeypatch.setattr(runner, "DRAIN_TIMEOUT_S", 0.5)
    monkeypatch.setattr(runner, "SETTINGS", msgspec.structs.replace(runner.SETTINGS, answer_timeout_s=0.5))
    monkeypatch.setattr(mixed, "PATIENCE", 1)
    status, found = demo(capsys)
    assert status == 1
    assert found["in_doubt_left"] > 0


def test_webhooks_that_are_kept_and_never_worked_on_are_found_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Captures and refunds at Adyen are pending for ever then."""

    async def nothing(_: Inbound) -> int:
        return 0

    monkeypatch.setattr(Inbound, "apply_due", nothing)
    monkeypatch.setattr(runner, "SCENARIOS", ())
    monkeypatch.setattr(runner, "DRAIN_TIMEOUT_S", 0.5)
    monkeypatch.setattr(runner, "SETTINGS", msgspec.structs.replace(runner.SETTINGS, answer_timeout_s=0.5))
    monkeypatch.setattr(mixed, "PATIENCE", 1)
    status, found = demo(capsys, payments=100)
    assert status == 1
    assert found["in_doubt_left"] > 0
    assert (found["charged_twice"], found["psps"]["adyen"]["told_by_webhook"]) == (0, 0)


def test_a_library_that_takes_forged_webhooks_is_found_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(StripeWebhooks, "_verify", lambda *_: None)
    monkeypatch.setattr(runner, "SCENARIOS", ())
    assert run(DemoOptions(seed=SEED, payments=60)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.endswith("forged webhooks of stripe were taken") for line in lines)


# --- the screen, the directory, and an early end -------------------------------------------------------------


def test_plain_lines_end_with_the_verdict_and_the_way_to_run_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(runner, "SCENARIOS", ORDINARY[:2])
    books = tmp_path / "books"
    assert run(DemoOptions(seed=SEED, payments=10, keep=str(books))) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"Seed {SEED}.")
    assert lines[1].startswith(
        "ok     Plain charges: one each through stripe, razorpay, paypal, braintree, adyen"
    )
    assert "| bank: 5 x 100.00 USD | recorded: 5 x succeeded, 100.00 USD" in lines[1]
    table = lines[next(index for index, line in enumerate(lines) if line.startswith("PSP ")) :][:6]
    assert [line.split()[0] for line in table[1:]] == list(FIVE)
    assert {len(line) for line in table} == {len(table[0])}
    assert max(len(line) for line in table) <= 80
    assert lines[-2].startswith("Every promise was kept: 16 payments")
    assert lines[-1] == f"To run it again: aegispay demo --seed {SEED} --payments 10"
    assert {"payments.db", "bank.db"} <= {path.name for path in books.iterdir()}
    with pytest.raises(InvalidRequest, match="is there already"):
        run(DemoOptions(payments=0, keep=str(books)))


def test_a_broken_promise_is_said_in_the_last_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(
        monkeypatch,
        lambda _, outcome: (
            Declined(category=DeclineCategory.HARD, code="no") if isinstance(outcome, Approved) else outcome
        ),
    )
    no_webhooks(monkeypatch)
    monkeypatch.setattr(runner, "SCENARIOS", ORDINARY[:1])
    assert run(DemoOptions(seed=SEED, payments=0)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("BROKEN Plain charges")
    assert lines[-2].startswith("A PROMISE WAS BROKEN: 0 charged twice, 5 charged and not recorded")


def test_a_missing_package_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="cryptography"):
        run(DemoOptions(payments=0))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_early_end_leaves_no_process_and_no_file(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    process = subprocess.Popen(
        [*COMMAND, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        start_new_session=True,
    )
    try:
        wait_for(lambda: any(tmp_path.glob("aegispay-demo-*/payments.db")))
        process.send_signal(number)
        out, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == status
    assert out == b""
    assert list(tmp_path.iterdir()) == []
    wait_for(lambda: not session_members(process.pid))


def session_members(session: int) -> list[int]:
    """The processes of a session that are still there."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def wait_for(holds: Callable[[], bool], timeout_s: float = 30.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.01)
