"""The orchestrator: charge, authorize, capture, void, refund, complete_action, get, sync.

One request under one idempotency key is one flight, one claim and one effect. The answer is a function of the stored
events, so that a replay gives the same bytes in any process.
"""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

from msgspec.structs import replace

from aegispay.domain import commands as cmd
from aegispay.domain.errors import (
    InvalidPaymentMethod,
    InvalidState,
    NotRunning,
    PaymentNotFound,
    StaleFence,
    UnsupportedOperation,
    VersionConflict,
)
from aegispay.domain.events import OperationKind
from aegispay.domain.evolve import fold
from aegispay.domain.ids import check_payment_id, payment_id
from aegispay.domain.money import Money
from aegispay.domain.payment import Operation, OperationStatus, Payment
from aegispay.domain.states import PaymentState
from aegispay.gateways.registry import GatewayRegistry
from aegispay.orchestration.candidates import Candidates, RemainingAttempts
from aegispay.orchestration.driver import Driver
from aegispay.orchestration.engine import Engine
from aegispay.orchestration.flights import Flight, Flights, conflict
from aegispay.orchestration.hooks import Hooks
from aegispay.orchestration.journal import Journal
from aegispay.orchestration.requests import (
    DEFAULT_MERCHANT,
    PaymentRequest,
    check_key,
    check_text,
    claim_digest,
    operation_hash,
    request_hash,
)
from aegispay.orchestration.results import InProgress, Result, operation_result, payment_result, pending
from aegispay.orchestration.settings import Settings
from aegispay.ports import Ports
from aegispay.resilience.retry import RetryPolicy
from aegispay.routing.router import Router
from aegispay.storage.store import Claim, ClaimTaken, Guard, InFlight, Purpose, Store

_DECIDE_TRIES_MAX = 100
_FOLLOW_RETRY = RetryPolicy(attempts_max=1_000_000, initial_delay_s=0.02, delay_max_s=0.5)
_FOLLOW_UP = cmd.StartCapture | cmd.StartVoid | cmd.StartRefund | cmd.StartConfirm


