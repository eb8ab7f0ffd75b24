"""One run: opens the store, loads it, measures, checks, and writes the report."""

from __future__ import annotations

import asyncio
import gc
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from aegispay.app import AegisPay
from aegispay.bench import usage
from aegispay.bench.check import check
from aegispay.bench.load import Load, Shop
from aegispay.bench.machine import this_machine
from aegispay.bench.options import BenchOptions
from aegispay.bench.prefill import prefill
from aegispay.bench.replay import Replay, from_memory, from_store
from aegispay.bench.report import LoadReport, Memory, Report, StoreReport
from aegispay.bench.screen import Screen
from aegispay.bench.target import Server, Target, server_of, target_of
from aegispay.domain.errors import ConfigError
from aegispay.domain.events import Event
from aegispay.domain.payment import Payment
from aegispay.orchestration.hooks import Hooks
from aegispay.testing.instant_gateway import InstantGateway

_TICK_S = 0.25
_REPLAY_S = 2.0


def run(options: BenchOptions) -> int:
    """Measures, shows the report and writes it as JSON where that is wanted. 0 where the checks hold, else 1.

    Raises `ConfigError` or `StoreUnavailable` where the store cannot be used.
    """
    to_stdout = options.json_path == "-"
    path = Path(options.json_path) if options.json_path and not to_stdout else None
    screen = Screen(options.quiet or to_stdout)
    if path:
        _write(path, b"")  # A report that cannot be written is known before the run, not after it.
    report = measure(options, screen)
    screen.show(report)
    if path:
        _write(path, report.to_json())
    if to_stdout:
        Screen(quiet=False).write(report.to_json().decode())
    return 0 if report.ok else 1


def _write(path: Path, report: bytes) -> None:
    try:
        path.write_bytes(report)
    except OSError as error:
        raise ConfigError(f"the report cannot be written to {path}: {error.strerror}.") from error


def measure(options: BenchOptions, screen: Screen | None = None) -> Report:
    """The report of one run. It starts an event loop of its own, so it is not called from within one."""
    shown = screen or Screen(quiet=True)
    with target_of(options) as target, asyncio.Runner(loop_factory=_loop_factory(options)) as runner:
        try:
            return runner.run(_measure(options, target, shown))
        finally:
            shown.end()


def _loop_factory(options: BenchOptions) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if options.uvloop is False:
        return None
    try:
        import uvloop
    except ImportError:
        if options.uvloop:
            raise ConfigError("uvloop is not installed.", hint="Install aegispay[speed].") from None
        return None
    return uvloop.new_event_loop


class _Gateway(InstantGateway):
    @property
    def executed(self) -> int:
        """How many charges it approved."""
        return self._count

    def _reference(self, number: int) -> str:
        # As long and as scattered as a PSP's: the store has an index of references, and rising ones would flatter it.
        return f"pi_{number * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF:016x}{number:08x}"


class _Instance:
    """AegisPay as a shop would run it: two gateways, the default router, a hook that sees each event."""

    def __init__(self, url: str):
        self.gateways = [_Gateway("first", keep_books=False), _Gateway("second", keep_books=False)]
        self.events_delivered = 0
        hooks = Hooks().register(after_commit=self._delivered)
        self.pay = AegisPay(self.gateways, store=url, hooks=hooks)

    def _delivered(self, payment: Payment, events: tuple[Event, ...]) -> None:
        self.events_delivered += len(events)

    @property
    def approved(self) -> int:
        return sum(gateway.executed for gateway in self.gateways)


class _Window(msgspec.Struct, frozen=True):
    """The counters at one moment."""

    at_s: float
    served: int
    cpu_s: float
    server_cpu_s: float | None
    rss_mib: float


