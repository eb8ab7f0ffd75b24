"""What somebody does at a PSP's own pages, heard through the real adapters: our books end as the bank's, in any order."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from aegispay.domain.events import OperationKind
from aegispay.domain.methods import Token
from aegispay.domain.outcomes import Approved
from aegispay.domain.states import PaymentState
from aegispay.gateways.gateway import Gateway
from aegispay.gateways.http import Transport
from aegispay.gateways.stripe import StripeGateway
from aegispay.gateways.webhooks import GatewayEvent
from aegispay.orchestration.outside import NotYet, Outside
from aegispay.ports import Clock
from aegispay.sandbox.braintree_face import BraintreePsp
from aegispay.sandbox.stripe_notices import sign
from aegispay.sandbox.webhooks import Notice
from aegispay.testing.simulation.dashboards import Act, is_last
from tests.orchestration.stage import Adapter, Stage, usd

Make = Callable[..., Stage]
S = PaymentState


@pytest_asyncio.fixture
async def make_stage(tmp_path: Path) -> AsyncIterator[Make]:
    made: list[Stage] = []

    def make(name: str, adapter: Adapter | None = None) -> Stage:
        stage = Stage(name, tmp_path / f"stage{len(made)}.db", adapter)
        made.append(stage)
        return stage

    yield make
    for stage in made:
        await stage.pay.stop(grace_s=0.001)


def multicapture(transport: Transport, clock: Clock) -> Gateway:
    """Stripe, for an account that may capture a payment several times."""
    return StripeGateway(
        "sk_test_sandbox",
        base_url="https://stripe.example",
        webhook_secrets=["whsec_sandbox"],
        transport=transport,
        lookup_quiet_s=900,
        clock=clock,
        multi_capture=True,
    )


def an_amount(stage: Stage, *, last: bool, under: int = 60_00) -> int:
    """The greatest amount below which somebody at PayPal's pages calls the last one, or does not."""
    charge = stage.bank.charges()[0]
    return next(minor for minor in range(under, 0, -1) if is_last(charge, usd(minor)) is last)


# --- the last capture ---------------------------------------------------------------------------------------


async def test_what_the_last_capture_at_paypal_leaves_is_released(make_stage: Make) -> None:
    stage = make_stage("paypal")
    await stage.authorize()
    minor = an_amount(stage, last=True)
    await stage.tell(*stage.somebody(Act.CAPTURE, minor))
    heard = await stage.payment()
    assert (heard.captured_minor, heard.released_minor, heard.state) == (minor, 100_00 - minor, S.SUCCEEDED)
    await stage.days(31)
    after = await stage.payment()
    assert (after.state, after.review) == (S.SUCCEEDED, None)
    assert await stage.pay.store.count_in_flight() == 0


@pytest.mark.parametrize("order", list(itertools.permutations(range(2))))
async def test_the_last_of_two_captures_at_paypal_may_be_heard_first(
    make_stage: Make, order: tuple[int, ...]
) -> None:
    stage = make_stage("paypal")
    await stage.authorize()
    first = an_amount(stage, last=False)
    last = an_amount(stage, last=True, under=30_00)
    told = [stage.somebody(Act.CAPTURE, first), stage.somebody(Act.CAPTURE, last)]
    for number in order:
        await stage.tell(*told[number])
    await stage.days(1)
    after = await stage.payment()
    assert (after.captured_minor, after.review) == (stage.captured_minor(), None)
    assert (after.released_minor, after.state) == (100_00 - first - last, S.SUCCEEDED)


async def test_a_notice_that_calls_a_capture_the_last_is_not_believed_where_paypal_does_not_say_so(
    make_stage: Make,
) -> None:
    """The signature covers no more than a checksum, so the word in the notice could be anybody's."""
    stage = make_stage("paypal")
    await stage.authorize()
    stage.somebody(Act.CAPTURE, an_amount(stage, last=False))
    payment = await stage.payment()
    capture = stage.bank.movements()[-1]
    event = GatewayEvent(
        id="WH-1",
        type="PAYMENT.CAPTURE.COMPLETED",
        at_us=0,
        kind=OperationKind.CAPTURE,
        outcome=Approved(reference=capture.movement_id, amount_minor=capture.amount_minor),
        payment_id=payment.id,
        reference=capture.movement_id,
        must_look_up=True,
        forgeable=True,
        final=True,
    )
    outside = Outside(stage.pay._orchestrator.engine)
    with pytest.raises(NotYet):
        await outside.operation(payment, event, "paypal")
    await outside.operation(payment, msgspec.structs.replace(event, final=False), "paypal")
    after = await stage.payment()
    assert (after.captured_minor, after.state) == (capture.amount_minor, S.AUTHORIZED)


