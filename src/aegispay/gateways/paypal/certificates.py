"""PayPal's webhook certificates: which ones may be fetched, the ones that were, and the check of a signature.

The address of the certificate comes with the webhook, from whoever sent it. It is followed only where it is, character
by character, an address of PayPal's certificates: anything else would let a stranger make us call any host (SSRF), and
sign with a key of their own.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from aegispay.domain.errors import ConfigError
from aegispay.gateways.http import HttpReply, HttpRequest, Transport
from aegispay.gateways.webhooks import WebhookRejected

CERTIFICATES_MAX = 16
"""More are not kept; the oldest goes first."""
CERTIFICATE_BYTES_MAX = 20_000
PAYPAL_URL = re.compile(
    r"https://(?:api|api-m)(?:\.sandbox)?\.paypal\.com/v1/notifications/certs/[A-Za-z0-9_-]{1,100}"
)
_PATH = re.compile(r"/v1/notifications/certs/[A-Za-z0-9_-]{1,100}")
_LOOPBACK = re.compile(r"http://(?:127\.0\.0\.1|localhost|\[::1\]):\d{1,5}")
_NAME = re.compile(r"(?:[a-z0-9-]+\.)+paypal\.com")


class CertificateStore:
    """The certificates of one PayPal application, by address."""

    def __init__(self, given: Mapping[str, str | bytes], base_url: str) -> None:
        """`given`: certificates in PEM by their address, for those who pin them. Raises `ConfigError`."""
        self._loopback = base_url if _LOOPBACK.fullmatch(base_url) else None
        self._keys: dict[str, Any] = {}
        for url, pem in given.items():
            if not self.allows(url):
                raise ConfigError(f"{url[:120]!r} is not the address of a PayPal certificate.")
            certificate = _load(pem.encode() if isinstance(pem, str) else pem)
            if certificate is None:
                raise ConfigError(f"the certificate given for {url[:120]!r} is not one in PEM.")
            self._keys[url] = certificate

    def allows(self, url: str) -> bool:
        """Whether this is the address of a PayPal certificate (or of the sandbox's own, where that is on loopback)."""
        if PAYPAL_URL.fullmatch(url):
            return True
        base = self._loopback
        return base is not None and url.startswith(base) and _PATH.fullmatch(url[len(base) :]) is not None

    async def fetch(self, url: str, transport: Transport, timeout_s: float) -> None:
        """Gets the certificate, unless it is here. Raises `WebhookRejected` where the address is none of PayPal's, or
        where what stands there is no certificate of theirs. No redirect is followed, no key of ours is sent."""
        if not self.allows(url):
            raise WebhookRejected(
                "certificate", "the webhook's certificate lies at an address that is not PayPal's."
            )
        if url in self._keys:
            return
        request = HttpRequest(
            method="GET", url=url, headers={"Accept": "application/x-pem-file, */*"}, timeout_s=timeout_s
        )
        reply = await transport.send(request)
        if not isinstance(reply, HttpReply) or reply.status != 200 or len(reply.body) > CERTIFICATE_BYTES_MAX:
            raise WebhookRejected("certificate", "the webhook's certificate could not be fetched.")
        certificate = _load(reply.body)
        if certificate is None or not (self._loopback or _is_paypals(certificate)):
            raise WebhookRejected("certificate", "the webhook's certificate is not PayPal's.")
        while len(self._keys) >= CERTIFICATES_MAX:
            self._keys.pop(next(iter(self._keys)))
        self._keys[url] = certificate

    def verify(self, url: str, message: bytes, signature: str, now_us: int) -> None:
        """Raises `WebhookRejected` unless this is PayPal's signature of the message. Opens no connection."""
        if not self.allows(url):
            raise WebhookRejected(
                "certificate", "the webhook's certificate lies at an address that is not PayPal's."
            )
        certificate = self._keys.get(url)
        if certificate is None:
            raise WebhookRejected(
                "certificate",
                "the webhook's certificate was not fetched: await prepare_webhook(headers) first.",
            )
        now_s = now_us / 1_000_000
        begins_s = certificate.not_valid_before_utc.timestamp()
        if not begins_s <= now_s <= certificate.not_valid_after_utc.timestamp():
            raise WebhookRejected("certificate", "the webhook's certificate is not valid now.")
        try:
            raw = base64.b64decode(signature, validate=True)
        except (binascii.Error, ValueError):
            raise WebhookRejected("signature") from None
        if not _signed(certificate, raw, message):
            raise WebhookRejected("signature")


def _crypto() -> Any:
    """`cryptography`, loaded only where PayPal's webhooks are used."""
    try:
        from cryptography import x509
    except ImportError:
        raise ConfigError(
            "PayPal's webhooks are verified with the package cryptography.",
            hint="Install it with aegispay[paypal].",
        ) from None
    return x509


def _load(pem: bytes) -> Any | None:
    x509 = _crypto()
    try:
        return x509.load_pem_x509_certificates(pem)[0]
    except ValueError:
        return None


def _is_paypals(certificate: Any) -> bool:
    """Whether the certificate is issued to a host of PayPal's."""
    x509 = _crypto()
    names = [one.value for one in certificate.subject.get_attributes_for_oid(x509.oid.NameOID.COMMON_NAME)]
    return any(isinstance(name, str) and _NAME.fullmatch(name.lower()) for name in names)


def _signed(certificate: Any, signature: bytes, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < 2048:
        return False
    try:
        key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True
