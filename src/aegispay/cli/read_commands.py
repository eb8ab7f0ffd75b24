"""The commands that only read: show, list and notices. They need the store, and neither gateways nor secrets."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from aegispay.app import EventStore
from aegispay.cli.options import MERCHANT, Merchant, PaymentId, command
from aegispay.cli.render import (
    event_object,
    list_view,
    notice_object,
    notices_view,
    payment_object,
    payment_view,
    time_text,
)
from aegispay.cli.session import Session
from aegispay.domain.errors import InvalidRequest, PaymentNotFound
from aegispay.domain.events import Event
from aegispay.domain.ids import check_payment_id
from aegispay.domain.payment import Payment
from aegispay.domain.states import PaymentState
from aegispay.orchestration.kept_notices import KeptNotice, kept_notices
from aegispay.storage.notices import NoticeState
from aegispay.storage.rows import LIST_MAX
from aegispay.storage.store import Store


def _show(
    session: Session,
    payment_id: PaymentId,
    version: Annotated[
        int | None, typer.Option("--version", metavar="N", help="As it was after its Nth event.")
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="As it was then: 2026-05-01T12:00:00Z.")
    ] = None,
) -> int:
    """Show a payment in full: state, amounts, operations, and the timeline of its events; also as it once was."""
    target = check_payment_id(payment_id)
    if version is not None and at is not None:
        raise InvalidRequest("--version and --at exclude each other.", hint="Give one of them.")
    if version is not None and version < 1:
        raise InvalidRequest("--version is 1 or more.")
    until = None if at is None else _time(at)

    async def work(store: Store) -> tuple[Payment, list[Event]]:
        found = EventStore(store)
        events = await found.events(target)
        if not events:
            raise PaymentNotFound(f"there is no payment {target}.", payment_id=target)
        if version is not None and version > len(events):
            raise InvalidRequest(f"the payment has {len(events)} events, not {version}.")
        if until is not None and events[0].at_us > until.timestamp() * 1_000_000:
            raise PaymentNotFound(
                f"{target} did not exist yet at that time.",
                payment_id=target,
                hint=f"It was created at {time_text(events[0].at_us)}.",
            )
        return await found.replay_events(target, until_version=version, until=until), events

    payment, events = session.run_with_store(session.open_config(), work)
    shown = [event for event in events if event.version <= payment.version]
    if session.json:
        session.emit({"payment": payment_object(payment), "events": [event_object(event) for event in shown]})
    else:
        session.show(payment_view(payment, shown, len(events)))
    return 0


def _time(text: str) -> datetime:
    hint = "Write it like 2026-05-01T12:00:00Z."
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InvalidRequest(f"--at {text[:40]!r} is not a time.", hint=hint) from None
    if found.tzinfo is None:
        raise InvalidRequest(f"--at {text[:40]!r} has no time zone.", hint=hint)
    return found


def _list(
    session: Session,
    state: Annotated[
        list[str] | None, typer.Option("--state", metavar="STATE", help="Only these; repeat it for several.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help=f"1 to {LIST_MAX}.")] = 50,
    before: Annotated[
        str | None, typer.Option("--before", metavar="ID", help="Older than this payment: the next page.")
    ] = None,
    merchant: Merchant = MERCHANT,
) -> int:
    """List payments, newest first."""
    if not 1 <= limit <= LIST_MAX:
        raise InvalidRequest(f"--limit is 1 to {LIST_MAX}, not {limit}.")
    states = tuple(_state(name) for name in state or [])
    before_id = None if before is None else check_payment_id(before)

    async def work(store: Store) -> list[Payment]:
        return await store.list_payments(merchant, states=states, before_id=before_id, limit=limit)

    payments = session.run_with_store(session.open_config(), work)
    if session.json:
        session.emit([payment_object(payment) for payment in payments])
    else:
        session.show(list_view(payments))
        if len(payments) == limit:
            session.say(f"More may follow: aegispay list --before {payments[-1].id}")
    return 0


def _state(name: str) -> PaymentState:
    try:
        return PaymentState(name.lower())
    except ValueError:
        raise InvalidRequest(
            f"--state {name[:40]!r} is unknown.", hint=f"States: {', '.join(PaymentState)}."
        ) from None


def _notices(
    session: Session,
    state: Annotated[
        str, typer.Option("--state", metavar="STATE", help="unmatched, open (still tried) or applied.")
    ] = NoticeState.UNMATCHED.value,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help=f"1 to {LIST_MAX}.")] = 50,
) -> int:
    """List what PSPs told us and no payment of ours was found for, newest first; of all merchants."""

    async def work(store: Store) -> list[KeptNotice]:
        return await kept_notices(store, state.lower(), limit)

    notices = session.run_with_store(session.open_config(), work)
    if session.json:
        session.emit([notice_object(notice) for notice in notices])
    else:
        session.show(notices_view(notices))
        if len(notices) == limit:
            session.say("More may follow: give a greater --limit.")
    return 0


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    command(
        app,
        "show",
        examples="""
        aegispay show pay_...
        aegispay show pay_... --version 2
        aegispay show pay_... --at 2026-05-01T12:00:00Z --json""",
    )(_show)
    command(
        app,
        "list",
        examples="""
        aegispay list --state in_doubt --state needs_review
        aegispay list --limit 100 --before pay_... --json""",
    )(_list)
    command(
        app,
        "notices",
        examples="""
        aegispay notices
        aegispay notices --state open --json""",
    )(_notices)