async def test_a_capture_in_stripes_dashboard_is_the_last_though_the_account_may_capture_again(
    make_stage: Make,
) -> None:
    stage = make_stage("stripe", multicapture)
    await stage.authorize()
    await stage.tell(*stage.somebody(Act.CAPTURE, 60_00))
    heard = await stage.payment()
    assert (heard.captured_minor, heard.released_minor, heard.state) == (60_00, 40_00, S.SUCCEEDED)
    await stage.days(10)
    assert (await stage.payment()).review is None


# --- the endpoint's API version -----------------------------------------------------------------------------


def as_of_2022_08_01(body: bytes, *, failed_before: bool, charges: bool = True) -> bytes:
    """The event for an endpoint whose version lists all charges in place of the latest one."""
    event = msgspec.json.decode(body)
    intent = event["data"]["object"]
    latest = intent.pop("latest_charge", None)
    if charges:
        listed = [{"id": latest, "object": "charge", "status": "succeeded"}] if latest else []
        failed = (
            [{"id": "ch_of_the_first_card", "object": "charge", "status": "failed"}] if failed_before else []
        )
        intent["charges"] = {"object": "list", "data": listed + failed}
    return msgspec.json.encode(event)


async def tell_as(stage: Stage, notices: Sequence[Notice], older: Callable[[bytes], bytes]) -> None:
    for notice in notices:
        body = older(notice.body)
        signature = sign("whsec_sandbox", body, stage.clock.now_us())
        await stage.tell_body({"stripe-signature": signature}, body)


@pytest.mark.parametrize("failed_before", [False, True])
@pytest.mark.parametrize("ours", [False, True])
async def test_an_endpoint_with_an_old_api_version_tells_of_a_capture_by_the_name_that_we_know(
    make_stage: Make, ours: bool, failed_before: bool
) -> None:
    stage = make_stage("stripe")
    await stage.authorize()
    if ours:
        await stage.pay.capture(stage.payment_id, usd(40_00), idempotency_key="c")
        told = stage.news()
    else:
        told = stage.somebody(Act.CAPTURE, 40_00)
    assert told
    await tell_as(stage, told, partial(as_of_2022_08_01, failed_before=failed_before))
    await tell_as(stage, told, partial(as_of_2022_08_01, failed_before=failed_before))
    await stage.days(2)
    after = await stage.payment()
    assert (after.captured_minor, after.released_minor, after.review) == (40_00, 60_00, None)
    assert stage.captured_minor() == 40_00
    assert (after.operations[-1].reference or "").startswith("ch_")


async def test_a_capture_that_stripe_does_not_name_is_not_booked_but_asked_about(make_stage: Make) -> None:
    stage = make_stage("stripe")
    await stage.authorize()
    told = stage.somebody(Act.CAPTURE, 40_00)
    await tell_as(stage, told, partial(as_of_2022_08_01, failed_before=False, charges=False))
    assert (await stage.payment()).captured_minor == 0
    await stage.days(2)
    after = await stage.payment()
    assert (after.captured_minor, (after.review or "")[:16]) == (0, "unapplied_notice")


# --- several captures at Stripe -----------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(itertools.permutations(range(2))))
@pytest.mark.parametrize("minor", [70_00, 25_00])
async def test_a_capture_in_stripes_dashboard_after_ours_is_booked_beside_them(
    make_stage: Make, minor: int, order: tuple[int, ...]
) -> None:
    """All captures share one charge, and the intent knows their sum only: our marks tell ours from somebody's."""
    stage = make_stage("stripe", multicapture)
    await stage.authorize()
    for number, part in enumerate((10_00, 20_00)):
        await stage.pay.capture(stage.payment_id, usd(part), final=False, idempotency_key=f"c{number}")
    told = [stage.news(), stage.somebody(Act.CAPTURE, minor)]
    for number in (*order, *order):
        await stage.tell(*told[number])
    await stage.days(2)
    after = await stage.payment()
    assert (after.captured_minor, after.released_minor) == (30_00 + minor, 70_00 - minor)
    assert (after.state, after.review) == (S.SUCCEEDED, None)
    assert stage.captured_minor() == 30_00 + minor
    refunded = await stage.pay.refund(stage.payment_id, idempotency_key="r")
    assert refunded.is_success() and stage.bank.charges()[0].net_minor == 0


