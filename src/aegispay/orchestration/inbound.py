"""Inbound webhooks: verified, kept, acknowledged, and only then worked on; in any order, and as often as they come.

A notice is evidence like any other: it goes through `domain.decide` and the fences. One that cannot be applied yet is kept
and tried again, for it may be faster than our own commit, or tell of what waits for something else. It never ends unseen.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from hashlib import blake2b

import msgspec
from msgspec.structs import replace

from aegispay.domain import commands as cmd
from aegispay.domain.errors import AegisPayError, StaleFence, StoreError
from aegispay.domain.events import OperationKind, ReviewRequested
from aegispay.domain.ids import check_payment_id
from aegispay.domain.outcomes import Approved, Declined, Evidence, NotSent
from aegispay.domain.payment import FIRST_KINDS, Operation, OperationStatus, Payment
from aegispay.domain.record import undone_reason
from aegispay.gateways.gateway import NotFound
from aegispay.gateways.webhooks import WEBHOOK_BODY_BYTES_MAX, GatewayEvent, WebhookRejected
from aegispay.orchestration.doubt import is_at_work
from aegispay.orchestration.driver import Driver
from aegispay.orchestration.engine import Engine
from aegispay.orchestration.known import Known
from aegispay.orchestration.outside import NotYet, Outside
from aegispay.orchestration.rows import unleased
from aegispay.resilience.retry import RetryPolicy
from aegispay.storage.notices import NOTICE_ID_LENGTH_MAX, Notice, NoticeState

logger = logging.getLogger("aegispay.inbound")

_LEASE_S = 60.0
_AT_ONCE = 32
_RETRY = RetryPolicy(attempts_max=40, initial_delay_s=2.0, delay_max_s=3600.0)
"""40 tries are about a day; after that a notice is overdue, and a person's as well."""
_OVERDUE_INTERVAL_S = 3600.0
KEPT_S = 60 * 86_400.0
"""How long applied notices are remembered, for no PSP repeats one after so long; and how long overdue ones are tried."""
_UNDONE_CODES = frozenset({"capture_failed", "refund_failed", "refund_canceled"})
"""How captures and refunds end of which a PSP may have said before that they had succeeded."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(GatewayEvent).decode


class Inbound:
    """Takes webhooks for one running instance, and works on what was taken."""

    def __init__(self, engine: Engine, driver: Driver):
        self._engine = engine
        self._driver = driver
        self._outside = Outside(engine)
        self._work: asyncio.Task[None] | None = None
        self._again = False

    async def take(self, gateway_name: str, headers: Mapping[str, str], body: bytes) -> int:
        """Verifies and keeps one webhook; returns how many of its notices were new. Work on them begins at once, apart.

        Raises `UnknownGateway`, `WebhookRejected`, and `StoreError` where it could not be kept: then the PSP must be told
        so, that it sends it again.
        """
        gateway = self._engine.registry.get(gateway_name)
        if len(body) > WEBHOOK_BODY_BYTES_MAX:
            raise WebhookRejected("too_large")
        now_us = self._engine.ports.clock.now_us()
        await gateway.prepare_webhook(headers)
        found = gateway.parse_webhook(headers, body, now_us)
        notices = [
            Notice(
                gateway=gateway_name,
                notice_id=_notice_id(event.id),
                body=_encode(event).decode(),
                received_at_us=now_us,
                due_at_us=now_us,
            )
            for event in found
        ]
        new = await self._engine.store.keep_notices(notices) if notices else 0
        if new:
            self._begin()
        return new

    def _begin(self) -> None:
        if self._work is not None and not self._work.done():
            self._again = True
            return
        self._work = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while True:
            self._again = False
            try:
                while await self.apply_due():
                    pass
            except StoreError as error:
                logger.warning("inbound notices wait: %s", error.code)
                return
            if not self._again:
                return

    async def stop(self) -> None:
        """What is under way is stopped; it is worked on again when its lease ends. Safe before start, and twice."""
        work, self._work = self._work, None
        if work is not None and not work.done():
            work.cancel()
            await asyncio.wait((work,))

    async def apply_due(self) -> int:
        """Works on the notices that are due; returns how many there were. Raises `StoreError`."""
        engine = self._engine
        now_us = engine.ports.clock.now_us()
        leased = await engine.store.lease_notices(now_us, now_us + int(_LEASE_S * 1_000_000), _AT_ONCE)
        for notice in leased:
            await engine.store.settle_notice(await self._handled(notice))
        return len(leased)

    async def prune(self) -> int:
        """Forgets applied notices that no PSP repeats any more."""
        before_us = self._engine.ports.clock.now_us() - int(KEPT_S * 1_000_000)
        return await self._engine.store.prune_notices(before_us, 1000)

    async def _handled(self, notice: Notice) -> Notice:
        """The notice with its new state: applied, or to be tried again."""
        try:
            await self._apply(notice)
            return replace(notice, state=NoticeState.APPLIED)
        except NotYet as reason:
            logger.debug("notice %s of %s waits: %s", notice.notice_id, notice.gateway, reason)
        except AegisPayError as error:
            logger.warning("notice %s of %s: %s", notice.notice_id, notice.gateway, error.code)
        except Exception as error:  # noqa: BLE001 - one notice's trouble must not stop the others
            logger.error("notice %s of %s: %s", notice.notice_id, notice.gateway, type(error).__name__)
        if notice.tries >= _RETRY.attempts_max:
            return await self._overdue(notice)
        return self._again_after(notice, _RETRY.delay_s(notice.tries, self._engine.ports.random))

    def _again_after(self, notice: Notice, delay_s: float) -> Notice:
        return replace(notice, due_at_us=self._engine.ports.clock.now_us() + int(delay_s * 1_000_000))

    async def _overdue(self, notice: Notice) -> Notice:
        """What could not be applied in about a day. Where its payment is known a person is asked there, and it is tried on,
        for it may become applicable; where it is not, or after `KEPT_S`, it is kept to be listed.
        """
        later = self._again_after(notice, _OVERDUE_INTERVAL_S)
        try:
            event = _decode(notice.body)
            payment = await self._payment_told_of(event, notice.gateway)
            waited_s = (self._engine.ports.clock.now_us() - notice.received_at_us) / 1_000_000
            if payment is not None and waited_s < KEPT_S:
                operation = _operation_of(payment, event, notice.gateway)
                if payment.unfinished:
                    pass  # It ends, or a person is asked about it; the notice goes after that.
                elif not _changes_nothing(event, operation):
                    await self._ask_about(payment, event)
                else:
                    return replace(notice, state=NoticeState.APPLIED)
                return later
        except (NotYet, AegisPayError) as error:
            what = error.code if isinstance(error, AegisPayError) else error
            logger.warning("notice %s of %s is overdue: %s", notice.notice_id, notice.gateway, what)
            return later
        except Exception as error:  # noqa: BLE001 - a notice that cannot even be read is a person's
            logger.error("notice %s of %s: %s", notice.notice_id, notice.gateway, type(error).__name__)
        logger.error(
            "notice %s of %s is left for a person: aegispay notices", notice.notice_id, notice.gateway
        )
        return replace(notice, state=NoticeState.UNMATCHED)

    async def _ask_about(self, payment: Payment, event: GatewayEvent) -> None:
        """Asks a person, once. While they look at something else, it is asked when that is over."""
        about = event.reference or event.payment_reference or event.id
        reason = f"unapplied_notice: {event.type[:100]} {about[:100]}"
        for known in await self._engine.store.load_events(payment.id):
            if isinstance(known.data, ReviewRequested) and known.data.reason == reason:
                return
        await self._outside.decided(payment, cmd.RequestReview(reason=reason))

    # --- one notice -----------------------------------------------------------------------------------------

    async def _apply(self, notice: Notice) -> None:
        event = _decode(notice.body)
        if event.outcome is None and event.dispute is None and not event.must_look_up:
            return
        payment = await self._payment_told_of(event, notice.gateway)
        if payment is None:
            raise NotYet("no payment of ours")
        if event.dispute is not None:
            await self._outside.dispute(payment, event, event.dispute, notice.gateway)
            return
        operation = _operation_of(payment, event, notice.gateway)
        approved = operation is not None and operation.status is OperationStatus.APPROVED
        if operation is not None and approved and _took_what_was_authorised(operation, event):
            if payment.captured_minor and event.reference == operation.reference:
                return  # It names the authorisation alone: what is captured may be just this.
            event = replace(event, kind=OperationKind.CAPTURE, operation_id=None, must_look_up=True)
            operation = _operation_of(payment, event, notice.gateway)
        if operation is None:
            await self._outside.operation(payment, event, notice.gateway)
            return
        await self._record(payment, operation, event)
        if operation.unfinished and _took_what_was_authorised(operation, event):
            raise NotYet("that it was authorised is recorded now, that it was captured comes next")

    async def _payment_told_of(self, event: GatewayEvent, gateway: str) -> Payment | None:
        """The payment that the news is about, if this gateway has to do with it."""
        payment = await self._payment_of(event, gateway)
        there = payment is not None and any(op.gateway == gateway for op in payment.operations)
        return payment if there else None

    async def _payment_of(self, event: GatewayEvent, gateway: str) -> Payment | None:
        """The payment that the news is about: by our ids where it carries one, else by what the PSP calls it."""
        engine = self._engine
        if event.payment_id:
            try:
                if payment := await engine.store.load(check_payment_id(event.payment_id)):
                    return payment
            except AegisPayError as error:
                if isinstance(error, StoreError):
                    raise
        if event.operation_id and (found := await engine.store.find_by_operation(event.operation_id)):
            return await engine.store.load(found)
        for reference in (event.reference, event.payment_reference):
            if reference and (payment := await self._outside.payment_at(gateway, reference)):
                return payment
        return None

    async def _record(self, payment: Payment, operation: Operation, event: GatewayEvent) -> None:
        engine = self._engine
        outcome = event.outcome
        asked = outcome is None and event.must_look_up
        if not asked and not isinstance(outcome, Approved | Declined | NotSent):
            return  # "Processing" and "the payer must act" tell nothing that our own call does not.
        if isinstance(outcome, Approved) and await self._is_old_news(payment, operation, event):
            return
        row = await engine.store.find_in_flight(operation.id)
        now_us = engine.ports.clock.steady_us()
        at_work = row is not None and is_at_work(row, now_us, engine.settings.lease_s)
        if at_work and not isinstance(outcome, Approved):
            # Whoever made the call is about to hear the same, and may go on to the next gateway.
            raise NotYet("a caller is being served")
        known = Known(outcome, Evidence.WEBHOOK) if outcome is not None else None
        contradicts = operation.status is OperationStatus.APPROVED
        if event.must_look_up or (contradicts and not event.undoes):
            # Not signed, or late and out of order: the PSP's present word counts, not the notice's.
            looked = await self._outside.look(payment, operation)
            if isinstance(looked, NotFound) and asked and not operation.unfinished:
                return  # It ended without effect, and the gateway knows of none: the hint was to nothing.
            if not isinstance(looked, Known):
                raise NotYet("the gateway does not say")
            if contradicts and not isinstance(looked.outcome, Declined):
                return
            known = looked
        if known is None:
            return
        if contradicts and event.undoes and isinstance(known.outcome, Declined):
            await self._undo(payment, operation, known.outcome, known.evidence)
            return
        try:
            await self._driver.found(payment, row or unleased(payment, operation), known)
        except StaleFence:
            raise NotYet("another worker has it") from None

    async def _is_old_news(self, payment: Payment, operation: Operation, event: GatewayEvent) -> bool:
        """Whether an approval adds nothing to what is recorded, or is overtaken by a failure that followed it."""
        failed = operation.status is OperationStatus.DECLINED and (
            operation.undone or operation.code in _UNDONE_CODES
        )
        if event.again:
            if not failed:
                raise NotYet("the failure that it mends is not known yet")
            return False
        if operation.status is OperationStatus.APPROVED:
            return True
        if failed and not operation.undone:
            # The failure was faster than the approval that it follows. Told in order, a person would have been asked.
            reason = undone_reason(operation.code or "")
            await self._outside.decided(payment, cmd.RequestReview(reason=reason, operation_id=operation.id))
        return failed

    async def _undo(
        self, payment: Payment, operation: Operation, outcome: Declined, evidence: Evidence
    ) -> None:
        """Takes what failed after all out of the books again. An authorisation that is open again lapses one day."""
        engine = self._engine
        winner = payment.winner
        lapses = winner is not None and await engine.store.find_in_flight(winner.id) is None
        command = cmd.RecordUndone(operation_id=operation.id, code=outcome.code, evidence=evidence)
        await self._outside.decided(payment, command, engine.rows.reopened if lapses else None)


def _notice_id(text: str) -> str:
    """The PSP's id, or its hash where it is too long to keep: cut short, two could look like one."""
    return text if len(text) <= NOTICE_ID_LENGTH_MAX else blake2b(text.encode(), digest_size=32).hexdigest()


