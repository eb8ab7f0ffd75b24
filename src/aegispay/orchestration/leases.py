"""Leases on in-flight rows: held and extended while we work, given back when somebody else may go on.

Whoever lost a lease to another worker is told by `StaleFence`, at the next write or renewal.
"""

from __future__ import annotations

from msgspec.structs import replace

from aegispay.domain.errors import OperationInDoubt, StaleFence, VersionConflict
from aegispay.domain.payment import Operation, Payment
from aegispay.orchestration.doubt import is_at_work
from aegispay.orchestration.journal import Journal
from aegispay.orchestration.rows import NEVER_SENT, Rows
from aegispay.orchestration.settings import HARD_TIMEOUT_MARGIN_S, Settings
from aegispay.ports import Ports
from aegispay.storage.store import Guard, InFlight, Purpose, Store

_KEEP_TRIES_MAX = 100


class Leases:
    """The leases of one running instance."""

    def __init__(self, store: Store, journal: Journal, rows: Rows, ports: Ports, settings: Settings):
        self._store = store
        self._journal = journal
        self._rows = rows
        self._clock = ports.clock
        self._settings = settings

    # --- while we work --------------------------------------------------------------------------------------

    async def renew(self, row: InFlight) -> InFlight:
        """Extends our lease; raises `StaleFence` where another worker has taken over."""
        renewed = self._rows.leased(row)
        if not await self._store.renew(row.operation_id, row.fence, renewed.due_at_us):
            raise StaleFence(payment_id=row.payment_id)
        return renewed

    async def with_room(self, row: InFlight) -> InFlight:
        """The row with a lease that covers one more call; else workers would take slow work from each other for ever."""
        call_us = int((self._settings.call_timeout_s + HARD_TIMEOUT_MARGIN_S) * 1_000_000)
        return row if row.due_at_us - self._clock.now_us() > call_us else await self.renew(row)

    def holds(self, row: InFlight) -> bool:
        """Whether our lease has not run out."""
        return self._clock.now_us() < row.due_at_us

    def covers_call(self, row: InFlight) -> bool:
        """Whether a call that begins now ends within our lease: until then its request may yet leave."""
        return self._clock.now_us() + int(self._settings.call_timeout_s * 1_000_000) <= row.due_at_us

    async def about_to_send(self, payment: Payment, row: InFlight) -> InFlight:
        """Writes down that the first send is on its way, whatever becomes of us; the row with our lease on it."""
        sending = self._rows.leased(replace(row, sent_at_us=self._clock.now_us()))
        await self._keep(payment, row, sending)
        return sending

    # --- when a person goes on -------------------------------------------------------------------------------

    async def waiting(self, operation: Operation) -> InFlight | None:
        """The row of an operation that nobody works on at this moment; whoever commits under its fence has taken it over.

        Raises `OperationInDoubt` while somebody's lease runs.
        """
        row = await self._store.find_in_flight(operation.id)
        if row is not None and is_at_work(row, self._clock.steady_us(), self._settings.lease_s):
            raise OperationInDoubt(
                f"{operation.kind} {operation.id} at {operation.gateway} is being tried at this moment.",
                payment_id=row.payment_id,
                hint="Try again in a minute.",
            )
        return row

    # --- when others may go on ------------------------------------------------------------------------------

    async def hand_over(self, payment: Payment, row: InFlight, delay_s: float) -> None:
        """Gives the lease back: the worker, here or elsewhere, goes on after the delay."""
        # By the clock that no jump moves, as `lease_due` asks: a clock that runs ahead must not put work off for days.
        due = self._clock.steady_us() + int(delay_s * 1_000_000)
        # With a fence of its own: evidence that was on its way while a caller was served is weighed anew.
        await self._keep(payment, row, replace(row, due_at_us=due, owner="", fence=row.fence + 1))

    async def put_back(self, payment: Payment, row: InFlight, delay_s: float) -> None:
        """Gives back the lease on an operation that was provably not sent: it is sent for the first time later."""
        await self.hand_over(payment, replace(row, sent_at_us=NEVER_SENT), delay_s)

    async def release(self, payment: Payment, row: InFlight) -> None:
        """Nothing is left to do for this row, unless it is that of an authorisation, which lapses one day."""
        operation = payment.operation(row.operation_id)
        lapses = operation is not None and row.purpose is not Purpose.EXPIRY
        keep = self._rows.lapsing(payment, operation, row) if operation and lapses else None
        await self._keep(payment, row, keep)

    async def _keep(self, payment: Payment, row: InFlight, keep: InFlight | None) -> None:
        for _ in range(_KEEP_TRIES_MAX):
            guard = Guard(operation_id=row.operation_id, fence=row.fence, keep=keep)
            try:
                await self._journal.commit(self._journal.draft(payment), guard=guard)
                return
            except VersionConflict:
                payment = await self._journal.load(payment.id)
