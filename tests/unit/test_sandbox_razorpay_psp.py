"""The Razorpay face, request by request: its quirks, its time, its notices and the books."""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import re
import sys
from typing import Any

import msgspec
import pytest

from aegispay.domain.errors import UnknownCurrency
from aegispay.domain.money import exponent_of
from aegispay.sandbox.bank import Bank
from aegispay.sandbox.razorpay_face import RazorpayPsp
from aegispay.sandbox.razorpay_notices import sign
from aegispay.sandbox.wire import Ticket, WireReply, WireRequest, handle
from tests.fakes.psp_data import psp_document
from tests.unit.test_sandbox_stripe_psp import SteppedClock

BASIC = "Basic " + base64.b64encode(b"rzp_test_sandbox:razorpay_sandbox_secret").decode()
KEY = "refund-key-1"


class Client:
    """Sends requests straight into the PSP."""

    def __init__(self, **options: Any) -> None:
        self.bank = Bank()
        self.clock = SteppedClock()
        self.psp = RazorpayPsp(self.bank, clock=self.clock, seed=7, **options)
        self.psp.base_url = "http://127.0.0.1:1"

    def request(
        self, path: str, body: Any = None, key: str = "", *, query: str = "", auth: str = BASIC
    ) -> WireRequest:
        headers = {"authorization": auth, **({"x-refund-idempotency": key} if key else {})}
        method = "GET" if body is None else "POST"
        raw = b"" if body is None else msgspec.json.encode(body)
        return WireRequest(method=method, path="/v1" + path, headers=headers, query=query, body=raw)

    def raw(self, path: str, body: Any = None, key: str = "", **more: str) -> WireReply:
        return handle(self.psp, self.request(path, body, key, **more))

    def send(self, path: str, body: Any = None, key: str = "", **more: str) -> Any:
        return msgspec.json.decode(self.raw(path, body, key, **more).body)

    def order(self, amount: int = 5000, capture: str = "manual", **more: Any) -> Any:
        body = {
            "amount": amount,
            "currency": "INR",
            "receipt": "op_1",
            "payment": {"capture": capture},
            "notes": {"aegispay_payment": "pay_ours", "aegispay_operation": "op_1"},
        }
        return self.send("/orders", body | more)

    def begin(self, order: Any, token: str = "token_visa", **more: Any) -> Any:
        body = {
            "amount": order["amount"],
            "currency": order["currency"],
            "order_id": order["id"],
            "email": "a@b.test",
            "contact": "+919999999999",
            "method": "card",
            "token": token,
        }
        return self.send("/payments/create/json", body | more)

    def page(self, id_: str, action: str | None = None, more: str = "") -> str:
        body = f"action={action}{more}".encode() if action else b""
        request = WireRequest(method="POST" if action else "GET", path=f"/3ds/{id_}", body=body)
        reply = self.psp.admit(request)
        assert isinstance(reply, WireReply)
        return reply.body.decode()

    def paid(self, capture: str = "automatic", token: str = "token_visa", **more: Any) -> str:
        id_ = str(self.begin(self.order(capture=capture, **more), token)["razorpay_payment_id"])
        self.page(id_, "authenticate")
        return id_

    def events(self) -> list[str]:
        return [notice.type for notice in self.psp.outbox.take()]


@pytest.fixture
def client() -> Client:
    return Client()


def test_an_order_then_a_payment_that_the_payer_authenticates_is_captured_by_itself(client: Client) -> None:
    order = client.order(capture="automatic")
    begun = client.begin(order)
    assert [step["action"] for step in begun["next"]] == ["redirect", "otp_generate"]
    id_ = begun["razorpay_payment_id"]
    assert client.send(f"/payments/{id_}")["status"] == "created"
    assert client.bank.charges() == []
    page = client.page(id_, "authenticate")
    signature = hmac.new(
        b"razorpay_sandbox_secret", f"{order['id']}|{id_}".encode(), hashlib.sha256
    ).hexdigest()
    assert signature in page
    assert client.send(f"/payments/{id_}")["status"] == "captured"
    assert client.send(f"/orders/{order['id']}")["status"] == "paid"
    assert client.bank.captured_minor("pay_ours") == 5000
    assert client.events() == ["payment.authorized", "payment.captured", "order.paid"]


