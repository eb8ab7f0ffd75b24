"""The scratch file: a report and its window's books on disk, so that memory does not grow with either.

A temporary SQLite database, about half a kilobyte for each row and payment, gone when the work ends.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from aegispay.domain.errors import StoreError
from aegispay.reconciliation.books import Books
from aegispay.reconciliation.lines import Line, ReportError

_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -16384;
CREATE TABLE line (number INTEGER PRIMARY KEY, key BLOB NOT NULL, digest BLOB NOT NULL, payment_id TEXT, body BLOB NOT NULL);
CREATE UNIQUE INDEX line_by_key ON line (key);
CREATE TABLE name (name TEXT PRIMARY KEY, payment_id TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE books (payment_id TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
"""
_PAGE = 500
_encode = msgspec.msgpack.Encoder().encode
_read_line = msgspec.msgpack.Decoder(Line).decode
_read_books = msgspec.msgpack.Decoder(Books).decode


class ScratchFull(StoreError):
    """The temporary folder has no room for the reconciliation."""

    code = "scratch_full"
    effect = "none"


class Scratch:
    """Holds lines and books while they are compared."""

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="aegispay-reconcile-")
        self._db = sqlite3.connect(
            Path(self._folder.name) / "scratch.db", isolation_level=None, check_same_thread=False
        )
        self._db.executescript(_SCHEMA)
        self._db.execute("BEGIN")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()
        self._folder.cleanup()
        if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise ScratchFull(hint="Set TMPDIR to a folder with more room.") from error

    # --- lines ----------------------------------------------------------------------------------------------

    def add_line(self, line: Line, content: str) -> bool:
        """Keeps a line; False for one that repeats an earlier one. Raises `ReportError` where the two contradict."""
        digest = blake2b(content.encode(), digest_size=16).digest()
        key = b"k" + line.key.encode() if line.key else b"d" + digest
        added = self._db.execute(
            "INSERT OR IGNORE INTO line VALUES (?, ?, ?, NULL, ?)", (line.number, key, digest, _encode(line))
        )
        if added.rowcount:
            return True
        number, known = self._db.execute("SELECT number, digest FROM line WHERE key = ?", (key,)).fetchone()
        if known != digest:
            raise ReportError(
                f"line {line.number} has the id {line.key[:60]!r} of line {number}, and other contents.",
                hint="The file may have been put together from several: download it again.",
            )
        return False

    def unresolved(self) -> Iterator[Line]:
        """The lines of which the payment is not known (yet), in the file's order."""
        after = 0
        while rows := self._db.execute(
            "SELECT number, body FROM line WHERE payment_id IS NULL AND number > ? ORDER BY number LIMIT ?",
            (after, _PAGE),
        ).fetchall():
            after = rows[-1][0]
            yield from (_read_line(body) for _, body in rows)

    def resolve(self, line: Line, payment_id: str) -> None:
        self._db.execute("UPDATE line SET payment_id = ? WHERE number = ?", (payment_id, line.number))

    # --- books ----------------------------------------------------------------------------------------------

    def add_books(self, books: Books) -> None:
        """Keeps a payment's books under all its names. Where two payments share a name, the first one has it."""
        self._db.execute("INSERT OR REPLACE INTO books VALUES (?, ?)", (books.payment_id, _encode(books)))
        self._db.executemany(
            "INSERT OR IGNORE INTO name VALUES (?, ?)", [(name, books.payment_id) for name in books.names]
        )

    def knows(self, payment_id: str) -> bool:
        return bool(self._db.execute("SELECT 1 FROM books WHERE payment_id = ?", (payment_id,)).fetchone())

    def named(self, name: str) -> str | None:
        """The payment that has this name."""
        row = self._db.execute("SELECT payment_id FROM name WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else None

    def payments(self) -> Iterator[tuple[Books, list[Line]]]:
        """Each payment with the lines that belong to it."""
        self._db.execute("CREATE INDEX IF NOT EXISTS line_by_payment ON line (payment_id, number)")
        after = ""
        while rows := self._db.execute(
            "SELECT payment_id, body FROM books WHERE payment_id > ? ORDER BY payment_id LIMIT ?",
            (after, _PAGE),
        ).fetchall():
            after = rows[-1][0]
            for payment_id, body in rows:
                lines = self._db.execute(
                    "SELECT body FROM line WHERE payment_id = ? ORDER BY number", (payment_id,)
                )
                yield _read_books(body), [_read_line(line) for (line,) in lines]
