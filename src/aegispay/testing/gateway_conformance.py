"""What every gateway must do. Subclass `GatewayConformance`, give it a `rig` fixture, and run it with pytest.

    class TestMyGateway(GatewayConformance):
        @pytest.fixture
        def rig(self):
            psp = MyFakePsp()
            return Rig(
                make=lambda transport, clock: MyGateway("key", transport=transport),
                books=psp.books,
                approves="tok_good",
                declines={"tok_bad": DeclineCategory.SOFT},
                transport=psp,
            )

The adapter sends through the `Transport` port, so that the suite can break any of its exchanges. The PSP is yours: a fake
one over the `Transport` port, a sandbox, or the real one's test account. Needs pytest and pytest-asyncio.
"""

from __future__ import annotations

from aegispay.testing.faulty_transport import FaultyTransport, SteppingClock
from aegispay.testing.gateway_amounts import AmountConformance
from aegispay.testing.gateway_evidence import CancelConformance, LookupConformance, StableKeyConformance
from aegispay.testing.gateway_faults import FaultConformance
from aegispay.testing.gateway_key_life import KeyLifeConformance
from aegispay.testing.gateway_outcomes import OperationConformance, OutcomeConformance
from aegispay.testing.gateway_refusals import RefusalConformance
from aegispay.testing.gateway_rig import Bench, Books, ConformanceFailure, Rig, open_bench
from aegispay.testing.gateway_secrets import SecretConformance

__all__ = [
    "Bench",
    "Books",
    "ConformanceFailure",
    "FaultyTransport",
    "GatewayConformance",
    "Rig",
    "SteppingClock",
    "open_bench",
]


class GatewayConformance(
    OutcomeConformance,
    OperationConformance,
    StableKeyConformance,
    KeyLifeConformance,
    LookupConformance,
    CancelConformance,
    FaultConformance,
    RefusalConformance,
    AmountConformance,
    SecretConformance,
):
    """The whole suite."""
