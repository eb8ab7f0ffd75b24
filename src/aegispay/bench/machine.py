"""What the figures were measured on: a figure without its machine says nothing."""

from __future__ import annotations

import asyncio
import os
import platform
from importlib import metadata
from pathlib import Path

import msgspec


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    cpu: str
    cores: int
    """How many this process may use."""
    memory_mib: int
    system: str
    python: str
    event_loop: str
    load_average: float
    """How many processes wanted a core in the minute before the run: with other work about, the figures are too low."""
    aegispay: str


def this_machine() -> Machine:
    """Call it inside the event loop that is measured, before the run."""
    return Machine(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_mib=_memory_mib(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        event_loop=_event_loop(),
        load_average=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else 0.0,
        aegispay=_version("aegispay"),
    )


def filesystem_of(path: Path) -> str:
    """The type of the file system that a path is on: on `tmpfs` a durable write means nothing."""
    try:
        lines = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return "unknown"
    target = path.resolve()
    found, length = "unknown", -1
    for line in lines:
        _, mount, kind, *_ = line.split()
        if target.is_relative_to(mount) and len(mount) > length:
            found, length = kind, len(mount)
    return found


def _event_loop() -> str:
    module = type(asyncio.get_running_loop()).__module__
    return f"uvloop {_version('uvloop')}" if module.startswith("uvloop") else "asyncio"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_mib() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // (1024 * 1024)
    except (ValueError, OSError):
        return 0
