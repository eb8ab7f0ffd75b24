"""Disputes: the payer's bank takes money back, and later says for whom it decided. Pure.

The notices come in any order and more than once. What was lost does not change the state: the payment was paid all the
same, and `lost_minor` says what of it the merchant no longer has. A dispute about an attempt that nobody wanted takes
nothing from what the payment has: lost in full, it is that attempt's reversal.
"""

from __future__ import annotations

from aegispay.domain import commands as cmd
from aegispay.domain import events as ev
from aegispay.domain.errors import InvalidState
from aegispay.domain.events import OperationKind
from aegispay.domain.external import (
    DISPUTE_LOST,
    about_unwanted,
    ask_about_news,
    other_attempt,
    reversed_outside,
)
from aegispay.domain.money import AMOUNT_MINOR_MAX
from aegispay.domain.payment import Operation, Payment
from aegispay.domain.record import Events

DISPUTES_MAX = 50


def open_dispute(payment: Payment, command: cmd.OpenDispute) -> Events:
    if command.reference in payment.disputes_open or command.reference in payment.disputes_closed:
        return ()
    if other_attempt(payment, command.attempt_id, command.reference) is not None:
        return ask_about_news(payment, about_unwanted("dispute", command.reference))
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
    reference = command.reference
    known = reference in payment.disputes_closed
    if not known and reference not in payment.disputes_open:
        other = other_attempt(payment, command.attempt_id, reference)
        if other is not None:
            return _close_other(payment, other, command)
        # The news came out of order: remembered, so that the opening that follows is not taken for a new one.
        _disputable(payment)
    if command.won is False:
        return _lose(payment, command, known)
    if known:
        return _ask("dispute_decided_twice", reference) if command.won and _lost(payment, reference) else ()
    asked = () if command.won else _ask("dispute_ended_undecided", reference)
    return (*asked, ev.DisputeClosed(reference=reference, won=command.won is True))


def _close_other(payment: Payment, attempt: Operation, command: cmd.CloseDispute) -> Events:
    """The end of a dispute about an attempt that nobody wanted: none of what was lost is the payment's."""
    if command.won or any(op.compensates and op.reference == command.reference for op in payment.operations):
        return ()
    if command.won is None:
        return ask_about_news(payment, about_unwanted("dispute", command.reference))
    return reversed_outside(payment, attempt, OperationKind.REFUND, command, DISPUTE_LOST)


def _lose(payment: Payment, command: cmd.CloseDispute, known: bool) -> Events:
    reference, amount = command.reference, command.amount_minor
    if type(amount) is not int or not 0 < amount <= AMOUNT_MINOR_MAX:
        amount = 0
    if payment.disputes_lost.get(reference) or (_lost(payment, reference) and not amount):
        return ()
    asked: Events = ()
    if known and not _lost(payment, reference):
        asked = _ask("dispute_decided_twice", reference)
    elif not amount:
        asked = _ask("dispute_lost_amount_unknown", reference)
    elif amount > payment.refundable_minor:
        asked = _ask("dispute_lost_beyond_captured", reference)
    return (*asked, ev.DisputeClosed(reference=reference, won=False, amount_minor=amount))


def _lost(payment: Payment, reference: str) -> bool:
    return reference in payment.disputes_lost


def _ask(reason: str, reference: str) -> Events:
    """Asks a person, before anybody sees the dispute as over."""
    return (ev.ReviewRequested(reason=f"{reason}: {reference}"),)
