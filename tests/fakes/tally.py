"""Counts what was checked against the PSPs' own material, over all tests and worker processes of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

KINDS = ("bodies", "fixtures", "codes", "signatures", "SDK requests")
PSPS = ("stripe", "razorpay", "paypal", "braintree", "adyen")
_counts: Counter[tuple[str, str]] = Counter()


def checked(psp: str, kind: str, number: int = 1) -> None:
    """So many of this kind agreed: call it after the check, so that a failure is not counted."""
    if psp not in PSPS or kind not in KINDS:
        raise ValueError(f"{psp} {kind} is nothing that is counted")
    _counts[psp, kind] += number


def rows() -> list[list[str | int]]:
    """The counts in a form that can be sent from a worker process."""
    return [[psp, kind, number] for (psp, kind), number in sorted(_counts.items())]


def add(found: Iterable[Sequence[str | int]]) -> None:
    """The counts of a worker process."""
    for psp, kind, number in found:
        _counts[str(psp), str(kind)] += int(number)


def summary() -> list[str]:
    """A line per PSP, and one for all; nothing where nothing was checked."""
    lines = [
        f"  {psp}: " + ", ".join(f"{_counts[psp, kind]} {kind}" for kind in KINDS)
        for psp in PSPS
        if any(_counts[psp, kind] for kind in KINDS)
    ]
    if not lines:
        return []
    sums = [f"{sum(_counts[psp, kind] for psp in PSPS)} {kind}" for kind in KINDS]
    return [f"checked against official material: {', '.join(sums)}", *lines]
