"""The report of a run: everything that is needed to believe its figures, as JSON and for a person."""

from __future__ import annotations

import msgspec

from aegispay.bench.check import Check
from aegispay.bench.histogram import Latency
from aegispay.bench.machine import Machine
from aegispay.bench.replay import Replay


class StoreReport(msgspec.Struct, frozen=True, kw_only=True):
    kind: str
    url: str
    """Without a password."""
    version: str
    durable: bool
    """Whether each commit survives a power cut, as the database itself says."""
    settings: dict[str, str]
    warning: str | None
    filesystem: str


class LoadReport(msgspec.Struct, frozen=True, kw_only=True):
    mode: str
    """`closed` (so many callers) or `open` (so many arrivals a second)."""
    concurrency: int | None
    rate: float | None
    arrivals: str | None
    seed: int | None
    seconds: float
    warmup_s: float
    prefilled: int
    generator_late_max_ms: float
    """Open loop: how late the generator itself was at most; it's part of the latencies, never subtracted."""


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Of this process, load generator and measuring included, in MiB."""

    start_mib: float
    warm_mib: float
    """After the warm-up."""
    end_mib: float
    peak_mib: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    ok: bool
    """No errors, and the checks hold. It says nothing about speed."""
    started_at: str
    machine: Machine
    store: StoreReport
    load: LoadReport
    payments: int
    """Served while it was measured."""
    payments_per_s: float
    latency: Latency
    """Of the payments that began (or were meant to begin) while it was measured."""
    cpu_us_per_payment: float
    """User and system time of this process, SQLite's thread and the load generator included."""
    server_cpu_us_per_payment: float | None
    """Of PostgreSQL's processes, where they run on this machine."""
    memory: Memory
    errors: dict[str, int]
    check: Check
    replay_memory: Replay | None = None
    replay_store: Replay | None = None

    def to_json(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    def rows(self) -> list[tuple[str, str]]:
        """What a person reads: label and value."""
        found = [
            ("machine", f"{self.machine.cpu}, {self.machine.cores} cores, {self.machine.python}"),
            ("load before the run", f"{self.machine.load_average:g} (other work makes the figures lower)"),
            ("event loop", self.machine.event_loop),
            ("store", f"{self.store.version}, {self.store.url}"),
            ("durable", _durable(self.store)),
            ("load", _load(self.load)),
            ("payments", f"{self.payments} in {self.load.seconds:g} s"),
            ("payments/s", f"{self.payments_per_s:.0f}"),
            ("latency p50 / p95 / p99 / max", _latency(self.latency)),
            ("CPU a payment", _cpu(self)),
            ("memory", _memory(self.memory)),
            ("errors", _errors(self.errors)),
            ("stored and served", _check(self.check)),
        ]
        for label, replay in (
            ("replays/s, from memory", self.replay_memory),
            ("replays/s, from the store", self.replay_store),
        ):
            if replay is not None:
                same = "same bytes" if not replay.differing else f"{replay.differing} DIFFER"
                found.append(
                    (label, f"{replay.replays_per_s:.0f} ({replay.replays} of {replay.keys} keys, {same})")
                )
        return found


def _durable(store: StoreReport) -> str:
    settings = ", ".join(f"{name}={value}" for name, value in store.settings.items())
    return f"{'yes' if store.durable else 'NO'} ({settings}; on {store.filesystem})"


def _load(load: LoadReport) -> str:
    stored = f", {load.prefilled} payments stored before" if load.prefilled else ""
    if load.mode == "closed":
        return f"closed loop, {load.concurrency} callers{stored}"
    return f"open loop, {load.rate:g}/s, {load.arrivals} (seed {load.seed}){stored}"


def _latency(latency: Latency) -> str:
    return (
        " / ".join(f"{one:.1f}" for one in (latency.p50_ms, latency.p95_ms, latency.p99_ms, latency.max_ms))
        + " ms"
    )


def _cpu(report: Report) -> str:
    server = report.server_cpu_us_per_payment
    return f"{report.cpu_us_per_payment:.0f} us Python" + (f", {server:.0f} us PostgreSQL" if server else "")


def _memory(memory: Memory) -> str:
    return (
        f"{memory.start_mib:.0f} MiB at start, {memory.warm_mib:.0f} warm, {memory.end_mib:.0f} at the end, "
        f"{memory.peak_mib:.0f} at its peak"
    )


def _errors(errors: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in errors.items()) or "none"


def _check(check: Check) -> str:
    if check.ok:
        return f"{check.stored} payments, all succeeded; {check.folded} folded, each equal to its projection"
    return f"NOT EQUAL: {msgspec.to_builtins(check)}"
