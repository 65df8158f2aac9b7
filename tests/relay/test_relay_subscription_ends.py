"""What is left of a subscription that somebody ends before it stands, or takes up again at once (section 15)."""

from __future__ import annotations

import asyncio

import pytest

import turnout
from loops import both_loops
from relay_inputs import raw_legacy
from relay_lists import PREFIXED
from relay_subscriptions import ACKNOWLEDGED, UPDATED, Watch, hears
from relay_world import World, call, logs
from turnout.relay.features.changes import Resource
from turnout.relay.features.subscribers import LegacySubscriber


@pytest.mark.parametrize("sharers", [1, 2])
@both_loops
async def test_a_subscription_cancelled_before_its_server_answered_leaves_nothing_there(sharers):
    async with World() as world:
        may_answer = asyncio.Event()
        watch = Watch(world, may=may_answer)
        world.build()
        clients = [await world.client() for _ in range(sharers)]
        calls = [client.send("resources/subscribe", {"uri": "x"}) for client in clients]
        await watch.until(("subscribe", "x"))
        # Whoever shares the answer waits for it by now.
        for client in clients:
            await client.send("tools/call", {"name": "echo"})
        for call in calls:
            call.cancel()
        await watch.until(("subscribe", "x"), ("unsubscribe", "x"))
        may_answer.set()
        await world.quiet()


async def echoed(client):
    """Wait until everything that the client sent before this was taken."""
    await client.send("tools/call", {"name": "echo"})


@both_loops
async def test_one_of_two_requests_for_a_subscription_that_is_cancelled_leaves_the_other_one_its_own():
    async with World() as world:
        may_answer = asyncio.Event()
        watch = Watch(world, may=may_answer)
        world.build()
        client = await world.client()
        heard = hears(client)
        first, second = (client.send("resources/subscribe", {"uri": "x"}) for _ in range(2))
        await watch.until(("subscribe", "x"))
        await echoed(client)
        first.cancel()
        await echoed(client)
        may_answer.set()
        assert await second == {}
        [server] = world.servers.peers
        server.notify(UPDATED, {"uri": "x"})
        assert (await heard.get()).params == {"uri": "x"}
        await client.send("resources/unsubscribe", {"uri": "x"})
        await watch.until(("subscribe", "x"), ("unsubscribe", "x"))


@pytest.mark.parametrize("how", ["cancelled", "refused"])
@both_loops
async def test_a_subscription_outlives_a_later_request_for_it(how):
    async with World() as world:
        watch = Watch(world)
        answers = asyncio.Queue()

        @world.servers.on_request("resources/subscribe")
        async def subscribe(request):
            watch.note(("subscribe", request.params["uri"]))
            if await answers.get() == "refused":
                raise turnout.RequestError(-32002, "not now")
            return {}

        world.build()
        client = await world.client()
        heard = hears(client)
        answers.put_nowait("agreed")
        await client.send("resources/subscribe", {"uri": "x"})
        [upstream] = world.upstream_peers()
        world.servers.peers[0].abort()
        await upstream.wait_lost()
        # Its new connection is asked for what the old one told; the client asks, too, meanwhile.
        await watch.until(*[("subscribe", "x")] * 2)
        call = client.send("resources/subscribe", {"uri": "x"})
        await echoed(client)
        if how == "cancelled":
            call.cancel()
            await echoed(client)
            answers.put_nowait("agreed")
        else:
            answers.put_nowait("refused")
            with pytest.raises(turnout.RemoteError):
                await call
        world.servers.peers[-1].notify(UPDATED, {"uri": "x"})
        assert (await heard.get()).params == {"uri": "x"}
        assert ("unsubscribe", "x") not in watch.log


@both_loops
async def test_an_unsubscribed_request_that_is_cancelled_leaves_a_later_one_alone():
    async with World() as world:
        may_answer = asyncio.Event()
        watch = Watch(world, may=may_answer)
        world.build()
        client = await world.client()
        heard = hears(client)
        first = client.send("resources/subscribe", {"uri": "x"})
        await watch.until(("subscribe", "x"))
        await echoed(client)
        await client.send("resources/unsubscribe", {"uri": "x"})
        second = client.send("resources/subscribe", {"uri": "x"})
        await echoed(client)
        first.cancel()
        await echoed(client)
        may_answer.set()
        assert await second == {}
        world.servers.peers[0].notify(UPDATED, {"uri": "x"})
        assert (await heard.get()).params == {"uri": "x"}