def test_a_capture_takes_the_whole_amount_or_nothing(client: Client) -> None:
    id_ = client.paid("manual")
    part = client.raw(f"/payments/{id_}/capture", {"amount": 4000, "currency": "INR"})
    assert part.status == 400
    assert b"equal to the amount authorized" in part.body
    assert client.bank.captured_minor("pay_ours") == 0
    whole = {"amount": 5000, "currency": "INR"}
    assert client.send(f"/payments/{id_}/capture", whole)["captured"] is True
    again = client.send(f"/payments/{id_}/capture", whole)["error"]
    assert "already been captured" in again["description"]
    assert client.bank.captured_minor("pay_ours") == 5000


def test_there_is_no_void_and_what_nobody_captures_is_given_back_when_its_time_is_over(
    client: Client,
) -> None:
    id_ = client.paid(
        "manual", payment={"capture": "manual", "capture_options": {"manual_expiry_period": 20}}
    )
    assert client.raw(f"/payments/{id_}/void", {}).status == 404
    client.clock.us += 19 * 60_000_000
    assert client.send(f"/payments/{id_}")["status"] == "authorized"
    client.events()
    client.clock.us += 60_000_000
    payment = client.send(f"/payments/{id_}")
    assert (payment["status"], payment["captured"], payment["amount_refunded"]) == ("refunded", False, 5000)
    assert client.bank.charges()[0].held_minor == 0
    assert client.bank.refunded_minor("pay_ours") == 0
    assert client.events() == ["refund.created", "refund.processed"]
    late = client.raw(f"/payments/{id_}/capture", {"amount": 5000, "currency": "INR"})
    assert late.status == 400


def test_a_failed_payment_may_later_be_captured(client: Client) -> None:
    id_ = client.paid("automatic", "token_latesuccess")
    failed = client.send(f"/payments/{id_}")
    assert (failed["status"], failed["error_reason"]) == ("failed", "payment_timed_out")
    assert client.bank.charges() == []
    client.clock.us += 60_000_000
    assert client.send(f"/payments/{id_}")["status"] == "captured"
    assert client.bank.captured_minor("pay_ours") == 5000
    assert client.events() == ["payment.failed", "payment.authorized", "payment.captured", "order.paid"]


def test_a_declined_payment_can_be_made_to_succeed_late(client: Client) -> None:
    id_ = client.paid("manual", "token_declined")
    assert client.send(f"/payments/{id_}")["status"] == "failed"
    assert client.psp.late_success(id_)["status"] == "authorized"
    assert client.psp.late_success(id_)["status"] == "authorized"
    assert len(client.bank.charges()) == 1


def test_a_late_success_on_an_order_that_was_paid_meanwhile_is_given_back(client: Client) -> None:
    order = client.order(capture="automatic")
    first = client.begin(order, "token_latesuccess")["razorpay_payment_id"]
    client.page(first, "authenticate")
    second = client.begin(order)["razorpay_payment_id"]
    client.page(second, "authenticate")
    client.clock.us += 3_600_000_000
    client.psp.let_time_pass()
    assert client.send(f"/payments/{first}")["status"] == "refunded"
    assert client.bank.captured_minor("pay_ours") == 5000
    assert all(charge.held_minor == 0 for charge in client.bank.charges())


def test_a_late_authorisation_is_not_captured_by_itself_after_the_automatic_period(client: Client) -> None:
    options = {"automatic_expiry_period": 12, "manual_expiry_period": 7200}
    id_ = client.paid(token="token_declined", payment={"capture": "automatic", "capture_options": options})
    client.clock.us += 13 * 60_000_000
    assert client.psp.late_success(id_)["status"] == "authorized"


