"""`PaymentService`: the mission's names over `AegisPay`, for code that thinks in requests rather than in methods."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from aegispay.app import AegisPay
from aegispay.domain.methods import PaymentMethod
from aegispay.domain.money import Money
from aegispay.domain.payment import Payment
from aegispay.orchestration.requests import DEFAULT_MERCHANT
from aegispay.orchestration.results import Result


class ProcessPayment(msgspec.Struct, frozen=True, kw_only=True):
    """One payment to process."""

    amount: Money
    payment_method: PaymentMethod | str
    idempotency_key: str
    gateway_type: str | Sequence[str] | None = None
    """A gateway's name, or several in order; None: the router decides."""
    capture: bool = True
    """False: authorize only."""
    customer_id: str | None = None
    description: str | None = None
    return_url: str | None = None
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    merchant_id: str = DEFAULT_MERCHANT


class PaymentService:
    """Processes payments through a running `AegisPay`."""

    def __init__(self, pay: AegisPay):
        self._pay = pay
        self.event_store = pay.event_store
        self.gateway_registry = pay.registry

    async def process_payment(self, request: ProcessPayment, *, timeout_s: float | None = None) -> Result:
        """Charges (or, with `capture=False`, authorizes). See `AegisPay.charge` for answers and errors."""
        do = self._pay.charge if request.capture else self._pay.authorize
        return await do(
            request.amount,
            request.payment_method,
            idempotency_key=request.idempotency_key,
            gateway=request.gateway_type,
            customer_id=request.customer_id,
            description=request.description,
            return_url=request.return_url,
            metadata=request.metadata,
            merchant_id=request.merchant_id,
            timeout_s=timeout_s,
        )

    async def get_payment(self, payment_id: str) -> Payment:
        return await self._pay.get(payment_id)

    async def capture_payment(
        self, payment_id: str, *, idempotency_key: str, amount: Money | None = None
    ) -> Result:
        return await self._pay.capture(payment_id, amount, idempotency_key=idempotency_key)

    async def refund_payment(
        self, payment_id: str, *, idempotency_key: str, amount: Money | None = None
    ) -> Result:
        return await self._pay.refund(payment_id, amount, idempotency_key=idempotency_key)

    async def cancel_payment(self, payment_id: str) -> Result:
        return await self._pay.void(payment_id)
