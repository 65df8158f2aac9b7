"""How clients share the connections of an upstream: all of them one, each its own, by principal, or pooled."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

import turnout
from loops import both_loops
from relay_world import World, call


async def ask_all(clients):
    return await asyncio.gather(*(client.send("tools/call", call(who="x")) for client in clients))


@both_loops
async def test_clients_of_one_principal_share_a_connection_and_no_other_does():
    async with World() as world:
        world.build(world.upstream(sharing="per_principal"))
        one, two = await world.client(principal="a"), await world.client(principal="a")
        other = await world.client(principal="b")
        await ask_all([one, two, other])
        assert world.started == 2
        assert len(world.servers.peers) == 2
        await one.close()
        await ask_all([two, other])
        assert len(world.servers.peers) == 2, "a principal's connection stays while one client of it is there"
        [lost] = [peer for peer in world.servers.peers if peer is not world.servers.peers[0]]
        await two.close()
        await other.close()
        await lost.wait_lost()
        await world.until(lambda: not world.servers.peers)


@both_loops
async def test_clients_without_a_principal_share_with_nobody():
    async with World() as world:
        world.build(world.upstream(sharing="per_principal"))
        await ask_all([await world.client(), await world.client()])
        assert world.started == 2


@both_loops
async def test_r3_a_connection_shared_per_principal_asks_nobody():
    async with World() as world:
        world.build(world.upstream(sharing="per_principal"))
        client = await world.client(principal="a")
        with pytest.raises(turnout.RemoteError):
            await client.send("tools/call", call(ask=True, who="x"))
        assert world.relay.counters()["unattributed"] == 1
        assert world.capabilities == [{}]


@both_loops
async def test_a_pool_spreads_clients_and_each_keeps_to_its_connection():
    async with World() as world:
        world.build(world.upstream(sharing="pooled", pool=3))
        await world.relay.start()
        assert world.started == 3
        clients = [await world.client() for _ in range(7)]
        for _ in range(3):
            await ask_all(clients)
        served = sorted(peer.counters()["requests_in"] for peer in world.servers.peers)
        # Each connection was opened once, and has two or three clients that asked three times.
        assert served == [1 + 6, 1 + 6, 1 + 9]
        heard = []
        for number, client in enumerate(clients):
            client.on_notification("notifications/tools/list_changed")(lambda _, n=number: heard.append(n))
        world.servers.peers[0].notify("notifications/tools/list_changed")
        await world.until(lambda: len(heard) >= 2)
        assert len(heard) in (2, 3), "only those who share that connection"
        await world.quiet()


@both_loops
async def test_u4_a_lost_connection_of_a_pool_harms_no_client_of_another():
    async with World() as world:
        world.build(world.upstream(sharing="pooled", pool=2))
        clients = [await world.client() for _ in range(2)]
        await ask_all(clients)
        calls = [client.send("tools/call", call(wait=True)) for client in clients]
        await world.until(lambda: all(peer.in_flight[1] for peer in world.servers.peers))
        world.servers.peers[0].abort()
        await world.until(lambda: any(sent.done() for sent in calls))
        [ended] = [sent for sent in calls if sent.done()]
        with pytest.raises(turnout.RemoteError) as caught:
            await ended
        assert caught.value.data["reason"] == "upstream_closed"
        await ask_all(clients)
        assert world.started == 3


@both_loops
async def test_a_pool_of_nothing_is_refused():
    async with World() as world:
        with pytest.raises(ValueError, match="pool is at least 1, not 0"):
            world.build(world.upstream(sharing="pooled", pool=0))
        with pytest.raises(ValueError, match="sharing is one of 'shared', 'per_client'"):
            world.build(world.upstream(sharing="each"))


@pytest.mark.parametrize("sharing", ["shared", "per_client", "per_principal", "pooled"])
@pytest.mark.unwatched("it looks at what is collected")
@both_loops
async def test_a_client_that_left_is_held_by_nobody_nor_is_its_server(sharing):
    def stays(world, peer):
        return sharing in ("shared", "pooled") and peer not in world.relay.clients

    async with World() as world:
        world.build(world.upstream(sharing=sharing))
        client = await world.client(principal="me")
        await client.send("tools/call", {"name": "echo"})
        held = [weakref.ref(peer) for peer in world.gateway.peers if not stays(world, peer)]
        await client.close()
        await world.until(lambda: not world.relay.clients)
        await world.until(lambda: gc.collect() >= 0 and not any(ref() for ref in held))
