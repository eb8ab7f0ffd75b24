"""What the Stripe face tells without moving anything: lists, searches, the balance, and expanded fields."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from aegispay.sandbox import stripe_objects as shape
from aegispay.sandbox.documents import Document
from aegispay.sandbox.stripe_call import Call, StripeState
from aegispay.sandbox.stripe_objects import CHARGE, METHOD, PAYMENT_INTENT, REFUND

LIST_PARAMS = frozenset(
    "charge created customer ending_before expand limit page payment_intent query starting_after".split()  # noqa: SIM905
)
_CLAUSE = re.compile(
    r"""\s*(?:metadata\[(?P<q>["'])(?P<name>.+?)(?P=q)\]|(?P<field>status|currency|customer|amount|created))"""
    r"""\s*(?P<op>[:<>]=?)\s*(?P<value>"[^"]*"|'[^']*'|\d+)\s*"""
)
_EXPANDABLE = {
    "latest_charge": CHARGE,
    "charge": CHARGE,
    "payment_intent": PAYMENT_INTENT,
    "payment_method": METHOD,
}


class Reads:
    """Answers to GET requests."""

    def __init__(self, state: StripeState, search_lag_s: float) -> None:
        self._state = state
        self._documents = state.documents
        self.search_lag_s = search_lag_s

    def one(self, kind: str, id_: str, call: Call) -> Document:
        found = self._documents.get(kind, id_)
        if found is None and kind == METHOD:
            found = shape.builtin_method(id_, call.now_s)
        if found is None:
            raise shape.missing(kind, id_, "intent" if kind == PAYMENT_INTENT else "id")
        return found

    def listed(self, kind: str, url: str, call: Call) -> Document:
        """Newest first, as they stand now."""
        call.check(LIST_PARAMS)
        limit = self._limit(call)
        from_us, before_us = _created(call)
        parent = str(call.form.get("payment_intent", ""))
        rows = self._documents.newest(kind, parent=parent, from_us=from_us, before_us=before_us, limit=10_000)
        if kind == REFUND and "charge" in call.form:
            rows = [row for row in rows if row["charge"] == call.form["charge"]]
        after, before = call.form.get("starting_after"), call.form.get("ending_before")
        if after is not None:
            rows = rows[_index(rows, str(after)) + 1 :]
        if before is not None:
            rows = rows[: _index(rows, str(before))]
            rows = rows[-limit:] if len(rows) > limit else rows
        page = rows[:limit]
        return {"object": "list", "url": url, "has_more": len(rows) > len(page), "data": page}

    def search(self, call: Call) -> Document:
        """PaymentIntents by metadata or status. What changed within the search's lag is not found yet."""
        call.check(LIST_PARAMS)
        query = call.form.get("query")
        if not isinstance(query, str):
            raise shape.wrong("Missing required param: query.", "query", "parameter_missing")
        tests = _parse(query)
        until_us = call.now_us - int(self.search_lag_s * 1_000_000)
        named = next(
            ((test[0][9:], test[2]) for test in tests if test[0].startswith("metadata:") and test[1] == ":"),
            None,
        )
        if named is not None:
            rows = self._documents.labelled(PAYMENT_INTENT, *named, until_us=until_us)
        else:
            rows = self._documents.newest(PAYMENT_INTENT, before_us=until_us + 1, limit=10_000)
        rows = [row for row in rows if all(_holds(row, *test) for test in tests)]
        limit = self._limit(call)
        return {
            "object": "search_result",
            "url": "/v1/payment_intents/search",
            "has_more": len(rows) > limit,
            "next_page": None,
            "data": rows[:limit],
        }

    def balance(self) -> Document:
        rows: list[Document] = []
        for currency, sums in self._state.bank.totals(self._state.account).items():
            amount = sums.captured_minor - sums.refunded_minor
            rows.append({"amount": amount, "currency": currency.lower(), "source_types": {"card": amount}})
        empty: list[Document] = [{"amount": 0, "currency": "usd", "source_types": {"card": 0}}]
        return {"object": "balance", "available": rows or empty, "pending": empty, "livemode": False}

    def show(self, document: Document, call: Call) -> Document:
        """The object as it leaves, with the fields that the request wants expanded."""
        wanted = call.form.get("expand") or []
        if not isinstance(wanted, list):
            raise shape.wrong("Invalid array: expand", "expand")
        if document.get("object") in ("list", "search_result"):
            inner = [path[5:] for path in wanted if path.startswith("data.")]
            return {**document, "data": [self._expanded(row, inner, call) for row in document["data"]]}
        return self._expanded(document, wanted, call)

    def _expanded(self, document: Document, wanted: list[str], call: Call) -> Document:
        shown = shape.public(document)
        for path in wanted:
            name, _, rest = path.partition(".")
            kind = _EXPANDABLE.get(name)
            id_ = document.get(name)
            if kind is None or name not in document:
                raise shape.wrong(f"This property cannot be expanded ({name[:40]}).", "expand")
            if isinstance(id_, str):
                shown[name] = self._expanded(self.one(kind, id_, call), [rest] if rest else [], call)
        return shown

    def _limit(self, call: Call) -> int:
        limit = call.integer("limit")
        if limit is None:
            return 10
        if not 1 <= limit <= 100:
            raise shape.wrong("limit is 1 to 100.", "limit", "parameter_invalid_integer")
        return limit


def _index(rows: list[Document], id_: str) -> int:
    for index, row in enumerate(rows):
        if row["id"] == id_:
            return index
    raise shape.missing("object", id_, "starting_after")


def _created(call: Call) -> tuple[int, int]:
    """The interval [from, before) in microseconds that `created` names; Stripe compares whole seconds."""
    given = call.form.get("created")
    from_s, before_s = 0, 2**42
    try:
        if isinstance(given, str):
            from_s, before_s = int(given), int(given) + 1
        elif isinstance(given, dict):
            for name, value in given.items():
                second = int(value)
                if name in ("gte", "gt"):
                    from_s = max(from_s, second + (name == "gt"))
                elif name in ("lte", "lt"):
                    before_s = min(before_s, second + (name == "lte"))
                else:
                    raise ValueError(name)
    except ValueError:
        raise shape.wrong("Invalid created: it is a time, or gt, gte, lt, lte.", "created") from None
    return from_s * 1_000_000, before_s * 1_000_000


Test = tuple[str, str, str]


def _parse(query: str) -> list[Test]:
    tests: list[Test] = []
    for clause in re.split(r"\s+AND\s+", query.strip(), flags=re.IGNORECASE):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise shape.wrong("We were unable to parse your search query.", "query")
        name = f"metadata:{match['name']}" if match["name"] else str(match["field"])
        tests.append((name, match["op"], match["value"].strip("\"'")))
    return tests


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    ":": lambda a, b: str(a) == b,
    ">": lambda a, b: int(a) > int(b),
    "<": lambda a, b: int(a) < int(b),
    ">=": lambda a, b: int(a) >= int(b),
    "<=": lambda a, b: int(a) <= int(b),
}


def _holds(row: Document, name: str, operator: str, value: str) -> bool:
    found = row["metadata"].get(name[9:]) if name.startswith("metadata:") else row.get(name)
    return found is not None and _COMPARE[operator](found, value)
