"""What a store's URL says, and how it is shown to a person: never with its password."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

from aegispay.domain.errors import ConfigError

MEMORY = ":memory:"
HINT = "Use sqlite:///path/to/file.db, sqlite://:memory: or postgresql://user@host/database."


def is_postgres(url: str) -> bool:
    return url.startswith(("postgresql://", "postgres://"))


def each_host(dsn: str) -> list[str]:
    """The PostgreSQL DSN once for each of its hosts, in order; hosts that stand in its query stay together."""
    try:
        parts = urlsplit(dsn)
    except ValueError:
        return [dsn]  # Whoever connects with it says what is wrong.
    user, at, hosts = parts.netloc.rpartition("@")
    if "," not in hosts:
        return [dsn]
    return [urlunsplit(parts._replace(netloc=f"{user}{at}{host}")) for host in hosts.split(",")]


def sqlite_path(url: str) -> str:
    """The file that a SQLite URL or a plain path names; `:memory:` for none."""
    if not isinstance(url, str) or not url.strip():
        raise ConfigError("the store's URL is empty.", hint=HINT)
    if url in (MEMORY, "sqlite://:memory:", "sqlite:///:memory:", "sqlite://"):
        return MEMORY
    path = url
    if url.startswith("sqlite://"):
        path = url[len("sqlite://") :]
        if not path.startswith("/"):
            raise ConfigError(
                f"{url!r} names no SQLite file.", hint="It has three slashes: sqlite:///payments.db."
            )
        path = path[1:]
    elif re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", url):
        raise ConfigError(f"no store is known for {url.split('://')[0]}:// URLs.", hint=HINT)
    if not path or "\0" in path:
        raise ConfigError("the store's URL names no file.", hint=HINT)
    return path


def shown(url: str) -> str:
    """The URL without its password, for messages and logs."""
    if not is_postgres(url):
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the PostgreSQL DSN"
    # Whatever stands before the last @ may hold the password, in forms that parsers disagree about.
    place = parts.netloc.rpartition("@")[2]
    user = parts.netloc.rpartition("@")[0].partition(":")[0]
    return f"postgresql://{user + '@' if user else ''}{place}{parts.path}"
