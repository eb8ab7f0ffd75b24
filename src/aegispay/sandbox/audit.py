"""Compares the bank's books with our payments. The bank is right: whatever differs is our mistake.

It reads two things that share no code and no table, so that it can say "charged twice" and "charged but not recorded"
whatever the orchestrator believes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from enum import StrEnum

import msgspec

from aegispay.domain.payment import Operation, OperationStatus, Payment
from aegispay.sandbox.bank import Bank, BankCharge, Movement, MovementKind

PROBLEMS_SHOWN_MAX = 1000


class ProblemKind(StrEnum):
    CHARGED_TWICE = "charged_twice"
    """Money was taken by more than one charge, or twice for one capture, and not given back."""
    CHARGED_UNRECORDED = "charged_unrecorded"
    """The bank took more than we know of."""
    RECORDED_UNCHARGED = "recorded_uncharged"
    """We say that we took more than the bank did."""
    REFUNDED_TWICE = "refunded_twice"
    """One refund was paid twice."""
    REFUND_DIFFERS = "refund_differs"
    """The bank paid back another amount than we know of."""
    CURRENCY_DIFFERS = "currency_differs"
    HELD_UNRECORDED = "held_unrecorded"
    """An amount is still reserved on the card, and we do not know of it."""
    CAPTURED_OVER_AMOUNT = "captured_over_amount"
    """What the payer is out of pocket exceeds what the merchant asked for."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    kind: ProblemKind
    payment_id: str
    """Ours; for a charge that belongs to no payment, the PSP's id."""
    detail: str


class CurrencyTotals(msgspec.Struct, frozen=True, kw_only=True):
    """One currency in the bank's books and in ours, in minor units."""

    bank_captured_minor: int = 0
    bank_refunded_minor: int = 0
    our_captured_minor: int = 0
    our_refunded_minor: int = 0
    reversed_minor: int = 0
    """Captured by a duplicate and given back: in the bank's gross sums, and in neither of ours."""

    @property
    def equal(self) -> bool:
        return (
            self.bank_captured_minor == self.our_captured_minor + self.reversed_minor
            and self.bank_refunded_minor == self.our_refunded_minor + self.reversed_minor
        )


