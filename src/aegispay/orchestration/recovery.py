"""The recovery worker: takes over what nobody finishes, finds evidence, and records it.

It runs in every instance; leases with fences see to it that two never work on one operation with effect. It resolves
what is open and never begins an attempt at another gateway: the payer may be gone.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec
from msgspec.structs import replace

from aegispay.domain import commands as cmd
from aegispay.domain.errors import AegisPayError, OperationInDoubt, StaleFence, StoreError, VersionConflict
from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import (
    Approved,
    DeclineCategory,
    Declined,
    Evidence,
    InDoubt,
    NotSent,
    Pending,
    RequiresAction,
)
from aegispay.domain.payment import Operation, OperationStatus, Payment, settled_state
from aegispay.domain.states import PaymentState
from aegispay.gateways.gateway import RELEASED, Found, Lookup, LookupFailed, NotFound
from aegispay.orchestration.driver import Driver
from aegispay.orchestration.engine import Engine
from aegispay.orchestration.evidence import SILENT_S_MAX
from aegispay.orchestration.inbound import Inbound
from aegispay.orchestration.known import ACTION_EXPIRED, Known, is_evidence
from aegispay.orchestration.rows import NEVER_SENT
from aegispay.resilience.deadline import Deadline
from aegispay.storage.store import Guard, InFlight, Purpose

logger = logging.getLogger("aegispay.recovery")

_REVIEWED_INTERVAL_S = 3600.0
"""How often an operation that a person should look at is still looked for."""
_PATIENCE = 3
"""While a quiet period still runs, a person is asked after so many times `review_after_s`."""
_FEW_TRIES = 20
"""After so many looks in vain no quiet period keeps us from asking a person any more."""
_ROWS_AT_ONCE = 64
_PRUNE_EVERY = 1000
"""Passes between two looks at notices so old that they can be forgotten."""
_REFUSALS_MAX = 5
"""After so many refused releases of one authorisation a person must do it."""
_RELEASES_MAX = 50
"""The same for releases that were refused or never reached the gateway."""


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


class RecoveryWorker:
    """Start, stop, safe to stop before start and twice."""

    def __init__(self, engine: Engine, driver: Driver, inbound: Inbound):
        self._inbound = inbound
        self._passes = 0
        self._engine = engine
        self._driver = driver
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))

    async def _run(self) -> None:
        settings = self._engine.settings
        failures = 0
        while True:
            try:
                report = await self.run_once()
                failures = 0
            except StoreError as error:
                failures += 1
                report = RecoveryReport()
                logger.warning("recovery cannot reach the store: %s", error.code)
            except Exception as error:  # noqa: BLE001 - whatever a pass raises, the next one must come
                failures += 1
                report = RecoveryReport()
                logger.error("a recovery pass broke off: %s", type(error).__name__)
            if report.taken < _ROWS_AT_ONCE:
                jitter = 0.75 + self._engine.ports.random.random() / 2
                await self._engine.ports.clock.sleep(
                    settings.recovery_interval_s * jitter * 2 ** min(failures, 5)
                )

    async def run_once(self) -> RecoveryReport:
        """One pass over what is due now. Raises `StoreError` where the store cannot be read."""
        engine = self._engine
        notices = await self._inbound.apply_due()
        if self._passes % _PRUNE_EVERY == 0:
            await self._inbound.prune()
        self._passes += 1
        clock = engine.ports.clock
        until_us = clock.now_us() + int(engine.settings.lease_s * 1_000_000)
        # A clock that was set forward must not make us take what others are at work on.
        rows = await engine.store.lease_due(clock.steady_us(), engine.ports.instance, until_us, _ROWS_AT_ONCE)
        report = RecoveryReport(taken=len(rows), notices=notices)
        if rows:
            gate = asyncio.Semaphore(engine.settings.recovery_concurrency_max)
            await asyncio.gather(*(self._guarded(row, report, gate) for row in rows))
        return report

    async def _guarded(self, row: InFlight, report: RecoveryReport, gate: asyncio.Semaphore) -> None:
        async with gate:
            try:
                # The row may have waited for its turn: the lease counts from now.
                await self._handle(await self._engine.leases.renew(row), report)
            except StaleFence:
                report.lost += 1
            except Exception as error:  # noqa: BLE001 - one payment's trouble must not stop the others
                report.failed += 1
                # Only the code or type is logged: the text of a foreign exception may quote a request.
                what = error.code if isinstance(error, AegisPayError) else type(error).__name__
                logger.error("recovery of %s in %s: %s", row.operation_id, row.payment_id, what)
                if not isinstance(error, StoreError):
                    await self._back_off(row)

    async def _back_off(self, row: InFlight) -> None:
        """A row that recovery itself cannot handle comes again later and later, and in the end a person is asked."""
        engine = self._engine
        try:
            held = await engine.store.find_in_flight(row.operation_id)
            payment = await engine.journal.load(row.payment_id)
            operation = payment.operation(row.operation_id)
            if held is None or held.fence != row.fence or operation is None:
                return
            if self._age_s(operation) >= engine.settings.review_after_s and payment.review is None:
                payment = await self._review(payment, operation, held, "recovery fails, see the log")
            await engine.leases.hand_over(
                payment, held, engine.settings.recovery_retry.delay_s(row.tries, engine.ports.random)
            )
        except Exception as error:  # noqa: BLE001 - the lease runs out, and the next pass tries again
            logger.error("recovery of %s cannot even wait: %s", row.operation_id, type(error).__name__)

    async def _handle(self, row: InFlight, report: RecoveryReport) -> None:
        payment = await self._engine.journal.load(row.payment_id)
        operation = payment.operation(row.operation_id)
        if operation is None:
            await self._engine.leases.release(payment, row)
        elif row.purpose is Purpose.EXPIRY:
            await self._expire(payment, row)
        elif row.purpose is Purpose.WATCH:
            await self._watch(payment, operation, row)
        elif not operation.unfinished or operation.status is OperationStatus.CONFIRMING:
            await self._engine.leases.release(payment, row)
        elif row.purpose is Purpose.ACTION:
            await self._payer_is_late(payment, operation, row)
        else:
            await self._resolve(payment, operation, row, report)
            return
        report.resolved += 1

    # --- a call without an outcome ------------------------------------------------------------------------

    async def _resolve(
        self, payment: Payment, operation: Operation, row: InFlight, report: RecoveryReport
    ) -> None:
        engine = self._engine
        if operation.status is OperationStatus.STARTED and row.sent_at_us == NEVER_SENT:
            await self._send_first(payment, operation, row, report)
            return
        if operation.status is OperationStatus.STARTED:
            # Its owner died between intent and outcome: say so before anything else happens.
            recorded = await engine.recorder.record(
                payment, row, InDoubt(reason="owner_gone"), Evidence.REPLY
            )
            payment = recorded.payment
            row = recorded.row or row
            operation = payment.operation(row.operation_id) or operation
        known, row = await engine.evidence.seek(payment, operation, row, row.tries)
        if known is not None and known.is_news_of(operation):
            if isinstance(known.outcome, Pending):
                recorded = await engine.recorder.record(payment, row, known.outcome, known.evidence)
                payment, row = recorded.payment, recorded.row or row
            else:
                payment = await self._driver.found(payment, row, known)
            after = payment.operation(operation.id)
            if after is not None and (
                not after.unfinished or after.status is OperationStatus.REQUIRES_ACTION
            ):
                report.resolved += 1
                return
        if known is not None and isinstance(known.outcome, Pending):
            # The gateway's last word: that it is at work on it. Nothing counts from the send any more.
            row = replace(row, sent_at_us=engine.ports.clock.now_us())
        await self._wait_on(payment, payment.operation(operation.id) or operation, row, report)

    async def _wait_on(
        self, payment: Payment, operation: Operation, row: InFlight, report: RecoveryReport
    ) -> None:
        """It is looked for again later; where it has taken too long already a person is asked."""
        engine = self._engine
        quiet_s = 0.0
        if operation.status is not OperationStatus.PENDING:
            quiet_s = engine.evidence.quiet_left_s(operation, row)
        reason = self._overdue(operation, row)
        if reason is not None and payment.review is None:
            payment = await self._review(payment, operation, row, reason)
            now = payment.operation(operation.id)
            if now is None or not now.unfinished:
                # Evidence came while we asked the gateway.
                await engine.leases.release(payment, row)
                report.resolved += 1
                return
            report.reviews += payment.review is not None
        delay_s = engine.settings.recovery_retry.delay_s(row.tries, engine.ports.random)
        if payment.review is not None:
            delay_s = max(delay_s, _REVIEWED_INTERVAL_S)
        elif quiet_s > 0:
            rest_s = min(quiet_s, SILENT_S_MAX)
            delay_s = max(delay_s, rest_s) if row.tries > 1 else min(delay_s, rest_s)
        await engine.leases.hand_over(payment, row, delay_s)
        report.waiting += 1

    def _overdue(self, operation: Operation, row: InFlight) -> str | None:
        """Why a person should be asked by now, if one should."""
        settings = self._engine.settings
        age_s = self._age_s(operation)
        if operation.status is OperationStatus.PENDING:
            if age_s >= settings.pending_review_after_s:
                return f"pending for {settings.pending_review_after_s:g} s: {operation.code or 'processing'}"
            said_us = max(row.sent_at_us, operation.started_at_us)
            silent_s = (self._engine.ports.clock.earliest_us() - said_us) / 1_000_000
            late = silent_s >= settings.review_after_s
        else:
            # A send recorded under a clock that ran ahead makes the quiet period end late: evidence is still to come.
            ahead = row.sent_at_us > self._engine.ports.clock.earliest_us()
            # So may a lease that such a clock wrote: then we have looked only a few times, a day late.
            quiet = self._engine.evidence.quiet_left_s(operation, row) > 0 and row.tries <= _FEW_TRIES
            patience = _PATIENCE if ahead or quiet else 1
            late = age_s >= patience * settings.review_after_s
        code = operation.code or operation.status
        return f"in doubt for {settings.review_after_s:g} s: {code}" if late else None

    async def _send_first(
        self, payment: Payment, operation: Operation, row: InFlight, report: RecoveryReport
    ) -> None:
        """Sends a reversal of which nothing had left, for as long as it takes; a person hears of it after a day."""
        engine = self._engine
        review_after_s = engine.settings.review_after_s
        if self._age_s(operation) >= review_after_s and payment.review is None:
            payment = await self._review(payment, operation, row, f"not sent for {review_after_s:g} s")
            report.reviews += payment.review is not None
        row = await engine.leases.about_to_send(payment, row)
        payment = await self._driver.drive(payment, row, self._deadline())
        after = payment.operation(operation.id)
        if after is None or after.unfinished:
            report.waiting += 1
        else:
            report.resolved += 1

    def _age_s(self, operation: Operation) -> float:
        """No more than its true age, whatever was done to the clock: nobody is asked too early."""
        return (self._engine.ports.clock.earliest_us() - operation.started_at_us) / 1_000_000

    async def _review(self, payment: Payment, operation: Operation, row: InFlight, reason: str) -> Payment:
        """Asks a person, unless what called for it has changed meanwhile: then the payment comes back as it is now."""
        called_for = _standing(payment, operation)
        while True:
            draft = self._engine.journal.draft(payment)
            draft.apply(cmd.RequestReview(reason=reason, operation_id=operation.id))
            guard = Guard(operation_id=row.operation_id, fence=row.fence, keep=row)
            try:
                return await self._engine.journal.commit(draft, guard=guard)
            except VersionConflict:
                payment = await self._engine.journal.load(payment.id)
                if payment.review is not None or _standing(payment, operation) != called_for:
                    return payment

    # --- what is due ----------------------------------------------------------------------------------------

    async def _watch(self, payment: Payment, operation: Operation, row: InFlight) -> None:
        """One more look at an attempt that ended because nothing was found; again later where the answer is unclear."""
        engine = self._engine
        parent = payment.operation(operation.parent_id) if operation.parent_id else None
        if operation.kind is OperationKind.CONFIRM and parent and parent.status is OperationStatus.APPROVED:
            # What the confirmation was for has happened since, and can happen only once.
            await engine.leases.release(payment, row)
            return
        found = await engine.calls.ask(payment, operation)
        outcome = found.outcome if isinstance(found, Found) else None
        if isinstance(outcome, Approved):
            await self._driver.found(payment, row, Known(outcome, Evidence.LOOKUP))
        elif isinstance(found, NotFound) or isinstance(outcome, Declined | NotSent):
            await engine.leases.release(payment, row)
        elif isinstance(outcome, RequiresAction) and ACTION_EXPIRED in (
            operation.code,
            parent and parent.code,
        ):
            # Still open at the gateway, and may stay so for ever: a day of looks, and then its webhooks.
            if self._age_s(operation) < engine.settings.review_after_s:
                await engine.leases.hand_over(payment, row, _REVIEWED_INTERVAL_S)
            else:
                await engine.leases.release(payment, row)
        elif self._age_s(operation) < engine.settings.review_after_s + engine.settings.watch_after_s:
            await engine.leases.hand_over(payment, row, engine.settings.watch_after_s)
        else:
            payment = await self._review(
                payment, operation, row, "failed, and the gateway does not say that it had no effect"
            )
            if payment.review is None:
                await engine.leases.hand_over(payment, row, engine.settings.watch_after_s)
            else:
                await engine.leases.release(payment, row)

    async def _payer_is_late(self, payment: Payment, operation: Operation, row: InFlight) -> None:
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
            await engine.leases.hand_over(payment, row, _REVIEWED_INTERVAL_S)

    async def _let_go(self, payment: Payment, row: InFlight, found: Lookup) -> None:
        """Ends what nobody can cancel, if the gateway says that nothing was taken; a payer who acts later gets it back."""
        engine = self._engine
        if isinstance(found, LookupFailed):
            operation = payment.operation(row.operation_id) or payment.operations[0]
            waited_s = self._age_s(operation) - engine.settings.action_timeout_s
            if waited_s < engine.settings.review_after_s:
                await engine.leases.hand_over(payment, row, engine.settings.lease_s)
                return
            reason = f"the payer is late, and the gateway does not say what was taken: {found.reason}"
            payment = await self._review(payment, operation, row, reason)
            await engine.leases.hand_over(payment, row, _REVIEWED_INTERVAL_S)
            return
        late = Declined(
            category=DeclineCategory.HARD, code=ACTION_EXPIRED, message="The payer did not act in time."
        )
        await self._driver.found(payment, row, Known(late, Evidence.LOOKUP))

    async def _expire(self, payment: Payment, row: InFlight) -> None:
        """The authorisation has lapsed: release what was not captured."""
        if payment.state is PaymentState.AUTHORIZED:
            await self._cancel(payment, row)
        elif settled_state(payment) is PaymentState.AUTHORIZED:
            # A person looks, or the bank disputes; it is released when that is over.
            await self._engine.leases.hand_over(payment, row, _REVIEWED_INTERVAL_S)
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
            payment = await self._review(payment, operation, row, reason)
            await engine.leases.hand_over(payment, row, _REVIEWED_INTERVAL_S)
            return
        draft = engine.journal.draft(payment)
        try:
            draft.apply(cmd.StartVoid(operation_id=operation_id, reason="expired"))
        except OperationInDoubt:
            # A capture or confirmation is under way; look again when it has ended.
            await engine.leases.hand_over(payment, row, self._until_it_ended_s(row))
            return
        void_row = engine.rows.new(draft.current, operation_id, row.gateway)
        later = engine.ports.clock.now_us() + int(_REVIEWED_INTERVAL_S * 1_000_000)
        guard = Guard(
            operation_id=row.operation_id, fence=row.fence, keep=replace(row, due_at_us=later, owner="")
        )
        payment = await engine.journal.commit(draft, guard=guard, opens=(void_row,))
        await self._driver.drive(payment, void_row, self._deadline())

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
        await engine.leases.hand_over(payment, row, _REVIEWED_INTERVAL_S)
        return True

    def _until_it_ended_s(self, row: InFlight) -> float:
        """How long to wait for another operation of the payment; one that is pending may take days."""
        engine = self._engine
        again_s = engine.settings.recovery_retry.delay_s(row.tries, engine.ports.random)
        return max(engine.settings.lease_s, again_s)

    def _deadline(self) -> Deadline:
        return Deadline(self._engine.ports.clock, self._engine.settings.answer_timeout_s)


def _standing(payment: Payment, operation: Operation) -> tuple[PaymentState, OperationStatus | None]:
    """What a person is asked about: while it stays, so does the question."""
    now = payment.operation(operation.id)
    return payment.state, now.status if now is not None else None
