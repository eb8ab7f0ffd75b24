"""Group commit without a database: who shares a batch, who waits, and what each caller hears."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from aegispay.domain.errors import (
    NotRunning,
    Overloaded,
    StoreError,
    StoreFull,
    StoreUnavailable,
    VersionConflict,
)
from aegispay.storage.group_commit import BatchRefused, GroupCommit


class Journal:
    """A writer that notes its batches, waits for leave, and refuses what it is told to."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.written: list[str] = []
        self.may_go = asyncio.Event()
        self.may_go.set()
        self.refuse: dict[str, Exception] = {}
        self.whole: dict[str, Exception] = {}
        self.at_once_max = 0
        self._at_once = 0

    async def write(self, items: list[str]) -> Sequence[Exception | None]:
        self.batches.append(items)
        self._at_once += 1
        self.at_once_max = max(self.at_once_max, self._at_once)
        try:
            await self.may_go.wait()
        finally:
            self._at_once -= 1
        for item in items:
            if item in self.whole:
                raise self.whole[item]
        self.written += [item for item in items if item not in self.refuse]
        return [self.refuse.get(item) for item in items]


def start(group: GroupCommit[str], *items: str) -> list[asyncio.Task[None]]:
    """Callers that arrive in the same turn of the loop; the text before the dash is the key."""
    return [asyncio.create_task(group.commit(item, (item.partition("-")[0],))) for item in items]


async def turns(number: int = 5) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def test_callers_of_one_turn_share_a_batch_and_later_ones_the_next() -> None:
    journal = Journal()
    group = GroupCommit(journal.write, batch_max=10)
    journal.may_go.clear()
    tasks = start(group, "a", "b", "c")
    await turns()
    tasks += start(group, "d", "e")
    await turns()
    assert journal.batches == [["a", "b", "c"]]
    journal.may_go.set()
    await asyncio.gather(*tasks)
    assert journal.batches == [["a", "b", "c"], ["d", "e"]]
    assert journal.at_once_max == 1


async def test_a_batch_has_at_most_its_size() -> None:
    journal = Journal()
    group = GroupCommit(journal.write, batch_max=2)
    await asyncio.gather(*start(group, "a", "b", "c", "d", "e"))
    assert journal.batches == [["a", "b"], ["c", "d"], ["e"]]


async def test_two_writes_with_one_key_are_never_in_flight_together_and_keep_their_order() -> None:
    journal = Journal()
    group = GroupCommit(journal.write, batch_max=10, batches_in_flight_max=3)
    journal.may_go.clear()
    tasks = start(group, "a-1", "a-2", "b-1", "a-3")
    await turns()
    tasks += start(group, "b-2", "c-1")
    await turns()
    assert journal.batches == [["a-1", "b-1"], ["c-1"]]
    journal.may_go.set()
    await asyncio.gather(*tasks)
    for key in "ab":
        of_key = [item for item in journal.written if item.startswith(key)]
        assert of_key == sorted(of_key)
    assert all(len({item[0] for item in batch}) == len(batch) for batch in journal.batches)


async def test_whoever_shares_any_key_with_a_waiting_write_waits_behind_it() -> None:
    journal = Journal()
    group = GroupCommit(journal.write, batch_max=10)
    tasks = [
        asyncio.create_task(group.commit(name, keys))
        for name, keys in (("1", ("a",)), ("2", ("a", "k")), ("3", ("b", "k")), ("4", ("c",)))
    ]
    await asyncio.gather(*tasks)
    assert journal.batches == [["1", "4"], ["2"], ["3"]]


async def test_several_batches_can_be_in_flight() -> None:
    journal = Journal()
    group = GroupCommit(journal.write, batch_max=2, batches_in_flight_max=2)
    journal.may_go.clear()
    tasks = start(group, "a", "b", "c", "d", "e")
    await turns()
    assert journal.batches == [["a", "b"], ["c", "d"]]
    journal.may_go.set()
    await asyncio.gather(*tasks)
    assert journal.at_once_max == 2


async def test_each_caller_hears_of_its_own_failure_only() -> None:
    journal = Journal()
    journal.refuse["b"] = VersionConflict()
    group = GroupCommit(journal.write, batch_max=10)
    answers = await asyncio.gather(*start(group, "a", "b", "c"), return_exceptions=True)
    assert answers == [None, journal.refuse["b"], None]


