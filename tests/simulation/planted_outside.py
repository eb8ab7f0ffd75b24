"""Planted bugs about what people do at the PSPs' own pages, found in the mode `dashboard`."""

from __future__ import annotations

from aegispay.testing.simulation import Mode
from tests.simulation.planting import Mutation, Planted

EXTERNAL = "domain.external:"
OUTSIDE = "orchestration.outside:"

OUTSIDE_BUGS: dict[str, Planted] = {
    "dashboard_capture_is_old_news": Planted(
        "what somebody captured at PayPal is taken for news of the authorisation itself, and dropped",
        (
            Mutation(
                "gateways.paypal.webhook:_capture_kind",
                "if made.authorization_id() is not None:",
                "if False:",
            ),
            Mutation(
                "orchestration.inbound:Inbound._apply",
                "if operation is not None and approved and _took_what_was_authorised(operation, event):",
                "if False:",
            ),
        ),
        Mode.DASHBOARD,
    ),
    "refund_is_confirmed_without_its_capture": Planted(
        "PayPal is asked about a refund without the capture that it gave back, and so never confirms it",
        (
            Mutation(
                OUTSIDE + "Outside._confirmed_minor",
                "capture_id=command.capture_id if isinstance(command, cmd.RecordExternalRefund) else None",
                "capture_id=None",
            ),
        ),
        Mode.DASHBOARD,
    ),
    "voided_authorisation_took_nothing": Planted(
        "an authorisation in doubt that was captured in part and then voided is taken for one that was never approved",
        (Mutation("gateways.paypal.replies:order_outcome", "and took_money(order)", "and False"),),
        Mode.DASHBOARD,
    ),
    "refund_faster_than_its_capture": Planted(
        "a refund is told of before the capture that it gives back, and a person is asked",
        (
            Mutation(
                EXTERNAL + "external_refund",
                "left < command.amount_minor <= left + _uncaptured(payment, command.once)",
                "False",
            ),
        ),
        Mode.DASHBOARD,
    ),
    "capture_faster_than_its_authorisation": Planted(
        "a capture is told of before the authorisation is known to be approved, and is dropped",
        (
            Mutation(
                EXTERNAL + "external_capture",
                'raise InvalidState(f"{command.reference} captures what is not known to be authorised; it waits.")',
                "return ()",
            ),
        ),
        Mode.DASHBOARD,
    ),
    "captured_once_and_still_held": Planted(
        "after a partial capture at a PSP that captures but once, the rest counts as still reserved",
        (
            Mutation(
                OUTSIDE + "Outside._command",
                "final=event.final or once",
                "final=False",
            ),
        ),
        Mode.DASHBOARD,
    ),
    "what_was_released_was_not_captured": Planted(
        "a release is told of before the capture that it left the rest of, and the capture goes to a person",
        (Mutation(EXTERNAL + "_uncaptured", "held + max(0, payment.released_minor - 1)", "held"),),
        Mode.DASHBOARD,
    ),
    "last_capture_is_one_of_several": Planted(
        "what somebody captures at PayPal for the last time counts as one of several, and the rest as still reserved",
        (
            Mutation(
                "gateways.paypal.webhook:_made",
                "kind is K.CAPTURE and made.final_capture is True",
                "False",
            ),
        ),
        Mode.DASHBOARD,
    ),
    "news_is_booked_twice": Planted(
        "a refund that the PSP tells of twice is booked twice",
        (
            Mutation(
                EXTERNAL + "external_refund",
                "if _known(payment, OperationKind.REFUND, command.reference):",
                "if False:",
            ),
        ),
        Mode.DASHBOARD,
    ),
    "dashboard_refund_while_ours_is_under_way": Planted(
        "a refund of ours that is under way is booked once more when the PSP tells of it as somebody's",
        (Mutation(EXTERNAL + "external_refund", "if payment.reserved(OperationKind.REFUND):", "if False:"),),
        Mode.DASHBOARD,
    ),
}
