"""The PSPs of the matrix: each with its side of the wire, our adapter to it, and a payer who can pass its page.

A user's own adapter takes part as a `MatrixPsp` of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
from msgspec.structs import replace

from aegispay.domain.money import Currency
from aegispay.domain.payment import Payment
from aegispay.gateways.adyen import AdyenGateway
from aegispay.gateways.braintree import BraintreeGateway
from aegispay.gateways.gateway import Gateway
from aegispay.gateways.http import Transport
from aegispay.gateways.paypal import PayPalGateway
from aegispay.gateways.razorpay import RazorpayGateway
from aegispay.gateways.stripe import StripeGateway
from aegispay.ports import Clock
from aegispay.sandbox import adyen_face, braintree_face
from aegispay.sandbox.bank import Bank
from aegispay.sandbox.plainpay_face import PlainPayPsp
from aegispay.sandbox.plainpay_gateway import PlainPayGateway
from aegispay.sandbox.psps import MAKERS
from aegispay.sandbox.razorpay_face import RazorpayPsp
from aegispay.sandbox.stripe_face import StripePsp
from aegispay.sandbox.webhooks import Outbox
from aegispay.sandbox.wire import Psp, WireReply, WireRequest

SEED = 20
"""For the faces' ids: the same run gives the same answers."""

Payer = Callable[[Psp, Payment], dict[str, str]]
"""The payer acts at the PSP; gives what they bring back."""


