"""The five adapters at the five faces: each knows the same cards, and takes the currencies that the table gives it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from aegispay import AegisPay, Money, Settings
from aegispay.orchestration.results import Result
from aegispay.sandbox.adapters import (
    BROWSER,
    CARDS,
    CURRENCIES,
    CUSTOMER_ID,
    FIVE,
    MANDATE,
    MORE,
    five_gateways,
    five_token,
)
from aegispay.sandbox.server import Sandbox, SandboxSettings


class Bench:
    def __init__(self, sandbox: Sandbox, pay: AegisPay):
        self.sandbox = sandbox
        self.pay = pay

    async def charge(self, psp: str, kind: str = "good", currency: str = "EUR") -> Result:
        return await self.pay.charge(
            Money(45_000, currency),
            five_token(kind),
            idempotency_key=f"{psp}-{kind}-{currency}",
            gateway=psp,
            customer_id=CUSTOMER_ID,
            metadata=dict(BROWSER if kind == "payer" and psp == "razorpay" else MANDATE),
            return_url="https://shop.example/back",
        )


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with Sandbox(seed=1, settings=SandboxSettings(more_psps=MORE)) as sandbox:
        urls = {name: sandbox.faces[name].url for name in FIVE}
        gateways = five_gateways(urls, lookup_quiet_s=0.1)
        assert list(gateways) == list(FIVE)
        async with AegisPay(gateways, store="sqlite://:memory:", settings=Settings(recovery=False)) as pay:
            yield Bench(sandbox, pay)


@pytest.mark.parametrize("psp", FIVE)
async def test_each_kind_of_card_does_at_each_psp_what_its_name_says(bench: Bench, psp: str) -> None:
    assert (await bench.charge(psp, "good")).is_success()
    for kind, category in (("soft", {"soft"}), ("hard", {"hard", "fraud"})):
        declined = await bench.charge(psp, kind)
        assert declined.is_failure(), (kind, declined)
        assert declined.error is not None
        assert declined.error.category in category, (kind, declined.error)
    if psp in CARDS["payer"]:
        asked = await bench.charge(psp, "payer")
        assert asked.next_action is not None
        assert (asked.next_action.url or "").startswith(bench.sandbox.faces[psp].url)
    assert [charge.account for charge in bench.sandbox.bank.charges() if charge.captured_minor] == [psp]


async def test_every_psp_takes_the_currencies_that_the_table_gives_it(bench: Bench) -> None:
    pairs = [(psp, currency) for currency, psps in CURRENCIES.items() for psp in psps]
    for psp, currency in pairs:
        result = await bench.charge(psp, currency=currency)
        assert result.is_success(), (psp, currency, result.error)
    taken = {
        (charge.account, charge.currency): charge.captured_minor for charge in bench.sandbox.bank.charges()
    }
    assert taken == dict.fromkeys(pairs, 45_000)


def test_a_token_may_be_another_card_at_one_psp_and_refuses_what_nobody_knows() -> None:
    token = five_token(stripe="soft")
    assert token.token_for("stripe") == CARDS["soft"]["stripe"]
    assert {psp: token.token_for(psp) for psp in MORE} == {psp: CARDS["good"][psp] for psp in MORE}
    with pytest.raises(ValueError, match="none of"):
        five_token("golden")
    with pytest.raises(ValueError, match="plainpay"):
        five_token(plainpay="good")
