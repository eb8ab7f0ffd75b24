"""What happened to a payment: immutable facts, each readable for ever.

An event's `type` and `schema_version` say how to read its data; `upcast.py` brings old versions up to date.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from aegispay.domain.methods import MethodSnapshot
from aegispay.domain.outcomes import DeclineCategory, Evidence, NextAction


class OperationKind(StrEnum):
    """One thing asked of one gateway."""

    AUTHORIZE = "authorize"
    CHARGE = "charge"
    CONFIRM = "confirm"
    """Goes on with an authorize or charge after the payer acted."""
    CAPTURE = "capture"
    VOID = "void"
    REFUND = "refund"


class CaptureMode(StrEnum):
    AUTOMATIC = "automatic"
    """Authorise and capture in one (charge)."""
    MANUAL = "manual"
    """Authorise now, capture later."""


class _Data(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag_field="type"):
    pass


class PaymentInitiated(_Data, frozen=True, kw_only=True, omit_defaults=True, tag="payment_initiated"):
    merchant_id: str
    amount_minor: int
    currency: str
    capture: CaptureMode
    method: MethodSnapshot
    candidates: tuple[str, ...]
    """The gateways that may be tried, in order."""
    request_hash: str
    customer_id: str | None = None
    description: str | None = None
    return_url: str | None = None
    metadata: dict[str, str] = msgspec.field(default_factory=dict)


class OperationStarted(_Data, frozen=True, kw_only=True, omit_defaults=True, tag="operation_started"):
    """The record that is committed before a byte leaves."""

    operation_id: str
    kind: OperationKind
    gateway: str
    amount_minor: int
    gateway_key: str
    """The idempotency key that the operation is sent under, over crashes and resends."""
    attempt: int = 0
    """1, 2, ... for an authorize or charge; 0 for what follows it."""
    parent_id: str | None = None
    """The operation that this one acts on."""
    token: str | None = None
    """The PSP's token for the payment method, so that a crash can be followed by the very same request."""
    final: bool = True
    """For a capture: whether the rest is released."""
    reason: str | None = None
    action_data: dict[str, str] = msgspec.field(default_factory=dict)
    """For a confirmation: what the payer brought back (never a password or an OTP)."""
    compensates: bool = False
    """Whether this reverses a success that nobody wanted."""
    capture_id: str | None = None
    """For a refund: the capture that it gives back, where one capture covers it (some PSPs refund captures only)."""


class OperationApproved(_Data, frozen=True, kw_only=True, omit_defaults=True, tag="operation_approved"):
    operation_id: str
    amount_minor: int
    reference: str
    expires_at_us: int | None = None
    evidence: Evidence = Evidence.REPLY


class OperationDeclined(_Data, frozen=True, kw_only=True, omit_defaults=True, tag="operation_declined"):
    operation_id: str
    category: DeclineCategory
    code: str
    message: str = ""
    gateway_code: str = ""
    reference: str | None = None
    evidence: Evidence = Evidence.REPLY


class OperationNotSent(_Data, frozen=True, kw_only=True, omit_defaults=True, tag="operation_not_sent"):
    """Proof that the operation had no effect."""

    operation_id: str
    reason: str
    evidence: Evidence = Evidence.REPLY


class OperationUndone(_Data, frozen=True, kw_only=True, omit_defaults=True, tag="operation_undone"):
    """A capture or refund that the gateway had approved failed after all: its amount is in the books no more."""

    operation_id: str
    amount_minor: int
    """What is taken out of the books again."""
    code: str
    evidence: Evidence = Evidence.WEBHOOK


class OperationInDoubt(_Data, frozen=True, kw_only=True, omit_defaults=True, tag="operation_in_doubt"):
    operation_id: str
    reason: str


class OperationRequiresAction(
    _Data, frozen=True, kw_only=True, omit_defaults=True, tag="operation_requires_action"
):
    operation_id: str
    reference: str
    action: NextAction


class OperationPending(_Data, frozen=True, kw_only=True, omit_defaults=True, tag="operation_pending"):
    operation_id: str
    reason: str
    reference: str | None = None


class ActionCompleted(_Data, frozen=True, kw_only=True, omit_defaults=True, tag="action_completed"):
    operation_id: str


class PaymentFailed(_Data, frozen=True, kw_only=True, omit_defaults=True, tag="payment_failed"):
    code: str
    category: DeclineCategory
    message: str = ""


class ReviewRequested(_Data, frozen=True, kw_only=True, omit_defaults=True, tag="review_requested"):
    reason: str
    operation_id: str | None = None
    until_evidence: bool = False
    """Whether it is about an operation whose outcome is unknown, so that its outcome closes the review."""


class ReviewClosed(_Data, frozen=True, kw_only=True, omit_defaults=True, tag="review_closed"):
    reason: str


class LateSuccessFound(_Data, frozen=True, kw_only=True, omit_defaults=True, tag="late_success_found"):
    """An attempt that had ended without effect turns out to have taken money after all."""

    operation_id: str
    amount_minor: int
    reference: str
    evidence: Evidence = Evidence.LOOKUP


class DisputeOpened(_Data, frozen=True, kw_only=True, omit_defaults=True, tag="dispute_opened"):
    reference: str
    amount_minor: int
    reason: str = ""


class DisputeClosed(_Data, frozen=True, kw_only=True, omit_defaults=True, tag="dispute_closed"):
    reference: str
    won: bool
    amount_minor: int | None = None
    """What the merchant lost, 0 where a person must tell. None where nothing was, or from before this was recorded."""


EventData = (
    PaymentInitiated
    | OperationStarted
    | OperationApproved
    | OperationDeclined
    | OperationNotSent
    | OperationUndone
    | OperationInDoubt
    | OperationRequiresAction
    | OperationPending
    | ActionCompleted
    | PaymentFailed
    | ReviewRequested
    | ReviewClosed
    | LateSuccessFound
    | DisputeOpened
    | DisputeClosed
)

SCHEMA_VERSION = 1
"""The schema version that new events are written with."""

TYPE_OF: dict[type, str] = {kind: str(kind.__struct_config__.tag) for kind in EventData.__args__}


class Event(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One committed fact."""

    id: str
    """`evt_` and 32 hex digits; consumers drop repeats by it."""
    payment_id: str
    version: int
    """1, 2, 3, ... without a gap."""
    at_us: int
    """Microseconds since 1970, UTC."""
    correlation_id: str
    """The request or job that this belongs to."""
    causation_id: str
    """The event or request that led to this one."""
    data: EventData
    schema_version: int = SCHEMA_VERSION

    @property
    def type(self) -> str:
        return TYPE_OF[type(self.data)]


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[EventData] = msgspec.json.Decoder(EventData)


def encode_data(data: EventData) -> bytes:
    """The data as JSON, tagged with its type."""
    return _encoder.encode(data)


def decode_data(raw: bytes | str) -> EventData:
    """Reads data of the current schema version; raises `msgspec.ValidationError`."""
    return _decoder.decode(raw)
