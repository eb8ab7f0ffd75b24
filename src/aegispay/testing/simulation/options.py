"""What one seed stands for: the whole option set of a run, drawn from it. Printed when a run fails."""

from __future__ import annotations

import random
from enum import StrEnum

import msgspec

from aegispay.orchestration.settings import DoubtPolicy, Settings
from aegispay.resilience.retry import RetryPolicy
from aegispay.testing.simulation import faults


class Mode(StrEnum):
    """Which world is drawn from."""

    NORMAL = "normal"
    """Every PSP keeps what its capabilities promise; everything else may fail."""
    LATE = "late"
    """Requests may land after the PSP's quiet period: a promise of the PSP is broken. Charged twice for a while is then
    unavoidable; it must be found by the watch and reversed."""
    DASHBOARD = "dashboard"
    """As `normal`, and people act at the PSPs' own pages beside us: they capture, release and give back there."""
    CALM = "calm"
    """No faults at all."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a run is made of. Times are seconds."""

    seed: int
    mode: Mode
    instances: int
    psps: tuple[str, ...]
    histories: int
    """Simulated customers, each with one payment and what becomes of it."""
    safety_s: float
    """How long clients come and faults strike."""
    skew_s_max: float
    """How far apart the instances' clocks are."""
    quiet_s: float
    """The quiet period that PSPs without keys declare."""
    late_share: float
    """Of what the quiet period leaves, the share that a request on its way may take; the look-up's lag may take the rest."""
    key_ttl_s: float
    """How long a model PSP with keys keeps one; the Stripe face keeps them for 24 hours."""
    call_timeout_s: float
    answer_timeout_s: float
    lease_margin_s: float
    action_timeout_s: float
    resends_max: int
    doubt_policy: DoubtPolicy
    webhooks: bool
    """Whether PSPs deliver webhooks; those whose outcomes come by webhook alone always do."""
    rates: dict[str, float]

    def settings(self) -> Settings:
        """The settings that every instance runs with."""
        return Settings(
            call_timeout_s=self.call_timeout_s,
            answer_timeout_s=self.answer_timeout_s,
            lease_margin_s=self.lease_margin_s,
            action_timeout_s=self.action_timeout_s,
            resends_max=self.resends_max,
            doubt_policy=self.doubt_policy,
            watch_after_s=600.0 if self.mode is not Mode.LATE else 2 * self.quiet_s + 600.0,
            recovery_retry=RetryPolicy(attempts_max=1_000_000, initial_delay_s=1.0, delay_max_s=600.0),
        )


BUILT_IN = ("stripe", "razorpay", "paypal", "braintree", "adyen", "plainpay", "keyed", "lookup", "cancel")
"""The PSPs that come with the simulation: real adapters over the sandbox's faces, and models of other kinds."""

_WITH_PAGES = ("stripe", "razorpay", "paypal", "adyen")
"""Those that tell by webhook of all that is done at their own pages."""


_EXTRA = {"lookup": 2, "keyed": 1, "cancel": 1}
"""The models come more often than each of the real adapters, since they stand for all that users may write."""
THEMES: tuple[dict[str, float], ...] = (
    {"stall_at_port": 0.03, "lands_late": 0.1},
    {"crash_mid_call": 0.15, "lands_late": 0.3, "request_lost": 0.05, "connection_refused": 0.2},
    {"crash_at_port": 0.02, "commit_acknowledgement_lost": 0.1, "commit_lost": 0.1, "reply_lost": 0.1},
    {"reply_lost": 0.4, "all_stall_at_port": 0.05, "lookup_lags": 1.0},
    {"cancel_request": 0.3, "stall_at_port": 0.02, "slow": 0.2},
    {"clock_jump": 3.0, "crash_mid_call": 0.15, "lands_late": 0.3, "reply_lost": 0.1},
    {
        "webhook_held": 0.5,
        "webhook_repeated": 0.3,
        "webhook_doubled": 0.3,
        "reply_lost": 0.2,
        "crash_at_port": 0.01,
    },
    {"clock_jump": 3.0, "reply_lost": 0.4, "lookup_lags": 1.0, "all_stall_at_port": 0.02},
    {"webhook_held": 0.3, "reply_lost": 0.2, "stall_at_port": 0.03, "crash_at_port": 0.01},
)
"""Faults that are dangerous together. One run in three or so has one of these, and little else."""
THEME_PSP = {0: "lookup", 1: "lookup", 3: "keyed", 5: "lookup", 6: "adyen", 7: "keyed", 8: "razorpay"}
"""Where a theme is most dangerous: no keys and no cancels, keys that are forgotten, outcomes told by webhook only,
Checkouts that a payer may try twice."""


