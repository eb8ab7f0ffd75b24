"""The PSPs that take part with their real adapters: five faces of the sandbox, PlainPay, and a user's own.

Each is a face over the bank's books, the adapter that talks to it, and how a payer acts there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

from aegispay.domain.payment import Payment
from aegispay.gateways.adyen import AdyenGateway
from aegispay.gateways.braintree import BraintreeGateway
from aegispay.gateways.gateway import Gateway
from aegispay.gateways.http import Transport
from aegispay.gateways.paypal import PayPalGateway
from aegispay.gateways.razorpay import RazorpayGateway
from aegispay.gateways.stripe import StripeGateway
from aegispay.ports import Clock
from aegispay.sandbox import adyen_face, braintree_face, three_ds
from aegispay.sandbox.adyen_face import AdyenPsp
from aegispay.sandbox.bank import Bank
from aegispay.sandbox.braintree_face import BraintreePsp
from aegispay.sandbox.paypal_face import PayPalPsp
from aegispay.sandbox.plainpay_face import PlainPayPsp
from aegispay.sandbox.plainpay_gateway import PlainPayGateway
from aegispay.sandbox.razorpay_face import RazorpayPsp
from aegispay.sandbox.stripe_face import StripePsp
from aegispay.sandbox.webhooks import forge
from aegispay.sandbox.wire import Psp, WireReply, WireRequest
from aegispay.testing.simulation import dashboards
from aegispay.testing.simulation.dashboards import Dashboard

Tokens = dict[str, str]
"""What a PSP calls the card that is approved (`ok`), declined softly (`soft`) or for good (`hard`), or wants 3DS (`3ds`)."""
PayerActs = Callable[[Psp, Payment, bool], Mapping[str, str]]
"""The payer acts on what a face shows for this payment; returns what comes back with them."""


class SimulatedPsp(NamedTuple):
    """A user's own PSP in the simulation: its face (`aegispay.sandbox.wire.Psp`) and its adapter."""

    name: str
    face: Callable[[Bank, Clock, int], Psp]
    """From the bank, the true clock and a seed. A face with an `outbox` has its webhooks delivered."""
    gateway: Callable[[Transport, Clock], Gateway]
    """From the transport and the instance's clock."""
    tokens: Tokens
    multi_capture: bool = False
    payer: PayerActs | None = None
    """How the payer acts; None: on the issuer's page under `/3ds/` and the PSP's id of the payment."""
    forge: Callable[[bytes], bytes] = forge
    """Changes a webhook's body in what its signature covers, so that it must be refused."""
    keeps_errors: bool = True
    """Whether the PSP keeps a 500 of its own under the key, and replays it. Adyen's requests can be repeated."""
    webhooks_only: bool = False
    """Some outcomes come by webhook and in no other way, so webhooks are never switched off."""
    dashboard: Dashboard | None = None
    """What people do at the PSP's own pages, in the mode `dashboard`. The face must tell of all of it by webhook."""


def acts_on_page(face: Psp, payment: Payment, passed: bool) -> Mapping[str, str]:
    """The issuer's page at the address that the payer was sent to; what the return address carries comes back."""
    operation = payment.first_operation
    action = operation.next_action if operation else None
    path = urlsplit(action.url or "").path if action else ""
    if not path.startswith(three_ds.PATH):
        path = f"{three_ds.PATH}{payment.gateway_reference}"
    body = b"action=authenticate" if passed else b"action=fail"
    reply = face.admit(WireRequest(method="POST", path=path, body=body))
    location = reply.headers.get("location", "") if isinstance(reply, WireReply) else ""
    return dict(parse_qsl(urlsplit(location).query))


def _stripe(quiet_s: float, lag_s: float) -> SimulatedPsp:
    def face(bank: Bank, clock: Clock, seed: int) -> Psp:
        return StripePsp(bank, clock=clock, seed=seed, search_lag_s=lag_s)

    def gateway(transport: Transport, clock: Clock) -> Gateway:
        return StripeGateway(
            "sk_test_sandbox",
            base_url="https://stripe.example",
            webhook_secrets=["whsec_sandbox"],
            transport=transport,
            lookup_quiet_s=quiet_s,
            clock=clock,
        )

    tokens = {
        "ok": "pm_card_visa",
        "soft": "pm_card_chargeDeclinedInsufficientFunds",
        "hard": "pm_card_chargeDeclinedStolenCard",
        "3ds": "pm_card_threeDSecure2Required",
    }
    return SimulatedPsp("stripe", face, gateway, tokens, dashboard=dashboards.stripe)


def _razorpay(quiet_s: float, lag_s: float) -> SimulatedPsp:
    """Saved cards under a mandate, which ask nobody; and Checkout, where the payer pays the order."""

    def face(bank: Bank, clock: Clock, seed: int) -> Psp:
        return RazorpayPsp(bank, clock=clock, seed=seed, lookup_lag_s=lag_s)

    def gateway(transport: Transport, clock: Clock) -> Gateway:
        return RazorpayGateway(
            "rzp_test_sandbox",
            "razorpay_sandbox_secret",
            webhook_secrets=["razorpay_sandbox_webhook_secret"],
            base_url="https://razorpay.example/v1",
            transport=transport,
            lookup_quiet_s=quiet_s,
            clock=clock,
        )

    def payer(psp: Psp, payment: Payment, passed: bool) -> Mapping[str, str]:
        order_id = payment.gateway_reference or ""
        if isinstance(psp, RazorpayPsp) and order_id.startswith("order_"):
            tried = psp.state.payments_of(order_id)
            # Checkout shows who has paid that they have.
            if not any(one["status"] in ("authorized", "captured", "refunded") for one in tried):
                psp.pay_order(order_id, "token_visa" if passed else "token_stolencard")
        return {}

    tokens = {
        "ok": "token_visa",
        "soft": "token_insufficientfunds",
        "hard": "token_stolencard",
        "3ds": "checkout",
    }
    return SimulatedPsp("razorpay", face, gateway, tokens, payer=payer, dashboard=dashboards.razorpay)


