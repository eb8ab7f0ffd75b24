"""The Braintree face, request by request: its quirks, its notices and the books; every answer fits Braintree's schema."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from graphql import build_schema, execute, parse, validate

from aegispay.sandbox.bank import Bank, MovementKind
from aegispay.sandbox.braintree_face import PRIVATE_KEY, PUBLIC_KEY, BraintreePsp
from aegispay.sandbox.braintree_notices import challenge_answered, digest
from aegispay.sandbox.braintree_query import QueryError
from aegispay.sandbox.braintree_query import parse as read_query
from aegispay.sandbox.braintree_tables import HARD
from aegispay.sandbox.faults import FaultKind, FaultShell
from aegispay.sandbox.wire import Ticket, WireReply, WireRequest, handle
from tests.fakes.psp_data import psp_document
from tests.unit.test_sandbox_stripe_psp import SteppedClock

checked = {"documents": 0, "answers": 0}
BASIC = "Basic " + base64.b64encode(f"{PUBLIC_KEY}:{PRIVATE_KEY}".encode()).decode()
_ROOT = Path(os.environ.get("AEGISPAY_SHARED") or Path(__file__).resolve().parents[2].parent / "shared")

SALE = """{ id legacyId createdAt orderId status merchantAccountId source partiallyAuthorized
  amount { value currencyCode currencyIsoCode }
  paymentMethodSnapshot { __typename ... on CreditCardDetails { last4 } }
  refunds { id status amount { value } refundedTransaction { id } }
  partialCaptureDetails {
    __typename
    ... on ChildCapture { parentAuthorization { id } }
    ... on ParentAuthorization { childCaptures { id } totalAmountAuthorized { value } }
  }
  statusHistory { __typename status timestamp terminal source amount { value }
    ... on AuthorizedEvent { authorizationExpiresAt processorResponse { legacyCode message } }
    ... on ProcessorDeclinedEvent { declineType processorResponse { legacyCode message } }
    ... on FailedEvent { processorResponse { legacyCode } }
    ... on GatewayRejectedEvent { gatewayRejectionReason duplicateOf { id } }
  } }"""
CREDIT = "{ id legacyId orderId status amount { value currencyCode } refundedTransaction { id } }"


@pytest.fixture(scope="module", autouse=True)
def _count() -> Iterator[None]:
    yield
    sys.stdout.write(
        f"\nBraintree's schema: {checked['documents']} documents and {checked['answers']} answers fit\n"
    )


@lru_cache(maxsize=1)
def schema() -> Any:
    file = _ROOT / "psp" / "braintree" / "schema.graphql"
    if not file.is_file():
        pytest.skip("the PSP's document psp/braintree/schema.graphql is absent (set AEGISPAY_SHARED)")
    return build_schema(file.read_text(), assume_valid=True)


@lru_cache(maxsize=64)
def document(text: str) -> Any:
    found = parse(text)
    assert validate(schema(), found) == []
    checked["documents"] += 1
    return found


def conforms(text: str, variables: dict[str, Any], answer: Any) -> None:
    """The answer's data, read through the schema under the same document, is that data again."""
    if answer.get("data") and not answer.get("errors"):
        again = execute(schema(), document(text), root_value=answer["data"], variable_values=variables)
        assert again.errors is None
        assert again.data == answer["data"]
        checked["answers"] += 1


