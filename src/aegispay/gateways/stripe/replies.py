"""From Stripe's answers to outcomes. Pure and total: whatever the bytes are, the result is one of the six outcomes.

A definitive outcome needs an answer that is Stripe's and that is about this operation; anything else is in doubt.
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
from aegispay.gateways.answers import read, retry_after_s
from aegispay.gateways.gateway import KEY_REUSED, SAVED_ERROR, GatewayCall
from aegispay.gateways.http import HttpReply
from aegispay.gateways.stripe.amounts import from_stripe, to_stripe
from aegispay.gateways.stripe.codes import row_of
from aegispay.gateways.stripe.requests import OPERATION_KEY
from aegispay.gateways.stripe.wire_types import (
    Charge,
    ErrorBody,
    ErrorReply,
    Intent,
    PaymentError,
    StripeRefund,
)

_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_PARAM = re.compile(r"[a-z][a-z0-9_\[\]]{0,79}")


def foreign(reply: HttpReply, gateway_key: str) -> bool:
    """Whether the answer says that it belongs to a request with another key than ours."""
    echoed = reply.headers.get("idempotency-key")
    return echoed is not None and echoed != gateway_key


# --- errors -------------------------------------------------------------------------------------------------


def error_outcome(reply: HttpReply, *, card_data: bool = False) -> Outcome:
    """The outcome of an answer that is not 2xx.

    `NotSent` only for refusals that Stripe gives before it executes anything: 401, 403 and 429. A 5xx that Stripe
    saved under the key comes back for ever, so it is marked `SAVED_ERROR`: only a look-up can tell.
    """
    status = reply.status
    again = reply.headers.get("stripe-should-retry")
    if status >= 500 or status == 424:
        saved = reply.headers.get("idempotent-replayed") == "true" or again == "false"
        return InDoubt(reason=SAVED_ERROR if saved else "server_error", retry_after_s=retry_after_s(reply))
    parsed = read(reply, ErrorReply)
    if parsed is None or status < 400:
        # Not Stripe's own words: a proxy's, perhaps, and a proxy does not know what happened behind it.
        return InDoubt(reason="garbage")
    error = parsed.error
    if status == 401:
        return NotSent(reason="unauthorized")
    if status == 403:
        return NotSent(reason="forbidden")
    if status == 429:
        reason = "lock_timeout" if error.code == "lock_timeout" else "rate_limited"
        return NotSent(reason=reason, retry_after_s=retry_after_s(reply))
    if status == 409:
        return InDoubt(reason="in_flight", retry_after_s=retry_after_s(reply))
    if error.type == "idempotency_error":
        return InDoubt(reason=KEY_REUSED)
    if error.type == "api_error" or (again == "true" and status != 402):
        return InDoubt(reason="server_error", retry_after_s=retry_after_s(reply))
    return declined(error, card_error=status == 402 or error.type == "card_error", show_param=not card_data)


def declined(
    error: ErrorBody | PaymentError,
    *,
    card_error: bool,
    reference: str | None = None,
    show_param: bool = True,
) -> Declined:
    """A definitive no, in our words: Stripe's own message may quote what was sent, so it is not kept."""
    row = row_of(error.decline_code, error.code)
    raw = error.decline_code or error.code or ""
    gateway_code = raw if _CODE.fullmatch(raw) else ""
    if row is not None:
        category, code = row.category, row.code
    elif card_error:
        category, code = DeclineCategory.SOFT, "card_declined"
    else:
        category, code = DeclineCategory.INVALID, "invalid_request"
    message = f"Stripe: {code.replace('_', ' ')}"
    param = getattr(error, "param", None)
    if category is DeclineCategory.INVALID and show_param and param and _PARAM.fullmatch(param):
        message += f" ({param})"
    if isinstance(error, ErrorBody) and isinstance(error.payment_intent, Intent):
        reference = error.payment_intent.id
    return Declined(
        category=category, code=code, message=message, gateway_code=gateway_code, reference=reference
    )


# --- payments -----------------------------------------------------------------------------------------------


