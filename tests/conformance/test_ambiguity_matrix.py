"""The ambiguity matrix: each cell of its page is played, and the page says what came of it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from aegispay.domain.events import OperationKind
from aegispay.testing.ambiguity import OPERATIONS, PSPS, Trouble, read_page, render, run_cell
from aegispay.testing.ambiguity.page import COMMAND, Key

PAGE = Path(__file__).parents[2] / "docs" / "gateways" / "ambiguity.md"


@cache
def page() -> dict[Key, str]:
    return read_page(PAGE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("trouble", list(Trouble), ids=str)
@pytest.mark.parametrize("kind", OPERATIONS, ids=str)
@pytest.mark.parametrize("psp", list(PSPS))
def test_cell(psp: str, kind: OperationKind, trouble: Trouble) -> None:
    """`run_cell` raises where money is lost, doubled, or asked for elsewhere in doubt; the rest is the page's."""
    assert page().get((psp, kind, trouble)) == run_cell(PSPS[psp], kind, trouble).text, (
        f"the page is out of date, or behaviour has changed. See the change, then: {COMMAND}"
    )


def test_the_page_is_its_cells_and_the_text_around_them() -> None:
    assert len(page()) == len(PSPS) * len(OPERATIONS) * len(Trouble)
    assert render(page()) == PAGE.read_text(encoding="utf-8"), f"write it anew: {COMMAND}"
