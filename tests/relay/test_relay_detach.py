"""A client that is detached: its exchanges end once at both sides, and nothing of it is left."""

from __future__ import annotations

import asyncio

import pytest

import turnout
from loops import both_loops
from relay_tasks import fault, make, whose, world_of_two
from relay_world import World, call
from turnout import Route, Upstream

DETACHED = {"reason": "detached", "sent": True}


async def at_relay(world, **options):
    """A client, and its connection at the relay."""
    known = set(world.relay.clients)
    client = await world.client(**options)
    [peer] = set(world.relay.clients) - known
    return client, peer


@pytest.mark.parametrize("sharing", ["shared", "pooled", "per_client", "per_principal"])
@pytest.mark.parametrize("era", ["legacy", "modern"])
@both_loops
async def test_race_17_a_detached_client_is_answered_once_and_cancelled_upstream_and_others_go_on(
    sharing, era
):
    async with World() as world:
        world.build(world.upstream(sharing=sharing, era=era, pool=1))
        client, peer = await at_relay(world, era=era)
        other, _ = await at_relay(world, era=era)
        calls = [client.send("tools/call", call(wait=True)) for _ in range(3)]
        kept = other.send("tools/call", call(wait=True))
        await world.until(lambda: world.handled == 4)
        await world.relay.detach(peer, close=False)
        for waiting in calls:
            with pytest.raises(turnout.RemoteError, match="serves this client no more") as caught:
                await waiting
            assert caught.value.data == DETACHED
        await world.until(lambda: world.handled == 1)
        assert not kept.done()
        assert world.relay.counters()["detached"] == 3
        assert world.relay.in_flight == 1
        assert peer not in world.relay.clients
        kept.cancel()
        await world.until(lambda: not world.handled)
        assert peer.in_flight == (0, 0)
        await world.quiet()


@both_loops
async def test_the_connection_of_a_detached_client_is_closed_or_is_its_hosts_again():
    async with World() as world:
        world.build()
        client, peer = await at_relay(world)
        await world.relay.detach(peer)
        assert not peer.is_open
        await client.wait_lost()
        client, peer = await at_relay(world)
        await world.relay.detach(peer, close=False)
        assert peer.is_open
        with pytest.raises(turnout.RemoteError, match="Method not found"):
            await client.send("tools/call", call())
        peer.on_request("mine")(lambda _: {"by": "host"})
        assert await client.send("mine") == {"by": "host"}
        with pytest.raises(RuntimeError, match="detached from this relay, which is for good"):
            world.relay.attach(peer)
        with pytest.raises(ValueError, match="no client of this relay"):
            await world.relay.detach(peer)
        client.abort()
        await peer.wait_lost()
        await world.quiet()


@both_loops
async def test_a_request_that_waits_for_its_upstream_is_answered_and_never_gets_there():
    async with World() as world:
        gate, asked = asyncio.Event(), []

        def late():
            near, far = turnout.memory(name="server")

            async def serve():
                await gate.wait()
                peer = await world.servers.connect(far, era=None)
                peer.on_request("tools/call")(lambda request: asked.append(request))

            world.servers.spawn(serve())
            return near

        routes = [Route("echo", "prompts/get"), Route("late", "tools/call")]
        world.build(
            world.upstream(), Upstream(late, name="late", era="legacy", list_timeout=0.05), routes=routes
        )
        client, peer = await at_relay(world)
        waiting = client.send("tools/call", call())
        await world.until(lambda: peer.in_flight[1] == 1)
        await world.relay.detach(peer, close=False)
        with pytest.raises(turnout.RemoteError) as caught:
            await waiting
        assert caught.value.data == {"reason": "detached", "sent": False}
        gate.set()
        assert (await (await world.client()).send("ping")) == {}
        assert not asked
        await world.quiet()


@both_loops
async def test_a_request_that_a_handler_is_at_work_on_is_answered_once():
    async with World() as world:
        relay = world.build()
        begun, stopped, late = asyncio.Event(), asyncio.Event(), []

        @relay.on_request("slow")
        async def slow(request):
            begun.set()
            try:
                await request.wait_cancelled()
            finally:
                stopped.set()

        @relay.on_request("stubborn", interruptible=False)
        async def stubborn(request):
            begun.set()
            await request.wait_cancelled()
            late.append(await relay.forward(request))
            return {"too": "late"}

        for method in ("slow", "stubborn"):
            begun.clear()
            client, peer = await at_relay(world)
            waiting = client.send(method)
            await begun.wait()
            await relay.detach(peer, close=False)
            with pytest.raises(turnout.RemoteError, match="serves this client no more"):
                await waiting
        await stopped.wait()
        await world.until(lambda: late)
        assert late == [False]
        await world.quiet()


