"""The router: from what is known of a payment to an ordered list of candidates. Pure choice; it risks no promise."""

from __future__ import annotations

from typing import Protocol

import msgspec

from aegispay.domain.events import CaptureMode
from aegispay.domain.methods import MethodSnapshot


class RoutingContext(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a router may look at. Amounts are integer minor units."""

    merchant_id: str
    amount_minor: int
    currency: str
    capture: CaptureMode
    method: MethodSnapshot
    customer_id: str | None = None
    metadata: dict[str, str] = msgspec.field(default_factory=dict)


class Router(Protocol):
    def candidates(self, context: RoutingContext, available: tuple[str, ...]) -> tuple[str, ...]:
        """The gateways to try, best first: a selection of `available`, which are registered and able."""
        ...


class OrderedRouter:
    """Candidates in a fixed order; gateways that the order does not name come last, as registered."""

    def __init__(self, order: tuple[str, ...] = ()):
        self._order = order

    def candidates(self, context: RoutingContext, available: tuple[str, ...]) -> tuple[str, ...]:
        if not self._order:
            return available
        named = tuple(name for name in self._order if name in available)
        return named + tuple(name for name in available if name not in named)
