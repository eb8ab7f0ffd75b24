"""Every orchestration test runs under virtual time: a day of recovery takes milliseconds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from aegispay.testing.instant_gateway import InstantGateway
from tests.orchestration.harness import World


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in Path(item.path).parents:
            item.add_marker(pytest.mark.looptime)


@pytest_asyncio.fixture
async def make_world(tmp_path: Path) -> AsyncIterator[Callable[..., World]]:
    """Makes worlds, and closes what was started in them."""
    made: list[World] = []

    def make(*gateways: InstantGateway) -> World:
        world = World(
            tmp_path / f"world{len(made)}.db",
            list(gateways) or [InstantGateway("alpha"), InstantGateway("beta")],
        )
        made.append(world)
        return world

    yield make
    for world in made:
        await world.close()
