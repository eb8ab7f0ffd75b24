"""One run of the demo: starts the bank, plays the scenarios, lets the shoppers in, stops the faults, compares the books."""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import tempfile
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from aegispay.app import AegisPay
from aegispay.demo import mixed
from aegispay.demo.doubt_scenarios import DOUBTFUL
from aegispay.demo.inbox import Inbox
from aegispay.demo.ledger import Ledger, PspRow
from aegispay.demo.options import LOOKUP_QUIET_S, PAYER_TIMEOUT_S, SETTINGS, DemoOptions, notice_plan
from aegispay.demo.report import Report
from aegispay.demo.scenarios import CONCURRENT, ORDINARY
from aegispay.demo.screen import Screen, screen
from aegispay.demo.stage import Case, Row, Scenario, Stage, until
from aegispay.domain.errors import ConfigError, InvalidRequest
from aegispay.domain.payment import OperationStatus, Payment
from aegispay.domain.states import PaymentState
from aegispay.sandbox.adapters import FIVE, MORE, five_gateways
from aegispay.sandbox.audit import audit
from aegispay.sandbox.process import SandboxProcess
from aegispay.sandbox.server import SandboxSettings
from aegispay.storage.store import Purpose

SCENARIOS: tuple[Scenario, ...] = (*ORDINARY, *DOUBTFUL, *CONCURRENT)
SCENARIO_TIMEOUT_S = 20.0
DRAIN_TIMEOUT_S = 15.0
PAGE = 1000
SIGTERM_STATUS = 128 + signal.SIGTERM


def run(options: DemoOptions) -> int:
    """Runs the demo. Returns 0 where every promise was kept, else 1.

    Raises `InvalidRequest` for a `keep` that will not do, and `ConfigError` where a package is missing.
    """
    if find_spec("cryptography") is None:
        raise ConfigError(
            "the demo's PayPal signs its webhooks with the package cryptography.",
            hint="Install aegispay[paypal], or aegispay[all].",
        )
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    view = screen(options.json)
    with _ended_by_sigterm(), _directory(options.keep) as directory, _log(directory):
        settings = SandboxSettings(more_psps=MORE, payer_timeout_s=PAYER_TIMEOUT_S)
        # A bank that may lose its last second in a power cut is no worse a witness for a demo.
        with SandboxProcess(
            directory / "bank.db", seed=seed, synchronous="NORMAL", settings=settings
        ) as sandbox:
            try:
                report = asyncio.run(perform(sandbox, directory, seed, options.payments, view, SCENARIOS))
            finally:
                view.close()
        view.report(report)
        return 0 if report.ok else 1


async def perform(
    sandbox: SandboxProcess,
    directory: Path,
    seed: int,
    payments: int,
    view: Screen,
    scenarios: Sequence[Scenario],
) -> Report:
    """The run itself, with a bank that is there already."""
    begin_s = time.monotonic()
    view.begin(seed, payments)
    store_url = f"sqlite:///{directory / 'payments.db'}"
    urls = {name: sandbox.url(name) for name in FIVE}
    gateways = five_gateways(urls, lookup_quiet_s=LOOKUP_QUIET_S)
    pay = AegisPay(gateways, store=store_url, settings=SETTINGS)
    await pay.start()
    try:
        async with Inbox(pay) as inbox:
            notices = notice_plan(seed)
            stage = Stage(pay, sandbox, inbox, store_url, directory, f"demo-{seed}", notices)
            return await _played(stage, seed, payments, view, scenarios, begin_s)
    finally:
        await pay.stop(grace_s=1.0)


