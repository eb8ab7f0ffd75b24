"""The Adyen face, request by request: its quirks, its notices and the books; every answer fits Adyen's own document."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest
from openapi_schema_validator import OAS31Validator

from aegispay.domain.money import exponent_of
from aegispay.sandbox.adyen_face import API_KEY, HMAC_KEY, MERCHANT_ACCOUNT, AdyenPsp
from aegispay.sandbox.adyen_notices import batched, signature
from aegispay.sandbox.adyen_tables import HOLDER_NAMES, OWN_EXPONENTS, STORED_METHODS, to_iso_minor
from aegispay.sandbox.bank import Bank, MovementKind
from aegispay.sandbox.faults import FaultKind, FaultShell
from aegispay.sandbox.issuer import CARDS
from aegispay.sandbox.wire import Ticket, WireReply, WireRequest, handle
from tests.fakes.psp_data import psp_document
from tests.unit.test_sandbox_stripe_psp import SteppedClock

checked = {"answers": 0, "notices": 0}


@pytest.fixture(scope="module", autouse=True)
def _count() -> Iterator[None]:
    yield
    sys.stdout.write(
        f"\nAdyen's documents: {checked['answers']} answers and {checked['notices']} notices fit\n"
    )


@lru_cache(maxsize=64)
def answers(path: str, status: int) -> OAS31Validator:
    document = psp_document("adyen/CheckoutService-v71.json")
    path = re.sub(r"(?<=/payments/)[A-Z0-9]{1,64}(?=/)", "{paymentPspReference}", path)
    content = document["paths"][path]["post"]["responses"][str(status)]["content"]
    reference = content["application/json"]["schema"]["$ref"]
    schemas = dict(document["components"]["schemas"])
    name = reference.rsplit("/", 1)[1]
    schemas[name] = {**schemas[name], "additionalProperties": False}
    return OAS31Validator({"$ref": reference, "components": {"schemas": schemas}})


@lru_cache(maxsize=64)
def notices(code: str) -> OAS31Validator:
    document = psp_document("adyen/Webhooks-v1.json")
    body = document["webhooks"][f"/{code}"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    schemas = dict(document["components"]["schemas"])
    name = "AuthorisationNotificationAdditionalData"
    # Adyen writes a payment's metadata as `metadata.NAME`, which its document has no way to list.
    schemas[name] = {**schemas[name], "patternProperties": {r"^metadata\.": {"type": "string"}}}
    return OAS31Validator({**body, "components": {**document["components"], "schemas": schemas}})


class Client:
    """Sends requests straight into the PSP, and holds every answer and notice against Adyen's documents."""

    def __init__(self, **options: Any) -> None:
        self.bank = Bank()
        self.clock = SteppedClock()
        self.psp = AdyenPsp(self.bank, clock=self.clock, seed=7, **options)
        self.psp.base_url = "http://127.0.0.1:1"

    def request(self, path: str, body: Any, key: str = "", *, api_key: str = API_KEY) -> WireRequest:
        headers = {"x-api-key": api_key, **({"idempotency-key": key} if key else {})}
        raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return WireRequest(method="POST", path="/v71" + path, headers=headers, body=raw)

    def raw(self, path: str, body: Any, key: str = "", **more: str) -> WireReply:
        reply = handle(self.psp, self.request(path, body, key, **more))
        if reply.status in (200, 201, 400, 401, 403, 422, 500):
            answers(path, reply.status).validate(msgspec.json.decode(reply.body))
            checked["answers"] += 1
        return reply

    def send(self, path: str, body: Any, key: str = "", **more: str) -> Any:
        return msgspec.json.decode(self.raw(path, body, key, **more).body)

    def pay(self, key: str = "", **more: Any) -> Any:
        return self.send("/payments", payment(**more), key)

    def modify(self, id_: str, verb: str, value: int | None = None, key: str = "", **more: Any) -> Any:
        body = {"merchantAccount": MERCHANT_ACCOUNT, "reference": f"op_{verb}"} | more
        if value is not None:
            body["amount"] = {"currency": "EUR", "value": value}
        return self.send(f"/payments/{id_}/{verb}", body, key)

    def told(self) -> list[Any]:
        """The items that wait for delivery, each of which must fit its document and carry its signature."""
        items: list[Any] = []
        for one in self.psp.outbox.take():
            body = msgspec.json.decode(one.body)
            for entry in body["notificationItems"]:
                item = entry["NotificationRequestItem"]
                notices(item["eventCode"]).validate(body)
                checked["notices"] += 1
                sent = item["additionalData"].pop("hmacSignature")
                assert sent == signature(item, HMAC_KEY)
                items.append(item)
        return items