class Client:
    """Sends requests straight into the PSP, and holds documents and answers against Braintree's schema."""

    def __init__(self, **options: Any) -> None:
        self.bank = Bank()
        self.clock = SteppedClock()
        self.psp = BraintreePsp(self.bank, clock=self.clock, seed=7, **options)

    def request(self, text: str, variables: dict[str, Any], *, auth: str = BASIC) -> WireRequest:
        headers = {"authorization": auth, "braintree-version": "2019-01-01"}
        body = msgspec.json.encode({"query": text, "variables": variables})
        return WireRequest(method="POST", path="/graphql", headers=headers, body=body)

    def send(self, text: str, variables: dict[str, Any] | None = None) -> Any:
        document(text)
        reply = handle(self.psp, self.request(text, variables or {}))
        assert reply.status == 200
        answer = msgspec.json.decode(reply.body)
        conforms(text, variables or {}, answer)
        return answer

    def mutate(self, name: str, type_: str, selection: str, given: dict[str, Any]) -> Any:
        text = f"mutation M($input: {type_}!) {{ {name}(input: $input) {{ clientMutationId {selection} }} }}"
        answer = self.send(text, {"input": given})
        return answer["errors"][0]["extensions"] if "errors" in answer else answer["data"][name]

    def sale(self, amount: str = "10.00", *, charge: bool = True, **more: Any) -> Any:
        name, type_ = sale_names(charge)
        found = self.mutate(name, type_, f"transaction {SALE}", sale_input(amount, **more))
        return found.get("transaction", found)

    def capture(self, id_: str, amount: str | None = None, **more: Any) -> Any:
        options = more if amount is None else {"amount": amount, **more}
        given = {"transactionId": id_, "transaction": options, "clientMutationId": "op_capture"}
        found = self.mutate("captureTransaction", "CaptureTransactionInput", f"transaction {SALE}", given)
        return found.get("transaction", found)

    def capture_part(self, id_: str, amount: str, **more: Any) -> Any:
        given = {"transactionId": id_, "transaction": {"amount": amount, **more}}
        type_ = "PartialCaptureTransactionInput"
        found = self.mutate("partialCaptureTransaction", type_, f"capture {SALE}", given)
        return found.get("capture", found)

    def reverse(self, id_: str) -> Any:
        both = "__typename ... on Transaction { id status orderId } ... on Refund { id status orderId }"
        found = self.mutate(
            "reverseTransaction", "ReverseTransactionInput", f"reversal {{ {both} }}", {"transactionId": id_}
        )
        return found.get("reversal", found)

    def refund(self, id_: str, amount: str | None = None, **more: Any) -> Any:
        wanted = more if amount is None else {"amount": amount, **more}
        given = {"transactionId": id_, "refund": wanted}
        found = self.mutate("refundTransaction", "RefundTransactionInput", f"refund {CREDIT}", given)
        return found.get("refund", found)

    def settle(self, id_: str) -> Any:
        type_ = "SandboxSettleTransactionInput"
        return self.mutate("sandboxSettleTransaction", type_, f"transaction {SALE}", {"transactionId": id_})

    def find(self, order: str, kind: str = "transactions") -> list[Any]:
        type_ = {"transactions": "TransactionSearchInput", "refunds": "RefundSearchInput"}[kind]
        text = f"""query Q($input: {type_}!) {{ search {{ {kind}(input: $input, first: 5) {{
          pageInfo {{ hasNextPage endCursor }} edges {{ cursor node {{ id orderId status }} }} }} }} }}"""
        found = self.send(text, {"input": {"orderId": {"is": order}}})
        return [edge["node"] for edge in found["data"]["search"][kind]["edges"]]


def sale_names(charge: bool) -> tuple[str, str]:
    kind = "charge" if charge else "authorize"
    return f"{kind}PaymentMethod", f"{kind.title()}PaymentMethodInput"


def sale_input(amount: str = "10.00", **more: Any) -> dict[str, Any]:
    wanted = {
        "amount": amount,
        "orderId": more.pop("order", "op_1"),
        "merchantAccountId": more.pop("account", "sandbox_eur"),
    }
    return {"paymentMethodId": more.pop("nonce", "fake-valid-nonce"), "transaction": wanted, **more}


@pytest.fixture
def client() -> Client:
    return Client(settle_after_s=3600.0)


