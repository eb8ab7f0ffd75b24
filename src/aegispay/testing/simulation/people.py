"""People beside our clients: somebody at a PSP's own pages, and support, who asks us to look at a payment now."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from aegispay.app import AegisPay
from aegispay.domain.events import OperationKind
from aegispay.domain.money import Money
from aegispay.domain.payment import Operation, OperationStatus
from aegispay.domain.word import TELLABLE
from aegispay.orchestration.results import Result
from aegispay.sandbox.bank import Bank, BankCharge, MovementKind
from aegispay.testing.simulation.clients import Ask, Desk
from aegispay.testing.simulation.dashboards import Act
from aegispay.testing.simulation.faults import Faults
from aegispay.testing.simulation.loop import SimulatedLoop
from aegispay.testing.simulation.oracle import Oracle
from aegispay.testing.simulation.psps import PspSide
from aegispay.testing.simulation.trace import Trace

_ACTS_MAX = 12
_MOVES = {
    OperationKind.AUTHORIZE: MovementKind.AUTHORIZATION,
    OperationKind.CHARGE: MovementKind.AUTHORIZATION,
    OperationKind.CONFIRM: MovementKind.AUTHORIZATION,
    OperationKind.CAPTURE: MovementKind.CAPTURE,
    OperationKind.VOID: MovementKind.RELEASE,
    OperationKind.REFUND: MovementKind.REFUND,
}
"""The line in the bank's books that an operation makes."""


class People:
    """They act while the safety phase lasts, on whatever charge they see in the PSP's books."""

    def __init__(
        self,
        loop: SimulatedLoop,
        bank: Bank,
        sides: list[PspSide],
        oracle: Oracle,
        desk: Desk,
        faults: Faults,
        trace: Trace,
        source: random.Random,
    ):
        self._loop = loop
        self._bank = bank
        self._sides = {side.name: side for side in sides if side.dashboard is not None}
        self._oracle = oracle
        self._desk = desk
        self._faults = faults
        self._trace = trace
        self._random = source

    async def live(self, for_s: float) -> None:
        """Some acts, spread over the time."""
        times_s = sorted(self._random.random() * for_s for _ in range(self._random.randint(2, _ACTS_MAX)))
        began_s = self._loop.time()
        for number, at_s in enumerate(times_s):
            await asyncio.sleep(max(0.0, began_s + at_s - self._loop.time()))
            if self._random.random() < 0.25:
                await self._sync(number)
            else:
                self._act()

    def _act(self) -> None:
        seen = [one for one in self._bank.charges() if one.account in self._sides]
        seen = [one for one in seen if one.net_minor or one.held_minor]
        if not seen:
            return
        charge = self._random.choice(seen)
        acts = [Act.REFUND] * bool(charge.net_minor) + [Act.CAPTURE, Act.VOID] * bool(charge.held_minor)
        act = self._random.choice(acts)
        most = charge.net_minor if act is Act.REFUND else charge.held_minor
        part = self._random.random() < 0.4 and act is not Act.VOID
        amount = Money(max(1, int(most * self._random.random())) if part else most, charge.currency)
        self._at_pages(self._sides[charge.account], charge, act, amount)

    def _at_pages(self, side: PspSide, charge: BankCharge, act: Act, amount: Money) -> bool:
        with self._oracle.somebody_else():
            done = side.act(charge, self._capture_of(charge), act, amount)
        self._trace.note(
            self._loop.time(),
            "PERSON",
            f"{act} {amount.format()} of {charge.charge_id} at {side.name}: {'done' if done else 'refused'}",
        )
        if done:
            self._faults.fire(f"dashboard_{act}")
        return done

    def _capture_of(self, charge: BankCharge) -> str:
        """One of the captures of this charge, by the PSP's id."""
        captures = [
            one.movement_id
            for one in self._bank.movements()
            if one.kind is MovementKind.CAPTURE
            and (one.account, one.charge_id) == (charge.account, charge.charge_id)
        ]
        return self._random.choice(captures) if captures else ""

    async def look_at_reviews(self) -> None:
        """At the end a person looks at each review, gives back what nobody wanted, and closes it."""
        for payment in self._oracle.payments():
            if payment.review is None:
                continue
            doubt = [op for op in payment.operations if op.status in TELLABLE]
            if payment.review_until_evidence and len(doubt) == 1 and not doubt[0].compensates:
                self._oracle.settled_by_word(payment)
                await self._close(payment.id, **self._word_on(doubt[0]))
                continue
            unwanted = [op for op in payment.operations if op.status is OperationStatus.UNWANTED]
            given_back = [op for op in unwanted if self._give_back(op)]
            self._oracle.looked_at(payment)
            by_hand = bool(unwanted) and len(given_back) == len(unwanted)
            await self._close(payment.id, reversed_by_hand=by_hand)

    async def _close(self, payment_id: str, **found: Any) -> None:
        async def do(pay: AegisPay) -> Result:
            await pay.close_review(payment_id, reason="ben looked", **found)
            return await pay.sync(payment_id)

        self._faults.fire("review_looked_at")
        shape = f"close the review of {payment_id}: {found}"
        await self._desk.ask(Ask("review", f"close {payment_id}", shape, do))

    def _word_on(self, doubt: Operation) -> dict[str, Any]:
        """What the PSP's own pages say of an operation in doubt, which nothing else could tell."""
        kind = _MOVES[doubt.kind]
        for one in self._bank.movements():
            if (one.account, one.reference, one.kind) == (doubt.gateway, doubt.id, kind):
                self._faults.fire("word_took_effect")
                return {"took_effect": one.movement_id}
        self._faults.fire("word_no_effect")
        return {"no_effect": True}

    def _give_back(self, unwanted: Operation) -> bool:
        """All of an unwanted success; whether the PSP did it, or somebody had done it before."""
        side = self._sides.get(unwanted.gateway)
        for charge in self._bank.charges():
            if side is None or charge.account != side.name:
                continue
            if charge.charge_id != unwanted.reference and charge.reference != unwanted.id:
                continue
            if not charge.net_minor and not charge.held_minor:
                return True
            act, minor = Act.VOID, charge.held_minor
            if charge.net_minor:
                act, minor = Act.REFUND, charge.net_minor
            return self._at_pages(side, charge, act, Money(minor, charge.currency))
        return False

    async def _sync(self, number: int) -> None:
        """Support asks what became of a payment; whatever they are told, nothing is promised to stay as it is."""
        payments = self._oracle.payments()
        if not payments:
            return
        payment = self._random.choice(payments)

        async def do(pay: AegisPay) -> Result:
            return await pay.sync(payment.id)

        self._faults.fire("sync")
        await self._desk.ask(Ask("sync", f"sync{number}", f"sync {payment.id}", do))
