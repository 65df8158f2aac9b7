"""Races of the relay that need sockets, threads or Python code; `rust/core/tests/relay_races.rs` has the others."""

from __future__ import annotations

import asyncio
import json
import socket
import threading

import pytest

import turnout
import wire
from loops import both_loops
from relay_by_hand import Played
from relay_world import World, call
from wire import cancelled, request, result


@both_loops
async def test_race_04_a_cancel_during_a_long_write_follows_the_whole_request(tmp_path):
    """A server that reads nothing gets the request to its last byte once it reads, and then the cancel."""
    with socket.socket(socket.AF_UNIX) as listening:
        async with Played() as world:
            path = str(tmp_path / "server.sock")
            listening.bind(path)
            listening.listen()
            listening.setblocking(False)
            await world.build(turnout.Upstream(turnout.unix(path), name="one", era=None)).start()
            server = SlowServer((await asyncio.get_running_loop().sock_accept(listening))[0])
            [upstream] = world.gateway.peers
            client = await world.client()
            big = {"text": "x" * 4_000_000}
            client.say(request("big", "tools/call", big))
            # The write began, and no socket's buffer is that large.
            while upstream.counters()["bytes_out"] == 0:
                await asyncio.sleep(0)
            client.say(cancelled("big", "enough"))
            while world.relay.counters()["cancelled"] == 0:
                await asyncio.sleep(0)
            asked = await server.hears()
            assert asked["params"] == big
            assert (await server.hears())["params"] == {"requestId": asked["id"], "reason": "enough"}
            await server.says(result(asked["id"], {"too": "late"}))
            client.say(request("next", "tools/list"))
            await server.says(result((await server.hears())["id"]))
            assert await client.hears_one() == {"jsonrpc": "2.0", "id": "next", "result": {}}
            server.channel.close()


class SlowServer:
    """A server that reads only when a test says so, so that what is written to it waits."""

    def __init__(self, channel):
        self.channel = channel
        self.channel.setblocking(False)
        self._rest = b""

    async def hears(self):
        while b"\n" not in self._rest:
            self._rest += await asyncio.get_running_loop().sock_recv(self.channel, 1 << 20)
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)

    async def says(self, frame):
        await asyncio.get_running_loop().sock_sendall(self.channel, frame)


@pytest.mark.parametrize("kind", ["async", "thread"])
@both_loops
async def test_race_15_a_handler_that_blocks_holds_up_nobody_else(kind):
    """The reader goes on, of the same client and of others; what is blocked ends by its client's cancel."""
    async with World() as world:
        relay = world.build(world.upstream(), local=["slow"])
        begun, free = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        if kind == "async":

            @relay.on_request("slow")
            async def slow(request):
                begun.set()
                await asyncio.Event().wait()

        else:

            @relay.on_request("slow")
            def slow(request):
                loop.call_soon_threadsafe(begun.set)
                free.wait()

        one, two = await world.client(), await world.client()
        stuck = one.send("slow")
        await begun.wait()
        for client in (one, two):
            assert (await client.send("tools/call", call(who="x", steps=2)))["who"] == "x"
        stuck.cancel("enough")
        with pytest.raises(turnout.CallCancelled):
            await stuck
        assert (await one.send("tools/call", call(who="y")))["who"] == "y"
        free.set()
        await world.quiet()


@both_loops
async def test_race_15_a_handler_that_raises_fails_its_own_request():
    """Whatever it raises, before or after it passed the request on: one answer each, and the reader goes on."""
    async with World() as world:
        relay = world.build(world.upstream(), local=["tools/call"])

        @relay.on_request("tools/call")
        async def choose(request):
            who = request.params["arguments"]["who"]
            if who == "before":
                raise ValueError("a secret of ours")
            await relay.forward(request, "echo")
            if who == "after":
                raise ValueError("too late to matter")

        client = await world.client()
        sent = {who: client.send("tools/call", call(who=who)) for who in ("good", "before", "after", "fine")}
        with pytest.raises(turnout.RemoteError) as caught:
            await sent.pop("before")
        assert "secret" not in str(caught.value)
        for who, one in sent.items():
            assert (await one)["who"] == who
        await world.quiet()


@both_loops
async def test_race_02_a_cancel_of_what_was_never_asked_is_kept_for_nobody():
    """On a stream a cancel cannot precede its request: one that does hits nothing that comes later."""
    async with Played() as world:
        await world.build().start()
        [server] = world.servers
        client = await world.client()
        client.say(cancelled(1, "too early"), request(1, "tools/call"))
        asked = await server.hears_one()
        assert asked["method"] == "tools/call"
        server.say(result(asked["id"], {"answered": True}))
        assert (await client.hears_one())["result"] == {"answered": True}
        await world.settle(client, server)


@both_loops
async def test_race_08_who_asks_while_a_server_goes_is_told_or_meets_the_next():
    """Requests in the very write after which the server ends: each has one answer, in whatever turn they are read."""
    async with Played() as world:
        restart = turnout.RestartPolicy(initial_delay=0.0, max_delay=0.0, reset_after=0.0)
        await world.build(world.upstream(restart=restart)).start()
        clients = [await world.client() for _ in range(4)]
        for turn in range(20):
            server = await world.server(turn)
            await asyncio.gather(server.leave(), *(_ask(client, turn) for client in clients))
            successor = await world.server(turn + 1)
            pending = set(range(4))
            while pending:
                await asyncio.sleep(0)
                for line in list(successor.unread):
                    successor.say(result(json.loads(line)["id"], {"by": turn + 1}))
                    successor._taken += 1
                for number in list(pending):
                    if clients[number].unread:
                        message = await clients[number].hears_one()
                        assert message["id"] == turn
                        assert "result" in message or message["error"]["data"]["reason"] == "upstream_closed"
                        pending.discard(number)
        assert all(client.unread == [] for client in clients)


async def _ask(client, id):
    await asyncio.sleep(0)
    client.say(wire.request(id, "tools/call"))
