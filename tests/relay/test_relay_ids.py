"""Ids through a relay: one client repeats its own, several use the same, and a cancel means one request or none."""

from __future__ import annotations

import asyncio
import json

from loops import both_loops
from relay_world import World
from wire import cancelled, request

WAIT = {"name": "echo", "arguments": {"wait": True}}


@both_loops
async def test_rid_05_can_14_an_ambiguous_cancel_ends_neither_of_two_requests_under_one_id():
    async with World() as world:
        world.build()
        go_on = asyncio.Event()

        @world.servers.on_request("first")
        async def first(request):
            await go_on.wait()
            return "first"

        client = await world.raw()
        (gateway,) = [peer for peer in world.gateway.peers if peer.name == "raw"]
        for method in ("first", "tools/call"):
            client.transport.write(request(1, method, WAIT))
        await world.until(lambda: world.handled == 2)
        client.transport.write(cancelled(1, "which of them?"))
        await world.until(lambda: gateway.counters()["cancels_ignored"] == 1)
        (server,) = world.servers.peers
        assert (gateway.in_flight[1], server.counters()["cancels_in"]) == (2, 0)
        # Once one of them is over, the id means the other.
        go_on.set()
        await client.until(lambda: client.lines)
        assert json.loads(client.lines[0])["result"] == "first"
        client.transport.write(cancelled(1, "that one"))
        await world.until(lambda: world.handled == 0)
        (ended,) = world.servers.records.query(outcome="cancelled")
        assert (ended.method, ended.cancel_reason) == ("tools/call", "that one")


@both_loops
async def test_rid_05_can_07_a_cancel_under_an_id_that_one_of_two_clients_uses_ends_its_own_only():
    async with World() as world:
        world.build()
        one, two = await world.raw(), await world.raw()
        for client in (one, two):
            client.transport.write(request(1, "tools/call", WAIT))
        await world.until(lambda: world.handled == 2)
        one.transport.write(cancelled(1, "mine"))
        await world.until(lambda: world.handled == 1)
        (ended,) = world.servers.records.query(outcome="cancelled")
        assert ended.cancel_reason == "mine"
        assert (one.lines, two.lines) == ([], [])


@both_loops
async def test_x_02_rid_06_each_client_gets_its_own_id_back_byte_for_byte():
    ids = ["1", '"1"', "1.0", "-0", '"\\u0041"', "123456789012345678901234567890"]

    async with World() as world:
        world.build()
        clients = [await world.raw() for _ in range(2)]
        for client in clients:
            for id in ids:
                client.transport.write(
                    b'{"jsonrpc":"2.0","id":'
                    + id.encode()
                    + b',"method":"tools/call","params":{"name":"echo"}}\n'
                )
        for client in clients:
            await client.until(lambda client=client: len(client.lines) == len(ids))
            assert sorted(client.lines) == sorted(
                '{"jsonrpc":"2.0","id":'
                + id
                + ',"result":'
                + json.dumps({"who": None, "name": "echo"}, separators=(",", ":"))
                + "}"
                for id in ids
            )
