"""What the documents point at is there: a promise names a test, and the test exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    named = re.findall(r"`((?:tests|benchmarks|examples)/[\w/.]+)`", text)
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    missing = [one for one in named if not (ROOT / one).exists()]
    missing += [one for one in links if not (page.parent / one).exists()]
    assert missing == []


def test_every_test_that_the_readme_names_exists() -> None:
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("|")]
    names = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row.split("|")[2])}
    tests = "\n".join(
        path.read_text() for path in [*ROOT.glob("tests/**/*.py"), *ROOT.glob("src/aegispay/testing/*.py")]
    )
    assert [name for name in sorted(names) if not re.search(rf"def \w*{name}", tests)] == []
