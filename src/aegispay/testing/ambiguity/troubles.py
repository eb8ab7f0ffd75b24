"""The two axes of the matrix besides the PSPs: what is asked for, and what goes wrong. It knows no PSP."""

from __future__ import annotations

from enum import StrEnum

from aegispay.domain.events import OperationKind

OPERATIONS = (
    OperationKind.CHARGE,
    OperationKind.AUTHORIZE,
    OperationKind.CONFIRM,
    OperationKind.CAPTURE,
    OperationKind.VOID,
    OperationKind.REFUND,
)
"""The columns, in the order of a payment's life."""

LANDS_AFTER_S = 60.0
"""When a late request arrives: long after our time-out, and after the caller was answered."""


TOO_LATE_S = 300.0
"""How long after the quiet period a request arrives that should not arrive any more."""


class Trouble(StrEnum):
    """What goes wrong, once, with the request that moves the money. The value is its name in the page and the tests."""

    NOTHING = "nothing"
    REFUSED = "refused"
    REQUEST_LOST = "request_lost"
    REPLY_LOST = "reply_lost"
    LANDS_LATE = "lands_late"
    LANDS_TOO_LATE = "lands_too_late"
    ERROR_BEFORE = "502_before"
    ERROR_AFTER = "502_after"
    KEPT_BEFORE = "500_before"
    KEPT_AFTER = "500_after"
    RATE_LIMITED = "429"
    GARBAGE = "garbage"
    TRUNCATED = "truncated"
    CRASH_BEFORE = "crash_before"
    CRASH_AFTER = "crash_after"

    @property
    def head(self) -> str:
        """The row's head."""
        return _TITLES[self][0]

    @property
    def meaning(self) -> str:
        """One sentence for the legend."""
        return _TITLES[self][1]

    @property
    def crash(self) -> bool:
        """Whether our own process dies of it."""
        return self in (Trouble.CRASH_BEFORE, Trouble.CRASH_AFTER)


_TITLES = {
    Trouble.NOTHING: ("nothing goes wrong", "For comparison."),
    Trouble.REFUSED: ("connection refused", "No byte of the request has left."),
    Trouble.REQUEST_LOST: (
        "request lost",
        "It was written and never arrived; we run into our time-out (10 s).",
    ),
    Trouble.REPLY_LOST: (
        "reply lost",
        "It was executed; the answer never arrived, and we run into our time-out.",
    ),
    Trouble.LANDS_LATE: (
        "lands late",
        f"We run into our time-out; the request arrives and is executed {LANDS_AFTER_S:.0f} s after it was written.",
    ),
    Trouble.LANDS_TOO_LATE: (
        "lands too late",
        "The PSP breaks its word: the request arrives five minutes after the quiet period in which it was to land or never.",
    ),
    Trouble.ERROR_BEFORE: ("502, not executed", "A proxy in front of the PSP answers; the PSP saw nothing."),
    Trouble.ERROR_AFTER: ("502, executed", "The PSP executed it; a proxy answers 502 in its place."),
    Trouble.KEPT_BEFORE: (
        "500, not executed",
        "The PSP itself breaks before the effect; one that keeps answers under the key repeats this one.",
    ),
    Trouble.KEPT_AFTER: (
        "500, executed",
        "The PSP itself breaks after the effect; one that keeps answers under the key repeats this one.",
    ),
    Trouble.RATE_LIMITED: ("429", "The PSP's front asks for fewer requests; nothing was executed."),
    Trouble.GARBAGE: ("garbage", "It was executed; a 200 with an HTML page comes in the answer's place."),
    Trouble.TRUNCATED: (
        "half an answer",
        "It was executed; the first half of the answer's body comes, then a clean end.",
    ),
    Trouble.CRASH_BEFORE: (
        "we die before sending",
        "The intent is committed; the process dies before a byte leaves. Another takes over.",
    ),
    Trouble.CRASH_AFTER: (
        "we die before recording",
        "The PSP executed it; the process dies before it reads the answer.",
    ),
}
