"""The Stripe face's webhooks: when which event is sent, and that our adapter and Stripe's own SDK both take it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import stripe
from msgspec.structs import replace

from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import Approved, Declined, Pending, RequiresAction
from aegispay.gateways.stripe import StripeGateway
from aegispay.gateways.webhooks import GatewayEvent, WebhookRejected
from aegispay.sandbox.stripe_notices import INTENT_EVENTS
from aegispay.sandbox.webhooks import Notice, forge
from aegispay.sandbox.wire import WireRequest
from tests.unit.test_sandbox_stripe_psp import Client

SECRET = "whsec_sandbox"
OPERATION = "op_0123456789abcdef0123456789abcdef"
OURS = {"metadata[aegispay_operation]": OPERATION, "metadata[aegispay_payment]": "pay_1"}
AMOUNT = "payment_intent.amount_capturable_updated"
K = OperationKind


@pytest.fixture
def client() -> Client:
    return Client()


def read(client: Client, notice: Notice) -> tuple[Any, list[GatewayEvent]]:
    """The notice as the official SDK reads it and as our adapter does; both have verified it."""
    headers = notice.headers_at(client.clock.now_us())
    event: Any = stripe.Webhook.construct_event(  # type: ignore[no-untyped-call,unused-ignore]
        notice.body, headers["stripe-signature"], SECRET, tolerance=0
    )
    gateway = StripeGateway("sk_test_sandbox", webhook_secrets=[SECRET])
    return event, gateway.parse_webhook(headers, notice.body, client.clock.now_us())


def taken(client: Client) -> list[tuple[Any, GatewayEvent]]:
    """Every waiting notice, read by both; each event of ours has one piece of news."""
    found: list[tuple[Any, GatewayEvent]] = []
    for notice in client.psp.outbox.take():
        event, news = read(client, notice)
        assert (event.type, event.id, len(news)) == (notice.type, notice.id, 1)
        assert news[0].at_us == client.clock.now_us() // 1_000_000 * 1_000_000
        found.append((event, news[0]))
    return found


def told(client: Client) -> list[str]:
    return [event.type for event, _ in taken(client)]


def press(client: Client, intent: Any, action: str) -> None:
    page = WireRequest(method="POST", path=f"/3ds/{intent['id']}", body=f"action={action}".encode())
    client.psp.admit(page)


Does = Callable[[Client], Any]


def hold(client: Client, **more: Any) -> Any:
    return client.intent(capture_method="manual", **more)


def refunded(client: Client) -> Any:
    return client.post("/v1/refunds", {"payment_intent": client.intent()["id"]})


SUCCEEDED, FAILED, CANCELED = (
    f"payment_intent.{what}" for what in ("succeeded", "payment_failed", "canceled")
)
ASKED = "payment_intent.requires_action"
LIVES: dict[str, tuple[Does, list[str]]] = {
    "charge": (lambda client: client.intent(), [SUCCEEDED]),
    "authorize": (hold, [AMOUNT]),
    "capture": (
        lambda client: client.post(f"/v1/payment_intents/{hold(client)['id']}/capture"),
        [AMOUNT, SUCCEEDED],
    ),
    "cancel": (
        lambda client: client.post(f"/v1/payment_intents/{hold(client)['id']}/cancel"),
        [AMOUNT, CANCELED],
    ),
    "decline": (lambda client: client.intent(payment_method="pm_card_chargeDeclined"), [FAILED]),
    "refund": (refunded, [SUCCEEDED, "refund.created"]),
    "3ds": (
        lambda client: press(
            client, client.intent(payment_method="pm_card_threeDSecure2Required"), "authenticate"
        ),
        [ASKED, SUCCEEDED],
    ),
    "3ds that the payer fails": (
        lambda client: press(client, client.intent(payment_method="pm_card_threeDSecure2Required"), "fail"),
        [ASKED, FAILED],
    ),
    "an intent that nobody confirms": (
        lambda client: client.post("/v1/payment_intents", {"amount": 5, "currency": "usd"}),
        [],
    ),
    "a description, which is no event": (
        lambda client: client.post(f"/v1/payment_intents/{client.intent()['id']}", {"description": "x"}),
        [SUCCEEDED],
    ),
    "a refusal of the request itself": (lambda client: client.intent(amount="no"), []),
}


@pytest.mark.parametrize("life", LIVES)
def test_each_step_of_a_payments_life_is_told_once(client: Client, life: str) -> None:
    does, types = LIVES[life]
    does(client)
    assert told(client) == types


def test_two_captures_and_the_rest_released_are_told_one_by_one(client: Client) -> None:
    multi = {"payment_method_options[card][request_multicapture]": "if_available"}
    path = f"/v1/payment_intents/{hold(client, **multi)['id']}/capture"
    client.post(path, {"amount_to_capture": 300, "final_capture": "false"})
    client.post(path, {"amount_to_capture": 0, "final_capture": "true"})
    told_ = [(event.type, event.data.object.amount_received) for event, _ in taken(client)]
    assert told_ == [(AMOUNT, 0), (AMOUNT, 300), (SUCCEEDED, 300)]


def test_a_replay_tells_nothing_again_and_the_event_names_the_key(client: Client) -> None:
    client.intent(key="key_1")
    client.intent(key="key_1")
    [(event, _)] = taken(client)
    assert event.request.idempotency_key == "key_1"


def test_a_kept_error_after_the_effect_is_told_one_before_it_is_not(client: Client) -> None:
    for fail in ("before", "after"):
        form = {"amount": 700, "currency": "usd", "payment_method": "pm_card_visa", "confirm": "true"}
        ticket: Any = client.psp.admit(client.request("/v1/payment_intents", form, f"key_{fail}"))
        assert client.psp.execute(ticket, fail).status == 500
    [(event, _)] = taken(client)
    assert event.request.idempotency_key == "key_after"


def test_what_breaks_on_the_way_is_never_told(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The transaction is rolled back, so what was drafted in it did not happen."""
    with monkeypatch.context() as broken:
        broken.setattr(client.psp._reads, "show", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            client.intent()
    assert client.bank.charges() == []
    client.intent(payment_method="pm_card_chargeDeclined")
    assert told(client) == [FAILED]


def test_the_object_is_a_snapshot_without_what_never_leaves_the_psp(client: Client) -> None:
    intent = hold(client)
    client.post(f"/v1/payment_intents/{intent['id']}/capture")
    first, second = (event.data.object.to_dict() for event, _ in taken(client))
    assert (first["status"], second["status"]) == ("requires_capture", "succeeded")
    assert first == intent
    assert not any(name.startswith("_") for name in {**first, **second})


# --- what our adapter makes of it -----------------------------------------------------------------------------


def test_a_charge_a_decline_and_a_refund_name_our_operation_and_its_outcome(client: Client) -> None:
    intent = client.intent(**OURS)
    client.intent(payment_method="pm_card_chargeDeclinedStolenCard", **OURS)
    client.post("/v1/refunds", {"payment_intent": intent["id"], "amount": 400, **OURS})
    (_, paid), (_, no), (_, back) = taken(client)
    assert {one.operation_id for one in (paid, no, back)} == {OPERATION}
    assert {one.payment_id for one in (paid, no, back)} == {"pay_1"}
    assert paid.outcome == Approved(reference=intent["id"], amount_minor=1000)
    assert isinstance(no.outcome, Declined) and no.outcome.code == "stolen_card"
    assert isinstance(back.outcome, Approved) and back.outcome.amount_minor == 400
    assert (paid.kind, back.kind) == (K.CHARGE, K.REFUND)


def test_what_settles_later_is_pending_first_and_moves_money_at_its_end_only(client: Client) -> None:
    client.psp.settles_later = True
    paid, returned = client.intent(**OURS), client.intent(**OURS)
    assert (paid["status"], client.bank.charges()) == ("processing", [])
    refused = client.raw(f"/v1/payment_intents/{paid['id']}/cancel")
    assert refused.status == 400
    assert all(isinstance(news.outcome, Pending) for _, news in taken(client))
    client.psp.finish_payment(paid["id"])
    client.psp.finish_payment(paid["id"])
    client.psp.finish_payment(returned["id"], paid=False)
    (first, yes), (second, no) = taken(client)
    assert (first.type, second.type) == (SUCCEEDED, FAILED)
    assert yes.outcome == Approved(reference=paid["id"], amount_minor=1000)
    assert isinstance(no.outcome, Declined)
    assert [charge.captured_minor for charge in client.bank.charges()] == [1000]


def test_a_pending_refund_ends_as_updated_or_as_failed(client: Client) -> None:
    intent = client.intent(**OURS)
    client.psp.settles_later = True
    ask = {"payment_intent": intent["id"], "amount": 300, **OURS}
    good, bad = (client.post("/v1/refunds", ask) for _ in range(2))
    assert (good["status"], client.bank.refunded_minor("pay_1")) == ("pending", 0)
    client.psp.finish_refund(good["id"])
    client.psp.finish_refund(bad["id"], paid=False)
    found = [(event.type, type(news.outcome)) for event, news in taken(client)][1:]
    assert found == [
        ("refund.created", Pending),
        ("refund.created", Pending),
        ("refund.updated", Approved),
        ("refund.updated", Declined),
        ("refund.failed", Declined),
    ]
    assert client.bank.refunded_minor("pay_1") == 300
    # What came back may be refunded again, and no more than that.
    client.psp.settles_later = False
    assert client.raw("/v1/refunds", {"payment_intent": intent["id"], "amount": 701}).status == 400
    assert client.raw("/v1/refunds", {"payment_intent": intent["id"], "amount": 700}).status == 200
    assert client.bank.refunded_minor("pay_1") == 1000


@pytest.mark.parametrize("won", [True, False])
def test_a_dispute_is_opened_and_decided(client: Client, won: bool) -> None:
    intent = client.intent()
    client.psp.close_dispute(client.psp.dispute(intent["id"]), won=won)
    (_, _), (opened, first), (closed, last) = taken(client)
    assert (opened.type, closed.type) == ("charge.dispute.created", "charge.dispute.closed")
    assert first.dispute is not None and last.dispute is not None
    assert (first.dispute.opened, first.dispute.amount_minor, first.dispute.reason) == (
        True,
        1000,
        "fraudulent",
    )
    assert (last.dispute.opened, last.dispute.won) == (False, won)
    assert first.payment_reference == intent["id"]
    assert client.get(f"/v1/charges/{intent['latest_charge']}")["disputed"] is True


def test_the_payer_who_must_act_is_told_of(client: Client) -> None:
    client.intent(payment_method="pm_card_threeDSecure2Required", return_url="https://shop.example/", **OURS)
    [(_, news)] = taken(client)
    assert isinstance(news.outcome, RequiresAction)


# --- the signature --------------------------------------------------------------------------------------------


def test_a_forged_body_another_secret_and_an_old_signature_are_refused_by_both(client: Client) -> None:
    client.intent()
    [notice] = client.psp.outbox.take()
    with pytest.raises(stripe.SignatureVerificationError):
        read(client, replace(notice, body=forge(notice.body)))
    gateway = StripeGateway("sk_test_sandbox", webhook_secrets=[SECRET])
    other = StripeGateway("sk_test_sandbox", webhook_secrets=["whsec_other"])
    now_us = client.clock.now_us()
    for refused, body, at_us, reason in (
        (gateway, forge(notice.body), now_us, "signature"),
        (other, notice.body, now_us, "signature"),
        (gateway, notice.body, now_us + 301_000_000, "stale"),
    ):
        with pytest.raises(WebhookRejected, match=reason):
            refused.parse_webhook(notice.headers, body, at_us)


def test_a_later_try_is_signed_anew_with_its_own_time(client: Client) -> None:
    client.intent()
    [notice] = client.psp.outbox.take()
    client.clock.us += 3 * 86_400_000_000
    _, [news] = read(client, notice)
    assert news.at_us == notice.created_us // 1_000_000 * 1_000_000
    assert notice.headers_at(notice.created_us) == notice.headers


def test_every_status_that_something_can_lead_to_has_its_event(client: Client) -> None:
    assert set(INTENT_EVENTS.values()) >= {
        SUCCEEDED,
        FAILED,
        CANCELED,
        ASKED,
        AMOUNT,
        "payment_intent.processing",
    }
    body = msgspec.json.decode((client.intent(), client.psp.outbox.take()[0].body)[1])
    assert set(body) == {
        "api_version",
        "created",
        "data",
        "id",
        "livemode",
        "object",
        "pending_webhooks",
        "request",
        "type",
    }