class Orchestrator:
    """What a running instance does for its callers. All waiting goes through the clock port."""

    def __init__(
        self,
        store: Store,
        registry: GatewayRegistry,
        router: Router,
        hooks: Hooks,
        ports: Ports,
        settings: Settings,
    ):
        self.store = store
        self.ports = ports
        self.settings = settings
        self.hooks = hooks
        self.journal = Journal(store, ports, hooks)
        self.engine = Engine(store, registry, self.journal, ports, settings)
        self.driver = Driver(self.engine)
        self.candidates = Candidates(registry, router, hooks, settings)
        self.flights = Flights(settings.in_progress_max, settings.answers_cached_max)
        self._registry = registry
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.running = False

    # --- a new payment ------------------------------------------------------------------------------------

    async def create(self, request: PaymentRequest, timeout_s: float) -> Result:
        """Charges or authorizes. Always answers within about `timeout_s`; raises the errors of `PaymentRequest`'s checks."""
        self._check_running()
        digest = claim_digest(request.merchant_id, "payment", request.idempotency_key)
        asked = request_hash(request)
        answered = self.flights.answered(digest, asked)
        if answered is not None:
            return answered
        deadline_s = self.ports.clock.monotonic_s() + timeout_s
        flight = self.flights.join(
            digest, asked, lambda flight: self._create(request, digest, asked, deadline_s, flight)
        )
        return await self._answer(flight, timeout_s)

    async def _answer(self, flight: Flight, timeout_s: float) -> Result:
        try:
            return await self.flights.wait(flight, timeout_s)
        except InProgress as error:
            payment = await self.store.load(error.payment_id) if error.payment_id else None
            if payment is None:
                raise
            return pending(payment, payment.first_operation, "in_progress")

    async def _create(
        self, request: PaymentRequest, digest: bytes, asked: bytes, deadline_s: float, flight: Flight
    ) -> Result:
        for hook in self.hooks.before_payment:
            await hook(request)
        try:
            names = self.candidates.choose(request)
        except Exception:
            # What was answered before stays answered, whatever the gateways are today.
            claim = await self.store.find_claim(digest)
            if claim is None:
                raise
            return await self._follow(claim, asked, deadline_s, flight)
        attempts = RemainingAttempts(self.candidates, request, names, self.ports.ids)
        first = await attempts.take()
        if first is None:
            raise InvalidPaymentMethod("no gateway could take the payment method.")
        flight.payment_id = payment_id(self.ports.ids.new_hex(), digest[0])
        draft = self.journal.new(flight.payment_id, request.correlation_id)
        draft.apply(
            cmd.Initiate(
                merchant_id=request.merchant_id,
                amount_minor=request.amount.amount_minor,
                currency=request.amount.code,
                capture=request.capture,
                method=request.snapshot,
                candidates=names,
                request_hash=asked.hex(),
                customer_id=request.customer_id,
                description=request.description,
                return_url=request.return_url,
                metadata=request.metadata,
            )
        )
        draft.apply(
            cmd.StartAttempt(operation_id=first.operation_id, gateway=first.gateway, token=first.token)
        )
        row = self.engine.new_row(draft.current, first.operation_id, first.gateway)
        claim = Claim(
            digest=digest,
            merchant_id=request.merchant_id,
            scope="payment",
            payment_id=flight.payment_id,
            operation_id=first.operation_id,
            request_hash=asked,
        )
        try:
            payment = await self.journal.commit(draft, claim=claim, opens=(row,))
        except ClaimTaken as taken:
            return await self._follow(taken.claim, asked, deadline_s, flight)
        try:
            payment = await self.driver.drive(payment, row, deadline_s, attempts)
        except StaleFence:
            return await self._follow(claim, asked, deadline_s, flight)
        return await self._result_of(payment, claim)

    # --- following somebody else's work -------------------------------------------------------------------

    async def _follow(self, claim: Claim, asked: bytes, deadline_s: float, flight: Flight) -> Result:
        """The answer to a request that is claimed already: waits for it until the deadline, then says where it stands."""
        if claim.request_hash != asked:
            raise conflict(claim.payment_id)
        flight.payment_id = claim.payment_id
        tries = 0
        while True:
            payment = await self.engine.load(claim.payment_id)
            result = await self._result_of(payment, claim)
            tries += 1
            delay_s = _FOLLOW_RETRY.delay_s(tries, self.ports.random)
            if not result.is_pending() or payment.state is PaymentState.NEEDS_REVIEW:
                return result
            if self.ports.clock.monotonic_s() + delay_s >= deadline_s:
                return result
            await self.ports.clock.sleep(delay_s)

    async def _result_of(self, payment: Payment, claim: Claim) -> Result:
        """The answer for a claim. A final one is computed from the events up to the version that made it final."""
        if claim.scope == "payment":
            version = payment.answered_version
        else:
            operation = payment.operation(claim.operation_id)
            version = operation.concluded_version if operation else 0
        if not version:
            return self._current(payment, claim)
        if version != payment.version:
            payment = fold(await self.store.load_events(payment.id, until_version=version))
        result = self._current(payment, claim)
        if not result.is_pending():
            self.flights.keep(claim.digest, claim.request_hash, result)
        return result

    def _current(self, payment: Payment, claim: Claim) -> Result:
        operation = payment.operation(claim.operation_id)
        if claim.scope == "payment" or operation is None:
            return payment_result(payment)
        return operation_result(payment, operation)

    # --- an existing payment ------------------------------------------------------------------------------

    async def capture(
        self,
        payment: str,
        *,
        idempotency_key: str,
        amount: Money | None,
        final: bool,
        timeout_s: float,
        merchant_id: str = DEFAULT_MERCHANT,
    ) -> Result:
        command = cmd.StartCapture(operation_id="", amount_minor=_minor(amount), final=final)
        parts = (_minor(amount), amount.code if amount else None, final)
        return await self._operate(
            "capture", payment, idempotency_key, command, parts, amount, timeout_s, merchant_id
        )

    async def refund(
        self,
        payment: str,
        *,
        idempotency_key: str,
        amount: Money | None,
        reason: str | None,
        timeout_s: float,
        merchant_id: str = DEFAULT_MERCHANT,
    ) -> Result:
        check_text("reason", reason, 255)
        command = cmd.StartRefund(operation_id="", amount_minor=_minor(amount), reason=reason)
        parts = (_minor(amount), amount.code if amount else None, reason)
        return await self._operate(
            "refund", payment, idempotency_key, command, parts, amount, timeout_s, merchant_id
        )

    async def void(
        self,
        payment: str,
        *,
        idempotency_key: str | None,
        timeout_s: float,
        reason: str | None = None,
        merchant_id: str = DEFAULT_MERCHANT,
    ) -> Result:
        check_text("reason", reason, 255)
        command = cmd.StartVoid(operation_id="", reason=reason if reason != "expired" else "canceled")
        return await self._operate(
            "void", payment, idempotency_key, command, (reason,), None, timeout_s, merchant_id
        )

    async def complete_action(
        self,
        payment: str,
        *,
        action_data: dict[str, str],
        idempotency_key: str | None,
        timeout_s: float,
        merchant_id: str = DEFAULT_MERCHANT,
    ) -> Result:
        command = cmd.StartConfirm(operation_id="", action_data=action_data)
        parts = (sorted(action_data.items()),)
        return await self._operate(
            "confirm", payment, idempotency_key, command, parts, None, timeout_s, merchant_id
        )

    async def _operate(
        self,
        scope: str,
        payment: str,
        key: str | None,
        command: _FOLLOW_UP,
        parts: tuple[object, ...],
        amount: Money | None,
        timeout_s: float,
        merchant_id: str,
    ) -> Result:
        self._check_running()
        target = check_payment_id(payment)
        deadline_s = self.ports.clock.monotonic_s() + timeout_s
        asked = operation_hash(scope, target, *parts)
        if key is None:
            flight = self.flights.launch(
                lambda flight: self._follow_up(
                    scope, target, None, asked, command, amount, deadline_s, merchant_id, flight
                )
            )
            return await self._answer(flight, timeout_s)
        digest = claim_digest(merchant_id, scope, check_key(key))
        answered = self.flights.answered(digest, asked)
        if answered is not None:
            return answered
        flight = self.flights.join(
            digest,
            asked,
            lambda flight: self._follow_up(
                scope, target, digest, asked, command, amount, deadline_s, merchant_id, flight
            ),
        )
        return await self._answer(flight, timeout_s)

    async def _follow_up(
        self,
        scope: str,
        target: str,
        digest: bytes | None,
        asked: bytes,
        command: _FOLLOW_UP,
        amount: Money | None,
        deadline_s: float,
        merchant_id: str,
        flight: Flight,
    ) -> Result:
        flight.payment_id = target
        lock = self._locks.get(target)
        if lock is None:
            lock = self._locks[target] = asyncio.Lock()
        try:
            async with lock:
                begun = await self._begin(scope, target, digest, asked, command, amount, merchant_id)
        except ClaimTaken as taken:
            return await self._follow(taken.claim, asked, deadline_s, flight)
        except InvalidState as refused:
            return await self._refused(refused, scope, target, digest, asked, deadline_s, flight)
        payment, row, claim = begun
        try:
            payment = await self.driver.drive(payment, row, deadline_s)
        except StaleFence:
            return await self._follow(claim, asked, deadline_s, flight)
        if digest is None:
            operation = payment.operation(claim.operation_id)
            return operation_result(payment, operation) if operation else payment_result(payment)
        return await self._result_of(payment, claim)

    async def _begin(
        self,
        scope: str,
        target: str,
        digest: bytes | None,
        asked: bytes,
        command: _FOLLOW_UP,
        amount: Money | None,
        merchant_id: str,
    ) -> tuple[Payment, InFlight, Claim]:
        """Commits the intent of an operation on an existing payment: claim, events, projection and lease in one write."""
        operation_id = self.engine.new_operation_id()
        for _ in range(_DECIDE_TRIES_MAX):
            payment = await self.get(target, merchant_id)
            if amount is not None:
                amount._same(payment.amount)
            draft = self.journal.draft(payment)
            draft.apply(_with_id(command, operation_id))
            operation = draft.current.operations[-1]
            self._check_able(payment, operation)
            row = self.engine.new_row(draft.current, operation_id, operation.gateway)
            claim = Claim(
                digest=digest or b"",
                merchant_id=merchant_id,
                scope=scope,
                payment_id=target,
                operation_id=operation_id,
                request_hash=asked,
            )
            try:
                guard = await self._payer_guard(operation)
                committed = await self.journal.commit(
                    draft, claim=claim if digest is not None else None, guard=guard, opens=(row,)
                )
            except (VersionConflict, StaleFence):
                continue
            return committed, row, claim
        raise VersionConflict(payment_id=target)

    async def _payer_guard(self, operation: Operation) -> Guard | None:
        """A confirmation takes over from the row that waits for the payer."""
        if operation.kind is not OperationKind.CONFIRM or operation.parent_id is None:
            return None
        waiting = await self.store.find_in_flight(operation.parent_id)
        return Guard(operation_id=waiting.operation_id, fence=waiting.fence) if waiting else None

    async def _refused(
        self,
        refused: InvalidState,
        scope: str,
        target: str,
        digest: bytes | None,
        asked: bytes,
        deadline_s: float,
        flight: Flight,
    ) -> Result:
        """A request that the payment does not allow now may be one that it was asked before."""
        if digest is not None:
            claim = await self.store.find_claim(digest)
            if claim is not None:
                return await self._follow(claim, asked, deadline_s, flight)
            raise refused
        payment = await self.engine.load(target)
        kind = OperationKind(scope)
        for operation in reversed(payment.operations):
            if operation.kind is kind and (
                operation.unfinished or operation.status is OperationStatus.APPROVED
            ):
                claim = Claim(
                    digest=b"",
                    merchant_id="",
                    scope=scope,
                    payment_id=target,
                    operation_id=operation.id,
                    request_hash=asked,
                )
                return await self._follow_unclaimed(claim, deadline_s)
        raise refused

    async def _follow_unclaimed(self, claim: Claim, deadline_s: float) -> Result:
        tries = 0
        while True:
            result = self._current(await self.engine.load(claim.payment_id), claim)
            tries += 1
            delay_s = _FOLLOW_RETRY.delay_s(tries, self.ports.random)
            if not result.is_pending() or self.ports.clock.monotonic_s() + delay_s >= deadline_s:
                return result
            await self.ports.clock.sleep(delay_s)

    def _check_able(self, payment: Payment, operation: Operation) -> None:
        """Raises `UnsupportedOperation` for what the gateway cannot do, before anything is written or sent."""
        gateway = self._registry.get(operation.gateway)
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
        elif kind is OperationKind.REFUND:
            if not caps.refund or (
                not caps.partial_refund and operation.amount_minor < payment.captured_minor
            ):
                raise UnsupportedOperation(
                    f"{gateway.name} cannot refund {'in part' if caps.refund else ''}."
                )
        elif kind is OperationKind.CONFIRM and not caps.next_action:
            raise UnsupportedOperation(f"{gateway.name} has no payer actions.")
        gateway.check(self.engine.call_for(payment, operation))

    # --- reading and evidence on demand -------------------------------------------------------------------

    async def get(self, payment: str, merchant_id: str = DEFAULT_MERCHANT) -> Payment:
        """The payment as stored. Raises `PaymentNotFound`, for another merchant's payment too."""
        target = check_payment_id(payment)
        found = await self.store.load(target)
        if found is None or found.merchant_id != merchant_id:
            raise PaymentNotFound(f"there is no payment {target}.", payment_id=target)
        return found

    async def sync(self, payment: str, merchant_id: str = DEFAULT_MERCHANT) -> Result:
        """Looks the payment's open operations and ended attempts up at their gateways now, and records what is found.

        Moves no money, but for one thing: a success that turns up where another was recorded is reversed.
        """
        self._check_running()
        found = await self.get(payment, merchant_id)
        for operation in found.operations:
            ended = operation.attempt and operation.status in (
                OperationStatus.DECLINED,
                OperationStatus.NOT_SENT,
            )
            if operation.unfinished or ended:
                found = await self._sync_operation(await self.engine.load(found.id), operation.id)
        return payment_result(found)

    async def _sync_operation(self, payment: Payment, operation_id: str) -> Payment:
        operation = payment.operation(operation_id)
        gateway = self._registry.find(operation.gateway) if operation else None
        if operation is None or gateway is None:
            return payment
        row = await self.store.find_in_flight(operation_id) or _no_row(payment, operation)
        known = await self.engine.look(gateway, self.engine.call_for(payment, operation), row, trusted=False)
        if known is None:
            return payment
        try:
            deadline_s = self.ports.clock.monotonic_s() + self.settings.answer_timeout_s
            return await self.driver.found(payment, row, known, deadline_s)
        except StaleFence:
            return await self.engine.load(payment.id)

    def _check_running(self) -> None:
        if not self.running:
            raise NotRunning("AegisPay is not running.", hint="Use it as `async with AegisPay(...) as pay:`.")


def _no_row(payment: Payment, operation: Operation) -> InFlight:
    """Stands in for the row of an operation that nobody works on any more; it carries no lease."""
    return InFlight(
        operation_id=operation.id,
        payment_id=payment.id,
        gateway=operation.gateway,
        purpose=Purpose.WATCH,
        due_at_us=0,
        owner="",
        fence=0,
        sent_at_us=operation.started_at_us,
    )


def _minor(amount: Money | None) -> int | None:
    return None if amount is None else amount.amount_minor


def _with_id(command: _FOLLOW_UP, operation_id: str) -> _FOLLOW_UP:
    return replace(command, operation_id=operation_id)
