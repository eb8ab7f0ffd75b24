"""Compares one payment's books with the rows that name it. Pure: the same input gives the same findings.

A row is paired by our ids first, then by the PSP's; by its amount only where that cannot be mistaken. The absence of a row
proves nothing, so nothing here ever concludes that an operation was not done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from aegispay.reconciliation.books import Books, Entry, Standing
from aegispay.reconciliation.lines import Line, Side, Window
from aegispay.reconciliation.report import Finding, Kind, RecordDone, RecordRefund


def match(books: Books, lines: Sequence[Line], window: Window) -> list[Finding]:
    """The findings of one payment."""
    findings: list[Finding] = []
    for side in Side:
        entries = [entry for entry in books.entries if entry.side is side]
        rows = _folded([line for line in lines if line.side is side])
        pairs = _pair(books, entries, rows, _EXACT)
        if _captured_in_sum(books, rows, entries):
            number = rows[0].number
            findings += [_found(books, Kind.MATCHED, entry, line=number) for entry in entries]
            entries, rows = [], []
        pairs += _pair(books, entries, rows, _LOOSE)
        findings += [_compared(books, entry, line) for entry, line in pairs]
        findings += [_without_entry(books, line, entries) for line in rows]
        findings += [one for entry in entries if (one := _without_line(books, entry, window))]
    return findings


def unmatched(line: Line) -> Finding:
    """The finding for a row that names no payment of ours."""
    return Finding(
        kind=Kind.MISSING_HERE,
        side=line.side or Side.TAKEN,
        currency=line.currency,
        reference=line.reference or line.payment_reference,
        line=line.number,
        theirs_minor=line.amount_minor,
        detail="no payment of ours has its ids",
    )


# --- which row belongs to which operation -------------------------------------------------------------------


def _folded(lines: list[Line]) -> list[Line]:
    """The rows with what took back a part of them (an uncaptured rest, a refund that failed) already off."""
    found = [line for line in lines if line.amount_minor >= 0]
    for back in (line for line in lines if line.amount_minor < 0):
        for index, line in enumerate(found):
            same = back.reference and back.reference == line.reference and back.currency == line.currency
            if same and line.amount_minor + back.amount_minor >= 0:
                found[index] = replace(line, amount_minor=line.amount_minor + back.amount_minor)
                break
        else:
            found.append(back)
    return found


class _Rule(NamedTuple):
    fits: Callable[[Books, Entry, Line], bool]
    unique: bool = False
    """Whether it says something only where one operation alone fits."""


def _same_amount(_: Books, entry: Entry, line: Line) -> bool:
    return entry.amount_minor == line.amount_minor


def _by_our_id(_: Books, entry: Entry, line: Line) -> bool:
    return entry.operation_id in line.operation_ids


def _by_reference(_: Books, entry: Entry, line: Line) -> bool:
    return bool(entry.reference) and entry.reference == line.reference


def _by_payment_reference(_: Books, entry: Entry, line: Line) -> bool:
    return entry.charge and bool(entry.reference) and entry.reference == line.payment_reference


def _of_attempt(books: Books, entry: Entry, line: Line) -> bool:
    """Whether the row belongs to the attempt that the operation belongs to, and does not name another operation."""
    if entry.reference and line.reference and entry.reference not in line.references:
        return False
    if any(one in books.names and one not in books.attempts for one in line.operation_ids):
        return False
    if any(one in books.attempts for one in line.operation_ids):
        return entry.attempt_id in line.operation_ids
    known = books.attempts.get(entry.attempt_id, "")
    if known and known in line.references:
        return True
    return len(books.attempts) == 1 and not line.operation_ids and not (known and line.payment_reference)


def _standing(*standings: Standing) -> Callable[[Books, Entry, Line], bool]:
    return lambda _books, entry, _line: entry.standing in standings


def _capture(_: Books, entry: Entry, __: Line) -> bool:
    return entry.side is Side.TAKEN and not entry.charge


def _charge(_: Books, entry: Entry, __: Line) -> bool:
    return entry.charge


def _all(*conditions: Callable[[Books, Entry, Line], bool]) -> Callable[[Books, Entry, Line], bool]:
    return lambda books, entry, line: all(holds(books, entry, line) for holds in conditions)


_EXACT = (
    _Rule(_all(_by_our_id, _same_amount)),
    _Rule(_all(_by_reference, _same_amount)),
    _Rule(_all(_of_attempt, _same_amount, _standing(Standing.DONE))),
)
_LOOSE = (
    _Rule(_by_our_id),
    _Rule(_by_reference),
    _Rule(_by_payment_reference),
    # A charge that we know no reference of, in a row that names the payment and nothing else.
    _Rule(_all(_charge, _of_attempt), unique=True),
    # A PSP's payment is captured by its owner alone and within what was authorised, so the amount tells which capture it
    # was. A refund may have been made by hand as well: there the amount tells nothing.
    _Rule(_all(_capture, _of_attempt, _same_amount, _standing(Standing.OPEN)), unique=True),
    _Rule(_all(_capture, _of_attempt, _same_amount, _standing(Standing.NOT_DONE)), unique=True),
)
_Pairs = list[tuple[Entry, Line]]


def _pair(books: Books, entries: list[Entry], lines: list[Line], rules: Sequence[_Rule]) -> _Pairs:
    """Pairs what the rules say, and takes it off both lists."""
    pairs: _Pairs = []
    for rule in rules:
        for line in tuple(lines):
            fitting = [entry for entry in entries if rule.fits(books, entry, line)]
            if fitting and not (rule.unique and len(fitting) > 1):
                pairs.append((fitting[0], line))
                entries.remove(fitting[0])
                lines.remove(line)
    return pairs


def _captured_in_sum(books: Books, lines: list[Line], entries: list[Entry]) -> bool:
    """Whether the rows left are the captures left, only divided otherwise."""
    if not lines or not entries or entries[0].side is not Side.TAKEN:
        return False
    return (
        all(not entry.charge and entry.standing is Standing.DONE for entry in entries)
        and all(line.currency == books.currency for line in lines)
        and sum(entry.amount_minor for entry in entries) == sum(line.amount_minor for line in lines)
    )


# --- what comes of it ---------------------------------------------------------------------------------------


def _found(
    books: Books,
    kind: Kind,
    entry: Entry,
    *,
    line: int = 0,
    reference: str = "",
    theirs_minor: int | None = None,
    detail: str = "",
    action: RecordDone | None = None,
) -> Finding:
    return Finding(
        kind=kind,
        side=entry.side,
        currency=books.currency,
        payment_id=books.payment_id,
        operation_id=entry.operation_id,
        reference=reference or entry.reference,
        line=line,
        ours_minor=entry.amount_minor,
        theirs_minor=theirs_minor,
        detail=detail,
        action=action,
    )


def _compared(books: Books, entry: Entry, line: Line) -> Finding:
    amount = line.amount_minor
    reference = line.reference or line.payment_reference

    def found(kind: Kind, detail: str = "", action: RecordDone | None = None) -> Finding:
        return _found(
            books,
            kind,
            entry,
            line=line.number,
            reference=reference,
            theirs_minor=amount,
            detail=detail,
            action=action,
        )

    if line.currency != books.currency:
        return found(Kind.CURRENCY_DIFFERS, f"the report says {line.currency}")
    if amount <= 0 and entry.side is Side.REFUNDED and entry.standing is Standing.DONE:
        return found(Kind.REFUND_FAILED, "the refund came back: refund the payer by another way")
    if entry.standing is Standing.DONE:
        return found(Kind.MATCHED if amount == entry.amount_minor else Kind.AMOUNT_DIFFERS)
    if amount <= 0:
        return found(Kind.STILL_IN_DOUBT, "the report has it, and takes it back")
    kind = Kind.DOUBT_RESOLVED if entry.standing is Standing.OPEN else Kind.LATE_SUCCESS
    # Later operations name the payment by a charge's reference, so it must be the payment's and no other.
    naming = (line.payment_reference or entry.reference) if entry.charge else line.reference
    if not naming:
        return found(kind, "the report lacks the PSP's id of it, without which it cannot be recorded")
    differs = "" if amount == entry.amount_minor else "another amount than was asked for"
    return found(
        kind, differs, RecordDone(operation_id=entry.operation_id, reference=naming, amount_minor=amount)
    )


def _without_entry(books: Books, line: Line, entries_left: list[Entry]) -> Finding:
    found = replace(unmatched(line), payment_id=books.payment_id, detail="the payment has no such operation")
    if line.side is not Side.REFUNDED or line.amount_minor <= 0 or line.currency != books.currency:
        return found
    if not books.winner_here:
        return replace(found, detail="a refund of an attempt that did not succeed here")
    if any(entry.standing is Standing.OPEN for entry in entries_left):
        return replace(found, detail="a refund of the payment is under way; it may be this one")
    if not line.reference:
        return replace(found, detail="a refund without the PSP's id of it")
    action = RecordRefund(reference=line.reference, amount_minor=line.amount_minor)
    return replace(found, kind=Kind.EXTERNAL_REFUND, detail="made outside of us", action=action)


def _without_line(books: Books, entry: Entry, window: Window) -> Finding | None:
    if not entry.expected or not window.holds(entry.started_at_us):
        return None
    if entry.standing is Standing.DONE:
        return _found(books, Kind.MISSING_THERE, entry)
    if entry.standing is Standing.OPEN:
        return _found(books, Kind.STILL_IN_DOUBT, entry, detail="its absence is no proof")
    return None
