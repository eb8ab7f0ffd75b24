"""Conformance: no credential, card number or CVC shows in anything that a program prints, logs, stores or raises."""

from __future__ import annotations

import logging
import traceback

import msgspec
import pytest

from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import Outcome
from aegispay.testing.faulty_transport import BROKEN, REFUSED
from aegispay.testing.gateway_orchestrated import orchestrator, start
from aegispay.testing.gateway_outcomes import GatewayFixtures
from aegispay.testing.gateway_rig import CVC, PAN, Bench, expect

K = OperationKind
_CREDENTIAL_WORDS = ("auth", "key", "secret", "token")
_NOT_CREDENTIALS = ("idempotency", "idempotent", "refund-")
_SHORT = 8
"""A shorter text may stand anywhere by chance."""


def credentials_sent(bench: Bench) -> set[str]:
    """The values of the headers by which the adapter proves who it is: whole, and without their scheme."""
    found: set[str] = set()
    for exchange in bench.wire.sent:
        for name, value in exchange.request.headers.items():
            low = name.lower()
            if any(word in low for word in _NOT_CREDENTIALS):
                continue
            if any(word in low for word in _CREDENTIAL_WORDS):
                found |= {part for part in (value, value.split(" ")[-1]) if len(part) >= _SHORT}
    return found


def shown(thing: object) -> str:
    """Everything that printing a thing gives; for an error, its traceback too."""
    text = f"{thing!r}\n{thing!s}"
    if isinstance(thing, BaseException):
        text += "".join(traceback.format_exception(thing))
    return text


class SecretConformance(GatewayFixtures):
    """A tour through the adapter with logs at DEBUG, and a search through all that came out of it."""

    async def test_no_secret_shows_anywhere(self, bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        kinds = bench.kinds()
        for kind in kinds:
            scenario = await bench.prepare(kind)
            await bench.perform(scenario.call)
            bench.seen.append(await bench.gateway.look_up(scenario.call))
        await self._break(bench, kinds)
        if bench.caps.tokenize:
            await self._cards(bench)
        bench.seen.append(await bench.gateway.health(2.0))
        texts = [shown(thing) for thing in bench.seen]
        texts += [_encoded(thing) for thing in bench.seen if isinstance(thing, Outcome)]
        texts += [shown(bench.gateway), format(bench.gateway), shown(bench.caps)]
        texts += [caplog.text, await self._stored(bench), caplog.text]
        hidden = {PAN, *bench.rig.secrets, *credentials_sent(bench)}
        for text in texts:
            for secret in hidden:
                where = text.find(secret)
                # What stands around it is shown, and not the secret itself.
                around = text[max(0, where - 60) : where]
                expect(where < 0, f"a secret of {len(secret)} characters shows after {around!r}")

    async def _break(self, bench: Bench, kinds: list[OperationKind]) -> None:
        if not bench.rig.wired:
            return
        for kind in kinds:
            scenario = await bench.prepare(kind)
            for fault in (REFUSED, *BROKEN[::4]):
                bench.wire.strike(fault)
                await bench.perform(scenario.call)
                bench.wire.clear()

    async def _cards(self, bench: Bench) -> None:
        bench.seen.append(await bench.gateway.tokenize(bench.rig.card(), 10.0))
        for fault in (REFUSED, *BROKEN):
            bench.wire.strike_all(fault)
            made = await bench.gateway.tokenize(bench.rig.card(), 10.0)
            bench.wire.clear()
            bench.seen.append(made)
            # Three digits may stand in a token or a time by chance, but hardly in the reason of a failure.
            expect(CVC not in repr(made), f"the CVC shows in what tokenize answers, with {fault.name}")

    async def _stored(self, bench: Bench) -> str:
        """The events of a payment, as the store keeps them."""
        kind = K.CHARGE if bench.caps.charge else K.AUTHORIZE
        async with orchestrator(bench) as pay:
            method = bench.rig.card() if bench.caps.tokenize else None
            result = await start(pay, bench, kind, "events", method)
            text = repr(result) + msgspec.json.encode(result.to_dict()).decode()
            if bench.caps.next_action and bench.rig.needs_payer is not None:
                asked = await start(pay, bench, kind, "events-3ds", bench.rig.needs_payer)
                text += msgspec.json.encode(asked.to_dict()).decode()
                text += _encoded(await pay.event_store.events(asked.payment_id))
            return text + _encoded(await pay.event_store.events(result.payment_id))


def _encoded(thing: object) -> str:
    return msgspec.json.encode(thing).decode()
