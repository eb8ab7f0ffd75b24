"""Conformance: whatever a network or a PSP does to any request of any operation, the outcome is true and proves enough."""

from __future__ import annotations

import pytest

from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import Approved, Declined, InDoubt, NotSent, Outcome, RequiresAction
from aegispay.gateways.gateway import Health
from aegispay.testing.faulty_transport import BROKEN, LOST_AFTER, LOST_BEFORE, REFUSED, STRANGE_ANSWERS, Fault
from aegispay.testing.gateway_orchestrated import orchestrator, start
from aegispay.testing.gateway_outcomes import GatewayFixtures
from aegispay.testing.gateway_rig import Bench, ConformanceFailure, Scenario, expect

K = OperationKind


class FaultConformance(GatewayFixtures):
    """Each fault at each request of each operation, checked against the PSP's own books."""

    @pytest.mark.parametrize("kind", list(K))
    async def test_whatever_breaks_the_outcome_is_true(self, bench: Bench, kind: OperationKind) -> None:
        bench.needs_wire()
        bench.needs_kind(kind)
        count = await bench.requests_in(kind)
        for fault in BROKEN:
            if getattr(fault.answer, "status", None) in bench.rig.bare_yes:
                continue
            for number in range(count):
                await self._strike(bench, kind, fault, number)

    @pytest.mark.parametrize("kind", list(K))
    async def test_a_refused_connection_is_never_taken_for_more_than_it_is(
        self, bench: Bench, kind: OperationKind
    ) -> None:
        bench.needs_wire()
        bench.needs_kind(kind)
        for number in range(await bench.requests_in(kind)):
            scenario, outcome = await self._strike(bench, kind, REFUSED, number)
            if number == 0 and scenario.done != scenario.undone:
                expect(
                    isinstance(outcome, NotSent),
                    f"the connection for a {kind} was refused, and the adapter says {outcome!r}, not NotSent",
                )

    async def _strike(
        self, bench: Bench, kind: OperationKind, fault: Fault, number: int
    ) -> tuple[Scenario, Outcome]:
        scenario = await bench.prepare(kind)
        bench.wire.strike(fault, number)
        outcome = await bench.perform(scenario.call)
        await bench.wire.land()
        bench.wire.clear()
        books = bench.books(scenario.call)
        where = f"{kind}, {fault.name} at request {number + 1}"
        expect(
            books in (scenario.undone, scenario.done),
            f"{where}: the PSP's books say {books}, neither {scenario.undone} nor {scenario.done}",
        )
        self._judge(bench, scenario, outcome, where)
        return scenario, outcome

    def _judge(self, bench: Bench, scenario: Scenario, outcome: Outcome, where: str) -> None:
        executed = bench.books(scenario.call) == scenario.done
        if executed and isinstance(outcome, NotSent | Declined):
            raise ConformanceFailure(f"{where}: the money moved, and the adapter says {outcome!r}")
        if not executed and isinstance(outcome, Approved):
            raise ConformanceFailure(f"{where}: nothing moved, and the adapter says {outcome!r}")
        if executed and isinstance(outcome, RequiresAction):
            raise ConformanceFailure(f"{where}: the money moved, and the adapter asks for the payer")
        if bench.wire.moved:
            expect(
                isinstance(outcome, InDoubt | Approved),
                f"{where}: it was never answered, so it is InDoubt and not {outcome!r}",
            )

    @pytest.mark.parametrize("kind", list(K))
    async def test_all_requests_together_keep_to_the_time_out(
        self, bench: Bench, kind: OperationKind
    ) -> None:
        """`Bench.perform` adds up what each request may take, while time passes with each of them."""
        bench.needs_wire()
        bench.needs_kind(kind)
        for number in range(await bench.requests_in(kind)):
            scenario = await bench.prepare(kind)
            bench.wire.share_of_time = 0.4
            bench.wire.strike(LOST_BEFORE, number)
            await bench.perform(scenario.call)
            bench.wire.clear()

    async def test_health_says_whether_the_psp_answers(self, bench: Bench) -> None:
        good = await bench.gateway.health(2.0)
        expect(isinstance(good, Health), f"health answered {type(good).__name__}")
        expect(good.ok, f"health of a PSP that answers is not ok: {good.detail}")
        expect(good.latency_ms >= 0, "a latency is not negative")
        bench.needs_wire()
        broken = [fault for fault in STRANGE_ANSWERS if (getattr(fault.answer, "status", 0)) >= 500]
        for fault in (REFUSED, LOST_BEFORE, LOST_AFTER, *broken):
            begin = len(bench.wire.sent)
            bench.wire.strike_all(fault)
            try:
                found = await bench.gateway.health(2.0)
            except Exception as error:
                raise ConformanceFailure(f"health raised {type(error).__name__} at {fault.name}") from error
            bench.wire.clear()
            bench.seen.append(found)
            expect(not found.ok, f"health is ok, with {fault.name}")
            expect(
                all(
                    one.request.timeout_s <= 2.0 + 1e-6 or bench.is_shared(one.request)
                    for one in bench.wire.sent[begin:]
                ),
                "health does not keep to its time-out",
            )

    async def test_whatever_breaks_a_card_is_a_token_or_nothing(self, bench: Bench) -> None:
        bench.needs("tokenize")
        bench.needs_wire()
        for fault in (REFUSED, *BROKEN):
            bench.wire.strike_all(fault)
            try:
                made = await bench.gateway.tokenize(bench.rig.card(), 10.0)
            except Exception as error:
                bench.seen.append(error)
                raise ConformanceFailure(f"tokenize raised {type(error).__name__} at {fault.name}") from error
            bench.wire.clear()
            bench.seen.append(made)
            expect(
                isinstance(made, NotSent | Declined),
                f"tokenize with {fault.name} is {type(made).__name__}, neither NotSent nor Declined",
            )

    async def test_the_orchestrator_ends_a_lost_answer_with_the_money_taken_once(self, bench: Bench) -> None:
        """The whole way, with the real orchestrator: a time-out becomes evidence."""
        kind = bench.first_kind()
        if not (bench.caps.key_ttl_s(kind) or bench.caps.looks_up(kind)):
            pytest.skip(f"{bench.gateway.name} gives no evidence of its own; webhooks must")
        minor = bench.money().amount_minor
        count = await bench.requests_in(kind) if bench.rig.wired else 1
        async with orchestrator(bench) as pay:
            for number in range(count):
                if bench.rig.wired:
                    bench.wire.strike(LOST_AFTER, number)
                elif bench.rig.lose_reply is not None:
                    bench.rig.lose_reply(bench.gateway)
                result = await start(pay, bench, kind, f"lost-{number}")
                bench.wire.clear()
                where = f"after a lost answer at request {number + 1}"
                expect(not result.is_failure(), f"{where} the payment is {result.payment.state}")
                books = bench.rig.books(result.payment_id)
                expect(
                    books.taken_minor + books.held_minor == minor and not books.given_back_minor,
                    f"{where} the PSP's books say {books}",
                )
