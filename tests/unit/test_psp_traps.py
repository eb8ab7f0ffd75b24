"""The PSPs' traps that are no one adapter's alone, and an index: each trap has a test whose name says what it is."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from aegispay.domain.errors import InvalidAmount, UnsupportedOperation
from aegispay.domain.events import OperationKind
from aegispay.domain.money import Money
from aegispay.domain.outcomes import Approved
from aegispay.gateways.adyen.amounts import to_adyen
from aegispay.gateways.braintree.amounts import to_braintree
from aegispay.gateways.paypal.amounts import to_paypal
from aegispay.gateways.razorpay.amounts import to_razorpay
from aegispay.gateways.stripe import StripeGateway
from aegispay.gateways.stripe.amounts import to_stripe
from aegispay.sandbox.server import Sandbox
from aegispay.testing.faulty_transport import SteppingClock
from tests.fakes.stripe_calls import call

TESTS = Path(__file__).resolve().parent
REFUSED = "refused"
TO = {
    "stripe": to_stripe,
    "razorpay": to_razorpay,
    "paypal": to_paypal,
    "braintree": to_braintree,
    "adyen": to_adyen,
}
FIVE_THOUSAND: dict[str, dict[str, int | str]] = {
    # What 5000 major units are on each PSP's wire
    "USD": {
        "stripe": 500000,
        "razorpay": 500000,
        "paypal": "5000.00",
        "braintree": "5000.00",
        "adyen": 500000,
    },
    "JPY": {"stripe": 5000, "razorpay": 5000, "paypal": "5000", "braintree": "5000", "adyen": 5000},
    "ISK": {"stripe": 500000, "razorpay": 5000, "paypal": REFUSED, "braintree": "5000", "adyen": 500000},
    "UGX": {"stripe": 500000, "razorpay": 5000, "paypal": REFUSED, "braintree": "5000", "adyen": 5000},
    "CLP": {"stripe": 5000, "razorpay": 5000, "paypal": REFUSED, "braintree": "5000", "adyen": 500000},
    "HUF": {"stripe": 500000, "razorpay": 500000, "paypal": "5000", "braintree": "5000.00", "adyen": 500000},
    "TWD": {"stripe": 500000, "razorpay": 500000, "paypal": "5000", "braintree": "5000.00", "adyen": 500000},
    "IDR": {"stripe": 500000, "razorpay": 500000, "paypal": REFUSED, "braintree": "5000.00", "adyen": 5000},
    "KWD": {
        "stripe": 5000000,
        "razorpay": 5000000,
        "paypal": REFUSED,
        "braintree": "5000.000",
        "adyen": 5000000,
    },
}


@pytest.mark.parametrize("psp", TO)
@pytest.mark.parametrize("code", FIVE_THOUSAND)
def test_trap_the_same_amount_is_another_number_at_each_psp(code: str, psp: str) -> None:
    money = Money.parse("5000", code)
    expected = FIVE_THOUSAND[code][psp]
    if expected == REFUSED:
        with pytest.raises((UnsupportedOperation, InvalidAmount)):
            TO[psp](money)
    else:
        assert TO[psp](money) == expected


async def test_trap_stripes_key_executes_again_after_a_day_so_its_life_is_declared_shorter() -> None:
    """What the orchestrator must never do, done to the sandbox: the same request under the same key, a day later."""
    clock = SteppingClock()
    async with Sandbox(clock=clock) as sandbox:
        gateway = StripeGateway(sandbox.stripe_key, base_url=sandbox.stripe_url)
        made = call(OperationKind.CHARGE)
        for wait_s, charges in ((0.0, 1), (gateway.capabilities.key_ttl_s(made.kind), 1), (2 * 3600.0, 2)):
            clock.advance(wait_s)
            assert isinstance(await gateway.charge(made), Approved)
            assert len(sandbox.bank.charges(made.payment_id)) == charges
        await gateway.aclose()


TRAPS = {
    "PayPal's 201 with a DECLINED capture": "test_trap_paypals_201_with_a_declined_capture_is_a_decline",
    "Razorpay's `failed` that later captures": "test_trap_razorpays_failed_that_later_captures",
    "Adyen's CAPTURE_FAILED with success true": (
        "test_trap_capture_failed_and_refund_failed_with_success_true_are_failures"
    ),
    "Adyen's batches, every item verified": "test_trap_every_item_of_a_batch_is_verified",
    "Stripe's keys that execute again after expiry": (
        "test_trap_stripes_key_executes_again_after_a_day_so_its_life_is_declared_shorter"
    ),
    "Stripe's special currencies": "test_trap_the_same_amount_is_another_number_at_each_psp",
    "Braintree's GraphQL errors under HTTP 200": "test_trap_errors_come_under_http_200_and_their_class_decides",
    "exponents per PSP": "test_trap_four_currencies_have_other_exponents_than_iso_4217",
    "PayPal's certificate URL as an SSRF hole": "test_trap_paypals_certificate_url_is_never_followed_to_a_stranger",
}


@pytest.mark.parametrize("trap", TRAPS)
def test_every_trap_has_a_test_that_names_it(trap: str) -> None:
    names = {
        node.name
        for file in TESTS.glob("test_*.py")
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert TRAPS[trap] in names
