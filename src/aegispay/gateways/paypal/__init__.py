"""The PayPal adapter: orders and payments over plain HTTP. It knows PayPal's wire, not our store or routing."""

from aegispay.gateways.paypal.adapter import PayPalGateway
from aegispay.gateways.paypal.requests import WALLET

__all__ = ["WALLET", "PayPalGateway"]
