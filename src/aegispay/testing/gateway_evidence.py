"""Conformance: every kind of evidence that an adapter declares is proven, for every operation that can be in doubt."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from aegispay.domain.errors import InvalidRequest
from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import Approved, Declined, Outcome, Pending
from aegispay.gateways.gateway import Found, LookupFailed, NotFound
from aegispay.gateways.http import HttpRequest
from aegispay.testing.faulty_transport import BROKEN, HELD, REFUSED
from aegispay.testing.gateway_outcomes import GatewayFixtures
from aegispay.testing.gateway_rig import FIRST, Bench, Books, ConformanceFailure, Scenario, expect

K = OperationKind
_VOLATILE = frozenset({"authorization", "user-agent", "date"})
"""Headers that a resend may change: they say who sends and when, not what."""


def _essence(request: HttpRequest) -> tuple[str, str, dict[str, str], bytes | None]:
    headers = {name.lower(): value for name, value in request.headers.items()}
    kept = {name: value for name, value in headers.items() if name not in _VOLATILE}
    return request.method, request.url, kept, request.body


class StableKeyConformance(GatewayFixtures):
    """`stable_key`: a resend under the same gateway key replays, and never executes twice."""

    async def test_how_long_a_key_is_kept_is_declared(self, bench: Bench) -> None:
        bench.needs("stable_key")
        kept = [kind for kind in K if bench.caps.key_ttl_s(kind) > 0]
        expect(
            kept,
            "stable_key without stable_key_ttl_s: the orchestrator never resends under a key that is not kept",
        )

    @pytest.mark.parametrize("kind", list(K))
    async def test_a_resend_replays_the_first_answer(self, bench: Bench, kind: OperationKind) -> None:
        bench.needs_key(kind)
        scenario = await bench.prepare(kind)
        first = await bench.perform(scenario.call)
        bench.crash()
        again = await bench.perform(scenario.call)
        expect(again == first, f"a {kind} answered {first!r}, and its resend {again!r}")
        await self._ends_well(bench, scenario, again, "after a resend")

    @pytest.mark.parametrize("kind", list(K))
    @pytest.mark.parametrize("executed", [True, False], ids=["answer_lost", "request_lost"])
    async def test_after_a_crash_a_resend_ends_the_doubt_once(
        self, bench: Bench, kind: OperationKind, executed: bool
    ) -> None:
        bench.needs_key(kind)
        for scenario in await bench.in_doubt(kind, executed=executed):
            bench.crash()
            outcome = await bench.perform(scenario.call)
            await self._ends_well(bench, scenario, outcome, "after a crash and a resend")

    @pytest.mark.parametrize("kind", list(K))
    async def test_a_resend_after_a_crash_is_the_very_same_bytes(
        self, bench: Bench, kind: OperationKind
    ) -> None:
        bench.needs_key(kind)
        bench.needs_wire()
        scenario = await bench.prepare(kind)
        sent: list[list[HttpRequest]] = []
        for _ in range(2):
            bench.crash()
            begin = len(bench.wire.sent)
            await bench.perform(scenario.call)
            sent.append([one.request for one in bench.wire.sent[begin:] if one.request.method != "GET"])
        for first, again in zip(*sent, strict=False):
            expect(
                _essence(first) == _essence(again),
                f"the resend of a {kind} to {again.url} differs from the first send",
            )

    @pytest.mark.parametrize("kind", list(K))
    async def test_a_first_request_that_lands_after_the_resend_changes_nothing(
        self, bench: Bench, kind: OperationKind
    ) -> None:
        bench.needs_key(kind)
        bench.needs_wire()
        for number in range(await bench.requests_in(kind)):
            scenario = await bench.prepare(kind)
            bench.wire.strike(HELD, number)
            await bench.perform(scenario.call)
            outcome = await bench.perform(scenario.call)
            await bench.wire.land()
            await self._ends_well(
                bench, scenario, outcome, "after the first request landed behind its resend"
            )

    async def test_a_key_with_another_amount_is_never_a_second_payment(self, bench: Bench) -> None:
        kind = bench.first_kind()
        bench.needs_key(kind)
        scenario = await bench.prepare(kind)
        await bench.approved(scenario.call)
        other = replace(scenario.call, amount=bench.money(2100))
        outcome = await bench.perform(other)
        expect(
            not (isinstance(outcome, Approved) and outcome.amount_minor == 2100),
            "the same key with another amount was approved",
        )
        expect(
            not isinstance(outcome, Declined),
            "the same key with another amount is Declined, though its first request was executed",
        )
        bench.expect_books(scenario.call, scenario.done, "after the same key with another amount")

    async def test_a_decline_is_replayed_too(self, bench: Bench) -> None:
        kind = bench.first_kind()
        bench.needs_key(kind)
        call = bench.call(kind, token=next(iter(bench.rig.declines)))
        first = await bench.perform(call)
        again = await bench.perform(call)
        expect(again == first, f"a decline was {first!r}, and its resend {again!r}")
        bench.expect_books(call, Books(), "after a decline and its resend")

    async def _ends_well(self, bench: Bench, scenario: Scenario, outcome: Outcome, when: str) -> None:
        kind = scenario.call.kind
        found = await bench.final(scenario.call, outcome)
        expect(isinstance(found, Approved), f"{when}, a {kind} that the PSP approves is {found!r}")
        bench.expect_books(scenario.call, scenario.done, f"{when} of a {kind}")


class LookupConformance(GatewayFixtures):
    """`lookup_by_reference`: what happened is found, what did not is not, and a look-up that breaks says neither."""

    @pytest.mark.parametrize("kind", list(K))
    async def test_what_happened_is_found(self, bench: Bench, kind: OperationKind) -> None:
        bench.needs_lookup(kind)
        for scenario in await bench.in_doubt(kind, executed=True):
            if bench.books(scenario.call) != scenario.done:
                continue  # It was cut short before the request that moves the money.
            found = await bench.gateway.look_up(scenario.call)
            bench.seen.append(found)
            if not isinstance(found, Found):
                raise ConformanceFailure(f"a {kind} that was executed is {found!r} to the look-up")
            outcome = await bench.final(scenario.call, found.outcome)
            expected = scenario.call.amount.amount_minor
            good = isinstance(outcome, Approved) and (kind is K.VOID or outcome.amount_minor == expected)
            expect(good, f"a {kind} of {expected} minor units that was executed is looked up as {outcome!r}")
            bench.expect_books(scenario.call, scenario.done, f"after the look-up of a {kind}")

    @pytest.mark.parametrize("kind", [one for one in K if one is not K.CONFIRM])
    async def test_what_did_not_happen_is_not_found(self, bench: Bench, kind: OperationKind) -> None:
        bench.needs_lookup(kind)
        scenario = await bench.prepare(kind)
        found = await bench.gateway.look_up(scenario.call)
        expect(isinstance(found, NotFound), f"a {kind} that was never sent is {found!r} to the look-up")
        for lost in await bench.in_doubt(kind, executed=False):
            if bench.books(lost.call) != lost.undone:
                continue
            found = await bench.gateway.look_up(lost.call)
            no = isinstance(found, NotFound) or (
                isinstance(found, Found) and not isinstance(found.outcome, Approved)
            )
            expect(no, f"a {kind} whose request was lost is {found!r} to the look-up")

    @pytest.mark.parametrize("kind", [K.AUTHORIZE, K.CHARGE, K.CAPTURE, K.REFUND])
    async def test_one_operation_is_not_taken_for_another_like_it(
        self, bench: Bench, kind: OperationKind
    ) -> None:
        bench.needs_lookup(kind)
        if kind in FIRST:
            call, twin = bench.call(kind), bench.call(kind)
            await bench.approved(call)
            twin = replace(twin, payment_id=call.payment_id)
        elif kind is K.REFUND:
            bench.needs("partial_refund")
            call, paid, capture = await bench.paid()
            one, twin = (
                bench.on(call, paid, kind, bench.money(500), capture_reference=capture) for _ in range(2)
            )
            await bench.approved(one)
        else:
            bench.needs("multi_capture")
            call = bench.call(K.AUTHORIZE)
            held = await bench.approved(call)
            one, twin = (bench.on(call, held, kind, bench.money(500), final=False) for _ in range(2))
            await bench.approved(one)
        found = await bench.gateway.look_up(twin)
        expect(isinstance(found, NotFound), f"a {kind} that was never sent is taken for another: {found!r}")

    async def test_a_decline_is_not_looked_up_as_a_success(self, bench: Bench) -> None:
        kind = bench.first_kind()
        bench.needs_lookup(kind)
        call = bench.call(kind, token=next(iter(bench.rig.declines)))
        await bench.perform(call)
        found = await bench.gateway.look_up(call)
        no = isinstance(found, NotFound) or (isinstance(found, Found) and isinstance(found.outcome, Declined))
        expect(no, f"a payment that was declined is {found!r} to the look-up")

    @pytest.mark.parametrize("kind", list(K))
    async def test_a_look_up_that_breaks_proves_nothing(self, bench: Bench, kind: OperationKind) -> None:
        """A look-up that takes a broken answer for "nothing found" lets a payment be sent again: a double charge."""
        bench.needs_lookup(kind)
        bench.needs_wire()
        scenario = await bench.prepare(kind)
        await bench.perform(scenario.call)
        before = len(bench.wire.sent)
        await bench.gateway.look_up(scenario.call)
        count = len(bench.wire.sent) - before
        for fault in (REFUSED, *BROKEN):
            for number in range(count):
                bench.wire.strike(fault, number)
                try:
                    found = await bench.gateway.look_up(scenario.call)
                except Exception as error:
                    raise ConformanceFailure(
                        f"look_up raised {type(error).__name__} at {fault.name}"
                    ) from error
                bench.wire.clear()
                true = isinstance(found, Found) and isinstance(found.outcome, Approved | Pending)
                expect(
                    isinstance(found, LookupFailed) or true,
                    f"the look-up of a {kind} that was executed, with {fault.name} at request {number + 1}: {found!r}",
                )


class CancelConformance(GatewayFixtures):
    """`cancel_by_reference`: once it is approved, the operation is not, and will not be, executed."""

    @pytest.mark.parametrize("kind", list(K))
    async def test_what_lands_after_its_cancel_is_refused(self, bench: Bench, kind: OperationKind) -> None:
        bench.needs_cancel(kind)
        bench.needs_wire()
        for number in range(await bench.requests_in(kind)):
            scenario = await bench.prepare(kind)
            bench.wire.strike(HELD, number)
            await bench.perform(scenario.call)
            if bench.books(scenario.call) != scenario.undone:
                continue
            canceled = await self._cancel(bench, scenario)
            expect(
                canceled is not None or kind not in FIRST,
                f"a {kind} that was never executed cannot be canceled by its reference",
            )
            if canceled is None:
                continue
            await bench.wire.land()
            bench.expect_books(scenario.call, scenario.undone, f"after a canceled {kind} landed")
            outcome = await bench.perform(scenario.call)
            expect(not isinstance(outcome, Approved), f"a {kind} was approved after its cancel")
            bench.expect_books(scenario.call, scenario.undone, f"after a canceled {kind} was sent again")

    @pytest.mark.parametrize("kind", list(K))
    async def test_an_approved_cancel_is_true_of_what_was_executed(
        self, bench: Bench, kind: OperationKind
    ) -> None:
        bench.needs_cancel(kind)
        scenario = await bench.prepare(kind)
        await bench.approved(scenario.call)
        if scenario.done != scenario.undone and await self._cancel(bench, scenario) is not None:
            bench.expect_books(
                scenario.call, scenario.undone, f"after the approved cancel of an executed {kind}"
            )

    async def test_a_cancel_that_did_not_get_through_is_not_approved(self, bench: Bench) -> None:
        bench.needs_cancel(bench.first_kind())
        bench.needs_wire()
        scenario = await bench.prepare(bench.first_kind())
        for fault in (REFUSED, *BROKEN):
            bench.wire.strike_all(fault)
            canceled = await self._cancel(bench, scenario)
            bench.wire.clear()
            if fault.executed:
                scenario = await bench.prepare(scenario.call.kind)
            expect(canceled is None, f"a cancel with {fault.name} was approved")

    async def _cancel(self, bench: Bench, scenario: Scenario) -> Approved | None:
        try:
            outcome = await bench.gateway.cancel_by_reference(scenario.call)
        except InvalidRequest:
            return None
        except Exception as error:
            raise ConformanceFailure(f"cancel_by_reference raised {type(error).__name__}") from error
        bench.seen.append(outcome)
        return outcome if isinstance(outcome, Approved) else None
