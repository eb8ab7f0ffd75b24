"""The PayPal face, request by request: its quirks, its request ids and its books. Answers fit PayPal's own documents."""

from __future__ import annotations

import base64
import re
from collections import Counter
from typing import Any

import msgspec
import pytest
from openapi_schema_validator import OAS30Validator

from aegispay.domain.money import exponent_of
from aegispay.sandbox import paypal_objects
from aegispay.sandbox.bank import Bank
from aegispay.sandbox.paypal_face import PayPalPsp
from aegispay.sandbox.wire import Ticket, WireReply, WireRequest, handle
from tests.fakes.psp_data import psp_document
from tests.unit.test_sandbox_stripe_psp import SteppedClock

BASIC = "Basic " + base64.b64encode(b"paypal-sandbox-client:paypal-sandbox-secret").decode()
DOCUMENTS = ("paypal/checkout_orders_v2.json", "paypal/payments_payment_v2.json")
checked: Counter[str] = Counter()


def check_reply(request: WireRequest, reply: WireReply) -> None:
    """Validates an answer against the operation that PayPal's documents declare for the request."""
    for name in DOCUMENTS:
        document = psp_document(name)
        for path, methods in document["paths"].items():
            pattern = re.sub(r"\{[^}]+\}", "[A-Z0-9]+", path)
            operation = methods.get(request.method.lower())
            if operation is None or not re.fullmatch(pattern, request.path):
                continue
            declared = operation["responses"].get(str(reply.status))
            assert declared is not None or reply.status in (401, 409, 500), (path, reply.status)
            content = ((declared or {}).get("content") or {}).get("application/json")
            if content is None:
                return
            body = msgspec.json.decode(reply.body)
            OAS30Validator({**content["schema"], "components": document["components"]}).validate(body)
            checked[f"{request.method} {path} {reply.status}"] += 1


class Client:
    """Sends requests straight into the PSP, and checks each answer."""

    def __init__(self, **options: Any) -> None:
        self.bank = Bank()
        self.clock = SteppedClock()
        self.psp = PayPalPsp(self.bank, clock=self.clock, seed=7, **options)
        self.psp.base_url = "http://127.0.0.1:1"
        self.token = self.log_in()

    def log_in(self) -> str:
        request = WireRequest(
            method="POST",
            path="/v1/oauth2/token",
            headers={"authorization": BASIC},
            body=b"grant_type=client_credentials",
        )
        return str(msgspec.json.decode(handle(self.psp, request).body)["access_token"])

    def request(self, path: str, body: Any = None, key: str = "", **headers: str) -> WireRequest:
        sent = {"authorization": f"Bearer {self.token}", "prefer": "return=representation"}
        sent |= {"paypal-request-id": key} if key else {}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        method, raw = ("GET", b"") if body is None else ("POST", msgspec.json.encode(body))
        return WireRequest(method=method, path=path, headers=sent, body=raw)

    def raw(self, path: str, body: Any = None, key: str = "", **headers: str) -> WireReply:
        request = self.request(path, body, key, **headers)
        reply = handle(self.psp, request)
        check_reply(request, reply)
        return reply

    def send(self, path: str, body: Any = None, key: str = "", **headers: str) -> Any:
        return msgspec.json.decode(self.raw(path, body, key, **headers).body)

    def order(
        self,
        source: Any = None,
        key: str = "k-order",
        intent: str = "CAPTURE",
        value: str = "10.00",
        **unit: Any,
    ) -> Any:
        amount = {"currency_code": "USD", "value": value}
        body = {
            "intent": intent,
            "purchase_units": [{"amount": amount, "custom_id": "op_1", "reference_id": "pay_ours"} | unit],
        }
        if source is not None:
            body["payment_source"] = source
        return self.send("/v2/checkout/orders", body, key)

    def card(self, token: str = "visa", key: str = "k-order", **more: Any) -> Any:
        return self.order({"card": {"vault_id": token}}, key, **more)

    def authorized(self, **more: Any) -> str:
        order = self.card(intent="AUTHORIZE", **more)
        return str(order["purchase_units"][0]["payments"]["authorizations"][0]["id"])

    def captured(self, **more: Any) -> str:
        return str(self.card(**more)["purchase_units"][0]["payments"]["captures"][0]["id"])

    def issue(self, path: str, body: Any, key: str = "", **headers: str) -> tuple[int, str]:
        reply = self.raw(path, body, key, **headers)
        return reply.status, msgspec.json.decode(reply.body)["details"][0]["issue"]

    def page(self, id_: str, action: str, funding: str = "visa") -> WireReply:
        body = f"action={action}&funding={funding}".encode()
        reply = self.psp.admit(WireRequest(method="POST", path=f"/3ds/{id_}", body=body))
        assert isinstance(reply, WireReply)
        return reply

    def events(self) -> list[str]:
        return [notice.type for notice in self.psp.outbox.take()]


