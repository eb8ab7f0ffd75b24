"""One caller's bad value never fails its neighbours, whatever kind of value it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from aegispay.domain.errors import AegisPayError, InvalidRequest
from aegispay.orchestration.requests import check_text
from aegispay.storage.postgres import PostgresStore
from aegispay.storage.sqlite import SqliteStore
from aegispay.storage.store import Store, Write
from aegispay.testing.store_samples import SamplePayment


def no_encoding_takes_it(write: Write) -> Write:
    event = replace(write.events[0], correlation_id="\ud800")
    return replace(write, events=(event, *write.events[1:]))


def beyond_64_bits(write: Write) -> Write:
    return replace(write, opens=(replace(write.opens[0], due_at_us=2**70),))


@pytest.mark.parametrize("make", ["sqlite", "postgres"])
@pytest.mark.parametrize("spoil", [no_encoding_takes_it, beyond_64_bits])
async def test_a_write_that_cannot_be_bound_fails_alone(
    tmp_path: Path, request: pytest.FixtureRequest, make: str, spoil: Callable[[Write], Write]
) -> None:
    store: Store
    if make == "sqlite":
        store = SqliteStore(str(tmp_path / "a.db"))
    else:
        store = PostgresStore(request.getfixturevalue("postgres_dsn"), pool_max=2, writers=1)
    await store.open()
    try:
        good = [SamplePayment().intent() for _ in range(5)]
        poisoned = spoil(SamplePayment().intent())
        answers = await asyncio.gather(
            *(store.commit(write) for write in (*good, poisoned)), return_exceptions=True
        )
        assert answers[:5] == [None] * 5
        assert isinstance(answers[5], AegisPayError)
        assert await store.load(poisoned.payment.id) is None
        await store.commit(SamplePayment().intent())
    finally:
        await store.close()


def test_text_that_no_encoding_takes_is_refused_before_anything_is_written() -> None:
    with pytest.raises(InvalidRequest):
        check_text("correlation_id", "\ud800")
