"""Records what a settlement report proves: through the domain and under the fences, like any other evidence."""

from __future__ import annotations

from aegispay.app import AegisPay
from aegispay.domain import commands as cmd
from aegispay.domain.errors import InvalidState, StaleFence, VersionConflict
from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import Approved, Evidence
from aegispay.domain.payment import Operation, OperationStatus, Payment
from aegispay.orchestration.known import Known
from aegispay.orchestration.rows import unleased
from aegispay.reconciliation.report import RECORDED, Finding, RecordDone, RecordRefund

_DECIDE_TRIES_MAX = 50


class Recorder:
    """Records findings of one gateway's report with a running `AegisPay`."""

    def __init__(self, pay: AegisPay, gateway: str):
        self._engine = pay._orchestrator.engine
        self._driver = pay._orchestrator.driver
        self._gateway = gateway

    async def record(self, finding: Finding) -> str:
        """`recorded`, or in a few words why not. Safe to repeat. Raises `StoreError`."""
        action = finding.action
        try:
            if isinstance(action, RecordDone):
                return await self._done(finding.payment_id, action)
            if isinstance(action, RecordRefund):
                return await self._refund(finding.payment_id, action)
        except StaleFence:
            return "another worker has it: run this again later"
        except InvalidState as error:
            return f"refused: {error.code}"
        return "nothing to record"

    async def _done(self, payment_id: str, action: RecordDone) -> str:
        engine = self._engine
        payment = await engine.journal.load(payment_id)
        operation = payment.operation(action.operation_id)
        if operation is None or operation.gateway != self._gateway:
            return "no such operation at this gateway"
        if operation.status is OperationStatus.APPROVED:
            return RECORDED
        operation = _concluding(payment, operation)
        row = await engine.store.find_in_flight(operation.id)
        known = Known(
            Approved(reference=action.reference, amount_minor=action.amount_minor), Evidence.SETTLEMENT
        )
        await self._driver.found(payment, row or unleased(payment, operation), known)
        payment = await engine.journal.load(payment_id)
        if payment.review is not None:
            return f"a person must look: {payment.review}"
        after = payment.operation(action.operation_id)
        status = after.status if after else None
        if status in (OperationStatus.APPROVED, OperationStatus.REVERSED):
            return RECORDED
        if status is OperationStatus.UNWANTED:
            return "found charged and being reversed"
        return f"not recorded: {status}"

    async def _refund(self, payment_id: str, action: RecordRefund) -> str:
        engine = self._engine
        payment = await engine.journal.load(payment_id)
        for _ in range(_DECIDE_TRIES_MAX):
            draft = engine.journal.draft(payment)
            winner = payment.winner
            command = cmd.RecordExternalRefund(
                operation_id=engine.journal.new_operation_id(),
                attempt_id=winner.id if winner is not None and winner.gateway == self._gateway else None,
                amount_minor=action.amount_minor,
                reference=action.reference,
                evidence=Evidence.SETTLEMENT,
            )
            try:
                if draft.apply(command):
                    payment = await engine.journal.commit(draft)
            except VersionConflict:
                payment = await engine.journal.load(payment_id)
                continue
            if any(_is_refund(one, action.reference) for one in payment.operations):
                return RECORDED
            return f"a person must look: {payment.review}"
        raise VersionConflict(payment_id=payment_id)


def _concluding(payment: Payment, operation: Operation) -> Operation:
    """The operation whose lease covers the attempt: its confirmation, while one goes on with it."""
    if operation.status is OperationStatus.CONFIRMING:
        for one in payment.operations:
            if one.unfinished and one.kind is OperationKind.CONFIRM and one.parent_id == operation.id:
                return one
    return operation


def _is_refund(operation: Operation, reference: str) -> bool:
    return operation.kind is OperationKind.REFUND and operation.reference == reference
