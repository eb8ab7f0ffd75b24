"""A SQLite store whose log has taken the last byte of its disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aegispay.domain.errors import StoreFull
from aegispay.storage.factory import open_store
from aegispay.testing.store_samples import SamplePayment
from tests.crash.disk import MountRefused, SmallDisk

FILLING_MAX = 5_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    try:
        with SmallDisk(tmp_path / "disk", 24) as mounted:
            yield mounted
    except MountRefused as error:
        pytest.skip(f"a small disk cannot be mounted here: {error}")


async def test_a_log_that_has_filled_the_disk_is_used_again(disk: SmallDisk) -> None:
    """Nobody frees a byte: what fails once works the next time, because the file has room for what the log holds."""
    store = await open_store(f"sqlite:///{disk.folder / 'payments.db'}")
    sample = SamplePayment()
    await store.commit(sample.intent())
    await store.close()  # The log is copied into the file.
    store = await open_store(f"sqlite:///{disk.folder / 'payments.db'}")
    row = await store.find_in_flight(sample.operation_id)
    assert row is not None

    async def renew(times: int) -> None:
        for number in range(times):
            assert await store.renew(row.operation_id, row.fence, row.due_at_us + number)

    await renew(200)
    disk.fill()
    with pytest.raises(StoreFull):
        await renew(FILLING_MAX)
    assert await store.renew(row.operation_id, row.fence, row.due_at_us)
    assert await store.find_in_flight(sample.operation_id) == row
    await store.close()