def test_a_sale_is_authorised_captured_in_part_settles_and_is_refunded(client: Client) -> None:
    made = client.sale(charge=False, clientMutationId="op_1")
    assert (made["status"], made["orderId"]) == ("AUTHORIZED", "op_1")
    assert made["statusHistory"][0]["processorResponse"]["legacyCode"] == "1000"
    taken = client.capture(made["id"], "6.50")
    assert (taken["status"], taken["amount"]["value"]) == ("SUBMITTED_FOR_SETTLEMENT", "6.50")
    assert [event["status"] for event in taken["statusHistory"]] == ["SUBMITTED_FOR_SETTLEMENT", "AUTHORIZED"]
    assert [event["amount"]["value"] for event in taken["statusHistory"]] == ["6.50", "10.00"]
    assert client.refund(made["id"], "1.00")["legacyCode"] == "91506"
    client.clock.us += 3600 * 1_000_000
    back = client.refund(made["id"], "1.00", orderId="op_refund")
    assert (back["amount"]["value"], back["orderId"]) == ("1.00", "op_refund")
    assert back["refundedTransaction"]["id"] == made["id"]
    assert client.refund(made["id"], "5.51")["legacyCode"] == "91521"
    client.refund(made["id"])
    assert client.refund(made["id"])["legacyCode"] == "91512"
    [charge] = client.bank.charges()
    assert (charge.captured_minor, charge.released_minor, charge.refunded_minor) == (650, 350, 650)
    names = [one.reference for one in client.bank.movements() if one.kind is MovementKind.CAPTURE]
    assert names == ["op_capture"]


def test_what_is_not_settled_is_voided_and_what_is_settled_is_refunded(client: Client) -> None:
    reserved, taken, settled = (client.sale(charge=n > 0, order=f"op_{n}") for n in range(3))
    client.settle(settled["id"])
    assert client.reverse(reserved["id"])["status"] == "VOIDED"
    assert client.reverse(taken["id"])["status"] == "VOIDED"
    assert client.reverse(settled["id"])["__typename"] == "Refund"
    assert client.reverse(reserved["id"])["legacyCode"] == "91504"
    assert all(charge.net_minor == 0 and charge.held_minor == 0 for charge in client.bank.charges())


def test_a_capture_of_what_cannot_be_captured_is_refused(client: Client) -> None:
    made = client.sale(charge=False)
    assert client.capture(made["id"], "10.01")["legacyCode"] == "91522"
    client.capture(made["id"])
    assert client.capture(made["id"])["legacyCode"] == "91507"
    assert client.capture("dHJhbnNhY3Rpb25fbm9uZQ")["errorClass"] == "NOT_FOUND"


def test_several_captures_are_transactions_of_their_own(client: Client) -> None:
    made = client.sale(charge=False)
    first = client.capture_part(made["id"], "4.00", orderId="op_part")
    assert first["partialCaptureDetails"]["parentAuthorization"]["id"] == made["id"]
    assert client.capture_part(made["id"], "6.01")["legacyCode"] == "91522"
    client.capture_part(made["id"], "5.00", finalCapture=True)
    assert len(client.find("op_part")) == 1
    client.settle(first["id"])
    client.refund(first["id"], "4.00")
    [charge] = client.bank.charges()
    assert (charge.captured_minor, charge.held_minor, charge.refunded_minor) == (900, 0, 400)
    assert Client(partial_captures=False).psp.settle_after_s == 0.0


@pytest.mark.parametrize(
    ("amount", "status", "code", "kind"),
    [
        ("2000.00", "PROCESSOR_DECLINED", "2000", "SOFT"),
        ("2001.00", "PROCESSOR_DECLINED", "2001", "SOFT"),
        ("2004.00", "PROCESSOR_DECLINED", "2004", "HARD"),
        ("2999.99", "PROCESSOR_DECLINED", "2999", "SOFT"),
        ("3000.00", "FAILED", "3000", None),
    ],
)
def test_an_amount_decides_under_http_200(
    client: Client, amount: str, status: str, code: str, kind: str | None
) -> None:
    made = client.sale(amount)
    event = made["statusHistory"][0]
    assert (made["status"], event["processorResponse"]["legacyCode"]) == (status, code)
    assert event.get("declineType") == kind
    assert (code in HARD) == (kind == "HARD")
    assert client.bank.charges() == []


def test_the_gateway_itself_rejects(client: Client) -> None:
    assert client.sale("5001.00")["statusHistory"][0]["gatewayRejectionReason"] == "APPLICATION_INCOMPLETE"
    fraud = client.sale(nonce="fake-gateway-rejected-fraud-nonce")
    assert (fraud["status"], fraud["statusHistory"][0]["gatewayRejectionReason"]) == (
        "GATEWAY_REJECTED",
        "FRAUD",
    )
    assert client.bank.charges() == []


