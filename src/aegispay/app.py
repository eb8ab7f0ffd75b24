"""`AegisPay`: the public face. An async context manager that opens the store, starts recovery, and takes payments."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Self

from aegispay.domain.errors import ConfigError, InvalidRequest, NotRunning
from aegispay.domain.events import CaptureMode, Event
from aegispay.domain.evolve import fold
from aegispay.domain.ids import check_payment_id
from aegispay.domain.methods import PaymentMethod
from aegispay.domain.money import Money
from aegispay.domain.payment import Payment
from aegispay.domain.states import PaymentState
from aegispay.gateways.gateway import Gateway, Health
from aegispay.gateways.registry import GatewayRegistry
from aegispay.orchestration.hooks import Hooks
from aegispay.orchestration.kept_notices import KeptNotice, kept_notices
from aegispay.orchestration.orchestrator import Orchestrator
from aegispay.orchestration.persons_word import Word
from aegispay.orchestration.recovery import RecoveryWorker
from aegispay.orchestration.recovery_report import RecoveryReport
from aegispay.orchestration.requests import DEFAULT_MERCHANT, checked_request
from aegispay.orchestration.results import Result
from aegispay.orchestration.settings import Settings
from aegispay.ports import Ports
from aegispay.routing.router import OrderedRouter, Router
from aegispay.storage.factory import make_store
from aegispay.storage.notices import NoticeState
from aegispay.storage.store import Durability, Store

logger = logging.getLogger("aegispay")

DEFAULT_STORE = "sqlite:///aegispay.db"
Gateways = GatewayRegistry | Mapping[str, Gateway] | Sequence[Gateway]


class EventStore:
    """Reads payments' events: the audit trail, replay, and time travel."""

    def __init__(self, store: Store):
        self._store = store

    async def events(self, payment_id: str) -> list[Event]:
        """All events of a payment, in order; empty where there is no such payment."""
        return await self._store.load_events(check_payment_id(payment_id))

    async def replay_events(
        self, payment_id: str, *, until_version: int | None = None, until: datetime | None = None
    ) -> Payment:
        """The payment folded from its events, as of a version or a time (both inclusive).

        Raises `PaymentNotFound` where there is no such payment or it did not exist yet, and `InvalidRequest` for a
        time without a zone.
        """
        until_us = None
        if until is not None:
            if until.tzinfo is None:
                raise InvalidRequest("`until` has no time zone.", hint="Use datetime.now(timezone.utc).")
            until_us = int(until.timestamp()) * 1_000_000 + until.microsecond
        target = check_payment_id(payment_id)
        return fold(await self._store.load_events(target, until_version=until_version, until_us=until_us))


