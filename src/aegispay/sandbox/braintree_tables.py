"""What Braintree's sandbox says to a nonce, a card or an amount, and in which words: tables only."""

from __future__ import annotations

import msgspec

from aegispay.domain.money import exponent_of
from aegispay.sandbox import issuer

AUTHORIZED, SUBMITTED, SETTLED = "AUTHORIZED", "SUBMITTED_FOR_SETTLEMENT", "SETTLED"
VOIDED, EXPIRED = "VOIDED", "AUTHORIZATION_EXPIRED"
DECLINED, REJECTED, FAILED = "PROCESSOR_DECLINED", "GATEWAY_REJECTED", "FAILED"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """How an authorisation ends."""

    status: str = AUTHORIZED
    code: str = "1000"
    """The processor's code, or why the gateway itself rejected it."""


APPROVED = Answer()

TEXTS = {
    "1000": "Approved",
    "2000": "Do Not Honor",
    "2001": "Insufficient Funds",
    "2004": "Expired Card",
    "2005": "Invalid Credit Card Number",
    "2010": "Card Issuer Declined CVV",
    "2012": "Processor Declined - Possible Lost Card",
    "2013": "Processor Declined - Possible Stolen Card",
    "2014": "Processor Declined - Fraud Suspected",
    "2038": "Processor Declined",
    "2057": "Issuer or Cardholder has put a restriction on the card",
    "3000": "Processor Network Unavailable - Try Again",
}
HARD = frozenset(
    "2004 2005 2006 2007 2008 2009 2011 2012 2013 2014 2015 2017 2018 2019 2020 2022 2024 2047 2053".split()  # noqa: SIM905
)
"""Declines of which `declineType` is HARD."""

_ISSUER = {
    "generic_decline": "2000",
    "do_not_honor": "2000",
    "insufficient_funds": "2001",
    "lost_card": "2012",
    "stolen_card": "2013",
    "expired_card": "2004",
    "incorrect_cvc": "2010",
    "processing_error": "2038",
    "issuer_not_available": "3000",
    "card_velocity_exceeded": "2057",
    "fraudulent": "2014",
    "incorrect_number": "2005",
}
"""The one issuer's reasons in Braintree's codes."""

NONCE_ANSWERS = {
    "fake-processor-declined-visa-nonce": Answer(status=DECLINED, code="2000"),
    "fake-processor-declined-mastercard-nonce": Answer(status=DECLINED, code="2000"),
    "fake-processor-declined-amex-nonce": Answer(status=DECLINED, code="2000"),
    "fake-processor-declined-discover-nonce": Answer(status=DECLINED, code="2000"),
    "fake-processor-failure-jcb-nonce": Answer(status=FAILED, code="3000"),
    "fake-gateway-rejected-fraud-nonce": Answer(status=REJECTED, code="FRAUD"),
    "fake-gateway-rejected-risk-thresholds-nonce": Answer(status=REJECTED, code="RISK_THRESHOLD"),
}
CONSUMED, LUHN_INVALID = "fake-consumed-nonce", "fake-luhn-invalid-nonce"
NONCE_NUMBERS = {
    "mastercard": "5555555555554444",
    "amex": "378282246310005",
    "discover": "6011111111111117",
    "jcb": "3566002020360505",
}
"""A test nonce's name tells its brand; every other one is a Visa."""


def nonce_number(nonce: str) -> str | None:
    """The card behind a test nonce; None for what is not one."""
    if not nonce.startswith(("fake-", "tokensam_fake_")):
        return None
    return next((number for brand, number in NONCE_NUMBERS.items() if brand in nonce), "4242424242424242")


def judge(nonce: str, number: str, amount_minor: int, currency: str) -> Answer:
    """The nonce decides first, then the amount, then the card."""
    named = NONCE_ANSWERS.get(nonce)
    if named is not None:
        return named
    unit = 10 ** exponent_of(currency)
    major = amount_minor // unit
    if 2000 <= major < 3000:
        return Answer(status=DECLINED, code=str(major))
    if major == 3000:
        return Answer(status=FAILED, code="3000")
    if amount_minor == 5001 * unit:
        return Answer(status=REJECTED, code="APPLICATION_INCOMPLETE")
    found = issuer.verdict(number, amount_minor)
    if found.approved:
        return APPROVED
    code = _ISSUER[found.code]
    return Answer(status=FAILED if code == "3000" else DECLINED, code=code)
