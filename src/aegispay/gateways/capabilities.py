"""What a gateway can do, and which evidence it can give. The orchestrator acts on what is declared here.

Declare nothing that is not true: the conformance suite proves each capability, and the orchestrator refuses an operation
that is not declared before anything is sent.
"""

from __future__ import annotations

import msgspec


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway's declared capabilities. Durations are seconds."""

    # What it can do
    authorize: bool = True
    charge: bool = True
    void: bool = True
    refund: bool = True
    partial_capture: bool = True
    """A capture of less than the authorised amount."""
    multi_capture: bool = False
    """Several captures on one authorisation (`final=False`)."""
    partial_refund: bool = True
    next_action: bool = True
    """3DS, redirect or OTP, with `confirm`."""
    tokenize: bool = False
    """Can turn a raw card into a token without moving money."""
    raw_card: bool = False
    """Takes a raw card in the charge itself. Such an operation cannot be resent after a crash."""

    # Which evidence it can give about an operation in doubt
    stable_key: bool = False
    """A resend under the same gateway key replays the first result and never executes twice."""
    stable_key_ttl_s: float = 0.0
    """How long the PSP keeps a key. A resend later than this executes again, so it is never made."""
    lookup_by_reference: bool = False
    """A look-up by our reference (the operation id) that is authoritative after the quiet period."""
    lookup_quiet_s: float = 60.0
    """How long after the last send a look-up that finds nothing proves that nothing was, and will be, executed."""
    cancel_by_reference: bool = False
    """Can cancel an operation by our reference, so that a request that lands later is refused."""
    authorization_ttl_s: float | None = None
    """How long an authorisation lasts; None where the PSP says so in each answer."""