def payment(**more: Any) -> dict[str, Any]:
    card = {
        "type": "scheme",
        "number": more.pop("number", "4111111111111111"),
        "expiryMonth": "03",
        "expiryYear": "2030",
        "holderName": more.pop("holder", "A Payer"),
        "cvc": "737",
    }
    usual = {
        "merchantAccount": MERCHANT_ACCOUNT,
        "amount": {"currency": more.pop("currency", "EUR"), "value": more.pop("value", 1000)},
        "reference": "op_pay",
        "paymentMethod": card,
        "returnUrl": "https://shop.example/back?x=1",
        "metadata": {"aegispay_payment": "pay_ours"},
    }
    return usual | more


@pytest.fixture
def client() -> Client:
    return Client()


def summary(items: list[Any]) -> list[tuple[str, str]]:
    return [(item["eventCode"], item["success"]) for item in items]


def test_a_payment_is_authorised_captured_in_part_and_the_rest_is_released(client: Client) -> None:
    paid = client.pay()
    assert paid["resultCode"] == "Authorised"
    captured = client.modify(paid["pspReference"], "captures", 400)
    assert (captured["status"], captured["paymentPspReference"]) == ("received", paid["pspReference"])
    assert captured["pspReference"] != paid["pspReference"]
    [charge] = client.bank.charges("pay_ours")
    assert (charge.reference, charge.captured_minor, charge.held_minor) == ("op_pay", 400, 0)
    items = client.told()
    assert summary(items) == [("AUTHORISATION", "true"), ("CAPTURE", "true")]
    assert "originalReference" not in items[0]
    assert items[1]["originalReference"] == paid["pspReference"]
    assert (items[1]["pspReference"], items[1]["merchantReference"]) == (
        captured["pspReference"],
        "op_captures",
    )
    assert items[0]["additionalData"]["metadata.aegispay_payment"] == "pay_ours"


def test_a_refused_modification_is_received_and_said_no_to_by_webhook_only(client: Client) -> None:
    id_ = client.pay()["pspReference"]
    assert client.modify(id_, "refunds", 100)["status"] == "received"
    assert client.modify(id_, "captures", 1001)["status"] == "received"
    client.modify(id_, "captures", 1000)
    assert client.modify(id_, "cancels")["status"] == "received"
    assert client.modify(id_, "refunds", 1001)["status"] == "received"
    assert summary(client.told()) == [
        ("AUTHORISATION", "true"),
        ("REFUND", "false"),
        ("CAPTURE", "false"),
        ("CAPTURE", "true"),
        ("CANCELLATION", "false"),
        ("REFUND", "false"),
    ]
    assert [one.kind for one in client.bank.movements()] == [MovementKind.AUTHORIZATION, MovementKind.CAPTURE]


def test_a_capture_or_refund_that_fails_afterwards_says_success_true(client: Client) -> None:
    id_ = client.pay(holder="capture failed")["pspReference"]
    client.modify(id_, "captures", 1000)
    assert summary(client.told())[1:] == [("CAPTURE", "true"), ("CAPTURE_FAILED", "true")]
    other = client.pay(holder="refund failed", captureDelayHours=0)["pspReference"]
    client.modify(other, "refunds", 300)
    assert summary(client.told())[1:] == [("REFUND", "true"), ("REFUND_FAILED", "true")]
    totals = client.bank.totals()["EUR"]
    assert (totals.captured_minor, totals.refunded_minor) == (1000, 0)


def test_several_captures_where_the_account_has_them_and_a_cancel_of_the_rest() -> None:
    client = Client(multiple_captures=True)
    id_ = client.pay()["pspReference"]
    client.modify(id_, "captures", 400)
    client.modify(id_, "captures", 300)
    client.modify(id_, "cancels")
    [charge] = client.bank.charges()
    assert (charge.captured_minor, charge.released_minor) == (700, 300)
    assert [success for _, success in summary(client.told())] == ["true"] * 4


