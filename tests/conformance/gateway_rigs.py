"""Our adapters and the PSPs that they are tried on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from aegispay.domain.events import OperationKind
from aegispay.domain.money import Currency
from aegispay.domain.outcomes import DeclineCategory, Outcome, Pending, RequiresAction
from aegispay.gateways.adyen import AdyenGateway
from aegispay.gateways.braintree import BraintreeGateway
from aegispay.gateways.capabilities import Capabilities
from aegispay.gateways.gateway import Gateway, GatewayCall
from aegispay.gateways.paypal import PayPalGateway
from aegispay.gateways.razorpay import RazorpayGateway
from aegispay.gateways.stripe import StripeGateway
from aegispay.sandbox import adyen_face, braintree_face
from aegispay.sandbox.adyen_face import AdyenPsp
from aegispay.sandbox.plainpay_gateway import PlainPayGateway
from aegispay.sandbox.razorpay_face import RazorpayPsp
from aegispay.sandbox.server import Sandbox, SandboxSettings
from aegispay.testing.faulty_transport import SteppingClock
from aegispay.testing.gateway_conformance import Books, Rig
from aegispay.testing.instant_gateway import InstantGateway, reply_lost, request_lost
from aegispay.testing.sandbox_rigs import bank_books, sandbox_payer

SOFT, HARD, FRAUD = DeclineCategory.SOFT, DeclineCategory.HARD, DeclineCategory.FRAUD


@asynccontextmanager
async def served(make: Callable[..., Rig], *more_psps: str, **options: Any) -> AsyncIterator[Rig]:
    """The rig over a sandbox of its own, at whose PSPs time can be made to pass."""
    clock = SteppingClock()
    settings = SandboxSettings(more_psps=more_psps)
    async with Sandbox(settings=settings, clock=clock) as sandbox:
        yield replace(make(sandbox, **options), age=clock.advance)


def stripe_rig(
    sandbox: Sandbox, adapter: Callable[..., StripeGateway] = StripeGateway, **options: Any
) -> Rig:
    def make(key: str) -> Callable[..., StripeGateway]:
        return lambda transport, clock: adapter(
            key, base_url=sandbox.stripe_url, transport=transport, clock=clock, **options
        )

    return Rig(
        make=make(sandbox.stripe_key),
        wrong_key=make("sk_test_nobody_knows"),
        books=bank_books(sandbox.bank),
        approves="pm_card_visa",
        declines={
            "pm_card_chargeDeclinedInsufficientFunds": SOFT,
            "pm_card_chargeDeclinedStolenCard": HARD,
            "pm_card_chargeDeclinedFraudulent": FRAUD,
        },
        needs_payer="pm_card_threeDSecure2Required",
        payer=sandbox_payer(),
        pending=(b'"status":"succeeded"', b'"status":"processing"'),
        secrets=("_secret_",),
        common={"return_url": "https://shop.example/back"},
    )


def plainpay_rig(
    sandbox: Sandbox, adapter: Callable[..., PlainPayGateway] = PlainPayGateway, **options: Any
) -> Rig:
    def make(key: str) -> Callable[..., PlainPayGateway]:
        return lambda transport, clock: adapter(
            base_url=sandbox.plainpay_url, api_key=key, transport=transport, **options
        )

    return Rig(
        make=make(sandbox.plainpay_key),
        wrong_key=make("nobody_knows_this"),
        books=bank_books(sandbox.bank),
        approves="tok_visa",
        declines={"tok_insufficient_funds": SOFT, "tok_stolen_card": HARD, "tok_fraudulent": FRAUD},
        needs_payer="tok_3ds",
        payer=sandbox_payer(),
        pending=(b'"status":"captured"', b'"status":"processing"'),
    )


def instant_books(gateway: InstantGateway) -> Callable[[str], Books]:
    """Entries as money: an authorisation is held until it is voided, or captured for the last time."""

    def books(payment_id: str) -> Books:
        sums = dict.fromkeys(OperationKind, 0)
        last = {
            call.operation_id for call in gateway.calls if call.kind is OperationKind.CAPTURE and call.final
        }
        closed = False
        for entry in gateway.books:
            if entry.payment_id == payment_id:
                sums[entry.kind] += entry.amount_minor
                closed = closed or entry.operation_id in last
        released = closed or sums[OperationKind.VOID]
        captured = sums[OperationKind.CAPTURE]
        return Books(
            held_minor=0 if released else sums[OperationKind.AUTHORIZE] - captured,
            taken_minor=sums[OperationKind.CHARGE] + captured,
            given_back_minor=sums[OperationKind.REFUND],
        )

    return books


def instant_rig(
    capabilities: Capabilities | None = None, adapter: Callable[..., InstantGateway] = InstantGateway
) -> Rig:
    """A PSP within the adapter: it has no wire, so lost answers are queued in the adapter itself."""
    gateway = adapter(capabilities=capabilities)

    async def payer(_: object) -> dict[str, str]:
        return {}

    return Rig(
        make=lambda transport, clock: gateway,
        books=instant_books(gateway),
        approves="tok_good",
        declines={"tok_soft": SOFT, "tok_hard": HARD},
        needs_payer="tok_3ds",
        payer=payer,
        wired=False,
        lose_reply=lambda _: gateway.faults.append(reply_lost),
        lose_request=lambda _: gateway.faults.append(request_lost),
    )


MANDATE = {
    "razorpay_email": "payer@shop.example",
    "razorpay_contact": "+919999999999",
    "razorpay_recurring": "true",
}


def razorpay_rig(sandbox: Sandbox) -> Rig:
    """Saved cards under a mandate, which ask nobody; and Checkout, where the payer pays the order."""
    psp = sandbox.psps["razorpay"]
    assert isinstance(psp, RazorpayPsp)

    def make(secret: str) -> Callable[..., RazorpayGateway]:
        return lambda transport, clock: RazorpayGateway(
            "rzp_test_sandbox",
            secret,
            base_url=f"{sandbox.faces['razorpay'].url}/v1",
            transport=transport,
            clock=clock,
        )

    async def payer(asked: RequiresAction) -> dict[str, str]:
        psp.pay_order(asked.reference)
        return {}

    return Rig(
        make=make("razorpay_sandbox_secret"),
        wrong_key=make("nobody_knows_this"),
        books=bank_books(sandbox.bank),
        approves="token_visa",
        declines={"token_stolencard": HARD},
        needs_payer="checkout",
        payer=payer,
        currency="INR",
        common={"metadata": MANDATE, "customer_id": "cust_1"},
    )


def adyen_rig(sandbox: Sandbox, **options: Any) -> Rig:
    """Captures, voids and refunds end by webhook."""
    psp = sandbox.psps["adyen"]
    assert isinstance(psp, AdyenPsp)

    def make(key: str) -> Callable[..., AdyenGateway]:
        return lambda transport, clock: AdyenGateway(
            key,
            adyen_face.MERCHANT_ACCOUNT,
            base_url=f"{sandbox.faces['adyen'].url}/v71",
            webhook_keys=[adyen_face.HMAC_KEY],
            transport=transport,
            clock=clock,
            **options,
        )

    told: dict[str, Outcome] = {}

    async def final_word(gateway: Gateway, call: GatewayCall, pending: Pending) -> Outcome:
        for notice in psp.outbox.take():
            for news in gateway.parse_webhook(notice.headers, notice.body, 0):
                if news.operation_id is not None and news.outcome is not None:
                    told[news.operation_id] = news.outcome
        return told.get(call.operation_id, pending)

    return Rig(
        make=make(adyen_face.API_KEY),
        wrong_key=make("nobody_knows_this"),
        books=bank_books(sandbox.bank),
        approves="stored_visa",
        declines={"stored_insufficient_funds": SOFT, "stored_stolen_card": HARD, "stored_fraudulent": FRAUD},
        needs_payer="stored_3ds",
        payer=sandbox_payer(["redirectResult"]),
        final_word=final_word,
        common={"return_url": "https://shop.example/back", "customer_id": "shopper_1"},
    )


def braintree_rig(sandbox: Sandbox) -> Rig:
    """Braintree is told our operations and not our payments, so the books are read by the operations of a payment."""
    operations: dict[str, set[str]] = {}

    class Noted(BraintreeGateway):
        async def perform(self, call: GatewayCall) -> Outcome:
            operations.setdefault(call.payment_id, set()).add(call.operation_id)
            return await super().perform(call)

    def books(payment_id: str) -> Books:
        ours = operations.get(payment_id, set())
        charges = [charge for charge in sandbox.bank.charges() if charge.reference in ours]
        return Books(
            held_minor=sum(charge.held_minor for charge in charges),
            taken_minor=sum(charge.captured_minor for charge in charges),
            given_back_minor=sum(charge.refunded_minor for charge in charges),
        )

    accounts = {currency.code: f"sandbox_{currency.code.lower()}" for currency in Currency}

    def make(private: str) -> Callable[..., BraintreeGateway]:
        return lambda transport, clock: Noted(
            braintree_face.PUBLIC_KEY,
            private,
            accounts,
            base_url=sandbox.faces["braintree"].url,
            transport=transport,
            clock=clock,
        )

    return Rig(
        make=make(braintree_face.PRIVATE_KEY),
        wrong_key=make("nobody_knows_this"),
        books=books,
        approves="fake-valid-nonce",
        declines={"fake-processor-declined-visa-nonce": SOFT, "fake-gateway-rejected-fraud-nonce": FRAUD},
    )


def paypal_rig(sandbox: Sandbox) -> Rig:
    def make(secret: str) -> Callable[..., PayPalGateway]:
        return lambda transport, clock: PayPalGateway(
            "paypal-sandbox-client",
            secret,
            base_url=sandbox.faces["paypal"].url,
            transport=transport,
            clock=clock,
        )

    return Rig(
        make=make("paypal-sandbox-secret"),
        wrong_key=make("nobody-knows-this"),
        books=bank_books(sandbox.bank),
        approves="card:visa",
        declines={"card:insufficientfunds": SOFT, "card:stolencard": HARD},
        needs_payer="paypal",
        payer=sandbox_payer(),
        bare_yes=(204,),
        shared="/v1/oauth2/token",
        common={"return_url": "https://shop.example/back"},
    )
