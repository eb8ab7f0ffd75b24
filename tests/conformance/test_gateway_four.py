"""Razorpay, PayPal, Braintree and Adyen pass the gateways' conformance suite, each on its own face of the sandbox."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from aegispay.testing.gateway_conformance import GatewayConformance, Rig
from tests.conformance.gateway_rigs import adyen_rig, braintree_rig, paypal_rig, razorpay_rig, served


class TestRazorpay(GatewayConformance):
    @pytest.fixture
    async def rig(self) -> AsyncIterator[Rig]:
        async with served(razorpay_rig, "razorpay") as rig:
            yield rig


class TestPayPal(GatewayConformance):
    @pytest.fixture
    async def rig(self) -> AsyncIterator[Rig]:
        async with served(paypal_rig, "paypal") as rig:
            yield rig


class TestBraintree(GatewayConformance):
    @pytest.fixture
    async def rig(self) -> AsyncIterator[Rig]:
        async with served(braintree_rig, "braintree") as rig:
            yield rig


class TestAdyen(GatewayConformance):
    @pytest.fixture
    async def rig(self) -> AsyncIterator[Rig]:
        async with served(adyen_rig, "adyen") as rig:
            yield rig
