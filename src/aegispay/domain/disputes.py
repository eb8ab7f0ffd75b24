"""Disputes: the payer's bank takes money back, and later says for whom it decided. Pure.

The notices come in any order and more than once. What was lost does not change the state: the payment was paid all the
same, and `lost_minor` says what of it the merchant no longer has.
"""

from __future__ import annotations

from aegispay.domain import commands as cmd
from aegispay.domain import events as ev
from aegispay.domain.errors import InvalidState
from aegispay.domain.money import AMOUNT_MINOR_MAX
from aegispay.domain.payment import Payment
from aegispay.domain.record import Events

DISPUTES_MAX = 50


def open_dispute(payment: Payment, command: cmd.OpenDispute) -> Events:
    if command.reference in payment.disputes_open or command.reference in payment.disputes_closed:
        return ()
    _disputable(payment)
    return (
        ev.DisputeOpened(
            reference=command.reference, amount_minor=command.amount_minor, reason=command.reason
        ),
    )


def _disputable(payment: Payment) -> None:
    if not payment.captured_minor:
        raise InvalidState(f"{payment.id} has no captured amount to dispute.")
    if len(payment.disputes_open) + len(payment.disputes_closed) >= DISPUTES_MAX:
        raise InvalidState(f"{payment.id} has {DISPUTES_MAX} disputes, the most that a payment may have.")


def close_dispute(payment: Payment, command: cmd.CloseDispute) -> Events:
    """What was lost leaves what may be refunded. A verdict that contradicts an earlier one is a person's to read."""
    reference, won = command.reference, command.won
    known = reference in payment.disputes_closed
    lost = reference in payment.disputes_lost
    if known and (won is None or won is not lost):
        return ()
    if reference not in payment.disputes_open and not known:
        # The news came out of order: remembered, so that the opening that follows is not taken for a new one.
        _disputable(payment)
    doubt = _verdict_in_doubt(payment, command, known)
    asked = () if doubt is None else (ev.ReviewRequested(reason=f"{doubt}: {reference}"),)
    if known and won:
        return asked
    amount = command.amount_minor if won is False else 0
    if type(amount) is not int or not 0 <= amount <= AMOUNT_MINOR_MAX:
        amount = 0
    return (*asked, ev.DisputeClosed(reference=reference, won=won is True, amount_minor=amount))


def _verdict_in_doubt(payment: Payment, command: cmd.CloseDispute, known: bool) -> str | None:
    """Why a person must look at the end of this dispute, if one must."""
    if known:
        return "dispute_decided_twice"
    if command.won is None:
        return "dispute_ended_undecided"
    if command.won:
        return None
    if type(command.amount_minor) is not int or not 0 < command.amount_minor <= AMOUNT_MINOR_MAX:
        return "dispute_lost_amount_unknown"
    return "dispute_lost_beyond_captured" if command.amount_minor > payment.refundable_minor else None