async def _played(
    stage: Stage, seed: int, payments: int, view: Screen, scenarios: Sequence[Scenario], begin_s: float
) -> Report:
    """Scenarios, mixed payments, and the comparison of the books, while the PSPs send their webhooks."""
    pay, sandbox = stage.pay, stage.sandbox
    await stage.send_webhooks()
    rows = [await _play(stage, scenario, view) for scenario in scenarios]
    await asyncio.to_thread(sandbox.set_faults, mixed.fault_plan(seed))
    note = "Mixed payments under random faults"
    troubles = await mixed.shop(pay, seed, payments, lambda done: view.progress(done, payments, note))
    view.phase("The faults stop; recovery and the last webhooks finish what is open")
    await asyncio.to_thread(sandbox.clear_faults)
    await asyncio.to_thread(sandbox.settle)
    await _drain(stage)
    await stage.hold_webhooks()
    view.phase("Comparing our books with the bank's")
    ours = await _all_payments(pay)
    found = await asyncio.to_thread(audit, sandbox.bank, ours)
    faults = {name: kinds for name, kinds in sandbox.faults_fired().items() if name in FIVE}
    return Report.of(
        seed=seed,
        mixed=payments,
        audit=found,
        needs_review=sum(payment.state is PaymentState.NEEDS_REVIEW for payment in ours),
        scenarios=rows,
        faults=faults,
        psps=await _psps(stage, ours, faults),
        troubles=troubles,
        elapsed_s=time.monotonic() - begin_s,
    )


async def _psps(stage: Stage, ours: list[Payment], faults: dict[str, dict[str, int]]) -> dict[str, PspRow]:
    """What happened at each PSP, by the events of all payments and by what the sandbox counted."""
    ledger = Ledger(FIVE)
    for payment in ours:
        ledger.add(payment, await stage.pay.event_store.events(payment.id))
    webhooks = await asyncio.to_thread(stage.sandbox.webhooks)
    for name, row in ledger.rows.items():
        row.faults = sum(faults[name].values())
        row.webhooks = webhooks.get(name, row.webhooks)
    return ledger.rows


async def _play(stage: Stage, scenario: Scenario, view: Screen) -> Row:
    """One scenario. Whatever it raises is a finding."""
    view.scenario(scenario.name)
    case = Case(stage, scenario.name)
    try:
        async with asyncio.timeout(SCENARIO_TIMEOUT_S):
            await scenario.play(case)
    except Exception as error:  # noqa: BLE001 - one scenario's end must not be that of the others
        case.fail(error)
    await asyncio.to_thread(stage.sandbox.clear_faults)
    row = case.row()
    view.row(row)
    return row


async def _drain(stage: Stage) -> None:
    """Waits until no operation is under way or in doubt and no webhook waits; the audit counts those that are left."""

    async def empty() -> bool:
        if any(report.waiting for report in (await asyncio.to_thread(stage.sandbox.webhooks)).values()):
            return False
        return not await stage.pay.store.count_in_flight() and not await _watched(stage.pay)

    await until(empty, DRAIN_TIMEOUT_S, poll_s=0.2)


async def _watched(pay: AegisPay) -> bool:
    """Whether an attempt that ended on a look-up which found nothing is still to be looked up once more."""
    for payment in await _all_payments(pay):
        for operation in payment.operations:
            if operation.status is OperationStatus.NOT_SENT:
                row = await pay.store.find_in_flight(operation.id)
                if row is not None and row.purpose is Purpose.WATCH:
                    return True
    return False


async def _all_payments(pay: AegisPay) -> list[Payment]:
    found: list[Payment] = []
    while True:
        page = await pay.list(before_id=found[-1].id if found else None, limit=PAGE)
        found += page
        if len(page) < PAGE:
            return found


@contextmanager
def _ended_by_sigterm() -> Generator[None, None, None]:
    """Children are stopped and files removed on SIGTERM too, as they are on Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Only the main thread may handle signals.
        return

    def end(_number: int, _frame: object) -> None:
        raise SystemExit(SIGTERM_STATUS)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _directory(keep: str | None) -> Generator[Path, None, None]:
    """Where the databases stand: a directory of the user's, or one that is removed at the end."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="aegispay-demo-") as name:
            yield Path(name)
        return
    path = Path(keep)
    for name in ("payments.db", "bank.db"):
        if (path / name).exists():
            raise InvalidRequest(
                f"{path / name} is there already.", hint="Name an empty directory; the books would mix."
            )
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be used: {error.strerror}.") from None
    yield path


@contextmanager
def _log(directory: Path) -> Generator[None, None, None]:
    """The library's warnings, of which there are many on such a day, go to a file beside the books."""
    logger = logging.getLogger("aegispay")
    handler = logging.FileHandler(directory / "aegispay.log", delay=True)
    before = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = before
        handler.close()
