"""The planted bugs: each can still be planted, the canary fails at once, and a sample is found here on every run.

All of them: `python -m tests.simulation.planted_bugs`.
"""

from __future__ import annotations

import pytest

from tests.simulation.planted_bugs import BUGS, CANARY, find, main
from tests.simulation.planting import Mutation, Planted, planted

FOUND_SOON = (
    "answer_as_of_now",
    "authorisation_never_lapses",
    "claim_not_compared",
    "claim_not_written",
    "crash_means_not_sent",
    "failover_on_timeout",
    "in_flight_row_forgotten",
    "mark_before_send",
    "refund_without_reservation",
    "second_event_lost",
    "send_before_record",
    "watch_dropped",
)


def test_there_are_thirty_planted_bugs_or_more() -> None:
    assert len(BUGS) >= 30


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_still_finds_its_place_in_the_code(name: str) -> None:
    with planted(BUGS[name]):
        pass


def test_a_bug_that_cannot_be_planted_is_told() -> None:
    lost = Planted("", (Mutation("domain.decide:gateway_key", "there is no such line", ""),))
    with pytest.raises(LookupError), planted(lost):
        pass


def test_the_canary_fails_at_the_first_seeds() -> None:
    found = find(CANARY, 3)
    assert found is not None and found[0] == 0


def test_without_a_bug_the_same_seeds_are_clean() -> None:
    assert find(Planted("nothing at all", ()), 30) is None


@pytest.mark.parametrize("name", FOUND_SOON)
def test_a_sample_of_the_bugs_is_found_soon(name: str) -> None:
    assert find(BUGS[name], 60) is not None


def test_the_command_says_which_seed_found_what(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["claim_not_written", "canary"]) == 0
    shown = capsys.readouterr().out
    assert "claim_not_written: I8" in shown and "2 found, 0 alive" in shown
    assert main(["no_such_bug"]) == 2