@pytest.mark.parametrize(
    ("more", "manual"),
    [
        ({}, True),
        ({"captureDelayHours": 0}, False),
        ({"captureDelayHours": 5}, True),
        ({"additionalData": {"manualCapture": "false"}}, False),
        ({"additionalData": {"manualCapture": "true"}}, True),
    ],
)
def test_a_payment_says_itself_whether_it_waits_for_a_capture(
    client: Client, more: dict[str, Any], manual: bool
) -> None:
    client.pay(**more)
    assert client.bank.totals()["EUR"].captured_minor == (0 if manual else 1000)
    assert Client(manual_capture=False).psp.account == "adyen"


def test_a_reversal_cancels_or_refunds_whichever_is_due(client: Client) -> None:
    reserved = client.pay()["pspReference"]
    client.modify(reserved, "reversals")
    taken = client.pay(captureDelayHours=0)["pspReference"]
    client.modify(taken, "reversals")
    items = [item for item in client.told() if item["eventCode"] == "CANCEL_OR_REFUND"]
    assert [item["additionalData"]["modification.action"] for item in items] == ["cancel", "refund"]
    totals = client.bank.totals()["EUR"]
    assert (totals.released_minor, totals.captured_minor, totals.refunded_minor) == (1000, 1000, 1000)


def test_a_technical_cancel_knows_only_our_reference_and_tells_the_payments_own(client: Client) -> None:
    paid = client.pay(reference="op_lost")
    body = {"merchantAccount": MERCHANT_ACCOUNT, "paymentReference": "op_lost", "reference": "cancel_op_lost"}
    answer = client.send("/cancels", body)
    assert (answer["status"], answer["paymentReference"]) == ("received", "op_lost")
    item = client.told()[1]
    assert (item["eventCode"], item["success"]) == ("TECHNICAL_CANCEL", "true")
    assert (item["originalReference"], item["merchantReference"]) == (paid["pspReference"], "op_lost")
    assert client.bank.charges()[0].held_minor == 0
    client.send("/cancels", {"merchantAccount": MERCHANT_ACCOUNT, "paymentReference": "op_never"})
    assert summary(client.told()) == [("TECHNICAL_CANCEL", "false")]
    client.pay(reference="op_never")
    assert client.bank.charges()[1].held_minor == 1000


def test_there_is_no_way_to_ask_for_a_payment(client: Client) -> None:
    id_ = client.pay()["pspReference"]
    request = client.request(f"/payments/{id_}", {})
    assert handle(client.psp, msgspec.structs.replace(request, method="GET")).status == 404
    assert handle(client.psp, request).status == 404


@pytest.mark.parametrize("holder", sorted(HOLDER_NAMES))
def test_a_holder_name_decides_under_http_200(client: Client, holder: str) -> None:
    refusal = HOLDER_NAMES[holder]
    reply = client.raw("/payments", payment(holder=holder))
    body = msgspec.json.decode(reply.body)
    assert reply.status == 200
    assert (body["resultCode"], body["refusalReasonCode"]) == (refusal.result, refusal.code)
    by_code = client.pay(additionalData={"RequestedTestAcquirerResponseCode": refusal.code})
    assert by_code["refusalReason"] == refusal.reason
    assert summary(client.told()) == [("AUTHORISATION", "false")] * 2
    assert client.bank.charges() == []


def test_the_issuers_cards_are_the_same_here_by_number_and_by_stored_method(client: Client) -> None:
    results = {number: client.pay(number=number)["resultCode"] for number in CARDS}
    assert results["4242424242424242"] == "Authorised"
    assert results["4000002760003184"] == "RedirectShopper"
    assert {results[number] for number, verdict in CARDS.items() if verdict.code} <= {
        "Refused",
        "Error",
        "RedirectShopper",
    }
    for stored, number in STORED_METHODS.items():
        method = {"type": "scheme", "storedPaymentMethodId": stored}
        answer = client.pay(paymentMethod=method, shopperReference="shopper-7")
        assert answer["resultCode"] == results[number]
    unknown = {"type": "scheme", "storedPaymentMethodId": "stored_nothing"}
    assert client.pay(paymentMethod=unknown, shopperReference="shopper-7")["errorCode"] == "803"


def act(client: Client, paid: Any, action: str) -> str:
    """What the payer brings back from the issuer's page."""
    path = urlsplit(paid["action"]["url"]).path
    page = handle(client.psp, WireRequest(method="GET", path=path))
    assert b"Authenticate" in page.body
    reply = handle(client.psp, WireRequest(method="POST", path=path, body=f"action={action}".encode()))
    back = urlsplit(reply.headers["location"])
    query = dict(parse_qsl(back.query))
    assert (reply.status, query["x"]) == (303, "1")
    return query["redirectResult"]


