"""A relay that closes: no new requests, those in flight may finish, the rest is cancelled and answered."""

from __future__ import annotations

import asyncio

import pytest

import turnout
from loops import both_loops
from relay_world import World, call


async def working(world, clients):
    """Requests that only a cancel ends, one of each client, once the server has them."""
    calls = [client.send("tools/call", call(wait=True)) for client in clients]
    await world.until(lambda: sum(peer.in_flight[1] for peer in world.servers.peers) == len(calls))
    return calls


@both_loops
async def test_a_drain_refuses_what_is_new_and_lets_finish_what_is_old():
    async with World() as world:
        answer = asyncio.Event()

        @world.servers.on_request("tools/list")
        async def tools(_):
            await answer.wait()
            return {"tools": []}

        world.build()
        one, two = await world.client(), await world.client()
        old = one.send("tools/list")
        await world.until(lambda: world.relay.in_flight == 1)
        closing = asyncio.ensure_future(world.relay.close(drain=60))
        await asyncio.sleep(0)
        with pytest.raises(turnout.RemoteError) as caught:
            await two.send("tools/call", call(who="new"))
        assert caught.value.data == {"reason": "draining", "sent": False, "upstream": "echo"}
        assert not closing.done()
        answer.set()
        assert await old == {"tools": []}
        await closing
        assert world.relay.counters()["drained"] == 1
        assert not world.servers.peers


@both_loops
async def test_what_is_left_at_the_end_of_a_drain_is_cancelled_upstream_and_answered_once():
    async with World() as world:
        world.build()
        clients = [await world.client() for _ in range(3)]
        calls = await working(world, clients)
        await world.relay.close(drain=0.05)
        for sent in calls:
            with pytest.raises(turnout.RemoteError) as caught:
                await sent
            assert caught.value.data == {"reason": "closed", "sent": True, "upstream": "echo"}
        ends = [record.outcome for record in world.servers.records.query(method="tools/call")]
        assert ends == ["cancelled"] * 3
        assert world.relay.in_flight == 0
        await world.relay.close()


@both_loops
async def test_a_router_that_closes_drains_its_relays():
    async with World() as world:
        world.build()
        client = await world.client()
        [sent] = await working(world, [client])
        closing = asyncio.ensure_future(world.gateway.close(drain=60))
        await asyncio.sleep(0)
        sent.cancel("enough")
        with pytest.raises(turnout.CallCancelled):
            await sent
        await closing
        [record] = world.servers.records.query(method="tools/call")
        assert record.cancel_reason == "enough"
