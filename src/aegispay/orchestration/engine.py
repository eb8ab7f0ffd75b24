"""The engine: the parts with which a running instance works on operations, each with one job.

Used alike by whoever serves a caller and by the recovery worker.
"""

from __future__ import annotations

from aegispay.gateways.registry import GatewayRegistry
from aegispay.orchestration.calls import Calls
from aegispay.orchestration.evidence import EvidenceSearch
from aegispay.orchestration.journal import Journal
from aegispay.orchestration.leases import Leases
from aegispay.orchestration.recorder import Recorder
from aegispay.orchestration.rows import Rows
from aegispay.orchestration.settings import Settings
from aegispay.ports import Ports
from aegispay.storage.store import Store


class Engine:
    """Holds the parts together; it does nothing itself."""

    def __init__(
        self, store: Store, registry: GatewayRegistry, journal: Journal, ports: Ports, settings: Settings
    ):
        self.store = store
        self.registry = registry
        self.journal = journal
        self.ports = ports
        self.settings = settings
        self.rows = Rows(registry, ports, settings)
        self.leases = Leases(store, journal, self.rows, ports, settings)
        self.calls = Calls(registry, self.leases, settings)
        self.evidence = EvidenceSearch(registry, self.leases, self.calls, ports, settings)
        self.recorder = Recorder(journal, self.rows, settings)
