"""Conformance: for how long a key is kept is declared for each kind of operation; after that nothing is ever sent again."""

from __future__ import annotations

import pytest

from aegispay.app import AegisPay
from aegispay.domain.errors import AegisPayError
from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import Approved, InDoubt, Outcome
from aegispay.gateways.gateway import Gateway, GatewayCall
from aegispay.testing.faulty_transport import LOST_BEFORE
from aegispay.testing.gateway_orchestrated import orchestrator, start
from aegispay.testing.gateway_outcomes import GatewayFixtures
from aegispay.testing.gateway_rig import FIRST, Bench, expect

K = OperationKind
_MARGIN_S = 60.0


class KeyLifeConformance(GatewayFixtures):
    """The two sides of `key_ttl_s`: until then a resend replays, from then on none is made."""

    @pytest.mark.parametrize("kind", list(K))
    async def test_a_key_is_kept_to_the_end_of_its_declared_life(
        self, bench: Bench, kind: OperationKind
    ) -> None:
        bench.needs_key(kind)
        if bench.rig.age is None:
            pytest.skip("the rig cannot make time pass at the PSP")
        scenario = await bench.prepare(kind)
        await bench.approved(scenario.call)
        bench.age(bench.caps.key_ttl_s(kind) - _MARGIN_S)
        bench.crash()
        outcome = await bench.final(scenario.call, await bench.perform(scenario.call))
        when = f"within the {bench.caps.key_ttl_s(kind):g} s that its key is declared to be kept"
        expect(isinstance(outcome, Approved), f"a {kind} sent again {when} is {outcome!r}")
        bench.expect_books(scenario.call, scenario.done, f"after a {kind} was sent again {when}")

    @pytest.mark.parametrize("kind", list(K))
    async def test_nothing_is_sent_again_after_the_declared_life_of_its_key(
        self, bench: Bench, kind: OperationKind
    ) -> None:
        """The real orchestrator, with a request that was lost and evidence that stays away for longer than the key."""
        bench.needs_kind(kind)
        bench.needs_wire()
        ttl_s = bench.caps.key_ttl_s(kind)
        doubtful = 0
        for number in range(await bench.requests_in(kind)):
            bench.crash()
            sends = Sends(bench.gateway)
            async with orchestrator(bench, stepping=True) as pay:
                payment = await _parent(pay, bench, kind)
                sends.clear()
                bench.wire.strike_all(LOST_BEFORE, number)
                await _ask(pay, bench, kind, payment)
                bench.wire.clear()
                if not sends.in_doubt:
                    continue  # It was cut short by what proves that nothing was executed.
                doubtful += 1
                expect(ttl_s > 0 or not sends.again, f"a {kind} in doubt has no key, and was sent again")
                sends.again.clear()
                for wait_s in (ttl_s, 3600.0, 86_400.0):
                    bench.clock.advance(wait_s)
                    await pay.recover()
                expect(not sends.again, f"a {kind} was sent again more than {ttl_s:g} s after its first send")
        expect(doubtful or kind is K.CONFIRM, f"no time-out of a request left a {kind} in doubt")


class Sends:
    """The operations that the orchestrator hands to an adapter. No look-up, and no other operation, is among them."""

    def __init__(self, gateway: Gateway) -> None:
        self.in_doubt: set[str] = set()
        self.again: list[str] = []
        """Operations that were sent once more after they had been in doubt."""
        self._perform = gateway.perform
        gateway.perform = self.perform  # type: ignore[method-assign]

    async def perform(self, call: GatewayCall) -> Outcome:
        if call.operation_id in self.in_doubt:
            self.again.append(call.operation_id)
        outcome = await self._perform(call)
        if isinstance(outcome, InDoubt):
            self.in_doubt.add(call.operation_id)
        return outcome

    def clear(self) -> None:
        self.in_doubt.clear()
        self.again.clear()


async def _parent(pay: AegisPay, bench: Bench, kind: OperationKind) -> str:
    """The payment that an operation of this kind acts on; nothing for the first operation."""
    if kind in FIRST:
        return ""
    first = K.AUTHORIZE if kind in (K.CAPTURE, K.VOID) else bench.first_kind()
    token = bench.rig.needs_payer if kind is K.CONFIRM else None
    payment = (await start(pay, bench, first, "parent", token)).payment_id
    if kind is K.REFUND and first is K.AUTHORIZE:
        await pay.capture(payment, idempotency_key="capture")
    return payment


async def _ask(pay: AegisPay, bench: Bench, kind: OperationKind, payment: str) -> None:
    """Asks for the operation; that it stays in doubt is what is wanted."""
    try:
        if kind in FIRST:
            await start(pay, bench, kind, "lost")
        elif kind is K.CONFIRM:
            await pay.complete_action(payment, {})
        elif kind is K.CAPTURE:
            await pay.capture(payment, idempotency_key="lost")
        elif kind is K.VOID:
            await pay.void(payment)
        else:
            await pay.refund(payment, idempotency_key="lost")
    except AegisPayError as error:
        bench.seen.append(error)
