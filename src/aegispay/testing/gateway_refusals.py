"""Conformance: what is not declared is refused, with a typed error, before anything is sent."""

from __future__ import annotations

from collections.abc import Awaitable

import pytest

from aegispay.domain.errors import InvalidRequest
from aegispay.domain.events import OperationKind
from aegispay.testing.gateway_orchestrated import orchestrator, start
from aegispay.testing.gateway_outcomes import GatewayFixtures
from aegispay.testing.gateway_rig import FIRST, Bench, ConformanceFailure, expect

K = OperationKind
_DECLARED_BY = {
    K.AUTHORIZE: "authorize",
    K.CHARGE: "charge",
    K.CONFIRM: "next_action",
    K.CAPTURE: "authorize",
    K.VOID: "void",
    K.REFUND: "refund",
}


async def _refused(bench: Bench, what: str, asked: Awaitable[object]) -> None:
    """The orchestrator refuses it, and not a byte leaves."""
    before = len(bench.wire.sent)
    try:
        answer = await asked
    except InvalidRequest as error:
        bench.seen.append(error)
    else:
        raise ConformanceFailure(f"{what} is not declared, and was not refused: {answer!r}")
    expect(len(bench.wire.sent) == before, f"{what} is not declared, and was sent all the same")


class RefusalConformance(GatewayFixtures):
    """Nothing that the PSP cannot do is silently approximated."""

    @pytest.mark.parametrize("kind", FIRST)
    async def test_a_payment_of_a_kind_that_is_not_declared(self, bench: Bench, kind: OperationKind) -> None:
        if getattr(bench.caps, kind.value):
            pytest.skip(f"{bench.gateway.name} declares {kind}")
        async with orchestrator(bench) as pay:
            await _refused(bench, str(kind), start(pay, bench, kind, "refused"))

    async def test_a_raw_card_where_no_tokenize_is_declared(self, bench: Bench) -> None:
        if bench.caps.tokenize:
            pytest.skip(f"{bench.gateway.name} declares tokenize")
        kind = K.CHARGE if bench.caps.charge else K.AUTHORIZE
        async with orchestrator(bench) as pay:
            await _refused(bench, "tokenize", start(pay, bench, kind, "card", bench.rig.card()))
        before = len(bench.wire.sent)
        with pytest.raises(InvalidRequest):
            await bench.gateway.tokenize(bench.rig.card(), 10.0)
        expect(len(bench.wire.sent) == before, "tokenize is not declared, and the card was sent all the same")

    async def test_captures_and_voids_that_are_not_declared(self, bench: Bench) -> None:
        if not bench.caps.authorize:
            pytest.skip(f"{bench.gateway.name} authorizes nothing")
        caps, part = bench.caps, bench.money(700)
        async with orchestrator(bench) as pay:
            payment = (await start(pay, bench, K.AUTHORIZE, "held")).payment_id
            if not caps.partial_capture:
                ask = pay.capture(payment, part, idempotency_key="part")
                await _refused(bench, "partial_capture", ask)
            if not caps.multi_capture:
                ask = pay.capture(payment, part, final=False, idempotency_key="first")
                await _refused(bench, "multi_capture", ask)
            if not caps.void:
                await _refused(bench, "void", pay.void(payment))

    async def test_refunds_that_are_not_declared(self, bench: Bench) -> None:
        if bench.caps.refund and bench.caps.partial_refund:
            pytest.skip(f"{bench.gateway.name} declares refund and partial_refund")
        kind = K.CHARGE if bench.caps.charge else K.AUTHORIZE
        async with orchestrator(bench) as pay:
            payment = (await start(pay, bench, kind, "paid")).payment_id
            if kind is K.AUTHORIZE:
                await pay.capture(payment, idempotency_key="capture")
            ask = pay.refund(payment, bench.money(700), idempotency_key="refund")
            await _refused(bench, "a refund of a part", ask)

    @pytest.mark.parametrize("kind", list(K))
    async def test_the_adapter_itself_sends_nothing_that_it_does_not_declare(
        self, bench: Bench, kind: OperationKind
    ) -> None:
        bench.needs_wire()
        if getattr(bench.caps, _DECLARED_BY[kind]):
            pytest.skip(f"{bench.gateway.name} declares {kind}")
        call = bench.call(kind)
        if kind not in FIRST:
            first = bench.call(K.AUTHORIZE if bench.caps.authorize else K.CHARGE)
            call = bench.on(first, await bench.approved(first), kind)
        before = len(bench.wire.sent)
        try:
            outcome = await bench.gateway.perform(call)
        except InvalidRequest as error:
            bench.seen.append(error)
        else:
            raise ConformanceFailure(f"{kind} is not declared, and the adapter answers {outcome!r}")
        expect(len(bench.wire.sent) == before, f"{kind} is not declared, and was sent all the same")

    async def test_a_call_that_the_adapters_own_check_refuses_is_not_sent(self, bench: Bench) -> None:
        """An amount of nothing is refused by `check`, or by whoever asks; and what `check` refuses is never sent."""
        bench.needs_wire()
        for kind in FIRST:
            if not bench.can(kind):
                continue
            call = bench.call(kind, bench.money(0))
            try:
                bench.gateway.check(call)
            except InvalidRequest as error:
                bench.seen.append(error)
                await _refused(bench, "an amount of nothing", bench.gateway.perform(call))
