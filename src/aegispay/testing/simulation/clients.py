"""Simulated customers and their merchant's clients: what they ask, how they insist, and what they remember being told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from aegispay.app import AegisPay
from aegispay.domain.errors import AegisPayError
from aegispay.domain.methods import Token
from aegispay.domain.money import Money
from aegispay.domain.payment import Payment
from aegispay.domain.states import PaymentState
from aegispay.orchestration.results import Result
from aegispay.testing.simulation.fleet import LOST, Fleet
from aegispay.testing.simulation.oracle import Oracle
from aegispay.testing.simulation.psps import PspSide
from aegispay.testing.simulation.trace import Trace

Do = Callable[[AegisPay], Awaitable[Result]]
Answer = Result | AegisPayError | str
"""A result, a refusal, or that the connection was lost."""


MANDATE = {
    "razorpay_email": "payer@shop.example",
    "razorpay_contact": "+919999999999",
    "razorpay_recurring": "true",
}
"""What Razorpay needs to know to charge a saved card without asking; other PSPs keep it as metadata."""


_ANSWER_TRIES_MAX = 120


class Ask(NamedTuple):
    """One request, however often it is made."""

    scope: str
    key: str
    shape: str
    """What is asked, as text: the same shape under the same key must get the same answer."""
    do: Do


class Desk:
    """Takes a client's request to some instance, and the answer back."""

    def __init__(self, fleet: Fleet, oracle: Oracle, trace: Trace, source: random.Random):
        self._fleet = fleet
        self._loop = fleet.loop
        self._oracle = oracle
        self._trace = trace
        self._random = source
        self.requests = 0

    async def ask(self, ask: Ask) -> Answer:
        """One try at some instance."""
        instance = self._fleet.pick()
        if instance is None:
            await asyncio.sleep(1.0)
            return LOST
        self.requests += 1
        answered: asyncio.Future[Answer] = self._loop.create_future()

        async def serve() -> None:
            found: Answer
            try:
                found = await ask.do(instance.pay)
            except AegisPayError as error:
                found = error
            except asyncio.CancelledError:
                found = LOST
            except Exception as error:  # noqa: BLE001 - what a caller must never see is what is looked for
                if not instance.dead:  # What is swept up of a dead process raises as it likes.
                    self._oracle.violated("crash", f"{ask.scope} raised {type(error).__name__}: {error}")
                found = LOST
            settle(found)

        def settle(found: Answer) -> None:
            instance.requests.pop(answered, None)
            if not answered.done():
                answered.set_result(found)

        self._note(ask, f"asks {instance.name}: {ask.shape}")
        task = self._loop.create_task(serve(), context=instance.context)
        instance.requests[answered] = task
        # A task that is cancelled before its first step never runs at all.
        task.add_done_callback(lambda _: settle(LOST))
        if self._fleet.faults.hit("cancel_request"):
            at_s = self._loop.time() + self._random.random() ** 2 * 3.0
            self._loop.outside_at(at_s, task.cancel)
        asked_at_s = self._loop.time()
        answer = await answered
        self._note(ask, f"is told {answer!r}")
        self._oracle.answered(ask.scope, ask.key, ask.shape, answer, asked_at_s)
        return answer

    def _note(self, ask: Ask, text: str) -> None:
        self._trace.note(self._loop.time(), ask.key, text)


