"""The journal: turns commands into events, and commits them with the projection in one write.

It never retries a refused write; only a write whose fate the store could not tell is looked up and sent again.
"""

from __future__ import annotations

from aegispay.domain.commands import Command
from aegispay.domain.decide import decide
from aegispay.domain.errors import InvalidState, StaleFence, StoreError, StoreUnavailable, VersionConflict
from aegispay.domain.events import Event
from aegispay.domain.evolve import evolve
from aegispay.domain.payment import Payment
from aegispay.domain.record import stranded
from aegispay.orchestration.hooks import Hooks
from aegispay.ports import Ports
from aegispay.resilience.retry import RetryPolicy
from aegispay.storage.store import Claim, ClaimTaken, Guard, InFlight, Store, Write

_COMMIT_RETRY = RetryPolicy(attempts_max=6, initial_delay_s=0.05, delay_max_s=1.0)


class Draft:
    """A payment with events that are decided and not yet committed."""

    __slots__ = (
        "_causation_id",
        "_correlation_id",
        "_ports",
        "base_version",
        "events",
        "payment",
        "payment_id",
    )

    def __init__(self, ports: Ports, payment_id: str, payment: Payment | None, correlation_id: str | None):
        self._ports = ports
        self.payment_id = payment_id
        self.payment = payment
        self.base_version = payment.version if payment else 0
        self.events: list[Event] = []
        self._correlation_id = correlation_id or payment_id
        self._causation_id = self._correlation_id

    def apply(self, command: Command) -> bool:
        """Decides the command and folds its events in; says whether there were any. Raises what `decide` raises."""
        decided = decide(self.payment, command)
        payment = self.payment
        ports = self._ports
        at_us = ports.clock.now_us()
        if payment is not None and at_us < payment.updated_at_us:
            at_us = payment.updated_at_us  # A clock that was set back never reorders a stream.
        for data in decided:
            event = Event(
                id=f"evt_{ports.ids.new_hex()}",
                payment_id=self.payment_id,
                version=payment.version + 1 if payment else 1,
                at_us=at_us,
                correlation_id=self._correlation_id,
                causation_id=self._causation_id,
                data=data,
            )
            payment = evolve(payment, event)
            self._causation_id = event.id
            self.events.append(event)
        self.payment = payment
        return bool(decided)

    @property
    def current(self) -> Payment:
        if self.payment is None:
            raise InvalidState("the payment was not initiated.")
        return self.payment


class Journal:
    """Commits drafts."""

    def __init__(self, store: Store, ports: Ports, hooks: Hooks):
        self._store = store
        self._ports = ports
        self._hooks = hooks

    def draft(self, payment: Payment, correlation_id: str | None = None) -> Draft:
        return Draft(self._ports, payment.id, payment, correlation_id)

    def new(self, payment_id: str, correlation_id: str | None = None) -> Draft:
        return Draft(self._ports, payment_id, None, correlation_id)

    async def commit(
        self,
        draft: Draft,
        *,
        claim: Claim | None = None,
        guard: Guard | None = None,
        opens: tuple[InFlight, ...] = (),
    ) -> Payment:
        """Writes the draft; returns the payment as committed.

        Raises `VersionConflict`, `ClaimTaken`, `StaleFence` with nothing written, and `StoreUnavailable` where the
        store stayed away for so long that the write's fate is unknown.
        """
        payment = draft.current
        if stranded(payment):
            raise InvalidState(
                f"{payment.id} would wait for something that nobody does; nothing was written."
            )
        write = Write(
            payment=payment,
            events=tuple(draft.events),
            expected_version=draft.base_version,
            claim=claim,
            guard=guard,
            opens=opens,
        )
        tries = 0
        while True:
            try:
                await self._store.commit(write)
                break
            except StoreUnavailable:
                tries += 1
                if tries >= _COMMIT_RETRY.attempts_max:
                    raise
                await self._ports.clock.sleep(_COMMIT_RETRY.delay_s(tries, self._ports.random))
            except (VersionConflict, ClaimTaken, StaleFence):
                if tries and await self._was_applied(write):
                    break
                raise
        if write.events:
            self._hooks.committed(payment, write.events)
        return payment

    async def _was_applied(self, write: Write) -> bool:
        """Whether an earlier try of this write, whose answer was lost, had been applied after all."""
        if not write.events:
            return False
        last = write.events[-1]
        try:
            stored = await self._store.load_events(write.payment.id, until_version=last.version)
        except StoreError:
            return False
        return bool(stored) and stored[-1].id == last.id
