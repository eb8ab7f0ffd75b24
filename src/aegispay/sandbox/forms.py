"""Reads `application/x-www-form-urlencoded` with nested brackets, as Stripe's wire protocol has it."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

Form = dict[str, Any]

_NAME = re.compile(r"[^\[\]]+|\[[^\[\]]*\]")
DEPTH_MAX = 8
FIELDS_MAX = 1000


class BadForm(ValueError):
    """The form cannot be read."""


def decode_form(raw: str) -> Form:
    """Text to nested dictionaries and lists: `a[b]=1&c[]=2&d[0][e]=3`. Raises `BadForm`."""
    try:
        pairs = parse_qsl(raw, keep_blank_values=True, strict_parsing=bool(raw), max_num_fields=FIELDS_MAX)
    except ValueError as error:
        raise BadForm(str(error)) from None
    root: Form = {}
    for name, value in pairs:
        parts = [part[1:-1] if part.startswith("[") else part for part in _NAME.findall(name)]
        if not parts or not parts[0] or len(parts) > DEPTH_MAX:
            raise BadForm(f"the name {name[:60]!r} cannot be read")
        _put(root, parts, value)
    return {name: _lists(value) for name, value in root.items()}


def _put(root: Form, parts: list[str], value: str) -> None:
    here = root
    for part in parts[:-1]:
        below = here.setdefault(part or str(len(here)), {})
        if not isinstance(below, dict):
            raise BadForm(f"{part[:60]!r} is both a value and a group")
        here = below
    last = parts[-1]
    here[last or str(len(here))] = value


def _lists(value: Any) -> Any:
    """A group whose names are 0, 1, 2, ... is a list."""
    if not isinstance(value, dict):
        return value
    below = {name: _lists(one) for name, one in value.items()}
    if below and all(name == str(index) for index, name in enumerate(below)):
        return list(below.values())
    return below
