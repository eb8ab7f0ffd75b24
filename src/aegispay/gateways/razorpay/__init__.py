"""The Razorpay adapter: orders, payments and refunds over plain HTTP. It knows Razorpay's wire, not our store or routing."""

from aegispay.gateways.razorpay.adapter import RazorpayGateway
from aegispay.gateways.razorpay.requests import CHECKOUT

__all__ = ["CHECKOUT", "RazorpayGateway"]
