"""From Adyen's answers to outcomes. Pure and total: whatever the bytes are, the result is one of the six outcomes.

A definitive outcome needs an answer that is Adyen's and that is about this operation; anything else is in doubt.
"""

from __future__ import annotations

import re

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
from aegispay.gateways.adyen.amounts import from_adyen
from aegispay.gateways.adyen.codes import IN_FLIGHT, KEY_STORE_DOWN, error_row, refusal_row
from aegispay.gateways.adyen.requests import is_adyens
from aegispay.gateways.adyen.wire_types import (
    ActionHead,
    ModificationReply,
    PaymentReply,
    ServiceError,
    WireAmount,
)
from aegispay.gateways.answers import read, read_body, retry_after_s
from aegispay.gateways.gateway import GatewayCall
from aegispay.gateways.http import HttpReply

ACTION_LENGTH_MAX = 32_768
URL_LENGTH_MAX = 8192
_CODE = re.compile(r"[A-Za-z0-9_]{1,32}")
_ACTIONS = frozenset({"RedirectShopper", "ChallengeShopper", "IdentifyShopper", "PresentToShopper"})


def foreign(reply: HttpReply, key: str) -> bool:
    """Whether the answer says that it belongs to a request with another key than ours."""
    echoed = reply.headers.get("idempotency-key")
    return echoed is not None and echoed != key


# --- errors -------------------------------------------------------------------------------------------------


def error_outcome(reply: HttpReply) -> Outcome:
    """The outcome of an answer that is not 2xx.

    `NotSent` only for refusals that Adyen gives before it executes anything: 401, 403 and 429. An error that Adyen
    calls transient, a key in flight and a key store that is down say nothing of what was executed.
    """
    status = reply.status
    wait_s = retry_after_s(reply)
    error = read(reply, ServiceError)
    if error is None or status < 400 or error.status != status:
        # Not Adyen's own words: a proxy's, perhaps, and a proxy does not know what happened behind it.
        return InDoubt(reason="server_error" if status >= 500 else "garbage", retry_after_s=wait_s)
    if error.error_code == IN_FLIGHT or status == 409:
        return InDoubt(reason="in_flight", retry_after_s=wait_s)
    if error.error_code == KEY_STORE_DOWN or status >= 500:
        return InDoubt(reason="server_error", retry_after_s=wait_s)
    if status == 401:
        return NotSent(reason="unauthorized")
    if status == 403:
        return NotSent(reason="forbidden")
    if status == 429:
        return NotSent(reason="rate_limited", retry_after_s=wait_s)
    if reply.headers.get("transient-error", "").lower() == "true" or error.error_type == "internal":
        return InDoubt(reason="server_error", retry_after_s=wait_s)
    row = error_row(error.error_code)
    return _declined(
        row.category if row else DeclineCategory.INVALID,
        row.code if row else "invalid_request",
        error.error_code,
        None,
    )


def _declined(category: DeclineCategory, code: str, raw: str | None, reference: str | None) -> Declined:
    """A definitive no, in our words: Adyen's own message may quote what was sent, so it is not kept."""
    return Declined(
        category=category,
        code=code,
        message=f"Adyen: {code.replace('_', ' ')}",
        gateway_code=raw if raw and _CODE.fullmatch(raw) else "",
        reference=reference,
    )


# --- payments -----------------------------------------------------------------------------------------------


def payment_outcome(reply: HttpReply, call: GatewayCall) -> Outcome:
    """The answer to `/payments`, or to `/payments/details` for a confirmation."""
    if foreign(reply, call.gateway_key):
        return InDoubt(reason="garbage")
    confirm = call.kind is OperationKind.CONFIRM
    if not 200 <= reply.status < 300:
        outcome = error_outcome(reply)
        if confirm and isinstance(outcome, Declined):
            # What was brought back is not what Adyen waits for. The payment itself still waits for the payer.
            return NotSent(reason="details_refused")
        return outcome
    payment = read(reply, PaymentReply)
    if payment is None:
        return InDoubt(reason="garbage")
    ours = call.parent_operation_id if confirm else call.operation_id
    if ours is not None and payment.merchant_reference not in (None, ours):
        return InDoubt(reason="garbage")
    if payment.psp_reference is not None and not is_adyens(payment.psp_reference):
        return InDoubt(reason="garbage")
    return _result(payment, call, ours or call.parent_reference or call.operation_id)


