"""Bugs planted where webhooks come in, and where time and the PSPs' own habits are read."""

from __future__ import annotations

from tests.simulation.planting import Mutation, Planted

INBOUND = "orchestration.inbound:Inbound."

INBOUND_BUGS: dict[str, Planted] = {
    "forged_webhook_taken": Planted(
        "a webhook is believed whatever its signature says",
        (Mutation("gateways.razorpay.webhook:read_webhook", "if not any(matches):", "if False:"),),
    ),
    "forged_item_taken": Planted(
        "only that a notification is signed is looked at, not whether the signature fits",
        (
            Mutation(
                "gateways.adyen.webhooks:AdyenWebhooks._verify",
                'raise WebhookRejected("signature")',
                "pass",
            ),
        ),
    ),
    "webhook_acknowledged_before_kept": Planted(
        "a webhook is acknowledged, and kept a moment later",
        (
            Mutation(
                INBOUND + "take",
                "new = await self._engine.store.keep_notices(notices) if notices else 0",
                "new = 0\n"
                "    if notices:\n"
                "        asyncio.get_running_loop().create_task(self._engine.store.keep_notices(notices))",
            ),
        ),
    ),
    "notice_settled_before_applied": Planted(
        "a notice counts as applied before it is",
        (
            Mutation(
                INBOUND + "apply_due",
                "await engine.store.settle_notice(await self._handled(notice))",
                "await engine.store.settle_notice(replace(notice, state=NoticeState.APPLIED))\n"
                "        await self._handled(notice)",
            ),
        ),
    ),
    "notice_given_up_at_once": Planted(
        "a notice that cannot be applied yet is dropped",
        (
            Mutation(
                INBOUND + "_handled",
                "return await self._overdue(notice)",
                "return replace(notice, state=NoticeState.UNMATCHED)",
            ),
            Mutation(INBOUND + "_handled", "if notice.tries >= _RETRY.attempts_max:", "if True:"),
        ),
    ),
    "webhook_overrides_a_final_state": Planted(
        "the last webhook wins: what was approved is declined by an older notice, without a look",
        (
            Mutation(
                INBOUND + "_record",
                "if event.must_look_up or (contradicts and not event.undoes):",
                "if False:",
            ),
            Mutation(
                INBOUND + "_record",
                "if isinstance(outcome, Approved) and await self._is_old_news(payment, operation, event):",
                "if operation.attempt and isinstance(outcome, Approved):\n"
                "        known = Known(Declined(category='soft', code='late'), Evidence.WEBHOOK)\n"
                "        await self._driver.found(payment, unleased(payment, operation), known)\n"
                "    if isinstance(outcome, Approved) and await self._is_old_news(payment, operation, event):",
            ),
        ),
    ),
    "key_looks_younger_than_it_is": Planted(
        "what a wall clock that was set forward says is recorded as the time of the first send",
        (Mutation("orchestration.journal:Draft.apply", "ports.clock.steady_us()", "ports.clock.now_us()"),),
    ),
    "quiet_by_the_wall_clock": Planted(
        "a wall clock that is set forward ends a quiet period",
        (
            Mutation(
                "orchestration.evidence:EvidenceSearch.look",
                "asked_us = self._clock.earliest_us()",
                "asked_us = self._clock.now_us()",
            ),
        ),
    ),
    "one_try_ends_a_checkout": Planted(
        "a try that failed in the Checkout fails the payment, while its order stays open",
        (
            Mutation(
                "gateways.razorpay.lookup:RazorpayLookup._of_checkout",
                "if isinstance(outcome, Declined):",
                "if False:",
            ),
        ),
    ),
    "a_void_of_ours_is_a_contradiction": Planted(
        "that the PSP shows as canceled what we canceled is handed to a person",
        (Mutation("domain.record:_record_late", "if _given_up(payment, operation):", "if False:"),),
    ),
    "lapsed_is_refused": Planted(
        "PayPal's refusal to void what has lapsed counts as a refusal",
        (
            Mutation(
                "gateways.paypal.adapter:PayPalGateway._void",
                "outcome.code in _MAY_HAVE_LAPSED",
                "outcome.code in ()",
            ),
        ),
    ),
}
