"""What a PSP remembers between requests: its objects as JSON, labels to find them by, and idempotency keys.

Kept in the bank's file, so that a PSP that is restarted still knows its payments and its keys.
"""

from __future__ import annotations

import random
from typing import Any

import msgspec

from aegispay.sandbox.bank import Bank

Document = dict[str, Any]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


class SavedKey(msgspec.Struct, frozen=True, kw_only=True):
    """An idempotency key and the answer that was given under it."""

    fingerprint: bytes
    status: int
    body: bytes
    request_id: str
    created_us: int


class PspIds:
    """Ids in the PSPs' style. The same seed and the same history of the books give the same ids."""

    def __init__(self, bank: Bank, account: str, seed: int | None):
        start = bank.next_number(f"start:{account}")
        self._random = random.Random(None if seed is None else f"{seed}:{account}:{start}")  # noqa: S311

    def new(self, prefix: str, length: int = 24) -> str:
        return prefix + "".join(self._random.choices(_LETTERS, k=length))


class Documents:
    """One PSP account's objects."""

    def __init__(self, bank: Bank, account: str):
        self._bank = bank
        self._db = bank.db
        self._account = account
        row = self._db.execute("SELECT max(seq) FROM documents WHERE account = ?", (account,)).fetchone()
        self._seq = int(row[0] or 0)

    def add(
        self,
        kind: str,
        document: Document,
        at_us: int,
        *,
        parent: str = "",
        labels: dict[str, str] | None = None,
    ) -> None:
        """Stores a new object, which must have an `id`."""
        self._seq += 1
        self._db.execute(
            "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (self._account, kind, document["id"], self._seq, at_us, at_us, parent, _encode(document)),
        )
        self._label(kind, document["id"], labels or {})

    def replace(self, kind: str, document: Document, at_us: int) -> None:
        self._db.execute(
            "UPDATE documents SET body = ?, updated_us = ? WHERE account = ? AND kind = ? AND id = ?",
            (_encode(document), at_us, self._account, kind, document["id"]),
        )

    def get(self, kind: str, id_: str) -> Document | None:
        row = self._db.execute(
            "SELECT body FROM documents WHERE account = ? AND kind = ? AND id = ?", (self._account, kind, id_)
        ).fetchone()
        return _decode(row[0]) if row else None

    def relabel(self, kind: str, id_: str, old: dict[str, str], new: dict[str, str]) -> None:
        """Replaces an object's labels."""
        for name, value in old.items():
            self._db.execute(
                "DELETE FROM labels WHERE account = ? AND kind = ? AND name = ? AND value = ? AND id = ?",
                (self._account, kind, name, value, id_),
            )
        self._label(kind, id_, new)

    def _label(self, kind: str, id_: str, labels: dict[str, str]) -> None:
        for name, value in labels.items():
            self._db.execute(
                "INSERT OR IGNORE INTO labels VALUES (?, ?, ?, ?, ?)", (self._account, kind, name, value, id_)
            )

    def newest(
        self, kind: str, *, parent: str = "", from_us: int = 0, before_us: int = 2**62, limit: int = 100
    ) -> list[Document]:
        """Newest first, created within [from, before), of one parent or of all."""
        rows = self._db.execute(
            "SELECT body FROM documents WHERE account = ?1 AND kind = ?2 AND (?3 = '' OR parent = ?3)"
            " AND created_us >= ?4 AND created_us < ?5 ORDER BY seq DESC LIMIT ?6",
            (self._account, kind, parent, from_us, before_us, limit),
        )
        return [_decode(row[0]) for row in rows]

    def labelled(self, kind: str, name: str, value: str, *, until_us: int = 2**62) -> list[Document]:
        """Objects that carry this label and were made at or before a time, newest first: a later change hides nothing."""
        rows = self._db.execute(
            "SELECT d.body FROM labels l JOIN documents d ON d.account = l.account AND d.kind = l.kind AND d.id = l.id"
            " WHERE l.account = ? AND l.kind = ? AND l.name = ? AND l.value = ? AND d.created_us <= ?"
            " ORDER BY d.seq DESC LIMIT 1000",
            (self._account, kind, name, value, until_us),
        )
        return [_decode(row[0]) for row in rows]

    # --- idempotency keys -----------------------------------------------------------------------------------

    def find_key(self, key: str, created_after_us: int) -> SavedKey | None:
        row = self._db.execute(
            "SELECT fingerprint, status, body, request_id, created_us FROM keys"
            " WHERE account = ? AND key = ? AND created_us > ?",
            (self._account, key, created_after_us),
        ).fetchone()
        if row is None:
            return None
        return SavedKey(fingerprint=row[0], status=row[1], body=row[2], request_id=row[3], created_us=row[4])

    def save_key(self, key: str, saved: SavedKey) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                self._account,
                key,
                saved.fingerprint,
                saved.status,
                saved.body,
                saved.request_id,
                saved.created_us,
            ),
        )
