"""Our requests beside those that the official SDKs send for the same operation: method, path, credentials, body.

Braintree's SDK speaks the older XML gateway and our adapter GraphQL, so there only the sandbox can be held to its requests.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from aegispay.domain.events import OperationKind
from aegispay.gateways.adyen import AdyenGateway
from aegispay.gateways.gateway import Gateway, GatewayCall
from aegispay.gateways.http import HttpReply, HttpRequest
from aegispay.gateways.razorpay import RazorpayGateway
from aegispay.gateways.razorpay.requests import CHECKOUT
from aegispay.gateways.stripe import StripeGateway
from tests.fakes import adyen_calls, razorpay_calls, stripe_calls, tally
from tests.fakes.psp_data import psp_document

K = OperationKind
NOTHING = b'{"object": "list", "data": [], "has_more": false, "items": [], "count": 0}'
RAZORPAY_KEYS = ("rzp_test_abcdefghij", "key_secret")
NAMES = {
    "PSP1": adyen_calls.PSP,
    base64.b64encode(b"key_id:key_secret").decode(): base64.b64encode(
        ":".join(RAZORPAY_KEYS).encode()
    ).decode(),
}
"""Where our adapters refuse the recording's names because the PSP cannot have given them: ours."""


class Recorder:
    """A transport that remembers the requests, and answers every one as if nothing were there."""

    def __init__(self) -> None:
        self.sent: list[HttpRequest] = []

    async def send(self, request: HttpRequest) -> HttpReply:
        self.sent.append(request)
        return HttpReply(status=200, headers={}, body=NOTHING)

    async def aclose(self) -> None:
        """Nothing is open."""


def stripe(wire: Recorder) -> Gateway:
    return StripeGateway("sk_test_x", transport=wire)


def razorpay(wire: Recorder) -> Gateway:
    return RazorpayGateway(*RAZORPAY_KEYS, transport=wire)


def adyen(wire: Recorder) -> Gateway:
    return AdyenGateway("k", "M", transport=wire, base_url="https://checkout-test.adyen.com/v71")


async def performed(gateway: Gateway, call: GatewayCall) -> None:
    await gateway.perform(call)


async def looked_up(gateway: Gateway, call: GatewayCall) -> None:
    await gateway.look_up(call)


async def canceled(gateway: Gateway, call: GatewayCall) -> None:
    await gateway.cancel_by_reference(call)


Made = tuple[Callable[[Recorder], Gateway], Callable[[Gateway, GatewayCall], Any], GatewayCall]


def scenarios() -> dict[str, Made]:
    s, r, a = stripe_calls.call, razorpay_calls.call, adyen_calls.call
    parent = {"parent_reference": adyen_calls.PSP}
    back = "https://example.com/r"
    return {
        "stripe.create": (stripe, performed, s(K.AUTHORIZE, "10.99 USD", return_url=back)),
        "stripe.capture": (stripe, performed, s(K.CAPTURE, "5.00 USD", parent_kind=K.AUTHORIZE)),
        "stripe.cancel": (stripe, performed, s(K.VOID, "10.99 USD", parent_kind=K.AUTHORIZE)),
        "stripe.retrieve": (stripe, performed, s(K.CONFIRM, "10.99 USD")),
        "stripe.search": (stripe, looked_up, s(K.CHARGE, "10.99 USD", started_at_us=1_800_000_000_000_000)),
        "stripe.refund": (stripe, performed, s(K.REFUND, "1.00 USD")),
        "razorpay.order.create": (razorpay, performed, r(K.CHARGE, "500.00 INR", token=CHECKOUT)),
        "razorpay.order.payments": (razorpay, looked_up, r(K.CHARGE, own_reference="order_1")),
        "razorpay.order.all_by_receipt": (razorpay, looked_up, r(K.CHARGE, "500.00 INR")),
        "razorpay.payment.capture": (razorpay, performed, r(K.CAPTURE, "500.00 INR")),
        "razorpay.payment.refund": (razorpay, performed, r(K.REFUND, "1.00 INR")),
        "razorpay.payment.fetch": (razorpay, looked_up, r(K.CHARGE, own_reference="pay_1")),
        "adyen.payments": (adyen, performed, a(K.AUTHORIZE, "10.00 EUR")),
        "adyen.capture": (adyen, performed, a(K.CAPTURE, "10.00 EUR", **parent)),
        "adyen.cancel": (adyen, performed, a(K.VOID, "10.00 EUR", **parent)),
        "adyen.cancel_by_merchant_ref": (adyen, canceled, a(K.CHARGE, "10.00 EUR")),
        "adyen.reversal": (adyen, performed, a(K.VOID, "10.00 EUR", **parent, parent_kind=K.CHARGE)),
        "adyen.refund": (adyen, performed, a(K.REFUND, "10.00 EUR", **parent)),
    }


