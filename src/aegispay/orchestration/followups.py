"""Operations on an existing payment: capture, void, refund, and the completion of a payer's action.

Each is claimed, decided and recorded in one write before anything is sent; amounts under way are reserved by the domain.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple
from weakref import WeakValueDictionary

from msgspec.structs import replace

from aegispay.domain import commands as cmd
from aegispay.domain.errors import (
    CurrencyMismatch,
    InvalidRequest,
    InvalidState,
    PaymentNotFound,
    StaleFence,
    UnsupportedOperation,
    VersionConflict,
)
from aegispay.domain.events import OperationKind
from aegispay.domain.ids import check_payment_id
from aegispay.domain.money import Money
from aegispay.domain.payment import Operation, OperationStatus, Payment
from aegispay.orchestration.answers import Answers
from aegispay.orchestration.driver import Driver
from aegispay.orchestration.engine import Engine
from aegispay.orchestration.flights import Flight
from aegispay.orchestration.results import Result
from aegispay.storage.store import Claim, ClaimTaken, Guard, InFlight

_DECIDE_TRIES_MAX = 100


class FollowUp(NamedTuple):
    """One request on an existing payment."""

    kind: OperationKind
    payment_id: str
    merchant_id: str
    command: cmd.StartCapture | cmd.StartVoid | cmd.StartRefund | cmd.StartConfirm
    """Without its operation id, which is chosen when it begins."""
    amount: Money | None
    request_hash: bytes
    digest: bytes
    """The claim's digest; empty for a request without an idempotency key."""


class FollowUps:
    """Begins and drives follow-up operations for callers."""

    def __init__(self, engine: Engine, driver: Driver, answers: Answers):
        self._engine = engine
        self._driver = driver
        self._answers = answers
        # Within one process, intents on one payment queue up here instead of colliding at the store.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def run(self, asked: FollowUp, flight: Flight) -> Result:
        """The answer to the request. Raises the domain's refusals; then nothing was written or sent."""
        flight.payment_id = asked.payment_id
        lock = self._locks.get(asked.payment_id)
        if lock is None:
            lock = self._locks[asked.payment_id] = asyncio.Lock()
        try:
            async with lock:
                payment, row, claim = await self._begin(asked)
        except ClaimTaken as taken:
            return await self._answers.follow(taken.claim, asked.request_hash, flight)
        except (InvalidState, InvalidRequest) as refused:
            return await self._asked_before(refused, asked, flight)
        work = self._driver.drive(payment, row, flight.deadline)
        return await self._answers.settled(payment, claim, flight, work)

    async def get(self, payment_id: str, merchant_id: str) -> Payment:
        """The payment as stored. Raises `PaymentNotFound`, for another merchant's payment too."""
        target = check_payment_id(payment_id)
        found = await self._engine.store.load(target)
        if found is None or found.merchant_id != merchant_id:
            raise PaymentNotFound(f"there is no payment {target}.", payment_id=target)
        return found

    async def _begin(self, asked: FollowUp) -> tuple[Payment, InFlight, Claim]:
        """Commits the intent: claim, events, projection and lease in one write."""
        engine = self._engine
        operation_id = engine.journal.new_operation_id()
        command = replace(asked.command, operation_id=operation_id)
        claim = Claim(
            digest=asked.digest,
            merchant_id=asked.merchant_id,
            scope=asked.kind.value,
            payment_id=asked.payment_id,
            operation_id=operation_id,
            request_hash=asked.request_hash,
        )
        for _ in range(_DECIDE_TRIES_MAX):
            payment = await self.get(asked.payment_id, asked.merchant_id)
            if asked.amount is not None and asked.amount.code != payment.currency:
                raise CurrencyMismatch(f"{payment.id} is in {payment.currency}, not {asked.amount.code}.")
            draft = engine.journal.draft(payment)
            draft.apply(command)
            operation = draft.current.operations[-1]
            self._check_able(payment, operation)
            row = engine.rows.new(draft.current, operation_id, operation.gateway)
            try:
                committed = await engine.journal.commit(
                    draft,
                    claim=claim if asked.digest else None,
                    guard=await self._payer_guard(operation),
                    opens=(row,),
                )
            except (VersionConflict, StaleFence):
                continue
            return committed, row, claim
        raise VersionConflict(payment_id=asked.payment_id)

    async def _payer_guard(self, operation: Operation) -> Guard | None:
        """A confirmation takes over from the row that waits for the payer."""
        if operation.kind is not OperationKind.CONFIRM or operation.parent_id is None:
            return None
        waiting = await self._engine.store.find_in_flight(operation.parent_id)
        return Guard(operation_id=waiting.operation_id, fence=waiting.fence) if waiting else None

    async def _asked_before(
        self, refused: InvalidState | InvalidRequest, asked: FollowUp, flight: Flight
    ) -> Result:
        """What the payment does not allow now may be what it was asked before: then that answer stands."""
        if asked.digest:
            claim = await self._engine.store.find_claim(asked.digest)
            if claim is None:
                raise refused
            return await self._answers.follow(claim, asked.request_hash, flight)
        payment = await self._engine.journal.load(asked.payment_id)
        for operation in reversed(payment.operations):
            same = operation.kind is asked.kind and not operation.compensates
            if same and (operation.unfinished or operation.status is OperationStatus.APPROVED):
                claim = Claim(
                    digest=b"",
                    merchant_id=asked.merchant_id,
                    scope=asked.kind.value,
                    payment_id=payment.id,
                    operation_id=operation.id,
                    request_hash=asked.request_hash,
                )
                return await self._answers.wait_for(claim, flight.deadline)
        raise refused

    def _check_able(self, payment: Payment, operation: Operation) -> None:
        """Raises `UnsupportedOperation` for what the gateway cannot do, before anything is written or sent."""
        gateway = self._engine.registry.get(operation.gateway)
        caps = gateway.capabilities
        kind = operation.kind
        if kind is OperationKind.CAPTURE:
            if not caps.partial_capture and operation.amount_minor < payment.authorized_minor:
                raise UnsupportedOperation(f"{gateway.name} captures the full amount only.")
            if not caps.multi_capture and (not operation.final or payment.captured_minor):
                raise UnsupportedOperation(
                    f"{gateway.name} captures once; the rest is released.", hint="Leave `final` true."
                )
        elif kind is OperationKind.VOID and not caps.void:
            raise UnsupportedOperation(
                f"{gateway.name} has no void.", hint="Let it lapse, or capture and refund."
            )
        elif kind is OperationKind.REFUND and not caps.refund:
            raise UnsupportedOperation(f"{gateway.name} has no refund.")
        elif kind is OperationKind.REFUND and not caps.partial_refund:
            if operation.amount_minor < payment.captured_minor:
                raise UnsupportedOperation(f"{gateway.name} refunds the full amount only.")
        elif kind is OperationKind.CONFIRM and not caps.next_action:
            raise UnsupportedOperation(f"{gateway.name} has no payer actions.")
        gateway.check(self._engine.calls.call_for(payment, operation))
