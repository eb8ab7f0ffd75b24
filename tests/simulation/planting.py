"""Plants a bug in the running code, in memory only: a fragment of one function's source is replaced, and put back after.

A mutation whose fragment is not there any more fails loudly: a planted bug that is not planted proves nothing.
"""

from __future__ import annotations
import __future__

import importlib
import inspect
import sys
import textwrap
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, NamedTuple


class Mutation(NamedTuple):
    """One change: in `module:function`, or in the constant `module:NAME`."""

    target: str
    old: str
    new: str


class Planted(NamedTuple):
    """A named bug, and the mode of the simulation that must find it."""

    why: str
    changes: tuple[Mutation, ...]
    mode: str = "normal"


def _find(target: str) -> tuple[Any, Any, str]:
    module_name, _, path = target.partition(":")
    module = importlib.import_module(f"aegispay.{module_name}")
    owner: Any = module
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    return module, owner, name


def _replaced(source: str, mutation: Mutation) -> str:
    if source.count(mutation.old) != 1:
        raise LookupError(
            f"{mutation.target}: {mutation.old!r} stands there {source.count(mutation.old)} times"
        )
    return source.replace(mutation.old, mutation.new)


def _mutated(module: Any, owner: Any, name: str, mutation: Mutation) -> Any:
    found = vars(owner)[name]
    if isinstance(found, str):
        return _replaced(found, mutation)
    function = found.fget if isinstance(found, property) else found
    # A function that was mutated before has its source with it: `inspect` would read the file.
    source = getattr(function, "__source__", None) or textwrap.dedent(inspect.getsource(function))
    source = _replaced(source, mutation)
    flags = __future__.annotations.compiler_flag
    made: dict[str, Any] = {}
    exec(compile(source, f"<planted in {mutation.target}>", "exec", flags=flags), vars(module), made)
    (result,) = made.values()
    if not isinstance(result, property):
        result.__source__ = source
    return result


def _modules() -> list[Any]:
    return [one for one in list(sys.modules.values()) if getattr(one, "__name__", "").startswith("aegispay")]


@contextmanager
def planted(bug: Planted) -> Generator[None, None, None]:
    """Within it, the bug is in the code. Functions are replaced wherever they were imported to, or stand in a table."""
    undo: list[tuple[Any, str, Any]] = []
    listed: list[tuple[dict[Any, Any], Any, Any]] = []
    try:
        for mutation in bug.changes:
            module, owner, name = _find(mutation.target)
            before = vars(owner)[name]
            after = _mutated(module, owner, name, mutation)
            places = [(owner, name)]
            if owner is module:
                ours = [
                    (other, key, value) for other in _modules() for key, value in list(vars(other).items())
                ]
                places = [
                    (other, key)
                    for other, key, value in ours
                    if value is before and not (isinstance(value, str) and other is not module)
                ]
                tables = [value for _, _, value in ours if isinstance(value, dict) and callable(before)]
                for table in tables:
                    for key in [key for key, value in table.items() if value is before]:
                        listed.append((table, key, before))
                        table[key] = after
            for place, key in places:
                undo.append((place, key, before))
                setattr(place, key, after)
        yield
    finally:
        for table, key, before in reversed(listed):
            table[key] = before
        for place, key, before in reversed(undo):
            setattr(place, key, before)
