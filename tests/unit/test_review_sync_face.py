"""The synchronous face with several threads: nobody waits for ever for an answer that a stopped loop cannot give."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from aegispay import Money
from aegispay.domain.errors import AegisPayError
from aegispay.domain.outcomes import Outcome
from aegispay.gateways.gateway import GatewayCall
from aegispay.orchestration.settings import Settings
from aegispay.sync import AegisPaySync
from aegispay.testing.instant_gateway import InstantGateway, hang

JOIN_S = 20.0


def in_threads(count: int, work: Callable[[], Any]) -> list[Any]:
    answers: list[Any] = []

    def run() -> None:
        try:
            answers.append(work())
        except BaseException as error:
            answers.append(error)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(JOIN_S)
    assert not any(thread.is_alive() for thread in threads), "a caller waits for ever"
    return answers


def test_a_thread_that_waits_when_another_one_stops_is_answered() -> None:
    gateway = InstantGateway("alpha")
    began = threading.Event()

    async def hangs(inner: InstantGateway, call: GatewayCall) -> Outcome:
        began.set()
        return await hang(inner, call)

    gateway.faults.append(hangs)
    pay = AegisPaySync([gateway], store="sqlite://:memory:", settings=replace(Settings(), recovery=False))
    pay.start()

    def stop() -> None:
        began.wait(JOIN_S)
        pay.stop(grace_s=0.01)

    stopper = threading.Thread(target=stop)
    stopper.start()
    (answer,) = in_threads(1, lambda: pay.charge(Money(1_00, "USD"), "tok_ok", idempotency_key="k"))
    stopper.join()
    if isinstance(answer, BaseException):
        assert isinstance(answer, AegisPayError) and answer.effect == "unknown", repr(answer)
    else:
        assert answer.is_pending()


def test_a_thread_that_waits_for_something_else_than_a_payment_is_answered_too() -> None:
    gateway = InstantGateway("alpha")
    began = threading.Event()

    async def never(timeout_s: float = 5.0) -> Any:
        import asyncio

        began.set()
        await asyncio.Event().wait()

    gateway.health = never  # type: ignore[method-assign]
    pay = AegisPaySync([gateway], store="sqlite://:memory:", settings=replace(Settings(), recovery=False))
    pay.start()
    stopper = threading.Thread(target=lambda: (began.wait(JOIN_S), pay.stop(grace_s=0.01)))
    stopper.start()
    (answer,) = in_threads(1, lambda: pay.health())
    stopper.join()
    assert isinstance(answer, AegisPayError)


def test_threads_that_start_and_stop_it_at_once_agree() -> None:
    pay = AegisPaySync([InstantGateway("alpha")], store="sqlite://:memory:")

    def both() -> None:
        pay.start()
        pay.stop()

    assert in_threads(8, both) == [None] * 8
    assert [one.name for one in threading.enumerate() if one.name == "aegispay"] == []
