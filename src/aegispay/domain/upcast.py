"""Reads events of every released schema version.

An upcaster turns the plain data of one (type, schema version) into the next version's. Register one in `UPCASTERS`
whenever the shape of an event changes; the golden streams in the tests hold every released version.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from aegispay.domain.errors import CorruptEvent
from aegispay.domain.events import SCHEMA_VERSION, EventData, decode_data

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

UPCASTERS: dict[tuple[str, int], Upcaster] = {}
"""(type, version) to the function that brings it to version + 1. Types without an entry did not change."""


def read_data(
    raw: bytes | str, schema_version: int, upcasters: dict[tuple[str, int], Upcaster] | None = None
) -> EventData:
    """Event data from its stored JSON, brought up to the current schema version.

    Raises `CorruptEvent` for data that cannot be read, or that a newer version of AegisPay wrote.
    """
    table = UPCASTERS if upcasters is None else upcasters
    if schema_version > SCHEMA_VERSION + (len(table) if upcasters is not None else 0):
        raise CorruptEvent(f"an event has schema version {schema_version}, newer than this AegisPay reads.")
    try:
        if not table or schema_version == SCHEMA_VERSION and upcasters is None:
            return decode_data(raw)
        plain: dict[str, Any] = msgspec.json.decode(raw)
        version = schema_version
        while step := table.get((str(plain.get("type")), version)):
            plain = step(plain)
            version += 1
        return decode_data(msgspec.json.encode(plain))
    except msgspec.MsgspecError as error:
        raise CorruptEvent(f"an event of schema version {schema_version} cannot be read: {error}") from None
