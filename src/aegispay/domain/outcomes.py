"""What a gateway call can come to: a closed union. Every adapter maps everything that can happen onto it.

`NotSent` needs proof that nothing was executed. Whatever is neither a clear answer nor such a proof is
`InDoubt`.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class DeclineCategory(StrEnum):
    """What a decline allows next."""

    SOFT = "soft"
    """Another gateway may be tried."""
    HARD = "hard"
    """The card or account will not do; nobody else is asked."""
    FRAUD = "fraud"
    AUTHENTICATION_REQUIRED = "authentication_required"
    """The issuer wants the payer to authenticate (3DS) first."""
    INVALID = "invalid"
    """The request itself was refused: a mistake of ours or the merchant's."""


class ActionType(StrEnum):
    REDIRECT = "redirect"
    OTP = "otp"
    SDK = "sdk"


class NextAction(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What the payer must do before the payment can go on."""

    type: ActionType = ActionType.REDIRECT
    url: str | None = None
    """Where to send the payer."""
    data: dict[str, str] = msgspec.field(default_factory=dict)
    """What the PSP's own SDK needs (a client secret is never put here)."""


class Approved(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag="approved"):
    """Done at the PSP."""

    reference: str
    """The PSP's id of what was done; later operations name it."""
    amount_minor: int
    """The amount that the PSP says it took, in our minor units (ISO 4217), not the PSP's."""
    expires_at_us: int | None = None
    """When an authorisation lapses, if the PSP says."""


class Declined(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag="declined"):
    """A definitive no: nothing was taken."""

    category: DeclineCategory
    code: str
    """Our unified code, such as `insufficient_funds`."""
    message: str = ""
    """Safe to show to the merchant; holds no card data."""
    gateway_code: str = ""
    """The PSP's own code, kept raw."""
    reference: str | None = None


class RequiresAction(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag="requires_action"):
    """The payer must act (3DS, redirect, OTP)."""

    reference: str
    action: NextAction


class Pending(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag="pending"):
    """Accepted; the final word comes later."""

    reference: str | None = None
    reason: str = "processing"


class NotSent(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag="not_sent"):
    """Proof that nothing was executed."""

    reason: str
    """`connection_refused`, `dns`, `tls`, `rate_limited`, `unauthorized`, `breaker_open`, `not_found`, `person`, ..."""
    retry_after_s: float | None = None


class InDoubt(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag="in_doubt"):
    """Anything else: it may or may not have happened."""

    reason: str
    """`timeout`, `reset`, `server_error`, `garbage`, `truncated`, `too_large`, `crash`, ..."""
    retry_after_s: float | None = None


Outcome = Approved | Declined | RequiresAction | Pending | NotSent | InDoubt


class Evidence(StrEnum):
    """How we know an outcome."""

    REPLY = "reply"
    RESEND = "resend"
    LOOKUP = "lookup"
    CANCEL = "cancel"
    WEBHOOK = "webhook"
    SETTLEMENT = "settlement"
    PERSON = "person"
    """Somebody who was asked in a review has looked at the gateway."""
