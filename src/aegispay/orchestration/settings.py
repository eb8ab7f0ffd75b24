"""The orchestrator's settings, each with its unit and limits."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from aegispay.domain.errors import ConfigError
from aegispay.resilience.retry import RetryPolicy

AFTER_DOUBT = "succeeded_after_doubt"
"""The reason of what a policy makes follow a success that was in doubt."""

HARD_TIMEOUT_MARGIN_S = 1.0
"""How long after its time-out a call to a gateway is broken off, whatever the adapter does."""


class DoubtPolicy(StrEnum):
    """What happens when a payment in doubt turns out to have succeeded after its caller has gone, whatever tells of it."""

    HOLD = "hold"
    """It stands as a success."""
    REVERSE = "reverse"
    """It is voided or refunded."""
    REVIEW = "review"
    """A person decides."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Times are seconds. Raises `ConfigError` where one makes no sense."""

    call_timeout_s: float = 10.0
    """The longest that one call to a gateway may take."""
    answer_timeout_s: float = 30.0
    """The longest that a caller waits for an answer, unless it says otherwise; then it gets `Pending`."""
    lease_margin_s: float = 5.0
    """How long after a call should have ended its operation may be taken over by another worker."""
    recovery: bool = True
    """Whether the recovery worker runs within this instance."""
    recovery_interval_s: float = 1.0
    """How often the worker looks for operations that are due."""
    recovery_concurrency_max: int = 16
    review_after_s: float = 24 * 3600.0
    """An operation in doubt for longer than this goes to NEEDS_REVIEW (and is still looked for)."""
    pending_review_after_s: float = 7 * 24 * 3600.0
    """The same for one that the gateway says is pending: bank debits and refunds take days. Where the gateway has said
    nothing for `review_after_s`, a person is asked before."""
    action_timeout_s: float = 3600.0
    """How long a payer has for the next action before the payment is canceled at the gateway and EXPIRED."""
    watch_after_s: float = 600.0
    """When an attempt that ended on a look-up which found nothing is looked up once more."""
    resends_max: int = 8
    """After so many resends without a clear answer only look-ups are made, so that their quiet period can pass."""
    inline_retry: RetryPolicy = RetryPolicy(attempts_max=3, initial_delay_s=0.1, delay_max_s=2.0)
    """Between tries while the caller waits."""
    recovery_retry: RetryPolicy = RetryPolicy(attempts_max=1_000_000, initial_delay_s=1.0, delay_max_s=600.0)
    """Between tries of the recovery worker."""
    doubt_policy: DoubtPolicy = DoubtPolicy.HOLD
    in_progress_max: int = 20_000
    """More requests under way than this are refused with `Overloaded`, before anything is written."""
    answers_cached_max: int = 20_000
    """Final answers kept in memory for replays, about 2 KiB each; the store has them all."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, int | float) and not isinstance(value, bool) and value <= 0:
                raise ConfigError(f"{name} must be greater than 0, not {value}.")

    @property
    def lease_s(self) -> float:
        return self.call_timeout_s + self.lease_margin_s
