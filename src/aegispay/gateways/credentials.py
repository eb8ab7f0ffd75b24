"""What every adapter needs to hold its credentials safely: a text that never prints, and checks that never quote.

It knows no PSP and opens no connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn
from urllib.parse import urlsplit

from aegispay.domain.errors import ConfigError

SECRET_LENGTH_MAX = 4096
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


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


def checked_secret(what: str, value: object, length_max: int = SECRET_LENGTH_MAX) -> Secret:
    """The text as a secret, or `ConfigError` without quoting it."""
    if not isinstance(value, str) or not 0 < len(value) <= length_max:
        raise ConfigError(f"{what} is a text of 1 to {length_max} characters.")
    if not value.isascii() or any(character <= " " or character == "\x7f" for character in value):
        raise ConfigError(
            f"{what} holds white space or characters that are not ASCII.",
            hint="A line break at the end of an environment variable is the usual cause.",
        )
    return Secret(value)


def checked_base_url(psp: str, base_url: str, example: str) -> str:
    """The URL without its last slash; raises `ConfigError` where a key would travel unencrypted."""
    parts = urlsplit(base_url) if isinstance(base_url, str) else urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(f"{str(base_url)[:100]!r} is not a base URL.", hint=f"Write it like {example}.")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise ConfigError(f"{psp} keys are sent over https only.", hint="http is for 127.0.0.1.")
    if parts.username or parts.password:
        raise ConfigError("a base URL holds no user name or password.")
    return base_url.rstrip("/")


def header_of(headers: Mapping[str, str], name: str) -> str | None:
    """A header by its name in lower case, whatever case it came in."""
    for key, value in headers.items():
        if key.lower() == name:
            return value
    return None
