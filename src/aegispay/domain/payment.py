"""The payment: what the merchant asked for, its operations at gateways, and its amounts.

A payment is a value. It changes only by `evolve`, and its state is a function of the rest (`state_of`).
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from aegispay.domain.events import CaptureMode, OperationKind
from aegispay.domain.methods import MethodSnapshot
from aegispay.domain.money import Money
from aegispay.domain.outcomes import DeclineCategory, NextAction
from aegispay.domain.states import PaymentState


class OperationStatus(StrEnum):
    """What is known of one operation."""

    STARTED = "started"
    """Committed; the call may or may not have been sent."""
    IN_DOUBT = "in_doubt"
    PENDING = "pending"
    REQUIRES_ACTION = "requires_action"
    CONFIRMING = "confirming"
    """The payer acted; a confirmation goes on with it."""
    APPROVED = "approved"
    DECLINED = "declined"
    NOT_SENT = "not_sent"
    UNWANTED = "unwanted"
    """Ended without effect as far as we knew, then found charged: to be reversed."""
    REVERSED = "reversed"


UNFINISHED = frozenset(
    {
        OperationStatus.STARTED,
        OperationStatus.IN_DOUBT,
        OperationStatus.PENDING,
        OperationStatus.REQUIRES_ACTION,
        OperationStatus.CONFIRMING,
    }
)
ACTION_AGAIN = "action_required_again"
"""The code of a confirmation after which the payer must act once more."""
FIRST_KINDS = frozenset({OperationKind.AUTHORIZE, OperationKind.CHARGE})


class Operation(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One thing asked of one gateway."""

    id: str
    kind: OperationKind
    gateway: str
    amount_minor: int
    gateway_key: str
    status: OperationStatus
    started_at_us: int
    attempt: int = 0
    parent_id: str | None = None
    reference: str | None = None
    """The PSP's id."""
    token: str | None = None
    final: bool = True
    reason: str | None = None
    code: str | None = None
    category: DeclineCategory | None = None
    message: str | None = None
    next_action: NextAction | None = None
    action_data: dict[str, str] = msgspec.field(default_factory=dict)
    compensates: bool = False
    capture_id: str | None = None
    undone: bool = False
    """Approved once, and failed after all."""
    taken_minor: int = 0
    """What an unwanted success took, which is what its reversal gives back."""
    concluded_version: int = 0
    """The payment's version at which the outcome became final; 0 while it is not."""

    @property
    def unfinished(self) -> bool:
        return self.status in UNFINISHED


