"""The synchronous face: the same methods without `await`, from several threads, started and stopped at will."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from aegispay import AegisPaySync, InvalidRequest, Money
from aegispay.domain.errors import ConfigError, NotRunning
from aegispay.domain.outcomes import Approved, Outcome
from aegispay.gateways.gateway import GatewayCall
from aegispay.testing.instant_gateway import InstantGateway

USD100 = Money(100_00, "USD")


def test_a_charge_and_its_replay_without_await(tmp_path: Path) -> None:
    with AegisPaySync([InstantGateway()], store=f"sqlite:///{tmp_path}/p.db") as pay:
        paid = pay.charge(USD100, "tok_ok", idempotency_key="k")
        assert paid.is_success()
        assert pay.charge(USD100, "tok_ok", idempotency_key="k").to_json() == paid.to_json()
        assert pay.get(paid.payment_id).captured_minor == 100_00
        assert pay.event_store.replay_events(paid.payment_id).id == paid.payment_id
        with pytest.raises(InvalidRequest):
            pay.charge(USD100, "tok_ok", idempotency_key="")
        with pytest.raises(AttributeError):
            pay.no_such_method  # noqa: B018


def test_a_review_is_closed_without_await(tmp_path: Path) -> None:
    async def odd(gateway: InstantGateway, call: GatewayCall) -> Outcome:
        return Approved(reference="odd_1", amount_minor=99_99)

    gateway = InstantGateway()
    gateway.faults.append(odd)
    with AegisPaySync([gateway], store=f"sqlite:///{tmp_path}/p.db") as pay:
        pay.charge(USD100, "tok_ok", idempotency_key="k", timeout_s=0.05)
        (asked,) = pay.list(states=["needs_review"])
        assert pay.close_review(asked.id, reason="ann: agreed").state == "succeeded"
        assert pay.get(asked.id).captured_minor == 99_99


def test_threads_share_one_instance_and_one_key_is_one_charge(tmp_path: Path) -> None:
    gateway = InstantGateway()
    answers: list[bytes] = []
    with AegisPaySync([gateway], store=f"sqlite:///{tmp_path}/p.db") as pay:

        def click() -> None:
            answers.append(pay.charge(USD100, "tok_ok", idempotency_key="k").to_json())

        threads = [threading.Thread(target=click) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(answers) == 12 and len(set(answers)) == 1
    assert len(gateway.books) == 1


def test_it_is_safe_to_stop_before_start_and_twice_and_to_start_again(tmp_path: Path) -> None:
    pay = AegisPaySync([InstantGateway()], store=f"sqlite:///{tmp_path}/p.db")
    pay.stop()
    with pytest.raises(NotRunning):
        pay.charge(USD100, "tok_ok", idempotency_key="k")
    pay.start()
    pay.start()
    assert pay.charge(USD100, "tok_ok", idempotency_key="k").is_success()
    pay.stop()
    pay.stop()
    with pay:
        assert pay.charge(USD100, "tok_ok", idempotency_key="k").is_success()


def test_a_store_that_cannot_be_opened_leaves_no_thread_behind(tmp_path: Path) -> None:
    before = threading.active_count()
    pay = AegisPaySync([InstantGateway()], store=f"sqlite:///{tmp_path}/no/such/folder/p.db")
    with pytest.raises(ConfigError):
        pay.start()
    assert threading.active_count() == before