def first_outcome(reply: HttpReply, call: GatewayCall) -> Outcome:
    """The answer to create-and-confirm."""
    if foreign(reply, call.gateway_key):
        return InDoubt(reason="garbage")
    if not 200 <= reply.status < 300:
        outcome = error_outcome(reply)
        parsed = read(reply, ErrorReply) if isinstance(outcome, Declined) else None
        about = parsed.error.payment_intent if parsed is not None else None
        if (
            isinstance(about, Intent)
            and about.metadata.get(OPERATION_KEY, call.operation_id) != call.operation_id
        ):
            return InDoubt(reason="garbage")
        return outcome
    intent = read(reply, Intent)
    if intent is None or intent.object != "payment_intent":
        return InDoubt(reason="garbage")
    if intent.metadata.get(OPERATION_KEY) != call.operation_id:
        return InDoubt(reason="garbage")
    return intent_outcome(intent, call, call.kind)


def parent_intent(reply: HttpReply, call: GatewayCall) -> Intent | None:
    """The PaymentIntent that the call acts on, where that is what a 2xx answer holds."""
    intent = read(reply, Intent) if 200 <= reply.status < 300 else None
    if intent is None or intent.object != "payment_intent" or intent.id != call.parent_reference:
        return None
    return intent


def intent_outcome(intent: Intent, call: GatewayCall, kind: OperationKind) -> Outcome:
    """What a PaymentIntent says of the authorize or charge that made it."""
    if intent.currency.upper() != call.amount.code:
        return InDoubt(reason="garbage")
    status = intent.status
    if status == "succeeded" or (status == "requires_capture" and kind is OperationKind.AUTHORIZE):
        return _approved(intent, call, kind)
    if status == "processing":
        return Pending(reference=intent.id)
    if status == "requires_action":
        return _action(intent)
    if status == "requires_payment_method" and intent.last_payment_error is not None:
        return declined(intent.last_payment_error, card_error=True, reference=intent.id)
    if status == "canceled":
        return Declined(
            category=DeclineCategory.HARD,
            code="canceled",
            message="Stripe: the payment was canceled",
            gateway_code="canceled",
            reference=intent.id,
        )
    return InDoubt(reason="unexpected_status")


def _approved(intent: Intent, call: GatewayCall, kind: OperationKind) -> Outcome:
    if kind is OperationKind.CHARGE:
        taken = intent.amount_received
    else:
        # Once something was captured, the rest that can be captured is not what was authorised.
        taken = None if intent.amount_received else intent.amount_capturable
    try:
        amount = from_stripe(intent.amount if taken is None else taken, call.amount.code)
    except ValueError:
        return InDoubt(reason="garbage")
    return Approved(reference=intent.id, amount_minor=amount, expires_at_us=_capture_before_us(intent))


def _capture_before_us(intent: Intent) -> int | None:
    charge = intent.latest_charge
    details = charge.payment_method_details if isinstance(charge, Charge) else None
    card = details.get("card") if details else None
    before_s = card.get("capture_before") if isinstance(card, dict) else None
    return before_s * 1_000_000 if type(before_s) is int and before_s > 0 else None


def _action(intent: Intent) -> Outcome:
    action = intent.next_action
    if action is None:
        return InDoubt(reason="unexpected_status")
    url = action.redirect_to_url.url if action.redirect_to_url else None
    if url:
        return RequiresAction(reference=intent.id, action=NextAction(type=ActionType.REDIRECT, url=url))
    # The client secret that Stripe's SDK wants is fetched by the merchant's own page, and never stored here.
    data = {"payment_intent": intent.id, "type": action.type[:64]}
    return RequiresAction(reference=intent.id, action=NextAction(type=ActionType.SDK, data=data))


def confirm_outcome(reply: HttpReply, call: GatewayCall, kind: OperationKind) -> Outcome:
    """The answer to a confirmation. Only the payment's own state, or the issuer, can say no to it."""
    if foreign(reply, call.gateway_key):
        return InDoubt(reason="garbage")
    if 200 <= reply.status < 300:
        intent = parent_intent(reply, call)
        return InDoubt(reason="garbage") if intent is None else intent_outcome(intent, call, kind)
    outcome = error_outcome(reply)
    if isinstance(outcome, NotSent):
        return InDoubt(reason=outcome.reason, retry_after_s=outcome.retry_after_s)
    if isinstance(outcome, Declined) and outcome.category is DeclineCategory.INVALID:
        # "Unexpected state" may mean that the payment went on by itself, and was charged.
        about = _about(reply, call)
        return InDoubt(reason="unexpected_status") if about is None else intent_outcome(about, call, kind)
    return outcome


# --- captures, voids, refunds -------------------------------------------------------------------------------


