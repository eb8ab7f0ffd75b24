"""What a user's type checker sees of the public face. Checked by mypy and pyright in `make check`; never run."""

from __future__ import annotations

from typing import assert_type

from aegispay import (
    AegisPay,
    AegisPaySync,
    Card,
    Currency,
    Event,
    Money,
    NextAction,
    Payment,
    PaymentState,
    Result,
    StripeGateway,
    Token,
)


async def check() -> None:
    assert_type(Money.parse("99.99", "USD"), Money)
    assert_type(Currency.USD, Currency)
    assert_type(Money(100, Currency.JPY).amount_minor, int)
    assert_type(Money(100, "USD") + Money(1, "USD"), Money)
    async with AegisPay([StripeGateway("sk_test_x")], store="sqlite://:memory:") as pay:
        assert_type(pay, AegisPay)
        result = await pay.charge(Money(1, "USD"), Token("pm_card_visa"), idempotency_key="k")
        assert_type(result, Result)
        assert_type(result.is_success(), bool)
        assert_type(result.payment, Payment)
        assert_type(result.next_action, NextAction | None)
        assert_type(
            await pay.authorize(Money(1, "USD"), Card("4242424242424242", 1, 2030), idempotency_key="k"),
            Result,
        )
        assert_type(await pay.get("pay_"), Payment)
        assert_type((await pay.get("pay_")).state, PaymentState)
        assert_type(await pay.close_review("pay_", reason="seen", reversed_by_hand=True), Payment)
        assert_type(await pay.close_review("pay_", reason="seen", no_effect=True), Payment)
        assert_type(await pay.close_review("pay_", reason="seen", took_effect="ch_1"), Payment)
        assert_type(await pay.list(), list[Payment])
        assert_type(await pay.event_store.events("pay_"), list[Event])
        assert_type(await pay.event_store.replay_events("pay_"), Payment)
    with AegisPaySync([StripeGateway("sk_test_x")]) as sync:
        assert_type(sync, AegisPaySync)
