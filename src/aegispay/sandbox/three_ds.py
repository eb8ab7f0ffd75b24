"""The issuer's 3DS page: one HTML page with two buttons, for people and for tests that act as one."""

from __future__ import annotations

from html import escape
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

PATH = "/3ds/"


def page(title: str, amount: str, done: str | None = None) -> str:
    """The page. `done` is what it says where nothing is left to do."""
    form = (
        f"<p>{escape(done)}</p>"
        if done
        else (
            f"<p>Pay {escape(amount)}?</p>"
            '<form method="post">'
            '<button name="action" value="authenticate">Authenticate</button> '
            '<button name="action" value="fail">Fail</button></form>'
        )
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>3DS sandbox</title>'
        "<style>body{font:16px system-ui;max-width:24em;margin:4em auto}button{font:inherit;padding:.5em 1em}</style>"
        f"</head><body><h1>{escape(title)}</h1>{form}</body></html>"
    )


def wants(body: bytes) -> bool | None:
    """Whether the payer passed; None where the form says neither."""
    action = dict(parse_qsl(body.decode("utf-8", "replace"))).get("action")
    return {"authenticate": True, "fail": False}.get(action or "")


def back_to(return_url: str, parameters: dict[str, str]) -> str:
    """The merchant's address with the PSP's parameters added to those it has."""
    parts = urlsplit(return_url)
    query = urlencode([*parse_qsl(parts.query, keep_blank_values=True), *parameters.items()])
    return urlunsplit(parts._replace(query=query))