def test_every_official_test_nonce_is_known(client: Client) -> None:
    seen: dict[str, int] = {}
    for number, nonce in enumerate(psp_document("braintree/test_nonces.json").values()):
        made = client.sale(nonce=nonce, order=f"op_{number}")
        outcome = made.get("status") or made["legacyCode"]
        seen[outcome] = seen.get(outcome, 0) + 1
    assert sum(seen.values()) > 80
    assert (seen["91564"], seen["FAILED"], seen["GATEWAY_REJECTED"]) == (1, 1, 2)
    assert seen["PROCESSOR_DECLINED"] == 4
    assert client.sale(nonce="no-such-nonce")["legacyCode"] == "91565"


def test_a_cards_token_is_spent_by_its_first_use(client: Client) -> None:
    card = {"number": "4000000000009995", "expirationMonth": "03", "expirationYear": "2030"}
    wanted = "paymentMethod { id usage details { __typename ... on CreditCardDetails { last4 } } }"
    found = client.mutate("tokenizeCreditCard", "TokenizeCreditCardInput", wanted, {"creditCard": card})
    token = found["paymentMethod"]["id"]
    assert client.sale(nonce=token)["statusHistory"][0]["processorResponse"]["legacyCode"] == "2001"
    assert client.sale(nonce=token)["legacyCode"] == "91564"
    unpublished = {**card, "number": "4111111111111111"}
    client.mutate("tokenizeCreditCard", "TokenizeCreditCardInput", wanted, {"creditCard": unpublished})
    assert not any("4111111111111111" in line for line in client.bank.db.iterdump())
    spent = Client(single_use_nonces=True)
    assert spent.sale()["status"] == "SUBMITTED_FOR_SETTLEMENT"
    assert spent.sale(order="op_2")["legacyCode"] == "91564"


def test_a_repeat_within_thirty_seconds_is_rejected_and_later_it_charges_again(client: Client) -> None:
    first, again = client.sale(), client.sale()
    event = again["statusHistory"][0]
    assert (event["gatewayRejectionReason"], event["duplicateOf"]["id"]) == ("DUPLICATE", first["id"])
    assert client.sale(order="op_other")["status"] == "SUBMITTED_FOR_SETTLEMENT"
    client.clock.us += 31_000_000
    assert client.sale()["status"] == "SUBMITTED_FOR_SETTLEMENT"
    assert len(client.bank.charges()) == 3


def test_the_duplicate_check_does_not_see_a_request_in_flight(client: Client) -> None:
    name, type_ = sale_names(True)
    text = f"mutation M($input: {type_}!) {{ {name}(input: $input) {{ transaction {{ id status }} }} }}"
    request = client.request(text, {"input": sale_input()})
    tickets = [client.psp.admit(request), client.psp.admit(request)]
    for ticket in tickets:
        assert isinstance(ticket, Ticket)
        assert b"SUBMITTED_FOR_SETTLEMENT" in client.psp.execute(ticket).body
    assert len(client.bank.charges()) == 2
    assert client.sale()["status"] == "GATEWAY_REJECTED"


def test_the_search_by_order_id_is_the_evidence_and_may_be_behind(client: Client) -> None:
    made = client.sale(order="op_found")
    client.settle(made["id"])
    client.refund(made["id"], "1.00", orderId="op_back")
    assert [one["id"] for one in client.find("op_found")] == [made["id"]]
    assert [one["orderId"] for one in client.find("op_back", "refunds")] == ["op_back"]
    assert client.find("op_back") == []
    client.psp.search_lag_s = 10.0
    assert client.find("op_found") == []
    client.clock.us += 10_000_000
    assert len(client.find("op_found")) == 1


def test_an_order_id_given_with_a_capture_takes_the_old_ones_place(client: Client) -> None:
    made = client.sale(charge=False)
    client.capture(made["id"], orderId="op_renamed")
    assert client.find("op_1") == []
    assert len(client.find("op_renamed")) == 1


