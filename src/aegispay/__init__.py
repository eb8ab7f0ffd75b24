"""AegisPay: take a payment through several PSPs, survive what happens, and never charge a customer twice.

```python
from aegispay import AegisPay, Money, StripeGateway

async with AegisPay([StripeGateway(api_key)]) as pay:
    result = await pay.charge(Money.parse("99.99", "USD"), "pm_card_visa", idempotency_key="order-1")
```
"""

from aegispay.app import AegisPay, EventStore
from aegispay.domain import errors
from aegispay.domain.errors import AegisPayError, IdempotencyConflict, InvalidRequest, InvalidState
from aegispay.domain.events import CaptureMode, Event, OperationKind
from aegispay.domain.methods import Card, PaymentMethod, PaymentMethodType, Token
from aegispay.domain.money import Currency, Money
from aegispay.domain.outcomes import (
    Approved,
    DeclineCategory,
    Declined,
    InDoubt,
    NextAction,
    NotSent,
    Pending,
    RequiresAction,
)
from aegispay.domain.payer_messages import payer_message
from aegispay.domain.payment import Operation, OperationStatus, Payment
from aegispay.domain.states import PaymentState
from aegispay.gateways.capabilities import Capabilities, KindEvidence
from aegispay.gateways.gateway import Gateway, GatewayCall
from aegispay.gateways.registry import GatewayRegistry, GatewayType
from aegispay.gateways.stripe import StripeGateway
from aegispay.orchestration.hooks import Hooks
from aegispay.orchestration.kept_notices import KeptNotice
from aegispay.orchestration.results import Result
from aegispay.orchestration.settings import DoubtPolicy, Settings
from aegispay.service import PaymentService, ProcessPayment
from aegispay.sync import AegisPaySync
from aegispay.webhooks import WebhookApp

__version__ = "0.1.0"

__all__ = [
    "AegisPay",
    "AegisPayError",
    "AegisPaySync",
    "Approved",
    "Capabilities",
    "CaptureMode",
    "Card",
    "Currency",
    "DeclineCategory",
    "Declined",
    "DoubtPolicy",
    "Event",
    "EventStore",
    "Gateway",
    "GatewayCall",
    "GatewayRegistry",
    "GatewayType",
    "Hooks",
    "IdempotencyConflict",
    "InDoubt",
    "InvalidRequest",
    "InvalidState",
    "KeptNotice",
    "KindEvidence",
    "Money",
    "NextAction",
    "NotSent",
    "Operation",
    "OperationKind",
    "OperationStatus",
    "Payment",
    "PaymentMethod",
    "PaymentMethodType",
    "PaymentService",
    "PaymentState",
    "Pending",
    "ProcessPayment",
    "RequiresAction",
    "Result",
    "Settings",
    "StripeGateway",
    "Token",
    "WebhookApp",
    "errors",
    "payer_message",
]