@pytest.fixture
def client() -> Client:
    return Client()


WALLET = {
    "paypal": {
        "experience_context": {
            "return_url": "https://shop.test/back?x=1",
            "cancel_url": "https://shop.test/cancel",
        }
    }
}


def usd(value: str) -> dict[str, str]:
    return {"currency_code": "USD", "value": value}


def test_a_wallet_order_waits_for_its_payer_and_is_captured_once(client: Client) -> None:
    order = client.order(WALLET)
    assert order["status"] == "PAYER_ACTION_REQUIRED"
    assert [one["rel"] for one in order["links"]] == ["self", "payer-action"]
    capture = f"/v2/checkout/orders/{order['id']}/capture"
    assert client.issue(capture, {}, "k-1") == (422, "ORDER_NOT_APPROVED")
    back = client.page(order["id"], "authenticate")
    assert back.headers["location"].startswith(f"https://shop.test/back?x=1&token={order['id']}&PayerID=")
    paid = client.send(capture, {}, "k-1")
    assert (paid["status"], paid["purchase_units"][0]["payments"]["captures"][0]["status"]) == (
        "COMPLETED",
        "COMPLETED",
    )
    assert client.issue(capture, {}, "k-2") == (422, "ORDER_ALREADY_CAPTURED")
    assert client.bank.captured_minor("pay_ours") == 1000
    assert client.events() == ["CHECKOUT.ORDER.APPROVED", "PAYMENT.CAPTURE.COMPLETED"]


def test_a_payer_who_cancels_is_sent_to_the_cancel_url_and_nothing_is_taken(client: Client) -> None:
    order = client.order(WALLET)
    location = client.page(order["id"], "fail").headers["location"]
    assert location == f"https://shop.test/cancel?token={order['id']}"
    assert client.send(f"/v2/checkout/orders/{order['id']}")["status"] == "PAYER_ACTION_REQUIRED"
    assert client.bank.charges() == []


def test_a_declined_card_is_a_201_with_a_completed_order_and_a_declined_capture(client: Client) -> None:
    order = client.card("insufficientfunds")
    capture = order["purchase_units"][0]["payments"]["captures"][0]
    assert (order["status"], capture["status"]) == ("COMPLETED", "DECLINED")
    assert capture["processor_response"]["response_code"] == "5120"
    assert client.bank.charges() == []
    assert client.events() == ["PAYMENT.CAPTURE.DENIED"]
    refund = f"/v2/payments/captures/{capture['id']}/refund"
    assert client.issue(refund, {}, "k-r") == (422, "REFUND_NOT_ALLOWED")


def test_a_declined_authorisation_is_denied_and_cannot_be_captured(client: Client) -> None:
    id_ = client.authorized(token="stolencard")
    assert client.send(f"/v2/payments/authorizations/{id_}")["status"] == "DENIED"
    assert client.issue(f"/v2/payments/authorizations/{id_}/capture", {}, "k") == (
        422,
        "AUTHORIZATION_DENIED",
    )
    assert client.bank.charges() == []


def test_a_declined_wallet_is_asked_for_another_instrument(client: Client) -> None:
    order = client.order(WALLET)
    client.page(order["id"], "authenticate", "declined")
    path = f"/v2/checkout/orders/{order['id']}/capture"
    assert client.issue(path, {}, "k-1") == (422, "INSTRUMENT_DECLINED")
    client.page(order["id"], "authenticate", "visa")
    assert client.send(path, {}, "k-1")["status"] == "COMPLETED"
    assert client.bank.captured_minor("pay_ours") == 1000


@pytest.mark.parametrize(
    ("name", "code"), [("CCREJECT-REFUSED", "0500"), ("CCREJECT-SF", "9500"), ("CCREJECT-LS", "9520")]
)
def test_a_cardholder_name_decides(client: Client, name: str, code: str) -> None:
    card = {"number": "4242424242424242", "expiry": "2040-01", "name": name}
    order = client.order({"card": card})
    capture = order["purchase_units"][0]["payments"]["captures"][0]
    assert capture["processor_response"]["response_code"] == code


