"""What was done at the PSP outside of us: refunds, voids and captures at its dashboard. Our books follow the PSP's. Pure.

Such news is about one attempt. What an attempt other than the approved one gave back leaves the approved one's money where
it is: it is the reversal of that attempt if it undoes it in full, and a person's to judge if it does not.
"""

from __future__ import annotations

from aegispay.domain import commands as cmd
from aegispay.domain import events as ev
from aegispay.domain.errors import InvalidState, OperationInDoubt
from aegispay.domain.events import OperationKind
from aegispay.domain.outcomes import Evidence
from aegispay.domain.payment import Operation, OperationStatus, Payment, settled_state
from aegispay.domain.record import Events, doubt_ends
from aegispay.domain.starting import capture_to_refund, fresh, gateway_key, room
from aegispay.domain.states import PaymentState

EXTERNAL = "external"
"""The reason of an operation that was not asked for through us."""
DISPUTE_LOST = "dispute_lost"
"""The reason of a reversal that the payer's bank made."""
Told = cmd.RecordExternalRefund | cmd.RecordExternalVoid | cmd.RecordExternalCapture | cmd.CloseDispute
_TOOK_NOTHING = frozenset({OperationStatus.DECLINED, OperationStatus.NOT_SENT})


def external_refund(payment: Payment, command: cmd.RecordExternalRefund) -> Events:
    """Nothing for a refund that is known; what exceeds the captured amount is left to a person, and not counted."""
    if _known(payment, OperationKind.REFUND, command.reference):
        return ()
    other = other_attempt(payment, command.attempt_id, command.reference)
    if other is not None:
        return reversed_outside(payment, other, OperationKind.REFUND, command)
    room(payment, command.operation_id)
    winner = payment.winner
    if payment.reserved(OperationKind.REFUND):
        raise OperationInDoubt(f"a refund of {payment.id} is under way; it may be this one.")
    left = payment.captured_minor - payment.refunded_minor - payment.lost_minor
    waits = left < command.amount_minor <= left + _uncaptured(payment, command.once)
    if waits and command.evidence is not Evidence.SETTLEMENT:  # A report is not told a second time.
        raise InvalidState(f"{command.reference} gives back what is not known to be captured; it waits.")
    if winner is None or payment.disputes_open or not 0 < command.amount_minor <= left:
        return ask_about_news(payment, f"external_refund_does_not_fit: {command.reference}")
    return (
        ev.OperationStarted(
            operation_id=command.operation_id,
            kind=OperationKind.REFUND,
            gateway=winner.gateway,
            amount_minor=command.amount_minor,
            gateway_key=gateway_key(command.operation_id),
            parent_id=winner.id,
            reason=EXTERNAL,
            capture_id=command.capture_id or capture_to_refund(payment, command.amount_minor),
        ),
        _approved(command, command.amount_minor),
    )


def external_void(payment: Payment, command: cmd.RecordExternalVoid) -> Events:
    """What is left of an authorisation, where nothing is under way; what else was voided, a person must tell."""
    attempt = payment.operation(command.attempt_id or "")
    if attempt is not None and attempt.status is OperationStatus.UNWANTED:
        return reversed_outside(payment, attempt, OperationKind.VOID, command)
    if attempt is not None and attempt.status in (*_TOOK_NOTHING, OperationStatus.REVERSED):
        return ()
    if payment.state in (PaymentState.CANCELED, PaymentState.EXPIRED, PaymentState.FAILED):
        return ()
    if payment.unfinished:
        raise OperationInDoubt(f"an operation of {payment.id} is under way; the void may be its outcome.")
    other_attempt(payment, command.attempt_id, command.reference)
    fresh(payment, command.operation_id)  # It ends the payment, so there is room for it.
    winner = payment.winner
    if winner is None or not is_held(payment):
        return ask_about_news(payment, f"external_void_does_not_fit: {command.reference}")
    return (
        ev.OperationStarted(
            operation_id=command.operation_id,
            kind=OperationKind.VOID,
            gateway=winner.gateway,
            amount_minor=payment.capturable_minor,
            gateway_key=gateway_key(command.operation_id),
            parent_id=winner.id,
            reason=EXTERNAL,
        ),
        _approved(command, payment.capturable_minor),
    )


def external_capture(payment: Payment, command: cmd.RecordExternalCapture) -> Events:
    """A capture that fits what is authorised is recorded as ours would be; it is the last if it takes all that is left, or
    if the gateway captures but once."""
    if _known(payment, OperationKind.CAPTURE, command.reference):
        return ()
    if other_attempt(payment, command.attempt_id, command.reference) is not None:
        return ask_about_news(payment, about_unwanted("external_capture", command.reference))
    winner = payment.winner
    if winner is None:
        raise InvalidState(f"{command.reference} captures what is not known to be authorised; it waits.")
    if winner.kind is OperationKind.CHARGE:
        return ()  # The PSP tells of the charge once more, under another name.
    for operation in payment.unfinished:
        if operation.kind in (OperationKind.CAPTURE, OperationKind.VOID) and not operation.compensates:
            raise OperationInDoubt(f"a {operation.kind} of {payment.id} is under way; it may be this one.")
    if command.once and 0 < command.amount_minor == payment.captured_minor:
        return ()  # There can be no other capture: it is told once more, under another name.
    room(payment, command.operation_id)
    left = payment.capturable_minor
    if payment.disputes_open or not 0 < command.amount_minor <= _uncaptured(payment, command.once):
        return ask_about_news(payment, f"external_capture_does_not_fit: {command.reference}")
    return (
        ev.OperationStarted(
            operation_id=command.operation_id,
            kind=OperationKind.CAPTURE,
            gateway=winner.gateway,
            amount_minor=command.amount_minor,
            gateway_key=gateway_key(command.operation_id),
            parent_id=winner.id,
            final=command.final or command.amount_minor == left,
            reason=EXTERNAL,
        ),
        _approved(command, command.amount_minor),
    )


