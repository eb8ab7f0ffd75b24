"""The sandbox in a process of its own, started and driven from here: the bank lives on when we are killed."""

from __future__ import annotations

import asyncio
import http.client
import select
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import msgspec

from aegispay.gateways.gateway import Gateway
from aegispay.sandbox.bank import Bank
from aegispay.sandbox.courier import CourierReport
from aegispay.sandbox.faults import FaultKind, FaultPlan
from aegispay.sandbox.server import SandboxSettings, ready_gateways
from aegispay.sandbox.webhooks import NoticePlan

START_TIMEOUT_S = 20.0
CONTROL_TIMEOUT_S = 30.0


class SandboxProcess:
    """`with SandboxProcess("bank.db") as sandbox:` (or `async with`). `bank` reads the books of the other process."""

    def __init__(
        self,
        path: str | Path,
        *,
        seed: int | None = None,
        faults: FaultPlan | None = None,
        synchronous: str = "FULL",
        settings: SandboxSettings | None = None,
    ) -> None:
        self.path = Path(path)
        self.settings = settings or SandboxSettings()
        self._arguments = ["--json", "--bank", str(path), "--synchronous", synchronous]
        if seed is not None:
            self._arguments += ["--seed", str(seed)]
        if faults is not None:
            self._arguments += ["--plan", msgspec.json.encode(faults).decode()]
        self._process: subprocess.Popen[bytes] | None = None
        self._ready: dict[str, Any] = {}
        self.bank: Bank

    def start(self) -> None:
        """Starts the process and waits until it is ready. After `stop`, starts it again over the same books and ports."""
        command = [sys.executable, "-m", "aegispay.sandbox", *self._arguments]
        command += ["--settings", msgspec.json.encode(self.settings).decode()]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: S603 - our own module
        stdout = self._process.stdout
        if stdout is None or not select.select([stdout], [], [], START_TIMEOUT_S)[0]:
            self.stop()
            raise RuntimeError(f"the sandbox was not ready within {START_TIMEOUT_S} s")
        line = stdout.readline()
        if not line:
            self.stop()
            raise RuntimeError("the sandbox ended before it was ready")
        self._ready = msgspec.json.decode(line)
        self.settings = msgspec.structs.replace(
            self.settings,
            stripe_port=urlsplit(self.stripe_url).port or 0,
            plainpay_port=urlsplit(self.plainpay_url).port or 0,
            more_ports={name: urlsplit(self.url(name)).port or 0 for name in self.settings.more_psps},
        )
        self.bank = Bank(self.path, readonly=True)

    def stop(self, *, kill: bool = False) -> None:
        """Ends the process, with SIGKILL where asked. Safe before start, and twice."""
        process, self._process = self._process, None
        if process is None:
            return
        if hasattr(self, "bank"):
            self.bank.close()
        if kill:
            process.kill()
        else:
            process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def __enter__(self) -> SandboxProcess:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> SandboxProcess:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    # --- what a client needs --------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        return int(self._ready["pid"])

    @property
    def stripe_url(self) -> str:
        return str(self._ready["stripe_url"])

    @property
    def stripe_key(self) -> str:
        return str(self._ready["stripe_key"])

    @property
    def plainpay_url(self) -> str:
        return str(self._ready["plainpay_url"])

    @property
    def plainpay_key(self) -> str:
        return str(self._ready["plainpay_key"])

    def url(self, face: str) -> str:
        """Where a face listens, by its PSP's name."""
        return str(self._ready["urls"][face])

    @property
    def control_url(self) -> str:
        return str(self._ready["control_url"])

    def gateways(self, **stripe_options: Any) -> dict[str, Gateway]:
        """Adapters for both PSPs, by name, in the order in which to try them."""
        return ready_gateways(self.stripe_url, self.plainpay_url, self.settings, **stripe_options)

    # --- control. Each call is one short exchange on loopback, and blocks for that long -----------------------

    def script(self, face: str, faults: Iterable[FaultKind | str | None], *, path: str = "") -> None:
        """Forces the next faults at a face (`stripe`, `plainpay`); see `FaultShell.script`."""
        self.control("script", face=face, faults=list(faults), path=path)

    def set_faults(self, plan: FaultPlan, *, face: str = "") -> None:
        """Random faults at one face, or at every one."""
        self.control("faults", plan=plan, face=face)

    def clear_faults(self) -> None:
        self.control("clear")

    def settle(self) -> None:
        """Returns when every late request has landed."""
        self.control("settle")

    def down(self, face: str) -> None:
        """From now on the face refuses connections. A client's pool learns of it at its loop's next turn."""
        self.control("down", face=face)

    def up(self, face: str) -> None:
        self.control("up", face=face)

    def deliver(self, face: str, url: str, plan: NoticePlan | None = None) -> list[tuple[str, int, bool]]:
        """Sends the face's waiting webhooks to this address; returns the type, status and forgery of every try."""
        tries = self.control("deliver", face=face, url=url, plan=plan or NoticePlan())["tries"]
        return [(kind, status, forged) for kind, status, forged in tries]

    def send_webhooks(self, urls: Mapping[str, str], plan: NoticePlan | None = None) -> None:
        """From now on these PSPs deliver their webhooks to these addresses as they come; all others hold them back."""
        self.control("webhooks", urls=urls, plan=plan or NoticePlan())

    def hold_webhooks(self) -> None:
        """From now on every PSP keeps its webhooks. Returns when those on their way have arrived."""
        self.control("webhooks", urls={})

    def webhooks(self) -> dict[str, CourierReport]:
        """What became of the webhooks of each PSP that was ever told to send them."""
        return msgspec.convert(self.control("status")["webhooks"], dict[str, CourierReport])

    def faults_fired(self) -> dict[str, dict[str, int]]:
        return dict(self.control("status")["fired"])

    def control(self, verb: str, **body: Any) -> dict[str, Any]:
        """One request to the control port. Raises `RuntimeError` for one that it refuses."""
        where = urlsplit(self.control_url)
        connection = http.client.HTTPConnection(
            where.hostname or "127.0.0.1", where.port, timeout=CONTROL_TIMEOUT_S
        )
        try:
            connection.request("POST", f"/_sandbox/{verb}", msgspec.json.encode(body))
            reply = connection.getresponse()
            text = reply.read()
        finally:
            connection.close()
        if reply.status != 200:
            raise RuntimeError(text.decode())
        return msgspec.json.decode(text, type=dict[str, Any])
