"""`python -m aegispay.testing.ambiguity`: plays every cell and prints the page; `--write FILE` writes it."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from aegispay.domain.events import OperationKind
from aegispay.testing.ambiguity.cell import run_cell
from aegispay.testing.ambiguity.page import render
from aegispay.testing.ambiguity.psps import PSPS
from aegispay.testing.ambiguity.stage import AmbiguityFailure
from aegispay.testing.ambiguity.troubles import OPERATIONS, Trouble


def main() -> int:
    """0; or 1 where a cell breaks a promise, with the cell's name."""
    parser = argparse.ArgumentParser(prog="python -m aegispay.testing.ambiguity", description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page there")
    chosen = parser.parse_args()
    # The cells lose answers and kill processes on purpose: what is logged about it is no news.
    logging.getLogger("aegispay").setLevel(logging.CRITICAL)
    matrix: dict[tuple[str, OperationKind, Trouble], str] = {}
    for psp in PSPS.values():
        for kind in OPERATIONS:
            for trouble in Trouble:
                try:
                    matrix[psp.name, kind, trouble] = run_cell(psp, kind, trouble).text
                except AmbiguityFailure as failure:
                    sys.stderr.write(f"{psp.name}, {kind}, {trouble}: {failure}\n")
                    return 1
    page = render(matrix)
    if chosen.write is None:
        sys.stdout.write(page)
    else:
        chosen.write.write_text(page, encoding="utf-8")
        sys.stdout.write(f"{len(matrix)} cells written to {chosen.write}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
