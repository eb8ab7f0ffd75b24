"""`python -m aegispay.sandbox`: the bank and its PSPs in a process of their own."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys

import msgspec

from aegispay.sandbox.faults import FaultPlan
from aegispay.sandbox.server import Sandbox, SandboxSettings

PARENT_POLL_S = 0.2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m aegispay.sandbox", description=__doc__)
    parser.add_argument("--bank", help="the bank's SQLite file; in memory where not given")
    parser.add_argument("--port", type=int, default=0, help="port of the Stripe face (0: any)")
    parser.add_argument("--plainpay-port", type=int, default=0)
    parser.add_argument("--control-port", type=int, default=0)
    parser.add_argument("--seed", type=int, help="makes ids and faults repeatable")
    parser.add_argument(
        "--faults", type=float, default=0.0, help="share of requests that meet a fault, 0 to 1"
    )
    parser.add_argument("--plan", help="a fault plan as JSON")
    parser.add_argument("--settings", help='settings as JSON, such as {"search_lag_s": 1}')
    parser.add_argument("--synchronous", default="FULL", choices=["OFF", "NORMAL", "FULL", "EXTRA"])
    parser.add_argument("--json", action="store_true", help="print one JSON line when ready")
    parser.add_argument("--keep", action="store_true", help="go on when the parent process ends")
    return parser


async def _serve(options: argparse.Namespace, parent: int) -> None:
    seed = options.seed
    plan = FaultPlan.mixed(seed or 0, options.faults)
    if options.plan:
        plan = msgspec.json.decode(options.plan, type=FaultPlan)
    settings = msgspec.json.decode(options.settings or "{}", type=SandboxSettings)
    settings = msgspec.structs.replace(
        settings,
        stripe_port=options.port or settings.stripe_port,
        plainpay_port=options.plainpay_port or settings.plainpay_port,
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    sandbox = Sandbox(
        options.bank, seed=seed, faults=plan, synchronous=options.synchronous, settings=settings
    )
    async with sandbox:
        control = await sandbox.start_control(options.control_port)
        ready = {
            "stripe_url": sandbox.stripe_url,
            "stripe_key": sandbox.stripe_key,
            "plainpay_url": sandbox.plainpay_url,
            "plainpay_key": sandbox.plainpay_key,
            "control_url": control,
            "urls": {name: face.url for name, face in sandbox.faces.items()},
            "bank": options.bank,
            "pid": os.getpid(),
        }
        text = (
            msgspec.json.encode(ready).decode()
            if options.json
            else "\n".join(f"{k}: {v}" for k, v in ready.items())
        )
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
        while not stop.is_set():
            try:
                await asyncio.wait_for(stop.wait(), PARENT_POLL_S)
            except TimeoutError:
                if not options.keep and os.getppid() != parent:
                    break


def main() -> None:
    # Read before anything is said: whoever waits for the first line may be gone right after it.
    parent = os.getppid()
    asyncio.run(_serve(_parser().parse_args(), parent))


if __name__ == "__main__":
    main()