def _result(payment: PaymentReply, call: GatewayCall, ours: str) -> Outcome:
    code = payment.result_code
    if code in ("Authorised", "PartiallyAuthorised"):
        return _approved(payment, call)
    if code in ("Received", "Pending"):
        return Pending(reference=payment.psp_reference or ours, reason=code.lower())
    if code in _ACTIONS:
        return _action(payment, ours)
    if code in ("Refused", "Error", "Cancelled"):
        row = refusal_row(payment.refusal_reason_code)
        if row is not None:
            category, ours_code = row.category, row.code
        elif code == "Cancelled":
            category, ours_code = DeclineCategory.HARD, "canceled"
        else:
            category, ours_code = DeclineCategory.SOFT, "card_declined"
        return _declined(category, ours_code, payment.refusal_reason_code or code, payment.psp_reference)
    return InDoubt(reason="unexpected_status")


def _approved(payment: PaymentReply, call: GatewayCall) -> Outcome:
    taken = minor(payment.amount, call)
    if payment.amount is None:
        # Only a full approval may leave the amount out.
        taken = call.amount.amount_minor if payment.result_code == "Authorised" else None
    if taken is None or taken <= 0 or not payment.psp_reference:
        return InDoubt(reason="garbage")
    return Approved(reference=payment.psp_reference, amount_minor=taken)


def minor(amount: WireAmount | None, call: GatewayCall) -> int | None:
    """Adyen's amount in our minor units; None where it is absent, odd, or of another currency."""
    if amount is None or amount.currency != call.amount.code:
        return None
    try:
        return from_adyen(amount.value, amount.currency)
    except ValueError:
        return None


def _is_page(url: str) -> bool:
    """Whether a payer may be sent there: over TLS, or to a sandbox on this machine."""
    return (
        len(url) <= URL_LENGTH_MAX
        and url.isprintable()
        and url.startswith(("https://", "http://127.0.0.1:", "http://localhost:"))
    )


def _action(payment: PaymentReply, ours: str) -> Outcome:
    """What the payer must do. Adyen gives no pspReference yet with a redirect: our reference stands in for it."""
    raw = bytes(payment.action)
    head = read_body(raw, ActionHead)
    if head is None or len(raw) > ACTION_LENGTH_MAX:
        return InDoubt(reason="unexpected_status")
    reference = payment.psp_reference or ours
    if head.type == "redirect" and head.url and (head.method or "GET").upper() == "GET":
        if not _is_page(head.url):
            return InDoubt(reason="unexpected_status")
        action = NextAction(type=ActionType.REDIRECT, url=head.url)
    else:
        # Adyen's own component takes the whole object (`handleAction`). It is made for the payer's browser.
        action = NextAction(
            type=ActionType.SDK, data={"type": head.type[:64], "action": raw.decode(errors="replace")}
        )
    return RequiresAction(reference=reference, action=action)


# --- captures, voids, refunds -------------------------------------------------------------------------------


def modification_outcome(
    reply: HttpReply, call: GatewayCall, *, key: str, reference: str, payment: str | None
) -> Outcome:
    """The answer to a capture, void or refund: `received`, so the outcome is still to come by webhook.

    `reference` is ours, as it was sent; `payment` is what the path or the body named.
    """
    if foreign(reply, key):
        return InDoubt(reason="garbage")
    if not 200 <= reply.status < 300:
        return error_outcome(reply)
    made = read(reply, ModificationReply)
    if made is None or not is_adyens(made.psp_reference) or made.reference not in (None, reference):
        return InDoubt(reason="garbage")
    if (made.payment_psp_reference or made.payment_reference) != payment:
        return InDoubt(reason="garbage")
    if made.amount is not None and minor(made.amount, call) is None:
        return InDoubt(reason="garbage")
    if made.status != "received":
        return InDoubt(reason="unexpected_status")
    return Pending(reference=made.psp_reference, reason="received")
