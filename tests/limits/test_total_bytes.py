"""S6: what all connections of a process hold together, and how long a peer may hold up a connection."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

import turnout
from limit_sides import sides
from loops import both_loops
from relay_world import World
from turnout.machine_memory import default_bytes, machine_bytes
from wire import frame, notification, request

MEGABYTE = 1 << 20

INITIALIZE = frame(
    id=0,
    method="initialize",
    params={"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}},
)


@pytest.fixture(autouse=True)
def _default_at_the_end():
    yield
    turnout.Router(limits={"max_total_bytes": default_bytes()})


def set_total(most):
    turnout.Router(limits={"max_total_bytes": most})


def evicted():
    return turnout.memory_usage()["evicted"]


class Hostile:
    """A router that listens, and peers that speak as they like."""

    def __init__(self, path, **options):
        self.path = path / "s"
        self.server = turnout.Router(**options)
        self.writers = []
        self.release = asyncio.Event()
        self.server.on_request("much")(self.much)
        self.server.on_request("held")(self.held)
        self.server.on_request("echo")(self.echo)

    async def much(self, request):
        return {"text": "x" * request.params["size"]}

    async def held(self, request):
        await self.release.wait()
        return {"size": len(request.params["text"])}

    async def echo(self, request):
        return request.params

    async def __aenter__(self):
        await self.server.serve(turnout.listen_unix(self.path))
        return self

    async def __aexit__(self, *_):
        self.release.set()
        for writer in self.writers:
            writer.transport.abort()
        await self.server.close()

    async def peer(self):
        """One more: what it reads, what it writes, and the server's side of it."""
        before = set(self.server.peers)
        reader, writer = await asyncio.open_unix_connection(self.path)
        self.writers.append(writer)
        await self.until(lambda: len(self.server.peers) > len(before))
        [peer] = set(self.server.peers) - before
        return reader, writer, peer

    async def ask(self, reader, writer, text="hello"):
        writer.write(request(7, "echo", {"text": text}))
        return json.loads(await reader.readline())["result"]["text"] == text

    async def hold(self, writer, peer):
        """Let a handler have a megabyte of params until the release."""
        writer.write(request(1, "held", {"text": "x" * MEGABYTE}))
        await self.until(lambda: peer.in_flight[1] == 1)

    async def until(self, condition):
        while not condition():
            await asyncio.sleep(0)


@sides
@both_loops
async def test_s6_max_total_bytes_below_at_and_above(over, tmp_path, caplog):
    async with Hostile(tmp_path) as world:
        before = evicted()
        reader, writer, peer = await world.peer()
        await world.hold(writer, peer)
        assert peer.held_bytes >= MEGABYTE
        set_total(turnout.memory_usage()["held_bytes"] - over)
        if over < 0:
            await world.until(lambda: turnout.memory_usage()["paused"] == 1)
            world.release.set()
            assert json.loads(await reader.readline())["result"] == {"size": MEGABYTE}
            assert evicted() == before
            return
        assert await reader.read() == b""
        await peer.wait_lost()
        [record] = world.server.ledger.records()
        assert (record.outcome, record.cancelled_by) == ("evicted", "overflow")
        assert record.cancel_reason == "max_total_bytes is reached"
        assert peer.error.limit == "max_total_bytes"
        assert evicted() == before + 1
        [said] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert "max_total_bytes" in said
        assert world.server.records.counts["evicted"] == 1


@both_loops
async def test_s6_what_is_held_is_charged_and_given_back(tmp_path):
    async with Hostile(tmp_path) as world:
        reader, writer, peer = await world.peer()
        assert await world.ask(reader, writer)
        assert peer.held_bytes < 16 << 10
        # Params that a handler has.
        writer.write(request(1, "held", {"text": "x" * MEGABYTE}))
        await world.until(lambda: peer.held_bytes >= MEGABYTE)
        # A frame without its end.
        writer.write(b'"' + b"x" * MEGABYTE)
        await world.until(lambda: peer.held_bytes >= 2 * MEGABYTE)
        # Answers that are not read.
        writer.write(b'"\n' + request(2, "much", {"size": 8 * MEGABYTE}))
        await world.until(lambda: peer.held_bytes >= 8 * MEGABYTE)
        world.release.set()
        await lines(reader, 2)
        assert await world.ask(reader, writer)
        assert peer.held_bytes < 1 << 16
        # Whatever is left goes with the connection.
        writer.write(request(3, "much", {"size": 8 * MEGABYTE}))
        await world.until(lambda: peer.held_bytes >= 6 * MEGABYTE)
        writer.transport.abort()
        await peer.wait_lost()
        assert peer.held_bytes < 1 << 16


async def lines(reader, count):
    """So many lines of any length, and nothing behind them."""
    read = b""
    while read.count(b"\n") < count:
        read += await reader.read(MEGABYTE)
    assert read.count(b"\n") == count
    return read


