"""The ambiguity matrix: what becomes of each operation at each PSP when each fault strikes.

Every cell is one run of the real orchestrator, with its store, over a real adapter and the sandbox's face of that PSP.
`python -m aegispay.testing.ambiguity` prints the page; `--write FILE` writes it.
"""

from __future__ import annotations

from aegispay.testing.ambiguity.cell import Cell, run_cell
from aegispay.testing.ambiguity.page import read_page, render
from aegispay.testing.ambiguity.psps import PSPS, MatrixPsp
from aegispay.testing.ambiguity.stage import AmbiguityFailure
from aegispay.testing.ambiguity.troubles import OPERATIONS, Trouble

__all__ = [
    "OPERATIONS",
    "PSPS",
    "AmbiguityFailure",
    "Cell",
    "MatrixPsp",
    "Trouble",
    "read_page",
    "render",
    "run_cell",
]
