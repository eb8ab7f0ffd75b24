"""Parts that adapters share: a secret that does not print, a checked base URL, a call's time, reading an answer.

It knows HTTP and JSON, and no PSP.
"""

from __future__ import annotations

import re
from typing import NoReturn, TypeVar
from urllib.parse import urlsplit

import msgspec

from aegispay.domain.errors import ConfigError
from aegispay.gateways.http import HttpReply
from aegispay.ports import Clock

SECRET_LENGTH_MAX = 255
RETRY_AFTER_MAX_S = 3600.0
LOOPBACK = ("127.0.0.1", "::1", "localhost")
_SECONDS = re.compile(r"\d{1,6}(\.\d{1,6})?", re.ASCII)
_Read = TypeVar("_Read")


class Secret:
    """A text that does not print and cannot be pickled or copied."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "<secret>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret cannot be pickled or copied")


def check_secret(what: str, value: object) -> str:
    """Returns a key or an id from the PSP's dashboard, or raises `ConfigError` without quoting it."""
    if not isinstance(value, str) or not 0 < len(value) <= SECRET_LENGTH_MAX:
        raise ConfigError(f"the {what} is a text of 1 to {SECRET_LENGTH_MAX} characters.")
    if not value.isascii() or any(character <= " " or character == "\x7f" for character in value):
        raise ConfigError(
            f"the {what} holds white space or characters that are not ASCII.",
            hint="A line break at the end of an environment variable is the usual cause.",
        )
    return value


def check_base_url(psp: str, base_url: str) -> str:
    """Returns the URL without its last slash; raises `ConfigError` where keys would travel unencrypted."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(
            f"{base_url[:100]!r} is not a base URL.", hint="Write it like https://api.example.com."
        )
    if parts.username or parts.password:
        raise ConfigError("a base URL holds no user name or password.")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise ConfigError(f"{psp} keys are sent over https only.", hint="http is for 127.0.0.1.")
    return base_url.rstrip("/")


class TimeLeft:
    """What is left of a call's time, over several requests."""

    __slots__ = ("_clock", "_ends_s")

    def __init__(self, clock: Clock, timeout_s: float) -> None:
        self._clock = clock
        self._ends_s = clock.monotonic_s() + timeout_s

    def seconds(self) -> float:
        return self._ends_s - self._clock.monotonic_s()


def read(reply: HttpReply, kind: type[_Read]) -> _Read | None:
    """The body as an object of this kind; None where it is not one."""
    return read_body(reply.body, kind)


def read_body(body: bytes, kind: type[_Read]) -> _Read | None:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def retry_after_s(reply: HttpReply) -> float | None:
    """The `Retry-After` header, where it is a sane number of seconds."""
    text = reply.headers.get("retry-after", "")
    return min(float(text), RETRY_AFTER_MAX_S) if _SECONDS.fullmatch(text) else None
