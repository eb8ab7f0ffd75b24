"""From PayPal's answers to outcomes. Pure and total: whatever the bytes are, the result is one of the six outcomes.

A definitive outcome needs an answer that is PayPal's and that is about this operation; anything else is in doubt. What
counts is the capture or authorization inside, never the order's status: PayPal answers 201 COMPLETED to a decline.
"""

from __future__ import annotations

import datetime
import re

from msgspec.structs import replace

from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import (
    ActionType,
    Approved,
    DeclineCategory,
    Declined,
    InDoubt,
    NextAction,
    NotSent,
    Outcome,
    Pending,
    RequiresAction,
)
from aegispay.gateways.answers import read, retry_after_s
from aegispay.gateways.gateway import GatewayCall
from aegispay.gateways.http import HttpReply
from aegispay.gateways.paypal.amounts import from_paypal
from aegispay.gateways.paypal.codes import row_of
from aegispay.gateways.paypal.requests import operation_of
from aegispay.gateways.paypal.wire_types import ErrorReply, Link, Order, Transaction

DUPLICATE_INVOICE = "duplicate_invoice_id"
"""`InDoubt.reason`: PayPal knows our invoice id, which only an earlier send of this operation can have used."""
STATE_ISSUES = frozenset(
    {
        "ORDER_ALREADY_CAPTURED",
        "ORDER_ALREADY_AUTHORIZED",
        "ORDER_COMPLETED_OR_VOIDED",
        "ORDER_COMPLETION_IN_PROGRESS",
        "AUTHORIZATION_ALREADY_CAPTURED",
        "MAX_CAPTURE_AMOUNT_EXCEEDED",
        "MAX_CAPTURE_COUNT_EXCEEDED",
        "CAPTURE_FULLY_REFUNDED",
        "REFUND_AMOUNT_EXCEEDED",
        "MAX_NUMBER_OF_REFUNDS_EXCEEDED",
        "DUPLICATE_INVOICE_ID",
    }
)
"""Refusals that may be about our own earlier send: what was done is read before they are believed."""
PAYER_ISSUES = frozenset({"ORDER_NOT_APPROVED", "PAYER_ACTION_REQUIRED"})
_IN_PROGRESS = frozenset({"PREVIOUS_REQUEST_IN_PROGRESS", "ORDER_COMPLETION_IN_PROGRESS"})
_CODE = re.compile(r"[A-Z0-9][A-Z0-9_]{0,63}")
_FIELD = re.compile(r"/?[A-Za-z@][A-Za-z0-9_./@\[\]'=-]{0,99}")
_PAYER_LINKS = ("payer-action", "approve")
_DONE = ("COMPLETED", "PARTIALLY_REFUNDED", "REFUNDED")


# --- errors -------------------------------------------------------------------------------------------------


def issue_of(reply: HttpReply) -> str | None:
    """The issue of an error, where PayPal names one."""
    parsed = read(reply, ErrorReply) if reply.status >= 400 else None
    if parsed is None:
        return None
    return parsed.details[0].issue if parsed.details else parsed.name


def error_outcome(reply: HttpReply) -> Outcome:
    """The outcome of an answer that is not 2xx.

    `NotSent` only for refusals that PayPal gives before it executes anything: 401, 403 and 429. It keeps no 5xx under a
    request id: the same request, sent again, tells how the first one went.
    """
    status = reply.status
    if status >= 500:
        return InDoubt(reason="server_error", retry_after_s=retry_after_s(reply))
    parsed = read(reply, ErrorReply)
    if status == 401:
        return NotSent(reason="unauthorized")
    if parsed is None or status < 400:
        # Not PayPal's own words: a proxy's, perhaps, and a proxy does not know what happened behind it.
        return InDoubt(reason="garbage")
    if status == 403:
        return NotSent(reason="forbidden")
    if status == 429:
        return NotSent(reason="rate_limited", retry_after_s=retry_after_s(reply))
    issue = parsed.details[0].issue if parsed.details else parsed.name
    if status in (408, 409) or issue in _IN_PROGRESS:
        return InDoubt(reason="in_flight", retry_after_s=retry_after_s(reply))
    if issue == "DUPLICATE_INVOICE_ID":
        return InDoubt(reason=DUPLICATE_INVOICE)
    field = parsed.details[0].field if parsed.details else None
    return _declined(issue, unknown=(DeclineCategory.INVALID, "invalid_request"), field=field)


def _declined(
    raw: str | None,
    *,
    unknown: tuple[DeclineCategory, str],
    reference: str | None = None,
    field: str | None = None,
) -> Declined:
    """A definitive no, in our words: PayPal's own description may quote what was sent, so it is not kept."""
    row = row_of(raw)
    category, code = (row.category, row.code) if row is not None else unknown
    message = f"PayPal: {code.replace('_', ' ')}"
    if category is DeclineCategory.INVALID and field and _FIELD.fullmatch(field):
        message += f" ({field})"
    return Declined(
        category=category,
        code=code,
        message=message,
        gateway_code=raw if raw and _CODE.fullmatch(raw) else "",
        reference=reference,
    )


# --- orders -------------------------------------------------------------------------------------------------


