"""What a gateway can do, and which evidence it can give. The orchestrator acts on what is declared here.

Declare nothing that is not true: the conformance suite proves each capability, and the orchestrator refuses an operation
that is not declared before anything is sent.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from aegispay.domain.events import OperationKind


class KindEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """The evidence about one kind of operation, where it is another than the gateway's usual. None: the usual."""

    key_ttl_s: float | None = None
    """How long after its first send a resend surely replays; 0 where a resend may execute again."""
    lookup: bool | None = None
    lookup_quiet_s: float | None = None
    cancel: bool | None = None


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

    # Which evidence it can give about an operation in doubt: the usual, and the kinds for which it is another
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
    by_kind: Mapping[OperationKind, KindEvidence] = {}
    """What PSPs keep differs by the kind of operation: keys for refunds only, say, or look-ups for all but voids."""

    def key_ttl_s(self, kind: OperationKind) -> float:
        """How long after its first send an operation of this kind may be sent again; 0 where it never may."""
        own = self._own(kind).key_ttl_s
        return own if own is not None else self.stable_key_ttl_s if self.stable_key else 0.0

    def looks_up(self, kind: OperationKind) -> bool:
        """Whether a look-up of this kind that finds nothing is proof after the quiet period."""
        own = self._own(kind).lookup
        return self.lookup_by_reference if own is None else own

    def quiet_s(self, kind: OperationKind) -> float:
        own = self._own(kind).lookup_quiet_s
        return self.lookup_quiet_s if own is None else own

    def cancels(self, kind: OperationKind) -> bool:
        """Whether an operation of this kind can be canceled by our reference."""
        own = self._own(kind).cancel
        return self.cancel_by_reference if own is None else own

    def _own(self, kind: OperationKind) -> KindEvidence:
        return self.by_kind.get(kind, _USUAL)


_USUAL = KindEvidence()
