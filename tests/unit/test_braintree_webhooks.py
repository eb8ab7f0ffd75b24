"""Braintree's webhooks: signatures that the official SDK agrees with, XML that cannot bite, every kind read right."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import Approved, DeclineCategory, Declined
from aegispay.gateways.braintree import BraintreeGateway, safe_xml
from aegispay.gateways.braintree.webhooks import DISPUTES, SALES, global_id
from aegispay.gateways.webhooks import WEBHOOK_BODY_BYTES_MAX, DisputeNews, WebhookRejected
from tests.fakes import tally
from tests.fakes.braintree_calls import ACCOUNTS, PRIVATE_KEY, PUBLIC_KEY
from tests.fakes.braintree_sdk import Crypto, InvalidSignatureError, braintree
from tests.fakes.psp_data import psp_document

K = OperationKind
OPERATION = f"op_{7:032x}"
NEW = ("new_public_key", "new_private_key")


@pytest.fixture(scope="module")
def sdk() -> Any:
    return braintree.BraintreeGateway(
        braintree.Configuration(
            environment=braintree.Environment.Sandbox,
            merchant_id="integration_merchant_id",
            public_key=PUBLIC_KEY,
            private_key=PRIVATE_KEY,
        )
    )


def form(signature: str, payload: str, **more: str) -> bytes:
    return urlencode({"bt_signature": signature, "bt_payload": payload, **more}).encode()


def sign(payload: str, public: str = PUBLIC_KEY, private: str = PRIVATE_KEY) -> str:
    """The signature as Braintree's own SDK computes it."""
    return f"{public}|{Crypto.sha1_hmac_hash(private, payload)}"


def notice(kind: str, subject: str, **keys: str) -> bytes:
    xml = (
        f'<notification><timestamp type="datetime">2026-11-23T09:00:00Z</timestamp><kind>{kind}</kind>'
        f"<subject>{subject}</subject></notification>"
    )
    payload = base64.encodebytes(xml.encode()).decode()
    return form(sign(payload, **keys), payload)


def parse(body: bytes, *more: tuple[str, str]) -> Any:
    gateway = BraintreeGateway(PUBLIC_KEY, PRIVATE_KEY, ACCOUNTS, webhook_keys=more)
    return gateway.parse_webhook({"content-type": "application/x-www-form-urlencoded"}, body, 0)


def rejected(body: bytes, *more: tuple[str, str]) -> str:
    with pytest.raises(WebhookRejected) as caught:
        parse(body, *more)
    return caught.value.reason


# --- signatures ---------------------------------------------------------------------------------------------


def test_every_official_sample_is_accepted_and_every_spoilt_one_refused():
    document = psp_document("braintree/webhook_samples_signed.json")
    assert (document["public_key"], document["private_key"]) == (PUBLIC_KEY, PRIVATE_KEY)
    for kind, sample in document["notifications"].items():
        signature, payload = sample["bt_signature"], sample["bt_payload"]
        events = parse(form(signature, payload))
        assert bool(events) == (kind in DISPUTES or kind in SALES or kind == "refund_failed"), kind
        assert all(event.type == kind and event.at_us > 0 for event in events)
        flipped = payload[:40] + ("A" if payload[40] != "A" else "B") + payload[41:]
        assert rejected(form(signature, flipped)) == "signature"
        assert rejected(form(signature[:-1] + ("0" if signature[-1] != "0" else "1"), payload)) == "signature"
        tally.checked("braintree", "signatures")
        tally.checked("braintree", "fixtures")


def test_the_official_sdk_verifies_what_we_would_sign_and_we_verify_what_it_signs(sdk):
    kind = braintree.WebhookNotification.Kind
    for name in (kind.TransactionSettled, kind.DisputeOpened, kind.Check, kind.RefundFailed):
        sample = sdk.webhook_testing.sample_notification(name, "my_id")
        parse(form(sample["bt_signature"], sample["bt_payload"]))
        tally.checked("braintree", "signatures")
    gateway = BraintreeGateway(PUBLIC_KEY, PRIVATE_KEY, ACCOUNTS)
    payload = sdk.webhook_testing.sample_notification(kind.DisputeWon, "my_id")["bt_payload"]
    ours = gateway._webhooks._sign(PUBLIC_KEY, payload)
    assert sdk.webhook_notification.parse(f"{PUBLIC_KEY}|{ours}", payload).kind == "dispute_won"
    with pytest.raises(InvalidSignatureError):
        sdk.webhook_notification.parse(f"{PUBLIC_KEY}|{ours[::-1]}", payload)
    tally.checked("braintree", "signatures")


