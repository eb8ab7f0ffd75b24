"""Every orchestration test runs under virtual time: a day of recovery takes milliseconds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from aegispay.testing.instant_gateway import InstantGateway
from aegispay.testing.virtual_clock import VirtualTimeLoop
from tests.orchestration.harness import World


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"virtual": VirtualTimeLoop}


@pytest_asyncio.fixture
async def make_world(tmp_path: Path) -> AsyncIterator[Callable[..., World]]:
    """Makes worlds, and closes what was started in them."""
    made: list[World] = []

    def make(*gateways: InstantGateway) -> World:
        path = tmp_path / f"world{len(made)}.db"
        world = World(path, list(gateways) or [InstantGateway("alpha"), InstantGateway("beta")])
        made.append(world)
        return world

    yield make
    for world in made:
        await world.close()
