"""Checks of single configuration values: types, limits, spelling, and secrets that stand where they must not.

It knows nothing of sections or files. No message of it quotes a value that could be a secret.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from enum import Enum
from typing import Any, get_type_hints
from urllib.parse import urlsplit

import msgspec

from aegispay.domain.errors import ConfigError
from aegispay.storage import urls

SECONDS_MAX = 10 * 365 * 86_400.0
"""No time in a configuration is longer: ten years."""
COUNT_MAX = 10**9
_NAME_OF_SECRET = re.compile(r"(^|_)(key|apikey|secret|password|passwd|pwd|token|credentials?|dsn)(_|$)")
_SECRET_ITSELF = re.compile(r"^(sk|rk)_(live|test)_|^whsec_|-----BEGIN [A-Z ]*PRIVATE KEY")
_PASSWORD_IN_URL = re.compile(r"//[^/@\s]*:[^/\s]*@|[?&](ssl)?passw(or)?d=", re.IGNORECASE)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z")
_EXPECTED = re.compile(r"Expected `(?P<wanted>[^`]+)`, got `(?P<got>[^`]+)`(?: - at `\$(?P<place>[^`]*)`)?")
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "float | int": "a number",
    "str": "text",
    "bool": "true or false",
    "object": "a table",
    "array": "a list",
    "null": "nothing",
    "date": "a date",
    "datetime": "a date",
    "time": "a time",
}


def did_you_mean(wrong: str, known: Iterable[str], label: str = "Known") -> str:
    """The name that was probably meant, or all of them."""
    names = [str(name) for name in known]
    close = difflib.get_close_matches(wrong.lower(), names, n=1, cutoff=0.6)
    if close:
        return f"Did you mean {close[0]}?"
    return f"{label}: {', '.join(names)}." if names else "Remove it."


def is_secret_name(key: str) -> bool:
    """Whether a key of this name would hold a secret; `api_key_env`, which names a variable, does not."""
    return not key.endswith("_env") and _NAME_OF_SECRET.search(key.lower().replace("-", "_")) is not None


def is_secret_value(value: object) -> bool:
    """Whether the text itself is a PSP's secret or a private key."""
    return isinstance(value, str) and _SECRET_ITSELF.search(value.strip()) is not None


def has_password(url: object) -> bool:
    """Whether the text is a URL with a password in it."""
    return isinstance(url, str) and _PASSWORD_IN_URL.search(url) is not None


def check_variable(value: object, where: str, example: str) -> str:
    """Returns the name of an environment variable. A value that is none is never quoted: it may be the secret itself."""
    if not isinstance(value, str) or is_secret_value(value) or not _VARIABLE.match(value):
        raise ConfigError(
            f"{where}: expected the name of an environment variable.",
            hint=f'Write it like "{example}", and set the secret in that variable.',
        )
    return value


def convert(value: object, kind: Any, where: str, *, lax: bool = False, limits: bool = True) -> Any:
    """The value as `kind`, or a `ConfigError` that begins with `where`. `lax` reads numbers and booleans from text.

    With `limits`, numbers are finite and below ten years or a thousand million.
    """
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _choice(value, kind, where)
    try:
        found = msgspec.convert(value, kind, strict=not lax)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {_plain(str(error))}.", hint=_example(where, kind)) from None
    except TypeError:
        raise ConfigError(
            f"{where}: this option cannot be set from a configuration.", hint="Set it in your own code."
        ) from None
    if limits and isinstance(found, int | float) and not isinstance(found, bool):
        limit = SECONDS_MAX if where.endswith("_s") else COUNT_MAX
        if not math.isfinite(found) or abs(found) > limit:
            raise ConfigError(f"{where}: the number is too large or not a number; {limit:.0f} is the most.")
    return found


def _choice(value: object, kind: type[Enum], where: str) -> Enum:
    names = [str(member.value) for member in kind]
    if isinstance(value, str) and value in names:
        return kind(value)
    if isinstance(value, str) and not is_secret_value(value):
        said = f"{value[:40]!r} is none of {', '.join(names)}"
        raise ConfigError(f"{where}: {said}.", hint=did_you_mean(value[:40], names, "Choose one of"))
    raise ConfigError(f"{where}: expected one of {', '.join(names)}.")


def _plain(message: str) -> str:
    match = _EXPECTED.search(message)
    if match is None:
        return message[:1].lower() + message[1:].rstrip(".")
    wanted = " or ".join(_WORDS.get(word, word) for word in match["wanted"].split(" | "))
    place = (match["place"] or "").lstrip(".")
    return f"{place + ': ' if place else ''}expected {wanted}, got {_WORDS.get(match['got'], match['got'])}"


def _example(where: str, kind: Any) -> str | None:
    key = where.rsplit(" ", 1)[-1]
    example = {float: "10.0", int: "10", bool: "true", str: '"text"'}.get(kind)
    if example is None or not re.fullmatch(r"[a-z_]+", key):
        return None
    return f"Write it like {key} = {example}."


def fields_of(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """A struct's fields and their types."""
    hints = get_type_hints(kind)
    return {name: hints[name] for name in kind.__struct_fields__}


def check_store_url(url: object, where: str) -> str:
    """Returns the store's URL, or raises `ConfigError`. A URL that may hold a password is never quoted."""
    if not isinstance(url, str):
        raise ConfigError(f"{where}: expected text.", hint=urls.HINT)
    if any(not character.isprintable() for character in url):
        raise ConfigError(f"{where}: the URL holds characters that cannot be printed.", hint=urls.HINT)
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):(?!//)", url)
    if scheme is not None:
        # Without its slashes it would be taken for a file's name, password and all.
        raise ConfigError(f"{where}: {scheme[1]}: must be followed by two slashes.", hint=urls.HINT)
    if not urls.is_postgres(url):
        if "@" in url and url.startswith("sqlite://") and not url.startswith("sqlite:///"):
            raise ConfigError(f"{where}: a SQLite URL has neither host nor user.", hint=urls.HINT)
        try:
            urls.sqlite_path(url)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error.message}", hint=error.hint) from None
        return url
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError(
            f"{where}: the PostgreSQL URL's host or port cannot be read.",
            hint="Write it like postgresql://user@host:5432/database; encode special characters in a password (@ is %40).",
        ) from None
    if port == 0 or not parts.path.strip("/"):
        raise ConfigError(f"{where}: the PostgreSQL URL names no database.", hint=urls.HINT)
    return url
