"""`GatewayCall`s for the Braintree tests, and a Braintree that answers as its own published schema says."""

from __future__ import annotations

import itertools
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from graphql import DocumentNode, GraphQLSchema, build_schema, execute_sync, parse, validate
from graphql.execution.values import get_variable_values
from graphql.language import OperationDefinitionNode

from aegispay.domain.events import OperationKind
from aegispay.domain.money import Money
from aegispay.gateways.gateway import GatewayCall

PUBLIC_KEY = "integration_public_key"
PRIVATE_KEY = "integration_private_key"
ACCOUNTS = {"USD": "usd_account", "JPY": "jpy_account", "KWD": "kwd_account", "EUR": "eur_account"}
SALE = "dHJhbnNhY3Rpb25fMQ"
"""The transaction that captures, voids and refunds act on."""
PARENT = f"op_{0:032x}"
_ROOT = Path(os.environ.get("AEGISPAY_SHARED") or Path(__file__).resolve().parents[2].parent / "shared")
_numbers = itertools.count(1)


def call(
    kind: OperationKind = OperationKind.CHARGE, amount: Money | str = "10.00 USD", **more: Any
) -> GatewayCall:
    """A call of its own operation. The kind's usual needs are filled in."""
    number = next(_numbers)
    operation = more.pop("operation_id", f"op_{number:032x}")
    if isinstance(amount, str):
        amount = Money.parse(*amount.split())
    first = kind in (OperationKind.AUTHORIZE, OperationKind.CHARGE)
    usual: dict[str, Any] = {
        "gateway_key": operation,
        "payment_id": f"pay_{number:032x}",
        "merchant_id": "default",
        "timeout_s": 10.0,
        "token": "fake-valid-nonce" if first else None,
        "parent_reference": None if first else SALE,
        "parent_operation_id": None if first else PARENT,
        "parent_kind": None if first else OperationKind.AUTHORIZE,
    }
    return GatewayCall(kind=kind, operation_id=operation, amount=amount, **{**usual, **more})


@lru_cache(maxsize=1)
def schema() -> GraphQLSchema:
    """Braintree's published schema; skips the test where it is absent."""
    file = _ROOT / "psp/braintree/schema.graphql"
    if not file.is_file():
        pytest.skip("Braintree's schema is absent (set AEGISPAY_SHARED)")
    return build_schema(file.read_text(), assume_valid=True)


@lru_cache(maxsize=64)
def checked(document: str) -> DocumentNode:
    """The document, which must be valid under the schema."""
    parsed = parse(document)
    problems = validate(schema(), parsed)
    assert not problems, problems
    return parsed


def check_variables(document: str, variables: dict[str, Any]) -> None:
    """The variables must be what the document and the schema declare."""
    (operation,) = [one for one in checked(document).definitions if isinstance(one, OperationDefinitionNode)]
    found = get_variable_values(schema(), list(operation.variable_definitions or ()), variables)
    assert not isinstance(found, list), found


def execute(document: str, variables: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """The answer that a server of this schema, holding this data, gives."""
    check_variables(document, variables)
    result = execute_sync(schema(), checked(document), root_value=root, variable_values=variables)
    assert not result.errors, result.errors
    return {"data": result.data}


def sale(order_id: str | None, status: str = "SUBMITTED_FOR_SETTLEMENT", **fields: Any) -> dict[str, Any]:
    """A transaction, as resolvers of the schema would hold it."""
    amount = {"value": fields.pop("amount", "10.00"), "currencyCode": fields.pop("currency", "USD")}
    event = {"__typename": EVENTS.get(status, "AuthorizedEvent"), "status": status, "amount": amount}
    history = [{**event, **fields.pop("event", {})}] if status in EVENTS else []
    return {
        "__typename": "Transaction",
        "id": SALE,
        "legacyId": "1",
        "orderId": order_id,
        "status": status,
        "amount": amount,
        "statusHistory": [*history, *fields.pop("history", [])],
        "refunds": [],
        **fields,
    }


def refund(order_id: str | None, status: str = "SUBMITTED_FOR_SETTLEMENT", **fields: Any) -> dict[str, Any]:
    made = sale(order_id, status, **fields)
    return {
        **made,
        "__typename": "Refund",
        "id": "cmVmdW5kXzE",
        "refundedTransaction": {"__typename": "Transaction", "id": fields.get("of", SALE)},
    }


def found(*nodes: dict[str, Any], more: bool = False) -> dict[str, Any]:
    return {"edges": [{"node": node} for node in nodes], "pageInfo": {"hasNextPage": more}}


EVENTS = {
    "AUTHORIZED": "AuthorizedEvent",
    "SUBMITTED_FOR_SETTLEMENT": "SubmittedForSettlementEvent",
    "SETTLING": "SettlingEvent",
    "SETTLED": "SettledEvent",
    "SETTLEMENT_DECLINED": "SettlementDeclinedEvent",
    "PROCESSOR_DECLINED": "ProcessorDeclinedEvent",
    "GATEWAY_REJECTED": "GatewayRejectedEvent",
    "FAILED": "FailedEvent",
    "VOIDED": "VoidedEvent",
    "AUTHORIZATION_EXPIRED": "AuthorizationExpiredEvent",
}


def error(error_class: str | None, legacy: str | None = None) -> dict[str, Any]:
    extensions: dict[str, Any] = {"errorClass": error_class} if error_class else {}
    if legacy:
        extensions["legacyCode"] = legacy
    return {"message": "4111111111111111 no", "path": ["result"], "extensions": extensions}
