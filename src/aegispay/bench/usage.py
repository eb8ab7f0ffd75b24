"""CPU time and memory: of this process, and of a PostgreSQL server on this machine."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_MIB = 1024 * 1024


def process_cpu_s() -> float:
    """User and system time of this process, all its threads together."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def children_cpu_s() -> float:
    """User and system time of the children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def rss_mib() -> float:
    """This process's resident memory now (where the system does not tell: at its peak)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return peak_rss_mib()
    return round(pages * os.sysconf("SC_PAGE_SIZE") / _MIB, 1)


def peak_rss_mib() -> float:
    """This process's largest resident memory so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / _MIB if sys.platform == "darwin" else peak / 1024, 1)


class ServerCpu:
    """CPU time of a PostgreSQL server and all its processes, read from /proc, found through one of its backends."""

    def __init__(self, backend_pid: int):
        self._postmaster = _postmaster(backend_pid)

    def seconds(self) -> float | None:
        """None where the server is not on this machine, or there is no /proc."""
        if self._postmaster is None:
            return None
        total = 0.0
        for pid in (self._postmaster, *_children(self._postmaster)):
            fields = _stat(pid)
            if fields is None:
                continue
            # The postmaster's own line carries the time of the backends that have ended, too.
            last = 15 if pid == self._postmaster else 13
            total += sum(int(field) for field in fields[11:last]) / _TICKS_PER_S
        return total


def _postmaster(backend_pid: int) -> int | None:
    fields = _stat(backend_pid)
    try:
        name = Path(f"/proc/{backend_pid}/comm").read_text().strip()
    except OSError:
        return None
    # A number of another machine may be a process of ours by chance, but hardly one called postgres.
    return int(fields[1]) if fields is not None and name == "postgres" else None


def _stat(pid: int) -> list[str] | None:
    """The fields after the name: state, parent, ..., user time (11), system time (12), and those of ended children."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
