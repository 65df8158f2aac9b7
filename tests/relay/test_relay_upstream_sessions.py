"""Where a connection to an upstream stands: who waits for it, how long, and what is left of it at the end."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

import turnout
from relay_world import World, call
from skipping_loop import on_skipping_loop


class Slow(World):
    """One upstream, whose connections open when they are let.

    Attributes:
        attempts: how many were made.
        opens: whether they are let.

    """

    kind = name = "memory"

    def __init__(self, **options):
        super().__init__(**options)
        self.attempts = 0
        self.opens = asyncio.Event()

    async def open(self, link):
        """Open one connection, as the upstream's target."""
        self.attempts += 1
        await self.opens.wait()
        return await self.target().open(link)

    def slow(self, **options):
        return self.upstream(target=self, name="slow", **options)

    async def asked(self):
        """A client whose request waits for the connection."""
        client = await self.client(era=None)
        sent = client.send("tools/call", call(who="x"))
        await self.until(lambda: self.attempts)
        return sent


async def fault(sent):
    """The data of the error that a call ends with."""
    with pytest.raises(turnout.RemoteError) as caught:
        await sent
    return caught.value.data


@on_skipping_loop
async def test_u4_who_gives_up_waiting_takes_the_connection_from_nobody_else():
    async with Slow() as world:
        world.build(world.slow())
        one, two = await world.asked(), await world.asked()
        one.cancel("enough")
        await world.until(lambda: sum(peer.in_flight[1] for peer in world.relay.clients) == 1)
        world.opens.set()
        assert (await two)["who"] == "x"
        assert world.attempts == 1


@on_skipping_loop
async def test_a_request_waits_for_a_connection_as_long_as_the_upstreams_patience():
    async with Slow() as world:
        world.build(world.slow(connect_wait=7.0))
        sent = await world.asked()
        before = asyncio.get_running_loop().time()
        assert await fault(sent) == {"reason": "upstream_closed", "sent": False, "upstream": "slow"}
        assert asyncio.get_running_loop().time() == before + 7.0


@on_skipping_loop
async def test_a_merged_list_waits_for_an_upstream_as_long_as_its_list_timeout():
    async def nothing(_):
        return {"tools": []}

    async with Slow() as world:
        other = world.server("other", lambda peer: peer.on_request("tools/list")(nothing))
        routes = [turnout.Route("slow", "tools/call", prefix="slow_"), turnout.Route("other")]
        world.build(world.slow(list_timeout=3.0), other, routes=routes)
        client = await world.client(era=None)
        before = asyncio.get_running_loop().time()
        listed = await client.send("tools/list")
        assert listed["_meta"]["turnout/missing"] == [{"upstream": "slow", "reason": "timeout"}]
        assert asyncio.get_running_loop().time() == before + 3.0


@on_skipping_loop
async def test_u2_a_request_that_waits_for_a_connection_is_answered_when_the_relay_closes():
    async with Slow() as world:
        world.build(world.slow())
        sent = await world.asked()
        await world.relay.close()
        assert (await fault(sent))["sent"] is False
        world.opens.set()
        await asyncio.sleep(1000)
        assert world.upstream_peers() == [], "the attempt that was under way is over"
        assert world.attempts == 1


@on_skipping_loop
async def test_u2_a_router_that_drains_makes_no_connection_and_says_so(caplog):
    async with World() as world:
        lossy = world.upstream(name="lossy", restart=turnout.RestartPolicy(initial_delay=1.0))
        lasting = world.server("lasting", lambda peer: None)
        routes = [turnout.Route("lossy", "lossy"), turnout.Route("lasting")]
        await world.build(lossy, lasting, routes=routes).start()
        client = await world.client(era=None)
        working = client.send("tools/call", call(wait=True))
        await world.until(lambda: world.handled == 1)
        [server] = [peer for peer in world.servers.peers if not peer.in_flight[1]]
        server.abort()
        await world.until(lambda: len(world.upstream_peers()) == 1)
        # The next attempt is put off by a second; by then the router closes, and drains.
        waiting = client.send("lossy")
        await asyncio.sleep(0.5)
        closing = asyncio.ensure_future(world.gateway.close(drain=10.0))
        assert (await fault(waiting))["reason"] == "draining"
        assert not closing.done()
        await closing
        assert (await fault(working))["reason"] == "closed"
        assert world.started == 2
    assert not [record for record in caplog.records if "could not be opened" in record.message]


