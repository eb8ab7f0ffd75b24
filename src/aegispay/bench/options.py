"""What a benchmark run is asked to do, checked before anything is started."""

from __future__ import annotations

import msgspec

from aegispay.domain.errors import ConfigError
from aegispay.storage import urls

ARRIVALS = ("poisson", "constant")
CONCURRENCY_MAX = 10_000
RATE_MAX = 1_000_000.0
SECONDS_MAX = 86_400.0
PREFILL_MAX = 50_000_000


class BenchOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Raises `ConfigError` where a value makes no sense. Times are seconds."""

    store: str = "sqlite"
    """`sqlite` or `postgres` for a throwaway one; or `sqlite:///file`, `postgres=DSN`, `postgresql://...`."""
    concurrency: int = 64
    """Callers in the closed loop: each starts its next payment when it has the answer to the last."""
    seconds: float = 10.0
    """How long is measured, after the warm-up."""
    rate: float | None = None
    """Payments a second that arrive whether or not earlier ones are done (open loop); None: closed loop."""
    arrivals: str = "poisson"
    """How they arrive at that rate: `poisson` or `constant`."""
    seed: int = 1
    """Of the arrivals."""
    warmup_s: float = 1.0
    json_path: str | None = None
    """Where the whole report goes as JSON; `-` is the standard output, and nothing else is printed then."""
    replay: bool = False
    """Whether idempotent replays are measured too, in this process and after a restart."""
    prefill: int = 0
    """So many finished payments are loaded before the run."""
    uvloop: bool | None = None
    """None: where it is installed."""
    quiet: bool = False

    def __post_init__(self) -> None:
        self._within("concurrency", self.concurrency, 1, CONCURRENCY_MAX)
        self._within("seconds", self.seconds, 0.1, SECONDS_MAX)
        self._within("warmup_s", self.warmup_s, 0, SECONDS_MAX)
        self._within("prefill", self.prefill, 0, PREFILL_MAX)
        if self.rate is not None:
            self._within("rate", self.rate, 0.1, RATE_MAX)
        if self.arrivals not in ARRIVALS:
            raise ConfigError(f"arrivals are {' or '.join(ARRIVALS)}, not {self.arrivals!r}.")
        if self.throwaway is None:
            url = self.url
            if not urls.is_postgres(url) and urls.sqlite_path(url) == urls.MEMORY:
                raise ConfigError(
                    "a benchmark in memory says nothing about durable payments.", hint="Use --store sqlite."
                )

    def _within(self, name: str, value: float, least: float, most: float) -> None:
        if not least <= value <= most:
            raise ConfigError(f"{name} is from {least} to {most:.0f}, not {value}.")

    @property
    def throwaway(self) -> str | None:
        """`sqlite` or `postgres` where a store is made for the run and removed after it."""
        return self.store if self.store in ("sqlite", "postgres") else None

    @property
    def url(self) -> str:
        """The URL of a store that exists already."""
        return self.store.removeprefix("postgres=") if self.store.startswith("postgres=") else self.store
