"""Each transport under the real peer and its native read buffer: round trips, size, flow, the ways to end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

import pytest

import turnout
from loops import both_loops

SERVER = """
import asyncio, os, sys
import turnout

async def main():
    async with turnout.Router(close_timeout=0.1) as router:
        @router.on_request("echo")
        async def echo(request):
            return request.params

        @router.on_request("report")
        async def report(request):
            for step in range(1, request.params["steps"] + 1):
                request.progress(step, total=request.params["steps"], message="m" * 100)
                await asyncio.sleep(0)
            return "reported"

        @router.on_request("ignore")
        async def ignore(request):
            request.progress(1)
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                await asyncio.sleep(600)

        @router.on_request("die")
        async def die(request):
            print("dying", flush=True)
            os._exit(request.params["code"])

        client = await router.connect(turnout.own_stdio(), era=None)
        await client.wait_lost()

if {uvloop}:
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""


def stdio_server(loop_kind, **options):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    code = SERVER.format(uvloop=loop_kind == "uvloop")
    return turnout.stdio(sys.executable, "-c", code, env=environment, **options)


@contextlib.asynccontextmanager
async def connected(kind, loop_kind, tmp_path):
    """A router, and a peer behind a transport of that kind that echoes."""
    async with turnout.Router(timeout=20) as router:
        if kind == "stdio":
            yield router, await router.connect(stdio_server(loop_kind), era=None)
            return
        async with turnout.Router() as there:

            @there.on_request("echo")
            async def echo(request):
                return request.params

            @there.on_request("report")
            async def report(request):
                for step in range(1, request.params["steps"] + 1):
                    request.progress(step, total=request.params["steps"], message="m" * 100)
                    await asyncio.sleep(0)
                return "reported"

            if kind == "memory":
                left, right = turnout.memory()
                await there.connect(right, era=None)
                target = left
            elif kind == "unix":
                await there.serve(turnout.listen_unix(tmp_path / "s"))
                target = turnout.unix(tmp_path / "s")
            else:
                listener = turnout.listen_tcp("127.0.0.1", 0)
                await there.serve(listener)
                target = turnout.tcp("127.0.0.1", listener.port)
            yield router, await router.connect(target, era=None)


@pytest.fixture(params=["stdio", "unix", "tcp", "memory"])
def kind(request):
    return request.param


@both_loops
async def test_trm_23_many_round_trips(loop_kind, kind, tmp_path):
    """Every answer belongs to its request, and the records name the transport."""
    async with connected(kind, loop_kind, tmp_path) as (router, peer):
        calls = [peer.send("echo", {"n": n, "pad": "x" * (n % 97)}) for n in range(2000)]
        for n, call in enumerate(calls):
            assert (await call)["n"] == n
        assert {record.transport for record in router.records} == {kind}


@both_loops
async def test_large_frames(loop_kind, kind, tmp_path):
    """A frame far larger than any pipe, socket or read, both ways, among small ones."""
    async with connected(kind, loop_kind, tmp_path) as (_, peer):
        big = "ä" * 2_500_000
        calls = [peer.send("echo", {"text": text}) for text in ("a", big, "b", big, "c")]
        texts = [(await call)["text"] for call in calls]
        assert texts == ["a", big, "b", big, "c"]


@both_loops
async def test_trm_23_x_06_progress_in_order_and_before_the_result(loop_kind, kind, tmp_path):
    async with connected(kind, loop_kind, tmp_path) as (_, peer):
        call = peer.send("report", {"steps": 300})
        seen = [update.progress async for update in call.progress()]
        assert await call == "reported"
        assert seen == sorted(set(seen))
        assert seen[-1] == 300


@both_loops
async def test_trm_23_closing_ends_what_is_in_flight_once(loop_kind, kind, tmp_path):
    async with connected(kind, loop_kind, tmp_path) as (_, peer):
        call = peer.send("no-such-method-answers-later-than-this", {})
        await peer.close()
        with pytest.raises((turnout.PeerLost, turnout.RemoteError)):
            await call
        assert not peer.is_open
        with pytest.raises(turnout.ConnectionClosed):
            peer.send("echo", {})


@both_loops
async def test_trs_14_a_crash_ends_every_call_once_with_the_exit_code(loop_kind):
    """TRS_14: each pending request ends once with cause `peer_exited`, exit code attached."""
    lines: list[str] = []
    async with turnout.Router() as router:
        peer = await router.connect(stdio_server(loop_kind, stderr=lines.append), era=None)
        calls = [peer.send("die", {"code": 41}), peer.send("echo", {}), peer.send("echo", {})]
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(done[0], turnout.PeerLost)
        assert done[0].exit_code == 41
        assert calls[0].record.outcome == "peer_exited"
        assert calls[0].record.exit_code == 41
        # The print went to stderr, not between the frames.
        assert lines == ["dying"]


