"""The examples run as they stand, in a process of their own, and say what their readers are told they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
LINES_MAX = 39
SAID = {
    "quickstart.py": ["succeeded 99.99 USD", "The bank took 9999 cents, once."],
    "failover.py": [
        "PSP down: success, tried stripe (not_sent), then plainpay (approved)",
        "Answer lost: success, tried stripe (approved)",
    ],
    "authorize_capture_refund.py": [
        "Refused: cannot refund 60.00 USD",
        "partially_refunded 75.00 USD captured, 20.00 USD refunded",
        "out of pocket by 5500 cents, with 0 held",
    ],
    "sync_django_style.py": ["order-3: paid", "3 payments: order-1 was sent twice and paid once"],
    "time_travel.py": ["OperationDeclined", "4,800 JPY", "partially_refunded"],
    "own_gateway.py": ["success slip_1 - 1 entry in the drawer"],
}


def test_every_example_is_known_here_and_short() -> None:
    scripts = list(EXAMPLES.glob("*.py"))
    assert {script.name for script in scripts} == set(SAID)
    for script in scripts:
        assert len(script.read_text().splitlines()) <= LINES_MAX, script.name


@pytest.mark.parametrize("name", SAID)
def test_an_example_runs_and_says_what_it_should(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for words in SAID[name]:
        assert words in done.stdout
    assert list(tmp_path.iterdir()) == [], "an example left a file behind"
