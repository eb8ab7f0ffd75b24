"""The sandbox's control port: faults, books and settings for whoever runs it from another process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from aegispay.ports import SystemClock
from aegispay.sandbox.courier import Courier
from aegispay.sandbox.face import bind, web_reply, wire_request
from aegispay.sandbox.faults import FaultPlan
from aegispay.sandbox.webhooks import NoticeDelivery, NoticePlan
from aegispay.sandbox.wire import WireReply, json_reply

if TYPE_CHECKING:
    from aegispay.sandbox.server import Sandbox


class Control:
    """`POST /_sandbox/script`, `faults`, `clear`, `settle`, `down`, `up`, `settings`, `deliver`, `webhooks`.

    `GET /_sandbox/status`, `books`.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._server: web.Server | None = None
        self._listener: asyncio.AbstractServer | None = None
        self._couriers: dict[str, Courier] = {}

    async def start(self, port: int = 0) -> str:
        sock = bind(port, listen=True)
        self._server = web.Server(self._handle, access_log=None)
        self._listener = await asyncio.get_running_loop().create_server(self._server, sock=sock)
        return f"http://127.0.0.1:{sock.getsockname()[1]}"

    async def aclose(self) -> None:
        for courier in self._couriers.values():
            await courier.stop(finish=False)
        if self._listener is not None:
            self._listener.close()
        if self._server is not None:
            await self._server.shutdown(0.5)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        wire = await wire_request(request)
        try:
            body = msgspec.json.decode(wire.body, type=dict[str, Any]) if wire.body else {}
            verb = wire.path.removeprefix("/_sandbox/")
            more = {"deliver": self._deliver, "webhooks": self._webhooks}.get(verb)
            reply = json_reply(200, await (more(body) if more else self._answer(verb, body)))
        except (msgspec.MsgspecError, KeyError, ValueError, TypeError) as error:
            reply = WireReply(
                status=400, body=msgspec.json.encode({"error": f"{type(error).__name__}: {error}"})
            )
        return web_reply(reply)

    async def _answer(self, verb: str, body: dict[str, Any]) -> Any:
        sandbox = self._sandbox
        faces = [sandbox.faces[body["face"]]] if body.get("face") else list(sandbox.faces.values())
        if verb == "script":
            sandbox.faces[body["face"]].script(body["faults"], path=body.get("path", ""))
        elif verb == "faults":
            plan = msgspec.convert(body["plan"], FaultPlan)
            for face in faces:
                face.set_plan(plan)
        elif verb == "clear":
            for face in faces:
                face.shell.clear()
        elif verb == "settle":
            await sandbox.settle()
        elif verb in ("down", "up"):
            for face in faces:
                await (face.down() if verb == "down" else face.up())
        elif verb == "settings":
            self._settings(body)
        elif verb == "books":
            return self._books(body.get("payment"))
        elif verb != "status":
            raise ValueError(f"there is no {verb!r} here")
        return self._status()

    async def _deliver(self, body: dict[str, Any]) -> dict[str, Any]:
        """Sends a face's waiting webhooks, and says what became of each try."""
        plan = msgspec.convert(body.get("plan") or {}, NoticePlan)
        outbox = self._sandbox.outboxes[body["face"]]
        tries = await NoticeDelivery(outbox, str(body["url"]), SystemClock(), plan).flush()
        return {"tries": [[one.notice.type, one.status, one.forged] for one in tries]}

    async def _webhooks(self, body: dict[str, Any]) -> dict[str, Any]:
        """From now on the PSPs that `urls` names deliver their webhooks there as they come; others hold them back."""
        plan = msgspec.convert(body.get("plan") or {}, NoticePlan)
        urls: dict[str, str] = body["urls"]
        outboxes = {name: self._sandbox.outboxes[name] for name in urls}
        for courier in self._couriers.values():
            await courier.stop()
        for name, url in urls.items():
            courier = self._couriers.setdefault(name, Courier(outboxes[name], SystemClock()))
            courier.start(str(url), plan)
        return self._status()

    def _settings(self, body: dict[str, Any]) -> None:
        stripe, plainpay = self._sandbox.stripe_psp, self._sandbox.plainpay_psp
        stripe.search_lag_s = float(body.get("search_lag_s", stripe.search_lag_s))
        stripe.key_ttl_s = float(body.get("key_ttl_s", stripe.key_ttl_s))
        plainpay.lookup_lag_s = float(body.get("lookup_lag_s", plainpay.lookup_lag_s))

    def _books(self, payment: str | None) -> dict[str, Any]:
        bank = self._sandbox.bank
        return {
            "charges": bank.charges(payment),
            "movements": bank.movements(payment),
            "totals": bank.totals(),
        }

    def _status(self) -> dict[str, Any]:
        sandbox = self._sandbox
        return {
            "fired": sandbox.faults_fired(),
            "requests": {name: face.shell.requests for name, face in sandbox.faces.items()},
            "up": {name: face.is_up for name, face in sandbox.faces.items()},
            "webhooks": {name: courier.status() for name, courier in self._couriers.items()},
        }
