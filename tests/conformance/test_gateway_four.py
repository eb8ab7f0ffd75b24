"""Razorpay, PayPal, Braintree and Adyen pass the gateways' conformance suite, each on its own face of the sandbox."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from aegispay.sandbox.server import Sandbox, SandboxSettings
from aegispay.testing.gateway_conformance import Bench, ConformanceFailure, GatewayConformance, Rig
from tests.conformance.gateway_rigs import adyen_rig, braintree_rig, only_about, paypal_rig, razorpay_rig

RUPEES = pytest.mark.xfail(
    strict=True,
    raises=ConformanceFailure,
    reason="PayPal's adapter and PayPal's face do not agree on which currencies PayPal takes",
)


class TestRazorpay(GatewayConformance):
    @pytest.fixture
    async def rig(self) -> AsyncIterator[Rig]:
        async with Sandbox(settings=SandboxSettings(more_psps=("razorpay",))) as sandbox:
            yield razorpay_rig(sandbox)


class TestPayPal(GatewayConformance):
    @pytest.fixture
    async def rig(self) -> AsyncIterator[Rig]:
        async with Sandbox(settings=SandboxSettings(more_psps=("paypal",))) as sandbox:
            yield paypal_rig(sandbox)

    @RUPEES
    async def test_amounts_survive_every_currency(self, bench: Bench) -> None:
        with only_about("INR", "RUB"):
            await super().test_amounts_survive_every_currency(bench)

    @RUPEES
    async def test_captures_survive_every_currency(self, bench: Bench) -> None:
        with only_about("INR", "RUB"):
            await super().test_captures_survive_every_currency(bench)


class TestBraintree(GatewayConformance):
    @pytest.fixture
    async def rig(self) -> AsyncIterator[Rig]:
        async with Sandbox(settings=SandboxSettings(more_psps=("braintree",))) as sandbox:
            yield braintree_rig(sandbox)


class TestAdyen(GatewayConformance):
    @pytest.fixture
    async def rig(self) -> AsyncIterator[Rig]:
        async with Sandbox(settings=SandboxSettings(more_psps=("adyen",))) as sandbox:
            yield adyen_rig(sandbox)
