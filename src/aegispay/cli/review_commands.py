"""The commands for what a person must decide: `reviews` lists it, `review close` ends it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from aegispay.app import AegisPay
from aegispay.cli.options import MERCHANT, Merchant, PaymentId, command
from aegispay.cli.render import money_fields, payment_object, reviews_view, state_text, time_text
from aegispay.cli.session import Session
from aegispay.domain import events as ev
from aegispay.domain.errors import InvalidRequest
from aegispay.domain.events import Event
from aegispay.domain.ids import check_payment_id
from aegispay.domain.payment import Payment
from aegispay.domain.states import PaymentState
from aegispay.orchestration.persons_word import Word, check_word
from aegispay.orchestration.reviews import check_reason
from aegispay.storage.rows import LIST_MAX
from aegispay.storage.store import Store

Asked = list[tuple[Payment, int]]
"""Payments in review, each with the time since when."""


def _reviews(
    session: Session,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help=f"1 to {LIST_MAX}.")] = 50,
    before: Annotated[
        str | None, typer.Option("--before", metavar="ID", help="Older than this payment: the next page.")
    ] = None,
    merchant: Merchant = MERCHANT,
) -> int:
    """List the payments that wait for a person: why, and since when.

    The guide `docs/guides/reviews.md` says of each reason what it means and what to do.
    """
    if not 1 <= limit <= LIST_MAX:
        raise InvalidRequest(f"--limit is 1 to {LIST_MAX}, not {limit}.")
    before_id = None if before is None else check_payment_id(before)

    async def work(store: Store) -> Asked:
        states = (PaymentState.NEEDS_REVIEW,)
        found = await store.list_payments(merchant, states=states, before_id=before_id, limit=limit)
        return [(payment, _since(await store.load_events(payment.id))) for payment in found]

    asked = session.run_with_store(session.open_config(), work)
    if session.json:
        session.emit([_object(payment, since_us) for payment, since_us in asked])
        return 0
    session.show(reviews_view(asked))
    if asked:
        session.say("When you have looked: aegispay review close ID --reason TEXT")
    if len(asked) == limit:
        session.say(f"More may follow: aegispay reviews --before {asked[-1][0].id}")
    return 0


def _since(events: list[Event]) -> int:
    """When the review that is open now began; its reason may have changed since."""
    began_us = events[-1].at_us
    for event in reversed(events):
        if isinstance(event.data, ev.ReviewClosed):
            break
        if isinstance(event.data, ev.ReviewRequested):
            began_us = event.at_us
    return began_us


def _object(payment: Payment, since_us: int) -> dict[str, Any]:
    return {
        "payment_id": payment.id,
        "reason": payment.review,
        "until_evidence": payment.review_until_evidence,
        "since_us": since_us,
        "since": time_text(since_us).replace(" ", "T"),
        "amount_minor": payment.amount_minor,
        "currency": payment.currency,
        "gateway": payment.gateway,
        "gateway_reference": payment.gateway_reference,
        "version": payment.version,
    }


def _close(
    session: Session,
    payment_id: PaymentId,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Who looked, and what they found; it is kept.")
    ],
    reversed_by_hand: Annotated[
        bool,
        typer.Option(
            "--reversed-by-hand",
            help="A success that nobody wanted was given back at the gateway, in full: record that.",
        ),
    ] = False,
    no_effect: Annotated[
        bool,
        typer.Option(
            "--no-effect",
            help="The operation in doubt is not at the gateway: nothing was taken, and nothing will be.",
        ),
    ] = False,
    took_effect: Annotated[
        str | None,
        typer.Option(
            "--took-effect",
            metavar="REFERENCE",
            help="The operation in doubt went through at the gateway, in full, and this is its id there.",
        ),
    ] = None,
    operation: Annotated[
        str | None,
        typer.Option(
            "--operation",
            metavar="OPERATION",
            help="The operation that you looked for, as `aegispay show` names it: nothing is recorded of another.",
        ),
    ] = None,
    merchant: Merchant = MERCHANT,
) -> int:
    """End a payment's review: what had waited for it goes on. No gateway is asked, and no money moves.

    A payment that is in no review stays as it is. A doubt ends with what the gateway says. Where it never says, somebody
    who has found the operation at its dashboard, or has made sure that it is not there, says so: that is taken for
    evidence. A wrong --no-effect lets the payer be charged again, so look for the operation by its id, which `aegispay
    show` tells, and once more after a while. It is still watched, for you may be wrong.
    """
    target = check_payment_id(payment_id)
    text = check_reason(reason)
    check_word(Word(reversed_by_hand, no_effect, took_effect, operation))

    async def work(pay: AegisPay) -> Payment:
        return await pay.close_review(
            target,
            reason=text,
            reversed_by_hand=reversed_by_hand,
            no_effect=no_effect,
            took_effect=took_effect,
            operation_id=operation,
            merchant_id=merchant,
        )

    payment = session.run_with(session.pay(session.open_config()), work)
    if session.json:
        session.emit(payment_object(payment))
    else:
        session.show(money_fields(payment, ("payment", payment.id), ("state", state_text(payment.state))))
    return 0


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    command(
        app,
        "reviews",
        examples="""
        aegispay reviews
        aegispay reviews --limit 100 --json""",
    )(_reviews)
    group = typer.Typer(
        name="review",
        help="End a payment's review. `aegispay reviews` lists what waits for a person.",
        rich_markup_mode=None,
    )
    command(
        group,
        "close",
        examples="""
        aegispay review close pay_... --reason "ann: amount agreed with the shop"
        aegispay review close pay_... --reason "ben: refunded at the dashboard" --reversed-by-hand
        aegispay review close pay_... --reason "ben: not in the dashboard" --no-effect --operation op_...
        aegispay review close pay_... --reason "ben: it is there" --took-effect 5O190127TN364715T""",
    )(_close)
    group.callback(invoke_without_command=True)(_which)
    app.add_typer(group)


def _which(ctx: typer.Context) -> None:
    if ctx.invoked_subcommand is None:
        raise InvalidRequest(
            "`aegispay review` has one command: close.", hint="See `aegispay review --help`."
        )
