"""What every store must do. Subclass `StoreConformance`, give it a `make_store` fixture, and run it with pytest.

    class TestMyStore(StoreConformance):
        @pytest.fixture
        def make_store(self, tmp_path):
            return lambda: MyStore(tmp_path / "payments")

Two stores that `make_store` gave share one database, as two processes would; where they cannot (a store in memory), set
`two_instances = False`. Needs pytest and pytest-asyncio.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from msgspec.structs import replace as _with

from aegispay.domain.errors import CorruptEvent, NotRunning, StaleFence, StoreError, VersionConflict
from aegispay.domain.evolve import fold
from aegispay.domain.payment import Payment, encode_payment
from aegispay.domain.states import PaymentState
from aegispay.storage.notices import Notice, NoticeState
from aegispay.storage.store import Claim, ClaimTaken, Guard, InFlight, Purpose, Store, Write
from aegispay.testing.store_samples import START_US, SamplePayment, digest_of, new_hex

MakeStore = Callable[[], Store]
LATER_US = START_US + 3_600_000_000
UNKNOWN = "pay_" + "0" * 32
LONG = "".join(digest_of(str(number)).hex() for number in range(300))
"""A text that does not get shorter by compression."""


async def settled(*commits: asyncio.Future[None]) -> list[BaseException | None]:
    """What each of them came to."""
    return await asyncio.gather(*commits, return_exceptions=True)


def together(store: Store, *writes: Write) -> list[asyncio.Future[None]]:
    return [asyncio.ensure_future(store.commit(write)) for write in writes]


async def projection_is_fold(store: Store, payment_id: str) -> bool:
    """I6: the stored projection has the very bytes that its events give."""
    payment = await store.load(payment_id)
    return payment is not None and encode_payment(payment) == encode_payment(
        fold(await store.load_events(payment_id))
    )


@pytest.mark.asyncio
class _Fixtures:
    two_instances = True
    """Whether two stores can share a database."""

    @pytest.fixture
    def make_store(self) -> MakeStore:
        raise NotImplementedError("give a fixture `make_store` that makes stores on one database")

    @pytest_asyncio.fixture
    async def store(self, make_store: MakeStore) -> AsyncIterator[Store]:
        store = make_store()
        await store.open()
        yield store
        await store.close()

    @pytest_asyncio.fixture
    async def other(self, make_store: MakeStore, store: Store) -> AsyncIterator[Store]:
        if not self.two_instances:
            pytest.skip("two instances of this store share nothing")
        other = make_store()
        await other.open()
        yield other
        await other.close()


class WritingConformance(_Fixtures):
    """Versions, claims, leases as conditions of a write."""

    async def test_a_payment_is_read_back_as_it_was_written(self, store: Store) -> None:
        sample = SamplePayment(
            metadata={"naïve": "雪 🚀 \u0000 \" ' \\", "empty": ""}, description="x" * 5000
        )
        await store.commit(sample.intent())
        assert await store.load(sample.id) == sample.payment
        assert await store.load_events(sample.id) == sample.events
        await store.commit(sample.approve())
        assert await store.load(sample.id) == sample.payment
        assert await store.load_events(sample.id) == sample.events

    async def test_the_projection_has_the_bytes_that_its_events_give(self, store: Store) -> None:
        sample = SamplePayment(metadata={"ключ": "значение"}, amount_minor=10**15, customer_id="cus_é")
        for write in (sample.intent(), sample.doubt(), sample.approve(), sample.refund(100)):
            await store.commit(write)
            assert await projection_is_fold(store, sample.id)

    async def test_what_nobody_wrote_is_not_found(self, store: Store) -> None:
        assert await store.load(UNKNOWN) is None
        assert await store.load_events(UNKNOWN) == []
        assert await store.find_claim(digest_of("nothing")) is None
        assert await store.find_in_flight("op_" + "0" * 32) is None
        assert await store.load("pay_nonsense") is None
        assert await store.load_events("pay_nonsense") == []
        assert await store.find_in_flight("op_nonsense") is None
        assert not await store.renew("op_nonsense", 1, LATER_US)

    async def test_a_payment_is_found_by_its_operations_and_by_what_the_psp_calls_them(
        self, store: Store
    ) -> None:
        sample, neighbour = SamplePayment(reference="ch_1"), SamplePayment(reference="ch_2")
        await store.commit(neighbour.intent())
        await store.commit(sample.intent())
        assert await store.find_by_operation(sample.operation_id) == sample.id
        assert await store.find_by_reference("ch_1") == []
        for write in (sample.doubt(), sample.approve(), neighbour.approve()):
            await store.commit(write)
        assert await store.find_by_operation(sample.operation_id) == sample.id
        assert await store.find_by_reference("ch_1") == [sample.id]
        assert await store.find_by_reference("ch_2") == [neighbour.id]
        refund = sample.refund(100)
        await store.commit(refund)
        assert refund.claim is not None
        assert await store.find_by_operation(refund.claim.operation_id) == sample.id
        await store.commit(sample.conclude("re_1"))
        assert await store.find_by_reference("re_1") == [sample.id]
        assert await store.find_by_operation("op_" + new_hex()) is None
        assert await store.find_by_operation("op_nonsense") is None
        assert await store.find_by_reference("ch_") == await store.find_by_reference("") == []

    async def test_every_reference_that_a_psp_gave_leads_to_its_payment(self, store: Store) -> None:
        sample = SamplePayment()
        await store.commit(sample.intent())
        for write in sample.told():
            await store.commit(write)
        for reference in ("pending_1", "action_1", "declined_1", "late_1"):
            assert await store.find_by_reference(reference) == [sample.id]
        assert await store.find_by_reference("quoted_1") == [], "a text that only looks like a reference"

    async def test_payments_that_share_a_reference_are_all_found(self, store: Store) -> None:
        samples = [SamplePayment(reference="same") for _ in range(12)]
        for sample in samples:
            await store.commit(sample.intent())
            await store.commit(sample.approve())
        assert await store.find_by_reference("same") == [sample.id for sample in samples[:10]]

    @pytest.mark.parametrize("reference", [LONG, "ä雪", 'a"b\\c', "\0", "%_'"])
    async def test_whatever_a_psp_calls_it_the_outcome_is_written(self, store: Store, reference: str) -> None:
        sample = SamplePayment(reference=reference)
        await store.commit(sample.intent())
        await store.commit(sample.approve())
        assert await projection_is_fold(store, sample.id)
        assert await store.find_by_reference(reference) in ([sample.id], [])

    async def test_a_write_that_is_refused_leaves_nothing_to_be_found(self, store: Store) -> None:
        first, second = SamplePayment(key="k"), SamplePayment(key="k")
        await store.commit(first.intent())
        with pytest.raises(ClaimTaken):
            await store.commit(second.intent())
        assert await store.find_by_operation(second.operation_id) is None
        with pytest.raises(StaleFence):
            await store.commit(first.approve(fence=7))
        assert await store.find_by_reference("ch_1") == []

    async def test_a_write_at_another_version_is_refused_and_leaves_nothing(self, store: Store) -> None:
        sample = SamplePayment()
        await store.commit(sample.intent())
        before = await store.load(sample.id)
        stale = sample.approve()
        for expected in (1, 3):
            shifted = tuple(
                _with(event, version=expected + number) for number, event in enumerate(stale.events, start=1)
            )
            wrong = _with(
                stale,
                payment=_with(stale.payment, version=expected + len(shifted)),
                events=shifted,
                expected_version=expected,
            )
            with pytest.raises(VersionConflict):
                await store.commit(wrong)
        assert await store.load(sample.id) == before
        assert len(await store.load_events(sample.id)) == 2
        assert await store.find_in_flight(sample.operation_id) is not None

    async def test_a_payment_cannot_begin_twice(self, store: Store) -> None:
        write = SamplePayment().intent(claimed=False)
        await store.commit(write)
        with pytest.raises(VersionConflict):
            await store.commit(write)

    async def test_a_payment_that_does_not_exist_cannot_go_on(self, store: Store) -> None:
        sample = SamplePayment()
        sample.intent()
        with pytest.raises(VersionConflict):
            await store.commit(sample.approve(fence=None))
        assert await store.load(sample.id) is None

    async def test_a_write_with_a_gap_in_its_versions_is_refused(self, store: Store) -> None:
        write = SamplePayment().intent()
        for wrong in (
            _with(write, events=write.events[1:]),
            _with(write, events=write.events[:1]),
            _with(write, events=()),
            _with(write, events=(write.events[0], _with(write.events[1], payment_id=UNKNOWN))),
        ):
            with pytest.raises(CorruptEvent):
                await store.commit(wrong)
        assert await store.load(write.payment.id) is None

    async def test_a_claim_is_found_and_cannot_be_made_twice(self, store: Store) -> None:
        first, second = SamplePayment(key="k"), SamplePayment(key="k")
        await store.commit(first.intent())
        with pytest.raises(ClaimTaken) as caught:
            await store.commit(second.intent())
        assert caught.value.claim == first.claim() == await store.find_claim(first.claim().digest)
        assert await store.load(second.id) is None
        assert await store.load_events(second.id) == []
        assert await store.find_in_flight(second.operation_id) is None

    async def test_a_refused_write_leaves_no_claim(self, store: Store) -> None:
        sample = SamplePayment()
        await store.commit(sample.intent())
        await store.commit(sample.approve())
        other = _refund_of(sample.payment, "b")
        await store.commit(sample.refund(100, key="a"))
        with pytest.raises(VersionConflict):
            await store.commit(other)
        assert other.claim is not None
        assert await store.find_claim(other.claim.digest) is None
        assert await store.find_in_flight(other.claim.operation_id) is None

    async def test_of_many_writes_with_one_claim_exactly_one_wins(self, store: Store) -> None:
        samples = [SamplePayment(key="same") for _ in range(20)]
        answers = await settled(*together(store, *(sample.intent() for sample in samples)))
        assert answers.count(None) == 1
        winner = samples[answers.index(None)]
        assert all(
            isinstance(one, ClaimTaken) and one.claim.payment_id == winner.id for one in answers if one
        )
        found = [await store.load(sample.id) is not None for sample in samples]
        assert found == [sample is winner for sample in samples]

    async def test_a_guarded_write_needs_exactly_its_fence(self, store: Store) -> None:
        sample = SamplePayment()
        await store.commit(sample.intent(fence=3))
        before = await store.load(sample.id)
        write = sample.approve(fence=3)
        for guard in (
            Guard(operation_id=sample.operation_id, fence=2),
            Guard(operation_id=sample.operation_id, fence=4),
            Guard(operation_id="op_" + new_hex(), fence=3),
        ):
            with pytest.raises(StaleFence):
                await store.commit(_with(write, guard=guard))
        assert await store.load(sample.id) == before
        await store.commit(write)
        assert await store.find_in_flight(sample.operation_id) is None

    async def test_a_lease_of_another_payment_is_no_guard(self, store: Store) -> None:
        one, another = SamplePayment(), SamplePayment()
        await store.commit(one.intent())
        await store.commit(another.intent())
        with pytest.raises(StaleFence):
            await store.commit(_with(one.approve(), guard=Guard(operation_id=another.operation_id, fence=1)))
        assert await store.find_in_flight(another.operation_id) is not None

    async def test_a_guard_releases_or_keeps_its_lease(self, store: Store) -> None:
        sample = SamplePayment()
        write = sample.intent()
        await store.commit(write)
        assert await store.find_in_flight(sample.operation_id) == write.opens[0]
        kept = sample.in_flight(due_at_us=LATER_US, owner="", tries=7, sent_at_us=5, purpose=Purpose.WATCH)
        await store.commit(sample.doubt(keep=kept))
        assert await store.find_in_flight(sample.operation_id) == kept
        await store.commit(sample.approve())
        assert await store.find_in_flight(sample.operation_id) is None
        with pytest.raises(StaleFence):
            await store.commit(sample.approve())

    async def test_a_write_without_events_moves_only_its_lease(self, store: Store) -> None:
        sample = SamplePayment()
        await store.commit(sample.intent())
        payment = sample.payment
        assert payment is not None
        kept = sample.in_flight(fence=2, due_at_us=LATER_US)
        guard = Guard(operation_id=sample.operation_id, fence=1, keep=kept)
        await store.commit(Write(payment=payment, events=(), expected_version=2, guard=guard))
        assert await store.find_in_flight(sample.operation_id) == kept
        assert await store.load(sample.id) == payment

    async def test_an_operation_in_flight_cannot_be_opened_again(self, store: Store) -> None:
        sample = SamplePayment()
        await store.commit(sample.intent())
        write = _with(sample.approve(fence=None), opens=(sample.in_flight(fence=9),))
        neighbour = SamplePayment()
        answers = await settled(*together(store, write, neighbour.intent()))
        assert isinstance(answers[0], StoreError)
        assert answers[1] is None
        found = await store.find_in_flight(sample.operation_id)
        assert found is not None
        assert found.fence == 1
        assert await store.load(neighbour.id) == neighbour.payment

    async def test_four_operations_can_be_opened_at_once_and_no_more(self, store: Store) -> None:
        sample = SamplePayment()
        opens = tuple(sample.in_flight("op_" + new_hex()) for _ in range(5))
        write = sample.intent()
        with pytest.raises(CorruptEvent):
            await store.commit(_with(write, opens=opens))
        await store.commit(_with(write, opens=opens[:4]))
        assert [await store.find_in_flight(one.operation_id) for one in opens] == [*opens[:4], None]

    async def test_neighbours_in_a_batch_do_not_feel_each_others_failures(self, store: Store) -> None:
        taken, stale, late = SamplePayment(key="t"), SamplePayment(), SamplePayment()
        for sample in (taken, stale, late):
            await store.commit(sample.intent())
        await store.commit(late.approve())
        good = [SamplePayment() for _ in range(30)]
        bad = [
            SamplePayment(key="t").intent(),
            stale.approve(fence=8),
            _refund_of(stale.payment, "x"),
            _again(late),
        ]
        writes = [sample.intent() for sample in good]
        answers = await settled(*together(store, *writes[:15], *bad, *writes[15:]))
        assert [type(one) for one in answers[15:19]] == [
            ClaimTaken,
            StaleFence,
            VersionConflict,
            VersionConflict,
        ]
        assert answers[:15] + answers[19:] == [None] * 30
        for sample in good:
            assert await store.load(sample.id) == sample.payment

    async def test_two_hundred_payments_at_once_are_all_there(self, store: Store) -> None:
        samples = [SamplePayment() for _ in range(200)]

        async def pay(sample: SamplePayment) -> None:
            await store.commit(sample.intent())
            await store.commit(sample.approve())

        await asyncio.gather(*map(pay, samples))
        for sample in samples:
            assert await store.load(sample.id) == sample.payment
            assert await projection_is_fold(store, sample.id)
        assert await store.count_in_flight() == 0

    async def test_of_concurrent_writes_at_one_version_exactly_one_wins(
        self, store: Store, other: Store
    ) -> None:
        sample = SamplePayment()
        await store.commit(sample.intent())
        await store.commit(sample.approve())
        writes = [_refund_of(sample.payment, f"key {number}") for number in range(10)]
        answers = await settled(*together(store, *writes[:5]), *together(other, *writes[5:]))
        assert answers.count(None) == 1
        assert all(isinstance(one, VersionConflict) for one in answers if one)
        assert len(await store.load_events(sample.id)) == 4
        claims = [await other.find_claim(write.claim.digest) for write in writes if write.claim]
        assert [claim is not None for claim in claims] == [one is None for one in answers]

    async def test_a_claim_raced_for_by_two_instances_is_won_once(self, store: Store, other: Store) -> None:
        for turn in range(20):
            samples = [SamplePayment(key=f"race {turn}") for _ in range(2)]
            filler = [SamplePayment() for _ in range(6)]
            ours = together(store, *(one.intent() for one in [*filler[:3], samples[0]]))
            theirs = together(other, *(one.intent() for one in [samples[1], *filler[3:]]))
            answers = await settled(ours[3], theirs[0])
            assert await settled(*ours[:3], *theirs[1:]) == [None] * 6
            assert answers.count(None) == 1
            loser = samples[0 if answers[0] else 1]
            assert any(isinstance(one, ClaimTaken) and one.claim.payment_id != loser.id for one in answers)
            assert await store.load(loser.id) is None
            assert await store.find_in_flight(loser.operation_id) is None

    async def test_two_instances_that_write_the_same_payments_in_any_order_all_get_answers(
        self, store: Store, other: Store
    ) -> None:
        samples = [SamplePayment() for _ in range(20)]
        await asyncio.gather(*together(store, *(sample.intent() for sample in samples)))
        writes = [sample.approve() for sample in samples]
        answers = await settled(*together(store, *writes), *together(other, *reversed(writes)))
        assert answers.count(None) == 20
        assert all(isinstance(one, VersionConflict | StaleFence) for one in answers if one)
        for sample in samples:
            assert await projection_is_fold(other, sample.id)

    async def test_a_cancelled_caller_does_not_undo_its_write(self, store: Store) -> None:
        sample, neighbour = SamplePayment(), SamplePayment()
        commits = together(store, sample.intent(), neighbour.intent())
        await asyncio.sleep(0)
        commits[0].cancel()
        answers = await settled(*commits)
        assert isinstance(answers[0], asyncio.CancelledError)
        assert answers[1] is None
        assert await store.load(sample.id) == sample.payment


class StoreConformance(WritingConformance):
    """The whole suite."""

    async def test_what_is_due_is_leased_oldest_first_with_a_higher_fence(self, store: Store) -> None:
        samples = [SamplePayment() for _ in range(4)]
        for number, sample in enumerate(samples):
            await store.commit(sample.intent(due_at_us=START_US - number, tries=2, sent_at_us=7, owner=""))
        found = await store.lease_due(START_US - 1, "second-worker", LATER_US, 2)
        assert [row.operation_id for row in found] == [samples[3].operation_id, samples[2].operation_id]
        expected = samples[3].in_flight(
            owner="second-worker", fence=2, tries=3, due_at_us=LATER_US, sent_at_us=7
        )
        assert found[0] == expected == await store.find_in_flight(samples[3].operation_id)
        assert [row.operation_id for row in await store.lease_due(START_US - 1, "w", LATER_US, 9)] == [
            samples[1].operation_id
        ]
        assert await store.lease_due(START_US - 1, "w", LATER_US, 9) == []

    async def test_an_owner_that_never_gave_its_lease_back_may_have_sent_until_its_end(
        self, store: Store
    ) -> None:
        sample = SamplePayment()
        await store.commit(sample.intent(due_at_us=START_US, sent_at_us=7, owner="gone"))
        (taken,) = await store.lease_due(START_US, "w", LATER_US, 1)
        assert taken.sent_at_us == START_US
        stored = await store.find_in_flight(sample.operation_id)
        assert stored is not None and stored.sent_at_us == START_US

    async def test_a_write_under_a_fence_that_was_taken_over_is_refused(
        self, store: Store, other: Store
    ) -> None:
        sample = SamplePayment()
        await store.commit(sample.intent(due_at_us=START_US))
        (lease,) = await other.lease_due(START_US, "other", LATER_US, 10)
        late = sample.approve(fence=1)
        with pytest.raises(StaleFence):
            await store.commit(late)
        assert len(await store.load_events(sample.id)) == 2
        await other.commit(_with(late, guard=Guard(operation_id=sample.operation_id, fence=lease.fence)))
        assert await store.load(sample.id) == sample.payment

    async def test_two_workers_never_lease_the_same_row(self, store: Store, other: Store) -> None:
        samples = [SamplePayment() for _ in range(40)]
        await asyncio.gather(*together(store, *(sample.intent(due_at_us=START_US) for sample in samples)))
        found: list[InFlight] = []
        for _ in range(10):
            leased = await asyncio.gather(
                *(one.lease_due(START_US, "w", LATER_US, 3) for one in (store, other, store, other))
            )
            found += [row for rows in leased for row in rows]
        assert sorted(row.operation_id for row in found) == sorted(sample.operation_id for sample in samples)
        assert {row.fence for row in found} == {2}

    async def test_a_lease_is_renewed_only_under_its_fence(self, store: Store) -> None:
        sample = SamplePayment()
        await store.commit(sample.intent(due_at_us=START_US))
        assert await store.renew(sample.operation_id, 1, LATER_US)
        assert await store.lease_due(START_US, "w", LATER_US, 1) == []
        assert not await store.renew(sample.operation_id, 2, LATER_US)
        assert not await store.renew("op_" + new_hex(), 1, LATER_US)
        found = await store.find_in_flight(sample.operation_id)
        assert found == sample.in_flight(due_at_us=LATER_US, sent_at_us=found.sent_at_us if found else 0)

    async def test_only_calls_count_as_in_flight(self, store: Store) -> None:
        assert await store.count_in_flight() == 0
        for purpose in Purpose:
            await store.commit(SamplePayment().intent(purpose=purpose))
        assert await store.count_in_flight() == 1

    async def test_a_notice_is_kept_once_worked_on_when_due_and_forgotten_when_old(
        self, store: Store
    ) -> None:
        notices = [
            Notice(
                gateway="g", notice_id=f"n{i}", body="{}", received_at_us=START_US + i, due_at_us=START_US + i
            )
            for i in range(3)
        ]
        elsewhere = _with(notices[0], gateway="h", due_at_us=LATER_US)
        assert await store.keep_notices(notices) == 3
        assert await store.keep_notices([*notices, elsewhere]) == 1
        assert await store.keep_notices([]) == 0
        leased = await store.lease_notices(START_US + 1, LATER_US, 10)
        assert [(one.notice_id, one.tries, one.due_at_us) for one in leased] == [
            ("n0", 1, LATER_US),
            ("n1", 1, LATER_US),
        ]
        assert await store.lease_notices(START_US + 1, LATER_US, 10) == []
        await store.settle_notice(_with(leased[0], state=NoticeState.APPLIED))
        await store.settle_notice(_with(leased[1], due_at_us=START_US + 1))
        again = await store.lease_notices(START_US + 1, LATER_US, 10)
        assert [(one.notice_id, one.tries) for one in again] == [("n1", 2)]
        assert await store.prune_notices(START_US, 10) == 0
        assert await store.prune_notices(LATER_US, 10) == 1
        assert await store.keep_notices(notices) == 1

    async def test_notices_are_listed_by_their_state_newest_first(self, store: Store) -> None:
        def kept(gateway: str, notice_id: str, received_at_us: int) -> Notice:
            body = f'{{"from": "{gateway}"}}'
            return Notice(
                gateway=gateway,
                notice_id=notice_id,
                body=body,
                received_at_us=received_at_us,
                due_at_us=LATER_US,
            )

        old, new = kept("g", "old", START_US), kept("g", "new", START_US + 2)
        twins = [kept("h", "a", START_US + 1), kept("g", "b", START_US + 1), kept("g", "B", START_US + 1)]
        assert await store.list_notices(NoticeState.OPEN, 10) == []
        await store.keep_notices([old, new, *twins])
        in_order = [new, twins[2], twins[1], twins[0], old]
        assert await store.list_notices(NoticeState.OPEN, 10) == in_order
        assert await store.list_notices(NoticeState.OPEN, 2) == in_order[:2]
        await store.settle_notice(_with(new, state=NoticeState.UNMATCHED))
        await store.settle_notice(_with(old, state=NoticeState.APPLIED))
        assert await store.list_notices(NoticeState.UNMATCHED, 10) == [
            _with(new, state=NoticeState.UNMATCHED)
        ]
        assert await store.list_notices(NoticeState.APPLIED, 10) == [_with(old, state=NoticeState.APPLIED)]
        assert await store.list_notices(NoticeState.OPEN, 10) == in_order[1:4]

    async def test_events_are_read_up_to_a_version_or_a_time(self, store: Store) -> None:
        sample = SamplePayment()
        for write in (sample.intent(), sample.doubt(), sample.approve()):
            await store.commit(write)
        for version in range(6):
            assert await store.load_events(sample.id, until_version=version) == sample.events[:version]
        for number, event in enumerate(sample.events, start=1):
            assert await store.load_events(sample.id, until_us=event.at_us) == sample.events[:number]
            assert await store.load_events(sample.id, until_us=event.at_us - 1) == sample.events[: number - 1]
        both = await store.load_events(sample.id, until_version=3, until_us=sample.events[1].at_us)
        assert both == sample.events[:2]

    async def test_payments_are_listed_newest_first_page_by_page(self, store: Store) -> None:
        samples = [SamplePayment(merchant_id="shop") for _ in range(7)]
        for sample in samples:
            await store.commit(sample.intent())
        for sample in samples[::2]:
            await store.commit(sample.approve())
        await store.commit(SamplePayment(merchant_id="shop2").intent())
        newest = [sample.payment for sample in reversed(samples)]
        assert await store.list_payments("shop") == newest
        pages: list[Payment] = []
        before: str | None = None
        while page := await store.list_payments("shop", before_id=before, limit=3):
            assert len(page) <= 3
            pages += page
            before = page[-1].id
        assert pages == newest
        paid = await store.list_payments("shop", states=(PaymentState.SUCCEEDED, PaymentState.REFUNDED))
        assert paid == [sample.payment for sample in reversed(samples[::2])]
        assert await store.list_payments("shop", states=(PaymentState.FAILED,)) == []
        assert await store.list_payments("nobody") == []
        assert await store.list_payments("shop", limit=0) == []

    async def test_closing_finishes_what_was_accepted_and_refuses_the_rest(
        self, make_store: MakeStore
    ) -> None:
        store = make_store()
        with pytest.raises(NotRunning):
            await store.commit(SamplePayment().intent())
        await store.close()
        await store.open()
        await store.open()
        commits = together(store, *(SamplePayment().intent() for _ in range(300)))
        await asyncio.sleep(0)
        await asyncio.gather(store.close(), store.close())
        assert await settled(*commits) == [None] * 300
        await store.close()
        with pytest.raises(NotRunning):
            await store.commit(SamplePayment().intent())
        with pytest.raises(NotRunning):
            await store.load(UNKNOWN)

    async def test_what_was_committed_is_there_after_reopening(self, make_store: MakeStore) -> None:
        if not self.two_instances:
            pytest.skip("this store forgets everything when it is closed")
        sample, claim = SamplePayment(), None
        store = make_store()
        await store.open()
        write = sample.intent()
        await store.commit(write)
        claim = write.claim
        await store.close()
        await store.open()
        assert await store.load(sample.id) == sample.payment
        await store.close()
        again = make_store()
        await again.open()
        assert await again.load(sample.id) == sample.payment
        assert await again.load_events(sample.id) == sample.events
        assert isinstance(claim, Claim)
        assert await again.find_claim(claim.digest) == claim
        assert await again.find_in_flight(sample.operation_id) == write.opens[0]
        await again.commit(sample.approve())
        assert await projection_is_fold(again, sample.id)
        await again.close()

    async def test_durability_is_said(self, store: Store, make_store: MakeStore) -> None:
        assert store.durability.settings
        assert store.durability.durable is (store.durability.warning is None)
        with pytest.raises(NotRunning):
            _ = make_store().durability


def _refund_of(payment: Payment | None, key: str) -> Write:
    """A refund as somebody else would start it who has read this payment."""
    if payment is None:
        raise AssertionError("the payment was not begun")
    sample = SamplePayment(merchant_id=payment.merchant_id)
    sample.intent()
    sample.approve()
    write = sample.refund(1, key=key)
    started = _with(write.events[0], payment_id=payment.id, version=payment.version + 1)
    changed = _with(payment, version=payment.version + 1)
    if write.claim is None:
        raise AssertionError("a refund has a claim")
    return Write(
        payment=changed,
        events=(started,),
        expected_version=payment.version,
        claim=_with(write.claim, payment_id=payment.id),
        opens=tuple(_with(one, payment_id=payment.id) for one in write.opens),
    )


def _again(sample: SamplePayment) -> Write:
    """The last event of this payment once more."""
    payment = sample.payment
    if payment is None:
        raise AssertionError("the payment was not begun")
    return Write(payment=payment, events=(sample.events[-1],), expected_version=payment.version - 1)
