"""Which faults may strike in a run, how often, and how often each did. Every draw comes from the run's seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping

INSTANCE = (
    "crash_at_port",
    "crash_mid_call",
    "crash_any_time",
    "stall_at_port",
    "all_stall_at_port",
    "stall",
    "long_stall",
    "cancel_request",
    "clock_jump",
)
DATABASE = ("commit_lost", "commit_acknowledgement_lost", "database_away")
NETWORK = (
    "connection_refused",
    "connect_slow",
    "request_lost",
    "reset_before",
    "reply_lost",
    "lands_late",
    "duplicated",
    "error_before",
    "error_after",
    "error_kept_before",
    "error_kept_after",
    "rate_limited",
    "garbage",
    "truncated",
    "slow",
)
PSP = ("psp_down", "lookup_lags")
WEBHOOK = ("webhook_held", "webhook_doubled", "webhook_repeated", "webhook_forged", "webhook_ack_lost")
KINDS = (*INSTANCE, *DATABASE, *NETWORK, *PSP, *WEBHOOK)

_RATE_MAX: Mapping[str, float] = {
    # Per port call, per commit or per request; the rest is drawn per minute of virtual time.
    "crash_at_port": 0.015,
    "crash_mid_call": 0.2,
    "stall_at_port": 0.04,
    "all_stall_at_port": 0.004,
    "commit_lost": 0.05,
    "commit_acknowledgement_lost": 0.05,
    **dict.fromkeys(NETWORK, 0.2),
    "error_kept_before": 0.06,
    "error_kept_after": 0.06,
    "crash_any_time": 1.0,
    "stall": 1.0,
    "long_stall": 0.6,
    "cancel_request": 0.15,
    "clock_jump": 0.3,
    "database_away": 0.6,
    "psp_down": 0.6,
    "lookup_lags": 1.0,
    **dict.fromkeys(WEBHOOK, 0.4),
}


def random_rates(source: random.Random, allowed: tuple[str, ...]) -> dict[str, float]:
    """A random subset of the allowed faults, each with a random rate; one run in twelve has none."""
    if source.random() < 1 / 12:
        return {}
    share = source.random()
    rates: dict[str, float] = {}
    for kind in KINDS:
        wanted, rate = source.random() < share, source.random() ** 2 * _RATE_MAX[kind]
        if wanted and kind in allowed:
            rates[kind] = round(rate, 4)
    return rates


class Faults:
    """Decides, and counts."""

    def __init__(self, source: random.Random, rates: Mapping[str, float]):
        self.random = source
        self._rates = dict(rates)
        self.fired: Counter[str] = Counter()
        self.active = True

    def rate(self, kind: str) -> float:
        return self._rates.get(kind, 0.0) if self.active else 0.0

    def hit(self, kind: str) -> bool:
        """Whether this fault strikes now."""
        rate = self._rates.get(kind)
        if not rate or not self.active or self.random.random() >= rate:
            return False
        self.fired[kind] += 1
        return True

    def fire(self, kind: str) -> None:
        """Counts a fault that was decided elsewhere."""
        self.fired[kind] += 1

    def stop(self) -> None:
        """From now on nothing strikes; what is on its way still arrives."""
        self.active = False
