"""The blocking half of the SQLite store: what is done with a connection, on whatever thread that is.

It knows tables and transactions, and nothing of asyncio. All of SQLite's writing SQL stands here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

from aegispay.domain.errors import (
    AegisPayError,
    StaleFence,
    StoreError,
    StoreFull,
    StoreUnavailable,
    VersionConflict,
)
from aegispay.domain.events import encode_data
from aegispay.domain.payment import encode_payment
from aegispay.storage.group_commit import BatchRefused
from aegispay.storage.rows import make_claim, make_in_flight
from aegispay.storage.store import Claim, ClaimTaken, InFlight, Write

_T = TypeVar("_T")

BUSY_TIMEOUT_MS = 5_000
BUSY_TRIES_MAX = 3
"""How often the write lock is asked for, with the timeout each time, before the database counts as unavailable."""

_CANNOT_BIND = (ValueError, TypeError, OverflowError, sqlite3.DataError, sqlite3.ProgrammingError)
"""What one write's bad value raises: a text that has no encoding, a number beyond 64 bits, a type that is none."""

# --- checks, before anything of a write is written ---------------------------------------------------------
FIND_CLAIM = """
    SELECT digest, merchant_id, scope, hex(payment_id), hex(operation_id), request_hash FROM claim WHERE digest = ?"""
FIND_VERSION = "SELECT version FROM payment WHERE payment_id = ?"
FIND_FENCE = "SELECT fence FROM in_flight WHERE operation_id = ? AND payment_id = ?"

# --- the rows of a write -----------------------------------------------------------------------------------
INSERT_PAYMENT = """
    INSERT INTO payment (version, state, gateway, updated_at_us, body, payment_id,
                         merchant_id, amount_minor, currency, customer_id, created_at_us)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
UPDATE_PAYMENT = """
    UPDATE payment SET version = ?, state = ?, gateway = ?, updated_at_us = ?, body = ? WHERE payment_id = ?"""
INSERT_EVENT = """
    INSERT INTO event (payment_id, version, event_id, type, schema_version, at_us, correlation_id, causation_id, data)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
INSERT_CLAIM = """
    INSERT INTO claim (digest, merchant_id, scope, payment_id, operation_id, request_hash, created_at_us)
    VALUES (?, ?, ?, ?, ?, ?, ?)"""
INSERT_IN_FLIGHT = """
    INSERT INTO in_flight (payment_id, gateway, purpose, due_at_us, owner, fence, tries, sent_at_us, operation_id)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
UPDATE_IN_FLIGHT = """
    UPDATE in_flight SET payment_id = ?, gateway = ?, purpose = ?, due_at_us = ?, owner = ?, fence = ?, tries = ?,
                         sent_at_us = ?
    WHERE operation_id = ?"""
DELETE_IN_FLIGHT = "DELETE FROM in_flight WHERE operation_id = ?"

# --- leases ------------------------------------------------------------------------------------------------
IN_FLIGHT_COLUMNS = (
    "hex(operation_id), hex(payment_id), gateway, purpose, due_at_us, owner, fence, tries, sent_at_us"
)
FIND_DUE = f"""
    SELECT {IN_FLIGHT_COLUMNS} FROM in_flight WHERE due_at_us <= ? ORDER BY due_at_us, operation_id LIMIT ?"""  # noqa: S608
TAKE_OVER = """
    UPDATE in_flight SET owner = ?, due_at_us = ?, fence = fence + 1, tries = tries + 1, sent_at_us = ?
    WHERE operation_id = ?"""
RENEW = "UPDATE in_flight SET due_at_us = ? WHERE operation_id = ? AND fence = ?"


class Row:
    """One write as the values that are bound, made on the caller's side so that a bad value fails its caller only."""

    __slots__ = ("claim", "events", "expected", "guard", "keep", "opens", "payment", "payment_id")

    def __init__(self, write: Write):
        payment = write.payment
        key = bytes.fromhex(payment.id[-32:])
        self.payment_id = key
        self.expected = write.expected_version
        changing = (payment.version, payment.state.value, payment.gateway, payment.updated_at_us)
        body = encode_payment(payment).decode()
        self.payment: tuple[Any, ...] = (*changing, body, key)
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
                bytes.fromhex(event.id[-32:]),
                event.type,
                event.schema_version,
                event.at_us,
                None if event.correlation_id == payment.id else event.correlation_id,
                None if event.causation_id == payment.id else event.causation_id,
                encode_data(event.data).decode(),
            )
            for event in write.events
        ]
        self.claim = _claim_row(write.claim, payment.updated_at_us) if write.claim else None
        self.guard: tuple[bytes, int] | None = None
        self.keep: tuple[Any, ...] | None = None
        if guard := write.guard:
            self.guard = (bytes.fromhex(guard.operation_id[-32:]), guard.fence)
            self.keep = _in_flight_row(guard.keep) if guard.keep else None
        self.opens = [_in_flight_row(one) for one in write.opens]


