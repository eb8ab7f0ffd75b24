"""PayPal's list of transactions, which is behind what happened by as much as one tells it to be."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import parse_qsl

from aegispay.sandbox.documents import Document
from aegispay.sandbox.paypal_objects import AUTHORIZATION, CAPTURE, REFUND, PayPalError, time_of
from aegispay.sandbox.paypal_state import PayPalState

PATH = "/v1/reporting/transactions"
DAYS_MAX = 31
PAGE_SIZE_MAX = 500
_EVENT_CODES = {CAPTURE: "T0006", AUTHORIZATION: "T1300", REFUND: "T1107"}
_STATUSES = {"DENIED": "D", "DECLINED": "D", "PENDING": "P", "REFUNDED": "V", "VOIDED": "V"}


class Reports:
    def __init__(self, state: PayPalState) -> None:
        self._state = state
        self.lag_s = 0.0
        """At the real PayPal up to three hours."""
        self.permitted = True
        """Whether the application may search at all; that permission is one of its own."""

    def search(self, query: str) -> Document:
        if not self.permitted:
            raise PayPalError("PERMISSION_DENIED")
        asked = dict(parse_qsl(query))
        try:
            begin_us, end_us = _us(asked["start_date"]), _us(asked["end_date"])
            size, page = int(asked.get("page_size", "100")), int(asked.get("page", "1"))
        except (KeyError, ValueError):
            raise PayPalError("INVALID_PARAMETER_SYNTAX") from None
        if (
            not 0 <= end_us - begin_us <= DAYS_MAX * 86_400_000_000
            or not 1 <= size <= PAGE_SIZE_MAX
            or page < 1
        ):
            raise PayPalError("INVALID_PARAMETER_VALUE")
        fresh_us = self._state.now_us() - int(self.lag_s * 1_000_000)
        rows = [
            (kind, row)
            for kind in (AUTHORIZATION, CAPTURE, REFUND)
            for row in self._state.documents.newest(
                kind, from_us=begin_us, before_us=min(end_us, fresh_us) + 1, limit=10_000
            )
        ]
        currency = asked.get("transaction_currency", "")
        rows = [one for one in rows if currency in ("", one[1]["amount"]["currency_code"])]
        if "transaction_id" in asked:
            rows = [one for one in rows if one[1]["id"] == asked["transaction_id"]]
        return {
            "transaction_details": [
                {"transaction_info": _info(kind, row)} for kind, row in rows[(page - 1) * size : page * size]
            ],
            "account_number": "SHXPSANDBXX22",
            "start_date": time_of(begin_us),
            "end_date": time_of(end_us),
            "last_refreshed_datetime": time_of(fresh_us),
            "page": page,
            "total_items": len(rows),
            "total_pages": max(1, -(-len(rows) // size)),
        }


def _info(kind: str, row: Document) -> Document:
    amount = dict(row["amount"])
    if kind == REFUND:
        amount["value"] = f"-{amount['value']}"
    info: Document = {
        "transaction_id": row["id"],
        "transaction_event_code": _EVENT_CODES[kind],
        "transaction_initiation_date": row["create_time"],
        "transaction_updated_date": row["update_time"],
        "transaction_amount": amount,
        "transaction_status": _STATUSES.get(row["status"], "S"),
    }
    if "custom_id" in row:
        info["custom_field"] = row["custom_id"]
    if "invoice_id" in row:
        info["invoice_id"] = row["invoice_id"]
    return info


def _us(text: str) -> int:
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if moment.tzinfo is None:
        raise ValueError("a time without its zone")
    return int(moment.timestamp() * 1_000_000)
