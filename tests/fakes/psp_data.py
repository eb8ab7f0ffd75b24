"""The PSPs' own published documents (third-party data, read in place, never copied in)."""

from __future__ import annotations

import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(os.environ.get("AEGISPAY_SHARED") or Path(__file__).resolve().parents[2].parent / "shared")


@lru_cache(maxsize=8)
def psp_document(path: str) -> Any:
    """The JSON document at this path below `psp/`; skips the test where the data is absent."""
    file = _ROOT / "psp" / path
    if not file.is_file():
        pytest.skip(f"the PSP's document psp/{path} is absent (set AEGISPAY_SHARED)")
    return json.loads(file.read_text())
