"""Adapters with one fault each: the conformance suite must catch every one of them, by the test that is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from aegispay.domain.events import OperationKind
from aegispay.domain.methods import Card
from aegispay.domain.money import Money
from aegispay.domain.outcomes import Approved, DeclineCategory, Declined, InDoubt, NotSent, Outcome, Pending
from aegispay.gateways.capabilities import KindEvidence
from aegispay.gateways.gateway import Found, GatewayCall, Health, Lookup, LookupFailed, NotFound, Tokenized
from aegispay.gateways.http import HttpReply
from aegispay.gateways.stripe import StripeGateway
from aegispay.sandbox.plainpay_gateway import PlainPayGateway
from aegispay.testing.gateway_conformance import ConformanceFailure, GatewayConformance, open_bench
from tests.conformance.gateway_rigs import plainpay_rig, served, stripe_rig

K = OperationKind


# --- outcomes -----------------------------------------------------------------------------------------------


class TimeOutIsNotSent(StripeGateway):
    """The classic: a time-out is taken for "nothing happened", and the payment is tried elsewhere."""

    async def charge(self, call: GatewayCall) -> Outcome:
        outcome = await super().charge(call)
        return NotSent(reason="timeout") if isinstance(outcome, InDoubt) else outcome


class ServerErrorIsDecline(StripeGateway):
    async def refund(self, call: GatewayCall) -> Outcome:
        outcome = await super().refund(call)
        if isinstance(outcome, InDoubt) and outcome.reason == "server_error":
            return Declined(category=DeclineCategory.SOFT, code="server_error")
        return outcome


class RefusedIsDoubt(StripeGateway):
    async def perform(self, call: GatewayCall) -> Outcome:
        outcome = await super().perform(call)
        return InDoubt(reason=outcome.reason) if isinstance(outcome, NotSent) else outcome


class StolenIsSoft(StripeGateway):
    async def charge(self, call: GatewayCall) -> Outcome:
        outcome = await super().charge(call)
        return replace(outcome, category=DeclineCategory.SOFT) if isinstance(outcome, Declined) else outcome


class ActionIsApproved(PlainPayGateway):
    async def charge(self, call: GatewayCall) -> Outcome:
        outcome = await super().charge(call)
        reference = getattr(outcome, "reference", None)
        if isinstance(outcome, Approved | Declined | InDoubt | NotSent | Pending) or reference is None:
            return outcome
        return Approved(reference=reference, amount_minor=call.amount.amount_minor)


class ProcessingIsApproved(StripeGateway):
    async def charge(self, call: GatewayCall) -> Outcome:
        outcome = await super().charge(call)
        if isinstance(outcome, Pending):
            return Approved(reference=outcome.reference or "", amount_minor=call.amount.amount_minor)
        return outcome


class RaisesOnGarbage(PlainPayGateway):
    async def void(self, call: GatewayCall) -> Outcome:
        outcome = await super().void(call)
        if isinstance(outcome, InDoubt) and outcome.reason == "garbage":
            raise ValueError("not JSON")
        return outcome


class BelievesAnything200(PlainPayGateway):
    """Any 2xx is a success, whoever said it."""

    async def capture(self, call: GatewayCall) -> Outcome:
        path = f"/payments/{call.parent_reference}/captures"
        body = {"reference": call.operation_id, "amount_minor": call.amount.amount_minor, "final": call.final}
        reply = await self._send("POST", path, call.timeout_s, body)
        if isinstance(reply, HttpReply) and reply.status == 200:
            return Approved(reference="x", amount_minor=call.amount.amount_minor)
        return await super().capture(call) if isinstance(reply, HttpReply) else reply


# --- sending ------------------------------------------------------------------------------------------------


class RetriesByItself(PlainPayGateway):
    async def charge(self, call: GatewayCall) -> Outcome:
        outcome = await super().charge(call)
        return await super().charge(call) if isinstance(outcome, InDoubt) else outcome


class IgnoresItsTimeOut(StripeGateway):
    async def charge(self, call: GatewayCall) -> Outcome:
        return await super().charge(replace(call, timeout_s=call.timeout_s * 2))


class EachRequestHasAllTheTime(StripeGateway):
    """Two requests, and neither knows of the other's time."""

    async def confirm(self, call: GatewayCall) -> Outcome:
        await self._client.get("/v1/balance", [], call.timeout_s)
        return await super().confirm(call)


