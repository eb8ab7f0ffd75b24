"""Braintree's webhooks: a form of two fields, one the base64 of an XML notification, the other its signature.

Pure: no clock, no books. Most card sales send none; disputes, failed refunds and settled bank transfers do.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from urllib.parse import urlencode

from aegispay.sandbox.braintree_state import stamp
from aegispay.sandbox.braintree_xml import Node, render
from aegispay.sandbox.webhooks import Notice


def digest(private_key: str, text: str) -> str:
    """HMAC-SHA1 under the SHA1 of the private key, in hexadecimal digits."""
    key = hashlib.sha1(private_key.encode()).digest()  # noqa: S324 - Braintree's own scheme
    return hmac.new(key, text.encode(), hashlib.sha1).hexdigest()


def notice(kind: str, subject: Node, public_key: str, private_key: str, at_us: int, id_: str) -> Notice:
    """One notification, signed, in a body of its own."""
    xml = render(
        "notification", [("timestamp", ("datetime", stamp(at_us))), ("kind", kind), ("subject", [subject])]
    )
    payload = base64.encodebytes(xml.encode()).decode()
    form = {"bt_signature": f"{public_key}|{digest(private_key, payload)}", "bt_payload": payload}
    return Notice(
        id=f"{kind}:{id_}",
        type=kind,
        headers={"content-type": "application/x-www-form-urlencoded"},
        body=urlencode(form).encode(),
        created_us=at_us,
    )


def challenge_answered(challenge: str, answer: str, public_key: str, private_key: str) -> bool:
    """Whether a merchant's endpoint answered `?bt_challenge=` as Braintree demands before it sends anything there."""
    if not re.fullmatch("[a-f0-9]{20,32}", challenge):
        raise ValueError("a challenge is 20 to 32 hexadecimal digits")
    return hmac.compare_digest(answer.strip(), f"{public_key}|{digest(private_key, challenge)}")