async def test_our_own_last_capture_at_stripe_is_not_taken_for_somebodys(make_stage: Make) -> None:
    stage = make_stage("stripe", multicapture)
    await stage.authorize()
    await stage.pay.capture(stage.payment_id, usd(10_00), final=False, idempotency_key="c0")
    await stage.pay.capture(stage.payment_id, usd(20_00), idempotency_key="c1")
    told = stage.news()
    await stage.tell(*told)
    await stage.days(2)
    after = await stage.payment()
    assert (after.captured_minor, after.released_minor, after.review) == (30_00, 70_00, None)
    assert len(after.operations) == 3


async def test_marks_that_somebody_changed_prove_nothing_and_a_person_is_asked(make_stage: Make) -> None:
    def changed(body: bytes) -> bytes:
        event = msgspec.json.decode(body)
        metadata = event["data"]["object"]["metadata"]
        metadata.update({key: "see invoice" for key in metadata if key.startswith("op_")})
        return msgspec.json.encode(event)

    stage = make_stage("stripe", multicapture)
    await stage.authorize()
    await stage.pay.capture(stage.payment_id, usd(30_00), final=False, idempotency_key="c")
    await stage.tell(*stage.news())
    await tell_as(stage, stage.somebody(Act.CAPTURE, 70_00), changed)
    await stage.days(2)
    after = await stage.payment()
    assert (after.captured_minor, (after.review or "")[:16]) == (30_00, "unapplied_notice")


# --- Braintree ----------------------------------------------------------------------------------------------


def braintree_face_of(stage: Stage) -> BraintreePsp:
    assert isinstance(stage.face, BraintreePsp)
    return stage.face


def sale_of(stage: Stage) -> str:
    """What Braintree's own pages and notices call the transaction."""
    return stage.bank.charges()[0].charge_id


async def test_that_a_sale_settled_which_we_only_authorised_is_news_of_somebodys_capture(
    make_stage: Make,
) -> None:
    stage = make_stage("braintree")
    await stage.authorize()
    face = braintree_face_of(stage)
    face.dashboard_capture(sale_of(stage), "60.00")
    face.tell_settled(sale_of(stage))
    told = stage.news()
    await stage.tell(*told, *told)
    await stage.days(10)
    after = await stage.payment()
    assert (after.captured_minor, after.released_minor) == (60_00, 40_00)
    assert (after.state, after.review) == (S.SUCCEEDED, None)
    assert stage.captured_minor() == 60_00


async def test_that_a_sale_settled_which_we_captured_is_no_news(make_stage: Make) -> None:
    stage = make_stage("braintree")
    await stage.authorize()
    await stage.pay.capture(stage.payment_id, usd(60_00), idempotency_key="c")
    before = await stage.payment()
    braintree_face_of(stage).tell_settled(sale_of(stage))
    told = stage.news()
    await stage.tell(*told, *told)
    await stage.days(2)
    after = await stage.payment()
    assert (after.operations, after.review) == (before.operations, None)


async def test_that_a_sale_settled_while_its_authorisation_is_in_doubt_proves_both(make_stage: Make) -> None:
    stage = make_stage("braintree")
    await stage.pay.start()
    stage.wire.answers_lost = True
    made = await stage.pay.authorize(usd(100_00), Token(stage.token), idempotency_key="k")
    stage.payment_id = made.payment_id
    assert (await stage.payment()).unfinished
    face = braintree_face_of(stage)
    face.dashboard_capture(sale_of(stage), "60.00")
    face.tell_settled(sale_of(stage))
    stage.wire.answers_lost = False
    await stage.tell(*stage.news())
    assert (await stage.payment()).state is S.AUTHORIZED
    await stage.days(2)
    after = await stage.payment()
    assert (after.authorized_minor, after.captured_minor, after.released_minor) == (100_00, 60_00, 40_00)
    assert (after.state, after.review) == (S.SUCCEEDED, None)


async def test_that_a_sale_settled_while_our_capture_is_in_doubt_is_that_capture(make_stage: Make) -> None:
    stage = make_stage("braintree")
    await stage.authorize()
    stage.wire.answers_lost = True
    await stage.pay.capture(stage.payment_id, usd(60_00), idempotency_key="c", timeout_s=1.0)
    braintree_face_of(stage).tell_settled(sale_of(stage))
    stage.wire.answers_lost = False
    await stage.tell(*stage.news())
    await stage.days(2)
    after = await stage.payment()
    assert (after.captured_minor, after.released_minor, after.review) == (60_00, 40_00, None)
    assert [op.kind for op in after.operations] == [OperationKind.AUTHORIZE, OperationKind.CAPTURE]
    assert after.operations[-1].reason is None