class Customer:
    """One payment's history."""

    def __init__(
        self, number: int, desk: Desk, sides: list[PspSide], source: random.Random, arrives_s: float
    ):
        self.number = number
        self._desk = desk
        self._sides = sides
        self._random = source
        self._arrives_s = arrives_s
        self._asked = 0
        self.asks: list[Ask] = []
        currency = source.choice(("USD", "USD", "EUR", "JPY"))
        self._amount = Money(source.randint(1_000, 50_000), currency)

    async def live(self) -> None:
        """From the first click to the last refund."""
        await asyncio.sleep(self._arrives_s)
        first = self._first()
        answer = await self._insist(first)
        for _ in range(self._random.randint(0, 4)):
            if not isinstance(answer, Result):
                return
            follow = self._follow_ups(answer.payment)
            if not follow:
                return
            await asyncio.sleep(self._random.choice((0.0, 0.1, 5.0, 60.0)) * self._random.random())
            answers = await asyncio.gather(*(self._insist(one) for one in follow))
            told = [one for one in answers if isinstance(one, Result)]
            answer = max(told, key=lambda one: one.payment.version) if told else answer

    async def repeat_all(self) -> list[tuple[Ask, Answer]]:
        """Every request once more, now that nothing goes wrong; again while nobody answers, for all may just be starting."""
        told: list[tuple[Ask, Answer]] = []
        for ask in self.asks:
            answer = await self._desk.ask(ask)
            for _ in range(_ANSWER_TRIES_MAX):
                if answer != LOST:
                    break
                answer = await self._desk.ask(ask)
            told.append((ask, answer))
        return told

    # --- asking ---------------------------------------------------------------------------------------------

    async def _insist(self, ask: Ask) -> Answer:
        """Asks, perhaps twice at once, and again while there is no final answer; and once with something else."""
        draw = self._random.random
        self.asks.append(ask)
        answer: Answer = LOST
        for _ in range(self._random.randint(1, 5)):
            clicks = 2 if draw() < 0.25 else 1
            answers = await asyncio.gather(*(self._desk.ask(ask) for _ in range(clicks)))
            answer = next((one for one in answers if isinstance(one, Result)), answers[0])
            if isinstance(answer, Result) and ask.scope == "payment" and draw() < 0.1:
                await self._desk.ask(self._other(ask))
            if isinstance(answer, Result) and not answer.is_pending():
                break
            if isinstance(answer, AegisPayError) and answer.effect == "none" and not answer.retryable:
                break
            await asyncio.sleep(self._random.choice((0.0, 1.0, 30.0)) * draw())
        return answer

    def _other(self, ask: Ask) -> Ask:
        """Another request under the same key, which must be refused."""
        amount = Money(self._amount.amount_minor + 1, self._amount.code)

        async def do(pay: AegisPay) -> Result:
            return await pay.charge(amount, "tok_other", idempotency_key=ask.key)

        return Ask("payment", ask.key, f"charge {amount.format()} (another request)", do)

    def _key(self, what: str) -> str:
        self._asked += 1
        return f"c{self.number}-{what}{self._asked}"

    def _first(self) -> Ask:
        cards = ("ok", "ok", "ok", "ok", "soft", "hard", "3ds")
        kind = self._random.choice(cards)
        drawn = {
            side.name: kind if self._random.random() < 0.5 else self._random.choice(cards)
            for side in self._sides
        }
        by_gateway = {side.name: side.tokens[drawn[side.name]] for side in self._sides}
        token = Token("tok_any", by_gateway)
        order = [side.name for side in self._sides]
        self._random.shuffle(order)
        charges = self._random.random() < 0.6
        key = self._key("charge" if charges else "authorize")
        amount = self._amount

        async def do(pay: AegisPay) -> Result:
            method = pay.charge if charges else pay.authorize
            return await method(
                amount,
                token,
                idempotency_key=key,
                gateway=order,
                customer_id="cust_1",
                return_url="https://shop.example/back",
                metadata=MANDATE,
            )

        shape = f"{'charge' if charges else 'authorize'} {amount.format()} {drawn} {order}"
        return Ask("payment", key, shape, do)

    # --- what follows ---------------------------------------------------------------------------------------

    def _follow_ups(self, payment: Payment) -> list[Ask]:
        """What the merchant, or the payer, does next with a payment in this state; several at once at times."""
        draw, state = self._random.random(), payment.state
        if state is PaymentState.REQUIRES_ACTION:
            if draw < 0.15:
                return [self._void(payment)] if draw < 0.05 else []
            done = self._complete(payment, self._payer_acts(payment))
            return [done, self._void(payment)] if draw < 0.25 else [done]
        if state is PaymentState.AUTHORIZED:
            if draw < 0.15:
                return []
            if draw < 0.3:
                return [self._void(payment)]
            if draw < 0.4:
                return [self._void(payment), self._capture(payment)]
            if draw < 0.6:
                return [self._capture(payment), self._capture(payment)]
            return [self._capture(payment)]
        if state in (PaymentState.SUCCEEDED, PaymentState.PARTIALLY_REFUNDED):
            if draw < 0.3:
                return []
            return [self._refund(payment) for _ in range(1 if draw < 0.7 else self._random.randint(2, 3))]
        return []

    def _part(self, whole: int) -> Money | None:
        draw = self._random.random()
        if draw < 0.4:
            return None
        return Money(max(1, int(whole * self._random.random())), self._amount.code)

    def _capture(self, payment: Payment) -> Ask:
        side = next((one for one in self._sides if one.name == payment.gateway), None)
        final = not (side and side.multi_capture and self._random.random() < 0.5)
        amount, key = self._part(payment.amount_minor), self._key("capture")

        async def do(pay: AegisPay) -> Result:
            return await pay.capture(payment.id, amount, final=final, idempotency_key=key)

        return Ask("capture", key, f"capture {payment.id} {amount} final={final}", do)

    def _refund(self, payment: Payment) -> Ask:
        amount, key = self._part(payment.captured_minor or 1), self._key("refund")

        async def do(pay: AegisPay) -> Result:
            return await pay.refund(payment.id, amount, idempotency_key=key)

        return Ask("refund", key, f"refund {payment.id} {amount}", do)

    def _void(self, payment: Payment) -> Ask:
        key = self._key("void")

        async def do(pay: AegisPay) -> Result:
            return await pay.void(payment.id, idempotency_key=key)

        return Ask("void", key, f"void {payment.id}", do)

    def _complete(self, payment: Payment, brought: Mapping[str, str]) -> Ask:
        key = self._key("confirm")

        async def do(pay: AegisPay) -> Result:
            return await pay.complete_action(payment.id, dict(brought), idempotency_key=key)

        return Ask("confirm", key, f"complete_action {payment.id}", do)

    def _payer_acts(self, payment: Payment) -> Mapping[str, str]:
        """The payer goes through the PSP's page, now or a little later, or gives up; returns what comes back with them."""
        side = next((one for one in self._sides if one.name == payment.gateway), None)
        draw = self._random.random()
        if side is None or payment.gateway_reference is None or draw < 0.15:
            return {}
        loop: Any = asyncio.get_running_loop()
        if draw < 0.7:
            passes = draw < 0.55
            if not passes and draw < 0.65:
                # Whose try has failed tries again, where the PSP lets them.
                loop.outside_at(loop.time() + 2.0 * self._random.random(), side.authenticate, payment, True)
            return side.authenticate(payment, passes)
        # On another device: whoever comes back meanwhile brings nothing.
        loop.outside_at(loop.time() + self._random.random() * 2.0, side.authenticate, payment, draw < 0.9)
        return {}
