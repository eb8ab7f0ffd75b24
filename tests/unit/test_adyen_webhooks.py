"""Adyen's webhooks: signatures that Adyen's own vectors and SDK agree with, every item verified, every event read right."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from Adyen.util import generate_notification_sig, is_valid_hmac_notification
from hypothesis import given, settings
from hypothesis import strategies as st

from aegispay.domain.errors import ConfigError
from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import Approved, DeclineCategory, Declined
from aegispay.gateways.adyen import AdyenGateway, codes
from aegispay.gateways.adyen.webhooks import DISPUTES, MEANINGS
from aegispay.gateways.webhooks import WEBHOOK_BODY_BYTES_MAX, DisputeNews, WebhookRejected
from tests.fakes import tally
from tests.fakes.adyen_calls import ACCOUNT, API_KEY
from tests.fakes.psp_data import psp_document

K = OperationKind
KEY = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056"
OTHER_KEY = "74F490DD33F7327BAECC88B2947C011FC02D014A473AAA33A8EC93E4DC069174"
OPERATION = f"op_{7:032x}"


def item(code: str = "AUTHORISATION", success: Any = "true", **fields: Any) -> dict[str, Any]:
    return {
        "pspReference": "8836226171638872",
        "merchantAccountCode": ACCOUNT,
        "merchantReference": OPERATION,
        "amount": {"currency": "EUR", "value": 1000},
        "eventCode": code,
        "eventDate": "2026-11-23T10:00:00+01:00",
        "success": success,
        "reason": "",
        **fields,
    }


def signed(one: dict[str, Any], key: str = KEY) -> dict[str, Any]:
    """The item with the signature that Adyen's own SDK computes."""
    made = copy.deepcopy(one)
    signature = generate_notification_sig(made, key).decode()
    made["additionalData"] = {**made.get("additionalData", {}), "hmacSignature": signature}
    return made


def batch(*items: dict[str, Any]) -> bytes:
    wrapped = [{"NotificationRequestItem": one} for one in items]
    return json.dumps({"live": "false", "notificationItems": wrapped}).encode()


def parse(body: bytes, *keys: str) -> Any:
    gateway = AdyenGateway(API_KEY, ACCOUNT, webhook_keys=keys or [KEY])
    return gateway.parse_webhook({"content-type": "application/json"}, body, 0)


def one(code: str = "AUTHORISATION", success: Any = "true", **fields: Any) -> Any:
    (event,) = parse(batch(signed(item(code, success, **fields))))
    return event


def rejected(body: bytes, *keys: str) -> str:
    with pytest.raises(WebhookRejected) as caught:
        parse(body, *keys)
    return caught.value.reason


# --- signatures ---------------------------------------------------------------------------------------------


def test_adyens_own_vectors_are_accepted_and_spoilt_ones_refused():
    for vector in psp_document("adyen/webhook_hmac_vectors.json")["vectors"]:
        if "file" in vector:
            whole = psp_document(f"adyen/{vector['file']}")
        else:
            whole = {**vector["item"], "additionalData": {"hmacSignature": vector["signature"]}}
        (event,) = parse(batch(whole), vector["hmac_key_hex"])
        assert event.reference == whole["pspReference"]
        assert isinstance(event.outcome, Approved)
        for field, value in (("merchantReference", "op_1"), ("success", "false"), ("pspReference", "X")):
            assert rejected(batch({**whole, field: value}), vector["hmac_key_hex"]) == "signature"
        assert rejected(batch(whole), "00" * 32) == "signature"
        tally.checked("adyen", "signatures")


@settings(max_examples=60, deadline=None)
@given(
    reference=st.text(st.characters(codec="utf-8"), max_size=80),
    value=st.integers(0, 10**12),
    success=st.sampled_from(["true", "false"]),
    code=st.sampled_from(sorted(MEANINGS)),
    original=st.none() | st.just("9913140798220028"),
)
def test_signatures_agree_with_the_official_sdk_in_both_directions(reference, value, success, code, original):
    made = item(code, success, merchantReference=reference, amount={"currency": "EUR", "value": value})
    if original:
        made["originalReference"] = original
    genuine = signed(made)
    assert len(parse(batch(genuine))) == 1
    assert is_valid_hmac_notification(json.loads(batch(genuine)), KEY)
    genuine["additionalData"]["hmacSignature"] = genuine["additionalData"]["hmacSignature"][::-1]
    assert rejected(batch(genuine)) == "signature"
    assert not is_valid_hmac_notification(json.loads(batch(genuine)), KEY)
    tally.checked("adyen", "signatures")


