"""Where the demo shows itself: a live table on a terminal, plain lines elsewhere, only JSON where asked for."""

from __future__ import annotations

import os
import sys
from typing import Any

from aegispay.demo.report import Report
from aegispay.demo.stage import Row
from aegispay.domain.money import Money

BROKEN_SHOWN_MAX = 10
PROGRESS_LINES = 5


class Screen:
    """Plain lines. `Quiet` and `Live` show the same otherwise."""

    def __init__(self) -> None:
        self._out = sys.stdout
        self._next_line = 1

    def begin(self, seed: int, payments: int) -> None:
        """The run starts."""
        self.say(
            f"Seed {seed}. Five PSPs on loopback, in front of a bank with books of its own, in a process of their own."
        )

    def say(self, line: str) -> None:
        """One line for a person."""
        try:
            self._out.write(line + "\n")
        except UnicodeEncodeError:
            encoding = self._out.encoding or "ascii"
            self._out.write(line.encode(encoding, "replace").decode(encoding) + "\n")
        self._out.flush()

    def scenario(self, name: str) -> None:
        """A scenario begins."""

    def phase(self, name: str) -> None:
        """Something begins that takes a moment and is no scenario."""
        self.say(f"{name} ...")

    def row(self, row: Row) -> None:
        """A scenario ended."""
        mark = "ok    " if row.ok else "BROKEN"
        self.say(f"{mark} {row.name}: {row.happened} | bank: {row.customer_paid} | recorded: {row.recorded}")
        for problem in row.problems:
            self.say(f"       {problem}")

    def progress(self, done: int, total: int, note: str) -> None:
        """So many mixed payments are through."""
        if done >= self._next_line or done == total:
            self.say(f"{note}: {done} of {total}")
            self._next_line += max(1, total // PROGRESS_LINES)

    def report(self, report: Report) -> None:
        """Everything at the end; the last line is the verdict."""
        self.say("Currency: taken and given back, by the bank's books and by ours")
        for code, row in report.totals.items():
            bank = f"{_money(row.bank_captured_minor, code)} - {_money(row.bank_refunded_minor, code)}"
            ours = f"{_money(row.our_captured_minor, code)} - {_money(row.our_refunded_minor, code)}"
            reversed_too = f" (and {_money(row.reversed_minor, code)} reversed)" if row.reversed_minor else ""
            self.say(f"  {'ok    ' if row.equal else 'DIFFER'} {bank} | {ours}{reversed_too}")
        for line in psp_lines(report):
            self.say(line)
        self.say(f"Faults: {', '.join(f'{kind} {count}' for kind, count in report.faults_by_kind().items())}")
        broken = report.broken()
        for line in broken[:BROKEN_SHOWN_MAX]:
            self.say(f"  ! {line}")
        if len(broken) > BROKEN_SHOWN_MAX:
            self.say(f"  ! and {len(broken) - BROKEN_SHOWN_MAX} more")
        self.say(report.verdict())
        self.say(f"To run it again: {report.command}")

    def close(self) -> None:
        """Leaves the terminal as it was. Safe twice."""


class Quiet(Screen):
    """One JSON object at the end."""

    def say(self, line: str) -> None:
        pass

    def report(self, report: Report) -> None:
        self._out.write(report.to_json().decode() + "\n")
        self._out.flush()


class Live(Screen):
    """A table that grows, under a bar that stays in sight on a small terminal."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console
        from rich.live import Live as RichLive
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

        self._console = Console(highlight=False)
        self._table: Any = None
        self._progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
        )
        self._task = self._progress.add_task("Starting", total=None)
        self._live = RichLive(console=self._console, refresh_per_second=8)

    def begin(self, seed: int, payments: int) -> None:
        from rich.console import Group
        from rich.table import Table

        self._table = Table(title=f"AegisPay demo, seed {seed}", expand=True)
        for heading, ratio in (
            ("Scenario", 4),
            ("What happened", 8),
            ("Customer paid (bank)", 4),
            ("We recorded", 5),
        ):
            self._table.add_column(heading, ratio=ratio)
        self._table.add_column("", width=2)
        self._live.update(Group(self._progress, self._table))
        self._live.start()

    def scenario(self, name: str) -> None:
        self._progress.update(self._task, description=name)

    def phase(self, name: str) -> None:
        self.scenario(name)

    def row(self, row: Row) -> None:
        from rich.markup import escape

        cells = (row.name, row.happened, row.customer_paid, row.recorded)
        mark = "[green]✓[/]" if row.ok else "[bold red]✗[/]"
        self._table.add_row(*(escape(cell) for cell in cells), mark)

    def progress(self, done: int, total: int, note: str) -> None:
        self._progress.update(self._task, description=note, completed=done, total=total)

    def report(self, report: Report) -> None:
        self.close()
        super().report(report)

    def say(self, line: str) -> None:
        style = "bold red" if line.startswith(("A PROMISE", "  ! ", "  DIFFER")) else None
        if line.startswith("Every promise"):
            style = "bold green"
        self._console.print(line, style=style, markup=False)

    def close(self) -> None:
        self._progress.update(self._task, visible=False)
        self._live.stop()


def screen(json: bool) -> Screen:
    """The screen for this run."""
    if json:
        return Quiet()
    if sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        try:
            return Live()
        except ImportError:
            pass  # rich comes with the extra `cli`.
    return Screen()


def psp_lines(report: Report) -> list[str]:
    """A line of headings, one row for each PSP, and what the headings mean; narrow enough for 80 columns."""
    rows: list[tuple[str, ...]] = [_PSP_HEADINGS]
    for name, row in report.psps.items():
        ended = [row.resolved.get(kind, 0) for kind in ("resend", "lookup", "webhook")]
        webhooks = row.webhooks
        numbers = (
            row.paid,
            row.operations,
            row.faults,
            row.doubts,
            *ended,
            row.resolved_sum - sum(ended),
            webhooks.notices,
            webhooks.repeated,
            webhooks.forged - webhooks.forged_taken,
            row.told_by_webhook,
        )
        rows.append((name, *(str(number) for number in numbers)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_PSP_HEADINGS))]
    table = [
        " ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return [*table, *_PSP_LEGEND]


_PSP_HEADINGS = (
    "PSP",
    "paid",
    "ops",
    "faults",
    "doubts",
    "resend",
    "lookup",
    "hook",
    "else",
    "hooks",
    "again",
    "forged",
    "told",
)
_PSP_LEGEND = (
    "  paid: payments; ops: operations; doubts: how many, and what ended each",
    "  hooks: webhooks taken, taken again, forged (refused); told: outcomes known by one",
    "  Braintree sends none for card sales; captures and refunds at Adyen end by one",
)


def _money(minor: int, code: str) -> str:
    return Money(minor, code).format()
