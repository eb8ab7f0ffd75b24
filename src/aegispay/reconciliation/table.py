"""A CSV file as a stream of checked rows: encoding, delimiter, header, ragged and empty rows.

Knows no layout and no money. Whatever is wrong is a `ReportError` that names the line, and what to do.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from typing import BinaryIO

from aegispay.reconciliation.lines import ReportError

LINE_LENGTH_MAX = 1_000_000
"""Characters. A longer line is no report, and would have to be held in memory whole."""
COLUMNS_MAX = 1_000
_DELIMITERS = ",;\t|"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Row:
    """One row with its cells by column name, in any case."""

    __slots__ = ("_cells", "_columns", "number")

    def __init__(self, columns: dict[str, int], cells: list[str], number: int):
        self._columns = columns
        self._cells = cells
        self.number = number

    def text(self, column: str) -> str:
        """The cell without surrounding blanks; empty where the report has no such column."""
        index = self._columns.get(column.casefold())
        return "" if index is None else self._cells[index].strip()

    @property
    def content(self) -> str:
        """The whole row, to tell repeated rows by."""
        return "\x1f".join(cell.strip() for cell in self._cells)

    def wrong(self, column: str, what: str, to_do: str) -> ReportError:
        """The error for a cell that cannot be used."""
        shown = self.text(column)[:40]
        return ReportError(f"line {self.number}, column {column!r}: {shown!r} {what}", hint=to_do)


class Table:
    """A CSV file that is read once, from its beginning."""

    def __init__(self, raw: BinaryIO):
        self._text = io.TextIOWrapper(raw, encoding=_encoding(raw), errors="strict", newline="")
        self._line = 0
        header = self._header()
        self.columns = self._named(header)

    def has(self, column: str) -> bool:
        return column.casefold() in self.columns

    def rows(self) -> Iterator[Row]:
        """The rows below the header, without those that are empty."""
        width = len(self.columns)
        for number, cells in self._records:
            if len(cells) > width and not any(cell.strip() for cell in cells[width:]):
                cells = cells[:width]
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != width:
                raise ReportError(
                    f"line {number} has {len(cells)} columns where the header has {width}.",
                    hint="The file may be cut off or edited: download it again.",
                )
            yield Row(self.columns, cells, number)

    def _header(self) -> list[str]:
        try:
            first = self._text.readline(LINE_LENGTH_MAX)
            while first and not first.strip():
                self._line += 1
                first = self._text.readline(LINE_LENGTH_MAX)
        except UnicodeError:
            raise _not_text(self._line + 1) from None
        if not first:
            raise ReportError("the file is empty.", hint="Download the report again.")
        if len(first) >= LINE_LENGTH_MAX:
            raise _too_long(self._line + 1)
        delimiter = max(_DELIMITERS, key=first.count)
        self._records = self._read(first, delimiter)
        return next(self._records)[1]

    def _read(self, first: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
        skipped = self._line
        reader = csv.reader(self._physical(first), delimiter=delimiter, strict=True)
        while True:
            number = skipped + reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except UnicodeError:
                raise _not_text(number) from None
            except csv.Error as error:
                raise ReportError(
                    f"line {number} is not CSV: {error}.",
                    hint="Look for a quote that is not closed, or download it again.",
                ) from None
            yield number, cells

    def _physical(self, first: str) -> Iterator[str]:
        yield first
        number = 1
        while line := self._text.readline(LINE_LENGTH_MAX):
            number += 1
            if len(line) >= LINE_LENGTH_MAX:
                raise _too_long(self._line + number)
            yield line

    def _named(self, header: list[str]) -> dict[str, int]:
        names = [name.strip().casefold() for name in header]
        while names and not names[-1]:
            names.pop()
        if len(names) > COLUMNS_MAX:
            raise ReportError(f"the header has {len(names)} columns; {COLUMNS_MAX} is the most.")
        found: dict[str, int] = {}
        for index, name in enumerate(names):
            # Columns without a name are kept apart, so that their number stays that of the header.
            if name in found:
                raise ReportError(
                    f"the header has the column {name[:60]!r} twice.", hint="Remove one of the two."
                )
            found[name or f"\0{index}"] = index
        return found


def _encoding(raw: BinaryIO) -> str:
    start = raw.read(4)
    raw.seek(0)
    return "utf-16" if start.startswith(_UTF16) else "utf-8-sig"


def _not_text(number: int) -> ReportError:
    return ReportError(
        f"line {number} is not UTF-8 text.", hint="Save the report as CSV in UTF-8, not as a spreadsheet."
    )


def _too_long(number: int) -> ReportError:
    return ReportError(f"line {number} has more than {LINE_LENGTH_MAX} characters: this is no report.")
