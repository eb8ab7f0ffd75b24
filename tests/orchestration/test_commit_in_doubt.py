"""The store wrote, and its answer was lost: what the next try learns, and what the caller is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aegispay.app import AegisPay
from aegispay.domain import errors
from aegispay.domain.money import Money
from aegispay.storage.store import Write
from aegispay.testing.instant_gateway import InstantGateway
from tests.orchestration.harness import World
from tests.orchestration.test_doubt import KEYED

USD100 = Money(100_00, "USD")
Make = Callable[..., World]


def loses_answer(pay: AegisPay, number: int, then: BaseException | None = None) -> list[int]:
    """The answer to this commit (1, 2, ...) is lost after it was applied; the tries after it fail with `then`."""
    commit = pay.store.commit
    count = [0]

    async def lossy(write: Write) -> None:
        count[0] += 1
        if count[0] > number and then is not None:
            raise then
        await commit(write)
        if count[0] == number:
            raise errors.StoreUnavailable("the connection was lost.")

    pay.store.commit = lossy  # type: ignore[method-assign]
    return count


@pytest.mark.parametrize("number", [1, 2])
async def test_a_write_that_was_applied_is_not_written_again(make_world: Make, number: int) -> None:
    world = make_world(InstantGateway("alpha", KEYED))
    pay = await world.instance()
    loses_answer(pay, number)
    done = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    assert done.is_success() and done.payment.version == len(await pay.event_store.events(done.payment_id))
    assert world.taken_in_all_minor() == 100_00
    await world.check_books(pay)


async def test_somebody_elses_write_in_its_place_is_a_conflict(make_world: Make) -> None:
    """It was not applied, and somebody else wrote: the outcome is recorded on what is there now, not taken as recorded."""
    world = make_world(InstantGateway("alpha", KEYED))
    pay = await world.instance()
    commit = pay.store.commit
    tries: list[Write] = []

    async def away_and_then_overtaken(write: Write) -> None:
        tries.append(write)
        if len(tries) == 2:
            raise errors.StoreUnavailable("the connection was lost.")
        if len(tries) == 3:
            raise errors.VersionConflict(payment_id=write.payment.id)
        await commit(write)

    pay.store.commit = away_and_then_overtaken  # type: ignore[method-assign]
    done = await pay.charge(USD100, "tok_ok", idempotency_key="k")
    assert done.is_success() and len(tries) == 4
    assert (await pay.get(done.payment_id)).captured_minor == 100_00
    assert world.taken_in_all_minor() == 100_00
    await world.check_books(pay)


@pytest.mark.parametrize(
    "then", [errors.Overloaded("busy."), errors.StoreFull("full."), errors.StoreUnavailable("away.")]
)
async def test_nobody_is_told_that_a_write_had_no_effect_if_it_may_have_had_one(
    make_world: Make, then: errors.AegisPayError
) -> None:
    pay = await make_world(InstantGateway("alpha", KEYED)).instance()
    loses_answer(pay, 1, then)
    with pytest.raises(errors.AegisPayError) as caught:
        await pay.charge(USD100, "tok_ok", idempotency_key="k")
    assert caught.value.effect == "unknown" and caught.value.retryable
    assert (caught.value.payment_id or "").startswith("pay_")


async def test_a_write_that_was_refused_at_once_had_no_effect(make_world: Make) -> None:
    pay = await make_world(InstantGateway("alpha", KEYED)).instance()

    async def busy(write: Write) -> None:
        raise errors.Overloaded("busy.")

    pay.store.commit = busy  # type: ignore[method-assign]
    with pytest.raises(errors.Overloaded) as caught:
        await pay.charge(USD100, "tok_ok", idempotency_key="k")
    assert caught.value.effect == "none"


async def test_a_store_that_stays_away_is_tried_six_times_and_then_told(make_world: Make) -> None:
    pay = await make_world(InstantGateway("alpha", KEYED)).instance()
    tries = 0

    async def away(write: Write) -> None:
        nonlocal tries
        tries += 1
        raise errors.StoreUnavailable("away.")

    pay.store.commit = away  # type: ignore[method-assign]
    with pytest.raises(errors.StoreUnavailable):
        await pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=60.0)
    assert tries == 6
