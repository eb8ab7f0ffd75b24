"""Inbound notices: what PSPs told us, kept before it is worked on, and for ever recognised as told before.

The store knows a notice's body as text only. Working on a notice twice must be harmless: nothing fences it.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

NOTICE_ID_LENGTH_MAX = 255


class NoticeState(StrEnum):
    OPEN = "open"
    """Not worked on yet, or to be tried again when due."""
    APPLIED = "applied"
    """Nothing is left to do; kept so that a repeat is dropped."""
    UNMATCHED = "unmatched"
    """No payment of ours was found in time; kept for a person, who finds it with `aegispay notices`."""


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of news from one gateway."""

    gateway: str
    notice_id: str
    """The PSP's id; together with the gateway the key that repeats are known by."""
    body: str
    """The verified, parsed news as JSON; never the raw webhook."""
    received_at_us: int
    due_at_us: int
    """When it is to be worked on (again)."""
    tries: int = 0
    state: NoticeState = NoticeState.OPEN


def make_notice(
    gateway: str, notice_id: str, body: str, received_at_us: int, due_at_us: int, tries: int, state: str
) -> Notice:
    return Notice(
        gateway=gateway,
        notice_id=notice_id,
        body=body,
        received_at_us=received_at_us,
        due_at_us=due_at_us,
        tries=tries,
        state=NoticeState(state),
    )
