"""The upstreams of a relay: openings, sharing, what servers ask and tell, loss and restart."""

from __future__ import annotations

import asyncio

import pytest

import turnout
from loops import both_loops
from relay_world import World, call


@both_loops
async def test_a_legacy_client_is_answered_from_the_upstreams_own_opening():
    async with World() as world:
        world.build()
        one, two = await world.client(), await world.client()
        for client in (one, two):
            assert client.server_info == {"name": "echo", "version": "1"}
            assert client.server_capabilities == {"tools": {"listChanged": True}}
            assert client.revision == "2025-11-25"
        assert world.capabilities == [{}], "a shared upstream is offered nothing"


@pytest.mark.parametrize(
    ("client_era", "server_era"), [("legacy", "modern"), ("modern", "legacy"), ("modern", "modern")]
)
@both_loops
async def test_section_15_eras_differ_by_side(client_era, server_era):
    async with World() as world:
        world.build(world.upstream(era=server_era))
        client = await world.client(era=client_era)
        sent = client.send("tools/call", call(who="x", steps=3))
        assert [update.progress async for update in sent.progress()] == [1, 2, 3]
        assert (await sent)["who"] == "x"
        slow = client.send("tools/call", call(wait=True))
        await world.until(lambda: world.handled == 1)
        slow.cancel("enough")
        await world.until(lambda: world.handled == 0)
        assert [r.cancel_reason for r in world.servers.records.query() if r.outcome == "cancelled"] == [
            "enough"
        ]
        await world.quiet()


@pytest.mark.parametrize("newest", ["2024-11-05", "2025-06-18", "2025-11-25"])
@both_loops
async def test_section_15_a_client_is_promised_no_more_than_its_server_can(newest):
    async with World() as world:

        def old(peer):
            @peer.on_request("initialize")
            def initialize(request):
                return {"protocolVersion": newest, "capabilities": {}, "serverInfo": {"name": "old"}}

        world.build(world.server("old", old))
        assert (await world.client()).revision == newest


@both_loops
async def test_r3_a_shared_server_asks_nobody():
    async with World() as world:
        world.build()
        client = await world.client()

        @client.on_request("sampling/createMessage")
        async def sample(request):
            raise AssertionError("a shared server reached a client")

        with pytest.raises(turnout.RemoteError):
            await client.send("tools/call", call(ask=True, who="x"))
        assert world.relay.counters()["unattributed"] == 1


@both_loops
async def test_r2_a_private_server_asks_its_client():
    async with World() as world:
        world.build(world.upstream(sharing="per_client"))
        clients = [await world.client() for _ in range(3)]
        for number, client in enumerate(clients):

            @client.on_request("sampling/createMessage")
            async def sample(request, number=number):
                return {"model": number, "who": request.params["who"]}

        answers = await asyncio.gather(
            *(c.send("tools/call", call(ask=True, who=str(n))) for n, c in enumerate(clients))
        )
        assert answers == [{"model": n, "who": str(n)} for n in range(3)]
        assert world.started == 3
        assert world.capabilities == [{"sampling": {}}] * 3, "what the client offers"
        await clients[0].close()
        # The server of a client that left goes with it.
        await world.until(lambda: len(world.servers.peers) == 2)


@both_loops
async def test_section_10_list_changed_reaches_everyone_who_shares():
    async with World() as world:
        world.build()
        heard = []
        for number in range(3):
            client = await world.client()
            client.on_notification("notifications/tools/list_changed")(lambda _, n=number: heard.append(n))
            client.on_notification("notifications/message")(lambda _: heard.append("leaked"))
        [server] = world.servers.peers
        server.notify("notifications/tools/list_changed")
        server.notify("notifications/message", {"level": "info", "data": "secret"})
        await world.until(lambda: len(heard) == 3)
        # Whatever was passed on stands before the answers to these.
        await asyncio.gather(*(peer.send("ping") for peer in world.clients.peers))
        assert sorted(heard) == [0, 1, 2]


@both_loops
async def test_section_10_resource_subscriptions_are_counted():
    async with World() as world:
        world.build()
        seen = []
        for method in ("resources/subscribe", "resources/unsubscribe"):

            @world.servers.on_request(method)
            async def take(request):
                seen.append((request.method.split("/")[1], request.params["uri"]))
                return {}

        heard = []
        clients = [await world.client() for _ in range(3)]
        for number, client in enumerate(clients):
            client.on_notification("notifications/resources/updated")(lambda _, n=number: heard.append(n))
        for client in clients[:2]:
            await client.send("resources/subscribe", {"uri": "x"})
        [server] = world.servers.peers
        server.notify("notifications/resources/updated", {"uri": "x"})
        await world.until(lambda: len(heard) == 2)
        assert sorted(heard) == [0, 1]
        await clients[0].send("resources/unsubscribe", {"uri": "x"})
        assert seen == [("subscribe", "x")]
        await clients[1].close()
        await world.until(lambda: len(seen) == 2)
        assert sorted(heard) == [0, 1]
        assert seen == [("subscribe", "x"), ("unsubscribe", "x")]


@both_loops
async def test_u2_a_lost_upstream_answers_every_request_once_and_is_restarted():
    async with World() as world:
        world.build()
        clients = [await world.client() for _ in range(4)]
        calls = [client.send("tools/call", call(wait=True)) for client in clients for _ in range(5)]
        await world.until(lambda: world.handled == 20)
        [server] = world.servers.peers
        server.abort()
        for sent in calls:
            with pytest.raises(turnout.RemoteError) as caught:
                await sent
            assert caught.value.data == {"reason": "upstream_closed", "sent": True, "upstream": "echo"}
        # The next epoch: one starter, whoever asks.
        answers = await asyncio.gather(*(client.send("tools/call", call(who="next")) for client in clients))
        assert [answer["who"] for answer in answers] == ["next"] * 4
        assert world.started == 2
        await world.quiet()


@both_loops
async def test_u4_who_asks_between_two_attempts_is_told_or_waits():
    async with World() as world:
        attempts = []

        def target():
            attempts.append(None)
            if len(attempts) in (2, 3):
                return turnout.stdio("/no/such/program")
            return world.target()

        world.build(world.upstream(target=target, restart=turnout.RestartPolicy(initial_delay=0.05)))
        client = await world.client()
        assert (await client.send("tools/call", call(who="1")))["who"] == "1"
        [server], [upstream] = world.servers.peers, world.upstream_peers()
        server.abort()
        await upstream.wait_lost()
        # Whoever asks meanwhile is told, or waits for the attempt under way.
        answers = await asyncio.gather(
            *(client.send("tools/call", call(who="2")) for _ in range(3)), return_exceptions=True
        )
        assert all(isinstance(a, dict) or a.data["reason"] == "upstream_closed" for a in answers)
        # Who asks during the second pause is told so.
        answer, told = None, set()
        while answer is None:
            try:
                answer = await client.send("tools/call", call(who="3"))
            except turnout.RemoteError as error:
                told.add(error.data["reason"])
        assert (answer["who"], told | {"upstream_closed"}) == ("3", {"upstream_closed"})
        assert len(attempts) == 4


@both_loops
async def test_a_connected_peer_is_an_upstream_too():
    async with World() as world:
        upstream = await world.gateway.connect(world.target(), era="legacy")
        world.build(upstream)
        client = await world.client()
        assert (await client.send("tools/call", call(who="x")))["who"] == "x"
        # The gateway's own calls go on beside.
        assert (await upstream.send("tools/call", call(who="own")))["who"] == "own"
