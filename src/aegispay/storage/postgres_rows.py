"""From writes to the arrays that the PostgreSQL store's batch statement takes.

Ids go as hexadecimal text into uuid columns. The order of the columns is that of `postgres_queries.WRITE`.
"""

from __future__ import annotations

from typing import Any

from aegispay.domain.events import encode_data
from aegispay.domain.payment import encode_payment
from aegispay.storage.store import InFlight, Write


class Row:
    """One write as tuples of column values, made on the caller's side so that a bad value fails its caller only."""

    __slots__ = ("claim", "condition", "events", "keep", "opens", "payment", "write")

    def __init__(self, write: Write):
        payment = write.payment
        key = payment.id[-32:]
        claim, guard = write.claim, write.guard
        digest = claim.digest.hex() if claim else None
        self.write = write
        self.condition = (
            key,
            write.expected_version,
            guard.operation_id[-32:] if guard else None,
            guard.fence if guard else None,
            digest,
        )
        body = encode_payment(payment).decode()
        self.payment: tuple[Any, ...] = (
            key,
            payment.version,
            payment.state.value,
            payment.gateway,
            payment.updated_at_us,
            body,
        )
        if not write.expected_version:
            self.payment += (
                payment.merchant_id,
                payment.amount_minor,
                payment.currency,
                payment.customer_id,
                payment.created_at_us,
            )
        self.events = [
            (
                key,
                event.version,
                event.id[-32:],
                event.type,
                event.schema_version,
                event.at_us,
                None if event.correlation_id == payment.id else event.correlation_id,
                None if event.causation_id == payment.id else event.causation_id,
                encode_data(event.data).decode(),
            )
            for event in write.events
        ]
        self.claim: tuple[Any, ...] | None = None
        if claim is not None:
            self.claim = (
                digest,
                claim.merchant_id,
                claim.scope,
                claim.payment_id[-32:],
                claim.operation_id[-32:],
                claim.request_hash.hex(),
                payment.updated_at_us,
            )
        self.keep = _in_flight(guard.keep) if guard and guard.keep else None
        self.opens = [_in_flight(one) for one in write.opens]


def _in_flight(row: InFlight) -> tuple[Any, ...]:
    return (
        row.operation_id[-32:],
        row.payment_id[-32:],
        row.gateway,
        row.purpose.value,
        row.due_at_us,
        row.owner,
        row.fence,
        row.tries,
        row.sent_at_us,
    )


_WIDTHS = {"claims": 7, "made": 11, "changed": 6, "events": 9, "released": 1, "kept": 9, "opened": 9}


def arguments(rows: list[Row]) -> list[Any]:
    """The arrays of one batch: the conditions, then for each table the writes' numbers and its columns."""
    tables: dict[str, list[tuple[Any, ...]]] = {name: [] for name in _WIDTHS}
    numbers: dict[str, list[int]] = {name: [] for name in _WIDTHS}
    events, event_numbers = tables["events"], numbers["events"]
    for number, row in enumerate(rows, start=1):
        condition = row.condition
        table = "changed" if condition[1] else "made"
        tables[table].append(row.payment)
        numbers[table].append(number)
        for event in row.events:
            events.append(event)
            event_numbers.append(number)
        if row.claim is not None:
            tables["claims"].append(row.claim)
            numbers["claims"].append(number)
        if row.keep is not None:
            tables["kept"].append(row.keep)
            numbers["kept"].append(number)
        elif condition[2] is not None:
            tables["released"].append((condition[2],))
            numbers["released"].append(number)
        for one in row.opens:
            tables["opened"].append(one)
            numbers["opened"].append(number)
    found: list[Any] = list(zip(*[row.condition for row in rows], strict=True))
    for name, width in _WIDTHS.items():
        found.append(numbers[name])
        table_rows = tables[name]
        found.extend(zip(*table_rows, strict=True) if table_rows else ((),) * width)
    return found
