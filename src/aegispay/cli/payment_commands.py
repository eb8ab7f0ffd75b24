"""The commands that ask something of a gateway: charge, capture, void, refund, complete, sync.

Whatever can be refused is refused before the store is opened or anything is sent.
"""

from __future__ import annotations

from typing import Annotated

import typer

from aegispay.app import AegisPay
from aegispay.cli.options import (
    MERCHANT,
    Merchant,
    PaymentId,
    Timeout,
    checked_method,
    checked_timeout,
    command,
    pairs,
)
from aegispay.cli.render import result_view
from aegispay.cli.session import Session
from aegispay.domain.errors import InvalidIdempotencyKey
from aegispay.domain.events import CaptureMode
from aegispay.domain.ids import check_payment_id
from aegispay.domain.money import Money
from aegispay.orchestration.requests import check_key, check_text, checked_request
from aegispay.orchestration.results import Result

KeyOption = Annotated[
    str,
    typer.Option(
        "--key", metavar="KEY", help="Idempotency key, such as your order's id: the same key charges once."
    ),
]


def _charge(
    session: Session,
    amount: Annotated[str, typer.Argument(metavar="AMOUNT", help="In major units: 99.99")],
    currency: Annotated[str, typer.Argument(metavar="CURRENCY", help="ISO 4217 code: USD")],
    method: Annotated[
        str, typer.Option("--method", metavar="TOKEN", help="The PSP's token; never a card number.")
    ],
    key: KeyOption,
    gateway: Annotated[
        list[str] | None,
        typer.Option("--gateway", metavar="NAME", help="Only this gateway; repeat it for several, in order."),
    ] = None,
    authorize: Annotated[
        bool, typer.Option("--authorize", help="Only reserve; take it with `capture`.")
    ] = False,
    customer: Annotated[str | None, typer.Option("--customer", metavar="ID")] = None,
    description: Annotated[str | None, typer.Option("--description", metavar="TEXT")] = None,
    return_url: Annotated[
        str | None,
        typer.Option("--return-url", metavar="URL", help="Where the payer comes back to after 3DS."),
    ] = None,
    metadata: Annotated[
        list[str] | None, typer.Option("--metadata", metavar="K=V", help="Repeat it for several.")
    ] = None,
    merchant: Merchant = MERCHANT,
    timeout_s: Timeout = None,
) -> int:
    """Take a payment, or with --authorize reserve it.

    The same key with the same request gives the same answer and charges once, however often you repeat it.
    """
    request = checked_request(
        amount=Money.parse(amount, currency),
        method=checked_method(method),
        idempotency_key=key,
        capture=CaptureMode.MANUAL if authorize else CaptureMode.AUTOMATIC,
        merchant_id=merchant,
        gateways=tuple(gateway or ()),
        customer_id=customer,
        description=description,
        return_url=return_url,
        metadata=pairs(metadata, "--metadata"),
    )
    wait_s = checked_timeout(timeout_s)
    config = session.open_config(creates=True)
    pay = session.pay(config)
    if not session.has_store(config):
        # Nobody was asked before, so a name that is not configured makes no store. In one there may be the key's answer.
        for name in request.gateways:
            pay.registry.get(name)

    async def work(pay: AegisPay) -> Result:
        create = pay.authorize if authorize else pay.charge
        return await create(
            request.amount,
            request.method,
            idempotency_key=key,
            gateway=request.gateways or None,
            customer_id=customer,
            description=description,
            return_url=return_url,
            metadata=request.metadata,
            merchant_id=merchant,
            timeout_s=wait_s,
        )

    return session.answer(session.run_with(pay, work), result_view)


def _capture(
    session: Session,
    payment_id: PaymentId,
    amount: Annotated[
        str | None, typer.Argument(metavar="[AMOUNT]", help="A part of it; without, all that is left.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key", metavar="KEY", help="Idempotency key; without, a payment has one final capture."
        ),
    ] = None,
    not_final: Annotated[
        bool, typer.Option("--not-final", help="More captures follow: release nothing. Needs --key.")
    ] = False,
    merchant: Merchant = MERCHANT,
    timeout_s: Timeout = None,
) -> int:
    """Take an authorised amount, or a part of it; the rest is released unless you say --not-final."""
    target = check_payment_id(payment_id)
    if key is None and not_final:
        raise InvalidIdempotencyKey(
            "a capture that is not the final one needs --key.", hint="Use your shipment's id, say."
        )
    # One payment has one final capture, so a repeat without a key is the same request.
    chosen = check_key(f"final-capture:{target}" if key is None else key)
    _check_amount(amount)
    wait_s = checked_timeout(timeout_s)

    async def work(pay: AegisPay) -> Result:
        money = await _amount(pay, target, amount, merchant)
        return await pay.capture(
            target, money, idempotency_key=chosen, final=not not_final, merchant_id=merchant, timeout_s=wait_s
        )

    return session.answer(session.run_with(session.pay(session.open_config()), work), result_view)