def claim_of(row: tuple[Any, ...]) -> Claim:
    """A claim from a row of `FIND_CLAIM`."""
    digest, merchant_id, scope, payment_hex, operation_hex, request_hash = row
    return make_claim(digest, merchant_id, scope, payment_hex.lower(), operation_hex.lower(), request_hash)


def _claim_row(claim: Claim, at_us: int) -> tuple[Any, ...]:
    return (
        claim.digest,
        claim.merchant_id,
        claim.scope,
        bytes.fromhex(claim.payment_id[-32:]),
        bytes.fromhex(claim.operation_id[-32:]),
        claim.request_hash,
        at_us,
    )


def _in_flight_row(row: InFlight) -> tuple[Any, ...]:
    return (
        bytes.fromhex(row.payment_id[-32:]),
        row.gateway,
        row.purpose.value,
        row.due_at_us,
        row.owner,
        row.fence,
        row.tries,
        row.sent_at_us,
        bytes.fromhex(row.operation_id[-32:]),
    )


def translated(error: sqlite3.Error, path: str) -> AegisPayError:
    """SQLite's error as one of ours, with a word on how to mend it."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(
            f"the disk of {path} is full, or the database has reached its size limit; nothing was written.",
            hint="Free some space and try again.",
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreUnavailable(
            f"another process keeps {path} locked.", hint="Find who holds a long write transaction on it."
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreError(f"{path} is damaged: {error}.", hint="Restore it from a backup.")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN):
        return StoreUnavailable(
            f"{path} cannot be written: {error}.", hint="Check the rights on file and folder."
        )
    return StoreUnavailable(f"{path}: {error}.")


def begin(connection: sqlite3.Connection) -> None:
    """Takes the write lock; other processes may hold it for a while, and the wait is bounded."""
    for tries_left in range(BUSY_TRIES_MAX - 1, -1, -1):
        try:
            connection.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            if not tries_left or getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY:
                raise


def roll_back(connection: sqlite3.Connection) -> None:
    # SQLite ends the transaction by itself after some errors, a full disk among them.
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def reuse_log(connection: sqlite3.Connection, error: sqlite3.Error) -> None:
    """After a full disk: copies the log into the file, so that the next write begins at the log's start.

    SQLite does so by itself only after a commit that worked, and where the log has taken the last byte none does any more.
    """
    if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_FULL:
        return
    try:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    except sqlite3.Error:
        pass  # The file has to grow for it: then only somebody who frees some space can help.


def run(connection: sqlite3.Connection, function: Callable[[sqlite3.Connection], _T]) -> _T:
    """Runs what writes by itself, a lease for example."""
    try:
        return function(connection)
    except sqlite3.Error as error:
        reuse_log(connection, error)
        raise


def apply(connection: sqlite3.Connection, rows: list[Row], path: str) -> list[Exception | None]:
    """Writes the rows whose conditions hold, in one transaction; the others get their own errors."""
    try:
        begin(connection)
        answers = [refusal(connection, row) for row in rows]
        passed = [row for row, answer in zip(rows, answers, strict=True) if answer is None]
        if passed:
            _write(connection, passed)
            connection.execute("COMMIT")
        else:
            connection.execute("ROLLBACK")
    except sqlite3.IntegrityError as error:
        roll_back(connection)
        raise BatchRefused(
            VersionConflict(f"the write collides with rows that are there already: {error}.")
        ) from error
    except _CANNOT_BIND as error:
        roll_back(connection)
        raise BatchRefused(
            StoreError(f"the write holds a value that SQLite does not take: {type(error).__name__}.")
        ) from error
    except sqlite3.Error as error:
        roll_back(connection)
        reuse_log(connection, error)
        raise translated(error, path) from error
    except BaseException:
        roll_back(connection)
        raise
    return answers


def refusal(connection: sqlite3.Connection, row: Row) -> Exception | None:
    """Why this write may not be applied, asked in this order: its claim, its lease, its version."""
    if row.claim is not None:
        taken = connection.execute(FIND_CLAIM, row.claim[:1]).fetchone()
        if taken is not None:
            return ClaimTaken(claim_of(taken))
    public_id = "pay_" + row.payment_id.hex()
    if row.guard is not None:
        operation_id, fence = row.guard
        held = connection.execute(FIND_FENCE, (operation_id, row.payment_id)).fetchone()
        if held is None or held[0] != fence:
            return StaleFence(payment_id=public_id)
    found = connection.execute(FIND_VERSION, (row.payment_id,)).fetchone()
    version = 0 if found is None else found[0]
    if version != row.expected:
        return VersionConflict(
            f"{public_id} is at version {version}, not {row.expected}.", payment_id=public_id
        )
    return None


def _write(connection: sqlite3.Connection, rows: list[Row]) -> None:
    run = connection.executemany
    run(INSERT_PAYMENT, [row.payment for row in rows if not row.expected])
    run(UPDATE_PAYMENT, [row.payment for row in rows if row.expected])
    run(INSERT_EVENT, [event for row in rows for event in row.events])
    run(INSERT_CLAIM, [row.claim for row in rows if row.claim is not None])
    run(UPDATE_IN_FLIGHT, [row.keep for row in rows if row.keep is not None])
    run(DELETE_IN_FLIGHT, [row.guard[:1] for row in rows if row.guard is not None and row.keep is None])
    run(INSERT_IN_FLIGHT, [one for row in rows for one in row.opens])


def lease_due(
    connection: sqlite3.Connection, now_us: int, owner: str, lease_until_us: int, limit: int
) -> list[InFlight]:
    """Takes over what is due. Nothing is locked while nothing is."""
    if not connection.execute(FIND_DUE, (now_us, 1)).fetchall():
        return []
    begin(connection)
    try:
        found = connection.execute(FIND_DUE, (now_us, limit)).fetchall()
        taken = [(owner, lease_until_us, _last_send_us(row), bytes.fromhex(row[0])) for row in found]
        connection.executemany(TAKE_OVER, taken)
        connection.execute("COMMIT")
    except BaseException:
        roll_back(connection)
        raise
    return [
        make_in_flight(
            row[0].lower(),
            row[1].lower(),
            row[2],
            row[3],
            lease_until_us,
            owner,
            row[6] + 1,
            row[7] + 1,
            _last_send_us(row),
        )
        for row in found
    ]


def _last_send_us(row: tuple[Any, ...]) -> int:
    """When the operation may last have been sent: an owner who never gave the lease back had all of it to do so."""
    due_at_us, owner, sent_at_us = int(row[4]), row[5], int(row[8])
    return max(sent_at_us, due_at_us) if owner else sent_at_us


def renew(connection: sqlite3.Connection, operation_id: bytes, fence: int, due_at_us: int) -> bool:
    """Moves the due time while the fence is still ours."""
    begin(connection)
    try:
        moved = connection.execute(RENEW, (due_at_us, operation_id, fence)).rowcount
        connection.execute("COMMIT")
    except BaseException:
        roll_back(connection)
        raise
    return moved == 1
