"""The official Stripe SDK against the Stripe face, over loopback: a client that we did not write."""

from __future__ import annotations

import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aegispay.sandbox.process import SandboxProcess

stripe = pytest.importorskip("stripe", reason="the official stripe SDK is not installed")


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    path: Path = tmp_path_factory.mktemp("bank") / "bank.db"
    with SandboxProcess(path, seed=3, synchronous="OFF") as running:
        yield running


@pytest.fixture
def client(sandbox: SandboxProcess) -> Iterator[Any]:
    sandbox.clear_faults()
    session = stripe.RequestsClient(timeout=5)
    yield stripe.StripeClient(
        sandbox.stripe_key,
        base_addresses={"api": sandbox.stripe_url},
        http_client=session,
        max_network_retries=0,
    ).v1
    session.close()


def pay(client: Any, key: str | None = None, **more: Any) -> Any:
    params = {"amount": 1000, "currency": "usd", "payment_method": "pm_card_visa", "confirm": True, **more}
    return client.payment_intents.create(params, {"idempotency_key": key} if key else {})


def test_create_retrieve_and_refund(client: Any, sandbox: SandboxProcess) -> None:
    intent = pay(client, metadata={"payment_id": "pay_sdk_1"}, expand=["latest_charge"])
    assert intent.status == "succeeded"
    assert intent.latest_charge.amount_captured == 1000
    assert client.payment_intents.retrieve(intent.id).status == "succeeded"
    refund = client.refunds.create({"payment_intent": intent.id, "amount": 400})
    assert refund.status == "succeeded"
    assert client.refunds.retrieve(refund.id).amount == 400
    assert client.charges.retrieve(intent.latest_charge.id).amount_refunded == 400
    assert (sandbox.bank.captured_minor("pay_sdk_1"), sandbox.bank.refunded_minor("pay_sdk_1")) == (1000, 400)


def test_create_then_confirm_then_capture(client: Any) -> None:
    intent = client.payment_intents.create({"amount": 700, "currency": "eur", "capture_method": "manual"})
    assert intent.status == "requires_payment_method"
    assert (
        client.payment_intents.confirm(intent.id, {"payment_method": "pm_card_visa"}).status
        == "requires_capture"
    )
    captured = client.payment_intents.capture(intent.id, {"amount_to_capture": 300})
    assert (captured.status, captured.amount_received) == ("succeeded", 300)


def test_update_and_cancel(client: Any) -> None:
    intent = client.payment_intents.create({"amount": 700, "currency": "eur", "metadata": {"a": "1"}})
    changed = client.payment_intents.update(intent.id, {"amount": 800, "metadata": {"b": "2"}})
    assert (changed.amount, changed.metadata.to_dict()) == (800, {"a": "1", "b": "2"})
    assert client.payment_intents.cancel(intent.id, {"cancellation_reason": "abandoned"}).status == "canceled"
    with pytest.raises(stripe.InvalidRequestError) as caught:
        client.payment_intents.confirm(intent.id, {"payment_method": "pm_card_visa"})
    assert caught.value.code == "payment_intent_unexpected_state"


def test_a_replay_is_the_same_payment(client: Any) -> None:
    first, again = pay(client, "sdk-key-1"), pay(client, "sdk-key-1")
    assert again.id == first.id
    assert again.last_response.headers["Idempotent-Replayed"] == "true"


def test_a_key_with_another_body_is_an_idempotency_error(client: Any) -> None:
    pay(client, "sdk-key-2")
    with pytest.raises(stripe.IdempotencyError):
        pay(client, "sdk-key-2", amount=1001)


@pytest.mark.parametrize(
    ("token", "code", "decline_code"),
    [
        ("pm_card_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", None),
        ("pm_card_chargeDeclinedIncorrectCvc", "incorrect_cvc", None),
    ],
)
def test_a_decline_is_a_card_error(client: Any, token: str, code: str, decline_code: str | None) -> None:
    with pytest.raises(stripe.CardError) as caught:
        pay(client, payment_method=token)
    assert (caught.value.code, caught.value.error.decline_code) == (code, decline_code)
    assert caught.value.error.payment_intent.status == "requires_payment_method"
    assert caught.value.http_status == 402


def test_a_raw_card_becomes_a_payment_method(client: Any) -> None:
    card = {"number": "4242424242424242", "exp_month": 12, "exp_year": 2040, "cvc": "123"}
    method = client.payment_methods.create({"type": "card", "card": card})
    assert (method.card.brand, method.card.last4) == ("visa", "4242")
    assert client.payment_methods.retrieve(method.id).id == method.id
    assert pay(client, payment_method=method.id).status == "succeeded"


@pytest.mark.parametrize(
    ("action", "status"), [("authenticate", "succeeded"), ("fail", "requires_payment_method")]
)
def test_the_payer_goes_through_the_3ds_page(client: Any, action: str, status: str) -> None:
    intent = pay(client, payment_method="pm_card_threeDSecure2Required", return_url="http://127.0.0.1:9/back")
    url = intent.next_action.redirect_to_url.url
    with urllib.request.urlopen(url) as page:
        assert b"Authenticate" in page.read()

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *args: Any) -> None:
            return None

    form = urllib.parse.urlencode({"action": action}).encode()
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.build_opener(Stay).open(url, form)
    assert caught.value.code == 303
    assert f"payment_intent={intent.id}" in caught.value.headers["location"]
    caught.value.close()
    assert client.payment_intents.retrieve(intent.id).status == status


def test_lists_page_by_themselves_and_the_search_finds_metadata(client: Any) -> None:
    made = {pay(client, metadata={"batch": "b7"}).id for _ in range(3)}
    found = client.payment_intents.search({"query": "metadata['batch']:'b7'"})
    assert {row.id for row in found.data} == made
    paged = client.payment_intents.list({"limit": 2})
    assert made <= {row.id for row in paged.auto_paging_iter()}


def test_balance_and_customers(client: Any) -> None:
    customer = client.customers.create({"email": "a@shop.test"})
    assert client.customers.retrieve(customer.id).email == "a@shop.test"
    pay(client, customer=customer.id)
    assert {row.currency for row in client.balance.retrieve().available} >= {"usd"}


def test_errors_are_of_the_sdks_kinds(client: Any, sandbox: SandboxProcess) -> None:
    with pytest.raises(stripe.InvalidRequestError) as caught:
        client.payment_intents.retrieve("pi_none")
    assert (caught.value.code, caught.value.http_status) == ("resource_missing", 404)
    assert caught.value.request_id.startswith("req_")
    with pytest.raises(stripe.InvalidRequestError, match="unknown parameter"):
        pay(client, colour="red")
    wrong = stripe.StripeClient("sk_test_wrong", base_addresses={"api": sandbox.stripe_url})
    with pytest.raises(stripe.AuthenticationError):
        wrong.v1.balance.retrieve()
    sandbox.script("stripe", ["rate_limited"])
    with pytest.raises(stripe.RateLimitError):
        pay(client)


def test_the_sdks_own_retry_after_a_lost_reply_is_one_charge(sandbox: SandboxProcess) -> None:
    sandbox.clear_faults()
    http = stripe.RequestsClient(timeout=5)
    client = stripe.StripeClient(
        sandbox.stripe_key,
        base_addresses={"api": sandbox.stripe_url},
        http_client=http,
        max_network_retries=2,
    ).v1
    sandbox.script("stripe", ["reply_lost"])
    intent = pay(client, metadata={"payment_id": "pay_sdk_retry"})
    assert intent.status == "succeeded"
    assert sandbox.bank.captured_minor("pay_sdk_retry") == 1000
    http.close()
