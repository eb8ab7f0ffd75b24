"""The notices that were kept, as a person reads them: what each says, without the text that the store knows."""

from __future__ import annotations

import msgspec

from aegispay.domain.errors import InvalidRequest
from aegispay.gateways.webhooks import GatewayEvent
from aegispay.storage.notices import Notice, NoticeState
from aegispay.storage.rows import LIST_MAX
from aegispay.storage.store import Store

_decode = msgspec.json.Decoder(GatewayEvent).decode
UNREADABLE = "unreadable"


class KeptNotice(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of news from a PSP, and how far we are with it."""

    gateway: str
    notice_id: str
    state: NoticeState
    received_at_us: int
    tries: int
    type: str
    """The PSP's own name for it."""
    says: str
    """`approved refund`, `declined charge`, `dispute lost`, `look at charge`, ..."""
    amount_minor: int | None = None
    currency: str | None = None
    reference: str | None = None
    """What the PSP calls the operation or the dispute."""
    payment_reference: str | None = None
    """What the PSP calls the payment."""
    payment_id: str | None = None
    """Our payment and operation, where the notice names them."""
    operation_id: str | None = None


async def kept_notices(store: Store, state: NoticeState | str, limit: int) -> list[KeptNotice]:
    """The notices in this state, newest first. Raises `InvalidRequest` for a state or limit that cannot be."""
    if not 1 <= limit <= LIST_MAX:
        raise InvalidRequest(f"limit is 1 to {LIST_MAX}, not {limit}.")
    try:
        wanted = NoticeState(state)
    except ValueError:
        raise InvalidRequest(
            f"unknown notice state {str(state)[:40]!r}.", hint=f"States: {', '.join(NoticeState)}."
        ) from None
    return [_read(notice) for notice in await store.list_notices(wanted, limit)]


def _read(notice: Notice) -> KeptNotice:
    try:
        event = _decode(notice.body)
    except msgspec.MsgspecError:  # Kept by another version of ours.
        event = GatewayEvent(id=notice.notice_id, type=UNREADABLE, at_us=0)
    told = event.dispute or event.outcome
    return KeptNotice(
        gateway=notice.gateway,
        notice_id=notice.notice_id,
        state=notice.state,
        received_at_us=notice.received_at_us,
        tries=notice.tries,
        type=event.type,
        says=_says(event),
        amount_minor=getattr(told, "amount_minor", event.amount_minor),
        currency=event.currency,
        reference=event.reference,
        payment_reference=event.payment_reference,
        payment_id=event.payment_id,
        operation_id=event.operation_id,
    )


def _says(event: GatewayEvent) -> str:
    dispute = event.dispute
    if dispute is not None:
        ended = {True: "won", False: "lost", None: "ended"}[dispute.won]
        return f"dispute {'opened' if dispute.opened else ended}"
    outcome = event.outcome
    said = str(outcome.__struct_config__.tag).replace("_", " ") if outcome is not None else "look at"
    return f"{said} {event.kind}" if event.kind is not None else said