async def test_a_batch_that_is_refused_whole_is_written_one_by_one() -> None:
    journal = Journal()
    reason = StoreError("a broken constraint")
    journal.whole["b"] = BatchRefused(reason)
    group = GroupCommit(journal.write, batch_max=10)
    answers = await asyncio.gather(*start(group, "a", "b", "c"), return_exceptions=True)
    assert answers == [None, reason, None]
    assert journal.batches == [["a", "b", "c"], ["a"], ["b"], ["c"]]
    assert journal.written == ["a", "c"]


async def test_a_lost_connection_is_told_to_every_member_and_nothing_is_tried_again() -> None:
    journal = Journal()
    journal.whole["b"] = StoreUnavailable("gone.", hint="Look.")
    group = GroupCommit(journal.write, batch_max=10)
    answers = await asyncio.gather(*start(group, "a", "b"), return_exceptions=True)
    assert [type(one) for one in answers] == [StoreUnavailable, StoreUnavailable]
    assert answers[0] is not answers[1]
    assert str(answers[0]) == "gone. Look."
    assert journal.batches == [["a", "b"]]


async def test_a_full_disk_and_a_bug_reach_every_member_too() -> None:
    journal = Journal()
    journal.whole["full"] = StoreFull()
    journal.whole["bug"] = KeyError("x")
    group = GroupCommit(journal.write, batch_max=10)
    assert [type(one) for one in await asyncio.gather(*start(group, "full"), return_exceptions=True)] == [
        StoreFull
    ]
    (answer,) = await asyncio.gather(*start(group, "bug"), return_exceptions=True)
    assert type(answer) is StoreError
    assert "KeyError" in str(answer)
    await asyncio.gather(*start(group, "a"))
    assert journal.written == ["a"]


async def test_more_waiting_writes_than_the_queue_holds_are_refused() -> None:
    journal = Journal()
    journal.may_go.clear()
    group = GroupCommit(journal.write, batch_max=1, queue_max=2)
    tasks = start(group, "a")
    await turns()
    tasks += start(group, "b", "c", "d")
    await turns()
    journal.may_go.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in answers] == [type(None), type(None), type(None), Overloaded]
    assert journal.written == ["a", "b", "c"]


@pytest.mark.parametrize("taken_already", [True, False])
async def test_a_cancelled_caller_stops_waiting_and_its_write_goes_on(taken_already: bool) -> None:
    journal = Journal()
    journal.may_go.clear()
    group = GroupCommit(journal.write, batch_max=1)
    first, second = start(group, "a", "b")
    await turns()
    gone = first if taken_already else second
    gone.cancel()
    await turns()
    assert gone.cancelled()
    journal.may_go.set()
    await asyncio.gather(first, second, return_exceptions=True)
    await group.close()
    assert journal.written == ["a", "b"]


async def test_closing_drains_what_was_accepted_and_refuses_the_rest() -> None:
    journal = Journal()
    journal.may_go.clear()
    group = GroupCommit(journal.write, batch_max=1)
    tasks = start(group, "a", "b", "c")
    await turns()
    closing = [asyncio.create_task(group.close()) for _ in range(2)]
    await turns()
    assert not any(task.done() for task in closing)
    with pytest.raises(NotRunning):
        await group.commit("d", ("d",))
    journal.may_go.set()
    await asyncio.gather(*closing)
    assert journal.written == ["a", "b", "c"]
    assert [task.exception() for task in tasks] == [None] * 3
    await group.close()


async def test_when_the_loop_is_torn_down_waiting_callers_hear_that_the_effect_is_unknown() -> None:
    journal = Journal()
    journal.may_go.clear()
    group = GroupCommit(journal.write, batch_max=10)
    (task,) = start(group, "a")
    await turns()
    (writing,) = group._tasks
    writing.cancel()
    with pytest.raises(StoreUnavailable) as caught:
        await task
    assert caught.value.effect == "unknown"


async def test_many_writes_of_one_payment_are_all_written_in_order() -> None:
    journal = Journal()
    group = GroupCommit(journal.write, batch_max=4, batches_in_flight_max=2)
    items = [f"a-{number:03d}" for number in range(100)] + [f"{number}" for number in range(100)]
    await asyncio.gather(*start(group, *items))
    assert sorted(journal.written) == sorted(items)
    assert [item for item in journal.written if item.startswith("a-")] == items[:100]
