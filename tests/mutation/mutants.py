"""Which small changes are made to a module, one at a time. Pure: from source text to changed syntax trees, in a fixed order.

Left alone is what only people read (docstrings, annotations, log calls, the words of errors), and hints to the garbage
collector.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

_SWAPS: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.FloorDiv,),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,),
    ast.Mod: (ast.Mult,),
    ast.Pow: (ast.Mult,),
}
LARGE = 1_000
"""One more of so many would make no difference that matters; such a number is doubled."""
_WORDS = frozenset({"message", "hint"})
"""Keyword arguments that hold words for people."""
_SKIPPED_FIELDS = frozenset(
    {"annotation", "returns", "decorator_list", "type_params", "bases", "keywords_of_class"}
)


class Mutant(NamedTuple):
    """One change, by its place in the fixed order of its module's changes."""

    module: str
    number: int
    line: int
    kind: str
    before: str
    after: str


class Change(NamedTuple):
    """A change that is ready to be made to the tree that it was found in."""

    line: int
    kind: str
    before: str
    after: str
    make: Callable[[], None]


def mutants(module: str, source: str) -> list[Mutant]:
    """All mutants of a module, in order."""
    found = _changes(ast.parse(source))
    return [Mutant(module, at, one.line, one.kind, one.before, one.after) for at, one in enumerate(found)]


def mutated(source: str, number: int) -> ast.Module:
    """The module's syntax tree with that one change made."""
    tree = ast.parse(source)
    for at, change in enumerate(_changes(tree)):
        if at == number:
            change.make()
            return ast.fix_missing_locations(tree)
    raise LookupError(f"there is no change {number}")


def _changes(tree: ast.Module) -> list[Change]:
    return list(_visit(tree, words=False))


def _visit(node: ast.AST, words: bool) -> Iterator[Change]:
    """The changes in and below the children of a node; `words` where strings are for people."""
    words = words or isinstance(node, ast.Raise) or (isinstance(node, ast.keyword) and node.arg in _WORDS)
    for field, value in ast.iter_fields(node):
        if field in _SKIPPED_FIELDS:
            continue
        children = list(enumerate(value)) if isinstance(value, list) else [(None, value)]
        for index, child in children:
            if isinstance(child, ast.AST) and not _left_alone(child):
                place = _Place(node, field, index)
                yield from _changes_of(child, place, words)
                yield from _visit(child, words)


class _Place(NamedTuple):
    """Where a node hangs in the tree."""

    parent: ast.AST
    field: str
    index: int | None

    def put(self, node: ast.AST) -> None:
        if self.index is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.index] = node


def _left_alone(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr):
        if isinstance(node.value, ast.Constant):
            return True  # a docstring, of a module, class, function or field
        call = node.value
        return (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and isinstance(call.func.value, ast.Name)
            and call.func.value.id == "logger"
        )
    if isinstance(node, ast.keyword):
        return node.arg == "gc"
    if isinstance(node, ast.Assign):
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        return names in (["__all__"], ["__slots__"], ["logger"])
    return isinstance(node, ast.JoinedStr | ast.Import | ast.ImportFrom | ast.Global | ast.Nonlocal)


def _changes_of(node: ast.AST, place: _Place, words: bool) -> Iterator[Change]:
    for kind, new in _replacements(node, place, words):
        yield Change(
            line=getattr(node, "lineno", 0),
            kind=kind,
            before=_text(node),
            after=_text(new),
            make=lambda new=new: place.put(ast.copy_location(new, node)),  # type: ignore[misc]
        )


def _text(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())[:160]


def _replacements(node: ast.AST, place: _Place, words: bool) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(node, ast.Compare | ast.BoolOp | ast.BinOp | ast.AugAssign):
        yield from _swapped(node)
    elif isinstance(node, ast.Constant):
        yield from _constants(node.value, words)
    elif isinstance(node, ast.Return) and node.value is not None and not _is_no(node.value):
        yield "return", ast.Return(ast.Constant(None))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "not", node.operand
    elif isinstance(node, ast.Expr | ast.Raise):
        yield "left out", ast.Pass()
    elif isinstance(node, ast.Break | ast.Continue):
        yield "loop", ast.Continue() if isinstance(node, ast.Break) else ast.Break()
    if place.field == "test" and isinstance(node, ast.expr) and not _has_own(node):
        yield "condition", ast.UnaryOp(ast.Not(), node)


def _swapped(node: ast.Compare | ast.BoolOp | ast.BinOp | ast.AugAssign) -> Iterator[tuple[str, ast.AST]]:
    operator = node.ops[0] if isinstance(node, ast.Compare) else node.op
    for swap in _SWAPS.get(type(operator), ()):
        new: Any = swap()
        if isinstance(node, ast.Compare):
            yield "comparison", ast.Compare(node.left, [new, *node.ops[1:]], node.comparators)
        elif isinstance(node, ast.BoolOp):
            yield "and/or", ast.BoolOp(new, node.values)
        elif isinstance(node, ast.BinOp):
            yield "arithmetic", ast.BinOp(node.left, new, node.right)
        else:
            yield "arithmetic", ast.AugAssign(node.target, new, node.value)


def _constants(value: Any, words: bool) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(value, bool):
        yield "constant", ast.Constant(not value)
    elif isinstance(value, int | float):
        yield "constant", ast.Constant(value + 1 if value < LARGE else value * 2)
    elif isinstance(value, str) and not words:
        yield "constant", ast.Constant(value + "~" if value else "~")


def _is_no(node: ast.AST) -> bool:
    """None, or False: who asks a function of this code whether something is so takes None for no."""
    return isinstance(node, ast.Constant) and (node.value is None or node.value is False)


def _has_own(node: ast.expr) -> bool:
    """Whether a condition's own operator is changed already."""
    return isinstance(node, ast.Compare | ast.BoolOp | ast.Constant) or (
        isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
    )
