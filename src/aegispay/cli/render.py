"""How payments look to a person: the answer to a command, one payment in full, a list. It reads values and asks nobody."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from aegispay.cli.exits import clean
from aegispay.domain.errors import AegisPayError
from aegispay.domain.events import Event
from aegispay.domain.money import Money
from aegispay.domain.payment import Operation, Payment
from aegispay.domain.states import PAID, PaymentState
from aegispay.domain.word import TELLABLE
from aegispay.orchestration.kept_notices import KeptNotice
from aegispay.orchestration.persons_word import named_by_review
from aegispay.orchestration.results import Result

_COLOURS = {
    PaymentState.AUTHORIZED: "green",
    PaymentState.FAILED: "red",
    PaymentState.CANCELED: "dim",
    PaymentState.EXPIRED: "dim",
    PaymentState.NEEDS_REVIEW: "bold magenta",
    PaymentState.DISPUTED: "bold magenta",
    PaymentState.IN_DOUBT: "bold yellow",
} | dict.fromkeys(PAID, "bold green")
_NOT_TOLD = frozenset({"type", "request_hash", "gateway_key", "merchant_id", "method", "metadata", "token"})


def time_text(at_us: int) -> str:
    """A time in UTC, to the millisecond: `2026-05-01 12:00:00.123Z`."""
    at = datetime.fromtimestamp(at_us // 1_000_000, UTC)
    return f"{at:%Y-%m-%d %H:%M:%S}.{at_us // 1000 % 1000:03d}Z"


def state_text(state: PaymentState) -> Text:
    return Text(state.value, style=_COLOURS.get(state, "yellow"))


def _fields(rows: Iterable[tuple[str, object]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        if value is not None and value != "":
            table.add_row(name, value if isinstance(value, Text) else Text(clean(value)))
    return table


def _table(*columns: str, fixed: Sequence[str] = (), right: Sequence[str] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        table.add_column(
            column,
            no_wrap=column in fixed,
            justify="right" if column in right else "left",
            overflow="fold",
        )
    return table


# --- an answer ----------------------------------------------------------------------------------------------


def result_view(result: Result) -> RenderableType:
    """The answer to a charge, capture, void, refund, complete or sync."""
    payment = result.payment
    words = {
        "success": "done",
        "failure": "failed",
        "requires_action": "the payer must act",
        "pending": "not known yet",
    }
    styles = {"success": "bold green", "failure": "bold red"}
    operation = result.operation
    rows: list[tuple[str, object]] = [
        ("result", Text(words[result.status], style=styles.get(result.status, "bold yellow"))),
        ("payment", payment.id),
        ("state", state_text(payment.state)),
        *_amounts(payment),
        (
            "operation",
            f"{operation.kind} of {_money(operation.amount_minor, payment)}" if operation else None,
        ),
        ("gateway", _at(payment)),
    ]
    if result.error is not None:
        rows.append(("reason", f"{result.error.code}: {result.error.message}"))
    if result.next_action is not None:
        rows.append(("next action", f"{result.next_action.type}: {result.next_action.url or 'see --json'}"))
        rows.append(("then", f"aegispay complete {payment.id}"))
    if result.is_pending():
        rows.append(("then", f"aegispay sync {payment.id} (never charge again under another key)"))
    return _fields(rows)


def money_fields(payment: Payment, *rows: tuple[str, object]) -> RenderableType:
    """These rows, and how the payment's amounts stand."""
    return _fields([*rows, *_amounts(payment)])


def _money(amount_minor: int, payment: Payment) -> str:
    return Money(amount_minor, payment.currency).format()


def _amounts(payment: Payment) -> list[tuple[str, object]]:
    named = (
        ("authorised", payment.authorized_minor),
        ("captured", payment.captured_minor),
        ("released", payment.released_minor),
        ("refunded", payment.refunded_minor),
        ("lost in disputes", payment.lost_minor),
    )
    rows: list[tuple[str, object]] = [("amount", payment.amount.format())]
    return rows + [(name, _money(value, payment)) for name, value in named if value]


def _at(payment: Payment) -> str | None:
    if payment.gateway is None:
        return None
    return f"{payment.gateway} {payment.gateway_reference or ''}".strip()


# --- one payment --------------------------------------------------------------------------------------------