def _refund(
    session: Session,
    payment_id: PaymentId,
    key: KeyOption,
    amount: Annotated[
        str | None, typer.Argument(metavar="[AMOUNT]", help="A part of it; without, all that is left.")
    ] = None,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT")] = None,
    merchant: Merchant = MERCHANT,
    timeout_s: Timeout = None,
) -> int:
    """Give captured money back, all that is left or a part."""
    target = check_payment_id(payment_id)
    check_key(key)
    check_text("--reason", reason, 255)
    _check_amount(amount)
    wait_s = checked_timeout(timeout_s)

    async def work(pay: AegisPay) -> Result:
        money = await _amount(pay, target, amount, merchant)
        return await pay.refund(
            target, money, idempotency_key=key, reason=reason, merchant_id=merchant, timeout_s=wait_s
        )

    return session.answer(session.run_with(session.pay(session.open_config()), work), result_view)


def _void(
    session: Session,
    payment_id: PaymentId,
    key: Annotated[str | None, typer.Option("--key", metavar="KEY", help="Idempotency key.")] = None,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT")] = None,
    merchant: Merchant = MERCHANT,
    timeout_s: Timeout = None,
) -> int:
    """Release what is authorised and not captured, or cancel while the payer acts."""
    target = check_payment_id(payment_id)
    if key is not None:
        check_key(key)
    check_text("--reason", reason, 255)
    wait_s = checked_timeout(timeout_s)

    async def work(pay: AegisPay) -> Result:
        return await pay.void(
            target, idempotency_key=key, reason=reason, merchant_id=merchant, timeout_s=wait_s
        )

    return session.answer(session.run_with(session.pay(session.open_config()), work), result_view)


def _complete(
    session: Session,
    payment_id: PaymentId,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", metavar="K=V", help="What the payer brought back; repeat it."),
    ] = None,
    merchant: Merchant = MERCHANT,
    timeout_s: Timeout = None,
) -> int:
    """Go on with a payment after the payer acted (3DS, redirect)."""
    target = check_payment_id(payment_id)
    found = pairs(data, "--data")
    wait_s = checked_timeout(timeout_s)

    async def work(pay: AegisPay) -> Result:
        return await pay.complete_action(target, found, merchant_id=merchant, timeout_s=wait_s)

    return session.answer(session.run_with(session.pay(session.open_config()), work), result_view)


def _sync(session: Session, payment_id: PaymentId, merchant: Merchant = MERCHANT) -> int:
    """Ask the gateways now what became of a payment, and record what they say.

    It moves no money, but for one thing: a success that nobody wanted any more is reversed.
    """
    target = check_payment_id(payment_id)

    async def work(pay: AegisPay) -> Result:
        return await pay.sync(target, merchant_id=merchant)

    return session.answer(session.run_with(session.pay(session.open_config()), work), result_view)


def _check_amount(text: str | None) -> None:
    """What is wrong with an amount in any currency is said before the store is opened; CLF has the most decimals."""
    if text is not None:
        Money.parse(text, "CLF")


async def _amount(pay: AegisPay, payment_id: str, text: str | None, merchant: str) -> Money | None:
    """An amount in the payment's own currency."""
    if text is None:
        return None
    payment = await pay.get(payment_id, merchant_id=merchant)
    return Money.parse(text, payment.currency)


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    command(
        app,
        "charge",
        examples="""
        aegispay charge 99.99 USD --method pm_card_visa --key order-1
        aegispay charge 1500 JPY --method pm_card_visa --key order-2 --authorize --gateway stripe
        aegispay charge 20.00 EUR --method pm_1 --key order-3 --metadata order=3 --json""",
    )(_charge)
    command(
        app,
        "capture",
        examples="""
        aegispay capture pay_...
        aegispay capture pay_... 40.00 --key shipment-1 --not-final""",
    )(_capture)
    command(app, "void", examples="aegispay void pay_...")(_void)
    command(
        app,
        "refund",
        examples="""
        aegispay refund pay_... --key return-1
        aegispay refund pay_... 25.00 --key return-2 --reason damaged""",
    )(_refund)
    command(app, "complete", examples="aegispay complete pay_... --data result=ok")(_complete)
    command(app, "sync", examples="aegispay sync pay_...")(_sync)
