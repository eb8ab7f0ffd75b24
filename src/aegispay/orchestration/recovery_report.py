"""What one pass of the recovery worker did."""

from __future__ import annotations

import msgspec


class RecoveryReport(msgspec.Struct, kw_only=True):
    """What one pass did, counted by operation."""

    taken: int = 0
    """Operations that were due."""
    resolved: int = 0
    """Ended with evidence, or were no longer open."""
    waiting: int = 0
    """No evidence yet; tried again later."""
    reviews: int = 0
    """Newly handed to a person."""
    lost: int = 0
    """Taken over by another worker meanwhile."""
    notices: int = 0
    """Inbound notices from PSPs that were due."""
    failed: int = 0
    """The store or the code failed; tried again when the lease ends."""
