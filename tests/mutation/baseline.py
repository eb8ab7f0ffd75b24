"""The unchanged run: which test executes which line, and what it costs. Runs in a process of its own."""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import coverage
import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src" / "aegispay"
PACKAGES = ("domain", "orchestration")
TESTS = (
    "tests/orchestration",
    "tests/unit/test_config.py",
    "tests/unit/test_currency.py",
    "tests/unit/test_decide_exhaustive.py",
    "tests/unit/test_defaults.py",
    "tests/unit/test_documents.py",
    "tests/unit/test_domain_details.py",
    "tests/unit/test_domain_properties.py",
    "tests/unit/test_domain_contradictions.py",
    "tests/unit/test_domain_external.py",
    "tests/unit/test_error_table.py",
    "tests/unit/test_group_commit.py",
    "tests/unit/test_ids.py",
    "tests/unit/test_methods.py",
    "tests/unit/test_money.py",
    "tests/unit/test_payer_messages.py",
    "tests/unit/test_request_limits.py",
    "tests/unit/test_states.py",
    "tests/unit/test_upcast.py",
)
LAST = "tests/mutation/few_seeds.py"
TEST_MAX_S = 5.0
"""A test that needs more processor time than this is left out of the search."""
PYTEST = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:randomly", "--hypothesis-seed=0", "--no-header"]


class Costs:
    """A plugin that marks the covered lines with the test, and keeps each test's processor time."""

    def __init__(self, covered: coverage.Coverage):
        self._covered = covered
        self.cost_s: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        self._covered.switch_context(item.nodeid)
        began_s = time.process_time()
        try:
            return (yield)
        finally:
            self.cost_s[item.nodeid] = time.process_time() - began_s
            self._covered.switch_context("")


def measure(target: Path) -> int:
    """Writes the costs and, for each module and line, the tests that execute it."""
    covered = coverage.Coverage(
        data_file=None, source=[str(SOURCES / one) for one in PACKAGES], config_file=False
    )
    covered.start()
    costs = Costs(covered)
    tests = [one for one in TESTS if (ROOT / one).exists()]
    slow = [
        "--deselect=tests/unit/test_decide_exhaustive.py::test_every_sequence_of_up_to_five_commands_keeps_the_promises"
    ]
    code = int(pytest.main([*PYTEST, *slow, *tests], plugins=[costs]))
    covered.stop()
    if code:
        return code
    lines: dict[str, dict[int, list[str]]] = defaultdict(dict)
    data = covered.get_data()
    for file in data.measured_files():
        module = str(Path(file).relative_to(SOURCES.parent))
        for line, contexts in data.contexts_by_lineno(file).items():
            lines[module][line] = sorted(one for one in contexts if one)
    target.write_text(json.dumps({"cost_s": costs.cost_s, "lines": lines}), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(measure(Path(sys.argv[1])))
