"""The application: all commands, and the one place where errors become a line and an exit status."""

from __future__ import annotations

import re
import sys
import traceback
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from aegispay.cli import (
    bench_command,
    config_commands,
    demo_command,
    payment_commands,
    read_commands,
    reconcile_command,
    review_commands,
    simulate_command,
    store_commands,
)
from aegispay.cli.exits import Exit
from aegispay.cli.options import ConfigOption, DebugOption, JsonOption, StoreOption, take
from aegispay.cli.session import Interrupted, Session
from aegispay.domain.errors import AegisPayError

_HELP = """Take payments through several PSPs, and never charge a customer twice.

\b
First steps:
  aegispay demo                          watch payments survive faults, checked against a bank
  cp aegispay.toml.example aegispay.toml
  export STRIPE_API_KEY=sk_test_...
  aegispay check
  aegispay charge 99.99 USD --method pm_card_visa --key order-1
  aegispay show pay_...

\b
Exit status:
  0  done                                3  not known yet: pending or in doubt
  1  the payment failed or was declined  4  the payer must act
  2  wrong usage or configuration        5  the store or a gateway cannot be reached
  70 a mistake in AegisPay               130 interrupted
"""

app = typer.Typer(
    name="aegispay",
    help=_HELP,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
for commands in (
    payment_commands,
    read_commands,
    review_commands,
    store_commands,
    config_commands,
    demo_command,
    bench_command,
    simulate_command,
    reconcile_command,
):
    commands.register(app)


def _print_version(value: bool) -> None:
    if value:
        try:
            found = version("aegispay")
        except PackageNotFoundError:
            found = "unknown"
        print(f"aegispay {found}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    ctx: typer.Context,
    config_path: ConfigOption = None,
    store_url: StoreOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    take(ctx.obj, {"config_path": config_path, "store_url": store_url, "json": json, "debug": debug})
    if ctx.invoked_subcommand is None:
        print(ctx.get_help(), file=sys.stderr)
        raise typer.Exit(Exit.USAGE)


def run(argv: list[str]) -> int:
    """Runs one command. Expected errors end as one line; unexpected ones too, with a traceback for `--debug`."""
    session = Session()
    # Wrong usage is found before the options are read, and must be told in the form that was asked for.
    session.json = "--json" in argv and "bench" not in argv
    session.debug = "--debug" in argv
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
    try:
        found = app(args=argv, obj=session, prog_name="aegispay", standalone_mode=False)
        return int(found) if isinstance(found, int) else Exit.OK
    except AegisPayError as error:
        if session.debug:
            traceback.print_exc()
        return session.failed(error)
    except (Interrupted, KeyboardInterrupt, typer.Abort):
        session.say(
            "aegispay: interrupted. What was begun stays recorded: repeat the command with the same --key to go on."
            if session.working
            else "aegispay: interrupted; nothing was begun."
        )
        return Exit.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - whatever it is, a person gets one line
        # typer's own exceptions moved between its releases; what they have in common is how they say it.
        formatted = getattr(error, "format_message", None)
        if formatted is not None:
            return session.misused(_usage(str(formatted())))
        return _unexpected(session, error)


def _usage(message: str) -> str:
    if re.search(r"option:? '?-[\d.]", message):
        return "an amount is greater than zero, and takes no sign."
    message = message.rstrip(".?!\n ")
    return f"{message}. See `aegispay --help`."


def _unexpected(session: Session, error: Exception) -> int:
    # Its message is not shown: it may quote what nobody should see.
    if session.debug:
        traceback.print_exc()
    name = type(error).__name__
    effect = "unknown" if session.working else "none"
    hint = "Run it again with --debug for the traceback, and report it."
    if session.json:
        found = {"code": "internal", "message": f"unexpected {name}.", "retryable": False, "effect": effect}
        session.emit({"error": {**found, "hint": hint, "exit_status": int(Exit.INTERNAL)}})
    else:
        session.say(f"aegispay: error: unexpected {name}. {hint}")
    return Exit.INTERNAL