class AuditReport(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of payments, but for the totals."""

    payments: int
    charged_twice: int
    charged_unrecorded: int
    recorded_uncharged: int
    refunded_twice: int
    amounts_differ: int
    """Payments of which any amount or the currency differs, those above among them."""
    held_unrecorded: int
    reversed_duplicates: int
    """Payments that were charged or authorised more than once, with all but one given back in full."""
    in_doubt_left: int
    """Payments with an operation that has no final outcome (waiting for the payer does not count)."""
    totals: dict[str, CurrencyTotals]
    problems: tuple[Problem, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether no promise was broken and no doubt is left."""
        return not (
            self.charged_twice
            or self.charged_unrecorded
            or self.recorded_uncharged
            or self.refunded_twice
            or self.amounts_differ
            or self.held_unrecorded
            or self.in_doubt_left
        ) and all(row.equal for row in self.totals.values())


_OPEN = frozenset(
    {
        OperationStatus.STARTED,
        OperationStatus.IN_DOUBT,
        OperationStatus.PENDING,
        OperationStatus.CONFIRMING,
        OperationStatus.UNWANTED,
    }
)


def audit(bank: Bank, payments: Iterable[Payment]) -> AuditReport:
    """Compares the books. Give it every payment that was made: a charge that matches none counts as not recorded.

    A charge belongs to the payment that its PSP metadata names, else to that of the operation it is named after.
    """
    ours = {payment.id: payment for payment in payments}
    owner = {op.id: payment.id for payment in ours.values() for op in payment.operations}
    charges: dict[str, list[BankCharge]] = defaultdict(list)
    movements: dict[str, list[Movement]] = defaultdict(list)
    belongs: dict[tuple[str, str], str] = {}
    for charge in bank.charges():
        named = charge.payment_ref if charge.payment_ref in ours else owner.get(charge.reference, "")
        belongs[charge.account, charge.charge_id] = named
        charges[named].append(charge)
    for movement in bank.movements():
        movements[belongs[movement.account, movement.charge_id]].append(movement)

    problems = [_orphan(charge) for charge in charges.pop("", []) if charge.net_minor or charge.held_minor]
    totals: dict[str, Counter[str]] = defaultdict(Counter)
    for currency, sums in bank.totals().items():
        totals[currency].update(
            bank_captured_minor=sums.captured_minor, bank_refunded_minor=sums.refunded_minor
        )
    reversed_duplicates = 0
    for payment in ours.values():
        case = _Case(payment, charges.get(payment.id, []), movements.get(payment.id, []))
        problems += case.problems()
        reversed_duplicates += case.reversed_duplicate
        totals[payment.currency].update(
            our_captured_minor=payment.captured_minor,
            our_refunded_minor=payment.refunded_minor,
            reversed_minor=sum(one.refunded_minor for one in case.extras if not one.net_minor),
        )
    return _report(ours, problems, totals, reversed_duplicates)


def _report(
    ours: dict[str, Payment],
    problems: list[Problem],
    totals: dict[str, Counter[str]],
    reversed_duplicates: int,
) -> AuditReport:
    concerned = {kind: len({p.payment_id for p in problems if p.kind is kind}) for kind in ProblemKind}
    return AuditReport(
        payments=len(ours),
        charged_twice=concerned[ProblemKind.CHARGED_TWICE],
        charged_unrecorded=concerned[ProblemKind.CHARGED_UNRECORDED],
        recorded_uncharged=concerned[ProblemKind.RECORDED_UNCHARGED],
        refunded_twice=concerned[ProblemKind.REFUNDED_TWICE],
        amounts_differ=len({p.payment_id for p in problems if p.kind is not ProblemKind.HELD_UNRECORDED}),
        held_unrecorded=concerned[ProblemKind.HELD_UNRECORDED],
        reversed_duplicates=reversed_duplicates,
        in_doubt_left=sum(any(op.status in _OPEN for op in payment.operations) for payment in ours.values()),
        totals={currency: CurrencyTotals(**sums) for currency, sums in sorted(totals.items())},
        problems=tuple(problems[:PROBLEMS_SHOWN_MAX]),
    )


def _orphan(charge: BankCharge) -> Problem:
    kind = ProblemKind.CHARGED_UNRECORDED if charge.net_minor else ProblemKind.HELD_UNRECORDED
    detail = f"{charge.account} {charge.charge_id} ({charge.reference}) belongs to no payment"
    return Problem(kind=kind, payment_id=charge.charge_id, detail=detail)


class _Case:
    """One payment beside its charges at the bank."""

    def __init__(self, payment: Payment, charges: list[BankCharge], movements: list[Movement]) -> None:
        self._payment = payment
        self._charges = charges
        self._movements = movements
        self.main = self._own(payment.winner)
        self.extras = [charge for charge in charges if charge is not self.main]

    def _own(self, winner: Operation | None) -> BankCharge | None:
        """The charge that our books are about: the one that the approved attempt names."""
        if winner is None:
            return None
        for charge in self._charges:
            if charge.account == winner.gateway and charge.charge_id == winner.reference:
                return charge
        for charge in self._charges:
            if charge.reference == winner.id:
                return charge
        return None

    @property
    def reversed_duplicate(self) -> bool:
        extras = self.extras if self.main is not None else self.extras[1:]
        return bool(extras) and not any(extra.net_minor or extra.held_minor for extra in extras)

    def problems(self) -> list[Problem]:
        found = [*self._twice(), *self._captured(), *self._refunded(), *self._held()]
        net = sum(charge.net_minor for charge in self._charges)
        if net > self._payment.amount_minor:
            found.append(
                self._problem(ProblemKind.CAPTURED_OVER_AMOUNT, f"{net} of {self._payment.amount_minor}")
            )
        found += [
            self._problem(ProblemKind.CURRENCY_DIFFERS, charge.currency)
            for charge in self._charges
            if charge.currency != self._payment.currency
        ]
        return found

    def _twice(self) -> list[Problem]:
        found: list[Problem] = []
        extras = [charge for charge in self.extras if charge.net_minor]
        taking = len(extras) + bool(self.main is not None and self.main.captured_minor)
        if extras and taking > 1:
            names = ", ".join(f"{charge.account} {charge.charge_id}" for charge in self._charges)
            found.append(self._problem(ProblemKind.CHARGED_TWICE, names))
        kinds = {
            MovementKind.CAPTURE: ProblemKind.CHARGED_TWICE,
            MovementKind.REFUND: ProblemKind.REFUNDED_TWICE,
        }
        reversed_ids = {charge.charge_id for charge in self.extras if not charge.net_minor}
        counted = Counter(
            (movement.kind, movement.reference)
            for movement in self._movements
            if movement.reference and movement.kind in kinds and movement.charge_id not in reversed_ids
        )
        for (kind, reference), count in counted.items():
            if count > 1:
                found.append(self._problem(kinds[kind], f"{count} {kind} movements for {reference}"))
        return found

    def _captured(self) -> list[Problem]:
        ours = self._payment.captured_minor
        bank = self.main.captured_minor if self.main is not None else 0
        unknown = sum(charge.net_minor for charge in self.extras)
        found: list[Problem] = []
        if bank > ours or unknown:
            detail = f"the bank took {bank}, and {unknown} elsewhere; we know of {ours}"
            found.append(self._problem(ProblemKind.CHARGED_UNRECORDED, detail))
        if ours > bank:
            found.append(self._problem(ProblemKind.RECORDED_UNCHARGED, f"we say {ours}, the bank {bank}"))
        return found

    def _refunded(self) -> list[Problem]:
        ours = self._payment.refunded_minor
        bank = self.main.refunded_minor if self.main is not None else 0
        if ours == bank:
            return []
        return [self._problem(ProblemKind.REFUND_DIFFERS, f"we say {ours}, the bank {bank}")]

    def _held(self) -> list[Problem]:
        payment = self._payment
        ours = payment.authorized_minor - payment.captured_minor - payment.released_minor
        held = sum(charge.held_minor for charge in self._charges)
        if held <= ours:
            return []
        return [self._problem(ProblemKind.HELD_UNRECORDED, f"{held} is held, we know of {ours}")]

    def _problem(self, kind: ProblemKind, detail: str) -> Problem:
        return Problem(kind=kind, payment_id=self._payment.id, detail=detail)
