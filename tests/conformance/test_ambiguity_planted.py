"""Adapters with one lie each: the ambiguity matrix must catch every one of them, by the promise that it breaks."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import Approved, DeclineCategory, Declined, InDoubt, NotSent, Outcome
from aegispay.gateways.braintree import BraintreeGateway
from aegispay.gateways.gateway import Gateway, GatewayCall, Lookup, NotFound
from aegispay.gateways.http import Transport
from aegispay.gateways.stripe import StripeGateway
from aegispay.ports import Clock
from aegispay.sandbox import braintree_face
from aegispay.testing.ambiguity import PSPS, AmbiguityFailure, MatrixPsp, Trouble, run_cell

K = OperationKind


class DoubtIsNotSent(StripeGateway):
    """A time-out is taken for "nothing happened", and the payment is tried elsewhere."""

    async def perform(self, call: GatewayCall) -> Outcome:
        outcome = await super().perform(call)
        return NotSent(reason=outcome.reason) if isinstance(outcome, InDoubt) else outcome


class DoubtIsSoftDecline(StripeGateway):
    async def perform(self, call: GatewayCall) -> Outcome:
        outcome = await super().perform(call)
        if isinstance(outcome, InDoubt):
            return Declined(category=DeclineCategory.SOFT, code="try_again_later")
        return outcome


class DoubtIsDecline(StripeGateway):
    async def perform(self, call: GatewayCall) -> Outcome:
        outcome = await super().perform(call)
        if isinstance(outcome, InDoubt):
            return Declined(category=DeclineCategory.HARD, code="server_error")
        return outcome


class DoubtIsApproved(StripeGateway):
    async def perform(self, call: GatewayCall) -> Outcome:
        outcome = await super().perform(call)
        if isinstance(outcome, InDoubt):
            return Approved(reference="pi_hoped_for", amount_minor=call.amount.amount_minor)
        return outcome


class NewKeyEachTime(StripeGateway):
    sends = 0

    async def perform(self, call: GatewayCall) -> Outcome:
        self.sends += 1
        return await super().perform(replace(call, gateway_key=f"{call.gateway_key}_{self.sends}"))


class HalfIsApproved(StripeGateway):
    """The PSP's word on the amount is not read."""

    async def perform(self, call: GatewayCall) -> Outcome:
        outcome = await super().perform(call)
        return (
            replace(outcome, amount_minor=outcome.amount_minor // 2)
            if isinstance(outcome, Approved)
            else outcome
        )


class FindsNothing(BraintreeGateway):
    async def look_up(self, call: GatewayCall) -> Lookup:
        return NotFound()


def stripe(adapter: type[StripeGateway]) -> MatrixPsp:
    return replace(
        PSPS["stripe"],
        gateway=lambda transport, clock: adapter(
            "sk_test_sandbox", base_url="https://stripe.example", transport=transport, clock=clock
        ),
    )


def braintree(adapter: type[BraintreeGateway], quiet_s: float | None = None) -> MatrixPsp:
    def gateway(transport: Transport, clock: Clock) -> Gateway:
        return adapter(
            braintree_face.PUBLIC_KEY,
            braintree_face.PRIVATE_KEY,
            {"USD": "sandbox_usd"},
            base_url="https://braintree.example",
            transport=transport,
            clock=clock,
            lookup_quiet_s=quiet_s,
        )

    return replace(PSPS["braintree"], gateway=gateway)


T = Trouble
TWICE = "books say Books(held_minor=0, taken_minor=4000"
NOT_THERE = "not done, and the bank's books say"
PLANTED: dict[str, tuple[MatrixPsp, OperationKind, Trouble, str]] = {
    "not_sent": (stripe(DoubtIsNotSent), K.CHARGE, T.REPLY_LOST, TWICE),
    "not_sent_refund": (stripe(DoubtIsNotSent), K.REFUND, T.KEPT_AFTER, NOT_THERE),
    "soft_decline": (stripe(DoubtIsSoftDecline), K.CHARGE, T.ERROR_AFTER, TWICE),
    "decline": (stripe(DoubtIsDecline), K.CAPTURE, T.GARBAGE, "declined, and the bank's books say"),
    "approved": (stripe(DoubtIsApproved), K.CHARGE, T.REQUEST_LOST, "done, and the bank's books say"),
    "new_key": (stripe(NewKeyEachTime), K.CHARGE, T.REPLY_LOST, TWICE),
    "new_key_late": (stripe(NewKeyEachTime), K.CHARGE, T.LANDS_LATE, TWICE),
    "new_key_crash": (stripe(NewKeyEachTime), K.REFUND, T.CRASH_AFTER, "given_back_minor=1000"),
    "half": (stripe(HalfIsApproved), K.CHARGE, T.REPLY_LOST, "our books say"),
    "finds_nothing": (braintree(FindsNothing), K.CHARGE, T.REPLY_LOST, NOT_THERE),
    "impatient": (
        braintree(BraintreeGateway, 0.001),
        K.REFUND,
        T.LANDS_LATE,
        "told of a failure, and it is done",
    ),
    "impatient_charge": (braintree(BraintreeGateway, 0.001), K.CHARGE, T.LANDS_LATE, "the bank"),
}


@pytest.mark.parametrize("name", list(PLANTED))
def test_a_lie_is_caught(name: str) -> None:
    psp, kind, trouble, said = PLANTED[name]
    with pytest.raises(AmbiguityFailure) as failure:
        run_cell(psp, kind, trouble)
    assert said in str(failure.value)
