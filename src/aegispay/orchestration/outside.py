"""What a PSP tells of that was not done through us: refunds, voids and captures at its dashboard, and disputes.

The news is applied to the attempt that it is about, which need not be the one that was approved.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from aegispay.domain import commands as cmd
from aegispay.domain.decide import gateway_key
from aegispay.domain.errors import InvalidState, OperationInDoubt, VersionConflict
from aegispay.domain.events import OperationKind
from aegispay.domain.external import is_held
from aegispay.domain.outcomes import Approved, Declined, Evidence, NotSent
from aegispay.domain.payment import Operation, OperationStatus, Payment
from aegispay.gateways.gateway import Found, NotFound
from aegispay.gateways.webhooks import DisputeNews, GatewayEvent
from aegispay.orchestration.engine import Engine
from aegispay.orchestration.known import Known, is_evidence
from aegispay.storage.store import InFlight

_DECIDE_TRIES_MAX = 50
_TOOK_MONEY_TOO = frozenset({OperationStatus.UNWANTED, OperationStatus.REVERSED})


class NotYet(Exception):
    """The notice cannot be applied now; it is tried again."""


class Outside:
    """Takes into our books what was done without us."""

    def __init__(self, engine: Engine):
        self._engine = engine

    async def operation(self, payment: Payment, event: GatewayEvent, gateway: str) -> None:
        """News of an operation that we did not ask for."""
        if isinstance(event.outcome, Declined | NotSent) or event.outcome is None:
            raise NotYet("no such operation")
        if event.again:
            # Booked now it would be undone by the failure that it mends, which is on its way.
            raise NotYet("what failed and was made again is not known yet")
        if not isinstance(event.outcome, Approved):
            return  # It is under way there: its end will be told too.
        attempt = attempt_of(payment, event, gateway)
        reference = event.reference or event.outcome.reference
        kind = event.kind
        if kind is OperationKind.VOID:
            await self._void(payment, attempt, reference, event)
            return
        if kind is not OperationKind.REFUND and kind is not OperationKind.CAPTURE:
            raise NotYet("no such operation")
        known = await self.payment_at(gateway, reference)
        if known is not None and known.id != payment.id:
            raise NotYet("it is another payment's")
        if kind is OperationKind.REFUND and not _may_be_refunded(payment, attempt):
            # Where a PSP has no void it calls it a refund when a hold lapses; the look-up when it is due records that.
            at = self._engine.registry.find(gateway)
            lapsed = event.outcome.amount_minor == payment.released_minor
            if payment.ended and lapsed and at is not None and not at.capabilities.void:
                return
            raise NotYet("nothing was captured")
        command = self._command(payment, event, attempt, reference)
        if event.currency not in (None, payment.currency):
            command = replace(command, amount_minor=0)  # It fits nowhere: a person must look.
        elif event.forgeable or event.must_look_up:
            amount_minor = await self._confirmed_minor(payment, attempt, kind, command)
            command = replace(command, amount_minor=amount_minor, evidence=Evidence.LOOKUP)
        await self.decided(payment, command)

    def _command(
        self, payment: Payment, event: GatewayEvent, attempt: Operation | None, reference: str
    ) -> cmd.RecordExternalRefund | cmd.RecordExternalCapture:
        """What the news asks us to record, word for word."""
        amount_minor = event.outcome.amount_minor if isinstance(event.outcome, Approved) else 0
        operation_id = self._engine.journal.new_operation_id()
        attempt_id = attempt.id if attempt is not None else None
        gateway = self._engine.registry.find(attempt.gateway) if attempt is not None else None
        once = gateway is not None and not gateway.capabilities.multi_capture
        if event.kind is OperationKind.REFUND:
            return cmd.RecordExternalRefund(
                operation_id=operation_id,
                attempt_id=attempt_id,
                amount_minor=amount_minor,
                reference=reference,
                capture_id=_capture_named(payment, event),
                once=once,
            )
        return cmd.RecordExternalCapture(
            operation_id=operation_id,
            attempt_id=attempt_id,
            amount_minor=amount_minor,
            reference=reference,
            final=event.final or once,
            once=once,
        )

    async def _confirmed_minor(
        self,
        payment: Payment,
        attempt: Operation | None,
        kind: OperationKind,
        command: cmd.RecordExternalRefund | cmd.RecordExternalCapture,
    ) -> int:
        """What the gateway itself says of a refund or capture that somebody else made there."""
        if attempt is None:
            raise NotYet("nobody knows which attempt it is about")
        asked = Operation(
            id=command.operation_id,
            kind=kind,
            gateway=attempt.gateway,
            amount_minor=command.amount_minor,
            gateway_key=gateway_key(command.operation_id),
            status=OperationStatus.PENDING,
            started_at_us=attempt.started_at_us,
            parent_id=attempt.id,
            reference=command.reference,
            final=isinstance(command, cmd.RecordExternalCapture) and command.final,
            capture_id=command.capture_id if isinstance(command, cmd.RecordExternalRefund) else None,
        )
        looked = await self.look(payment, asked)
        if not isinstance(looked, Known) or not isinstance(looked.outcome, Approved):
            raise NotYet(f"the gateway does not confirm the {kind}")
        return looked.outcome.amount_minor

    async def _void(
        self, payment: Payment, attempt: Operation | None, reference: str, event: GatewayEvent
    ) -> None:
        """Believed once the PSP's present word confirms it; where it has none to give, a person is asked.

        Of an attempt that nobody wanted, whose release cancels nothing, a signed notice is enough.
        """
        engine = self._engine
        unwanted = attempt is not None and attempt.status is OperationStatus.UNWANTED
        decisive = attempt is payment.winner and is_held(payment)
        doubted = decisive or (unwanted and (event.forgeable or event.must_look_up))
        if attempt is not None and doubted and not payment.unfinished:
            gateway = self._engine.registry.find(attempt.gateway)
            looked = await self.look(payment, attempt)
            if looked is None and gateway is not None and not gateway.capabilities.lookup_by_reference:
                reason = f"external_void_unconfirmed: {reference}"
                if payment.review not in (None, reason) and not payment.review_until_evidence:
                    raise NotYet("a person looks at something else")
                await self.decided(payment, cmd.RequestReview(reason=reason, operation_id=attempt.id))
                return
            if not isinstance(looked, Known) or not isinstance(looked.outcome, Declined):
                raise NotYet("the gateway does not confirm the void")
        command = cmd.RecordExternalVoid(
            operation_id=engine.journal.new_operation_id(),
            attempt_id=attempt.id if attempt is not None else None,
            reference=reference,
        )
        await self.decided(payment, command)

    async def dispute(self, payment: Payment, event: GatewayEvent, news: DisputeNews, gateway: str) -> None:
        """A dispute opened or ended."""
        attempt = attempt_of(payment, event, gateway)
        attempt_id = attempt.id if attempt is not None else None
        command: cmd.OpenDispute | cmd.CloseDispute
        if news.opened:
            command = cmd.OpenDispute(
                attempt_id=attempt_id,
                reference=news.reference,
                amount_minor=news.amount_minor,
                reason=news.reason,
            )
        else:
            # A bank may decide in the payer's currency; that amount, and a forgeable one, is a person's to book.
            ours = event.currency in (None, payment.currency) and not event.forgeable
            command = cmd.CloseDispute(
                operation_id=self._engine.journal.new_operation_id(),
                attempt_id=attempt_id,
                reference=news.reference,
                won=news.won,
                amount_minor=news.amount_minor if ours else 0,
            )
        await self.decided(payment, command)

    # --- what all of it needs -------------------------------------------------------------------------------

    async def payment_at(self, gateway: str, reference: str) -> Payment | None:
        """The payment that this gateway knows by the reference, unless more than one could be meant."""
        store = self._engine.store
        loaded = [await store.load(one) for one in await store.find_by_reference(reference)]
        there = [one for one in loaded if one and any(op.gateway == gateway for op in one.operations)]
        return there[0] if len(there) == 1 else None

    async def look(self, payment: Payment, operation: Operation) -> Known | NotFound | None:
        """The gateway's present word; None where it does not say."""
        found = await self._engine.calls.ask(payment, operation)
        if isinstance(found, Found) and is_evidence(found.outcome):
            return Known(found.outcome, Evidence.LOOKUP)
        return found if isinstance(found, NotFound) else None

    async def decided(
        self,
        payment: Payment,
        command: cmd.Command,
        row_of: Callable[[Payment], InFlight | None] | None = None,
    ) -> None:
        """Decides on the newest version of the payment, and commits. `row_of` may put an operation in flight with it."""
        engine = self._engine
        for _ in range(_DECIDE_TRIES_MAX):
            draft = engine.journal.draft(payment)
            try:
                if not draft.apply(command):
                    return
                row = row_of(draft.current) if row_of is not None else None
                await engine.journal.commit(draft, opens=() if row is None else (row,))
                return
            except VersionConflict:
                payment = await engine.journal.load(payment.id)
            except (OperationInDoubt, InvalidState) as error:
                raise NotYet(error.code) from None


def attempt_of(payment: Payment, event: GatewayEvent, gateway: str) -> Operation | None:
    """The attempt at this gateway that the news is about: the one that its names lead to, else the only one there is."""
    there = [op for op in payment.operations if op.gateway == gateway]
    names = {event.operation_id, event.reference, event.payment_reference} - {None}
    named = {op.id if op.attempt else op.parent_id for op in there if op.id in names or op.reference in names}
    attempts = [op for op in there if op.attempt]
    found = [op for op in attempts if op.id in named] or attempts
    return found[0] if len(found) == 1 else None


def _capture_named(payment: Payment, event: GatewayEvent) -> str | None:
    """The capture that a refund gave back, where the news names it."""
    for operation in payment.operations:
        if operation.kind is OperationKind.CAPTURE and operation.reference == event.payment_reference:
            return operation.id
    return None


def _may_be_refunded(payment: Payment, attempt: Operation | None) -> bool:
    """Whether there is, or may be, anything that a refund could give back."""
    if payment.captured_minor or payment.reserved(OperationKind.CAPTURE):
        return True
    return attempt is not None and attempt.status in _TOOK_MONEY_TOO
