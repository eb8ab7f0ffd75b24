"""Which gateways may be tried for a request, in order, and with which token. Moves no money."""

from __future__ import annotations

import asyncio
import logging

from aegispay.domain.decide import gateway_key
from aegispay.domain.errors import InvalidPaymentMethod, InvalidRequest, UnsupportedOperation
from aegispay.domain.events import CaptureMode, OperationKind
from aegispay.domain.methods import Card
from aegispay.domain.outcomes import Declined
from aegispay.gateways.gateway import Gateway, GatewayCall, Tokenized
from aegispay.gateways.registry import GatewayRegistry
from aegispay.orchestration.hooks import Hooks
from aegispay.orchestration.recorder import NextAttempt
from aegispay.orchestration.requests import PaymentRequest
from aegispay.orchestration.settings import HARD_TIMEOUT_MARGIN_S, Settings
from aegispay.ports import Ids
from aegispay.routing.router import Router, RoutingContext

logger = logging.getLogger("aegispay")

# What a gateway checks before it is chosen has the shape of the real call, whose ids are made afterwards.
_EXAMPLE_OPERATION = f"op_{'0' * 32}"
_EXAMPLE_PAYMENT = f"pay_{'0' * 32}"
_EXAMPLE_METHOD = "tok_of_the_card"


class Candidates:
    """The choice of gateways for one running instance."""

    def __init__(self, registry: GatewayRegistry, router: Router, hooks: Hooks, settings: Settings):
        self._registry = registry
        self._router = router
        self._hooks = hooks
        self._settings = settings

    def choose(self, request: PaymentRequest) -> tuple[str, ...]:
        """The gateways that may be tried, best first.

        Raises `UnknownGateway` for a name that is not registered, and the gateway's own refusal
        (`UnsupportedOperation`, `InvalidAmount`, ...) where not one of them can take the request. Nothing is sent.
        """
        named = request.gateways
        refusal: InvalidRequest | None = None
        able: list[str] = []
        for name in named or self._registry.names:
            try:
                self._check(self._registry.get(name), request)
            except InvalidRequest as error:
                if named and name not in self._registry:
                    raise
                refusal = refusal or error
            else:
                able.append(name)
        if not able:
            raise refusal or UnsupportedOperation("no gateway is registered.", hint="Register one first.")
        found = tuple(able)
        if not named and len(found) > 1:
            found = self._router.candidates(_context(request), found)
        for hook in self._hooks.choose_gateways:
            found = tuple(name for name in hook(request, found) if name in able)
        if not found:
            raise UnsupportedOperation("the routing left no gateway for this payment.")
        return found

    def _check(self, gateway: Gateway, request: PaymentRequest) -> None:
        caps = gateway.capabilities
        charge = request.capture is CaptureMode.AUTOMATIC
        if not (caps.charge if charge else caps.authorize):
            raise UnsupportedOperation(f"{gateway.name} cannot {'charge' if charge else 'authorize'}.")
        if isinstance(request.method, Card) and not caps.tokenize:
            raise UnsupportedOperation(f"{gateway.name} takes tokens only, not raw cards.")
        gateway.check(
            GatewayCall(
                kind=OperationKind.CHARGE if charge else OperationKind.AUTHORIZE,
                operation_id=_EXAMPLE_OPERATION,
                gateway_key=gateway_key(_EXAMPLE_OPERATION),
                payment_id=_EXAMPLE_PAYMENT,
                merchant_id=request.merchant_id,
                amount=request.amount,
                timeout_s=self._settings.call_timeout_s,
                token=_EXAMPLE_METHOD
                if isinstance(request.method, Card)
                else request.method.token_for(gateway.name),
                customer_id=request.customer_id,
                description=request.description,
                return_url=request.return_url,
                metadata=request.metadata,
            )
        )

    async def token(self, request: PaymentRequest, name: str) -> str | None:
        """The token to charge at this gateway; a raw card is turned into one first.

        None where the gateway could not be asked. Raises `InvalidPaymentMethod` where it refuses the card itself.
        """
        method = request.method
        if not isinstance(method, Card):
            return method.token_for(name)
        timeout_s = self._settings.call_timeout_s
        try:
            async with asyncio.timeout(timeout_s + HARD_TIMEOUT_MARGIN_S):
                answer = await self._registry.get(name).tokenize(method, timeout_s)
        except Exception as error:  # noqa: BLE001 - an attempt that ended before is recorded whatever happens here
            # Only the type is logged: the text of a foreign exception may quote the card.
            logger.error("gateway %s raised %s in tokenize", name, type(error).__name__)
            return None
        if isinstance(answer, Tokenized):
            return answer.token
        if isinstance(answer, Declined):
            raise InvalidPaymentMethod(
                f"{name} refused the card: {answer.code}.", hint="Ask for another card."
            )
        return None


class RemainingAttempts:
    """The candidates of one request that have not been asked yet."""

    def __init__(self, candidates: Candidates, request: PaymentRequest, names: tuple[str, ...], ids: Ids):
        self._candidates = candidates
        self._request = request
        self._names = list(names)
        self._ids = ids

    @property
    def more(self) -> bool:
        return bool(self._names)

    async def take(self) -> NextAttempt | None:
        """The next gateway that has (or can make) a token for the payment method."""
        while self._names:
            name = self._names.pop(0)
            try:
                token = await self._candidates.token(self._request, name)
            except InvalidPaymentMethod:
                continue
            if token is not None:
                return NextAttempt(f"op_{self._ids.new_hex()}", name, token)
        return None


def _context(request: PaymentRequest) -> RoutingContext:
    return RoutingContext(
        merchant_id=request.merchant_id,
        amount_minor=request.amount.amount_minor,
        currency=request.amount.code,
        capture=request.capture,
        method=request.snapshot,
        customer_id=request.customer_id,
        metadata=request.metadata,
    )
