"""A reconciliation from file to report: the file is read whole first, so that a broken one changes nothing.

Only this module touches file, store and clock of the world; what it finds out is decided in `matching`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from aegispay.domain.errors import PaymentNotFound
from aegispay.domain.ids import check_payment_id
from aegispay.domain.payment import Payment
from aegispay.reconciliation.books import books_of
from aegispay.reconciliation.evidence import Recorder
from aegispay.reconciliation.layouts import layout_of
from aegispay.reconciliation.lines import Line, ReportError, Window
from aegispay.reconciliation.matching import match, unmatched
from aegispay.reconciliation.report import RECORDED, Finding, Report
from aegispay.reconciliation.scratch import Scratch
from aegispay.reconciliation.table import Table
from aegispay.storage.rows import LIST_MAX
from aegispay.storage.store import Store

LOOKBACK_DAYS = 90
"""How long before the report begins a payment may have been made that a row without our ids is looked for among."""
_DAY_US = 86_400_000_000
_PROGRESS_ROWS = 2_000
Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is (0: not known)."""


class Options(NamedTuple):
    """What to compare with what."""

    gateway: str
    merchant_ids: Sequence[str]
    """Those whose payments may be in the report; the time window is searched for these."""
    layout: str | None = None
    from_us: int | None = None
    until_us: int | None = None
    """What the report really covers; else from its earliest row to its latest."""
    lookback_days: int = LOOKBACK_DAYS


def _silent(_what: str, _done: int, _total: int) -> None:
    pass


def read_report(
    path: Path, options: Options, scratch: Scratch, progress: Progress = _silent
) -> tuple[Report, Window]:
    """Reads the whole file into the scratch. Raises `ReportError` at the first thing that is wrong with it."""
    report = Report(gateway=options.gateway)
    earliest_us, latest_us = None, None
    try:
        size = path.stat().st_size
        raw = path.open("rb")
    except OSError as error:
        raise ReportError(f"{path} cannot be read: {error.strerror}.", hint="Check the name.") from None
    with raw:
        try:
            table = Table(raw)
            layout = layout_of(table, options.layout)
            report.layout = layout.name
            for row in table.rows():
                report.rows += 1
                if report.rows % _PROGRESS_ROWS == 0:
                    progress("reading", raw.tell(), size)
                line = layout.read(row)
                if line.at_us:
                    earliest_us = line.at_us if earliest_us is None else min(earliest_us, line.at_us)
                    latest_us = line.at_us if latest_us is None else max(latest_us, line.at_us)
                if not scratch.add_line(line, row.content):
                    report.rows_repeated += 1
                    continue
                _count(report, line)
        except OSError as error:
            raise ReportError(f"{path} cannot be read: {error.strerror}.", hint="Check the file.") from None
    # Reports give whole seconds: the last one belongs to the window.
    latest = options.until_us if options.until_us is not None else (latest_us or 0) + 999_999
    window = Window(
        from_us=options.from_us if options.from_us is not None else earliest_us or 0, until_us=latest
    )
    report.window = window
    return report, window


def _count(report: Report, line: Line) -> None:
    if line.side is None:
        report.add_other(line.type)
        return
    report.add_theirs(line.side, line.currency, line.amount_minor)
    if line.fee_minor is not None:
        report.add_fee(line.fee_currency, line.fee_minor)


async def compare(
    store: Store,
    report: Report,
    window: Window,
    options: Options,
    scratch: Scratch,
    progress: Progress = _silent,
    recorder: Recorder | None = None,
) -> Report:
    """Compares what was read with the books, and records what the report proves where there is a recorder."""
    report.applied = recorder is not None
    done = 0
    async for payment in _payments(store, window, options):
        scratch.add_books(books_of(payment, options.gateway))
        done += 1
        if done % _PROGRESS_ROWS == 0:
            progress("listing payments", done, 0)
    for done, line in enumerate(scratch.unresolved(), 1):
        if done % _PROGRESS_ROWS == 0:
            progress("finding payments", done, report.rows)
        payment_id = await _payment_of(store, options, scratch, line) if line.side else None
        if payment_id is not None:
            scratch.resolve(line, payment_id)
    for line in scratch.unresolved():
        if line.side is not None:
            report.add(unmatched(line))
    for done, (books, lines) in enumerate(scratch.payments(), 1):
        if done % _PROGRESS_ROWS == 0:
            progress("comparing", done, 0)
        for finding in match(books, lines, window):
            report.add(await _recorded(recorder, finding))
    return report


async def _recorded(recorder: Recorder | None, finding: Finding) -> Finding:
    if recorder is None or finding.action is None:
        return finding
    applied = await recorder.record(finding)
    # Once recorded, our books say what the PSP's say.
    ours = finding.theirs_minor if applied == RECORDED else finding.ours_minor
    return replace(finding, applied=applied, ours_minor=ours)


async def _payments(store: Store, window: Window, options: Options) -> AsyncIterator[Payment]:
    """The payments that a row may be about, newest first: made up to `lookback_days` before the window, or within it."""
    oldest_us = window.from_us - options.lookback_days * _DAY_US
    # Ids sort by time: paging begins a day after the window's end, for clocks that differ.
    start = f"pay_{min((window.until_us + _DAY_US) // 1000, 2**48 - 1):012x}{'f' * 20}"
    for merchant_id in options.merchant_ids:
        before = start
        while True:
            page = await store.list_payments(merchant_id, before_id=before, limit=LIST_MAX)
            for payment in page:
                if payment.created_at_us < oldest_us:
                    break
                yield payment
            else:
                if len(page) == LIST_MAX:
                    before = page[-1].id
                    continue
            break


async def _payment_of(store: Store, options: Options, scratch: Scratch, line: Line) -> str | None:
    """The payment that a row is about: by our ids, then by the PSP's; also one from before the window, by our ids."""
    candidates = [line.payment_id] if line.payment_id else []
    if candidates and scratch.knows(candidates[0]):
        return candidates[0]
    if not candidates:
        for name in (*line.operation_ids, *line.references):
            found = scratch.named(name)
            if found is not None:
                return found
        for operation_id in line.operation_ids:
            row = await store.find_in_flight(operation_id)
            if row is not None:
                candidates.append(row.payment_id)
    for payment_id in candidates:
        try:
            payment = await store.load(check_payment_id(payment_id))
        except PaymentNotFound:
            continue
        if payment is not None:
            scratch.add_books(books_of(payment, options.gateway))
            return payment.id
    return None


def shown_time(at_us: int) -> str:
    """A time for people."""
    return datetime.fromtimestamp(at_us / 1_000_000, UTC).isoformat(sep=" ", timespec="seconds")
