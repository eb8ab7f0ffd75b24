"""The verdict over a round: the bank's books against ours, and what callers were told against what stands there now."""

from __future__ import annotations

from collections import Counter

import msgspec

from aegispay.domain.events import Event
from aegispay.domain.evolve import fold
from aegispay.domain.payment import Payment, encode_payment
from aegispay.domain.states import PaymentState
from aegispay.orchestration.requests import DEFAULT_MERCHANT
from aegispay.sandbox.audit import AuditReport, audit
from aegispay.sandbox.bank import Bank
from aegispay.storage.factory import open_store
from aegispay.storage.store import Store
from tests.crash.fleet import Fleet

SHOWN_MAX = 20


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """`violations` is empty, or a promise is broken."""

    payments: int
    answers: int
    """Final answers that callers had, each asked for again at the end and compared byte by byte."""
    charged_twice: int
    lost: int
    """Charged and not recorded, or acknowledged and gone."""
    branches: dict[str, int]
    """How outcomes became known, from the events: `approved by resend`, `in doubt: owner_gone`, ..."""
    violations: list[str]


async def all_payments(store: Store) -> list[Payment]:
    found: list[Payment] = []
    while page := await store.list_payments(
        DEFAULT_MERCHANT, before_id=found[-1].id if found else None, limit=1000
    ):
        found += page
    return found


async def judge(store_url: str, bank: Bank, fleet: Fleet) -> Verdict:
    store = await open_store(store_url)
    try:
        payments = await all_payments(store)
        in_flight = await store.count_in_flight()
        branches: Counter[str] = Counter()
        folded: list[str] = []
        for payment in payments:
            events = await store.load_events(payment.id)
            branches.update(name for event in events if (name := branch(event)))
            if encode_payment(fold(events)) != encode_payment(payment):
                folded.append(f"{payment.id} is not what its events fold to")
    finally:
        await store.close()
    report = audit(bank, payments)
    violations = [*fleet.violations, *folded, *_broken(report, payments, in_flight, fleet)]
    return Verdict(
        payments=report.payments,
        answers=len(fleet.answers),
        charged_twice=report.charged_twice,
        lost=report.charged_unrecorded + sum(one.startswith("acknowledged") for one in fleet.violations),
        branches=dict(sorted(branches.items())),
        violations=violations[:SHOWN_MAX],
    )


def _broken(report: AuditReport, payments: list[Payment], in_flight: int, fleet: Fleet) -> list[str]:
    found = [f"{one.kind}: {one.payment_id}: {one.detail}" for one in report.problems]
    if not report.ok and not found:
        found.append(f"the books differ: {report.totals}, {report.in_doubt_left} left in doubt")
    if len(payments) != len(fleet.begun):
        found.append(f"{len(fleet.begun)} shoppers have {len(payments)} payments")
    if in_flight:
        found.append(f"{in_flight} operations are still in flight")
    found += [f"{one.id} waits for a person" for one in payments if one.state is PaymentState.NEEDS_REVIEW]
    if len(payments) and not fleet.replayed:
        found.append("nothing was answered again")
    return found


def branch(event: Event) -> str | None:
    """The name of what happened where it was not the plain way."""
    data = event.data
    kind = str(event.type).removeprefix("operation_").replace("_", " ")
    evidence = getattr(data, "evidence", None)
    if evidence is not None and evidence != "reply":
        return f"{kind} by {evidence}"
    if kind == "in doubt":
        return f"in doubt: {getattr(data, 'reason', '')}"
    return kind if kind in ("late success found", "review requested", "pending") else None
