"""The `Store` protocol: what the orchestrator needs of a database, and the values that pass through it.

A `Write` is the unit of atomicity. It is applied whole or not at all, and only if its expected version, its claim and
its guard hold. Both implementations pass the same conformance suite, `aegispay.testing.store_conformance`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from aegispay.domain.errors import StoreError
from aegispay.domain.events import Event
from aegispay.domain.payment import Payment
from aegispay.domain.states import PaymentState
from aegispay.storage.notices import Notice, NoticeState


class Purpose(StrEnum):
    """Why an operation stands in the in-flight table."""

    CALL = "call"
    """Its outcome is not final yet: somebody is calling, or evidence is wanted."""
    ACTION = "action"
    """It waits for the payer; due when the payer's time is up."""
    EXPIRY = "expiry"
    """An authorisation that lapses when due."""
    WATCH = "watch"
    """It ended on a look-up that found nothing, or on a person's word; due for one more look."""


class InFlight(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One operation that is not finished with, and the lease of whoever works on it."""

    operation_id: str
    payment_id: str
    gateway: str
    purpose: Purpose
    due_at_us: int
    """Nobody but the owner touches it before this time: it is the end of the lease, or the time of the next try."""
    owner: str
    """The instance that holds the lease; empty while nobody does."""
    fence: int
    """Rises with each takeover. A write under an older fence is refused."""
    tries: int = 0
    """How often the recovery worker has tried."""
    sent_at_us: int = 0
    """When the call was last sent (or may have been): quiet periods count from here. -1: provably never.
    Of an operation that is pending: when the gateway last said so."""


class Claim(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An idempotency key, claimed for a request. Never pruned while its payment exists."""

    digest: bytes
    """16 bytes: the hash of (merchant, scope, key)."""
    merchant_id: str
    scope: str
    """`payment`, `capture`, `void`, `refund`, `confirm`."""
    payment_id: str
    operation_id: str
    """The operation that the claim stands for; for scope `payment` the first attempt."""
    request_hash: bytes
    """16 bytes: the hash of the request. Another request under the same key is refused."""


class Guard(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The lease that a writer holds, and what becomes of it with the write.

    The write is refused with `StaleFence` unless the operation is in flight with exactly this fence.
    """

    operation_id: str
    fence: int
    keep: InFlight | None = None
    """None: the operation leaves the in-flight table. Otherwise the row it has from now on (same operation)."""


class Write(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One atomic change of one payment."""

    payment: Payment
    """The projection after the events; its version is `expected_version + len(events)`."""
    events: tuple[Event, ...]
    expected_version: int
    """0 for a new payment."""
    claim: Claim | None = None
    guard: Guard | None = None
    opens: tuple[InFlight, ...] = ()
    """Operations that enter the in-flight table (at most 4)."""


class ClaimTaken(StoreError):
    """The idempotency key is claimed already; `claim` says by which payment."""

    code = "claim_taken"
    effect = "none"

    def __init__(self, claim: Claim):
        super().__init__(payment_id=claim.payment_id)
        self.claim = claim


class Durability(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a commit survives a power cut, as the database itself says."""

    durable: bool
    settings: dict[str, str]
    """The settings that were read, such as `synchronous` and `journal_mode`, or `fsync` and `synchronous_commit`."""
    warning: str | None = None
    """One sentence for a person where it is not durable."""


class Store(Protocol):
    """What the orchestrator needs of a database. All times are microseconds since 1970, UTC."""

    async def open(self) -> None:
        """Connects, creates or checks the schema, reads the durability settings. Safe to call twice.

        Raises `StoreUnavailable`, `SchemaTooNew`, `ConfigError` (a bad DSN or path), `StoreFull`.
        """
        ...

    async def close(self) -> None:
        """Finishes the writes that were accepted, then disconnects. Safe before open, and twice."""
        ...

    @property
    def durability(self) -> Durability: ...

    async def commit(self, write: Write) -> None:
        """Applies the write atomically and durably; concurrent writes share a commit.

        Raises, with nothing written: `VersionConflict` (the payment is at another version, or exists already),
        `ClaimTaken`, `StaleFence`, `StoreFull`, `Overloaded` (the queue is full). Raises `StoreUnavailable` where the
        connection was lost: then the write may or may not have been applied, and the caller looks.
        """
        ...

    async def load(self, payment_id: str) -> Payment | None:
        """The stored projection."""
        ...

    async def load_events(
        self, payment_id: str, *, until_version: int | None = None, until_us: int | None = None
    ) -> list[Event]:
        """The payment's events in order, up to a version or a time (both inclusive)."""
        ...

    async def find_claim(self, digest: bytes) -> Claim | None: ...

    async def find_in_flight(self, operation_id: str) -> InFlight | None: ...

    async def find_by_operation(self, operation_id: str) -> str | None:
        """The id of the payment that has this operation, finished or not."""
        ...

    async def find_by_reference(self, reference: str) -> list[str]:
        """The ids of the payments of which a PSP said this reference, at most 10, in the order of their ids.

        Gateways may use the same references: the caller looks where the payment was.
        """
        ...

    async def lease_due(self, now_us: int, owner: str, lease_until_us: int, limit: int) -> list[InFlight]:
        """Takes over up to `limit` rows that are due, oldest first: sets owner and due time, raises the fence and `tries`.

        Two workers never get the same row at the same fence. Where an owner never gave its lease back (`owner` is
        not empty), `sent_at_us` becomes the end of that lease: it may have sent until then.
        """
        ...

    async def renew(self, operation_id: str, fence: int, due_at_us: int) -> bool:
        """Moves the due time of a lease that is still held; False where the fence is stale."""
        ...

    async def list_payments(
        self,
        merchant_id: str,
        *,
        states: tuple[PaymentState, ...] = (),
        before_id: str | None = None,
        limit: int = 50,
    ) -> list[Payment]:
        """Newest first; `before_id` pages on. `limit` is at most 1000."""
        ...

    async def count_in_flight(self) -> int:
        """How many operations are not finished with (calls only, not expiries and watches)."""
        ...

    # --- inbound notices ------------------------------------------------------------------------------------

    async def keep_notices(self, notices: Sequence[Notice]) -> int:
        """Keeps those that are new, durably; returns how many were. A notice that is known is left as it is."""
        ...

    async def lease_notices(self, now_us: int, lease_until_us: int, limit: int) -> list[Notice]:
        """Up to `limit` open notices that are due, oldest first, with `tries` raised, due again at the lease's end."""
        ...

    async def settle_notice(self, notice: Notice) -> None:
        """Stores the notice's state and due time."""
        ...

    async def list_notices(self, state: NoticeState, limit: int) -> list[Notice]:
        """Up to `limit` notices in this state, newest first. No index serves it: it is for a person, not for a loop."""
        ...

    async def prune_notices(self, before_us: int, limit: int) -> int:
        """Forgets up to `limit` applied notices that were received before this time; returns how many."""
        ...
