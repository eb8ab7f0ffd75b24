"""A small GraphQL: reads a document, and picks out of plain data what its selections ask for.

It knows no schema and no resolver: a value that is a function is called with the field's arguments. Fields that the data
does not hold come back as null.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

DEPTH_MAX = 30
_TOKEN = re.compile(
    r'[\s,\ufeff]+|#[^\n]*|(\.\.\.|[!$()\[\]{}:=@|&]|[_A-Za-z]\w*|-?\d[\d.eE+-]*|"(?:[^"\\\n]|\\.)*")'
)


class QueryError(Exception):
    """The document cannot be read."""


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """A field, an inline fragment, or the spread of a named one (which has neither a name nor selections)."""

    name: str = ""
    alias: str = ""
    arguments: dict[str, Any] = msgspec.field(default_factory=dict)
    on: str = ""
    spread: str = ""
    selections: tuple[Selection, ...] = ()


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    kind: str
    """`query` or `mutation`."""
    name: str
    selections: tuple[Selection, ...]


class Variable(msgspec.Struct, frozen=True):
    """A place in the arguments that a variable fills."""

    name: str


def parse(text: str) -> tuple[list[Operation], dict[str, Selection]]:
    """The operations, and the named fragments."""
    reader = _Reader(text)
    operations: list[Operation] = []
    fragments: dict[str, Selection] = {}
    while not reader.at_end():
        if reader.peek() == "fragment":
            reader.take("fragment")
            name = reader.name()
            reader.take("on")
            fragments[name] = Selection(on=reader.name(), selections=reader.selections())
        elif reader.peek() == "{":
            operations.append(Operation(kind="query", name="", selections=reader.selections()))
        else:
            kind = reader.name()
            if kind not in ("query", "mutation"):
                raise QueryError(f"'{kind}' is no operation")
            name = "" if reader.peek() in ("(", "{", "@") else reader.name()
            reader.skip_variables()
            operations.append(Operation(kind=kind, name=name, selections=reader.selections()))
    return operations, fragments


class _Reader:
    def __init__(self, text: str) -> None:
        self._tokens: list[str] = []
        self._next = 0
        self._depth = 0
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise QueryError(f"Syntax error at character {position}")
            if match[1] is not None:
                self._tokens.append(match[1])
            position = match.end()

    def at_end(self) -> bool:
        return self._next >= len(self._tokens)

    def peek(self) -> str:
        return "" if self.at_end() else self._tokens[self._next]

    def take(self, wanted: str = "") -> str:
        token = self.peek()
        if not token or (wanted and token != wanted):
            raise QueryError(f"Syntax error: expected {wanted or 'more'}, found {token or 'the end'}")
        self._next += 1
        return token

    def name(self) -> str:
        token = self.take()
        if not (token[0].isalpha() or token[0] == "_"):
            raise QueryError(f"Syntax error: {token} is no name")
        return token

    def skip_variables(self) -> None:
        """The variables' declarations say nothing that their values do not."""
        if self.peek() != "(":
            return
        while self.take() != ")":
            pass

    def selections(self) -> tuple[Selection, ...]:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise QueryError("The document is too deep")
        self.take("{")
        found: list[Selection] = []
        while self.peek() != "}":
            found.append(self._selection())
        self.take("}")
        self._depth -= 1
        return tuple(found)

    def _selection(self) -> Selection:
        if self.peek() == "...":
            self.take()
            if self.peek() == "on":
                self.take()
                return Selection(on=self.name(), selections=self.selections())
            if self.peek() == "{":
                return Selection(selections=self.selections())
            return Selection(spread=self.name())
        alias = name = self.name()
        if self.peek() == ":":
            self.take()
            name = self.name()
        arguments: dict[str, Any] = {}
        if self.peek() == "(":
            self.take()
            while self.peek() != ")":
                key = self.name()
                self.take(":")
                arguments[key] = self._value()
            self.take(")")
        inner = self.selections() if self.peek() == "{" else ()
        return Selection(name=name, alias=alias, arguments=arguments, selections=inner)

    def _value(self) -> Any:
        piece = self.take()
        if piece == "$":
            return Variable(self.name())
        if piece == "[":
            items: list[Any] = []
            while self.peek() != "]":
                items.append(self._value())
            self.take("]")
            return items
        if piece == "{":
            found: dict[str, Any] = {}
            while self.peek() != "}":
                key = self.name()
                self.take(":")
                found[key] = self._value()
            self.take("}")
            return found
        if piece[0] == '"':
            return msgspec.json.decode(piece)
        if piece in ("true", "false", "null"):
            return {"true": True, "false": False, "null": None}[piece]
        return int(piece) if re.fullmatch(r"-?\d+", piece) else piece


def filled(value: Any, variables: Mapping[str, Any]) -> Any:
    """The arguments with the variables' values in their places; what has no value is left out."""
    if isinstance(value, Variable):
        return variables.get(value.name)
    if isinstance(value, list):
        return [filled(item, variables) for item in value]
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if not isinstance(v, Variable) or v.name in variables}
        return {key: filled(item, variables) for key, item in kept.items()}
    return value


def pick(
    data: Any,
    selections: tuple[Selection, ...],
    fragments: Mapping[str, Selection],
    variables: Mapping[str, Any],
    kinds: Mapping[str, frozenset[str]],
) -> Any:
    """What the selections ask for of this data. `kinds`: the interfaces and unions that a type belongs to."""
    if isinstance(data, list):
        return [pick(item, selections, fragments, variables, kinds) for item in data]
    if data is None or not selections:
        return data
    type_ = str(data.get("__typename", ""))
    found: dict[str, Any] = {}
    for one in selections:
        if one.name:
            value = data.get(one.name)
            if callable(value):
                value = value(filled(one.arguments, variables))
            found[one.alias] = pick(value, one.selections, fragments, variables, kinds)
            continue
        fragment = fragments.get(one.spread) if one.spread else one
        if fragment is None:
            raise QueryError(f"Unknown fragment {one.spread}")
        if not fragment.on or fragment.on == type_ or fragment.on in kinds.get(type_, ()):
            found.update(pick(data, fragment.selections, fragments, variables, kinds))
    return found
