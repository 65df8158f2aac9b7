"""Connections of an upstream replaced by new ones: nothing in flight is lost (U1)."""

from __future__ import annotations

import asyncio

import pytest

import turnout
from loops import both_loops
from relay_world import World, call


class Renewed(World):
    """Servers that know their number, and answer `slow` when they are told to."""

    def __init__(self):
        super().__init__()
        self.made = []
        self.go_on = asyncio.Event()

        @self.servers.on_request("slow")
        async def slow(request):
            await self.go_on.wait()
            return self.made.index(request.peer)

        @self.servers.on_request("which")
        async def which(request):
            return self.made.index(request.peer)

    def numbered(self, **options):
        return self.build(self.server("echo", self.made.append, **options))


@pytest.mark.parametrize("sharing", ["shared", "pooled", "per_client", "per_principal"])
@both_loops
async def test_u1_what_is_in_flight_finishes_and_what_is_new_goes_to_the_new_connection(sharing):
    async with Renewed() as world:
        relay = world.numbered(sharing=sharing, pool=1)
        client = await world.client(principal="ada")
        slow = client.send("slow")
        await world.until(lambda: world.handled == 1)
        renewing = asyncio.ensure_future(relay.renew("echo"))
        await world.until(lambda: len(world.made) == 2 and world.made[1].revision == "2025-11-25")
        while await client.send("which") == 0:
            pass
        assert not renewing.done()
        world.go_on.set()
        assert await slow == 0
        await renewing
        assert world.started == 2
        assert [peer.is_open for peer in world.made] == [False, True]
        assert await client.send("which") == 1
        # It is the new connection that is made again when it is lost.
        world.made[1].abort()
        await world.until(lambda: len(world.made) == 3)
        assert await client.send("which") == 2
        await world.quiet()


@both_loops
async def test_u1_what_does_not_finish_in_time_is_cancelled_upstream_and_answered_once():
    async with Renewed() as world:
        relay = world.numbered()
        client = await world.client()
        slow = client.send("slow")
        await world.until(lambda: world.handled == 1)
        await relay.renew("echo", drain=0.05)
        with pytest.raises(turnout.RemoteError) as caught:
            await slow
        assert caught.value.data == {"reason": "closed", "sent": True, "upstream": "echo"}
        (record,) = world.servers.records.query(method="slow")
        assert record.outcome == "cancelled"
        assert await client.send("which") == 1
        await world.quiet()


@both_loops
async def test_a_connection_stays_where_no_new_one_can_be_made():
    async with Renewed() as world:
        targets = [lambda: world.target(world.made.append), lambda: turnout.stdio("/no/such/program")]
        relay = world.build(world.upstream(target=lambda: targets.pop(0)()))
        client = await world.client()
        slow = client.send("slow")
        await world.until(lambda: world.handled == 1)
        with pytest.raises(OSError, match="the upstream echo could not be started"):
            await relay.renew("echo")
        world.go_on.set()
        assert await slow == 0
        assert await client.send("which") == 0


@pytest.mark.parametrize("era", ["legacy", "modern"])
@both_loops
async def test_sub_15_subscriptions_move_to_the_new_connection(era):
    async with Renewed() as world:
        asked = []

        @world.servers.on_request("resources/subscribe")
        async def subscribe(request):
            asked.append(request.peer)
            return {}

        @world.servers.on_request("subscriptions/listen")
        async def listen(request):
            asked.append(request.peer)
            wanted = request.params["notifications"]
            request.notify("notifications/subscriptions/acknowledged", {"notifications": wanted})
            await request.wait_cancelled()

        relay = world.numbered(era=era)
        client, heard = await world.client(), []
        client.on_notification("notifications/resources/updated")(heard.append)
        await client.send("resources/subscribe", {"uri": "x"})
        before = len(asked)
        await relay.renew("echo")
        await world.until(lambda: asked[before:] == [world.made[1]] * before)
        assert [peer.is_open for peer in world.made] == [False, True], "no listen kept the old one"
        if era == "legacy":
            world.made[1].notify("notifications/resources/updated", {"uri": "x"})
            await world.until(lambda: heard)


@both_loops
async def test_one_that_was_lost_is_made_again_and_one_that_never_was_is_not():
    async with Renewed() as world:
        relay = world.numbered(restart=None)
        await relay.renew("echo")
        assert world.started == 0
        client = await world.client()
        world.made[0].abort()
        await world.until(lambda: not world.upstream_peers())
        await relay.renew("echo")
        assert world.started == 2
        assert await client.send("which") == 1


@both_loops
async def test_a_connection_that_was_given_cannot_be_made_again():
    async with Renewed() as world:
        relay = world.build(await world.gateway.connect(world.target(), era="legacy", name="given"))
        with pytest.raises(ValueError, match="given is one connection, and cannot be made again"):
            await relay.renew("given")
        with pytest.raises(ValueError, match="there is no upstream named 'other'"):
            await relay.renew("other")
        client = await world.client()
        assert (await client.send("tools/call", call(who="x")))["who"] == "x"