def test_a_node_is_found_by_its_id_and_ping_answers(client: Client) -> None:
    made = client.sale()
    text = "query N($id: ID!) { node(id: $id) { __typename id ... on Transaction { status } } ping }"
    data = client.send(text, {"id": made["id"]})["data"]
    assert data == {
        "node": {"__typename": "Transaction", "id": made["id"], "status": "SUBMITTED_FOR_SETTLEMENT"},
        "ping": "pong",
    }


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"amount": ""}, "81502"),
        ({"amount": "10.001"}, "81503"),
        ({"amount": "ten"}, "81503"),
        ({"amount": "-1.00"}, "81501"),
        ({"amount": "0.00"}, "81531"),
        ({"account": "sandbox_jpy", "amount": "10.5"}, "81503"),
        ({"account": "somebody_else"}, "91513"),
        ({"order": "o" * 256}, "91501"),
        ({"nonce": "fake-luhn-invalid-nonce"}, "81715"),
    ],
)
def test_a_wrong_request_is_an_error_under_http_200(
    client: Client, change: dict[str, Any], code: str
) -> None:
    found = client.sale(**change)
    assert (found["errorClass"], found["legacyCode"]) == ("VALIDATION", code)
    assert client.bank.charges() == []


def test_amounts_are_decimals_in_the_merchant_accounts_currency(client: Client) -> None:
    for account, amount, minor in (("jpy", "1234", 1234), ("kwd", "1.234", 1234), ("usd", "12.34", 1234)):
        made = client.sale(amount, account=f"sandbox_{account}", order=f"op_{account}")
        assert made["amount"] == {
            "value": amount,
            "currencyCode": account.upper(),
            "currencyIsoCode": account.upper(),
        }
        assert client.bank.totals()[account.upper()].captured_minor == minor


def test_who_asks_is_checked_and_what_cannot_be_read_is_told(client: Client) -> None:
    for auth, version, wanted in (("Basic x", "2019-01-01", "AUTHENTICATION"), (BASIC, "", "VALIDATION")):
        request = client.request("{ ping }", {}, auth=auth)
        headers = {**request.headers}
        if not version:
            del headers["braintree-version"]
        reply = handle(client.psp, msgspec.structs.replace(request, headers=headers))
        error = msgspec.json.decode(reply.body)["errors"][0]
        assert (reply.status, error["extensions"]["errorClass"]) == (200, wanted)
    for text in ("{ nothing }", "{ ping", "mutation { ping }", "subscription { ping }", "{ ...Gone } §"):
        answer = msgspec.json.decode(handle(client.psp, client.request(text, {})).body)
        assert answer["errors"][0]["message"]
        assert not answer.get("data")
    with pytest.raises(QueryError):
        read_query("{a" * 40)


@pytest.mark.parametrize("fault", [FaultKind.ERROR_KEPT_AFTER, FaultKind.RATE_LIMITED, FaultKind.DUPLICATE])
async def test_faults_strike_here_too(client: Client, fault: FaultKind) -> None:
    shell = FaultShell(client.psp, client.clock)
    shell.script([fault])
    name, type_ = sale_names(True)
    text = f"mutation M($input: {type_}!) {{ {name}(input: $input) {{ transaction {{ id }} }} }}"
    answer = await shell.serve(client.request(text, {"input": sale_input()}))
    assert isinstance(answer, WireReply)
    expected = {
        FaultKind.ERROR_KEPT_AFTER: (200, 1),
        FaultKind.RATE_LIMITED: (429, 0),
        FaultKind.DUPLICATE: (200, 1),
    }
    assert (answer.status, len(client.bank.charges())) == expected[fault]
    assert (b"errorClass" in answer.body) == (fault is not FaultKind.DUPLICATE)


def test_a_dropped_request_leaves_nothing(client: Client) -> None:
    ticket = client.psp.admit(client.request("{ ping }", {}))
    assert isinstance(ticket, Ticket)
    client.psp.drop(ticket)
    assert client.bank.charges() == []


def test_the_challenge_is_answered_with_the_private_key() -> None:
    challenge = "20f9f8ed05f77439fe955c977e4c8a53"
    answer = f"{PUBLIC_KEY}|{digest(PRIVATE_KEY, challenge)}"
    assert challenge_answered(challenge, answer, PUBLIC_KEY, PRIVATE_KEY)
    assert not challenge_answered(challenge, answer[:-1] + "g", PUBLIC_KEY, PRIVATE_KEY)
    with pytest.raises(ValueError, match="hexadecimal"):
        challenge_answered("<xml>", answer, PUBLIC_KEY, PRIVATE_KEY)
