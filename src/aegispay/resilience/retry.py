"""Exponential backoff with jitter, as a pure function of the try and a random source."""

from __future__ import annotations

import random

import msgspec

from aegispay.domain.errors import ConfigError


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How long to wait before try 2, 3, ... All delays are seconds.

    With jitter the delay lies between half and the whole of the exponential value, so that callers who failed together do
    not come back together. Raises `ConfigError` for values that make no sense.
    """

    attempts_max: int = 3
    """Tries in all, the first included."""
    initial_delay_s: float = 0.1
    delay_max_s: float = 30.0
    multiplier: float = 2.0
    jitter: bool = True

    def __post_init__(self) -> None:
        if self.attempts_max < 1 or self.initial_delay_s < 0 or self.multiplier < 1 or self.delay_max_s < 0:
            raise ConfigError("a retry policy needs attempts_max >= 1, delays >= 0 and multiplier >= 1.")

    def delay_s(self, tries: int, source: random.Random) -> float:
        """The wait after `tries` tries (1, 2, ...)."""
        exponent = min(max(tries, 1) - 1, 60)
        delay = min(self.initial_delay_s * self.multiplier**exponent, self.delay_max_s)
        return delay * (0.5 + source.random() / 2) if self.jitter else delay
