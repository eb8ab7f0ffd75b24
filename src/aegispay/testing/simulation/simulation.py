"""One run: a world from a seed, a safety phase in which everything may fail, a liveness phase in which all must end."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from aegispay.domain.errors import AegisPayError
from aegispay.domain.events import Event
from aegispay.domain.payment import Payment
from aegispay.orchestration.hooks import Hooks
from aegispay.orchestration.results import Result
from aegispay.sandbox.bank import SCHEMA, Bank
from aegispay.sandbox.paypal_notices import Signer
from aegispay.storage.sqlite import SqliteStore
from aegispay.testing.simulation import database as databases
from aegispay.testing.simulation.chaos import Chaos
from aegispay.testing.simulation.clients import Customer, Desk
from aegispay.testing.simulation.database import Database
from aegispay.testing.simulation.faces import SimulatedPsp
from aegispay.testing.simulation.faults import Faults
from aegispay.testing.simulation.fleet import Fleet
from aegispay.testing.simulation.loop import Deadlock, NotDeterministic, OutOfSteps, SimulatedLoop
from aegispay.testing.simulation.network import Network
from aegispay.testing.simulation.options import BUILT_IN, Mode, Options, draw
from aegispay.testing.simulation.oracle import Oracle, Violation, WitnessedBank
from aegispay.testing.simulation.people import People
from aegispay.testing.simulation.psps import World, make_side
from aegispay.testing.simulation.seal import sealed
from aegispay.testing.simulation.trace import Trace

STEPS_MAX = 400_000
REPEATS_MAX = 5
DRAINED_WITHIN_S = 26 * 3600.0
"""Once faults stop, every doubt has ended, or a person was asked, within this virtual time: a review comes after a day."""
AFTER_JUMPS_S = 3 * 86_400.0
"""What is added where clocks jump, beside what they ran ahead: a lease that a clock ahead wrote ends that much later,
and a quiet period that it began lets a person be asked only after three times as long."""
LAPSED_AFTER_S = 30 * 86_400.0
"""PSPs that say with each answer when an authorisation lapses name no later time than this."""
SETTLED_WITHIN_S = 2 * 86_400.0
"""And every payment is in a final state so long after the longest time that an authorisation lasts at these PSPs."""
AddHooks = Callable[[Hooks], object]


class Report(msgspec.Struct, kw_only=True):
    """What came of one run."""

    options: Options
    violations: list[Violation]
    digest: str
    """The hash over every step: the same for the same seed, in any process."""
    steps: int = 0
    virtual_s: float = 0.0
    requests: int = 0
    """What clients asked."""
    exchanges: int = 0
    """What instances asked of PSPs."""
    commits: int = 0
    payments: int = 0
    fired: dict[str, int] = {}
    branches: dict[str, int] = {}
    """How often each way of ending a doubt was taken, by the stored events."""
    states: dict[str, int] = {}
    gateways: dict[str, int] = {}
    """Operations of each gateway."""
    timeline: list[str] = []

    @property
    def ok(self) -> bool:
        return not self.violations


_BANK_TEMPLATE: list[bytes] = []


def _bank() -> WitnessedBank:
    """An empty bank in memory, copied from a template: creating its tables costs more than a payment."""
    if not _BANK_TEMPLATE:
        first = sqlite3.connect(":memory:", isolation_level=None)
        first.executescript(SCHEMA)
        _BANK_TEMPLATE.append(first.serialize())
        first.close()
    bank = WitnessedBank.__new__(WitnessedBank)
    bank.path = None
    bank.db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    bank.db.deserialize(_BANK_TEMPLATE[0])
    bank._depth = 0
    return bank


class Simulation:
    """A deterministic simulation of AegisPay. `run` gives the same report for the same arguments, always.

    `psps` adds PSPs of your own to the built-in ones, or replaces them (`built_in=False`); `add_hooks` registers your
    hooks with each instance; `options` replaces what the seed would draw.
    """

    def __init__(
        self,
        seed: int,
        *,
        mode: Mode | str = Mode.NORMAL,
        psps: Sequence[SimulatedPsp] = (),
        built_in: bool = True,
        add_hooks: AddHooks | None = None,
        options: Options | None = None,
        timeline: bool = False,
    ):
        self._own = {psp.name: psp for psp in psps}
        names = (*self._own, *(BUILT_IN if built_in else ()))
        self.options = options or draw(seed, Mode(mode), names)
        self._add_hooks = add_hooks
        self._timeline = timeline

    def run(self) -> Report:
        """Runs it to its end. Never raises for what the simulated world does; a broken promise stands in the report."""
        databases.prepare()
        _bank().close()
        if "paypal" in self.options.psps:
            Signer().certificate()  # Made once per process, from real randomness, of which nothing shows in a run.
        with sealed() as used:
            report = _Run(self.options, self._own, self._add_hooks, self._timeline).run()
        if used:
            detail = f"{used[0]} was used inside the simulation"
            report.violations.insert(
                0, Violation(promise="determinism", at_s=report.virtual_s, detail=detail)
            )
        return report


class _Run:
    """The parts of one run, put together."""

    def __init__(
        self, options: Options, own: dict[str, SimulatedPsp], add_hooks: AddHooks | None, timeline: bool
    ):
        self.options = options
        seed = options.seed
        self.trace = Trace(timeline)
        self.loop = SimulatedLoop(self._source(seed, "loop"), self.trace, STEPS_MAX)  # type: ignore[abstract]
        self.faults = Faults(self._source(seed, "faults"), options.rates)
        self.database = Database(self.faults, lambda: self.fleet.rows_changed())
        self.bank: Bank = _bank()
        self.oracle = Oracle(self.loop, self.bank, self.database, options.mode, self.trace)
        self.oracle.policy = options.doubt_policy
        if isinstance(self.bank, WitnessedBank):
            self.bank.oracle = self.oracle
        self.network = Network(self.loop, self.faults, self.trace)
        world = World(
            options, self.loop, self.bank, self.faults, self.network, self.oracle.leaves, self.trace, []
        )
        self.sides = [make_side(world, name, own) for name in options.psps]
        self.fleet = Fleet(
            self.loop,
            options,
            self.database,
            self.sides,
            self.faults,
            self.trace,
            lambda: self._hooks(add_hooks),
            self._source(seed, "fleet"),
        )
        self.network.kill = self.fleet.crash_process
        for post in world.posts:
            post.take = self.fleet.take_webhook
            post.refused = lambda text: self.oracle.violated("I11", text)
        self.posts = world.posts
        self.desk = Desk(self.fleet, self.oracle, self.trace, self._source(seed, "desk"))
        names = [side.name for side in self.sides]
        self.chaos = Chaos(self.fleet, self.database, self.network, names, self.faults, self.trace)
        self.branches: Counter[str] = Counter()
        self.final_payments: list[Payment] = []

    @staticmethod
    def _source(seed: int, name: str) -> random.Random:
        return random.Random(f"{seed}:{name}")  # noqa: S311 - replayable on purpose

    def _hooks(self, add_hooks: AddHooks | None) -> Hooks:
        hooks = Hooks().register(after_commit=self.oracle.committed)
        if add_hooks is not None:
            add_hooks(hooks)
        return hooks

    def run(self) -> Report:
        try:
            self.loop.run(self._main())
        except (Deadlock, OutOfSteps) as error:
            self.oracle.violated("I15", str(error))
        except NotDeterministic as error:
            self.oracle.violated("determinism", str(error))
        for text in self.loop.unexpected:
            self.oracle.violated("crash", text)
        report = self._report()
        self.loop.close()
        self.database.close()
        self.bank.close()
        return report

    # --- phases ---------------------------------------------------------------------------------------------

    async def _main(self) -> None:
        options, loop = self.options, self.loop
        self.fleet.start_all()
        self.oracle.never_lapse = self.fleet.never_lapse
        source = self._source(options.seed, "customers")
        customers = [
            Customer(
                number,
                self.desk,
                self.sides,
                self._source(options.seed, f"customer{number}"),
                source.random() * options.safety_s,
            )
            for number in range(options.histories)
        ]
        lives = [loop.create_task(customer.live()) for customer in customers]
        people: People | None = None
        if options.mode is Mode.DASHBOARD:
            people = self._people()
            lives.append(loop.create_task(people.live(options.safety_s)))
        await self.chaos.run(options.safety_s)
        self.trace.note(loop.time(), "WORLD", "faults stop")
        self.chaos.end()
        await asyncio.wait(lives)
        drained_within_s = DRAINED_WITHIN_S
        if "clock_jump" in options.rates:
            drained_within_s += AFTER_JUMPS_S + self.fleet.furthest_ahead_s
        await self._drain(drained_within_s, self._open, "I4")
        for customer in customers:
            # Whose request never got through makes it now; the rest hear what they heard before.
            await customer.repeat_all()
        await self._drain(drained_within_s, self._open, "I4")
        for customer in customers:
            answers = await customer.repeat_all()
            for _ in range(REPEATS_MAX):
                if not any(isinstance(one, Result) and one.is_pending() for _, one in answers):
                    break
                # What was refused before, since something was under way, may only have begun now.
                await self._drain(drained_within_s, self._open, "I4")
                answers = await customer.repeat_all()
            for ask, answer in answers:
                self.oracle.repeated(ask.scope, ask.key, answer)
        settled_within_s = max(LAPSED_AFTER_S, self.fleet.lapsed_after_s) + SETTLED_WITHIN_S
        await self._drain(settled_within_s, self.oracle.unsettled, "I15")
        await self._drain(settled_within_s, self._rows, "I15")
        self.oracle.check_reviews(self.oracle.payments())
        if people is not None:
            await people.look_at_reviews()
            await self._drain(drained_within_s, self._open, "I4")
            await self._drain(settled_within_s, self.oracle.unsettled, "I15")
        await self._check_all()
        for instance in list(self.fleet.living.values()):
            instance.dead = True

    def _people(self) -> People:
        return People(
            self.loop,
            self.bank,
            self.sides,
            self.oracle,
            self.desk,
            self.faults,
            self.trace,
            self._source(self.options.seed, "people"),
        )

    def _open(self) -> list[str]:
        """What is not known yet, and the webhooks that would tell."""
        left = self.oracle.open_work()
        left += [f"{post.on_its_way} webhooks of {post.name}" for post in self.posts if post.on_its_way]
        # What no payment of ours was found for is left to a person, and to the check at the end; so is what waits for
        # one who looks at its payment.
        for gateway, notice_id, state, body in self.database.notices():
            if state == "open" and self.oracle.told_of(gateway, body) not in self.oracle.in_review():
                left.append(f"{notice_id} of {gateway} is {state}")
        return left

    def _rows(self) -> list[str]:
        review = {one.id for one in self.oracle.payments() if one.review is not None}
        return [str(row) for row in self.database.in_flight() if row[0] not in review]

    async def _drain(self, within_s: float, left: Callable[[], list[str]], promise: str) -> None:
        """Lets time pass until nothing is left; past the stated time the promise is broken."""
        start_s = self.loop.time()
        step_s = 1.0
        while self.loop.time() - start_s < within_s:
            if not left():
                return
            await asyncio.sleep(step_s)
            step_s = min(step_s * 1.3, within_s / 50)
        for text in left()[:3]:
            self.oracle.violated(promise, f"not ended within {within_s:g} s: {text}")

    async def _check_all(self) -> None:
        """Everything that can only be said at the end. The reading is done with the real store, without faults."""
        for side in self.sides:
            side.let_time_pass()
        instance = self.fleet.pick()
        store: SqliteStore | None = instance.pay.store if instance else None  # type: ignore[assignment]
        payments = self.final_payments = self.oracle.payments()
        if store is None:
            self.oracle.violated("I15", "no instance came back")
            return
        for payment in payments:
            try:
                events = await store.load_events(payment.id)
            except AegisPayError as error:
                self.oracle.violated("I5", f"{payment.id}: {error}")
                continue
            self.oracle.check_stream(payment, events)
            self.oracle.check_policy(payment, events)
            self._count(events)
        self.oracle.check_notices(payments)
        self.oracle.check_books(payments)

    def _count(self, events: list[Event]) -> None:
        for event in events:
            data = event.data
            evidence = getattr(data, "evidence", None)
            reason = (
                getattr(data, "reason", "")
                if event.type in ("review_requested", "operation_in_doubt")
                else ""
            )
            name = (
                event.type + (f" by {evidence}" if evidence else "") + (f": {reason}"[:60] if reason else "")
            )
            self.branches[name] += 1

    def _report(self) -> Report:
        return Report(
            options=self.options,
            violations=self.oracle.violations,
            digest=self.trace.digest,
            steps=self.loop.steps,
            virtual_s=self.loop.time(),
            requests=self.desk.requests,
            exchanges=self.network.requests,
            commits=self.database.commits,
            payments=len(self.final_payments),
            fired=dict(sorted(self.faults.fired.items())),
            branches=dict(sorted(self.branches.items())),
            states=dict(sorted(Counter(str(one.state) for one in self.final_payments).items())),
            gateways=dict(
                sorted(Counter(op.gateway for one in self.final_payments for op in one.operations).items())
            ),
            timeline=self.trace.lines,
        )
