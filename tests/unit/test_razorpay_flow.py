"""Whole payments through AegisPay and the Razorpay adapter, against a small Razorpay with books of its own."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from aegispay.app import AegisPay
from aegispay.domain.errors import UnsupportedOperation
from aegispay.domain.money import Money
from aegispay.domain.states import PaymentState
from aegispay.gateways.razorpay import CHECKOUT, RazorpayGateway
from aegispay.gateways.razorpay.webhook import sign
from aegispay.orchestration.settings import Settings
from tests.fakes.json_psp import HANG_UP, Seen, json_psp
from tests.fakes.razorpay_calls import KEY_ID, KEY_SECRET, PAYER, WEBHOOK_SECRET, error, page

SETTINGS = Settings(recovery=False, answer_timeout_s=5.0)


class SmallRazorpay:
    """Orders, payments, captures and refunds; hangs up after an effect where told to."""

    def __init__(self) -> None:
        self.orders: dict[str, dict[str, Any]] = {}
        self.payments: dict[str, dict[str, Any]] = {}
        self.refunds: dict[str, dict[str, Any]] = {}
        self.lose: set[str] = set()
        self._ids = itertools.count(1)

    def taken(self) -> int:
        paid = sum(one["amount"] for one in self.payments.values() if one["captured"])
        return paid - sum(one["amount"] for one in self.refunds.values())

    def pay(self, order_id: str, status: str, notes: Any = ()) -> dict[str, Any]:
        """A payer (or the bank's page) at work on an order."""
        order = self.orders[order_id]
        if status == "authorized" and order["payment"]["capture"] == "automatic":
            status = "captured"
        made = {
            "id": f"pay_{next(self._ids)}",
            "entity": "payment",
            "amount": order["amount"],
            "currency": order["currency"],
            "order_id": order_id,
            "status": status,
            "captured": status == "captured",
            "notes": notes or [],
            "error_reason": "payment_failed" if status == "failed" else None,
            "created_at": 1_700_000_000 + next(self._ids),
        }
        self.payments[made["id"]] = made
        return made

    def __call__(self, one: Seen) -> Any:
        said = self.execute(one, one.path.strip("/").split("/"))
        verb = one.path.rsplit("/", 1)[1]
        if one.method == "POST" and verb in self.lose:
            self.lose.discard(verb)
            return HANG_UP
        return said

    def execute(self, one: Seen, path: list[str]) -> Any:
        if one.method == "GET":
            return self.read(one, path)
        if path == ["orders"]:
            order = {**one.json, "id": f"order_{next(self._ids)}", "entity": "order", "status": "created"}
            self.orders[order["id"]] = order
            return order
        if path == ["payments", "create", "json"]:
            made = self.pay(one.json["order_id"], "created", one.json["notes"])
            step = {"action": "redirect", "url": f"https://api.razorpay.com/{made['id']}"}
            return {"razorpay_payment_id": made["id"], "next": [step]}
        made = self.payments[path[1]]
        if path[2] == "capture":
            if made["status"] != "authorized":
                return 400, error("This payment has already been captured")
            made |= {"status": "captured", "captured": True}
            return made
        for done in self.refunds.values():
            if done["key"] == one.headers["x-refund-idempotency"]:
                return done
        back = {
            **one.json,
            "id": f"rfnd_{next(self._ids)}",
            "currency": made["currency"],
            "status": "processed",
        }
        self.refunds[back["id"]] = {**back, "payment_id": path[1], "key": one.headers["x-refund-idempotency"]}
        return self.refunds[back["id"]]

    def read(self, one: Seen, path: list[str]) -> Any:
        if path == ["orders"]:
            return page(*(x for x in self.orders.values() if x["receipt"] == one.query["receipt"][0]))
        if path[0] == "orders":
            return page(*(x for x in self.payments.values() if x["order_id"] == path[1]))
        if path[-1] == "refunds":
            return page(*(x for x in self.refunds.values() if x["payment_id"] == path[1]))
        return self.payments[path[1]]


def world(psp: SmallRazorpay) -> Any:
    def make(url: str) -> RazorpayGateway:
        return RazorpayGateway(KEY_ID, KEY_SECRET, base_url=url, webhook_secrets=[WEBHOOK_SECRET])

    return json_psp(psp, make)


def app(gateway: RazorpayGateway) -> AegisPay:
    return AegisPay([gateway], store="sqlite://:memory:", settings=SETTINGS)


def inr(text: str) -> Money:
    return Money.parse(text, "INR")


async def test_a_checkout_payment_after_a_failed_try_to_two_refunds():
    psp = SmallRazorpay()
    async with world(psp) as (gateway, _), app(gateway) as pay:
        result = await pay.charge(inr("10.00"), CHECKOUT, idempotency_key="k1")
        assert result.requires_action()
        order_id = result.payment.next_action.data["order_id"]
        psp.pay(order_id, "failed")
        psp.pay(order_id, "authorized")
        result = await pay.complete_action(result.payment.id)
        assert result.is_success() and psp.taken() == 1000
        for amount in ("3.00", "7.00"):
            assert (await pay.refund(result.payment.id, inr(amount), idempotency_key=amount)).is_success()
        assert psp.taken() == 0


@pytest.mark.parametrize("verb", ["none", "capture", "refund"])
async def test_a_saved_card_is_authorized_captured_and_refunded_though_an_answer_is_lost(verb):
    psp = SmallRazorpay()
    psp.lose.add(verb)
    async with world(psp) as (gateway, _), app(gateway) as pay:
        result = await pay.authorize(inr("10.00"), "token_1", idempotency_key="k1", metadata=PAYER)
        (made,) = psp.payments.values()
        made["status"] = "authorized"
        result = await pay.complete_action(result.payment.id)
        assert result.payment.state is PaymentState.AUTHORIZED
        with pytest.raises(UnsupportedOperation):
            await pay.void(result.payment.id)
        with pytest.raises(UnsupportedOperation):
            await pay.capture(result.payment.id, inr("4.00"), idempotency_key="c0")
        assert (await pay.capture(result.payment.id, idempotency_key="c1")).is_success()
        assert (await pay.refund(result.payment.id, inr("4.00"), idempotency_key="r1")).is_success()
        assert psp.taken() == 600


async def test_a_payment_whose_answer_is_lost_is_found_by_its_order_and_never_asked_for_again():
    psp = SmallRazorpay()
    psp.lose.add("json")
    async with world(psp) as (gateway, seen), app(gateway) as pay:
        result = await pay.charge(
            inr("10.00"), "token_1", idempotency_key="k1", metadata=PAYER, timeout_s=0.2
        )
        assert result.is_pending()
        (made,) = psp.payments.values()
        made |= {"status": "captured", "captured": True}
        assert (await pay.sync(result.payment.id)).is_success()
    assert len([one for one in seen if one.path == "/payments/create/json"]) == 1
    assert psp.taken() == 1000


async def test_trap_razorpays_failed_that_later_captures_is_given_back():
    """The payment failed for the merchant; the money that came in after all is returned, and the books say why."""
    psp = SmallRazorpay()
    async with world(psp) as (gateway, _), app(gateway) as pay:
        result = await pay.charge(inr("10.00"), "token_1", idempotency_key="k1", metadata=PAYER)
        (made,) = psp.payments.values()
        made |= {"status": "failed", "error_reason": "payment_timed_out"}
        result = await pay.complete_action(result.payment.id)
        assert result.payment.state is PaymentState.FAILED
        made |= {"status": "captured", "captured": True}
        body = json.dumps({"event": "payment.captured", "payload": {"payment": {"entity": made}}}).encode()
        assert (
            await pay.take_webhook("razorpay", {"X-Razorpay-Signature": sign(body, WEBHOOK_SECRET)}, body)
            == 1
        )
        await pay._orchestrator.inbound._work
        events = [event.type for event in await pay.event_store.events(result.payment.id)]
        assert "late_success_found" in events
        assert psp.taken() == 0
        assert (await pay.get(result.payment.id)).state is PaymentState.FAILED
