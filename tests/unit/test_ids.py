"""Public ids sort by time, carry their partition, and are never guessed at."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegispay.domain import ids
from aegispay.domain.errors import InvalidRequest, PaymentNotFound
from aegispay.ports import SystemIds

HEX = "0123456789abcdef0123456789abcdef"


@given(st.uuids(), st.integers(0, 255))
def test_a_payment_id_carries_its_partition_and_keeps_the_rest(uuid: Any, partition: int) -> None:
    made = ids.payment_id(uuid.hex, partition)
    assert ids.check_payment_id(made) == made
    assert ids.partition_of(made) == partition
    assert ids.to_bytes(made)[:15] == uuid.bytes[:15]
    assert len(made) == 36


def test_new_ids_rise() -> None:
    made = [ids.payment_id(SystemIds().new_hex(), 7) for _ in range(200)]
    assert made == sorted(made)
    assert len(set(made)) == 200


def test_stored_bytes_are_sixteen_for_each_kind_of_id() -> None:
    for prefix in (ids.PAYMENT, ids.OPERATION, ids.EVENT):
        assert ids.to_bytes(prefix + HEX) == bytes.fromhex(HEX)


def test_upper_case_digits_name_the_same_payment() -> None:
    assert ids.check_payment_id("pay_" + HEX.upper()) == "pay_" + HEX


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "pay_",
            HEX,
            "op_" + HEX,
            "PAY_" + HEX,
            "pay_" + HEX[:-1],
            "pay_" + HEX + "0",
            "pay_" + HEX + "\n",
        ),
        *(
            "pay_" + "g" * 32,
            "pay_" + "ab " * 10 + "ab",
            "pay_" + "1 " * 16,
            "pay_" + "٣" * 32,
            pytest.param("x" * 100_000, id="long"),
        ),
    ],
)
def test_what_no_payment_can_be_called_is_not_found(text: str) -> None:
    """Blanks among the digits too, which `bytes.fromhex` would skip."""
    with pytest.raises(PaymentNotFound) as caught:
        ids.check_payment_id(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("value", [None, 7, b"pay_" + HEX.encode()])
def test_an_id_is_text(value: Any) -> None:
    with pytest.raises(InvalidRequest):
        ids.check_payment_id(value)
