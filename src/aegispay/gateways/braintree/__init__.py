"""The Braintree adapter: transactions over GraphQL, and signed XML webhooks."""

from aegispay.gateways.braintree.adapter import BraintreeGateway
from aegispay.gateways.braintree.client import API_VERSION, LIVE_URL, SANDBOX_URL

__all__ = ["API_VERSION", "LIVE_URL", "SANDBOX_URL", "BraintreeGateway"]
