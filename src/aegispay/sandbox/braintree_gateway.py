"""Braintree's older XML gateway, as far as the official SDKs need it: sale, settlement, void, refund, find and search."""

from __future__ import annotations

import re
from collections.abc import Callable

from aegispay.gateways.braintree.safe_xml import Element, parse
from aegispay.sandbox import braintree_tables as table
from aegispay.sandbox.braintree_state import BraintreeError, BraintreeState, major, stamp
from aegispay.sandbox.braintree_transactions import Transactions, shown_amount
from aegispay.sandbox.braintree_xml import render, text_of
from aegispay.sandbox.documents import Document
from aegispay.sandbox.wire import WireReply, WireRequest

Handler = Callable[[str, Element, int], WireReply]
_NO = frozenset({table.DECLINED, table.REJECTED, table.FAILED})


class XmlGateway:
    """One request in, one reply out."""

    def __init__(self, state: BraintreeState, transactions: Transactions) -> None:
        self._state = state
        self._transactions = transactions
        done = transactions
        self._routes: list[tuple[str, str, Handler]] = [
            ("POST", "/transactions", self._sale),
            ("POST", "/transactions/advanced_search_ids", self._search_ids),
            ("POST", "/transactions/advanced_search", self._search),
            ("GET", "/transactions/{}", lambda id_, _, __: self._shown(state.transaction(id_))),
            ("PUT", "/transactions/{}/void", lambda id_, _, __: self._shown(done.void(id_))),
            ("PUT", "/transactions/{}/submit_for_settlement", self._submit),
            ("POST", "/transactions/{}/submit_for_partial_settlement", self._submit_part),
            ("POST", "/transactions/{}/refund", self._refund),
        ]

    def answer(self, request: WireRequest, merchant_id: str, seen: int) -> WireReply:
        base = f"/merchants/{re.escape(merchant_id)}"
        for method, path, handler in self._routes:
            pattern = base + path.replace("{}", "([a-z0-9]{1,36})")
            match = re.fullmatch(pattern, request.path) if method == request.method else None
            if match is None:
                continue
            try:
                body = parse(request.body) if request.body else Element("")
                return handler(match[1] if match.groups() else "", body, seen)
            except BraintreeError as error:
                if error.error_class == "NOT_FOUND":
                    return WireReply(status=404, content_type="application/xml")
                return _error(error)
            except ValueError:
                return WireReply(status=400, content_type="application/xml")
        return WireReply(status=404, content_type="application/xml")

    def _sale(self, _: str, body: Element, seen: int) -> WireReply:
        if text_of(body, "type") != "sale":
            raise BraintreeError("Transaction type is invalid.", "91523", "type")
        nonce = text_of(body, "payment_method_nonce") or text_of(body, "payment_method_token")
        if nonce is None:
            number = text_of(body, "credit_card", "number")
            month, year = self._expiry(body)
            nonce = str(self._transactions.tokenize(number, month, year)["id"])
        made = self._transactions.sale(
            nonce=nonce,
            amount=text_of(body, "amount"),
            order_id=text_of(body, "order_id"),
            merchant_account=text_of(body, "merchant_account_id"),
            submit=text_of(body, "options", "submit_for_settlement") == "true",
            seen=seen,
        )
        return self._shown(made, status=201)

    def _expiry(self, body: Element) -> tuple[str, str]:
        month, _, year = (text_of(body, "credit_card", "expiration_date") or "").partition("/")
        return (
            text_of(body, "credit_card", "expiration_month") or month,
            text_of(body, "credit_card", "expiration_year") or year,
        )

    def _submit(self, id_: str, body: Element, _: int) -> WireReply:
        made = self._transactions.submit(id_, text_of(body, "amount"), text_of(body, "order_id"))
        return self._shown(made)

    def _submit_part(self, id_: str, body: Element, _: int) -> WireReply:
        made = self._transactions.submit_part(id_, text_of(body, "amount"), text_of(body, "order_id"))
        return self._shown(made, status=201)

    def _refund(self, id_: str, body: Element, _: int) -> WireReply:
        made = self._transactions.refund(id_, text_of(body, "amount"), text_of(body, "order_id"))
        return self._shown(made, status=201)

    # --- search ---------------------------------------------------------------------------------------------

    def _found(self, body: Element) -> list[Document]:
        order = text_of(body, "order_id", "is")
        if order is not None:
            state = self._state
            found = [*state.by_order(order, "sale"), *state.by_order(order, "credit")]
        else:
            ids = body.find("ids")
            names = [child.text.strip() for child in ids.children] if ids else []
            found = [self._state.transaction(id_) for id_ in names]
        return found

    def _search_ids(self, _: str, body: Element, __: int) -> WireReply:
        ids = [("item", one["id"]) for one in self._found(body)]
        return _reply(200, render("search-results", [("page-size", 50), ("ids", ("array", ids))]))

    def _search(self, _: str, body: Element, __: int) -> WireReply:
        found = self._found(body)
        page = [
            ("current-page-number", 1),
            ("page-size", 50),
            ("total-items", len(found)),
            *(("transaction", _fields(one)) for one in found),
        ]
        return _reply(200, render("credit-card-transactions", page, "collection"))

    # --- objects --------------------------------------------------------------------------------------------

    def _shown(self, one: Document, status: int = 200) -> WireReply:
        if one["status"] in _NO and status == 201:
            message = table.TEXTS.get(one["history"][0]["code"], "Gateway Rejected")
            content: list[tuple[str, object]] = [
                ("errors", [("errors", ("array", []))]),
                ("message", message),
                ("transaction", _fields(one)),
            ]
            return _reply(422, render("api-error-response", content))
        return _reply(status, render("transaction", _fields(one)))