def test_a_payer_who_does_not_authenticate_in_time_leaves_a_failed_payment(client: Client) -> None:
    id_ = client.begin(client.order())["razorpay_payment_id"]
    client.clock.us += 600_000_000
    assert client.send(f"/payments/{id_}")["error_reason"] == "payment_timed_out"
    assert "It is failed." in client.page(id_, "authenticate")


def test_a_paid_order_refuses_a_second_payment(client: Client) -> None:
    order = client.order(capture="automatic")
    client.page(client.begin(order)["razorpay_payment_id"], "authenticate")
    assert "already paid" in client.begin(order)["error"]["description"]
    assert len(client.bank.charges()) == 1


def test_two_authorised_payments_of_one_order_are_captured_only_once(client: Client) -> None:
    order = client.order()
    ids = [client.begin(order)["razorpay_payment_id"] for _ in range(2)]
    for id_ in ids:
        client.page(id_, "authenticate")
    whole = {"amount": 5000, "currency": "INR"}
    replies = [client.raw(f"/payments/{id_}/capture", whole).status for id_ in ids]
    assert replies == [200, 400]
    assert client.bank.captured_minor("pay_ours") == 5000


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("token_declined", "card_declined"),
        ("token_insufficientfunds", "insufficient_funds"),
        ("token_expired", "card_expired"),
        ("token_fraudulent", "payment_risk_check_failed"),
        ("token_technicalerror", "gateway_technical_error"),
    ],
)
def test_a_decline_stands_on_the_payment_with_its_reason(client: Client, token: str, reason: str) -> None:
    payment = client.send(f"/payments/{client.paid(token=token)}")
    assert (payment["status"], payment["error_reason"]) == ("failed", reason)
    assert client.bank.charges() == []


def test_an_order_and_its_payments_are_found_by_the_receipt(client: Client) -> None:
    client.paid("manual", receipt="op_a")
    client.order(receipt="op_b")
    found = client.send("/orders", query="receipt=op_a")
    assert (found["count"], found["items"][0]["status"]) == (1, "attempted")
    payments = client.send(f"/orders/{found['items'][0]['id']}/payments")
    assert [one["status"] for one in payments["items"]] == ["authorized"]
    assert client.send("/orders", query="receipt=op_c") == {"entity": "collection", "count": 0, "items": []}
    assert (
        client.send("/orders", query="receipt=op_a&expand[]=payments")["items"][0]["payments"]["count"] == 1
    )


def test_the_list_of_orders_is_behind_by_its_lag() -> None:
    client = Client(lookup_lag_s=10)
    order = client.order()
    assert client.send("/orders", query="receipt=op_1")["count"] == 0
    assert client.send(f"/orders/{order['id']}")["id"] == order["id"]
    client.clock.us += 10_000_000
    assert client.send("/orders", query="receipt=op_1")["count"] == 1


def test_a_refund_under_the_same_key_is_paid_once(client: Client) -> None:
    id_ = client.paid()
    body = {"amount": 2000, "receipt": "op_r"}
    first, again = (client.send(f"/payments/{id_}/refund", body, KEY) for _ in range(2))
    assert first == again
    assert client.bank.refunded_minor("pay_ours") == 2000
    other = client.send(f"/payments/{id_}/refund", {"amount": 1000}, KEY)["error"]
    assert other["description"].startswith("Different request with the same idempotency key")
    client.send(f"/payments/{id_}/refund", body, "refund-key-2")
    assert client.bank.refunded_minor("pay_ours") == 4000


def test_a_refund_without_a_key_is_paid_as_often_as_it_is_sent(client: Client) -> None:
    id_ = client.paid()
    for _ in range(2):
        client.send(f"/payments/{id_}/refund", {"amount": 1000})
    assert client.bank.refunded_minor("pay_ours") == 2000


def test_a_refund_key_that_is_too_short_is_refused(client: Client) -> None:
    assert client.raw(f"/payments/{client.paid()}/refund", {"amount": 1000}, "short").status == 400
    assert client.bank.refunded_minor("pay_ours") == 0


