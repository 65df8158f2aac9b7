"""What private servers ask their clients: under whose ids, once, and until when (section 9, U3, race 12)."""

from __future__ import annotations

import json

import pytest

import turnout
from loops import both_loops
from relay_world import World

HELLO = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {"sampling": {}, "roots": {}},
        "clientInfo": {"name": "raw", "version": "1"},
    },
}


class Raw:
    """A client that writes and reads frames."""

    def __init__(self, link):
        self.link = link
        self.read = 0

    def write(self, **frame):
        self.link.transport.write(json.dumps({"jsonrpc": "2.0", **frame}).encode() + b"\n")

    async def next(self):
        await self.link.until(lambda: len(self.link.lines) > self.read)
        self.read += 1
        return json.loads(self.link.lines[self.read - 1])


async def opened(world):
    """A raw client with a server of its own; gives both."""
    before = set(world.servers.peers)
    client = Raw(await world.raw())
    client.write(**HELLO)
    assert (await client.next())["id"] == 0
    client.write(method="notifications/initialized")
    [server] = set(world.servers.peers) - before
    return client, server


def private(world):
    return world.build(world.upstream(sharing="per_client"))


@both_loops
async def test_r4_each_answer_goes_to_the_server_that_asked():
    async with World() as world:
        private(world)
        pairs = [await opened(world) for _ in range(3)]
        asked = [server.send("sampling/createMessage", {"n": n}) for n, (_, server) in enumerate(pairs)]
        frames = [await client.next() for client, _ in pairs]
        assert [frame["params"]["n"] for frame in frames] == [0, 1, 2]
        # Every server's ids are the same, and every client's, too; the answers come crosswise in time.
        for (client, _), frame in zip(reversed(pairs), reversed(frames), strict=True):
            client.write(id=frame["id"], result={"n": frame["params"]["n"]})
        assert [await call for call in asked] == [{"n": 0}, {"n": 1}, {"n": 2}]
        await world.quiet()


def asks_at_once(asked):
    """Prepares a server that asks for the roots as soon as its own opening is over."""

    def prepare(peer):
        peer.on_notification("notifications/initialized")(lambda _: asked.append(peer.send("roots/list")))

    return prepare


@both_loops
async def test_png_14_a_client_is_asked_once_it_has_opened_its_connection():
    async with World() as world:
        asked = []
        world.build(world.server("echo", asks_at_once(asked), sharing="per_client"))
        client = Raw(await world.raw())
        client.write(**HELLO)
        assert (await client.next())["id"] == 0
        await world.until(lambda: asked)
        client.write(id=1, method="ping")
        assert (await client.next())["id"] == 1
        assert not asked[0].done()
        client.write(method="notifications/initialized")
        frame = await client.next()
        assert frame["method"] == "roots/list"
        client.write(id=frame["id"], result={"roots": []})
        assert await asked[0] == {"roots": []}
        await world.quiet()


@both_loops
async def test_png_14_a_client_that_does_not_open_its_connection_is_not_asked():
    async with World() as world:
        asked = []
        world.build(world.server("echo", asks_at_once(asked), sharing="per_client", open_timeout=0.05))
        client = Raw(await world.raw())
        client.write(**HELLO)
        assert (await client.next())["id"] == 0
        await world.until(lambda: asked)
        with pytest.raises(turnout.RemoteError, match="handshake"):
            await asked[0]
        client.write(id=1, method="ping")
        assert (await client.next())["id"] == 1
        await world.quiet()


@both_loops
async def test_r5_a_modern_client_is_sent_no_request_by_a_server_that_asks_at_once():
    async with World() as world:
        asked = []
        world.build(world.server("echo", asks_at_once(asked), sharing="per_client"))
        client = Raw(await world.raw())
        meta = {f"io.modelcontextprotocol/{key}": {} for key in ("clientInfo", "clientCapabilities")}
        meta["io.modelcontextprotocol/protocolVersion"] = "2026-07-28"
        client.write(id=1, method="tools/call", params={"name": "t", "_meta": meta})
        assert (await client.next())["id"] == 1
        await world.until(lambda: asked)
        with pytest.raises(turnout.RemoteError, match="roots/list"):
            await asked[0]
        client.write(id=2, method="tools/call", params={"name": "t", "_meta": meta})
        assert (await client.next())["id"] == 2, "and nothing between"
        await world.quiet()


