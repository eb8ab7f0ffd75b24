"""PaymentIntents at the Stripe face: create, confirm, capture, cancel, and what the payer does on the 3DS page.

Every euro that moves is moved in the bank's books here, in the same transaction as the object that tells of it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from aegispay.sandbox import stripe_objects as shape
from aegispay.sandbox.documents import Document
from aegispay.sandbox.issuer import Verdict
from aegispay.sandbox.stripe_call import (
    CANCEL_PARAMS,
    CAPTURE_PARAMS,
    CONFIRM_PARAMS,
    CREATE_PARAMS,
    UPDATE_PARAMS,
    Call,
    StripeState,
)
from aegispay.sandbox.stripe_money import AMOUNT_MAX, amount_rule_broken, known_currency, to_iso_minor
from aegispay.sandbox.stripe_objects import CHARGE, METHOD, PAYMENT_INTENT, StripeError

_REASONS = ("duplicate", "fraudulent", "requested_by_customer", "abandoned")
_PAID: Document = {
    "paid": True,
    "status": "succeeded",
    "outcome": {"network_status": "approved_by_network", "type": "authorized", "risk_level": "normal"},
}
"""What an approved charge says."""
_RETURNED = "The bank returned the payment."
_CAPTURE_METHODS = ("automatic", "automatic_async", "manual")


class Intents:
    """The life of a PaymentIntent."""

    def __init__(self, state: StripeState) -> None:
        self._state = state
        self._documents = state.documents

    # --- endpoints ------------------------------------------------------------------------------------------

    def create(self, call: Call) -> Document:
        call.check(CREATE_PARAMS)
        amount, currency = self._amount(call)
        confirm = call.flag("confirm")
        method = self._method(call)
        metadata = call.metadata()
        capture_method = self._choice(call, "capture_method", _CAPTURE_METHODS, "automatic_async")
        confirmation = self._choice(call, "confirmation_method", ("automatic", "manual"), "automatic")
        for name in ("return_url", "off_session"):
            if name in call.form and not confirm:
                raise shape.wrong(f"{name} goes with confirm=true.", name)
        if confirm and method is None:
            raise shape.wrong(
                "You cannot confirm without a payment method.", "payment_method", "parameter_missing"
            )
        id_ = self._state.ids.new("pi_")
        intent = self._new(id_, call, amount, currency, capture_method, confirmation, metadata)
        if method is not None:
            intent["payment_method"] = method["id"]
            intent["status"] = "requires_confirmation"
        operation, payment = shape.merchant_names(metadata)
        intent["_reference"] = operation or call.key
        intent["_payment_ref"] = payment
        self._documents.add(PAYMENT_INTENT, intent, call.now_us, labels=metadata)
        if confirm and method is not None:
            self._attempt(intent, method, call)
        return intent

    def confirm(self, id_: str, call: Call) -> Document:
        call.check(CONFIRM_PARAMS)
        intent = self._state.intent(id_)
        given = self._method(call)
        if intent["status"] not in ("requires_payment_method", "requires_confirmation", "requires_action"):
            raise shape.unexpected_state(intent, "confirmed")
        method = given or (
            self._state.method(intent["payment_method"], call.now_s) if intent["payment_method"] else None
        )
        if method is None:
            raise shape.wrong(
                "You cannot confirm this PaymentIntent because it is missing a payment method.",
                "payment_method",
                "payment_intent_unexpected_state",
            )
        intent["payment_method"] = method["id"]
        if given is not None:
            intent["_authenticated"] = False
        self._attempt(intent, method, call)
        return intent

    def update(self, id_: str, call: Call) -> Document:
        call.check(UPDATE_PARAMS)
        intent = self._state.intent(id_)
        method = self._method(call)
        old = dict(intent["metadata"])
        added = call.metadata()
        if "amount" in call.form or "currency" in call.form:
            if intent["status"] not in ("requires_payment_method", "requires_confirmation"):
                raise shape.unexpected_state(intent, "given another amount")
            amount, currency = self._amount(
                msgspec.structs.replace(
                    call, form={"amount": intent["amount"], "currency": intent["currency"], **call.form}
                )
            )
            intent["amount"], intent["currency"] = amount, currency.lower()
        if method is not None:
            intent["payment_method"] = method["id"]
            intent["status"] = "requires_confirmation"
        if "description" in call.form:
            intent["description"] = call.form["description"]
        intent["metadata"] = {name: text for name, text in {**old, **added}.items() if text}
        self._documents.relabel(PAYMENT_INTENT, id_, old, intent["metadata"])
        self._save(intent, call)
        return intent

    def capture(self, id_: str, call: Call) -> Document:
        call.check(CAPTURE_PARAMS)
        intent = self._state.intent(id_)
        asked = call.integer("amount_to_capture")
        final = call.flag("final_capture") if "final_capture" in call.form else True
        metadata = call.metadata()
        if intent["status"] != "requires_capture":
            raise shape.unexpected_state(intent, "captured")
        room = intent["amount_capturable"]
        amount = room if asked is None else asked
        if not final and not intent["_multicapture"]:
            raise StripeError(400, "final_capture=false needs multicapture.", param="final_capture")
        if amount < 0 or (amount == 0 and not (final and intent["amount_received"])):
            raise shape.wrong("amount_to_capture must be at least 1.", "amount_to_capture")
        if amount > room:
            raise StripeError(
                400, f"At most {room} is left to capture.", code="amount_too_large", param="amount_to_capture"
            )
        self._rule(amount, intent["currency"].upper(), "amount_to_capture")
        reference = shape.merchant_names(metadata)[0] or call.key
        self._take(intent, amount, reference, call.now_us)
        if final:
            self._give_back(intent, reference, call.now_us)
        if metadata:
            old = dict(intent["metadata"])
            intent["metadata"] = {**old, **metadata}
            self._documents.relabel(PAYMENT_INTENT, id_, old, intent["metadata"])
        self._tell(intent, call)
        return intent

    def cancel(self, id_: str, call: Call) -> Document:
        call.check(CANCEL_PARAMS)
        reason = call.form.get("cancellation_reason")
        if reason is not None and reason not in _REASONS:
            raise shape.wrong(f"Invalid cancellation_reason: {str(reason)[:40]}", "cancellation_reason")
        intent = self._state.intent(id_)
        if intent["status"] in ("succeeded", "canceled", "processing"):
            raise shape.unexpected_state(intent, "canceled")
        if intent["status"] == "requires_capture":
            self._give_back(intent, call.key, call.now_us)
        # A PaymentIntent of which something was captured ends as succeeded, whoever releases the rest.
        if intent["status"] != "succeeded":
            intent["status"] = "canceled"
        intent["canceled_at"] = call.now_s
        intent["cancellation_reason"] = reason
        intent["next_action"] = None
        self._tell(intent, call)
        return intent

    def authenticate(self, id_: str, passed: bool) -> Document:
        """What the payer did on the 3DS page."""
        intent = self._state.intent(id_)
        if intent["status"] != "requires_action":
            return intent
        now_us = self._state.clock.now_us()
        call = Call(form={}, key=intent["_reference"], now_us=now_us)
        intent["next_action"] = None
        if not passed:
            intent["status"] = "requires_payment_method"
            intent["last_payment_error"] = {
                "type": "invalid_request_error",
                "code": "payment_intent_authentication_failure",
                "message": "The payer could not be authenticated.",
                "payment_method": {"id": intent["payment_method"], "object": METHOD},
            }
            intent["payment_method"] = None
            self._tell(intent, call)
            return intent
        intent["_authenticated"] = True
        if intent["confirmation_method"] == "manual":
            intent["status"] = "requires_confirmation"
            self._save(intent, call)
            return intent
        try:
            self._attempt(intent, self._state.method(intent["payment_method"], call.now_s), call)
        except StripeError:
            pass  # Declined after authentication: the PaymentIntent says so.
        return self._state.intent(id_)

    # --- steps ----------------------------------------------------------------------------------------------

    def _attempt(self, intent: Document, method: Document, call: Call) -> None:
        """Asks the issuer. Raises `StripeError` with a 402 for a decline, which is stored all the same."""
        minor = to_iso_minor(intent["amount"], intent["currency"].upper())
        verdict = shape.verdict_of(method, minor)
        if "return_url" in call.form:
            intent["_return_url"] = call.form["return_url"]
        if verdict.authenticate and not intent["_authenticated"]:
            off_session = str(call.form.get("off_session", "false")) not in ("false", "")
            if not off_session and not call.flag("error_on_requires_action"):
                self._ask_payer(intent, call)
                return
            verdict = Verdict(
                code="authentication_required", message="The issuer wants the payer to authenticate."
            )
        charge = shape.new_charge(self._state.ids.new("ch_"), intent, method, call.now_s)
        intent["latest_charge"] = charge["id"]
        intent["next_action"] = None
        if not verdict.approved:
            self._decline(intent, charge, method, verdict, call)
        later = self._state.settles_later and intent["capture_method"] != "manual"
        if not later:
            charge.update(_PAID)
        self._documents.add(CHARGE, charge, call.now_us, parent=intent["id"])
        if later:
            intent["status"] = "processing"
            self._tell(intent, call)
        else:
            self._approve(intent, call)

    def finish(self, id_: str, paid: bool) -> Document:
        """The final word on a PaymentIntent that is processing."""
        intent = self._state.intent(id_)
        charge = self._documents.get(CHARGE, intent["latest_charge"] or "")
        if intent["status"] != "processing" or charge is None:
            return intent
        call = Call(form={}, key="", now_us=self._state.clock.now_us())
        if paid:
            charge.update(_PAID)
            self._documents.replace(CHARGE, charge, call.now_us)
            self._approve(intent, call)
            return intent
        charge.update(status="failed", failure_code="generic_decline", failure_message=_RETURNED)
        self._documents.replace(CHARGE, charge, call.now_us)
        intent["status"] = "requires_payment_method"
        intent["payment_method"] = None
        intent["last_payment_error"] = {"type": "card_error", "code": "generic_decline", "message": _RETURNED}
        self._tell(intent, call)
        return intent

    def _approve(self, intent: Document, call: Call) -> None:
        """The issuer reserves the amount; it is taken at once unless the capture is manual."""
        intent["last_payment_error"] = None
        intent["amount_capturable"] = intent["amount"]
        self._state.bank.authorize(
            self._state.account,
            intent["id"],
            reference=intent["_reference"],
            payment_ref=intent["_payment_ref"],
            amount_minor=to_iso_minor(intent["amount"], intent["currency"].upper()),
            currency=intent["currency"].upper(),
            at_us=call.now_us,
        )
        if intent["capture_method"] == "manual":
            intent["status"] = "requires_capture"
        else:
            self._take(intent, intent["amount"], intent["_reference"], call.now_us)
        self._tell(intent, call)

    def _ask_payer(self, intent: Document, call: Call) -> None:
        url = f"{self._state.base_url}/3ds/{intent['id']}"
        back = intent["_return_url"]
        intent["status"] = "requires_action"
        if back is None:
            stub = {"type": "three_d_secure_redirect", "stripe_js": url}
            intent["next_action"] = {"type": "use_stripe_sdk", "use_stripe_sdk": stub}
        else:
            intent["next_action"] = {
                "type": "redirect_to_url",
                "redirect_to_url": {"url": url, "return_url": back},
            }
        self._tell(intent, call)

    def _decline(
        self, intent: Document, charge: Document, method: Document, verdict: Verdict, call: Call
    ) -> None:
        error = shape.decline_error(verdict)
        charge.update(status="failed", failure_code=error["code"], failure_message=verdict.message)
        charge["outcome"] = {
            "network_status": "declined_by_network",
            "type": "issuer_declined",
            "reason": verdict.code,
        }
        intent["status"] = "requires_payment_method"
        intent["payment_method"] = None
        intent["last_payment_error"] = {
            **error,
            "charge": charge["id"],
            "payment_method": shape.public(method),
        }
        self._documents.add(CHARGE, charge, call.now_us, parent=intent["id"])
        self._tell(intent, call)
        raise StripeError(
            402,
            verdict.message,
            type_="card_error",
            code=error["code"],
            decline_code=error.get("decline_code"),
            charge=charge["id"],
            payment_intent=shape.public(intent),
            payment_method=shape.public(method),
        )

    def _take(self, intent: Document, amount: int, reference: str, now_us: int) -> None:
        if amount:
            self._state.bank.capture(
                self._state.account,
                intent["id"],
                self._state.ids.new("cap_"),
                reference=reference,
                amount_minor=to_iso_minor(amount, intent["currency"].upper()),
                at_us=now_us,
            )
            intent["amount_received"] += amount
            intent["amount_capturable"] -= amount
            charge = self._documents.get(CHARGE, intent["latest_charge"])
            if charge is not None:
                charge["amount_captured"] = intent["amount_received"]
                charge["captured"] = True
                charge["balance_transaction"] = self._state.ids.new("txn_")
                self._documents.replace(CHARGE, charge, now_us)
        if not intent["amount_capturable"]:
            intent["status"] = "succeeded"

    def _give_back(self, intent: Document, reference: str, now_us: int) -> None:
        amount = intent["amount_capturable"]
        if amount:
            self._state.bank.release(
                self._state.account,
                intent["id"],
                self._state.ids.new("rel_"),
                reference=reference,
                amount_minor=to_iso_minor(amount, intent["currency"].upper()),
                at_us=now_us,
            )
            intent["amount_capturable"] = 0
        if intent["amount_received"]:
            intent["status"] = "succeeded"

    def _save(self, intent: Document, call: Call) -> None:
        self._documents.replace(PAYMENT_INTENT, intent, call.now_us)

    def _tell(self, intent: Document, call: Call) -> None:
        """Saves it, and sends a webhook about the status that it has come to."""
        self._save(intent, call)
        self._state.announce_intent(intent, call.key)

    # --- parameters -----------------------------------------------------------------------------------------

    def _amount(self, call: Call) -> tuple[int, str]:
        amount, code = call.integer("amount"), call.form.get("currency")
        for name, value in (("amount", amount), ("currency", code)):
            if value is None:
                raise shape.wrong(f"Missing required param: {name}.", name, "parameter_missing")
        currency = known_currency(str(code))
        if currency is None:
            raise shape.wrong(f"Invalid currency: {str(code)[:10]}.", "currency")
        if amount is None or amount < 1:
            raise shape.wrong(
                "This value must be greater than or equal to 1.", "amount", "parameter_invalid_integer"
            )
        if amount > AMOUNT_MAX:
            raise shape.wrong(f"Amount must be no more than {AMOUNT_MAX}.", "amount", "amount_too_large")
        self._rule(amount, currency, "amount")
        return amount, currency

    def _rule(self, amount: int, currency: str, param: str) -> None:
        broken = amount_rule_broken(amount, currency)
        if broken:
            raise shape.wrong(f"Invalid amount: {broken}.", param, "parameter_invalid_integer")

    def _choice(self, call: Call, name: str, allowed: tuple[str, ...], default: str) -> str:
        value = call.form.get(name, default)
        if value not in allowed:
            raise shape.wrong(f"Invalid {name}: must be one of {', '.join(allowed)}", name)
        return str(value)

    def _method(self, call: Call) -> Document | None:
        if "payment_method_data" in call.form:
            method = shape.card_method(
                call.form["payment_method_data"], self._state.ids.new("pm_"), call.now_s
            )
            self._documents.add(METHOD, method, call.now_us)
            return method
        id_ = call.form.get("payment_method")
        return None if id_ is None else self._state.method(str(id_), call.now_s)

    def _new(
        self,
        id_: str,
        call: Call,
        amount: int,
        currency: str,
        capture_method: str,
        confirmation: str,
        metadata: dict[str, str],
    ) -> Document:
        options: Any = call.form.get("payment_method_options") or {}
        card: Any = options.get("card") or {} if isinstance(options, dict) else {}
        automatic: Any = call.form.get("automatic_payment_methods")
        return {
            "id": id_,
            "object": PAYMENT_INTENT,
            "amount": amount,
            "amount_capturable": 0,
            "amount_received": 0,
            "automatic_payment_methods": {"enabled": automatic.get("enabled") == "true"}
            if automatic
            else None,
            "canceled_at": None,
            "cancellation_reason": None,
            "capture_method": capture_method,
            "client_secret": f"{id_}_secret_{self._state.ids.new('')}",
            "confirmation_method": confirmation,
            "created": call.now_s,
            "currency": currency.lower(),
            "customer": call.form.get("customer"),
            "description": call.form.get("description"),
            "last_payment_error": None,
            "latest_charge": None,
            "livemode": False,
            "metadata": metadata,
            "next_action": None,
            "payment_method": None,
            "payment_method_options": {"card": card} if card else {},
            "payment_method_types": call.form.get("payment_method_types") or ["card"],
            "processing": None,
            "receipt_email": call.form.get("receipt_email"),
            "setup_future_usage": call.form.get("setup_future_usage"),
            "shipping": None,
            "status": "requires_payment_method",
            "_multicapture": card.get("request_multicapture") == "if_available",
            "_authenticated": False,
            "_return_url": None,
            "_reference": "",
            "_payment_ref": "",
        }
