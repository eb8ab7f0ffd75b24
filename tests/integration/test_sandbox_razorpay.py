"""The official Razorpay SDK against the Razorpay face, over loopback: a client that we did not write; and its webhooks."""

from __future__ import annotations

import asyncio
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from aegispay.ports import SystemClock
from aegispay.sandbox.face import bind, wire_request
from aegispay.sandbox.process import SandboxProcess
from aegispay.sandbox.server import Sandbox, SandboxSettings
from aegispay.sandbox.webhooks import NoticeDelivery, NoticeFault, NoticePlan
from tests.unit.test_sandbox_razorpay_psp import Client

razorpay = pytest.importorskip("razorpay", reason="the official razorpay SDK is not installed")

KEYS = ("rzp_test_sandbox", "razorpay_sandbox_secret")
SETTINGS = SandboxSettings(more_psps=("razorpay",))


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    path: Path = tmp_path_factory.mktemp("bank") / "bank.db"
    with SandboxProcess(path, seed=3, synchronous="OFF", settings=SETTINGS) as running:
        yield running


@pytest.fixture
def client(sandbox: SandboxProcess) -> Iterator[Any]:
    sandbox.clear_faults()
    one = razorpay.Client(auth=KEYS, base_url=sandbox.url("razorpay"))
    yield one
    one.session.close()


def order(client: Any, payment: str, capture: str = "automatic", **more: Any) -> Any:
    body = {
        "amount": 50000,
        "currency": "INR",
        "receipt": f"op_{payment}",
        "payment": {"capture": capture},
        "notes": {"aegispay_payment": payment},
    }
    return client.order.create(body | more)


def begin(client: Any, made: Any, token: str = "token_visa") -> Any:
    body = {
        "amount": made["amount"],
        "currency": made["currency"],
        "order_id": made["id"],
        "email": "a@b.test",
        "contact": "+919999999999",
        "method": "card",
        "token": token,
    }
    return client.payment.createPaymentJson(body)


def visit(url: str, action: str | None = None) -> str:
    data = urllib.parse.urlencode({"action": action}).encode() if action else None
    with urllib.request.urlopen(url, data) as page:
        return str(page.read().decode())


def pay(client: Any, payment: str, capture: str = "automatic", token: str = "token_visa") -> str:
    begun = begin(client, order(client, payment, capture), token)
    visit(begun["next"][0]["url"], "authenticate")
    return str(begun["razorpay_payment_id"])


def test_an_order_is_paid_and_refunded(client: Any, sandbox: SandboxProcess) -> None:
    id_ = pay(client, "pay_sdk_1")
    payment = client.payment.fetch(id_)
    assert (payment["status"], payment["captured"]) == ("captured", True)
    assert client.order.fetch(payment["order_id"])["status"] == "paid"
    refund = client.payment.refund(id_, {"amount": 20000})
    assert client.refund.fetch(refund["id"])["status"] == "processed"
    assert client.payment.fetch_multiple_refund(id_)["count"] == 1
    assert client.payment.fetch_refund_id(id_, refund["id"])["amount"] == 20000
    assert client.payment.fetchCardDetails(id_)["last4"] == "4242"
    assert sandbox.bank.captured_minor("pay_sdk_1") == 50000
    assert sandbox.bank.refunded_minor("pay_sdk_1") == 20000


def test_an_authorised_payment_is_captured_once(client: Any, sandbox: SandboxProcess) -> None:
    id_ = pay(client, "pay_sdk_2", "manual")
    with pytest.raises(razorpay.errors.BadRequestError, match="equal to the amount authorized"):
        client.payment.capture(id_, 40000, {"currency": "INR"})
    assert client.payment.capture(id_, 50000, {"currency": "INR"})["status"] == "captured"
    with pytest.raises(razorpay.errors.BadRequestError, match="already been captured"):
        client.payment.capture(id_, 50000, {"currency": "INR"})
    assert sandbox.bank.captured_minor("pay_sdk_2") == 50000