@settings(max_examples=40, deadline=None)
@given(st.text("abcdef0123456789", min_size=20, max_size=32))
def test_the_answer_to_a_challenge_is_the_official_sdks(challenge):
    gateway = BraintreeGateway(PUBLIC_KEY, PRIVATE_KEY, ACCOUNTS, webhook_keys=[NEW])
    official = f"{PUBLIC_KEY}|{Crypto.sha1_hmac_hash(PRIVATE_KEY, challenge)}"
    assert gateway.answer_challenge(challenge) == official
    tally.checked("braintree", "signatures")


@pytest.mark.parametrize(
    "challenge", ["", "a" * 19, "a" * 33, "A" * 20, "g" * 20, "a" * 20 + "\n", "<script>" + "a" * 20]
)
def test_a_challenge_that_is_none_is_not_signed(challenge):
    with pytest.raises(WebhookRejected):
        BraintreeGateway(PUBLIC_KEY, PRIVATE_KEY, ACCOUNTS).answer_challenge(challenge)


def test_several_keys_are_active_while_they_are_rotated():
    body = notice("check", "<check>true</check>", public=NEW[0], private=NEW[1])
    assert parse(body, NEW) == []
    assert rejected(body) == "signature"
    # One webhook carries a signature for each key of the account.
    payload = base64.encodebytes(b"<notification><kind>check</kind></notification>").decode()
    both = f"unknown|00&{sign(payload, *NEW)}&{PUBLIC_KEY}|00"
    assert parse(form(both, payload), NEW) == []
    assert rejected(form(both, payload)) == "signature"


def test_a_last_line_break_lost_on_the_way_does_no_harm():
    payload = base64.encodebytes(b"<notification><kind>check</kind></notification>").decode()
    assert parse(form(sign(payload), payload.rstrip("\n"))) == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "missing_signature"),
        (b"\xff", "malformed"),
        (b"no form", "malformed"),
        (b"bt_payload=QQ", "missing_signature"),
        (b"bt_signature=&bt_payload=QQ", "missing_signature"),
        (b"bt_signature=a%7C1", "malformed"),
        (form("a|1", "QQ==", **{f"f{n}": "1" for n in range(20)}), "malformed"),
        (form("a|1", "Q<Q"), "malformed"),
        (form("a|1", "QQ=="), "signature"),
        (form("integration_public_key", "QQ=="), "signature"),
        (form("integration_public_key|\u00e9", "QQ=="), "signature"),
        (form("&".join(["a|1"] * 17), "QQ=="), "malformed"),
    ],
)
def test_forms_that_are_not_braintrees(body, reason):
    assert rejected(body) == reason


def test_a_body_over_the_limit_is_refused_before_it_is_read():
    assert rejected(b"bt_signature=a%7C1&bt_payload=" + b"A" * WEBHOOK_BODY_BYTES_MAX) == "too_large"


# --- XML ----------------------------------------------------------------------------------------------------

BOMB = b"""<!DOCTYPE n [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<notification><kind>&b;</kind></notification>"""
FILE = (
    b"""<!DOCTYPE n [<!ENTITY a SYSTEM "file:///etc/passwd">]><notification><kind>&a;</kind></notification>"""
)


@pytest.mark.parametrize(
    "xml",
    [
        BOMB,
        FILE,
        b"<!DOCTYPE notification SYSTEM 'http://127.0.0.1/x.dtd'><notification/>",
        b"<notification>",
        b"",
        b"no xml",
        b"<a/><b/>",
        b"<notification><kind>&undefined;</kind></notification>",
        b"<a>" * 100 + b"</a>" * 100,
        b"<a>" + b"<b/>" * 30_000 + b"</a>",
        b"\xff\xfe<\x00a\x00/\x00>\x00",
        b"<notification>\xff</notification>",
    ],
)
def test_xml_that_bites_is_refused_though_it_is_signed(xml):
    payload = base64.encodebytes(xml).decode() or "\n"
    assert rejected(form(sign(payload), payload)) == "malformed"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80))
def test_whatever_the_xml_is_it_is_read_or_refused(document):
    try:
        root = safe_xml.parse(document)
    except ValueError:
        return
    assert root.name


def test_depth_and_size_are_bounded():
    assert safe_xml.parse(b"<a>" * 40 + b"</a>" * 40).name == "a"
    for document in (b"<a>" * 41 + b"</a>" * 41, b"<a>" + b"<b/>" * 20_000 + b"</a>"):
        with pytest.raises(ValueError, match="too deep or too large"):
            safe_xml.parse(document)


