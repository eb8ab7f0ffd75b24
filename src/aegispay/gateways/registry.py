"""The gateways that a running AegisPay knows, by name."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from aegispay.domain.errors import ConfigError, UnknownGateway
from aegispay.gateways.gateway import Gateway


class GatewayType(StrEnum):
    """The names of the built-in adapters; any other text names an adapter of your own."""

    STRIPE = "stripe"
    ADYEN = "adyen"
    PAYPAL = "paypal"
    BRAINTREE = "braintree"
    RAZORPAY = "razorpay"


class GatewayRegistry:
    """Gateways by name, in the order in which they were registered, which is the default order of candidates."""

    def __init__(self) -> None:
        self._gateways: dict[str, Gateway] = {}

    def register(self, name: GatewayType | str, gateway: Gateway) -> GatewayRegistry:
        """Adds a gateway under a name: 1 to 40 of `[a-z0-9_-]`. Raises `ConfigError` for a name that is taken."""
        text = str(name.value if isinstance(name, GatewayType) else name)
        if not (
            0 < len(text) <= 40 and text.replace("_", "").replace("-", "").isalnum() and text == text.lower()
        ):
            raise ConfigError(f"{text[:60]!r} is not a gateway name: use 1 to 40 of a-z, 0-9, '_' and '-'.")
        if text in self._gateways:
            raise ConfigError(f"a gateway named {text!r} is registered already.")
        gateway.name = text
        self._gateways[text] = gateway
        return self

    def get(self, name: str) -> Gateway:
        """The gateway of that name; raises `UnknownGateway`."""
        found = self._gateways.get(name)
        if found is None:
            known = ", ".join(self._gateways) or "none"
            raise UnknownGateway(f"no gateway is named {str(name)[:60]!r}.", hint=f"Registered: {known}.")
        return found

    def find(self, name: str) -> Gateway | None:
        return self._gateways.get(name)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._gateways)

    def __iter__(self) -> Iterator[Gateway]:
        return iter(self._gateways.values())

    def __len__(self) -> int:
        return len(self._gateways)

    def __contains__(self, name: object) -> bool:
        return name in self._gateways