def _themed(
    source: random.Random, rates: dict[str, float], chosen: tuple[str, ...], psps: tuple[str, ...]
) -> tuple[dict[str, float], tuple[str, ...]]:
    """The drawn rates and PSPs, or, at times, a theme with a tenth of the rates beside it."""
    themed, number = source.random() < 0.3, source.randrange(len(THEMES))
    if not themed or not rates:
        return rates, chosen
    first = THEME_PSP.get(number)
    if first is not None and first in psps:
        chosen = (first, *(name for name in chosen if name != first))[:2]
    return {**{kind: round(rate / 10, 4) for kind, rate in rates.items()}, **THEMES[number]}, chosen


def draw(seed: int, mode: Mode = Mode.NORMAL, psps: tuple[str, ...] = BUILT_IN) -> Options:
    """The options that this seed stands for."""
    source = random.Random(f"options:{seed}:{mode}")  # noqa: S311 - replayable on purpose
    allowed = () if mode is Mode.CALM else faults.KINDS
    weighted = [
        *psps,
        *(name for name in psps for _ in range(_EXTRA.get(name, 0))),
    ]  # It has the least to go by, so most can go wrong.
    source.shuffle(weighted)
    chosen = tuple(dict.fromkeys(weighted))[: source.choice((1, 2, 2, 2, 3))]
    if mode is Mode.LATE and not {"lookup"} & set(chosen) and "lookup" in psps:
        # Only a PSP that has neither keys nor a cancel by reference can be surprised by a request that lands late.
        chosen = ("lookup", *chosen[:1])
    paged = [name for name in _WITH_PAGES if name in psps]
    if mode is Mode.DASHBOARD and paged and not set(chosen) & set(paged):
        chosen = (source.choice(paged), *chosen[:1])
    rates = faults.random_rates(source, allowed)
    if mode in (Mode.NORMAL, Mode.DASHBOARD):
        rates, chosen = _themed(source, rates, chosen, psps)
    if mode is Mode.LATE:
        rates = {
            kind: rate
            for kind, rate in rates.items()
            if kind in ("request_lost", "reply_lost", "slow", "stall", "error_before", "crash_at_port")
        }
        rates["lands_late"] = 0.25
    call_timeout_s = source.choice((2.0, 5.0, 10.0))
    quiet_s = source.choice((30.0, 120.0, 600.0))
    return Options(
        seed=seed,
        mode=mode,
        instances=source.choice((1, 2, 2, 3)),
        psps=chosen,
        histories=source.randint(4, 12),
        safety_s=source.choice((30.0, 120.0, 600.0)),
        skew_s_max=source.choice((0.0, 0.0, 0.5, 2.0)) * (mode is not Mode.CALM),
        quiet_s=quiet_s,
        late_share=source.choice((0.5, 1.0, 1.0)),
        key_ttl_s=2 * quiet_s + source.choice((180.0, 3600.0, 86_400.0)),
        call_timeout_s=call_timeout_s,
        answer_timeout_s=source.choice((5.0, 30.0)),
        lease_margin_s=source.choice((1.0, 5.0)),
        action_timeout_s=source.choice((60.0, 3600.0)),
        resends_max=source.choice((2, 8)),
        doubt_policy=source.choice(
            (DoubtPolicy.HOLD, DoubtPolicy.HOLD, DoubtPolicy.REVERSE, DoubtPolicy.REVIEW)
        ),
        webhooks=source.random() < 0.7 or mode is Mode.DASHBOARD,
        rates=rates,
    )
