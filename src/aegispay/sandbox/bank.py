"""The bank: books of its own, in a SQLite file of its own, that say what was really taken from whom.

It knows nothing of our store, our payments or our outcomes: that is what makes it a witness. Amounts are ISO 4217 minor
units, integers. Every movement is one row that is never changed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

import msgspec

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
-- One row per authorisation on a card; the counters are sums over its movements, kept for speed.
CREATE TABLE IF NOT EXISTS charges (
    account TEXT NOT NULL, charge_id TEXT NOT NULL, reference TEXT NOT NULL, payment_ref TEXT NOT NULL,
    currency TEXT NOT NULL, authorized_minor INTEGER NOT NULL CHECK (authorized_minor > 0),
    captured_minor INTEGER NOT NULL DEFAULT 0, released_minor INTEGER NOT NULL DEFAULT 0,
    refunded_minor INTEGER NOT NULL DEFAULT 0, at_us INTEGER NOT NULL,
    PRIMARY KEY (account, charge_id),
    CHECK (captured_minor + released_minor <= authorized_minor AND refunded_minor <= captured_minor)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS charges_by_payment ON charges (payment_ref);
CREATE TABLE IF NOT EXISTS movements (
    seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, account TEXT NOT NULL, charge_id TEXT NOT NULL,
    movement_id TEXT NOT NULL, reference TEXT NOT NULL, payment_ref TEXT NOT NULL,
    amount_minor INTEGER NOT NULL CHECK (amount_minor > 0), currency TEXT NOT NULL, at_us INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS movements_by_payment ON movements (payment_ref);
-- What the PSPs in front of the bank remember: their own objects and the keys that they were sent.
CREATE TABLE IF NOT EXISTS documents (
    account TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, seq INTEGER NOT NULL, created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL, parent TEXT NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (account, kind, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS documents_by_seq ON documents (account, kind, seq);
CREATE INDEX IF NOT EXISTS documents_by_parent ON documents (account, kind, parent, seq);
CREATE TABLE IF NOT EXISTS labels (
    account TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, id TEXT NOT NULL,
    PRIMARY KEY (account, kind, name, value, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS keys (
    account TEXT NOT NULL, key TEXT NOT NULL, fingerprint BLOB NOT NULL, status INTEGER NOT NULL, body BLOB NOT NULL,
    request_id TEXT NOT NULL, created_us INTEGER NOT NULL, PRIMARY KEY (account, key)
) WITHOUT ROWID;
"""


class MovementKind(StrEnum):
    AUTHORIZATION = "authorization"
    CAPTURE = "capture"
    RELEASE = "release"
    """Authorised and given back without capture."""
    REFUND = "refund"