def test_a_card_that_wants_3ds_is_paid_after_the_payer_authenticated(client: Client) -> None:
    source = {
        "card": {"vault_id": "threeds", "attributes": {"verification": {"method": "SCA_WHEN_REQUIRED"}}}
    }
    order = client.order(source)
    assert order["status"] == "PAYER_ACTION_REQUIRED"
    path = f"/v2/checkout/orders/{order['id']}/capture"
    assert client.issue(path, {}, "k-1") == (422, "PAYER_ACTION_REQUIRED")
    client.page(order["id"], "authenticate")
    assert client.send(path, {}, "k-1")["status"] == "COMPLETED"
    assert client.bank.captured_minor("pay_ours") == 1000


# --- request ids --------------------------------------------------------------------------------------------


def test_an_order_key_answers_for_six_hours_and_then_executes_again(client: Client) -> None:
    first, again = client.card(key="k"), client.card(key="k")
    assert first["id"] == again["id"]
    client.clock.us += 6 * 3_600_000_000 - 1
    assert client.card(key="k")["id"] == first["id"]
    assert client.bank.captured_minor("pay_ours") == 1000
    client.clock.us += 1
    assert client.card(key="k")["id"] != first["id"]
    assert client.bank.captured_minor("pay_ours") == 2000


def test_a_payment_key_answers_for_45_days(client: Client) -> None:
    path = f"/v2/payments/captures/{client.captured()}/refund"
    first = client.send(path, {"amount": usd("1.00")}, "k")
    client.token, client.psp.token_ttl_s = client.log_in(), 1e9
    client.clock.us += 45 * 86_400_000_000 - 1
    client.token = client.log_in()
    assert client.send(path, {"amount": usd("1.00")}, "k")["id"] == first["id"]
    client.clock.us += 1
    assert client.send(path, {"amount": usd("1.00")}, "k")["id"] != first["id"]
    assert client.bank.refunded_minor("pay_ours") == 200


def test_a_replay_shows_the_latest_status_with_a_200(client: Client) -> None:
    id_ = client.captured(key="k")
    client.send(f"/v2/payments/captures/{id_}/refund", {}, "k-r")
    order = {
        "intent": "CAPTURE",
        "purchase_units": [{"amount": usd("10.00")}],
        "payment_source": {"card": {"vault_id": "visa"}},
    }
    reply = client.raw("/v2/checkout/orders", order, "k")
    captures = msgspec.json.decode(reply.body)["purchase_units"][0]["payments"]["captures"]
    assert (reply.status, captures[0]["status"]) == (200, "REFUNDED")


def test_a_key_belongs_to_one_kind_of_call(client: Client) -> None:
    order = client.order(WALLET, key="k")
    client.page(order["id"], "authenticate")
    assert client.send(f"/v2/checkout/orders/{order['id']}/capture", {}, "k")["status"] == "COMPLETED"


def test_a_card_without_a_key_is_refused(client: Client) -> None:
    body = {
        "intent": "CAPTURE",
        "purchase_units": [{"amount": usd("1.00")}],
        "payment_source": {"card": {"vault_id": "visa"}},
    }
    assert client.issue("/v2/checkout/orders", body) == (400, "PAYPAL_REQUEST_ID_REQUIRED")


def test_a_request_that_is_under_way_conflicts_with_its_repetition(client: Client) -> None:
    request = client.request(f"/v2/payments/captures/{client.captured()}/refund", {}, "k")
    ticket = client.psp.admit(request)
    assert isinstance(ticket, Ticket)
    conflict = client.psp.admit(request)
    assert isinstance(conflict, WireReply)
    assert (conflict.status, b"PREVIOUS_REQUEST_IN_PROGRESS" in conflict.body) == (409, True)
    check_reply(request, conflict)
    client.psp.execute(ticket)
    assert client.bank.refunded_minor("pay_ours") == 1000


@pytest.mark.parametrize(("fail", "taken"), [("before", 0), ("after", 1000)])
def test_an_order_that_broke_at_paypal_is_paid_once_when_it_is_sent_again(
    client: Client, fail: str, taken: int
) -> None:
    body = {
        "intent": "CAPTURE",
        "purchase_units": [{"amount": usd("10.00"), "reference_id": "pay_ours"}],
        "payment_source": {"card": {"vault_id": "visa"}},
    }
    request = client.request("/v2/checkout/orders", body, "k")
    ticket = client.psp.admit(request)
    assert isinstance(ticket, Ticket)
    assert client.psp.execute(ticket, fail).status == 500
    assert client.bank.captured_minor("pay_ours") == taken
    assert handle(client.psp, request).status in (200, 201)
    assert client.bank.captured_minor("pay_ours") == 1000


