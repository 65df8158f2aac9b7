"""Answers that wait for progress to be read (E7), on real pipes and sockets whose other end reads when told to.

The clock is the test's: nothing leaves because time passed, unless the test says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import socket
import stat
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import sdk_server
import turnout
from delayed_answers import LONGEST, named
from loops import both_loops
from turnout import mcp
from turnout.transports.unread import UnreadBytes
from wire import cancelled, frame, request

# The package has a function of this name.
own_stdio_module = importlib.import_module("turnout.transports.own_stdio")

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

linux = pytest.mark.skipif(not hasattr(os, "eventfd"), reason="only Linux tells what was read")


class Reader:
    """A client that writes at once, and reads when it is told to."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        self.incoming = incoming
        self.outgoing = outgoing
        self.closed: set[int] = set()

    def be_done(self) -> None:
        """Write no more."""
        if self.incoming != self.outgoing:
            os.close(self.outgoing)
            self.closed.add(self.outgoing)
        if stat.S_ISSOCK(os.fstat(self.incoming).st_mode):
            with socket.socket(fileno=os.dup(self.incoming)) as both:
                both.shutdown(socket.SHUT_WR)

    async def read_to_end(self) -> list[str]:
        read: list[str] = []
        while "EOF" not in read:
            read += self.read()
            await asyncio.sleep(0)
        return read

    def write(self, *frames: bytes) -> None:
        os.write(self.outgoing, b"".join(frames))

    def read(self) -> list[str]:
        """All there is, named as in `named`; `EOF` behind it where the channel ended."""
        os.set_blocking(self.incoming, False)
        data = b""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self.incoming, 1 << 20):
                data += chunk
            return [*map(named, map(json.loads, data.splitlines())), "EOF"]
        return [*map(named, map(json.loads, data.splitlines()))]


class Streams:
    """Stands for the standard streams of a process."""

    def __init__(self, stdin: int, stdout: int) -> None:
        self.stdin, self.stdout = stdin, stdout

    def restore(self) -> None:
        os.close(self.stdin)


class Stdio:
    """The target `own_stdio()`, on other descriptors than 0 and 1."""

    kind = "stdio"
    name = "client"

    def __init__(self, stdin: int, stdout: int) -> None:
        self.streams: Any = Streams(stdin, stdout)

    async def open(self, link: Any) -> own_stdio_module.OwnStdioTransport:
        own_stdio_module._in_use.acquire(blocking=False)
        return own_stdio_module.OwnStdioTransport(asyncio.get_running_loop(), link, self.streams, 1)


def descriptors(kind: str) -> tuple[int, int, int, int]:
    """Ours to read and to write, and the client's."""
    if kind == "pipe":
        (ours, theirs), (read, write) = os.pipe(), os.pipe()
        for fd in (ours, write):
            os.set_blocking(fd, False)
        return ours, write, read, theirs
    ours_socket, theirs_socket = socket.socketpair()
    ours_socket.setblocking(False)
    ours, theirs = ours_socket.detach(), theirs_socket.detach()
    return ours, os.dup(ours), theirs, os.dup(theirs)


class World:
    """A router that serves one client which reads when it is told to.

    Args:
        kind: `"unix"` for a listener, `"pipe"` and `"socket"` for the standard streams of a process.

    """

    def __init__(self, router: turnout.Router, clock: turnout.Clock, client: Reader, peer: Any) -> None:
        self.router, self.clock, self.client, self.peer = router, clock, client, peer

    async def until(self, condition: Any) -> None:
        for _ in range(10_000):
            if condition():
                return
            await asyncio.sleep(0)
        raise AssertionError("it never came")

    async def call(self, id: int = 1) -> None:
        """Call a tool, and wait until it was answered as far as the core knows."""
        handled = self.peer.counters()["requests_in"]
        self.client.write(request(id, token=id))
        await self.until(
            lambda: self.peer.counters()["requests_in"] > handled and self.peer.in_flight == (0, 0)
        )
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def look(self, seconds: float = 0.001) -> None:
        """Let the loop's timer fire."""
        self.clock.advance(seconds)
        self.peer.connection.expire()
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def served(kind: str, path: Any, **options: Any) -> AsyncIterator[World]:
    clock = turnout.Clock(manual=True)
    async with turnout.Router(clock=clock, close_timeout=1, **options) as router:

        @router.on_request("tools/call")
        async def call(request: turnout.Request) -> dict[str, Any]:
            request.progress(1)
            await asyncio.sleep(0)
            return {}

        if kind == "unix":
            came: asyncio.Future[turnout.Peer] = asyncio.get_running_loop().create_future()
            await router.serve(turnout.listen_unix(path / "socket"), came.set_result)
            theirs = socket.socket(socket.AF_UNIX)
            theirs.connect(str(path / "socket"))
            client = Reader(fd := theirs.detach(), fd)
            peer = await came
        else:
            stdin, stdout, incoming, outgoing = descriptors(kind)
            client = Reader(incoming, outgoing)
            peer = router.accept(turnout.Peer, Stdio(stdin, stdout), "client")  # type: ignore[arg-type]
            peer.link.use(await Stdio(stdin, stdout).open(peer.link))
        try:
            yield World(router, clock, client, peer)
        finally:
            for fd in {client.incoming, client.outgoing} - client.closed:
                os.close(fd)