@pytest.mark.parametrize("loses", [True, False])
@on_skipping_loop
async def test_a_closed_relay_leaves_no_task_behind_and_complains_of_nothing(caplog, loses):
    async with World() as world:
        before = asyncio.all_tasks()
        await world.build().start()
        if loses:
            [server], [upstream] = world.servers.peers, world.upstream_peers()
            server.abort()
            await upstream.wait_lost()
            await asyncio.sleep(0)
        await world.relay.close()
        await asyncio.sleep(1000)
        assert asyncio.all_tasks() == before
        assert world.started == 1
    assert [record for record in caplog.records if record.name == "turnout"] == []


@on_skipping_loop
async def test_a_connection_that_was_given_is_not_closed_with_the_relay():
    async with World() as world:
        given = await world.gateway.connect(world.target(), era="legacy")
        await world.build(given).start()
        await world.relay.close()
        assert (await given.send("tools/call", call(who="own")))["who"] == "own"


@on_skipping_loop
async def test_a_connection_that_was_given_is_not_made_again(caplog):
    async with World() as world:
        given = await world.gateway.connect(world.target(), era="legacy")
        await world.build(given).start()
        [server] = world.servers.peers
        server.abort()
        await given.wait_lost()
        await asyncio.sleep(1000)
        assert [record for record in caplog.records if record.name == "turnout"] == []
        with pytest.raises(turnout.PeerLost, match="is gone"):
            await world.relay.start()


@on_skipping_loop
async def test_a_connection_that_is_gone_before_the_relay_starts_is_told_of():
    async with World() as world:
        given = await world.gateway.connect(world.target(), era="legacy")
        await given.close()
        with pytest.raises(turnout.PeerLost, match="is gone"):
            await world.build(given).start()


@pytest.mark.unwatched("it looks at what is collected")
@on_skipping_loop
async def test_x_08_a_connection_that_is_lost_leaves_nothing_behind():
    async with World() as world:
        await world.build(world.upstream(restart=turnout.RestartPolicy(initial_delay=0.1))).start()
        [upstream], [server] = world.upstream_peers(), world.servers.peers
        trace = weakref.ref(upstream)
        server.abort()
        await upstream.wait_lost()
        del upstream, server
        await asyncio.sleep(1)
        gc.collect()
        assert trace() is None
        assert (world.started, world.relay._core.connections) == (2, 1)
        client = await world.client()
        assert world.relay._core.connections == 2
        await client.close()
        await world.until(lambda: world.relay._core.connections == 1)


@on_skipping_loop
async def test_r3_what_the_gateway_itself_can_be_asked_is_offered_by_no_shared_connection():
    async with World(capabilities={"sampling": {}}) as world:
        upstreams = [world.upstream(name=sharing, sharing=sharing) for sharing in ("shared", "pooled")]
        routes = [turnout.Route("shared"), turnout.Route("pooled", "tools/call")]
        await world.build(*upstreams, routes=routes).start()
        assert world.capabilities == [{}] * 5


@on_skipping_loop
async def test_r2_a_private_connection_of_a_client_that_said_nothing_offers_what_the_gateway_can_be_asked():
    async with World(capabilities={"sampling": {}}) as world:
        world.build(world.upstream(sharing="per_client"))
        client = await world.client(era=None)
        assert (await client.send("tools/call", call(who="x")))["who"] == "x"
        assert world.capabilities == [{"sampling": {}}]
