"""The simulation itself: it replays, it is sealed off from the real world, it dies and stalls as it should, and is clean."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from typing import Any

import pytest
from typer.testing import CliRunner

from aegispay.cli.app import app, run
from aegispay.gateways.http import Transport
from aegispay.orchestration.hooks import Hooks
from aegispay.ports import Clock
from aegispay.sandbox.bank import Bank
from aegispay.sandbox.plainpay_face import PlainPayPsp
from aegispay.sandbox.plainpay_gateway import PlainPayGateway
from aegispay.sandbox.wire import Psp
from aegispay.testing.simulation import Mode, SimulatedPsp, Simulation
from aegispay.testing.simulation.loop import PROCESS, Deadlock, NotDeterministic, Process, SimulatedLoop
from aegispay.testing.simulation.options import draw
from aegispay.testing.simulation.runner import run_chunk, run_many
from aegispay.testing.simulation.seal import sealed
from aegispay.testing.simulation.trace import Trace
from tests.simulation.planted_bugs import CANARY
from tests.simulation.planting import planted


def _loop(seed: int = 1) -> SimulatedLoop:
    return SimulatedLoop(random.Random(seed), Trace(), 10_000)  # type: ignore[abstract]


# --- clean seeds --------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "seeds"), [(Mode.NORMAL, 2_000), (Mode.LATE, 200), (Mode.DASHBOARD, 300), (Mode.CALM, 100)]
)
def test_no_promise_is_broken(mode: Mode, seeds: int) -> None:
    summary = run_many(seeds=seeds, mode=mode, jobs=os.cpu_count() or 1)
    assert not summary.failures, "\n".join(f"{one.replay}: {one.violations}" for one in summary.failures)
    assert summary.seeds == seeds and summary.payments > seeds
    assert (sum(summary.fired.values()) > 0) is (mode is not Mode.CALM)


def test_in_calm_weather_nothing_is_ever_in_doubt() -> None:
    summary = run_chunk(range(20), Mode.CALM)
    assert not any("in_doubt" in name or "review" in name for name in summary.branches)


# --- replay ---------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_hash_and_another_seed_another() -> None:
    first, again, kept = (
        Simulation(7).run(),
        Simulation(7).run(),
        Simulation(7, timeline=True).run(),
    )
    assert first.digest == again.digest == kept.digest and first.steps == again.steps
    assert kept.timeline and not first.timeline
    assert Simulation(8).run().digest != first.digest


def test_the_hash_does_not_depend_on_the_order_of_sets_and_dicts() -> None:
    code = "from aegispay.testing.simulation import Simulation as S; print(*(S(n).run().digest for n in range(6)))"
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(found) == 1


def test_several_processes_give_what_one_gives() -> None:
    alone = run_many(seeds=40, jobs=1)
    shared = run_many(seeds=40, jobs=2)
    assert (alone.steps, alone.fired, alone.branches) == (shared.steps, shared.fired, shared.branches)
    assert shared.twice == 1


# --- the seal -------------------------------------------------------------------------------------------------


def test_a_hook_that_looks_at_the_real_clock_fails_the_run() -> None:
    async def impatient(_request: object) -> None:
        time.time()

    def add(hooks: Hooks) -> None:
        hooks.register(before_payment=impatient)

    report = Simulation(1, mode=Mode.CALM, add_hooks=add).run()
    assert not report.ok and report.violations[0].promise == "determinism"


@pytest.mark.parametrize("use", [time.monotonic, lambda: os.urandom(1), random.random])
def test_real_time_and_real_randomness_are_out_of_reach(use: Any) -> None:
    name = use.__name__
    with sealed(), pytest.raises(NotDeterministic):
        getattr(time, name)() if name == "monotonic" else random.random() if name == "random" else use()
    time.monotonic()


def test_a_thread_is_refused() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().run_in_executor(None, lambda: 1)

    with pytest.raises(NotDeterministic):
        _loop().run(main())


# --- the loop -------------------------------------------------------------------------------------------------


def test_days_pass_at_once() -> None:
    loop = _loop()

    async def main() -> float:
        await asyncio.sleep(86_400.0)
        return loop.time()

    assert loop.run(main()) == 86_400.0


def test_the_order_of_ready_callbacks_is_drawn() -> None:
    def order(seed: int) -> tuple[int, ...]:
        loop, seen = _loop(seed), list[int]()

        async def main() -> None:
            for number in range(6):
                loop.call_soon(seen.append, number)
            await asyncio.sleep(1)

        loop.run(main())
        return tuple(seen)

    assert order(1) == order(1)
    assert len({order(seed) for seed in range(20)}) > 10


def test_a_dead_process_does_nothing_more_and_a_stalled_one_goes_on_later() -> None:
    loop, seen = _loop(), list[tuple[str, float]]()
    dying, stalling = Process(1, "dying"), Process(2, "stalling")

    async def work(process: Process) -> None:
        PROCESS.set(process)
        try:
            while True:
                await asyncio.sleep(1.0)
                seen.append((process.name, loop.time()))
        finally:
            seen.append((f"{process.name} cleans up", loop.time()))

    async def main() -> None:
        for process in (dying, stalling):
            loop.create_task(work(process))
        await asyncio.sleep(2.5)
        dying.dead = True
        stalling.stalled_until_s = 10.0
        loop.outside_at(10.0, loop.resume, stalling)
        await asyncio.sleep(8.0)
        assert [name for name, at_s in seen if at_s > 2.5] == ["stalling"]
        assert seen[-1][1] == 10.0
        stalling.dead = True

    loop.run(main())
    before = [one for one in seen if "cleans" in one[0]]
    assert not before, "a killed process runs no `finally`"
    loop.close()


def test_a_deadlock_is_told() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Deadlock):
        _loop().run(main())


# --- for users ------------------------------------------------------------------------------------------------


def test_a_gateway_of_ones_own_takes_part_over_its_real_adapter() -> None:
    def face(bank: Bank, clock: Clock, seed: int) -> Psp:
        return PlainPayPsp(bank, account="mine", clock=clock, seed=seed)

    def gateway(transport: Transport, _clock: Clock) -> PlainPayGateway:
        found = PlainPayGateway(
            base_url="https://mine.example",
            api_key="plain_test_sandbox",
            transport=transport,
            lookup_quiet_s=60.0,
        )
        found.name = "mine"
        return found

    tokens = {"ok": "tok_visa", "soft": "tok_insufficient_funds", "hard": "tok_stolen_card", "3ds": "tok_3ds"}
    mine = SimulatedPsp("mine", face, gateway, tokens, multi_capture=True)
    seen: list[str] = []

    def add(hooks: Hooks) -> None:
        hooks.register(after_commit=lambda payment, _events: seen.append(payment.gateway or ""))

    for seed in range(10):
        report = Simulation(seed, psps=[mine], built_in=False, add_hooks=add).run()
        assert report.ok, report.violations
        assert report.options.psps == ("mine",)
    assert set(seen) == {"mine"}


def test_options_can_be_given_instead_of_drawn() -> None:
    options = draw(3)
    assert Simulation(0, options=options).run().digest == Simulation(3).run().digest


# --- the command ------------------------------------------------------------------------------------------------


def test_the_command_prints_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", "--seeds", "5", "--jobs", "1"]) == 0
    shown = capsys.readouterr().out
    assert "5 seeds in mode normal: 0 failed" in shown and "no more" in shown
    assert run(["simulate", "--seeds", "5", "--jobs", "1", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["seeds"] == 5 and summary["failed"] == 0 and summary["fired"]


def test_one_seed_is_shown_with_its_options_and_its_timeline(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", "--seed", "4"]) == 0
    shown = capsys.readouterr().out
    for part in ("Options", "lease_margin_s", "BANK", "asks app", "is told", "faults stop", "hash"):
        assert part in shown


def test_a_broken_promise_ends_with_status_1_and_the_command_that_replays_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with planted(CANARY):
        assert run(["simulate", "--seeds", "2", "--jobs", "1"]) == 1
        shown = capsys.readouterr().out
        assert "FAILED seed 0: aegispay simulate --seed 0" in shown
        assert run(["simulate", "--seed", "0"]) == 1
        assert "BROKEN" in capsys.readouterr().out


@pytest.mark.parametrize(
    "wrong",
    [["--seeds", "0"], ["--mode", "mad"], ["--seed", "-1"], ["--jobs", "0"], ["--seed", "1", "--seeds", "2"]],
)
def test_wrong_usage_is_refused(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", *wrong]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_the_command_is_listed() -> None:
    assert "simulate" in CliRunner().invoke(app, ["--help"], obj=None).output
