"""The end of what a peer writes: what it asked before is answered yet, for a while; then it is over."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import subprocess
import sys

import pytest

import turnout
from loops import both_loops
from transport_link import FakeLink
from wire import frame, request

HERE = pathlib.Path(__file__).parent
HELLO = frame(
    id=0,
    method="initialize",
    params={
        "protocolVersion": "2025-06-18",
        "capabilities": {"elicitation": {}},
        "clientInfo": {"name": "c", "version": "1"},
    },
)
LISTEN = frame(
    id=3,
    method="subscriptions/listen",
    params={
        "notifications": {},
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        },
    },
)


@contextlib.asynccontextmanager
async def served(kind, tmp_path, **options):
    """A router that listens on a socket, and a client's socket as a pair of streams."""
    async with turnout.Router(**options) as router:
        if kind == "unix":
            await router.serve(turnout.listen_unix(tmp_path / "s"))
            reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        else:
            listener = turnout.listen_tcp("127.0.0.1", 0)
            await router.serve(listener)
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        try:
            yield router, reader, writer
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def ids(text):
    return [json.loads(line).get("id") for line in text.splitlines()]


@pytest.mark.parametrize("kind", ["unix", "tcp"])
@both_loops
async def test_l1_what_was_asked_before_a_half_close_is_answered(tmp_path, kind):
    """At once and later, in a thread, and the last line without a newline; then the connection ends."""
    async with served(kind, tmp_path, eof_timeout=20.0) as (router, reader, writer):
        turnout.serve_handshake(router, name="s")
        go_on = asyncio.Event()

        @router.on_request("tools/call")
        async def call(request):
            await go_on.wait()
            request.progress(1)
            return {}

        @router.on_request("tools/list")
        def listed(_):
            return {"tools": []}

        writer.write(HELLO + request(1, "tools/list") + request(2, token="t").removesuffix(b"\n"))
        writer.write_eof()
        first = [await reader.readline(), await reader.readline()]
        assert sorted(ids(b"".join(first))) == [0, 1]
        [peer] = router.peers
        assert peer.is_open
        go_on.set()
        rest = await reader.read()
        assert ids(rest) == [None, 2]
        await peer.wait_lost()
        assert peer.error is None
        assert not router.peers


@pytest.mark.parametrize("eof_timeout", [0.05, 0.0])
@pytest.mark.parametrize("kind", ["unix", "tcp"])
@both_loops
async def test_l1_trs_12_what_takes_longer_is_cancelled(tmp_path, kind, eof_timeout):
    async with served(kind, tmp_path, eof_timeout=eof_timeout) as (router, reader, writer):
        ended = asyncio.get_running_loop().create_future()

        @router.on_request("tools/call")
        async def call(request):
            try:
                await asyncio.sleep(600)
            finally:
                ended.set_result(request.cancelled)

        writer.write(request(1))
        writer.write_eof()
        assert await ended
        assert await reader.read() == b""
        [record] = router.records
        assert (record.outcome, record.cancelled_by) == ("peer_closed", "disconnect")


@both_loops
async def test_l1_a_peer_that_is_gone_altogether_is_not_waited_for(tmp_path):
    """A Unix socket tells it from one that only writes no more."""
    async with served("unix", tmp_path, eof_timeout=600.0) as (router, _, writer):
        began, ended = asyncio.Event(), asyncio.Event()

        @router.on_request("tools/call")
        async def call(_):
            began.set()
            try:
                await asyncio.sleep(600)
            finally:
                ended.set()

        writer.write(request(1))
        await began.wait()
        writer.close()
        await ended.wait()


@pytest.mark.parametrize("kind", ["unix", "tcp"])
@both_loops
async def test_l1_nothing_is_asked_of_a_peer_that_writes_no_more(tmp_path, kind):
    """Its answers cannot come: what a handler asks ends, and the handler says so."""
    async with served(kind, tmp_path, eof_timeout=20.0) as (router, reader, writer):

        @router.on_request("tools/call")
        async def call(request):
            asked = request.peer.send("elicitation/create", {"message": "?"})
            with pytest.raises(turnout.PeerLost):
                await asked
            with pytest.raises(turnout.ConnectionClosed):
                await request.peer.send("elicitation/create", {"message": "?"})
            return {"asked": asked.record.outcome}

        writer.write(request(1))
        writer.write_eof()
        lines = (await reader.read()).splitlines()
        assert json.loads(lines[-1])["result"] == {"asked": "peer_closed"}


@pytest.mark.parametrize("kind", ["unix", "tcp"])
@both_loops
async def test_l1_a_listen_is_no_reason_to_wait(tmp_path, kind):
    async with served(kind, tmp_path, eof_timeout=600.0) as (router, reader, writer):
        turnout.serve_handshake(router, name="s")

        @router.on_request("subscriptions/listen")
        async def listen(request):
            await request.wait_cancelled()

        writer.write(LISTEN)
        writer.write_eof()
        assert await reader.read() == b""


