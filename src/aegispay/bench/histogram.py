"""Latencies in bounded memory: a histogram whose error is at most 0.1 %, however many values it takes."""

from __future__ import annotations

from array import array

import msgspec

_BITS = 10
_HALF = 1 << _BITS
"""Sub-buckets per power of two: a bucket is at most 1/1024 of its value wide."""
_OCTAVES = 32
_VALUE_MAX = (_HALF << _OCTAVES) - 1
"""About 50 days in microseconds; what is longer counts as this."""


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Percentiles in milliseconds, rounded up to the end of their bucket (0.1 % at most); `max_ms` is exact."""

    count: int
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float


class Histogram:
    """Microseconds below 2,048 are kept exactly, longer ones in buckets that grow with the value."""

    __slots__ = ("_counts", "count", "max_us", "sum_us")

    def __init__(self) -> None:
        self._counts = array("Q", bytes(8 * _HALF * (_OCTAVES + 1)))
        self.count = 0
        self.sum_us = 0
        self.max_us = 0

    def add(self, value_us: int) -> None:
        value = max(value_us, 0)
        if value > self.max_us:
            self.max_us = value
        self.count += 1
        self.sum_us += value
        value = min(value, _VALUE_MAX)
        shift = max(value.bit_length() - _BITS - 1, 0)
        self._counts[(shift << _BITS) + (value >> shift)] += 1

    def percentile_us(self, percent: float) -> int:
        """The smallest bucket end that at least this share of the values does not exceed; 0 where there are none."""
        wanted = max(1, -(-self.count * percent // 100))
        seen = 0
        for index, count in enumerate(self._counts):
            seen += count
            if seen >= wanted and count:
                shift = max((index >> _BITS) - 1, 0)
                end = ((index - (shift << _BITS) + 1) << shift) - 1
                return min(end, self.max_us)
        return 0

    def latency(self) -> Latency:
        return Latency(
            count=self.count,
            mean_ms=round(self.sum_us / self.count / 1000, 3) if self.count else 0.0,
            p50_ms=self.percentile_us(50) / 1000,
            p95_ms=self.percentile_us(95) / 1000,
            p99_ms=self.percentile_us(99) / 1000,
            p999_ms=self.percentile_us(99.9) / 1000,
            max_ms=self.max_us / 1000,
        )
