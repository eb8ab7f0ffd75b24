"""The Stripe face as a plain function: requests in, replies and books out."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest

from aegispay.sandbox.bank import Bank, MovementKind
from aegispay.sandbox.documents import PspIds
from aegispay.sandbox.forms import BadForm, decode_form
from aegispay.sandbox.issuer import AMOUNTS, CARDS, PLAINPAY_TOKENS, STRIPE_TOKENS, sandbox_token
from aegispay.sandbox.stripe_face import StripePsp
from aegispay.sandbox.stripe_money import to_iso_minor
from aegispay.sandbox.wire import Ticket, WireReply, WireRequest, handle

START_US = 1_700_000_000_000_000


class SteppedClock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.us = START_US

    def now_us(self) -> int:
        return self.us

    def monotonic_s(self) -> float:
        return self.us / 1e6

    async def sleep(self, seconds: float) -> None:
        self.us += int(seconds * 1e6)


class Client:
    """Sends requests straight into the PSP."""

    def __init__(self, **options: Any) -> None:
        self.bank = Bank()
        self.clock = SteppedClock()
        self.psp = StripePsp(self.bank, clock=self.clock, seed=7, **options)

    def request(
        self, path: str, form: dict[str, Any] | None = None, key: str = "", method: str = "POST"
    ) -> WireRequest:
        headers = {"authorization": "Bearer sk_test_sandbox"}
        if key:
            headers["idempotency-key"] = key
        text = urlencode(form or {})
        return WireRequest(
            method=method,
            path=path,
            headers=headers,
            query=text if method == "GET" else "",
            body=b"" if method == "GET" else text.encode(),
        )

    def raw(
        self, path: str, form: dict[str, Any] | None = None, key: str = "", method: str = "POST"
    ) -> WireReply:
        return handle(self.psp, self.request(path, form, key, method))

    def post(self, path: str, form: dict[str, Any] | None = None, key: str = "") -> Any:
        return msgspec.json.decode(self.raw(path, form, key).body)

    def get(self, path: str, form: dict[str, Any] | None = None) -> Any:
        return msgspec.json.decode(self.raw(path, form, method="GET").body)

    def intent(self, key: str = "", **more: Any) -> Any:
        form = {
            "amount": 1000,
            "currency": "usd",
            "payment_method": "pm_card_visa",
            "confirm": "true",
            **more,
        }
        form.setdefault("metadata[payment_id]", "pay_1")
        return self.post("/v1/payment_intents", form, key)


@pytest.fixture
def client() -> Client:
    return Client()


def test_a_charge_is_captured_in_the_books_under_the_merchants_names(client: Client) -> None:
    intent = client.intent(key="op_1")
    assert intent["status"] == "succeeded"
    assert intent["amount_received"] == 1000
    assert [(m.kind, m.reference, m.payment_ref, m.amount_minor) for m in client.bank.movements()] == [
        (MovementKind.AUTHORIZATION, "op_1", "pay_1", 1000),
        (MovementKind.CAPTURE, "op_1", "pay_1", 1000),
    ]
    assert client.bank.charges("pay_1")[0].charge_id == intent["id"]


def test_the_same_key_replays_the_same_bytes_and_moves_nothing(client: Client) -> None:
    form = {"amount": 5, "currency": "eur", "payment_method": "pm_card_visa", "confirm": "true"}
    first = client.raw("/v1/payment_intents", form, "k")
    again = client.raw("/v1/payment_intents", form, "k")
    assert again.body == first.body
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["original-request"] == first.headers["request-id"]
    assert len(client.bank.charges()) == 1


def test_a_decline_is_replayed_too(client: Client) -> None:
    for _ in range(2):
        reply = client.intent(key="k", payment_method="pm_card_chargeDeclined")
        assert reply["error"]["decline_code"] == "generic_decline"
    assert len(client.get("/v1/charges")["data"]) == 1


@pytest.mark.parametrize("change", [{"amount": 6}, {"currency": "usd"}, {"description": "x"}])
def test_a_key_with_other_parameters_is_refused(client: Client, change: dict[str, Any]) -> None:
    form = {"amount": 5, "currency": "eur"}
    client.raw("/v1/payment_intents", form, "k")
    reply = client.raw("/v1/payment_intents", {**form, **change}, "k")
    assert reply.status == 400
    assert msgspec.json.decode(reply.body)["error"]["type"] == "idempotency_error"


def test_a_key_used_for_another_endpoint_is_refused(client: Client) -> None:
    id_ = client.intent(key="k", capture_method="manual")["id"]
    assert client.post(f"/v1/payment_intents/{id_}/capture", {}, "k")["error"]["type"] == "idempotency_error"
    assert client.bank.captured_minor("pay_1") == 0


def test_a_key_in_use_is_answered_with_409_until_the_first_is_done(client: Client) -> None:
    request = client.request("/v1/payment_intents", {"amount": 5, "currency": "eur"}, "k")
    ticket = client.psp.admit(request)
    assert isinstance(ticket, Ticket)
    second = client.psp.admit(request)
    assert isinstance(second, WireReply)
    assert second.status == 409
    assert second.headers["stripe-should-retry"] == "true"
    done = client.psp.execute(ticket)
    assert handle(client.psp, request).body == done.body


def test_a_wrong_parameter_is_not_kept_under_the_key(client: Client) -> None:
    assert client.raw("/v1/payment_intents", {"amount": 0, "currency": "eur"}, "k").status == 400
    assert client.raw("/v1/payment_intents", {"amount": 5, "currency": "eur"}, "k").status == 200


def test_a_key_that_is_too_old_executes_again() -> None:
    client = Client(key_ttl_s=60.0)
    client.intent(key="k")
    client.clock.us += 59_000_000
    client.intent(key="k")
    assert len(client.bank.charges()) == 1
    client.clock.us += 2_000_000
    client.intent(key="k")
    assert len(client.bank.charges()) == 2


@pytest.mark.parametrize(("fail", "charges"), [("before", 0), ("after", 1)])
def test_a_500_of_the_psp_itself_is_kept_and_replayed(client: Client, fail: str, charges: int) -> None:
    form = {"amount": 5, "currency": "eur", "payment_method": "pm_card_visa", "confirm": "true"}
    request = client.request("/v1/payment_intents", form, "k")
    ticket = client.psp.admit(request)
    assert isinstance(ticket, Ticket)
    assert client.psp.execute(ticket, fail).status == 500
    again = handle(client.psp, request)
    assert again.status == 500
    assert again.headers["idempotent-replayed"] == "true"
    assert len(client.bank.charges()) == charges


def test_a_wrong_key_of_the_account_is_a_401_and_keeps_nothing(client: Client) -> None:
    request = client.request("/v1/balance", method="GET")
    wrong = msgspec.structs.replace(request, headers={"authorization": "Bearer sk_other"})
    assert handle(client.psp, wrong).status == 401
    assert handle(client.psp, request).status == 200


def test_the_keys_and_the_payments_survive_a_restart_of_the_psp(client: Client) -> None:
    intent = client.intent(key="k")
    client.psp = StripePsp(client.bank, clock=client.clock, seed=7)
    assert client.intent(key="k") == intent
    assert client.get(f"/v1/payment_intents/{intent['id']}")["status"] == "succeeded"
    assert client.intent(key="k2")["id"] != intent["id"]


def test_a_partial_capture_releases_the_rest(client: Client) -> None:
    id_ = client.intent(capture_method="manual")["id"]
    done = client.post(f"/v1/payment_intents/{id_}/capture", {"amount_to_capture": 300}, "c")
    assert (done["status"], done["amount_received"], done["amount_capturable"]) == ("succeeded", 300, 0)
    charge = client.bank.charges()[0]
    assert (charge.captured_minor, charge.released_minor) == (300, 700)


def test_multicapture_takes_several_and_a_capture_of_nothing_releases_the_rest(client: Client) -> None:
    more = {"payment_method_options[card][request_multicapture]": "if_available"}
    id_ = client.intent(capture_method="manual", **more)["id"]
    path = f"/v1/payment_intents/{id_}/capture"
    for key, amount in (("c1", 300), ("c2", 200)):
        part = client.post(path, {"amount_to_capture": amount, "final_capture": "false"}, key)
        assert part["status"] == "requires_capture"
    assert client.post(path, {"amount_to_capture": 501}, "c3")["error"]["code"] == "amount_too_large"
    done = client.post(path, {"amount_to_capture": 0, "final_capture": "true"}, "c4")
    assert (done["status"], done["amount_received"]) == ("succeeded", 500)
    assert [m.reference for m in client.bank.movements() if m.kind is MovementKind.CAPTURE] == ["c1", "c2"]
    assert client.bank.charges()[0].released_minor == 500


def test_a_capture_without_multicapture_cannot_leave_the_rest(client: Client) -> None:
    id_ = client.intent(capture_method="manual")["id"]
    form = {"amount_to_capture": 300, "final_capture": "false"}
    assert client.post(f"/v1/payment_intents/{id_}/capture", form)["error"]["param"] == "final_capture"


def test_a_second_capture_is_refused_with_the_state(client: Client) -> None:
    id_ = client.intent()["id"]
    error = client.post(f"/v1/payment_intents/{id_}/capture")["error"]
    assert error["code"] == "payment_intent_unexpected_state"
    assert error["payment_intent"]["status"] == "succeeded"


def test_a_cancel_releases_everything(client: Client) -> None:
    id_ = client.intent(capture_method="manual")["id"]
    assert client.post(f"/v1/payment_intents/{id_}/cancel")["status"] == "canceled"
    assert client.bank.charges()[0].held_minor == 0
    assert (
        client.post(f"/v1/payment_intents/{id_}/cancel")["error"]["code"] == "payment_intent_unexpected_state"
    )


def test_refunds_come_in_parts_and_never_exceed_what_was_taken(client: Client) -> None:
    id_ = client.intent()["id"]
    for amount in (400, 500):
        assert client.post("/v1/refunds", {"payment_intent": id_, "amount": amount})["status"] == "succeeded"
    assert client.post("/v1/refunds", {"payment_intent": id_, "amount": 101})["error"]["param"] == "amount"
    assert client.post("/v1/refunds", {"payment_intent": id_})["amount"] == 100
    assert client.post("/v1/refunds", {"payment_intent": id_})["error"]["code"] == "charge_already_refunded"
    assert client.bank.refunded_minor("pay_1") == 1000
    assert len(client.get("/v1/refunds", {"payment_intent": id_})["data"]) == 3


def test_an_uncaptured_payment_cannot_be_refunded(client: Client) -> None:
    id_ = client.intent(capture_method="manual")["id"]
    assert "error" in client.post("/v1/refunds", {"payment_intent": id_})
    assert client.bank.refunded_minor("pay_1") == 0


def test_every_test_token_gets_its_cards_verdict(client: Client) -> None:
    for index, (token, number) in enumerate(STRIPE_TOKENS.items()):
        verdict = CARDS[number]
        reply = client.intent(payment_method=token, **{"metadata[payment_id]": f"pay_{index}"})
        if verdict.authenticate:
            assert reply["status"] == "requires_action", token
        elif verdict.approved:
            assert reply["status"] == "succeeded", token
        else:
            error = reply["error"]
            assert verdict.code in (error["code"], error.get("decline_code")), token
            assert error["payment_intent"]["status"] == "requires_payment_method"
            assert client.bank.charges(f"pay_{index}") == []


def test_a_magic_amount_decides_for_a_good_card(client: Client) -> None:
    for amount, verdict in AMOUNTS.items():
        reply = client.intent(amount=amount)
        assert ("error" in reply) is bool(verdict.code)
    assert client.bank.charges() == []


def test_the_payer_authenticates_on_the_page_and_only_then_is_charged(client: Client) -> None:
    intent = client.intent(
        payment_method="pm_card_authenticationRequired", return_url="https://shop.test/back?x=1"
    )
    path = intent["next_action"]["redirect_to_url"]["url"]
    assert client.bank.charges() == []
    page = client.raw(path, method="GET")
    assert b"Authenticate" in page.body
    back = client.raw(path, {"action": "authenticate"})
    assert back.status == 303
    assert back.headers["location"].startswith(f"https://shop.test/back?x=1&payment_intent={intent['id']}&")
    assert client.get(f"/v1/payment_intents/{intent['id']}")["status"] == "succeeded"
    client.raw(path, {"action": "authenticate"})
    assert client.bank.captured_minor("pay_1") == 1000


def test_a_payer_who_fails_is_not_charged(client: Client) -> None:
    intent = client.intent(payment_method="pm_card_threeDSecure2Required")
    assert intent["next_action"]["type"] == "use_stripe_sdk"
    client.raw(f"/3ds/{intent['id']}", {"action": "fail"})
    found = client.get(f"/v1/payment_intents/{intent['id']}")
    assert found["status"] == "requires_payment_method"
    assert found["last_payment_error"]["code"] == "payment_intent_authentication_failure"
    assert client.bank.charges() == []


def test_manual_confirmation_waits_for_the_server_after_the_page(client: Client) -> None:
    intent = client.intent(payment_method="pm_card_authenticationRequired", confirmation_method="manual")
    client.raw(f"/3ds/{intent['id']}", {"action": "authenticate"})
    assert client.get(f"/v1/payment_intents/{intent['id']}")["status"] == "requires_confirmation"
    assert client.post(f"/v1/payment_intents/{intent['id']}/confirm")["status"] == "succeeded"


def test_an_off_session_charge_that_needs_the_payer_is_declined(client: Client) -> None:
    error = client.intent(payment_method="pm_card_authenticationRequired", off_session="true")["error"]
    assert error["code"] == "authentication_required"


def test_the_search_is_behind_and_the_list_is_not() -> None:
    client = Client(search_lag_s=60.0)
    intent = client.intent(**{"metadata[operation_id]": "op_9"})
    query = {"query": "metadata['operation_id']:'op_9'"}
    assert client.get("/v1/payment_intents/search", query)["data"] == []
    assert client.get("/v1/payment_intents")["data"][0]["id"] == intent["id"]
    client.clock.us += 60_000_000
    assert [row["id"] for row in client.get("/v1/payment_intents/search", query)["data"]] == [intent["id"]]
    more = {"query": 'metadata["operation_id"]:"op_9" AND status:"canceled"'}
    assert client.get("/v1/payment_intents/search", more)["data"] == []


def test_lists_page_newest_first_and_filter_by_time(client: Client) -> None:
    ids = []
    for _ in range(5):
        ids.append(client.intent()["id"])
        client.clock.us += 1_000_000
    first = client.get("/v1/payment_intents", {"limit": 2})
    assert [row["id"] for row in first["data"]] == [ids[4], ids[3]]
    assert first["has_more"] is True
    second = client.get("/v1/payment_intents", {"limit": 2, "starting_after": ids[3]})
    assert [row["id"] for row in second["data"]] == [ids[2], ids[1]]
    since = START_US // 1_000_000 + 3
    assert len(client.get("/v1/payment_intents", {"created[gte]": since})["data"]) == 2
    assert len(client.get("/v1/payment_intents", {"created[lt]": since})["data"]) == 3


@pytest.mark.parametrize(
    ("currency", "amount", "minor"),
    [
        ("jpy", 500, 500),
        ("usd", 500, 500),
        ("isk", 500, 5),
        ("ugx", 500, 5),
        ("kwd", 5000, 5000),
        ("mga", 5, 500),
    ],
)
def test_the_books_are_in_iso_minor_units(client: Client, currency: str, amount: int, minor: int) -> None:
    client.intent(currency=currency, amount=amount)
    assert client.bank.captured_minor("pay_1") == minor == to_iso_minor(amount, currency.upper())


@pytest.mark.parametrize(
    "change",
    [
        {"amount": "0"},
        {"amount": "1.5"},
        {"amount": "100000000"},
        {"currency": "xxq"},
        {"currency": "isk", "amount": "150"},
        {"currency": "kwd", "amount": "1001"},
        {"nonsense": "1"},
        {"payment_method": "pm_unknown"},
        {"capture_method": "sometimes"},
        {"confirm": "maybe"},
    ],
)
def test_a_wrong_parameter_is_refused_and_nothing_moves(client: Client, change: dict[str, str]) -> None:
    assert client.intent(**change)["error"]["type"] == "invalid_request_error"
    assert client.bank.movements() == []


def test_no_card_number_is_kept_in_the_books(client: Client) -> None:
    number = "4000000000009995"
    card = {
        "type": "card",
        "card[number]": number,
        "card[exp_month]": 12,
        "card[exp_year]": 2040,
        "card[cvc]": "987",
    }
    method = client.post("/v1/payment_methods", card)
    assert method["card"]["last4"] == "9995"
    assert client.intent(payment_method=method["id"])["error"]["decline_code"] == "insufficient_funds"
    dump = "\n".join(client.bank.db.iterdump())
    assert number not in dump
    assert number.encode().hex() not in dump.lower()


def test_a_card_number_that_is_none_is_refused(client: Client) -> None:
    card = {"type": "card", "card[number]": "4242424242424241", "card[exp_month]": 12, "card[exp_year]": 2040}
    assert client.post("/v1/payment_methods", card)["error"]["code"] == "incorrect_number"


def test_the_same_seed_gives_the_same_ids() -> None:
    assert [Client().intent()["id"] for _ in range(2)] == [Client().intent()["id"]] * 2


def test_a_psp_that_is_restarted_with_its_seed_gives_out_no_id_again(client: Client) -> None:
    ids = [PspIds(client.bank, "stripe", 7).new("pi_") for _ in range(3)]
    assert len(set(ids)) == 3


def test_forms_nest() -> None:
    assert decode_form("a=1&b[c]=2&b[d][e]=3&f[]=4&f[]=5&g[0][h]=6") == {
        "a": "1",
        "b": {"c": "2", "d": {"e": "3"}},
        "f": ["4", "5"],
        "g": [{"h": "6"}],
    }
    for bad in ("a=1&a[b]=2", "[x]=1&" + "a[b]" * 9 + "=1", "no-equals"):
        with pytest.raises(BadForm):
            decode_form(bad)


def test_a_token_for_both_psps_is_made_of_known_ones() -> None:
    token = sandbox_token("pm_card_chargeDeclined", "tok_visa")
    assert (token.token_for("stripe"), token.token_for("plainpay")) == ("pm_card_chargeDeclined", "tok_visa")
    assert set(PLAINPAY_TOKENS.values()) <= set(CARDS)
    with pytest.raises(ValueError, match="tok_nope"):
        sandbox_token(plainpay="tok_nope")
