"""Our own adapters pass the gateways' conformance suite."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from aegispay.gateways.capabilities import Capabilities
from aegispay.testing.gateway_conformance import GatewayConformance, Rig
from tests.conformance.gateway_rigs import instant_rig, plainpay_rig, served, stripe_rig


class TestStripe(GatewayConformance):
    @pytest.fixture
    async def rig(self) -> AsyncIterator[Rig]:
        async with served(stripe_rig) as rig:
            yield rig


class TestStripeWithMultiCapture(GatewayConformance):
    @pytest.fixture
    async def rig(self) -> AsyncIterator[Rig]:
        async with served(stripe_rig, multi_capture=True) as rig:
            yield rig


class TestStripeWithoutSearch(GatewayConformance):
    @pytest.fixture
    async def rig(self) -> AsyncIterator[Rig]:
        async with served(stripe_rig, search=False) as rig:
            yield rig


class TestPlainPay(GatewayConformance):
    @pytest.fixture
    async def rig(self) -> AsyncIterator[Rig]:
        async with served(plainpay_rig) as rig:
            yield rig


class TestInstant(GatewayConformance):
    @pytest.fixture
    def rig(self) -> Rig:
        return instant_rig()


class TestInstantWithFewCapabilities(GatewayConformance):
    """Every capability that may be missing is missing: each is refused."""

    @pytest.fixture
    def rig(self) -> Rig:
        few = Capabilities(
            void=False,
            refund=False,
            partial_capture=False,
            partial_refund=False,
            next_action=False,
            stable_key=True,
            stable_key_ttl_s=86_400.0,
        )
        return instant_rig(few)


class TestInstantWithChargeOnly(GatewayConformance):
    @pytest.fixture
    def rig(self) -> Rig:
        only = Capabilities(
            authorize=False, next_action=False, lookup_by_reference=True, partial_refund=False
        )
        return instant_rig(only)