class KeepsTheLastCall(PlainPayGateway):
    """State of one call in the adapter: two at a time mix."""

    async def charge(self, call: GatewayCall) -> Outcome:
        self.last = call
        outcome = await super().charge(call)
        if isinstance(outcome, Approved):
            return replace(outcome, amount_minor=self.last.amount.amount_minor)
        return outcome


# --- evidence -----------------------------------------------------------------------------------------------


class NewKeyEachTime(StripeGateway):
    """The key is made when the request is sent, and not when the operation was recorded."""

    sends = 0

    async def charge(self, call: GatewayCall) -> Outcome:
        type(self).sends += 1
        return await super().charge(replace(call, gateway_key=f"{call.gateway_key}{self.sends}"))


class TimeInTheBody(StripeGateway):
    """The body differs from send to send, so the PSP refuses the resend."""

    async def refund(self, call: GatewayCall) -> Outcome:
        return await super().refund(replace(call, amount=call.amount, payment_id=f"{id(self):x}"))


class ClaimsStableKey(PlainPayGateway):
    """Declares what the PSP does not do."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.capabilities = replace(self.capabilities, stable_key=True, stable_key_ttl_s=3600.0)


class KeyWithoutTtl(StripeGateway):
    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.capabilities = replace(self.capabilities, stable_key_ttl_s=0.0)


class ClaimsAKeyForRefunds(PlainPayGateway):
    """Declares for one kind what the PSP does for none."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        own = {K.REFUND: KindEvidence(key_ttl_s=3600.0)}
        self.capabilities = replace(self.capabilities, by_kind=own)


class KeepsKeysTooLong(StripeGateway):
    """Declares two days where Stripe keeps keys for one: a resend on the second day executes again."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.capabilities = replace(self.capabilities, stable_key_ttl_s=2 * 86_400.0)


class RefundKeysTooLong(StripeGateway):
    """The same, for one kind only."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        own = {K.REFUND: KindEvidence(key_ttl_s=2 * 86_400.0)}
        self.capabilities = replace(self.capabilities, by_kind=own)


class FindsNoVoid(PlainPayGateway):
    """Looks up everything but voids, and does not declare the exception."""

    async def look_up(self, call: GatewayCall) -> Lookup:
        return NotFound() if call.kind is K.VOID else await super().look_up(call)


class FailedLookupIsNotFound(StripeGateway):
    """A look-up that breaks is taken for "nothing there"."""

    async def look_up(self, call: GatewayCall) -> Lookup:
        found = await super().look_up(call)
        return NotFound() if isinstance(found, LookupFailed) else found


class FindsNothing(PlainPayGateway):
    async def look_up(self, call: GatewayCall) -> Lookup:
        return NotFound()


class FindsEverything(PlainPayGateway):
    async def look_up(self, call: GatewayCall) -> Lookup:
        found = await super().look_up(call)
        if isinstance(found, NotFound):
            return Found(outcome=Approved(reference="x", amount_minor=call.amount.amount_minor))
        return found


class FindsTheNeighbour(StripeGateway):
    """Any refund of the payment is taken for this one."""

    async def look_up(self, call: GatewayCall) -> Lookup:
        found = await super().look_up(call)
        if call.kind is K.REFUND and isinstance(found, NotFound):
            reply = await self._client.get(
                "/v1/refunds", [("payment_intent", call.parent_reference or "")], 5.0
            )
            if isinstance(reply, HttpReply) and msgspec.json.decode(reply.body)["data"]:
                return Found(outcome=Approved(reference="re", amount_minor=call.amount.amount_minor))
        return found