# --- authorisations -----------------------------------------------------------------------------------------


def test_an_authorisation_is_captured_in_parts_until_the_final_one(client: Client) -> None:
    id_ = client.authorized()
    path = f"/v2/payments/authorizations/{id_}"
    client.send(f"{path}/capture", {"amount": usd("3.00"), "invoice_id": "op_c1"}, "k-1")
    assert client.send(path)["status"] == "PARTIALLY_CAPTURED"
    assert client.issue(f"{path}/capture", {"amount": usd("8.00")}, "k-2") == (
        422,
        "MAX_CAPTURE_AMOUNT_EXCEEDED",
    )
    client.send(f"{path}/capture", {"amount": usd("2.00"), "final_capture": True}, "k-3")
    assert client.send(path)["status"] == "CAPTURED"
    assert client.issue(f"{path}/capture", {}, "k-4") == (422, "AUTHORIZATION_ALREADY_CAPTURED")
    charge = client.bank.charges()[0]
    assert (charge.captured_minor, charge.released_minor) == (500, 500)


def test_a_void_is_done_once_and_says_so_afterwards(client: Client) -> None:
    path = f"/v2/payments/authorizations/{client.authorized()}/void"
    assert client.raw(path, {}, prefer="return=minimal").status == 204
    assert client.issue(path, {}) == (422, "PREVIOUSLY_VOIDED")
    assert client.issue(path.replace("void", "capture"), {}, "k") == (422, "AUTHORIZATION_VOIDED")
    assert client.bank.charges()[0].held_minor == 0


def test_what_was_captured_whole_cannot_be_voided(client: Client) -> None:
    path = f"/v2/payments/authorizations/{client.authorized()}"
    client.send(f"{path}/capture", {}, "k")
    assert client.issue(f"{path}/void", {}) == (422, "PREVIOUSLY_CAPTURED")


def test_a_void_gives_back_what_partial_captures_left(client: Client) -> None:
    path = f"/v2/payments/authorizations/{client.authorized()}"
    client.send(f"{path}/capture", {"amount": usd("4.00")}, "k")
    assert client.send(f"{path}/void", {})["status"] == "VOIDED"
    assert client.bank.charges()[0].held_minor == 0


def test_an_authorisation_lapses_after_29_days(client: Client) -> None:
    path = f"/v2/payments/authorizations/{client.authorized()}"
    client.clock.us += 29 * 86_400_000_000
    client.token = client.log_in()
    assert client.issue(f"{path}/capture", {}, "k") == (422, "AUTHORIZATION_EXPIRED")
    assert client.bank.charges()[0].held_minor == 0


def test_a_reauthorisation_is_not_supported(client: Client) -> None:
    path = f"/v2/payments/authorizations/{client.authorized()}/reauthorize"
    assert client.issue(path, {}, "k") == (422, "REAUTHORIZATION_NOT_SUPPORTED")


def test_an_order_to_authorize_is_not_captured(client: Client) -> None:
    order = client.order(WALLET, intent="AUTHORIZE")
    client.page(order["id"], "authenticate")
    # PayPal answers so, and its document forgets it: the answer is not checked against that.
    refused = handle(client.psp, client.request(f"/v2/checkout/orders/{order['id']}/capture", {}, "k"))
    assert b"ACTION_DOES_NOT_MATCH_INTENT" in refused.body
    done = client.send(f"/v2/checkout/orders/{order['id']}/authorize", {}, "k")
    assert done["purchase_units"][0]["payments"]["authorizations"][0]["status"] == "CREATED"
    assert client.issue(f"/v2/checkout/orders/{order['id']}/authorize", {}, "k-2") == (
        422,
        "ORDER_ALREADY_AUTHORIZED",
    )


# --- the rest -----------------------------------------------------------------------------------------------


