"""The benchmark: the whole orchestrator on a real store, with a gateway that answers at once."""

from aegispay.bench.options import BenchOptions
from aegispay.bench.report import Report
from aegispay.bench.runner import measure, run

__all__ = ["BenchOptions", "Report", "measure", "run"]