async def _measure(options: BenchOptions, target: Target, screen: Screen) -> Report:
    start_mib = usage.rss_mib()
    machine = this_machine()
    started_at = datetime.now(UTC)
    instance = _Instance(target.url)
    merchant_id = f"bench-{secrets.token_hex(6)}"
    async with instance.pay as pay:
        server = await server_of(target)
        if options.prefill:
            screen.begin(f"loading {options.prefill} payments", options.prefill)
            await prefill(target.url, options.prefill, lambda done: screen.advance(done, f"{done} stored"))
        shop = Shop(pay, merchant_id)
        load = Load(shop, options)
        first, last = await _drive(load, options, server, screen)
        screen.begin("checking", 1)
        checked = await check(
            pay,
            merchant_id,
            served=load.served,
            approved=instance.approved,
            events_delivered=instance.events_delivered,
            sample=[one.payment_id for one in load.remembered.values()],
        )
        memory_replay = None
        answers = _answers(load, shop)
        if options.replay and answers:
            screen.begin("replays", 1)
            memory_replay = await from_memory(shop, answers, _REPLAY_S)
        store_report = _store_report(pay, target, server)
    store_replay = await _after_restart(target, merchant_id, answers) if memory_replay else None
    screen.end()
    return Report(
        ok=checked.ok and not load.errors and not _differing(memory_replay, store_replay),
        started_at=started_at.isoformat(timespec="seconds"),
        machine=machine,
        store=store_report,
        load=_load_report(options, load),
        payments=last.served - first.served,
        payments_per_s=round((last.served - first.served) / (last.at_s - first.at_s), 1),
        latency=load.latencies.latency(),
        cpu_us_per_payment=_per_payment_us(first, last, first.cpu_s, last.cpu_s) or 0.0,
        server_cpu_us_per_payment=_per_payment_us(first, last, first.server_cpu_s, last.server_cpu_s),
        memory=Memory(
            start_mib=start_mib, warm_mib=first.rss_mib, end_mib=last.rss_mib, peak_mib=usage.peak_rss_mib()
        ),
        errors=dict(load.errors),
        check=checked,
        replay_memory=memory_replay,
        replay_store=store_replay,
    )


async def _drive(
    load: Load, options: BenchOptions, server: Server, screen: Screen
) -> tuple[_Window, _Window]:
    """Runs the load through warm-up and measurement; the counters at the beginning and end of the latter."""
    running = asyncio.ensure_future(load.run())
    # As docs/performance.md advises a server to: what start-up made is not looked at again by each full collection.
    gc.collect()
    gc.freeze()
    screen.begin("warming up", options.warmup_s)
    await _wait(options.warmup_s, load, screen, running)
    first = _window(load, server)
    load.measuring = True
    screen.begin(f"measuring for {options.seconds:g} s", options.seconds)
    await _wait(options.seconds, load, screen, running)
    load.measuring = False
    last = _window(load, server)
    load.stop()
    await running
    return first, last


async def _wait(seconds: float, load: Load, screen: Screen, running: asyncio.Future[None]) -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    before = load.served
    while (elapsed := loop.time() - begun) < seconds and not running.done():
        await asyncio.sleep(min(_TICK_S, seconds - elapsed))
        passed = loop.time() - begun
        screen.advance(passed, f"{(load.served - before) / passed:.0f} payments/s")


def _window(load: Load, server: Server) -> _Window:
    return _Window(
        at_s=asyncio.get_running_loop().time(),
        served=load.served,
        cpu_s=usage.process_cpu_s(),
        server_cpu_s=server.cpu.seconds() if server.cpu else None,
        rss_mib=usage.rss_mib(),
    )


def _per_payment_us(first: _Window, last: _Window, begun: float | None, ended: float | None) -> float | None:
    payments = last.served - first.served
    if begun is None or ended is None or not payments:
        return None
    return round((ended - begun) / payments * 1_000_000, 1)


def _answers(load: Load, shop: Shop) -> dict[int, bytes]:
    """The remembered answers that this process certainly still has in memory."""
    oldest = shop.last_number - shop.pay.settings.answers_cached_max // 2
    return {number: result.to_json() for number, result in load.remembered.items() if number > oldest}


async def _after_restart(target: Target, merchant_id: str, answers: dict[int, bytes]) -> Replay:
    async with _Instance(target.url).pay as pay:
        return await from_store(Shop(pay, merchant_id), answers)


def _differing(*replays: Replay | None) -> int:
    return sum(one.differing for one in replays if one is not None)


def _store_report(pay: AegisPay, target: Target, server: Server) -> StoreReport:
    durability = pay.durability
    return StoreReport(
        kind=target.kind,
        url=target.shown,
        version=server.version,
        durable=durability.durable,
        settings=durability.settings,
        warning=durability.warning,
        filesystem=target.filesystem,
    )


def _load_report(options: BenchOptions, load: Load) -> LoadReport:
    is_open = options.rate is not None
    return LoadReport(
        mode="open" if is_open else "closed",
        concurrency=None if is_open else options.concurrency,
        rate=options.rate,
        arrivals=options.arrivals if is_open else None,
        seed=options.seed if is_open else None,
        seconds=options.seconds,
        warmup_s=options.warmup_s,
        prefilled=options.prefill,
        generator_late_max_ms=load.late_max_us / 1000,
    )