def payment_view(payment: Payment, events: Sequence[Event], newest: int) -> RenderableType:
    """The payment with its attempts, operations and timeline; `newest` is its version today."""
    parts: list[RenderableType] = [_fields(_head(payment, events, newest)), Text("")]
    if payment.operations:
        parts += [Text("Operations", style="bold"), _operations(payment)]
    parts += [Text("Timeline", style="bold"), _timeline(payment, events)]
    return Group(*parts)


def _head(payment: Payment, events: Sequence[Event], newest: int) -> list[tuple[str, object]]:
    method = payment.method
    card = f"{method.brand} ending {method.last4}" if method.last4 else method.token
    asof = f"{payment.version} of {newest}: as it was then" if payment.version != newest else str(newest)
    rows: list[tuple[str, object]] = [
        ("payment", payment.id),
        ("state", state_text(payment.state)),
        *_amounts(payment),
        ("gateway", _at(payment)),
        ("method", f"{method.type} {card or ''}".strip()),
        ("customer", payment.customer_id),
        ("description", payment.description),
        ("metadata", ", ".join(f"{key}={value}" for key, value in payment.metadata.items())),
        ("created", time_text(payment.created_at_us)),
        ("updated", time_text(payment.updated_at_us)),
        ("version", asof),
    ]
    if payment.expires_at_us is not None and payment.state is PaymentState.AUTHORIZED:
        rows.append(("lapses", time_text(payment.expires_at_us)))
    if payment.failure is not None:
        failure = payment.failure
        rows.append(("failure", f"{failure.category}: {failure.code} {failure.message}"))
    if payment.next_action is not None:
        rows.append(("next action", payment.next_action.url or str(payment.next_action.type)))
    if payment.review is not None:
        rows.append(("review", payment.review))
        rows += _what_to_do(payment, events) if payment.version == newest else []
    return rows


def _what_to_do(payment: Payment, events: Sequence[Event]) -> list[tuple[str, object]]:
    """How the review ends; and which operation it is about, to be looked for at the gateway, where one is in doubt."""
    close = f"aegispay review close {payment.id} --reason TEXT"
    about = payment.operation(named_by_review(events) or "")
    if not payment.review_until_evidence or about is None or not about.unfinished:
        return [("then", close)]
    sync = ("then", f"aegispay sync {payment.id}")
    if about.status not in TELLABLE:
        return [sync]
    what = f"{about.kind} {about.id} of {_money(about.amount_minor, payment)} at {about.gateway}"
    without = "--reversed-by-hand" if about.compensates else "--no-effect"
    if not about.compensates:
        without += f" --operation {about.id}"
    took = f"--took-effect REFERENCE --operation {about.id}"
    seen = [("or", f"{close} {option}") for option in (without, took)]
    return [("about", what), sync, *seen]


def _operations(payment: Payment) -> Table:
    table = _table("#", "operation", "gateway", "amount", "status", "reference", "why", right=("amount",))
    for operation in payment.operations:
        table.add_row(
            str(operation.attempt or ""),
            Text(f"{operation.kind}{' (reversal)' if operation.compensates else ''}"),
            Text(clean(operation.gateway)),
            _money(operation.amount_minor, payment),
            Text(operation.status, style="bold yellow" if operation.unfinished else ""),
            Text(clean(operation.reference or "")),
            Text(clean(_why(operation))),
        )
    return table


def _why(operation: Operation) -> str:
    said = [operation.code or "", operation.message or "", operation.reason or ""]
    return " ".join(dict.fromkeys(part for part in said if part))


def _timeline(payment: Payment, events: Sequence[Event]) -> Table:
    table = _table(
        "v", "time (UTC)", "after", "event", "what", fixed=("time (UTC)", "after"), right=("v", "after")
    )
    before_us = events[0].at_us if events else 0
    for event in events:
        table.add_row(
            str(event.version),
            time_text(event.at_us),
            _after(event.at_us - before_us) if event.version > 1 else "",
            event.type.replace("_", " "),
            Text(clean(_told(event, payment))),
        )
        before_us = event.at_us
    return table


def _after(passed_us: int) -> str:
    if passed_us < 1_000_000:
        return f"+{passed_us / 1000:.1f} ms"
    return f"+{passed_us / 1_000_000:.1f} s"


