"""Gateways from a configuration: which adapter a type names, and its options checked against the adapter's constructor.

Secrets come from the environment at the moment a gateway is made; the configuration holds only the variables' names.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, get_type_hints

import msgspec

from aegispay.config_values import check_variable, convert, did_you_mean
from aegispay.domain.errors import AegisPayError, ConfigError
from aegispay.gateways.gateway import Gateway
from aegispay.gateways.registry import GatewayType

ENTRY_POINT_GROUP = "aegispay.gateways"
"""Installed packages offer adapters of their own under this entry point group."""
BUILT_IN = {
    "stripe": "aegispay.gateways.stripe:StripeGateway",
    "razorpay": "aegispay.gateways.razorpay:RazorpayGateway",
    "paypal": "aegispay.gateways.paypal:PayPalGateway",
    "adyen": "aegispay.gateways.adyen:AdyenGateway",
    "braintree": "aegispay.gateways.braintree:BraintreeGateway",
    "sandbox-plainpay": "aegispay.sandbox.plainpay_gateway:PlainPayGateway",
}
_NEVER_FROM_A_FILE = frozenset({"self", "name", "transport", "clock"})


class GatewayConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One `[gateways.NAME]` section. It holds no secret, only the names of the variables that do."""

    type: str
    """A built-in type, an installed adapter's name, or `module:Class`."""
    options: dict[str, Any] = msgspec.field(default_factory=dict)
    """Passed to the adapter's constructor."""
    variables: dict[str, str] = msgspec.field(default_factory=dict)
    """Constructor argument to the environment variable that holds it: `{"api_key": "STRIPE_API_KEY"}`."""


def read_gateway(name: str, section: object, where: str) -> GatewayConfig:
    """A section as it stands in the file, not yet compared with its adapter."""
    if not isinstance(section, dict):
        raise ConfigError(f"{where}: expected a table.", hint=f'Write [gateways.{name}] and type = "stripe".')
    kind = section.get("type")
    if not isinstance(kind, str) or not kind:
        raise ConfigError(
            f"{where}: type is missing.", hint=f"Types: {', '.join(BUILT_IN)}, or module:Class."
        )
    options: dict[str, Any] = {}
    variables: dict[str, str] = {}
    for key, value in section.items():
        if key == "type":
            continue
        if key.endswith("_env"):
            argument = key.removesuffix("_env")
            variables[argument] = check_variable(value, f"{where} {key}", _variable_for(name, argument))
        else:
            options[key] = value
    return GatewayConfig(type=kind, options=options, variables=variables)


def make_gateway(name: str, config: GatewayConfig, environ: Mapping[str, str], source: str) -> Gateway:
    """The gateway, not yet started. Raises `ConfigError` for whatever keeps it from being made."""
    where = f"{source}: [gateways.{name}]"
    kind = find_adapter(config.type, where)
    arguments = _checked_options(name, kind, config, where)
    for argument, variable in config.variables.items():
        value = environ.get(variable, "")
        if not value.strip():
            raise ConfigError(
                f"{where} {argument}_env: the environment variable {variable} is not set.",
                hint=f"Set it: export {variable}=...",
            )
        arguments[argument] = value
    try:
        return kind(**arguments)
    except AegisPayError as error:
        raise ConfigError(f"{where}: {error.message}", hint=error.hint) from None
    except Exception as error:  # noqa: BLE001 - an adapter of somebody else's may raise anything
        # Its message is not shown: it may quote a secret.
        raise ConfigError(
            f"{where}: {config.type} could not be made: {type(error).__name__}.",
            hint="Compare the section's options with the adapter's documentation.",
        ) from None


def find_adapter(kind: str, where: str) -> type[Gateway]:
    """The adapter class that a type names. Raises `ConfigError`."""
    installed = {point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP)}
    path = BUILT_IN.get(kind) or (kind if ":" in kind else installed.get(kind))
    if path is None:
        if kind in [member.value for member in GatewayType]:
            raise ConfigError(
                f"{where} type: no adapter for {kind} comes with this AegisPay.",
                hint='Write your own Gateway and name it: type = "your_module:YourGateway".',
            )
        known = [*BUILT_IN, *installed]
        hint = did_you_mean(kind[:60], known, "Types")
        raise ConfigError(
            f"{where} type: {kind[:60]!r} is unknown.", hint=f"{hint} Your own is module:Class."
        )
    return _import(path, where)


def _import(path: str, where: str) -> type[Gateway]:
    module_name, _, class_name = path.partition(":")
    try:
        found: object = importlib.import_module(module_name)
        for part in class_name.split("."):
            found = getattr(found, part)
    except AttributeError:
        raise ConfigError(
            f"{where} type: the module {module_name!r} has no {class_name[:60]!r}.",
            hint="It is module:Class.",
        ) from None
    except ImportError as error:
        raise ConfigError(
            f"{where} type: {path[:120]!r} cannot be imported: {error.name or module_name} is missing.",
            hint="Is it installed, or its folder on PYTHONPATH?",
        ) from None
    except Exception as error:  # noqa: BLE001 - a module of somebody else's may raise anything
        raise ConfigError(f"{where} type: importing {path[:120]!r} raised {type(error).__name__}.") from None
    if not (isinstance(found, type) and issubclass(found, Gateway)) or inspect.isabstract(found):
        raise ConfigError(
            f"{where} type: {path[:120]!r} is not a gateway.", hint="Name a subclass of aegispay.Gateway."
        )
    return found


def _checked_options(name: str, kind: type[Gateway], config: GatewayConfig, where: str) -> dict[str, Any]:
    """The options in the types of the constructor's parameters, and nothing missing but secrets that are named."""
    parameters = {
        key: parameter
        for key, parameter in inspect.signature(kind).parameters.items()
        if key not in _NEVER_FROM_A_FILE and parameter.kind is not parameter.VAR_POSITIONAL
    }
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    named = {key for key, parameter in parameters.items() if parameter.kind is not parameter.VAR_KEYWORD}
    try:
        hints = get_type_hints(kind.__init__)
    except Exception:  # noqa: BLE001 - annotations that cannot be resolved are no reason to refuse a gateway
        hints = {}
    found: dict[str, Any] = {}
    for key, value in config.options.items():
        if key not in named and not takes_any:
            hint = did_you_mean(key[:60], sorted(named | {"type"}), "Options")
            raise ConfigError(f"{where} {key[:60]}: unknown option of {config.type}.", hint=hint)
        found[key] = convert(value, hints[key], f"{where} {key}") if key in hints else value
    for argument in config.variables:
        if argument not in named and not takes_any:
            hint = did_you_mean(argument[:60], sorted(named), "Options")
            raise ConfigError(f"{where} {argument[:60]}_env: unknown option of {config.type}.", hint=hint)
    for key in sorted(named - set(found) - set(config.variables)):
        if parameters[key].default is inspect.Parameter.empty:
            secret = f'{key}_env = "{_variable_for(name, key)}"'
            raise ConfigError(
                f"{where}: {config.type} needs {key}.",
                hint=f"Write {secret if key.endswith(('key', 'secret', 'token')) else key + ' = ...'}.",
            )
    return found


def _variable_for(name: str, argument: str) -> str:
    return f"{name}_{argument}".upper().replace("-", "_")
