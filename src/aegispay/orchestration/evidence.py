"""The search for evidence of what became of an operation: a resend under its key, a look-up, a cancel by reference.

What each of them proves depends on what the gateway declares; nothing here is ever a guess.
"""

from __future__ import annotations

from msgspec.structs import replace

from aegispay.domain.errors import UnsupportedOperation
from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import (
    Approved,
    DeclineCategory,
    Declined,
    Evidence,
    NotSent,
    RequiresAction,
)
from aegispay.domain.payment import Operation, OperationStatus, Payment
from aegispay.gateways.capabilities import Capabilities
from aegispay.gateways.gateway import Found, Gateway, GatewayCall, NotFound
from aegispay.gateways.registry import GatewayRegistry
from aegispay.orchestration.calls import Calls
from aegispay.orchestration.known import NOT_FOUND, Known, is_evidence
from aegispay.orchestration.leases import Leases
from aegispay.orchestration.settings import Settings
from aegispay.ports import Ports
from aegispay.storage.store import InFlight

SILENT_S_MAX = 3600.0
"""How long a doubt is left alone at most: a quiet period that a clock ahead of time began may last for days."""
_WITH_GATEWAY = frozenset({OperationStatus.PENDING, OperationStatus.REQUIRES_ACTION})
"""The gateway has it: it is not sent again, and a look-up that does not see it proves nothing."""


class EvidenceSearch:
    """Looks for evidence at the gateways, for one running instance."""

    def __init__(
        self, registry: GatewayRegistry, leases: Leases, calls: Calls, ports: Ports, settings: Settings
    ):
        self._registry = registry
        self._leases = leases
        self._calls = calls
        self._clock = ports.clock
        self._settings = settings

    async def seek(
        self, payment: Payment, operation: Operation, row: InFlight, tries: int
    ) -> tuple[Known | None, InFlight]:
        """Looks for evidence of what became of an operation, once. Returns it, if any, and the row as it is now.

        A resend under the same key is evidence where the PSP replays; `NotSent` to a resend is none, for it says
        nothing of the first send. A look-up that finds nothing is evidence only after the quiet period since the last
        send.
        """
        gateway = self._registry.find(operation.gateway)
        if gateway is None:
            return None, row
        caps = gateway.capabilities
        if operation.kind is OperationKind.VOID and not caps.void:
            # What this PSP does not have was never sent: the adapter refuses it before anything leaves.
            refused = Declined(category=DeclineCategory.INVALID, code=UnsupportedOperation.code)
            return Known(refused, Evidence.REPLY), row
        call = self._calls.call_for(payment, operation)
        if self._may_resend(caps, operation, tries) and self._leases.covers_call(row):
            outcome = await self._calls.resend(gateway, call, row)
            row = replace(row, sent_at_us=self._clock.now_us())
            if is_evidence(outcome):
                return Known(outcome, Evidence.RESEND), row
            row = await self._leases.with_room(row)
        trusted = operation.status not in _WITH_GATEWAY
        return await self.look(gateway, call, row, trusted=trusted), row

    def _may_resend(self, caps: Capabilities, operation: Operation, tries: int) -> bool:
        """Whether a resend can do no harm, and may teach more than a look-up."""
        key_ttl_us = int(caps.key_ttl_s(operation.kind) * 1_000_000)
        within_ttl = self._clock.now_us() - operation.started_at_us < key_ttl_us
        replays = key_ttl_us > 0 and within_ttl
        preferred = tries < self._settings.resends_max or not caps.looks_up(operation.kind)
        return replays and preferred and operation.status not in _WITH_GATEWAY

    async def look(
        self, gateway: Gateway, call: GatewayCall, row: InFlight, *, trusted: bool
    ) -> Known | None:
        """One look-up. Nothing found counts only if `trusted` and the PSP's quiet period since the last send has passed."""
        caps = gateway.capabilities
        # The answer is as old as the question: we may have slept through the quiet period between the two.
        asked_us = self._clock.earliest_us()
        found = await self._calls.look_up(gateway, call)
        quiet_us = int(caps.quiet_s(call.kind) * 1_000_000)
        quiet = asked_us - max(row.sent_at_us, call.started_at_us) >= quiet_us
        unmoved = isinstance(found, Found) and isinstance(found.outcome, RequiresAction)
        if call.kind is OperationKind.CONFIRM and unmoved and not quiet:
            # The payer's step is open as before: the gateway has not seen the confirmation, which may be on its way.
            return None
        if isinstance(found, Found):
            return Known(found.outcome, Evidence.LOOKUP) if is_evidence(found.outcome) else None
        if not (isinstance(found, NotFound) and trusted and caps.looks_up(call.kind) and quiet):
            return None
        if not caps.cancels(call.kind):
            return Known(NotSent(reason=NOT_FOUND), Evidence.LOOKUP)
        await self._leases.with_room(row)
        canceled = await self._calls.cancel(gateway, call)
        # Only the PSP's own word that it will refuse the reference counts; NotSent to the cancel itself is no word.
        return Known(NotSent(reason=NOT_FOUND), Evidence.CANCEL) if isinstance(canceled, Approved) else None

    def quiet_left_s(self, operation: Operation, row: InFlight) -> float:
        """How long until a look-up that finds nothing would be believed; 0 where that is not what we wait for."""
        gateway = self._registry.find(operation.gateway)
        caps = gateway.capabilities if gateway is not None else None
        if caps is None or not caps.looks_up(operation.kind):
            return 0.0
        if self._clock.now_us() - operation.started_at_us < caps.key_ttl_s(operation.kind) * 1_000_000:
            return 0.0  # The PSP still knows the key: a resend will tell.
        since = max(row.sent_at_us, operation.started_at_us)
        end = since + int(caps.quiet_s(operation.kind) * 1_000_000)
        return max(0.0, (end - self._clock.earliest_us()) / 1_000_000)
