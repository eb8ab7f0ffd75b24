"""The layouts by name, and which one a file has."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from aegispay.reconciliation import adyen_layout, generic_layout, stripe_layout
from aegispay.reconciliation.lines import Line, ReportError
from aegispay.reconciliation.table import Row, Table


class Layout(NamedTuple):
    """How one kind of report is read."""

    name: str
    required: tuple[str, ...]
    one_of: tuple[tuple[str, ...], ...]
    """Of each of these groups at least one column must be there."""
    read: Callable[[Row], Line]

    def missing(self, table: Table) -> list[str]:
        """What the header lacks, each in words."""
        found = [repr(column) for column in self.required if not table.has(column)]
        lacking = [group for group in self.one_of if not any(table.has(column) for column in group)]
        return found + ["one of " + ", ".join(repr(column) for column in group) for group in lacking]


LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout("stripe", stripe_layout.REQUIRED, stripe_layout.ONE_OF, stripe_layout.read),
        Layout("adyen", adyen_layout.REQUIRED, adyen_layout.ONE_OF, adyen_layout.read),
        Layout("generic", generic_layout.REQUIRED, generic_layout.ONE_OF, generic_layout.read),
    )
}


def layout_of(table: Table, name: str | None) -> Layout:
    """The named layout, or the one that the header fits. Raises `ReportError` where columns are missing."""
    if name is not None:
        layout = LAYOUTS.get(name)
        if layout is None:
            raise ReportError(f"unknown layout {name[:40]!r}.", hint=f"Layouts: {', '.join(LAYOUTS)}.")
        missing = layout.missing(table)
        if missing:
            raise ReportError(
                f"the {name} layout needs the column {missing[0]}, which the header lacks.",
                hint="Add it to the report and download it again, or name another --layout.",
            )
        return layout
    for layout in LAYOUTS.values():
        if not layout.missing(table):
            return layout
    nearest = min(LAYOUTS.values(), key=lambda one: len(one.missing(table)) / len(one.required))
    raise ReportError(
        f"the header fits no layout; the {nearest.name} layout would need the column {nearest.missing(table)[0]}.",
        hint="Add the column, or name the layout: --layout " + "|".join(LAYOUTS) + ".",
    )
