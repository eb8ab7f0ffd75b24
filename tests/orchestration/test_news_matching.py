"""Which operation a PSP's news is about: our id first, then the PSP's, then the attempt at that PSP payment."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from aegispay.domain.events import CaptureMode, OperationKind
from aegispay.domain.payment import Operation, OperationStatus, Payment
from aegispay.gateways.webhooks import GatewayEvent
from aegispay.orchestration.inbound import _operation_of
from tests.unit.domain_explorer import initiate

K = OperationKind


def operation(name: str, kind: K, reference: str | None, attempt: int = 0) -> Operation:
    return Operation(
        id=name,
        kind=kind,
        status=OperationStatus.APPROVED,
        gateway="alpha",
        amount_minor=100,
        gateway_key=name,
        started_at_us=1,
        reference=reference,
        attempt=attempt,
    )


PAYMENT: Payment = replace(
    initiate(CaptureMode.MANUAL).payment,
    operations=(
        operation("op_first", K.AUTHORIZE, "psp_1", attempt=1),
        operation("op_second", K.AUTHORIZE, "psp_2", attempt=2),
        operation("op_confirm", K.CONFIRM, "psp_2"),
        operation("op_capture", K.CAPTURE, "psp_2"),
        operation("op_part", K.CAPTURE, "cap_2"),
        operation("op_refund", K.REFUND, "re_1"),
    ),
)


@pytest.mark.parametrize(
    ("news", "found"),
    [
        ({"operation_id": "op_first"}, "op_first"),
        ({"operation_id": "op_refund", "kind": K.REFUND}, "op_refund"),
        ({"operation_id": "op_refund", "kind": K.CAPTURE}, None),
        ({"operation_id": "op_refund", "kind": K.CAPTURE, "reference": "cap_2"}, "op_part"),
        ({"operation_id": "op_confirm", "kind": K.AUTHORIZE}, "op_confirm"),
        ({"operation_id": "op_confirm", "kind": K.CHARGE}, "op_confirm"),
        ({"operation_id": "op_unknown"}, None),
        ({"reference": "re_1"}, "op_refund"),
        ({"reference": "psp_2"}, "op_capture"),
        ({"reference": "psp_2", "kind": K.CAPTURE}, "op_capture"),
        ({"reference": "psp_2", "kind": K.AUTHORIZE}, "op_confirm"),
        ({"reference": "psp_1", "kind": K.AUTHORIZE}, "op_first"),
        ({"reference": "psp_1", "kind": K.CAPTURE}, None),
        ({"payment_reference": "psp_1", "kind": K.AUTHORIZE}, "op_first"),
        ({"payment_reference": "psp_2", "kind": K.CHARGE}, "op_second"),
        ({"payment_reference": "psp_2", "kind": K.CAPTURE}, None),
        ({"payment_reference": "psp_2"}, None),
        ({"payment_reference": "psp_9", "kind": K.AUTHORIZE}, None),
        ({"payment_reference": "cap_2", "kind": K.AUTHORIZE}, None),
        ({"reference": "psp_9", "payment_reference": "psp_1", "kind": K.AUTHORIZE}, "op_first"),
        ({}, None),
    ],
)
def test_the_operation_is_found(news: dict[str, Any], found: str | None) -> None:
    event = GatewayEvent(id="evt_1", type="t", at_us=0, **news)
    operation = _operation_of(PAYMENT, event, "alpha")
    assert (operation.id if operation else None) == found
    assert _operation_of(PAYMENT, event, "beta") is None


def test_two_gateways_may_use_the_same_names() -> None:
    there = replace(PAYMENT.operations[0], id="op_there", gateway="beta")
    both = replace(PAYMENT, operations=(*PAYMENT.operations, there))
    event = GatewayEvent(id="evt_1", type="t", at_us=0, reference="psp_1", kind=K.AUTHORIZE)
    found = [_operation_of(both, event, gateway) for gateway in ("alpha", "beta")]
    assert [one.id for one in found if one] == ["op_first", "op_there"]
