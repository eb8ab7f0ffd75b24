"""What each Braintree code means to us: one table, read top to bottom. No logic beyond the look-up.

An unknown processor code is a soft decline unless the answer's `declineType` says HARD, an unknown gateway rejection
is hard, an unknown validation error an invalid request: the hundreds that are not listed are about fields and objects
(subscriptions, addresses, line items) that our requests do not hold.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from aegispay.domain.outcomes import DeclineCategory

SOFT = DeclineCategory.SOFT
HARD = DeclineCategory.HARD
FRAUD = DeclineCategory.FRAUD
AUTH = DeclineCategory.AUTHENTICATION_REQUIRED
INVALID = DeclineCategory.INVALID

AUTHS = "general/processor-responses/authorization-responses"
"""Braintree's page of authorization responses."""
SCHEMA = "schema.graphql: GatewayRejectionReason"
CHECKS = "general/validation-errors"
"""Braintree's page of validation errors; the names are those of its SDKs."""

Kind = Literal["processor", "gateway", "validation"]


class Row(NamedTuple):
    kind: Kind
    braintree: str
    text: str
    code: str
    category: DeclineCategory
    source: str


# fmt: off
TABLE: tuple[Row, ...] = (
    # The processor or the issuer declined; the answer's `declineType` goes before SOFT and HARD here
    Row("processor", "2000", "Do Not Honor", "card_declined", SOFT, AUTHS),
    Row("processor", "2001", "Insufficient Funds", "insufficient_funds", SOFT, AUTHS),
    Row("processor", "2002", "Limit Exceeded", "limit_exceeded", SOFT, AUTHS),
    Row("processor", "2003", "Cardholder's Activity Limit Exceeded", "limit_exceeded", SOFT, AUTHS),
    Row("processor", "2004", "Expired Card", "expired_card", HARD, AUTHS),
    Row("processor", "2005", "Invalid Credit Card Number", "incorrect_number", HARD, AUTHS),
    Row("processor", "2006", "Invalid Expiration Date", "invalid_expiry", HARD, AUTHS),
    Row("processor", "2007", "No Account", "invalid_account", HARD, AUTHS),
    Row("processor", "2008", "Card Account Length Error", "incorrect_number", HARD, AUTHS),
    Row("processor", "2009", "No Such Issuer", "incorrect_number", HARD, AUTHS),
    Row("processor", "2010", "Card Issuer Declined CVV", "incorrect_cvc", HARD, AUTHS),
    Row("processor", "2011", "Voice Authorization Required", "card_declined", HARD, AUTHS),
    Row("processor", "2012", "Possible Lost Card", "lost_card", HARD, AUTHS),
    Row("processor", "2013", "Possible Stolen Card", "stolen_card", HARD, AUTHS),
    Row("processor", "2014", "Fraud Suspected", "fraud_suspected", FRAUD, AUTHS),
    Row("processor", "2015", "Transaction Not Allowed", "not_permitted", HARD, AUTHS),
    Row("processor", "2016", "Duplicate Transaction", "duplicate_transaction", HARD, AUTHS),
    Row("processor", "2017", "Cardholder Stopped Billing", "card_declined", HARD, AUTHS),
    Row("processor", "2018", "Cardholder Stopped All Billing", "card_declined", HARD, AUTHS),
    Row("processor", "2019", "Invalid Transaction", "not_permitted", HARD, AUTHS),
    Row("processor", "2020", "Violation", "card_declined", HARD, AUTHS),
    Row("processor", "2021", "Security Violation", "card_declined", HARD, AUTHS),
    Row("processor", "2022", "Updated Cardholder Available", "invalid_account", HARD, AUTHS),
    Row("processor", "2023", "Processor Does Not Support This Feature", "not_supported", HARD, AUTHS),
    Row("processor", "2024", "Card Type Not Enabled", "card_not_supported", HARD, AUTHS),
    Row("processor", "2025", "Set Up Error - Merchant", "account_invalid", SOFT, AUTHS),
    Row("processor", "2026", "Invalid Merchant ID", "account_invalid", SOFT, AUTHS),
    Row("processor", "2027", "Set Up Error - Amount", "invalid_amount", HARD, AUTHS),
    Row("processor", "2028", "Set Up Error - Hierarchy", "account_invalid", HARD, AUTHS),
    Row("processor", "2029", "Set Up Error - Card", "card_declined", HARD, AUTHS),
    Row("processor", "2030", "Set Up Error - Terminal", "account_invalid", HARD, AUTHS),
    Row("processor", "2031", "Encryption Error", "processing_error", HARD, AUTHS),
    Row("processor", "2032", "Surcharge Not Permitted", "not_permitted", HARD, AUTHS),
    Row("processor", "2033", "Inconsistent Data", "processing_error", HARD, AUTHS),
    Row("processor", "2034", "No Action Taken", "try_again", SOFT, AUTHS),
    Row("processor", "2035", "Partial Approval For Amount In Group III Version", "card_declined", SOFT, AUTHS),
    Row("processor", "2036", "Authorization could not be found", "not_found", HARD, AUTHS),
    Row("processor", "2037", "Already Reversed", "invalid_state", HARD, AUTHS),
    Row("processor", "2038", "Processor Declined", "card_declined", SOFT, AUTHS),
    Row("processor", "2039", "Invalid Authorization Code", "processing_error", HARD, AUTHS),
    Row("processor", "2040", "Invalid Store", "account_invalid", SOFT, AUTHS),
    Row("processor", "2041", "Call For Approval", "card_declined", HARD, AUTHS),
    Row("processor", "2042", "Invalid Client ID", "account_invalid", SOFT, AUTHS),
    Row("processor", "2043", "Do Not Retry, Call Issuer", "card_declined", HARD, AUTHS),
    Row("processor", "2044", "Call Issuer", "card_declined", HARD, AUTHS),
    Row("processor", "2045", "Invalid Merchant Number", "account_invalid", HARD, AUTHS),
    Row("processor", "2046", "Declined", "card_declined", SOFT, AUTHS),
    Row("processor", "2047", "Call Issuer. Pick Up Card", "pickup_card", HARD, AUTHS),
    Row("processor", "2048", "Invalid Amount", "invalid_amount", SOFT, AUTHS),
    Row("processor", "2049", "Invalid SKU Number", "invalid_request", HARD, AUTHS),
    Row("processor", "2050", "Invalid Credit Plan", "not_permitted", HARD, AUTHS),
    Row("processor", "2051", "Card Number does not match method of payment", "card_declined", HARD, AUTHS),
    Row("processor", "2052", "Invalid Level III Purchase", "invalid_request", HARD, AUTHS),
    Row("processor", "2053", "Card reported as lost or stolen", "lost_card", HARD, AUTHS),
    Row("processor", "2054", "Reversal amount does not match authorization amount", "invalid_amount", HARD, AUTHS),
    Row("processor", "2055", "Invalid Transaction Division Number", "invalid_request", HARD, AUTHS),
    Row("processor", "2056", "Amount exceeds the transaction division limit", "limit_exceeded", HARD, AUTHS),
    Row(
        "processor", "2057", "Issuer or Cardholder has put a restriction on the card",
        "restricted_card", SOFT, AUTHS,
    ),
    Row("processor", "2058", "Merchant not Mastercard SecureCode enabled", "account_invalid", HARD, AUTHS),
    Row("processor", "2059", "Address Verification Failed", "incorrect_address", HARD, AUTHS),
    Row("processor", "2060", "Address Verification and Card Security Code Failed", "incorrect_address", HARD, AUTHS),
    Row("processor", "2061", "Invalid Transaction Data", "invalid_request", HARD, AUTHS),
    Row("processor", "2062", "Invalid Tax Amount", "invalid_request", SOFT, AUTHS),
    Row(
        "processor", "2063", "PayPal Business Account preference resulted in the transaction failing",
        "not_permitted", HARD, AUTHS,
    ),
    Row("processor", "2064", "Invalid Currency Code", "currency_not_supported", HARD, AUTHS),
    Row("processor", "2065", "Refund Time Limit Exceeded", "not_refundable", HARD, AUTHS),
    Row("processor", "2066", "PayPal Business Account Restricted", "account_invalid", HARD, AUTHS),
    Row("processor", "2067", "Authorization Expired", "authorization_expired", HARD, AUTHS),
    Row("processor", "2068", "PayPal Business Account Locked or Closed", "account_invalid", HARD, AUTHS),
    Row("processor", "2069", "PayPal Blocking Duplicate Order IDs", "duplicate_transaction", HARD, AUTHS),
    Row(
        "processor", "2070", "PayPal Buyer Revoked Pre-Approved Payment Authorization",
        "invalid_payment_method", HARD, AUTHS,
    ),
    Row(
        "processor", "2071", "PayPal Payee Account Invalid Or Does Not Have a Confirmed Email",
        "account_invalid", HARD, AUTHS,
    ),
    Row("processor", "2072", "PayPal Payee Email Incorrectly Formatted", "account_invalid", HARD, AUTHS),
    Row("processor", "2073", "PayPal Validation Error", "invalid_request", HARD, AUTHS),
    Row("processor", "2074", "Funding Instrument In The PayPal Account Was Declined", "card_declined", SOFT, AUTHS),
    Row("processor", "2075", "Payer Account Is Locked Or Closed", "invalid_account", HARD, AUTHS),
    Row("processor", "2076", "Payer Cannot Pay For This Transaction With PayPal", "not_permitted", HARD, AUTHS),
    Row("processor", "2077", "Transaction Refused Due To PayPal Risk Model", "fraud_suspected", FRAUD, AUTHS),
    Row("processor", "2078", "Invalid Secure Payment Data", "processing_error", SOFT, AUTHS),
    Row("processor", "2079", "PayPal Merchant Account Configuration Error", "account_invalid", HARD, AUTHS),
    Row("processor", "2080", "Invalid User Credentials", "account_invalid", SOFT, AUTHS),
    Row("processor", "2081", "PayPal pending payments are not supported", "not_supported", HARD, AUTHS),
    Row("processor", "2082", "PayPal Domestic Transaction Required", "not_permitted", HARD, AUTHS),
    Row("processor", "2083", "PayPal Phone Number Required", "invalid_request", HARD, AUTHS),
    Row("processor", "2084", "PayPal Tax Info Required", "invalid_request", HARD, AUTHS),
    Row("processor", "2085", "PayPal Payee Blocked Transaction", "not_permitted", HARD, AUTHS),
    Row("processor", "2086", "PayPal Transaction Limit Exceeded", "limit_exceeded", HARD, AUTHS),
    Row("processor", "2087", "PayPal reference transactions not enabled", "account_invalid", HARD, AUTHS),
    Row(
        "processor", "2088", "Currency not enabled for your PayPal seller account",
        "currency_not_supported", HARD, AUTHS,
    ),
    Row("processor", "2089", "PayPal payee email permission denied", "account_invalid", HARD, AUTHS),
    Row(
        "processor", "2090", "PayPal account not configured to refund more than settled amount",
        "not_refundable", HARD, AUTHS,
    ),
    Row(
        "processor", "2091", "Currency must match currency of your PayPal account",
        "currency_not_supported", HARD, AUTHS,
    ),
    Row("processor", "2092", "No Data Found - Try Another Verification Method", "card_declined", SOFT, AUTHS),
    Row("processor", "2093", "PayPal payment method is invalid", "invalid_payment_method", HARD, AUTHS),
    Row("processor", "2094", "PayPal payment has already been completed", "invalid_state", HARD, AUTHS),
    Row("processor", "2095", "PayPal refund is not allowed after partial refund", "not_refundable", HARD, AUTHS),
    Row(
        "processor", "2096", "PayPal buyer account can't be the same as the seller account",
        "not_permitted", HARD, AUTHS,
    ),
    Row("processor", "2097", "PayPal authorization amount limit exceeded", "limit_exceeded", HARD, AUTHS),
    Row("processor", "2098", "PayPal authorization count limit exceeded", "limit_exceeded", HARD, AUTHS),
    Row("processor", "2099", "Cardholder Authentication Required", "authentication_required", AUTH, AUTHS),
    Row("processor", "2100", "PayPal channel initiated billing not enabled", "account_invalid", HARD, AUTHS),
    Row("processor", "2101", "Additional Authorization Required", "authentication_required", AUTH, AUTHS),
    Row("processor", "2102", "Incorrect PIN", "incorrect_pin", SOFT, AUTHS),
    Row("processor", "2103", "PIN Try Exceeded", "incorrect_pin", SOFT, AUTHS),
    Row("processor", "2104", "Offline Issuer Declined", "card_declined", SOFT, AUTHS),
    Row("processor", "2105", "Cannot Authorize at this time (Life cycle)", "card_declined", SOFT, AUTHS),
    Row("processor", "2106", "Cannot Authorize at this time (Policy)", "card_declined", SOFT, AUTHS),
    Row("processor", "2107", "Card Not Activated", "restricted_card", HARD, AUTHS),
    Row("processor", "2108", "Closed Card", "invalid_account", HARD, AUTHS),
    Row("processor", "3000", "Processor Network Unavailable - Try Again", "processing_error", SOFT, AUTHS),
    # Braintree itself rejected, by the rules of the account
    Row(
        "gateway", "APPLICATION_INCOMPLETE", "the merchant account is not set up",
        "account_invalid", INVALID, SCHEMA,
    ),
    Row("gateway", "AVS", "the address does not match", "incorrect_address", HARD, SCHEMA),
    Row("gateway", "AVS_AND_CVV", "neither address nor security code match", "incorrect_address", HARD, SCHEMA),
    Row("gateway", "CVV", "the security code does not match", "incorrect_cvc", HARD, SCHEMA),
    Row("gateway", "DUPLICATE", "the same as another transaction", "duplicate_transaction", HARD, SCHEMA),
    Row("gateway", "EXCESSIVE_RETRY", "tried too often", "card_declined", HARD, SCHEMA),
    Row("gateway", "FRAUD", "fraud tools", "fraud_suspected", FRAUD, SCHEMA),
    Row(
        "gateway", "MANUAL_TRANSACTIONS_DISABLED", "not allowed for this account",
        "account_invalid", INVALID, SCHEMA,
    ),
    Row("gateway", "PAYMENT_METHOD_BLOCKED", "the payment method is blocked", "restricted_card", HARD, SCHEMA),
    Row("gateway", "RISK_THRESHOLD", "over the risk threshold", "fraud_suspected", FRAUD, SCHEMA),
    Row("gateway", "THREE_D_SECURE", "3D Secure is required", "authentication_required", AUTH, SCHEMA),
    Row("gateway", "TOKEN_ISSUANCE", "no token was issued", "invalid_payment_method", HARD, SCHEMA),
    Row("gateway", "TOO_MANY_CONFIRMATION_ATTEMPTS", "confirmed too often", "card_declined", HARD, SCHEMA),
    Row("gateway", "UNION_PAY_ENROLLMENT_REQUIRED", "not enrolled", "invalid_payment_method", HARD, SCHEMA),
    # Refused before anything was executed
    Row("validation", "81501", "AmountCannotBeNegative", "invalid_amount", INVALID, CHECKS),
    Row("validation", "81502", "AmountIsRequired", "invalid_amount", INVALID, CHECKS),
    Row("validation", "81503", "AmountFormatIsInvalid", "invalid_amount", INVALID, CHECKS),
    Row("validation", "81528", "AmountIsTooLarge", "invalid_amount", INVALID, CHECKS),
    Row("validation", "81531", "AmountMustBeGreaterThanZero", "invalid_amount", INVALID, CHECKS),
    Row("validation", "815193", "AmountNotSupportedByProcessor", "invalid_amount", INVALID, CHECKS),
    Row("validation", "81571", "ThreeDSecureAuthenticationFailed", "authentication_failed", HARD, CHECKS),
    Row("validation", "81703", "CreditCard.CreditCardTypeIsNotAccepted", "card_not_supported", HARD, CHECKS),
    Row("validation", "81706", "CreditCard.CvvIsRequired", "incorrect_cvc", HARD, CHECKS),
    Row("validation", "81707", "CreditCard.CvvIsInvalid", "incorrect_cvc", HARD, CHECKS),
    Row("validation", "81709", "CreditCard.ExpirationDateIsRequired", "invalid_expiry", HARD, CHECKS),
    Row("validation", "81710", "CreditCard.ExpirationDateIsInvalid", "invalid_expiry", HARD, CHECKS),
    Row("validation", "81711", "CreditCard.ExpirationDateYearIsInvalid", "invalid_expiry", HARD, CHECKS),
    Row("validation", "81712", "CreditCard.ExpirationMonthIsInvalid", "invalid_expiry", HARD, CHECKS),
    Row("validation", "81713", "CreditCard.ExpirationYearIsInvalid", "invalid_expiry", HARD, CHECKS),
    Row("validation", "81714", "CreditCard.NumberIsRequired", "incorrect_number", HARD, CHECKS),
    Row("validation", "81715", "CreditCard.NumberIsInvalid", "incorrect_number", HARD, CHECKS),
    Row("validation", "81716", "CreditCard.NumberLengthIsInvalid", "incorrect_number", HARD, CHECKS),
    Row("validation", "81717", "CreditCard.NumberMustBeTestNumber", "livemode_mismatch", INVALID, CHECKS),
    Row("validation", "81736", "CreditCard.CvvVerificationFailed", "incorrect_cvc", HARD, CHECKS),
    Row("validation", "81737", "CreditCard.PostalCodeVerificationFailed", "incorrect_address", HARD, CHECKS),
    Row("validation", "81750", "CreditCard.NumberIsProhibited", "restricted_card", HARD, CHECKS),
    Row("validation", "91501", "OrderIdIsTooLong", "invalid_request", INVALID, CHECKS),
    Row("validation", "91504", "CannotBeVoided", "invalid_state", INVALID, CHECKS),
    Row("validation", "91505", "CannotRefundCredit", "not_refundable", INVALID, CHECKS),
    Row("validation", "91506", "CannotRefundUnlessSettled", "not_settled", INVALID, CHECKS),
    Row("validation", "91507", "CannotSubmitForSettlement", "invalid_state", INVALID, CHECKS),
    Row("validation", "91508", "CreditCardIsRequired", "invalid_payment_method", INVALID, CHECKS),
    Row("validation", "91512", "HasAlreadyBeenRefunded", "already_refunded", INVALID, CHECKS),
    Row("validation", "91513", "MerchantAccountIdIsInvalid", "account_invalid", INVALID, CHECKS),
    Row("validation", "91514", "MerchantAccountIsSuspended", "account_invalid", INVALID, CHECKS),
    Row("validation", "91515", "PaymentMethodConflict", "invalid_payment_method", INVALID, CHECKS),
    Row("validation", "91516", "PaymentMethodDoesNotBelongToCustomer", "invalid_payment_method", INVALID, CHECKS),
    Row("validation", "91517", "PaymentMethodTokenCardTypeIsNotAccepted", "card_not_supported", HARD, CHECKS),
    Row("validation", "91518", "PaymentMethodTokenIsInvalid", "invalid_payment_method", INVALID, CHECKS),
    Row("validation", "91521", "RefundAmountIsTooLarge", "invalid_amount", INVALID, CHECKS),
    Row("validation", "91522", "SettlementAmountIsTooLarge", "invalid_amount", INVALID, CHECKS),
    Row("validation", "91538", "CannotRefundWithSuspendedMerchantAccount", "account_invalid", INVALID, CHECKS),
    Row("validation", "91547", "MerchantAccountDoesNotSupportRefunds", "not_refundable", INVALID, CHECKS),
    Row("validation", "91559", "CannotRefundWithPendingMerchantAccount", "account_invalid", INVALID, CHECKS),
    Row("validation", "91565", "PaymentMethodNonceUnknown", "invalid_payment_method", INVALID, CHECKS),
    Row("validation", "91567", "PaymentMethodNonceCardTypeIsNotAccepted", "card_not_supported", HARD, CHECKS),
    Row("validation", "91568", "ThreeDSecureTokenIsInvalid", "authentication_failed", HARD, CHECKS),
    Row(
        "validation", "91569", "PaymentMethodNonceHasNoValidPaymentInstrumentType",
        "invalid_payment_method", INVALID, CHECKS,
    ),
    Row("validation", "91570", "ThreeDSecureTransactionDataDoesntMatchVerify", "authentication_failed", HARD, CHECKS),
    Row("validation", "91574", "CannotRefundSettlingTransaction", "not_settled", INVALID, CHECKS),
    Row("validation", "91576", "PayPalNotEnabled", "not_supported", INVALID, CHECKS),
    Row(
        "validation", "91577", "PaymentInstrumentNotSupportedByMerchantAccount",
        "card_not_supported", INVALID, CHECKS,
    ),
    Row("validation", "91579", "PayPalAuthExpired", "authorization_expired", INVALID, CHECKS),
    Row(
        "validation", "91584", "MerchantAccountDoesNotMatch3DSecureMerchantAccount",
        "authentication_failed", HARD, CHECKS,
    ),
    Row("validation", "91585", "AmountDoesNotMatch3DSecureAmount", "authentication_failed", HARD, CHECKS),
    Row("validation", "915101", "PaymentInstrumentTypeIsNotAccepted", "card_not_supported", HARD, CHECKS),
    Row("validation", "915102", "ProcessorDoesNotSupportPartialSettlement", "not_supported", INVALID, CHECKS),
    Row("validation", "915103", "CannotSubmitForPartialSettlement", "invalid_state", INVALID, CHECKS),
    Row("validation", "915104", "ProcessorDoesNotSupportAuths", "not_supported", INVALID, CHECKS),
    Row("validation", "915200", "RefundAuthHardDeclined", "not_refundable", HARD, CHECKS),
    Row("validation", "915201", "RefundAuthSoftDeclined", "card_declined", SOFT, CHECKS),
    Row("validation", "915218", "TransactionMustBeInStateAuthorized", "invalid_state", INVALID, CHECKS),
    Row("validation", "915282", "CannotReverseAtThisTime", "invalid_state", INVALID, CHECKS),
)
# fmt: on

NETWORK_UNAVAILABLE = "3000"
"""The processor's network did not answer: the issuer may have been asked."""
NONCE_CONSUMED = "91564"
NONCE_LOCKED = "91566"
NONCE_BUSY = frozenset({NONCE_CONSUMED, NONCE_LOCKED, "91731", "91733"})
"""Somebody has used, or is using, this single-use payment method: perhaps an earlier copy of this very request."""

_BY_CODE = {(row.kind, row.braintree): row for row in TABLE}


def row_of(kind: Kind, code: str | None) -> Row | None:
    return _BY_CODE.get((kind, code or ""))
