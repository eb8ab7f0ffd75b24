"""A wall clock that is set while we run: what ends is over at once, and what must have passed has not."""

from __future__ import annotations

import pytest

from aegispay.ports import SteadyClock

START_US = 1_790_000_000_000_000


class Hands:
    """A clock whose two times are set by hand."""

    def __init__(self) -> None:
        self.wall_us = START_US
        self.monotonic = 1_000.0

    def now_us(self) -> int:
        return self.wall_us

    def monotonic_s(self) -> float:
        return self.monotonic

    async def sleep(self, seconds: float) -> None:
        raise AssertionError(seconds)

    def pass_s(self, seconds: float) -> None:
        self.wall_us += int(seconds * 1_000_000)
        self.monotonic += seconds


def test_while_nobody_sets_the_clock_there_is_one_time() -> None:
    hands = Hands()
    clock = SteadyClock(hands)
    hands.pass_s(90.0)
    assert clock.now_us() == clock.steady_us() == clock.earliest_us() == START_US + 90_000_000


@pytest.mark.parametrize("jump_s", [5.0, 86_400.0])
def test_set_forward_the_lease_is_over_and_the_quiet_period_is_not(jump_s: float) -> None:
    hands = Hands()
    clock = SteadyClock(hands)
    hands.wall_us += int(jump_s * 1_000_000)
    assert clock.now_us() == START_US + int(jump_s * 1_000_000)
    assert clock.earliest_us() == clock.steady_us() == START_US


@pytest.mark.parametrize("jump_s", [5.0, 86_400.0])
def test_set_back_time_goes_on_and_a_quiet_period_lasts_longer(jump_s: float) -> None:
    hands = Hands()
    clock = SteadyClock(hands)
    hands.pass_s(60.0)
    hands.wall_us -= int(jump_s * 1_000_000)
    assert clock.now_us() == clock.steady_us() == START_US + 60_000_000
    assert clock.earliest_us() == START_US + 60_000_000 - int(jump_s * 1_000_000)


def test_after_a_suspension_that_the_monotonic_clock_missed_nothing_has_passed_but_the_lease() -> None:
    hands = Hands()
    clock = SteadyClock(hands)
    hands.wall_us += 3_600_000_000
    assert clock.now_us() - START_US == 3_600_000_000
    assert clock.earliest_us() == START_US
