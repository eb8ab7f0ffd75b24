"""The guide's own code: its adapter passes the suite with the set-up that the guide shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "write-a-gateway.md"
SETUP_LINES_MAX = 11


def _blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)


def _run() -> dict[str, Any]:
    found: dict[str, Any] = {"__name__": __name__}
    for number, block in enumerate(_blocks()):
        exec(compile(block, f"{GUIDE.name}, block {number + 1}", "exec"), found)
    return found


TestTinyPay = _run()["TestTinyPay"]


def test_the_set_up_is_about_ten_lines() -> None:
    lines = (
        _blocks()[-1].partition("class TestTinyPay")[2].strip().splitlines()
    )  # The class's own line among them.
    assert len(lines) <= SETUP_LINES_MAX
