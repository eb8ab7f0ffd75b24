"""The commands that mend and migrate: recover and migrate."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.text import Text

from aegispay.app import AegisPay
from aegispay.cli.exits import Exit, clean
from aegispay.cli.options import command
from aegispay.cli.session import Session
from aegispay.domain.errors import ConfigError, InvalidRequest, StoreError
from aegispay.orchestration.recovery_report import RecoveryReport
from aegispay.storage import schema, urls

_PASSES_MAX = 10_000
_BACKOFF_MAX = 32


def _recover(
    session: Session,
    once: Annotated[
        bool, typer.Option("--once", help="Work off what is due now, then end (the default).")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until Ctrl-C or SIGTERM.")] = False,
) -> int:
    """Find out what became of operations that nobody finished: after a crash, a time-out, or in doubt.

    Running servers do this by themselves; it is safe beside them, and in several processes at once. Ends with 3 while
    operations are still in doubt, and with 5 where the store or the code failed.
    """
    if once and watch:
        raise InvalidRequest("--once and --watch exclude each other.", hint="Give one of them.")
    pay = session.pay(session.open_config())
    total = RecoveryReport()

    async def work(pay: AegisPay) -> int:
        await (_watch if watch else _work_off)(session, pay, total)
        return await pay.store.count_in_flight()

    left = session.run_with(pay, work)
    if session.json:
        session.emit({**msgspec.to_builtins(total), "in_flight_left": left})
    else:
        session.show(Text(f"{_counts(total)}; {left} still open"))
    if total.failed:
        return Exit.UNREACHABLE
    # Stopping a watch is not a verdict on what is left.
    return Exit.PENDING if total.waiting and not watch else Exit.OK


async def _work_off(session: Session, pay: AegisPay, total: RecoveryReport) -> None:
    for number in range(1, _PASSES_MAX + 1):
        report = await pay.recover()
        _add(total, report)
        if not report.taken:
            return
        _progress(session, f"pass {number}: {_counts(report)}")


async def _watch(session: Session, pay: AegisPay, total: RecoveryReport) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stopped.set)
        except (NotImplementedError, RuntimeError, ValueError):
            pass  # Elsewhere than on Unix, or outside the main thread: Ctrl-C then ends it the hard way, which is safe.
    _progress(session, "watching; Ctrl-C ends it.")
    failures = 0
    while not stopped.is_set():
        try:
            report = await pay.recover()
            failures = 0
        except StoreError as error:
            failures += 1
            report = RecoveryReport()
            session.say(f"aegispay: {clean(error)} Trying again.")
        _add(total, report)
        if report.taken:
            _progress(session, _counts(report))
            continue
        wait_s = pay.settings.recovery_interval_s * min(2**failures, _BACKOFF_MAX)
        try:
            await asyncio.wait_for(stopped.wait(), wait_s)
        except TimeoutError:
            pass


def _progress(session: Session, line: str) -> None:
    if not session.json:
        session.say(f"aegispay: {line}")


def _add(total: RecoveryReport, report: RecoveryReport) -> None:
    for name in total.__struct_fields__:
        setattr(total, name, getattr(total, name) + getattr(report, name))


def _counts(report: RecoveryReport) -> str:
    found = f"{report.taken} due, {report.resolved} resolved, {report.waiting} waiting, {report.reviews} handed to a person"
    return found + (f", {report.failed} failed" if report.failed else "")


def _migrate(
    session: Session,
    status: Annotated[bool, typer.Option("--status", help="Only say where the database stands.")] = False,
) -> int:
    """Bring the database up to date, creating it where there is none. Safe in several processes at once."""
    url = session.config().store_url
    path = None if urls.is_postgres(url) else urls.sqlite_path(url)
    if path == urls.MEMORY:
        raise ConfigError("a store in memory has nothing to migrate.", hint="Name a file or a server.")
    applied: list[str] = []
    missing = path is not None and not Path(path).exists()
    found = None if missing and status else schema.current(url)
    if not status and schema.needs_migration(found):
        applied = schema.migrate(url)
        found = schema.current(url)
    outdated = schema.needs_migration(found)
    if session.json:
        session.emit(
            {
                "store": urls.shown(url),
                "revision": found,
                "newest": schema.head(),
                "up_to_date": not outdated,
                "applied": applied,
                "pending": schema.pending(found) if outdated else [],
            }
        )
    elif outdated:
        todo = ", ".join(schema.pending(found))
        session.show(
            Text(f"{urls.shown(url)}: at {found or 'nothing'}; to apply: {todo}. Run `aegispay migrate`.")
        )
    else:
        done = f"applied {', '.join(applied)}" if applied else "nothing to do"
        session.show(Text(f"{urls.shown(url)}: up to date at {found}; {done}."))
    return Exit.USAGE if outdated else Exit.OK


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    command(
        app,
        "recover",
        examples="""
        aegispay recover
        aegispay recover --watch""",
    )(_recover)
    command(
        app,
        "migrate",
        examples="""
        aegispay migrate --status
        aegispay migrate --store sqlite:///payments.db""",
    )(_migrate)
