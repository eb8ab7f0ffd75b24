"""What Braintree's handlers share: the account, its errors, its transactions as documents, and the notices that wait."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from aegispay.domain.errors import InvalidRequest
from aegispay.domain.money import Money
from aegispay.ports import Clock
from aegispay.sandbox.bank import Bank
from aegispay.sandbox.braintree_tables import SETTLED, SUBMITTED
from aegispay.sandbox.documents import Document, Documents, PspIds
from aegispay.sandbox.stripe_money import known_currency
from aegispay.sandbox.webhooks import Outbox

TRANSACTION, TOKEN, SPENT = "transaction", "token", "spent"
MERCHANT_ACCOUNT_PREFIX = "sandbox_"
"""A merchant account per currency: `sandbox_eur` takes euros."""
ORDER_ID_LENGTH_MAX = 255


class BraintreeError(Exception):
    """A request that ends in an error answer, with nothing done. `code` is the validation error's number."""

    def __init__(
        self, message: str, code: str = "", field: str = "base", error_class: str = "VALIDATION"
    ) -> None:
        super().__init__(message)
        self.code = code
        self.field = field
        self.error_class = error_class


def not_found() -> BraintreeError:
    return BraintreeError("An object with this ID was not found.", error_class="NOT_FOUND")


class BraintreeState:
    """One Braintree merchant over the bank. `settle_after_s`: how long a submitted transaction takes to settle."""

    def __init__(
        self, bank: Bank, account: str, clock: Clock, seed: int | None, *, settle_after_s: float, lag_s: float
    ) -> None:
        self.bank = bank
        self.account = account
        self.clock = clock
        self.settle_after_s = settle_after_s
        self.search_lag_s = lag_s
        self.documents = Documents(bank, account)
        self.ids = PspIds(bank, account, seed)
        self.base_url = ""
        self.outbox = Outbox()

    def new_id(self) -> str:
        return self.ids.new("", 8).lower()

    # --- transactions ---------------------------------------------------------------------------------------

    def transaction(self, id_: str) -> Document:
        found = self.documents.get(TRANSACTION, id_)
        if found is None:
            raise not_found()
        return self.ripe(found)

    def ripe(self, one: Document) -> Document:
        """The transaction as it stands now: what was submitted settles with time."""
        if one["status"] == SUBMITTED:
            due_us = one["history"][0]["at_us"] + int(self.settle_after_s * 1_000_000)
            if due_us <= self.clock.now_us():
                self.enter(one, SETTLED)
                self.save(one)
        return one

    def enter(self, one: Document, status: str, code: str = "", duplicate_of: str = "") -> None:
        """A new status, at the front of the history."""
        one["status"] = status
        entry = {
            "status": status,
            "at_us": self.clock.now_us(),
            "amount_minor": one["amount_minor"],
            "code": code,
            "duplicate_of": duplicate_of,
        }
        one["history"].insert(0, entry)

    def save(self, one: Document) -> None:
        self.documents.replace(TRANSACTION, one, self.clock.now_us())

    def by_order(self, order_id: str, kind: str) -> list[Document]:
        """Newest first. What was made within the search's lag is not found yet."""
        until_us = self.clock.now_us() - int(self.search_lag_s * 1_000_000)
        found = self.documents.labelled(TRANSACTION, "order", order_id, until_us=until_us)
        return [self.ripe(one) for one in found if one["kind"] == kind]

    # --- reading a request ----------------------------------------------------------------------------------

    def currency(self, merchant_account: object) -> tuple[str, str]:
        """The merchant account, and the currency that it takes."""
        name = str(merchant_account or f"{MERCHANT_ACCOUNT_PREFIX}usd")
        currency = known_currency(name.removeprefix(MERCHANT_ACCOUNT_PREFIX))
        if currency is None or not name.startswith(MERCHANT_ACCOUNT_PREFIX):
            raise BraintreeError("Merchant account ID is invalid.", "91513", "merchantAccountId")
        return name, currency

    def amount(self, given: object, currency: str) -> int:
        """A decimal in major units, as minor units."""
        if given is None or given == "":
            raise BraintreeError("Amount is required.", "81502", "amount")
        try:
            minor = Money.parse(str(given), currency).amount_minor
        except InvalidRequest:
            raise BraintreeError("Amount is an invalid format.", "81503", "amount") from None
        if minor < 0:
            raise BraintreeError("Amount cannot be negative.", "81501", "amount")
        if minor == 0:
            raise BraintreeError("Amount must be greater than zero.", "81531", "amount")
        return minor

    def order_id(self, given: Any) -> str:
        found = "" if given is None else str(given)
        if len(found) > ORDER_ID_LENGTH_MAX:
            raise BraintreeError("Order ID is too long.", "91501", "orderId")
        return found


def major(minor: int, currency: str) -> str:
    """The amount as Braintree writes it."""
    return Money(minor, currency).decimal_text()


def stamp(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
