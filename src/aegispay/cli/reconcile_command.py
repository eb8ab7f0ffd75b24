"""`aegispay reconcile`: a thin wrapper, with the report for people. The work stands in `aegispay.reconciliation`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from aegispay.app import AegisPay
from aegispay.cli.exits import Exit, clean
from aegispay.cli.options import MERCHANT, command
from aegispay.cli.session import Session
from aegispay.config import Config
from aegispay.domain.errors import InvalidRequest, UnknownGateway
from aegispay.domain.money import Money
from aegispay.reconciliation.evidence import Recorder
from aegispay.reconciliation.layouts import LAYOUTS
from aegispay.reconciliation.report import Finding, Kind, Report
from aegispay.reconciliation.run import LOOKBACK_DAYS, Options, compare, read_report, shown_time
from aegispay.reconciliation.scratch import Scratch
from aegispay.storage.store import Store

_SHOWN_MAX = 200
_LOOKBACK_DAYS_MAX = 3650


def _reconcile(
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The PSP's report, CSV.", show_default=False)],
    gateway: Annotated[
        str, typer.Option("--gateway", metavar="NAME", help="The gateway whose report it is.")
    ],
    layout: Annotated[
        str | None,
        typer.Option("--layout", metavar="LAYOUT", help=f"{', '.join(LAYOUTS)} [default: by its header]."),
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Record what the report proves; without it nothing is written.")
    ] = False,
    begin: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="What the report covers: from then on.")
    ] = None,
    end: Annotated[
        str | None,
        typer.Option(
            "--until", metavar="TIME", help="What the report covers: until then; a day is included."
        ),
    ] = None,
    lookback_days: Annotated[
        int, typer.Option("--lookback-days", metavar="N", help="How much older a payment in it may be.")
    ] = LOOKBACK_DAYS,
    merchant: Annotated[
        list[str] | None,
        typer.Option("--merchant", metavar="ID", help="Merchant id; repeat it for several."),
    ] = None,
) -> int:
    """Compare a PSP's settlement report with our books, and with --apply record what it proves.

    Ends with 0 where both books agree, and with 1 where they differ. The report is read whole before anything is written.
    """
    config = session.open_config()
    if gateway not in config.gateways:
        known = ", ".join(config.gateways) or "none"
        raise UnknownGateway(f"no gateway {gateway[:40]!r} is configured.", hint=f"Configured: {known}.")
    if not 0 <= lookback_days <= _LOOKBACK_DAYS_MAX:
        raise InvalidRequest(f"--lookback-days is 0 to {_LOOKBACK_DAYS_MAX}.")
    options = Options(
        gateway=gateway,
        merchant_ids=tuple(dict.fromkeys(merchant or [MERCHANT])),
        layout=layout,
        from_us=_time_us("--from", begin),
        until_us=_time_us("--until", end, whole_day=True),
        lookback_days=lookback_days,
    )
    if options.from_us is not None and options.until_us is not None and options.from_us > options.until_us:
        raise InvalidRequest("--from is later than --until.")
    # Made before the file is read, so that a configuration that is wrong is told at once.
    pay = session.pay(config) if apply else None
    report = _work(session, config, pay, file, options)
    if session.json:
        session.emit(report.to_dict())
    else:
        session.show(report_view(report))
    return Exit.OK if report.ok else Exit.FAILED


def _work(session: Session, config: Config, pay: AegisPay | None, file: Path, options: Options) -> Report:
    shown = sys.stderr.isatty() and not session.json
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        console=Console(file=sys.stderr),
        transient=True,
        disable=not shown,
    )
    with bar, Scratch() as scratch:
        task = bar.add_task("reading", total=None)

        def progress(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total or None)

        report, window = read_report(file, options, scratch, progress)

        async def dry(store: Store) -> Report:
            return await compare(store, report, window, options, scratch, progress)

        if pay is None:
            return session.run_with_store(config, dry)

        async def applied(pay: AegisPay) -> Report:
            recorder = Recorder(pay, options.gateway)
            return await compare(pay.store, report, window, options, scratch, progress, recorder)

        return session.run_with(pay, applied)


def _time_us(option: str, text: str | None, *, whole_day: bool = False) -> int | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text.strip())
        if whole_day and len(text.strip()) <= len("2026-05-01"):
            found += timedelta(days=1) - timedelta(microseconds=1)
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found
        return (found - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        raise InvalidRequest(
            f"{option} {text[:40]!r} is not a time.", hint="Write 2026-05-01 or 2026-05-01T12:00:00Z (UTC)."
        ) from None


# --- for people ---------------------------------------------------------------------------------------------


def report_view(report: Report) -> RenderableType:
    """The report to read."""
    window = report.window
    time = f", {shown_time(window.from_us)} to {shown_time(window.until_us)}" if window else ""
    others = ", ".join(f"{count} {clean(kind, 60)}" for kind, count in report.rows_of_other_types.items())
    head = f"{report.gateway}, {report.layout} layout: {report.rows} rows{time}"
    parts: list[RenderableType] = [Text(head)]
    if others:
        parts.append(Text(f"not compared: {others}"))
    if report.rows_repeated:
        parts.append(Text(f"{report.rows_repeated} repeated rows counted once"))
    parts.append(_totals(report))
    counts = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in report.counts.items() if count)
    parts.append(Text(counts or "nothing to compare"))
    if report.differences:
        parts.append(_differences(report))
        left_off = report.differences_left_off + max(0, len(report.differences) - _SHOWN_MAX)
        if left_off:
            parts.append(Text(f"{left_off} more; --json lists {len(report.differences)}."))
    parts.append(Text(_verdict(report)))
    return Group(*parts)


def _verdict(report: Report) -> str:
    if report.ok:
        return "The books agree." if not report.differences else "The books agree now: all was recorded."
    can = sum(one.action is not None and not one.applied for one in report.differences)
    more = f" {can} can be recorded: --apply." if can else ""
    return f"{report.unsettled} differences.{more}"


def _totals(report: Report) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("minor units")
    for name in ("taken, ours", "theirs", "refunded, ours", "theirs", "fees"):
        table.add_column(name, justify="right")
    for currency in sorted({*report.totals, *report.fees_minor}):
        sums = report.totals.get(currency)
        numbers = (
            (
                sums.ours_taken_minor,
                sums.theirs_taken_minor,
                sums.ours_refunded_minor,
                sums.theirs_refunded_minor,
            )
            if sums
            else (0, 0, 0, 0)
        )
        table.add_row(currency, *(str(one) for one in (*numbers, report.fees_minor.get(currency, 0))))
    return table


def _differences(report: Report) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("difference", "line", "payment", "reference"):
        table.add_column(name, no_wrap=name == "payment")
    for name in ("ours", "theirs"):
        table.add_column(name, justify="right")
    table.add_column("note")
    for one in report.differences[:_SHOWN_MAX]:
        side = "" if one.kind in (Kind.EXTERNAL_REFUND, Kind.REFUND_FAILED) else f" ({one.side})"
        table.add_row(
            Text(one.kind.replace("_", " ") + side),
            str(one.line or ""),
            one.payment_id,
            Text(clean(one.reference, 60)),
            _amount(one, one.ours_minor),
            _amount(one, one.theirs_minor),
            Text(clean("; ".join(text for text in (one.detail, one.applied) if text), 160)),
        )
    return table


def _amount(one: Finding, amount_minor: int | None) -> str:
    return "" if amount_minor is None else Money(amount_minor, one.currency).format()


def register(app: typer.Typer) -> None:
    """Adds the command."""
    command(
        app,
        "reconcile",
        examples="""
        aegispay reconcile balance.csv --gateway stripe
        aegispay reconcile settlement_detail_report_batch_4.csv --gateway adyen --apply
        aegispay reconcile may.csv --gateway own --layout generic --from 2026-05-01 --until 2026-05-31 --json""",
    )(_reconcile)
