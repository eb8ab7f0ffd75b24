"""Events of every released schema version stay readable.

The golden streams in tests/golden are never edited: each is the life of a payment as some version wrote it, one
event a line, and last the projection that the fold must give. `python -m tests.unit.test_upcast` adds streams for
lives that have none.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aegispay.domain.errors import CorruptEvent
from aegispay.domain.events import SCHEMA_VERSION, TYPE_OF, Event, PaymentFailed, encode_data
from aegispay.domain.evolve import fold
from aegispay.domain.outcomes import DeclineCategory
from aegispay.domain.payment import decode_payment, encode_payment
from aegispay.domain.upcast import UPCASTERS, Upcaster, read_data
from tests.unit.domain_lives import lives

GOLDEN = Path(__file__).parents[1] / "golden"
STREAMS = sorted(GOLDEN.glob("v*/*.jsonl"))


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _event(row: dict[str, Any]) -> Event:
    meta = {key: value for key, value in row.items() if key != "data"}
    return Event(data=read_data(json.dumps(row["data"]), row["schema_version"]), **meta)


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_golden_stream_folds_to_its_projection(path: Path) -> None:
    *rows, last = _lines(path)
    payment = fold(_event(row) for row in rows)
    assert json.loads(encode_payment(payment)) == last["projection"]
    assert decode_payment(json.dumps(last["projection"])) == payment


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_golden_stream_of_the_current_version_is_written_the_same_today(path: Path) -> None:
    for row in _lines(path)[:-1]:
        if row["schema_version"] == SCHEMA_VERSION:
            assert json.loads(encode_data(_event(row).data)) == row["data"]


def test_every_event_type_of_the_current_version_has_a_golden_line() -> None:
    written = {
        row["data"]["type"]
        for path in STREAMS
        for row in _lines(path)[:-1]
        if row["schema_version"] == SCHEMA_VERSION
    }
    assert sorted(set(TYPE_OF.values()) - written) == []


def test_every_field_of_every_event_type_is_held_by_a_golden_line() -> None:
    """A field that is renamed or retyped would otherwise go unnoticed."""
    written: dict[str, set[str]] = {name: set() for name in TYPE_OF.values()}
    for path in STREAMS:
        for row in _lines(path)[:-1]:
            written[row["data"]["type"]] |= set(row["data"])
    missing = {
        f"{name}.{field.encode_name}"
        for kind, name in TYPE_OF.items()
        for field in msgspec.structs.fields(kind)
        if field.encode_name not in written[name]
    }
    assert sorted(missing) == []


def test_a_released_version_has_golden_streams_and_its_upcasters_end_at_the_current_one() -> None:
    assert {path.parent.name for path in STREAMS} == {
        f"v{version}" for version in range(1, SCHEMA_VERSION + 1)
    }
    assert all(version < SCHEMA_VERSION for _kind, version in UPCASTERS)


# --- upcasting itself -----------------------------------------------------------------------------------------

OLD = b'{"type":"payment_failed","code":"no","kind":"SOFT"}'
NEW = PaymentFailed(code="no", category=DeclineCategory.SOFT, message="two steps")


def _rename(plain: dict[str, Any]) -> dict[str, Any]:
    category = plain.pop("kind")
    return {**plain, "category": category.lower()}


def _explain(plain: dict[str, Any]) -> dict[str, Any]:
    return {**plain, "message": "two steps"}


TABLE: dict[tuple[str, int], Upcaster] = {("payment_failed", 1): _rename, ("payment_failed", 2): _explain}


def test_old_data_is_brought_up_step_by_step() -> None:
    assert read_data(OLD, 1, upcasters=TABLE, current=3) == NEW
    middle = b'{"type":"payment_failed","code":"no","category":"soft"}'
    assert read_data(middle, 2, upcasters=TABLE, current=3) == NEW


def test_current_data_passes_no_upcaster() -> None:
    assert read_data(encode_data(NEW), 3, upcasters=TABLE, current=3) == NEW


def test_a_type_without_an_upcaster_did_not_change() -> None:
    gap = {("payment_failed", 2): _explain}
    assert (
        read_data(b'{"type":"payment_failed","code":"no","category":"soft"}', 1, upcasters=gap, current=3)
        == NEW
    )


def test_an_upcaster_may_give_the_type_another_name() -> None:
    table: dict[tuple[str, int], Upcaster] = {
        ("payment_lost", 1): lambda plain: {**plain, "type": "payment_failed"},
        ("payment_failed", 2): _explain,
    }
    assert (
        read_data(b'{"type":"payment_lost","code":"no","category":"soft"}', 1, upcasters=table, current=3)
        == NEW
    )


@pytest.mark.parametrize(
    ("raw", "version", "word"),
    [
        (b"{}", SCHEMA_VERSION, "cannot be read"),
        (b"\xff\xfe", SCHEMA_VERSION, "cannot be read"),
        (b"[1]", SCHEMA_VERSION, "cannot be read"),
        (b'{"type":"unheard_of"}', SCHEMA_VERSION, "cannot be read"),
        (b'{"type":"payment_failed","code":7,"category":"soft"}', SCHEMA_VERSION, "cannot be read"),
        (encode_data(NEW), SCHEMA_VERSION + 1, "newer than this AegisPay"),
        (encode_data(NEW), 0, "never was"),
    ],
)
def test_data_that_cannot_be_read_is_refused(raw: bytes, version: int, word: str) -> None:
    with pytest.raises(CorruptEvent, match=word):
        read_data(raw, version)


def test_an_upcaster_that_misses_a_field_is_a_corrupt_event_and_not_a_crash() -> None:
    with pytest.raises(CorruptEvent):
        read_data(b'{"type":"payment_failed","code":"no"}', 1, upcasters=TABLE, current=3)
    with pytest.raises(CorruptEvent):
        read_data(b"[]", 1, upcasters=TABLE, current=3)


def _write_missing() -> None:
    folder = GOLDEN / f"v{SCHEMA_VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    for life, reached in lives().items():
        path = folder / f"{life.replace(', ', '-').replace(' ', '_')}.jsonl"
        if not path.exists():
            rows = [json.dumps(msgspec.to_builtins(event), separators=(",", ":")) for event in reached.events]
            projection = json.dumps(
                {"projection": json.loads(encode_payment(reached.payment))}, separators=(",", ":")
            )
            path.write_text("\n".join([*rows, projection]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    _write_missing()
