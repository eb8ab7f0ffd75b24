"""The commands about the configuration: check tries it out, config shows it. Neither shows a secret or writes anything."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from aegispay.cli.exits import Exit, clean, of_error
from aegispay.cli.options import command
from aegispay.cli.session import Session
from aegispay.config import Config, unknown_variables
from aegispay.config_gateways import make_gateway
from aegispay.domain.errors import AegisPayError, ConfigError
from aegispay.gateways.gateway import Gateway, Health
from aegispay.storage import schema, urls
from aegispay.storage.store import Durability, Store

_PING_TIMEOUT_S = 5.0


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one check found."""

    name: str
    ok: bool
    detail: str
    exit_status: int = 0
    """What the whole ends with where this is the worst."""


def _check(session: Session) -> int:
    """Validate the configuration, look at the store and its durability, and ping each gateway. Moves no money.

    The database is only looked at: it is neither created nor migrated.
    """
    findings = list(_findings(session))
    worst = [found.exit_status for found in findings if not found.ok]
    status = Exit.OK if not worst else Exit.USAGE if Exit.USAGE in worst else Exit(worst[0])
    if session.json:
        session.emit({"ok": not worst, "exit_status": int(status), "checks": findings})
        return status
    table = Table.grid(padding=(0, 2))
    for found in findings:
        mark = Text("ok", style="bold green") if found.ok else Text("FAILED", style="bold red")
        table.add_row(mark, Text(found.name), Text(clean(found.detail)))
    session.show(table)
    return status


def _findings(session: Session) -> Iterator[Finding]:
    try:
        config = session.config()
    except ConfigError as error:
        yield Finding(name="config", ok=False, detail=clean(error), exit_status=Exit.USAGE)
        return
    yield Finding(name="config", ok=True, detail=config.source)
    for name, meant in unknown_variables(os.environ):
        yield Finding(
            name=f"environment {name}",
            ok=False,
            detail=f"nobody reads it; did you mean {meant}?",
            exit_status=Exit.USAGE,
        )
    yield _store(session, config)
    if not config.gateways:
        detail = "no gateway is configured; add a [gateways.NAME] section."
        yield Finding(name="gateways", ok=False, detail=detail, exit_status=Exit.USAGE)
    for name in config.gateways:
        yield _gateway(config, name)


def _store(session: Session, config: Config) -> Finding:
    name = f"store {urls.shown(config.store_url)}"
    path = None if urls.is_postgres(config.store_url) else urls.sqlite_path(config.store_url)
    if path == urls.MEMORY:
        detail = "in memory: payments are lost when the process ends."
        return Finding(name=name, ok=False, detail=detail, exit_status=Exit.USAGE)
    if path is not None and not Path(path).exists():
        folder = Path(path).absolute().parent
        if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
            return Finding(name=name, ok=True, detail="no database yet; it is created on first use.")
        detail = f"the folder {folder} does not exist or cannot be written to."
        return Finding(name=name, ok=False, detail=detail, exit_status=Exit.USAGE)
    try:
        revision = schema.current(config.store_url)
        if schema.needs_migration(revision):
            detail = (
                f"its tables are at {revision or 'nothing'}, not {schema.head()}: run `aegispay migrate`."
            )
            return Finding(name=name, ok=False, detail=detail, exit_status=Exit.USAGE)
        durability = session.run_with_store(config, _durability)
    except AegisPayError as error:
        return Finding(name=name, ok=False, detail=clean(error), exit_status=of_error(error))
    settings = ", ".join(f"{key}={value}" for key, value in durability.settings.items())
    if durability.durable:
        return Finding(name=name, ok=True, detail=f"durable ({settings}), schema {revision}")
    detail = f"NOT durable ({settings}): {durability.warning or ''}"
    return Finding(name=name, ok=False, detail=detail, exit_status=Exit.USAGE)


async def _durability(store: Store) -> Durability:
    return store.durability


def _gateway(config: Config, name: str) -> Finding:
    label = f"gateway {name}"
    kind = config.gateways[name].type
    try:
        gateway = make_gateway(name, config.gateways[name], os.environ, config.source)
    except ConfigError as error:
        return Finding(name=label, ok=False, detail=clean(error), exit_status=Exit.USAGE)
    health = asyncio.run(_ping(gateway))
    detail = f"{kind}, {health.latency_ms:.0f} ms {clean(health.detail)}".rstrip()
    return Finding(name=label, ok=health.ok, detail=detail, exit_status=Exit.UNREACHABLE)


async def _ping(gateway: Gateway) -> Health:
    try:
        async with asyncio.timeout(2 * _PING_TIMEOUT_S):
            await gateway.start()
            return await gateway.health(_PING_TIMEOUT_S)
    except TimeoutError:
        return Health(ok=False, latency_ms=2000 * _PING_TIMEOUT_S, detail="no answer in time.")
    except Exception as error:  # noqa: BLE001 - an adapter of somebody else's may raise anything
        return Health(ok=False, latency_ms=0.0, detail=f"its health check raised {type(error).__name__}.")
    finally:
        await gateway.aclose()


# --- config -------------------------------------------------------------------------------------------------


def _config(session: Session) -> int:
    """Show the effective configuration and where each value comes from. Secrets are not shown."""
    config = session.config()
    if session.json:
        session.emit(_as_data(config))
        return 0
    table = Table.grid(padding=(0, 2))
    table.add_row(Text("key", style="bold"), Text("value", style="bold"), Text("from", style="bold"))
    table.add_row("store.url", Text(clean(urls.shown(config.store_url))), Text(config.origin("store.url")))
    for key, value in _flat(msgspec.to_builtins(config.settings), "settings"):
        table.add_row(key, Text(_toml(value)), Text(config.origin(key)))
    table.add_row("routing.order", Text(", ".join(config.order) or "-"), Text(config.origin("routing.order")))
    for name, gateway in config.gateways.items():
        table.add_row(f"gateways.{name}.type", Text(clean(gateway.type)), "file")
        for key, value in gateway.options.items():
            table.add_row(Text(clean(f"gateways.{name}.{key}")), Text(clean(_toml(value))), "file")
        for key, variable in gateway.variables.items():
            table.add_row(
                Text(clean(f"gateways.{name}.{key}_env")), Text(f"{variable} ({_is_set(variable)})"), "file"
            )
    session.show(Text(f"Configuration: {clean(config.source)}"))
    session.show(table)
    return 0


def _as_data(config: Config) -> dict[str, Any]:
    return {
        "source": config.source,
        "store": {"url": urls.shown(config.store_url)},
        "settings": msgspec.to_builtins(config.settings),
        "routing": {"order": list(config.order)},
        "gateways": {
            name: {
                "type": gateway.type,
                "options": gateway.options,
                "variables": {
                    key: {"name": variable, "set": _is_set(variable) == "set"}
                    for key, variable in gateway.variables.items()
                },
            }
            for name, gateway in config.gateways.items()
        },
        "origins": config.origins,
    }


def _flat(values: dict[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}.{name}")
        else:
            yield f"{path}.{name}", value


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _is_set(variable: str) -> str:
    return "set" if os.environ.get(variable, "").strip() else "not set"


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    command(
        app,
        "check",
        examples="""
        aegispay check
        aegispay check --config /etc/aegispay.toml --json""",
    )(_check)
    command(app, "config", examples="aegispay config --json")(_config)
