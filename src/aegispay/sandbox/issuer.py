"""The issuer: what becomes of a card, by its number, its test token or a magic amount. One table each.

The numbers and `pm_card_...` names are those that Stripe documents for its test mode; `tok_...` are the second PSP's own.
"""

from __future__ import annotations

import msgspec

from aegispay.domain.methods import Token


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The issuer's answer to an authorisation."""

    code: str = ""
    """Empty: approved. Otherwise the reason, in Stripe's words (a decline code, or an error code)."""
    message: str = ""
    authenticate: bool = False
    """The payer must authenticate first; the rest of the verdict holds after that."""

    @property
    def approved(self) -> bool:
        return not self.code


APPROVED = Verdict()

_MESSAGES = {
    "generic_decline": "The issuer refused the card.",
    "insufficient_funds": "The card has too little money on it.",
    "lost_card": "The issuer refused the card.",
    "stolen_card": "The issuer refused the card.",
    "fraudulent": "The issuer refused the card.",
    "card_velocity_exceeded": "The card was used too often or for too much.",
    "do_not_honor": "The issuer refused the card and gives no reason.",
    "issuer_not_available": "The issuer cannot be reached.",
    "expired_card": "The card has expired.",
    "incorrect_cvc": "The security code is wrong.",
    "processing_error": "The card could not be processed; try again.",
    "incorrect_number": "The card number is wrong.",
}


def _no(code: str, authenticate: bool = False) -> Verdict:
    return Verdict(code=code, message=_MESSAGES[code], authenticate=authenticate)


CARDS: dict[str, Verdict] = {
    "4242424242424242": APPROVED,
    "4000056655665556": APPROVED,
    "5555555555554444": APPROVED,
    "5200828282828210": APPROVED,
    "378282246310005": APPROVED,
    "6011111111111117": APPROVED,
    "3566002020360505": APPROVED,
    "4000000000000002": _no("generic_decline"),
    "4000000000009995": _no("insufficient_funds"),
    "4000000000009987": _no("lost_card"),
    "4000000000009979": _no("stolen_card"),
    "4000000000000069": _no("expired_card"),
    "4000000000000127": _no("incorrect_cvc"),
    "4000000000000119": _no("processing_error"),
    "4000000000006975": _no("card_velocity_exceeded"),
    "4100000000000019": _no("fraudulent"),
    "4000002760003184": Verdict(authenticate=True),
    "4000002500003155": Verdict(authenticate=True),
    "4000000000003220": Verdict(authenticate=True),
    "4000000000003063": Verdict(authenticate=True),
    "4000008400001629": _no("generic_decline", authenticate=True),
    "4000008260003178": _no("insufficient_funds", authenticate=True),
}
"""Card number to verdict. Any other number that passes the Luhn check is approved."""

STRIPE_TOKENS: dict[str, str] = {
    "pm_card_visa": "4242424242424242",
    "pm_card_visa_debit": "4000056655665556",
    "pm_card_mastercard": "5555555555554444",
    "pm_card_mastercard_debit": "5200828282828210",
    "pm_card_amex": "378282246310005",
    "pm_card_discover": "6011111111111117",
    "pm_card_jcb": "3566002020360505",
    "pm_card_us": "4242424242424242",
    "pm_card_chargeDeclined": "4000000000000002",
    "pm_card_visa_chargeDeclined": "4000000000000002",
    "pm_card_chargeDeclinedInsufficientFunds": "4000000000009995",
    "pm_card_visa_chargeDeclinedInsufficientFunds": "4000000000009995",
    "pm_card_chargeDeclinedLostCard": "4000000000009987",
    "pm_card_visa_chargeDeclinedLostCard": "4000000000009987",
    "pm_card_chargeDeclinedStolenCard": "4000000000009979",
    "pm_card_visa_chargeDeclinedStolenCard": "4000000000009979",
    "pm_card_chargeDeclinedExpiredCard": "4000000000000069",
    "pm_card_chargeDeclinedIncorrectCvc": "4000000000000127",
    "pm_card_chargeDeclinedProcessingError": "4000000000000119",
    "pm_card_chargeDeclinedVelocityLimitExceeded": "4000000000006975",
    "pm_card_visa_chargeDeclinedVelocityLimitExceeded": "4000000000006975",
    "pm_card_chargeDeclinedFraudulent": "4100000000000019",
    "pm_card_authenticationRequired": "4000002760003184",
    "pm_card_authenticationRequiredOnSetup": "4000002500003155",
    "pm_card_threeDSecure2Required": "4000000000003220",
    "pm_card_threeDSecureRequired": "4000000000003063",
    "pm_card_threeDSecureRequiredChargeDeclined": "4000008400001629",
    "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds": "4000008260003178",
}
"""Stripe's test payment methods."""

PLAINPAY_TOKENS: dict[str, str] = {
    "tok_visa": "4242424242424242",
    "tok_mastercard": "5555555555554444",
    "tok_declined": "4000000000000002",
    "tok_insufficient_funds": "4000000000009995",
    "tok_lost_card": "4000000000009987",
    "tok_stolen_card": "4000000000009979",
    "tok_expired_card": "4000000000000069",
    "tok_incorrect_cvc": "4000000000000127",
    "tok_processing_error": "4000000000000119",
    "tok_fraudulent": "4100000000000019",
    "tok_3ds": "4000002760003184",
    "tok_3ds_declined": "4000008400001629",
}
"""The second PSP's test tokens."""

AMOUNTS: dict[int, Verdict] = {
    999_901: _no("generic_decline"),
    999_902: _no("insufficient_funds"),
    999_903: _no("lost_card"),
    999_904: _no("stolen_card"),
    999_905: _no("expired_card"),
    999_906: _no("incorrect_cvc"),
    999_907: _no("processing_error"),
    999_908: Verdict(authenticate=True),
    999_909: _no("do_not_honor"),
    999_910: _no("fraudulent"),
    999_911: _no("issuer_not_available"),
}
"""Amounts in minor units that decide for any card that would be approved: 9,999.01 and its neighbours."""


def verdict(number: str, amount_minor: int) -> Verdict:
    """What the issuer says to an authorisation of this amount on this card."""
    found = CARDS.get(number, APPROVED)
    return AMOUNTS.get(amount_minor, found) if found is APPROVED else found


def sandbox_token(stripe: str = "pm_card_visa", plainpay: str = "tok_visa") -> Token:
    """A payment method that both PSPs know, each under its own test token."""
    for name, known in ((stripe, STRIPE_TOKENS), (plainpay, PLAINPAY_TOKENS)):
        if name not in known:
            raise ValueError(f"{name!r} is not a test token; known are {', '.join(known)}")
    return Token(stripe, by_gateway={"plainpay": plainpay})
