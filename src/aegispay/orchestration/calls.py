"""Calls to gateways: each under a hard time-out, and each send only while our lease on the operation runs.

Whatever a gateway does, a call comes back with an answer: an adapter's mistake is doubt, never a crash of the payment.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AbstractContextManager

from aegispay.domain.errors import InvalidRequest
from aegispay.domain.money import Money
from aegispay.domain.outcomes import DeclineCategory, Declined, InDoubt, NotSent, Outcome
from aegispay.domain.payment import Operation, Payment
from aegispay.gateways.gateway import Gateway, GatewayCall, Lookup, LookupFailed
from aegispay.gateways.permit import sending_while
from aegispay.gateways.registry import GatewayRegistry
from aegispay.orchestration.leases import Leases
from aegispay.orchestration.settings import HARD_TIMEOUT_MARGIN_S, Settings
from aegispay.storage.store import InFlight

logger = logging.getLogger("aegispay")


class Calls:
    """Calls the registered gateways for one running instance."""

    def __init__(self, registry: GatewayRegistry, leases: Leases, settings: Settings):
        self._registry = registry
        self._leases = leases
        self._settings = settings

    def call_for(self, payment: Payment, operation: Operation) -> GatewayCall:
        """The call of an operation: the same for the first send, a resend and a look-up."""
        parent = payment.operation(operation.parent_id) if operation.parent_id else None
        capture = payment.operation(operation.capture_id) if operation.capture_id else None
        return GatewayCall(
            kind=operation.kind,
            operation_id=operation.id,
            gateway_key=operation.gateway_key,
            payment_id=payment.id,
            merchant_id=payment.merchant_id,
            amount=Money(operation.amount_minor, payment.currency),
            timeout_s=self._settings.call_timeout_s,
            token=operation.token,
            parent_reference=parent.reference if parent else None,
            parent_operation_id=operation.parent_id,
            parent_kind=parent.kind if parent else None,
            capture_reference=capture.reference if capture else None,
            own_reference=operation.reference,
            final=operation.final,
            reason=operation.reason,
            customer_id=payment.customer_id,
            description=payment.description,
            return_url=payment.return_url,
            metadata=payment.metadata,
            action_data=operation.action_data,
            started_at_us=operation.started_at_us,
        )

    # --- sends ----------------------------------------------------------------------------------------------

    async def send(self, payment: Payment, operation: Operation, row: InFlight) -> Outcome:
        """Sends the operation, if our lease still runs. Whatever is not a clear answer comes back as `InDoubt`."""
        gateway = self._registry.find(operation.gateway)
        if gateway is None:
            return NotSent(reason="gateway_not_registered")
        if not self._leases.covers_call(row):
            # We were stalled for longer than our lease allows: somebody else may be at work on this before the call ends.
            return InDoubt(reason="lease_expired_before_send")
        with self._while_leased(row):
            return await self._perform(gateway, self.call_for(payment, operation))

    async def resend(self, gateway: Gateway, call: GatewayCall, row: InFlight) -> Outcome:
        """The same call again, under the same key, while our lease runs. `NotSent` says nothing of the first send."""
        with self._while_leased(row):
            return await self._perform(gateway, call, again=True)

    def _while_leased(self, row: InFlight) -> AbstractContextManager[None]:
        """Within it the transport asks once more, right before a first byte leaves: we may be stalled on the way there."""
        return sending_while(lambda: self._leases.holds(row))

    async def _perform(self, gateway: Gateway, call: GatewayCall, *, again: bool = False) -> Outcome:
        try:
            async with asyncio.timeout(call.timeout_s + HARD_TIMEOUT_MARGIN_S):
                return await gateway.perform(call)
        except InvalidRequest as error:
            # By contract raised before anything is sent. Of a resend, that says nothing of what was sent before.
            if again:
                return NotSent(reason=error.code)
            return Declined(category=DeclineCategory.INVALID, code=error.code, message=error.message)
        except TimeoutError:
            return InDoubt(reason="timeout")
        except Exception as error:  # noqa: BLE001 - an adapter's mistake is doubt, never a crash of the payment
            # Only the type is logged: the text of a foreign exception may quote a request.
            logger.error("gateway %s raised %s in %s", gateway.name, type(error).__name__, call.kind)
            return InDoubt(reason=f"adapter_error:{type(error).__name__}")

    # --- questions ------------------------------------------------------------------------------------------

    async def ask(self, payment: Payment, operation: Operation) -> Lookup:
        """What the operation's gateway says of it now; `LookupFailed` where it does not say, or is not registered."""
        gateway = self._registry.find(operation.gateway)
        if gateway is None:
            return LookupFailed(reason="gateway_not_registered")
        return await self.look_up(gateway, self.call_for(payment, operation))

    async def look_up(self, gateway: Gateway, call: GatewayCall) -> Lookup:
        """One look-up; `LookupFailed` where it did not come through."""
        try:
            async with asyncio.timeout(call.timeout_s + HARD_TIMEOUT_MARGIN_S):
                return await gateway.look_up(call)
        except Exception as error:  # noqa: BLE001 - a failed look-up teaches nothing
            logger.warning("gateway %s raised %s in look_up", gateway.name, type(error).__name__)
            return LookupFailed(reason=type(error).__name__)

    async def cancel(self, gateway: Gateway, call: GatewayCall) -> Outcome:
        """One cancel by reference; `InDoubt` where it did not come through."""
        try:
            async with asyncio.timeout(call.timeout_s + HARD_TIMEOUT_MARGIN_S):
                return await gateway.cancel_by_reference(call)
        except Exception as error:  # noqa: BLE001 - as above
            logger.warning("gateway %s raised %s in cancel_by_reference", gateway.name, type(error).__name__)
            return InDoubt(reason=type(error).__name__)