def _paypal(quiet_s: float, lag_s: float) -> SimulatedPsp:
    def face(bank: Bank, clock: Clock, seed: int) -> Psp:
        psp = PayPalPsp(bank, clock=clock, seed=seed)
        psp.base_url = _PAYPAL_URL
        psp.reports.lag_s = lag_s
        return psp

    def gateway(transport: Transport, clock: Clock) -> Gateway:
        return PayPalGateway(
            "paypal-sandbox-client",
            "paypal-sandbox-secret",
            webhook_ids=["WHSANDBOX0001"],
            transaction_search=True,
            base_url=_PAYPAL_URL,
            transport=transport,
            lookup_quiet_s=quiet_s,
            clock=clock,
        )

    tokens = {"ok": "card:visa", "soft": "card:insufficientfunds", "hard": "card:stolencard", "3ds": "paypal"}
    return SimulatedPsp("paypal", face, gateway, tokens, multi_capture=True, dashboard=dashboards.paypal)


_PAYPAL_URL = "http://127.0.0.1:9"
"""Nothing is ever sent there: only certificates of PayPal's own hosts, or of a sandbox on this machine, are fetched."""


def _braintree(quiet_s: float, lag_s: float) -> SimulatedPsp:
    """No next action there: a card that would want 3DS is simply approved."""

    def face(bank: Bank, clock: Clock, seed: int) -> Psp:
        return BraintreePsp(bank, clock=clock, seed=seed, search_lag_s=lag_s)

    def gateway(transport: Transport, clock: Clock) -> Gateway:
        return BraintreeGateway(
            braintree_face.PUBLIC_KEY,
            braintree_face.PRIVATE_KEY,
            {code: f"sandbox_{code.lower()}" for code in ("USD", "EUR", "JPY", "INR")},
            base_url="https://braintree.example",
            transport=transport,
            lookup_quiet_s=quiet_s,
            clock=clock,
        )

    tokens = {
        "ok": "fake-valid-nonce",
        "soft": "fake-processor-declined-visa-nonce",
        "hard": "fake-gateway-rejected-fraud-nonce",
        "3ds": "fake-valid-nonce",
    }
    return SimulatedPsp("braintree", face, gateway, tokens)


def _adyen(quiet_s: float, lag_s: float) -> SimulatedPsp:
    """Captures, voids and refunds end by webhook, and in no other way."""

    def face(bank: Bank, clock: Clock, seed: int) -> Psp:
        psp = AdyenPsp(bank, clock=clock, seed=seed)
        psp.base_url = "https://adyen.example"
        return psp

    def gateway(transport: Transport, clock: Clock) -> Gateway:
        return AdyenGateway(
            adyen_face.API_KEY,
            adyen_face.MERCHANT_ACCOUNT,
            base_url="https://adyen.example/v71",
            webhook_keys=[adyen_face.HMAC_KEY],
            return_url="https://shop.example/back",
            shopper_reference="shopper_1",
            transport=transport,
            clock=clock,
        )

    def payer(psp: Psp, payment: Payment, passed: bool) -> Mapping[str, str]:
        back = acts_on_page(psp, payment, passed)
        return {name: value for name, value in back.items() if name == "redirectResult"}

    def forged(body: bytes) -> bytes:
        # `eventDate` and `reason` are not signed: a change there is no forgery that anybody could see.
        return body.replace(b'"value":', b'"value":1', 1)

    tokens = {
        "ok": "stored_visa",
        "soft": "stored_insufficient_funds",
        "hard": "stored_stolen_card",
        "3ds": "stored_3ds",
    }
    return SimulatedPsp(
        "adyen",
        face,
        gateway,
        tokens,
        payer=payer,
        forge=forged,
        keeps_errors=False,
        webhooks_only=True,
        dashboard=dashboards.adyen,
    )


def _plainpay(quiet_s: float, lag_s: float) -> SimulatedPsp:
    def face(bank: Bank, clock: Clock, seed: int) -> Psp:
        return PlainPayPsp(bank, clock=clock, seed=seed)

    def gateway(transport: Transport, clock: Clock) -> Gateway:
        return PlainPayGateway(
            base_url="https://plainpay.example",
            api_key="plain_test_sandbox",
            transport=transport,
            lookup_quiet_s=quiet_s,
        )

    tokens = {"ok": "tok_visa", "soft": "tok_insufficient_funds", "hard": "tok_stolen_card", "3ds": "tok_3ds"}
    return SimulatedPsp("plainpay", face, gateway, tokens, multi_capture=True)


FACES: dict[str, Callable[[float, float], SimulatedPsp]] = {
    "stripe": _stripe,
    "razorpay": _razorpay,
    "paypal": _paypal,
    "braintree": _braintree,
    "adyen": _adyen,
    "plainpay": _plainpay,
}
"""Each is made from the quiet period that it is to declare, and the time by which its search is behind; both in seconds."""
