"""Payments in the making, for tests of stores: each step gives the `Write` that an orchestrator would commit.

Ids and times are made here without a clock, so that the same calls give the same payments.
"""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

from aegispay.domain import events as ev
from aegispay.domain.events import CaptureMode, Event, EventData, OperationKind
from aegispay.domain.evolve import fold
from aegispay.domain.methods import MethodSnapshot
from aegispay.domain.outcomes import DeclineCategory, NextAction
from aegispay.domain.payment import Payment
from aegispay.storage.store import Claim, Guard, InFlight, Purpose, Write

START_US = 1_700_000_000_000_000
_numbers = itertools.count(1)


def new_hex() -> str:
    """32 hexadecimal digits that rise, as those of version 7 UUIDs do, and spread over the whole range of bytes."""
    number = next(_numbers)
    return (
        f"{START_US // 1000 + number:012x}7{number % 0xFFF:03x}"
        + hashlib.sha256(str(number).encode()).hexdigest()[:16]
    )


def digest_of(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:16]


class SamplePayment:
    """One payment. Each method makes the next write and takes it as committed; `payment` is the projection so far."""

    def __init__(
        self,
        *,
        merchant_id: str = "default",
        key: str | None = None,
        reference: str = "ch_1",
        **details: Any,
    ):
        self.id = "pay_" + new_hex()
        self.operation_id = "op_" + new_hex()
        self.key = key or self.id
        self.merchant_id = merchant_id
        self.reference = reference
        """What the PSP calls the first attempt."""
        self.details = details
        self.events: list[Event] = []
        self.payment: Payment | None = None
        self.at_us = START_US

    def _write(self, *data: EventData, **more: Any) -> Write:
        expected = len(self.events)
        for one in data:
            self.at_us += 1000
            self.events.append(
                Event(
                    id="evt_" + new_hex(),
                    payment_id=self.id,
                    version=len(self.events) + 1,
                    at_us=self.at_us,
                    correlation_id=self.id if expected else "req_" + self.operation_id[3:],
                    causation_id=self.events[-1].id if self.events else self.id,
                    data=one,
                )
            )
        self.payment = fold(self.events[expected:], self.payment)
        return Write(
            payment=self.payment, events=tuple(self.events[expected:]), expected_version=expected, **more
        )

    def claim(self, scope: str = "payment", operation_id: str | None = None) -> Claim:
        return Claim(
            digest=digest_of(f"{self.merchant_id}/{scope}/{self.key}"),
            merchant_id=self.merchant_id,
            scope=scope,
            payment_id=self.id,
            operation_id=operation_id or self.operation_id,
            request_hash=digest_of("request"),
        )

    def in_flight(self, operation_id: str | None = None, **changes: Any) -> InFlight:
        values: dict[str, Any] = {
            "operation_id": operation_id or self.operation_id,
            "payment_id": self.id,
            "gateway": "stripe",
            "purpose": Purpose.CALL,
            "due_at_us": self.at_us + 30_000_000,
            "owner": "first-worker",
            "fence": 1,
            "sent_at_us": self.at_us,
        }
        return InFlight(**(values | changes))

    def intent(self, *, claimed: bool = True, **lease: Any) -> Write:
        """Initiates the payment and starts its first attempt, with its claim and its lease."""
        details: dict[str, Any] = {
            "amount_minor": 10_000,
            "currency": "USD",
            "capture": CaptureMode.AUTOMATIC,
            "method": MethodSnapshot(token="tok_visa"),  # noqa: S106 - a PSP's test token
            "candidates": ("stripe", "simple"),
            "request_hash": "0" * 32,
        } | self.details
        initiated = ev.PaymentInitiated(merchant_id=self.merchant_id, **details)
        started = ev.OperationStarted(
            operation_id=self.operation_id,
            kind=OperationKind.CHARGE,
            gateway="stripe",
            amount_minor=int(details["amount_minor"]),
            gateway_key=self.operation_id,
            attempt=1,
        )
        write = self._write(initiated, started)
        return Write(
            payment=write.payment,
            events=write.events,
            expected_version=0,
            claim=self.claim() if claimed else None,
            opens=(self.in_flight(**lease),),
        )

    def approve(self, *, fence: int | None = 1, keep: InFlight | None = None) -> Write:
        """The outcome of the first attempt, under its lease."""
        amount = self.payment.amount_minor if self.payment else 0
        approved = ev.OperationApproved(
            operation_id=self.operation_id, amount_minor=amount, reference=self.reference
        )
        guard = None if fence is None else Guard(operation_id=self.operation_id, fence=fence, keep=keep)
        return self._write(approved, guard=guard)

    def doubt(self, *, fence: int = 1, keep: InFlight | None = None) -> Write:
        """The first attempt is in doubt; its lease is kept unless told otherwise."""
        kept = keep or self.in_flight(fence=fence, tries=1)
        data = ev.OperationInDoubt(operation_id=self.operation_id, reason="timeout")
        return self._write(data, guard=Guard(operation_id=self.operation_id, fence=fence, keep=kept))

    def refund(self, amount_minor: int, *, key: str | None = None) -> Write:
        """Starts a refund, with a claim of its own."""
        operation_id = "op_" + new_hex()
        started = ev.OperationStarted(
            operation_id=operation_id,
            kind=OperationKind.REFUND,
            gateway="stripe",
            amount_minor=amount_minor,
            gateway_key=operation_id,
            parent_id=self.operation_id,
        )
        write = self._write(started)
        self.key = key or operation_id
        return Write(
            payment=write.payment,
            events=write.events,
            expected_version=write.expected_version,
            claim=self.claim("refund", operation_id),
            opens=(self.in_flight(operation_id),),
        )

    def conclude(self, reference: str) -> Write:
        """The newest operation is approved, and the PSP calls it so."""
        newest = self.payment.operations[-1] if self.payment else None
        if newest is None:
            raise AssertionError("nothing was begun")
        approved = ev.OperationApproved(
            operation_id=newest.id, amount_minor=newest.amount_minor, reference=reference
        )
        return self._write(approved)

    def told(self) -> list[Write]:
        """One write after another in which the first attempt is called something new by the PSP, to a late success."""
        first = self.operation_id
        quoted = 'it said "reference":"quoted_1" and \0'
        action = NextAction(url="https://psp.example/3ds", data={"reference": "quoted_1"})
        return [
            self._write(ev.OperationPending(operation_id=first, reason=quoted, reference="pending_1")),
            self._write(ev.OperationRequiresAction(operation_id=first, reference="action_1", action=action)),
            self._write(
                ev.OperationDeclined(
                    operation_id=first,
                    category=DeclineCategory.HARD,
                    code="lost_card",
                    message=quoted,
                    reference="declined_1",
                ),
                ev.PaymentFailed(code="lost_card", category=DeclineCategory.HARD, message=quoted),
            ),
            self._write(ev.LateSuccessFound(operation_id=first, amount_minor=100, reference="late_1")),
        ]