def test_trap_every_item_of_a_batch_is_verified():
    """Adyen's own helper looks at the first item only; a forged second one would ride along."""
    genuine, second = signed(item()), signed(item("REFUND", pspReference="8836226171638873"))
    assert [event.type for event in parse(batch(genuine, second))] == ["AUTHORISATION", "REFUND"]
    forged = {**second, "amount": {"currency": "EUR", "value": 1}}
    assert is_valid_hmac_notification(json.loads(batch(genuine, forged)), KEY)
    assert rejected(batch(genuine, forged)) == "signature"
    assert rejected(batch(forged, genuine)) == "signature"
    assert rejected(batch(genuine, item("REFUND"))) == "missing_signature"


def test_several_keys_are_active_while_they_are_rotated():
    old, new = signed(item(), OTHER_KEY), signed(item("REFUND"), KEY)
    assert len(parse(batch(old, new), KEY, OTHER_KEY)) == 2
    assert rejected(batch(old, new), KEY) == "signature"
    assert rejected(batch(old, new), OTHER_KEY) == "signature"


def test_a_colon_moved_between_fields_is_refused_though_the_signature_still_fits():
    genuine = signed(item(pspReference="A", merchantReference="B:C"))
    moved = {**genuine, "merchantAccountCode": f"{ACCOUNT}:B", "merchantReference": "C"}
    assert is_valid_hmac_notification(json.loads(batch(moved)), KEY)
    assert rejected(batch(moved)) == "malformed"


def test_a_signature_is_compared_as_text_of_any_kind():
    for odd in ("", "é", "x" * 5000, 7, None, {"a": 1}):
        made = item(additionalData={"hmacSignature": odd})
        assert rejected(batch(made)) in ("signature", "missing_signature")
    assert rejected(batch(item(additionalData=None))) == "missing_signature"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"notificationItems": []}',
        b'{"notificationItems": [{}]}',
        b"\xff",
        b"[" * 5000,
    ],
)
def test_what_is_no_notification_is_malformed(body):
    assert rejected(body) == "malformed"


def test_a_body_over_the_limit_is_refused_before_it_is_read():
    body = batch(signed(item()))
    assert parse(body + b" " * (WEBHOOK_BODY_BYTES_MAX - len(body)))
    assert rejected(body + b" " * (WEBHOOK_BODY_BYTES_MAX - len(body) + 1)) == "too_large"


def test_without_a_key_nothing_is_parsed():
    with pytest.raises(ConfigError):
        AdyenGateway(API_KEY, ACCOUNT).parse_webhook({}, batch(signed(item())), 0)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_whatever_is_not_signed_is_refused(body):
    with pytest.raises(WebhookRejected):
        parse(body)


# --- what the events mean -----------------------------------------------------------------------------------


def test_an_authorisation_names_the_payment_and_our_operation():
    event = one()
    assert (event.kind, event.type, event.operation_id) == (K.AUTHORIZE, "AUTHORISATION", OPERATION)
    assert event.outcome == Approved(reference="8836226171638872", amount_minor=1000)
    assert event.reference == event.payment_reference == "8836226171638872"
    assert event.at_us == 1_795_424_400_000_000
    assert (event.amount_minor, event.currency, event.must_look_up) == (1000, "EUR", False)


def test_the_unsigned_payment_id_says_where_to_look_for_an_authorisation_and_nothing_else():
    payment = f"pay_{7:032x}"
    hint = {"metadata.aegispay_payment": payment}
    assert one(additionalData=hint).payment_id == payment
    assert one("REFUND", additionalData=hint).payment_id is None
    for odd in ("pay_1", "", 7, None, f"{payment}0"):
        assert one(additionalData={"metadata.aegispay_payment": odd}).payment_id is None


def test_a_reference_that_is_not_ours_is_no_operation():
    assert one(merchantReference="order-7").operation_id is None
    assert one(merchantReference="").operation_id is None


@pytest.mark.parametrize(
    "row", [row for row in codes.TABLE if row.kind == "refusal"], ids=lambda row: row.adyen
)
def test_a_refused_authorisation_has_the_category_of_its_reason(row):
    event = one(success="false", reason=row.text)
    assert isinstance(event.outcome, Declined)
    assert (event.outcome.category, event.outcome.code) == (row.category, row.code)


def test_a_refused_authorisation_of_unknown_reason_is_soft():
    event = one(success="false", reason="Something 4111111111111111")
    assert (event.outcome.category, event.outcome.code) == (DeclineCategory.SOFT, "card_declined")
    assert "4111" not in repr(event)


