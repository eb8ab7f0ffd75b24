"""Stripes that other people wrote, as processes of their own on loopback: installed once, started per test session.

`localstripe` is GPL: it runs in a virtual environment of its own, as a separate process, and is never imported.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

INSTALL_TIMEOUT_S = 300
START_TIMEOUT_S = 60
_CACHE = Path(sys.prefix) / ".foreign-stripes"

_LOCALSTRIPE = """
import socket, localstripe.resources, localstripe.server
from aiohttp import web
localstripe.server.store.dump_to_disk = lambda: None
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
print("PORT", listener.getsockname()[1], flush=True)
web.run_app(localstripe.server.app, sock=listener, print=None, access_log=None)
"""

_STATEFUL_MOCK = """
process.env.LOG_LEVEL = "silent";
const server = require("stripe-stateful-mock").createExpressApp().listen(0, "127.0.0.1", () => {
    console.log("PORT " + server.address().port);
});
"""


@contextmanager
def _installed(name: str, install: Callable[[Path], list[list[str]]]) -> Iterator[Path]:
    """The folder that holds the installation, made by the first session that needs it."""
    folder = _CACHE / name
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder / "installed"
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for command in install(folder):
                result = subprocess.run(
                    command,
                    cwd=folder,
                    capture_output=True,
                    text=True,
                    timeout=INSTALL_TIMEOUT_S,
                    check=False,
                )
                if result.returncode:
                    pytest.skip(f"{name} cannot be installed here: {result.stderr.strip().splitlines()[-1:]}")
            done.touch()
    yield folder


@contextmanager
def _running(command: list[str], folder: Path) -> Iterator[str]:
    """The base URL of the process, once it says which port the kernel gave it."""
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    guard = threading.Timer(START_TIMEOUT_S, process.kill)
    guard.start()
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        guard.cancel()
        assert line.startswith("PORT "), f"{command[0]} ended without a port"
        yield f"http://127.0.0.1:{int(line.split()[1])}"
    finally:
        guard.cancel()
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def localstripe() -> Iterator[str]:
    """localstripe 1.15.10; skips the test where pip cannot install it."""

    def install(folder: Path) -> list[list[str]]:
        python = str(folder / "bin" / "python")
        return [
            [sys.executable, "-m", "venv", str(folder)],
            [
                python,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "localstripe==1.15.10",
            ],
        ]

    with (
        _installed("localstripe-1.15.10", install) as folder,
        _running([str(folder / "bin" / "python"), "-c", _LOCALSTRIPE], folder) as url,
    ):
        yield url


@contextmanager
def stripe_stateful_mock() -> Iterator[str]:
    """stripe-stateful-mock 0.0.16; skips the test where npm is absent or cannot install it."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("npm or node is absent: stripe-stateful-mock cannot run here")

    def install(_: Path) -> list[list[str]]:
        return [[npm, "install", "--silent", "--no-audit", "--no-fund", "stripe-stateful-mock@0.0.16"]]

    with (
        _installed("stripe-stateful-mock-0.0.16", install) as folder,
        _running([node, "-e", _STATEFUL_MOCK], folder) as url,
    ):
        yield url
