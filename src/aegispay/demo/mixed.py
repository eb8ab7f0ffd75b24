"""Mixed payments under random faults: what each shopper does follows from the seed and the shopper's number alone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping

from aegispay.app import AegisPay
from aegispay.demo import payer
from aegispay.demo.options import LATE_S
from aegispay.domain.methods import Token
from aegispay.domain.money import Money
from aegispay.domain.states import PaymentState as State
from aegispay.gateways.capabilities import Capabilities
from aegispay.orchestration.results import InProgress, Result
from aegispay.sandbox.adapters import BROWSER, CARDS, CURRENCIES, CUSTOMER_ID, MANDATE, five_token
from aegispay.sandbox.faults import FaultKind, FaultPlan

CONCURRENCY = 64
RETURN_URL = "https://shop.example/back"
FAULT_SHARE = 0.2
OUTAGE_SHARE = 0.001
PATIENCE = 3
"""How often a shopper asks again, under the same key, while the answer is "not known yet"."""
CLICKS_MAX = 5
PSPS_MAX = 3
"""How many PSPs a payment may be offered to, one after the other."""
AGREE_SHARE = 0.8
"""How many of the payers who are asked to authenticate do so."""

_AMOUNTS = {
    # Currency: the least and the greatest amount, and the step, in minor units.
    "USD": (1_00, 500_00, 1),
    "EUR": (1_00, 500_00, 1),
    "GBP": (1_00, 500_00, 1),
    "BRL": (5_00, 900_00, 1),
    "JPY": (100, 60_000, 1),
    "KWD": (1_000, 90_000, 10),
    "INR": (100_00, 1_900_00, 1),
}


def fault_plan(seed: int) -> FaultPlan:
    """Every kind of fault that ends by itself, and now and then a PSP that is down for a while.

    Errors that Stripe keeps under a key are left out: a doubt that they leave takes an hour of quiet to end.
    """
    mixed = FaultPlan.mixed(seed, FAULT_SHARE)
    return FaultPlan(
        seed=seed,
        probabilities={**mixed.probabilities, FaultKind.REFUSE: OUTAGE_SHARE},
        slow_s=0.05,
        late_s=LATE_S,
        outage_s=0.3,
    )


class Shopper:
    """One customer with one payment, which begins at a PSP of its own."""

    def __init__(self, pay: AegisPay, seed: int, number: int):
        self._pay = pay
        self._random = random.Random(f"{seed}:{number}")  # noqa: S311 - to be repeated, not to be secret
        self._name = f"{seed}-{number}"
        currency = self._random.choice(list(_AMOUNTS))
        least, greatest, step = _AMOUNTS[currency]
        self._step = step
        self._amount = Money(self._random.randrange(least, greatest, step), currency)
        takers = CURRENCIES[currency]
        self._route = self._random.sample(takers, min(PSPS_MAX, len(takers)))

    async def shop(self) -> None:
        """Does one thing, chosen by weight."""
        (choice,) = self._random.choices(list(_CHOICES), weights=list(_CHOICES.values()))
        await choice(self)

    # --- what shoppers and shops do -------------------------------------------------------------------------

    async def charge(self) -> None:
        await self._charge()

    async def one_psp(self) -> None:
        await self._charge(route=self._route[:1])

    async def soft_decline(self) -> None:
        await self._charge(five_token(**{self._route[0]: "soft"}))

    async def no_money(self) -> None:
        await self._charge(five_token("soft"))

    async def hard_decline(self) -> None:
        await self._charge(five_token("hard"))

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
        """Where the PSP takes several captures; at others one, of a part where it can do that."""
        held = await self._authorize()
        if held.payment.state is not State.AUTHORIZED:
            return
        can = self._capabilities(held)
        if not can.multi_capture:
            some = self._part(held.payment.capturable_minor) if can.partial_capture else None
            await self._capture(held, some, final=True, part=0)
            return
        for part in range(2):
            if held.is_success() and held.payment.state is State.AUTHORIZED:
                some = self._part(held.payment.capturable_minor)
                held = await self._capture(held, some, final=False, part=part)
        if held.is_success() and held.payment.state is State.AUTHORIZED:
            await self._void(held)

    async def void(self) -> None:
        """Razorpay has no void: there the amount is captured and given back."""
        held = await self._authorize()
        if held.payment.state is not State.AUTHORIZED:
            return
        if self._capabilities(held).void:
            await self._void(held)
            return
        paid = await self._capture(held, None, final=True, part=0)
        if paid.payment.state is State.SUCCEEDED:
            await self._refund(paid, None, 0)

    async def authenticate(self) -> None:
        """The payer is sent to a PSP's page, and does what the page asks for, or fails to."""
        route = [psp for psp in self._route if psp in CARDS["payer"]][:1]
        metadata = BROWSER if route == ["razorpay"] else MANDATE
        asked = await self._charge(five_token("payer"), route=route, metadata=metadata)
        agree = self._random.random() < AGREE_SHARE
        action = asked.payment.next_action
        if action is not None and action.url:
            brought = await asyncio.to_thread(payer.visit, action.url, agree=agree)
            done = await _sure(
                lambda: self._pay.complete_action(
                    asked.payment_id, brought, idempotency_key=f"mixed-{self._name}-a"
                )
            )
            if done.requires_action():
                await self._void(done)  # PayPal would ask again, and this payer will not come again.

    # --- requests, each asked again under its key while the answer is not known -------------------------------

    async def _charge(
        self,
        method: Token | None = None,
        route: list[str] | None = None,
        metadata: Mapping[str, str] = MANDATE,
    ) -> Result:
        return await _sure(
            lambda: self._pay.charge(
                self._amount,
                method or five_token(),
                idempotency_key=f"mixed-{self._name}",
                gateway=route or self._route,
                customer_id=CUSTOMER_ID,
                metadata=dict(metadata),
                return_url=RETURN_URL,
            )
        )

    async def _authorize(self) -> Result:
        return await _sure(
            lambda: self._pay.authorize(
                self._amount,
                five_token(),
                idempotency_key=f"mixed-{self._name}",
                gateway=self._route,
                customer_id=CUSTOMER_ID,
                metadata=dict(MANDATE),
                return_url=RETURN_URL,
            )
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

    def _capabilities(self, held: Result) -> Capabilities:
        return self._pay.registry.get(held.payment.gateway or "").capabilities

    def _part(self, whole_minor: int) -> Money:
        """Somewhat less than the whole, in steps that every PSP takes."""
        share = self._random.uniform(0.1, 0.6)
        minor = int(whole_minor * share) // self._step * self._step
        return Money(max(minor, self._step), self._amount.code)


_CHOICES: dict[Callable[[Shopper], Awaitable[None]], int] = {
    Shopper.charge: 34,
    Shopper.one_psp: 8,
    Shopper.soft_decline: 7,
    Shopper.no_money: 3,
    Shopper.hard_decline: 6,
    Shopper.clicks: 8,
    Shopper.refund: 10,
    Shopper.full_refund: 5,
    Shopper.capture: 8,
    Shopper.partial_captures: 6,
    Shopper.void: 5,
    Shopper.authenticate: 6,
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


async def shop(pay: AegisPay, seed: int, payments: int, progress: Callable[[int], None]) -> list[str]:
    """Lets so many shoppers in, a few dozen at a time. Returns what went wrong in the shop itself: nothing, it is hoped."""
    gate = asyncio.Semaphore(CONCURRENCY)
    done = 0
    troubles: list[str] = []

    async def one(number: int) -> None:
        nonlocal done
        async with gate:
            try:
                await Shopper(pay, seed, number).shop()
            except InProgress:
                pass  # Recovery goes on with it; the books are compared at the end.
            except Exception as error:  # noqa: BLE001 - a broken shopper is a finding, not the end of the demo
                troubles.append(f"shopper {number}: {type(error).__name__}: {error}")
            done += 1
            progress(done)

    async with asyncio.TaskGroup() as tasks:
        for number in range(payments):
            tasks.create_task(one(number))
    return troubles
