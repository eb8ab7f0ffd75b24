"""Where a user's own code takes part: before a payment, in the choice of gateways, and after events are committed.

Hooks run before anything is written, or after the commit. None of them can put a promise at risk.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from aegispay.domain.errors import ConfigError
from aegispay.domain.events import Event
from aegispay.domain.payment import Payment
from aegispay.orchestration.requests import PaymentRequest

logger = logging.getLogger("aegispay.hooks")

BeforePayment = Callable[[PaymentRequest], Awaitable[None]]
"""May raise `RefusedByHook`; then nothing is written and nothing is sent."""
ChooseGateways = Callable[[PaymentRequest, tuple[str, ...]], tuple[str, ...]]
"""May reorder or drop candidates; it cannot add any."""
AfterCommit = Callable[[Payment, tuple[Event, ...]], None]
"""Sees each payment's committed events in order, within this process. What it raises is logged."""


class Hooks:
    """The hooks of one running instance. Register them before it starts."""

    def __init__(self) -> None:
        self.before_payment: list[BeforePayment] = []
        self.choose_gateways: list[ChooseGateways] = []
        self.after_commit: list[AfterCommit] = []

    def register(
        self,
        *,
        before_payment: BeforePayment | None = None,
        choose_gateways: ChooseGateways | None = None,
        after_commit: AfterCommit | None = None,
    ) -> Hooks:
        """Adds one hook or several; raises `ConfigError` where none is given or one cannot be called."""
        given = (before_payment, choose_gateways, after_commit)
        if not any(given) or any(hook is not None and not callable(hook) for hook in given):
            raise ConfigError("register() takes before_payment, choose_gateways or after_commit functions.")
        if before_payment:
            self.before_payment.append(before_payment)
        if choose_gateways:
            self.choose_gateways.append(choose_gateways)
        if after_commit:
            self.after_commit.append(after_commit)
        return self

    def committed(self, payment: Payment, events: tuple[Event, ...]) -> None:
        for hook in self.after_commit:
            try:
                hook(payment, events)
            except Exception:
                logger.exception("an after_commit hook failed for %s", payment.id)