@both_loops
async def test_r4_what_a_private_server_asks_of_a_detached_client_is_refused_and_the_server_ends():
    async with World() as world:
        world.build(world.upstream(sharing="per_client"))
        asked = asyncio.Event()

        @world.clients.on_request("sampling/createMessage")
        async def sample(request):
            asked.set()
            await request.wait_cancelled()

        client, peer = await at_relay(world)
        [server] = world.servers.peers
        asking = server.send("sampling/createMessage", {})
        await asked.wait()
        await world.relay.detach(peer, close=False)
        with pytest.raises(turnout.RemoteError) as caught:
            await asking
        assert caught.value.data == {"reason": "detached", "sent": True}
        await server.wait_lost()
        await world.until(lambda: not client.in_flight[1])
        await world.until(lambda: not world.relay._core.connections)
        await world.quiet()


@both_loops
async def test_subscriptions_listens_levels_and_suspended_calls_of_a_detached_client_are_let_go():
    async with World() as world:
        log = []
        for method in ("resources/subscribe", "resources/unsubscribe"):

            @world.servers.on_request(method)
            async def take(request):
                log.append(request.method.split("/")[1])
                return {}

        relay = world.build(world.upstream(), world.upstream(name="two"), routes=[Route("echo")])
        client, peer = await at_relay(world)
        await client.send("resources/subscribe", {"uri": "x://y"})
        modern, listener = await at_relay(world, era="modern")
        wanted = {"notifications": {"toolsListChanged": True, "resourceSubscriptions": ["x://z"]}}
        acknowledged = asyncio.Event()
        modern.on_notification("notifications/subscriptions/acknowledged")(lambda _: acknowledged.set())
        listen = modern.send("subscriptions/listen", wanted)
        await acknowledged.wait()
        await relay.detach(listener, close=False)
        assert (await listen)["_meta"]["io.modelcontextprotocol/subscriptionId"] == listen.id
        await relay.detach(peer, close=False)
        await world.until(lambda: log.count("unsubscribe") == 2)
        assert relay._subscriptions._wanted == {} == relay._subscriptions._counts
        assert relay._listen_bridge._by_client == {}
        assert relay._log_levels._by_client == {}
        await world.quiet()


@pytest.mark.parametrize("era", ["legacy", "modern"])
@both_loops
async def test_s3_the_tasks_of_a_detached_client_are_nobodys_and_those_of_a_principal_are_kept(era):
    async with World() as world:
        await world_of_two(world, era, routes=[Route("a")])
        for task, principal in (("mine", None), ("ours", "ada")):
            client, peer = await at_relay(world, era=era, principal=principal)
            await make(client, "x", task)
            assert await whose(client, task) == "a"
            await world.relay.detach(peer)
        ada, _ = await at_relay(world, era=era, principal="ada")
        assert await whose(ada, "ours") == "a"
        assert await fault(ada, "tasks/get", taskId="mine") == (-32602, "unknown_task")


@pytest.mark.parametrize("turns", range(12))
@both_loops
async def test_race_17_a_detach_at_any_time_leaves_one_answer_and_no_entry(turns):
    async with World() as world:
        world.build(world.upstream(sharing="per_client"), world.upstream(name="two"), routes=[Route("echo")])
        joining = asyncio.ensure_future(world.client())
        await world.until(lambda: world.relay.clients)
        [peer] = world.relay.clients
        if turns >= 6:
            client = await joining
            waiting = client.send("tools/call", call(steps=2))
        for _ in range(turns % 6 * 2):
            await asyncio.sleep(0)
        await world.relay.detach(peer)
        if turns >= 6:
            outcome = (await asyncio.gather(waiting, return_exceptions=True))[0]
            assert isinstance(outcome, (dict, turnout.Error))
        else:
            outcome = (await asyncio.gather(joining, return_exceptions=True))[0]
            assert isinstance(outcome, (turnout.Peer, turnout.Error, OSError))
        await world.until(lambda: not world.relay.clients and not world.handled)
        await world.until(lambda: world.relay._core.connections == len(world.upstream_peers()))
        assert world.relay.in_flight == 0
        assert not world.relay._drain
        await world.quiet()


@both_loops
async def test_a_client_is_detached_while_the_relay_is_updated():
    async with World() as world:
        relay = world.build()
        client, peer = await at_relay(world)
        waiting = client.send("tools/call", call(wait=True))
        await world.until(lambda: world.handled == 1)
        updating = asyncio.ensure_future(relay.update(upstreams=[world.upstream(name="other")]))
        await asyncio.sleep(0)
        await relay.detach(peer, close=False)
        with pytest.raises(turnout.RemoteError) as caught:
            await waiting
        assert caught.value.data == DETACHED
        # What it waited for was all there was.
        await updating
        await world.quiet()
