"""Razorpay, PayPal, Braintree and Adyen pass the gateways' conformance suite, each on its own face of the sandbox."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from aegispay.sandbox.server import Sandbox, SandboxSettings
from aegispay.testing.gateway_conformance import GatewayConformance, Rig
from tests.conformance.gateway_rigs import adyen_rig, braintree_rig, paypal_rig, razorpay_rig


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
