"""The orchestrator: charge, authorize, capture, void, refund, complete_action, get, sync.

One request under one idempotency key is one flight, one claim and one effect. The answer is a function of the stored
events, so that a replay gives the same bytes in any process.
"""

from __future__ import annotations

from aegispay.domain import commands as cmd
from aegispay.domain.errors import (
    AegisPayError,
    GatewayUnreachable,
    NotRunning,
    StaleFence,
)
from aegispay.domain.events import OperationKind
from aegispay.domain.ids import check_payment_id, payment_id
from aegispay.domain.money import Money
from aegispay.domain.outcomes import Approved
from aegispay.domain.payment import Operation, OperationStatus, Payment
from aegispay.gateways.registry import GatewayRegistry
from aegispay.orchestration.answers import Answers
from aegispay.orchestration.candidates import Candidates, RemainingAttempts
from aegispay.orchestration.driver import Driver
from aegispay.orchestration.engine import Engine
from aegispay.orchestration.flights import Flight, Flights
from aegispay.orchestration.followups import FollowUp, FollowUps
from aegispay.orchestration.hooks import Hooks
from aegispay.orchestration.inbound import Inbound
from aegispay.orchestration.journal import Journal
from aegispay.orchestration.known import NOT_FOUND, PERSON
from aegispay.orchestration.persons_word import Word, check_word
from aegispay.orchestration.requests import (
    DEFAULT_MERCHANT,
    PaymentRequest,
    check_action_data,
    check_key,
    check_not_expired,
    check_text,
    claim_digest,
    operation_hash,
    request_hash,
)
from aegispay.orchestration.results import InProgress, Result, payment_result, pending
from aegispay.orchestration.reviews import Reviews, check_reason
from aegispay.orchestration.rows import unleased
from aegispay.orchestration.settings import AFTER_DOUBT, Settings
from aegispay.ports import Ports
from aegispay.routing.router import Router
from aegispay.storage.store import Claim, ClaimTaken, InFlight, Purpose, Store


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
        self.flights = Flights(ports.clock, settings.in_progress_max, settings.answers_cached_max)
        self._registry = registry
        self.answers = Answers(self.engine, self.flights)
        self.inbound = Inbound(self.engine, self.driver)
        self._reviews = Reviews(self.engine)
        self._follow_ups = FollowUps(self.engine, self.driver, self.answers)
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
        flight = self.flights.join(
            digest, asked, timeout_s, lambda f: self._create(request, digest, asked, f)
        )
        return await self._answer(flight, timeout_s)

    async def _answer(self, flight: Flight, timeout_s: float) -> Result:
        try:
            return await self.flights.wait(flight, timeout_s)
        except InProgress as error:
            try:
                payment = await self.store.load(error.payment_id) if error.payment_id else None
            except AegisPayError:
                payment = None  # Its words would be about the store; the caller asked about the payment.
            if payment is None:
                raise
            return pending(payment, payment.first_operation, "in_progress")

    async def _create(self, request: PaymentRequest, digest: bytes, asked: bytes, flight: Flight) -> Result:
        try:
            check_not_expired(request.method, self.ports.clock.now_us())
            for hook in self.hooks.before_payment:
                await hook(request)
            names = self.candidates.choose(request)
            attempts = RemainingAttempts(self.candidates, request, names, self.ports.ids)
            first = await attempts.take()
            if first is None:
                raise GatewayUnreachable(
                    "no gateway could be asked to take the card; nothing was charged.", hint="Try again."
                )
        except Exception:
            # What was answered before stays answered, whatever the day, the hooks and the gateways say now.
            claim = await self.store.find_claim(digest)
            if claim is None:
                raise
            return await self.answers.follow(claim, asked, flight)
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
        row = self.engine.rows.new(draft.current, first.operation_id, first.gateway)
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
            return await self.answers.follow(taken.claim, asked, flight)
        work = self.driver.drive(payment, row, flight.deadline, attempts)
        return await self.answers.settled(payment, claim, flight, work)

    # --- an existing payment ------------------------------------------------------------------------------

    async def capture(
        self, payment: str, amount: Money | None, final: bool, key: str, timeout_s: float, merchant_id: str
    ) -> Result:
        command = cmd.StartCapture(operation_id="", amount_minor=_minor(amount), final=final)
        return await self._follow_up(
            OperationKind.CAPTURE, payment, merchant_id, check_key(key), command, amount, timeout_s
        )

    async def refund(
        self,
        payment: str,
        amount: Money | None,
        reason: str | None,
        key: str,
        timeout_s: float,
        merchant_id: str,
    ) -> Result:
        check_text("reason", reason, 255)
        # By this word of the policy's we know that a success was taken back; a merchant's refund takes none back.
        theirs = "requested" if reason == AFTER_DOUBT else reason
        command = cmd.StartRefund(operation_id="", amount_minor=_minor(amount), reason=theirs)
        return await self._follow_up(
            OperationKind.REFUND, payment, merchant_id, check_key(key), command, amount, timeout_s
        )

    async def void(
        self, payment: str, reason: str | None, key: str | None, timeout_s: float, merchant_id: str
    ) -> Result:
        check_text("reason", reason, 255)
        # "expired" is the recovery worker's word; a merchant's void always ends in CANCELED.
        theirs = "requested" if reason in ("expired", AFTER_DOUBT) else reason
        command = cmd.StartVoid(operation_id="", reason=theirs)
        return await self._follow_up(OperationKind.VOID, payment, merchant_id, key, command, None, timeout_s)

    async def complete_action(
        self, payment: str, action_data: dict[str, str], key: str | None, timeout_s: float, merchant_id: str
    ) -> Result:
        command = cmd.StartConfirm(operation_id="", action_data=check_action_data(action_data))
        return await self._follow_up(
            OperationKind.CONFIRM, payment, merchant_id, key, command, None, timeout_s
        )

    async def _follow_up(
        self,
        kind: OperationKind,
        payment: str,
        merchant_id: str,
        key: str | None,
        command: cmd.StartCapture | cmd.StartVoid | cmd.StartRefund | cmd.StartConfirm,
        amount: Money | None,
        timeout_s: float,
    ) -> Result:
        self._check_running()
        target = check_payment_id(payment)
        currency = amount.code if amount else None
        asked = FollowUp(
            kind=kind,
            payment_id=target,
            merchant_id=merchant_id,
            command=command,
            amount=amount,
            request_hash=operation_hash(kind, target, command, currency),
            digest=b"" if key is None else claim_digest(merchant_id, kind, check_key(key)),
        )
        if key is None:
            flight = self.flights.launch(timeout_s, lambda flight: self._follow_ups.run(asked, flight))
            return await self._answer(flight, timeout_s)
        answered = self.flights.answered(asked.digest, asked.request_hash)
        if answered is not None:
            return answered
        flight = self.flights.join(
            asked.digest, asked.request_hash, timeout_s, lambda flight: self._follow_ups.run(asked, flight)
        )
        return await self._answer(flight, timeout_s)

    async def close_review(self, payment: str, reason: str, word: Word, merchant_id: str) -> Payment:
        """Ends the payment's review, on a person's word."""
        self._check_running()
        check_reason(reason)
        word = check_word(word)
        found = await self.get(payment, merchant_id)
        return await self._reviews.close(found, reason, word)

    # --- reading and evidence on demand -------------------------------------------------------------------

    async def get(self, payment: str, merchant_id: str = DEFAULT_MERCHANT) -> Payment:
        """The payment as stored. Raises `PaymentNotFound`, for another merchant's payment too."""
        return await self._follow_ups.get(payment, merchant_id)

    async def sync(self, payment: str, merchant_id: str = DEFAULT_MERCHANT) -> Result:
        """Looks the payment's open operations and those that may have ended otherwise up at their gateways now, and records
        what is found: ended attempts, and what a look-up did not find, or a person.

        Moves no money but to give it back: a success that turns up where another was recorded, or in doubt where the
        merchant's policy says so.
        """
        self._check_running()
        found = await self.get(payment, merchant_id)
        for operation in found.operations:
            ended = operation.attempt and operation.status is OperationStatus.DECLINED
            not_seen = operation.status is OperationStatus.NOT_SENT and (
                operation.attempt or operation.code in (NOT_FOUND, PERSON)
            )
            if operation.unfinished or ended or not_seen:
                found = await self._sync_operation(await self.engine.journal.load(found.id), operation.id)
        return payment_result(found)

    async def _sync_operation(self, payment: Payment, operation_id: str) -> Payment:
        operation = payment.operation(operation_id)
        gateway = self._registry.find(operation.gateway) if operation else None
        if operation is None or gateway is None:
            return payment
        row = await self.store.find_in_flight(operation_id) or unleased(payment, operation)
        known = await self.engine.evidence.look(
            gateway, self.engine.calls.call_for(payment, operation), row, trusted=False
        )
        if known is None or not (isinstance(known.outcome, Approved) or self._may_conclude(operation, row)):
            return payment
        try:
            return await self.driver.found(payment, row, known)
        except StaleFence:
            return await self.engine.journal.load(payment.id)

    def _may_conclude(self, operation: Operation, row: InFlight) -> bool:
        """Whether nobody is at work on it: what a look-up sees between two of their steps is not the end, a success is."""
        if operation.status is OperationStatus.CONFIRMING:
            return False  # Its confirmation is looked up by itself.
        at_work = row.purpose is Purpose.CALL and row.owner and row.due_at_us > self.ports.clock.steady_us()
        return not at_work

    def _check_running(self) -> None:
        if not self.running:
            raise NotRunning("AegisPay is not running.", hint="Use it as `async with AegisPay(...) as pay:`.")


def _minor(amount: Money | None) -> int | None:
    return None if amount is None else amount.amount_minor
