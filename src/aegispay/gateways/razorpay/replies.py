"""From Razorpay's answers to outcomes. Pure and total: whatever the bytes are, the result is one of the six outcomes.

A definitive outcome needs an answer that is Razorpay's and that is about this operation; anything else is in doubt.
"""

from __future__ import annotations

import re

from aegispay.domain.errors import InvalidRequest
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
from aegispay.gateways.gateway import KEY_REUSED, GatewayCall
from aegispay.gateways.http import HttpReply
from aegispay.gateways.razorpay.amounts import from_razorpay
from aegispay.gateways.razorpay.codes import row_of
from aegispay.gateways.razorpay.requests import (
    KIND_NOTE,
    MANUAL_EXPIRY_MINUTES,
    OPERATION_NOTE,
    PAYMENT_NOTE,
)
from aegispay.gateways.razorpay.wire_types import (
    Created,
    ErrorBody,
    ErrorMetadata,
    ErrorReply,
    Payment,
    RazorpayRefund,
)

_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_FIELD = re.compile(r"[a-z][a-z0-9_.\[\]]{0,79}")
_BAD_KEY = re.compile(r"\bapi\b.*\b(key|secret|credential)|authentication failed\.?$", re.IGNORECASE)
_DONE_BEFORE = re.compile(r"already\b.*\b(paid|captured|done)|\b(paid|captured)\b.*\balready", re.IGNORECASE)
_OTHER_BODY = re.compile(r"different request", re.IGNORECASE)
_UNKNOWN_REASONS = ("", "NA")
ALREADY_DONE = "already_done"
"""`InDoubt.reason`: Razorpay says that the money was taken before. Which payment took it must be read."""


# --- errors -------------------------------------------------------------------------------------------------


def error_outcome(reply: HttpReply) -> Outcome:
    """The outcome of an answer that is not 2xx.

    `NotSent` only for refusals that Razorpay gives before it executes anything: 401, 403, 429, a bad key.
    """
    status = reply.status
    if status >= 500:
        return InDoubt(reason="server_error", retry_after_s=retry_after_s(reply))
    parsed = read(reply, ErrorReply)
    if parsed is None or status < 400:
        # Not Razorpay's own words: a proxy's, perhaps, and a proxy does not know what happened behind it.
        return InDoubt(reason="garbage")
    error = parsed.error
    if status in (401, 403) or (status == 400 and _BAD_KEY.search(error.description)):
        return NotSent(reason="forbidden" if status == 403 else "unauthorized")
    if status == 429:
        return NotSent(reason="rate_limited", retry_after_s=retry_after_s(reply))
    if _OTHER_BODY.search(error.description):
        return InDoubt(reason=KEY_REUSED)
    if status == 409:
        return InDoubt(reason="in_flight", retry_after_s=retry_after_s(reply))
    if error.code == "SERVER_ERROR":
        return InDoubt(reason="server_error", retry_after_s=retry_after_s(reply))
    if _DONE_BEFORE.search(error.description):
        return InDoubt(reason=ALREADY_DONE)
    return _error_declined(error)


def _error_declined(error: ErrorBody) -> Declined:
    reference = error.metadata.payment_id if isinstance(error.metadata, ErrorMetadata) else None
    declined = decline(error.reason, error.code, reference=reference, of_payment=reference is not None)
    if declined.category is DeclineCategory.INVALID and error.field and _FIELD.fullmatch(error.field):
        return Declined(
            category=declined.category,
            code=declined.code,
            message=f"{declined.message} ({error.field})",
            gateway_code=declined.gateway_code,
            reference=reference,
        )
    return declined


def decline(
    reason: str | None, error_code: str | None, *, reference: str | None, of_payment: bool
) -> Declined:
    """A definitive no, in our words: Razorpay's own description may quote what was sent, so it is not kept."""
    row = row_of(reason)
    raw = reason if reason not in (None, *_UNKNOWN_REASONS) else (error_code or "")
    if row is not None:
        category, code = row.category, row.code
    elif of_payment or error_code == "GATEWAY_ERROR":
        category, code = DeclineCategory.HARD, "card_declined"
    else:
        category, code = DeclineCategory.INVALID, "invalid_request"
    return Declined(
        category=category,
        code=code,
        message=f"Razorpay: {code.replace('_', ' ')}",
        gateway_code=raw if raw and _CODE.fullmatch(raw) else "",
        reference=reference,
    )


# --- payments -----------------------------------------------------------------------------------------------


