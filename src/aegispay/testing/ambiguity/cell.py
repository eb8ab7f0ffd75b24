"""One cell: an operation at a PSP meets a trouble, recovery runs until the doubt has ended, and the books are compared."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from aegispay.app import AegisPay
from aegispay.domain.errors import InvalidRequest, InvalidState
from aegispay.domain.events import Event, OperationKind
from aegispay.domain.evolve import fold
from aegispay.domain.payment import Operation, OperationStatus, Payment, encode_payment
from aegispay.domain.states import PaymentState
from aegispay.orchestration.results import ActionRequired, Failed, Pending, Result, Success
from aegispay.testing.ambiguity.psps import MatrixPsp
from aegispay.testing.ambiguity.stage import (
    AMOUNT_MINOR,
    DATABASE,
    SPARE,
    Books,
    Stage,
    empty_database,
    expect,
    our_books,
)
from aegispay.testing.ambiguity.story import DONE, NOT_DONE, OPEN, REVERSED, Story, final_state, within
from aegispay.testing.ambiguity.troubles import Trouble
from aegispay.testing.virtual_clock import VirtualTimeLoop

K = OperationKind
REFUSED = "refused"
NOTHING = (NOT_DONE, REVERSED)
"""Ends in which the payer has all the money."""
_WATCH_S = 650.0
"""Longer than recovery waits before its second look at what it did not find."""
_GIVE_UP_S = 2 * 86_400.0


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it."""

    steps: tuple[str, ...]
    """The call's outcome, then each evidence and what it showed; the last one is how it ended."""
    told: str = ""
    """What the caller was told at once; empty where nobody was left to be told, or nothing was sent."""
    within: str = ""
    """How long it took, where that was longer than the caller waited."""
    strikes_at: int = 0
    """The number of the operation's request that moved the money, from 0; its last one where none of ours did."""
    requests: int = 0
    """How many requests the operation took until the caller was answered."""

    @property
    def text(self) -> str:
        """As it stands in the page."""
        end = f" ({self.within})" if self.within else ""
        told = f"; told {self.told}" if self.told and self.told != self.steps[-1] else ""
        return " → ".join(self.steps) + end + told


_moving: dict[tuple[MatrixPsp, OperationKind], int] = {}


def run_cell(
    psp: MatrixPsp,
    kind: OperationKind,
    trouble: Trouble,
    *,
    number: int | None = None,
    then: Sequence[Trouble] = (),
) -> Cell:
    """Plays the cell under virtual time. Raises `AmbiguityFailure` where a promise about money is broken.

    The trouble strikes the request that moves the money; or the one with this `number`. `then` strike what follows it: a
    resend, say, or a look-up; our process does not die of those.
    """
    if number is None and trouble is not Trouble.NOTHING:
        key = (psp, kind)
        if key not in _moving:
            _moving[key] = run_cell(psp, kind, Trouble.NOTHING).strikes_at
        number = _moving[key]
    with (
        TemporaryDirectory(prefix="aegispay-cell-") as directory,
        asyncio.Runner(loop_factory=VirtualTimeLoop) as runner,
    ):
        (Path(directory) / DATABASE).write_bytes(empty_database())
        return runner.run(_play(psp, kind, (trouble, *then), number or 0, Path(directory)))


async def _play(
    psp: MatrixPsp, kind: OperationKind, troubles: Sequence[Trouble], number: int, directory: Path
) -> Cell:
    stage = Stage(psp, directory)
    try:
        return await _Play(stage, kind, troubles, number).run()
    finally:
        await stage.close()


