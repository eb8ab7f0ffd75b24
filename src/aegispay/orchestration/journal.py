"""The journal: turns commands into events, and commits them with the projection in one write.

It never retries a refused write; only a write whose fate the store could not tell is looked up and sent again.
"""

from __future__ import annotations

from aegispay.domain.commands import Command
from aegispay.domain.decide import decide
from aegispay.domain.errors import (
    AegisPayError,
    InvalidState,
    Overloaded,
    PaymentNotFound,
    StaleFence,
    StoreUnavailable,
    VersionConflict,
)
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
        at_us = ports.clock.steady_us()
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
    """Loads payments, and commits what is drafted on them."""

    def __init__(self, store: Store, ports: Ports, hooks: Hooks):
        self._store = store
        self._ports = ports
        self._hooks = hooks

    def draft(self, payment: Payment, correlation_id: str | None = None) -> Draft:
        return Draft(self._ports, payment.id, payment, correlation_id)

    def new(self, payment_id: str, correlation_id: str | None = None) -> Draft:
        return Draft(self._ports, payment_id, None, correlation_id)

    def new_operation_id(self) -> str:
        return f"op_{self._ports.ids.new_hex()}"

    async def load(self, payment_id: str) -> Payment:
        """The payment as it is stored now. Raises `PaymentNotFound`."""
        payment = await self._store.load(payment_id)
        if payment is None:
            raise PaymentNotFound(f"there is no payment {payment_id}.", payment_id=payment_id)
        return payment

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
        await self._write(write)
        if write.events:
            self._hooks.committed(payment, write.events)
        return payment

    async def _write(self, write: Write) -> None:
        tries = 0
        in_doubt = False
        while True:
            try:
                await self._store.commit(write)
                return
            except (StoreUnavailable, Overloaded) as error:
                lost = isinstance(error, StoreUnavailable)
                in_doubt = in_doubt or lost
                tries += 1
                # A new intent is refused at once where the store has too much to do; an outcome is worth waiting for.
                if tries >= _COMMIT_RETRY.attempts_max or not (lost or write.guard):
                    _tell(error, write, in_doubt)
                    raise
                await self._ports.clock.sleep(_COMMIT_RETRY.delay_s(tries, self._ports.random))
            except (VersionConflict, ClaimTaken, StaleFence):
                if in_doubt and await self._was_applied(write):
                    return
                raise
            except AegisPayError as error:
                _tell(error, write, in_doubt)
                raise

    async def _was_applied(self, write: Write) -> bool:
        """Whether an earlier try of this write, whose answer was lost, had been applied after all."""
        if not write.events:
            return False
        last = write.events[-1]
        try:
            stored = await self._store.load_events(write.payment.id, until_version=last.version)
        except AegisPayError as error:
            _tell(error, write, in_doubt=True)
            raise
        return bool(stored) and stored[-1].id == last.id


def _tell(error: AegisPayError, write: Write, in_doubt: bool) -> None:
    """Names the payment; and no error says "no effect" of a write of which an earlier try may have been applied."""
    error.payment_id = error.payment_id or write.payment.id
    if in_doubt and error.effect == "none":
        raise StoreUnavailable(
            f"the store did not say whether it wrote the payment: {error.code}.", payment_id=error.payment_id
        ) from error
