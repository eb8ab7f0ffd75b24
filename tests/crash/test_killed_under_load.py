"""Real processes, killed with SIGKILL at seeded moments under load and faults: in the end both books agree."""

from __future__ import annotations

import asyncio
import os
import random
import sys

import pytest
from tests.crash.lives import Lives, all_payments

from aegispay.domain.evolve import fold
from aegispay.domain.payment import encode_payment
from aegispay.sandbox.audit import audit
from aegispay.sandbox.faults import FaultPlan
from aegispay.sandbox.process import SandboxProcess
from aegispay.storage.factory import open_store
from tests.crash.worker import Order

SEED_VARIABLE = "AEGISPAY_TEST_SEED"
"""Repeats the moments of the kills, the shoppers and the faults of a run; the machine's own timing it cannot repeat."""
KILLS = 10
ALIVE_S = (0.05, 0.7)
"""How long a process lives once it takes payments."""
LATE_S = 0.6


@pytest.mark.slow
async def test_ten_kills_under_load_lose_nothing_and_charge_nobody_twice(
    store_url: str, bank: SandboxProcess
) -> None:
    seed = int(os.environ.get(SEED_VARIABLE) or random.SystemRandom().randrange(2**31))
    sys.stdout.write(f"{SEED_VARIABLE}={seed}\n")
    source = random.Random(seed)
    order = Order(
        store_url=store_url,
        stripe_url=bank.stripe_url,
        plainpay_url=bank.plainpay_url,
        sandbox=bank.settings,
        seed=seed,
        shoppers=[],
        next_shopper=0,
    )
    lives = Lives(order)
    store = await open_store(store_url)
    try:
        bank.set_faults(FaultPlan.mixed(seed, 0.1, slow_s=0.03, late_s=LATE_S))
        caught = 0
        for _ in range(KILLS):
            alive_s = source.uniform(*ALIVE_S)
            assert await lives.live(lives.next_order(source), alive_s) == -9
            caught += await store.count_in_flight()
        assert caught >= KILLS, "the kills met nobody at work"
        await asyncio.to_thread(bank.clear_faults)
        await asyncio.to_thread(bank.settle)
        assert await lives.live(lives.next_order(source, last=True), None) == 0
        assert lives.drained
        assert lives.troubles == []
        assert lives.done == lives.begun

        payments = await all_payments(store)
        report = audit(bank.bank, payments)
        assert report.ok, (seed, report)
        assert report.payments == len(lives.begun), "a shopper has two payments, or none"
        assert report.charged_twice == report.charged_unrecorded == report.recorded_uncharged == 0
        assert report.in_doubt_left == 0
        assert all(row.equal for row in report.totals.values())
        for payment in payments:
            assert encode_payment(fold(await store.load_events(payment.id))) == encode_payment(payment)
    finally:
        await store.close()
