"""A gateway whose books are a file, so that a test can read what a command in another process did."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from aegispay.domain.outcomes import Approved, Outcome
from aegispay.gateways.gateway import GatewayCall, Health, Lookup, LookupFailed
from aegispay.testing import instant_gateway
from aegispay.testing.instant_gateway import Entry, InstantGateway


class BookedGateway(InstantGateway):
    """An `InstantGateway` that appends each effect to a file. `fault` names a fault of its module for every call."""

    def __init__(
        self,
        books_path: str,
        *,
        api_key: str = "",
        fault: str = "",
        healthy: bool = True,
        factor: float = 1.0,
    ) -> None:
        super().__init__("booked")
        self.books_path = Path(books_path)
        self.fault = fault
        self.healthy = healthy
        if self.books_path.exists():
            self._remember()

    def _remember(self) -> None:
        """What an earlier process did is replayed under its key, and found."""
        for text in self.books_path.read_text().splitlines():
            line = json.loads(text)
            if line["book"] == "books":
                entry = msgspec.convert(line["entry"], Entry)
                self.books.append(entry)
                self._by_key[line["key"]] = Approved(
                    reference=entry.reference, amount_minor=entry.amount_minor
                )

    async def perform(self, call: GatewayCall) -> Outcome:
        self._note("calls", call.kind.value, call)
        if self.fault:
            self.faults.append(getattr(instant_gateway, self.fault))
        return await super().perform(call)

    def execute(self, call: GatewayCall) -> Outcome:
        known = len(self.books)
        outcome = super().execute(call)
        for entry in self.books[known:]:
            self._note("books", entry.kind.value, call, msgspec.to_builtins(entry))
        return outcome

    def _note(self, book: str, kind: str, call: GatewayCall, entry: object = None) -> None:
        line = {
            "book": book,
            "kind": kind,
            "amount_minor": call.amount.amount_minor,
            "key": call.gateway_key,
            "entry": entry,
        }
        with self.books_path.open("a") as stream:
            stream.write(json.dumps(line) + "\n")

    async def look_up(self, call: GatewayCall) -> Lookup:
        # While it is faulty nothing can be learnt from it.
        return LookupFailed(reason="timeout") if self.fault else await super().look_up(call)

    async def health(self, timeout_s: float = 5.0) -> Health:
        return Health(
            ok=self.healthy, latency_ms=1.0, detail="a file" if self.healthy else "connection refused"
        )


class ThrowingGateway(InstantGateway):
    """Its constructor raises, with the secret in the message."""

    def __init__(self, api_key: str) -> None:
        raise RuntimeError(f"cannot use {api_key}")


NOT_A_GATEWAY = object()