def test_3ds_goes_over_a_page_of_the_issuers_and_is_decided_by_details(client: Client) -> None:
    paid = client.pay(number="4212345678901237")
    assert (paid["resultCode"], paid["action"]["type"]) == ("RedirectShopper", "redirect")
    assert client.told() == []
    token = act(client, paid, "authenticate")
    assert client.bank.charges() == []
    done = client.send("/payments/details", {"details": {"redirectResult": token}})
    assert (done["resultCode"], done["pspReference"]) == ("Authorised", paid["pspReference"])
    again = client.send("/payments/details", {"details": {"redirectResult": token}})
    assert again == done
    assert len(client.bank.charges()) == 1
    assert summary(client.told()) == [("AUTHORISATION", "true")]


def test_3ds_that_fails_or_ends_at_an_unwilling_issuer_is_refused(client: Client) -> None:
    paid = client.pay(number="4212345678901237")
    done = client.send("/payments/details", {"details": {"redirectResult": act(client, paid, "fail")}})
    assert (done["resultCode"], done["refusalReasonCode"]) == ("Refused", "11")
    other = client.pay(number="4000008400001629")
    token = act(client, other, "authenticate")
    done = client.send("/payments/details", {"details": {"redirectResult": token}})
    assert (done["resultCode"], done["refusalReasonCode"]) == ("Refused", "2")
    assert client.send("/payments/details", {"details": {"redirectResult": "x"}})["errorCode"] == "14_018"
    assert client.bank.charges() == []


def test_a_key_replays_the_first_answer_and_executes_again_after_its_time(client: Client) -> None:
    first, again = client.pay("k-1"), client.pay("k-1")
    assert again == first
    assert len(client.bank.charges()) == 1
    # Adyen says nowhere that it compares the bodies: the answer to the first request comes back for another one.
    assert client.pay("k-1", value=5000) == first
    client.clock.us += 7 * 86_400 * 1_000_000 + 1
    assert client.pay("k-1") != first
    assert len(client.bank.charges()) == 2


def test_a_refusal_is_kept_under_its_key_and_a_rejected_request_is_too(client: Client) -> None:
    first = client.pay("k-1", holder="DECLINED")
    assert client.pay("k-1") == first
    wrong = client.pay("k-2", returnUrl="")
    assert wrong["errorCode"] == "14_030"
    assert client.pay("k-2") == wrong
    assert client.raw("/payments", b"{", "k-3").status == 400
    assert client.pay("k-3")["resultCode"] == "Authorised"


@pytest.mark.parametrize("status", [409, 422])
def test_a_key_in_flight_is_refused_with_704_and_may_be_tried_again(status: int) -> None:
    client = Client(in_flight_status=status)
    ticket = client.psp.admit(client.request("/payments", payment(), "k-1"))
    assert isinstance(ticket, Ticket)
    busy = handle(client.psp, client.request("/payments", payment(), "k-1"))
    assert (busy.status, busy.headers["transient-error"]) == (status, "true")
    assert msgspec.json.decode(busy.body)["errorCode"] == "704"
    first = msgspec.json.decode(client.psp.execute(ticket).body)
    assert client.pay("k-1") == first


def test_a_key_store_that_is_down_refuses_before_anything_is_done(client: Client) -> None:
    client.psp.key_store_up = False
    reply = client.raw("/payments", payment(), "k-1")
    assert (reply.status, msgspec.json.decode(reply.body)["errorCode"]) == (503, "703")
    assert reply.headers["transient-error"] == "true"
    assert client.bank.charges() == []


def test_a_dropped_request_frees_its_key_and_a_long_key_is_refused(client: Client) -> None:
    ticket = client.psp.admit(client.request("/payments", payment(), "k-1"))
    assert isinstance(ticket, Ticket)
    client.psp.drop(ticket)
    assert client.pay("k-1")["resultCode"] == "Authorised"
    assert client.pay("k" * 65)["status"] == 422
    assert client.pay("k" * 64)["resultCode"] == "Authorised"


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"merchantAccount": "Other"}, 403, "901"),
        ({"reference": ""}, 422, "130"),
        ({"reference": "r" * 81}, 422, "702"),
        ({"returnUrl": ""}, 422, "14_030"),
        ({"number": "4111111111111112"}, 422, "101"),
        ({"amount": None}, 422, "100"),
        ({"value": 0}, 422, "137"),
        ({"value": -5}, 422, "137"),
        ({"currency": "EURO"}, 422, "138"),
        ({"currency": "eur"}, 422, "138"),
        ({"currency": "CLP", "value": 1050}, 422, "137"),
        ({"paymentMethod": {"type": "ideal"}}, 422, "14_006"),
    ],
)
def test_a_wrong_request_gets_adyens_error_and_moves_nothing(
    client: Client, change: dict[str, Any], status: int, code: str
) -> None:
    reply = client.raw("/payments", payment(**change))
    assert (reply.status, msgspec.json.decode(reply.body)["errorCode"]) == (status, code)
    assert client.bank.charges() == []


