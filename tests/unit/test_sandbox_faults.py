"""The fault shell and PlainPay, without a socket."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from aegispay.sandbox.bank import Bank
from aegispay.sandbox.faults import Answer, Cut, CutKind, FaultKind, FaultPlan, FaultShell
from aegispay.sandbox.plainpay_face import PlainPayPsp
from aegispay.sandbox.stripe_face import StripePsp
from aegispay.sandbox.wire import WireReply, WireRequest, handle


class SteppedClock:
    """Time that moves only by being slept through."""

    def __init__(self) -> None:
        self.us = 1_700_000_000_000_000

    def now_us(self) -> int:
        return self.us

    def monotonic_s(self) -> float:
        return self.us / 1e6

    async def sleep(self, seconds: float) -> None:
        self.us += int(seconds * 1e6)


def stripe_request(key: str = "k") -> WireRequest:
    headers = {"authorization": "Bearer sk_test_sandbox", "idempotency-key": key}
    body = b"amount=1000&currency=usd&payment_method=pm_card_visa&confirm=true&metadata[payment_id]=pay_1"
    return WireRequest(method="POST", path="/v1/payment_intents", headers=headers, body=body)


def shell(plan: FaultPlan | None = None) -> tuple[Bank, FaultShell]:
    bank, clock = Bank(), SteppedClock()
    return bank, FaultShell(StripePsp(bank, clock=clock, seed=1), clock, plan or FaultPlan())


def status(answer: Answer) -> Any:
    return answer.status if isinstance(answer, WireReply) else answer.kind


EFFECTS: list[tuple[FaultKind, Any, int]] = [
    (FaultKind.RESET_BEFORE, CutKind.RESET, 0),
    (FaultKind.REPLY_LOST, CutKind.RESET, 1000),
    (FaultKind.NO_REPLY, CutKind.SILENCE, 1000),
    (FaultKind.DUPLICATE, 200, 1000),
    (FaultKind.ERROR_BEFORE, 502, 0),
    (FaultKind.ERROR_AFTER, 502, 1000),
    (FaultKind.ERROR_KEPT_BEFORE, 500, 0),
    (FaultKind.ERROR_KEPT_AFTER, 500, 1000),
    (FaultKind.GARBAGE, 200, 1000),
    (FaultKind.TRUNCATED, CutKind.TRUNCATED, 1000),
    (FaultKind.RATE_LIMITED, 429, 0),
    (FaultKind.UNAVAILABLE, 503, 0),
    (FaultKind.SLOW, 200, 1000),
    (FaultKind.REFUSE, 200, 1000),
]


@pytest.mark.parametrize(("fault", "answer", "taken"), EFFECTS)
async def test_each_fault_has_exactly_the_effect_that_it_says(
    fault: FaultKind, answer: Any, taken: int
) -> None:
    bank, faulty = shell()
    faulty.script([fault])
    assert status(await faulty.serve(stripe_request())) == answer
    assert bank.captured_minor("pay_1") == taken
    assert faulty.fired == {fault: 1}


async def test_a_late_request_lands_after_its_client_has_gone() -> None:
    bank, faulty = shell()
    faulty.script([FaultKind.LATE])
    assert await faulty.serve(stripe_request()) == Cut(kind=CutKind.SILENCE)
    assert bank.captured_minor("pay_1") == 0
    await faulty.settle()
    assert bank.captured_minor("pay_1") == 1000


async def test_a_resend_before_a_late_request_lands_is_one_charge_all_the_same() -> None:
    bank, faulty = shell()
    faulty.script([FaultKind.LATE, None])
    await faulty.serve(stripe_request())
    assert status(await faulty.serve(stripe_request())) == 200
    await faulty.settle()
    assert bank.captured_minor("pay_1") == 1000


@pytest.mark.parametrize("fault", [kind for kind in FaultKind if not kind.value.startswith("error_kept")])
async def test_a_resend_after_any_fault_is_one_charge_with_a_good_answer(fault: FaultKind) -> None:
    bank, faulty = shell()
    faulty.script([fault, None])
    await faulty.serve(stripe_request())
    assert status(await faulty.serve(stripe_request())) == 200
    await faulty.settle()
    assert bank.captured_minor("pay_1") == 1000


async def test_an_outage_is_announced_to_whoever_holds_the_port() -> None:
    _, faulty = shell(FaultPlan(outage_s=0.7))
    outages: list[float] = []
    faulty.on_outage = outages.append
    faulty.script([FaultKind.REFUSE])
    await faulty.serve(stripe_request())
    assert outages == [0.7]


async def test_the_same_seed_gives_the_same_faults() -> None:
    async def run(seed: int) -> list[Any]:
        _, faulty = shell(FaultPlan.mixed(seed, 0.5))
        return [status(await faulty.serve(stripe_request(f"k{index}"))) for index in range(40)]

    assert await run(1) == await run(1)
    assert await run(1) != await run(2)


async def test_a_scripted_fault_waits_for_its_path() -> None:
    _, faulty = shell()
    faulty.script(["error_before"], path="/refunds")
    assert status(await faulty.serve(stripe_request())) == 200
    assert not faulty.fired


def test_probabilities_that_make_no_sense_are_refused() -> None:
    for chances in ({FaultKind.SLOW: 0.6, FaultKind.LATE: 0.6}, {FaultKind.SLOW: -0.1}):
        with pytest.raises(ValueError, match="probabilities"):
            FaultPlan(probabilities=chances)


# --- PlainPay -----------------------------------------------------------------------------------------------


class Plain:
    def __init__(self, **options: Any) -> None:
        self.bank = Bank()
        self.clock = SteppedClock()
        self.psp = PlainPayPsp(self.bank, clock=self.clock, seed=1, **options)

    def request(self, method: str, path: str, body: Any = None) -> WireRequest:
        path, _, query = path.partition("?")
        raw = b"" if body is None else msgspec.json.encode(body)
        headers = {"x-api-key": "plain_test_sandbox"}
        return WireRequest(method=method, path=path, query=query, headers=headers, body=raw)

    def send(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        reply = handle(self.psp, self.request(method, path, body))
        return reply.status, msgspec.json.decode(reply.body)

    def pay(self, reference: str = "op_1", **more: Any) -> tuple[int, Any]:
        body = {"reference": reference, "amount_minor": 1000, "currency": "USD", "token": "tok_visa"}
        return self.send("POST", "/payments", {**body, "metadata": {"payment_id": "pay_1"}, **more})


async def test_a_psp_without_keys_is_never_made_to_take_one_request_twice() -> None:
    plain = Plain()
    faulty = FaultShell(plain.psp, plain.clock)
    faulty.script([FaultKind.DUPLICATE])
    body = {"reference": "op_1", "amount_minor": 5, "currency": "USD", "token": "tok_visa"}
    await faulty.serve(plain.request("POST", "/payments", body))
    assert len(plain.bank.charges()) == 1
    assert not faulty.fired


def test_plainpay_charges_twice_for_a_reference_that_comes_twice() -> None:
    plain = Plain()
    plain.pay()
    plain.pay()
    assert plain.bank.captured_minor("pay_1") == 2000
    assert len(plain.send("GET", "/payments?reference=op_1")[1]["payments"]) == 2


def test_a_reference_that_was_canceled_first_is_refused_when_it_lands() -> None:
    plain = Plain()
    assert plain.send("POST", "/references/op_1/cancel", {})[0] == 200
    code, body = plain.pay()
    assert (code, body["error"]["code"]) == (409, "reference_canceled")
    assert plain.bank.movements() == []


def test_a_cancel_by_reference_releases_an_authorisation_and_refuses_a_captured_one() -> None:
    plain = Plain()
    plain.pay("op_1", capture=False)
    assert plain.send("POST", "/references/op_1/cancel", {})[0] == 200
    assert plain.bank.charges()[0].held_minor == 0
    assert plain.send("POST", "/references/op_1/cancel", {})[0] == 200
    plain.pay("op_2")
    code, body = plain.send("POST", "/references/op_2/cancel", {})
    assert (code, body["error"]["code"]) == (409, "executed")


def test_plainpay_captures_and_refunds_in_parts() -> None:
    plain = Plain()
    id_ = plain.pay(capture=False)[1]["id"]

    def act(verb: str, reference: str, **body: Any) -> int:
        return plain.send("POST", f"/payments/{id_}/{verb}", {"reference": reference, **body})[0]

    assert act("captures", "op_2", amount_minor=300, final=False) == 201
    assert act("captures", "op_3", amount_minor=701, final=False) == 422
    assert act("void", "op_4") == 201
    assert act("captures", "op_5", amount_minor=1) == 409
    assert act("refunds", "op_6", amount_minor=100) == 201
    assert act("refunds", "op_7", amount_minor=201) == 422
    charge = plain.bank.charges()[0]
    assert (charge.captured_minor, charge.released_minor, charge.refunded_minor) == (300, 700, 100)
    assert plain.send("GET", "/operations?reference=op_6")[1]["operations"][0]["amount_minor"] == 100


def test_plainpays_look_up_may_be_behind() -> None:
    plain = Plain(lookup_lag_s=1.0)
    plain.pay()
    assert plain.send("GET", "/payments?reference=op_1")[1]["payments"] == []
    plain.clock.us += 1_000_000
    assert len(plain.send("GET", "/payments?reference=op_1")[1]["payments"]) == 1


@pytest.mark.parametrize(
    ("action", "status_", "taken"), [("authenticate", "captured", 1000), ("fail", "declined", 0)]
)
def test_plainpays_payer_decides_on_the_page(action: str, status_: str, taken: int) -> None:
    plain = Plain()
    payment = plain.pay(token="tok_3ds", return_url="https://shop.test/")[1]
    assert plain.bank.charges() == []
    form = msgspec.structs.replace(
        plain.request("POST", payment["action"]["url"]), body=f"action={action}".encode()
    )
    assert handle(plain.psp, form).headers["location"] == f"https://shop.test/?payment={payment['id']}"
    assert plain.send("GET", f"/payments/{payment['id']}")[1]["status"] == status_
    assert plain.bank.captured_minor("pay_1") == taken


@pytest.mark.parametrize(
    "change",
    [
        {"amount_minor": 0},
        {"amount_minor": 1.5},
        {"amount_minor": True},
        {"currency": "QQQ"},
        {"token": "tok_nope"},
        {"reference": "a b"},
    ],
)
def test_plainpay_refuses_what_is_not_valid(change: dict[str, Any]) -> None:
    plain = Plain()
    assert plain.pay(**change)[0] == 422
    assert plain.bank.movements() == []


def test_plainpay_wants_its_key() -> None:
    plain = Plain()
    request = msgspec.structs.replace(plain.request("GET", "/status"), headers={})
    assert handle(plain.psp, request).status == 401
