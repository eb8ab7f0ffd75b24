"""Exit statuses, and how an error becomes one line for a person or one object for a program."""

from __future__ import annotations

import re
from enum import IntEnum

from aegispay.domain.errors import (
    AegisPayError,
    GatewayUnreachable,
    NotRunning,
    OperationInDoubt,
    Overloaded,
    SchemaTooNew,
    StoreError,
)
from aegispay.domain.methods import looks_like_pan
from aegispay.orchestration.results import InProgress, Result

_PAN = re.compile(r"(?<![0-9A-Za-z])\d(?:[ -]?\d){11,18}(?![0-9A-Za-z])")


class Exit(IntEnum):
    """What the process ends with."""

    OK = 0
    FAILED = 1
    """The payment failed or was declined: a definitive no."""
    USAGE = 2
    """Wrong usage, a wrong request or a wrong configuration: nothing was sent."""
    PENDING = 3
    """Not known yet: under way or in doubt. Never treat this as a failure."""
    ACTION = 4
    """The payer must act."""
    UNREACHABLE = 5
    """The store or a gateway cannot be reached."""
    INTERNAL = 70
    """A mistake in AegisPay."""
    INTERRUPTED = 130


def of_result(result: Result) -> Exit:
    """The exit status that an answer leads to."""
    if result.is_success():
        return Exit.OK
    if result.is_failure():
        return Exit.FAILED
    return Exit.ACTION if result.requires_action() else Exit.PENDING


def of_error(error: AegisPayError) -> Exit:
    """The exit status that an error leads to."""
    if isinstance(error, OperationInDoubt | InProgress):
        return Exit.PENDING
    if isinstance(error, SchemaTooNew):
        return Exit.USAGE
    if isinstance(error, StoreError | GatewayUnreachable | Overloaded | NotRunning):
        return Exit.UNREACHABLE
    return Exit.USAGE


def clean(text: object, length_max: int = 600) -> str:
    """Text from elsewhere on one line: no control characters that a terminal would obey, and no card number."""
    line = " ".join(str(text).split())
    line = "".join(character if character.isprintable() else "?" for character in line)
    line = _PAN.sub(lambda found: "<card number>" if looks_like_pan(found[0]) else found[0], line)
    return line if len(line) <= length_max else line[: length_max - 3] + "..."


def error_object(error: AegisPayError, exit_status: int, effect: str) -> dict[str, object]:
    """The object that `--json` prints for an error."""
    found = {**error.to_dict(), "effect": effect, "exit_status": int(exit_status)}
    return {"error": {key: clean(value) if isinstance(value, str) else value for key, value in found.items()}}


def usage_object(message: str) -> dict[str, object]:
    """The object that `--json` prints for a wrong command line."""
    found = {"code": "usage", "message": message, "retryable": False, "effect": "none", "exit_status": 2}
    return {"error": found}
