"""What a field means where it is left out.

Events and projections leave out what is usual, so a default is part of the stored format: another one would change what
is already in the tables. Adapters and callers rely on those of outcomes and commands.
"""

from __future__ import annotations

import importlib
from typing import Any

import msgspec
import pytest

DEFAULTS: dict[str, dict[str, dict[str, Any]]] = {
    "events": {
        "PaymentInitiated": {"customer_id": None, "description": None, "return_url": None, "metadata": {}},
        "OperationStarted": {
            "attempt": 0,
            "parent_id": None,
            "token": None,
            "final": True,
            "reason": None,
            "action_data": {},
            "compensates": False,
            "capture_id": None,
        },
        "OperationApproved": {"expires_at_us": None, "evidence": "reply"},
        "OperationDeclined": {"message": "", "gateway_code": "", "reference": None, "evidence": "reply"},
        "OperationNotSent": {"evidence": "reply"},
        "OperationUndone": {"evidence": "webhook"},
        "OperationPending": {"reference": None},
        "PaymentFailed": {"message": ""},
        "ReviewRequested": {"operation_id": None, "until_evidence": False},
        "LateSuccessFound": {"evidence": "lookup"},
        "DisputeOpened": {"reason": ""},
        "DisputeClosed": {"amount_minor": None},
        "Event": {"schema_version": 1},
    },
    "payment": {
        "Operation": {
            "attempt": 0,
            "parent_id": None,
            "reference": None,
            "token": None,
            "final": True,
            "reason": None,
            "code": None,
            "category": None,
            "message": None,
            "next_action": None,
            "action_data": {},
            "compensates": False,
            "capture_id": None,
            "undone": False,
            "taken_minor": 0,
            "concluded_version": 0,
        },
        "Failure": {"message": ""},
        "Payment": {
            "candidates": (),
            "request_hash": "",
            "customer_id": None,
            "description": None,
            "return_url": None,
            "metadata": {},
            "authorized_minor": 0,
            "captured_minor": 0,
            "refunded_minor": 0,
            "released_minor": 0,
            "operations": (),
            "failure": None,
            "ended": None,
            "review": None,
            "review_until_evidence": False,
            "disputes_open": (),
            "disputes_closed": (),
            "disputes_lost": {},
            "expires_at_us": None,
            "answered_version": 0,
        },
    },
    "methods": {
        "MethodSnapshot": {
            "type": "token",
            "token": None,
            "brand": None,
            "last4": None,
            "expiry_month": None,
            "expiry_year": None,
        },
        "Token": {"by_gateway": {}},
    },
    "outcomes": {
        "NextAction": {"type": "redirect", "url": None, "data": {}},
        "Approved": {"expires_at_us": None},
        "Declined": {"message": "", "gateway_code": "", "reference": None},
        "Pending": {"reference": None, "reason": "processing"},
        "NotSent": {"retry_after_s": None},
        "InDoubt": {"retry_after_s": None},
    },
    "commands": {
        "Initiate": {"customer_id": None, "description": None, "return_url": None, "metadata": {}},
        "StartAttempt": {"token": None},
        "RecordOutcome": {"evidence": "reply", "will_try_next": False, "word": ""},
        "StartConfirm": {"action_data": {}},
        "StartCapture": {"amount_minor": None, "final": True},
        "StartVoid": {"reason": None},
        "StartRefund": {"amount_minor": None, "reason": None},
        "RecordExternalRefund": {"evidence": "webhook", "capture_id": None, "once": False},
        "RecordExternalVoid": {"evidence": "webhook"},
        "RecordExternalCapture": {"evidence": "webhook", "final": False, "once": False},
        "RecordUndone": {"evidence": "webhook"},
        "RequestReview": {"operation_id": None},
        "CloseReview": {"operation_id": None},
        "OpenDispute": {"reason": ""},
        "CloseDispute": {"amount_minor": 0},
    },
    "money": {},
}


def defaults(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """Every field that may be left out, with what it then is."""
    found: dict[str, Any] = {}
    for field in msgspec.structs.fields(struct):
        if field.default is not msgspec.NODEFAULT:
            found[field.name] = field.default
        elif field.default_factory is not msgspec.NODEFAULT:
            found[field.name] = field.default_factory()
    return found


@pytest.mark.parametrize("module", DEFAULTS)
def test_what_is_left_out_means_what_it_always_meant(module: str) -> None:
    code = importlib.import_module(f"aegispay.domain.{module}")
    structs = {
        name: defaults(struct)
        for name, struct in vars(code).items()
        if isinstance(struct, type)
        and issubclass(struct, msgspec.Struct)
        and struct.__module__ == code.__name__
    }
    assert {name: found for name, found in structs.items() if found} == DEFAULTS[module]


def test_the_events_and_projections_leave_out_what_is_usual() -> None:
    for name in ("events", "payment"):
        code = importlib.import_module(f"aegispay.domain.{name}")
        for struct in DEFAULTS[name]:
            assert struct == "Event" or getattr(code, struct).__struct_config__.omit_defaults, struct