class MatrixPsp(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One PSP of the matrix."""

    name: str
    title: str
    face: Callable[[Bank, Clock], Psp]
    """Its side of the wire, over the bank's books."""
    gateway: Callable[[Transport, Clock], Gateway]
    """The adapter, as new."""
    token: str
    """A payment method that is approved."""
    payer_token: str | None = None
    """One for which the payer must act first; None where the adapter has no payer actions."""
    payer: Payer | None = None
    currency: str = "USD"
    common: Mapping[str, Any] = {}
    """What every payment here needs: `return_url`, `customer_id`, `metadata`."""
    refund_minor: int = 500
    """How much of the 2000 is refunded: a part, where the PSP can, so that a second refund would show."""
    outbox: Callable[[Psp], Outbox] | None = None
    """Its notices, for a PSP some of whose operations end by webhook alone. None: not one webhook ever comes."""
    note: str = ""
    """What a reader of its table should know."""


def page_payer(keep: Collection[str] = ()) -> Payer:
    """A payer who authenticates on the PSP's page, and brings back these parameters of the return URL."""

    def pays(psp: Psp, payment: Payment) -> dict[str, str]:
        action = payment.next_action
        parts = urlsplit((action.url if action else None) or "")
        form = {"content-type": "application/x-www-form-urlencoded"}
        reply = psp.admit(
            WireRequest(
                method="POST",
                path=parts.path,
                query=parts.query,
                headers=form,
                body=b"action=authenticate",
            )
        )
        if not isinstance(reply, WireReply) or reply.status >= 400:
            raise RuntimeError(f"the page at {parts.path!r} answered {reply!r}")
        back = dict(parse_qsl(urlsplit(reply.headers.get("location", "")).query))
        return {name: value for name, value in back.items() if name in keep}

    return pays


def _at_checkout(psp: Psp, payment: Payment) -> dict[str, str]:
    """Razorpay's Checkout pays the order itself; the merchant's server is told afterwards."""
    operation = payment.first_operation
    if not isinstance(psp, RazorpayPsp) or operation is None or operation.reference is None:
        raise RuntimeError("there is no order to pay")
    psp.pay_order(operation.reference)
    return {}


def _made(name: str) -> Callable[[Bank, Clock], Psp]:
    def face(bank: Bank, clock: Clock) -> Psp:
        psp = MAKERS[name](bank, clock, SEED)
        psp.base_url = f"https://{name}.example"
        return psp

    return face


def _plainpay(bank: Bank, clock: Clock) -> Psp:
    psp = PlainPayPsp(bank, clock=clock, seed=SEED)
    psp.base_url = "https://plainpay.example"
    return psp


def _adyen_outbox(psp: Psp) -> Outbox:
    if not isinstance(psp, adyen_face.AdyenPsp):
        raise RuntimeError("not Adyen's face")
    return psp.outbox


_BACK = "https://shop.example/back"

STRIPE = MatrixPsp(
    name="stripe",
    title="Stripe",
    face=lambda bank, clock: StripePsp(bank, clock=clock, seed=SEED),
    gateway=lambda transport, clock: StripeGateway(
        "sk_test_sandbox", base_url="https://stripe.example", transport=transport, clock=clock
    ),
    token="pm_card_visa",  # noqa: S106 - a test token's name
    payer_token="pm_card_threeDSecure2Required",  # noqa: S106
    payer=page_payer(),
    common={"return_url": _BACK},
    note="Stripe replays what it answered under the key, its own 500s too: after one of those only a look-up is left, and "
    "finding nothing counts an hour after the last send. The payer's 3DS moves the money at Stripe, so that a confirmation "
    "only reads.",
)
RAZORPAY = MatrixPsp(
    name="razorpay",
    title="Razorpay",
    face=_made("razorpay"),
    gateway=lambda transport, clock: RazorpayGateway(
        "rzp_test_sandbox",
        "razorpay_sandbox_secret",
        base_url="https://razorpay.example/v1",
        transport=transport,
        clock=clock,
    ),
    token="token_visa",  # noqa: S106
    payer_token="checkout",  # noqa: S106
    payer=_at_checkout,
    currency="INR",
    common={
        "customer_id": "cust_1",
        "metadata": {
            "razorpay_email": "payer@shop.example",
            "razorpay_contact": "+919999999999",
            "razorpay_recurring": "true",
        },
    },
    note="Razorpay has keys for refunds only, so nothing is sent twice: the order or payment is read, and finding nothing "
    "counts 15 minutes after the last send. It has no void. The payer pays at Razorpay itself, so that a confirmation only "
    "reads.",
)
PAYPAL = MatrixPsp(
    name="paypal",
    title="PayPal",
    face=_made("paypal"),
    gateway=lambda transport, clock: PayPalGateway(
        "paypal-sandbox-client",
        "paypal-sandbox-secret",
        base_url="https://paypal.example",
        transport=transport,
        clock=clock,
    ),
    token="card:visa",  # noqa: S106
    payer_token="paypal",  # noqa: S106
    payer=page_payer(),
    common={"return_url": _BACK},
    note="PayPal answers a known request id with the present state of what it made. A void takes no such id: there a second "
    "one is answered with `PREVIOUSLY_VOIDED`, which is as good.",
)
BRAINTREE = MatrixPsp(
    name="braintree",
    title="Braintree",
    face=_made("braintree"),
    gateway=lambda transport, clock: BraintreeGateway(
        braintree_face.PUBLIC_KEY,
        braintree_face.PRIVATE_KEY,
        {currency.code: f"sandbox_{currency.code.lower()}" for currency in Currency},
        base_url="https://braintree.example",
        transport=transport,
        clock=clock,
    ),
    token="fake-valid-nonce",  # noqa: S106
    refund_minor=2000,
    note="Braintree has no idempotency key, so nothing is sent twice: the search by our order id is the evidence, and "
    "finding nothing counts 5 minutes after the last send. The adapter takes no payer actions.",
)


def _adyen(name: str) -> Callable[[Transport, Clock], Gateway]:
    def gateway(transport: Transport, clock: Clock) -> Gateway:
        return AdyenGateway(
            adyen_face.API_KEY,
            adyen_face.MERCHANT_ACCOUNT,
            base_url="https://adyen.example/v71",
            webhook_keys=[adyen_face.HMAC_KEY],
            transport=transport,
            name=name,
            clock=clock,
        )

    return gateway


ADYEN = MatrixPsp(
    name="adyen",
    title="Adyen",
    face=_made("adyen"),
    gateway=_adyen("adyen"),
    token="stored_visa",  # noqa: S106
    payer_token="stored_3ds",  # noqa: S106
    payer=page_payer(["redirectResult"]),
    common={"return_url": _BACK, "customer_id": "shopper_1"},
    outbox=_adyen_outbox,
    note="Adyen answers captures, voids and refunds with `received`; their outcome comes by webhook alone, and Adyen has no "
    "call to look anything up. Its notices are delivered here once the caller has been answered, or we have died.",
)
ADYEN_SILENT = replace(
    ADYEN,
    name="adyen_silent",
    title="Adyen, where no webhook ever comes",
    gateway=_adyen("adyen_silent"),
    outbox=None,
    note="The same with no webhook set up: payments do without, while captures, voids and refunds end with a person.",
)
PLAINPAY = MatrixPsp(
    name="plainpay",
    title="PlainPay, the sandbox's own",
    face=_plainpay,
    gateway=lambda transport, clock: PlainPayGateway(
        base_url="https://plainpay.example", api_key="plain_test_sandbox", transport=transport
    ),
    token="tok_visa",  # noqa: S106
    payer_token="tok_3ds",  # noqa: S106
    payer=page_payer(),
    common={"return_url": _BACK},
    note="None of the five takes a cancel by our reference that also holds for a request still on its way. PlainPay does, "
    "and shows what that is worth: the doubt ends while the caller waits, the payment fails over, and what lands later is "
    "refused.",
)

PSPS = {psp.name: psp for psp in (STRIPE, RAZORPAY, PAYPAL, BRAINTREE, ADYEN, ADYEN_SILENT, PLAINPAY)}
"""The tables of the page, in order."""
