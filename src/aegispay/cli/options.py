"""How a function becomes a command: the options that all commands share are added here, once."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from aegispay.cli.session import Interrupted, Session
from aegispay.domain.errors import InvalidPaymentMethod, InvalidRequest
from aegispay.domain.methods import looks_like_pan
from aegispay.orchestration.requests import DEFAULT_MERCHANT

Function = TypeVar("Function", bound=Callable[..., int])
TIMEOUT_S_MAX = 3600.0

ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config", metavar="FILE", help="Configuration file [env: AEGISPAY_CONFIG; default: aegispay.toml]."
    ),
]
StoreOption = Annotated[
    str | None, typer.Option("--store", metavar="URL", help="Store to use instead of the configured one.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON value on the standard output.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an unexpected error.")]
Merchant = Annotated[str, typer.Option("--merchant", metavar="ID", help="Merchant id.")]
Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout-s", metavar="SECONDS", help="Wait at most so long for an answer; then it is pending."
    ),
]
PaymentId = Annotated[str, typer.Argument(metavar="ID", help="Payment id (pay_...).", show_default=False)]
MERCHANT = DEFAULT_MERCHANT

_COMMON: dict[str, Any] = {
    "config_path": ConfigOption,
    "store_url": StoreOption,
    "json": JsonOption,
    "debug": DebugOption,
}
_DEFAULTS: dict[str, Any] = {"config_path": None, "store_url": None, "json": False, "debug": False}


def _parameters(names: tuple[str, ...]) -> list[inspect.Parameter]:
    kind = inspect.Parameter.KEYWORD_ONLY
    return [
        inspect.Parameter(name, kind, default=_DEFAULTS[name], annotation=_COMMON[name]) for name in names
    ]


def take(session: Session, values: dict[str, Any]) -> None:
    """Moves the common options out of `values`; given before the command they hold for it too."""
    for name in _COMMON:
        given = values.pop(name, None)
        if given:
            setattr(session, name, given)


def command(
    app: typer.Typer, name: str, *, examples: str = "", common: tuple[str, ...] = tuple(_COMMON)
) -> Callable[[Function], Function]:
    """Registers a function as a command. It gets the `Session` first and returns the exit status."""

    def register(function: Function) -> Function:
        hints = get_type_hints(function, include_extras=True)
        own = list(inspect.signature(function).parameters.values())[1:]
        typed = [one.replace(annotation=hints[one.name], kind=inspect.Parameter.KEYWORD_ONLY) for one in own]
        context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)

        def wrapper(ctx: typer.Context, **values: Any) -> int:
            session: Session = ctx.obj
            take(session, {key: values.pop(key) for key in common})
            try:
                return int(function(session, **values))
            except KeyboardInterrupt:
                raise Interrupted from None

        parameters = [context, *typed, *_parameters(common)]
        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {one.name: one.annotation for one in parameters}
        wrapper.__name__ = function.__name__
        lines = "\n".join(f"  {line.strip()}" for line in examples.strip().splitlines())
        epilog = f"\b\nExamples:\n{lines}" if lines else None
        app.command(name, help=inspect.getdoc(function), epilog=epilog)(wrapper)
        return function

    return register


# --- values -------------------------------------------------------------------------------------------------


def checked_timeout(timeout_s: float | None) -> float | None:
    """The time to wait, or `InvalidRequest`."""
    if timeout_s is not None and not (math.isfinite(timeout_s) and 0 < timeout_s <= TIMEOUT_S_MAX):
        raise InvalidRequest(f"--timeout-s is more than 0 and at most {TIMEOUT_S_MAX:.0f} seconds.")
    return timeout_s


def checked_method(method: str) -> str:
    """The token, or `InvalidPaymentMethod` for anything like a card number, which is not quoted."""
    digits = method.replace(" ", "").replace("-", "")
    if looks_like_pan(method) or (digits.isdigit() and 12 <= len(digits) <= 19):
        raise InvalidPaymentMethod(
            "--method looks like a card number, and would stand in the shell history and the process list.",
            hint="Give the PSP's token (such as pm_card_visa), and clear the history.",
        )
    return method


def pairs(texts: list[str] | None, option: str) -> dict[str, str]:
    """`["order=7"]` as a mapping; raises `InvalidRequest`."""
    found: dict[str, str] = {}
    for text in texts or []:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise InvalidRequest(
                f"{option} {text[:40]!r} is not key=value.", hint=f"Write {option} order=1234."
            )
        if key in found:
            raise InvalidRequest(f"{option} {key[:40]!r} is given twice.")
        found[key] = value
    return found
