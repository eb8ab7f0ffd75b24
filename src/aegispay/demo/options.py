"""What a run of the demo may be told, and the times that it works with. It knows nothing of scenarios or screens."""

from __future__ import annotations

import msgspec

from aegispay.orchestration.settings import Settings
from aegispay.resilience.retry import RetryPolicy
from aegispay.sandbox.webhooks import NoticeFault, NoticePlan


class DemoOptions(msgspec.Struct, frozen=True, kw_only=True):
    """One run."""

    seed: int | None = None
    """Decides the mixed payments and their faults; None draws a new one."""
    payments: int = 1000
    """Mixed payments after the scenarios."""
    json: bool = False
    """Print nothing but one JSON object at the end."""
    keep: str | None = None
    """A directory for the databases and the log; None uses a temporary one, which is removed."""


LATE_S = 1.0
"""When a late request lands: after its client gave up, so longer than a call may take."""
LOOKUP_QUIET_S = 1.6
"""What the PSPs here promise: a request lands within this time, or never. Longer than `LATE_S`."""
PAYER_TIMEOUT_S = 4.0
"""How long Razorpay waits for a payer here: one whose way to the bank's page was lost never comes."""

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


def notice_plan(seed: int) -> NoticePlan:
    """What befalls the PSPs' webhooks on their way: some come twice, late, out of order, or after a forged copy.

    None is lost for good: a PSP goes on for days, and a capture at Adyen ends by its webhook only.
    """
    return NoticePlan(
        seed=seed,
        probabilities={
            NoticeFault.DUPLICATE: 0.1,
            NoticeFault.LOST_ANSWER: 0.05,
            NoticeFault.HELD: 0.1,
            NoticeFault.FORGED: 0.05,
        },
        tries_max=8,
        retry_s=0.1,
    )
