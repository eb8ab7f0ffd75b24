"""What a run says of the PSPs' own material: every kind, every PSP, and the same from several processes."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.fakes import tally


@pytest.fixture(autouse=True)
def _empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "_counts", Counter())


def test_nothing_is_said_where_nothing_was_checked() -> None:
    assert tally.summary() == []


def test_the_counts_of_all_processes_are_added_up() -> None:
    tally.checked("adyen", "bodies", 3)
    handed_over = tally.rows()
    tally.add(handed_over)
    tally.checked("stripe", "signatures")
    first, *lines = tally.summary()
    assert first.startswith("checked against official material: 6 bodies, 0 fixtures, 0 codes, 1 signatures")
    assert [line.split(":")[0].strip() for line in lines] == ["stripe", "adyen"]


def test_a_kind_that_is_not_counted_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="nothing that is counted"):
        tally.checked("adyen", "body")
