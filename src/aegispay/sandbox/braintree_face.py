"""Braintree over the bank: who asks, and by which of the two doors, GraphQL or the older XML gateway.

A synchronous function from request to reply. There are no idempotency keys: a request that is sent twice is done twice.
"""

from __future__ import annotations

import base64
import hmac

from aegispay.ports import Clock, SystemClock
from aegispay.sandbox import braintree_notices
from aegispay.sandbox.bank import Bank
from aegispay.sandbox.braintree_gateway import XmlGateway
from aegispay.sandbox.braintree_graphql import GraphQl
from aegispay.sandbox.braintree_state import BraintreeState, stamp
from aegispay.sandbox.braintree_tables import SETTLED
from aegispay.sandbox.braintree_transactions import Transactions, shown_amount
from aegispay.sandbox.documents import Document
from aegispay.sandbox.webhooks import Outbox
from aegispay.sandbox.wire import Ticket, WireReply, WireRequest, json_reply

MERCHANT_ID = "sandbox_merchant"
PUBLIC_KEY = "sandbox_public_key"
PRIVATE_KEY = "sandbox_private_key"
GRAPHQL_PATH = "/graphql"


class BraintreePsp:
    """One Braintree merchant.

    `settle_after_s`: how long a submitted transaction takes to settle, before which it cannot be refunded.
    `search_lag_s`: how far the search is behind. `single_use_nonces`: see `Transactions`.
    """

    idempotent = False

    def __init__(
        self,
        bank: Bank,
        *,
        merchant_id: str = MERCHANT_ID,
        public_key: str = PUBLIC_KEY,
        private_key: str = PRIVATE_KEY,
        account: str = "braintree",
        clock: Clock | None = None,
        seed: int | None = None,
        settle_after_s: float = 0.0,
        search_lag_s: float = 0.0,
        single_use_nonces: bool = False,
        duplicate_check: bool = True,
        partial_captures: bool = True,
    ) -> None:
        self.account = account
        self.merchant_id = merchant_id
        self.public_key = public_key
        self.private_key = private_key
        self._bank = bank
        self._clock = clock or SystemClock()
        self._state = BraintreeState(
            bank, account, self._clock, seed, settle_after_s=settle_after_s, lag_s=search_lag_s
        )
        self._transactions = Transactions(
            self._state,
            single_use_nonces=single_use_nonces,
            duplicate_check=duplicate_check,
            partial_captures=partial_captures,
        )
        self._graphql = GraphQl(self._state, self._transactions)
        self._xml = XmlGateway(self._state, self._transactions)
        self._seen: dict[str, int] = {}

    @property
    def base_url(self) -> str:
        return self._state.base_url

    @base_url.setter
    def base_url(self, url: str) -> None:
        self._state.base_url = url

    @property
    def outbox(self) -> Outbox:
        return self._state.outbox

    @property
    def settle_after_s(self) -> float:
        return self._state.settle_after_s

    @settle_after_s.setter
    def settle_after_s(self, settle_after_s: float) -> None:
        self._state.settle_after_s = settle_after_s

    @property
    def search_lag_s(self) -> float:
        return self._state.search_lag_s

    @search_lag_s.setter
    def search_lag_s(self, lag_s: float) -> None:
        self._state.search_lag_s = lag_s

    # --- one request ----------------------------------------------------------------------------------------

    def admit(self, request: WireRequest) -> Ticket | WireReply:
        request_id = self._state.ids.new("", 36)
        keys = base64.b64encode(f"{self.public_key}:{self.private_key}".encode()).decode()
        known = hmac.compare_digest(request.headers.get("authorization", ""), f"Basic {keys}")
        if request.path == GRAPHQL_PATH:
            if not known:
                return self._failed(
                    "AUTHENTICATION", "Authentication credentials are invalid.", 200, request_id
                )
            if "braintree-version" not in request.headers:
                message = "The Braintree-Version header is missing."
                return self._failed("VALIDATION", message, 200, request_id)
        elif not known:
            return WireReply(status=401, content_type="text/plain")
        # The duplicate check sees what had been answered by now, and nothing that is under way.
        self._seen[request_id] = self._transactions.count()
        return Ticket(request=request, request_id=request_id)

    def execute(self, ticket: Ticket, fail: str | None = None) -> WireReply:
        seen = self._seen.pop(ticket.request_id, 0)
        request = ticket.request
        broken = self._failed("INTERNAL", "Something went wrong.", 200, ticket.request_id)
        if request.path != GRAPHQL_PATH:
            broken = WireReply(status=500, content_type="text/plain")
        if fail == "before":
            return broken
        with self._bank.transaction():
            if request.path == GRAPHQL_PATH:
                reply = json_reply(200, self._graphql.answer(request.body, seen, ticket.request_id))
            else:
                reply = self._xml.answer(request, self.merchant_id, seen)
        return broken if fail == "after" else reply

    def drop(self, ticket: Ticket) -> None:
        self._seen.pop(ticket.request_id, None)

    def front_error(self, status: int, request_id: str) -> WireReply:
        class_ = "RESOURCE_LIMIT" if status == 429 else "SERVICE_AVAILABILITY"
        return self._failed(class_, "Try again later.", status, request_id)

    def _failed(self, error_class: str, message: str, status: int, request_id: str) -> WireReply:
        error = {"message": message, "extensions": {"errorClass": error_class}}
        return json_reply(status, {"data": None, "errors": [error], "extensions": {"requestId": request_id}})

    # --- what happens without a request ---------------------------------------------------------------------

    def settle(self, legacy_id: str) -> None:
        """A submitted transaction settles now."""
        with self._bank.transaction():
            self._transactions.settle(legacy_id)

    def dashboard_capture(self, legacy_id: str, amount: str) -> None:
        """Somebody submits what was authorised for settlement in Braintree's own pages. Nothing is told of that."""
        with self._bank.transaction():
            self._transactions.submit(legacy_id, amount)

    def tell_settled(self, legacy_id: str) -> None:
        """It settles unless it has, and a notice says so, as of bank transfers (of cards Braintree tells nothing)."""
        if self._state.transaction(legacy_id)["status"] != SETTLED:
            self.settle(legacy_id)
        one = self._state.transaction(legacy_id)
        now_us = self._clock.now_us()
        subject: list[tuple[str, object]] = [
            ("id", one["id"]),
            ("status", "settled"),
            ("type", "sale"),
            ("currency-iso-code", one["currency"]),
            ("amount", shown_amount(one)),
            ("order-id", one["order_id"] or None),
        ]
        told = ("transaction", subject)
        self.outbox.add(
            braintree_notices.notice(
                "transaction_settled", told, self.public_key, self.private_key, now_us, legacy_id
            )
        )

    def dashboard_refund(self, legacy_id: str, amount: str) -> str:
        """Somebody refunds in Braintree's own pages; returns the refund's id."""
        with self._bank.transaction():
            return str(self._transactions.refund(legacy_id, amount)["id"])

    def dispute(self, legacy_id: str, kind: str = "dispute_opened") -> None:
        """The payer disputes, or the dispute is decided (`dispute_won`, `dispute_lost`): a notice is queued."""
        one = self._state.transaction(legacy_id)
        now_us = self._clock.now_us()
        id_ = f"dp{legacy_id}"
        subject = _dispute(one, id_, kind.removeprefix("dispute_").replace("opened", "open"), now_us)
        self.outbox.add(
            braintree_notices.notice(
                kind, ("dispute", subject), self.public_key, self.private_key, now_us, id_
            )
        )


def _dispute(one: Document, id_: str, status: str, now_us: int) -> list[tuple[str, object]]:
    amount = shown_amount(one)
    return [
        ("id", id_),
        ("amount", amount),
        ("amount-disputed", amount),
        ("amount-won", amount if status == "won" else "0.00"),
        ("currency-iso-code", one["currency"]),
        ("created-at", ("datetime", stamp(now_us))),
        ("received-date", ("date", stamp(now_us)[:10])),
        ("reply-by-date", ("date", stamp(now_us)[:10])),
        ("date-opened", ("date", stamp(now_us)[:10])),
        ("kind", "chargeback"),
        ("merchant-account-id", one["merchant_account"]),
        ("reason", "fraud"),
        ("status", status),
        ("status-history", ("array", [])),
        ("evidence", ("array", [])),
        (
            "transaction",
            [
                ("id", one["id"]),
                ("amount", amount),
                ("created-at", stamp(one["created_us"])),
                ("order-id", one["order_id"] or None),
                ("purchase-order-number", None),
                ("payment-instrument-subtype", "Visa"),
            ],
        ),
    ]