kinds = pytest.mark.parametrize("kind", ["unix", "pipe", "socket"])


@linux
@kinds
@both_loops
async def test_e7_an_answer_stays_until_the_client_reads_its_progress(tmp_path, kind):
    async with served(kind, tmp_path) as world:
        await world.call()
        for _ in range(10):
            await world.look()
        assert world.client.read() == ["P1"]
        await world.look()
        assert world.client.read() == ["A1"]


@linux
@kinds
@both_loops
async def test_e7_a_client_that_does_not_read_is_waited_for_20_ms(tmp_path, kind):
    async with served(kind, tmp_path) as world:
        await world.call()
        await world.look(LONGEST - 0.001)
        assert world.peer.connection.pending_bytes > 0
        await world.look()
        assert world.peer.connection.pending_bytes == 0
        assert world.client.read() == ["P1", "A1"]


@linux
@kinds
@both_loops
async def test_e7_half_of_the_progress_is_not_all_of_it(tmp_path, kind):
    async with served(kind, tmp_path) as world:
        await world.call()
        first = os.read(world.client.incoming, 10)
        await world.look()
        assert world.peer.connection.pending_bytes > 0
        rest = os.read(world.client.incoming, 1 << 16)
        assert named(json.loads(first + rest)) == "P1"
        await world.look()
        assert world.client.read() == ["A1"]


@linux
@kinds
@both_loops
async def test_e7_others_are_answered_meanwhile_and_a_cancel_is_late(tmp_path, kind):
    async with served(kind, tmp_path) as world:
        await world.call()
        world.client.write(frame(id=2, method="ping"), request(3, "nothing"))
        await world.until(lambda: world.peer.counters()["requests_in"] == 2)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert world.client.read() == ["P1", "A2", "A3"]
        world.client.write(cancelled(1))
        await world.until(lambda: world.peer.counters()["cancels_too_late"] == 1)
        assert world.client.read() == ["A1"]


@linux
@kinds
@pytest.mark.parametrize("end", ["close", "drain", "router"])
@both_loops
async def test_e7_nothing_is_lost_when_we_end(tmp_path, kind, end):
    async with served(kind, tmp_path) as world:
        await world.call()
        assert world.peer.connection.pending_bytes > 0
        if end == "drain":
            await world.peer.drain(0)
            await asyncio.sleep(0)
            assert world.client.read() == ["P1", "A1"]
            return
        closing = asyncio.ensure_future(world.peer.close() if end == "close" else world.router.close())
        assert await world.client.read_to_end() == ["P1", "A1", "EOF"]
        world.client.be_done()
        await closing


@linux
@kinds
@both_loops
async def test_e7_nothing_is_lost_when_the_client_is_done_asking(tmp_path, kind):
    async with served(kind, tmp_path) as world:
        await world.call()
        assert world.peer.connection.pending_bytes > 0
        world.client.be_done()
        await world.peer.wait_lost()
        assert await world.client.read_to_end() == ["P1", "A1", "EOF"]


@linux
@both_loops
async def test_e7_nothing_waits_where_the_router_says_so(tmp_path):
    async with served("unix", tmp_path, delay_answers=False) as world:
        await world.call()
        assert world.client.read() == ["P1", "A1"]


@both_loops
async def test_e7_over_tcp_an_answer_waits_5_ms():
    clock = turnout.Clock(manual=True)
    async with turnout.Router(clock=clock) as router:

        @router.on_request("tools/call")
        async def call(request: turnout.Request) -> dict[str, Any]:
            request.progress(1)
            return {}

        listener = turnout.listen_tcp("127.0.0.1", 0)
        came: asyncio.Future[turnout.Peer] = asyncio.get_running_loop().create_future()
        await router.serve(listener, came.set_result)
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        peer = await came
        writer.write(request(1, token=1))
        assert named(json.loads(await reader.readline())) == "P1"
        clock.advance(0.0049)
        peer.connection.expire()
        await asyncio.sleep(0)
        assert peer.connection.pending_bytes > 0
        clock.advance(0.0002)
        peer.connection.expire()
        assert named(json.loads(await reader.readline())) == "A1"
        writer.close()


@both_loops
async def test_e7_in_memory_nothing_waits():
    clock = turnout.Clock(manual=True)
    async with turnout.Router(clock=clock) as router:

        @router.on_request("tools/call")
        async def call(request: turnout.Request) -> dict[str, Any]:
            request.progress(1)
            return {}

        here, there = turnout.memory()
        server = await router.connect(there, era=None)
        server.set_rules("2025-11-25", "server")
        client = await router.connect(here, era=None)
        sent = client.send("tools/call", {})
        assert await sent == {}
        assert sent.record.progress is not None
        assert server.counters()["answers_delayed"] == 0


