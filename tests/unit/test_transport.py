"""The transport tells proof that nothing was sent from doubt, against a real server that misbehaves."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest
from aiohttp.http_writer import StreamWriter

from aegispay.domain.errors import ConfigError
from aegispay.domain.outcomes import InDoubt, NotSent
from aegispay.gateways import permit, wire
from aegispay.gateways.http import HttpReply, HttpRequest
from aegispay.gateways.transport import AiohttpTransport
from tests.fakes.raw_server import Peer, always, answer, raw_server, refused_port
from tests.fakes.tls_pair import tls_pair

SECRET = "sk_live_verysecret"


def post(url: str, timeout_s: float = 5.0, body: bytes = b"amount=1", **headers: str) -> HttpRequest:
    found = {"Authorization": f"Bearer {SECRET}", **headers}
    return HttpRequest(method="POST", url=url, headers=found, body=body, timeout_s=timeout_s)


def get(url: str, timeout_s: float = 5.0) -> HttpRequest:
    return HttpRequest(method="GET", url=url, headers={}, timeout_s=timeout_s)


@pytest.fixture
async def transport():
    found = AiohttpTransport(response_bytes_max=10_000)
    yield found
    await found.aclose()


# --- whole answers ------------------------------------------------------------------------------------------


async def test_a_whole_answer_comes_back_with_lower_case_header_names(transport):
    async with raw_server(always(answer(b'{"a":1}', "402 Payment Required", "Request-Id: req_1"))) as server:
        reply = await transport.send(post(server.url("/v1/x?a=%5B1%5D")))
        assert isinstance(reply, HttpReply)
        assert (reply.status, reply.body, reply.headers["request-id"]) == (402, b'{"a":1}', "req_1")
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        assert head.startswith(b"POST /v1/x?a=%5B1%5D HTTP/1.1\r\n")
        assert body == b"amount=1"


async def test_a_chunked_answer_comes_back_whole(transport):
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    async with raw_server(always(chunked)) as server:
        assert (await transport.send(post(server.url()))).body == b"abcde"


async def test_connections_are_kept_and_used_again(transport):
    async with raw_server(always(answer())) as server:
        for _ in range(5):
            await transport.send(post(server.url()))
        assert (server.connections, len(server.requests)) == (1, 5)


async def test_redirects_are_not_followed(transport):
    async with raw_server(always(answer(b"", "302 Found", "Location: /elsewhere"))) as server:
        reply = await transport.send(get(server.url("/first")))
        assert reply.status == 302
        assert len(server.requests) == 1


async def test_cookies_are_not_kept(transport):
    async with raw_server(always(answer(b"{}", "200 OK", "Set-Cookie: session=1; Path=/"))) as server:
        await transport.send(get(server.url()))
        await transport.send(get(server.url()))
        assert b"cookie" not in server.requests[1].lower()


async def test_proxies_in_the_environment_are_not_used(transport, monkeypatch):
    proxy = f"http://127.0.0.1:{refused_port()}"
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    async with raw_server(always(answer())) as server:
        assert isinstance(await transport.send(get(server.url())), HttpReply)


async def test_compressed_bytes_are_not_unpacked_so_a_small_answer_cannot_become_a_huge_one(transport):
    packed = b"\x1f\x8b" + b"0" * 50
    async with raw_server(always(answer(packed, "200 OK", "Content-Encoding: gzip"))) as server:
        reply = await transport.send(get(server.url()))
        assert reply.body == packed
        assert b"accept-encoding: identity" in server.requests[0].lower()


# --- proof that nothing was sent ----------------------------------------------------------------------------


async def test_a_refused_connection_is_proof(transport):
    outcome = await transport.send(post(f"http://127.0.0.1:{refused_port()}/"))
    assert outcome == NotSent(reason="connection_refused")


async def test_a_name_that_does_not_resolve_is_proof(transport):
    assert await transport.send(post("http://no-such-host.invalid/", 5.0)) == NotSent(reason="dns")


async def test_a_server_that_does_not_speak_tls_is_proof(transport):
    async def plain(peer: Peer) -> None:
        await peer.reader.read(100)
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with raw_server(plain) as server:
        outcome = await transport.send(post(server.url().replace("http:", "https:")))
        assert outcome == NotSent(reason="tls")


async def test_a_reset_during_the_tls_handshake_is_proof(transport):
    async def hangs_up(peer: Peer) -> None:
        await peer.reader.read(100)
        peer.reset()

    async with raw_server(hangs_up) as server:
        outcome = await transport.send(post(server.url().replace("http:", "https:")))
        assert isinstance(outcome, NotSent)
        assert outcome.reason in ("tls", "connection_failed")


async def test_a_tls_handshake_that_never_ends_is_proof_after_the_connect_time_out():
    async def silent(peer: Peer) -> None:
        await peer.server.release.wait()

    transport = AiohttpTransport(connect_timeout_s=0.05)
    async with raw_server(silent) as server:
        async with asyncio.timeout(5):
            outcome = await transport.send(post(server.url().replace("http:", "https:"), timeout_s=600))
        assert outcome == NotSent(reason="connect_timeout")
    await transport.aclose()


async def test_a_full_backlog_times_out_connecting_which_is_proof():
    transport = AiohttpTransport(connect_timeout_s=0.05)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        async with asyncio.timeout(5):
            outcome = await transport.send(post(f"http://127.0.0.1:{deaf.getsockname()[1]}/", timeout_s=600))
        for filler in fillers:
            filler.close()
    assert outcome == NotSent(reason="connect_timeout")
    await transport.aclose()


async def test_waiting_for_a_connection_of_the_pool_counts_and_its_time_out_is_proof():
    async def slow(peer: Peer) -> None:
        await peer.request()
        await peer.server.release.wait()
        await peer.send(answer())

    transport = AiohttpTransport(connections_max=1)
    async with raw_server(slow) as server:
        first = asyncio.create_task(transport.send(post(server.url())))
        await server.seen.wait()
        assert await transport.send(post(server.url(), timeout_s=0.03)) == NotSent(reason="pool_timeout")
        server.release.set()
        assert isinstance(await first, HttpReply)
        assert len(server.requests) == 1
    await transport.aclose()


async def test_waiting_in_the_pool_longer_than_the_connect_time_out_is_allowed():
    async def slow(peer: Peer) -> None:
        while await peer.request():
            await peer.server.release.wait()
            await peer.send(answer())

    transport = AiohttpTransport(connections_max=1, connect_timeout_s=0.02)
    async with raw_server(slow) as server:
        first = asyncio.create_task(transport.send(post(server.url())))
        await server.seen.wait()
        second = asyncio.create_task(transport.send(post(server.url())))
        await asyncio.sleep(0.05)
        server.release.set()
        assert isinstance(await first, HttpReply)
        assert isinstance(await second, HttpReply)
    await transport.aclose()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/a b", "http://127.0.0.1:1/a\r\nX: 1", "ftp://127.0.0.1/", "nonsense"]
)
async def test_a_url_that_cannot_be_sent_is_proof(transport, url):
    assert await transport.send(post(url)) == NotSent(reason="invalid_url")


async def test_a_header_with_a_line_break_is_not_sent(transport):
    async with raw_server(always(answer())) as server:
        outcome = await transport.send(post(server.url(), key="a\r\nX-Forged: 1"))
        assert outcome == NotSent(reason="invalid_header")
        assert server.connections == 0


async def test_no_time_at_all_is_proof(transport):
    async with raw_server(always(answer())) as server:
        assert isinstance(await transport.send(post(server.url(), timeout_s=0)), NotSent)
        assert not server.requests


# --- in doubt -----------------------------------------------------------------------------------------------


async def _after_request(transport: AiohttpTransport, data: bytes, *, reset: bool = False) -> object:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(data)
        if reset:
            peer.reset()

    async with raw_server(script) as server:
        return await transport.send(post(server.url()))


async def test_a_reset_after_the_request_was_written_is_in_doubt(transport):
    assert await _after_request(transport, b"", reset=True) == InDoubt(reason="reset")


async def test_a_close_without_an_answer_is_in_doubt(transport):
    assert await _after_request(transport, b"") == InDoubt(reason="reset")


async def test_a_reset_while_the_request_is_being_written_is_in_doubt(transport):
    async def script(peer: Peer) -> None:
        await peer.reader.read(10)
        peer.reset()

    async with raw_server(script) as server:
        outcome = await transport.send(post(server.url(), body=b"x" * 1_000_000))
        assert outcome == InDoubt(reason="reset")


async def test_half_a_body_is_in_doubt(transport):
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 50
    assert await _after_request(transport, data) == InDoubt(reason="truncated")


async def test_half_a_chunked_body_is_in_doubt(transport):
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n"
    outcome = await _after_request(transport, data)
    assert isinstance(outcome, InDoubt)


async def test_half_a_head_is_in_doubt(transport):
    assert isinstance(await _after_request(transport, b"HTTP/1.1 200 OK\r\nConte"), InDoubt)


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"\x00\x01\x02\x03\r\n\r\n",
        b"HTTP/1.1 banana\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabcde",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 40_000 + b"\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ],
    ids=[
        "not http",
        "binary",
        "status",
        "chunk size",
        "negative length",
        "two lengths",
        "long header",
        "upgrade",
    ],
)
async def test_garbage_is_in_doubt(transport, data):
    assert await _after_request(transport, data) == InDoubt(reason="garbage")


async def test_an_answer_that_does_not_come_in_time_is_in_doubt(transport):
    async def silent(peer: Peer) -> None:
        await peer.request()
        await peer.server.release.wait()

    async with raw_server(silent) as server:
        assert await transport.send(post(server.url(), timeout_s=0.05)) == InDoubt(reason="timeout")
        assert len(server.requests) == 1


async def test_headers_that_trickle_do_not_stretch_the_deadline(transport):
    async def trickle(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n")
        for number in range(10_000):
            await peer.send(b"X-%d: y\r\n" % number)
            await asyncio.sleep(0.002)

    async with raw_server(trickle) as server:
        assert await transport.send(post(server.url(), timeout_s=0.05)) == InDoubt(reason="timeout")


async def test_a_body_that_trickles_does_not_stretch_the_deadline(transport):
    async def trickle(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n")
        for _ in range(9000):
            await peer.send(b"x")
            await asyncio.sleep(0.002)

    async with raw_server(trickle) as server:
        assert await transport.send(post(server.url(), timeout_s=0.05)) == InDoubt(reason="timeout")


async def test_provisional_answers_without_end_are_in_doubt(transport):
    async def hints(peer: Peer) -> None:
        await peer.request()
        while True:
            await peer.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            await asyncio.sleep(0.002)

    async with raw_server(hints) as server:
        assert await transport.send(post(server.url(), timeout_s=0.05)) == InDoubt(reason="timeout")


async def test_an_answer_that_says_it_is_too_large_is_not_read(transport):
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n"
    assert await _after_request(transport, data) == InDoubt(reason="too_large")


async def test_an_answer_without_end_is_read_up_to_the_limit_only(transport):
    sent = 0

    async def endless(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                await peer.send(b"400\r\n" + b"x" * 1024 + b"\r\n")
                sent += 1024
        except ConnectionError:
            peer.server.hung_up.set()

    async with raw_server(endless) as server:
        assert await transport.send(post(server.url())) == InDoubt(reason="too_large")
        await asyncio.wait_for(server.hung_up.wait(), 5)


# --- kept-alive connections ---------------------------------------------------------------------------------


@pytest.mark.parametrize("request_of", [post, get], ids=["POST", "GET"])
async def test_a_reused_connection_that_breaks_is_in_doubt_and_nothing_is_sent_twice(transport, request_of):
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer())
        await peer.request()
        peer.reset()

    async with raw_server(script) as server:
        assert isinstance(await transport.send(request_of(server.url("/1"))), HttpReply)
        assert await transport.send(request_of(server.url("/2"))) == InDoubt(reason="reset")
        assert len(server.requests) == 2


async def test_a_broken_connection_beside_a_kept_one_leaves_neither_open_at_the_end(transport):
    """The client library would repeat the GET over the second connection; refusing that must not lose it unclosed."""

    async def script(peer: Peer) -> None:
        await peer.request()
        if len(peer.server.requests) == 2:
            peer.server.release.set()
        await peer.server.release.wait()
        await peer.send(answer())
        while await peer.request():
            peer.reset()
            return
        hung_up.append(peer)

    hung_up: list[Peer] = []
    async with raw_server(script) as server:
        await asyncio.gather(*(transport.send(get(server.url())) for _ in range(2)))
        assert server.connections == 2
        assert await transport.send(get(server.url())) == InDoubt(reason="reset")
        assert len(server.requests) == 3
        await transport.aclose()
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(hung_up) == 1, "the connection beside the broken one is still open"


async def test_a_kept_connection_that_the_server_closed_meanwhile_is_replaced(transport):
    async def one_each(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer())

    async with raw_server(one_each) as server:
        for _ in range(3):
            assert isinstance(await transport.send(post(server.url())), HttpReply)
            await asyncio.sleep(0.01)
        assert (server.connections, len(server.requests)) == (3, 3)


async def test_an_unasked_for_answer_on_a_kept_connection_is_never_taken_for_ours(transport):
    """A late answer to somebody else, read as the answer to a charge, would be a false success."""

    async def script(peer: Peer) -> None:
        while await peer.request():
            await peer.send(answer(b"ours"))
            if peer.server.connections == 1:
                await asyncio.sleep(0.005)
                await peer.send(answer(b"not ours"))
                peer.server.release.set()

    async with raw_server(script) as server:
        assert (await transport.send(post(server.url()))).body == b"ours"
        await server.release.wait()
        await asyncio.sleep(0.01)
        assert (await transport.send(post(server.url()))).body == b"ours"
        assert (server.connections, len(server.requests)) == (2, 2)


async def test_two_answers_to_one_request_spoil_the_connection(transport):
    async with raw_server(always(answer(b"one") + answer(b"two"))) as server:
        assert (await transport.send(post(server.url()))).body == b"one"
        assert (await transport.send(post(server.url()))).body == b"one"
        assert server.connections == 2


# --- ending -------------------------------------------------------------------------------------------------


async def test_a_cancelled_caller_gets_the_cancellation_and_the_connection_is_closed(transport):
    async def script(peer: Peer) -> None:
        await peer.request()
        assert await peer.reader.read() == b""
        peer.server.hung_up.set()

    async with raw_server(script) as server:
        task = asyncio.create_task(transport.send(post(server.url())))
        await server.seen.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(server.hung_up.wait(), 5)


async def test_closing_ends_what_is_under_way_and_what_waits():
    async def silent(peer: Peer) -> None:
        await peer.request()
        await peer.server.release.wait()

    transport = AiohttpTransport(connections_max=1)
    async with raw_server(silent) as server:
        first = asyncio.create_task(transport.send(post(server.url())))
        await server.seen.wait()
        second = asyncio.create_task(transport.send(post(server.url())))
        await asyncio.sleep(0.01)
        await transport.aclose()
        assert await first == InDoubt(reason="reset")
        assert await second == NotSent(reason="transport_closed")
        assert await transport.send(post(server.url())) == NotSent(reason="transport_closed")


async def test_the_life_cycle_is_safe_in_any_order():
    transport = AiohttpTransport()
    await transport.aclose()
    await transport.start()
    await transport.start()
    async with raw_server(always(answer())) as server:
        assert isinstance(await transport.send(get(server.url())), HttpReply)
    await transport.aclose()
    await transport.aclose()


@pytest.mark.parametrize(
    "name", ["connections_max", "connect_timeout_s", "keepalive_s", "response_bytes_max"]
)
def test_limits_must_be_positive(name):
    with pytest.raises(ConfigError, match=name):
        AiohttpTransport(**{name: 0})


async def test_secrets_reach_no_repr_and_no_log(transport, caplog):
    caplog.set_level(logging.DEBUG)
    request = post(f"http://127.0.0.1:{refused_port()}/?secret={SECRET}")
    outcome = await transport.send(request)
    async with raw_server(always(b"garbage\r\n\r\n")) as server:
        other = await transport.send(post(server.url()))
    for text in (repr(request), str(request), repr(outcome), repr(other), repr(transport), caplog.text):
        assert SECRET not in text


def test_importing_the_transport_does_not_load_aiohttp():
    code = "import sys, aegispay.gateways.transport; sys.exit('aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- the last moment before the first byte --------------------------------------------------------------------


async def nothing(peer: Peer) -> None:
    """Reads until the client closes; every byte that it sent is remembered."""
    peer.server.requests.append(await peer.reader.read())
    peer.server.hung_up.set()


@pytest.fixture
def paused(monkeypatch):
    """The process is paused for a minute right before aiohttp writes: after every check but the last."""
    clock = {"late_s": 0.0}
    running = permit.elapsed_s
    monkeypatch.setattr(permit, "elapsed_s", lambda: running() + clock["late_s"])
    write_body, write_end = wire._CleanRequest.write_bytes, StreamWriter.set_eof

    async def body(self, *args):
        clock["late_s"] = 60.0
        await write_body(self, *args)

    def end(self):
        clock["late_s"] = 60.0
        write_end(self)

    monkeypatch.setattr(wire._CleanRequest, "write_bytes", body)
    monkeypatch.setattr(StreamWriter, "set_eof", end)
    return clock


@pytest.mark.parametrize("request_of", [post, get])
async def test_a_process_paused_between_the_check_and_the_write_sends_nothing(transport, paused, request_of):
    async with raw_server(nothing) as server:
        assert await transport.send(request_of(server.url(), 5.0)) == NotSent(reason="too_late")
        await asyncio.wait_for(server.hung_up.wait(), 5.0)
        assert server.requests == [b""]


@pytest.mark.parametrize("request_of", [post, get])
async def test_a_paused_process_sends_nothing_on_a_kept_connection_either(transport, monkeypatch, request_of):
    async def once(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer())
        await nothing(peer)

    async with raw_server(once) as server:
        assert isinstance(await transport.send(post(server.url())), HttpReply)
        monkeypatch.setattr(permit, "elapsed_s", iter([0.0, 60.0]).__next__)
        assert await transport.send(request_of(server.url(), 5.0)) == NotSent(reason="too_late")
        await asyncio.wait_for(server.hung_up.wait(), 5.0)
        assert (server.connections, server.requests[1:]) == (1, [b""])


async def test_a_lease_that_ran_out_while_connecting_keeps_the_request_back(transport):
    async with raw_server(nothing) as server:
        with permit.sending_while(lambda: server.connections == 0):
            assert await transport.send(post(server.url())) == NotSent(reason="too_late")
        await asyncio.wait_for(server.hung_up.wait(), 5.0)
        assert server.requests == [b""]


async def test_a_lease_that_runs_out_after_the_first_byte_changes_nothing():
    """The rest of a request follows its beginning: half a request helps nobody."""
    written: list[bytes] = []
    connection = SimpleNamespace(write=written.append, writelines=written.extend)
    async with asyncio.timeout(5.0) as timer:
        gate = wire._Gate(connection, wire._Progress(timer, 5.0, 5.0, 5.0))
        gate.write(b"head")
        with permit.sending_while(lambda: False):
            gate.write(b"body")
            gate.writelines([b"more"])
    assert written == [b"head", b"body", b"more"]


async def test_a_condition_ends_with_its_block(transport):
    async with raw_server(always(answer())) as server:
        with permit.sending_while(lambda: False):
            assert await transport.send(get(server.url())) == NotSent(reason="too_late")
        assert isinstance(await transport.send(get(server.url())), HttpReply)


async def test_over_tls_too_nothing_leaves_after_the_lease(tmp_path):
    ours, theirs = tls_pair(tmp_path)
    found = AiohttpTransport(tls=ours)
    async with raw_server(nothing, tls=theirs) as server:
        with permit.sending_while(lambda: False):
            assert await found.send(post(server.url())) == NotSent(reason="too_late")
        await asyncio.wait_for(server.hung_up.wait(), 5.0)
        assert server.requests == [b""]
    async with raw_server(always(answer()), tls=theirs) as server:
        assert isinstance(await found.send(post(server.url())), HttpReply)
    await found.aclose()
