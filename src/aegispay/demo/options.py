"""What a run of the demo may be told, and the times that it works with. It knows nothing of scenarios or screens."""

from __future__ import annotations

import msgspec

from aegispay.orchestration.settings import Settings
from aegispay.resilience.retry import RetryPolicy


class DemoOptions(msgspec.Struct, frozen=True, kw_only=True):
    """One run."""

    seed: int | None = None
    """Decides the mixed payments and their faults; None draws a new one."""
    payments: int = 2000
    """Mixed payments after the scenarios."""
    json: bool = False
    """Print nothing but one JSON object at the end."""
    keep: str | None = None
    """A directory for the databases and the log; None uses a temporary one, which is removed."""


LATE_S = 1.0
"""When a late request lands: after its client gave up, so longer than a call may take."""
LOOKUP_QUIET_S = 1.6
"""What PlainPay promises: a request lands within this time, or never. Longer than `LATE_S`."""

SETTINGS = Settings(
    call_timeout_s=0.8,
    answer_timeout_s=6.0,
    lease_margin_s=0.4,
    recovery_interval_s=0.1,
    recovery_concurrency_max=32,
    watch_after_s=2.0,
    inline_retry=RetryPolicy(attempts_max=3, initial_delay_s=0.03, delay_max_s=0.3),
    recovery_retry=RetryPolicy(attempts_max=1_000_000, initial_delay_s=0.1, delay_max_s=1.0),
)
"""As in production, only quicker: everything has to be settled while somebody watches."""
