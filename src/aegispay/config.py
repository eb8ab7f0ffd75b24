"""The configuration: `aegispay.toml` and the environment, read into one frozen value and turned into an `AegisPay`.

The environment wins over the file. Secrets come from the environment alone. Reading touches no store and no network.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from aegispay.app import DEFAULT_STORE, AegisPay
from aegispay.config_gateways import GatewayConfig, make_gateway, read_gateway
from aegispay.config_values import (
    check_store_url,
    check_variable,
    convert,
    did_you_mean,
    fields_of,
    has_password,
    is_secret_name,
    is_secret_value,
)
from aegispay.domain.errors import ConfigError
from aegispay.gateways.registry import GatewayRegistry
from aegispay.orchestration.settings import Settings
from aegispay.routing.router import OrderedRouter
from aegispay.storage import urls

_Made = TypeVar("_Made")

DEFAULT_FILE = "aegispay.toml"
FILE_BYTES_MAX = 1024 * 1024
CONFIG_VARIABLE = "AEGISPAY_CONFIG"
STORE_VARIABLE = "AEGISPAY_STORE"
ORDER_VARIABLE = "AEGISPAY_ROUTING_ORDER"
_SECTIONS = ("store", "settings", "routing", "gateways")
_GATEWAY_NAME = re.compile(r"[a-z0-9_-]{1,40}\Z")
_NO_GATEWAY_HINT = (
    "Add a [gateways.NAME] section to aegispay.toml, "
    'for example type = "stripe" and api_key_env = "STRIPE_API_KEY".'
)


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """What was configured. It holds no gateway's secret; the store's URL may hold a password and is never printed whole."""

    source: str
    """The file that was read, or `defaults`."""
    store_url: str
    settings: Settings
    order: tuple[str, ...] = ()
    """Gateways in the order in which they are tried; those that it leaves out come last, as they stand in the file."""
    gateways: dict[str, GatewayConfig] = msgspec.field(default_factory=dict)
    origins: dict[str, str] = msgspec.field(default_factory=dict)
    """Key to where its value comes from: `file`, `environment NAME` or `command line`; keys left out are defaults."""

    def __repr__(self) -> str:
        return f"<Config {self.source} store={urls.shown(self.store_url)} gateways={list(self.gateways)}>"

    def origin(self, key: str) -> str:
        return self.origins.get(key, "default")


def load(
    path: str | Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    store: str | None = None,
) -> Config:
    """Reads the configuration from `path`, else from `AEGISPAY_CONFIG`, else from `./aegispay.toml` where there is one.

    `store` overrides the store's URL. Raises `ConfigError`: one sentence with the file, the key and how to mend it.
    """
    env = os.environ if environ is None else environ
    file = _file(path, env)
    source = str(file) if file is not None else "defaults"
    document = _read(file) if file is not None else {}
    _check_secrets(document, source)
    for key in document:
        if key not in _SECTIONS:
            raise ConfigError(f"{source}: [{key[:60]}]: unknown section.", hint=did_you_mean(key, _SECTIONS))
    origins: dict[str, str] = {}
    gateways = _gateways(_section(document, "gateways", source), source)
    origins.update({f"gateways.{name}": "file" for name in gateways})
    return Config(
        source=source,
        store_url=_store_url(_section(document, "store", source), file, source, env, store, origins),
        settings=_settings(_section(document, "settings", source), source, env, origins),
        order=_order(_section(document, "routing", source), source, env, tuple(gateways), origins),
        gateways=gateways,
        origins=origins,
    )


def build_registry(config: Config, *, environ: Mapping[str, str] | None = None) -> GatewayRegistry:
    """The configured gateways with their secrets from the environment, not yet started. Raises `ConfigError`."""
    env = os.environ if environ is None else environ
    if not config.gateways:
        raise ConfigError(f"{config.source}: no gateway is configured.", hint=_NO_GATEWAY_HINT)
    registry = GatewayRegistry()
    for name, gateway in config.gateways.items():
        registry.register(name, make_gateway(name, gateway, env, config.source))
    return registry


def build(config: Config, *, environ: Mapping[str, str] | None = None) -> AegisPay:
    """The configured AegisPay, not yet started. Raises `ConfigError`."""
    registry = build_registry(config, environ=environ)
    return AegisPay(
        registry, store=config.store_url, settings=config.settings, router=OrderedRouter(config.order)
    )


def setting_variables() -> dict[str, tuple[str, ...]]:
    """Environment variable to the path of the setting that it overrides: `AEGISPAY_CALL_TIMEOUT_S`, ..."""
    return {"AEGISPAY_" + "_".join(path).upper(): path for path, _ in _leaves(Settings)}


def unknown_variables(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """Variables that look like misspelt ones of ours, each with what was probably meant."""
    known = [*setting_variables(), CONFIG_VARIABLE, STORE_VARIABLE, ORDER_VARIABLE]
    found: list[tuple[str, str]] = []
    for name in sorted(environ):
        if name.startswith("AEGISPAY_") and name not in known:
            hint = did_you_mean(name, [k.lower() for k in known], "").upper()
            if hint.startswith("DID YOU MEAN"):
                found.append((name, hint.removeprefix("DID YOU MEAN ").rstrip("?")))
    return found


# --- the file -----------------------------------------------------------------------------------------------


def _file(path: str | Path | None, env: Mapping[str, str]) -> Path | None:
    if path is not None and str(path):
        return Path(path)
    if env.get(CONFIG_VARIABLE):
        return Path(env[CONFIG_VARIABLE])
    here = Path(DEFAULT_FILE)
    return here if here.exists() or here.is_symlink() else None


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            raw = stream.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise ConfigError(
            f"{file}: there is no such file.",
            hint="Copy aegispay.toml.example, or name another with --config.",
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no file name"
        raise ConfigError(
            f"{file}: cannot be read: {reason}.", hint="Check the path and the rights."
        ) from None
    if len(raw) > FILE_BYTES_MAX:
        raise ConfigError(f"{file}: is larger than {FILE_BYTES_MAX} bytes.", hint="Is it the right file?")
    try:
        return tomllib.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{file}: byte {error.start} is not UTF-8.", hint="Save the file as UTF-8 text."
        ) from None
    except (ValueError, RecursionError) as error:
        # The first line only, without a trace of the file's own text.
        what = str(error).splitlines()[0][:120] if isinstance(error, tomllib.TOMLDecodeError) else "a value"
        raise ConfigError(f"{file}: is not valid TOML: {what}.", hint="See https://toml.io.") from None


def _check_secrets(document: dict[str, Any], source: str) -> None:
    """Refuses a secret in the file before anything else is said of it, and without quoting it."""
    for section, key, value in _texts(document):
        place = f"{source}: [{section}] {key[:60]}" if section else f"{source}: {key[:60]}"
        if section == "store" and key == "url" and has_password(value):
            raise ConfigError(
                f"{place}: a password does not belong in the file.",
                hint=f"Put the whole URL in the environment variable {STORE_VARIABLE}, or name another with url_env.",
            )
        if is_secret_name(key) or is_secret_value(value) or has_password(value):
            variable = f"{section.rpartition('.')[2]}_{key}".upper().replace("-", "_").removesuffix("_ENV")
            key_env = f'{key.removesuffix("_env")[:60]}_env = "{variable[:80].lstrip("_")}"'
            raise ConfigError(
                f"{place}: a secret does not belong in the file.",
                hint=f"Write {key_env} instead, and set that environment variable.",
            )


def _texts(table: Mapping[str, Any], section: str = "") -> Iterator[tuple[str, str, str]]:
    """Every text in the document with its section and key; texts in lists count as the list's."""
    stack: list[tuple[str, str, Any]] = [(section, key, value) for key, value in table.items()]
    while stack:
        place, key, value = stack.pop(0)
        if isinstance(value, dict):
            inner = f"{place}.{key}" if place else key
            stack.extend((inner, str(name), one) for name, one in value.items())
        elif isinstance(value, list):
            stack.extend((place, key, one) for one in value)
        elif isinstance(value, str):
            yield place, key, value


