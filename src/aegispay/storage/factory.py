"""From a URL to a store."""

from __future__ import annotations

from aegispay.storage import urls
from aegispay.storage.store import Store


def make_store(url: str) -> Store:
    """The store that a URL names, not yet open; raises `ConfigError` for a URL that names none.

    `sqlite:///payments.db` (or a plain path), `sqlite://:memory:`, `postgresql://user@host/database`.
    """
    if isinstance(url, str) and urls.is_postgres(url):
        from aegispay.storage.postgres import PostgresStore

        return PostgresStore(url)
    from aegispay.storage.sqlite import SqliteStore

    return SqliteStore(urls.sqlite_path(url))


async def open_store(url: str) -> Store:
    """The store that a URL names, open."""
    store = make_store(url)
    await store.open()
    return store
