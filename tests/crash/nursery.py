"""Where workers are born: `python -m tests.crash.nursery`. It imports everything once and forks a worker in milliseconds.

It reads commands on standard input; it and its workers write notes on standard output. When its input closes, all end.
"""

from __future__ import annotations

import ctypes
import gc
import os
import select
import signal
import traceback

import msgspec

import aegispay.gateways.stripe
import aegispay.gateways.transport
import aegispay.sandbox.plainpay_gateway
import aegispay.storage.postgres
import aegispay.storage.sqlite
from tests.crash import worker
from tests.crash.notes import Command, Note, Order

PR_SET_PDEATHSIG = 1
IMPORTED = (
    aegispay.gateways.stripe,
    aegispay.gateways.transport,
    aegispay.sandbox.plainpay_gateway,
    aegispay.storage.postgres,
    aegispay.storage.sqlite,
)


def import_the_rest() -> None:
    """What the library imports only when it is used, so that no worker spends its short life on it."""
    import aiohttp  # noqa: F401
    import asyncpg  # noqa: F401
    import sqlalchemy  # noqa: F401


def be_born(order: Order) -> int:
    """Forks; the child lives its life and never returns."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # Not closed: the next file that is opened would be number 0, which uvloop rightly refuses to close.
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        worker.run(order)
        status = 0
    except BaseException:
        worker.say(Note(life=order.life, trouble=traceback.format_exc(limit=-3)[-1500:]))
    finally:
        os._exit(status)


class Nursery:
    def __init__(self) -> None:
        self.lives: dict[int, int] = {}
        """Process ids of those not yet reaped, by life: no number is another process's while it stands here."""

    def obey(self, line: bytes) -> None:
        command = msgspec.json.decode(line, type=Command)
        if command.begin is not None:
            self.lives[command.begin.life] = be_born(command.begin)
        if command.kill in self.lives:
            os.kill(self.lives[command.kill], signal.SIGKILL)

    def reap(self) -> None:
        for life, pid in list(self.lives.items()):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                del self.lives[life]
                # What the dead one wrote stands in the pipe already, so this is its last line.
                worker.say(Note(life=life, exit=os.waitstatus_to_exitcode(status)))

    def end(self) -> None:
        for pid in self.lives.values():
            os.kill(pid, signal.SIGKILL)
        for pid in self.lives.values():
            os.waitpid(pid, 0)


def main() -> None:
    import_the_rest()
    gc.freeze()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_inheritable(woken, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    nursery = Nursery()
    buffered = b""
    while True:
        readable, _, _ = select.select([0, woken], [], [])
        if woken in readable:
            os.read(woken, 4096)
        nursery.reap()
        if 0 in readable:
            chunk = os.read(0, 1 << 20)
            if not chunk:
                nursery.end()
                return
            *lines, buffered = (buffered + chunk).split(b"\n")
            for line in lines:
                nursery.obey(line)


if __name__ == "__main__":
    main()