async def feed(peer, data):
    """Let the server read these bytes, all of them now."""
    asyncio.get_running_loop().call_soon(peer.link.feed, data)
    await asyncio.sleep(0)
    await asyncio.sleep(0)


@both_loops
async def test_s6_at_three_quarters_nobody_is_accepted_and_the_largest_is_not_read_from(tmp_path):
    async with Hostile(tmp_path) as world:
        large, small = await world.peer(), await world.peer()
        await world.hold(large[1], large[2])
        set_total(turnout.memory_usage()["held_bytes"] * 5 // 4)
        await world.until(lambda: large[2].link._is_paused)
        assert turnout.memory_usage()["paused"] == 1
        # Who holds little is served, who holds most is not read from, and who comes is turned away.
        large[1].write(request(2, "echo", {"text": "x"}))
        assert await world.ask(*small[:2])
        assert large[2].in_flight == (0, 1)
        reader, writer = await asyncio.open_unix_connection(world.path)
        assert await reader.read() == b""
        writer.close()
        assert world.server.refused_peers == 1
        # What is over makes room: all go on.
        world.release.set()
        answers = {json.loads(await large[0].readline())["id"] for _ in range(2)}
        assert answers == {1, 2}
        assert turnout.memory_usage()["paused"] == 0
        assert await world.ask(*(await world.peer())[:2])


@sides
@both_loops
async def test_s6_max_paused_ms_below_at_and_above(over, tmp_path):
    clock = turnout.Clock(manual=True)
    async with Hostile(tmp_path, clock=clock, limits={"max_paused_ms": 1000}) as world:
        before = evicted()
        _, writer, peer = await world.peer()
        await world.hold(writer, peer)
        set_total(turnout.memory_usage()["held_bytes"] * 5 // 4)
        await world.until(lambda: peer.link._is_paused)
        clock.advance(1 + over / 1000)
        peer.connection.expire()
        assert evicted() == before + (over >= 0)
        if over >= 0:
            await peer.wait_lost()


@both_loops
async def test_s6_many_who_each_stay_below_their_own_bounds_stay_below_that_of_all(tmp_path):
    async with Hostile(tmp_path) as world:
        victim = await world.peer()
        peers = [await world.peer() for _ in range(16)]
        total = 4 * MEGABYTE
        set_total(total)
        most = 0
        for _ in range(20):
            for _, writer, peer in peers:
                if peer.is_open:
                    writer.write(b"x" * (64 << 10))
            assert await world.ask(*victim[:2])
            most = max(most, turnout.memory_usage()["held_bytes"])
        await world.until(lambda: turnout.memory_usage()["held_bytes"] < total)
        assert most < 2 * total
        assert victim[2].is_open
        assert sum(not peer.is_open for _, _, peer in peers) > 0


@both_loops
async def test_s6_a_peer_that_never_reads_ends_alone(tmp_path):
    async with Hostile(tmp_path) as world:
        victim, hostile = await world.peer(), await world.peer()
        hostile[0]._transport.pause_reading()
        set_total(8 * MEGABYTE)
        with contextlib.suppress(ConnectionError):
            for n in range(100):
                hostile[1].write(request(n, "much", {"size": MEGABYTE}))
                assert await world.ask(*victim[:2])
                assert turnout.memory_usage()["held_bytes"] < 16 * MEGABYTE
                if not hostile[2].is_open:
                    break
        await hostile[2].wait_lost()
        assert hostile[2].error.limit == "max_total_bytes"
        assert hostile[2].held_bytes < 1 << 16
        assert await world.ask(*victim[:2])


@both_loops
async def test_s6_who_lets_requests_wait_is_charged_for_them_and_not_who_they_wait_for():
    async with World() as world:
        world.build()
        victim, hostile = await world.client(), await world.client()
        assert (await victim.send("tools/call", {"name": "x", "arguments": {"who": "v"}}))["who"] == "v"
        assert (await hostile.send("tools/call", {"name": "x", "arguments": {"who": "h"}}))["who"] == "h"
        [upstream] = world.upstream_peers()
        upstream.link.pause_writing()
        set_total(turnout.memory_usage()["held_bytes"] + 6 * MEGABYTE)
        waiting = victim.send("tools/call", {"name": "x", "arguments": {"who": "v"}})
        await world.until(lambda: world.relay.in_flight == 1)
        [mine] = [peer for peer in world.relay.clients if peer.in_flight[1]]
        [theirs] = [peer for peer in world.relay.clients if peer is not mine]
        pad = "x" * (MEGABYTE // 4)
        calls = []
        while theirs.is_open and len(calls) < 40:
            # The hostile side's own bytes count, too: what it has not sent is not the relay's.
            calls.append(hostile.send("tools/call", {"name": "x", "arguments": {"pad": pad}}))
            await world.until(lambda: not hostile.connection.pending_bytes or not theirs.is_open)
            for _ in range(5):
                await asyncio.sleep(0)
        assert not theirs.is_open
        assert mine.is_open
        assert upstream.is_open
        upstream.link.resume_writing()
        assert (await waiting)["who"] == "v"


@sides
@both_loops
async def test_s6_max_opening_ms_below_at_and_above(over, tmp_path):
    clock = turnout.Clock(manual=True)
    async with Hostile(tmp_path, clock=clock, limits={"max_opening_ms": 1000}) as world:
        turnout.serve_handshake(world.server, name="x")
        silent, half, pings, opened = [await world.peer() for _ in range(4)]
        half[1].write(INITIALIZE)
        await half[0].readline()
        pings[1].write(request(1, "ping") + b"nonsense\n")
        await pings[0].readline()
        await world.until(lambda: pings[2].counters()["frames_refused"] == 1)
        opened[1].write(INITIALIZE + notification("notifications/initialized"))
        await opened[0].readline()
        clock.advance(1 + over / 1000)
        for _, _, peer in (silent, half, pings, opened):
            peer.connection.expire()
        late = over >= 0
        assert [peer.is_open for _, _, peer in (silent, half, pings)] == [not late] * 3
        assert opened[2].is_open
        assert world.server.overdue_peers == (3 if late else 0)
        if late:
            assert await silent[0].read() == b""
            assert (silent[2].error.limit, silent[2].error.value) == ("max_opening_ms", 1000)


@both_loops
async def test_s6_a_peer_that_says_nothing_is_closed_by_the_loop_itself(tmp_path, caplog):
    caplog.clear()
    async with Hostile(tmp_path, limits={"max_opening_ms": 1}) as world:
        for _ in range(3):
            reader, writer = await asyncio.open_unix_connection(world.path)
            world.writers.append(writer)
            assert await reader.read() == b""
        assert world.server.overdue_peers == 3
        # Who comes again and again fills no log.
        [said] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert said.endswith("was closed: max_opening_ms (1) is reached")


@sides
@both_loops
async def test_s6_max_frame_ms_below_at_and_above(over, tmp_path):
    clock = turnout.Clock(manual=True)
    async with Hostile(tmp_path, clock=clock, limits={"max_frame_ms": 1000}) as world:
        # Byte by byte, for ever: each byte is new, and the frame is the same.
        reader, writer, peer = await world.peer()
        frame = request(1, "echo", {"text": "x" * 100})
        for n in range(100):
            await feed(peer, frame[n : n + 1])
            clock.advance(0.001)
            peer.connection.expire()
        clock.advance(0.900 + over / 1000)
        peer.connection.expire()
        if over < 0:
            writer.write(frame[100:])
            assert json.loads(await reader.readline())["result"] == {"text": "x" * 100}
            assert world.server.overdue_peers == 0
            clock.advance(10)
            peer.connection.expire()
            assert peer.is_open
        else:
            assert await reader.read() == b""
            assert (peer.error.limit, peer.error.value) == ("max_frame_ms", 1000)
            assert world.server.overdue_peers == 1


@both_loops
async def test_s6_a_large_frame_may_take_longer_as_long_as_it_goes_on(tmp_path):
    clock = turnout.Clock(manual=True)
    async with Hostile(tmp_path, clock=clock, limits={"max_frame_ms": 1000}) as world:
        reader, _, peer = await world.peer()
        frame = request(1, "echo", {"text": "x" * MEGABYTE})
        for start in range(0, len(frame), 128 << 10):
            await feed(peer, frame[start : start + (128 << 10)])
            clock.advance(0.9)
            peer.connection.expire()
        assert len(await lines(reader, 1)) > MEGABYTE
        assert peer.is_open


def test_s6_the_default_is_a_quarter_of_the_memory_or_of_a_control_groups(tmp_path):
    def write(path, text):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    assert machine_bytes(tmp_path) is None
    assert default_bytes(tmp_path) == turnout.LIMITS["max_total_bytes"] == 1 << 30
    write("proc/meminfo", "MemTotal:        2097152 kB\nMemFree:  1 kB\n")
    assert (machine_bytes(tmp_path), default_bytes(tmp_path)) == (2 << 30, 512 << 20)
    write("proc/self/cgroup", "0::/a/b\n")
    assert default_bytes(tmp_path) == 512 << 20
    write("sys/fs/cgroup/a/b/memory.max", "max\n")
    write("sys/fs/cgroup/a/memory.max", "1073741824\n")
    assert default_bytes(tmp_path) == 256 << 20
    # In a container only the top is seen, under the host's path.
    write("proc/self/cgroup", "5:cpu:/x\n4:memory:/host/x\n")
    write("sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n")
    assert default_bytes(tmp_path) == 128 << 20
    write("proc/meminfo", "MemTotal: 33554432 kB\n")
    write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert default_bytes(tmp_path) == 1 << 30
