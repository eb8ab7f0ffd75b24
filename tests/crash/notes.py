"""What the driver tells its workers, and what they tell it.

Each is one line of JSON, short enough to be written whole or not at all.
"""

from __future__ import annotations

import msgspec

from aegispay.sandbox.server import SandboxSettings

LINE_BYTES_MAX = 4096
"""PIPE_BUF: the kernel writes a line of this size in one piece, whatever kills its writer."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What one life is to do."""

    store_url: str
    stripe_url: str
    plainpay_url: str
    sandbox: SandboxSettings
    seed: int
    life: int = 0
    shoppers: list[int] = []
    """Left over from earlier lives; they come first."""
    next_shopper: int | None = None
    """New ones from here on, without end; None: end when the others are done and nothing is left in flight."""
    pool_max: int = 4
    writers: int = 2
    """Connections that a PostgreSQL store reads and writes with."""
    concurrency: int = 12


class Command(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """To the nursery: begin a life, or end one with SIGKILL."""

    begin: Order | None = None
    kill: int | None = None


class Note(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a worker says, or the nursery of it."""

    life: int
    ready: bool = False
    begun: int | None = None
    done: int | None = None
    key: str | None = None
    """A request that was answered for good, and the answer."""
    answer: str | None = None
    trouble: str | None = None
    drained: bool = False
    exit: int | None = None
    """It has ended: with this status, or by this signal where it is below 0."""
