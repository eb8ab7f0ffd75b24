"""The library's own adapters to the sandbox's five PSPs, and what their test accounts call the same cards.

One payment may be offered to any of them: `five_token` is a token that each knows under its own name.
"""

from __future__ import annotations

from collections.abc import Mapping

from aegispay.domain.methods import Token
from aegispay.gateways.gateway import Gateway

FIVE = ("stripe", "razorpay", "paypal", "braintree", "adyen")
MORE = FIVE[1:]
"""Those that `SandboxSettings.more_psps` opens; Stripe is always there."""
CURRENCIES: Mapping[str, tuple[str, ...]] = {
    "USD": FIVE,
    "EUR": FIVE,
    "GBP": FIVE,
    "BRL": FIVE,
    "JPY": FIVE,
    "KWD": ("stripe", "razorpay", "braintree", "adyen"),
    "INR": ("stripe", "razorpay", "braintree", "adyen"),
}
"""Some currencies, and who takes them; an INR wallet at PayPal is for India only."""

CARDS: Mapping[str, Mapping[str, str]] = {
    "good": {
        "stripe": "pm_card_visa",
        "razorpay": "token_visa",
        "paypal": "card:visa",
        "braintree": "fake-valid-nonce",
        "adyen": "stored_visa",
    },
    "soft": {
        "stripe": "pm_card_chargeDeclinedInsufficientFunds",
        "razorpay": "token_insufficientfunds",
        "paypal": "card:insufficientfunds",
        "braintree": "fake-processor-declined-visa-nonce",
        "adyen": "stored_insufficient_funds",
    },
    "hard": {
        "stripe": "pm_card_chargeDeclinedStolenCard",
        "razorpay": "token_stolencard",
        "paypal": "card:stolencard",
        "braintree": "fake-gateway-rejected-fraud-nonce",
        "adyen": "stored_stolen_card",
    },
    "payer": {
        "stripe": "pm_card_threeDSecure2Required",
        "razorpay": "token_visa",
        "paypal": "paypal",
        "adyen": "stored_3ds",
    },
}
"""What becomes of a card (approved, declined softly or for good, the payer must act), and each PSP's name for it."""
CUSTOMER_ID = "cust_sandbox"
WHO_PAYS: Mapping[str, str] = {"razorpay_email": "payer@shop.example", "razorpay_contact": "+919999999999"}
"""Metadata by which Razorpay knows who pays with a saved card."""
MANDATE: Mapping[str, str] = {**WHO_PAYS, "razorpay_recurring": "true"}
"""The same for a mandate, which asks nobody to authenticate."""
BROWSER: Mapping[str, str] = {**WHO_PAYS, "razorpay_ip": "127.0.0.1", "razorpay_user_agent": "sandbox"}
"""The same for a payer who authenticates."""


def five_token(kind: str = "good", **others: str) -> Token:
    """A payment method that all five know; `others` gives one PSP or several another kind of card."""
    if unknown := {kind, *others.values()} - set(CARDS) or set(others) - set(FIVE):
        raise ValueError(f"{sorted(unknown)[0]!r} is none of {', '.join((*CARDS, *FIVE))}")
    names = {psp: CARDS[others.get(psp, kind)] for psp in FIVE}
    found = {psp: names[psp][psp] for psp in FIVE if psp in names[psp]}
    return Token(found["stripe"], by_gateway=found)


def five_gateways(urls: Mapping[str, str], *, lookup_quiet_s: float) -> dict[str, Gateway]:
    """Adapters to the five faces that listen at these addresses, in the order in which to try them.

    `lookup_quiet_s`: within this time a request lands here, or never; keep the faults' `late_s` below it.
    """
    from aegispay.gateways.adyen import AdyenGateway
    from aegispay.gateways.braintree import BraintreeGateway
    from aegispay.gateways.paypal import PayPalGateway
    from aegispay.gateways.razorpay import RazorpayGateway
    from aegispay.gateways.stripe import StripeGateway
    from aegispay.sandbox import adyen_face, braintree_face, paypal_face, razorpay_face, stripe_face

    return {
        "stripe": StripeGateway(
            stripe_face.API_KEY,
            base_url=urls["stripe"],
            webhook_secrets=[stripe_face.WEBHOOK_SECRET],
            multi_capture=True,
            lookup_quiet_s=lookup_quiet_s,
        ),
        "razorpay": RazorpayGateway(
            razorpay_face.KEY_ID,
            razorpay_face.KEY_SECRET,
            base_url=f"{urls['razorpay']}/v1",
            webhook_secrets=[razorpay_face.WEBHOOK_SECRET],
            lookup_quiet_s=lookup_quiet_s,
        ),
        "paypal": PayPalGateway(
            paypal_face.CLIENT_ID,
            paypal_face.CLIENT_SECRET,
            base_url=urls["paypal"],
            webhook_ids=[paypal_face.WEBHOOK_ID],
            transaction_search=True,
            lookup_quiet_s=lookup_quiet_s,
        ),
        "braintree": BraintreeGateway(
            braintree_face.PUBLIC_KEY,
            braintree_face.PRIVATE_KEY,
            {currency: f"sandbox_{currency.lower()}" for currency in CURRENCIES},
            base_url=urls["braintree"],
            lookup_quiet_s=lookup_quiet_s,
        ),
        "adyen": AdyenGateway(
            adyen_face.API_KEY,
            adyen_face.MERCHANT_ACCOUNT,
            base_url=f"{urls['adyen']}/v71",
            webhook_keys=[adyen_face.HMAC_KEY],
            return_url="https://shop.example/back",
        ),
    }