def is_held(payment: Payment) -> bool:
    """Whether some of an authorisation is left to release, also while a person looks: they may be who releases it."""
    held = payment.authorized_minor and settled_state(payment) is PaymentState.AUTHORIZED
    return bool(held) and not payment.disputes_open


def other_attempt(payment: Payment, attempt_id: str | None, reference: str) -> Operation | None:
    """The attempt that the news is about, where that is not the approved one but one that took money as well; None for the
    approved one, and for any attempt of a payment that has none and nothing unwanted.

    Raises `InvalidState` while it cannot be told: where nobody knows which attempt is meant, where the attempt may yet be
    approved, or took nothing as far as we know, for then the news of its late success may be still on its way.
    """
    attempt = payment.operation(attempt_id) if attempt_id else None
    if attempt is not None and attempt.status in (OperationStatus.UNWANTED, OperationStatus.REVERSED):
        return attempt
    winner = payment.winner
    if winner is not None and (attempt is None or attempt.id != winner.id):
        raise InvalidState(f"{reference} is not about the approved attempt of {payment.id}; it waits.")
    return None


def reversed_outside(
    payment: Payment,
    attempt: Operation,
    kind: OperationKind,
    told: cmd.RecordExternalRefund | cmd.RecordExternalVoid | cmd.CloseDispute,
    reason: str = EXTERNAL,
) -> Events:
    """The reversal of an unwanted success, made outside of us: what we could not take back, somebody else gave back."""
    if any(op.unfinished and op.compensates and op.parent_id == attempt.id for op in payment.operations):
        raise OperationInDoubt(f"{attempt.id} is being reversed; {told.reference} may be that.")
    amount = attempt.taken_minor if isinstance(told, cmd.RecordExternalVoid) else told.amount_minor
    if attempt.status is not OperationStatus.UNWANTED or amount != attempt.taken_minor:
        what = "dispute" if reason == DISPUTE_LOST else f"external_{kind}"
        return ask_about_news(payment, about_unwanted(what, told.reference))
    fresh(payment, told.operation_id)
    ended = doubt_ends(payment, (attempt.id,), attempt.id)
    return (
        ev.OperationStarted(
            operation_id=told.operation_id,
            kind=kind,
            gateway=attempt.gateway,
            amount_minor=amount,
            gateway_key=gateway_key(told.operation_id),
            parent_id=attempt.id,
            reason=reason,
            compensates=True,
        ),
        _approved(told, amount),
        *((ev.ReviewClosed(reason=f"evidence: {_evidence(told)}"),) if ended else ()),
    )


def about_unwanted(what: str, reference: str) -> str:
    """What a person is told of news about an attempt that nobody wanted, where it is not simply its reversal."""
    return f"unwanted_attempt: {what} {reference}"


def ask_about_news(payment: Payment, reason: str) -> Events:
    """Asks a person, in place of a review that evidence alone would close; the news waits while another one is open."""
    if payment.review == reason:
        return ()
    if payment.review is not None and not payment.review_until_evidence:
        raise InvalidState(f"{payment.id} is in review; {reason} waits.")
    return (ev.ReviewRequested(reason=reason),)


def _uncaptured(payment: Payment, once: bool) -> int:
    """What may yet turn out to be captured: what is still held, and what a void or a last capture released, for it released
    what other captures had left, and news of these may come after it. A void released something, so it is not all of that.
    """
    held = payment.authorized_minor - payment.captured_minor - payment.released_minor
    voided = any(
        op.kind is OperationKind.VOID and op.status is OperationStatus.APPROVED and not op.compensates
        for op in payment.operations
    )
    if voided:
        return held + max(0, payment.released_minor - 1)
    return held if once else held + payment.released_minor


def _known(payment: Payment, kind: OperationKind, reference: str) -> bool:
    return any(op.kind is kind and op.reference == reference for op in payment.operations)


def _evidence(told: Told) -> Evidence:
    return Evidence.WEBHOOK if isinstance(told, cmd.CloseDispute) else told.evidence


def _approved(told: Told, amount_minor: int) -> ev.OperationApproved:
    return ev.OperationApproved(
        operation_id=told.operation_id,
        amount_minor=amount_minor,
        reference=told.reference,
        evidence=_evidence(told),
    )