def test_a_refund_that_is_under_way_conflicts_with_its_repetition(client: Client) -> None:
    request = client.request(f"/payments/{client.paid()}/refund", {"amount": 1000}, KEY)
    ticket = client.psp.admit(request)
    assert isinstance(ticket, Ticket)
    conflict = client.psp.admit(request)
    assert isinstance(conflict, WireReply)
    assert conflict.status == 409
    assert client.psp.execute(ticket).status == 200
    assert client.bank.refunded_minor("pay_ours") == 1000


@pytest.mark.parametrize(("fail", "paid"), [("before", 0), ("after", 1000)])
def test_a_refund_that_broke_at_the_psp_is_paid_once_when_it_is_sent_again(
    client: Client, fail: str, paid: int
) -> None:
    request = client.request(f"/payments/{client.paid()}/refund", {"amount": 1000}, KEY)
    ticket = client.psp.admit(request)
    assert isinstance(ticket, Ticket)
    assert client.psp.execute(ticket, fail).status == 500
    assert client.bank.refunded_minor("pay_ours") == paid
    assert handle(client.psp, request).status == 200
    assert client.bank.refunded_minor("pay_ours") == 1000


def test_refunds_stop_at_what_was_captured(client: Client) -> None:
    id_ = client.paid()
    assert client.send(f"/payments/{id_}/refund", {})["amount"] == 5000
    assert client.send(f"/payments/{id_}")["status"] == "refunded"
    assert "fully refunded" in client.send(f"/payments/{id_}/refund", {"amount": 100})["error"]["description"]
    manual = client.paid("manual")
    refused = client.send(f"/payments/{manual}/refund", {"amount": 100})["error"]
    assert "should be captured" in refused["description"]


def test_a_pending_refund_is_announced_when_it_is_processed(client: Client) -> None:
    client.psp.state.refund_status = "pending"
    refund = client.send(f"/payments/{client.paid()}/refund", {"amount": 1000})
    assert refund["status"] == "pending"
    assert "refund.processed" not in client.events()
    client.psp.finish_refund(refund["id"])
    assert client.send(f"/refunds/{refund['id']}")["status"] == "processed"
    assert client.events() == ["refund.processed"]


def test_the_otp_is_generated_and_submitted_with_the_public_key_alone(client: Client) -> None:
    begun = client.begin(client.order(capture="automatic"))
    id_ = begun["razorpay_payment_id"]
    generated = client.send(f"/payments/{id_}/otp_generate", {}, query="key_id=rzp_test_sandbox", auth="")
    assert [step["action"] for step in generated["next"]] == ["otp_submit", "otp_resend"]
    wrong = client.send(
        f"/payments/{id_}/otp/submit", {"otp": "12"}, query="key_id=rzp_test_sandbox", auth=""
    )
    assert wrong["next"] == ["otp_submit", "otp_resend"]
    right = client.send(
        f"/payments/{id_}/otp/submit", {"otp": "1234"}, query="key_id=rzp_test_sandbox", auth=""
    )
    assert right["razorpay_payment_id"] == id_
    assert client.bank.captured_minor("pay_ours") == 5000
    assert client.raw(f"/payments/{id_}", query="key_id=rzp_test_sandbox", auth="").status == 401


def test_a_mandate_is_charged_without_the_payer(client: Client) -> None:
    order = client.order(capture="automatic")
    body = {
        "amount": 5000,
        "currency": "INR",
        "order_id": order["id"],
        "email": "a@b.test",
        "contact": "1",
        "customer_id": "cust_1",
        "token": "token_visa",
        "recurring": True,
    }
    assert (
        client.send("/payments/create/recurring", body | {"token": "token_insufficientfunds"})["error"][
            "reason"
        ]
        == "insufficient_funds"
    )
    assert set(client.send("/payments/create/recurring", body)) == {
        "razorpay_payment_id",
        "razorpay_order_id",
        "razorpay_signature",
    }
    assert client.bank.captured_minor("pay_ours") == 5000


