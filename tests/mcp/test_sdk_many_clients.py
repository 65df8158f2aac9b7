"""One server of the SDK's and many clients on a socket: each dies when it likes, and the others notice nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

pytest.importorskip("mcp", reason="the official SDK is an optional extra")

import sdk_server
import turnout
from limit_sides import sides
from loops import both_loops
from sdk_native import at_rest, served, text, until
from turnout import mcp
from wire import frame, notification, request

# What the newest revision deprecates is still what the others have.
pytestmark = pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")

INITIALIZE = request(
    "open",
    "initialize",
    {
        "protocolVersion": "2025-11-25",
        "capabilities": {"sampling": {}, "roots": {}, "elicitation": {}},
        "clientInfo": {"name": "played", "version": "1"},
    },
)
OPENED = notification("notifications/initialized")


def call(id, tool, **arguments):
    return request(id, "tools/call", {"name": tool, "arguments": arguments})


class Played:
    """A client of the server's whose bytes are the test's."""

    def __init__(self, streams):
        self.reader, self.writer = streams

    @classmethod
    async def come(cls, target):
        return cls(await asyncio.open_unix_connection(target.name))

    async def hears(self):
        return json.loads(await self.reader.readline())

    async def opens(self):
        self.writer.write(INITIALIZE + OPENED)
        assert (await self.hears())["id"] == "open"

    async def leaves(self, *, gently=True):
        """End what we write, or drop everything."""
        if gently:
            self.writer.write_eof()
        else:
            self.writer.transport.abort()

    async def close(self):
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


async def at_once(played):
    """Nothing at all was said."""


async def in_the_first_frame(played):
    played.writer.write(INITIALIZE[: len(INITIALIZE) // 2])


async def unread_opening(played):
    played.writer.write(INITIALIZE)


async def between_opening_and_word(played):
    played.writer.write(INITIALIZE)
    await played.hears()


async def while_a_tool_works(played):
    await played.opens()
    played.writer.write(call(1, "wait"))


async def while_a_tool_asks(played):
    await played.opens()
    played.writer.write(call(1, "sample", text="x"))
    assert (await played.hears())["method"] == "sampling/createMessage"


async def in_the_middle_of_an_answer(played):
    await played.opens()
    played.writer.write(call(1, "roots"))
    asked = await played.hears()
    played.writer.write(frame(id=asked["id"], result={"roots": []})[:-5])


async def with_answers_unread(played):
    await played.opens()
    played.writer.write(b"".join(call(n, "add", a=n, b=1) for n in range(200)))


async def in_a_broken_frame(played):
    await played.opens()
    played.writer.write(call(1, "wait") + b'{"jsonrpc":"2.0","id":2,"method":"\xc3(')


MOMENTS = (
    at_once,
    in_the_first_frame,
    unread_opening,
    between_opening_and_word,
    while_a_tool_works,
    while_a_tool_asks,
    in_the_middle_of_an_answer,
    with_answers_unread,
    in_a_broken_frame,
)


@pytest.mark.parametrize("gently", [True, False], ids=["end of file", "abort"])
@both_loops
async def test_x_08_clients_die_at_odd_moments_and_the_others_go_on(gently):
    sdk_server.log.clear()
    async with served("unix") as (target, router), mcp.Client(target, mode="legacy") as lasting:
        waiting = asyncio.ensure_future(lasting.call_tool("wait", {}))
        await until(lambda: sdk_server.log == ["waits"])
        for dies in MOMENTS * 3:
            played = await Played.come(target)
            await until(lambda: len(router.peers) == 2)
            (peer,) = (peer for peer in router.peers if not peer.name.endswith("#1"))
            await dies(played)
            assert text(await lasting.call_tool("add", {"a": 1, "b": 1})) == "2"
            await played.leaves(gently=gently)
            await until(lambda: len(router.peers) == 1)
            await until(lambda peer=peer: at_rest(peer) and not peer.connection.handler_tasks())
            await played.close()
        # What each began was stopped, and nobody else's.
        assert not waiting.done()
        began = sdk_server.log.count("waits")
        assert began - sdk_server.log.count("stopped") == 1
        waiting.cancel()
        await asyncio.wait([waiting])
        await until(lambda: sdk_server.log.count("stopped") == began)


@both_loops
async def test_rid_04_clients_that_use_the_same_ids_get_each_their_own_answers():
    async with served("unix") as (target, router):
        clients = [await Played.come(target) for _ in range(20)]
        for client in clients:
            await client.opens()
        for number, client in enumerate(clients):
            client.writer.write(b"".join(call(n, "add", a=number, b=n) for n in range(20)))
        for number, client in enumerate(clients):
            answers = [await client.hears() for _ in range(20)]
            sums = {a["id"]: a["result"]["structuredContent"]["result"] for a in answers}
            assert sums == {n: number + n for n in range(20)}
        assert len(router.peers) == 20
        for client in clients:
            await client.close()
        await until(lambda: not router.peers)


@both_loops
async def test_clients_that_come_while_the_server_stops_are_let_go():
    router = turnout.Router()
    async with served("unix", router=router) as (target, _):
        clients = [await Played.come(target) for _ in range(30)]
        for client in clients:
            client.writer.write(INITIALIZE)
    for client in clients:
        while await client.reader.read(1 << 16):
            pass
        await client.close()
    assert not router.peers


@sides
@both_loops
async def test_max_peers_below_at_and_above(over):
    router = turnout.Router(limits={"max_peers": 3})
    async with served("unix", router=router) as (target, _):
        clients = [await Played.come(target) for _ in range(3 + over)]
        for client in clients[:3]:
            await client.opens()
        if over > 0:
            assert await clients[3].reader.read() == b"", "turned away"
        assert (router.refused_peers, len(router.peers)) == (max(over, 0), min(3 + over, 3))
        for client in clients:
            await client.close()
