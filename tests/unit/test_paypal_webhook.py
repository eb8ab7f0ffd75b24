"""PayPal's webhooks: no stranger's address is called, nothing is read unsigned, and nothing is believed unread."""

from __future__ import annotations

import base64
import datetime
import json
import shutil
import subprocess
import sys
import zlib
from functools import lru_cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from aegispay.domain.errors import ConfigError
from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import Approved, Declined, NotSent
from aegispay.gateways.http import HttpReply, HttpRequest
from aegispay.gateways.paypal import PayPalGateway
from aegispay.gateways.paypal.certificates import CERTIFICATES_MAX, CertificateStore
from aegispay.gateways.paypal.webhook import signed_message
from aegispay.gateways.webhooks import WEBHOOK_BODY_BYTES_MAX, WebhookRejected
from tests.fakes import tally
from tests.fakes.json_psp import json_psp
from tests.fakes.paypal_calls import (
    AUTHORIZATION,
    CAPTURE,
    CLIENT_ID,
    CLIENT_SECRET,
    ORDER,
    REFUND,
    call,
    custom_id,
    declined,
    made,
    order,
    refund,
    text_of,
)

K = OperationKind
WEBHOOK_ID = "1JE4291016473214C"
URL = "https://api.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-a5cafa77"
NOW_US = 1_700_000_000_000_000
US = 1_000_000
DAY_S = 86_400


@lru_cache
def _key(number: int) -> Any:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def key(number: int = 0) -> Any:
    return _key(number)