@both_loops
async def test_a_server_that_speaks_first(tmp_path):
    """Bytes may reach the peer before `open` returned; what they ask for is answered all the same."""
    async with turnout.Router(timeout=20) as there, turnout.Router(timeout=20) as here:
        asked: asyncio.Queue[turnout.Call] = asyncio.Queue()
        await there.serve(
            turnout.listen_unix(tmp_path / "s"),
            lambda peer: asked.put_nowait(peer.send("roots/list", {})),
        )

        @here.on_request("roots/list")
        async def roots(request):
            return {"roots": []}

        for _ in range(20):
            await here.connect(turnout.unix(tmp_path / "s"), era=None)
            call = await asked.get()
            assert await call == {"roots": []}


@both_loops
async def test_trs_12_the_end_of_stdin_ends_a_server(loop_kind):
    """TRS_12: our own stdio at its end lets a server finish."""
    async with turnout.Router() as router:
        target = stdio_server(loop_kind, close_timeout=20)
        peer = await router.connect(target, era=None)
        assert (await peer.send("echo", {"a": 1}))["a"] == 1
        transport = peer.link.transport
        await peer.close()
        assert transport._process.exited.result() == 0


@both_loops
async def test_trs_12_a_handler_that_ignores_its_cancel_does_not_keep_a_server(loop_kind):
    """TRS_12: bounded, though a handler works on."""
    async with turnout.Router() as router:
        peer = await router.connect(stdio_server(loop_kind, close_timeout=20), era=None)
        stuck = peer.send("ignore")
        async for _ in stuck.progress():
            break
        transport = peer.link.transport
        await peer.close()
        assert transport._process.exited.result() == 0
        assert stuck.record.outcome == "closed"


@both_loops
async def test_trs_10_what_is_in_flight_when_we_close_ends_by_us(loop_kind):
    """TRS_10: not by the exit of the server that follows from it."""
    async with turnout.Router() as router:
        peer = await router.connect(stdio_server(loop_kind), era=None)
        calls = [peer.send("ignore") for _ in range(3)]
        async for _ in calls[-1].progress():
            break
        await peer.close()
        assert {call.record.outcome for call in calls} == {"closed"}


@pytest.mark.parametrize("binding", ["unix", "tcp"])
@both_loops
async def test_trm_25_sockets_carry_one_message_a_line_as_stdio_does(binding, tmp_path):
    async with turnout.Router() as router:

        @router.on_request("echo")
        async def echo(request):
            return request.params

        if binding == "unix":
            await router.serve(turnout.listen_unix(tmp_path / "s"))
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
        else:
            listener = turnout.listen_tcp("127.0.0.1", 0)
            await router.serve(listener)
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(
            b'{"jsonrpc":"2.0","id":1,"method":"echo","params":{"a":"1\\n2"}}\n'
            b'{"jsonrpc":"2.0","id":2,"method":"echo"}\n'
        )
        lines = {await reader.readline(), await reader.readline()}
        assert lines == {
            b'{"jsonrpc":"2.0","id":1,"result":{"a":"1\\n2"}}\n',
            b'{"jsonrpc":"2.0","id":2,"result":null}\n',
        }
        writer.close()


EAGER = """
import asyncio, sys
import turnout

async def main():
    async with turnout.Router() as router:
        turnout.serve_handshake(router, name="eager")
        client = await router.connect(turnout.own_stdio(), era=None)
        try:
            client.send("roots/list")
        except turnout.NotAllowed:
            print("held", flush=True)
        opened = asyncio.Event()
        client.on_notification("notifications/initialized")(lambda _: opened.set())
        await opened.wait()
        client.send("roots/list")
        await client.wait_lost()

asyncio.run(main())
"""


@pytest.mark.parametrize("binding", ["stdio", "unix"])
@both_loops
async def test_png_14_a_server_holds_its_requests_back_until_it_was_opened(binding, tmp_path):
    async with turnout.Router() as here, turnout.Router() as there:
        asked, said = asyncio.Event(), []

        @here.on_request("roots/list")
        async def roots(request):
            asked.set()
            return {"roots": []}

        if binding == "stdio":
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
            target = turnout.stdio(sys.executable, "-c", EAGER, env=environment, stderr=said.append)
        else:
            turnout.serve_handshake(there, name="eager")

            def accepted(peer):
                try:
                    peer.send("roots/list")
                except turnout.NotAllowed:
                    said.append("held")
                peer.on_notification("notifications/initialized")(lambda _: peer.send("roots/list"))

            await there.serve(turnout.listen_unix(tmp_path / "s"), accepted)
            target = turnout.unix(tmp_path / "s")
        peer = await here.connect(target, era="legacy")
        await asked.wait()
        assert said == ["held"]
        assert peer.is_open
