"""What is left of a call's time, over several requests."""

from __future__ import annotations

from aegispay.ports import Clock


class Deadline:
    """Begins when it is made."""

    def __init__(self, clock: Clock, timeout_s: float) -> None:
        self._clock = clock
        self._ends_s = clock.monotonic_s() + timeout_s

    def left_s(self) -> float:
        return self._ends_s - self._clock.monotonic_s()