def _told(event: Event, payment: Payment) -> str:
    """What an event says, as `key value` pairs; its operation by what it is, not by its id."""
    data: dict[str, Any] = msgspec.to_builtins(event.data)
    operation = payment.operation(str(data.pop("operation_id", "")))
    parts = [f"{operation.kind} at {operation.gateway}"] if operation is not None else []
    skipped = _NOT_TOLD | ({"kind", "gateway", "parent_id"} if operation is not None else frozenset[str]())
    for key, value in data.items():
        if key in skipped or value in (None, "", {}, [], ()):
            continue
        if key == "amount_minor":
            parts.append(_money(value, payment))
        elif key.endswith("_at_us"):
            parts.append(f"{key.removesuffix('_at_us')} {time_text(value)}")
        elif isinstance(value, list | tuple):
            parts.append(f"{key} {', '.join(map(str, value))}")
        elif isinstance(value, dict):
            parts.append(f"{key} {value.get('url') or value.get('type') or ', '.join(value)}")
        elif key != "currency":
            parts.append(f"{key} {value}")
    return "; ".join(parts)


# --- a list -------------------------------------------------------------------------------------------------


def list_view(payments: Sequence[Payment]) -> RenderableType:
    """Payments, one a line."""
    if not payments:
        return Text("No payments.")
    table = _table(
        "payment", "created (UTC)", "state", "amount", "gateway", fixed=("payment",), right=("amount",)
    )
    for payment in payments:
        table.add_row(
            payment.id,
            time_text(payment.created_at_us)[:19],
            state_text(payment.state),
            payment.amount.format(),
            Text(clean(payment.gateway or "")),
        )
    return table


def reviews_view(asked: Sequence[tuple[Payment, int]]) -> RenderableType:
    """Payments that wait for a person, one a line, with the time since when."""
    if not asked:
        return Text("No payment waits for a person.")
    table = _table(
        "payment", "since (UTC)", "amount", "gateway", "why", fixed=("payment",), right=("amount",)
    )
    for payment, since_us in asked:
        table.add_row(
            payment.id,
            time_text(since_us)[:19],
            payment.amount.format(),
            Text(clean(payment.gateway or "")),
            Text(clean(payment.review or "")),
        )
    return table


def notices_view(notices: Sequence[KeptNotice]) -> RenderableType:
    """What PSPs told us, one notice a line."""
    if not notices:
        return Text("No notices.")
    table = _table(
        *("received (UTC)", "gateway", "says", "amount", "of", "PSP's payment", "ours", "type", "notice"),
        right=("amount",),
    )
    for one in notices:
        table.add_row(
            time_text(one.received_at_us)[:19],
            Text(clean(one.gateway)),
            Text(clean(one.says)),
            Text(clean(_notice_amount(one))),
            Text(clean(one.reference or "")),
            Text(clean(one.payment_reference or "")),
            Text(clean(one.payment_id or one.operation_id or "")),
            Text(clean(one.type)),
            Text(clean(one.notice_id)),
        )
    return table


def _notice_amount(notice: KeptNotice) -> str:
    if notice.amount_minor is None:
        return ""
    try:
        return Money(notice.amount_minor, (notice.currency or "").upper()).format()
    except AegisPayError:
        return f"{notice.amount_minor} minor units"


# --- as data ------------------------------------------------------------------------------------------------


def payment_object(payment: Payment) -> dict[str, Any]:
    """A payment for `--json`; what a list of payments is made of."""
    found: dict[str, Any] = msgspec.to_builtins(payment)
    return found


def notice_object(notice: KeptNotice) -> dict[str, Any]:
    """A notice for `--json`."""
    found: dict[str, Any] = msgspec.to_builtins(notice)
    return {**found, "received_at": time_text(notice.received_at_us).replace(" ", "T")}


def event_object(event: Event) -> dict[str, Any]:
    """An event for `--json`."""
    data: dict[str, Any] = msgspec.to_builtins(event.data)
    data.pop("type", None)
    return {
        "id": event.id,
        "version": event.version,
        "type": event.type,
        "at_us": event.at_us,
        "at": time_text(event.at_us).replace(" ", "T"),
        "schema_version": event.schema_version,
        "correlation_id": event.correlation_id,
        "causation_id": event.causation_id,
        "data": data,
    }