class CancelsNothing(PlainPayGateway):
    """Says that the reference is canceled, and tells nobody."""

    async def cancel_by_reference(self, call: GatewayCall) -> Outcome:
        return Approved(reference=call.operation_id, amount_minor=call.amount.amount_minor)


# --- amounts, capabilities, secrets, health -----------------------------------------------------------------


class HundredfoldYen(PlainPayGateway):
    """Two decimals for every currency."""

    async def charge(self, call: GatewayCall) -> Outcome:
        shift = 10 ** (2 - call.amount.currency.exponent) if call.amount.currency.exponent < 2 else 1
        sent = Money(call.amount.amount_minor * shift, call.amount.currency)
        outcome = await super().charge(replace(call, amount=sent))
        if isinstance(outcome, Approved):
            return replace(outcome, amount_minor=outcome.amount_minor // shift)
        return outcome


class AnswersInThePspsUnits(StripeGateway):
    """The books are right, and the answer is not: ISK in hundredths."""

    async def charge(self, call: GatewayCall) -> Outcome:
        outcome = await super().charge(call)
        if isinstance(outcome, Approved) and call.amount.code == "ISK":
            return replace(outcome, amount_minor=outcome.amount_minor * 100)
        return outcome


class SendsWhatItRefuses(PlainPayGateway):
    """`check` refuses a currency, and `charge` does not ask it."""

    def check(self, call: GatewayCall) -> None:
        from aegispay.domain.errors import UnsupportedOperation

        if call.amount.code == "XPF":
            raise UnsupportedOperation("PlainPay does not take XPF.")


class ReleasesNothing(PlainPayGateway):
    """A final capture of a part leaves the rest on the card."""

    async def capture(self, call: GatewayCall) -> Outcome:
        return await super().capture(replace(call, final=False))


class SendsAVoidItDoesNotHave(PlainPayGateway):
    def __init__(self, **options: Any):
        super().__init__(**options)
        self.capabilities = replace(self.capabilities, void=False)


class PrintsItsKey(PlainPayGateway):
    def __repr__(self) -> str:
        return f"<PlainPayGateway key={self._api_key}>"


class LogsItsRequests(PlainPayGateway):
    async def charge(self, call: GatewayCall) -> Outcome:
        import logging

        logging.getLogger("plainpay").debug("charging with x-api-key %s", self._api_key)
        return await super().charge(call)


class QuotesTheCard(PlainPayGateway):
    async def tokenize(self, card: Card, timeout_s: float) -> Tokenized | Declined | NotSent:
        made = await super().tokenize(card, timeout_s)
        return NotSent(reason=f"no token for {card.reveal_number()}") if isinstance(made, NotSent) else made


class QuotesTheCvc(PlainPayGateway):
    async def tokenize(self, card: Card, timeout_s: float) -> Tokenized | Declined | NotSent:
        made = await super().tokenize(card, timeout_s)
        return NotSent(reason=f"cvc {card.reveal_cvc()}") if isinstance(made, NotSent) else made


class AlwaysWell(StripeGateway):
    async def health(self, timeout_s: float = 5.0) -> Health:
        return Health(ok=True, latency_ms=1.0)


class ConfirmsAtOnce(PlainPayGateway):
    """Whoever comes back has authenticated."""

    async def confirm(self, call: GatewayCall) -> Outcome:
        return Approved(reference=call.parent_reference or "", amount_minor=call.amount.amount_minor)


class StrangerIsDeclined(StripeGateway):
    async def charge(self, call: GatewayCall) -> Outcome:
        outcome = await super().charge(call)
        if isinstance(outcome, NotSent) and outcome.reason == "unauthorized":
            return Declined(category=DeclineCategory.INVALID, code="unauthorized")
        return outcome


class TokenizeRaises(PlainPayGateway):
    async def tokenize(self, card: Card, timeout_s: float) -> Tokenized | Declined | NotSent:
        made = await super().tokenize(card, timeout_s)
        if isinstance(made, NotSent):
            raise ConnectionError(made.reason)
        return made


class KeyByAmount(StripeGateway):
    """The key depends on the amount too, so another amount is another payment."""

    async def charge(self, call: GatewayCall) -> Outcome:
        return await super().charge(
            replace(call, gateway_key=f"{call.gateway_key}{call.amount.amount_minor}")
        )


class RefundsOneLess(PlainPayGateway):
    async def refund(self, call: GatewayCall) -> Outcome:
        less = Money(call.amount.amount_minor - 1, call.amount.currency)
        outcome = await super().refund(replace(call, amount=less))
        minor = call.amount.amount_minor
        return replace(outcome, amount_minor=minor) if isinstance(outcome, Approved) else outcome


class FindsDeclinesPaid(StripeGateway):
    async def look_up(self, call: GatewayCall) -> Lookup:
        found = await super().look_up(call)
        if isinstance(found, Found) and isinstance(found.outcome, Declined):
            return Found(outcome=Approved(reference="pi", amount_minor=call.amount.amount_minor))
        return found


Fault = tuple[type, str, dict[str, Any]]
FAULTS: list[Fault] = [
    (TimeOutIsNotSent, "test_whatever_breaks_the_outcome_is_true", {"kind": K.CHARGE}),
    (TimeOutIsNotSent, "test_a_refused_connection_is_proof_and_a_time_out_is_doubt", {}),
    (ServerErrorIsDecline, "test_whatever_breaks_the_outcome_is_true", {"kind": K.REFUND}),
    (RefusedIsDoubt, "test_a_refused_connection_is_never_taken_for_more_than_it_is", {"kind": K.CHARGE}),
    (StolenIsSoft, "test_every_decline_has_its_category_and_moves_nothing", {}),
    (ActionIsApproved, "test_a_payer_is_asked_and_nothing_moves_until_they_have_acted", {}),
    (ProcessingIsApproved, "test_what_is_accepted_and_not_done_yet_is_pending", {}),
    (RaisesOnGarbage, "test_whatever_breaks_the_outcome_is_true", {"kind": K.VOID}),
    (BelievesAnything200, "test_whatever_breaks_the_outcome_is_true", {"kind": K.CAPTURE}),
    (RetriesByItself, "test_whatever_breaks_the_outcome_is_true", {"kind": K.CHARGE}),
    (IgnoresItsTimeOut, "test_a_payment_is_approved_and_the_money_moved", {"kind": K.CHARGE}),
    (EachRequestHasAllTheTime, "test_all_requests_together_keep_to_the_time_out", {"kind": K.CONFIRM}),
    (KeepsTheLastCall, "test_calls_at_the_same_time_do_not_mix", {}),
    (NewKeyEachTime, "test_a_resend_replays_the_first_answer", {"kind": K.CHARGE}),
    (NewKeyEachTime, "test_a_resend_after_a_crash_is_the_very_same_bytes", {"kind": K.CHARGE}),
    (TimeInTheBody, "test_a_resend_after_a_crash_is_the_very_same_bytes", {"kind": K.REFUND}),
    (
        ClaimsStableKey,
        "test_after_a_crash_a_resend_ends_the_doubt_once",
        {"kind": K.CHARGE, "executed": True},
    ),
    (KeyWithoutTtl, "test_how_long_a_key_is_kept_is_declared", {}),
    (
        ClaimsAKeyForRefunds,
        "test_after_a_crash_a_resend_ends_the_doubt_once",
        {"kind": K.REFUND, "executed": True},
    ),
    (KeepsKeysTooLong, "test_a_key_is_kept_to_the_end_of_its_declared_life", {"kind": K.CHARGE}),
    (RefundKeysTooLong, "test_a_key_is_kept_to_the_end_of_its_declared_life", {"kind": K.REFUND}),
    (FindsNoVoid, "test_what_happened_is_found", {"kind": K.VOID}),
    (FailedLookupIsNotFound, "test_a_look_up_that_breaks_proves_nothing", {"kind": K.CHARGE}),
    (FindsNothing, "test_what_happened_is_found", {"kind": K.REFUND}),
    (FindsEverything, "test_what_did_not_happen_is_not_found", {"kind": K.CHARGE}),
    (FindsTheNeighbour, "test_one_operation_is_not_taken_for_another_like_it", {"kind": K.REFUND}),
    (CancelsNothing, "test_what_lands_after_its_cancel_is_refused", {"kind": K.CHARGE}),
    (CancelsNothing, "test_an_approved_cancel_is_true_of_what_was_executed", {"kind": K.CHARGE}),
    (HundredfoldYen, "test_amounts_survive_every_currency", {}),
    (AnswersInThePspsUnits, "test_amounts_survive_every_currency", {}),
    (SendsWhatItRefuses, "test_amounts_survive_every_currency", {}),
    (ReleasesNothing, "test_a_partial_capture_takes_its_part_and_releases_the_rest", {}),
    (
        SendsAVoidItDoesNotHave,
        "test_the_adapter_itself_sends_nothing_that_it_does_not_declare",
        {"kind": K.VOID},
    ),
    (PrintsItsKey, "test_no_secret_shows_anywhere", {}),
    (LogsItsRequests, "test_no_secret_shows_anywhere", {}),
    (QuotesTheCard, "test_no_secret_shows_anywhere", {}),
    (QuotesTheCvc, "test_no_secret_shows_anywhere", {}),
    (ConfirmsAtOnce, "test_a_confirmation_before_the_payer_has_acted_is_no_approval", {}),
    (StrangerIsDeclined, "test_unknown_credentials_are_proof_that_nothing_was_executed", {}),
    (TokenizeRaises, "test_whatever_breaks_a_card_is_a_token_or_nothing", {}),
    (KeyByAmount, "test_a_key_with_another_amount_is_never_a_second_payment", {}),
    (RefundsOneLess, "test_several_refunds_each_give_their_part_back", {}),
    (FindsDeclinesPaid, "test_a_decline_is_not_looked_up_as_a_success", {}),
    (AlwaysWell, "test_health_says_whether_the_psp_answers", {}),
]
SAYS = {
    "HundredfoldYen": "JPY",
    "AnswersInThePspsUnits": "ISK",
    "SendsWhatItRefuses": "XPF",
    "RetriesByItself": "sent one request twice",
    "QuotesTheCvc": "the CVC shows",
    "KeepsTheLastCall": "among others",
    "RaisesOnGarbage": "raised ValueError",
}
"""Where a test could fail for several reasons: what this fault's message holds."""


@pytest.mark.parametrize(
    ("adapter", "test", "arguments"), FAULTS, ids=lambda one: getattr(one, "__name__", None)
)
async def test_the_fault_is_caught(
    adapter: Callable[..., Any],
    test: str,
    arguments: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    given = dict(arguments)
    if test == "test_no_secret_shows_anywhere":
        given["caplog"] = caplog
    make = stripe_rig if issubclass(adapter, StripeGateway) else plainpay_rig
    async with served(make, adapter=adapter) as rig, open_bench(rig) as bench:
        with pytest.raises(ConformanceFailure) as caught:
            await getattr(GatewayConformance(), test)(bench, **given)
    assert SAYS.get(adapter.__name__, "") in str(caught.value)


def test_every_name_is_a_test_of_the_suite() -> None:
    for _, test, _ in FAULTS:
        assert callable(getattr(GatewayConformance, test))
    assert len({adapter for adapter, _, _ in FAULTS}) >= 30
