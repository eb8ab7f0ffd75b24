"""A deadline that several callers share: whoever is willing to wait longest moves it."""

from __future__ import annotations

from aegispay.ports import Clock


class Deadline:
    """A moment in monotonic time."""

    __slots__ = ("_at_s", "_clock")

    def __init__(self, clock: Clock, timeout_s: float):
        self._clock = clock
        self._at_s = clock.monotonic_s() + timeout_s

    def extend(self, timeout_s: float) -> None:
        """Moves the deadline to this many seconds from now, unless it lies later already."""
        self._at_s = max(self._at_s, self._clock.monotonic_s() + timeout_s)

    def allows(self, delay_s: float = 0.0) -> bool:
        """Whether there is time left after waiting this long."""
        return self._clock.monotonic_s() + delay_s < self._at_s