@both_loops
async def test_r4_an_answer_is_taken_once_and_from_its_own_client_only():
    async with World() as world:
        private(world)
        (one, server), (two, _) = [await opened(world) for _ in range(2)]
        asked = server.send("sampling/createMessage")
        frame = await one.next()
        two.write(id=frame["id"], result={"by": "another"})
        two.write(id=9, method="tools/call", params={"name": "echo"})
        assert (await two.next())["id"] == 9
        assert not asked.done()
        one.write(id=frame["id"], result={"by": "one"})
        one.write(id=frame["id"], result={"by": "one, again"})
        assert await asked == {"by": "one"}
        one.write(id=8, method="tools/call", params={"name": "echo"})
        assert (await one.next())["id"] == 8, "the connection goes on"
        assert server.counters()["unmatched_responses"] == 0
        await world.quiet()


@both_loops
async def test_r4_a_server_takes_its_question_back():
    async with World() as world:
        private(world)
        client, server = await opened(world)
        asked = server.send("sampling/createMessage")
        frame = await client.next()
        asked.cancel("never mind")
        told = await client.next()
        assert told["method"] == "notifications/cancelled"
        assert told["params"] == {"requestId": frame["id"], "reason": "never mind"}
        # Race 12: the answer was on its way.
        client.write(id=frame["id"], result={"too": "late"})
        client.write(id=1, method="tools/call", params={"name": "echo"})
        assert (await client.next())["id"] == 1
        assert (asked.record.outcome, asked.record.late_response) == ("cancelled", None)
        await world.quiet()


@both_loops
async def test_r4_a_client_that_leaves_leaves_no_server_waiting():
    async with World() as world:
        private(world)
        client, server = await opened(world)
        asked = server.send("sampling/createMessage", timeout=None, max_timeout=None)
        await client.next()
        client.link.transport.abort()
        with pytest.raises(turnout.Error):
            await asked
        await server.wait_lost()
        await world.quiet()


@both_loops
async def test_u3_what_a_lost_server_asked_is_taken_back():
    async with World() as world:
        private(world)
        client, server = await opened(world)
        server.send("sampling/createMessage")
        frame = await client.next()
        server.abort()
        told = await client.next()
        assert (told["method"], told["params"]["requestId"]) == ("notifications/cancelled", frame["id"])
        # Race 12: its answer comes all the same, and belongs to nobody in the next epoch.
        client.write(id=frame["id"], result={"too": "late"})
        client.write(id=1, method="tools/call", params={"name": "echo"})
        assert (await client.next())["id"] == 1
        [fresh] = world.servers.peers
        assert fresh is not server
        assert fresh.counters()["unmatched_responses"] == 0
        await world.quiet()


@both_loops
async def test_r4_progress_and_cancel_of_a_reverse_request():
    async with World() as world:
        private(world)
        client, server = await opened(world)
        asked = server.send("sampling/createMessage", {"deep": True})
        frame = await client.next()
        token = frame["params"]["_meta"]["progressToken"]
        client.write(method="notifications/progress", params={"progressToken": token, "progress": 1})
        updates = asked.progress()
        assert (await updates.__anext__()).progress == 1
        client.write(id=frame["id"], error={"code": -1, "message": "the user said no"})
        with pytest.raises(turnout.RemoteError, match="the user said no"):
            await asked
        await world.quiet()


@both_loops
async def test_r3_an_unattributed_question_is_answered_at_once():
    async with World() as world:
        world.build()
        clients = [Raw(await world.raw()) for _ in range(2)]
        for client in clients:
            client.write(**HELLO)
            await client.next()
        [server] = world.servers.peers
        assert world.capabilities == [{}], "a shared server is told of no capability, so it need not ask"
        with pytest.raises(turnout.RemoteError) as caught:
            await server.send("roots/list")
        assert caught.value.code == -32601
        for client in clients:
            client.write(id=1, method="tools/call", params={"name": "echo"})
            assert (await client.next())["id"] == 1, "no client was asked"
        assert world.relay.counters()["unattributed"] == 1
