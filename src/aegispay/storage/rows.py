"""Between domain values and table rows, for every store.

Ids are 16 bytes in the tables, and their prefixes are put back here. This module knows no database.
"""

from __future__ import annotations

from aegispay.domain.errors import CorruptEvent
from aegispay.domain.events import Event
from aegispay.domain.upcast import read_data
from aegispay.storage.store import Claim, InFlight, Purpose, Write

LIST_MAX = 1000
"""The most payments that one listing gives."""
OPENS_MAX = 4
SAME_REFERENCE_MAX = 10
"""The most payments that are found by one reference."""


def check_write(write: Write) -> None:
    """Raises `CorruptEvent` for a write that would leave a gap, or belongs to two payments: a mistake of the caller."""
    payment = write.payment
    version = write.expected_version
    for event in write.events:
        version += 1
        if event.version != version or event.payment_id != payment.id:
            raise CorruptEvent(
                f"event {event.version} of {event.payment_id} is not {version} of {payment.id}."
            )
    if payment.version != version or not version:
        raise CorruptEvent(f"{payment.id} has version {payment.version} where its events end at {version}.")
    if len(write.opens) > OPENS_MAX:
        raise CorruptEvent(
            f"{payment.id} opens {len(write.opens)} operations at once; {OPENS_MAX} is the most."
        )
    guard = write.guard
    if guard and guard.keep and guard.keep.operation_id != guard.operation_id:
        raise CorruptEvent(
            f"the lease of {guard.operation_id} cannot become one of {guard.keep.operation_id}."
        )


def write_keys(write: Write) -> tuple[str | bytes, ...]:
    """What two writes in one batch must not share."""
    if write.claim is None:
        return (write.payment.id,)
    return (write.payment.id, write.claim.digest)


def id_bytes(public_id: str) -> bytes | None:
    """The 16 bytes of a public id; None for text that is not one, which no row can have."""
    try:
        found = bytes.fromhex(public_id[-32:])
    except ValueError:
        return None
    return found if len(found) == 16 else None


def make_event(
    *,
    payment_id: str,
    version: int,
    event_id: str,
    schema_version: int,
    at_us: int,
    correlation_id: str | None,
    causation_id: str | None,
    data: str,
) -> Event:
    """An event from its row; a missing correlation or causation is the payment itself."""
    return Event(
        id=event_id,
        payment_id=payment_id,
        version=version,
        at_us=at_us,
        correlation_id=payment_id if correlation_id is None else correlation_id,
        causation_id=payment_id if causation_id is None else causation_id,
        data=read_data(data, schema_version),
        schema_version=schema_version,
    )


def check_gapless(payment_id: str, events: list[Event]) -> list[Event]:
    """The events, or `CorruptEvent` where one is missing."""
    for version, event in enumerate(events, start=1):
        if event.version != version:
            raise CorruptEvent(f"event {version} of {payment_id} is missing.", payment_id=payment_id)
    return events


def make_claim(
    digest: bytes, merchant_id: str, scope: str, payment_hex: str, operation_hex: str, request_hash: bytes
) -> Claim:
    return Claim(
        digest=digest,
        merchant_id=merchant_id,
        scope=scope,
        payment_id="pay_" + payment_hex,
        operation_id="op_" + operation_hex,
        request_hash=request_hash,
    )


def make_in_flight(
    operation_hex: str,
    payment_hex: str,
    gateway: str,
    purpose: str,
    due_at_us: int,
    owner: str,
    fence: int,
    tries: int,
    sent_at_us: int,
) -> InFlight:
    return InFlight(
        operation_id="op_" + operation_hex,
        payment_id="pay_" + payment_hex,
        gateway=gateway,
        purpose=Purpose(purpose),
        due_at_us=due_at_us,
        owner=owner,
        fence=fence,
        tries=tries,
        sent_at_us=sent_at_us,
    )