def order_outcome(order: Order, call: GatewayCall, kind: OperationKind, operation_id: str) -> Outcome | None:
    """What an order says of the authorize or charge that made it.

    None: the payer has approved it, or nobody needs to, and our own capture or authorize call is still to be made.
    While it is not approved, the order's id stands for the operation.
    """
    if any(operation_of(unit.custom_id) not in (None, operation_id) for unit in order.purchase_units):
        return InDoubt(reason="garbage")
    payments = order.payments()
    made = payments.authorizations if kind is OperationKind.AUTHORIZE else payments.captures
    if made:
        leading = _leading(made)
        if kind is OperationKind.AUTHORIZE and leading.status == "VOIDED" and took_money(order):
            # What was left of it was released: what was captured before says that it had been approved.
            leading = replace(leading, status="PARTIALLY_CAPTURED")
        return made_outcome(leading, call, kind, order.id)
    status = order.status
    if status == "VOIDED":
        return _canceled(order.id)
    if status in ("CREATED", "SAVED", "PAYER_ACTION_REQUIRED"):
        action = payer_action(order.id, order.links)
        if action is not None:
            return action
        if status == "PAYER_ACTION_REQUIRED":
            return InDoubt(reason="unexpected_status")
    if status in ("CREATED", "APPROVED"):
        return None
    return InDoubt(reason="unexpected_status")


def took_money(order: Order) -> bool | None:
    """Whether an order's captures took money; None where the order is complete and does not show by what."""
    made = order.payments()
    if any(one.status not in ("DECLINED", "FAILED") for one in made.captures):
        return True
    return None if order.status == "COMPLETED" and not (made.captures or made.authorizations) else False


def payer_action(order_id: str, links: list[Link]) -> RequiresAction | None:
    """Where the payer must go to approve an order; None where PayPal names no such place."""
    for rel in _PAYER_LINKS:
        for link in links:
            if link.rel == rel and link.href.startswith(("https://", "http://127.0.0.1")):
                action = NextAction(type=ActionType.REDIRECT, url=link.href, data={"order_id": order_id})
                return RequiresAction(reference=order_id, action=action)
    return None


_RANK = {"PENDING": 2, "VOIDED": 1, "DECLINED": 0, "DENIED": 0, "FAILED": 0}
"""Every other status means that money was taken or reserved."""


def _leading(made: list[Transaction]) -> Transaction:
    """The one that took money, where one did; PayPal lists a declined try beside a later success."""
    return max(made, key=lambda one: _RANK.get(one.status, 3))


def made_outcome(made: Transaction, call: GatewayCall, kind: OperationKind, order_id: str | None) -> Outcome:
    """What a capture or an authorization says of the operation that made it."""
    if made.amount.currency_code not in ("", call.amount.code):
        return InDoubt(reason="garbage")
    waiting = order_id or made.id
    status = made.status
    authorized = kind is OperationKind.AUTHORIZE and status in ("CREATED", "CAPTURED", "PARTIALLY_CAPTURED")
    if authorized or (kind is not OperationKind.AUTHORIZE and status in _DONE):
        try:
            amount = from_paypal(made.amount.value, call.amount.code)
        except ValueError:
            return InDoubt(reason="garbage")
        return Approved(reference=made.id, amount_minor=amount, expires_at_us=time_us(made.expiration_time))
    if status == "PENDING":
        reason = made.status_details.reason if made.status_details else None
        known = reason.lower() if reason and _CODE.fullmatch(reason) else "processing"
        # A capture of its own keeps its own id: it is looked up by that.
        reference = made.id if kind is OperationKind.CAPTURE else waiting
        return Pending(reference=reference, reason=f"pending_{known}")
    if status in ("DECLINED", "DENIED", "FAILED"):
        raw = made.processor_response.response_code if made.processor_response else None
        unknown = (DeclineCategory.SOFT, "card_declined")
        return _declined(raw or status, unknown=unknown, reference=waiting)
    if status == "VOIDED":
        return _canceled(waiting)
    return InDoubt(reason="unexpected_status")


def _canceled(reference: str) -> Declined:
    return Declined(
        category=DeclineCategory.HARD,
        code="canceled",
        message="PayPal: the payment was voided",
        gateway_code="VOIDED",
        reference=reference,
    )


def time_us(text: str | None) -> int | None:
    """An Internet time in microseconds since 1970; None where it is none."""
    if not text or len(text) > 40:
        return None
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    return int(moment.timestamp() * 1_000_000)


# --- refunds ------------------------------------------------------------------------------------------------


def refund_outcome(refund: Transaction, call: GatewayCall) -> Outcome:
    if refund.amount.currency_code not in ("", call.amount.code):
        return InDoubt(reason="garbage")
    if refund.status == "COMPLETED":
        try:
            amount = from_paypal(refund.amount.value, call.amount.code)
        except ValueError:
            return InDoubt(reason="garbage")
        return Approved(reference=refund.id, amount_minor=amount)
    if refund.status == "PENDING":
        return Pending(reference=refund.id, reason="refund_pending")
    if refund.status in ("FAILED", "CANCELLED"):
        return Declined(
            category=DeclineCategory.INVALID,
            code=f"refund_{'failed' if refund.status == 'FAILED' else 'canceled'}",
            message=f"PayPal: the refund {refund.status.lower()}",
            gateway_code=refund.status,
            reference=refund.id,
        )
    return InDoubt(reason="unexpected_status")
