"""PayPal's webhooks: what an event says, how a transmission is signed, and the certificate that proves it."""

from __future__ import annotations

import base64
import binascii
import zlib
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import msgspec

from aegispay.sandbox.documents import Document
from aegispay.sandbox.paypal_objects import shown, time_of
from aegispay.sandbox.webhooks import Notice

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

CERTIFICATE_PATH = "/v1/notifications/certs/"
ALGORITHM = "SHA256withRSA"


def signed_text(transmission_id: str, time: str, webhook_id: str, body: bytes) -> bytes:
    """What a signature is made over: four parts, the last the CRC-32 of the raw body as a decimal number."""
    return f"{transmission_id}|{time}|{webhook_id}|{zlib.crc32(body)}".encode()


@cache
def _key_and_certificate() -> tuple[RSAPrivateKey, bytes]:
    """One pair per process, made when first needed: it takes a noticeable moment."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import NameOID

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "messageverificationcerts.sandbox")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # The clock that a simulation sets may stand years away from the machine's.
        .not_valid_before(now - timedelta(days=20_000))
        .not_valid_after(now + timedelta(days=20_000))
        .sign(key, hashes.SHA256())
    )
    return key, certificate.public_bytes(serialization.Encoding.PEM)


class Signer:
    """Signs as PayPal does. It needs the `cryptography` package, and says so before anything is served."""

    def __init__(self) -> None:
        if find_spec("cryptography") is None:
            raise ModuleNotFoundError("PayPal's sandbox signs webhooks: install aegispay[paypal]")

    def certificate(self) -> bytes:
        """In PEM."""
        return _key_and_certificate()[1]

    def sign(self, text: bytes) -> str:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding

        return base64.b64encode(
            _key_and_certificate()[0].sign(text, padding.PKCS1v15(), hashes.SHA256())
        ).decode()

    def signed(self, text: bytes, signature: str) -> bool:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding

        try:
            raw = base64.b64decode(signature, validate=True)
            _key_and_certificate()[0].public_key().verify(raw, text, padding.PKCS1v15(), hashes.SHA256())
        except (InvalidSignature, binascii.Error, ValueError):
            return False
        return True


def notice(
    event_type: str,
    resource: Document,
    *,
    event_id: str,
    transmission_id: str,
    webhook_id: str,
    certificate_url: str,
    signer: Signer,
    now_us: int,
) -> Notice:
    """A webhook about this object, with the headers of its transmission."""
    kind = event_type.split(".")[1].lower()
    event: dict[str, Any] = {
        "id": event_id,
        "event_version": "1.0",
        "create_time": time_of(now_us),
        "resource_type": f"checkout-{kind}" if kind == "order" else kind,
        "resource_version": "2.0",
        "event_type": event_type,
        "summary": f"Sandbox: {event_type}",
        "resource": shown(resource),
        "links": [],
    }
    body, time = msgspec.json.encode(event), time_of(now_us)
    headers = {
        "content-type": "application/json",
        "paypal-auth-algo": ALGORITHM,
        "paypal-cert-url": certificate_url,
        "paypal-transmission-id": transmission_id,
        "paypal-transmission-time": time,
        "paypal-transmission-sig": signer.sign(signed_text(transmission_id, time, webhook_id, body)),
    }
    return Notice(id=event_id, type=event_type, headers=headers, body=body, created_us=now_us)