@both_loops
async def test_a_listen_cancelled_before_its_server_acknowledged_ends_there():
    async with World() as world:
        watch = Watch(world)

        @world.servers.on_request("subscriptions/listen")
        async def listen(request):
            [(what, value)] = request.params["notifications"].items()
            watch.note(("listen", what if value is True else value[0]))
            try:
                await request.wait_cancelled()
            finally:
                watch.note(("ended", what if value is True else value[0]))

        world.build(world.upstream(era="modern"))
        client = await world.client()
        began = ("listen", "toolsListChanged"), ("listen", "x")
        call = client.send("resources/subscribe", {"uri": "x"})
        await watch.until(*began)
        call.cancel()
        await watch.until(*began, ("ended", "x"))


@both_loops
async def test_a_listen_begun_again_in_the_turn_it_ended_in_can_be_ended_again():
    async with World() as world:
        watch = Watch(world)
        world.build(world.upstream(era="modern"))
        await world.client()
        lists = ("listen", "toolsListChanged")
        await watch.until(lists)
        subscriptions, [client] = world.relay._subscriptions, world.relay.clients
        [place] = world.relay._clients[client].sessions
        wanted = (place, Resource("x"), LegacySubscriber(client))
        await subscriptions.add(place, place.peer, Resource("x"), LegacySubscriber(client))
        subscriptions.remove(*wanted)
        await subscriptions.add(place, place.peer, Resource("x"), LegacySubscriber(client))
        await watch.until(lists, *[("listen", "x")] * 2, ("ended", "x"))
        subscriptions.remove(*wanted)
        await watch.until(lists, *[("listen", "x"), ("ended", "x")] * 2)


@pytest.mark.parametrize("era", ["legacy", "modern"])
@both_loops
async def test_subscriptions_that_a_server_refuses_leave_nothing_however_many_a_client_tries(era, caplog):
    caplog.clear()

    async with World() as world:
        uris = [f"no {n}" for n in range(20)]
        Watch(world, refuse=uris)
        world.build(world.upstream(era=era))
        client = await world.client()
        for uri in uris:
            with pytest.raises(turnout.RemoteError):
                await client.send("resources/subscribe", {"uri": uri})
        await asyncio.sleep(0)
        assert not [change for _, change in world.relay._subscriptions._asked if str(change) in uris]
        assert not caplog.records, "who asked was told"


@both_loops
async def test_a_listen_that_its_server_ended_with_an_error_is_asked_for_anew():
    async with World() as world:
        watch = Watch(world)
        world.build(world.upstream(era="modern"))
        client, other = await world.client(), await world.client()
        began = ("listen", "toolsListChanged"), ("listen", "x")
        await client.send("resources/subscribe", {"uri": "x"})
        await watch.until(*began)
        [request] = [request for what, request in watch.listens if what == "x"]
        request.fail(-32603, "no more of that")
        while world.relay._subscriptions.listens(world.upstream_peers()[0]) > 1:
            await asyncio.sleep(0)
        assert await other.send("resources/subscribe", {"uri": "x"}) == {}
        while watch.log.count(("listen", "x")) < 2:
            watch.changed.clear()
            await watch.changed.wait()


@pytest.mark.parametrize("turns", range(4))
@both_loops
async def test_a_client_that_is_just_leaving_is_subscribed_to_nothing(turns):
    async with World() as world:
        watch = Watch(world)
        world.build(world.upstream(era="modern"))
        await world.client()
        await watch.until(("listen", "toolsListChanged"))
        [client] = world.relay.clients
        client.abort()
        for _ in range(turns):
            await asyncio.sleep(0)
        # As where a connection of the upstream opens just then: who has a session is to hear of its lists.
        if client in world.relay.clients:
            world.relay._subscriptions.begin_session(world.relay._clients[client])
        await watch.until(("listen", "toolsListChanged"), ("ended", "toolsListChanged"))
        await world.until(lambda: client not in world.relay.clients)
        assert not world.relay._subscriptions._wanted
        assert not world.relay._subscriptions._counts


@both_loops
async def test_what_closed_connections_were_asked_for_is_swept_out(monkeypatch):
    monkeypatch.setattr("turnout.relay.features.subscriptions.MIN_SWEEP_SIZE", 1)

    async with World() as world:
        watch = Watch(world)
        world.build()
        client = await world.client()
        asked = [("subscribe", uri) for uri in "xyz"]
        for uri in "xyz":
            await client.send("resources/subscribe", {"uri": uri})
        for epoch in (2, 3):
            [upstream] = world.upstream_peers()
            world.servers.peers[0].abort()
            await upstream.wait_lost()
            await watch.until(*asked * epoch)
        known = world.relay._subscriptions._asked
        assert sorted(str(change) for peer, change in known if peer.is_open) == ["x", "y", "z"]
        assert len(known) < 2 * 3


