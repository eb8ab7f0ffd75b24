"""What a payer's browser does on a PSP's page: reads it, presses a button, and brings back what the page adds."""

from __future__ import annotations

import http.client
import time
from urllib.parse import parse_qsl, urlsplit

TRIES_MAX = 20
AGAIN_S = 0.1
BROUGHT_BACK = frozenset({"redirectResult"})
"""What the shop passes on of the parameters that a payer comes back with. What others add, nobody needs to believe."""


def visit(url: str, *, agree: bool = True) -> dict[str, str]:
    """Authenticates, or fails to; returns what the payer brings back to the shop. Blocks for two short exchanges.

    A browser that cannot reach a page that is down for a moment loads it again.
    """
    for _ in range(TRIES_MAX - 1):
        try:
            return _visit(url, agree)
        except (OSError, http.client.HTTPException):
            time.sleep(AGAIN_S)
    return _visit(url, agree)


def _visit(url: str, agree: bool) -> dict[str, str]:
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "127.0.0.1", where.port, timeout=5.0)
    try:
        connection.request("GET", where.path)
        page = connection.getresponse().read()
        if b'value="authenticate"' in page:
            form = {"content-type": "application/x-www-form-urlencoded"}
            connection.request("POST", where.path, b"action=authenticate" if agree else b"action=fail", form)
        else:
            # It was pressed before, and only the answer was lost; or the payer comes too late.
            connection.request("GET", where.path)
        reply = connection.getresponse()
        reply.read()
        back = parse_qsl(urlsplit(reply.getheader("location") or "").query)
    finally:
        connection.close()
    return {name: value for name, value in back if name in BROUGHT_BACK}