@pytest.mark.parametrize("kind", ["unix", "tcp"])
@both_loops
async def test_l1_answers_that_do_not_fit_at_once_are_written(tmp_path, kind):
    async with served(kind, tmp_path, eof_timeout=20.0) as (router, reader, writer):

        @router.on_request("tools/call")
        async def call(_):
            return {"text": "x" * 300_000}

        writer.write(b"".join(request(number) for number in range(20)))
        writer.write_eof()
        await asyncio.sleep(0)
        assert sorted(ids(await reader.read())) == list(range(20))


@both_loops
async def test_l1_a_client_of_a_relay_is_answered_too(tmp_path):
    async with served("unix", tmp_path, eof_timeout=20.0) as (gateway, reader, writer):
        near, far = turnout.memory()
        async with turnout.Router() as servers:
            turnout.serve_handshake(servers, name="s")
            asked, go_on = asyncio.Event(), asyncio.Event()

            @servers.on_request("tools/call")
            async def call(_):
                asked.set()
                await go_on.wait()
                return {"from": "the server"}

            servers.spawn(servers.connect(far, era=None))
            relay = gateway.relay(turnout.Upstream(near, era="legacy"))
            await relay.start()
            while len(gateway.peers) < 2:
                await asyncio.sleep(0)
            [client] = [peer for peer in gateway.peers if peer.transport == "unix"]
            relay.attach(client)
            writer.write(HELLO + request(1))
            writer.write_eof()
            await asked.wait()
            go_on.set()
            answers = [json.loads(line) for line in (await reader.read()).splitlines()]
            assert [answer["result"] for answer in answers if answer["id"] == 1] == [{"from": "the server"}]
            assert len(answers) == 2


@pytest.mark.parametrize("value", [-1, float("nan"), "1"])
def test_l1_refused_timeouts(value):
    with pytest.raises((TypeError, ValueError), match="eof_timeout"):
        turnout.Router(eof_timeout=value)


# ---- standard streams ----

NATIVE = """
import asyncio, sys, time
import turnout
sys.path.insert(0, {here!r})
from loops import new_loop

async def main():
    async with turnout.Router(eof_timeout={eof_timeout}, close_timeout=0.2) as router:
        turnout.serve_handshake(router, name="s")

        @router.on_request("tools/call")
        {handler}

        peer = await router.connect(turnout.own_stdio(), era=None)
        await peer.wait_lost()

new_loop({kind!r}).run_until_complete(main())
"""

SDK = """
import asyncio, sys
import turnout
from mcp.server import MCPServer
from turnout.mcp import serve_stdio

server = MCPServer("s")

@server.tool()
async def slow() -> str:
    await asyncio.sleep(0.05)
    return "done"

asyncio.run(serve_stdio(server))
"""

ASYNC = "async def call(_):\n            await asyncio.sleep({0})\n            return {{}}"
THREAD = "def call(_):\n            time.sleep({0})\n            return {{}}"

CALL = request(1, "tools/call", {"name": "slow", "arguments": {}})


def answers_of(code, asked, timeout=30):
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=asked,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=timeout,
        check=False,
    )
    return done.returncode, ids(done.stdout), done.stderr.decode()


@pytest.mark.parametrize(
    ("seconds", "eof_timeout", "answered"),
    [(0.05, 20, [0, 1]), (600, 0.1, [0])],
    ids=["in time", "too late"],
)
@pytest.mark.parametrize("handler", [ASYNC, THREAD], ids=["async", "thread"])
def test_l1_l2_trs_12_a_server_answers_what_was_printed_into_it_and_exits(
    loop_kind, handler, seconds, eof_timeout, answered
):
    """A plain function cannot be stopped, and does not keep the process."""
    handler = handler.format(seconds)
    code = NATIVE.format(here=str(HERE), eof_timeout=eof_timeout, handler=handler, kind=loop_kind)
    assert answers_of(code, HELLO + CALL) == (0, answered, "")


def test_l1_printf_into_a_server_of_the_sdk_gets_its_answers():
    code, answered, errors = answers_of(SDK, HELLO + frame(method="notifications/initialized") + CALL)
    assert (code, answered) == (0, [0, 1]), errors


@both_loops
async def test_l1_a_link_hears_of_the_end_of_one_direction_and_closes(tmp_path):
    """What every transport of ours tells its link, in which order."""
    link = FakeLink()
    accepted = []
    listener = turnout.listen_unix(tmp_path / "s")
    await listener.start(lambda transport, _: accepted.append(transport) or link)
    reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
    writer.write(b"asked\n")
    writer.write_eof()
    await link.until(lambda: link.eofs)
    assert (link.lines, link.losses) == (["asked"], [])
    accepted[0].write(b"answered\n")
    await accepted[0].close()
    assert await reader.read() == b"answered\n"
    assert (link.eofs, link.losses) == (1, [(None, None)])
    writer.close()
    await writer.wait_closed()
    await listener.close()
