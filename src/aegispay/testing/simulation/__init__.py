"""A deterministic simulation of AegisPay: seeded scheduling, virtual time, faults, and an oracle over the bank's books."""

from aegispay.testing.simulation.faces import SimulatedPsp
from aegispay.testing.simulation.options import Mode, Options
from aegispay.testing.simulation.oracle import Violation
from aegispay.testing.simulation.simulation import Report, Simulation

__all__ = ["Mode", "Options", "Report", "SimulatedPsp", "Simulation", "Violation"]