@pytest.mark.parametrize("era", ["legacy", "modern"])
@both_loops
async def test_u1_a_subscription_whose_server_is_lost_before_it_agreed_says_so(era, caplog):
    caplog.clear()

    async with World() as world:
        began = asyncio.Event()

        async def never(request):
            if (
                request.method == "resources/subscribe"
                or "resourceSubscriptions" in request.params["notifications"]
            ):
                began.set()
            await request.wait_cancelled()

        for method in ("resources/subscribe", "subscriptions/listen"):
            world.servers.on_request(method)(never)
        world.build(world.upstream(era=era, target=world.once))
        client = await world.client()
        call = client.send("resources/subscribe", {"uri": "x"})
        await began.wait()
        for server in world.servers.peers:
            server.abort()
        with pytest.raises(turnout.RemoteError) as caught:
            await call
        assert caught.value.data == {"reason": "upstream_closed", "sent": True, "upstream": "echo"}
        # Nothing brings the server back.
        for method, params in (
            ("resources/subscribe", {"uri": "x"}),
            ("tools/call", {"name": "echo"}),
        ):
            with pytest.raises(
                turnout.RemoteError, match="could not be started, reached or opened"
            ) as caught:
                await client.send(method, params)
            assert caught.value.data == {"reason": "upstream_closed", "sent": False, "upstream": "echo"}
        assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("how", ["declines", "ends"])
@both_loops
async def test_a_subscription_that_a_modern_server_does_not_agree_to_says_so(how, caplog):
    caplog.clear()

    async with World() as world:

        @world.servers.on_request("subscriptions/listen")
        async def listen(request):
            if "resourceSubscriptions" not in request.params["notifications"]:
                await request.wait_cancelled()
            if how == "declines":
                request.notify(ACKNOWLEDGED, {"notifications": {}})
                await request.wait_cancelled()
            return {}

        world.build(world.upstream(era="modern"))
        client = await world.client()
        with pytest.raises(turnout.RemoteError) as caught:
            await client.send("resources/subscribe", {"uri": "x"})
        assert (
            caught.value.message
            == {
                "declines": "the server does not tell of changes to it",
                "ends": "the server ended the subscription before it began",
            }[how]
        )
        assert caught.value.data == {"reason": "not_subscribed", "sent": True, "upstream": "echo"}
        assert not [record for record in caplog.records if record.levelname == "ERROR"]


@both_loops
async def test_s4_a_listen_that_never_began_is_not_sent_again(monkeypatch):
    """Nor does each try of a client leave one more that is sent again and again."""
    monkeypatch.setattr("turnout.relay.features.subscriptions.PAUSE", 0)

    async with World() as world:
        asked = []

        @world.servers.on_request("subscriptions/listen")
        async def listen(request):
            if "resourceSubscriptions" not in request.params["notifications"]:
                await request.wait_cancelled()
            asked.append(request)
            return {}

        world.build(world.upstream(era="modern"))
        client = await world.client()
        for _ in range(3):
            with pytest.raises(turnout.RemoteError, match="before it began"):
                await client.send("resources/subscribe", {"uri": "x"})
        for _ in range(3):
            await client.send("tools/call", call())
        assert len(asked) == 3


@pytest.mark.parametrize(
    ("era", "method"),
    [
        ("legacy", "resources/subscribe"),
        ("modern", "resources/subscribe"),
        ("legacy", "logging/setLevel"),
    ],
)
@both_loops
async def test_s4_a_server_that_never_agrees_is_waited_for_as_long_as_its_upstream_says(era, method):
    """What the relay asks by itself ends, too, where the router's own requests may take any time."""
    async with World(timeout=None, max_timeout=None) as world:
        logs(world)

        @world.servers.on_request("subscriptions/listen" if era == "modern" else method)
        async def never(request):
            await request.wait_cancelled()

        world.build(world.upstream(era=era, timeout=0.05, share_logs=True))
        client = await world.client()
        with pytest.raises(turnout.RemoteError) as caught:
            await client.send(method, {"uri": "x", "level": "info"})
        assert caught.value.data == {"reason": "timeout", "sent": True, "upstream": "echo"}


