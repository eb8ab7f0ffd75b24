"""Braintree's transactions over the bank: sale, capture, void, refund. GraphQL and the XML gateway both lead here.

There is no idempotency: what is sent twice is done twice, but for a check of thirty seconds against duplicates, which
does not see a request that is still under way.
"""

from __future__ import annotations

from typing import Any

from aegispay.domain.errors import InvalidPaymentMethod
from aegispay.domain.methods import Card
from aegispay.sandbox import braintree_tables as table
from aegispay.sandbox import issuer
from aegispay.sandbox.braintree_state import (
    SPENT,
    TOKEN,
    TRANSACTION,
    BraintreeError,
    BraintreeState,
    major,
)
from aegispay.sandbox.braintree_tables import AUTHORIZED, SETTLED, SUBMITTED, VOIDED
from aegispay.sandbox.documents import Document

DUPLICATE_WINDOW_S = 30
_GOOD = (AUTHORIZED, SUBMITTED, SETTLED)


class Transactions:
    """`single_use_nonces`: whether test nonces are spent by their first use too, as tokens of real cards are."""

    def __init__(
        self,
        state: BraintreeState,
        *,
        single_use_nonces: bool,
        duplicate_check: bool,
        partial_captures: bool,
    ) -> None:
        self._state = state
        self._single_use_nonces = single_use_nonces
        self._duplicate_check = duplicate_check
        self._partial_captures = partial_captures

    # --- payment methods ------------------------------------------------------------------------------------

    def tokenize(self, given: object, month: object, year: object) -> Document:
        """A single-use token for a card."""
        try:
            card = Card(str(given), str(month), str(year))
        except InvalidPaymentMethod:
            raise BraintreeError("Credit card number is invalid.", "81715", "number") from None
        token: Document = {
            "id": self._state.ids.new("tokencc_bh_", 24),
            # Of a card that is not one of the published test numbers, only the last digits are kept.
            "number": number if (number := card.reveal_number()) in issuer.CARDS else card.last4,
            "last4": card.last4,
            "brand": card.brand,
        }
        self._state.documents.add(TOKEN, token, self._state.clock.now_us())
        return token

    def _spend(self, nonce: str) -> str:
        """The card's number behind a nonce; a nonce of a card can be used once."""
        documents = self._state.documents
        if nonce == table.CONSUMED or documents.get(SPENT, nonce) is not None:
            message = "Cannot use a single-use payment method more than once."
            raise BraintreeError(message, "91564", "paymentMethodId")
        if nonce == table.LUHN_INVALID:
            raise BraintreeError("Credit card number is invalid.", "81715", "number")
        token = documents.get(TOKEN, nonce)
        number = token["number"] if token else table.nonce_number(nonce)
        if number is None:
            raise BraintreeError("Unknown or expired single-use payment method.", "91565", "paymentMethodId")
        if token or self._single_use_nonces:
            documents.add(SPENT, {"id": nonce}, self._state.clock.now_us())
        return str(number)

    # --- sale -----------------------------------------------------------------------------------------------

    def sale(
        self,
        *,
        nonce: str,
        amount: object,
        order_id: object,
        merchant_account: object,
        submit: bool,
        seen: int,
        metadata: dict[str, str] | None = None,
    ) -> Document:
        """Authorises, and submits for settlement where asked. `seen`: how many transactions there were when it came in."""
        state = self._state
        account, currency = state.currency(merchant_account)
        minor = state.amount(amount, currency)
        order = state.order_id(order_id)
        number = self._spend(nonce)
        one = self._new("sale", order, minor, currency, account, number[-4:])
        one["payment_ref"] = (metadata or {}).get("aegispay_payment", "")
        one["fingerprint"] = f"{order}:{minor}:{currency}:{number}"
        answer = table.judge(nonce, number, minor, currency)
        duplicate = self._duplicate(one, seen)
        if duplicate is not None:
            state.enter(one, table.REJECTED, "DUPLICATE", duplicate["id"])
        else:
            state.enter(one, answer.status, answer.code)
        if one["status"] == AUTHORIZED:
            state.bank.authorize(
                state.account,
                one["id"],
                reference=order,
                payment_ref=one["payment_ref"],
                amount_minor=minor,
                currency=currency,
                at_us=state.clock.now_us(),
            )
            if submit:
                self._submit(one, minor, order)
        self._add(one)
        return one

    def _duplicate(self, one: Document, seen: int) -> Document | None:
        """An equal transaction of the last seconds that had been answered when this one came in."""
        if not self._duplicate_check:
            return None
        from_us = self._state.clock.now_us() - DUPLICATE_WINDOW_S * 1_000_000
        for other in self._state.documents.labelled(TRANSACTION, "same", one["fingerprint"]):
            recent = other["created_us"] >= from_us and other["status"] in _GOOD
            if recent and other["number"] <= seen:
                return other
        return None

    def count(self) -> int:
        """How many transactions there are."""
        newest = self._state.documents.newest(TRANSACTION, limit=1)
        return int(newest[0]["number"]) if newest else 0

    # --- capture --------------------------------------------------------------------------------------------

    def submit(self, id_: str, amount: object, order_id: object = None, reference: str = "") -> Document:
        """Submits for settlement, all or a part; what is left is given back. A new order id takes the old one's place."""
        one = self._state.transaction(id_)
        if one["status"] != AUTHORIZED or one["children"]:
            message = "Cannot submit for settlement unless status is authorized."
            raise BraintreeError(message, "91507")
        minor = one["amount_minor"] if amount is None else self._state.amount(amount, one["currency"])
        self._fits(minor, one["amount_minor"])
        if order_id is not None:
            self._rename(one, self._state.order_id(order_id))
        self._submit(one, minor, reference or one["order_id"])
        self._state.save(one)
        return one

    def submit_part(
        self,
        id_: str,
        amount: object,
        order_id: object = None,
        reference: str = "",
        *,
        final: bool = False,
    ) -> Document:
        """One of several partial captures: a transaction of its own, beside its parent."""
        state = self._state
        parent = state.transaction(id_)
        if not self._partial_captures:
            raise BraintreeError("Processor does not support partial settlement.", "915102")
        if parent["status"] != AUTHORIZED:
            message = "Cannot submit for partial settlement unless status is authorized."
            raise BraintreeError(message, "915103")
        minor = state.amount(amount, parent["currency"])
        held = self._held(parent)
        self._fits(minor, held)
        order = parent["order_id"] if order_id is None else state.order_id(order_id)
        part = self._new(
            "sale", order, minor, parent["currency"], parent["merchant_account"], parent["last4"]
        )
        part["parent"], part["charge"] = parent["id"], parent["charge"]
        state.enter(part, SUBMITTED)
        state.bank.capture(
            state.account,
            parent["charge"],
            part["id"],
            reference=reference or order,
            amount_minor=minor,
            at_us=state.clock.now_us(),
        )
        if final:
            self._release(parent, reference or order)
        parent["children"].append(part["id"])
        state.save(parent)
        self._add(part)
        return part

    def _fits(self, minor: int, room: int) -> None:
        if minor > room:
            raise BraintreeError("Settlement amount is too large.", "91522", "amount")

    def _submit(self, one: Document, minor: int, reference: str) -> None:
        state = self._state
        now_us = state.clock.now_us()
        state.bank.capture(
            state.account,
            one["charge"],
            state.new_id(),
            reference=reference,
            amount_minor=minor,
            at_us=now_us,
        )
        self._release(one, reference)
        one["amount_minor"] = minor
        state.enter(one, SUBMITTED)

    # --- void and refund ------------------------------------------------------------------------------------

    def void(self, id_: str, reference: str = "") -> Document:
        """Gives back what is not settled yet."""
        state = self._state
        one = state.transaction(id_)
        if one["status"] not in (AUTHORIZED, SUBMITTED) or one["kind"] != "sale":
            message = "Transaction can only be voided if status is authorized or submitted_for_settlement."
            raise BraintreeError(message, "91504")
        if one["status"] == SUBMITTED:
            # The bank's books know no capture that was not: what was taken is given back.
            self._give_back(one, one["amount_minor"], state.new_id(), reference)
        else:
            self._release(one, reference)
        state.enter(one, VOIDED)
        state.save(one)
        return one

    def refund(self, id_: str, amount: object, order_id: object = None, reference: str = "") -> Document:
        """Pays back a settled transaction, all or a part; the refund is a transaction of its own."""
        state = self._state
        one = state.transaction(id_)
        if one["kind"] != "sale":
            raise BraintreeError("Cannot refund a credit transaction.", "91505")
        if one["status"] != SETTLED:
            raise BraintreeError("Cannot refund a transaction unless it is settled.", "91506")
        room = one["amount_minor"] - one["refunded_minor"]
        if not room:
            raise BraintreeError("Transaction has already been fully refunded.", "91512")
        minor = room if amount is None else state.amount(amount, one["currency"])
        if minor > room:
            raise BraintreeError(f"Refund amount cannot be more than {room}.", "91521", "amount")
        order = one["order_id"] if order_id is None else state.order_id(order_id)
        credit = self._new("credit", order, minor, one["currency"], one["merchant_account"], one["last4"])
        credit["refunds"] = one["id"]
        state.enter(credit, SUBMITTED)
        one["refunded_minor"] += minor
        one["refund_ids"].append(credit["id"])
        self._give_back(one, minor, credit["id"], reference or order)
        state.save(one)
        self._add(credit)
        return credit

    def reverse(self, id_: str, reference: str = "") -> Document:
        """Voids what is not settled, refunds what is."""
        if self._state.transaction(id_)["status"] == SETTLED:
            return self.refund(id_, None, reference=reference)
        return self.void(id_, reference)

    def settle(self, id_: str) -> Document:
        """Forces settlement, which the sandbox allows."""
        one = self._state.transaction(id_)
        if one["status"] != SUBMITTED:
            raise BraintreeError("Cannot simulate settlement of this transaction.", "91575")
        self._state.enter(one, SETTLED)
        self._state.save(one)
        return one

    # --- what they share ------------------------------------------------------------------------------------

    def _new(self, kind: str, order: str, minor: int, currency: str, account: str, last4: str) -> Document:
        id_ = self._state.new_id()
        found: dict[str, Any] = {
            "id": id_,
            "number": self.count() + 1,
            "kind": kind,
            "order_id": order,
            "amount_minor": minor,
            "currency": currency,
            "merchant_account": account,
            "last4": last4,
            "created_us": self._state.clock.now_us(),
            "status": "",
            "history": [],
            "refunded_minor": 0,
            "refund_ids": [],
            "refunds": "",
            "parent": "",
            "children": [],
            "payment_ref": "",
            "fingerprint": "",
            "charge": id_,
        }
        return found

    def _add(self, one: Document) -> None:
        labels = {"order": one["order_id"]}
        if one["fingerprint"]:
            labels["same"] = one["fingerprint"]
        self._state.documents.add(TRANSACTION, one, self._state.clock.now_us(), labels=labels)

    def _rename(self, one: Document, order: str) -> None:
        old, new = {"order": one["order_id"]}, {"order": order}
        self._state.documents.relabel(TRANSACTION, one["id"], old, new)
        one["order_id"] = order

    def _held(self, one: Document) -> int:
        charge = self._state.bank.charge(self._state.account, one["charge"])
        return 0 if charge is None else charge.held_minor

    def _release(self, one: Document, reference: str) -> None:
        held = self._held(one)
        if held:
            self._state.bank.release(
                self._state.account,
                one["charge"],
                self._state.new_id(),
                reference=reference,
                amount_minor=held,
                at_us=self._state.clock.now_us(),
            )

    def _give_back(self, one: Document, minor: int, id_: str, reference: str) -> None:
        self._state.bank.refund(
            self._state.account,
            one["charge"],
            id_,
            reference=reference,
            amount_minor=minor,
            at_us=self._state.clock.now_us(),
        )


def shown_amount(one: Document, minor: int | None = None) -> str:
    """A transaction's amount as Braintree writes it."""
    return major(one["amount_minor"] if minor is None else minor, one["currency"])
