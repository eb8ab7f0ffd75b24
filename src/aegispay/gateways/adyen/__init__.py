"""The Adyen adapter: Checkout API payments and modifications over plain HTTP, and standard webhooks."""

from aegispay.gateways.adyen.adapter import AdyenGateway
from aegispay.gateways.adyen.client import TEST_URL, live_url

__all__ = ["TEST_URL", "AdyenGateway", "live_url"]