class Movement(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the bank's books."""

    seq: int
    kind: MovementKind
    account: str
    """The PSP account that asked for it."""
    charge_id: str
    """The PSP's id of the payment."""
    movement_id: str
    """The PSP's id of this capture, release or refund."""
    reference: str
    """What the merchant called the operation; empty where it gave no name."""
    payment_ref: str
    """What the merchant called the payment; empty where it gave no name."""
    amount_minor: int
    currency: str
    at_us: int


class BankCharge(msgspec.Struct, frozen=True, kw_only=True):
    """One authorisation and what became of it."""

    account: str
    charge_id: str
    reference: str
    payment_ref: str
    currency: str
    authorized_minor: int
    captured_minor: int
    released_minor: int
    refunded_minor: int
    at_us: int

    @property
    def net_minor(self) -> int:
        """What the payer is out of pocket."""
        return self.captured_minor - self.refunded_minor

    @property
    def held_minor(self) -> int:
        """What is still reserved on the card."""
        return self.authorized_minor - self.captured_minor - self.released_minor


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Sums in one currency."""

    authorized_minor: int
    captured_minor: int
    released_minor: int
    refunded_minor: int


class BankRefusal(Exception):
    """The books do not allow it: nothing was moved."""


_CHARGE_COLUMNS = (
    "account, charge_id, reference, payment_ref, currency, authorized_minor, captured_minor, released_minor,"
    " refunded_minor, at_us"
)
_MOVEMENT_COLUMNS = (
    "seq, kind, account, charge_id, movement_id, reference, payment_ref, amount_minor, currency, at_us"
)


class Bank:
    """The bank's books. One writer; any number of readers, in other processes too (`readonly=True`).

    `path=None` keeps the books in memory. `synchronous` is SQLite's: FULL survives a power cut, NORMAL a killed process.
    """

    def __init__(
        self, path: str | Path | None = None, *, synchronous: str = "FULL", readonly: bool = False
    ) -> None:
        if synchronous not in ("OFF", "NORMAL", "FULL", "EXTRA"):
            raise ValueError(f"synchronous is OFF, NORMAL, FULL or EXTRA, not {synchronous!r}")
        self.path = None if path is None else Path(path)
        if self.path is None:
            self.db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        else:
            mode = "ro" if readonly else "rwc"
            self.db = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode={mode}",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                timeout=10.0,
            )
        if not readonly:
            self.db.execute("PRAGMA journal_mode=WAL")
            self.db.execute(f"PRAGMA synchronous={synchronous}")
            self.db.executescript(SCHEMA)
        self._depth = 0

    def close(self) -> None:
        self.db.close()

    @contextmanager
    def transaction(self) -> Generator[None, None, None]:
        """Everything inside is written whole or not at all, and durable when the outermost one ends."""
        if self._depth:
            yield
            return
        self.db.execute("BEGIN IMMEDIATE")
        self._depth = 1
        try:
            yield
        except BaseException:
            self._depth = 0
            self.db.execute("ROLLBACK")
            raise
        self._depth = 0
        self.db.execute("COMMIT")

    def next_number(self, name: str) -> int:
        """1, 2, 3, ... over restarts: PSPs mix it into their seeds so that no id comes twice."""
        with self.transaction():
            row = self.db.execute(
                "INSERT INTO meta VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value",
                (name,),
            ).fetchone()
        return int(row[0])

    # --- movements ------------------------------------------------------------------------------------------

    def authorize(
        self,
        account: str,
        charge_id: str,
        *,
        reference: str,
        payment_ref: str,
        amount_minor: int,
        currency: str,
        at_us: int,
    ) -> None:
        """Reserves an amount on a card."""
        with self.transaction():
            self.db.execute(
                "INSERT INTO charges (account, charge_id, reference, payment_ref, currency, authorized_minor, at_us)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (account, charge_id, reference, payment_ref, currency, amount_minor, at_us),
            )
            self._book(
                MovementKind.AUTHORIZATION,
                account,
                charge_id,
                charge_id,
                reference,
                payment_ref,
                amount_minor,
                currency,
                at_us,
            )

    def capture(
        self, account: str, charge_id: str, movement_id: str, *, reference: str, amount_minor: int, at_us: int
    ) -> None:
        """Takes some of what is held. Raises `BankRefusal` for more than that."""
        self._move(MovementKind.CAPTURE, account, charge_id, movement_id, reference, amount_minor, at_us)

    def release(
        self, account: str, charge_id: str, movement_id: str, *, reference: str, amount_minor: int, at_us: int
    ) -> None:
        """Gives back some of what is held. Raises `BankRefusal` for more than that."""
        self._move(MovementKind.RELEASE, account, charge_id, movement_id, reference, amount_minor, at_us)

    def refund(
        self, account: str, charge_id: str, movement_id: str, *, reference: str, amount_minor: int, at_us: int
    ) -> None:
        """Pays back some of what was taken. Raises `BankRefusal` for more than that."""
        self._move(MovementKind.REFUND, account, charge_id, movement_id, reference, amount_minor, at_us)

    def _move(
        self,
        kind: MovementKind,
        account: str,
        charge_id: str,
        movement_id: str,
        reference: str,
        amount_minor: int,
        at_us: int,
    ) -> None:
        charge = self.charge(account, charge_id)
        if charge is None:
            raise BankRefusal(f"there is no charge {charge_id}")
        room = charge.net_minor if kind is MovementKind.REFUND else charge.held_minor
        if not 0 < amount_minor <= room:
            raise BankRefusal(f"{kind} of {amount_minor} on {charge_id}, which has {room} left")
        with self.transaction():
            self.db.execute(_COUNT[kind], (amount_minor, account, charge_id))
            self._book(
                kind,
                account,
                charge_id,
                movement_id,
                reference,
                charge.payment_ref,
                amount_minor,
                charge.currency,
                at_us,
            )

    def _book(self, kind: MovementKind, *values: object) -> None:
        self.db.execute(
            "INSERT INTO movements (kind, account, charge_id, movement_id, reference, payment_ref, amount_minor,"
            " currency, at_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (kind.value, *values),
        )

    # --- reading: the oracle --------------------------------------------------------------------------------

    def charge(self, account: str, charge_id: str) -> BankCharge | None:
        row = self.db.execute(
            f"SELECT {_CHARGE_COLUMNS} FROM charges WHERE account = ? AND charge_id = ?",  # noqa: S608 - constant columns
            (account, charge_id),
        ).fetchone()
        return _charge(row) if row else None

    def charges(self, payment_ref: str | None = None) -> list[BankCharge]:
        """The authorisations of one payment, or all, oldest first."""
        rows = self.db.execute(
            f"SELECT {_CHARGE_COLUMNS} FROM charges WHERE ?1 IS NULL OR payment_ref = ?1 ORDER BY at_us, charge_id",  # noqa: S608
            (payment_ref,),
        )
        return [_charge(row) for row in rows]

    def movements(self, payment_ref: str | None = None) -> list[Movement]:
        """The lines of one payment, or all, in the order in which they were written."""
        rows = self.db.execute(
            f"SELECT {_MOVEMENT_COLUMNS} FROM movements WHERE ?1 IS NULL OR payment_ref = ?1 ORDER BY seq",  # noqa: S608
            (payment_ref,),
        )
        return [_movement(row) for row in rows]

    def authorized_minor(self, payment_ref: str) -> int:
        return sum(charge.authorized_minor for charge in self.charges(payment_ref))

    def captured_minor(self, payment_ref: str) -> int:
        """What was taken for a payment, over all PSPs, before refunds."""
        return sum(charge.captured_minor for charge in self.charges(payment_ref))

    def refunded_minor(self, payment_ref: str) -> int:
        return sum(charge.refunded_minor for charge in self.charges(payment_ref))

    def totals(self, account: str | None = None) -> dict[str, Totals]:
        """Sums per currency, of one PSP account or of all."""
        rows = self.db.execute(
            "SELECT currency, sum(authorized_minor), sum(captured_minor), sum(released_minor), sum(refunded_minor)"
            " FROM charges WHERE ?1 IS NULL OR account = ?1 GROUP BY currency ORDER BY currency",
            (account,),
        )
        return {
            row[0]: Totals(
                authorized_minor=row[1], captured_minor=row[2], released_minor=row[3], refunded_minor=row[4]
            )
            for row in rows
        }


_COUNT = {
    MovementKind.CAPTURE: "UPDATE charges SET captured_minor = captured_minor + ? WHERE account = ? AND charge_id = ?",
    MovementKind.RELEASE: "UPDATE charges SET released_minor = released_minor + ? WHERE account = ? AND charge_id = ?",
    MovementKind.REFUND: "UPDATE charges SET refunded_minor = refunded_minor + ? WHERE account = ? AND charge_id = ?",
}


def _charge(row: tuple[object, ...]) -> BankCharge:
    return msgspec.convert(dict(zip(BankCharge.__struct_fields__, row, strict=True)), BankCharge)


def _movement(row: tuple[object, ...]) -> Movement:
    return msgspec.convert(dict(zip(Movement.__struct_fields__, row, strict=True)), Movement)