def test_who_asks_and_how_is_checked_first(client: Client) -> None:
    assert client.send("/payments", payment(), api_key="other")["errorCode"] == "000"
    assert client.raw("/payments", b"not json").status == 400
    assert client.modify("NOSUCHREFERENCE0", "captures", 5)["errorCode"] == "167"
    assert "paymentMethods" in client.send("/paymentMethods", {"merchantAccount": MERCHANT_ACCOUNT})


@pytest.mark.parametrize(
    ("currency", "value", "iso_minor"),
    [
        ("CLP", 100_00, 100),
        ("CVE", 7, 700),
        ("IDR", 7, 700),
        ("ISK", 700, 7),
        ("JPY", 7, 7),
        ("KWD", 7, 7),
        ("EUR", 7, 7),
        ("UGX", 7, 7),
    ],
)
def test_amounts_are_counted_as_adyen_counts_them(
    client: Client, currency: str, value: int, iso_minor: int
) -> None:
    client.pay(currency=currency, value=value)
    assert client.bank.charges()[0].authorized_minor == iso_minor
    assert to_iso_minor(value, currency) == iso_minor
    assert all(OWN_EXPONENTS[code] != exponent_of(code) for code in OWN_EXPONENTS)


def test_what_happens_outside_of_us_is_told(client: Client) -> None:
    left = client.pay()["pspReference"]
    client.psp.expire(left)
    taken = client.pay(captureDelayHours=0)["pspReference"]
    client.psp.dashboard_refund(taken, 250)
    client.psp.chargeback(taken)
    items = client.told()
    assert summary(items)[1] == ("EXPIRE", "true")
    assert summary(items)[3:] == [("REFUND", "true"), ("CHARGEBACK", "true")]
    assert items[3]["merchantReference"] == "op_pay"
    assert client.bank.totals()["EUR"].refunded_minor == 250


def test_a_batch_keeps_each_items_own_signature(client: Client) -> None:
    client.pay()
    client.pay(holder="DECLINED")
    batch = batched(client.psp.outbox.take())
    items = [
        entry["NotificationRequestItem"] for entry in msgspec.json.decode(batch.body)["notificationItems"]
    ]
    assert summary(items) == [("AUTHORISATION", "true"), ("AUTHORISATION", "false")]
    for item in items:
        sent = item["additionalData"].pop("hmacSignature")
        assert sent == signature(item, HMAC_KEY)


@pytest.mark.parametrize("fault", [FaultKind.ERROR_KEPT_BEFORE, FaultKind.ERROR_KEPT_AFTER])
async def test_adyens_own_break_is_kept_under_the_key(client: Client, fault: FaultKind) -> None:
    shell = FaultShell(client.psp, client.clock)
    shell.script([fault])
    request = client.request("/payments", payment(), "k-1")
    first, again = await shell.serve(request), await shell.serve(request)
    assert isinstance(first, WireReply)
    assert isinstance(again, WireReply)
    assert (first.status, again.status) == (500, 500)
    assert len(client.bank.charges()) == (1 if fault is FaultKind.ERROR_KEPT_AFTER else 0)
    assert first.body == again.body


async def test_a_duplicate_under_one_key_moves_money_once(client: Client) -> None:
    shell = FaultShell(client.psp, client.clock)
    shell.script([FaultKind.DUPLICATE, FaultKind.RATE_LIMITED, FaultKind.UNAVAILABLE])
    statuses = []
    for key in ("k-1", "k-2", "k-3"):
        answer = await shell.serve(client.request("/payments", payment(), key))
        assert isinstance(answer, WireReply)
        statuses.append(answer.status)
    assert statuses == [200, 429, 503]
    assert len(client.bank.charges()) == 1
