"""The formal model: it holds with all of its rules and breaks without any one of them, and it names code that exists."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FORMAL = Path(__file__).parents[2] / "formal"


@pytest.mark.slow
def test_the_model_holds_and_breaks_without_each_rule() -> None:
    """Liveness and the shortest counterexamples are left to `make model`: they take some minutes."""
    missing = [tool for tool in ("spin", "gcc") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not found: the formal model is not checked here")
    done = subprocess.run(
        [sys.executable, str(FORMAL / "check.py"), "--quick"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("as expected\n")


def test_the_model_names_code_that_exists() -> None:
    """Each function in the table of the model's page is there: who renames one is reminded of the model."""
    page = (FORMAL / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"`(\w+(?:\.\w+)*):(\w+(?:\.\w+)*)`", page)
    assert len(named) >= 15
    for module, path in named:
        found: object = importlib.import_module(f"aegispay.{module}")
        for part in path.split("."):
            found = getattr(found, part)


def test_each_rule_that_can_be_removed_is_checked_and_explained() -> None:
    """A macro in the model that no run uses, or that the page does not explain, would be a rule that nobody checks."""
    model = (FORMAL / "payment.pml").read_text(encoding="utf-8")
    used = set(re.findall(r"#ifn?def (\w+)", model)) - {"REACHED", "LIVENESS"}
    checked = set(re.findall(r'Rule\(\s*"(\w+)"', (FORMAL / "check.py").read_text(encoding="utf-8")))
    page = (FORMAL / "README.md").read_text(encoding="utf-8")
    assert used == checked
    assert {macro for macro in used if f"`{macro}`" in page} == used
