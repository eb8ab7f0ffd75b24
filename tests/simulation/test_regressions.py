"""Seeds that failed once, each with what it found. The draws behind a seed may change as the simulation grows, so each
finding is also a planted bug, or a test of its own elsewhere, which is what keeps it from coming back.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from aegispay.testing.simulation import Simulation
from tests.simulation.planted_bugs import BUGS

TESTS = Path(__file__).parents[1]


class Finding(NamedTuple):
    seed: int
    mode: str
    what: str
    kept_by: str
    """The planted bug that brings it back, or the test that keeps it away."""


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
    *(
        Finding(
            seed,
            "normal",
            "a void at a PSP that has none was in doubt after a crash, and a person was asked a day later",
            "orchestration/test_doubt.py::test_a_void_that_the_psp_does_not_have_is_never_in_doubt",
        )
        for seed in (11789, 12206, 17050)
    ),
    Finding(
        27322,
        "normal",
        "what was handed over under a clock days ahead was not looked at for days",
        "orchestration/test_clock_ahead.py::test_work_is_not_put_off_by_as_much_as_a_clock_runs_ahead",
    ),
    *(
        Finding(
            seed,
            "normal",
            "a person was asked at once under a clock that ran ahead of the time by a day",
            "orchestration/test_clock_ahead.py::test_a_person_is_asked_a_day_after_the_call_and_not_when_a_clock_jumps",
        )
        for seed in (15187, 15967)
    ),
    Finding(
        161077,
        "normal",
        "a payer's step that was still open was taken for the end of a confirmation, which landed after the void",
        "orchestration/test_open_orders.py::test_a_step_that_is_still_open_ends_no_confirmation_that_is_on_its_way",
    ),
    *(
        Finding(
            seed,
            "late",
            "the oracle missed an unwanted authorisation in our books that a person had been asked about",
            "simulation/test_simulation.py::test_no_promise_is_broken",
        )
        for seed in (354, 563, 835, 1282)
    ),
    Finding(
        53574,
        "normal",
        "a lost confirmation of an order that nobody came to pay was watched, and a person was asked",
        "orchestration/test_open_orders.py::test_an_order_that_stays_open_after_a_lost_confirmation_is_nobodys_business",
    ),
    Finding(
        59937,
        "normal",
        "the simulation took a request that had only just begun for one that was never answered",
        "simulation/test_simulation.py::test_no_promise_is_broken",
    ),
    Finding(
        53268,
        "normal",
        "a person was asked while a quiet period ran that a clock ahead had begun, at a PSP whose key had expired",
        "orchestration/test_clock_ahead.py::test_a_key_that_has_expired_leaves_the_quiet_period_to_wait_for",
    ),
    Finding(
        50111,
        "normal",
        "a lease that a clock ahead had written ended a day late, and a person was asked at the first look after it",
        "orchestration/test_clock_ahead.py::test_nobody_is_asked_at_the_first_look_after_a_lease_that_ended_a_day_late",
    ),
    *(
        Finding(
            seed,
            "normal",
            "a confirmation that was not found was watched, by a reference that had become another, though a later one won",
            "orchestration/test_open_orders.py::test_a_confirmation_is_watched_no_longer_than_until_another_one_has_won",
        )
        for seed in (111892, 116036)
    ),
    *(
        Finding(
            seed,
            "normal",
            "a webhook was held back by a lease that a clock ahead had written",
            "orchestration/test_inbound.py::test_a_lease_from_a_clock_that_ran_ahead_holds_no_notice_back",
        )
        for seed in (9278, 12043, 18997, 21639)
    ),
    *(
        Finding(
            seed,
            "normal",
            "the oracle took a later capture for an earlier one that had failed",
            "simulation/test_simulation.py::test_no_promise_is_broken",
        )
        for seed in (14691, 19706)
    ),
    *(
        Finding(
            seed,
            "late",
            "the oracle did not know that a person was asked about a capture or void at Braintree that had landed late",
            "simulation/test_simulation.py::test_no_promise_is_broken",
        )
        for seed in (1648, 2040, 2424)
    ),
    *(
        Finding(
            seed,
            "dashboard",
            "the oracle did not know that a person is asked where a confirmation is answered by somebody's void",
            "simulation/test_simulation.py::test_no_promise_is_broken",
        )
        for seed in (1029, 1127)
    ),
    Finding(
        1451,
        "dashboard",
        "the oracle did not know that a refund told of during a day of doubt is left in the list of notices",
        "simulation/test_simulation.py::test_no_promise_is_broken",
    ),
    Finding(
        3,
        "dashboard",
        "what somebody captured at PayPal was taken for news of the authorisation, and was in nobody's books",
        "dashboard_capture_is_old_news",
    ),
    Finding(
        4,
        "dashboard",
        "PayPal was asked about a dashboard refund without the capture that it gave back, and never confirmed it",
        "refund_is_confirmed_without_its_capture",
    ),
    Finding(
        223,
        "dashboard",
        "an authorisation in doubt was captured in part and voided at the dashboard, and the payment was told as failed",
        "voided_authorisation_took_nothing",
    ),
    Finding(
        33,
        "dashboard",
        "a refund was told of before the capture that it gave back, and a person was asked",
        "refund_faster_than_its_capture",
    ),
    Finding(
        147,
        "dashboard",
        "a release was told of before the capture and the refund that preceded it, and both were lost to our books",
        "what_was_released_was_not_captured",
    ),
    Finding(
        59,
        "dashboard",
        "a capture was told of before the authorisation was known to be approved, and a person was asked",
        "capture_faster_than_its_authorisation",
    ),
    *(
        Finding(
            seed,
            "dashboard",
            "after a partial capture at Stripe's dashboard the rest counted as reserved until a void of it was refused",
            "captured_once_and_still_held",
        )
        for seed in (242, 296)
    ),
    *(
        Finding(
            seed,
            "dashboard",
            "a person was asked, let the authorisation go at the dashboard, and that was not booked while they were asked",
            "orchestration/test_news_of_captures.py"
            "::test_what_the_asked_person_releases_is_booked_and_what_nothing_confirms_waits_for_them",
        )
        for seed in (412, 602, 734)
    ),
    *(
        Finding(
            seed,
            "dashboard",
            "somebody's capture or refund at PayPal was taken for ours, of another amount, and a person was asked",
            "unit/test_paypal_gateway.py::test_what_is_unmarked_and_of_another_amount_or_older_is_not_ours",
        )
        for seed in (161, 385, 519)
    ),
)


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda one: f"{one.mode}-{one.seed}")
def test_a_seed_that_failed_once_is_clean(finding: Finding) -> None:
    report = Simulation(finding.seed, mode=finding.mode).run()
    assert report.ok, (finding.what, report.violations)
    file, _, name = finding.kept_by.partition("::")
    text = (TESTS / file).read_text(encoding="utf-8") if name else ""
    assert finding.kept_by in BUGS or f"def {name}(" in text, finding.kept_by
