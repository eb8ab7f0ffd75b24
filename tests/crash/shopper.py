"""A shopper at Stripe or PlainPay: what each does follows from the seed and the shopper's number alone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from aegispay.app import AegisPay
from aegispay.domain.methods import Token
from aegispay.domain.money import Money
from aegispay.domain.states import PaymentState as State
from aegispay.orchestration.results import InProgress, Result
from aegispay.sandbox.issuer import sandbox_token

PATIENCE = 3
"""How often a shopper asks again, under the same key, while the answer is "not known yet"."""
CLICKS_MAX = 5

_AMOUNTS = {
    # Currency: the least and the greatest amount, and the step, in minor units.
    "USD": (1_00, 500_00, 1),
    "EUR": (1_00, 500_00, 1),
    "GBP": (1_00, 500_00, 1),
    "BRL": (5_00, 900_00, 1),
    "JPY": (100, 60_000, 1),
    "KWD": (1_000, 90_000, 10),
}


class Shopper:
    """One customer with one payment."""

    def __init__(self, pay: AegisPay, seed: int, number: int):
        self._pay = pay
        self._random = random.Random(f"{seed}:{number}")
        self._name = f"{seed}-{number}"
        currency = self._random.choice(list(_AMOUNTS))
        least, greatest, step = _AMOUNTS[currency]
        self._step = step
        self._amount = Money(self._random.randrange(least, greatest, step), currency)

    async def shop(self) -> None:
        """Does one thing, chosen by weight."""
        (choice,) = self._random.choices(list(_CHOICES), weights=list(_CHOICES.values()))
        await choice(self)

    # --- what shoppers and shops do -------------------------------------------------------------------------

    async def charge(self) -> None:
        await self._charge()

    async def second_psp(self) -> None:
        await self._charge(gateway="plainpay")

    async def soft_decline(self) -> None:
        await self._charge(sandbox_token("pm_card_chargeDeclinedInsufficientFunds", "tok_visa"))

    async def no_money(self) -> None:
        await self._charge(sandbox_token("pm_card_chargeDeclinedInsufficientFunds", "tok_insufficient_funds"))

    async def hard_decline(self) -> None:
        await self._charge(sandbox_token("pm_card_chargeDeclinedStolenCard", "tok_stolen_card"))

    async def clicks(self) -> None:
        await asyncio.gather(*(self._charge() for _ in range(self._random.randint(2, CLICKS_MAX))))

    async def refund(self) -> None:
        paid = await self._charge()
        for part in range(self._random.randint(1, 2)):
            if paid.payment.state in (State.SUCCEEDED, State.PARTIALLY_REFUNDED):
                paid = await self._refund(paid, self._part(paid.payment.refundable_minor), part)

    async def full_refund(self) -> None:
        paid = await self._charge()
        if paid.payment.state is State.SUCCEEDED:
            await self._refund(paid, None, 0)

    async def capture(self) -> None:
        held = await self._authorize()
        if held.payment.state is State.AUTHORIZED:
            await self._capture(held, None, final=True, part=0)

    async def partial_captures(self) -> None:
        held = await self._authorize()
        for part in range(2):
            if held.is_success() and held.payment.state is State.AUTHORIZED:
                some = self._part(held.payment.capturable_minor)
                held = await self._capture(held, some, final=False, part=part)
        if held.is_success() and held.payment.state is State.AUTHORIZED:
            await self._void(held)

    async def void(self) -> None:
        held = await self._authorize()
        if held.payment.state is State.AUTHORIZED:
            await self._void(held)

    # --- requests, each asked again under its key while the answer is not known -------------------------------

    async def _charge(self, method: Token | None = None, gateway: str | None = None) -> Result:
        return await _sure(
            lambda: self._pay.charge(
                self._amount,
                method or sandbox_token(),
                idempotency_key=f"mixed-{self._name}",
                gateway=gateway,
            )
        )

    async def _authorize(self) -> Result:
        return await _sure(
            lambda: self._pay.authorize(self._amount, sandbox_token(), idempotency_key=f"mixed-{self._name}")
        )

    async def _capture(self, held: Result, amount: Money | None, *, final: bool, part: int) -> Result:
        return await _sure(
            lambda: self._pay.capture(
                held.payment_id, amount, final=final, idempotency_key=f"mixed-{self._name}-c{part}"
            )
        )

    async def _void(self, held: Result) -> Result:
        return await _sure(lambda: self._pay.void(held.payment_id, idempotency_key=f"mixed-{self._name}-v"))

    async def _refund(self, paid: Result, amount: Money | None, part: int) -> Result:
        return await _sure(
            lambda: self._pay.refund(paid.payment_id, amount, idempotency_key=f"mixed-{self._name}-r{part}")
        )

    def _part(self, whole_minor: int) -> Money:
        """Somewhat less than the whole, in steps that both PSPs take."""
        share = self._random.uniform(0.1, 0.6)
        minor = int(whole_minor * share) // self._step * self._step
        return Money(max(minor, self._step), self._amount.code)


_CHOICES: dict[Callable[[Shopper], Awaitable[None]], int] = {
    Shopper.charge: 34,
    Shopper.second_psp: 8,
    Shopper.soft_decline: 7,
    Shopper.no_money: 3,
    Shopper.hard_decline: 6,
    Shopper.clicks: 8,
    Shopper.refund: 10,
    Shopper.full_refund: 5,
    Shopper.capture: 8,
    Shopper.partial_captures: 6,
    Shopper.void: 5,
}


async def _sure(ask: Callable[[], Awaitable[Result]]) -> Result:
    """Asks until the answer is known, within reason. Whoever gives up leaves it to recovery."""
    for again in range(PATIENCE):
        try:
            result = await ask()
        except InProgress:
            if again == PATIENCE - 1:
                raise
            continue
        if not result.is_pending() or again == PATIENCE - 1:
            return result
    raise AssertionError("unreachable")
