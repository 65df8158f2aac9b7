"""What a relay makes of what servers answer and report: typed for its client, in order, or an error."""

from __future__ import annotations

import asyncio
import json

import pytest

import turnout
from loops import both_loops
from relay_world import World
from transport_link import FakeLink
from wire import Raw, cancelled, frame, notification, progress, request, result

META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


class Played(World):
    """A world whose one server is played by hand."""

    def __init__(self):
        super().__init__()
        self.near, self.far = turnout.memory(name="server")
        self.server = FakeLink()

    def target(self):
        return self.near

    async def asked(self, client, *frames):
        """Let the client ask, and the server have it."""
        for one in frames:
            client.transport.write(one)
        self.server.transport = await self.far.open(self.server)
        await self.server.until(lambda: len(self.server.lines) == len(frames))
        return [json.loads(line) for line in self.server.lines]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("{}", '{"resultType":"complete"}'),
        ("{ }", '{"resultType":"complete" }'),
        ('{"a" : 1.0}', '{"resultType":"complete","a" : 1.0}'),
        ('{"resultType":"complete","a":1}', '{"resultType":"complete","a":1}'),
    ],
)
@both_loops
async def test_rid_16_rid_17_a_modern_client_is_told_the_type_that_a_legacy_server_does_not_say(answer, told):
    async with Played() as world:
        world.build(world.upstream(era=None))
        client = await world.raw()
        (asked,) = await world.asked(client, request(7, "tools/call", {"name": "echo", "_meta": META}))
        world.server.transport.write(result(asked["id"], Raw(answer)))
        await client.until(lambda: client.lines)
        assert client.lines == ['{"jsonrpc":"2.0","id":7,"result":' + told + "}"]


@pytest.mark.parametrize(
    "members",
    [{}, {"result": {}, "error": {"code": 1, "message": "m"}}, {"error": {"code": "1"}}, {"error": None}],
    ids=str,
)
@both_loops
async def test_rid_08_rid_09_rid_10_rid_11_a_broken_answer_is_an_error_of_its_own_request(members):
    async with Played() as world:
        world.build(world.upstream(era=None))
        client = await world.raw()
        one, two = await world.asked(client, request(1, "tools/call", {}), request(2, "tools/call", {}))
        world.server.transport.write(frame(id=one["id"], **members))
        world.server.transport.write(result(two["id"], {"fine": 1}))
        await client.until(lambda: len(client.lines) == 2)
        broken, fine = map(json.loads, client.lines)
        assert (broken["id"], broken["error"]["code"]) == (1, -32603)
        assert (fine["id"], fine["result"]) == (2, {"fine": 1})


@both_loops
async def test_prg_07_prg_10_x_05_progress_that_is_none_does_not_reach_the_client():
    async with Played() as world:
        world.build(world.upstream(era=None))
        client = await world.raw()
        (asked,) = await world.asked(client, request(1, "tools/call", {}, token="mine"))
        assert asked["params"]["_meta"]["progressToken"] == asked["id"]
        for value in (5, 5, 3, Raw("1e999"), Raw("null"), 6):
            world.server.transport.write(progress(asked["id"], value))
        world.server.transport.write(progress("mine", 7))
        world.server.transport.write(progress(99, 8))
        world.server.transport.write(result(asked["id"]))
        await client.until(lambda: client.lines and "result" in client.lines[-1])
        *told, _ = map(json.loads, client.lines)
        assert [(m["params"]["progressToken"], m["params"]["progress"]) for m in told] == [
            ("mine", 5), ("mine", 6),
        ]  # fmt: skip


@pytest.mark.parametrize(
    "params", ["{}", "[]", '{"requestId":null}', '{"requestId":{}}', '{"requestId":"1"}', "null"]
)
@both_loops
async def test_can_23_can_14_a_cancel_that_is_none_goes_nowhere(params):
    async with Played() as world:
        world.build(world.upstream(era=None))
        client = await world.raw()
        (asked,) = await world.asked(client, request(1, "tools/call", {}))
        client.transport.write(notification("notifications/cancelled", Raw(params)))
        client.transport.write(cancelled(asked["id"] + 1000))
        world.server.transport.write(result(asked["id"], {"done": 1}))
        await client.until(lambda: client.lines)
        assert json.loads(client.lines[0])["result"] == {"done": 1}
        await asyncio.sleep(0)
        assert len(world.server.lines) == 1