def _section(document: dict[str, Any], name: str, source: str) -> dict[str, Any]:
    section = document.get(name, {})
    if not isinstance(section, dict):
        raise ConfigError(f"{source}: {name}: expected a section.", hint=f"Write [{name}].")
    return section


# --- the sections -------------------------------------------------------------------------------------------


def _store_url(
    section: dict[str, Any],
    file: Path | None,
    source: str,
    env: Mapping[str, str],
    given: str | None,
    origins: dict[str, str],
) -> str:
    where = f"{source}: [store]"
    for key in section:
        if key not in ("url", "url_env"):
            raise ConfigError(f"{where} {key[:60]}: unknown key.", hint=did_you_mean(key, ("url", "url_env")))
    from_file = section.get("url")
    if from_file is not None:
        from_file = check_store_url(from_file, f"{where} url")
    variable = section.get("url_env")
    if variable is not None:
        variable = check_variable(variable, f"{where} url_env", "DATABASE_URL")
        if from_file is not None:
            raise ConfigError(f"{where}: url and url_env are both set.", hint="Keep one of them.")
    if given is not None:
        origins["store.url"] = "command line"
        if has_password(given):
            raise ConfigError(
                "--store: a password does not belong on the command line, where other users can see it.",
                hint=f"Put the URL in the environment variable {STORE_VARIABLE}.",
            )
        return check_store_url(given, "--store")
    for name in (STORE_VARIABLE, variable):
        if name and env.get(name):
            origins["store.url"] = f"environment {name}"
            return check_store_url(env[name], f"environment variable {name}")
    if variable is not None:
        raise ConfigError(
            f"{where} url_env: the environment variable {variable} is not set.",
            hint=f"Set it: export {variable}=postgresql://...",
        )
    if from_file is not None:
        origins["store.url"] = "file"
    return _beside(from_file or DEFAULT_STORE, file)


