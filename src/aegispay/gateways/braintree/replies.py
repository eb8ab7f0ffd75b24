"""From Braintree's answers to outcomes. Pure and total: whatever the bytes are, the result is one of the six outcomes.

Braintree answers HTTP 200 to everything that it understands, errors too, so the body alone decides. `looked_up` marks
an answer to a look-up: what the transaction itself says then is final, while the same words in the first answer may
hide an earlier copy of the request.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TypeVar

import msgspec

from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import (
    Approved,
    DeclineCategory,
    Declined,
    InDoubt,
    NotSent,
    Outcome,
    Pending,
)
from aegispay.gateways.answers import read, read_body, retry_after_s
from aegispay.gateways.braintree.amounts import from_braintree
from aegispay.gateways.braintree.codes import NONCE_BUSY, Kind, row_of
from aegispay.gateways.braintree.wire_types import (
    Envelope,
    GraphqlError,
    Refund,
    RefundPayload,
    ReversalPayload,
    Sale,
    SalePayload,
    StatusEvent,
    Typed,
    WireAmount,
)
from aegispay.gateways.gateway import GatewayCall
from aegispay.gateways.http import HttpReply

TAKEN = frozenset(
    {"SUBMITTED_FOR_SETTLEMENT", "SETTLEMENT_PENDING", "SETTLING", "SETTLED", "SETTLEMENT_CONFIRMED"}
)
"""The money is taken, or will be without anybody asking again."""
UNSETTLED = frozenset({"AUTHORIZED", "SUBMITTED_FOR_SETTLEMENT", "SETTLEMENT_PENDING"})
"""A void still undoes it; a refund is refused (91506)."""
_CODE = re.compile(r"[A-Za-z0-9_]{1,64}")
_Read = TypeVar("_Read", SalePayload, RefundPayload, ReversalPayload)


# --- errors -------------------------------------------------------------------------------------------------

_BEFORE_EXECUTION = {
    "AUTHENTICATION": "unauthorized",
    "AUTHORIZATION": "forbidden",
    "RESOURCE_LIMIT": "rate_limited",
    "UNSUPPORTED_CLIENT": "unsupported_client",
}
"""Error classes of refusals that Braintree gives before it executes anything."""


def error_outcome(errors: list[GraphqlError], wait_s: float | None = None) -> Outcome:
    """What the errors of an answer without a result say. The most doubtful of them decides."""
    classes = [(error.extensions.error_class if error.extensions else None) for error in errors]
    for found in classes:
        if found not in _BEFORE_EXECUTION and found not in ("VALIDATION", "NOT_FOUND"):
            # INTERNAL, SERVICE_AVAILABILITY, and whatever we have never heard of.
            return InDoubt(reason="server_error" if found else "garbage", retry_after_s=wait_s)
    codes = [_legacy(error) for error in errors]
    if NONCE_BUSY.intersection(codes):
        # Somebody has used this nonce. It may have been an earlier copy of this very request: search first.
        return InDoubt(reason="nonce_consumed")
    for found, code in zip(classes, codes, strict=True):
        if found == "VALIDATION":
            return _declined("validation", code, DeclineCategory.INVALID, "invalid_request", None)
        if found == "NOT_FOUND":
            return _no(DeclineCategory.INVALID, "not_found", code or found, None)
    return NotSent(reason=_BEFORE_EXECUTION[str(classes[0])], retry_after_s=wait_s)


def _legacy(error: GraphqlError) -> str:
    code = error.extensions.legacy_code if error.extensions else None
    return str(code) if code is not None else ""


def unpack(reply: HttpReply) -> Envelope | NotSent | InDoubt:
    """The GraphQL answer, or what an answer that is none says."""
    wait_s = retry_after_s(reply)
    if reply.status >= 500:
        return InDoubt(reason="server_error", retry_after_s=wait_s)
    body = read(reply, Envelope)
    if not isinstance(body, Envelope):
        return InDoubt(reason="garbage")
    if reply.status == 401:
        return NotSent(reason="unauthorized")
    if reply.status == 429:
        return NotSent(reason="rate_limited", retry_after_s=wait_s)
    if reply.status != 200:
        return InDoubt(reason="garbage")
    return body


def payload(reply: HttpReply, call: GatewayCall, kind: type[_Read]) -> _Read | Outcome:
    """The result of a mutation, or the outcome of an answer that has none.

    Where there is a result it counts, whatever errors stand beside it: the mutation was executed.
    """
    body = unpack(reply)
    if not isinstance(body, Envelope):
        return body
    found = read_body(bytes(body.data.result), kind) if body.data is not None and body.data.result else None
    if found is not None:
        if found.client_mutation_id not in (None, call.operation_id):
            return InDoubt(reason="garbage")
        return found
    if not body.errors or (body.data is not None and bytes(body.data.result) not in (b"", b"null")):
        return InDoubt(reason="garbage")
    return error_outcome(body.errors, retry_after_s(reply))


def _declined(
    kind: Kind, raw: str | None, category: DeclineCategory, code: str, reference: str | None
) -> Declined:
    row = row_of(kind, raw)
    if row is not None:
        category, code = row.category, row.code
    return _no(category, code, raw, reference)


def _no(category: DeclineCategory, code: str, raw: str | None, reference: str | None) -> Declined:
    """A definitive no, in our words: Braintree's own message may quote what was sent, so it is not kept."""
    return Declined(
        category=category,
        code=code,
        message=f"Braintree: {code.replace('_', ' ')}",
        gateway_code=raw if raw and _CODE.fullmatch(raw) else "",
        reference=reference,
    )


