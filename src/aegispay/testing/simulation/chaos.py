"""What strikes from outside while the safety phase lasts: crashes at any time, stalls, wrong clocks, outages."""

from __future__ import annotations

import asyncio
import random

from aegispay.testing.simulation.database import Database
from aegispay.testing.simulation.faults import Faults
from aegispay.testing.simulation.fleet import Fleet, Instance
from aegispay.testing.simulation.network import Network
from aegispay.testing.simulation.trace import Trace

DAY_S = 86_400.0


class Chaos:
    """Draws, every second or so of virtual time, what happens next."""

    def __init__(
        self,
        fleet: Fleet,
        database: Database,
        network: Network,
        psps: list[str],
        faults: Faults,
        trace: Trace,
    ):
        self._fleet = fleet
        self._loop = fleet.loop
        self._database = database
        self._network = network
        self._psps = psps
        self._faults = faults
        self._random: random.Random = faults.random
        self._trace = trace

    async def run(self, for_s: float) -> None:
        """Until the safety phase is over."""
        ends_s = self._loop.time() + for_s
        every_s = max(1.0, for_s / 60)
        while self._loop.time() < ends_s:
            await asyncio.sleep(every_s * (0.5 + self._random.random()))
            self._strike(every_s / 60)

    def _strike(self, minutes: float) -> None:
        for kind, strike in (
            ("crash_any_time", self._crash),
            ("stall", self._stall),
            ("long_stall", self._long_stall),
            ("clock_jump", self._jump),
            ("database_away", self._database_away),
            ("psp_down", self._psp_down),
        ):
            if self._random.random() < self._faults.rate(kind) * minutes:
                self._faults.fire(kind)
                strike()

    def _victim(self) -> Instance | None:
        living = list(self._fleet.living.values())
        return self._random.choice(living) if living else None

    def _crash(self) -> None:
        victim = self._victim()
        if victim is not None:
            self._fleet.crash(victim, "at any time")

    def _stall(self) -> None:
        victim = self._victim()
        if victim is not None:
            self._fleet.stall(victim, self._random.choice((1.0, 10.0, 60.0)) * self._random.random())

    def _long_stall(self) -> None:
        """Hours pass, past a PSP's key expiry perhaps: for one instance, or for all of them."""
        key_ttl_s = self._fleet.options.key_ttl_s
        seconds = self._random.choice((3600.0, DAY_S + 3600.0, 1.5 * key_ttl_s)) * self._random.random()
        victim = self._victim()
        victims = list(self._fleet.living.values()) if self._random.random() < 0.5 else [victim]
        for one in victims:
            if one is not None:
                self._fleet.stall(one, seconds)

    def _jump(self) -> None:
        victim = self._victim()
        if victim is not None:
            size_s = self._random.choice((5.0, 120.0, 3600.0, DAY_S)) * self._random.random()
            self._fleet.jump(victim, size_s if self._random.random() < 0.5 else -size_s)

    def _database_away(self) -> None:
        seconds = self._random.choice((0.1, 1.0, 10.0, 60.0)) * self._random.random()
        self._trace.note(self._loop.time(), "database", f"AWAY for {seconds:.1f} s")
        self._database.away_until_s = max(self._database.away_until_s, self._loop.time() + seconds)

    def _psp_down(self) -> None:
        seconds = self._random.choice((1.0, 10.0, 120.0)) * self._random.random()
        name = self._random.choice(self._psps)
        self._trace.note(self._loop.time(), name, f"DOWN for {seconds:.1f} s")
        self._network.down_until_s[name] = self._loop.time() + seconds

    def end(self) -> None:
        """Nothing more strikes, and what was away is back."""
        self._faults.stop()
        self._database.away_until_s = 0.0
        self._network.down_until_s.clear()
        self._fleet.calm()
        self._fleet.start_all()