def test_the_signature_of_the_callback_is_the_official_one(client: Any) -> None:
    begun = begin(client, order(client, "pay_sdk_3"))
    id_ = begun["razorpay_payment_id"]
    assert {step["action"] for step in client.payment.otpGenerate(id_)["next"]} == {
        "otp_submit",
        "otp_resend",
    }
    brought = client.payment.otpSubmit(id_, {"otp": "123456"})
    client.utility.verify_payment_signature(brought)
    with pytest.raises(razorpay.errors.SignatureVerificationError):
        client.utility.verify_payment_signature(brought | {"razorpay_order_id": "order_other"})


def test_orders_are_found_by_receipt_with_their_payments(client: Any) -> None:
    pay(client, "pay_sdk_4", token="token_declined")
    found = client.order.all({"receipt": "op_pay_sdk_4"})
    assert found["count"] == 1
    payments = client.order.payments(found["items"][0]["id"])
    assert [one["error_reason"] for one in payments["items"]] == ["card_declined"]


def test_a_mandate_that_is_declined_is_an_error_of_the_request(client: Any) -> None:
    made = order(client, "pay_sdk_5")
    body = {
        "amount": 50000,
        "currency": "INR",
        "order_id": made["id"],
        "email": "a@b.test",
        "contact": "1",
        "customer_id": "cust_1",
        "token": "token_expired",
        "recurring": True,
    }
    with pytest.raises(razorpay.errors.BadRequestError):
        client.payment.createRecurring(body)
    assert client.payment.createRecurring(body | {"token": "token_visa"})["razorpay_order_id"] == made["id"]


def test_downtimes_and_lists(client: Any) -> None:
    assert client.payment.fetchDownTime()["items"] == []
    assert client.payment.all({"count": 2})["entity"] == "collection"
    assert client.refund.all({"count": 2})["entity"] == "collection"


def test_a_wrong_key_is_refused(sandbox: SandboxProcess) -> None:
    one = razorpay.Client(auth=(KEYS[0], "wrong"), base_url=sandbox.url("razorpay"))
    with pytest.raises(razorpay.errors.BadRequestError, match="api key"):
        one.order.all()
    one.session.close()


@pytest.mark.parametrize(("fault", "paid"), [("error_before", 0), ("error_after", 1)])
def test_a_fault_in_front_hides_the_refund_but_its_key_pays_it_once(
    client: Any, sandbox: SandboxProcess, fault: str, paid: int
) -> None:
    name = f"pay_sdk_{fault}"
    id_ = pay(client, name)
    sandbox.script("razorpay", [fault], path="refund")
    headers = {"X-Refund-Idempotency": f"key-of-{fault}"}
    with pytest.raises(razorpay.errors.ServerError):
        client.payment.refund(id_, {"amount": 1000}, headers=headers)
    assert sandbox.bank.refunded_minor(name) == 1000 * paid
    client.payment.refund(id_, {"amount": 1000}, headers=headers)
    assert sandbox.bank.refunded_minor(name) == 1000


def test_the_face_has_its_books_and_port_after_a_restart(tmp_path: Path) -> None:
    process = SandboxProcess(tmp_path / "bank.db", synchronous="NORMAL", settings=SETTINGS)
    process.start()
    url = process.url("razorpay")
    client = razorpay.Client(auth=KEYS, base_url=url)
    id_ = pay(client, "pay_restart", "manual")
    client.session.close()
    process.stop(kill=True)
    process.start()
    assert process.url("razorpay") == url
    client = razorpay.Client(auth=KEYS, base_url=url)
    assert client.payment.capture(id_, 50000, {"currency": "INR"})["status"] == "captured"
    client.session.close()
    process.stop()


class Shop:
    """A merchant's webhook address: it keeps what it got and answers what it is told to."""

    def __init__(self) -> None:
        self.got: list[tuple[str, bytes]] = []
        self.statuses: list[int] = []
        self.url = ""

    async def handle(self, request: web.BaseRequest) -> web.Response:
        wire = await wire_request(request)
        self.got.append((wire.headers["x-razorpay-signature"], wire.body))
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200)

    def genuine(self) -> list[bool]:
        utility = razorpay.Client(auth=KEYS).utility
        found = []
        for signature, body in self.got:
            try:
                utility.verify_webhook_signature(body.decode(), signature, "razorpay_sandbox_webhook_secret")
                found.append(True)
            except razorpay.errors.SignatureVerificationError:
                found.append(False)
        return found


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    one = Shop()
    server = web.Server(one.handle, access_log=None)
    sock = bind(0, listen=True)
    listener = await asyncio.get_running_loop().create_server(server, sock=sock)
    one.url = f"http://127.0.0.1:{sock.getsockname()[1]}/hooks"
    yield one
    listener.close()
    await server.shutdown(0.5)