# --- payments -----------------------------------------------------------------------------------------------


def minor(amount: WireAmount | None, call: GatewayCall) -> int | None:
    """Braintree's amount in our minor units; None where it is absent, odd, or of another currency."""
    if amount is None or amount.currency_code != call.amount.code:
        return None
    try:
        found = from_braintree(amount.value, call.amount.code)
    except ValueError:
        return None
    return found if found > 0 else None


def _last(history: list[StatusEvent] | None, status: str) -> StatusEvent | None:
    """The event of this status. Braintree does not say in which order events come, so only its kind is used."""
    return next((event for event in history or [] if event.status == status), None)


def payment_outcome(reply: HttpReply, call: GatewayCall) -> Outcome:
    """The answer to an authorize, a charge or a partial capture."""
    made = payload(reply, call, SalePayload)
    if not isinstance(made, SalePayload):
        return made
    if made.transaction is None or made.transaction.order_id != call.operation_id:
        return InDoubt(reason="garbage")
    return sale_outcome(made.transaction, call, call.kind, looked_up=False)


def sale_outcome(sale: Sale, call: GatewayCall, kind: OperationKind, *, looked_up: bool) -> Outcome:
    """What a transaction says of the operation that made it."""
    status = sale.status
    taken = minor(sale.amount, call)
    if status == "AUTHORIZING":
        return Pending(reference=sale.id, reason="authorizing")
    if status == "AUTHORIZED" or status in TAKEN:
        if kind is OperationKind.AUTHORIZE:
            return _authorized(sale, call)
        if status not in TAKEN:
            return InDoubt(reason="unexpected_status")
        return InDoubt(reason="garbage") if taken is None else Approved(reference=sale.id, amount_minor=taken)
    return _refused(status, sale.status_history, sale.id, looked_up=looked_up)


def _authorized(sale: Sale, call: GatewayCall) -> Outcome:
    event = _last(sale.status_history, "AUTHORIZED")
    # Once it was captured, the transaction's own amount is what was captured.
    amount = minor((event.amount if event else None) or sale.amount, call)
    if amount is None:
        return InDoubt(reason="garbage")
    expires = event.authorization_expires_at if event else None
    return Approved(reference=sale.id, amount_minor=amount, expires_at_us=_at_us(expires))


def _at_us(text: str | None) -> int | None:
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return int(moment.timestamp() * 1_000_000) if moment.tzinfo is not None else None


def _refused(status: str, history: list[StatusEvent] | None, reference: str, *, looked_up: bool) -> Outcome:
    event = _last(history, status)
    if status == "PROCESSOR_DECLINED":
        return _processor_declined(event, reference, looked_up=looked_up)
    if status == "GATEWAY_REJECTED":
        reason = event.gateway_rejection_reason if event else None
        if reason == "DUPLICATE" and not looked_up:
            # Our order id is used once, so the other one may be an earlier copy of this request.
            return InDoubt(reason="duplicate")
        return _declined("gateway", reason, DeclineCategory.HARD, "card_declined", reference)
    if status == "FAILED":
        if not looked_up:
            return InDoubt(reason="processor_network")
        code = _processor_code(event)
        return _declined("processor", code, DeclineCategory.SOFT, "processing_error", reference)
    if status == "VOIDED":
        return _no(DeclineCategory.HARD, "canceled", status, reference)
    if status == "AUTHORIZATION_EXPIRED":
        return _no(DeclineCategory.HARD, "authorization_expired", status, reference)
    if status == "SETTLEMENT_DECLINED":
        return _no(DeclineCategory.HARD, "settlement_declined", status, reference)
    return InDoubt(reason="unexpected_status")