class _Play:
    """A cell on its stage."""

    def __init__(self, stage: Stage, kind: OperationKind, troubles: Sequence[Trouble], number: int):
        self.stage = stage
        self.kind = kind
        self.trouble, *self.then = troubles
        self.number = number
        self.brought: dict[str, str] = {}
        self.before = Books(held_minor=0, taken_minor=0, given_back_minor=0)

    async def run(self) -> Cell:
        stage, wire = self.stage, self.stage.wire
        pay = await stage.instance()
        payment_id, self.brought = await stage.prepare(pay, self.kind)
        self.before, first = stage.bank_books(), wire.count
        begin_us = stage.clock.now_us()
        if self.trouble is not Trouble.NOTHING:
            wire.arm(self.trouble, self.number, self.then)
        try:
            told = await stage.until_dead_or_done(stage.ask(pay, self.kind, payment_id, self.brought))
        except (InvalidRequest, InvalidState):
            expect(wire.count == first, "it was refused, and yet something was sent")
            expect(stage.bank_books() == self.before, "it was refused, and yet money moved")
            return Cell(steps=(REFUSED,))
        sent = range(first, wire.count)
        expect(wire.struck or self.trouble is Trouble.NOTHING, f"{self.trouble} struck nothing")
        answered_us = stage.clock.now_us()
        if told is None:
            pay, answered_us = await stage.bury(pay), begin_us
        payment = await self._settled(pay, payment_id)
        events = await pay.event_store.events(payment.id)
        operation = self._operation(payment)
        story = Story(operation, events, stage.heard, crashed=told is None)
        steps = story.steps(failed_over=_failed_over(payment), executed=stage.bank_books() != self.before)
        self._judge(payment, operation, events, steps[-1], told)
        await self._ask_again(pay, payment, steps, told)
        moving = [one - first for one in wire.moved if one in sent]
        return Cell(
            steps=steps,
            told="" if told is None else _told(told),
            within=within(answered_us, story.ended_at_us()),
            strikes_at=moving[-1] if moving else len(sent) - 1,
            requests=len(sent),
        )

    async def _settled(self, pay: AegisPay, payment_id: str) -> Payment:
        """Recovery and notices go on until nothing is open or a person is asked; and then a little longer."""
        stage = self.stage
        begin_s = stage.clock.monotonic_s()
        if not payment_id:
            found = await pay.list(limit=10)
            expect(len(found) == 1, f"there are {len(found)} payments, not one")
            payment_id = found[0].id
        while True:
            payment = await self._pass(pay, payment_id)
            if payment.review is not None or not any(one.unfinished for one in payment.operations):
                break
            elapsed_s = stage.clock.monotonic_s() - begin_s
            expect(
                elapsed_s < _GIVE_UP_S, f"it is still {payment.state} after two days, and nobody was asked"
            )
            await stage.clock.sleep(1.0 if elapsed_s < 120 else 30.0 if elapsed_s < 7_200 else 1_800.0)
        passes = 2 + len(self.then)
        while passes or stage.wire.on_its_way:
            await stage.clock.sleep(_WATCH_S)
            payment = await self._pass(pay, payment_id)
            passes = max(0, passes - 1)
        return payment

    async def _pass(self, pay: AegisPay, payment_id: str) -> Payment:
        await self.stage.deliver_notices(pay)
        await pay.recover()
        return await pay.get(payment_id)

    def _operation(self, payment: Payment) -> Operation:
        """The operation that the cell is about."""
        here = self.stage.psp.name
        found = [one for one in payment.operations if one.kind is self.kind and one.gateway == here]
        expect(len(found) == 1, f"there are {len(found)} operations of this kind, not one")
        return found[0]

    # --- what must hold in every cell -----------------------------------------------------------------------

    def _done(self) -> Books:
        """The bank's books with the operation's effect, once."""
        if self.kind is K.AUTHORIZE:
            return Books(held_minor=AMOUNT_MINOR, taken_minor=0, given_back_minor=0)
        if self.kind is K.VOID:
            return Books(held_minor=0, taken_minor=0, given_back_minor=0)
        back = self.stage.psp.refund_minor if self.kind is K.REFUND else 0
        return Books(held_minor=0, taken_minor=AMOUNT_MINOR, given_back_minor=back)

    def _judge(
        self, payment: Payment, operation: Operation, events: list[Event], end: str, told: Result | None
    ) -> None:
        bank, ours, done = self.stage.bank_books(), our_books(payment), self._done()
        if end in OPEN:
            expect(bank in (self.before, done), f"the bank's books say {bank}")
            expect(payment.review is not None, "it is open, and no person is asked")
        else:
            due = done if end == DONE else self.before
            if end == REVERSED:
                # Ours leave out what nobody wanted; the bank's may show both sides of it.
                bank = bank.net()
            expect(bank == due, f"it is {end}, and the bank's books say {bank}, not {due}")
            expect(ours == bank, f"our books say {ours}, and the bank's {bank}")
        if isinstance(told, Success):
            expect(end == DONE, f"the caller was told of a success, and it is {end}")
        if isinstance(told, Failed):
            expect(end in NOTHING, f"the caller was told of a failure, and it is {end}")
        state = final_state(self.kind, end, partly=payment.refunded_minor < payment.captured_minor)
        # What recovery itself began after the payer's hour may meet the next fault, and end with a person.
        releasing = any(one.unfinished for one in payment.operations if one.reason == "expired")
        state = PaymentState.NEEDS_REVIEW if releasing else state
        expect(payment.state is state, f"it is {end}, and the payment is {payment.state}, not {state}")
        expect(encode_payment(fold(events)) == encode_payment(payment), "the projection is not its fold")
        self._never_in_doubt_elsewhere(payment, operation, events)

    def _never_in_doubt_elsewhere(self, payment: Payment, operation: Operation, events: list[Event]) -> None:
        """The second gateway was asked only where the first one had proven that it did nothing, and did nothing."""
        spare = [one for one in payment.operations if one.gateway == SPARE]
        expect(bool(spare) == bool(self.stage.spare_wire.count), "the second gateway was called unrecorded")
        if not spare:
            return
        started = next(
            index for index, one in enumerate(events) if getattr(one.data, "operation_id", "") == spare[0].id
        )
        then = fold(events[:started]).operation(operation.id)
        proven = (OperationStatus.NOT_SENT, OperationStatus.DECLINED)
        expect(then is not None and then.status in proven, "failed over while in doubt")
        here = [one for one in self.stage.bank.charges() if one.account != SPARE]
        expect(not here, "failed over, and the first gateway had taken it")

    async def _ask_again(
        self, pay: AegisPay, payment: Payment, steps: Sequence[str], told: Result | None
    ) -> None:
        """The caller's own retry under the same key hears the same, or how it ended, and has no effect (I8)."""
        wire, bank = self.stage.wire, self.stage.bank_books()
        count = wire.count
        again = await self.stage.ask(pay, self.kind, payment.id, self.brought)
        if told is not None and not isinstance(told, Pending):
            expect(again == told, f"the caller was told {told!r}, and hears {again!r} the next time")
        else:
            # Once a payment has been answered as failed, that stays its answer.
            undone = steps[-1] in NOTHING or (payment.failure is not None and steps[-1] in OPEN)
            due = (Failed, ActionRequired) if undone else Pending if steps[-1] in OPEN else Success
            expect(
                isinstance(again, due), f"it is {steps[-1]}, and the caller who asks again hears {again!r}"
            )
        expect(wire.count == count, "the caller's retry was sent to the gateway")
        expect(self.stage.bank_books() == bank, "the caller's retry moved money")


def _failed_over(payment: Payment) -> bool:
    return any(one.gateway == SPARE and one.status is OperationStatus.APPROVED for one in payment.operations)


def _told(result: Result) -> str:
    if isinstance(result, Success):
        return DONE
    return NOT_DONE if isinstance(result, Failed) else result.status.replace("_", " ")