def _operation_of(payment: Payment, event: GatewayEvent, gateway: str) -> Operation | None:
    """The operation at this gateway that the news is about: by our id, by the PSP's, or the attempt at that PSP payment."""
    there = [op for op in reversed(payment.operations) if op.gateway == gateway]
    for operation in there:
        # News of a capture or refund may carry the reference of the authorisation that it belongs to.
        if operation.id == event.operation_id and _same_kind(operation, event):
            return operation
    if event.reference:
        for operation in there:
            if operation.reference == event.reference and _same_kind(operation, event):
                return operation
    if event.kind in FIRST_KINDS and event.payment_reference:
        for operation in there:
            if operation.attempt and operation.reference == event.payment_reference:
                return operation
    return None


def _took_what_was_authorised(operation: Operation, event: GatewayEvent) -> bool:
    """Whether a notice that says "paid" of what we only authorised tells of a capture: it may be somebody's at the PSP."""
    charged = event.kind is OperationKind.CHARGE and isinstance(event.outcome, Approved)
    return charged and operation.kind is OperationKind.AUTHORIZE


def _changes_nothing(event: GatewayEvent, operation: Operation | None) -> bool:
    """Whether our books are right without it, once nothing is under way: it tells of something that we did not ask for and
    that had no effect, or asks for a look at what is approved as far as we know.
    """
    if event.dispute is not None or event.undoes:
        return False
    if operation is None:
        return isinstance(event.outcome, Declined | NotSent)
    return event.outcome is None and operation.status is OperationStatus.APPROVED


def _same_kind(operation: Operation, event: GatewayEvent) -> bool:
    kind = event.kind
    if kind is None or operation.kind is kind:
        return True
    return kind in FIRST_KINDS and (operation.kind in FIRST_KINDS or operation.kind is OperationKind.CONFIRM)
