"""Callbacks that raise where requests and connections end: at deadlines, at the end of a channel, at its start (S4)."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

import turnout
from raising import EXCEPTIONS, EXITS, Bang, run
from transport_link import pair
from turnout.transports.stderr import StderrLines

pytestmark = [
    pytest.mark.parametrize("raised", EXCEPTIONS, ids=lambda kind: kind.__name__),
]


def check(bang, told, exits, *, reported=True):
    """One exit ends the loop once; everything else is told once."""
    if issubclass(type(bang.error), EXITS):
        assert (exits, told.count(bang.error)) == ([bang.error], 0)
    else:
        assert (exits, told.count(bang.error)) == ([], int(reported))


@pytest.mark.parametrize("end", ["timeout", "cancel", "peer", "abort", "close"])
def test_s4_every_call_ends_whatever_the_callback_of_one_raises(loop_kind, raised, end):
    bang = Bang(raised)

    async def main():
        async with turnout.Router() as router:
            client, server = await pair(router)

            @server.on_request("wait")
            async def wait(request):
                await request.wait_cancelled()

            seconds = 0.01 if end == "timeout" else None
            scope = turnout.Scope()
            calls = [client.send("wait", timeout=seconds, scope=scope) for _ in range(5)]
            for call in calls:
                call.add_done_callback(bang)
            while server.in_flight[1] < 5:
                await asyncio.sleep(0)
            if end == "cancel":
                assert scope.cancel() == 5
            elif end == "peer":
                await server.close()
            elif end == "abort":
                client.abort()
            elif end == "close":
                await client.close()
            for call in calls:
                with pytest.raises(turnout.Error):
                    await call
            while any((*client.in_flight, *server.in_flight)):
                await asyncio.sleep(0)
        assert router.peers == ()

    _, told, exits = run(loop_kind, main())
    assert bang.calls == 5
    check(bang, told, exits)


def test_s4_a_connection_that_is_refused_by_raising_is_the_only_one(tmp_path, loop_kind, raised):
    bang = Bang(raised)
    path = str(tmp_path / "s")

    async def main():
        async with turnout.Router() as server, turnout.Router() as clients:

            @server.on_request("echo")
            async def echo(request):
                return request.params

            await server.serve(turnout.listen_unix(path), bang)
            refused = await clients.connect(turnout.unix(path), era=None)
            await refused.wait_lost()
            client = await clients.connect(turnout.unix(path), era=None)
            assert await client.send("echo", [1]) == [1]
            assert len(server.peers) == 1

    _, told, exits = run(loop_kind, main())
    assert bang.calls == 2
    check(bang, told, exits, reported=False)


def test_s4_a_line_of_stderr_whose_sink_raises_is_the_only_one(loop_kind, raised):
    bang = Bang(raised)
    lines = []

    def sink(line):
        lines.append(line)
        bang()

    async def main():
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        read = StderrLines(asyncio.get_running_loop(), reader, sink, 100)
        os.write(writer, b"one\ntwo\nthree\n")
        while len(lines) < 3:
            await asyncio.sleep(0)
        os.close(writer)
        read.close()

    _, told, exits = run(loop_kind, main())
    assert lines == ["one", "two", "three"]
    check(bang, told, exits)


def test_s4_a_transport_that_fails_to_write_ends_its_connection_and_what_is_in_flight_on_it(
    loop_kind, raised
):
    bang = Bang(raised)

    async def main():
        async with turnout.Router() as router:
            client, server = await pair(router)
            serves = asyncio.Event()

            @server.on_request("wait")
            async def wait(request):
                serves.set()
                await request.wait_cancelled()

            call = client.send("wait")
            await serves.wait()
            client.link.transport.write = bang
            client.connection.attach(asyncio.get_running_loop(), bang)
            lost = client.send("lost")
            for ended in (call, lost):
                with pytest.raises(turnout.PeerLost):
                    await ended
            assert client.error is bang.error
            await server.wait_lost()
            while any((*client.in_flight, *server.in_flight)):
                await asyncio.sleep(0)

    _, told, exits = run(loop_kind, main())
    assert bang.calls == 1
    check(bang, told, exits)


SERVER = """
import sys
line = sys.stdin.readline()
sys.stdout.write('{"jsonrpc":"2.0","method":"n"}\\n{"jsonrpc":"2.0","id":1,"result":{}}\\n')
sys.stdout.flush()
sys.stdin.readline()
"""


def test_s4_a_child_process_is_read_on(loop_kind, raised):
    bang = Bang(raised)

    async def main():
        async with turnout.Router() as router:
            peer = await router.connect(turnout.stdio(sys.executable, "-c", SERVER), era=None)
            peer.on_notification("n")(bang)
            assert await peer.send("ask") == {}
            assert peer.is_open

    _, told, exits = run(loop_kind, main())
    check(bang, told, exits)
