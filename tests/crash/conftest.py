"""What the crash tests stand on: a store of each kind, and a bank in a process of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aegispay.sandbox.adapters import MORE
from aegispay.sandbox.process import SandboxProcess
from aegispay.sandbox.server import SandboxSettings

LOOKUP_QUIET_S = 1.0


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'payments.db'}"
    return str(request.getfixturevalue("postgres_dsn"))


@pytest.fixture
async def bank(tmp_path: Path) -> AsyncIterator[SandboxProcess]:
    settings = SandboxSettings(lookup_quiet_s=LOOKUP_QUIET_S, more_psps=MORE)
    async with SandboxProcess(tmp_path / "bank.db", synchronous="NORMAL", settings=settings) as running:
        yield running