# ---- what the system tells ----


@linux
@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_e7_the_system_tells_what_was_not_read(kind):
    stdin, stdout, incoming, outgoing = descriptors(kind)
    unread = UnreadBytes(stdout)
    assert unread.count() == 0
    os.write(stdout, b"x" * 100)
    os.write(stdout, b"y" * 50)
    before = unread.count()
    assert before is not None
    assert before >= 150
    os.read(incoming, 100)
    left = unread.count()
    assert left is not None
    assert 50 <= left <= before
    os.read(incoming, 50)
    assert unread.count() == 0
    for fd in {stdin, stdout, incoming, outgoing}:
        os.close(fd)
    assert unread.count() is None


def test_e7_what_has_no_reader_is_not_waited_for_and_tcp_cannot_be_told(tmp_path):
    with (tmp_path / "file").open("wb", buffering=0) as file:
        file.write(b"x")
        assert UnreadBytes(file.fileno()).count() == 0
    with open(os.devnull, "wb", buffering=0) as nothing:
        assert UnreadBytes(nothing.fileno()).count() == 0
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as tcp,
    ):
        assert UnreadBytes(tcp.fileno()).count() is None


# ---- the other ways to a client ----


def legacy(id: int) -> bytes:
    info = {"name": "client", "version": "1"}
    params = {"protocolVersion": "2025-11-25", "capabilities": {"sampling": {}}, "clientInfo": info}
    return frame(id=id, method="initialize", params=params)


INITIALIZED = frame(method="notifications/initialized")


@contextlib.asynccontextmanager
async def connected(path: Any) -> AsyncIterator[Reader]:
    with socket.socket(socket.AF_UNIX) as theirs:
        theirs.connect(str(path))
        yield Reader(theirs.fileno(), theirs.fileno())


async def comes(client: Reader, *expected: str) -> None:
    """Read until all of that came, each read on its own."""
    read: list[str] = []
    while len(read) < len(expected):
        read += client.read()
        await asyncio.sleep(0.001)
    assert read == [*expected]


@linux
def test_e7_a_server_of_the_sdks_waits_likewise(on_loop, tmp_path):
    pytest.importorskip("mcp")

    async def main():
        clock = turnout.Clock(manual=True)
        router = turnout.Router(clock=clock, timeout=None, max_timeout=None)
        async with router, anyio.create_task_group() as tasks:
            await tasks.start(
                lambda *, task_status: mcp.serve_unix(
                    sdk_server.make(), tmp_path / "s", router=router, task_status=task_status
                )
            )
            async with connected(tmp_path / "s") as client:
                client.write(legacy(1))
                await comes(client, "A1")
                client.write(
                    INITIALIZED, request(2, params={"name": "count", "arguments": {"to": 3}}, token=2)
                )
                [peer] = router.peers
                while peer.counters()["answers_delayed"] == 0:
                    await asyncio.sleep(0.001)
                clock.advance(0.001)
                peer.connection.expire()
                await asyncio.sleep(0.001)
                assert "A2" not in (read := client.read())
                assert "P2" in read
                clock.advance(0.001)
                peer.connection.expire()
                await comes(client, "A2")
            tasks.cancel_scope.cancel()

    on_loop(main())


@linux
@both_loops
async def test_e7_a_relay_waits_towards_its_clients_and_not_towards_its_servers(tmp_path):
    clock = turnout.Clock(manual=True)
    async with turnout.Router() as servers, turnout.Router(clock=clock) as router:
        turnout.serve_handshake(servers, name="server")

        @servers.on_request("tools/call")
        async def call(request: turnout.Request) -> Any:
            request.progress(1)
            asked = request.peer.send("sampling/createMessage", {})
            answer = await asked
            request.progress(2)
            assert asked.record.progress is not None
            return answer

        await servers.serve(turnout.listen_unix(tmp_path / "server"))
        relay = router.relay(
            turnout.Upstream(turnout.unix(tmp_path / "server"), era="legacy", sharing="per_client")
        )
        await router.serve(turnout.listen_unix(tmp_path / "relay"), relay.attach)
        async with connected(tmp_path / "relay") as client:
            client.write(legacy(1))
            await comes(client, "A1")
            client.write(INITIALIZED, request(2, token=2))
            while not (read := client.read()) or "sampling/createMessage" not in read:
                await asyncio.sleep(0.001)
            [peer] = relay.clients
            [upstream] = [each for each in router.peers if each is not peer]
            token = frame(method="notifications/progress", params={"progressToken": 1, "progress": 1})
            client.write(token, frame(id=1, result={"answer": True}))
            while peer.counters()["answers_delayed"] == 0:
                await asyncio.sleep(0.001)
            assert upstream.counters()["answers_delayed"] == 0
            assert upstream.counters()["progress_out"] == 1
            assert client.read() == ["P2"]
            clock.advance(0.001)
            peer.connection.expire()
            await comes(client, "A2")
