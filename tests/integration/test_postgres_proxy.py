"""The proxy cuts when it says: each moment is checked against what the server has committed."""

from __future__ import annotations

import asyncio
import random

import pytest

from aegispay.domain.errors import StoreUnavailable
from aegispay.storage.factory import open_store
from aegispay.testing.postgres_proxy import AROUND_COMMIT, Moment, PostgresProxy
from aegispay.testing.store_samples import SamplePayment


@pytest.mark.parametrize("moment", AROUND_COMMIT)
@pytest.mark.parametrize("seed", [1, 2])
async def test_a_commit_that_is_cut_is_applied_or_not_as_its_moment_says(
    postgres_dsn: str, moment: Moment, seed: int
) -> None:
    """One seed resets connections, the other ends them; the caller hears that the write's fate is unknown."""
    async with PostgresProxy(postgres_dsn, random.Random(seed)) as proxy:
        store = await open_store(proxy.dsn)
        first, cut = SamplePayment(), SamplePayment()
        await store.commit(first.intent())
        struck = asyncio.create_task(proxy.cut(moment))
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable) as caught:
            await store.commit(cut.intent())
        assert caught.value.effect != "none"
        await struck
        assert proxy.cuts == {moment: 1}
        direct = await open_store(postgres_dsn)
        if moment in (Moment.COMMITTED, Moment.HALF_ANSWERED):
            assert await direct.load(cut.id) == cut.payment
        elif moment is not Moment.SENT:
            assert await direct.load(cut.id) is None
        assert await store.load(first.id) == first.payment
        await direct.close()
        await store.close()


async def test_every_connection_can_be_cut_and_the_store_comes_back(postgres_dsn: str) -> None:
    async with PostgresProxy(postgres_dsn, random.Random(3)) as proxy:
        store = await open_store(proxy.dsn)
        sample = SamplePayment()
        await store.commit(sample.intent())
        await proxy.cut(Moment.ANYWHERE)
        assert proxy.cuts[Moment.ANYWHERE] >= 2
        assert await store.load(sample.id) == sample.payment
        await store.close()
