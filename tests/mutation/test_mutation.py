"""The mutation testing itself: which changes it makes, and that what is kept of its result fits the code."""

from __future__ import annotations

import ast
import json

import pytest

from tests.mutation.__main__ import HERE, SCORE_MIN, interval
from tests.mutation.mutants import mutants, mutated

SOURCE = '''
"""Words."""
LIMIT: int = 2
BIG = 5_000

class Value(Struct, frozen=True, gc=False):
    """Words."""

def f(a: int, *, hint: str = "") -> bool:
    """Words."""
    logger.info("words")
    if a < LIMIT and not a:
        raise Wrong("words", code=7)
    for one in a:
        g(one)
        break
    a += 1
    return a == 3
'''

EXPECTED = [
    "2 -> 3",
    "5000 -> 10000",
    "True -> False",
    "'' -> '~'",
    "a < LIMIT and (not a) -> a < LIMIT or not a",
    "a < LIMIT -> a <= LIMIT",
    "a < LIMIT -> a >= LIMIT",
    "not a -> a",
    "raise Wrong('words', code=7) -> pass",
    "7 -> 8",
    "g(one) -> pass",
    "break -> continue",
    "a += 1 -> a -= 1",
    "1 -> 2",
    "return a == 3 -> return None",
    "a == 3 -> a != 3",
    "3 -> 4",
]


def test_each_change_is_found_and_words_for_people_are_left_alone() -> None:
    found = [f"{one.before} -> {one.after}" for one in mutants("m.py", SOURCE)]
    assert sorted(found) == sorted(EXPECTED)


def test_one_change_is_made_at_a_time() -> None:
    plain = ast.unparse(ast.parse(SOURCE))
    changed = [ast.unparse(mutated(SOURCE, at)) for at in range(len(EXPECTED))]
    assert plain not in changed and len(set(changed)) == len(EXPECTED)


def test_an_interval_holds_its_proportion_and_narrows_with_the_sample() -> None:
    assert interval(90, 100) == (0.8256, 0.9448)
    assert interval(900, 1000) == (0.8798, 0.9171)


def test_every_mutant_that_counts_as_equivalent_has_its_reason() -> None:
    equivalent = json.loads((HERE / "equivalent.json").read_text(encoding="utf-8"))
    assert all(len(reason) > 20 and " -> " in name for name, reason in equivalent.items())


def test_the_kept_score_is_good_enough_and_adds_up() -> None:
    if not (HERE / "score.json").exists():
        pytest.skip("no score is kept yet: `make mutation` writes it")
    kept = json.loads((HERE / "score.json").read_text(encoding="utf-8"))
    assert kept["score"] >= SCORE_MIN
    assert kept["killed"] + kept["survived"] == kept["sample"]
    assert len(kept["survivors"]) == kept["survived"]
    assert sum(1 for one in kept["survivors"] if one["equivalent"]) == kept["equivalent"]
