"""Our adapters and the PSPs that they are tried on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import DeclineCategory
from aegispay.gateways.capabilities import Capabilities
from aegispay.gateways.stripe import StripeGateway
from aegispay.sandbox.plainpay_gateway import PlainPayGateway
from aegispay.sandbox.server import Sandbox
from aegispay.testing.gateway_conformance import Books, Rig
from aegispay.testing.instant_gateway import InstantGateway, reply_lost, request_lost
from aegispay.testing.sandbox_rigs import bank_books, sandbox_payer

SOFT, HARD, FRAUD = DeclineCategory.SOFT, DeclineCategory.HARD, DeclineCategory.FRAUD


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
