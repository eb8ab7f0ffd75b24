"""The Stripe adapter: PaymentIntents and Refunds over plain HTTP. It knows Stripe's wire, not our store or routing."""

from aegispay.gateways.stripe.adapter import API_VERSION, StripeGateway

__all__ = ["API_VERSION", "StripeGateway"]