def captured(intent: Intent, call: GatewayCall, *, multi_capture: bool) -> Outcome:
    """What a PaymentIntent that was captured says of this capture."""
    amount = call.amount.amount_minor
    if not multi_capture and intent.amount_received:
        # A single capture: what was received is what it took, even if somebody else made it.
        try:
            amount = from_stripe(intent.amount_received, call.amount.code)
        except ValueError:
            return InDoubt(reason="garbage")
    charge = intent.latest_charge
    reference = charge.id if isinstance(charge, Charge) else charge
    return Approved(reference=reference or intent.id, amount_minor=amount)


def capture_outcome(reply: HttpReply, call: GatewayCall, *, multi_capture: bool) -> Outcome:
    if foreign(reply, call.gateway_key):
        return InDoubt(reason="garbage")
    if 200 <= reply.status < 300:
        intent = parent_intent(reply, call)
        done = intent is not None and (
            intent.status == "succeeded" or (multi_capture and intent.status == "requires_capture")
        )
        if intent is None or not done:
            return InDoubt(reason="garbage" if intent is None else "unexpected_status")
        return captured(intent, call, multi_capture=multi_capture)
    outcome = error_outcome(reply)
    about = _about(reply, call) if isinstance(outcome, Declined) else None
    if about is not None and about.status == "succeeded" and not multi_capture:
        # Captured before, by a request of ours whose answer was lost, or by a person: our books follow Stripe's.
        return captured(about, call, multi_capture=False)
    return outcome


def void_outcome(reply: HttpReply, call: GatewayCall, *, released: bool = False) -> Outcome:
    """The answer to a cancel, or (`released`) to the final capture of nothing that releases the rest."""
    if foreign(reply, call.gateway_key):
        return InDoubt(reason="garbage")
    wanted = "succeeded" if released else "canceled"
    if 200 <= reply.status < 300:
        intent = parent_intent(reply, call)
        if intent is None or intent.status != wanted:
            return InDoubt(reason="garbage" if intent is None else "unexpected_status")
        return Approved(reference=intent.id, amount_minor=call.amount.amount_minor)
    outcome = error_outcome(reply)
    about = _about(reply, call) if isinstance(outcome, Declined) else None
    if about is not None and about.status == "canceled":
        return Approved(reference=about.id, amount_minor=call.amount.amount_minor)
    return outcome


def rest_released(intent: Intent, call: GatewayCall) -> bool:
    """Whether the last capture released exactly what this void is to release, and nobody captured any of it."""
    left = intent.amount - (intent.amount_received or 0)
    return intent.status == "succeeded" and left == to_stripe(call.amount)


def _about(reply: HttpReply, call: GatewayCall) -> Intent | None:
    """The PaymentIntent that an error encloses, where it is the one that the call acts on."""
    parsed = read(reply, ErrorReply)
    about = parsed.error.payment_intent if parsed is not None else None
    return about if isinstance(about, Intent) and about.id == call.parent_reference else None


def refund_reply_outcome(reply: HttpReply, call: GatewayCall) -> Outcome:
    """The answer to a refund's creation."""
    if foreign(reply, call.gateway_key):
        return InDoubt(reason="garbage")
    if not 200 <= reply.status < 300:
        return error_outcome(reply)
    refund = read(reply, StripeRefund)
    if refund is None or refund.object != "refund" or refund.metadata.get(OPERATION_KEY) != call.operation_id:
        return InDoubt(reason="garbage")
    return refund_outcome(refund, call)


def refund_outcome(refund: StripeRefund, call: GatewayCall) -> Outcome:
    if refund.currency.upper() != call.amount.code:
        return InDoubt(reason="garbage")
    if refund.status == "succeeded":
        try:
            amount = from_stripe(refund.amount, call.amount.code)
        except ValueError:
            return InDoubt(reason="garbage")
        return Approved(reference=refund.id, amount_minor=amount)
    if refund.status in ("pending", "requires_action"):
        return Pending(reference=refund.id, reason=f"refund_{refund.status}")
    if refund.status in ("failed", "canceled"):
        raw = refund.failure_reason or refund.status
        return Declined(
            category=DeclineCategory.INVALID,
            code=f"refund_{refund.status}",
            message=f"Stripe: the refund {refund.status}",
            gateway_code=raw if _CODE.fullmatch(raw) else "",
            reference=refund.id,
        )
    return InDoubt(reason="unexpected_status")


def same_capture(intent: Intent, call: GatewayCall) -> bool:
    """Whether the PaymentIntent carries the mark that this very capture left (multicapture only)."""
    return intent.metadata.get(call.operation_id) == str(to_stripe(call.amount))