def test_nil_and_white_space_are_no_text():
    root = safe_xml.parse(b'<a><b nil="true">x</b><c> y </c><d> </d><e f="1">z</e></a>')
    assert [root.text_of(name) for name in "bcde"] == [None, "y", None, "z"]
    assert root.text_of("b", "c") is None and root.find("x", "y") is None


# --- what the notices mean ----------------------------------------------------------------------------------


def transaction(**fields: str) -> str:
    usual = {"id": "abc", "status": "settled", "type": "sale", "currency-iso-code": "USD", "amount": "10.00"}
    inner = "".join(f"<{name}>{value}</{name}>" for name, value in {**usual, **fields}.items())
    return f"<transaction>{inner}</transaction>"


@pytest.mark.parametrize("kind", sorted(SALES))
def test_news_of_a_sale_names_our_operation_and_asks_for_a_look_up(kind):
    (event,) = parse(notice(kind, transaction(**{"order-id": OPERATION})))
    assert (event.kind, event.operation_id, event.must_look_up) == (K.CHARGE, OPERATION, True)
    said = {"transaction_settled": Approved, "transaction_settlement_declined": Declined}
    assert isinstance(event.outcome, said.get(kind, type(None)))
    assert (event.reference, event.payment_reference) == (global_id("transaction", "abc"),) * 2
    assert (event.amount_minor, event.currency) == (1000, "USD")
    assert event.at_us == 1_795_424_400_000_000


def test_news_of_a_credit_is_about_a_refund():
    (event,) = parse(notice("transaction_settled", transaction(type="credit")))
    assert (event.kind, event.must_look_up, event.operation_id) == (K.REFUND, True, None)


def test_a_refund_that_failed_is_declined():
    more = {"order-id": OPERATION, "refunded-transaction-id": "sale1", "status": "processor_declined"}
    (event,) = parse(notice("refund_failed", transaction(type="credit", **more)))
    assert (event.kind, event.operation_id) == (K.REFUND, OPERATION)
    assert isinstance(event.outcome, Declined)
    assert (event.outcome.category, event.outcome.code) == (DeclineCategory.INVALID, "refund_failed")
    assert event.undoes
    assert event.reference == global_id("refund", "abc")
    assert event.payment_reference == global_id("transaction", "sale1")


def test_a_card_number_in_a_notice_is_never_kept():
    sample = psp_document("braintree/webhook_samples_signed.json")["notifications"]["refund_failed"]
    (event,) = parse(form(sample["bt_signature"], sample["bt_payload"]))
    assert "1234560000001234" not in repr(event)


@pytest.mark.parametrize(("kind", "won"), sorted(DISPUTES.items(), key=lambda pair: pair[0]))
def test_disputes_are_opened_won_and_lost(kind, won):
    subject = (
        "<dispute><id>dp1</id><amount>10.00</amount><amount-disputed>8.00</amount-disputed><reason>fraud</reason>"
        f"<currency-iso-code>USD</currency-iso-code>{transaction(**{'order-id': OPERATION})}</dispute>"
    )
    (event,) = parse(notice(kind, subject))
    assert (event.kind, event.outcome, event.operation_id) == (None, None, OPERATION)
    assert event.payment_reference == global_id("transaction", "abc")
    assert event.dispute == DisputeNews(
        reference=str(global_id("dispute", "dp1")),
        amount_minor=800,
        opened=won is None,
        won=won,
        reason="fraud",
    )


def test_a_dispute_of_an_amount_that_we_cannot_express_asks_for_a_look_up():
    (event,) = parse(notice("dispute_opened", "<dispute><id>d</id><amount>1.005</amount></dispute>"))
    assert (event.dispute, event.must_look_up) == (None, True)
    assert rejected(notice("dispute_opened", "<dispute/>")) == "malformed"


def test_repeats_have_one_id_and_other_news_another():
    def one(kind: str, **fields: str) -> str:
        return str(parse(notice(kind, transaction(**fields)))[0].id)

    assert one("transaction_settled") == one("transaction_settled")
    ids = {
        one("transaction_settled"),
        one("transaction_settled", id="other"),
        one("transaction_settlement_declined"),
        one("transaction_settled", status="settlement_declined"),
    }
    assert len(ids) == 4


def test_a_genuine_document_that_is_no_notification_is_malformed():
    payload = base64.encodebytes(b"<other><kind>check</kind></other>").decode()
    assert rejected(form(sign(payload), payload)) == "malformed"
    payload = base64.encodebytes(b"<notification/>").decode()
    assert rejected(form(sign(payload), payload)) == "malformed"
