"""Parts of a `Rig` for PSPs that the sandbox serves: their books, and a payer who passes the issuer's page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from urllib.parse import parse_qsl, urlsplit

from aegispay.domain.outcomes import RequiresAction
from aegispay.gateways.http import HttpReply, HttpRequest
from aegispay.gateways.transport import AiohttpTransport
from aegispay.sandbox.bank import Bank
from aegispay.testing.gateway_rig import Books


def bank_books(bank: Bank) -> Callable[[str], Books]:
    """The bank's books of a payment, over all PSPs in front of it."""

    def books(payment_id: str) -> Books:
        charges = bank.charges(payment_id)
        return Books(
            held_minor=sum(charge.held_minor for charge in charges),
            taken_minor=sum(charge.captured_minor for charge in charges),
            given_back_minor=sum(charge.refunded_minor for charge in charges),
        )

    return books


def sandbox_payer(keep: Collection[str] = ()) -> Callable[[RequiresAction], Awaitable[Mapping[str, str]]]:
    """A payer who authenticates on the sandbox's page, and brings back these parameters of the return URL."""

    async def payer(asked: RequiresAction) -> Mapping[str, str]:
        transport = AiohttpTransport()
        reply = await transport.send(
            HttpRequest(
                method="POST",
                url=asked.action.url or "",
                headers={"content-type": "application/x-www-form-urlencoded"},
                body=b"action=authenticate",
                timeout_s=10.0,
            )
        )
        await transport.aclose()
        if not isinstance(reply, HttpReply) or reply.status >= 400:
            raise RuntimeError(f"the sandbox's page answered {reply!r}")
        back = dict(parse_qsl(urlsplit(reply.headers.get("location", "")).query))
        return {name: value for name, value in back.items() if name in keep}

    return payer
