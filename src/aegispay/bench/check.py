"""Whether what was served is what was stored: figures of a benchmark that lost a payment are worth nothing."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from aegispay.app import AegisPay
from aegispay.domain.evolve import fold
from aegispay.domain.payment import encode_payment
from aegispay.domain.states import PaymentState

_PAGE = 1_000


class Check(msgspec.Struct, frozen=True, kw_only=True):
    served: int
    """Payments that the callers were told are a success."""
    approved: int
    """Charges that the gateways executed."""
    stored: int
    """Payments in the store."""
    succeeded: int
    """Those of them in the state `succeeded`, with one attempt, captured in full."""
    events_delivered: int
    """Committed events that the `after_commit` hook saw: three a payment."""
    folded: int
    """Payments whose events were read back and folded."""
    fold_differs: int
    """Those of them where the fold was not the stored projection, byte for byte."""
    in_flight_left: int
    """Operations of any payment in the store that wait for an outcome."""
    ok: bool


async def check(
    pay: AegisPay,
    merchant_id: str,
    *,
    served: int,
    approved: int,
    events_delivered: int,
    sample: Iterable[str],
) -> Check:
    """Counts every payment of the run, and folds the sampled ones."""
    stored, succeeded = await _count(pay, merchant_id)
    folded = differs = 0
    for payment_id in sample:
        payment = await pay.get(payment_id, merchant_id=merchant_id)
        folded += 1
        refolded = fold(await pay.event_store.events(payment_id))
        differs += encode_payment(refolded) != encode_payment(payment)
    return Check(
        served=served,
        approved=approved,
        stored=stored,
        succeeded=succeeded,
        events_delivered=events_delivered,
        folded=folded,
        fold_differs=differs,
        in_flight_left=await pay.store.count_in_flight(),
        ok=served == approved == stored == succeeded and events_delivered == 3 * served and not differs,
    )


async def _count(pay: AegisPay, merchant_id: str) -> tuple[int, int]:
    stored = succeeded = 0
    before: str | None = None
    while True:
        page = await pay.list(merchant_id=merchant_id, before_id=before, limit=_PAGE)
        stored += len(page)
        succeeded += sum(
            1
            for one in page
            if one.state is PaymentState.SUCCEEDED and one.completed and len(one.operations) == 1
        )
        if len(page) < _PAGE:
            return stored, succeeded
        before = page[-1].id