def _beside(url: str, file: Path | None) -> str:
    """A relative SQLite path in the file counts from the file's folder, wherever the command is run from.

    With another file, a key that was used before would find no claim, and the customer would be charged again.
    """
    if file is None or urls.is_postgres(url):
        return url
    path = urls.sqlite_path(url)
    if path == urls.MEMORY or Path(path).is_absolute() or file.parent == Path():
        return url
    return f"sqlite:///{file.parent.absolute() / path}"


def _settings(
    section: dict[str, Any], source: str, env: Mapping[str, str], origins: dict[str, str]
) -> Settings:
    values = _struct_values(Settings, section, f"{source}: [settings]", origins, "settings")
    kinds = dict(_leaves(Settings))
    for name, path in setting_variables().items():
        if name not in env:
            continue
        value = convert(env[name], kinds[path], f"environment variable {name}", lax=True)
        target = values
        for part in path[:-1]:
            target = target.setdefault(part, {})
        target[path[-1]] = value
        origins[".".join(("settings", *path))] = f"environment {name}"
    defaults = Settings()
    for name, value in values.items():
        if isinstance(value, dict):
            default = getattr(defaults, name)
            whole = {**msgspec.structs.asdict(default), **value}
            values[name] = _made(type(default), whole, f"{source}: [settings.{name}]")
    return _made(Settings, values, f"{source}: [settings]")


def _made(kind: type[_Made], values: dict[str, Any], where: str) -> _Made:
    try:
        return kind(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.message}", hint=error.hint) from None


def _struct_values(
    kind: type[msgspec.Struct], section: dict[str, Any], where: str, origins: dict[str, str], path: str
) -> dict[str, Any]:
    """The section's values in the field's types, as a plain mapping; nested structs as mappings too."""
    fields = fields_of(kind)
    found: dict[str, Any] = {}
    for key, value in section.items():
        if key not in fields:
            raise ConfigError(f"{where} {key[:60]}: unknown key.", hint=did_you_mean(key[:60], fields))
        nested = fields[key]
        if isinstance(nested, type) and issubclass(nested, msgspec.Struct):
            if not isinstance(value, dict):
                raise ConfigError(
                    f"{where} {key}: expected a table.",
                    hint=f"Write [settings.{key}] with {next(iter(fields_of(nested)))} = ...",
                )
            inner = f"{where.removesuffix(']')}.{key}]"
            found[key] = _struct_values(nested, value, inner, origins, f"{path}.{key}")
        else:
            found[key] = convert(value, nested, f"{where} {key}")
            origins[f"{path}.{key}"] = "file"
    return found


def _leaves(kind: type[msgspec.Struct], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, field in fields_of(kind).items():
        if isinstance(field, type) and issubclass(field, msgspec.Struct):
            yield from _leaves(field, (*path, name))
        else:
            yield (*path, name), field


def _order(
    section: dict[str, Any],
    source: str,
    env: Mapping[str, str],
    gateways: tuple[str, ...],
    origins: dict[str, str],
) -> tuple[str, ...]:
    where = f"{source}: [routing]"
    for key in section:
        if key != "order":
            raise ConfigError(f"{where} {key[:60]}: unknown key.", hint=did_you_mean(key[:60], ("order",)))
    order: tuple[str, ...] = ()
    if "order" in section:
        where = f"{where} order"
        order = convert(section["order"], tuple[str, ...], where)
        origins["routing.order"] = "file"
    if env.get(ORDER_VARIABLE):
        where = f"environment variable {ORDER_VARIABLE}"
        order = tuple(name.strip() for name in env[ORDER_VARIABLE].split(",") if name.strip())
        origins["routing.order"] = f"environment {ORDER_VARIABLE}"
    for name in order:
        if name not in gateways:
            hint = did_you_mean(name[:60], gateways, "Configured")
            raise ConfigError(f"{where}: no gateway is named {name[:60]!r}.", hint=hint)
    if len(set(order)) != len(order):
        raise ConfigError(f"{where}: a gateway is named twice.", hint="Name each gateway once.")
    return order


def _gateways(section: dict[str, Any], source: str) -> dict[str, GatewayConfig]:
    found: dict[str, GatewayConfig] = {}
    for name, inner in section.items():
        where = f"{source}: [gateways.{name[:60]}]"
        if not _GATEWAY_NAME.match(name):
            raise ConfigError(f"{where}: not a gateway name.", hint="Use 1 to 40 of a-z, 0-9, '_' and '-'.")
        found[name] = read_gateway(name, inner, where)
    return found
