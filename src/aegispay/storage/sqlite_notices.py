"""The blocking half of the SQLite store's inbound notices."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from aegispay.storage.notices import Notice, make_notice
from aegispay.storage.sqlite_writer import begin, roll_back

COLUMNS = "gateway, notice_id, body, received_at_us, due_at_us, tries, state"
KEEP = f"INSERT INTO notice ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"  # noqa: S608
FIND_DUE = f"""
    SELECT {COLUMNS} FROM notice WHERE state = 'open' AND due_at_us <= ? ORDER BY due_at_us, notice_id LIMIT ?"""  # noqa: S608
TAKE = "UPDATE notice SET due_at_us = ?, tries = tries + 1 WHERE gateway = ? AND notice_id = ?"
SETTLE = "UPDATE notice SET state = ?, due_at_us = ? WHERE gateway = ? AND notice_id = ?"
LIST = f"""
    SELECT {COLUMNS} FROM notice WHERE state = ? ORDER BY received_at_us DESC, gateway, notice_id LIMIT ?"""  # noqa: S608
PRUNE = """
    DELETE FROM notice WHERE (gateway, notice_id) IN (
        SELECT gateway, notice_id FROM notice WHERE state = 'applied' AND received_at_us < ? LIMIT ?)"""


def keep(connection: sqlite3.Connection, notices: Sequence[Notice]) -> int:
    begin(connection)
    try:
        new = 0
        for one in notices:
            row = (
                one.gateway,
                one.notice_id,
                one.body,
                one.received_at_us,
                one.due_at_us,
                one.tries,
                one.state.value,
            )
            new += connection.execute(KEEP, row).rowcount
        connection.execute("COMMIT")
    except BaseException:
        roll_back(connection)
        raise
    return new


def lease(connection: sqlite3.Connection, now_us: int, lease_until_us: int, limit: int) -> list[Notice]:
    """Nothing is locked while nothing is due."""
    if not connection.execute(FIND_DUE, (now_us, 1)).fetchall():
        return []
    begin(connection)
    try:
        found = connection.execute(FIND_DUE, (now_us, limit)).fetchall()
        connection.executemany(TAKE, [(lease_until_us, row[0], row[1]) for row in found])
        connection.execute("COMMIT")
    except BaseException:
        roll_back(connection)
        raise
    return [make_notice(row[0], row[1], row[2], row[3], lease_until_us, row[5] + 1, row[6]) for row in found]


def settle(connection: sqlite3.Connection, notice: Notice) -> None:
    connection.execute(SETTLE, (notice.state.value, notice.due_at_us, notice.gateway, notice.notice_id))


def made(rows: Sequence[Sequence[Any]]) -> list[Notice]:
    return [make_notice(*row) for row in rows]


def prune(connection: sqlite3.Connection, before_us: int, limit: int) -> int:
    return int(connection.execute(PRUNE, (before_us, limit)).rowcount)
