"""What one request to the Stripe face brings, and what its handlers share."""

from __future__ import annotations

import msgspec

from aegispay.ports import Clock
from aegispay.sandbox import stripe_objects as shape
from aegispay.sandbox.bank import Bank
from aegispay.sandbox.documents import Document, Documents, PspIds
from aegispay.sandbox.forms import Form
from aegispay.sandbox.stripe_notices import INTENT_EVENTS, notice
from aegispay.sandbox.stripe_objects import METHOD, PAYMENT_INTENT
from aegispay.sandbox.webhooks import Notice

_COMMON = frozenset(
    (  # noqa: SIM905
        "capture_method confirmation_token description error_on_requires_action expand mandate mandate_data metadata"
        " off_session payment_method payment_method_data payment_method_options payment_method_types radar_options"
        " receipt_email return_url setup_future_usage shipping statement_descriptor statement_descriptor_suffix"
        " use_stripe_sdk"
    ).split()
)
CREATE_PARAMS = _COMMON | {
    "amount",
    "amount_details",
    "application_fee_amount",
    "automatic_payment_methods",
    "confirm",
    "confirmation_method",
    "currency",
    "customer",
    "on_behalf_of",
    "payment_details",
    "transfer_data",
    "transfer_group",
}
CONFIRM_PARAMS = _COMMON | {"client_secret"}
UPDATE_PARAMS = _COMMON | {"amount", "currency", "customer"}
CAPTURE_PARAMS = frozenset(
    {
        "amount_to_capture",
        "expand",
        "final_capture",
        "metadata",
        "statement_descriptor",
        "statement_descriptor_suffix",
    }
)
CANCEL_PARAMS = frozenset({"cancellation_reason", "expand"})


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request, as the handlers see it."""

    form: Form
    key: str
    """The idempotency key, or empty."""
    now_us: int

    @property
    def now_s(self) -> int:
        return self.now_us // 1_000_000

    def flag(self, name: str) -> bool:
        value = self.form.get(name, "false")
        if value not in ("true", "false"):
            raise shape.wrong(f"Invalid boolean: {value!r}", name, "parameter_invalid_boolean")
        return bool(value == "true")

    def integer(self, name: str) -> int | None:
        value = self.form.get(name)
        if value is None:
            return None
        try:
            return int(str(value))
        except ValueError:
            raise shape.wrong(
                f"Invalid integer: {str(value)[:40]}", name, "parameter_invalid_integer"
            ) from None

    def metadata(self) -> dict[str, str]:
        found = self.form.get("metadata") or {}
        if not isinstance(found, dict) or len(found) > 50:
            raise shape.wrong("Invalid metadata: it is up to 50 names and values.", "metadata")
        for name, value in found.items():
            if not isinstance(value, str) or len(value) > 500 or len(name) > 40:
                raise shape.wrong(
                    "Metadata names have up to 40 characters, values up to 500.", f"metadata[{name}]"
                )
        return dict(found)

    def check(self, known: frozenset[str]) -> None:
        for name in self.form:
            if name not in known:
                raise shape.wrong(f"Received unknown parameter: {name}", name, "parameter_unknown")


class StripeState:
    """What the handlers share."""

    def __init__(self, bank: Bank, account: str, clock: Clock, seed: int | None, webhook_secret: str) -> None:
        self.bank = bank
        self.account = account
        self.clock = clock
        self.documents = Documents(bank, account)
        self.ids = PspIds(bank, account, seed)
        self.base_url = ""
        """Where the payer's browser finds the 3DS page."""
        self.webhook_secret = webhook_secret
        self.settles_later = False
        """Whether an approved payment stays `processing`, and a refund `pending`, until it is finished by hand."""
        self.unsent: list[Notice] = []
        """Notices of what is being done; they go out once it is durable."""

    def method(self, id_: str, now_s: int) -> Document:
        found = shape.builtin_method(id_, now_s) or self.documents.get(METHOD, id_)
        if found is None:
            raise shape.missing("PaymentMethod", id_, "payment_method")
        return found

    def intent(self, id_: str) -> Document:
        found = self.documents.get(PAYMENT_INTENT, id_)
        if found is None:
            raise shape.missing("payment_intent", id_)
        return found

    # --- notices --------------------------------------------------------------------------------------------

    def announce(self, event_type: str, subject: Document, key: str = "") -> None:
        """Drafts a notice about this object as it stands now."""
        self.unsent.append(
            notice(
                event_type,
                subject,
                event_id=self.ids.new("evt_"),
                key=key,
                secret=self.webhook_secret,
                now_us=self.clock.now_us(),
            )
        )

    def announce_intent(self, intent: Document, key: str) -> None:
        """Tells that the PaymentIntent has come to its status."""
        self.announce(INTENT_EVENTS[intent["status"]], intent, key)
