"""Who stands between the orchestrator and its ports in a cell: a witness of what the adapter answers, and death."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

from aegispay.domain.outcomes import Outcome
from aegispay.gateways.gateway import Gateway, GatewayCall, Health, Lookup
from aegispay.gateways.webhooks import GatewayEvent
from aegispay.storage.sqlite import SqliteStore


class Testimony(NamedTuple):
    """One answer of the adapter to the orchestrator."""

    asked: str
    """`perform`, `look_up` or `cancel_by_reference`."""
    operation_id: str
    answer: Outcome | Lookup


class Witness(Gateway):
    """The adapter itself; what it answers is remembered."""

    def __init__(self, inner: Gateway):
        self.name = inner.name
        self.capabilities = inner.capabilities
        self.heard: list[Testimony] = []
        self._inner = inner

    def _note(self, asked: str, call: GatewayCall, answer: Any) -> Any:
        self.heard.append(Testimony(asked, call.operation_id, answer))
        return answer

    async def perform(self, call: GatewayCall) -> Outcome:
        return self._note("perform", call, await self._inner.perform(call))  # type: ignore[no-any-return]

    async def authorize(self, call: GatewayCall) -> Outcome:
        return await self.perform(call)

    async def charge(self, call: GatewayCall) -> Outcome:
        return await self.perform(call)

    async def look_up(self, call: GatewayCall) -> Lookup:
        return self._note("look_up", call, await self._inner.look_up(call))  # type: ignore[no-any-return]

    async def cancel_by_reference(self, call: GatewayCall) -> Outcome:
        answer = await self._inner.cancel_by_reference(call)
        return self._note("cancel_by_reference", call, answer)  # type: ignore[no-any-return]

    async def prepare_webhook(self, headers: Mapping[str, str], timeout_s: float = 5.0) -> None:
        await self._inner.prepare_webhook(headers, timeout_s)

    def parse_webhook(self, headers: Mapping[str, str], body: bytes, now_us: int) -> list[GatewayEvent]:
        return self._inner.parse_webhook(headers, body, now_us)

    async def health(self, timeout_s: float = 5.0) -> Health:
        return await self._inner.health(timeout_s)

    def check(self, call: GatewayCall) -> None:
        self._inner.check(call)


class MortalStore:
    """A store that answers nobody once its process has died."""

    def __init__(self, store: SqliteStore, dead: asyncio.Event):
        self._store = store
        self._dead = dead

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not inspect.iscoroutinefunction(found) or name in ("open", "close"):
            return found

        async def call(*args: Any, **kwargs: Any) -> Any:
            if self._dead.is_set():
                await asyncio.Event().wait()
            return await found(*args, **kwargs)

        return call
