"""What nobody comes for any more is let go: a payer's step whose time is up, an authorisation that has lapsed."""

from __future__ import annotations

from msgspec.structs import replace

from aegispay.domain import commands as cmd
from aegispay.domain.errors import OperationInDoubt
from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import Approved, DeclineCategory, Declined, Evidence
from aegispay.domain.payment import Operation, OperationStatus, Payment, settled_state
from aegispay.domain.states import PaymentState
from aegispay.gateways.gateway import RELEASED, Found, Lookup, LookupFailed
from aegispay.orchestration.driver import Driver
from aegispay.orchestration.engine import Engine
from aegispay.orchestration.known import ACTION_EXPIRED, Known, is_evidence
from aegispay.orchestration.questions import REVIEWED_INTERVAL_S, Questions
from aegispay.resilience.deadline import Deadline
from aegispay.storage.store import Guard, InFlight

_REFUSALS_MAX = 5
"""After so many refused releases of one authorisation a person must do it."""
_RELEASES_MAX = 50
"""The same for releases that were refused or never reached the gateway."""


class Lapses:
    """Ends for the recovery worker what has lapsed."""

    def __init__(self, engine: Engine, driver: Driver, questions: Questions):
        self._engine = engine
        self._driver = driver
        self._questions = questions

    async def payer_is_late(self, payment: Payment, operation: Operation, row: InFlight) -> None:
        """The payer's time is up: they may have acted without coming back; otherwise cancel at the gateway."""
        engine = self._engine
        gateway = engine.registry.find(operation.gateway)
        found = await engine.calls.ask(payment, operation)
        if isinstance(found, Found) and is_evidence(found.outcome):
            known = Known(found.outcome, Evidence.LOOKUP)
            payment = await self._driver.found(payment, row, known)
        waiting = payment.operation(operation.id)
        if waiting is None or waiting.status is not OperationStatus.REQUIRES_ACTION:
            return
        if payment.state is PaymentState.REQUIRES_ACTION and gateway and not gateway.capabilities.void:
            await self._let_go(payment, row, found)
        elif payment.state is PaymentState.REQUIRES_ACTION:
            await self._cancel(payment, row)
        else:
            await engine.leases.hand_over(payment, row, REVIEWED_INTERVAL_S)

    async def _let_go(self, payment: Payment, row: InFlight, found: Lookup) -> None:
        """Ends what nobody can cancel, if the gateway says that nothing was taken; a payer who acts later gets it back."""
        engine = self._engine
        if isinstance(found, LookupFailed):
            operation = payment.operation(row.operation_id) or payment.operations[0]
            waited_s = self._questions.age_s(operation) - engine.settings.action_timeout_s
            if waited_s < engine.settings.review_after_s:
                await engine.leases.hand_over(payment, row, engine.settings.lease_s)
                return
            reason = f"the payer is late, and the gateway does not say what was taken: {found.reason}"
            payment = await self._questions.ask_a_person(payment, operation, row, reason)
            await engine.leases.hand_over(payment, row, REVIEWED_INTERVAL_S)
            return
        late = Declined(
            category=DeclineCategory.HARD, code=ACTION_EXPIRED, message="The payer did not act in time."
        )
        await self._driver.found(payment, row, Known(late, Evidence.LOOKUP))

    async def expire(self, payment: Payment, row: InFlight) -> None:
        """The authorisation has lapsed: release what was not captured."""
        if payment.state is PaymentState.AUTHORIZED:
            await self._cancel(payment, row)
        elif settled_state(payment) is PaymentState.AUTHORIZED:
            # A person looks, or the bank disputes; it is released when that is over.
            await self._engine.leases.hand_over(payment, row, REVIEWED_INTERVAL_S)
        else:
            await self._engine.leases.release(payment, row)

    async def _cancel(self, payment: Payment, row: InFlight) -> None:
        engine = self._engine
        operation_id = engine.journal.new_operation_id()
        voids = [op for op in payment.operations if op.kind is OperationKind.VOID and op.reason == "expired"]
        refused = sum(1 for op in voids if op.status is OperationStatus.DECLINED)
        gateway = engine.registry.find(row.gateway)
        cannot = gateway is not None and not gateway.capabilities.void
        stuck = cannot or refused >= _REFUSALS_MAX or len(voids) >= _RELEASES_MAX
        if stuck and await self._given_back(payment, row):
            return
        if cannot and await self._may_lapse_by_itself(payment, row):
            return
        if stuck:
            operation = payment.operation(row.operation_id) or payment.operations[0]
            reason = f"cannot be released: {'the gateway has no void' if cannot else voids[-1].code}"
            payment = await self._questions.ask_a_person(payment, operation, row, reason)
            await engine.leases.hand_over(payment, row, REVIEWED_INTERVAL_S)
            return
        draft = engine.journal.draft(payment)
        try:
            draft.apply(cmd.StartVoid(operation_id=operation_id, reason="expired"))
        except OperationInDoubt:
            # A capture or confirmation is under way; look again when it has ended.
            await engine.leases.hand_over(payment, row, self._until_it_ended_s(row))
            return
        void_row = engine.rows.new(draft.current, operation_id, row.gateway)
        later = engine.ports.clock.now_us() + int(REVIEWED_INTERVAL_S * 1_000_000)
        guard = Guard(
            operation_id=row.operation_id, fence=row.fence, keep=replace(row, due_at_us=later, owner="")
        )
        payment = await engine.journal.commit(draft, guard=guard, opens=(void_row,))
        await self._driver.drive(
            payment, void_row, Deadline(engine.ports.clock, engine.settings.answer_timeout_s)
        )

    async def _given_back(self, payment: Payment, row: InFlight) -> bool:
        """Whether the PSP says that it gave the authorisation back, by itself or by hand: that ends the payment."""
        engine = self._engine
        held = payment.winner
        if held is None or payment.state is not PaymentState.AUTHORIZED:
            return False
        found = await engine.calls.ask(payment, held)
        outcome = found.outcome if isinstance(found, Found) else None
        if isinstance(outcome, Declined) and outcome.code in RELEASED:
            draft = engine.journal.draft(payment)
            void_id = engine.journal.new_operation_id()
            try:
                draft.apply(cmd.StartVoid(operation_id=void_id, reason="expired"))
            except OperationInDoubt:
                # As in `_cancel`: a capture is under way, and its own evidence comes first.
                await engine.leases.hand_over(payment, row, self._until_it_ended_s(row))
                return True
            gone = Approved(
                reference=outcome.reference or held.reference or "",
                amount_minor=draft.current.operations[-1].amount_minor,
            )
            draft.apply(cmd.RecordOutcome(operation_id=void_id, outcome=gone, evidence=Evidence.LOOKUP))
            await engine.journal.commit(draft, guard=Guard(operation_id=row.operation_id, fence=row.fence))
            return True
        return False

    async def _may_lapse_by_itself(self, payment: Payment, row: InFlight) -> bool:
        """Whether a PSP without a void may still give the authorisation back by itself; it is asked again until then."""
        engine = self._engine
        held = payment.winner
        gateway = engine.registry.find(row.gateway)
        if held is None or gateway is None or payment.state is not PaymentState.AUTHORIZED:
            return False
        ttl_s = gateway.capabilities.authorization_ttl_s or 0.0
        expired_us = payment.expires_at_us or held.started_at_us + int(ttl_s * 1_000_000)
        if engine.ports.clock.now_us() - expired_us >= engine.settings.review_after_s * 1_000_000:
            return False
        await engine.leases.hand_over(payment, row, REVIEWED_INTERVAL_S)
        return True

    def _until_it_ended_s(self, row: InFlight) -> float:
        """How long to wait for another operation of the payment; one that is pending may take days."""
        engine = self._engine
        again_s = engine.settings.recovery_retry.delay_s(row.tries, engine.ports.random)
        return max(engine.settings.lease_s, again_s)
