"""What a merchant may show a payer: one table from our unified codes to sentences that give nothing away.

A `ResultError.message` is for the merchant. This is for the payer, who may be the one who stole the card: whoever is refused
for fraud, for a lost or a stolen card, or by a rule of the bank, reads the same sentence as everybody else. A mistake of the
merchant's or of ours is not explained to a payer either. No sentence says that nothing was charged: a PSP may hear from the
bank late. A code that is not listed gets its category's sentence.
"""

from __future__ import annotations

from aegispay.domain.outcomes import DeclineCategory

REFUSED = "The payment was not accepted. Please use another payment method, or ask your bank."
AUTHENTICATE = "Your bank wants you to confirm the payment. Please try again and follow its steps."
CHECK_DATA = "Please check the details of your payment method and try again."
NO_MONEY = "The payment exceeds the balance or a limit. Please use another payment method."
NOT_TAKEN_HERE = "This payment method cannot be used here. Please use another one."
TRY_LATER = "The payment could not be made at this moment. Please try again later."
NOT_POSSIBLE = "This could not be completed. Please contact us."
CANCELED = "The payment was canceled."
TIMED_OUT = "The payment was not completed in time. Please check your account before you pay again."
WAIT = "Your payment is being processed. Please do not pay again."
RETURNED = "The payment was not completed. What was charged is given back."

MESSAGES: dict[str, str] = {
    # The payer can do something about it
    "authentication_required": AUTHENTICATE,
    "authentication_failed": AUTHENTICATE,
    "incorrect_address": CHECK_DATA,
    "incorrect_cvc": CHECK_DATA,
    "incorrect_number": CHECK_DATA,
    "incorrect_pin": CHECK_DATA,
    "invalid_expiry": CHECK_DATA,
    "expired_card": "The card has expired. Please use another payment method.",
    "insufficient_funds": NO_MONEY,
    "limit_exceeded": NO_MONEY,
    "card_not_supported": NOT_TAKEN_HERE,
    "currency_not_supported": NOT_TAKEN_HERE,
    "invalid_payment_method": NOT_TAKEN_HERE,
    "try_again": TRY_LATER,
    "issuer_unavailable": TRY_LATER,
    "processing_error": TRY_LATER,
    "gateway_unavailable": TRY_LATER,
    "canceled": CANCELED,
    "canceled_by_payer": CANCELED,
    "expired": CANCELED,
    "timed_out": TIMED_OUT,
    "action_expired": TIMED_OUT,
    # The bank's or the fraud tools' business: always the same sentence
    "card_declined": REFUSED,
    "do_not_honor": REFUSED,
    "fraud_suspected": REFUSED,
    "invalid_account": REFUSED,
    "lost_card": REFUSED,
    "not_permitted": REFUSED,
    "pickup_card": REFUSED,
    "restricted_card": REFUSED,
    "settlement_declined": REFUSED,
    "stolen_card": REFUSED,
    "transaction_refused": REFUSED,
    # The merchant's business, or ours
    "account_invalid": NOT_POSSIBLE,
    "already_authorized": NOT_POSSIBLE,
    "already_captured": NOT_POSSIBLE,
    "already_refunded": NOT_POSSIBLE,
    "already_voided": NOT_POSSIBLE,
    "approved_without_capture": NOT_POSSIBLE,
    "authorization_expired": NOT_POSSIBLE,
    "balance_insufficient": NOT_POSSIBLE,
    "disputed": NOT_POSSIBLE,
    "duplicate_transaction": NOT_POSSIBLE,
    "forbidden": NOT_POSSIBLE,
    "invalid_amount": NOT_POSSIBLE,
    "invalid_request": NOT_POSSIBLE,
    "invalid_state": NOT_POSSIBLE,
    "livemode_mismatch": NOT_POSSIBLE,
    "not_found": NOT_POSSIBLE,
    "not_refundable": NOT_POSSIBLE,
    "not_settled": NOT_POSSIBLE,
    "not_supported": NOT_POSSIBLE,
    "partially_approved": NOT_POSSIBLE,
    "refund_canceled": NOT_POSSIBLE,
    "refund_failed": NOT_POSSIBLE,
    # Nobody knows yet: never "it failed"
    "in_doubt": WAIT,
    "in_progress": WAIT,
    "needs_review": WAIT,
    "processing": WAIT,
    "reversed_after_doubt": RETURNED,
}

_BY_CATEGORY = {
    DeclineCategory.AUTHENTICATION_REQUIRED: AUTHENTICATE,
    DeclineCategory.INVALID: NOT_POSSIBLE,
}


def payer_message(code: str, category: DeclineCategory | None = None) -> str:
    """The sentence for a unified code; for an unknown one that of its category. Never empty, and never the PSP's words."""
    found = MESSAGES.get(code)
    if found is not None:
        return found
    return REFUSED if category is None else _BY_CATEGORY.get(category, REFUSED)
