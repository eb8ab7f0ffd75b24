"""`aegispay demo`: a thin wrapper. The demo stands in `aegispay.demo` and is imported only when it is asked for."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Annotated, Any

import typer

from aegispay.cli.options import command
from aegispay.cli.session import Session
from aegispay.domain.errors import InvalidRequest

PAYMENTS_MAX = 1_000_000


def _demo(
    session: Session,
    seed: Annotated[
        int | None,
        typer.Option("--seed", metavar="N", help="Repeat a run's faults; without, a new seed is drawn."),
    ] = None,
    payments: Annotated[
        int, typer.Option("--payments", metavar="N", help="Mixed payments under random faults.")
    ] = 1000,
    keep: Annotated[
        str | None, typer.Option("--keep", metavar="DIR", help="Keep the databases there to look at.")
    ] = None,
) -> int:
    """Watch payments go through five PSPs with declines, time-outs, crashes, duplicate clicks and webhooks.

    The PSPs (Stripe, Razorpay, PayPal, Braintree, Adyen) are the sandbox's, on loopback, in a process of their own.
    Every payment is checked against the bank's own books. Ends with 1 if any promise was broken.
    """
    if not 0 <= payments <= PAYMENTS_MAX:
        raise InvalidRequest(f"--payments is 0 to {PAYMENTS_MAX}, not {payments}.")
    demo: Any = importlib.import_module("aegispay.demo")
    make = getattr(demo, "DemoOptions", SimpleNamespace)
    return int(demo.run(make(seed=seed, payments=payments, json=session.json, keep=keep)))


def register(app: typer.Typer) -> None:
    """Adds the command."""
    command(
        app,
        "demo",
        examples="""
        aegispay demo
        aegispay demo --seed 7 --payments 500 --keep ./books
        aegispay demo --json""",
        common=("json", "debug"),
    )(_demo)
