"""One run of the command line: its common options, its output, and the AegisPay that it works with."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from rich.console import Console, RenderableType

from aegispay.app import AegisPay
from aegispay.cli import exits
from aegispay.cli.exits import Exit
from aegispay.config import Config, build, load
from aegispay.domain.errors import AegisPayError, ConfigError
from aegispay.orchestration.results import Result
from aegispay.storage import schema, urls
from aegispay.storage.factory import make_store
from aegispay.storage.store import Store

T = TypeVar("T")
_WIDE = 240


class Interrupted(Exception):
    """Ctrl-C, in a form that typer lets through."""


class Session:
    """What the commands share. Results go to the standard output, everything else to the standard error."""

    def __init__(self) -> None:
        self.config_path: str | None = None
        self.store_url: str | None = None
        self.json = False
        self.debug = False
        self.working = False
        """Whether a gateway may have been asked: before that, an error proves that nothing was."""

    # --- output -------------------------------------------------------------------------------------------

    def show(self, renderable: RenderableType) -> None:
        """Prints for a person: no colours and no fixed width where nobody looks."""
        live = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        plain = not live or "NO_COLOR" in os.environ
        console = Console(
            file=sys.stdout,
            width=None if live else _WIDE,
            force_terminal=False if plain else None,
            highlight=False,
            markup=False,
            emoji=False,
        )
        # Captured, because rich ends the process with 1 where nobody reads any more, and 1 means a failed payment.
        with console.capture() as captured:
            console.print(renderable)
        _unless_closed(lambda: sys.stdout.write(captured.get()))

    def say(self, line: str) -> None:
        """One line on the standard error, beside the result."""
        _unless_closed(lambda: print(line, file=sys.stderr, flush=True))

    def emit(self, found: Any) -> None:
        """The one JSON value of this run, on the standard output."""
        raw = msgspec.json.encode(found, order="deterministic")
        if sys.stdout.isatty():
            raw = msgspec.json.format(raw)
        _unless_closed(lambda: print(raw.decode(), flush=True))

    # --- configuration and stores -------------------------------------------------------------------------

    def config(self) -> Config:
        return load(self.config_path, store=self.store_url)

    def open_config(self, *, creates: bool = False) -> Config:
        """The configuration for a command that needs a store that lasts; without `creates` the store must exist."""
        config = self.config()
        url = config.store_url
        if not urls.is_postgres(url):
            path = urls.sqlite_path(url)
            if path == urls.MEMORY:
                raise ConfigError(
                    "a store in memory forgets the payment when the command ends.",
                    hint="Name a file: --store sqlite:///payments.db.",
                )
            if not creates and not Path(path).exists():
                raise ConfigError(
                    f"there is no database at {path}.",
                    hint="Check the store's URL, or create it with `aegispay migrate`.",
                )
        if not creates and schema.needs_migration(schema.current(url)):
            raise ConfigError(
                f"{urls.shown(url)} has no up-to-date AegisPay tables.", hint="Run `aegispay migrate` first."
            )
        return config

    def has_store(self, config: Config) -> bool:
        """Whether payments may stand in the store already."""
        url = config.store_url
        return urls.is_postgres(url) or Path(urls.sqlite_path(url)).exists()

    def pay(self, config: Config) -> AegisPay:
        """The orchestrator for one command: recovery is the servers' work, or that of `aegispay recover`."""
        settings = msgspec.structs.replace(config.settings, recovery=False)
        return build(msgspec.structs.replace(config, settings=settings))

    def run_with(self, pay: AegisPay, work: Callable[[AegisPay], Awaitable[T]]) -> T:
        """Runs `work` with the started orchestrator, and stops it whatever happens."""

        async def whole() -> T:
            async with pay:
                self.working = True
                return await work(pay)

        return asyncio.run(whole())

    def run_with_store(self, config: Config, work: Callable[[Store], Awaitable[T]]) -> T:
        """Runs `work` with the open store alone: no gateway, so no secret is needed."""

        async def whole() -> T:
            store = make_store(config.store_url)
            await store.open()
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(whole())

    # --- errors -------------------------------------------------------------------------------------------

    def failed(self, error: AegisPayError) -> Exit:
        """Prints an expected error and returns the exit status."""
        status = exits.of_error(error)
        effect = error.effect if self.working else "none"
        if self.json:
            self.emit(exits.error_object(error, status, effect))
            return status
        line = exits.clean(error)
        if effect == "unknown":
            line += " It is not known whether the gateway was asked: repeat the command with the same --key."
        self.say(f"aegispay: error: {line}")
        return status

    def misused(self, message: str) -> Exit:
        """Prints what is wrong with the command line."""
        message = exits.clean(message)
        if self.json:
            self.emit(exits.usage_object(message))
        else:
            self.say(f"aegispay: error: {message}")
        return Exit.USAGE

    def answer(self, result: Result, render: Callable[[Result], RenderableType]) -> Exit:
        """Prints a payment's answer and returns the exit status."""
        if self.json:
            self.emit(result.to_dict())
        else:
            self.show(render(result))
        return exits.of_result(result)


def _unless_closed(write: Callable[[], object]) -> None:
    """Writes; a reader that went away (`aegispay list | head`) changes neither the work nor the exit status."""
    try:
        write()
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still buffered, and what comes after, goes nowhere.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
