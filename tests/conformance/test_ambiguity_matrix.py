"""The ambiguity matrix: each cell of its page is played, and the page says what came of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from aegispay.domain.events import OperationKind
from aegispay.testing.ambiguity import (
    OPERATIONS,
    PSPS,
    AmbiguityFailure,
    Trouble,
    read_page,
    render,
    run_cell,
)
from aegispay.testing.ambiguity.page import COMMAND, Key

SEQUENCES = 8
"""Sequences of faults for each operation at each PSP."""
PAGE = Path(__file__).parents[2] / "docs" / "gateways" / "ambiguity.md"


@cache
def page() -> dict[Key, str]:
    return read_page(PAGE.read_text(encoding="utf-8"))


@contextmanager
def show(*troubles: object) -> Iterator[None]:
    """Names the faults of a cell that failed."""
    try:
        yield
    except AmbiguityFailure as failure:
        raise AssertionError(f"{troubles}: {failure}") from failure


@pytest.mark.parametrize("trouble", list(Trouble), ids=str)
@pytest.mark.parametrize("kind", OPERATIONS, ids=str)
@pytest.mark.parametrize("psp", list(PSPS))
def test_cell(psp: str, kind: OperationKind, trouble: Trouble) -> None:
    """`run_cell` raises where money is lost, doubled, or asked for elsewhere in doubt; the rest is the page's."""
    assert page().get((psp, kind, trouble)) == run_cell(PSPS[psp], kind, trouble).text, (
        f"the page is out of date, or behaviour has changed. See the change, then: {COMMAND}"
    )


@pytest.mark.parametrize("kind", OPERATIONS, ids=str)
@pytest.mark.parametrize("psp", list(PSPS))
def test_a_fault_at_any_other_request_of_the_operation(psp: str, kind: OperationKind) -> None:
    """Access tokens, orders that are made first, reads before or after: none of them costs money either."""
    whole = run_cell(PSPS[psp], kind, Trouble.NOTHING)
    for number in set(range(whole.requests)) - {whole.strikes_at}:
        for trouble in set(Trouble) - {Trouble.NOTHING}:
            with show(number, trouble):
                run_cell(PSPS[psp], kind, trouble, number=number)


@pytest.mark.parametrize("kind", OPERATIONS, ids=str)
@pytest.mark.parametrize("psp", list(PSPS))
def test_faults_that_follow_one_another(psp: str, kind: OperationKind) -> None:
    """The resend and the look-up meet faults too; seeded, so that a failure comes again."""
    draw = random.Random(f"{psp} {kind}")
    again = [trouble for trouble in Trouble if not trouble.crash]
    for _ in range(SEQUENCES):
        first = draw.choice(list(Trouble)[1:])
        then = [draw.choice(again) for _ in range(draw.randint(1, 6))]
        with show(first, then):
            run_cell(PSPS[psp], kind, first, then=then)


def test_the_page_is_its_cells_and_the_text_around_them() -> None:
    assert len(page()) == len(PSPS) * len(OPERATIONS) * len(Trouble)
    assert render(page()) == PAGE.read_text(encoding="utf-8"), f"write it anew: {COMMAND}"
