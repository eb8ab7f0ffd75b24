"""Where a run shows itself: a live bar on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
from typing import Any

from aegispay.bench.report import Report


class Screen:
    """Standard output; rich is imported only for a terminal."""

    def __init__(self, quiet: bool):
        self._out = sys.stdout
        self._quiet = quiet
        self._live = not quiet and self._out.isatty()
        self._progress: Any = None
        self._task: Any = None

    def write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()

    def say(self, line: str) -> None:
        if not self._quiet and not self._live:
            self.write(line + "\n")

    def begin(self, what: str, total: float) -> None:
        self.say(f"{what} ...")
        if not self._live:
            return
        try:
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
        except ImportError:
            self._live = False
            return
        self.end()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, transient=True)
        self._task = self._progress.add_task(what, total=total, note="")
        self._progress.start()

    def advance(self, done: float, note: str) -> None:
        if self._progress is not None:
            self._progress.update(self._task, completed=done, note=note)

    def end(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def show(self, report: Report) -> None:
        if self._quiet:
            return
        rows = report.rows()
        if self._live:
            from rich.console import Console
            from rich.table import Table

            table = Table(show_header=False, title="AegisPay benchmark")
            for label, value in rows:
                table.add_row(label, value)
            Console().print(table)
            return
        width = max(len(label) for label, _ in rows)
        for label, value in rows:
            self._out.write(f"{label:<{width}}  {value}\n")
        self._out.flush()
