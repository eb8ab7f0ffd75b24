"""Conformance: every outcome of the closed union is produced, and every operation that is declared does what it says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio

from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import (
    Approved,
    DeclineCategory,
    Declined,
    NotSent,
    Pending,
)
from aegispay.gateways.gateway import Tokenized
from aegispay.testing.faulty_transport import REFUSED
from aegispay.testing.gateway_rig import FIRST, Bench, Books, Rig, expect, open_bench

K = OperationKind


@pytest.mark.asyncio
class GatewayFixtures:
    """What every part of the suite stands on."""

    @pytest.fixture
    def rig(self) -> Rig:
        raise NotImplementedError("give a fixture `rig` that makes a Rig")

    @pytest_asyncio.fixture
    async def bench(self, rig: Rig) -> AsyncIterator[Bench]:
        async with open_bench(rig) as bench:
            yield bench


class OutcomeConformance(GatewayFixtures):
    """Each of the six outcomes, from a PSP that says so or a network that breaks."""

    @pytest.mark.parametrize("kind", FIRST)
    async def test_a_payment_is_approved_and_the_money_moved(self, bench: Bench, kind: OperationKind) -> None:
        bench.needs_kind(kind)
        call = bench.call(kind)
        done = await bench.approved(call)
        expect(done.reference, "an approval needs the PSP's reference: later operations name it")
        expect(
            done.amount_minor == call.amount.amount_minor,
            f"{call.amount} was sent, and the adapter says that {done.amount_minor} minor units were taken",
        )
        minor = call.amount.amount_minor
        books = Books(taken_minor=minor) if kind is K.CHARGE else Books(held_minor=minor)
        bench.expect_books(call, books, f"after an approved {kind}")

    async def test_every_decline_has_its_category_and_moves_nothing(self, bench: Bench) -> None:
        expect(bench.rig.declines, "the rig needs at least one token that the PSP declines")
        kind = K.CHARGE if bench.caps.charge else K.AUTHORIZE
        for token, category in bench.rig.declines.items():
            call = bench.call(kind, token=token)
            outcome = await bench.final(call, await bench.perform(call))
            if not isinstance(outcome, Declined):
                expect(False, f"{token} was to be declined, but the adapter says {outcome!r}")
                continue
            expect(
                outcome.category is DeclineCategory(category),
                f"{token} was to be declined as {category}, not as {outcome.category}",
            )
            expect(outcome.code, f"the decline of {token} has no code")
            bench.expect_books(call, Books(), f"after {token} was declined")

    async def test_a_payer_is_asked_and_nothing_moves_until_they_have_acted(self, bench: Bench) -> None:
        bench.needs("next_action")
        call, asked = await bench.asked_payer()
        action = asked.action
        expect(asked.reference, "what asks for the payer needs the PSP's reference")
        expect(action.url or action.data, "a next action has a URL or data for the PSP's own SDK")
        bench.expect_books(call, Books(), "before the payer acted")
        scenario = await bench.prepare(K.CONFIRM)
        done = await bench.approved(scenario.call)
        expect(
            done.amount_minor == scenario.call.amount.amount_minor, "the confirmation approved another amount"
        )
        bench.expect_books(scenario.call, scenario.done, "after the payer acted")

    async def test_a_confirmation_before_the_payer_has_acted_is_no_approval(self, bench: Bench) -> None:
        bench.needs("next_action")
        if not bench.rig.wired:
            pytest.skip("an adapter without a PSP behind it cannot know whether the payer acted")
        call, asked = await bench.asked_payer()
        try:
            outcome = await bench.gateway.confirm(bench.on(call, asked, K.CONFIRM))
        except Exception as error:  # noqa: BLE001 - refusing to ask is an answer too, if it is a typed one
            expect(hasattr(error, "code"), f"confirm raised {type(error).__name__}")
            return
        expect(not isinstance(outcome, Approved), "nobody authenticated, and the adapter says Approved")
        bench.expect_books(call, Books(), "before the payer acted")

    async def test_what_is_accepted_and_not_done_yet_is_pending(self, bench: Bench) -> None:
        if bench.rig.pending is None:
            pytest.skip("the rig has no way to make the PSP say 'accepted, not done yet'")
        old, new = bench.rig.pending
        bench.wire.rewrite = lambda reply: msgspec.structs.replace(reply, body=reply.body.replace(old, new))
        outcome = await bench.perform(bench.call(K.CHARGE if bench.caps.charge else K.AUTHORIZE))
        expect(isinstance(outcome, Pending), f"what is accepted and not done yet is {outcome!r}, not Pending")

    async def test_a_refused_connection_is_proof_and_a_time_out_is_doubt(self, bench: Bench) -> None:
        bench.needs_wire()
        for kind in FIRST:
            if not bench.can(kind):
                continue
            call = bench.call(kind)
            bench.wire.strike(REFUSED)
            outcome = await bench.perform(call)
            expect(isinstance(outcome, NotSent), f"a refused connection is {outcome!r}, not NotSent")
            bench.expect_books(call, Books(), "after a refused connection")
            await bench.in_doubt(kind, executed=True)  # It expects that there is one.

    async def test_unknown_credentials_are_proof_that_nothing_was_executed(self, bench: Bench) -> None:
        if bench.rig.wrong_key is None:
            pytest.skip("the rig has no adapter with a wrong key")
        stranger = bench.rig.wrong_key(bench.wire, bench.clock)
        call = bench.call(K.CHARGE if bench.caps.charge else K.AUTHORIZE)
        outcome = await stranger.perform(call)
        expect(isinstance(outcome, NotSent), f"unknown credentials are {outcome!r}, not NotSent")
        expect(
            not (await stranger.health()).ok, "health says ok though the PSP does not know the credentials"
        )


class OperationConformance(GatewayFixtures):
    """Each operation that is declared has the effect that it stands for, in the PSP's own books."""

    @pytest.mark.parametrize("kind", [K.CAPTURE, K.VOID, K.REFUND])
    async def test_it_does_what_it_says(self, bench: Bench, kind: OperationKind) -> None:
        bench.needs_kind(kind)
        scenario = await bench.prepare(kind)
        done = await bench.approved(scenario.call)
        expect(
            kind is K.VOID or done.amount_minor == scenario.call.amount.amount_minor,
            f"a {kind} of {scenario.call.amount} was approved for {done.amount_minor} minor units",
        )
        bench.expect_books(scenario.call, scenario.done, f"after a {kind}")

    async def test_a_partial_capture_takes_its_part_and_releases_the_rest(self, bench: Bench) -> None:
        bench.needs("authorize", "partial_capture")
        call = bench.call(K.AUTHORIZE)
        capture = bench.on(call, await bench.approved(call), K.CAPTURE, bench.money(800))
        done = await bench.approved(capture)
        expect(done.amount_minor == 800, f"a capture of 800 was approved for {done.amount_minor}")
        bench.expect_books(call, Books(taken_minor=800), "after a final capture of a part")

    async def test_several_captures_each_take_their_part(self, bench: Bench) -> None:
        bench.needs("authorize", "partial_capture", "multi_capture")
        call = bench.call(K.AUTHORIZE)
        authorized = await bench.approved(call)
        taken = 0
        for minor, final in ((500, False), (700, False), (300, True)):
            done = await bench.approved(
                bench.on(call, authorized, K.CAPTURE, bench.money(minor), final=final)
            )
            taken += minor
            expect(done.amount_minor == minor, f"a capture of {minor} was approved for {done.amount_minor}")
            held = 0 if final else 2000 - taken
            bench.expect_books(call, Books(taken_minor=taken, held_minor=held), f"after {taken} of 2000")

    async def test_several_refunds_each_give_their_part_back(self, bench: Bench) -> None:
        bench.needs("refund", "partial_refund")
        call, paid, capture = await bench.paid()
        back = 0
        for minor in (300, 300, 1400):
            refund = bench.on(call, paid, K.REFUND, bench.money(minor), capture_reference=capture)
            done = await bench.approved(refund)
            back += minor
            expect(done.amount_minor == minor, f"a refund of {minor} was approved for {done.amount_minor}")
            bench.expect_books(call, Books(taken_minor=2000, given_back_minor=back), f"after {back} of 2000")

    async def test_a_card_becomes_a_token_that_can_be_charged(self, bench: Bench) -> None:
        bench.needs("tokenize")
        made = await bench.gateway.tokenize(bench.rig.card(), 10.0)
        bench.seen.append(made)
        if not isinstance(made, Tokenized):
            expect(False, f"a good card was to become a token, but the adapter says {made!r}")
            return
        call = bench.call(K.CHARGE if bench.caps.charge else K.AUTHORIZE, token=made.token)
        await bench.approved(call)

    async def test_calls_at_the_same_time_do_not_mix(self, bench: Bench) -> None:
        kind = K.CHARGE if bench.caps.charge else K.AUTHORIZE
        declined = next(iter(bench.rig.declines))
        # Made up beforehand, because each call has an amount of its own and every third is declined.
        calls = [
            bench.call(kind, bench.money(1000 + 10 * n), token=declined if n % 3 == 2 else None)
            for n in range(24)
        ]
        outcomes = await asyncio.gather(*(bench.gateway.perform(call) for call in calls))
        references: set[str] = set()
        for call, first in zip(calls, outcomes, strict=True):
            outcome = await bench.final(call, first)
            minor = call.amount.amount_minor
            if call.token == declined:
                expect(isinstance(outcome, Declined), f"among others, a declined token is {outcome!r}")
                bench.expect_books(call, Books(), "after a decline among others")
                continue
            good = isinstance(outcome, Approved) and outcome.amount_minor == minor
            expect(good, f"among others, a {kind} of {minor} is {outcome!r}")
            references.add(getattr(outcome, "reference", ""))
            books = Books(taken_minor=minor) if kind is K.CHARGE else Books(held_minor=minor)
            bench.expect_books(call, books, "after an approval among others")
        expect(len(references) == 16, "two payments at the same time were given one reference")
