"""What a PSP's inbound webhook says, once its signature is verified: news of an operation, or of a dispute.

Parsing is pure: headers and raw body in, events out. Applying them is the orchestrator's business.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from aegispay.domain.errors import InvalidRequest
from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import Outcome

WEBHOOK_BODY_BYTES_MAX = 1_000_000
"""A longer body is refused before it is read on."""
WEBHOOK_TOLERANCE_S = 300.0
"""A signed time that lies further from now than this, on either side, is refused."""


class WebhookRejected(InvalidRequest):
    """The webhook is not genuine, or cannot be read; nothing was taken from it."""

    code: ClassVar[str] = "webhook_rejected"

    def __init__(self, reason: str, message: str | None = None):
        self.reason = reason
        """`signature`, `missing_signature`, `stale`, `too_large`, `malformed`."""
        super().__init__(message or f"the webhook was refused: {reason}.")


class DisputeNews(msgspec.Struct, frozen=True, kw_only=True):
    """A dispute was opened, or decided."""

    reference: str
    """The PSP's id of the dispute."""
    amount_minor: int
    opened: bool
    won: bool | None = None
    """Once decided: whether the merchant keeps the money."""
    reason: str = ""


class GatewayEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One verified piece of news."""

    id: str
    """The PSP's id of the notice, for dropping repeats; where the PSP has none, one derived from what it says."""
    type: str
    """The PSP's own name for it, kept raw."""
    at_us: int
    """When the PSP says it happened, in microseconds since 1970; 0 where it does not say."""
    kind: OperationKind | None = None
    """What it is about: AUTHORIZE or CHARGE for the payment itself, CAPTURE, VOID, REFUND; None for a dispute.

    CHARGE says that the money was taken: of what we only authorised that is news of a capture, which a look-up confirms.
    """
    outcome: Outcome | None = None
    """What became of that operation; amounts in our minor units. None where the notice says nothing final or new."""
    operation_id: str | None = None
    """Our operation, where the notice carries our reference."""
    payment_id: str | None = None
    """Our payment, where the notice carries it."""
    reference: str | None = None
    """The PSP's id of the operation (a refund's, a capture's, or the payment's own)."""
    payment_reference: str | None = None
    """The PSP's id of the payment."""
    amount_minor: int | None = None
    currency: str | None = None
    dispute: DisputeNews | None = None
    forgeable: bool = False
    """Its text could have been put under somebody else's signature: no amount is believed that a look-up does not say."""
    undoes: bool = False
    """A capture or refund that is declined here may have been approved before: this is the later word, and the last."""
    final: bool = False
    """A capture after which nothing more of the authorisation can be captured; False where the notice does not say."""
    again: bool = False
    """Approved once more after such a failure: the last word after that one."""
    must_look_up: bool = False
    """The notice alone proves nothing (a field that matters is not signed): look the operation up before believing it."""
