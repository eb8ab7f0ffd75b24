"""Braintree's GraphQL API: mutations and searches, and transactions as its schema shows them.

Errors come under HTTP 200, with the class of the error beside the message.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from aegispay.sandbox import braintree_tables as table
from aegispay.sandbox.braintree_query import Operation, QueryError, Selection, filled, parse, pick
from aegispay.sandbox.braintree_state import BraintreeError, BraintreeState, major, not_found, stamp
from aegispay.sandbox.braintree_transactions import Transactions
from aegispay.sandbox.documents import Document

Data = dict[str, Any]

_EVENTS = {
    "AUTHORIZED": "AuthorizedEvent",
    "SUBMITTED_FOR_SETTLEMENT": "SubmittedForSettlementEvent",
    "SETTLED": "SettledEvent",
    "VOIDED": "VoidedEvent",
    "PROCESSOR_DECLINED": "ProcessorDeclinedEvent",
    "GATEWAY_REJECTED": "GatewayRejectedEvent",
    "FAILED": "FailedEvent",
    "AUTHORIZATION_EXPIRED": "AuthorizationExpiredEvent",
}
_TERMINAL = frozenset(_EVENTS) - {"AUTHORIZED", "SUBMITTED_FOR_SETTLEMENT"}
KINDS: dict[str, frozenset[str]] = {
    "Transaction": frozenset({"Node", "Payment", "TransactionReversal"}),
    "Refund": frozenset({"Node", "Payment", "TransactionReversal"}),
    "CreditCardDetails": frozenset({"PaymentMethodSnapshot", "PaymentMethodDetails"}),
    "PaymentMethod": frozenset({"Node"}),
    "ChildCapture": frozenset({"PartialCaptureDetails"}),
    "ParentAuthorization": frozenset({"PartialCaptureDetails"}),
    **{event: frozenset({"PaymentStatusEvent"}) for event in _EVENTS.values()},
}
PAGE_MAX = 50
AUTHORIZATION_TTL_S = 7 * 86_400


class GraphQl:
    """One request's body in, the answer's body out."""

    def __init__(self, state: BraintreeState, transactions: Transactions) -> None:
        self._state = state
        self._transactions = transactions
        self._mutations: dict[str, Callable[[Data, int], Data]] = {
            "authorizePaymentMethod": lambda given, seen: self._pay(given, False, seen),
            "chargePaymentMethod": lambda given, seen: self._pay(given, True, seen),
            "authorizeCreditCard": lambda given, seen: self._pay(given, False, seen),
            "chargeCreditCard": lambda given, seen: self._pay(given, True, seen),
            "captureTransaction": self._capture,
            "partialCaptureTransaction": self._capture_part,
            "reverseTransaction": self._reverse,
            "refundTransaction": self._refund,
            "tokenizeCreditCard": self._tokenize,
            "sandboxSettleTransaction": self._settle,
        }

    def answer(self, body: bytes, seen: int, request_id: str) -> Data:
        """`seen`: how many transactions there were when the request came in."""
        extensions = {"requestId": request_id}
        try:
            given = msgspec.json.decode(body, type=dict[str, Any])
            operations, fragments = parse(str(given.get("query") or ""))
            operation = _chosen(operations, given.get("operationName"))
            variables: Data = given.get("variables") or {}
        except (msgspec.MsgspecError, QueryError) as error:
            return {"errors": [{"message": str(error)}], "extensions": extensions}
        data: Data = {}
        errors: list[Data] = []
        for field in _roots(operation.selections, fragments):
            try:
                found = self._root(operation.kind, field, variables, seen)
                data[field.alias] = pick(found, field.selections, fragments, variables, KINDS)
            except BraintreeError as error:
                data[field.alias] = None
                errors.append(_error(error, field.alias))
            except QueryError as error:
                return {"errors": [{"message": str(error)}], "extensions": extensions}
        answer: Data = {"data": data, "extensions": extensions}
        return {**answer, "errors": errors} if errors else answer

    def _root(self, kind: str, field: Selection, variables: Mapping[str, Any], seen: int) -> Any:
        arguments: Data = filled(field.arguments, variables)
        if kind == "mutation" and field.name in self._mutations:
            given: Data = arguments.get("input") or {}
            # A mutation that fails leaves nothing behind, though others of the same document may succeed.
            payload = self._mutations[field.name](given, seen)
            return {"clientMutationId": given.get("clientMutationId"), **payload}
        if kind == "query" and field.name == "ping":
            return "pong"
        if kind == "query" and field.name == "node":
            return self._node(str(arguments.get("id")))
        if kind == "query" and field.name == "search":
            return {
                "__typename": "Search",
                "transactions": _later(lambda given: self._search(given, "sale")),
                "refunds": _later(lambda given: self._search(given, "credit")),
            }
        raise QueryError(f"Field '{field.name}' in type '{kind.title()}' is undefined")

    # --- mutations ------------------------------------------------------------------------------------------

    def _pay(self, given: Data, submit: bool, seen: int) -> Data:
        wanted: Data = given.get("transaction") or {}
        custom = {str(one.get("name")): str(one.get("value")) for one in wanted.get("customFields") or []}
        nonce = given.get("paymentMethodId") or self._card(given)
        made = self._transactions.sale(
            nonce=str(nonce),
            amount=wanted.get("amount"),
            order_id=wanted.get("orderId"),
            merchant_account=wanted.get("merchantAccountId"),
            submit=submit,
            seen=seen,
            metadata=custom,
        )
        return {"transaction": self.transaction(made)}

    def _card(self, given: Data) -> str:
        card: Data = given.get("creditCard") or {}
        token = self._transactions.tokenize(
            card.get("number"), card.get("expirationMonth"), card.get("expirationYear")
        )
        return str(token["id"])

    def _capture(self, given: Data, _: int) -> Data:
        options: Data = given.get("transaction") or {}
        amount = options.get("amount", given.get("amount"))
        id_ = legacy_id(given.get("transactionId"), "transaction")
        made = self._transactions.submit(id_, amount, options.get("orderId"), _name(given))
        return {"transaction": self.transaction(made)}

    def _capture_part(self, given: Data, _: int) -> Data:
        options: Data = given.get("transaction") or {}
        id_ = legacy_id(given.get("transactionId"), "transaction")
        made = self._transactions.submit_part(
            id_,
            options.get("amount"),
            options.get("orderId"),
            _name(given),
            final=options.get("finalCapture") is True,
        )
        return {"capture": self.transaction(made)}

    def _reverse(self, given: Data, _: int) -> Data:
        id_ = legacy_id(given.get("transactionId"), "transaction")
        made = self._transactions.reverse(id_, _name(given))
        return {"reversal": self.shown(made)}

    def _refund(self, given: Data, _: int) -> Data:
        wanted: Data = given.get("refund") or {}
        id_ = legacy_id(given.get("transactionId"), "transaction")
        made = self._transactions.refund(id_, wanted.get("amount"), wanted.get("orderId"), _name(given))
        return {"refund": self.shown(made)}

    def _settle(self, given: Data, _: int) -> Data:
        made = self._transactions.settle(legacy_id(given.get("transactionId"), "transaction"))
        return {"transaction": self.transaction(made)}

    def _tokenize(self, given: Data, _: int) -> Data:
        token = self._transactions.tokenize(
            *(
                (given.get("creditCard") or {}).get(name)
                for name in ("number", "expirationMonth", "expirationYear")
            )
        )
        method: Data = {
            "__typename": "PaymentMethod",
            "id": token["id"],
            "legacyId": token["id"],
            "usage": "SINGLE_USE",
            "details": {"__typename": "CreditCardDetails", "last4": token["last4"]},
        }
        return {"paymentMethod": method, "token": token["id"]}

    # --- queries --------------------------------------------------------------------------------------------

    def _node(self, id_: str) -> Data:
        for kind in ("transaction", "refund"):
            try:
                return self.shown(self._state.transaction(legacy_id(id_, kind)))
            except BraintreeError:
                continue
        raise not_found()

    def _search(self, arguments: Data, kind: str) -> Data:
        """By order id or by id; a search needs one of the two here."""
        wanted: Data = arguments.get("input") or {}
        order = (wanted.get("orderId") or {}).get("is")
        id_ = (wanted.get("id") or {}).get("is")
        found: list[Document] = []
        if order is not None:
            found = self._state.by_order(str(order), kind)
        elif id_ is not None:
            name = "transaction" if kind == "sale" else "refund"
            try:
                one = self._state.transaction(legacy_id(id_, name))
                found = [one] if one["kind"] == kind else []
            except BraintreeError:
                found = []
        else:
            raise BraintreeError("A search needs orderId.is or id.is.", "", "input")
        status = wanted.get("status") or {}
        allowed = [status["is"]] if status.get("is") else status.get("in")
        if allowed:
            found = [one for one in found if one["status"] in allowed]
        return self._page(found, arguments, "Transaction" if kind == "sale" else "Refund")

    def _page(self, found: list[Document], arguments: Data, type_: str) -> Data:
        first = min(int(arguments.get("first") or PAGE_MAX), PAGE_MAX)
        after = arguments.get("after")
        start = next((n + 1 for n, one in enumerate(found) if after and _cursor(one) == after), 0)
        page = found[start : start + first]
        edges: list[Data] = [
            {"__typename": f"{type_}ConnectionEdge", "cursor": _cursor(one), "node": self.shown(one)}
            for one in page
        ]
        info: Data = {
            "__typename": "PageInfo",
            "hasNextPage": len(found) > start + len(page),
            "hasPreviousPage": start > 0,
            "startCursor": _cursor(page[0]) if page else None,
            "endCursor": _cursor(page[-1]) if page else None,
        }
        return {"__typename": f"{type_}Connection", "edges": edges, "pageInfo": info}

    # --- objects --------------------------------------------------------------------------------------------

    def shown(self, one: Document) -> Data:
        return self.transaction(one) if one["kind"] == "sale" else self._credit(one)

    def transaction(self, one: Document) -> Data:
        state = self._state
        return {
            **self._payment(one, "Transaction", "transaction"),
            "refunds": _later(lambda _: [self._credit(state.transaction(id_)) for id_ in one["refund_ids"]]),
            "partialCaptureDetails": _later(lambda _: self._parts(one)),
            "customFields": [],
            "partiallyAuthorized": False,
            "processorResponse": _response(one["history"][-1]["code"] or "1000"),
        }

    def _credit(self, one: Document) -> Data:
        of = one["refunds"]
        return {
            **self._payment(one, "Refund", "refund"),
            "refundedTransaction": _later(lambda _: self.transaction(self._state.transaction(of))),
        }

    def _payment(self, one: Document, type_: str, name: str) -> Data:
        return {
            "__typename": type_,
            "id": global_id(name, one["id"]),
            "legacyId": one["id"],
            "createdAt": stamp(one["created_us"]),
            "amount": _money(one, one["amount_minor"]),
            "orderId": one["order_id"] or None,
            "merchantAccountId": one["merchant_account"],
            "status": one["status"],
            "statusHistory": [self._event(one, entry) for entry in one["history"]],
            "source": "API",
            "paymentMethodSnapshot": {"__typename": "CreditCardDetails", "last4": one["last4"]},
        }

    def _parts(self, one: Document) -> Data | None:
        transaction = self._state.transaction
        if one["parent"]:
            return {
                "__typename": "ChildCapture",
                "parentAuthorization": self.transaction(transaction(one["parent"])),
            }
        if one["children"]:
            captures = [self.transaction(transaction(id_)) for id_ in one["children"]]
            return {
                "__typename": "ParentAuthorization",
                "childCaptures": captures,
                "totalAmountAuthorized": _money(one, one["amount_minor"]),
            }
        return None

    def _event(self, one: Document, entry: Data) -> Data:
        status, code = entry["status"], entry["code"]
        event: Data = {
            "__typename": _EVENTS[status],
            "status": status,
            "timestamp": stamp(entry["at_us"]),
            "amount": _money(one, entry["amount_minor"]),
            "source": "API",
            "terminal": status in _TERMINAL,
        }
        if status == table.REJECTED:
            event["gatewayRejectionReason"] = code
            of = entry["duplicate_of"]
            if of:
                event["duplicateOf"] = _later(lambda _: self.transaction(self._state.transaction(of)))
        elif code:
            event["processorResponse"] = _response(code)
        if status == table.AUTHORIZED:
            event["authorizationExpiresAt"] = stamp(entry["at_us"] + AUTHORIZATION_TTL_S * 1_000_000)
        if status == table.DECLINED:
            event["declineType"] = "HARD" if code in table.HARD else "SOFT"
        return event


def _later(compute: Callable[[Data], Any]) -> Callable[[Data], Any]:
    """A value that is worked out where it is asked for, from the field's arguments."""
    return compute