def test_refunds_stop_at_what_was_captured(client: Client) -> None:
    id_ = client.captured()
    path = f"/v2/payments/captures/{id_}/refund"
    refund = client.send(path, {"amount": usd("4.00"), "custom_id": "op_r"}, "k-1")
    assert client.send(f"/v2/payments/refunds/{refund['id']}")["status"] == "COMPLETED"
    assert client.send(f"/v2/payments/captures/{id_}")["status"] == "PARTIALLY_REFUNDED"
    assert client.issue(path, {"amount": usd("7.00")}, "k-2") == (422, "REFUND_AMOUNT_EXCEEDED")
    client.send(path, {}, "k-3")
    assert client.issue(path, {}, "k-4") == (422, "CAPTURE_FULLY_REFUNDED")
    assert client.bank.refunded_minor("pay_ours") == 1000


def test_an_invoice_id_stops_a_second_payment_where_the_account_demands_it(client: Client) -> None:
    client.psp.state.unique_invoices = True
    client.card(key="k-1", invoice_id="inv_1")
    body = {
        "intent": "CAPTURE",
        "purchase_units": [{"amount": usd("10.00"), "invoice_id": "inv_1"}],
        "payment_source": {"card": {"vault_id": "visa"}},
    }
    assert client.issue("/v2/checkout/orders", body, "k-2") == (422, "DUPLICATE_INVOICE_ID")
    assert client.bank.captured_minor("pay_ours") == 1000
    client.psp.state.unique_invoices = False
    client.card(key="k-3", invoice_id="inv_1")
    assert client.bank.captured_minor("pay_ours") == 2000


def test_a_declined_payment_does_not_use_up_its_invoice_id(client: Client) -> None:
    client.psp.state.unique_invoices = True
    client.card("declined", key="k-1", invoice_id="inv_1")
    client.card("visa", key="k-2", invoice_id="inv_1")
    assert client.bank.captured_minor("pay_ours") == 1000


def test_a_token_expires(client: Client) -> None:
    client.clock.us += 32_400_000_000
    assert client.raw("/v2/checkout/orders/NONE").status == 401
    client.token = client.log_in()
    assert client.raw("/v2/checkout/orders/NONE").status == 404


def test_wrong_credentials_get_no_token(client: Client) -> None:
    wrong = "Basic " + base64.b64encode(b"paypal-sandbox-client:wrong").decode()
    request = WireRequest(
        method="POST",
        path="/v1/oauth2/token",
        headers={"authorization": wrong},
        body=b"grant_type=client_credentials",
    )
    assert handle(client.psp, request).status == 401


def test_a_minimal_answer_has_the_id_the_status_and_the_links(client: Client) -> None:
    body = {"intent": "CAPTURE", "purchase_units": [{"amount": usd("1.00")}]}
    assert set(client.send("/v2/checkout/orders", body, prefer="return=minimal")) == {"id", "status", "links"}


@pytest.mark.parametrize("currency", sorted(paypal_objects.CURRENCIES))
def test_amounts_have_the_decimals_that_paypal_gives_the_currency(client: Client, currency: str) -> None:
    whole = currency in ("HUF", "JPY", "TWD")
    value = "12" if whole else "12.34"
    order = client.card(amount={"currency_code": currency, "value": value})
    assert order["purchase_units"][0]["amount"] == {"currency_code": currency, "value": value}
    assert client.bank.captured_minor("pay_ours") == (12 * 10 ** exponent_of(currency) if whole else 1234)
    body = {
        "intent": "CAPTURE",
        "purchase_units": [{"amount": {"currency_code": currency, "value": "12.34" if whole else "12.345"}}],
    }
    assert client.issue("/v2/checkout/orders", body, "k-2") == (422, "DECIMAL_PRECISION")


def test_a_payment_source_that_cannot_be_used_is_refused(client: Client) -> None:
    unit = {"amount": usd("1.00")}
    for source, issue in (
        ({"card": {"vault_id": "nobody"}}, "PAYMENT_SOURCE_INFO_CANNOT_BE_VERIFIED"),
        ({"card": {"expiry": "2040-01"}}, "MISSING_REQUIRED_PARAMETER"),
        ({"card": {"number": "4242424242424241", "expiry": "2040-01"}}, "INVALID_PARAMETER_VALUE"),
        ({"sofort": {}}, "NOT_SUPPORTED"),
    ):
        body = {"intent": "CAPTURE", "purchase_units": [unit], "payment_source": source}
        assert client.issue("/v2/checkout/orders", body, "k")[1] == issue