OURS_TO_CHOOSE = {"reference", "receipt", "paymentReference", "returnUrl", "metadata", "query"}
"""What the merchant chooses: the SDK's recording has its own words there."""
OPTIONAL = {"cancellation_reason"}
NOT_ASKED_FOR = {"accept", "user-agent"}


def fields(body: str, media: str) -> dict[str, str]:
    """The body's leaves by their path, and their values as text with their JSON type."""
    if not media.startswith("application/json"):
        return {name: f"str {value}" for name, value in parse_qsl(body, keep_blank_values=True)}
    found: dict[str, str] = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                walk(inner, f"{path}.{name}" if path else name)
        else:
            found[path] = f"{type(value).__name__} {value}"

    walk(json.loads(body) if body else {}, "")
    return found


def path_of(url: str) -> tuple[str, set[str]]:
    """The path without its version, and the names of the query."""
    parts = urlsplit(url)
    version, _, rest = parts.path.lstrip("/").partition("/")
    assert version[0] == "v" and version[1:].isdigit()
    return rest, {name for name, _ in parse_qsl(parts.query)}


@pytest.mark.parametrize("name", scenarios())
async def test_our_request_is_the_official_sdks(name: str) -> None:
    recorded = json.dumps(psp_document("sdk_wire/official_sdk_requests.json")[name])
    for theirs_name, our_name in NAMES.items():
        recorded = recorded.replace(theirs_name, our_name)
    (theirs,) = json.loads(recorded)["requests"]
    make, ask, call = scenarios()[name]
    wire = Recorder()
    await ask(make(wire), call)
    their_path, their_query = path_of(theirs["path"])
    same = [one for one in wire.sent if (one.method, path_of(one.url)[0]) == (theirs["method"], their_path)]
    assert same, f"we send {[(one.method, one.url) for one in wire.sent]}"
    ours = same[0]
    assert their_query <= path_of(ours.url)[1]
    headers = {key.lower(): value for key, value in ours.headers.items()}
    for header, value in theirs["headers"].items():
        if header in ("authorization", "x-api-key", "content-type"):
            assert headers.get(header, "").split(";")[0] == value.split(";")[0], header
        elif header not in NOT_ASKED_FOR:
            assert header in headers, header
    media = theirs["headers"].get("content-type", "")
    sent = fields((ours.body or b"").decode(), media)
    for field, value in fields(theirs["body"], media).items():
        root = field.split(".")[0].split("[")[0]
        if root in OPTIONAL:
            continue
        if root in OURS_TO_CHOOSE:
            assert root in {one.split(".")[0].split("[")[0] for one in sent}, field
        else:
            assert sent.get(field) == value, field
    tally.checked(name.split(".")[0], "SDK requests")


def test_every_recorded_scenario_of_these_sdks_is_compared() -> None:
    recorded = psp_document("sdk_wire/official_sdk_requests.json")
    assert set(scenarios()) == {name for name in recorded if not name.startswith("braintree.")}
