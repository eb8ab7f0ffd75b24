"""PSPs of other kinds than the sandbox's faces: with keys that expire, or with nothing but a look-up, or with a cancel.

A model is as unforgiving as its kind: without keys, what arrives twice is executed twice. Money moves in the bank's books.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import (
    Approved,
    DeclineCategory,
    Declined,
    InDoubt,
    NextAction,
    Outcome,
    Pending,
    RequiresAction,
)
from aegispay.domain.payment import FIRST_KINDS
from aegispay.gateways.gateway import SAVED_ERROR, Found, GatewayCall, Lookup, NotFound
from aegispay.sandbox.bank import Bank
from aegispay.testing.simulation.instance_ports import WorldClock
from aegispay.testing.simulation.loop import SimulatedLoop

_NO = {
    "tok_soft": (DeclineCategory.SOFT, "insufficient_funds"),
    "tok_hard": (DeclineCategory.HARD, "stolen_card"),
}


class _Payment(msgspec.Struct, kw_only=True):
    reference: str
    operation_id: str
    payment_ref: str
    kind: OperationKind
    amount_minor: int
    currency: str
    status: str
    """`requires_action`, `authenticated`, `processing`, `authorized`, `captured`, `declined`, `voided`."""
    approves: bool = True
    captured_minor: int = 0
    released_minor: int = 0
    refunded_minor: int = 0

    @property
    def room_minor(self) -> int:
        return self.amount_minor - self.captured_minor - self.released_minor


class _Done(msgspec.Struct, frozen=True, kw_only=True):
    """One operation on a payment, executed."""

    kind: OperationKind
    at_us: int
    outcome: Approved


class ModelPsp:
    """One account at a PSP of a kind."""

    def __init__(
        self,
        account: str,
        bank: Bank,
        loop: SimulatedLoop,
        source: random.Random,
        *,
        keyed: bool,
        cancels: bool,
        key_ttl_s: float = 0.0,
        lag_s: Callable[[], float] = lambda: 0.0,
        pending_share: float = 0.0,
        pending_s_max: float = 30.0,
    ):
        self.account = account
        self._bank = bank
        self._loop = loop
        self._clock = WorldClock(loop)
        self._random = source
        self.keyed = keyed
        self.cancels = cancels
        self._key_ttl_us = int(key_ttl_s * 1_000_000)
        self._lag_s = lag_s
        self._pending_share = pending_share
        self._pending_s_max = pending_s_max
        self._payments: dict[str, _Payment] = {}
        self._by_operation: dict[str, list[tuple[int, _Payment]]] = {}
        self._done: dict[str, list[_Done]] = {}
        self._keys: dict[str, tuple[int, Outcome]] = {}
        self._refused: set[str] = set()
        self._count = 0

    # --- what arrives ---------------------------------------------------------------------------------------

    def execute(self, call: GatewayCall, fail: str | None = None) -> Outcome:
        """One request. With keys, what came before under the same one is answered again."""
        now_us = self._clock.now_us()
        if call.operation_id in self._refused:
            return Declined(category=DeclineCategory.INVALID, code="reference_canceled")
        if self.keyed:
            saved = self._keys.get(call.gateway_key)
            if saved is not None and now_us - saved[0] < self._key_ttl_us:
                return saved[1]
        if fail == "before":
            outcome: Outcome = InDoubt(reason=SAVED_ERROR if self.keyed else "server_error")
        else:
            outcome = getattr(self, f"_{call.kind.value}")(call)
            if fail == "after":
                outcome = InDoubt(reason=SAVED_ERROR if self.keyed else "server_error")
        if self.keyed:
            self._keys[call.gateway_key] = (now_us, outcome)
        return outcome

    def look_up(self, call: GatewayCall) -> Lookup:
        """By the operation's id; what is younger than the lag is not seen, unless the PSP's own id is known."""
        seen_us = self._clock.now_us() - int(self._lag_s() * 1_000_000)
        if call.kind in FIRST_KINDS:
            if call.own_reference is not None and call.own_reference in self._payments:
                return Found(outcome=self._status(self._payments[call.own_reference], call))
            found = [one for at_us, one in self._by_operation.get(call.operation_id, ()) if at_us <= seen_us]
            took = [one for one in found if one.status != "declined"] or found
            return Found(outcome=self._status(took[0], call)) if took else NotFound()
        done = [one for one in self._done.get(call.operation_id, ()) if one.at_us <= seen_us]
        return Found(outcome=done[0].outcome) if done else NotFound()

    def cancel(self, call: GatewayCall) -> Outcome:
        """Whatever was or will be sent under this reference has no effect, unless it was executed already."""
        payments = [one for _, one in self._by_operation.get(call.operation_id, ())]
        if self._done.get(call.operation_id) or any(
            one.status in ("captured", "processing", "authenticated") for one in payments
        ):
            return InDoubt(reason="executed")
        for one in payments:
            if one.status in ("authorized", "requires_action"):
                self._release(one, f"{call.operation_id}.cancel")
                one.status = "voided"
        self._refused.add(call.operation_id)
        return Approved(reference=call.operation_id, amount_minor=call.amount.amount_minor)

    def authenticate(self, reference: str, passed: bool) -> None:
        """The payer acted."""
        payment = self._payments.get(reference)
        if payment is not None and payment.status == "requires_action":
            payment.status = "authenticated" if passed else "declined"

    # --- operations -----------------------------------------------------------------------------------------

    def _authorize(self, call: GatewayCall) -> Outcome:
        self._count += 1
        payment = _Payment(
            reference=f"{self.account}_{self._count}",
            operation_id=call.operation_id,
            payment_ref=call.payment_id,
            kind=call.kind,
            amount_minor=call.amount.amount_minor,
            currency=call.amount.code,
            status="declined",
        )
        self._payments[payment.reference] = payment
        self._by_operation.setdefault(call.operation_id, []).append((self._clock.now_us(), payment))
        token = call.token or ""
        if token in _NO:
            category, code = _NO[token]
            return Declined(category=category, code=code, reference=payment.reference)
        if token == "tok_3ds":  # noqa: S105 - a test token's name
            payment.status = "requires_action"
        elif self._pending_share and self._random.random() < self._pending_share:
            payment.status = "processing"
            payment.approves = self._random.random() < 0.8
            settles_s = self._loop.time() + self._random.random() * self._pending_s_max
            self._loop.outside_at(settles_s, self._settle, payment)
        else:
            self._take(payment)
        return self._status(payment, call)

    _charge = _authorize

    def _settle(self, payment: _Payment) -> None:
        if payment.status == "processing":
            if payment.approves:
                self._take(payment)
            else:
                payment.status = "declined"

    def _take(self, payment: _Payment) -> None:
        now_us = self._clock.now_us()
        self._bank.authorize(
            self.account,
            payment.reference,
            reference=payment.operation_id,
            payment_ref=payment.payment_ref,
            amount_minor=payment.amount_minor,
            currency=payment.currency,
            at_us=now_us,
        )
        payment.status = "authorized"
        if payment.kind is OperationKind.CHARGE:
            self._bank.capture(
                self.account,
                payment.reference,
                f"{payment.reference}.capture",
                reference=payment.operation_id,
                amount_minor=payment.amount_minor,
                at_us=now_us,
            )
            payment.captured_minor = payment.amount_minor
            payment.status = "captured"

    def _status(self, payment: _Payment, call: GatewayCall) -> Outcome:
        reference, status = payment.reference, payment.status
        if status in ("authorized", "captured"):
            return Approved(reference=reference, amount_minor=payment.amount_minor)
        if status in ("requires_action", "authenticated"):
            return RequiresAction(
                reference=reference, action=NextAction(url=f"https://{self.account}.example/3ds")
            )
        if status == "processing":
            return Pending(reference=reference)
        code = "canceled" if status == "voided" else _NO.get(call.token or "", (None, "generic_decline"))[1]
        category = DeclineCategory.SOFT if code == "insufficient_funds" else DeclineCategory.HARD
        return Declined(category=category, code=code, reference=reference)

    def _confirm(self, call: GatewayCall) -> Outcome:
        payment = self._payments.get(call.parent_reference or "")
        if payment is None:
            return _invalid("not_found")
        if payment.status == "authenticated":
            self._take(payment)
        outcome = self._status(payment, call)
        if isinstance(outcome, Approved):
            return self._finish(call, payment.amount_minor, payment.reference)
        return outcome

    def _capture(self, call: GatewayCall) -> Outcome:
        payment = self._payments.get(call.parent_reference or "")
        amount = call.amount.amount_minor
        if payment is None or payment.status != "authorized" or amount > payment.room_minor:
            return _invalid("not_capturable")
        payment.captured_minor += amount
        found = self._finish(call, amount)
        self._bank.capture(
            self.account,
            payment.reference,
            found.reference,
            reference=call.operation_id,
            amount_minor=amount,
            at_us=self._clock.now_us(),
        )
        if call.final:
            self._release(payment, call.operation_id)
        if not payment.room_minor:
            payment.status = "captured"
        return found

    def _void(self, call: GatewayCall) -> Outcome:
        payment = self._payments.get(call.parent_reference or "")
        if payment is None or payment.status not in ("authorized", "requires_action", "authenticated"):
            return _invalid("not_voidable")
        if payment.status == "authorized":
            self._release(payment, call.operation_id)
        payment.status = "captured" if payment.captured_minor else "voided"
        return self._finish(call, call.amount.amount_minor)

    def _refund(self, call: GatewayCall) -> Outcome:
        payment = self._payments.get(call.parent_reference or "")
        amount = call.amount.amount_minor
        if payment is None or amount > payment.captured_minor - payment.refunded_minor:
            return _invalid("amount_too_large")
        payment.refunded_minor += amount
        found = self._finish(call, amount)
        self._bank.refund(
            self.account,
            payment.reference,
            found.reference,
            reference=call.operation_id,
            amount_minor=amount,
            at_us=self._clock.now_us(),
        )
        return found

    def _release(self, payment: _Payment, reference: str) -> None:
        amount = payment.room_minor
        if amount and payment.status == "authorized":
            self._count += 1
            self._bank.release(
                self.account,
                payment.reference,
                f"{self.account}_{self._count}",
                reference=reference,
                amount_minor=amount,
                at_us=self._clock.now_us(),
            )
            payment.released_minor += amount

    def _finish(self, call: GatewayCall, amount_minor: int, reference: str | None = None) -> Approved:
        self._count += 1
        found = Approved(reference=reference or f"{self.account}_{self._count}", amount_minor=amount_minor)
        done = _Done(kind=call.kind, at_us=self._clock.now_us(), outcome=found)
        self._done.setdefault(call.operation_id, []).append(done)
        return found


def _invalid(code: str) -> Declined:
    return Declined(category=DeclineCategory.INVALID, code=code)
