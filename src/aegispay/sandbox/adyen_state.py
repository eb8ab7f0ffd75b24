"""What Adyen's handlers share: the account, its payments as documents, its errors, and the notices that wait."""

from __future__ import annotations

from typing import Any

from aegispay.domain.money import AMOUNT_MINOR_MAX
from aegispay.ports import Clock
from aegispay.sandbox import adyen_notices
from aegispay.sandbox.adyen_tables import known_currency, to_iso_minor
from aegispay.sandbox.bank import Bank
from aegispay.sandbox.documents import Document, Documents, PspIds
from aegispay.sandbox.webhooks import Notice, Outbox

PAYMENT = "payment"
REFERENCE_LENGTH_MAX = 80

Body = dict[str, Any]


class AdyenError(Exception):
    """A request that ends in an error answer, with nothing done."""

    def __init__(self, status: int, code: str, message: str, type_: str = "validation") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.type = type_

    def body(self, psp_reference: str = "") -> Body:
        shown: Body = {
            "status": self.status,
            "errorCode": self.code,
            "message": str(self),
            "errorType": self.type,
        }
        return {**shown, "pspReference": psp_reference} if psp_reference else shown


class AdyenState:
    """One merchant account over the bank.

    `manual_capture`: what becomes of a payment that does not say. `multiple_captures`: whether the rest of a payment stays
    reserved after a first capture.
    """

    def __init__(
        self,
        bank: Bank,
        account: str,
        merchant_account: str,
        hmac_key: str,
        clock: Clock,
        seed: int | None,
        *,
        manual_capture: bool,
        multiple_captures: bool,
    ) -> None:
        self.bank = bank
        self.account = account
        self.merchant_account = merchant_account
        self.hmac_key = hmac_key
        self.clock = clock
        self.manual_capture = manual_capture
        self.multiple_captures = multiple_captures
        self.documents = Documents(bank, account)
        self.ids = PspIds(bank, account, seed)
        self.base_url = ""
        self.outbox = Outbox()
        self._drafts: list[Notice] = []

    def psp_reference(self) -> str:
        return self.ids.new("", 16).upper()

    # --- payments -------------------------------------------------------------------------------------------

    def payment(self, psp_reference: str) -> Document:
        found = self.documents.get(PAYMENT, psp_reference)
        if found is None:
            raise AdyenError(422, "167", "Original pspReference required for this operation")
        return found

    def save(self, payment: Document) -> None:
        self.documents.replace(PAYMENT, payment, self.clock.now_us())

    # --- notices --------------------------------------------------------------------------------------------

    def tell(
        self,
        code: str,
        payment: Document,
        *,
        psp_reference: str = "",
        reference: str = "",
        success: bool = True,
        reason: str = "",
        value: int | None = None,
        extra: dict[str, str] | None = None,
    ) -> None:
        """Drafts a notice about a payment, or about a modification of it where that has a reference of its own."""
        now_us = self.clock.now_us()
        item: Body = {
            "amount": {
                "currency": payment["currency"],
                "value": payment["value"] if value is None else value,
            },
            "eventCode": code,
            "eventDate": adyen_notices.event_date(now_us),
            "merchantAccountCode": self.merchant_account,
            "merchantReference": reference or payment["reference"],
            "paymentMethod": payment["brand"],
            "pspReference": psp_reference or payment["id"],
            "reason": reason,
            "success": "true" if success else "false",
        }
        if psp_reference and psp_reference != payment["id"]:
            item["originalReference"] = payment["id"]
        if code == "AUTHORISATION" and success:
            item["operations"] = ["CANCEL", "CAPTURE", "REFUND"]
        item["additionalData"] = {"paymentMethodVariant": payment["brand"], **(extra or {})}
        self._drafts.append(adyen_notices.notice(item, self.hmac_key, now_us))

    def tell_unknown(self, code: str, psp_reference: str, reference: str, reason: str) -> None:
        """Drafts a notice about a modification whose payment does not exist."""
        nothing: Document = {
            "id": psp_reference,
            "currency": "EUR",
            "value": 0,
            "reference": reference,
            "brand": "",
        }
        self.tell(code, nothing, success=False, reason=reason)

    def forget_drafts(self) -> None:
        """What an earlier request drafted and did not finish never happened."""
        self._drafts.clear()

    def send_drafts(self) -> None:
        """What was drafted happened: the notices wait for delivery."""
        for notice in self._drafts:
            self.outbox.add(notice)
        self._drafts.clear()


# --- reading a request ------------------------------------------------------------------------------------------


def text(body: Body, name: str, *, length_max: int = 0) -> str:
    found = body.get(name)
    if found is None:
        return ""
    if not isinstance(found, str) or (length_max and len(found) > length_max):
        raise AdyenError(422, "702", f"Field {name} is not valid.")
    return found


def amount(body: Body) -> tuple[int, str, int]:
    """The amount as sent, its currency, and the same in ISO 4217 minor units."""
    given = body.get("amount")
    if not isinstance(given, dict):
        raise AdyenError(422, "100", "No amount specified")
    value, currency = given.get("value"), given.get("currency")
    if not known_currency(currency):
        raise AdyenError(422, "138", "Unsupported currency specified")
    if type(value) is not int or not 0 < value <= AMOUNT_MINOR_MAX:
        raise AdyenError(422, "137", "Invalid amount specified")
    iso = to_iso_minor(value, str(currency))
    if iso is None:
        raise AdyenError(422, "137", "Invalid amount specified")
    return value, str(currency), iso
