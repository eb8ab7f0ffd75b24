"""The sandbox's further PSPs by name: how each is made over the bank.

`Sandbox` opens a port for every one that its settings name. A PSP is loaded only where it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from aegispay.ports import Clock
from aegispay.sandbox.bank import Bank
from aegispay.sandbox.webhooks import Outbox
from aegispay.sandbox.wire import Psp


class ServedPsp(Psp, Protocol):
    """A PSP that knows where it listens, for the pages that it sends payers to, and that has notices to send."""

    @property
    def base_url(self) -> str: ...

    @base_url.setter
    def base_url(self, url: str) -> None: ...

    @property
    def outbox(self) -> Outbox: ...


@runtime_checkable
class PayerWaits(Protocol):
    """A PSP at which a payment fails when its payer takes too long."""

    payer_timeout_s: float


def _razorpay(bank: Bank, clock: Clock, seed: int | None) -> ServedPsp:
    from aegispay.sandbox.razorpay_face import RazorpayPsp

    return RazorpayPsp(bank, clock=clock, seed=seed)


def _adyen(bank: Bank, clock: Clock, seed: int | None) -> ServedPsp:
    from aegispay.sandbox.adyen_face import AdyenPsp

    return AdyenPsp(bank, clock=clock, seed=seed)


def _paypal(bank: Bank, clock: Clock, seed: int | None) -> ServedPsp:
    from aegispay.sandbox.paypal_face import PayPalPsp

    return PayPalPsp(bank, clock=clock, seed=seed)


def _braintree(bank: Bank, clock: Clock, seed: int | None) -> ServedPsp:
    from aegispay.sandbox.braintree_face import BraintreePsp

    return BraintreePsp(bank, clock=clock, seed=seed)


MAKERS: dict[str, Callable[[Bank, Clock, int | None], ServedPsp]] = {
    "razorpay": _razorpay,
    "paypal": _paypal,
    "adyen": _adyen,
    "braintree": _braintree,
}
"""Each maker gives a test account with the keys that its class has by default."""
