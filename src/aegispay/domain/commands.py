"""What may be asked of a payment. `decide` answers each command with events, or refuses it with an error."""

from __future__ import annotations

import msgspec

from aegispay.domain.events import CaptureMode
from aegispay.domain.methods import MethodSnapshot
from aegispay.domain.outcomes import Evidence, Outcome


class _Command(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    pass


class Initiate(_Command, frozen=True, kw_only=True):
    """Begin a payment. Amounts are integer minor units."""

    merchant_id: str
    amount_minor: int
    currency: str
    capture: CaptureMode
    method: MethodSnapshot
    candidates: tuple[str, ...]
    request_hash: str
    customer_id: str | None = None
    description: str | None = None
    return_url: str | None = None
    metadata: dict[str, str] = msgspec.field(default_factory=dict)


class StartAttempt(_Command, frozen=True, kw_only=True):
    """Ask this gateway to authorize or charge. Refused while any earlier attempt may have had an effect."""

    operation_id: str
    gateway: str
    token: str | None = None


class RecordOutcome(_Command, frozen=True, kw_only=True):
    """What a gateway call, or later evidence, says of an operation."""

    operation_id: str
    outcome: Outcome
    evidence: Evidence = Evidence.REPLY
    will_try_next: bool = False
    """If this attempt had no effect and `next_may_start`, no failure is recorded: the payment is then
    `stranded`, and the caller starts the next attempt in the same commit."""
    word: str = ""
    """Where the evidence is a person: why the review that asked them ends."""


class StartConfirm(_Command, frozen=True, kw_only=True):
    """The payer came back from the next action."""

    operation_id: str
    action_data: dict[str, str] = msgspec.field(default_factory=dict)


class StartCapture(_Command, frozen=True, kw_only=True):
    operation_id: str
    amount_minor: int | None = None
    """None: all that is left."""
    final: bool = True
    """Whether the rest of the authorisation is released with this capture."""


class StartVoid(_Command, frozen=True, kw_only=True):
    """Release what is authorised and not captured, or cancel while the payer acts."""

    operation_id: str
    reason: str | None = None
    """`expired` ends the payment as EXPIRED, anything else as CANCELED. Whoever says it bounds how often."""


class StartRefund(_Command, frozen=True, kw_only=True):
    operation_id: str
    amount_minor: int | None = None
    """None: all that is left."""
    reason: str | None = None


class StartReversal(_Command, frozen=True, kw_only=True):
    """Take back a late success that nobody wanted."""

    operation_id: str
    target_id: str


class RecordExternalRefund(_Command, frozen=True, gc=False, kw_only=True):
    """A refund that was made outside of us (at the PSP's dashboard): our books follow the gateway's."""

    operation_id: str
    attempt_id: str | None
    """The attempt whose money was given back; None where the news does not tell which."""
    amount_minor: int
    reference: str
    """The PSP's id of the refund."""
    evidence: Evidence = Evidence.WEBHOOK
    capture_id: str | None = None
    """The capture that was given back, where the news names it."""
    once: bool = False
    """Whether this gateway captures but once."""


class RecordExternalVoid(_Command, frozen=True, gc=False, kw_only=True):
    """The authorisation was released outside of us, and the gateway's present word confirms it."""

    operation_id: str
    attempt_id: str | None
    """The attempt that was released; None where the news does not tell which."""
    reference: str
    """What the PSP calls the void, or the payment."""
    evidence: Evidence = Evidence.WEBHOOK


class RecordExternalCapture(_Command, frozen=True, gc=False, kw_only=True):
    """The authorisation, or a part of it, was captured outside of us: our books follow the gateway's."""

    operation_id: str
    attempt_id: str | None
    """The attempt that was captured; None where the news does not tell which."""
    amount_minor: int
    reference: str
    """The PSP's id of the capture."""
    evidence: Evidence = Evidence.WEBHOOK
    final: bool = False
    """Whether nothing more can be captured, so that the rest is released."""
    once: bool = False
    """Whether this gateway captures but once."""


class RecordUndone(_Command, frozen=True, gc=False, kw_only=True):
    """The gateway's word that what it had approved failed after all. Changes nothing that is not approved."""

    operation_id: str
    code: str
    evidence: Evidence = Evidence.WEBHOOK


class RequestReview(_Command, frozen=True, kw_only=True):
    reason: str
    operation_id: str | None = None


class RecordReversed(_Command, frozen=True, kw_only=True):
    """A person gave an unwanted success back at the gateway."""

    target_id: str
    operation_id: str
    """Of the reversal that is recorded where none of ours is under way."""


class CloseReview(_Command, frozen=True, kw_only=True):
    """A person has looked, and says why the payment goes on."""

    reason: str
    operation_id: str | None = None
    """The operation that the review named. Once this one has ended, the doubts of others keep no review open: they get
    reviews of their own when their time comes."""


class OpenDispute(_Command, frozen=True, kw_only=True):
    attempt_id: str | None
    """The attempt that is disputed; None where the news does not tell which."""
    reference: str
    amount_minor: int
    reason: str = ""


class CloseDispute(_Command, frozen=True, kw_only=True):
    operation_id: str
    """Of the reversal that a lost dispute is, where it gave back what nobody wanted to have taken."""
    attempt_id: str | None
    """The attempt that was disputed; None where the news does not tell which."""
    reference: str
    won: bool | None
    """None: it is over, and the PSP did not say for whom."""
    amount_minor: int = 0
    """What was lost, if it was; 0 where that is not known."""


Command = (
    Initiate
    | StartAttempt
    | RecordOutcome
    | StartConfirm
    | StartCapture
    | StartVoid
    | StartRefund
    | StartReversal
    | RecordExternalRefund
    | RecordExternalVoid
    | RecordExternalCapture
    | RecordUndone
    | RequestReview
    | RecordReversed
    | CloseReview
    | OpenDispute
    | CloseDispute
)
