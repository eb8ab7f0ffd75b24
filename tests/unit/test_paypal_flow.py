"""Whole payments through AegisPay and the PayPal adapter, against a small PayPal with books and request ids of its own."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from aegispay.app import AegisPay
from aegispay.domain.money import Money
from aegispay.domain.states import PaymentState
from aegispay.gateways.paypal import WALLET, PayPalGateway
from aegispay.orchestration.settings import Settings
from tests.fakes.json_psp import HANG_UP, Seen, json_psp
from tests.fakes.paypal_calls import CLIENT_ID, CLIENT_SECRET, TOKEN, error

SETTINGS = Settings(recovery=False, answer_timeout_s=5.0)


class SmallPayPal:
    """Orders, captures, voids and refunds; replays by request id; hangs up after an effect where told to."""

    def __init__(self) -> None:
        self.orders: dict[str, dict[str, Any]] = {}
        self.by_key: dict[str, Any] = {}
        self.lose: set[str] = set()
        self._ids = (f"{n:017d}" for n in itertools.count(1))

    def taken(self) -> int:
        cents = 0
        for order in self.orders.values():
            payments = order["purchase_units"][0]["payments"]
            cents += sum(round(float(one["amount"]["value"]) * 100) for one in payments["captures"])
            cents -= sum(round(float(one["amount"]["value"]) * 100) for one in payments["refunds"])
        return cents

    def __call__(self, one: Seen) -> Any:
        if one.path == "/v1/oauth2/token":
            return {"access_token": TOKEN, "expires_in": 32400}
        key = one.headers.get("paypal-request-id")
        if key is None or key not in self.by_key:
            said = self.execute(one.path.strip("/").split("/"), one)
            if key is not None:
                self.by_key[key] = said
            verb = one.path.rsplit("/", 1)[1]
            if verb in self.lose:
                self.lose.discard(verb)
                return HANG_UP
            return said
        return self.by_key[key]

    def execute(self, path: list[str], one: Seen) -> Any:
        if one.method == "GET":
            return self.found(path[-2], path[-1])
        if path[1:] == ["checkout", "orders"]:
            return self.create(one.json)
        if path[-1] in ("capture", "authorize") and path[2] == "orders":
            return self.complete(self.orders[path[3]], path[-1])
        order, made = self.owner(path[3])
        payments = order["purchase_units"][0]["payments"]
        if path[-1] == "void":
            if made["status"] == "VOIDED":
                return 422, error("PREVIOUSLY_VOIDED")
            made["status"] = "VOIDED"
            return 204, b""
        kind = "captures" if path[-1] == "capture" else "refunds"
        fresh = self.made(order, "COMPLETED", **{**one.json, "final_capture": None})
        payments[kind].append(fresh)
        return 201, fresh

    def create(self, body: dict[str, Any]) -> Any:
        order = {**body, "id": next(self._ids), "status": "CREATED", "links": []}
        order["purchase_units"][0]["payments"] = {"captures": [], "authorizations": [], "refunds": []}
        self.orders[order["id"]] = order
        if "experience_context" in order.pop("payment_source").get("paypal", {}):
            order["status"] = "PAYER_ACTION_REQUIRED"
            order["links"] = [{"rel": "payer-action", "href": f"https://www.paypal.com/{order['id']}"}]
            return 200, order
        return self.complete(order, "capture" if body["intent"] == "CAPTURE" else "authorize")

    def complete(self, order: dict[str, Any], verb: str) -> Any:
        if order["status"] == "PAYER_ACTION_REQUIRED":
            return 422, error("ORDER_NOT_APPROVED")
        if order["status"] == "COMPLETED":
            return 422, error("ORDER_ALREADY_CAPTURED")
        order["status"] = "COMPLETED"
        unit = order["purchase_units"][0]
        capture = verb == "capture"
        fresh = self.made(order, "COMPLETED" if capture else "CREATED", unit["amount"], unit["invoice_id"])
        unit["payments"]["captures" if capture else "authorizations"].append(fresh)
        return 201, order

    def made(self, order: dict[str, Any], status: str, amount: Any, invoice_id: str, **more: Any) -> Any:
        custom = more.get("custom_id") or order["purchase_units"][0]["custom_id"]
        related = {"related_ids": {"order_id": order["id"]}}
        found = {"id": next(self._ids), "status": status, "amount": amount, "invoice_id": invoice_id}
        return {**found, "custom_id": custom, "supplementary_data": related}

    def owner(self, reference: str) -> Any:
        for order in self.orders.values():
            for made in itertools.chain(*order["purchase_units"][0]["payments"].values()):
                if made["id"] == reference:
                    return order, made
        raise LookupError(reference)

    def found(self, resource: str, reference: str) -> Any:
        try:
            return self.orders[reference] if resource == "orders" else self.owner(reference)[1]
        except LookupError:
            return 404, error("INVALID_RESOURCE_ID", "RESOURCE_NOT_FOUND")


def world(paypal: SmallPayPal) -> Any:
    return json_psp(paypal, lambda url: PayPalGateway(CLIENT_ID, CLIENT_SECRET, base_url=url))


def app(gateway: PayPalGateway) -> AegisPay:
    return AegisPay([gateway], store="sqlite://:memory:", settings=SETTINGS)


def usd(text: str) -> Money:
    return Money.parse(text, "USD")


async def test_a_wallet_payment_from_approval_to_two_refunds():
    paypal = SmallPayPal()
    async with world(paypal) as (gateway, _), app(gateway) as pay:
        result = await pay.charge(
            usd("10.00"), WALLET, idempotency_key="k1", return_url="https://shop.example/b"
        )
        assert result.requires_action()
        again = await pay.complete_action(result.payment.id)
        assert again.requires_action(), "nobody approved it yet"
        (order,) = paypal.orders.values()
        order["status"] = "APPROVED"
        result = await pay.complete_action(result.payment.id)
        assert result.is_success() and paypal.taken() == 1000
        for amount in ("3.00", "7.00"):
            assert (await pay.refund(result.payment.id, usd(amount), idempotency_key=amount)).is_success()
        assert (await pay.get(result.payment.id)).state is PaymentState.REFUNDED
        assert paypal.taken() == 0


@pytest.mark.parametrize("verb", ["orders", "capture", "refund"])
async def test_a_lost_answer_takes_nothing_twice(verb):
    paypal = SmallPayPal()
    paypal.lose.add(verb)
    async with world(paypal) as (gateway, _), app(gateway) as pay:
        result = await pay.authorize(usd("10.00"), "card:8kk8451t", idempotency_key="k1")
        assert result.is_success() and len(paypal.orders) == 1
        assert (
            await pay.capture(result.payment.id, usd("4.00"), final=False, idempotency_key="c1")
        ).is_success()
        assert (await pay.capture(result.payment.id, usd("6.00"), idempotency_key="c2")).is_success()
        assert paypal.taken() == 1000
        assert (await pay.refund(result.payment.id, usd("6.00"), idempotency_key="r1")).is_success()
        assert paypal.taken() == 400
        (order,) = paypal.orders.values()
        captures = order["purchase_units"][0]["payments"]["captures"]
        assert [one["amount"]["value"] for one in captures] == ["4.00", "6.00"]


async def test_a_void_whose_answer_is_lost_is_done_once():
    paypal = SmallPayPal()
    paypal.lose.add("void")
    async with world(paypal) as (gateway, _), app(gateway) as pay:
        result = await pay.authorize(usd("10.00"), "card:8kk8451t", idempotency_key="k1")
        assert (await pay.void(result.payment.id)).payment.state is PaymentState.CANCELED


async def test_an_order_that_the_payer_never_approves_is_canceled_and_takes_nothing():
    paypal = SmallPayPal()
    async with world(paypal) as (gateway, _), app(gateway) as pay:
        result = await pay.charge(usd("10.00"), WALLET, idempotency_key="k1")
        assert (await pay.void(result.payment.id)).payment.state is PaymentState.CANCELED
        assert paypal.taken() == 0