async def announced(sandbox: Sandbox) -> int:
    psp: Any = sandbox.psps["razorpay"]
    driver = Client.__new__(Client)
    driver.psp = psp
    made = driver.order(capture="automatic")
    psp.pay_order(made["id"])
    return len(psp.outbox)


async def test_webhooks_arrive_in_order_and_the_sdk_verifies_each(shop: Shop) -> None:
    async with Sandbox(settings=SETTINGS) as sandbox:
        count = await announced(sandbox)
        tries = await NoticeDelivery(sandbox.psps["razorpay"].outbox, shop.url, SystemClock()).flush()
    assert [one.notice.type for one in tries] == ["payment.authorized", "payment.captured", "order.paid"]
    assert shop.genuine() == [True] * count


@pytest.mark.parametrize(
    ("fault", "types"),
    [
        (NoticeFault.DUPLICATE, ["payment.authorized"] * 2 + ["payment.captured"] * 2 + ["order.paid"] * 2),
        (NoticeFault.HELD, ["order.paid", "payment.captured", "payment.authorized"]),
        (NoticeFault.DROPPED, []),
        (NoticeFault.LOST_ANSWER, ["payment.authorized", "payment.captured", "order.paid"] * 2),
    ],
)
async def test_what_goes_wrong_with_a_webhook_on_its_way(
    shop: Shop, fault: NoticeFault, types: list[str]
) -> None:
    async with Sandbox(settings=SETTINGS) as sandbox:
        await announced(sandbox)
        plan = NoticePlan(probabilities={fault: 1.0}, retry_s=0.0)
        delivery = NoticeDelivery(sandbox.psps["razorpay"].outbox, shop.url, SystemClock(), plan)
        tries = await delivery.flush()
    assert [one.notice.type for one in tries] == types
    assert delivery.fired[fault] == 3
    assert all(shop.genuine())


async def test_a_forged_webhook_does_not_verify_and_the_true_one_does(shop: Shop) -> None:
    async with Sandbox(settings=SETTINGS) as sandbox:
        await announced(sandbox)
        plan = NoticePlan(probabilities={NoticeFault.FORGED: 1.0})
        await NoticeDelivery(sandbox.psps["razorpay"].outbox, shop.url, SystemClock(), plan).flush()
    assert shop.genuine() == [False, True] * 3


async def test_a_webhook_that_is_refused_is_sent_again_until_the_tries_are_spent(shop: Shop) -> None:
    async with Sandbox(settings=SETTINGS) as sandbox:
        await announced(sandbox)
        shop.statuses = [500, 200, 200, 500, 503]
        plan = NoticePlan(tries_max=3, retry_s=0.0)
        delivery = NoticeDelivery(sandbox.psps["razorpay"].outbox, shop.url, SystemClock(), plan)
        tries = await delivery.flush()
    assert [one.status for one in tries] == [500, 200, 200, 500, 503]
    assert [one.type for one in delivery.given_up] == ["payment.authorized"]
    assert await delivery.flush() == []


async def test_a_sandbox_in_another_process_delivers_its_webhooks_when_told_to(
    shop: Shop, sandbox: SandboxProcess, client: Any
) -> None:
    def make() -> list[tuple[str, int, bool]]:
        pay(client, "pay_hooks")
        sandbox.deliver("razorpay", f"{shop.url}/before")
        pay(client, "pay_hooks_2", token="token_declined")
        return sandbox.deliver("razorpay", shop.url, NoticePlan(probabilities={NoticeFault.FORGED: 1.0}))

    assert await asyncio.to_thread(make) == [("payment.failed", 200, True), ("payment.failed", 200, False)]
    assert shop.genuine()[-2:] == [False, True]
