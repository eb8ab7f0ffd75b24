"""Conformance: an amount in any ISO 4217 currency reaches the PSP's books as it was meant, or is never sent."""

from __future__ import annotations

from collections.abc import Iterable

from aegispay.domain.errors import InvalidRequest
from aegispay.domain.events import OperationKind
from aegispay.domain.money import Currency, Money
from aegispay.domain.outcomes import Approved
from aegispay.gateways.gateway import GatewayCall
from aegispay.testing.gateway_outcomes import GatewayFixtures
from aegispay.testing.gateway_rig import Bench, Books, ConformanceFailure, expect

K = OperationKind
WHOLE_UNITS = 1230
"""Few enough for every PSP's limit, and no test amount of any that we know."""


def sample_amounts(currency: Currency) -> Iterable[Money]:
    """A whole amount; one to the last decimal; and one to the last but one, where there are three."""
    whole = WHOLE_UNITS * int(10**currency.exponent)
    yield Money(whole, currency)
    if currency.exponent:
        yield Money(whole + 1, currency)
    if currency.exponent >= 3:
        yield Money(whole + 10, currency)


class AmountConformance(GatewayFixtures):
    """Whoever mixes up a PSP's minor units with ISO 4217's charges a hundredfold."""

    async def test_amounts_survive_every_currency(self, bench: Bench) -> None:
        kind = K.CHARGE if bench.caps.charge else K.AUTHORIZE
        problems: list[str] = []
        taken: set[str] = set()
        for currency in Currency:
            for amount in sample_amounts(currency):
                call = bench.call(kind, amount)
                try:
                    bench.gateway.check(call)
                except InvalidRequest as error:
                    bench.seen.append(error)
                    problems += await self._not_sent(bench, call)
                else:
                    taken.add(currency.code)
                    problems += await self._round_trip(bench, call)
        expect(not problems, "\n".join(problems[:40]))
        expect(bench.rig.currency in taken, f"check refuses {bench.rig.currency}, the rig's own currency")
        print(f"{bench.gateway.name}: {len(taken)} of {len(list(Currency))} currencies taken")  # noqa: T201

    async def _not_sent(self, bench: Bench, call: GatewayCall) -> list[str]:
        before = len(bench.wire.sent)
        try:
            outcome = await bench.gateway.perform(call)
        except InvalidRequest:
            sent = len(bench.wire.sent) - before
            return [f"{call.amount} is refused by check, and sent all the same"] if sent else []
        return [f"{call.amount} is refused by check, and the adapter answers {outcome!r}"]

    async def _round_trip(self, bench: Bench, call: GatewayCall) -> list[str]:
        """The charge; and what came of it, given back in full."""
        amount, minor = call.amount, call.amount.amount_minor
        outcome = await bench.final(call, await bench.perform(call))
        if not isinstance(outcome, Approved):
            return [f"check lets {amount} through, and the PSP says {outcome!r}"]
        books = bench.books(call)
        if minor not in (books.taken_minor, books.held_minor):
            return [f"{amount} was sent, and the PSP's books say {books}"]
        if outcome.amount_minor != minor:
            return [f"{amount} was taken, and the adapter says {outcome.amount_minor} minor units"]
        if call.kind is not K.CHARGE or not bench.caps.refund:
            return []
        refund = bench.on(call, outcome, K.REFUND)
        back = await bench.final(refund, await bench.perform(refund))
        if not isinstance(back, Approved) or back.amount_minor != minor:
            return [f"{amount} was taken, and its refund is {back!r}"]
        if bench.books(call) != Books(taken_minor=minor, given_back_minor=minor):
            return [f"{amount} was given back, and the PSP's books say {bench.books(call)}"]
        return []

    async def test_captures_survive_every_currency(self, bench: Bench) -> None:
        bench.needs("authorize")
        problems: list[str] = []
        for currency in Currency:
            for amount in sample_amounts(currency):
                call = bench.call(K.AUTHORIZE, amount)
                try:
                    bench.gateway.check(call)
                except InvalidRequest:
                    continue
                try:
                    held = await bench.approved(call)
                    done = await bench.approved(bench.on(call, held, K.CAPTURE))
                except ConformanceFailure as failure:
                    problems.append(f"{amount}: {failure}")
                    continue
                minor = amount.amount_minor
                if (held.amount_minor, done.amount_minor) != (minor, minor):
                    problems.append(f"{amount}: authorized {held.amount_minor}, captured {done.amount_minor}")
                if bench.books(call) != Books(taken_minor=minor):
                    problems.append(f"{amount} was captured, and the PSP's books say {bench.books(call)}")
        expect(not problems, "\n".join(problems[:40]))