def test_what_is_no_amount_is_refused(client: Client) -> None:
    for money, issue in (
        (usd("0.00"), "CANNOT_BE_ZERO_OR_NEGATIVE"),
        (usd("-1.00"), "CANNOT_BE_ZERO_OR_NEGATIVE"),
        (usd("1,00"), "INVALID_PARAMETER_SYNTAX"),
        ({"currency_code": "INR", "value": "1.00"}, "INVALID_CURRENCY_CODE"),
        ({"value": "1.00"}, "MISSING_REQUIRED_PARAMETER"),
    ):
        body = {"intent": "CAPTURE", "purchase_units": [{"amount": money}]}
        assert client.issue("/v2/checkout/orders", body, "k")[1] == issue


# --- the list of transactions -------------------------------------------------------------------------------

WINDOW = "start_date=2023-11-14T00:00:00Z&end_date=2023-11-16T00:00:00Z"


def report(client: Client, query: str = WINDOW) -> Any:
    request = msgspec.structs.replace(client.request("/v1/reporting/transactions"), query=query)
    body = msgspec.json.decode(handle(client.psp, request).body)
    if body.get("transaction_details"):
        document = psp_document("paypal/reporting_transactions_v1.json")
        schema = {"$ref": "#/components/schemas/search_response", "components": document["components"]}
        OAS30Validator(schema).validate(body)
        checked["GET /v1/reporting/transactions 200"] += 1
    return body


def test_transactions_are_listed_once_the_list_has_caught_up(client: Client) -> None:
    client.psp.reports.lag_s = 3_600.0
    id_ = client.captured()
    client.send(f"/v2/payments/captures/{id_}/refund", {"amount": usd("4.00"), "custom_id": "op_r"}, "k-r")
    assert report(client)["total_items"] == 0
    client.clock.us += 3_600_000_000
    found = report(client)
    rows = [one["transaction_info"] for one in found["transaction_details"]]
    assert [(one["custom_field"], one["transaction_amount"]["value"]) for one in rows] == [
        ("op_1", "10.00"),
        ("op_r", "-4.00"),
    ]
    assert found["last_refreshed_datetime"] == "2023-11-14T22:13:20Z"
    pages = [report(client, f"{WINDOW}&page_size=1&page={page}") for page in (1, 2)]
    assert [one["total_pages"] for one in pages] == [2, 2]
    assert report(client, f"{WINDOW}&transaction_currency=EUR")["total_items"] == 0
    assert report(client, f"{WINDOW}&transaction_id={id_}")["total_items"] == 1


def test_a_list_over_too_long_a_time_or_without_the_permission_is_refused(client: Client) -> None:
    long = "start_date=2023-01-01T00:00:00Z&end_date=2023-02-02T00:00:00Z"
    assert report(client, long)["name"] == "INVALID_REQUEST"
    assert report(client, "start_date=2023-01-01")["name"] == "INVALID_REQUEST"
    client.psp.reports.permitted = False
    assert report(client)["name"] == "NOT_AUTHORIZED"


OPERATIONS = {
    "POST /v2/checkout/orders": "",
    "POST /v2/checkout/orders/{id}/capture": "order",
    "POST /v2/checkout/orders/{id}/authorize": "order",
    "POST /v2/payments/authorizations/{authorization_id}/capture": "authorization",
    "POST /v2/payments/authorizations/{authorization_id}/void": "authorization",
    "POST /v2/payments/captures/{capture_id}/refund": "capture",
}


def test_every_documented_issue_of_an_operation_can_be_asked_for_and_nothing_is_executed(
    client: Client,
) -> None:
    issues = psp_document("paypal/error_issues.json")
    asked = 0
    for operation in OPERATIONS:
        path = re.sub(r"\{[^}]+\}", "0" * 17, operation.removeprefix("POST "))
        for status, names in issues[operation].items():
            for name in names:
                if int(status) in (400, 403) and name not in paypal_objects._STATUS_OF:
                    continue  # Only the document knows that these are no 422.
                header = msgspec.json.encode({"mock_application_codes": name}).decode()
                found = client.issue(path, {}, f"k-{asked}", paypal_mock_response=header)
                assert found == (int(status), name), operation
                asked += 1
    print(f"\n{asked} documented issues were answered as declared.")  # noqa: T201
    assert asked > 250
    assert client.bank.charges() == []


def test_how_much_was_checked() -> None:
    for row in sorted(checked):
        print(f"\n{checked[row]:5} {row}", end="")  # noqa: T201
    print(f"\n{sum(checked.values())} answers fit PayPal's OpenAPI documents.")  # noqa: T201