class AegisPay:
    """A payment orchestrator within your process.

    ```python
    async with AegisPay([StripeGateway(api_key)], store="sqlite:///payments.db") as pay:
        result = await pay.charge(Money.parse("99.99", "USD"), "pm_card_visa", idempotency_key="order-1")
    ```

    `store` is a URL (`sqlite:///file`, `sqlite://:memory:`, `postgresql://...`) or a `Store`. `gateways` is a registry,
    a mapping of names, or a sequence of gateways with names of their own.
    """

    def __init__(
        self,
        gateways: Gateways,
        *,
        store: Store | str = DEFAULT_STORE,
        settings: Settings | None = None,
        router: Router | None = None,
        hooks: Hooks | None = None,
        ports: Ports | None = None,
    ):
        self.registry = _registry(gateways)
        self.settings = settings or Settings()
        self.hooks = hooks or Hooks()
        self.ports = ports or Ports()
        self.store: Store = make_store(store) if isinstance(store, str) else store
        self.event_store = EventStore(self.store)
        self._orchestrator = Orchestrator(
            self.store, self.registry, router or OrderedRouter(), self.hooks, self.ports, self.settings
        )
        self._worker = RecoveryWorker(
            self._orchestrator.engine, self._orchestrator.driver, self._orchestrator.inbound
        )
        self._started = False

    # --- life cycle ---------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Opens the store and the gateways and starts the recovery worker. Safe to call twice.

        Raises `StoreUnavailable`, `SchemaTooNew` or `ConfigError` where the store cannot be used.
        """
        if self._started:
            return
        await self.store.open()
        if self.store.durability.warning:
            logger.warning(self.store.durability.warning)
        try:
            for gateway in self.registry:
                await gateway.start()
        except BaseException:
            await self.store.close()
            raise
        self._orchestrator.flights.open()
        self._orchestrator.running = True
        self._started = True
        if self.settings.recovery:
            await self._worker.start()

    async def stop(self, grace_s: float = 10.0) -> None:
        """Finishes what is under way for up to `grace_s` seconds, then closes. Safe before start, and twice.

        What did not finish stays recorded, and recovery goes on with it at the next start or in another instance.
        """
        if not self._started:
            return
        self._started = False
        self._orchestrator.running = False
        try:
            await self._worker.stop()
            await self._orchestrator.inbound.stop()
            await self._orchestrator.flights.close(grace_s)
            for gateway in self.registry:
                await gateway.aclose()
        finally:
            await self.store.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def durability(self) -> Durability:
        """Whether a commit survives a power cut, as the open database says."""
        return self.store.durability

    # --- payments -----------------------------------------------------------------------------------------

    async def charge(
        self,
        amount: Money,
        method: PaymentMethod | str,
        *,
        idempotency_key: str,
        gateway: str | Sequence[str] | None = None,
        customer_id: str | None = None,
        description: str | None = None,
        return_url: str | None = None,
        metadata: dict[str, str] | None = None,
        merchant_id: str = DEFAULT_MERCHANT,
        correlation_id: str | None = None,
        timeout_s: float | None = None,
    ) -> Result:
        """Takes a payment in one step: authorised and captured.

        The same idempotency key with the same request gives the same answer and charges once; with another request it
        raises `IdempotencyConflict`. `gateway` pins the gateway, or several in order; else the router decides. Answers
        within about `timeout_s` seconds (default: the settings' `answer_timeout_s`); `Pending` means not known yet,
        never failed. Raises a subclass of `InvalidRequest` for a request that can never work: nothing is written or sent.
        """
        return await self._create(
            CaptureMode.AUTOMATIC,
            amount,
            method,
            idempotency_key,
            gateway,
            customer_id,
            description,
            return_url,
            metadata,
            merchant_id,
            correlation_id,
            timeout_s,
        )

    async def authorize(
        self,
        amount: Money,
        method: PaymentMethod | str,
        *,
        idempotency_key: str,
        gateway: str | Sequence[str] | None = None,
        customer_id: str | None = None,
        description: str | None = None,
        return_url: str | None = None,
        metadata: dict[str, str] | None = None,
        merchant_id: str = DEFAULT_MERCHANT,
        correlation_id: str | None = None,
        timeout_s: float | None = None,
    ) -> Result:
        """Reserves the amount; `capture` takes it later, `void` releases it. Otherwise as `charge`."""
        return await self._create(
            CaptureMode.MANUAL,
            amount,
            method,
            idempotency_key,
            gateway,
            customer_id,
            description,
            return_url,
            metadata,
            merchant_id,
            correlation_id,
            timeout_s,
        )

    async def _create(
        self,
        capture: CaptureMode,
        amount: Money,
        method: PaymentMethod | str,
        idempotency_key: str,
        gateway: str | Sequence[str] | None,
        customer_id: str | None,
        description: str | None,
        return_url: str | None,
        metadata: dict[str, str] | None,
        merchant_id: str,
        correlation_id: str | None,
        timeout_s: float | None,
    ) -> Result:
        request = checked_request(
            amount=amount,
            method=method,
            idempotency_key=idempotency_key,
            capture=capture,
            merchant_id=merchant_id,
            gateways=_names(gateway),
            customer_id=customer_id,
            description=description,
            return_url=return_url,
            metadata=metadata,
            correlation_id=correlation_id,
        )
        return await self._orchestrator.create(request, self._timeout_s(timeout_s))

    async def capture(
        self,
        payment_id: str,
        amount: Money | None = None,
        *,
        idempotency_key: str,
        final: bool = True,
        merchant_id: str = DEFAULT_MERCHANT,
        timeout_s: float | None = None,
    ) -> Result:
        """Takes an authorised amount, or a part of it. With `final` the rest is released; with `final=False` more may follow
        (where the gateway can). Raises `AmountTooLarge`, `InvalidState` or `UnsupportedOperation` before anything is sent.
        """
        return await self._orchestrator.capture(
            payment_id, amount, final, idempotency_key, self._timeout_s(timeout_s), merchant_id
        )

    async def void(
        self,
        payment_id: str,
        *,
        idempotency_key: str | None = None,
        reason: str | None = None,
        merchant_id: str = DEFAULT_MERCHANT,
        timeout_s: float | None = None,
    ) -> Result:
        """Releases what is authorised and not captured, or cancels while the payer acts. Without a key a second void gives
        the first one's answer.
        """
        return await self._orchestrator.void(
            payment_id, reason, idempotency_key, self._timeout_s(timeout_s), merchant_id
        )

    cancel = void

    async def refund(
        self,
        payment_id: str,
        amount: Money | None = None,
        *,
        idempotency_key: str,
        reason: str | None = None,
        merchant_id: str = DEFAULT_MERCHANT,
        timeout_s: float | None = None,
    ) -> Result:
        """Gives captured money back, all that is left or a part. Refunds under way or in doubt count as refunded."""
        return await self._orchestrator.refund(
            payment_id, amount, reason, idempotency_key, self._timeout_s(timeout_s), merchant_id
        )

    async def complete_action(
        self,
        payment_id: str,
        action_data: dict[str, str] | None = None,
        *,
        idempotency_key: str | None = None,
        merchant_id: str = DEFAULT_MERCHANT,
        timeout_s: float | None = None,
    ) -> Result:
        """Goes on after the payer came back from the next action (3DS, redirect)."""
        return await self._orchestrator.complete_action(
            payment_id, action_data or {}, idempotency_key, self._timeout_s(timeout_s), merchant_id
        )

    # --- reading and mending ------------------------------------------------------------------------------

    async def get(self, payment_id: str, *, merchant_id: str = DEFAULT_MERCHANT) -> Payment:
        """The payment as it stands. Raises `PaymentNotFound`."""
        return await self._orchestrator.get(payment_id, merchant_id)

    async def list(
        self,
        *,
        states: Sequence[PaymentState | str] = (),
        before_id: str | None = None,
        limit: int = 50,
        merchant_id: str = DEFAULT_MERCHANT,
    ) -> list[Payment]:
        """Payments, newest first; `before_id` pages on. `limit` is 1 to 1000."""
        if not 1 <= limit <= 1000:
            raise InvalidRequest(f"limit is 1 to 1000, not {limit}.")
        try:
            wanted = tuple(PaymentState(state) for state in states)
        except ValueError:
            known = ", ".join(PaymentState)
            raise InvalidRequest(f"unknown state in {list(states)}.", hint=f"States: {known}.") from None
        before = check_payment_id(before_id) if before_id else None
        return await self.store.list_payments(merchant_id, states=wanted, before_id=before, limit=limit)

    async def sync(self, payment_id: str, *, merchant_id: str = DEFAULT_MERCHANT) -> Result:
        """Asks the gateways now what became of the payment's open operations, and records what they say."""
        return await self._orchestrator.sync(payment_id, merchant_id)

    async def close_review(
        self,
        payment_id: str,
        *,
        reason: str,
        reversed_by_hand: bool = False,
        no_effect: bool = False,
        took_effect: str | None = None,
        operation_id: str | None = None,
        merchant_id: str = DEFAULT_MERCHANT,
    ) -> Payment:
        """Ends the review of a payment that a person was asked about; `reason` says who looked and what they found.

        The payment as it then stands; unchanged where no review is open. Asks no gateway and moves no money. At most one of
        these goes with it: `reversed_by_hand` records that a success which nobody wanted was given back at the gateway, in
        full; `no_effect`, that the operation which the review is about was not executed there; `took_effect`, that it went
        through, in full, under this reference of the gateway's. The last two are taken for evidence, so they need a look
        at the gateway's dashboard: a wrong `no_effect` lets a shop charge again. `operation_id` is the operation that was
        looked for; where the review is about another one by now, nothing is recorded.

        Raises `PaymentNotFound`; `InvalidRequest` for a reference that is another's; `OperationInDoubt` while it is not
        known what became of it (evidence closes that review by itself, and so do these two), or somebody is at work on it;
        `InvalidState` where an unwanted success was not given back, or no review is about an operation in doubt.
        """
        word = Word(reversed_by_hand, no_effect, took_effect, operation_id)
        return await self._orchestrator.close_review(payment_id, reason, word, merchant_id)

    async def recover(self) -> RecoveryReport:
        """One pass of the recovery worker over all operations that are due now."""
        if not self._started:
            raise NotRunning("AegisPay is not running.")
        return await self._worker.run_once()

    async def take_webhook(self, gateway: str, headers: Mapping[str, str], body: bytes) -> int:
        """Takes one inbound webhook of this gateway: verified, kept durably, then worked on apart. Returns how many of its
        notices were new. `body` is the raw body, as it was signed.

        Raises `WebhookRejected` (answer 400), `UnknownGateway` (404), and `StoreError` (answer 503, so that it comes again).
        """
        if not self._started:
            raise NotRunning("AegisPay is not running.")
        return await self._orchestrator.inbound.take(gateway, headers, body)

    async def notices(
        self, *, state: NoticeState | str = NoticeState.UNMATCHED, limit: int = 50
    ) -> Sequence[KeptNotice]:
        """What PSPs told us, newest first: by default what no payment of ours was found for. `limit` is 1 to 1000.

        The notices of all merchants: a PSP's account does not know ours. `open` are those that are still tried.
        """
        return await kept_notices(self.store, state, limit)

    async def health(self, timeout_s: float = 5.0) -> dict[str, Health]:
        """Each gateway's answer to a cheap call that moves no money."""
        return {gateway.name: await gateway.health(timeout_s) for gateway in self.registry}

    def _timeout_s(self, timeout_s: float | None) -> float:
        if timeout_s is None:
            return self.settings.answer_timeout_s
        if not timeout_s > 0:
            raise InvalidRequest(f"timeout_s is greater than 0, not {timeout_s}.")
        return timeout_s


def _registry(gateways: Gateways) -> GatewayRegistry:
    if isinstance(gateways, GatewayRegistry):
        found = gateways
    else:
        found = GatewayRegistry()
        pairs = gateways.items() if isinstance(gateways, Mapping) else ((one.name, one) for one in gateways)
        for name, gateway in pairs:
            found.register(name, gateway)
    if not len(found):
        raise ConfigError("no gateway is registered.", hint="Give AegisPay at least one gateway.")
    return found


def _names(gateway: str | Sequence[str] | None) -> tuple[str, ...]:
    if gateway is None:
        return ()
    return (str(gateway),) if isinstance(gateway, str) else tuple(str(name) for name in gateway)
