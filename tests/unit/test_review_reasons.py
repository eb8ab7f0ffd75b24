"""Every reason for which the code asks a person stands in the guide, and the guide tells of no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "aegispay"
GUIDE = ROOT / "docs" / "guides" / "reviews.md"
ASKED_BY = {
    "ReviewRequested": 0,
    "RequestReview": 0,
    "ask_a_person": 3,
    "_ask": 0,
    "ask_person": 1,
    "ask_about_news": 1,
}
"""What asks a person, and which of its arguments is the reason, where it is not named so."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Code(NamedTuple):
    """The layers that decide: their modules' constants, and their functions by name."""

    constants: dict[str, ast.expr]
    functions: dict[str, list[Function]]


@pytest.fixture(scope="module")
def code() -> Code:
    paths = [path for layer in ("domain", "orchestration") for path in SOURCE.glob(f"{layer}/*.py")]
    trees = [ast.parse(path.read_text()) for path in paths]
    constants = {
        target.id: one.value
        for tree in trees
        for one in tree.body
        if isinstance(one, ast.Assign)
        for target in one.targets
        if isinstance(target, ast.Name)
    }
    functions: dict[str, list[Function]] = {}
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, Function):
                functions.setdefault(node.name, []).append(node)
    return Code(constants, functions)


def _beginnings(node: ast.expr | None, within: Function, code: Code) -> Iterator[str]:
    """How a reason may begin; "" for one that is handed through from where it is looked at anyhow."""
    match node:
        case ast.Constant(value=None):
            return
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=[ast.Constant(value=str(text)), *_]):
            yield text
        case ast.JoinedStr(values=[ast.FormattedValue(value=first), *_]):
            yield from _beginnings(first, within, code)
        case ast.IfExp(body=one, orelse=other):
            yield from _beginnings(one, within, code)
            yield from _beginnings(other, within, code)
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            for function in code.functions.get(name, []):
                for one in ast.walk(function):
                    if isinstance(one, ast.Return):
                        yield from _beginnings(one.value, function, code)
        case ast.Name(id=name):
            yield from _named(name, within, code)
        case ast.Attribute(attr="reason"):
            yield ""
        case _:
            return


def _named(name: str, within: Function, code: Code) -> Iterator[str]:
    assigned = [
        one.value
        for one in ast.walk(within)
        if isinstance(one, ast.Assign)
        and any(isinstance(part, ast.Name) and part.id == name for part in one.targets)
    ]
    if assigned:
        for value in assigned:
            yield from _beginnings(value, within, code)
    elif any(argument.arg == name for argument in within.args.args):
        yield ""
    else:
        yield from _beginnings(code.constants.get(name), within, code)


def _reasons(code: Code) -> set[str]:
    """Raises where a person is asked for a reason that cannot be read from the source."""
    found: set[str] = set()
    for function in [one for same in code.functions.values() for one in same]:
        for call in ast.walk(function):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name | ast.Attribute):
                continue
            name = call.func.id if isinstance(call.func, ast.Name) else call.func.attr
            if name not in ASKED_BY:
                continue
            named = [one.value for one in call.keywords if one.arg == "reason"]
            reason = named[0] if named else call.args[ASKED_BY[name]]
            texts = set(_beginnings(reason, function, code))
            assert texts, f"{ast.unparse(call)} asks for a reason that this test cannot read"
            found |= texts
    return {text.rstrip(": ") for text in found} - {""}


def _told() -> list[str]:
    """The first column of the guide's tables."""
    return re.findall(r"^\| `([^`]+)` \|", GUIDE.read_text(), re.MULTILINE)


def test_every_reason_in_the_source_is_explained_once(code: Code) -> None:
    reasons = _reasons(code)
    assert {"in doubt for", "succeeded_after_doubt", "undone", "reversal_refused"} < reasons
    told = _told()
    assert {text: sum(row.startswith(text) for row in told) for text in reasons} == dict.fromkeys(reasons, 1)


def test_the_guide_explains_no_reason_that_nothing_gives(code: Code) -> None:
    reasons = _reasons(code)
    assert [row for row in _told() if not any(row.startswith(text) for text in reasons)] == []


def test_the_states_page_and_the_configuration_lead_to_the_guide() -> None:
    for page in ("states.md", "configuration.md"):
        assert "guides/reviews.md" in (ROOT / "docs" / page).read_text()