def global_id(name: str, legacy: str) -> str:
    return base64.b64encode(f"{name}_{legacy}".encode()).decode().rstrip("=")


def legacy_id(given: object, name: str) -> str:
    """The older id inside one of GraphQL's; an older id itself is taken too."""
    text = str(given or "")
    try:
        plain = base64.b64decode(text + "=" * (-len(text) % 4), validate=True).decode()
    except ValueError:
        plain = ""
    if plain.startswith(f"{name}_"):
        return plain[len(name) + 1 :]
    raise not_found()


def _name(given: Data) -> str:
    """What the bank's books call a movement: the caller's own id of the request, where it gives one."""
    return str(given.get("clientMutationId") or "")


def _cursor(one: Document) -> str:
    return global_id("cursor", one["id"])


def _money(one: Document, minor: int) -> Data:
    code = one["currency"]
    return {
        "__typename": "MonetaryAmount",
        "value": major(minor, code),
        "currencyCode": code,
        "currencyIsoCode": code,
    }


def _response(code: str) -> Data:
    return {
        "__typename": "TransactionAuthorizationProcessorResponse",
        "legacyCode": code,
        "message": table.TEXTS.get(code, "Processor Declined"),
    }


def _chosen(operations: list[Operation], name: object) -> Operation:
    wanted = [one for one in operations if not name or one.name == name]
    if len(wanted) != 1:
        raise QueryError("Must provide operation name if query contains multiple operations.")
    return wanted[0]


def _roots(selections: tuple[Selection, ...], fragments: Mapping[str, Selection]) -> list[Selection]:
    found: list[Selection] = []
    for one in selections:
        if one.name:
            found.append(one)
        elif not one.spread or one.spread in fragments:
            inner = fragments[one.spread] if one.spread else one
            found += _roots(inner.selections, fragments)
    return found


def _error(error: BraintreeError, path: str) -> Data:
    extensions: Data = {"errorType": "user_error", "errorClass": error.error_class}
    if error.code:
        extensions["legacyCode"] = error.code
        extensions["inputPath"] = ["input", error.field]
    return {
        "message": str(error),
        "locations": [{"line": 1, "column": 1}],
        "path": [path],
        "extensions": extensions,
    }