@pytest.mark.parametrize("success", ["true", "false"])
@pytest.mark.parametrize(
    ("code", "kind"),
    [("CAPTURE_FAILED", K.CAPTURE), ("REFUND_FAILED", K.REFUND), ("REFUNDED_REVERSED", K.REFUND)],
)
def test_trap_capture_failed_and_refund_failed_with_success_true_are_failures(code, kind, success):
    event = one(code, success, originalReference="9913140798220028")
    assert event.kind is kind
    assert isinstance(event.outcome, Declined)
    assert event.outcome.code == f"{kind.value}_failed"
    assert event.undoes, "it may have been approved before, and this is the last word"
    assert event.outcome.category is DeclineCategory.INVALID


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("CAPTURE", K.CAPTURE),
        ("REFUND", K.REFUND),
        ("CANCELLATION", K.VOID),
        ("CANCEL_OR_REFUND", K.VOID),
        ("TECHNICAL_CANCEL", K.VOID),
        ("EXPIRE", K.VOID),
    ],
)
def test_modifications_name_their_own_reference_and_the_payments(code, kind):
    event = one(code, originalReference="9913140798220028")
    assert (event.kind, event.reference, event.payment_reference) == (
        kind,
        "8836226171638872",
        "9913140798220028",
    )
    assert event.outcome == Approved(reference="8836226171638872", amount_minor=1000)
    refused = one(code, "false", originalReference="9913140798220028")
    assert not refused.undoes
    assert isinstance(refused.outcome, Declined)
    assert refused.outcome.reference == "8836226171638872"


def test_trap_amounts_come_in_adyens_minor_units():
    event = one(amount={"currency": "ISK", "value": 50_000})
    assert event.amount_minor == 500 and event.outcome.amount_minor == 500
    event = one(amount={"currency": "IDR", "value": 500})
    assert event.amount_minor == 50_000


@pytest.mark.parametrize("amount", [{"currency": "ISK", "value": 50_050}, {"currency": "XYZ", "value": 1}])
def test_an_amount_that_we_cannot_express_changes_nothing(amount):
    event = one(amount=amount)
    assert (event.outcome, event.amount_minor, event.must_look_up) == (None, None, True)


def test_repeats_have_one_id_and_a_changed_verdict_has_another():
    assert one().id == one(eventDate="2026-11-24T10:00:00+01:00", reason="again").id
    assert one().id != one(success="false").id
    assert one().id != one("CAPTURE").id
    assert one().id != one(pspReference="8836226171638879").id


def test_a_capture_that_adyen_repeats_after_it_failed_is_news():
    ids = {
        one("CAPTURE").id,
        one("CAPTURE_FAILED").id,
        one("CAPTURE", reason="Transaction Auto-recaptured").id,
        one("CAPTURE", reason="Transaction Recaptured").id,
    }
    assert len(ids) == 3
    assert one("CAPTURE", reason="Transaction Recaptured").again
    assert not one("CAPTURE").again and not one("CAPTURE").undoes


def test_disputes_are_opened_won_and_lost():
    opened = one("CHARGEBACK", originalReference="9913140798220028", reason="Fraud")
    assert opened.kind is None and opened.outcome is None
    assert opened.payment_reference == "9913140798220028"
    assert opened.dispute == DisputeNews(
        reference="8836226171638872", amount_minor=1000, opened=True, reason="chargeback"
    )
    assert one("CHARGEBACK_REVERSED").dispute.won is True
    assert one("SECOND_CHARGEBACK").dispute.won is False
    assert one("CHARGEBACK_REVERSED").payment_reference is None


def test_news_of_no_interest_is_verified_and_dropped():
    assert parse(batch(signed(item("REPORT_AVAILABLE")), signed(item("RECURRING_CONTRACT")))) == []
    assert rejected(batch(item("REPORT_AVAILABLE"))) == "missing_signature"


def test_success_is_a_text_and_nothing_else():
    assert rejected(batch(signed(item(success="maybe")))) == "malformed"
    assert rejected(batch(signed(item(success="")))) == "malformed"


def test_every_official_example_is_read():
    document = psp_document("adyen/Webhooks-v1.json")
    read = 0
    for name, webhook in document["webhooks"].items():
        content = webhook["post"]["requestBody"]["content"].get("application/json", {})
        for example in content.get("examples", {}).values():
            value = example.get("value")
            if "$ref" in example:
                value = document["components"]["examples"][example["$ref"].rsplit("/", 1)[1]]["value"]
            if not isinstance(value, dict) or "notificationItems" not in value:
                continue
            items = [wrapper["NotificationRequestItem"] for wrapper in value["notificationItems"]]
            events = parse(batch(*map(signed, items)))
            for official, event in zip(items, events, strict=False):
                _check_official(official, event)
                read += 1
            known = name.strip("/") in MEANINGS or name.strip("/") in DISPUTES
            assert bool(events) == known, name
    tally.checked("adyen", "fixtures", read)
    assert read >= 15


def _check_official(official: dict[str, Any], event: Any) -> None:
    failed = official["success"] == "false" or official["eventCode"] in (
        "CAPTURE_FAILED",
        "REFUND_FAILED",
        "REFUNDED_REVERSED",
        "OFFER_CLOSED",
    )
    if event.dispute is None:
        assert isinstance(event.outcome, Declined if failed else Approved)
    assert event.reference == official["pspReference"]