class Failure(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Why a payment failed."""

    code: str
    category: DeclineCategory
    message: str = ""


class Payment(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """The aggregate. Amounts are integers in the currency's ISO 4217 minor units."""

    id: str
    merchant_id: str
    version: int
    """Number of events so far."""
    state: PaymentState
    amount_minor: int
    currency: str
    capture: CaptureMode
    method: MethodSnapshot
    created_at_us: int
    updated_at_us: int
    candidates: tuple[str, ...] = ()
    request_hash: str = ""
    customer_id: str | None = None
    description: str | None = None
    return_url: str | None = None
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    authorized_minor: int = 0
    captured_minor: int = 0
    refunded_minor: int = 0
    released_minor: int = 0
    """Authorised and given back without capture."""
    operations: tuple[Operation, ...] = ()
    failure: Failure | None = None
    ended: str | None = None
    """`canceled` or `expired` where the payment ended without a capture."""
    review: str | None = None
    """Why a person must look, while somebody must."""
    review_until_evidence: bool = False
    """Whether the review closes by itself once the operations under way have ended."""
    disputes_open: tuple[str, ...] = ()
    disputes_closed: tuple[str, ...] = ()
    disputes_lost: dict[str, int] = msgspec.field(default_factory=dict)
    """The disputes that took money back, with what each took; 0 where a person must tell."""
    expires_at_us: int | None = None
    """When the authorisation lapses."""
    answered_version: int = 0
    """The version at which the answer to the first request became final; 0 before."""

    # --- reading ------------------------------------------------------------------------------------------

    @property
    def amount(self) -> Money:
        return Money(self.amount_minor, self.currency)

    @property
    def authorized(self) -> Money:
        return Money(self.authorized_minor, self.currency)

    @property
    def captured(self) -> Money:
        return Money(self.captured_minor, self.currency)

    @property
    def refunded(self) -> Money:
        return Money(self.refunded_minor, self.currency)

    @property
    def lost(self) -> Money:
        return Money(self.lost_minor, self.currency)

    @property
    def completed(self) -> bool:
        """Whether the full amount was captured."""
        return self.captured_minor == self.amount_minor

    @property
    def capturable_minor(self) -> int:
        """What may still be captured: authorised less captured, released, and reserved by captures."""
        return (
            self.authorized_minor
            - self.captured_minor
            - self.released_minor
            - self.reserved(OperationKind.CAPTURE)
        )

    @property
    def refundable_minor(self) -> int:
        """What may still be refunded: captured less refunded, lost in disputes, and reserved by refunds."""
        return (
            self.captured_minor - self.refunded_minor - self.lost_minor - self.reserved(OperationKind.REFUND)
        )

    @property
    def lost_minor(self) -> int:
        """What lost disputes took back."""
        return sum(self.disputes_lost.values())

    def reserved(self, kind: OperationKind) -> int:
        """The amount that operations of this kind, under way or in doubt, may yet take."""
        return sum(
            op.amount_minor
            for op in self.operations
            if op.kind is kind and op.unfinished and not op.compensates
        )

    @property
    def next_action(self) -> NextAction | None:
        """What the payer must do, while the state is REQUIRES_ACTION."""
        if self.state is not PaymentState.REQUIRES_ACTION:
            return None
        operation = self.first_operation
        return operation.next_action if operation else None

    @property
    def first_operation(self) -> Operation | None:
        """The newest attempt (an authorize or charge)."""
        for operation in reversed(self.operations):
            if operation.attempt:
                return operation
        return None

    @property
    def winner(self) -> Operation | None:
        """The attempt that was approved."""
        for operation in self.operations:
            if operation.attempt and operation.status is OperationStatus.APPROVED:
                return operation
        return None

    @property
    def gateway(self) -> str | None:
        """The gateway of the approved attempt, else of the newest."""
        operation = self.winner or self.first_operation
        return operation.gateway if operation else None

    @property
    def gateway_reference(self) -> str | None:
        """The PSP's id of the payment."""
        operation = self.winner or self.first_operation
        return operation.reference if operation else None

    @property
    def unfinished(self) -> tuple[Operation, ...]:
        return tuple(op for op in self.operations if op.status in UNFINISHED)

    def operation(self, operation_id: str) -> Operation | None:
        for operation in self.operations:
            if operation.id == operation_id:
                return operation
        return None


def settled_state(payment: Payment) -> PaymentState:
    """The state of a payment with an approved attempt, from its amounts."""
    captured = payment.captured_minor
    if captured + payment.released_minor < payment.authorized_minor:
        return PaymentState.AUTHORIZED
    if not captured:
        return PaymentState.EXPIRED if payment.ended == "expired" else PaymentState.CANCELED
    if not payment.refunded_minor:
        return PaymentState.SUCCEEDED
    if payment.refunded_minor < captured:
        return PaymentState.PARTIALLY_REFUNDED
    return PaymentState.REFUNDED


def _attempt_state(payment: Payment) -> PaymentState:
    newest = None
    for operation in reversed(payment.operations):
        if operation.attempt or (operation.kind is OperationKind.CONFIRM and operation.unfinished):
            newest = operation
            break
    if newest is None:
        return PaymentState.INITIATED
    status = newest.status
    if status is OperationStatus.IN_DOUBT:
        return PaymentState.IN_DOUBT
    if status is OperationStatus.REQUIRES_ACTION:
        return PaymentState.REQUIRES_ACTION
    if status is OperationStatus.CONFIRMING:
        return PaymentState.AUTHENTICATED
    return PaymentState.PROCESSING


def state_of(payment: Payment) -> PaymentState:
    """The state as a function of everything else."""
    if payment.review is not None:
        return PaymentState.NEEDS_REVIEW
    if payment.disputes_open:
        return PaymentState.DISPUTED
    if payment.authorized_minor:
        return settled_state(payment)
    if payment.failure is not None:
        return PaymentState.FAILED
    if payment.ended is not None:
        return PaymentState.EXPIRED if payment.ended == "expired" else PaymentState.CANCELED
    return _attempt_state(payment)


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Payment)


def encode_payment(payment: Payment) -> bytes:
    """The projection's bytes: the same payment always gives the same bytes."""
    return _encoder.encode(payment)


def decode_payment(raw: bytes | str) -> Payment:
    return _decoder.decode(raw)