def payment_outcome(
    payment: Payment, call: GatewayCall, kind: OperationKind, reference: str | None = None
) -> Outcome:
    """What a payment says of the authorize or charge that asked for it.

    `reference` is what stands for the operation while it is not approved: the order, where the payer may try again.
    """
    if payment.entity not in ("", "payment") or payment.currency != call.amount.code:
        return InDoubt(reason="garbage")
    waiting = reference or payment.id
    status = payment.status
    if status == "created":
        return Pending(reference=waiting, reason="created")
    if status == "authorized" and kind is OperationKind.CHARGE:
        # Razorpay captures it by itself within minutes, or gives it back.
        return Pending(reference=waiting, reason="authorized")
    if status == "failed" and payment.captured is not True:
        return decline(payment.error_reason, payment.error_code, reference=waiting, of_payment=True)
    if status == "refunded" and payment.captured is False:
        return Declined(
            category=DeclineCategory.HARD,
            code="canceled",
            message="Razorpay: the payment was given back without a capture",
            gateway_code="refunded",
            reference=waiting,
        )
    if status not in ("authorized", "captured", "refunded"):
        return InDoubt(reason="unexpected_status")
    try:
        amount = from_razorpay(payment.amount, payment.currency)
    except (ValueError, InvalidRequest):
        return InDoubt(reason="garbage")
    expires_at_us = None
    if status == "authorized" and payment.created_at:
        expires_at_us = (payment.created_at + MANUAL_EXPIRY_MINUTES * 60) * 1_000_000
    return Approved(reference=payment.id, amount_minor=amount, expires_at_us=expires_at_us)


_RANK = {"captured": 4, "refunded": 3, "authorized": 2, "created": 1}


def leading(payments: list[Payment]) -> Payment | None:
    """The payment that decides what became of an order; None where nobody tried. One order takes one success."""
    newest_first = sorted(payments, key=lambda one: one.created_at or 0, reverse=True)
    return max(newest_first, key=lambda one: _RANK.get(one.status, 0), default=None)


def next_step(created: Created) -> RequiresAction | None:
    """What the payer must do to go on with a server-to-server payment; None where nothing is asked of them."""
    steps = {step.action: step.url for step in created.next or [] if step.url}
    reference = created.razorpay_payment_id
    if "redirect" in steps:
        return RequiresAction(reference=reference, action=NextAction(url=steps["redirect"]))
    if "otp_generate" in steps:
        action = NextAction(
            type=ActionType.OTP, url=steps["otp_generate"], data={"razorpay_payment_id": reference}
        )
        return RequiresAction(reference=reference, action=action)
    return None


def checkout_action(order_id: str, call: GatewayCall, key_id: str) -> RequiresAction:
    """What Razorpay's Checkout needs to let the payer pay an order. The key id is public; the secret is not here.

    The notes are handed to the Checkout, so that webhooks about the payment name our operation.
    """
    confirming = call.kind is OperationKind.CONFIRM
    kind = (call.parent_kind or OperationKind.CHARGE) if confirming else call.kind
    data = {
        "order_id": order_id,
        "key": key_id,
        f"notes[{OPERATION_NOTE}]": (call.parent_operation_id or "") if confirming else call.operation_id,
        f"notes[{PAYMENT_NOTE}]": call.payment_id,
        f"notes[{KIND_NOTE}]": kind.value,
    }
    return RequiresAction(reference=order_id, action=NextAction(type=ActionType.SDK, data=data))


# --- captures and refunds -----------------------------------------------------------------------------------


def captured_outcome(payment: Payment, call: GatewayCall) -> Outcome:
    """What a payment says of its capture. Only a payment that was captured makes it a yes."""
    if payment.id != call.parent_reference or payment.currency != call.amount.code:
        return InDoubt(reason="garbage")
    if payment.status == "captured" or (payment.status == "refunded" and payment.captured):
        try:
            amount = from_razorpay(payment.amount, payment.currency)
        except (ValueError, InvalidRequest):
            return InDoubt(reason="garbage")
        return Approved(reference=payment.id, amount_minor=amount)
    return InDoubt(reason="unexpected_status")


def refund_outcome(refund: RazorpayRefund, call: GatewayCall) -> Outcome:
    if refund.entity not in ("", "refund") or refund.currency != call.amount.code:
        return InDoubt(reason="garbage")
    if refund.status == "processed":
        try:
            amount = from_razorpay(refund.amount, refund.currency)
        except (ValueError, InvalidRequest):
            return InDoubt(reason="garbage")
        return Approved(reference=refund.id, amount_minor=amount)
    if refund.status in ("pending", None):
        return Pending(reference=refund.id, reason="refund_pending")
    if refund.status == "failed":
        return Declined(
            category=DeclineCategory.INVALID,
            code="refund_failed",
            message="Razorpay: the refund failed",
            gateway_code="failed",
            reference=refund.id,
        )
    return InDoubt(reason="unexpected_status")
