"""The adapter for PlainPay, the sandbox's second PSP: no idempotency keys, evidence by look-up and cancel by reference."""

from __future__ import annotations

import time
from typing import Any, TypeVar

import msgspec

from aegispay.domain.events import OperationKind
from aegispay.domain.methods import Card
from aegispay.domain.outcomes import (
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
from aegispay.domain.payment import FIRST_KINDS
from aegispay.gateways.capabilities import Capabilities
from aegispay.gateways.gateway import (
    Found,
    Gateway,
    GatewayCall,
    Health,
    Lookup,
    LookupFailed,
    NotFound,
    Tokenized,
)
from aegispay.gateways.http import HttpReply, HttpRequest, Transport

_CATEGORIES = {
    "generic_decline": DeclineCategory.SOFT,
    "insufficient_funds": DeclineCategory.SOFT,
    "do_not_honor": DeclineCategory.SOFT,
    "processing_error": DeclineCategory.SOFT,
    "issuer_not_available": DeclineCategory.SOFT,
    "card_velocity_exceeded": DeclineCategory.SOFT,
    "fraudulent": DeclineCategory.FRAUD,
}
"""PlainPay's decline codes; one that is not listed here is a hard one."""

_JSON = {"content-type": "application/json"}


class _Operation(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    kind: str
    status: str
    amount_minor: int


class _Payment(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    status: str
    amount_minor: int
    captured_minor: int
    expires_at_us: int | None = None
    decline: dict[str, str] | None = None
    action: dict[str, str] | None = None


class _Payments(msgspec.Struct, frozen=True, kw_only=True):
    payments: list[_Payment]


class _Operations(msgspec.Struct, frozen=True, kw_only=True):
    operations: list[_Operation]


class _Canceled(msgspec.Struct, frozen=True, kw_only=True):
    reference: str
    status: str


class _Token(msgspec.Struct, frozen=True, kw_only=True):
    token: str


class _ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    code: str
    message: str = ""


class _Error(msgspec.Struct, frozen=True, kw_only=True):
    error: _ErrorBody


class PlainPayGateway(Gateway):
    """One PlainPay account. `lookup_quiet_s` is how long PlainPay says that a request may still land after it was sent."""

    name = "plainpay"

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str,
        transport: Transport | None = None,
        lookup_quiet_s: float = 1.0,
        lookup_timeout_s: float = 5.0,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._api_key = api_key
        self._own_transport = transport is None
        self._transport = transport
        self.capabilities = Capabilities(
            multi_capture=True,
            tokenize=True,
            lookup_by_reference=True,
            lookup_quiet_s=lookup_quiet_s,
            cancel_by_reference=True,
        )
        self._lookup_timeout_s = lookup_timeout_s

    async def aclose(self) -> None:
        if self._own_transport and self._transport is not None:
            await self._transport.aclose()

    # --- operations -----------------------------------------------------------------------------------------

    async def authorize(self, call: GatewayCall) -> Outcome:
        return await self._pay(call, capture=False)

    async def charge(self, call: GatewayCall) -> Outcome:
        return await self._pay(call, capture=True)

    async def _pay(self, call: GatewayCall, *, capture: bool) -> Outcome:
        body: dict[str, Any] = {
            "reference": call.operation_id,
            "amount_minor": call.amount.amount_minor,
            "currency": call.amount.code,
            "token": call.token,
            "capture": capture,
            "metadata": {**call.metadata, "payment_id": call.payment_id},
        }
        if call.return_url:
            body["return_url"] = call.return_url
        if call.description:
            body["description"] = call.description
        reply = await self._send("POST", "/payments", call.timeout_s, body)
        return _payment_outcome(reply, call.kind)

    async def confirm(self, call: GatewayCall) -> Outcome:
        """PlainPay goes on by itself once the payer has acted, so this asks how it went."""
        reply = await self._send("GET", f"/payments/{call.parent_reference}", call.timeout_s)
        outcome = _payment_outcome(reply, call.parent_kind or OperationKind.CHARGE)
        # A question that was not asked says nothing: the payer's own step may have charged them already.
        return InDoubt(reason=outcome.reason) if isinstance(outcome, NotSent) else outcome

    async def capture(self, call: GatewayCall) -> Outcome:
        body = {"reference": call.operation_id, "amount_minor": call.amount.amount_minor, "final": call.final}
        return await self._act(call, "captures", body)

    async def void(self, call: GatewayCall) -> Outcome:
        return await self._act(call, "void", {"reference": call.operation_id})

    async def refund(self, call: GatewayCall) -> Outcome:
        body = {"reference": call.operation_id, "amount_minor": call.amount.amount_minor}
        return await self._act(call, "refunds", body)

    async def _act(self, call: GatewayCall, verb: str, body: dict[str, Any]) -> Outcome:
        reply = await self._send("POST", f"/payments/{call.parent_reference}/{verb}", call.timeout_s, body)
        found = _read(reply, _Operation)
        return _operation_outcome(found) if isinstance(found, _Operation) else found

    # --- evidence -------------------------------------------------------------------------------------------

    async def look_up(self, call: GatewayCall) -> Lookup:
        if call.kind is OperationKind.CONFIRM:
            outcome = await self.confirm(call)
            if isinstance(outcome, InDoubt | NotSent):
                return LookupFailed(reason=outcome.reason)
            return Found(outcome=outcome)
        if call.kind in FIRST_KINDS:
            reply = await self._send("GET", f"/payments?reference={call.operation_id}", call.timeout_s)
            payments = _read(reply, _Payments)
            if not isinstance(payments, _Payments):
                return _lookup_failed(payments)
            outcomes = [_status_outcome(payment, call.kind) for payment in payments.payments]
        else:
            reply = await self._send("GET", f"/operations?reference={call.operation_id}", call.timeout_s)
            operations = _read(reply, _Operations)
            if not isinstance(operations, _Operations):
                return _lookup_failed(operations)
            outcomes = [
                _operation_outcome(one) for one in operations.operations if one.kind == call.kind.value
            ]
        if not outcomes:
            return NotFound()
        effective = [outcome for outcome in outcomes if not isinstance(outcome, Declined | NotSent)]
        if len(effective) > 1:
            # One reference, two effects: PlainPay does not stop that, and only a person can tell which to keep.
            return LookupFailed(reason="several_under_one_reference")
        return Found(outcome=effective[0] if effective else outcomes[0])

    async def cancel_by_reference(self, call: GatewayCall) -> Outcome:
        """`Approved` once PlainPay has promised that the reference has, and will have, no effect."""
        if call.kind is OperationKind.CONFIRM:
            return InDoubt(reason="never_sent_under_this_reference")
        reply = await self._send("POST", f"/references/{call.operation_id}/cancel", call.timeout_s, {})
        found = _read(reply, _Canceled)
        if isinstance(found, _Canceled) and (found.reference, found.status) == (
            call.operation_id,
            "canceled",
        ):
            return Approved(reference=call.operation_id, amount_minor=call.amount.amount_minor)
        if isinstance(reply, HttpReply) and reply.status == 409:
            return InDoubt(reason="executed")
        # A cancel that did not get through says nothing about the operation itself.
        return InDoubt(reason=f"cancel_{reply.status if isinstance(reply, HttpReply) else reply.reason}")

    # --- the rest -------------------------------------------------------------------------------------------

    async def tokenize(self, card: Card, timeout_s: float) -> Tokenized | Declined | NotSent:
        body = {
            "number": card.reveal_number(),
            "expiry_month": card.expiry_month,
            "expiry_year": card.expiry_year,
            "cvc": card.reveal_cvc(),
        }
        found = _read(await self._send("POST", "/tokens", timeout_s, body), _Token)
        if isinstance(found, _Token):
            return Tokenized(token=found.token)
        if isinstance(found, Declined):
            return found
        return NotSent(reason=getattr(found, "reason", "garbage"))

    async def health(self, timeout_s: float = 5.0) -> Health:
        started_s = time.monotonic()
        reply = await self._send("GET", "/status", timeout_s)
        latency_ms = (time.monotonic() - started_s) * 1000
        if isinstance(reply, HttpReply):
            return Health(ok=reply.status == 200, latency_ms=latency_ms, detail=f"HTTP {reply.status}")
        return Health(ok=False, latency_ms=latency_ms, detail=reply.reason)

    async def _send(
        self, method: str, path: str, timeout_s: float, body: dict[str, Any] | None = None
    ) -> HttpReply | NotSent | InDoubt:
        if self._transport is None:
            from aegispay.gateways.transport import AiohttpTransport

            self._transport = AiohttpTransport()
        return await self._transport.send(
            HttpRequest(
                method=method,
                url=self._base_url + path,
                headers={"x-api-key": self._api_key, **(_JSON if body is not None else {})},
                body=None if body is None else msgspec.json.encode(body),
                timeout_s=timeout_s if method == "POST" else min(timeout_s, self._lookup_timeout_s),
            )
        )


_T = TypeVar("_T")


def _read(reply: HttpReply | NotSent | InDoubt, shape: type[_T]) -> _T | Outcome:
    """The answer's body, or what its failure means for an operation."""
    if not isinstance(reply, HttpReply):
        return reply
    status = reply.status
    if status >= 500:
        return InDoubt(reason="server_error")
    try:
        if status in (200, 201):
            return msgspec.json.decode(reply.body, type=shape)
        error = msgspec.json.decode(reply.body, type=_Error).error
    except msgspec.MsgspecError:
        return InDoubt(reason="garbage")
    if status == 429:
        return NotSent(reason="rate_limited")
    if status == 401:
        return NotSent(reason="unauthorized")
    if error.code == "reference_canceled":
        return NotSent(reason="reference_canceled")
    if status in (404, 409, 422):
        return Declined(
            category=DeclineCategory.INVALID, code=error.code, message=error.message, gateway_code=error.code
        )
    return InDoubt(reason=f"http_{status}")


def _payment_outcome(reply: HttpReply | NotSent | InDoubt, kind: OperationKind) -> Outcome:
    found = _read(reply, _Payment)
    return _status_outcome(found, kind) if isinstance(found, _Payment) else found


def _status_outcome(payment: _Payment, kind: OperationKind) -> Outcome:
    """What a payment's status means for the authorize or charge that made it."""
    if payment.status == "declined":
        decline = payment.decline or {}
        code = decline.get("code", "generic_decline")
        return Declined(
            category=_CATEGORIES.get(code, DeclineCategory.HARD),
            code=code,
            message=decline.get("message", ""),
            gateway_code=code,
            reference=payment.id,
        )
    if payment.status == "requires_action":
        return RequiresAction(reference=payment.id, action=NextAction(url=(payment.action or {}).get("url")))
    if payment.status == "voided":
        return Declined(
            category=DeclineCategory.HARD, code="canceled", gateway_code="voided", reference=payment.id
        )
    if payment.status == "captured" and kind is OperationKind.CHARGE:
        return Approved(reference=payment.id, amount_minor=payment.captured_minor)
    if payment.status in ("authorized", "captured") and kind is OperationKind.AUTHORIZE:
        return Approved(
            reference=payment.id, amount_minor=payment.amount_minor, expires_at_us=payment.expires_at_us
        )
    return Pending(reference=payment.id, reason=f"status_{payment.status}")


def _operation_outcome(operation: _Operation) -> Outcome:
    if operation.status == "done":
        return Approved(reference=operation.id, amount_minor=operation.amount_minor)
    return Pending(reference=operation.id, reason=f"status_{operation.status}")


def _lookup_failed(outcome: Outcome) -> LookupFailed:
    if isinstance(outcome, Declined):
        return LookupFailed(reason=outcome.code)
    return LookupFailed(reason=getattr(outcome, "reason", "garbage"))
