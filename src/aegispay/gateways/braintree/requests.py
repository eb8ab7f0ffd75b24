"""Braintree's GraphQL variables, from a `GatewayCall`. Pure: the same call always gives the same variables.

Each operation's id is the order id of what it makes, since a search by order id is the only evidence afterwards. A
plain capture makes nothing new, so it leaves the sale's order id alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from aegispay.domain.errors import ConfigError, InvalidPaymentMethod, InvalidRequest, UnsupportedOperation
from aegispay.domain.events import OperationKind
from aegispay.domain.money import Currency
from aegispay.gateways.braintree.amounts import to_braintree
from aegispay.gateways.gateway import GatewayCall

Variables = dict[str, Any]

ORDER_ID_LENGTH_MAX = 127
"""PayPal payments take no more; others take 255."""
SEARCH_FIRST = 50
_ORDER_ID = re.compile(r"[A-Za-z0-9_-]+")
_ID = re.compile(r"[A-Za-z0-9_=+/-]{1,255}")
_ACCOUNT = re.compile(r"[A-Za-z0-9_-]{1,255}")
_FIRST = (OperationKind.AUTHORIZE, OperationKind.CHARGE)


def check_accounts(accounts: Mapping[str, str]) -> dict[str, str]:
    """Currency code to merchant account id; raises `ConfigError` for what cannot be right."""
    if not isinstance(accounts, Mapping) or not accounts:
        raise ConfigError(
            "Braintree needs a merchant account for each currency.",
            hint="A charge without one is made in the default account's currency, whatever you meant.",
        )
    checked: dict[str, str] = {}
    for code, account in accounts.items():
        if not isinstance(account, str) or not _ACCOUNT.fullmatch(account):
            raise ConfigError(f"the Braintree merchant account of {str(code)[:10]!r} is not an account id.")
        checked[Currency.of(code).code] = account
    return checked


def check_call(call: GatewayCall, accounts: Mapping[str, str], *, multi_capture: bool) -> None:
    """Raises a subclass of `InvalidRequest` for a call that Braintree can never take."""
    operation = call.operation_id
    if len(operation) > ORDER_ID_LENGTH_MAX or not _ORDER_ID.fullmatch(operation):
        raise InvalidRequest(
            f"Braintree order ids are 1 to {ORDER_ID_LENGTH_MAX} of A-Z, a-z, 0-9, '_', '-'."
        )
    references = (call.parent_reference, call.own_reference, call.capture_reference)
    for value in references:
        if value is not None and not _ID.fullmatch(value):
            raise InvalidRequest(f"the reference {value[:60]!r} is not a Braintree id.")
    if call.kind is OperationKind.CONFIRM:
        raise UnsupportedOperation("Braintree's 3D Secure ends in the payer's browser, before the charge.")
    if call.kind in _FIRST:
        if not call.token or not _ID.fullmatch(call.token):
            raise InvalidPaymentMethod("Braintree takes a payment method's id, or a nonce.")
    elif call.parent_reference is None:
        raise InvalidRequest(f"a {call.kind} at Braintree needs the id of the transaction that it acts on.")
    if call.amount.code not in accounts:
        raise UnsupportedOperation(
            f"no Braintree merchant account is configured for {call.amount.code}.",
            hint="Pass merchant_accounts={...}; the account decides the currency.",
        )
    if call.kind is OperationKind.CAPTURE and not call.final and not multi_capture:
        raise UnsupportedOperation(
            "a Braintree card transaction takes one capture.",
            hint="Pass multi_capture=True for PayPal and Venmo, which take several.",
        )
    if call.kind is not OperationKind.VOID:
        to_braintree(call.amount)
    if call.kind is OperationKind.REFUND:
        _check_refund(call, multi_capture=multi_capture)


def _check_refund(call: GatewayCall, *, multi_capture: bool) -> None:
    if multi_capture and call.parent_kind is OperationKind.AUTHORIZE and call.capture_reference is None:
        raise UnsupportedOperation(
            "Braintree refunds captures, and no single capture covers this amount.",
            hint="Refund each capture by itself.",
        )


def payment(call: GatewayCall, accounts: Mapping[str, str]) -> Variables:
    transaction = {
        "amount": to_braintree(call.amount),
        "merchantAccountId": accounts[call.amount.code],
        "orderId": call.operation_id,
    }
    return _input(call, paymentMethodId=call.token, transaction=transaction)


def capture(call: GatewayCall, *, multi_capture: bool) -> Variables:
    transaction: dict[str, Any] = {"amount": to_braintree(call.amount)}
    if multi_capture:
        transaction |= {"orderId": call.operation_id, "finalCapture": call.final}
    return _input(call, transactionId=call.parent_reference, transaction=transaction)


def reverse(call: GatewayCall, transaction_id: str) -> Variables:
    return _input(call, transactionId=transaction_id)


def refund(call: GatewayCall) -> Variables:
    made = {"amount": to_braintree(call.amount), "orderId": call.operation_id}
    return _input(call, transactionId=refunded_id(call), refund=made)


def refunded_id(call: GatewayCall) -> str:
    """The transaction that a refund gives back: the capture where it is one of its own, else the sale."""
    return call.capture_reference or call.parent_reference or ""


def find(operation_id: str) -> Variables:
    return {"input": {"orderId": {"is": operation_id}}, "first": SEARCH_FIRST}


def _input(call: GatewayCall, **fields: Any) -> Variables:
    return {"input": {"clientMutationId": call.operation_id, **fields}}
