"""Reads events of every released schema version.

An upcaster turns the plain data of one (type, schema version) into the next version's. Register one in
`UPCASTERS` whenever the shape of an event changes; the golden streams in the tests hold every version.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from aegispay.domain.errors import CorruptEvent
from aegispay.domain.events import SCHEMA_VERSION, EventData, decode_data

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

UPCASTERS: dict[tuple[str, int], Upcaster] = {}
"""(type, version) to the function that brings it to version + 1. Types without an entry did not change."""


def read_data(
    raw: bytes | str,
    schema_version: int,
    *,
    upcasters: Mapping[tuple[str, int], Upcaster] = UPCASTERS,
    current: int = SCHEMA_VERSION,
) -> EventData:
    """Event data from its stored JSON, brought up to the current schema version.

    Raises `CorruptEvent` for data that cannot be read, or that a newer version of AegisPay wrote.
    """
    if schema_version > current:
        raise CorruptEvent(f"an event has schema version {schema_version}, newer than this AegisPay reads.")
    if schema_version < 1:
        raise CorruptEvent(f"an event has schema version {schema_version}, which never was.")
    try:
        if schema_version == current:
            return decode_data(raw)
        plain = msgspec.json.decode(raw, type=dict[str, Any])
        for version in range(schema_version, current):
            step = upcasters.get((str(plain.get("type")), version))
            plain = step(plain) if step else plain
        data: EventData = msgspec.convert(plain, EventData)
        return data
    except (msgspec.MsgspecError, LookupError, TypeError, ValueError) as error:
        raise CorruptEvent(f"an event of schema version {schema_version} cannot be read: {error}") from None
