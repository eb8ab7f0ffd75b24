"""An ASGI application for inbound webhooks, to mount in FastAPI, Starlette, Litestar or Django, or to serve alone.

It answers as soon as a notice is verified and kept; the work comes after. `POST /{gateway}` with the PSP's raw body.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from aegispay.app import AegisPay
from aegispay.domain.errors import AegisPayError, UnknownGateway, UnsupportedOperation
from aegispay.gateways.webhooks import WEBHOOK_BODY_BYTES_MAX, WebhookRejected

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_HEADERS_MAX = 100


class WebhookApp:
    """`app.mount("/webhooks", WebhookApp(pay))` takes Stripe's at `/webhooks/stripe`.

    200: kept (or known already). 400: not genuine. 404: no such gateway. 405: not a POST. 413: too large. 503: it could not
    be kept, and the PSP should send it again.
    """

    def __init__(self, pay: AegisPay):
        self._pay = pay

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"WebhookApp serves http, not {scope['type']}.")
        status, text = await self._answer(scope, receive)
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(text)).encode()),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": text.encode()})

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, str]:
        if scope["method"] != "POST":
            return 405, "POST only"
        body = await _body(receive)
        if body is None:
            return 413, "too large"
        name = str(scope["path"]).rstrip("/").rsplit("/", 1)[-1]
        headers = {
            key.decode("latin-1").lower(): value.decode("latin-1")
            for key, value in list(scope["headers"])[:_HEADERS_MAX]
        }
        try:
            await self._pay.take_webhook(name, headers, body)
        except WebhookRejected as error:
            return 400, error.reason
        except (UnknownGateway, UnsupportedOperation) as error:
            return 404, error.code
        except AegisPayError as error:
            return 503, error.code
        return 200, "ok"


async def _body(receive: Receive) -> bytes | None:
    """The whole body, or None once it is too large; no more is read then."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""  # The client went away: an empty body has no valid signature.
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > WEBHOOK_BODY_BYTES_MAX:
            return None
        if not message.get("more_body", False):
            return b"".join(parts)
