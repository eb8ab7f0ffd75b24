"""A real process, killed exactly when the bank has charged and nothing of it is recorded; the next one finds out."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from aegispay.demo.child import Child, Order
from aegispay.demo.doubt_scenarios import CHARGES
from aegispay.demo.stage import until
from aegispay.domain.payment import OperationStatus
from aegispay.domain.states import PaymentState
from aegispay.sandbox.adapters import FIVE
from aegispay.sandbox.audit import audit
from aegispay.sandbox.faults import FaultKind
from aegispay.sandbox.process import SandboxProcess
from aegispay.storage.factory import open_store
from tests.crash.conftest import LOOKUP_QUIET_S
from tests.crash.verdict import all_payments


@pytest.mark.parametrize("face", ["stripe", "braintree"])
async def test_killed_between_charge_and_record_is_one_charge_and_recorded(
    store_url: str, bank: SandboxProcess, tmp_path: Path, face: str
) -> None:
    """Stripe's evidence is a resend under the same key, Braintree's a look-up by our reference."""
    order = Order(
        store_url=store_url,
        urls={name: bank.url(name) for name in FIVE},
        lookup_quiet_s=LOOKUP_QUIET_S,
        idempotency_key="order-1",
        gateway=face,
        lease_margin_s=0.1,
        call_timeout_s=1.0,
    )
    await asyncio.to_thread(bank.script, face, [FaultKind.NO_REPLY], path=CHARGES[face])
    async with Child(order, tmp_path / "child.log") as first:
        payment_id = await first.payment_id()

        async def charged() -> bool:
            return any(one.captured_minor for one in bank.bank.charges())

        assert await until(charged, 20.0)
        await first.kill()

    store = await open_store(store_url)
    try:
        (between,) = await all_payments(store)
        assert (between.id, between.state) == (payment_id, PaymentState.PROCESSING)
        assert [operation.status for operation in between.operations] == [OperationStatus.STARTED]
        assert audit(bank.bank, [between]).charged_unrecorded == 1, "the moment of truth was missed"

        async with Child(order, tmp_path / "child.log") as second:
            answer = await second.answer()
        assert (answer["status"], answer["payment_id"]) == ("success", payment_id)

        payments = await all_payments(store)
        report = audit(bank.bank, payments)
        assert report.ok, report
        assert [payment.state for payment in payments] == [PaymentState.SUCCEEDED]
        assert [one.captured_minor for one in bank.bank.charges()] == [order.amount_minor]
    finally:
        await store.close()