def _fields(one: Document) -> list[tuple[str, object]]:
    newest, first = one["history"][0], one["history"][-1]
    code = first["code"] or "1000"
    rejected = one["status"] == table.REJECTED
    kind = "approved"
    if one["status"] in _NO:
        kind = "hard_declined" if code in table.HARD else "soft_declined"
    answer: list[tuple[str, object]] = [
        ("processor-response-code", code),
        ("processor-response-text", table.TEXTS.get(code, "Processor Declined")),
        ("processor-response-type", kind),
    ]
    history: list[tuple[str, object]] = [
        (
            "status-event",
            [
                ("timestamp", ("datetime", stamp(entry["at_us"]))),
                ("status", str(entry["status"]).lower()),
                ("amount", major(entry["amount_minor"], one["currency"])),
                ("transaction-source", "api"),
            ],
        )
        for entry in reversed(one["history"])
    ]
    return [
        ("id", one["id"]),
        ("status", str(one["status"]).lower()),
        ("type", one["kind"]),
        ("currency-iso-code", one["currency"]),
        ("amount", shown_amount(one)),
        ("merchant-account-id", one["merchant_account"]),
        ("order-id", one["order_id"] or None),
        ("created-at", ("datetime", stamp(one["created_us"]))),
        ("updated-at", ("datetime", stamp(newest["at_us"]))),
        ("refunded-transaction-id", one["refunds"] or None),
        ("refund-ids", ("array", [("item", id_) for id_ in one["refund_ids"]])),
        ("partial-settlement-transaction-ids", ("array", [("item", id_) for id_ in one["children"]])),
        ("authorized-transaction-id", one["parent"] or None),
        *([] if rejected else answer),
        ("gateway-rejection-reason", first["code"].lower() if rejected else None),
        ("payment-instrument-type", "credit_card"),
        ("credit-card", [("last-4", one["last4"]), ("bin", "411111"), ("token", None)]),
        ("status-history", ("array", history)),
    ]


def _error(error: BraintreeError) -> WireReply:
    inner: list[tuple[str, object]] = [
        ("code", error.code),
        ("attribute", ("symbol", error.field)),
        ("message", str(error)),
    ]
    errors: list[tuple[str, object]] = [
        ("errors", ("array", [])),
        ("transaction", [("errors", ("array", [("error", inner)]))]),
    ]
    return _reply(422, render("api-error-response", [("errors", errors), ("message", str(error))]))


def _reply(status: int, xml: str) -> WireReply:
    body = f'<?xml version="1.0" encoding="UTF-8"?>{xml}'.encode()
    return WireReply(status=status, body=body, content_type="application/xml; charset=utf-8")