def test_the_page_of_an_order_stands_in_for_checkout(client: Client) -> None:
    order = client.order(capture="automatic")
    client.page(order["id"], "fail")
    assert client.send(f"/orders/{order['id']}")["status"] == "attempted"
    client.page(order["id"], "authenticate")
    assert client.send(f"/orders/{order['id']}")["status"] == "paid"
    assert "It is paid." in client.page(order["id"])


def test_a_failed_authentication_posts_the_error_to_the_callback_url(client: Client) -> None:
    begun = client.begin(client.order(), callback_url="https://shop.test/back?a=1&b=2")
    page = client.page(begun["razorpay_payment_id"], "fail")
    assert 'action="https://shop.test/back?a=1&amp;b=2"' in page
    fields = dict(re.findall(r'name="([^"]+)" value="([^"]*)"', html.unescape(page)))
    assert fields["error[reason]"] == "authentication_failed"


def test_who_has_no_key_learns_nothing(client: Client) -> None:
    for auth in ("", "Basic !!!", "Basic " + base64.b64encode(b"rzp_test_sandbox:wrong").decode()):
        reply = client.raw("/orders", {"amount": 5000, "currency": "INR"}, auth=auth)
        assert reply.status == 401
    assert client.send("/orders")["count"] == 0


def test_a_downtime_is_listed_until_it_is_over_and_announced(client: Client) -> None:
    id_ = client.psp.start_downtime()
    assert client.send("/payments/downtimes")["items"][0]["id"] == id_
    client.psp.end_downtime(id_)
    assert client.send("/payments/downtimes")["count"] == 0
    assert client.send(f"/payments/downtimes/{id_}")["status"] == "resolved"
    assert client.events() == ["payment.downtime.started", "payment.downtime.resolved"]


def test_a_notice_is_signed_over_its_raw_body(client: Client) -> None:
    client.paid()
    for notice in client.psp.outbox.take():
        assert notice.headers["x-razorpay-signature"] == sign(client.psp.webhook_secret, notice.body)
        assert notice.headers["x-razorpay-event-id"] == notice.id
        assert b"_verdict" not in notice.body


def test_an_order_counts_in_the_documented_minor_units_of_every_currency(client: Client) -> None:
    checked = 0
    for code, exponent in psp_document("razorpay/currency_exponents.json").items():
        try:
            ours = exponent_of(code)
        except UnknownCurrency:
            continue
        assert ours == exponent, code
        assert client.order(amount=10_000, currency=code)["amount"] == 10_000
        if exponent == 3:
            assert client.order(amount=10_001, currency=code)["error"]["field"] == "amount"
        checked += 1
    sys.stdout.write(f"currencies checked: {checked}\n")
    assert checked > 120


def _names(example: Any) -> set[str]:
    return set(example) - {"offers", "upi", "card", "token_id", "customer_id", "label"}


def test_what_is_answered_has_the_fields_of_the_documented_examples(client: Client) -> None:
    examples: dict[str, list[Any]] = {"order": [], "payment": [], "refund": [], "payment.downtime": []}

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if node.get("entity") in examples and "id" in node:
                examples[node["entity"]].append(node)
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    pages = psp_document("razorpay/docs-examples.json")
    for page in ("api/orders/create.md", "api/orders/fetch-payments.md", "api/refunds/create-normal.md"):
        walk(pages[page])
    for page in ("api/orders/fetch-all.md", "api/payments/downtime/fetch-all.md", "api/refunds/entity.md"):
        walk(pages[page])
    id_ = client.paid()
    payment = client.send(f"/payments/{id_}")
    down = client.psp.start_downtime()
    ours = {
        "order": client.send(f"/orders/{payment['order_id']}"),
        "payment": payment,
        "refund": client.send(f"/payments/{id_}/refund", {"amount": 100}),
        "payment.downtime": client.send(f"/payments/downtimes/{down}"),
    }
    checked = 0
    for kind, nodes in examples.items():
        for node in nodes:
            assert _names(node) <= set(ours[kind]), (kind, _names(node) - set(ours[kind]))
            checked += 1
    sys.stdout.write(f"documented objects compared: {checked}\n")
    assert checked >= 12
