"""What people do at a PSP's own pages: they capture, release and give back there, under no reference of ours.

Each is a request that the PSP's pages would make: the face sees it as it sees any other, and tells of it by webhook.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Mapping
from enum import StrEnum

import msgspec

from aegispay.domain.money import Money
from aegispay.sandbox import adyen_face
from aegispay.sandbox.bank import BankCharge
from aegispay.sandbox.paypal_objects import money_of
from aegispay.sandbox.wire import Psp, WireRequest, handle


class Act(StrEnum):
    """Something that a person can do with a charge."""

    CAPTURE = "capture"
    VOID = "void"
    REFUND = "refund"


Dashboard = Callable[[Psp, BankCharge, str, Act, Money], bool]
"""The face, the charge, the PSP's id of the capture that a refund is of, the act and its amount; whether the PSP did it."""


def _post(face: Psp, path: str, headers: Mapping[str, str], body: bytes) -> bytes | None:
    """What the PSP answers; None for a refusal."""
    reply = handle(face, WireRequest(method="POST", path=path, headers=headers, body=body))
    return reply.body if reply.status < 300 else None


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def stripe(face: Psp, charge: BankCharge, _: str, act: Act, amount: Money) -> bool:
    """Stripe's pages: everything is done to the PaymentIntent."""
    id_, minor = charge.charge_id, amount.amount_minor
    path, body = {
        Act.CAPTURE: (f"/v1/payment_intents/{id_}/capture", f"amount_to_capture={minor}"),
        Act.VOID: (f"/v1/payment_intents/{id_}/cancel", ""),
        Act.REFUND: ("/v1/refunds", f"payment_intent={id_}&amount={minor}"),
    }[act]
    headers = {
        "authorization": "Bearer sk_test_sandbox",
        "content-type": "application/x-www-form-urlencoded",
    }
    return _post(face, path, headers, body.encode()) is not None


def razorpay(face: Psp, charge: BankCharge, _: str, act: Act, amount: Money) -> bool:
    """Razorpay's pages: a capture takes the whole amount, and there is no void."""
    id_ = charge.charge_id
    if act is Act.VOID:
        return False
    minor = charge.authorized_minor if act is Act.CAPTURE else amount.amount_minor
    body = {"amount": minor, "currency": amount.code}
    headers = {
        "authorization": _basic("rzp_test_sandbox", "razorpay_sandbox_secret"),
        "content-type": "application/json",
    }
    return _post(face, f"/v1/payments/{id_}/{act}", headers, msgspec.json.encode(body)) is not None


def is_last(charge: BankCharge, amount: Money) -> bool:
    """Whether somebody at PayPal's pages ticks that this capture is the last: about every other time, and no dice for it."""
    return bool(zlib.crc32(f"{charge.charge_id}{amount.amount_minor}".encode()) & 1)


def paypal(face: Psp, charge: BankCharge, capture_id: str, act: Act, amount: Money) -> bool:
    """PayPal's pages: an authorisation is captured, for the last time or not, or voided; a capture is refunded."""
    headers = {
        "authorization": _basic("paypal-sandbox-client", "paypal-sandbox-secret"),
        "content-type": "application/x-www-form-urlencoded",
    }
    token = _post(face, "/v1/oauth2/token", headers, b"grant_type=client_credentials")
    if token is None:
        return False
    path = {
        Act.CAPTURE: f"/v2/payments/authorizations/{charge.charge_id}/capture",
        Act.VOID: f"/v2/payments/authorizations/{charge.charge_id}/void",
        Act.REFUND: f"/v2/payments/captures/{capture_id}/refund",
    }[act]
    body: dict[str, object] = {}
    if act is not Act.VOID:
        body["amount"] = money_of(amount.amount_minor, amount.code)
    if act is Act.CAPTURE:
        body["final_capture"] = is_last(charge, amount)
    access = msgspec.json.decode(token)["access_token"]
    headers = {"authorization": f"Bearer {access}", "content-type": "application/json"}
    return _post(face, path, headers, msgspec.json.encode(body)) is not None


def adyen(face: Psp, charge: BankCharge, _: str, act: Act, amount: Money) -> bool:
    """Adyen's pages: what is asked is taken down, and its end is told by webhook."""
    path = {Act.CAPTURE: "captures", Act.VOID: "cancels", Act.REFUND: "refunds"}[act]
    body: dict[str, object] = {"merchantAccount": adyen_face.MERCHANT_ACCOUNT}
    if act is not Act.VOID:
        body["amount"] = {"currency": amount.code, "value": amount.amount_minor}
    headers = {"x-api-key": adyen_face.API_KEY, "content-type": "application/json"}
    where = f"/v71/payments/{charge.charge_id}/{path}"
    return _post(face, where, headers, msgspec.json.encode(body)) is not None