def _processor_code(event: StatusEvent | None) -> str | None:
    return event.processor_response.legacy_code if event and event.processor_response else None


def _processor_declined(event: StatusEvent | None, reference: str, *, looked_up: bool) -> Outcome:
    code = _processor_code(event)
    if (code or "").startswith("3") and not looked_up:
        return InDoubt(reason="processor_network")
    declined = _declined("processor", code, DeclineCategory.SOFT, "card_declined", reference)
    says = event.decline_type if event else None
    if says in ("SOFT", "HARD") and declined.category in (DeclineCategory.SOFT, DeclineCategory.HARD):
        category = DeclineCategory.SOFT if says == "SOFT" else DeclineCategory.HARD
        declined = msgspec.structs.replace(declined, category=category)
    return declined


# --- captures, voids, refunds -------------------------------------------------------------------------------


def capture_outcome(reply: HttpReply, call: GatewayCall) -> Outcome:
    """The answer to the one capture of a transaction, which keeps its id and its order id."""
    made = payload(reply, call, SalePayload)
    if not isinstance(made, SalePayload):
        return made
    if made.transaction is None or made.transaction.id != call.parent_reference:
        return InDoubt(reason="garbage")
    return captured(made.transaction, call)


def captured(sale: Sale, call: GatewayCall) -> Outcome:
    """What a transaction that only one capture can take says of that capture."""
    return sale_outcome(sale, call, OperationKind.CAPTURE, looked_up=True)


def reversal_outcome(reply: HttpReply, call: GatewayCall, reversed_id: str) -> Outcome:
    """The answer to a reversal: the transaction itself where it was voided, a refund where it had settled."""
    made = payload(reply, call, ReversalPayload)
    if not isinstance(made, ReversalPayload):
        return made
    raw = bytes(made.reversal)
    typed = read_body(raw, Typed)
    name = typed.name if isinstance(typed, Typed) else ""
    if name == "Transaction":
        sale = read_body(raw, Sale)
        if not isinstance(sale, Sale) or sale.id != reversed_id:
            return InDoubt(reason="garbage")
        if sale.status != "VOIDED":
            return InDoubt(reason="unexpected_status")
        return Approved(reference=sale.id, amount_minor=call.amount.amount_minor)
    refund = read_body(raw, Refund) if name == "Refund" else None
    if not isinstance(refund, Refund) or not of_transaction(refund, reversed_id):
        return InDoubt(reason="garbage")
    return given_back(refund, call)


def of_transaction(refund: Refund, transaction_id: str) -> bool:
    about = refund.refunded_transaction
    return about is not None and about.id == transaction_id


def refund_outcome(reply: HttpReply, call: GatewayCall, transaction_id: str) -> Outcome:
    made = payload(reply, call, RefundPayload)
    if not isinstance(made, RefundPayload):
        return made
    refund = made.refund
    if refund is None or refund.order_id != call.operation_id or not of_transaction(refund, transaction_id):
        return InDoubt(reason="garbage")
    return given_back(refund, call)


def given_back(refund: Refund, call: GatewayCall) -> Outcome:
    """What a refund says of itself."""
    status = refund.status
    if status == "AUTHORIZING":
        return Pending(reference=refund.id, reason="refund_authorizing")
    if status == "AUTHORIZED" or status in TAKEN:
        amount = minor(refund.amount, call)
        return (
            InDoubt(reason="garbage")
            if amount is None
            else Approved(reference=refund.id, amount_minor=amount)
        )
    outcome = _refused(status, refund.status_history, refund.id, looked_up=True)
    if isinstance(outcome, Declined):
        # Whatever the reason, it is the refund that failed, not the payment.
        return msgspec.structs.replace(
            outcome,
            category=DeclineCategory.INVALID,
            code="refund_failed",
            message="Braintree: refund failed",
        )
    return outcome
