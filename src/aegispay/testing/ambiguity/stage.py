"""What a cell is played on: a bank, the PSP and a second one that could be failed over to, and instances on one database."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from aegispay.app import AegisPay
from aegispay.domain.events import OperationKind
from aegispay.domain.methods import Token
from aegispay.domain.money import Money
from aegispay.domain.payment import Payment
from aegispay.orchestration.results import ActionRequired, Result, Success
from aegispay.orchestration.settings import Settings
from aegispay.ports import Ports
from aegispay.routing.router import OrderedRouter
from aegispay.sandbox.bank import Bank
from aegispay.sandbox.plainpay_face import PlainPayPsp
from aegispay.sandbox.plainpay_gateway import PlainPayGateway
from aegispay.storage.executors import InlineExecutor
from aegispay.storage.sqlite import SqliteStore
from aegispay.testing.ambiguity.psps import SEED, MatrixPsp
from aegispay.testing.ambiguity.wire import FaceWire
from aegispay.testing.ambiguity.witness import MortalStore, Witness
from aegispay.testing.virtual_clock import LoopClock

AMOUNT_MINOR = 2000
SETTINGS = Settings(recovery=False)
"""The settings that a user has by default; recovery passes are made by the cell."""
SPARE = "spare"
"""The second gateway: one that never fails."""
K = OperationKind
DATABASE = "cell.db"
T = TypeVar("T")


class Books(msgspec.Struct, frozen=True, kw_only=True):
    """What the bank's books, or ours, say of the cell's one payment, over all PSPs."""

    held_minor: int
    taken_minor: int
    given_back_minor: int

    def net(self) -> Books:
        """Without what was taken and given back."""
        return replace(self, taken_minor=self.taken_minor - self.given_back_minor, given_back_minor=0)


class AmbiguityFailure(AssertionError):
    """A cell broke a promise about money, or is not what it claims to be."""


def expect(truth: object, message: str) -> None:
    """Raises `AmbiguityFailure` with the message, under `python -O` too."""
    if not truth:
        raise AmbiguityFailure(message)


@cache
def empty_database() -> bytes:
    """The file of a database with our tables and nothing in them; making one takes longer than most cells."""

    async def make(path: Path) -> None:
        store = SqliteStore(str(path), executor=InlineExecutor(), synchronous="OFF")
        await store.open()
        await store.close()

    with TemporaryDirectory(prefix="aegispay-cell-") as directory:
        path = Path(directory) / DATABASE
        asyncio.run(make(path))
        return path.read_bytes()


class Stage:
    """One payment's world."""

    def __init__(self, psp: MatrixPsp, directory: Path) -> None:
        self.psp = psp
        self.clock = LoopClock()
        self.bank = Bank(None, synchronous="OFF")
        self.face = psp.face(self.bank, self.clock)
        self.wire = FaceWire(self.face, self.bank.movements)
        spare = PlainPayPsp(self.bank, account=SPARE, clock=self.clock, seed=SEED)
        self.spare_wire = FaceWire(spare, self.bank.movements)
        self._spare_key = spare.api_key
        self._directory = directory
        self._started: list[AegisPay] = []
        self.heard: list[Any] = []

    async def instance(self) -> AegisPay:
        """A new process on the same database."""
        witness = Witness(self.psp.gateway(self.wire, self.clock))
        witness.heard = self.heard
        self.wire.quiet_s = witness.capabilities.lookup_quiet_s
        spare = PlainPayGateway(
            base_url="https://spare.example", api_key=self._spare_key, transport=self.spare_wire
        )
        spare.name = SPARE
        database = SqliteStore(str(self._directory / DATABASE), executor=InlineExecutor(), synchronous="OFF")
        store: Any = MortalStore(database, self.wire.dead)
        pay = AegisPay(
            [witness, spare],
            store=store,
            settings=SETTINGS,
            ports=Ports(clock=self.clock, random_source=random.Random(SEED)),  # noqa: S311
            router=OrderedRouter(),
        )
        await pay.start()
        self._started.append(pay)
        return pay

    async def bury(self, pay: AegisPay) -> AegisPay:
        """Ends what is left of the dead process; gives the one that starts in its place."""
        await pay.stop(grace_s=0.001)
        self.wire.dead = asyncio.Event()
        return await self.instance()

    async def close(self) -> None:
        for pay in self._started:
            await pay.stop(grace_s=0.001)
        self.bank.close()

    # --- the payment ----------------------------------------------------------------------------------------

    async def prepare(self, pay: AegisPay, kind: OperationKind) -> tuple[str, dict[str, str]]:
        """The payment that a follow-up needs, made without trouble: its id, and what the payer brought back."""
        if kind in (K.CHARGE, K.AUTHORIZE):
            return "", {}
        action = kind is K.CONFIRM and self.psp.payer_token is not None
        first = K.AUTHORIZE if kind in (K.CAPTURE, K.VOID) else K.CHARGE
        made = await self._first(pay, first, self.psp.payer_token if action else self.psp.token)
        expect(isinstance(made, ActionRequired if action else Success), f"the preparation gave {made!r}")
        await self.deliver_notices(pay)
        brought = self.psp.payer(self.face, made.payment) if action and self.psp.payer else {}
        return made.payment_id, brought

    async def _first(self, pay: AegisPay, kind: OperationKind, token: str | None) -> Result:
        """The first operation, with a second gateway that could take the payment too."""
        ask = pay.charge if kind is K.CHARGE else pay.authorize
        return await ask(
            Money(AMOUNT_MINOR, self.psp.currency),
            Token(token or self.psp.token, by_gateway={SPARE: "tok_visa"}),
            idempotency_key="order-1",
            **self.psp.common,
        )

    async def ask(
        self, pay: AegisPay, kind: OperationKind, payment_id: str, brought: dict[str, str]
    ) -> Result:
        """The operation that the cell is about, as a caller asks for it; again in the same words each time."""
        key = f"{kind}-1"
        if kind is K.CAPTURE:
            return await pay.capture(payment_id, idempotency_key=key)
        if kind is K.VOID:
            return await pay.void(payment_id, idempotency_key=key)
        if kind is K.REFUND:
            refund = Money(self.psp.refund_minor, self.psp.currency)
            return await pay.refund(payment_id, refund, idempotency_key=key)
        if kind is K.CONFIRM:
            return await pay.complete_action(payment_id, brought, idempotency_key=key)
        return await self._first(pay, kind, self.psp.token)

    async def until_dead_or_done(self, work: Awaitable[T]) -> T | None:
        """The work's result, or None where the process died. Raises what the work raises."""
        task = asyncio.ensure_future(work)
        death = asyncio.ensure_future(self.wire.dead.wait())
        await asyncio.wait({task, death}, return_when=asyncio.FIRST_COMPLETED)
        death.cancel()
        if not self.wire.dead.is_set():
            return task.result()
        task.cancel()
        await asyncio.wait({task})
        return None

    async def deliver_notices(self, pay: AegisPay) -> None:
        """What the PSP has to tell by webhook is told, and worked on."""
        if self.psp.outbox is None:
            return
        for notice in self.psp.outbox(self.face).take():
            await pay.take_webhook(self.psp.name, notice.headers, notice.body)

    # --- the books ------------------------------------------------------------------------------------------

    def bank_books(self) -> Books:
        charges = self.bank.charges()
        return Books(
            held_minor=sum(charge.held_minor for charge in charges),
            taken_minor=sum(charge.captured_minor for charge in charges),
            given_back_minor=sum(charge.refunded_minor for charge in charges),
        )


def our_books(payment: Payment) -> Books:
    return Books(
        held_minor=payment.authorized_minor - payment.captured_minor - payment.released_minor,
        taken_minor=payment.captured_minor,
        given_back_minor=payment.refunded_minor,
    )