@lru_cache
def certificate(
    number: int = 0, name: str = "messageverificationcerts.paypal.com", days: int = 30, elliptic: bool = False
) -> bytes:
    private = ec.generate_private_key(ec.SECP256R1()) if elliptic else key(number)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.fromtimestamp(NOW_US / US, datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(7)
        .not_valid_before(now - datetime.timedelta(days=60))
        .not_valid_after(now + datetime.timedelta(days=days))
        .sign(private, hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.PEM)


def gateway(**options: Any) -> PayPalGateway:
    usual: dict[str, Any] = {"webhook_ids": [WEBHOOK_ID], "webhook_certificates": {URL: certificate()}}
    return PayPalGateway(CLIENT_ID, CLIENT_SECRET, **{**usual, **options})


def headers(body: bytes, at_us: int = NOW_US, signer: Any = None, **changed: str) -> dict[str, str]:
    moment = text_of(at_us)
    message = signed_message("69cd13f0-d67a-11e5-baa3-778b53f4ae55", moment, WEBHOOK_ID, body)
    signature = (signer or key()).sign(message, padding.PKCS1v15(), hashes.SHA256())
    found = {
        "PayPal-Transmission-Id": "69cd13f0-d67a-11e5-baa3-778b53f4ae55",
        "PayPal-Transmission-Time": moment,
        "PayPal-Transmission-Sig": base64.b64encode(signature).decode(),
        "PayPal-Cert-Url": URL,
        "PayPal-Auth-Algo": "SHA256withRSA",
    }
    return {**found, **{name.replace("_", "-"): value for name, value in changed.items()}}


def notice(event: str, resource: Any, **fields: Any) -> bytes:
    body = {"id": "WH-1", "event_type": event, "create_time": "2023-11-14T22:13:20Z", "resource": resource}
    return json.dumps({**body, **fields}).encode()


def one(event: str, resource: Any) -> Any:
    body = notice(event, resource)
    (found,) = gateway().parse_webhook(headers(body), body, NOW_US)
    assert found.must_look_up
    assert (found.id, found.type, found.at_us) == ("WH-1", event, NOW_US)
    return found


GOOD = notice("PAYMENT.CAPTURE.COMPLETED", made(call()))


def refused(
    reason: str, head: dict[str, str], body: bytes = GOOD, now_us: int = NOW_US, to: Any = None
) -> None:
    with pytest.raises(WebhookRejected) as caught:
        (to or gateway()).parse_webhook(head, body, now_us)
    assert caught.value.reason == reason


# --- the signature ------------------------------------------------------------------------------------------


def test_the_message_is_the_one_that_paypal_documents():
    """transmissionId|timeStamp|webhookId|crc32, the last as a decimal number without a sign."""
    assert zlib.crc32(b"a") > 2**31
    assert (
        signed_message("id", "2016-02-18T20:01:35Z", "WID", b"a") == b"id|2016-02-18T20:01:35Z|WID|3904355907"
    )


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_signatures_agree_with_openssl(tmp_path):
    """An implementation that is not ours makes the signature that we take, and verifies the one that we make."""
    body = GOOD
    head = headers(body)
    message = signed_message(
        head["PayPal-Transmission-Id"], head["PayPal-Transmission-Time"], WEBHOOK_ID, body
    )
    pem = key().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for name, data in (("key.pem", pem), ("m", message), ("c.pem", certificate())):
        (tmp_path / name).write_bytes(data)
    openssl = ["openssl", "dgst", "-sha256"]
    made_by_them = subprocess.run(
        [*openssl, "-sign", tmp_path / "key.pem", tmp_path / "m"], capture_output=True, check=True
    ).stdout
    head["PayPal-Transmission-Sig"] = base64.b64encode(made_by_them).decode()
    assert gateway().parse_webhook(head, body, NOW_US)
    public = subprocess.run(
        ["openssl", "x509", "-in", tmp_path / "c.pem", "-pubkey", "-noout"], capture_output=True, check=True
    ).stdout
    (tmp_path / "pub.pem").write_bytes(public)
    (tmp_path / "s").write_bytes(base64.b64decode(headers(body)["PayPal-Transmission-Sig"]))
    said = subprocess.run(
        [*openssl, "-verify", tmp_path / "pub.pem", "-signature", tmp_path / "s", tmp_path / "m"],
        capture_output=True,
        check=True,
    ).stdout
    assert b"Verified OK" in said
    tally.checked("paypal", "signatures", 2)


def test_a_notice_is_refused_before_it_is_read():
    good = headers(GOOD)
    assert gateway().parse_webhook({name.lower(): value for name, value in good.items()}, GOOD, NOW_US)
    for name in (
        "PayPal-Transmission-Id",
        "PayPal-Transmission-Time",
        "PayPal-Transmission-Sig",
        "PayPal-Cert-Url",
    ):
        refused("missing_signature", {k: v for k, v in good.items() if k != name})
    refused("signature", good, GOOD + b" ")
    refused("signature", headers(GOOD, signer=key(1)))
    refused("signature", {**good, "PayPal-Transmission-Sig": "!!!"})
    refused("signature", {**good, "PayPal-Transmission-Sig": base64.b64encode(b"x" * 256).decode()})
    refused("signature", {**good, "PayPal-Transmission-Id": "other"})
    refused("signature", {**good, "PayPal-Transmission-Id": "a|b"})
    refused("signature", {**good, "PayPal-Transmission-Time": "yesterday"})
    refused("signature", {**good, "PayPal-Transmission-Time": text_of(NOW_US + US)})
    refused("signature", {**good, "PayPal-Auth-Algo": "SHA1withRSA"})
    refused("signature", good, to=gateway(webhook_ids=["OTHERWEBHOOK"]))
    refused("too_large", good, b"x" * (WEBHOOK_BODY_BYTES_MAX + 1))
    for body in (b"not json", b"{}", b'{"id": "", "event_type": "X"}'):
        refused("malformed", headers(body), body)
    with pytest.raises(ConfigError):
        gateway(webhook_ids=()).parse_webhook(good, GOOD, NOW_US)


def test_two_webhooks_may_point_here():
    both = gateway(webhook_ids=["OTHERWEBHOOK", WEBHOOK_ID])
    assert both.parse_webhook(headers(GOOD), GOOD, NOW_US)


def test_the_signed_time_lies_within_its_limits_on_both_sides():
    """PayPal tries for three days and does not say that it signs each try anew; the future is a clock's difference."""
    for age_s in (-299, 0, 299, 3 * DAY_S):
        assert gateway().parse_webhook(headers(GOOD, NOW_US - age_s * US), GOOD, NOW_US)
    for age_s in (-301, -DAY_S, 3 * DAY_S + 301):
        refused("stale", headers(GOOD, NOW_US - age_s * US))


def test_a_certificate_counts_only_while_it_is_valid_and_only_with_rsa():
    later_us = NOW_US + 40 * DAY_S * US
    refused("certificate", headers(GOOD, later_us), now_us=later_us)
    early_us = NOW_US - 61 * DAY_S * US
    refused("certificate", headers(GOOD, early_us), now_us=early_us)
    refused("signature", headers(GOOD), to=gateway(webhook_certificates={URL: certificate(elliptic=True)}))


# --- paypal's certificate url is an SSRF hole ------------------------------------------------------------------

STRANGERS = [
    "https://evil.example/v1/notifications/certs/CERT-1",
    "http://api.paypal.com/v1/notifications/certs/CERT-1",
    "https://api.paypal.com.evil.example/v1/notifications/certs/CERT-1",
    "https://evil.example/api.paypal.com/v1/notifications/certs/CERT-1",
    "https://api.paypal.com@evil.example/v1/notifications/certs/CERT-1",
    "https://api.paypal.com:8443/v1/notifications/certs/CERT-1",
    "https://api.paypal.com\\@evil.example/v1/notifications/certs/CERT-1",
    "https://api-paypal.com/v1/notifications/certs/CERT-1",
    "https://api.paypal-com/v1/notifications/certs/CERT-1",
    "https://api.sandboxxpaypal.com/v1/notifications/certs/CERT-1",
    "https://notpaypal.com/v1/notifications/certs/CERT-1",
    "https://evilpaypal.com/v1/notifications/certs/CERT-1",
    "https://x.paypal.com/v1/notifications/certs/CERT-1",
    "https://API.PAYPAL.COM/v1/notifications/certs/CERT-1",
    "https://api.paypal.com/v1/notifications/certs/../../x",
    "https://api.paypal.com/v1/notifications/certs/CERT-1?u=https://evil.example",
    "https://api.paypal.com/v1/notifications/certs/CERT-1#x",
    "https://api.paypal.com/v1/notifications/certs/CERT-1\r\nHost: evil.example",
    "https://api.paypal.com/redirect?to=https://evil.example",
    "https://169.254.169.254/latest/meta-data/",
    "http://127.0.0.1:8080/v1/notifications/certs/CERT-1",
    "file:///etc/passwd",
    "https://api.paypa\u04cf.com/v1/notifications/certs/CERT-1",
]


class Transport:
    """Counts what would have been asked for."""

    def __init__(self, said: Any = None):
        self.asked: list[HttpRequest] = []
        self.said = said if said is not None else HttpReply(status=200, headers={}, body=certificate())

    async def send(self, request: HttpRequest) -> Any:
        self.asked.append(request)
        return self.said

    async def aclose(self) -> None: ...


@pytest.mark.parametrize("url", STRANGERS)
async def test_trap_paypals_certificate_url_is_never_followed_to_a_stranger(url):
    transport = Transport()
    ours = gateway(transport=transport, webhook_certificates={})
    with pytest.raises(WebhookRejected) as caught:
        await ours.prepare_webhook({"PayPal-Cert-Url": url})
    assert caught.value.reason == "certificate"
    assert transport.asked == []
    refused("certificate", {**headers(GOOD), "PayPal-Cert-Url": url}, to=ours)
    with pytest.raises(ConfigError):
        gateway(webhook_certificates={url: certificate()})


async def test_a_certificate_is_fetched_once_without_any_key_of_ours_and_then_kept():
    transport = Transport()
    ours = gateway(transport=transport, webhook_certificates={})
    refused("certificate", headers(GOOD), to=ours)
    for _ in range(3):
        await ours.prepare_webhook(headers(GOOD))
    assert len(transport.asked) == 1
    assert transport.asked[0].url == URL
    assert "Authorization" not in transport.asked[0].headers
    assert ours.parse_webhook(headers(GOOD), GOOD, NOW_US)
    for host in ("api-m.paypal.com", "api.sandbox.paypal.com", "api-m.sandbox.paypal.com"):
        await ours.prepare_webhook({"paypal-cert-url": URL.replace("api.paypal.com", host)})
    assert len(transport.asked) == 4
    with pytest.raises(WebhookRejected):
        await ours.prepare_webhook({})


@pytest.mark.parametrize(
    "said",
    [
        HttpReply(status=404, headers={}, body=b""),
        HttpReply(status=302, headers={"location": "https://evil.example"}, body=certificate()),
        HttpReply(status=200, headers={}, body=b"not a certificate"),
        HttpReply(status=200, headers={}, body=certificate() + b"#" * 20_000),
        HttpReply(status=200, headers={}, body=certificate(name="evil.example")),
        HttpReply(status=200, headers={}, body=certificate(name="paypal.com.evil.example")),
        HttpReply(status=200, headers={}, body=certificate(name="evilpaypal.com")),
        NotSent(reason="dns"),
    ],
)
async def test_what_is_not_paypals_certificate_is_not_kept(said):
    ours = gateway(transport=Transport(said), webhook_certificates={})
    with pytest.raises(WebhookRejected) as caught:
        await ours.prepare_webhook(headers(GOOD))
    assert caught.value.reason == "certificate"
    refused("certificate", headers(GOOD), to=ours)


async def test_the_number_of_certificates_kept_is_bounded():
    store = CertificateStore({}, "https://api-m.paypal.com")
    transport = Transport()
    for number in range(CERTIFICATES_MAX + 5):
        await store.fetch(f"{URL}{number}", transport, 1.0)
    assert len(store._keys) == CERTIFICATES_MAX


async def test_a_sandbox_on_loopback_may_serve_certificates_of_its_own_and_nobody_elses():
    def route(seen: Any) -> Any:
        return 200, certificate(name="sandbox.example")

    def make(url: str) -> PayPalGateway:
        return PayPalGateway(CLIENT_ID, CLIENT_SECRET, base_url=url, webhook_ids=[WEBHOOK_ID])

    async with json_psp(route, make) as (ours, seen):
        base = ours._client.base_url
        mine = headers(GOOD, PayPal_Cert_Url=f"{base}/v1/notifications/certs/CERT-1")
        await ours.prepare_webhook(mine)
        assert ours.parse_webhook(mine, GOOD, NOW_US)
        for url in (
            f"{base}1/v1/notifications/certs/CERT-1",
            f"{base}@x/v1/notifications/certs/C",
            f"{base}/other",
        ):
            with pytest.raises(WebhookRejected):
                await ours.prepare_webhook({"PayPal-Cert-Url": url})
        assert len(seen) == 1


def test_a_given_certificate_that_is_none_is_refused():
    with pytest.raises(ConfigError):
        gateway(webhook_certificates={URL: "-----BEGIN NOTHING-----"})
    assert gateway(webhook_certificates={URL: certificate().decode()}).parse_webhook(
        headers(GOOD), GOOD, NOW_US
    )


def test_cryptography_is_loaded_only_where_webhooks_are_used():
    code = (
        "import sys, aegispay.gateways.paypal as p\n"
        "p.PayPalGateway('client1', 'secret1')\n"
        "print('cryptography' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"


# --- a CRC32 is no signature of a body -----------------------------------------------------------------------


def with_crc(before: bytes, after: bytes, wanted: int) -> bytes:
    """The two parts with four bytes between them that give the whole this CRC32."""
    table = []
    for number in range(256):
        for _ in range(8):
            number = (number >> 1) ^ 0xEDB88320 if number & 1 else number >> 1
        table.append(number)
    index_of = {entry >> 24: index for index, entry in enumerate(table)}
    state = wanted ^ 0xFFFFFFFF
    for byte in (*reversed(after), 0, 0, 0, 0):
        index = index_of[state >> 24]
        state = (((state ^ table[index]) << 8) | (index ^ byte)) & 0xFFFFFFFF
    free = state ^ zlib.crc32(before) ^ 0xFFFFFFFF
    return before + free.to_bytes(4, "little") + after


def test_a_forged_body_with_the_same_crc32_passes_the_signature_so_nothing_is_believed_unread():
    """Whoever holds one genuine notice can sign another body with it. Every event therefore says: look it up."""
    genuine = notice("PAYMENT.CAPTURE.DENIED", declined(call()))
    head = headers(genuine)
    start, end = notice("PAYMENT.CAPTURE.COMPLETED", made(call()), pad="@").split(b"@")
    for number in range(100_000):
        forged = with_crc(start + str(number).encode(), end, zlib.crc32(genuine))
        free = forged[len(start) + len(str(number)) :][:4]
        if all(32 <= byte < 127 and byte not in b'"\\' for byte in free):
            break
    (found,) = gateway().parse_webhook(head, forged, NOW_US)
    assert isinstance(found.outcome, Approved), "PayPal's signature does not cover the body"
    assert found.must_look_up


# --- what a notice says -------------------------------------------------------------------------------------


def test_a_captured_charge_names_its_operation():
    of = call()
    found = one("PAYMENT.CAPTURE.COMPLETED", made(of))
    assert (found.kind, found.operation_id, found.payment_id) == (K.CHARGE, of.operation_id, of.payment_id)
    assert found.outcome == Approved(reference=CAPTURE, amount_minor=1000)
    assert (found.reference, found.payment_reference) == (CAPTURE, ORDER)
    assert (found.amount_minor, found.currency) == (1000, "USD")


def test_a_capture_of_an_authorization_is_told_apart_by_its_invoice_id():
    first, capture = call(K.AUTHORIZE), call(K.CAPTURE)
    found = one("PAYMENT.CAPTURE.COMPLETED", made(first, invoice_id=capture.operation_id))
    assert (found.kind, found.operation_id) == (K.CAPTURE, capture.operation_id)
    assert found.payment_id == first.payment_id


UP = [{"rel": "up", "href": f"https://api-m.paypal.com/v2/payments/authorizations/{AUTHORIZATION}"}]
NAMES_IT = {"related_ids": {"order_id": ORDER, "authorization_id": AUTHORIZATION}}


@pytest.mark.parametrize("names", [{"links": UP}, {"supplementary_data": NAMES_IT}])
@pytest.mark.parametrize("invoice", [{}, {"invoice_id": None}])
def test_a_capture_that_somebody_made_at_paypal_is_no_news_of_the_authorisation(names, invoice):
    """It carries no invoice id, or its order's: the one that the authorisation has."""
    first = call(K.AUTHORIZE)
    found = one("PAYMENT.CAPTURE.COMPLETED", made(first, **invoice, **names))
    assert (found.kind, found.operation_id, found.payment_id) == (K.CAPTURE, None, first.payment_id)
    assert (found.reference, found.outcome) == (CAPTURE, Approved(reference=CAPTURE, amount_minor=1000))


@pytest.mark.parametrize(
    ("event", "resource", "kind", "outcome"),
    [
        ("PAYMENT.CAPTURE.DENIED", declined(None), K.CHARGE, Declined),
        ("PAYMENT.CAPTURE.DECLINED", declined(None), K.CHARGE, Declined),
        ("PAYMENT.CAPTURE.PENDING", made(None, "PENDING"), K.CHARGE, None),
        ("PAYMENT.CAPTURE.REVERSED", made(None), K.REFUND, None),
        ("PAYMENT.AUTHORIZATION.CREATED", made(None, "CREATED", id=AUTHORIZATION), K.AUTHORIZE, Approved),
        ("PAYMENT.AUTHORIZATION.VOIDED", made(None, "VOIDED", id=AUTHORIZATION), K.VOID, Approved),
        ("CHECKOUT.ORDER.APPROVED", order(None, "APPROVED"), K.CHARGE, None),
        ("CHECKOUT.ORDER.APPROVED", order(None, "APPROVED", intent="AUTHORIZE"), K.AUTHORIZE, None),
        ("CHECKOUT.ORDER.COMPLETED", order(None), K.CHARGE, None),
    ],
)
def test_each_event_is_about_one_operation(event, resource, kind, outcome):
    found = one(event, resource)
    assert found.kind is kind and found.operation_id is None
    assert found.outcome is None if outcome is None else isinstance(found.outcome, outcome)
    assert (found.amount_minor, found.currency) == (1000, "USD")


@pytest.mark.parametrize(
    ("event", "status", "outcome"),
    [
        ("PAYMENT.CAPTURE.REFUNDED", "COMPLETED", Approved),
        ("PAYMENT.REFUND.PENDING", "PENDING", None),
        ("PAYMENT.REFUND.FAILED", "FAILED", Declined),
    ],
)
def test_refunds_name_their_operation_and_their_capture(event, status, outcome):
    of = call(K.REFUND)
    found = one(event, refund(of, status))
    assert (found.kind, found.operation_id) == (K.REFUND, of.operation_id)
    assert (found.reference, found.payment_reference) == (REFUND, CAPTURE)
    assert found.forgeable and found.undoes == (outcome is Declined)
    assert found.outcome is None if outcome is None else isinstance(found.outcome, outcome)


def test_a_refund_made_on_the_dashboard_is_not_taken_for_the_charge_whose_custom_id_it_carries():
    charge = call()
    theirs = refund(call(K.REFUND), invoice_id=charge.operation_id, custom_id=custom_id(charge))
    found = one("PAYMENT.CAPTURE.REFUNDED", theirs)
    assert (found.kind, found.operation_id, found.payment_id) == (K.REFUND, None, charge.payment_id)
    assert isinstance(found.outcome, Approved) and found.payment_reference == CAPTURE
    found = one("PAYMENT.CAPTURE.REFUNDED", refund(call(K.REFUND), invoice_id="THEIR-7", custom_id=None))
    assert found.operation_id is found.payment_id is None and found.payment_reference == CAPTURE


@pytest.mark.parametrize(
    ("event", "outcome", "opened", "won"),
    [
        ("CUSTOMER.DISPUTE.CREATED", None, True, None),
        ("CUSTOMER.DISPUTE.RESOLVED", "RESOLVED_SELLER_FAVOUR", False, True),
        ("CUSTOMER.DISPUTE.RESOLVED", "RESOLVED_BUYER_FAVOUR", False, False),
        ("CUSTOMER.DISPUTE.RESOLVED", "SOMETHING_NEW", False, None),
    ],
)
def test_disputes(event, outcome, opened, won):
    of = call()
    found = one(
        event,
        {
            "dispute_id": "PP-D-4012",
            "reason": "MERCHANDISE_OR_SERVICE_NOT_RECEIVED",
            "status": "OPEN",
            "dispute_amount": {"currency_code": "USD", "value": "10.00"},
            "dispute_outcome": {"outcome_code": outcome} if outcome else None,
            "disputed_transactions": [{"seller_transaction_id": CAPTURE, "custom": custom_id(of)}],
        },
    )
    assert (found.kind, found.payment_reference, found.payment_id) == (None, CAPTURE, of.payment_id)
    assert (found.dispute.reference, found.dispute.amount_minor) == ("PP-D-4012", 1000)
    assert (found.dispute.opened, found.dispute.won) == (opened, won)


def test_what_is_genuine_and_of_no_interest_gives_nothing():
    for body in (
        notice("BILLING.SUBSCRIPTION.CREATED", {"id": "I-1"}),
        notice("PAYMENT.SALE.COMPLETED", {"id": "S-1", "amount": {"total": "1.00"}}),
        notice("VAULT.PAYMENT-TOKEN.CREATED", ["odd"]),
    ):
        assert gateway().parse_webhook(headers(body), body, NOW_US) == []


@pytest.mark.parametrize(
    "resource",
    [
        None,
        [],
        {"status": "COMPLETED"},
        made(None, amount={"currency_code": "???", "value": "1"}),
        made(None, amount=7),
    ],
)
def test_a_resource_that_cannot_be_read_is_malformed(resource):
    body = notice("PAYMENT.CAPTURE.COMPLETED", resource)
    refused("malformed", headers(body), body)