@pytest.mark.parametrize("era", ["legacy", "modern"])
@both_loops
async def test_s4_a_subscription_that_ends_with_its_connection_leaves_nothing_on_the_next_one(era):
    """The next one is asked for all that is wanted, before it is known that this is not any more."""
    async with World() as world:
        asked, unsubscribed = [], asyncio.Event()

        @world.servers.on_request("resources/subscribe")
        async def subscribe(request):
            asked.append(request)
            if len(asked) == 1:
                await request.wait_cancelled()
            return {}

        @world.servers.on_request("resources/unsubscribe")
        async def unsubscribe(request):
            unsubscribed.set()
            return {}

        @world.servers.on_request("subscriptions/listen")
        async def listen(request):
            if "resourceSubscriptions" in request.params["notifications"]:
                asked.append(request)
            await request.wait_cancelled()

        relay = world.build(world.upstream(era=era))
        client = await world.client()
        subscribes = client.send("resources/subscribe", {"uri": "x"})
        await world.until(lambda: asked)
        await relay.renew("echo", drain=0)
        with pytest.raises(turnout.RemoteError):
            await subscribes
        await world.until(lambda: len(asked) == 2)
        if era == "legacy":
            await unsubscribed.wait()
        else:
            await world.until(lambda: asked[1].cancelled)


@both_loops
async def test_who_is_not_subscribed_takes_no_subscription_of_another_ones_along():
    async with World() as world:
        watch = Watch(world)
        world.build()
        one, two = await world.client(), await world.client()
        heard = hears(one)
        await one.send("resources/subscribe", {"uri": "x"})
        assert await two.send("resources/unsubscribe", {"uri": "x"}) == {}
        world.servers.peers[0].notify(UPDATED, {"uri": "x"})
        assert (await heard.get()).params == {"uri": "x"}
        assert watch.log == [("subscribe", "x")]


@both_loops
async def test_sub_02_sub_03_what_changes_before_a_listen_is_acknowledged_is_told_behind_that_and_once():
    async with World() as world:
        may_answer, asked = asyncio.Event(), asyncio.Event()

        @world.servers.on_request("resources/subscribe")
        async def subscribe(request):
            if request.params["uri"] == "slow":
                asked.set()
                await may_answer.wait()
            return {}

        world.build()
        client = await world.client("modern")
        heard = hears(client)
        call = client.send(
            "subscriptions/listen", {"notifications": {"resourceSubscriptions": ["x", "y", "slow"]}}
        )
        await asked.wait()
        [server] = world.servers.peers
        for uri in "xyx":
            server.notify(UPDATED, {"uri": uri})
        await echoed(client)
        assert heard.empty()
        may_answer.set()
        told = [await heard.get() for _ in range(3)]
        assert [one.method for one in told] == [ACKNOWLEDGED, UPDATED, UPDATED]
        assert [one.params["uri"] for one in told[1:]] == ["x", "y"]
        assert {one.call for one in told} == {call}
        server.notify(UPDATED, {"uri": "slow"})
        assert (await heard.get()).params["uri"] == "slow"


@both_loops
async def test_the_end_of_one_listen_leaves_a_clients_others_alone_and_the_last_one_nothing():
    async with World() as world:
        world.build(world.upstream(name="a"), world.upstream(name="b"), routes=PREFIXED)
        client = await world.client("modern")
        heard = hears(client)
        wanted = {"notifications": {"toolsListChanged": True}}
        first, second = (client.send("subscriptions/listen", wanted) for _ in range(2))
        assert {(await heard.get()).call for _ in range(2)} == {first, second}
        first.cancel()
        [peer] = world.relay.clients
        await world.until(lambda: peer.in_flight[1] == 1)
        world.relay._notify_list_changed(peer, "notifications/tools/list_changed")
        assert (await heard.get()).call == second
        second.cancel()
        await world.until(lambda: peer.in_flight[1] == 0)
        await asyncio.sleep(0)
        assert world.relay._listen_bridge._by_client == {}


@pytest.mark.parametrize("era", ["legacy", "modern"])
@pytest.mark.parametrize("turns", range(7))
@both_loops
async def test_every_request_is_answered_of_a_client_that_takes_its_subscription_back_at_once(era, turns):
    """Before anything of it has begun, or while it begins."""
    async with World() as world:
        Watch(world)
        world.build(world.upstream(era=era))
        link, line = await raw_legacy(world)
        frames = [
            b'{"jsonrpc":"2.0","id":%d,"method":"resources/%b","params":{"uri":"x"}}\n' % (number, what)
            for number, what in enumerate([b"subscribe", b"unsubscribe"] * 2 + [b"subscribe"], 1)
        ]
        for frame in frames:
            link.transport.write(frame)
            for _ in range(turns):
                await asyncio.sleep(0)
        answers = sorted([await line(number) for number in range(1, 6)], key=lambda said: said["id"])
        for answer in answers:
            assert answer.get("result") == {} or answer["error"]["data"]["reason"] == "not_subscribed"
        assert answers[-1]["result"] == {}
        subscriptions, [at_relay] = world.relay._subscriptions, world.relay.clients
        [place] = world.relay._clients[at_relay].sessions
        await world.until(lambda: subscriptions.listens(place.peer) == (2 if era == "modern" else 0))
