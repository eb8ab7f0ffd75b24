"""A few seeds of the simulation, as the last test that a mutant has to pass. Collected only when it is named."""

from __future__ import annotations

import pytest

from aegispay.testing.simulation import Mode
from aegispay.testing.simulation.runner import run_chunk


@pytest.mark.parametrize(("mode", "seeds"), [(Mode.NORMAL, 12), (Mode.LATE, 4)])
def test_a_few_seeds_are_clean(mode: Mode, seeds: int) -> None:
    assert not run_chunk(range(seeds), mode).failures
