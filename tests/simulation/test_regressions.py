"""Seeds that failed once, each with what it found. The draws behind a seed may change as the simulation grows, so each
finding is also a planted bug, or a test of its own elsewhere, which is what keeps it from coming back.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from aegispay.testing.simulation import Simulation
from tests.simulation.planted_bugs import BUGS


class Finding(NamedTuple):
    seed: int
    mode: str
    what: str
    planted: str
    """The planted bug that brings it back."""


FINDINGS = (
    Finding(
        19,
        "normal",
        "a request under a used key was in flight when the right one came again, and the right one was refused",
        "flight_by_key_alone",
    ),
    Finding(
        337,
        "normal",
        "the quiet period counted from the record; the request left seconds later, at the end of its call",
        "quiet_from_start_of_call",
    ),
    Finding(
        0,
        "late",
        "a capture that was not found landed after the quiet period, and nobody looked again",
        "watch_of_attempts_only",
    ),
    Finding(
        9,
        "late",
        "a refund that was not found landed after the quiet period, and nobody looked again",
        "watch_of_attempts_only",
    ),
    Finding(
        1970,
        "normal",
        "a clock that was set forward made a key look younger than it was, and the refund was sent again after its expiry",
        "key_looks_younger_than_it_is",
    ),
    Finding(
        4096,
        "normal",
        "a process slept on a look-up's answer until the quiet period was over, and then believed it",
        "lookup_trusted_early",
    ),
    Finding(
        20,
        "normal",
        "an order stayed open after a try that had failed in the Checkout, and the payment had failed with it",
        "one_try_ends_a_checkout",
    ),
    Finding(
        115,
        "normal",
        "the PSP showed as canceled what we were about to void, and a person was asked",
        "a_void_of_ours_is_a_contradiction",
    ),
)


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda one: f"{one.mode}-{one.seed}")
def test_a_seed_that_failed_once_is_clean(finding: Finding) -> None:
    report = Simulation(finding.seed, mode=finding.mode).run()
    assert report.ok, (finding.what, report.violations)
    assert finding.planted in BUGS
