"""The stage: AegisPay on one side, the bank in a process of its own on the other, and the comparison of their books.

What the customer paid is always read from the bank, never from our tables.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import msgspec

from aegispay.app import AegisPay
from aegispay.demo.inbox import Inbox
from aegispay.domain.events import OperationApproved
from aegispay.domain.methods import Token
from aegispay.domain.money import Money
from aegispay.domain.outcomes import Evidence
from aegispay.domain.payment import Payment
from aegispay.domain.states import PaymentState
from aegispay.orchestration.results import Result
from aegispay.sandbox.adapters import CUSTOMER_ID, FIVE, MANDATE, five_token
from aegispay.sandbox.bank import BankCharge
from aegispay.sandbox.process import SandboxProcess
from aegispay.sandbox.webhooks import NoticePlan

SETTLE_TIMEOUT_S = 8.0
POLL_S = 0.005


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What a scenario came to."""

    name: str
    happened: str
    customer_paid: str
    """From the bank's books."""
    recorded: str
    """From ours."""
    problems: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems


async def until(holds: Callable[[], Awaitable[bool]], timeout_s: float, poll_s: float = POLL_S) -> bool:
    """Waits until it holds, for so long at most; says whether it did."""
    try:
        async with asyncio.timeout(timeout_s):
            while not await holds():  # noqa: ASYNC110 - it changes in another process, which sends no event
                await asyncio.sleep(poll_s)
            return True
    except TimeoutError:
        return False


class Stage:
    """What a scenario works with."""

    def __init__(
        self,
        pay: AegisPay,
        sandbox: SandboxProcess,
        inbox: Inbox,
        store_url: str,
        directory: Path,
        run_id: str,
        notices: NoticePlan,
    ):
        self.pay = pay
        self.sandbox = sandbox
        self.store_url = store_url
        self.directory = directory
        self._inbox = inbox
        self._run_id = run_id
        self._notices = notices

    def key(self, name: str) -> str:
        """An idempotency key of this run."""
        return f"{self._run_id}-{name}"

    async def charge(
        self,
        name: str,
        amount: Money,
        gateway: str | list[str] | None = None,
        method: Token | None = None,
        metadata: Mapping[str, str] = MANDATE,
    ) -> Result:
        """A charge under this run's key of that name; the router decides where no gateway is named."""
        return await self.pay.charge(
            amount,
            method or five_token(),
            idempotency_key=self.key(name),
            gateway=gateway,
            customer_id=CUSTOMER_ID,
            metadata=dict(metadata),
            return_url="https://shop.example/back",
        )

    def requests(self, *faces: str) -> int:
        """How many requests these PSPs have seen."""
        seen = self.sandbox.control("status")["requests"]
        return sum(int(seen[face]) for face in faces)

    async def evidence(self, payment_id: str) -> list[Evidence]:
        """How each approval of the payment was known, in order."""
        events = await self.pay.event_store.events(payment_id)
        return [event.data.evidence for event in events if isinstance(event.data, OperationApproved)]

    def charges(self, payment: Payment) -> list[BankCharge]:
        """The bank's charges of a payment. Braintree is told of our operations only, so it is found by those."""
        operations = {operation.id for operation in payment.operations}
        return [
            charge
            for charge in self.sandbox.bank.charges()
            if charge.payment_ref == payment.id or charge.reference in operations
        ]

    def taken_minor(self, payment: Payment) -> int:
        """What the bank took for it."""
        return sum(charge.captured_minor for charge in self.charges(payment))

    async def send_webhooks(self) -> None:
        """From now on the PSPs deliver their webhooks as they come; some twice, late, out of order, or forged first."""
        urls = {name: self._inbox.url(name) for name in FIVE}
        await asyncio.to_thread(self.sandbox.send_webhooks, urls, self._notices)

    async def hold_webhooks(self) -> None:
        """From now on the PSPs keep their webhooks."""
        await asyncio.to_thread(self.sandbox.hold_webhooks)

    async def settled(self, payment_id: str, timeout_s: float = SETTLE_TIMEOUT_S) -> Payment:
        """The payment once nothing of it is under way or in doubt; as it stands where that takes too long."""

        async def over() -> bool:
            return not (await self.pay.get(payment_id)).unfinished

        await until(over, timeout_s)
        return await self.pay.get(payment_id)


class Case:
    """One scenario under way: its findings become a row."""

    def __init__(self, stage: Stage, name: str):
        self.stage = stage
        self.name = name
        self.happened = ""
        self._paid: list[str] = []
        self._recorded: list[str] = []
        self._problems: list[str] = []

    def check(self, holds: bool, otherwise: str) -> None:
        """Notes what is wrong where it does not hold."""
        if not holds:
            self._problems.append(otherwise)

    async def expect(
        self,
        payment_id: str,
        *,
        state: PaymentState,
        taken_minor: int,
        refunded_minor: int = 0,
        by: str | None = None,
    ) -> None:
        """Compares the bank's books, and ours, with what should have come of a payment.

        `by` is the PSP that alone may have taken the money; nobody, where nothing was to be taken.
        """
        payment = await self.stage.settled(payment_id)
        charges = self.stage.charges(payment)
        took = [charge for charge in charges if charge.captured_minor]
        bank_taken = sum(charge.captured_minor for charge in charges)
        bank_refunded = sum(charge.refunded_minor for charge in charges)
        held = sum(charge.held_minor for charge in charges)

        def shown(amount_minor: int) -> str:
            return Money(amount_minor, payment.currency).format()

        paid = shown(bank_taken) + (f" in {len(took)} charges" if len(took) > 1 else "")
        self._paid.append(paid + (f", {shown(bank_refunded)} back" if bank_refunded else ""))
        back = f", {shown(payment.refunded_minor)} back" if payment.refunded_minor else ""
        self._recorded.append(f"{payment.state}, {shown(payment.captured_minor)}{back}")
        self.check(bank_taken == taken_minor, f"the bank took {shown(bank_taken)}, not {shown(taken_minor)}")
        self.check(bank_refunded == refunded_minor, f"the bank gave back {shown(bank_refunded)}")
        self.check(
            [charge.account for charge in took] == ([by] if by else []), "another PSP, or two, took it"
        )
        self.check(not held, f"{shown(held)} is still held on the card")
        self.check(payment.captured_minor == bank_taken, "our books say another amount than the bank's")
        self.check(payment.refunded_minor == bank_refunded, "our refunds differ from the bank's")
        self.check(payment.state is state, f"the payment is {payment.state}, not {state}")

    def row(self) -> Row:
        return Row(
            name=self.name,
            happened=self.happened,
            customer_paid=_counted(self._paid),
            recorded=_counted(self._recorded),
            problems=tuple(self._problems),
        )

    def fail(self, error: BaseException) -> None:
        self._problems.append(f"{type(error).__name__}: {error}")


def _counted(texts: list[str]) -> str:
    """Equal ones once, with their number: `5 x 100.00 USD`."""
    found = Counter(texts)
    return "; ".join(f"{count} x {text}" if count > 1 else text for text, count in found.items())


class Scenario(msgspec.Struct, frozen=True):
    name: str
    play: Callable[[Case], Awaitable[None]]
